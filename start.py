"""Set up and start MER Explorer.

    python start.py                 set up, start the app, open it in the browser
    python start.py setup           set up only
    python start.py test [...]      set up, then run the linter and the tests; anything after `test` goes to pytest

Standard library only, in the syntax of Python 3.8, so that an older Python can read this file and say what it lacks.

Setting up makes `.venv`, installs the requirement files into it, each with one pip command, and notes in a stamp file
which of them are complete. Later starts compare the stamp, and look whether what was installed is still there, without
starting pip. Whatever an interrupted installation left behind is mended by starting again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import webbrowser
from collections import deque
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
STAMP = VENV / "installed.json"
OLDEST = (3, 11)
PORT = 8501
APP_LISTS = {"requirements.txt": (), "requirements-nodeps.txt": ("--no-deps",)}
TEST_LISTS = {**APP_LISTS, "requirements-test.txt": ()}
say = partial(print, flush=True)


class Stop(Exception):
    """What went wrong, in words for the person at the keyboard, and the exit code."""

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


# ---- setting up ----


def venv_python() -> str:
    """Path of the environment's Python, which may not exist yet."""
    return str(VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def clean_environment() -> dict:
    """Our environment variables, without those that would mix other packages into `.venv`."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**environment, "MER_ARTIFACTS": str(artifacts())}


def venv_works() -> bool:
    """Whether `.venv` has a Python of the right version that runs and has pip."""
    probe = [venv_python(), "-I", "-c", "import sys, pip; print(*sys.version_info[:2], sep='.')"]
    try:
        found = subprocess.run(probe, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0 and found.stdout.decode().strip() == sysconfig.get_python_version()


def create_venv() -> None:
    """Make `.venv`, in place of one that is there and does not work."""
    say(f"{'Remaking' if VENV.exists() else 'Making'} .venv for Python {sysconfig.get_python_version()} ...")
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise Stop(
            f"Making {VENV} failed: the lines below say why (Debian and Ubuntu need `sudo apt install python3-venv`); "
            f"then run the same command again.\n{done.stdout.decode(errors='replace')}"
        )


def digest(name: str) -> str:
    """Fingerprint of a requirement file and the Python version it was installed for."""
    text = (HERE / name).read_text(encoding="utf-8")
    return hashlib.sha256(f"{sysconfig.get_python_version()} {text}".encode()).hexdigest()


def read_stamp() -> dict:
    """Digest of each requirement file that was installed completely; empty when nothing is known."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(stamp: dict) -> None:
    """Note what is complete; half a note counts as none."""
    STAMP.write_text(json.dumps(stamp, indent=1), encoding="utf-8")


def normal(name: str) -> str:
    """Spell a package's name as pip compares it: `Pretty_MIDI` -> `pretty-midi`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required_names(name: str) -> set:
    """Packages that a requirement file lists for every computer (not those with a condition after `;`)."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    found = (re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line) for line in lines if ";" not in line)
    return {normal(match.group()) for match in found if match}


def site_packages() -> Path:
    """Folder of the environment's packages."""
    return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(VENV), "installed_base": str(VENV)}))


def is_broken(info: Path) -> bool:
    """Whether a package's note of itself (`.dist-info`) is incomplete, or a folder or module it names is gone."""
    if not (info / "METADATA").is_file() or not (info / "RECORD").is_file():
        return True
    first = {}
    for line in (info / "RECORD").read_text(encoding="utf-8").splitlines():
        path = line.split(",", 1)[0].strip('"')
        top = path.split("/", 1)[0]
        if top not in ("..", "__pycache__") and not top.endswith(".dist-info"):
            first.setdefault(top, path)
    return not all((info.parent / path).exists() for path in first.values())


def what_to_install(lists: dict) -> list:
    """Return the requirement files that pip still has to go through, and take them off the stamp.

    The notes of damaged packages are removed, so that pip sees what is missing.
    """
    broken = [info for info in site_packages().glob("*.dist-info") if is_broken(info)]
    for info in broken:
        shutil.rmtree(info)
    if broken:
        say(f"Damaged packages, installed again now: {', '.join(info.name.split('-')[0] for info in broken)}")
    stamp = {} if broken else read_stamp()
    present = {normal(info.name.split("-")[0]) for info in site_packages().glob("*.dist-info")}
    todo = [name for name in lists if stamp.get(name) != digest(name) or required_names(name) - present]
    if todo:
        write_stamp({name: value for name, value in stamp.items() if name not in todo})
    return todo


def pip_install(name: str, flags: tuple) -> None:
    """Install one requirement file, showing what pip does; Stop with pip's last lines when it fails."""
    command = [venv_python(), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    options = {"cwd": str(HERE), "env": clean_environment(), "stdin": subprocess.DEVNULL}
    options.update(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
    last = deque(maxlen=12)
    with subprocess.Popen([*command, "--progress-bar", "off", *flags, "-r", name], **options) as pip:
        for line in pip.stdout:
            last.append(f"    {line.rstrip()}")
            if line.startswith(("Collecting", "  Downloading", "  Building", "Installing")):
                show_in_place(line.strip())
    show_in_place("")
    if pip.returncode:
        raise Stop(
            f"pip could not install {name}: its last lines stand below (most often the network is away or the disk is "
            "full); running the same command again goes on from here.\n" + "\n".join(last)
        )


def show_in_place(text: str) -> None:
    """Show a line over the one before, on a terminal only."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print("\r" + text[:width].ljust(width) + "\r", end="", flush=True)


def set_up(lists: dict) -> None:
    """Make `.venv` hold every package of these requirement files; quick when it does already."""
    if not venv_works():
        create_venv()
    todo = what_to_install(lists)
    if "requirements.txt" in todo:
        say("Installing the packages: a few minutes and 2 to 6 GB of disk the first time ...")
    for name in todo:
        began = time.monotonic()
        pip_install(name, lists[name])
        write_stamp({**read_stamp(), name: digest(name)})
        say(f"  {name}: installed in {time.monotonic() - began:.0f} s")


# ---- the app ----


def why_not(port: int) -> str:
    """Why the app cannot listen on a port of this computer; empty when it can."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return "is in use by another program"
    with socket.socket() as probe:
        if os.name != "nt":  # a port left a moment ago counts as free; on Windows the option would allow a busy one
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return f"cannot be used ({error.strerror})"
    return ""


def choose_port(named) -> int:
    """Return the port that was named, or the first free one from 8501 on; Stop when it cannot be had."""
    if named is None:
        for port in range(PORT, PORT + 100):
            if not why_not(port):
                return port
        raise Stop(f"Ports {PORT} to {PORT + 99} are all in use: name another one with --port.", 2)
    reason = why_not(named) if 1 <= named <= 65535 else "does not exist (1 to 65535 do)"
    if reason:
        raise Stop(f"Port {named} {reason}: name another one, or leave out --port.", 2)
    return named


def artifacts() -> Path:
    """Folder of what pipelines write: `MER_ARTIFACTS`, or `artifacts/` here."""
    return Path(os.environ.get("MER_ARTIFACTS") or HERE / "artifacts").resolve()


def demo_wanted() -> bool:
    """Whether there is nothing to look at yet, or an earlier build of the demo was not finished."""
    try:
        state = json.loads((artifacts() / "jobs/demo/status.json").read_text(encoding="utf-8"))["state"]
    except (OSError, ValueError, KeyError):
        state = "done"
    return state != "done" or not any((artifacts() / "runs").glob("[!.]*/run.json"))


def start_process(module: list, output=None, gently: bool = False) -> subprocess.Popen:
    """Start `python -m ...` out of the reach of Ctrl-C, because we stop it ourselves.

    What it says goes to the file `output`; without one, only its errors are shown. `gently` gives it a low priority.
    """
    options = {"start_new_session": True}
    if os.name == "nt":
        priority = subprocess.BELOW_NORMAL_PRIORITY_CLASS if gently else 0
        options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | priority}
    process = subprocess.Popen(
        [venv_python(), "-m", *module],
        cwd=str(HERE),
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=output or subprocess.DEVNULL,
        stderr=output,
        **options,
    )
    if gently and os.name != "nt":
        os.setpriority(os.PRIO_PROCESS, process.pid, 10)
    return process


def start_demo() -> subprocess.Popen:
    """Start building the demo in the background; what it prints goes to a file beside its log."""
    say("Composing the demo's music and training on it in the background (some minutes); the app shows how far it is.")
    folder = artifacts() / "jobs" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        return start_process(["pipelines", "demo", "--run-id", "demo"], output, gently=True)


def stop(process) -> None:
    """End a process, asking first."""
    if process is not None and process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_until_up(app: subprocess.Popen, url: str, patience_s: float = 120) -> None:
    """Return when the app answers; Stop when it ends or stays silent."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            urllib.request.urlopen(url + "/_stcore/health", timeout=2).close()
            return
        except OSError:
            if app.poll() is not None:
                raise Stop("The app ended while it was starting: what it said stands above.") from None
            if time.monotonic() > deadline:
                raise Stop(f"The app did not answer at {url} within {patience_s:.0f} s: try again.") from None
            time.sleep(0.1)


def open_browser(url: str) -> None:
    """Open the address where there is a screen; a text browser would take over the terminal."""
    if sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)


def watch(app: subprocess.Popen, demo) -> int:
    """Wait for the app to end, and tell when the demo is built."""
    while app.poll() is None:
        if demo is not None and demo.poll() is not None:
            failed = f"Building the demo failed, and {artifacts() / 'jobs/demo'} says why; the app works without it."
            say("The demo is ready: reload the page." if demo.returncode == 0 else failed)
            demo = None
        time.sleep(0.3)
    raise Stop("The app has ended by itself: what it said stands above.")


def run_app(port: int, browser: bool) -> int:
    """Run the app until Ctrl-C, and build the demo meanwhile when there is nothing to look at."""
    url = f"http://127.0.0.1:{port}"
    app = demo = None
    try:
        app = start_process(["streamlit", "run", "app.py", "--server.port", str(port), "--logger.level", "error"])
        wait_until_up(app, url)
        say(f"MER Explorer is at {url} (stop it with Ctrl-C)")
        if browser:
            open_browser(url)
        demo = start_demo() if demo_wanted() else None
        return watch(app, demo)
    except KeyboardInterrupt:
        say("\nStopped.")
        return 0
    finally:
        stop(app)
        stop(demo)


# ---- the command line ----


def run_tests(pytest_arguments: list) -> int:
    """Run the linter, the formatter's check and the tests, each in any case; exit code of the first that fails."""
    failed = {}
    tests = ["pytest", "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder", *pytest_arguments]  # file by file
    for step in (["ruff", "check", "."], ["ruff", "format", "--check", "."], tests):
        say(f"$ {' '.join(step)}")
        done = subprocess.run([venv_python(), "-m", *step], cwd=str(HERE), env=clean_environment())
        if done.returncode:
            failed[" ".join(step)] = done.returncode
    for name, code in failed.items():
        say(f"failed: {name} (exit code {code})")
    return next(iter(failed.values()), 0)


def read_arguments(arguments: list):
    """Options, and what goes to pytest."""
    parser = argparse.ArgumentParser("start.py", description="Set up and start MER Explorer.", allow_abbrev=False)
    parser.add_argument(
        "command",
        nargs="?",
        default="app",
        choices=("app", "setup", "test"),
        help="app (the default): set up and start; setup: set up only; test: set up, lint and test "
        "(anything after it goes to pytest)",
    )
    parser.add_argument("--port", type=int, help=f"port of the app (default: the first free one from {PORT} on)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    if arguments[:1] == ["test"] and arguments[1:] not in (["-h"], ["--help"]):
        return parser.parse_args(["test"]), arguments[1:]
    return parser.parse_args(arguments), []


def main(arguments=None) -> int:
    """Do what the command line asks; return the exit code."""
    if sys.version_info < OLDEST:
        found = ".".join(str(part) for part in sys.version_info[:3])
        say(f"MER Explorer needs Python 3.11 or newer and this is Python {found}: run start.py with a newer one.")
        return 2
    options, pytest_arguments = read_arguments(sys.argv[1:] if arguments is None else arguments)
    # A request to end, or a closed terminal, is treated as Ctrl-C; `nohup` goes on ignoring the terminal.
    for number in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        port = choose_port(options.port) if options.command == "app" else 0
        set_up(TEST_LISTS if options.command == "test" else APP_LISTS)
        if options.command == "app":
            return run_app(port, not options.no_browser)
        if options.command == "test":
            return run_tests(pytest_arguments)
        say("Everything is installed. Start the app with: python start.py")
        return 0
    except Stop as reason:
        print(reason, file=sys.stderr, flush=True)
        return reason.code
    except KeyboardInterrupt:
        say("\nStopped; run the same command again to go on.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
