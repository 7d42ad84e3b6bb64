"""What parts of the features and the raters' agreement are worth: variants against the whole, on the same folds.

Variants
--------
*without* a perceptual group, *only* one group, *statistic*: one statistic of each descriptor alone. *weighting*: tracks
on whose rating the raters agree count more in training. Every variant is fitted and tested on the same folds as the
whole, and compared with it on the same bootstrap resamples over groups (artist, album), so that an interval of the
difference is much narrower than those of the two scores.

A group that can be left out without loss need not be unimportant: others may say the same. The score of a group alone
is the other side of that.

Weighting
---------
Weight 1 / (s^2 + 1e-6) of a track, s the standard deviation among its raters, clipped to the training part's 1st and
99th percentile and divided by the mean, after G. Kritsovas (https://github.com/Grkritsovas/postgrad-final-project).
Each target has its own weights, so that each has a model of its own, with and without them. Tests are never weighted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.multioutput import MultiOutputRegressor
from sklearn.utils.validation import has_fit_parameter

from mer_core.compute import map_items
from mer_core.datasets.dataset import Dataset
from mer_core.errors import UserError
from mer_core.evaluate.experiment import Data, Plan, fit_folds
from mer_core.evaluate.metrics import METRICS, score_with_intervals
from mer_core.evaluate.significance import COMPARED, paired_bootstrap
from mer_core.models.regressors import FAMILIES, make_regressor

WHOLE, WITHOUT, ONLY, STATISTIC, WEIGHTING = "whole", "without group", "only group", "statistic", "weighting"
KINDS = ("groups", "statistics", "weighting")
NO_SPREAD = 1e-6  # added to the raters' variance, rating points squared
CLIPPED = (0.01, 0.99)  # quantiles of the training part's weights

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Variant:
    """Predictions of one variant, to be compared with those of another.

    predicted : index track_id (tested), columns targets; against : the key (kind, name) of the other, None for none
    """

    kind: str
    name: str
    columns: int
    predicted: pd.DataFrame
    against: tuple[str, str] | None


def column_sets(columns: pd.DataFrame, kinds: tuple[str, ...]) -> dict[tuple[str, str], pd.Index]:
    """The columns of every variant that leaves some out, by (kind, name).

    columns : what each column means, from `describe_columns`

    Raises
    ------
    UserError : groups or statistics are asked for of columns that have only one
    """
    sets = {}
    for label, kind in (("group", "groups"), ("statistic", "statistics")):
        if kind not in kinds:
            continue
        names = list(dict.fromkeys(columns[label]))
        if len(names) < 2:
            raise UserError(
                f"--kinds {kind}: all {len(columns)} columns are of the {label} {names[0]!r}, so that nothing can be "
                "left out; choose features made of stats8 or stats15, or other kinds"
            )
        for name in names:
            inside = columns[label] == name
            if kind == "groups":
                sets[WITHOUT, name], sets[ONLY, name] = columns.index[~inside], columns.index[inside]
            else:
                sets[STATISTIC, name] = columns.index[inside]
    return sets


def column_variants(plan: Plan, data: Data, kinds: tuple[str, ...], progress: Progress) -> list[Variant]:
    """The whole, and every variant of `column_sets`; columns are used as they are, without a reduction."""
    about = data.table.columns.loc[data.features.columns]
    sets = {(WHOLE, "all columns"): about.index} | column_sets(about, kinds)
    variants = []
    for number, ((kind, name), columns) in enumerate(sets.items()):
        progress(number / len(sets), f"{kind} {name}: {len(columns)} columns")
        result = fit_folds(plan, data, False, lambda fraction, _: None, columns)
        table = pd.DataFrame(result.predicted, result.tested, data.ratings.columns)
        variants.append(Variant(kind, name, len(columns), table, None if kind == WHOLE else (WHOLE, "all columns")))
    return variants


def check_weights(family: str, dataset: Dataset, targets: tuple[str, ...]) -> None:
    """Raise UserError where training cannot be weighted: the family takes no weights, or no spread is known."""
    if not takes_weights(family):
        able = ", ".join(name for name in FAMILIES if takes_weights(name))
        raise UserError(f"--model {family} cannot weight tracks: choose from {able}, or leave weighting out of --kinds")
    for target in targets:
        if target not in dataset.spread or dataset.spread[target].nunique() < 2:
            raise UserError(
                f"{dataset.name} has no spread among raters of {target} that differs between tracks, to weight them "
                f"by: give a column {target}_std, or leave weighting out of --kinds"
            )


def takes_weights(family: str) -> bool:
    """Whether a family's regressor can be fitted with weights of tracks."""
    regressor = make_regressor(family, 0)[-1]
    if isinstance(regressor, MultiOutputRegressor):
        regressor = regressor.estimator
    return has_fit_parameter(regressor, "sample_weight")


def rater_weights(spread: np.ndarray) -> np.ndarray:
    """Weights of a training part from the raters' standard deviations (n,); mean 1; a track without one counts 1."""
    weights = 1 / (np.asarray(spread, dtype=float) ** 2 + NO_SPREAD)
    known = np.isfinite(weights)
    if not known.any():
        return np.ones(len(weights))
    weights = np.clip(weights, *np.quantile(weights[known], CLIPPED))
    return np.where(known, weights / weights[known].mean(), 1.0)


def weighting_variants(plan: Plan, data: Data, dataset: Dataset, progress: Progress) -> list[Variant]:
    """One model per target, without and with weights of the training tracks."""
    matrix, index = data.features.to_numpy(), data.features.index
    jobs = [
        (weighted, target, *part[1:]) for weighted in (False, True) for target in data.ratings for part in _rounds(data)
    ]

    def predict(job: tuple) -> np.ndarray:
        weighted, target, train, test = job
        options = {}
        if weighted:
            options["regressor__sample_weight"] = rater_weights(dataset.spread[target].loc[index[train]].to_numpy())
        model = make_regressor(plan.model, plan.seed)
        model.fit(matrix[train], data.ratings[[target]].to_numpy()[train], **options)
        return model.predict(matrix[test]).ravel()

    outcomes = map_items(predict, jobs, plan.workers, lambda done, _: progress(done, "weighting by the raters' spread"))
    tables = [pd.DataFrame(np.nan, index, data.ratings.columns) for _ in range(2)]
    for (weighted, target, _, test), outcome in zip(jobs, outcomes, strict=True):
        if outcome.error is not None:
            raise outcome.error
        tables[weighted].loc[index[test], target] = outcome.value
    off, on = (table.dropna() for table in tables)
    columns = matrix.shape[1]
    return [
        Variant(WEIGHTING, "off", columns, off, None),
        Variant(WEIGHTING, "on", columns, on, (WEIGHTING, "off")),
    ]


def compare_variants(data: Data, variants: list[Variant], resamples: int, seed: int) -> pd.DataFrame:
    """Scores of every variant, and its difference from the one it is compared with.

    Returns
    -------
    Rows kind, name, columns, target, n; for every metric its value, `_low` and `_high` (95 %, bootstrap over groups);
    against (text), for r2, rmse and ccc `_difference` (this - the other), `_difference_low`, `_difference_high`, and
    verdict: "better", "worse" or "" by the interval of r2's difference
    """
    tables = {(one.kind, one.name): _long(data, one.predicted) for one in variants}
    rows = []
    for one in variants:
        true, groups = data.ratings.loc[one.predicted.index], data.groups.loc[one.predicted.index]
        paired = {}
        if one.against is not None:
            paired = paired_bootstrap(tables[one.kind, one.name], tables[one.against], data.groups, resamples, seed)
        for target in true:
            found = score_with_intervals(
                true[target].to_numpy(), one.predicted[target].to_numpy(), groups.to_numpy(), resamples, seed
            )
            row = {"kind": one.kind, "name": one.name, "columns": one.columns, "target": target, "n": found["n"]}
            for metric in METRICS:
                row |= dict(zip((metric, f"{metric}_low", f"{metric}_high"), found[metric], strict=True))
            rows.append(row | _difference(one, paired.get(target)))
    return pd.DataFrame(rows)


def _difference(variant: Variant, paired: dict | None) -> dict:
    names = [f"{metric}_difference{end}" for metric in COMPARED for end in ("", "_low", "_high")]
    if paired is None:
        return {"against": ""} | dict.fromkeys(names, np.nan) | {"verdict": ""}
    values = [value for metric in COMPARED for value in paired[metric]["difference"]]
    verdict = {"a": "better", "b": "worse", None: ""}[paired["r2"]["winner"]]
    return {"against": " ".join(variant.against)} | dict(zip(names, values, strict=True)) | {"verdict": verdict}


def _rounds(data: Data) -> list[tuple]:
    """(part, training tracks (n,) bool, test tracks (n,) bool)."""
    index = data.features.index
    return [(part, index.isin(train), index.isin(test)) for part, train, test in data.split.rounds()]


def _long(data: Data, predicted: pd.DataFrame) -> pd.DataFrame:
    """A prediction table as runs hold it."""
    true = data.ratings.loc[predicted.index]
    return pd.concat(
        pd.DataFrame(
            {
                "track_id": true.index,
                "target": name,
                "true": true[name].to_numpy(),
                "predicted": predicted[name].to_numpy(),
            }
        )
        for name in true
    )
