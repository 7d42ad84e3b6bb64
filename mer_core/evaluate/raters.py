"""How many people rated each track, read from the ratings themselves.

A mean of n whole-numbered ratings is a multiple of 1/n, and its standard deviation then belongs to a sum of squares
that is a whole number, odd or even like the sum. Tables that give neither the number of raters nor the kind of
standard deviation (divided by n or by n - 1) often still show both.

Conventions: means and standard deviations in rating points, ratings given in whole points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_RATERS = 30  # beyond, every mean with two decimals is near a multiple of 1/n
LEAST_VALUES = 20
EXPLAINED = 0.98
CLEAR = 0.5  # by how much the share on the grid must exceed that of arbitrary numbers
DECIMALS = 6


@dataclass(frozen=True)
class Raters:
    """Number of raters of a set of tracks.

    counts : {number of raters: share of the means it explains}, the most frequent first
    deviation : "population" (divided by n), "sample" (by n - 1) or None where it cannot be told
    fit : share of the standard deviations that belong to whole-numbered ratings of so many people
    chance : share expected of arbitrary standard deviations
    """

    counts: dict[int, float]
    deviation: str | None
    fit: float | None
    chance: float | None

    @property
    def typical(self) -> float:
        """Harmonic mean of the counts: the number of raters whose mean is as uncertain as these are on average."""
        return sum(self.counts.values()) / sum(share / n for n, share in self.counts.items())


def recover_raters(means: np.ndarray, deviations: np.ndarray | None = None) -> Raters | None:
    """Numbers of raters that explain the means of some tracks; None where they cannot be told.

    means : (n,), NaN where unknown, all targets of the tracks in one array
    deviations : (n,) standard deviations of the same ratings, NaN where unknown
    """
    known = np.isfinite(means)
    means = means[known]
    if len(means) < LEAST_VALUES or np.ptp(means) == 0:
        return None
    half_step = 0.5 * 10.0 ** -_decimals(means)
    counts, left = {}, np.ones(len(means), bool)
    while left.mean() > 1 - EXPLAINED:
        excess = {n: _on_grid(means[left], n, half_step).mean() - min(1.0, 2 * half_step * n) for n in _numbers()}
        best = max(excess, key=excess.get)
        if excess[best] < CLEAR or left.sum() < 3:
            break
        found = left & _on_grid(means, best, half_step)
        counts[best] = float(found.mean())
        left &= ~found
    if 1 - left.mean() < 0.9:
        return None
    if deviations is None:
        return Raters(counts, None, None, None)
    return Raters(counts, *_deviation_kind(means, deviations[known], counts, half_step))


def _numbers() -> range:
    return range(2, MOST_RATERS + 1)


def _decimals(values: np.ndarray) -> int:
    """Decimals that the values are rounded to, at most six."""
    for decimals in range(DECIMALS):
        if np.all(np.abs(values - np.round(values, decimals)) < 1e-9):
            return decimals
    return DECIMALS


def _on_grid(values: np.ndarray, n: int, half_step: float) -> np.ndarray:
    return np.abs(values - np.round(values * n) / n) <= half_step + 1e-9


def _deviation_kind(means, deviations, counts: dict[int, float], half_step: float) -> tuple:
    """Kind of standard deviation, how many of them fit, and how many would by chance."""
    known = np.isfinite(deviations)
    means, deviations = means[known], deviations[known]
    if len(means) < LEAST_VALUES or np.ptp(deviations) == 0:
        return None, None, None
    n = next(iter(counts))
    use = _on_grid(means, n, half_step)
    total = np.round(means[use] * n)
    deviation, step = deviations[use], 0.5 * 10.0 ** -_decimals(deviations)
    best = (None, 0.0, 1.0)
    for kind, divisor in (("population", n), ("sample", n - 1)):
        squares = divisor * deviation**2 + total**2 / n
        tolerance = 2 * divisor * deviation * step + 0.01
        # A sum of squares is odd exactly where the sum is, so that their difference is even.
        off = np.abs((squares - total) / 2 - np.round((squares - total) / 2)) * 2
        fit, chance = float(np.mean(off <= tolerance)), float(np.mean(np.minimum(tolerance, 1)))
        if fit - chance > best[1] - best[2]:
            best = (kind, fit, chance)
    return best if best[1] - best[2] > CLEAR else (None, None, None)
