"""Extracting LLDs: our two threads against two bare openSMILE processes over the same files, then our cache.

    python -m benchmarks.extraction [DATA] [--files 24] [--rounds 3]

DATA is the folder that holds `deam/MEMD_audio` and `soundtracks/audio` (default: `MER_DATA`). The sides take turns,
each in processes of its own from start to end, imports included. A bare process loads openSMILE and calls
`Smile.process_file` with our configuration, for half the files. Budget: at least 0.90 of their speed, and a second run
from the cache in less than 1 % of the time.

The best round of each side counts, since whatever else the machine does can only slow one down; CPU time (all cores
together, fairer still on a busy machine) is printed beside.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mer_core.features.llds import configuration

BARE = """
import sys, opensmile
smile = opensmile.Smile(feature_set=sys.argv[1], feature_level="func")
for path in sys.argv[2:]:
    smile.process_file(path)
"""
OURS = """
import sys, time
from mer_core.compute import map_items
from mer_core.features.llds import llds_of_file
for _ in range(2):
    start = time.perf_counter()
    outcomes = map_items(llds_of_file, sys.argv[1:], workers=2)
    print(time.perf_counter() - start)
    assert not any(outcome.error for outcome in outcomes), outcomes
"""


def run(processes: list[list[str]], **environment: str) -> tuple[float, float, list[str]]:
    """Seconds until the last of these Python processes has ended, their CPU seconds, and what they printed."""
    before, start = os.times(), time.perf_counter()
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )
        for arguments in processes
    ]
    printed = [line for process in running for line in process.communicate()[0].split()]
    seconds, after = time.perf_counter() - start, os.times()
    if any(process.returncode for process in running):
        raise SystemExit("a process failed; its message is above")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu, printed


def compare(folder: str, files: list[str], rounds: int) -> None:
    print(f"{folder}: {len(files)} files; seconds (and CPU seconds)")
    print("two bare openSMILE    our two threads    from our cache")
    rows = []
    for _ in range(rounds):
        bare, bare_cpu, _ = run([["-c", BARE, str(configuration()), *files[half::2]] for half in (0, 1)])
        with tempfile.TemporaryDirectory() as artifacts:
            both, both_cpu, (first, again) = run([["-c", OURS, *files]], MER_ARTIFACTS=artifacts)
        rows.append((bare, bare_cpu, both - float(again), both_cpu - float(again), float(first), float(again)))
        print("{:9.2f} ({:6.2f}) {:10.2f} ({:6.2f}) {:17.4f}".format(*rows[-1][:4], rows[-1][5]))
    bare, bare_cpu, ours, ours_cpu, first, again = map(min, zip(*rows, strict=True))
    print(f"best: {bare / ours:.2f} of their speed (by CPU time {bare_cpu / ours_cpu:.2f});", end=" ")
    print(f"from the cache in {again / first:.2%} of the time\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("MER_DATA"), help="folder of the real data")
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not options.data:
        parser.error("name the data folder, or set MER_DATA")
    for folder in ("deam/MEMD_audio", "soundtracks/audio"):
        if files := sorted(map(str, Path(options.data, folder).glob("*.mp3")))[: options.files]:
            compare(folder, files, options.rounds)


if __name__ == "__main__":
    main()
