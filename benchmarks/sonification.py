"""Sonifying ten seconds: mask and inverse transform, and, apart from them, the measures of loudness and peak.

    python -m benchmarks.sonification [--repeats 5]

A mono clip at 22.05 kHz and a map of 625 frames x 96 bands. CPU seconds of this process on one thread, the fastest of
the repeats, beside one forward and inverse transform in the same run. Budget: 30 ms for one mask with its inverse.
"""

from __future__ import annotations

import argparse

from mer_core.compute import one_thread

one_thread()

import numpy as np  # noqa: E402  (after one_thread, which acts on numpy's libraries as they load)

from benchmarks.relevance import SECONDS, fastest  # noqa: E402
from mer_core.explain.sonify import istft, loudness, make_masks, sonify, stft, true_peak  # noqa: E402

RATE, FRAMES, BANDS = 22050, 625, 96


def main() -> None:
    """Print one line per stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    clip = 0.1 * rng.standard_normal(SECONDS * RATE)
    relevance = rng.standard_normal((FRAMES, BANDS)).astype(np.float32)
    seconds, band_hz = np.linspace(0, SECONDS, FRAMES), np.geomspace(60, 7500, BANDS)
    spectrum, length = stft(clip, RATE), len(clip)
    masks, _ = make_masks(spectrum, length, RATE, relevance, seconds, band_hz, 0.5)
    stages = {
        "forward transform": lambda: stft(clip, RATE),
        "masks of all versions": lambda: make_masks(spectrum, length, RATE, relevance, seconds, band_hz, 0.5),
        "one mask applied, inverse transform": lambda: istft(spectrum * masks["for"], length, RATE),
        "loudness of one version": lambda: loudness(clip, RATE),
        "true peak of one version": lambda: true_peak(clip),
        "all versions, measured and brought to one loudness": lambda: sonify(clip, RATE, relevance, seconds, band_hz),
    }
    for name, work in stages.items():
        print(f"{name:52} {1000 * fastest(work, repeats):6.1f} ms")


if __name__ == "__main__":
    main()
