"""The 8 and 15 statistics that roll a series of LLD frames up to one value a track.

Conventions
-----------
Series have shape (frames, columns); results have shape (tracks, columns * statistics), all statistics of the first
column first. The definitions are those of pandas: `std` divides by n - 1, quantiles interpolate linearly, skewness and
(excess) kurtosis are the bias-corrected Fisher-Pearson estimates. What is not defined is NaN: `std` and `cv` of one
frame, `skew` of fewer than three frames, `kurtosis` of fewer than four, both of a constant series, `variation` of one
frame. A series that holds a NaN has NaN for all its statistics (nothing is skipped): clean the frames first.

Definitions and names follow G. Kritsovas, https://github.com/Grkritsovas/postgrad-final-project.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

STATISTICS_8 = ("mean", "std", "min", "max", "q25", "q75", "skew", "kurtosis")
STATISTICS_15 = (*STATISTICS_8, "range", "iqr", "cv", "median", "mad", "variation", "trend")

# Tracks summarised at once: large enough to hide numpy's cost per call, small enough for the processor's cache.
_BLOCK = 8


def column_names(lld_columns: tuple[str, ...] | list[str], names: tuple[str, ...] = STATISTICS_15) -> list[str]:
    """Names `{lld}_{statistic}` of the columns of `summarise`, all statistics of the first LLD first."""
    return [f"{lld}_{name}" for lld in lld_columns for name in names]


def summarise(frames: list[np.ndarray], names: tuple[str, ...] = STATISTICS_15) -> np.ndarray:
    """Statistics of every column of every track.

    Parameters
    ----------
    frames : one array (frames, columns) a track; tracks may differ in length (at least one frame), not in columns
    names : statistics wanted, among STATISTICS_15

    Returns
    -------
    (tracks, columns * len(names)) float64, in the order of `column_names`
    """
    if not frames:
        raise ValueError("no tracks to summarise")
    columns = frames[0].shape[1]
    result = np.empty((len(frames), columns, len(names)))
    of_length = defaultdict(list)
    for track, values in enumerate(frames):
        if values.shape[1] != columns or len(values) == 0:
            raise ValueError(f"track {track} has shape {values.shape}, expected (at least 1 frame, {columns} columns)")
        of_length[len(values)].append(track)
    for length, tracks in of_length.items():
        for start in range(0, len(tracks), _BLOCK):
            block = tracks[start : start + _BLOCK]
            # Time goes last: sorts and sums then run along contiguous memory.
            series = np.empty((len(block), columns, length))
            for row, track in enumerate(block):
                series[row] = frames[track].T
            statistics = _statistics(series)
            result[block] = np.stack([statistics[name] for name in names], axis=-1)
    return result.reshape(len(frames), columns * len(names))


def _statistics(series: np.ndarray) -> dict[str, np.ndarray]:
    """All fifteen statistics along the last axis of (tracks, columns, frames); sorts `series` in place."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # Sums of deviations from the first frame lose no digits to a high level, and are exactly zero where it is all.
        level = series[..., 0].copy()
        deviation = series - level[..., None]
        statistics = _of_time(deviation) | _of_moments(deviation)
        statistics["mean"] += level
        series.sort(axis=-1)
        statistics |= _of_order(series)
        statistics["cv"] = statistics["std"] / (np.abs(statistics["mean"]) + 1e-8)
    # Sorting puts NaN last, so that a series with a NaN has one at its end.
    unknown = np.isnan(series[..., -1])
    if unknown.any():
        for values in statistics.values():
            values[unknown] = np.nan
    return statistics


def _of_time(series: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics that depend on the order in time: mean absolute step, and slope a frame."""
    n = series.shape[-1]
    if n == 1:
        return {"variation": np.full(series.shape[:-1], np.nan), "trend": np.zeros(series.shape[:-1])}
    steps = np.subtract(series[..., 1:], series[..., :-1])
    np.abs(steps, out=steps)
    variation = steps @ np.full(n - 1, 1.0 / (n - 1))
    if n < 10:
        return {"variation": variation, "trend": (series[..., -1] - series[..., 0]) / (n - 1)}
    centred_time = np.arange(n) - (n - 1) / 2
    return {"variation": variation, "trend": series @ (centred_time / (centred_time @ centred_time))}


def _of_moments(series: np.ndarray) -> dict[str, np.ndarray]:
    """Mean, standard deviation, skewness and excess kurtosis."""
    n = series.shape[-1]
    mean = series @ np.full(n, 1.0 / n)
    deviation = series - mean[..., None]
    squares = deviation * deviation
    m2 = np.einsum("bcn->bc", squares) / n
    m3 = np.einsum("bcn,bcn->bc", squares, deviation) / n
    m4 = np.einsum("bcn,bcn->bc", squares, squares) / n
    undefined = np.full(mean.shape, np.nan)
    std = np.sqrt(m2 * (n / (n - 1))) if n >= 2 else undefined
    skew = m3 / m2**1.5 * (math.sqrt(n * (n - 1)) / (n - 2)) if n >= 3 else undefined.copy()
    kurtosis = undefined.copy()
    if n >= 4:
        kurtosis = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * m4 / m2**2 - 3 * (n - 1))
    return {"mean": mean, "std": std, "skew": skew, "kurtosis": kurtosis}


def _of_order(ordered: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of the ascending values (tracks, columns, frames)."""
    n = ordered.shape[-1]
    lowest, highest = ordered[..., 0].copy(), ordered[..., -1].copy()
    q25, median, q75 = (_quantile(ordered, q) for q in (0.25, 0.5, 0.75))
    # The median absolute deviation without a second sort: the k values nearest to the median are neighbours in order,
    # so the k-th smallest distance is the smallest reach, over all runs of k neighbours, of the run's farther end.
    above = ordered - median[..., None]
    reach = [np.maximum(-above[..., : n - k + 1], above[..., k - 1 :]).min(axis=-1) for k in ((n + 1) // 2, n // 2 + 1)]
    return {
        "min": lowest,
        "max": highest,
        "q25": q25,
        "q75": q75,
        "range": highest - lowest,
        "iqr": q75 - q25,
        "median": median,
        "mad": (reach[0] + reach[1]) / 2,
    }


def _quantile(ordered: np.ndarray, q: float) -> np.ndarray:
    """Linearly interpolated quantile of ascending values along the last axis."""
    position = q * (ordered.shape[-1] - 1)
    below = math.floor(position)
    above = math.ceil(position)
    return ordered[..., below] + (ordered[..., above] - ordered[..., below]) * (position - below)
