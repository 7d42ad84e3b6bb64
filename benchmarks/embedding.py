"""Embedding a three-minute song: seconds of music per second, for every backbone whose weights are here.

    python -m benchmarks.embedding [NAME ...] [--weights FOLDER] [--seconds 180] [--rounds 3]

The song is noise at 44.1 kHz in a FLAC file, so decoding and resampling count. One thread does all; two workers double
the speed where two cores are free. CPU time counts, since whatever else the machine does can only slow the clock down,
and the best round counts. Printed besides: where the time goes, and what share the network reaches of the rate at
which the same thread multiplies two 1024 x 1024 matrices in the same run. Budget: musicnn at least 40 times real time
on two cores, that is 20 on each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mer_core.compute import one_thread
from mer_core.datasets.audio import read_audio, write_flac
from mer_core.models.backbones import BACKBONES, missing, open_backbone

FILE_RATE = 44100
BUDGETS = {"musicnn-msd": 20, "musicnn-mtt": 20}  # times real time on one core
DEFAULT = [name for name in BACKBONES if missing(BACKBONES[name]) is None]


def timed(function, *arguments) -> tuple[float, object]:
    start = time.process_time()
    value = function(*arguments)
    return time.process_time() - start, value


def peak() -> float:
    """Billions of multiply-adds a second, best of five products."""
    import torch

    matrix = torch.rand(1024, 1024)
    matrix @ matrix
    return 1024**3 / min(timed(torch.matmul, matrix, matrix)[0] for _ in range(5)) / 1e9


def multiply_adds(listener, windows) -> float:
    """Billions of multiply-adds of the network for these windows, as torch counts its products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        listener.listen(windows[:1])
    return counter.get_total_flops() / 2e9 * len(windows)


def measure(name: str, weights: str | None, path: Path, seconds: float, rounds: int) -> bool:
    """Print one row; False where the budget is missed."""
    listener = open_backbone(name, weights)
    listener.listen(listener.front_end(np.zeros(round(listener.backbone.rate * 12), np.float32)))  # warms up
    best = [np.inf] * 3
    for _ in range(rounds):
        reading, (samples, _) = timed(read_audio, path, listener.backbone.rate)
        hearing, windows = timed(listener.front_end, samples)
        thinking, _ = timed(listener.listen, windows)
        best = [min(pair) for pair in zip(best, (reading, hearing, thinking), strict=True)]
    speed = seconds / sum(best)
    share = multiply_adds(listener, windows) / best[2] / peak()
    missed = speed < BUDGETS.get(name, 0)
    print(
        f"{name:24}{speed:8.1f} x{best[0]:9.2f}{best[1]:11.2f}{best[2]:9.2f}{len(windows):9}{share:8.0%}"
        + ("  below its budget" if missed else "")
    )
    return not missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=DEFAULT)
    parser.add_argument("--weights", default=None)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    import torch

    one_thread()
    torch.set_num_threads(1)
    print(f"{'backbone':24}{'one core':>10}{'decode s':>9}{'front end s':>11}{'net s':>9}{'windows':>9}{'of peak':>8}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "song.flac"
        write_flac(path, np.random.default_rng(0).uniform(-0.5, 0.5, round(FILE_RATE * arguments.seconds)), FILE_RATE)
        kept = [measure(name, arguments.weights, path, arguments.seconds, arguments.rounds) for name in arguments.names]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
