"""Is it better than chance, and is A better than B?

Conventions
-----------
Whole groups (artist, album, piece) are drawn and exchanged, since tracks of one group are no independent evidence.

References
----------
B. Phipson & G. Smyth, Statistical Applications in Genetics and Molecular Biology 9(1), 2010 (p = (b + 1) / (n + 1)).
A. Winkler et al., NeuroImage 123, 2015 (permuting blocks of equal size, and within blocks). B. Efron & R. Tibshirani,
An Introduction to the Bootstrap, 1993 (paired differences: both models are scored on the same resample).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from mer_core.evaluate.metrics import ccc, draw_groups, r2, resampled_scores, rmse

COMPARED = {"r2": r2, "rmse": rmse, "ccc": ccc}
LOWER_IS_BETTER = ("rmse",)
LEAST_SHARED = 10


def permutation_orders(groups: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    """Orders of the tracks under the hypothesis that ratings have nothing to do with features.

    Ratings of a group go, as a block, to another group of the same size, and are shuffled within it. A group whose size
    no other group has keeps its ratings, shuffled: the test then errs on the side of caution.

    groups : (n,). Returns (permutations, n): row r gives track i the ratings of track orders[r, i].
    """
    codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    sizes: dict[int, list[np.ndarray]] = {}
    for rows in members:
        sizes.setdefault(len(rows), []).append(rows)
    blocks = [np.array(rows) for rows in sizes.values()]  # (groups, size) each
    random = np.random.default_rng(seed)
    orders = np.empty((permutations, len(codes)), dtype=int)
    for order in orders:
        for rows in blocks:
            order[rows] = random.permuted(random.permutation(rows), axis=1)
    return orders


def permutation_test(
    predict: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    ratings: pd.DataFrame,
    groups: pd.Series,
    permutations: int,
    seed: int,
    at_once: int = 1,
) -> dict:
    """Could a score this high come about if ratings had nothing to do with features?

    Parameters
    ----------
    predict : ratings (n, k t) -> (tested rows (m,), predictions (m, k t) by models that have not seen them); columns
        are predicted independently of each other where k > 1
    ratings : (n, t); groups : same index
    permutations : number of times the ratings are exchanged, see `permutation_orders`
    at_once : permutations given to one call of `predict`

    Returns
    -------
    {"permutations": N, "targets": {target: {"r2", "p": (1 + #(null >= r2)) / (N + 1), "null": [N scores]}}}
    """
    truth = ratings.to_numpy()
    real = _scores(predict, truth)
    orders = permutation_orders(groups.to_numpy(), permutations, seed)
    null = []
    for start in range(0, permutations, at_once):
        columns = [truth[order] for order in orders[start : start + at_once]]
        null.append(_scores(predict, np.concatenate(columns, axis=1)).reshape(-1, truth.shape[1]))
    null = np.concatenate(null)
    targets = {
        target: {
            "r2": real[column],
            "p": float((1 + np.sum(null[:, column] >= real[column])) / (permutations + 1)),
            "null": null[:, column],
        }
        for column, target in enumerate(ratings)
    }
    return {"permutations": permutations, "targets": targets}


def _scores(predict: Callable, truth: np.ndarray) -> np.ndarray:
    """R2 of every column, (k t,)."""
    rows, predicted = predict(truth)
    return np.array([r2(truth[rows, column], predicted[:, column]) for column in range(truth.shape[1])])


def paired_bootstrap(
    a: pd.DataFrame, b: pd.DataFrame, groups: pd.Series, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, dict]:
    """Is one set of predictions better than another of the same tracks?

    Parameters
    ----------
    a, b : prediction tables (track_id, target, true, predicted); compared on the tracks that both have predicted
    groups : index track_id
    resamples, seed : of the bootstrap over groups; both are scored on the same resamples
    level : of the interval of the difference

    Returns
    -------
    {target: {"n": tracks, "r2": {"a", "b", "difference": [a - b, low, high], "winner": "a", "b" or None}, "rmse": ...,
    "ccc": ...}} of the targets that both have; no winner where the interval holds zero or there is a single group

    Raises
    ------
    ValueError : fewer than 10 tracks in common, or a track whose true rating differs between the two
    """
    result = {}
    for target in [name for name in a["target"].unique() if name in set(b["target"])]:
        one, other = (t[t["target"] == target].set_index("track_id")[["true", "predicted"]] for t in (a, b))
        both = one.join(other.add_suffix("_b"), how="inner")
        if len(both) < LEAST_SHARED:
            raise ValueError(f"{len(both)} tracks were predicted by both; at least {LEAST_SHARED} are needed")
        if not np.allclose(both["true"], both["true_b"]):
            raise ValueError(f"the true {target} of a track differs between the two")
        result[target] = {"n": len(both)} | _differences(both, groups.loc[both.index], resamples, seed, level)
    return result


def _differences(both: pd.DataFrame, groups: pd.Series, resamples: int, seed: int, level: float) -> dict[str, dict]:
    true, a, b = (both[name].to_numpy() for name in ("true", "predicted", "predicted_b"))
    codes = np.unique(groups.to_numpy().astype(str), return_inverse=True)[1]
    n_groups = int(codes.max()) + 1
    draws = draw_groups(n_groups, resamples, seed)
    drawn = [resampled_scores(true, predicted, codes, draws, tuple(COMPARED)) for predicted in (a, b)]
    table = {}
    for name, score in COMPARED.items():
        value, differences = score(true, a) - score(true, b), drawn[0][name] - drawn[1][name]
        differences = differences[np.isfinite(differences)]
        low = high = None
        if n_groups > 1 and len(differences):
            low, high = (float(edge) for edge in np.quantile(differences, [(1 - level) / 2, (1 + level) / 2]))
        table[name] = {"a": _known(score(true, a)), "b": _known(score(true, b))}
        table[name] |= {"difference": [_known(value), low, high], "winner": _winner(low, high, name)}
    return table


def _winner(low: float | None, high: float | None, metric: str) -> str | None:
    if low is None or low <= 0 <= high:
        return None
    return "a" if (low > 0) != (metric in LOWER_IS_BETTER) else "b"


def _known(score: float) -> float | None:
    return float(score) if math.isfinite(score) else None
