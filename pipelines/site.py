"""A run's explained clips as a static site: a folder of pages to open from a disk or to put on any web server.

Only clips whose `licence` column allows it are published with their sound; the others are shown without. The last line
that is printed is the folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run, the folder and how many clips."""
    parser.add_argument("--run", required=True, help="id or folder of a finished run with relevance maps, or 'latest'")
    parser.add_argument("--out", default="", metavar="FOLDER", help="where to write it (default: artifacts/site/RUN)")
    parser.add_argument("--clips", type=int, default=12, metavar="N", help="how many examples at most (default: 12)")


def main(arguments: argparse.Namespace) -> int:
    """Build the site, say what is missing and where it is; return 0."""
    from mer_core.paths import artifacts_root
    from mer_core.runs import read_run
    from mer_core.site.build import build_site, check_place
    from mer_core.site.clips import clips_of_run, unpublished
    from mer_core.site.facts import facts_of

    run = read_run(arguments.run)
    out = Path(arguments.out) if arguments.out else artifacts_root() / "site" / run.run_id
    check_place(out)
    clips, notes = clips_of_run(run, arguments.clips)
    built = build_site(out, facts_of(run, notes), clips, unpublished(run), _report)
    for line in built.missing:
        print(f"without sound: {line}")
    print(f"{built.clips} clips, {built.audible} with sound, {built.size / 1e6:.1f} MB")
    if not built.audible:
        print("no clip can be heard: none may be published, or their audio is gone")
    print("open index.html in it, or push the folder to a repository on GitHub and choose, under Settings > Pages,")
    print("the source 'GitHub Actions': .github/workflows/pages.yml in it publishes the site")
    print(built.folder)
    return 0


def _report(fraction: float, message: str) -> None:
    print(f"{fraction:4.0%}  {message}", file=sys.stderr)
