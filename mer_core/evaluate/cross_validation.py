"""Train and test a regressor under a protocol, so that every prediction is made for a track its model has not seen.

Everything that is fitted (imputer, scaler, regressor, and the grid search of the nested protocol) is fitted on the
training part of its fold alone. Each track's attribution explains the very prediction that is scored: that of its own
fold's model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mer_core.compute import map_items
from mer_core.evaluate.splits import Split, inner_folds
from mer_core.explain.shapley import explain_regressor
from mer_core.models.regressors import FAMILIES, make_regressor

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold results, rows in the order of the feature table.

    predicted : (n, t) on the rating scale
    base, values : (n, t) and (n, p, t) attributions, or None when none were asked for
    chosen : parameters that the nested protocol chose in each fold
    """

    predicted: np.ndarray
    base: np.ndarray | None
    values: np.ndarray | None
    chosen: tuple[dict, ...]


def cross_validate(
    features: pd.DataFrame,
    ratings: pd.DataFrame,
    groups: pd.Series,
    split: Split,
    family: str,
    seed: int,
    *,
    tune: bool = False,
    explain: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> CrossValidation:
    """Fit one model per fold, predict its held-out tracks and, when asked, explain those predictions.

    features : (n, p) index track_id; ratings : (n, t) same index; groups : same index
    tune : choose the family's parameters inside each training part by grouped folds (nested cross-validation)
    """
    folds = split.assignment.loc[features.index].to_numpy()
    matrix, truth = features.to_numpy(), ratings.to_numpy()
    names = sorted(set(folds))

    def one_fold(fold: int) -> tuple:
        train, test = folds != fold, folds == fold
        parameters = choose_parameters(features[train], ratings[train], groups[train], family, seed) if tune else {}
        model = make_regressor(family, seed, **parameters).fit(matrix[train], truth[train])
        predicted = model.predict(matrix[test]).reshape(test.sum(), -1)
        base, values = explain_regressor(model, matrix[train], matrix[test]) if explain else (None, None)
        return test, predicted, base, values, parameters

    predicted = np.full(truth.shape, np.nan)
    bases = np.full(truth.shape, np.nan) if explain else None
    attributions = np.zeros((*matrix.shape, truth.shape[1])) if explain else None
    chosen = []
    for outcome in map_items(one_fold, names, workers=workers, progress=progress):
        if outcome.error is not None:
            raise outcome.error
        test, predicted[test], base, values, parameters = outcome.value
        chosen.append(parameters)
        if explain:
            bases[test], attributions[test] = base, values
    return CrossValidation(predicted, bases, attributions, tuple(chosen))


def choose_parameters(
    features: pd.DataFrame, ratings: pd.DataFrame, groups: pd.Series, family: str, seed: int, folds: int = 3
) -> dict:
    """Parameters from the family's grid with the lowest error over inner grouped folds, all targets counting equally.

    The error is the mean squared error of each target divided by its variance, averaged over targets.
    """
    inner = inner_folds(groups, ratings, folds=folds, seed=seed).assignment.loc[features.index].to_numpy()
    matrix, truth = features.to_numpy(), ratings.to_numpy()

    def error(parameters: dict) -> float:
        predicted = np.empty_like(truth)
        for fold in range(folds):
            train, test = inner != fold, inner == fold
            model = make_regressor(family, seed, **parameters).fit(matrix[train], truth[train])
            predicted[test] = model.predict(matrix[test]).reshape(test.sum(), -1)
        return float(np.mean(np.mean((predicted - truth) ** 2, axis=0) / truth.var(axis=0)))

    grid = FAMILIES[family].grid
    return min(grid, key=error) if len(grid) > 1 else {}


def constant_predictions(ratings: pd.DataFrame, split: Split) -> np.ndarray:
    """Each held-out track gets the mean rating of its fold's training part: what a model must beat. Shape (n, t)."""
    folds = split.assignment.loc[ratings.index].to_numpy()
    truth = ratings.to_numpy()
    predicted = np.empty_like(truth)
    for fold in set(folds):
        predicted[folds == fold] = truth[folds != fold].mean(axis=0)
    return predicted
