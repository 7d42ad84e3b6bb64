"""Train and test a regressor under a protocol: every prediction is made for a track that its model has not seen.

Everything that is fitted (imputer, reduction, scaler, regressor, and the grid search of the nested protocol) is fitted
on the training part of its fold alone. Each track's attribution explains the very prediction that is scored: that of
its own fold's model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from mer_core.compute import Outcome, map_items
from mer_core.evaluate.significance import permutation_test
from mer_core.evaluate.splits import Split, inner_folds
from mer_core.explain.components import Components, component_scores, merge_folds
from mer_core.explain.grouped import explain_groups
from mer_core.explain.shapley import explain_regressor
from mer_core.models.regressors import FAMILIES, make_regressor, width

Progress = Callable[[float, str], None]
RIDGE_AT_ONCE = 50  # permutations


@dataclass(frozen=True)
class CrossValidation:
    """Predictions of tracks by models that have not seen them.

    tested : ids of the tracks that were held out by some model, in the order of the feature table
    fold : (n,) the fold or part that each was held out in
    predicted : (n, t) on the rating scale
    base, values : (n, t) and (n, p, t) attributions, or None when none were asked for; (n, q, t) with `components`,
        (n, G, t) of groups
    chosen : parameters that were tuned in each round, empty dicts where nothing was
    validation : (m, t) errors (true - predicted) on the validation part of a hold-out, None for folds
    chunks : where tracks were cut and their predictions averaged, the predictions of the chunks
    n_inputs : columns or components that the regressor of each round saw
    components : what the attributions belong to where models work on components, else None
    """

    tested: pd.Index
    fold: np.ndarray
    predicted: np.ndarray
    base: np.ndarray | None
    values: np.ndarray | None
    chosen: tuple[dict, ...]
    validation: np.ndarray | None = None
    chunks: CrossValidation | None = None
    n_inputs: tuple[int, ...] = ()
    components: Components | None = None


@dataclass(frozen=True)
class _Round:
    """One model's tracks (n,) bool, its predictions of them, their attributions, and how it came about."""

    test: np.ndarray
    predicted: np.ndarray
    base: np.ndarray | None
    values: np.ndarray | None
    parameters: dict
    errors: np.ndarray | None
    model: Pipeline
    scores: pd.DataFrame | None


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
    reduction: str | None = None,
    columns: pd.DataFrame | None = None,
    components: Mapping[int | str, int] | None = None,
    together: Sequence[str] | None = None,
) -> CrossValidation:
    """Fit one model per round of the split, predict its held-out tracks and, when asked, explain those predictions.

    features : (n, p) index track_id; ratings : (n, t) same index; groups : same index
    tune : choose the family's parameters inside each training part by grouped folds (nested cross-validation)
    reduction, columns : as in `make_regressor`
    components : of each round, by its part; how many are kept (of each group), where that is known beforehand
    together : (p,) group of each column, to explain whole groups instead of columns or components
    """
    matrix, truth = features.to_numpy(), ratings.to_numpy()
    checked = features.index.isin(split.members("validation"))
    kind = {"reduction": reduction, "columns": columns}

    def one_round(job: tuple) -> _Round:
        part, train, test = job
        train, test = features.index.isin(train), features.index.isin(test)
        tuned = choose_parameters(features[train], ratings[train], groups[train], family, seed, **kind) if tune else {}
        model = make_regressor(family, seed, **kind, **tuned)
        if components is not None:
            model.set_params(reduce__components=components[part])
            tuned = tuned | {"components": components[part]}
        model.fit(matrix[train], truth[train])
        predicted = model.predict(matrix[test]).reshape(test.sum(), -1)
        base = values = None
        if explain:
            base, values = _attribute(model, matrix[train], matrix[test], together, seed)
        errors = truth[checked] - model.predict(matrix[checked]).reshape(checked.sum(), -1) if checked.any() else None
        scores = component_scores(model, matrix) if explain and together is None else None
        return _Round(test, predicted, base, values, tuned, errors, model, scores)

    outcomes = map_items(one_round, split.rounds(), workers=workers, progress=progress)
    return _gathered(outcomes, features, truth, columns, explain)


def _attribute(
    model: Pipeline, background: np.ndarray, rows: np.ndarray, together: Sequence[str] | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    if together is None:
        return explain_regressor(model, background, rows)
    return explain_groups(model, background, rows, together, seed)


def _gathered(
    outcomes: list[Outcome], features: pd.DataFrame, truth: np.ndarray, columns: pd.DataFrame | None, explain: bool
) -> CrossValidation:
    """The rounds' predictions and attributions in the order of the tracks."""
    predicted = np.full(truth.shape, np.nan)
    fold = np.full(len(features), None, dtype=object)
    rounds = []
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        rounds.append(outcome.value)
        predicted[outcome.value.test], fold[outcome.value.test] = outcome.value.predicted, outcome.item[0]
    held = np.array([part is not None for part in fold])
    base = values = found = None
    if explain:
        base, values, found = _attributions(rounds, held, features.to_numpy(), truth, columns)
    return CrossValidation(
        features.index[held],
        fold[held],
        predicted[held],
        base,
        values,
        tuple(one.parameters for one in rounds),
        rounds[-1].errors,
        n_inputs=tuple(width(one.model) for one in rounds),
        components=found,
    )


def _attributions(
    rounds: list[_Round], held: np.ndarray, matrix: np.ndarray, truth: np.ndarray, columns: pd.DataFrame | None
) -> tuple[np.ndarray, np.ndarray, Components | None]:
    """Base (n, t), values (n, p or q, t) and, where there are any, the components, of the tracks that were held out."""
    base = np.full(truth.shape, np.nan)
    for one in rounds:
        base[one.test] = one.base
    if rounds[0].scores is not None:
        found = merge_folds(rounds[0].model, matrix, columns, [(one.test, one.scores, one.values) for one in rounds])
        found = Components(found.about, found.scores[held], found.values[held])
        return base[held], found.values, found
    values = np.zeros((len(matrix), *rounds[0].values.shape[1:]))
    for one in rounds:
        values[one.test] = one.values
    return (base, values, None) if held.all() else (base[held], values[held], None)


def per_track(result: CrossValidation, owners: pd.Series) -> CrossValidation:
    """Mean prediction of each track's chunks, with the fold of its first; owners : track of each chunk."""
    tracks = owners[result.tested].to_numpy()
    table = pd.DataFrame(result.predicted).groupby(tracks, sort=False).mean()
    folds = pd.Series(result.fold).groupby(tracks, sort=False).first()
    return CrossValidation(
        table.index,
        folds.to_numpy(),
        table.to_numpy(),
        None,
        None,
        result.chosen,
        chunks=result,
        n_inputs=result.n_inputs,
    )


def permutation_scores(
    features: pd.DataFrame,
    ratings: pd.DataFrame,
    groups: pd.Series,
    split: Split,
    family: str,
    seed: int,
    permutations: int,
    *,
    tune: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    reduction: str | None = None,
    columns: pd.DataFrame | None = None,
) -> dict:
    """Permutation test of the R2 that `cross_validate` reaches, see `significance.permutation_test`.

    Ridge fits many permutations at once, as further targets, since its targets do not interact.
    """
    at_once, calls = (RIDGE_AT_ONCE if family == "ridge" else 1), [0]
    tested = np.isin(features.index, np.concatenate([test for _, _, test in split.rounds()]))

    options = {"tune": tune, "workers": workers, "reduction": reduction, "columns": columns}

    def predict(exchanged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if progress:
            progress(min(calls[0] * at_once / (permutations + 1), 1.0), f"exchanging ratings {permutations} times")
        calls[0] += 1
        table = pd.DataFrame(exchanged, index=features.index).rename(columns=str)
        result = cross_validate(features, table, groups, split, family, seed, **options)
        return tested, result.predicted

    return permutation_test(predict, ratings, groups, permutations, seed, at_once)


def choose_parameters(
    features: pd.DataFrame,
    ratings: pd.DataFrame,
    groups: pd.Series,
    family: str,
    seed: int,
    folds: int = 3,
    reduction: str | None = None,
    columns: pd.DataFrame | None = None,
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
            model = make_regressor(family, seed, reduction=reduction, columns=columns, **parameters)
            model.fit(matrix[train], truth[train])
            predicted[test] = model.predict(matrix[test]).reshape(test.sum(), -1)
        return float(np.mean(np.mean((predicted - truth) ** 2, axis=0) / truth.var(axis=0)))

    grid = FAMILIES[family].grid
    return min(grid, key=error) if len(grid) > 1 else {}


def constant_predictions(ratings: pd.DataFrame, split: Split) -> pd.DataFrame:
    """Mean rating of each round's training part for its held-out tracks: what a model must beat. Index as tested."""
    rounds = [
        pd.DataFrame(np.tile(ratings.loc[train].mean().to_numpy(), (len(test), 1)), index=test, columns=ratings.columns)
        for _, train, test in split.rounds()
    ]
    predicted = pd.concat(rounds)
    return predicted.loc[ratings.index[ratings.index.isin(predicted.index)]]
