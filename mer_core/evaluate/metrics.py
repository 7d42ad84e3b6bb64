"""Agreement of predicted and rated emotion, and how sure we can be of it.

Conventions
-----------
Arrays of shape (n,), one target at a time, on the rating scale, without gaps. Errors are in rating points. A score that
has no value (a correlation with a constant, R2 of constant ratings) is NaN from the functions and None in tables.

Metrics
-------
R2, RMSE, MAE, Pearson r, Spearman rho, CCC (Lin's concordance correlation coefficient).

References
----------
L. Lin, Biometrics 45(1), 1989 (CCC). B. Efron & R. Tibshirani, An Introduction to the Bootstrap, 1993 (percentile
intervals; whole groups are drawn, since tracks of one artist are no independent evidence). J. Lei et al., Journal of
the American Statistical Association 113(523), 2018, and V. Vovk, Annals of Mathematics and Artificial Intelligence 74,
2015 (conformal and cross-conformal error intervals: "level of all tracks lie inside" holds on average over tracks
exchangeable with those the residuals come from, not for each track).
"""

from __future__ import annotations

import math

import numpy as np

METRICS = ("r2", "rmse", "mae", "pearson", "spearman", "ccc")
CHUNK_CELLS = 2_000_000  # resamples x tracks handled at once by the rank correlation: 16 MB an array
NO_SPREAD = 1e-12  # a variance below this share of the mean square is rounding error of a constant


def r2(true: np.ndarray, predicted: np.ndarray) -> float:
    """Share of the ratings' variance explained, in (-inf, 1]: 1 - sum (y - p)^2 / sum (y - mean y)^2. (n,), (n,)."""
    true, predicted = _pair(true, predicted)
    if np.ptp(true) == 0:
        return math.nan
    return float(1 - np.sum((true - predicted) ** 2) / np.sum((true - true.mean()) ** 2))


def rmse(true: np.ndarray, predicted: np.ndarray) -> float:
    """Root mean squared error in rating points, >= 0. (n,), (n,)."""
    true, predicted = _pair(true, predicted)
    return float(np.sqrt(np.mean((true - predicted) ** 2)))


def mae(true: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error in rating points, >= 0. (n,), (n,)."""
    true, predicted = _pair(true, predicted)
    return float(np.mean(np.abs(true - predicted)))


def pearson(true: np.ndarray, predicted: np.ndarray) -> float:
    """Linear correlation in [-1, 1]: cov(y, p) / (sd y sd p); NaN when either is constant. (n,), (n,)."""
    true, predicted = _pair(true, predicted)
    if np.ptp(true) == 0 or np.ptp(predicted) == 0:
        return math.nan
    a, b = true - true.mean(), predicted - predicted.mean()
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def spearman(true: np.ndarray, predicted: np.ndarray) -> float:
    """Rank correlation in [-1, 1]: Pearson r of the mid-ranks; NaN when either is constant. (n,), (n,)."""
    true, predicted = _pair(true, predicted)
    return pearson(_ranks(true), _ranks(predicted))


def ccc(true: np.ndarray, predicted: np.ndarray) -> float:
    """Concordance in [-1, 1]: 2 cov(y, p) / (var y + var p + (mean y - mean p)^2).

    Population moments (division by n), as in Lin (1989). 0 with a constant, NaN when both are the same one. (n,), (n,).
    """
    true, predicted = _pair(true, predicted)
    if np.ptp(true) == 0 or np.ptp(predicted) == 0:
        return math.nan if np.array_equal(true, predicted) else 0.0
    covariance = np.mean((true - true.mean()) * (predicted - predicted.mean()))
    return float(2 * covariance / (true.var() + predicted.var() + (true.mean() - predicted.mean()) ** 2))


def score_with_intervals(
    true: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, list[float | None] | int]:
    """All six metrics with percentile bootstrap intervals over groups.

    Parameters
    ----------
    true, predicted : (n,) on the rating scale
    groups : (n,) artist, album or piece; whole groups are drawn with replacement, as many as there are
    resamples : number of bootstrap resamples; every score of a resample uses the resample's own mean and ranks
    level : coverage of the interval, in (0, 1)

    Returns
    -------
    {"n": n, "r2": [value, low, high], "rmse": ..., "mae": ..., "pearson": ..., "spearman": ..., "ccc": ...};
    None where a score has no value, and for low and high when there is a single group
    """
    true, predicted = _pair(true, predicted)
    codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    if codes.shape != true.shape:
        raise ValueError(f"groups {codes.shape} and ratings {true.shape} differ; join them on track_id first")
    functions = {"r2": r2, "rmse": rmse, "mae": mae, "pearson": pearson, "spearman": spearman, "ccc": ccc}
    table: dict[str, list[float | None] | int] = {"n": len(true)}
    n_groups = int(codes.max()) + 1
    draws = {}
    if n_groups > 1:
        draws = resampled_scores(true, predicted, codes, draw_groups(n_groups, resamples, seed))
    for name in METRICS:
        table[name] = [_number(functions[name](true, predicted)), *_interval(draws.get(name), level)]
    return table


def draw_groups(n_groups: int, resamples: int, seed: int) -> np.ndarray:
    """How often each group is in each resample: (resamples, n_groups) counts, every row summing to n_groups."""
    return np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=resamples)


def resampled_scores(
    true: np.ndarray, predicted: np.ndarray, codes: np.ndarray, counts: np.ndarray, metrics: tuple[str, ...] = METRICS
) -> dict[str, np.ndarray]:
    """Metrics of every resample, from counts instead of repeated rows.

    Parameters
    ----------
    true, predicted : (n,)
    codes : (n,) group number of each row
    counts : (resamples, groups) from `draw_groups`
    metrics : those wanted; the rank correlation takes longer than all others together

    Returns
    -------
    {metric: (resamples,)}, NaN where a score has no value
    """
    # Moments about the medians: exact zeros for constants, and no cancellation for ratings far from 0.
    y, p = true - np.median(true), predicted - np.median(predicted)
    error = true - predicted
    terms = np.column_stack([np.ones_like(y), y, p, y * y, p * p, y * p, error**2, np.abs(error)])
    per_group = np.zeros((counts.shape[1], terms.shape[1]))
    np.add.at(per_group, codes, terms)
    size, *sums = (counts @ per_group).T
    my, mp, myy, mpp, myp, squared, absolute = (total / size for total in sums)
    var_y, var_p = _variance(my, myy), _variance(mp, mpp)
    covariance = np.where((var_y > 0) & (var_p > 0), myp - my * mp, 0.0)
    shift = (my - mp + np.median(true) - np.median(predicted)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = {
            "r2": np.where(var_y > 0, 1 - squared / var_y, np.nan),
            "rmse": np.sqrt(squared),
            "mae": absolute,
            "pearson": covariance / np.sqrt(var_y * var_p),
            "ccc": 2 * covariance / (var_y + var_p + shift),
        }
    if "spearman" in metrics:
        scores["spearman"] = _resampled_spearman(true, predicted, codes, counts)
    return {name: scores[name] for name in metrics}


def _resampled_spearman(true: np.ndarray, predicted: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Spearman's rho of every resample, exact: mid-ranks of values that occur `counts` times. (resamples,)."""
    scores = []
    for chunk in np.array_split(counts, max(1, math.ceil(len(counts) * len(true) / CHUNK_CELLS))):
        weights = chunk[:, codes].astype(float)
        size = weights.sum(1)
        # A weighted mean of mid-ranks is exactly (N + 1) / 2, so ranks about it need no second pass.
        a, b = (_weighted_ranks(values, weights) - (size[:, None] + 1) / 2 for values in (true, predicted))
        wa = weights * a
        ab, aa, bb = (np.einsum("rn,rn->r", x, y) for x, y in ((wa, b), (wa, a), (weights * b, b)))
        with np.errstate(divide="ignore", invalid="ignore"):
            scores.append(ab / np.sqrt(aa * bb))
    return np.concatenate(scores)


def _weighted_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mid-ranks (1..N) of `values` (n,) when value i occurs `weights[r, i]` times: (resamples, n)."""
    unique, codes = np.unique(values, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(unique)))
    blocks = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(blocks, axis=1) - (blocks - 1) / 2)[:, codes]


def human_ceiling(spread: np.ndarray, ratings: np.ndarray, raters: int = 10) -> dict[str, float]:
    """Best score any predictor of the mean rating can reach, since that mean is itself uncertain.

    Parameters
    ----------
    spread : (n,) standard deviation among the raters of each track, rating points, NaN where unknown
    ratings : (n,) mean rating of each track, NaN where unrated
    raters : raters per track, stored with the result

    Returns
    -------
    {"r2": 1 - mean(sd^2) / raters / var(ratings), "rmse": sqrt(mean(sd^2) / raters), "raters", "n": tracks used}
    """
    spread, ratings = np.asarray(spread, dtype=float), np.asarray(ratings, dtype=float)
    known = np.isfinite(spread) & np.isfinite(ratings)
    if known.sum() < 2:
        raise ValueError(f"{known.sum()} tracks have both a rating and a rater spread; a ceiling needs at least 2")
    noise = np.mean(spread[known] ** 2) / raters
    variance = ratings[known].var()
    return {
        "r2": float(1 - noise / variance) if variance > 0 else math.nan,
        "rmse": float(np.sqrt(noise)),
        "raters": raters,
        "n": int(known.sum()),
    }


def conformal_halfwidth(residuals_abs: np.ndarray, level: float = 0.9) -> float:
    """Half width h such that a new track's error is at most h with probability >= level.

    Parameters
    ----------
    residuals_abs : (n,) absolute errors on tracks that the model has not seen
    level : in (0, 1)

    Returns
    -------
    the ceil((n + 1) level)-th smallest residual; infinite when n is too small to promise anything (n < 9 at 0.9)
    """
    residuals = np.sort(np.asarray(residuals_abs, dtype=float))
    if not np.isfinite(residuals).all() or (residuals < 0).any():
        raise ValueError("residuals must be finite absolute errors; leave unrated tracks out first")
    # The tiny term keeps 0.9 * 10 from becoming 9.000000000000002.
    rank = math.ceil((len(residuals) + 1) * level - 1e-9)
    return float(residuals[rank - 1]) if rank <= len(residuals) else math.inf


def _pair(true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float arrays, or ValueError when they cannot be compared."""
    true, predicted = np.asarray(true, dtype=float), np.asarray(predicted, dtype=float)
    if true.ndim != 1 or true.shape != predicted.shape or not len(true):
        raise ValueError(
            f"rated {true.shape} and predicted {predicted.shape} must be (n,) alike; join them on track_id"
        )
    if not (np.isfinite(true).all() and np.isfinite(predicted).all()):
        raise ValueError("ratings or predictions have gaps (NaN or infinite); leave those tracks out first")
    return true, predicted


def _ranks(values: np.ndarray) -> np.ndarray:
    """Mid-ranks 1..n. (n,)."""
    return _weighted_ranks(values, np.ones((1, len(values))))[0]


def _variance(mean: np.ndarray, mean_square: np.ndarray) -> np.ndarray:
    """mean_square - mean^2, exactly 0 where only rounding is left."""
    variance = mean_square - mean**2
    return np.where(variance > NO_SPREAD * mean_square, variance, 0.0)


def _interval(draws: np.ndarray | None, level: float) -> list[float | None]:
    """Percentile interval of the resamples that have a value, [None, None] when none has."""
    draws = np.empty(0) if draws is None else draws[np.isfinite(draws)]
    if not len(draws):
        return [None, None]
    return [float(edge) for edge in np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])]


def _number(score: float) -> float | None:
    """None in place of NaN: JSON has no NaN."""
    return score if math.isfinite(score) else None
