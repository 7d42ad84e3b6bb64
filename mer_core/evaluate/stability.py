"""Do repeated selections choose the same columns?

Conventions: `chosen` is a boolean matrix (m, d), one row per selection (a fold, perhaps of several repeats), one column
per feature. 1 means the same columns every time, about 0 what random choices of that size would give.

References
----------
S. Nogueira, K. Sechidis & G. Brown, Journal of Machine Learning Research 18(174), 2018 (the index, its variance and its
interval). L. Kuncheva, IASTED AIA 2007 (pairwise consistency index, for selections of one size).
"""

from __future__ import annotations

import math
from itertools import combinations
from statistics import NormalDist

import numpy as np


def nogueira(chosen: np.ndarray, level: float = 0.95) -> dict[str, float | None]:
    """Stability of selections of any sizes, with its interval.

    Parameters
    ----------
    chosen : (m, d) boolean
    level : of the interval; it takes the selections for independent, which folds that share tracks are not quite, so
        that it is somewhat narrow

    Returns
    -------
    {"value", "low", "high", "selections": m}; value = 1 - mean_f s_f^2 / (q (1 - q)), where s_f^2 is the unbiased
    variance of column f's indicator and q the mean share of columns chosen; None where m < 2 or all or no columns are
    chosen
    """
    z = np.asarray(chosen, dtype=float)
    m, d = z.shape
    share = z.mean() if z.size else 0.0
    if m < 2 or share in (0.0, 1.0):
        return {"value": None, "low": None, "high": None, "selections": m}
    frequency, sizes = z.mean(axis=0), z.sum(axis=1) / d
    chance = share * (1 - share)
    value = 1 - m / (m - 1) * np.mean(frequency * (1 - frequency)) / chance
    # Influence of each selection on the index (theorem 7 of the paper).
    agreement = (z @ frequency) / d - sizes * share
    influence = (agreement + value / 2 * (2 * sizes * share - sizes - share + 1)) / chance
    deviation = 2 / m * math.sqrt(np.sum((influence - influence.mean()) ** 2))
    half = NormalDist().inv_cdf((1 + level) / 2) * deviation
    return {"value": float(value), "low": float(value - half), "high": float(min(value + half, 1.0)), "selections": m}


def kuncheva(chosen: np.ndarray) -> float | None:
    """Mean consistency (r d - k^2) / (k (d - k)) of all pairs, r columns in common of k; None unless all have one size.

    chosen : (m, d) boolean. In [-1, 1]; None as well where m < 2 or all or no columns are chosen.
    """
    z = np.asarray(chosen, dtype=bool)
    m, d = z.shape
    sizes = set(z.sum(axis=1).tolist())
    if m < 2 or len(sizes) != 1 or sizes <= {0, d}:
        return None
    k = sizes.pop()
    shared = [np.count_nonzero(z[a] & z[b]) for a, b in combinations(range(m), 2)]
    return float(np.mean([(r * d - k * k) / (k * (d - k)) for r in shared]))
