"""Which columns are enough: designs of few columns, chosen and tested without letting the tested tracks have a say.

Conventions
-----------
A design is a set of columns: the best k of every block (perceptual group, LLD, or all columns as one block). In every
round of a split the columns are ranked on the training part, the number k is chosen by inner folds of the training part
(whose own training parts are ranked anew), and only then are the held-out tracks predicted. The objective is the mean
of the targets' RMSE. Joint means over all targets.

References
----------
G. Cawley & N. Talbot, JMLR 11, 2010 (selection must be inside the folds). L. Breiman et al., Classification and
Regression Trees, 1984 (one standard error: the simplest model that is no worse than the best within its uncertainty).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from mer_core.compute import map_items
from mer_core.errors import UserError
from mer_core.evaluate.cross_validation import CrossValidation
from mer_core.evaluate.experiment import Data
from mer_core.evaluate.metrics import draw_groups, resampled_scores
from mer_core.evaluate.selection_ranking import INNER_TREES, TREES, Ranking, projected, rank_columns
from mer_core.evaluate.splits import grouped_kfold, inner_folds
from mer_core.explain.shapley import explain_regressor
from mer_core.models.regressors import make_regressor

GRANULARITIES = ("group", "lld", "joint")
RULES = ("minimum", "one-se", "largest")
MOST_PER_BLOCK, JOINT_COLUMNS, JOINT_STEPS = 8, 60, 8
INNER_FOLDS, RESAMPLES = 3, 200

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Search:
    """How designs are looked for.

    granularity, ranking, family, seed : see `blocks_of`, `rank_columns`, `make_regressor`
    blocks, groups : (p,) block and perceptual group of each column
    sizes : numbers k of columns per block that are tried, ascending
    rule : "minimum" of the objective; "one-se": the smallest k within one standard error of it; "largest": of all
        tried, which is no choice
    fit : what a model on few columns learns, the ratings or what a `teacher` makes of them
    decorrelated : rank only columns that do not repeat an earlier one of their group in the training part
    """

    granularity: str
    ranking: str
    family: str
    seed: int
    blocks: np.ndarray
    groups: np.ndarray
    sizes: tuple[int, ...]
    rule: str
    fit: str = "ratings"
    decorrelated: bool = False

    def rank(
        self, features: np.ndarray, ratings: np.ndarray, medians: np.ndarray | None = None, trees: int = TREES
    ) -> Ranking:
        """Rank all columns on these tracks."""
        where = self.blocks, self.groups, self.ranking, self.seed
        return rank_columns(features, ratings, *where, medians, self.decorrelated, trees)

    def teacher(self, features: np.ndarray, ratings: np.ndarray) -> Pipeline | None:
        """Ridge on all columns, whose predictions models on few columns learn; None where they learn the ratings."""
        return None if self.fit == "ratings" else make_regressor("ridge", self.seed).fit(features, ratings)

    def fitted(
        self, features: np.ndarray, ratings: np.ndarray, design: np.ndarray, teacher: Pipeline | None
    ) -> Pipeline:
        """The family's model on a design's columns: features (n, p), design (p,) boolean."""
        if teacher is not None and self.family == "ridge":
            return projected(teacher, features, design, self.seed)
        learned = ratings if teacher is None else teacher.predict(features).reshape(ratings.shape)
        return make_regressor(self.family, self.seed).fit(features[:, design], learned)


@dataclass(frozen=True)
class Choice:
    """Objective of every k on tracks that their models had not seen, and what the rules make of it.

    joint, deviation : (sizes,) objective and its standard error over groups; picked : position of each rule's k
    """

    joint: np.ndarray
    deviation: np.ndarray
    picked: dict[str, int]


@dataclass(frozen=True)
class Round:
    """One training part: its ranking, and every k tried inside it and on the tracks held out.

    inner : (n, t, sizes) predictions of the training tracks by inner models; outer : (m, t, sizes) of the held-out ones
    validation : (v, t) errors of the chosen design on a validation part; base, values : SHAP values of its predictions
    """

    part: int | str
    train: np.ndarray
    test: np.ndarray
    ranking: Ranking
    inner: np.ndarray
    outer: np.ndarray
    choice: Choice
    validation: np.ndarray | None = None
    base: np.ndarray | None = None
    values: np.ndarray | None = None


def blocks_of(columns: pd.DataFrame, granularity: str) -> np.ndarray:
    """Block of each column; columns : from `describe_columns`. "joint" puts all into one."""
    if granularity not in GRANULARITIES:
        raise UserError(f"granularity {granularity!r} is unknown: choose from {', '.join(GRANULARITIES)}")
    if granularity == "joint":
        return np.full(len(columns), "all")
    return columns[granularity].to_numpy().astype(str)


def sizes_of(blocks: np.ndarray, granularity: str, k: int, budget: int) -> tuple[int, ...]:
    """Numbers of columns per block to try.

    Parameters
    ----------
    blocks : (p,) from `blocks_of`
    k : the largest; 0 for 8, or the largest block where that is smaller. Not for "joint"
    budget : columns in all, at most; 0 for no limit (60 for "joint", which tries eight steps up to it)

    Raises
    ------
    UserError : k beyond the largest block, or a budget that no k fits
    """
    counts = np.unique(blocks, return_counts=True)[1]
    if k < 0 or budget < 0:
        raise UserError(f"--k {k} and --columns {budget} must not be negative; 0 leaves them to the program")
    if granularity == "joint":
        if k:
            raise UserError(
                f"--k {k} counts columns per block; with --granularity joint give their number by --columns"
            )
        if budget > len(blocks):
            raise UserError(f"--columns {budget} is beyond the {len(blocks)} columns there are; give fewer")
        most = budget or min(JOINT_COLUMNS, len(blocks))
        return tuple(sorted({max(1, round(most * step / JOINT_STEPS)) for step in range(1, JOINT_STEPS + 1)}))
    if k > counts.max():
        raise UserError(
            f"--k {k} is beyond what exists: the largest {granularity} has {counts.max()} columns; give less"
        )
    sizes = range(1, (k or min(MOST_PER_BLOCK, int(counts.max()))) + 1)
    fitting = tuple(size for size in sizes if not budget or np.minimum(counts, size).sum() <= budget)
    if not fitting:
        raise UserError(
            f"--columns {budget} is less than one column for each of {len(counts)} {granularity}s; give at least "
            f"{len(counts)}, or --granularity joint"
        )
    return fitting


def choose_size(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray, seed: int) -> Choice:
    """Objective of every k with its standard error (bootstrap over groups), and the k of each rule.

    Parameters
    ----------
    truth : (n, t); predicted : (n, t, sizes), sizes ascending; groups : (n,)
    """
    codes = np.unique(groups.astype(str), return_inverse=True)[1]
    draws = draw_groups(int(codes.max()) + 1, RESAMPLES, seed)
    joint = np.sqrt(np.mean((truth[:, :, None] - predicted) ** 2, axis=0)).mean(axis=0)
    deviation = np.array(
        [
            np.mean(
                [resampled_scores(y, p, codes, draws, ("rmse",))["rmse"] for y, p in zip(truth.T, one.T, strict=True)],
                axis=0,
            ).std()
            for one in np.moveaxis(predicted, 2, 0)
        ]
    )
    best = int(np.argmin(joint))
    enough = np.flatnonzero(joint <= joint[best] + deviation[best])
    return Choice(joint, deviation, {"minimum": best, "one-se": int(enough[0]), "largest": len(joint) - 1})


def search_designs(
    data: Data, search: Search, explain: bool, workers: int | None = None, progress: Progress | None = None
) -> list[Round]:
    """Every round of the split, each from its own training part alone; UserError where a part cannot be folded again.

    explain : SHAP values of the predictions that the chosen design makes
    """
    checked = data.features.index.isin(data.split.members("validation"))

    def one_round(job: tuple) -> Round:
        part, train, test = job
        return _search_round(
            data, search, part, *(data.features.index.isin(ids) for ids in (train, test)), checked, explain
        )

    outcomes = map_items(one_round, data.split.rounds(), workers, progress)
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    return [outcome.value for outcome in outcomes]


def _search_round(
    data: Data, search: Search, part: int | str, train: np.ndarray, test: np.ndarray, checked: np.ndarray, explain: bool
) -> Round:
    matrix, truth = data.features.to_numpy(), data.ratings.to_numpy()
    x, y = matrix[train], truth[train]
    groups, ratings = data.groups[train], data.ratings[train]
    if groups.nunique() < INNER_FOLDS:
        raise UserError(
            f"a training part of {len(groups)} tracks has {groups.nunique()} groups, and the number of columns is "
            f"chosen by {INNER_FOLDS} folds inside it: give tracks of more groups"
        )
    inner = inner_folds(groups, ratings, INNER_FOLDS, search.seed).assignment.loc[ratings.index].to_numpy()
    held_in = np.empty((*y.shape, len(search.sizes)))
    for fold in range(INNER_FOLDS):
        rest = inner != fold
        ranking = search.rank(x[rest], y[rest], trees=INNER_TREES)
        held_in[~rest] = predict_designs(search, ranking, x[rest], y[rest], x[~rest])[1]
    choice = choose_size(y, held_in, groups.to_numpy(), search.seed)
    ranking = search.rank(x, y)
    models, outer = predict_designs(search, ranking, x, y, matrix[test])
    position = choice.picked[search.rule]
    model, design = models[position], ranking.design(search.sizes[position])
    base = values = errors = None
    if checked.any():
        errors = truth[checked] - model.predict(matrix[checked][:, design]).reshape(checked.sum(), -1)
    if explain:
        base, few = explain_regressor(model, x[:, design], matrix[test][:, design])
        values = np.zeros((len(few), matrix.shape[1], few.shape[2]))
        values[:, design] = few
    return Round(part, train, test, ranking, held_in, outer, choice, errors, base, values)


def predict_designs(
    search: Search, ranking: Ranking, x: np.ndarray, y: np.ndarray, unseen: np.ndarray
) -> tuple[list[Pipeline], np.ndarray]:
    """Models of every size, fitted on x (n, p) and y (n, t), and their predictions (m, t, sizes) of `unseen` (m, p)."""
    teacher, models = search.teacher(x, y), []
    predicted = np.empty((len(unseen), y.shape[1], len(search.sizes)))
    for position, size in enumerate(search.sizes):
        design = ranking.design(size)
        if not design.any():
            raise UserError("every feature column is the same for all tracks of a training part; check the features")
        models.append(search.fitted(x, y, design, teacher))
        predicted[:, :, position] = models[-1].predict(unseen[:, design]).reshape(len(unseen), -1)
    return models, predicted


def as_cross_validation(data: Data, search: Search, rounds: list[Round], rule: str | None = None) -> CrossValidation:
    """Predictions of the held-out tracks by the design that each round chose by a rule (the search's own when None)."""
    rule = rule or search.rule
    tested = np.any([one.test for one in rounds], axis=0)
    predicted = np.full(data.ratings.shape, np.nan)
    fold = np.full(len(tested), None, dtype=object)
    explained = rule == search.rule and rounds[0].values is not None
    base = np.full(data.ratings.shape, np.nan)
    values = np.zeros((len(tested), data.features.shape[1], data.ratings.shape[1])) if explained else None
    for one in rounds:
        predicted[one.test] = one.outer[:, :, one.choice.picked[rule]]
        fold[one.test] = one.part
        if explained:
            base[one.test], values[one.test] = one.base, one.values
    chosen = tuple({"k": search.sizes[one.choice.picked[rule]]} for one in rounds)
    return CrossValidation(
        data.features.index[tested],
        fold[tested],
        predicted[tested],
        base[tested] if explained else None,
        values[tested] if explained else None,
        chosen,
        rounds[0].validation if rule == search.rule else None,
    )


def final_ranking(data: Data, search: Search) -> Ranking:
    """Ranking on all tracks that may be developed on: all of folds; train and validation of a hold-out.

    Missing values are filled with the medians of the training part.
    """
    test = data.features.index.isin(data.split.members("test"))
    train = data.features.index.isin(data.split.members("train"))
    medians = data.features[train if train.any() else ~test].median().to_numpy()
    return search.rank(data.features[~test].to_numpy(), data.ratings[~test].to_numpy(), medians)


def final_model(data: Data, search: Search, design: np.ndarray) -> Pipeline:
    """The model for new files: the design's columns (p,) boolean, fitted on all tracks."""
    matrix, truth = data.features.to_numpy(), data.ratings.to_numpy()
    return search.fitted(matrix, truth, design, search.teacher(matrix, truth))


def final_choice(data: Data, search: Search, rounds: list[Round]) -> Choice:
    """Size of the final design: chosen on the held-out tracks of all folds; in a hold-out on inner folds."""
    if len(rounds) == 1:
        return rounds[0].choice
    predicted = np.full((*data.ratings.shape, len(search.sizes)), np.nan)
    for one in rounds:
        predicted[one.test] = one.outer
    return choose_size(data.ratings.to_numpy(), predicted, data.groups.to_numpy(), search.seed)


def repeated_designs(
    data: Data, search: Search, rounds: list[Round], k: int, repeats: int, workers: int | None, progress: Progress
) -> pd.DataFrame:
    """Designs of size k of all folds: (selections, p) boolean, index (repeat, fold), columns as the features.

    Repeat 0 is the search itself; further ones deal the tracks anew (seed + repeat), without those of a test part, and
    only rank.
    """
    keys = [(0, str(one.part)) for one in rounds]
    designs = [one.ranking.design(k) for one in rounds]
    kept = ~data.features.index.isin(data.split.members("test"))
    features, ratings, groups = data.features[kept], data.ratings[kept], data.groups[kept]
    jobs = []
    for repeat in range(1, repeats):
        folds = grouped_kfold(groups, ratings, len(rounds) if len(rounds) > 1 else 5, search.seed + repeat)
        jobs += [(repeat, str(fold), features.index.isin(train)) for fold, train, _ in folds.rounds()]

    def one_design(job: tuple) -> np.ndarray:
        return search.rank(features.to_numpy()[job[2]], ratings.to_numpy()[job[2]]).design(k)

    for outcome in map_items(one_design, jobs, workers, progress):
        if outcome.error is not None:
            raise outcome.error
        keys.append(outcome.item[:2])
        designs.append(outcome.value)
    index = pd.MultiIndex.from_tuples(keys, names=["repeat", "fold"])
    return pd.DataFrame(np.array(designs), index=index, columns=data.features.columns)
