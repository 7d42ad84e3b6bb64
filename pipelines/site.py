"""A run's explained clips as a static site: a folder of pages to open from a disk or to put on any web server.

Only clips whose `licence` column allows it are published with their sound; the others are shown without. With --files
the site shows audio files instead, predicted and explained by the run's final model; a `.txt` beside each, or a
`tracks.csv` in their folder, tells their licence. The last line that is printed is the folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EXIT_SOME_FAILED = 3
FILES_NOTE = (
    "these clips are not from the data that the model has learned from, and no listeners' ratings of them are known; "
    "the scores below are those on its own data"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run, the folder, how many clips, and files to show instead."""
    parser.add_argument("--run", required=True, help="id or folder of a finished run with relevance maps, or 'latest'")
    parser.add_argument("--out", default="", metavar="FOLDER", help="where to write it (default: artifacts/site/RUN)")
    parser.add_argument("--clips", type=int, default=12, metavar="N", help="how many examples at most (default: 12)")
    parser.add_argument("--files", nargs="+", default=[], metavar="FILE", help="audio files or folders to show instead")


def main(arguments: argparse.Namespace) -> int:
    """Build the site, say what is missing and where it is; return 0, or 3 when any of the files could not be shown."""
    from mer_core.paths import artifacts_root
    from mer_core.runs import read_run
    from mer_core.site.build import build_site, check_place
    from mer_core.site.clips import clips_of_run, unpublished
    from mer_core.site.facts import facts_of

    run = read_run(arguments.run)
    name = f"{run.run_id}-files" if arguments.files else run.run_id
    out = Path(arguments.out) if arguments.out else artifacts_root() / "site" / name
    check_place(out)
    failures: list[tuple[str, str]] = []
    if arguments.files:
        from pipelines.site_files import clips_of_files

        clips, failures = clips_of_files(run, arguments.files, _report)
        notes, withheld = [FILES_NOTE], unpublished(run).head(0)
    else:
        clips, notes = clips_of_run(run, arguments.clips)
        withheld = unpublished(run)
    built = build_site(out, facts_of(run, notes), clips, withheld, _report)
    tell(built, failures)
    return EXIT_SOME_FAILED if failures else 0


def tell(built, failures: list[tuple[str, str]]) -> None:
    """Print what is missing, how large the site is, what to do with it, and the folder."""
    for item, reason in failures:
        print(f"left out: {item}: {reason}")
    for line in built.missing:
        print(f"without sound: {line}")
    print(f"{built.clips} clips, {built.audible} with sound, {built.size / 1e6:.1f} MB")
    if not built.audible:
        print("no clip can be heard: none may be published, or their audio is gone")
    print("open index.html in it, or push the folder to a repository on GitHub and choose, under Settings > Pages,")
    print("the source 'GitHub Actions': .github/workflows/pages.yml in it publishes the site")
    print(built.folder)


def _report(fraction: float, message: str) -> None:
    print(f"{fraction:4.0%}  {message}", file=sys.stderr)
