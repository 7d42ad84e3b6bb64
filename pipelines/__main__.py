"""`python -m pipelines`: every pipeline from the command line, its options made from its `Config`.

Exit codes: 0 complete, 1 a failure of ours, 2 a mistake in the call (one line says which), 3 some files failed, 130
interrupted.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields

import pipelines
from mer_core.compute import one_thread
from mer_core.errors import UserError

CANNOT_WRITE = {
    errno.ENOSPC: "free some space and start again: what was finished is in the cache",
    errno.EACCES: "choose another folder with MER_ARTIFACTS, or change its permissions",
    errno.EROFS: "choose a folder that can be written with MER_ARTIFACTS",
    errno.ENOTDIR: "choose a folder with MER_ARTIFACTS",
    errno.EEXIST: "choose a folder with MER_ARTIFACTS",
}
DESCRIPTION = "Predict the emotion people hear in music, explain each prediction, and measure both."


def main(arguments: list[str] | None = None) -> int:
    """Run one pipeline or command and return the exit code."""
    one_thread()  # must stand before numpy is loaded
    signal.signal(signal.SIGTERM, _interrupt)
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(overview())
        return 0
    try:
        if name in pipelines.PIPELINES:
            return run_pipeline(name, arguments[1:])
        if name in pipelines.COMMANDS:
            return run_command(name, arguments[1:])
        raise UserError(f"{name!r} is no pipeline; choose one of {', '.join(pipelines.PIPELINES | pipelines.COMMANDS)}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left behind, and finished work is in the cache", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has closed it, as `head` does
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        what = error.filename or "the artifacts folder"
        print(f"error: {what}: {error.strerror}; {CANNOT_WRITE[error.errno]}", file=sys.stderr)
        return 2


def overview() -> str:
    """List of pipelines and commands, one line each."""
    width = max(map(len, pipelines.PIPELINES | pipelines.COMMANDS)) + 2
    lines = [DESCRIPTION, "", "usage: python -m pipelines NAME [--help] [options]"]
    for title, group in (("pipelines (each writes a run)", pipelines.PIPELINES), ("commands", pipelines.COMMANDS)):
        lines += ["", f"{title}:", *(f"  {name:{width}}{summary(name)}" for name in group)]
    return "\n".join(lines)


def summary(name: str) -> str:
    """First line of a module's docstring."""
    return (pipelines.load(name).__doc__ or "").strip().splitlines()[0]


def run_pipeline(name: str, arguments: list[str]) -> int:
    """Parse the options of a pipeline into its `Config`, run it as a job, print where the run lies."""
    module = pipelines.load(name)
    parser = config_parser(name, module)
    parsed = parser.parse_args(arguments)
    config = module.Config(**{f.name: getattr(parsed, f.name) for f in fields(module.Config)})

    from mer_core.jobs import Job
    from mer_core.runs import new_run_id, read_run

    run_id = parsed.run_id or new_run_id(name, *module.words(config), config=config)
    if rank := int(os.environ.get("RANK", "0")):  # a helper that torchrun has started; the first process reports
        return help_along(module, config, name, f"{run_id}-process-{rank}")
    with Job(run_id, name, tuple(arguments)) as job:
        run_id = module.execute(config, job, run_id)
    if parsed.json:
        print(json.dumps(read_run(run_id).metrics, indent=1))
    else:
        print(f"run: {read_run(run_id).folder}")
    return 0


def help_along(module, config: object, name: str, run_id: str) -> int:
    """Do the same work as the first of several processes and leave nothing behind."""
    import shutil

    from mer_core.jobs import Job
    from mer_core.runs import runs_root

    with Job(run_id, name, echo=False) as job:
        try:
            module.execute(config, job, run_id)
        finally:
            shutil.rmtree(runs_root() / run_id, ignore_errors=True)
    shutil.rmtree(job.folder, ignore_errors=True)
    return 0


def run_command(name: str, arguments: list[str]) -> int:
    """Run a read-only command."""
    module = pipelines.load(name)
    parser = argparse.ArgumentParser(f"python -m pipelines {name}", description=module.__doc__)
    module.add_arguments(parser)
    return module.main(parser.parse_args(arguments))


def config_parser(name: str, module) -> argparse.ArgumentParser:
    """Options made from the fields of a `Config`: their type, default, choices and help."""
    parser = argparse.ArgumentParser(
        f"python -m pipelines {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    types = typing.get_type_hints(module.Config)
    for item in fields(module.Config):
        text = item.metadata["help"].replace("%", "%%")
        required = item.default is MISSING
        flag = {"nargs": "?", "const": True} if types[item.name] is bool else {}  # `--flag` alone, or `--flag yes`
        shown = ",".join(item.default) if isinstance(item.default, tuple) else item.default
        shown = {True: "yes", False: "no"}[shown] if isinstance(shown, bool) else shown
        parser.add_argument(
            f"--{item.name.replace('_', '-')}",
            type=_reader(types[item.name]),
            default=None if required else item.default,
            required=required,
            choices=item.metadata["choices"],
            metavar=None if item.metadata["choices"] else item.name.upper(),
            help=text if required else f"{text} (default: {shown})",
            **flag,
        )
    parser.add_argument(
        "--run-id", default=None, metavar="ID", help="name of the run folder (default: made from time and config)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print metrics.json to standard output instead of the folder"
    )
    return parser


def _reader(kind: object) -> Callable[[str], object]:
    """What turns an option's text into its type."""
    if kind is bool:
        return _truth
    return _words if typing.get_origin(kind) is tuple else kind


def _truth(text: str) -> bool:
    """Read yes or no."""
    answers = {"yes": True, "true": True, "no": False, "false": False}
    if text.lower() not in answers:
        raise argparse.ArgumentTypeError(f"{text!r} is neither yes nor no")
    return answers[text.lower()]


def _words(text: str) -> tuple[str, ...]:
    """Read a comma-separated list."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _interrupt(signum, frame) -> None:
    """Make a request to terminate look like Ctrl-C, so that both clean up the same way."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
