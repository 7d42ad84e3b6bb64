"""Many feature tables x many families on one dataset: each cell tested once, each judged inside the training parts.

In every round of the split a cell is fitted once on the whole training part, to predict the held-out tracks, and once
on each inner training part, to predict the training tracks of the inner fold left out. The second kind, *inner*
predictions, know nothing of the held-out tracks: what is chosen by them can be tested on those.

All cells share the tracks, the folds and the inner folds. Families that share a table share its imputation, reduction
and scaling, which are fitted once per training part; families run with their default parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mer_core.compute import map_items
from mer_core.errors import UserError
from mer_core.evaluate.splits import Split, inner_folds
from mer_core.features import FeatureTable
from mer_core.models.preparation import reducing_part
from mer_core.models.regressors import FAMILIES, make_regressor

Progress = Callable[[float, str], None]
INNER_FOLDS = 3
LEAST_SHARED = 0.9  # of the most complete table's tracks; a table with fewer would cost the others their tracks
MEANS = {"blend": ("ridge", "boosting")}  # families that predict the mean of others, which need no fit of their own


@dataclass(frozen=True)
class Configuration:
    """Features as named, their table, and the reduction that is fitted on each training part (or None)."""

    name: str
    table: FeatureTable
    reduction: str | None = None


@dataclass(frozen=True)
class Cell:
    """One configuration with one family.

    predicted : (n, t) out-of-fold predictions on the rating scale
    loss : (rounds, n) squared error of the inner prediction of each training track, divided by the variance of the
        ratings of the training part, mean over targets; NaN for the round's held-out tracks
    columns : columns or components that the regressor keeps, median over rounds
    seconds : processor time that fitting and predicting took, without what families share
    """

    features: str
    model: str
    predicted: np.ndarray
    loss: np.ndarray
    columns: int
    seconds: float


@dataclass(frozen=True)
class Matrix:
    """Cells of one dataset, all on the same tracks: ratings (n, t), groups (n,), fold (n,) of each.

    refused : {configuration: why it could not be served}
    """

    cells: tuple[Cell, ...]
    ratings: pd.DataFrame
    groups: pd.Series
    fold: np.ndarray
    refused: dict[str, str]


def complete_tables(tables: dict[str, FeatureTable], rated: pd.Index) -> tuple[dict[str, FeatureTable], dict[str, str]]:
    """Tables that hold nearly as many of the rated tracks as the most complete one, and why the others are refused."""
    has = {name: int(rated.isin(table.values.index).sum()) for name, table in tables.items()}
    most = max(has.values(), default=0)
    kept = {name: table for name, table in tables.items() if has[name] >= LEAST_SHARED * most > 0}
    refused = {
        name: f"it has features of {has[name]} rated tracks, others of {most}; compare it in a run of its own"
        for name in tables
        if name not in kept
    }
    return kept, refused


def fit_matrix(
    configurations: list[Configuration],
    models: tuple[str, ...],
    ratings: pd.DataFrame,
    groups: pd.Series,
    split: Split,
    seed: int,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Matrix:
    """Fit and test every configuration with every family.

    Parameters
    ----------
    configurations : whose tables hold all tracks of `ratings`
    models : keys of `FAMILIES`
    ratings : (n, t), index track_id, no gaps; groups : same index
    split : folds of these tracks

    Raises
    ------
    UserError : an unknown family, groups too few for the inner folds, or no configuration that can be served
    """
    if unknown := [name for name in models if name not in FAMILIES]:
        raise UserError(f"model {unknown[0]!r} is unknown: choose from {', '.join(FAMILIES)}")
    truth = ratings.to_numpy(float)
    fold = split.assignment.loc[ratings.index].to_numpy()
    parts = [_training_parts(fold, number, ratings, groups, seed) for number in split.parts]
    jobs = [(one, number) for one in configurations for number in range(len(parts))]

    def one_round(job: tuple[Configuration, int]) -> list[_Fit]:
        one, number = job
        matrix = one.table.values.loc[ratings.index].to_numpy()
        return [_fit(one, models, matrix, truth, train, test, seed) for train, test in parts[number]]

    done: dict[str, list[list[_Fit]]] = {one.name: [] for one in configurations}
    refused = {}
    for outcome in map_items(one_round, jobs, workers=workers, progress=progress):
        if isinstance(outcome.error, UserError):
            refused[outcome.item[0].name] = str(outcome.error)
        elif outcome.error is not None:
            raise outcome.error
        else:
            done[outcome.item[0].name].append(outcome.value)
    served = [name for name in done if name not in refused]
    if not served:
        raise UserError(f"no features can be served; {next(iter(refused))}: {next(iter(refused.values()))}")
    cells = tuple(cell for name in served for cell in _cells(name, models, done[name], truth))
    return Matrix(cells, ratings, groups, fold, refused)


@dataclass(frozen=True)
class _Fit:
    """One training part: which rows were predicted, and by family predictions, columns kept, processor time (s)."""

    train: np.ndarray
    test: np.ndarray
    predicted: dict[str, np.ndarray]
    columns: dict[str, int]
    seconds: dict[str, float]


def _training_parts(
    fold: np.ndarray, number: int, ratings: pd.DataFrame, groups: pd.Series, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, test) masks of a round: first the round itself, then its inner folds."""
    train = fold != number
    names = ratings.index[train]
    inner = inner_folds(groups.loc[names], ratings.loc[names], INNER_FOLDS, seed).assignment
    inner = inner.reindex(ratings.index).to_numpy(float)  # NaN: held out
    return [(train, ~train), *((train & (inner != left), inner == left) for left in range(INNER_FOLDS))]


def _fit(
    one: Configuration,
    models: tuple[str, ...],
    matrix: np.ndarray,
    truth: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    seed: int,
) -> _Fit:
    predicted, columns, seconds = {}, {}, {}
    columns_of = one.table.columns.loc[one.table.values.columns]
    for name, estimator, seen, new in _prepared(one.reduction, columns_of, models, matrix, truth, train, test, seed):
        started = time.thread_time()
        estimator.fit(seen, truth[train])
        predicted[name] = estimator.predict(new).reshape(test.sum(), -1)
        columns[name], seconds[name] = _kept(estimator, seen.shape[1]), time.thread_time() - started
    for name in models:
        if name in MEANS:
            members = MEANS[name]
            predicted[name] = np.mean([predicted[member] for member in members], axis=0)
            columns[name], seconds[name] = columns[members[0]], sum(seconds[member] for member in members)
    return _Fit(train, test, predicted, columns, seconds)


def _prepared(
    reduction: str | None,
    columns: pd.DataFrame,
    models: tuple[str, ...],
    matrix: np.ndarray,
    truth: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    seed: int,
) -> Iterator[tuple[str, object, np.ndarray, np.ndarray]]:
    """Each family that is to be fitted, its estimator, and what it sees of training and test rows."""
    wanted = dict.fromkeys(member for name in models for member in MEANS.get(name, (name,)))
    pipelines = {name: make_regressor(name, seed, reduction=reduction, columns=columns) for name in wanted}
    steps = reducing_part(next(iter(pipelines.values())))
    plain = steps.fit_transform(matrix[train], truth[train]), steps.transform(matrix[test])
    prepared = {repr([]): plain}
    for name, pipeline in pipelines.items():
        rest = pipeline[len(steps) : -1]
        key = repr(rest.steps)  # families whose further steps are alike share them
        if key not in prepared:
            prepared[key] = rest.fit_transform(plain[0], truth[train]), rest.transform(plain[1])
        yield name, pipeline[-1], *prepared[key]


def _kept(estimator: object, columns: int) -> int:
    """Columns with a weight in a sparse linear model; all that it was given for every other kind."""
    weights = getattr(estimator, "coef_", None)
    return columns if weights is None else int(np.any(np.atleast_2d(weights) != 0, axis=0).sum())


def _cells(name: str, models: tuple[str, ...], rounds: list[list[_Fit]], truth: np.ndarray) -> list[Cell]:
    cells = []
    for model in models:
        predicted, loss = np.full(truth.shape, np.nan), np.full((len(rounds), len(truth)), np.nan)
        for row, (outer, *inner) in enumerate(rounds):
            predicted[outer.test] = outer.predicted[model]
            spread = truth[outer.train].var(axis=0)
            for fit in inner:
                squared = (truth[fit.test] - fit.predicted[model]) ** 2
                loss[row, fit.test] = (squared / np.where(spread > 0, spread, 1.0)).mean(axis=1)
        columns = int(np.median([fits[0].columns[model] for fits in rounds]))
        seconds = sum(fit.seconds[model] for fits in rounds for fit in fits)
        cells.append(Cell(name, model, predicted, loss, columns, seconds))
    return cells
