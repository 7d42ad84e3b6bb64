"""Loudness and true peak of sounds that come from one another, measured once each.

Both agree with their slow definitions (pyloudnorm; 4 times oversampling throughout), which tests compare them with.

References
----------
ITU-R BS.1770-4: K-weighting (the filters are those of pyloudnorm, after R. Bristow-Johnson's cookbook), gated blocks of
0.4 s every 0.1 s, and true peak by 4 times oversampling.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

BLOCK_S, STEP = 0.4, 0.25
ABSOLUTE_LUFS, RELATIVE_LU, OFFSET = -70.0, -10.0, -0.691
SILENT_LUFS = -100.0
TIMES = 4  # of oversampling
REACH = 10  # samples to either side that an interpolated value depends on
BLOCK = 32  # samples that are passed over together when they are too quiet to matter


def loudness(samples: np.ndarray, rate: int) -> float:
    """Integrated loudness of (n,) or (channels, n), LUFS; -100 for silence. At least 0.4 s are needed."""
    return loudness_of_weighted(k_weighted(samples, rate), rate)


def k_weighted(samples: np.ndarray, rate: int) -> np.ndarray:
    """What the ear makes of a sound (channels, n); linear, so differences may be taken before or after."""
    from scipy.signal import sosfilt

    samples = np.atleast_2d(samples)
    wide = samples if samples.dtype == np.float32 else np.asarray(samples, dtype=np.float64)
    return sosfilt(_k_filter(rate).astype(wide.dtype), wide, axis=-1)


def loudness_of_weighted(weighted: np.ndarray, rate: int) -> float:
    """Loudness of what `k_weighted` gave, LUFS; -100 for silence."""
    seconds = weighted.shape[-1] / rate
    count = int(np.round((seconds - BLOCK_S) / (BLOCK_S * STEP))) + 1
    starts = (BLOCK_S * np.arange(count) * STEP * rate).astype(int)
    stops = np.minimum((BLOCK_S * (np.arange(count) * STEP + 1) * rate).astype(int), weighted.shape[-1])
    # Sums between all borders, then over those within a block: exact, where a running sum over the clip is not.
    borders = np.unique(np.concatenate([starts, stops]))
    energy = np.einsum("cn,cn->n", weighted, weighted)
    between = np.append(np.add.reduceat(energy, borders[borders < len(energy)], dtype=np.float64), 0.0)
    total = np.concatenate([[0.0], np.cumsum(between)])
    power = (total[np.searchsorted(borders, stops)] - total[np.searchsorted(borders, starts)]) / (BLOCK_S * rate)
    with np.errstate(divide="ignore"):
        loud = OFFSET + 10 * np.log10(power)
    heard = power[loud >= ABSOLUTE_LUFS]
    if not len(heard):
        return SILENT_LUFS
    threshold = max(OFFSET + 10 * np.log10(heard.mean()) + RELATIVE_LU, ABSOLUTE_LUFS)
    kept = power[loud > threshold]
    return float(OFFSET + 10 * np.log10(kept.mean())) if len(kept) else SILENT_LUFS


@lru_cache(maxsize=16)
def _k_filter(rate: int) -> np.ndarray:
    """Two second-order sections: a shelf of 4 dB above 1.5 kHz and a high pass at 38 Hz."""
    gain = 10 ** (4.0 / 40)
    angle = 2 * np.pi * 1500.0 / rate
    cos, alpha = np.cos(angle), np.sin(angle) / (2 / np.sqrt(2))
    root = 2 * np.sqrt(gain) * alpha
    up, down = gain + 1, gain - 1
    shelf = [gain * (up + down * cos + root), -2 * gain * (down + up * cos), gain * (up + down * cos - root)]
    shelf += [up - down * cos + root, 2 * (down - up * cos), up - down * cos - root]
    angle = 2 * np.pi * 38.0 / rate
    cos, alpha = np.cos(angle), np.sin(angle) / (2 * 0.5)
    high = [(1 + cos) / 2, -(1 + cos), (1 + cos) / 2, 1 + alpha, -2 * cos, 1 - alpha]
    sections = np.array([shelf, high])
    return sections / sections[:, 3:4]


def true_peak(samples: np.ndarray) -> float:
    """Largest value between samples too (4 times oversampled), dBTP; -200 for silence.

    A value between samples is a weighted sum of the twenty around it, so it cannot exceed the largest of these times
    the sum of the absolute weights: where that stays below a peak already found, nothing is computed.
    """
    rows = np.atleast_2d(np.asarray(samples, dtype=np.float32))
    peak = float(np.abs(rows).max(initial=0.0))
    if peak > 0:
        weights, most = _between()
        for row in rows:
            peak = _peak_between(row, weights, most, peak)
    return float(20 * np.log10(max(peak, 1e-10)))


def _peak_between(row: np.ndarray, weights: np.ndarray, most: float, peak: float) -> float:
    """The larger of `peak` and the largest interpolated value of (n,) samples."""
    count = -(-len(row) // BLOCK)
    padded = np.zeros(count * BLOCK + 2 * BLOCK, dtype=np.float32)
    padded[BLOCK : BLOCK + len(row)] = row
    loudest = np.abs(padded).reshape(-1, BLOCK).max(axis=1)
    around = np.maximum(np.maximum(loudest[:-2], loudest[2:]), loudest[1:-1])
    windows = np.lib.stride_tricks.sliding_window_view(padded, BLOCK + 2 * REACH)[BLOCK - REACH :: BLOCK][:count]
    for share in (0.8, 1 / most):  # the loudest first: what they give rules out most others
        chosen = np.flatnonzero(around >= share * peak)
        if len(chosen):
            found = windows[chosen] @ weights
            peak = max(peak, float(found.max()), -float(found.min()))
    return peak


@lru_cache(maxsize=1)
def _between() -> tuple[np.ndarray, float]:
    """Weights (52, 96) of a block and its surroundings for the three values after each of its samples.

    And the largest sum of absolute weights of one value.
    """
    from scipy.signal import firwin

    half = REACH * TIMES
    taps = TIMES * firwin(2 * half + 1, 1 / TIMES, window=("kaiser", 5.0))  # that of scipy's resample_poly
    weights = np.zeros((BLOCK + 2 * REACH, BLOCK, TIMES - 1))
    for sample in range(BLOCK):
        for part in range(1, TIMES):
            places = np.arange(sample + 1, sample + 2 * REACH + 1)
            weights[places, sample, part - 1] = taps[half + TIMES * (sample + REACH - places) + part]
    flat = weights.reshape(BLOCK + 2 * REACH, -1).astype(np.float32)
    return flat, float(np.abs(flat).sum(axis=0).max())
