"""Which columns matter most: rankings of feature columns inside blocks of them, learned from the tracks given.

Conventions
-----------
Features (n, p) and ratings (n, t) are those of a training part; nothing else is seen, so ranking inside a fold cannot
leak. Blocks name what a column competes with: its perceptual group, its LLD, or all columns. Rank 0 is the best of a
block. A column that is the same for every track is never ranked.

References
----------
S. Lundberg et al., Nature Machine Intelligence 2, 2020 (TreeSHAP, mean |SHAP| as importance). J. Piironen,
M. Paasiniemi & A. Vehtari, Electronic Journal of Statistics 14(1), 2020 (projective selection: choose the columns that
reproduce the predictions of a model that sees all of them, rather than those that fit the noisy ratings).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline

from mer_core.models.reductions import Decorrelate
from mer_core.models.regressors import make_regressor

RANKINGS = ("shap", "projection")
NEVER = np.iinfo(np.int32).max  # rank of a column that is not to be chosen
SHRINKAGE = 0.3
DEEPEST = 200  # columns that a projection puts in order in each block

# Growing full-depth forests takes most of the usual way's time. Thresholds drawn at random need no sorting, and rank
# like it; rankings that only serve to choose how many columns, inside a training part, do with fewer trees.
# benchmarks/selection.py measures how much that saves, and how far the two rankings agree.
FOREST = {"max_features": 1.0, "max_depth": 10, "min_samples_leaf": 5}
TREES, INNER_TREES = 60, 20
EXPLAINED_TRACKS = 300


@dataclass(frozen=True)
class Ranking:
    """Order of the columns within their blocks.

    score : (p,) >= 0, what the order was made from: share of the block's mean |SHAP|, or of the predictor's variance
        that the column adds to those before it
    rank : (p,) place within the block from 0, NEVER for columns that cannot be chosen
    """

    score: np.ndarray
    rank: np.ndarray

    def design(self, k: int) -> np.ndarray:
        """Which columns are among the best `k` of their block: (p,) boolean."""
        return self.rank < k


def rank_columns(
    features: np.ndarray,
    ratings: np.ndarray,
    blocks: np.ndarray,
    groups: np.ndarray,
    ranking: str,
    seed: int,
    medians: np.ndarray | None = None,
    decorrelated: bool = False,
    trees: int = TREES,
) -> Ranking:
    """Rank all columns inside their blocks for all targets jointly.

    Parameters
    ----------
    features : (n, p), NaN where missing; ratings : (n, t)
    blocks : (p,) name of the block of each column
    groups : (p,) perceptual group of each column: each has a forest of its own, unless there is one block in all
    ranking : "shap": mean |SHAP| of a forest per group and target, made to sum to 1 and averaged over targets;
        "projection": greedily, the column that brings a linear model on the chosen columns closest to the predictions
        of ridge regression on all columns
    seed : of forests and of the tracks that are explained
    medians : (p,) what missing values are filled with; those of these tracks when None
    decorrelated : leave out columns that repeat an earlier one of their group, see `reductions.Decorrelate`
    trees : of each forest
    """
    filled = _filled(features, medians)
    usable = np.ptp(filled, axis=0) > 0
    if decorrelated:
        usable &= Decorrelate(tuple(groups)).fit(filled).kept_
    score, rank = np.zeros(len(blocks)), np.full(len(blocks), NEVER, dtype=np.int64)
    if not usable.any():
        return Ranking(score, rank)
    filled, blocks, groups = filled[:, usable], blocks[usable], groups[usable]
    if ranking == "shap":
        forests = blocks if len(set(blocks)) == 1 else groups
        score[usable] = order = _shap_scores(filled, ratings, forests, seed, trees)
    else:
        score[usable], order = _projection_scores(filled, ratings, blocks, seed)
    for columns in _members(blocks).values():
        columns = columns[order[columns] > -np.inf]
        best = columns[np.argsort(-order[columns], kind="stable")]
        rank[np.flatnonzero(usable)[best]] = np.arange(len(best))
    return Ranking(score, rank)


def joint_scores(importance: np.ndarray) -> np.ndarray:
    """(p, t) importances >= 0 of a group's columns -> (p,): each target's made to sum to 1, averaged over targets."""
    total = importance.sum(axis=0)
    return np.mean(importance / np.where(total > 0, total, 1.0), axis=1)


def _filled(features: np.ndarray, medians: np.ndarray | None) -> np.ndarray:
    if medians is None:
        return SimpleImputer(strategy="median", keep_empty_features=True).fit_transform(features)
    return np.where(np.isnan(features), np.nan_to_num(medians), features)


def _members(blocks: np.ndarray) -> dict[str, np.ndarray]:
    """Column numbers of each block, blocks in the order of their names."""
    return {name: np.flatnonzero(blocks == name) for name in sorted(set(blocks))}


def _shap_scores(filled: np.ndarray, ratings: np.ndarray, groups: np.ndarray, seed: int, trees: int) -> np.ndarray:
    """(p,) joint share of mean |SHAP| within the group, from a forest per group and target."""
    rows = np.random.default_rng(seed).permutation(len(filled))[:EXPLAINED_TRACKS]
    score = np.zeros(filled.shape[1])
    for columns in _members(groups).values():
        part = filled[:, columns]
        importance = [forest_importance(part, rating, rows, seed, trees) for rating in ratings.T]
        score[columns] = joint_scores(np.stack(importance, axis=1))
    return score


def forest_importance(filled: np.ndarray, rating: np.ndarray, rows: np.ndarray, seed: int, trees: int) -> np.ndarray:
    """Mean |SHAP| of each column (p,) over the tracks `rows`, of a forest that learns one rating (n,)."""
    import shap

    forest = ExtraTreesRegressor(trees, **FOREST, random_state=seed).fit(filled, rating)
    explainer = shap.TreeExplainer(forest, feature_perturbation="tree_path_dependent")
    return np.abs(explainer.shap_values(filled[rows], check_additivity=False)).mean(axis=0)


def _projection_scores(
    filled: np.ndarray, ratings: np.ndarray, blocks: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(p,) share of the predictor's variance that each column adds, and (p,) what to sort by, -inf for those beyond."""
    model = make_regressor("ridge", seed).fit(filled, ratings)
    standard, weights, _, deviation = _standardised(model, filled)
    covariance = standard.T @ (standard @ weights) + SHRINKAGE * weights
    variance = np.einsum("pt,pt->t", weights, covariance)
    covariance /= np.sqrt(np.where(variance > 0, variance, 1.0) * weights.shape[1])
    score, order = np.zeros(len(blocks)), np.full(len(blocks), -np.inf)
    for columns in _members(blocks).values():
        columns = columns[deviation[columns] > 0]
        chosen, gains = greedy_projection(standard[:, columns], covariance[columns], DEEPEST)
        score[columns[chosen]], order[columns[chosen]] = gains, -np.arange(len(chosen))
    return score, order


def _standardised(model: Pipeline, features: np.ndarray) -> tuple[np.ndarray, ...]:
    """Columns (n, p) as a ridge pipeline sees them, with mean 0 and sum of squares 1, and its weights (p, t) on them.

    Also the columns' means and deviations (p,) before.
    """
    prepared = model[:-1].transform(features)
    centre, deviation = prepared.mean(axis=0), prepared.std(axis=0)
    safe = np.where(deviation > 0, deviation, 1.0)
    weights = np.atleast_2d(model[-1].coef_).T * safe[:, None]
    return (prepared - centre) / safe / np.sqrt(len(prepared)), weights, centre, deviation


def projected(teacher: Pipeline, features: np.ndarray, design: np.ndarray, seed: int) -> Pipeline:
    """The ridge pipeline on a design's columns whose predictions are closest to those of a ridge on all columns.

    Closest where columns vary together as in the shrunk covariance, see `greedy_projection`: where the design holds all
    that the teacher uses, the two are equal.

    Parameters
    ----------
    teacher : fitted on features (n, p); design : (p,) boolean
    """
    standard, weights, centre, deviation = _standardised(teacher, features)
    few = standard[:, design]
    shared = few.T @ standard @ weights + SHRINKAGE * weights[design]
    gram = few.T @ few + SHRINKAGE * np.eye(few.shape[1])
    scale = np.where(deviation > 0, deviation, 1.0)[design]
    coefficients = np.linalg.solve(gram, shared).T / scale
    at_centre = np.atleast_2d(teacher[-1].coef_) @ centre + teacher[-1].intercept_
    student = make_regressor("ridge", seed).fit(features[:, design], teacher.predict(features))
    student[-1].coef_ = coefficients.reshape(student[-1].coef_.shape)
    student[-1].intercept_ = (at_centre - coefficients @ centre[design]).reshape(np.shape(student[-1].intercept_))
    return student


def greedy_projection(standard: np.ndarray, covariance: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns in the order in which they best reproduce a predictor, and the share of its variance that each adds.

    The covariance of the columns is taken as Z'Z + SHRINKAGE I: with more columns than tracks the sample's own would
    let any few columns copy the predictions on these tracks, and fail on others.

    Parameters
    ----------
    standard : (n, m) columns with mean 0 and sum of squares 1
    covariance : (m, t) of each column with each target's predictor, over that predictor's deviation and root t
    depth : how many columns to put in order, at most
    """
    n, m = standard.shape
    left, remaining = covariance.copy(), np.full(m, 1 + SHRINKAGE)
    directions = np.empty((min(depth, m), m))
    chosen, gains = [], []
    for step in range(len(directions)):
        gain = np.sum(left**2, axis=1) / remaining
        gain[chosen] = -1.0
        best = int(np.argmax(gain))
        direction = standard.T @ standard[:, best] - directions[:step].T @ directions[:step, best]
        direction[best] += SHRINKAGE
        direction /= np.sqrt(direction[best])
        left -= np.outer(direction, left[best] / direction[best])
        remaining = np.maximum(remaining - direction**2, SHRINKAGE / 2)
        directions[step] = direction
        chosen.append(best)
        gains.append(gain[best])
    return np.array(chosen, dtype=int), np.array(gains)
