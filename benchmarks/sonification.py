"""Sonifying ten seconds: every stage, and everything together with loudness and true peak, beside plain definitions.

    python -m benchmarks.sonification [--repeats 5]

A mono clip of noise at 22.05 kHz, the hardest for the peak, and a map of 625 frames x 96 bands. CPU seconds of this
process on one thread, the fastest of the repeats. References in the same run: pyloudnorm and four times oversampling
throughout, for all four versions. Budget: 30 ms for all versions of a prepared clip.
"""

from __future__ import annotations

import argparse

from mer_core.compute import one_thread

one_thread()

import numpy as np  # noqa: E402  (after one_thread, which acts on numpy's libraries as they load)
from pyloudnorm import Meter  # noqa: E402
from scipy.signal import resample_poly  # noqa: E402

from benchmarks.relevance import SECONDS, fastest  # noqa: E402
from mer_core.explain.levels import loudness, true_peak  # noqa: E402
from mer_core.explain.sonify import istft, make_masks, prepare, sonify, sonify_clip, stft  # noqa: E402

RATE, FRAMES, BANDS = 22050, 625, 96


def main() -> None:
    """Print one line per stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(SECONDS * RATE)).astype(np.float32)
    relevance = rng.standard_normal((FRAMES, BANDS)).astype(np.float32)
    seconds, band_hz = np.linspace(0, SECONDS, FRAMES), np.geomspace(60, 7500, BANDS)
    clip, length = prepare(noise, RATE), len(noise)
    masks, _ = make_masks(clip.power, length, RATE, relevance, seconds, band_hz, 0.5)
    stages = {
        "forward transform": lambda: stft(noise, RATE),
        "clip prepared: transform, loudness, true peak": lambda: prepare(noise, RATE),
        "masks for and against": lambda: make_masks(clip.power, length, RATE, relevance, seconds, band_hz, 0.5),
        "one mask applied, inverse transform": lambda: istft(clip.spectrum * masks["for"], length, RATE),
        "loudness of one version": lambda: loudness(noise, RATE),
        "true peak of one version": lambda: true_peak(noise),
        "all versions of a prepared clip, at one loudness": lambda: sonify_clip(clip, relevance, seconds, band_hz),
        "all of it": lambda: sonify(noise, RATE, relevance, seconds, band_hz),
        "reference: pyloudnorm, one version": lambda: Meter(RATE).integrated_loudness(noise),
        "reference: peak by oversampling, one version": lambda: np.abs(resample_poly(noise, 4, 1)).max(),
    }
    spent = {name: fastest(work, repeats) for name, work in stages.items()}
    for name, each in spent.items():
        print(f"{name:52} {1000 * each:6.1f} ms")
    plain = 4 * sum(each for name, each in spent.items() if name.startswith("reference"))
    print(f"all of it takes {spent['all of it'] / plain:.2f} of what plain measures of the four versions would alone")


if __name__ == "__main__":
    main()
