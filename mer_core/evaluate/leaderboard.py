"""Which cell of a matrix is best, by how much, and which can be understood best among those about as good.

Conventions
-----------
Nothing is chosen by the scores that are reported. A cell's *inner score* is 1 minus its inner loss (see `matrix`), mean
over training tracks: R2 averaged over targets, inside the training parts. The *choice* is the cell with the best inner
score over all rounds; since it saw every track in some round, its own outer score is slightly too good. The honest
score of choosing is that of the *procedure*: in each round, the cell with the best inner score of that round predicts
the held-out tracks.

One-standard-error rule: cells whose inner loss is at most one standard error above the lowest are about as good; the
error of the mean loss treats a group's tracks as one piece of evidence (cluster-robust).

References
----------
S. Varma & R. Simon, BMC Bioinformatics 7, 2006 (nested cross-validation). L. Breiman et al., Classification and
Regression Trees, 1984, sec. 3.4.3 (one standard error).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mer_core.evaluate.matrix import Cell, Configuration, Matrix
from mer_core.evaluate.metrics import ccc, draw_groups, pearson, r2, resampled_scores, rmse
from mer_core.evaluate.significance import paired_bootstrap
from mer_core.models.regressors import FAMILIES

REPORTED = {"r2": r2, "rmse": rmse, "ccc": ccc, "pearson": pearson}
LEVEL = 0.95

# Easier to understand first; cells are compared by the kind of explanation, then what a column is, then how the weights
# are had, then how many columns there are.
EXACT = {"linear": 0, "tree": 0, "mixed": 0, None: 1}
COLUMN_KINDS = ("named", "component of one perceptual group", "component of all columns", "embedding")
READ = {"linear": 0, "tree": 1, "mixed": 2, None: 3}
RULE = (
    "exact SHAP values before none; named columns before components of one perceptual group, of all columns, and "
    "embeddings; linear models before trees and mixtures; then fewer columns"
)


def column_kind(configuration: Configuration) -> str:
    """What a column of a configuration is, one of `COLUMN_KINDS`; tags of a network have names."""
    table = configuration.table
    if table.columns["group"].isin([each["name"] for each in table.weights]).any():
        return COLUMN_KINDS[3]
    return {"group-pca": COLUMN_KINDS[1], "global-pca": COLUMN_KINDS[2]}.get(configuration.reduction, COLUMN_KINDS[0])


def interpretability(cell: Cell, kind: str) -> tuple[int, int, int, int]:
    """Sorts cells, the easiest to understand first, by `RULE`."""
    explainer = FAMILIES[cell.model].explainer
    return EXACT[explainer], COLUMN_KINDS.index(kind), READ[explainer], cell.columns


def inner_scores(matrix: Matrix, row: int | None = None) -> np.ndarray:
    """Inner score of each cell: of one round, or over all of them."""
    return np.array([1 - _track_loss(cell, row)[1].mean() for cell in matrix.cells])


def standard_error(matrix: Matrix, cell: Cell, row: int | None = None) -> float:
    """Of the mean inner loss of a cell, groups being the independent units."""
    rows, loss = _track_loss(cell, row)
    sums = pd.Series(loss - loss.mean()).groupby(matrix.groups.to_numpy()[rows].astype(str)).sum()
    count = len(sums)
    return float(np.sqrt((sums**2).sum() * count / max(count - 1, 1)) / len(loss))


def _track_loss(cell: Cell, row: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Tracks with an inner prediction (mask), and their loss, mean over the rounds where there are several."""
    table = cell.loss if row is None else cell.loss[row : row + 1]
    known = ~np.isnan(table)
    rows = known.any(axis=0)
    return rows, np.nansum(table[:, rows], axis=0) / known[:, rows].sum(axis=0)


def choose(matrix: Matrix, kinds: dict[str, str], row: int | None = None) -> tuple[int, int, np.ndarray]:
    """The choice by inner scores, in one round or over all.

    kinds : column kind of each configuration

    Returns
    -------
    Position of the best cell, of the one easiest to understand among those within one standard error of it, and
    (cells,) bool, which those are
    """
    scores = inner_scores(matrix, row)
    best = int(scores.argmax())
    within = scores >= scores[best] - standard_error(matrix, matrix.cells[best], row)
    order = sorted(
        np.flatnonzero(within), key=lambda i: interpretability(matrix.cells[i], kinds[matrix.cells[i].features])
    )
    return best, int(order[0]), within


def judge(matrix: Matrix, kinds: dict[str, str], resamples: int, seed: int) -> tuple[pd.DataFrame, dict]:
    """Everything there is to say of one dataset's matrix.

    Returns
    -------
    Rows features, model, target, n, r2, r2_low, r2_high, ... rmse, ccc, pearson, rank, rank_low, rank_high (1 is the
    best R2 of that target; the interval is over resamples), columns, column_kind, explainer, inner, chosen,
    chosen_folds (rounds in which it was the best), within, interpretable, difference, difference_low, difference_high
    (R2 minus that of the choice, on the same resamples), seconds; and a summary for `metrics.json`
    """
    best, simple, within = choose(matrix, kinds)
    rounds = [choose(matrix, kinds, row)[:2] for row in range(len(matrix.cells[0].loss))]
    rows = _scored(matrix, resamples, seed)
    inner = inner_scores(matrix)
    facts = [
        {
            "features": cell.features,
            "model": cell.model,
            "columns": cell.columns,
            "column_kind": kinds[cell.features],
            "explainer": FAMILIES[cell.model].explainer,
            "inner": inner[i],
            "chosen": i == best,
            "chosen_folds": sum(i == one for one, _ in rounds),
            "within": bool(within[i]),
            "interpretable": i == simple,
            "seconds": cell.seconds,
        }
        for i, cell in enumerate(matrix.cells)
    ]
    table = rows.merge(pd.DataFrame(facts), on=["features", "model"]).merge(
        _differences(matrix, best, resamples, seed), on=["features", "model", "target"]
    )
    summary = {
        "n": len(matrix.ratings),
        "n_groups": int(matrix.groups.nunique()),
        "n_folds": len(rounds),
        "n_cells": len(matrix.cells),
        "standard_error": standard_error(matrix, matrix.cells[best]),
        "rule": RULE,
        "choice": facts[best],
        "interpretable": facts[simple],
        "chosen_per_fold": [_names(matrix.cells[one]) for one, _ in rounds],
        "procedure": _procedure(matrix, [one for one, _ in rounds], resamples, seed),
        "interpretable_procedure": _procedure(matrix, [one for _, one in rounds], resamples, seed),
    }
    return table, summary


def _names(cell: Cell) -> dict[str, str]:
    return {"features": cell.features, "model": cell.model}


def _draws(matrix: Matrix, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Group number of each track, and how often each group is in each resample."""
    codes = np.unique(matrix.groups.to_numpy().astype(str), return_inverse=True)[1]
    return codes, draw_groups(int(codes.max()) + 1, resamples, seed)


def _scored(matrix: Matrix, resamples: int, seed: int) -> pd.DataFrame:
    """Scores of every cell and target with intervals, and ranks."""
    codes, draws = _draws(matrix, resamples, seed)
    tables = []
    for column, target in enumerate(matrix.ratings):
        true = matrix.ratings[target].to_numpy(float)
        rows, drawn = [], []
        for cell in matrix.cells:
            scores, resampled = score_block(true, cell.predicted[:, column], codes, draws)
            rows.append({**_names(cell), "target": target, "n": len(true)} | _flat(scores))
            drawn.append(resampled["r2"])
        table = pd.DataFrame(rows)
        ranks = pd.DataFrame(np.array(drawn)).rank(ascending=False, method="min").to_numpy()
        low, high = np.nanquantile(ranks, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
        table["rank"] = table["r2"].rank(ascending=False, method="min")
        table["rank_low"], table["rank_high"] = np.floor(low), np.ceil(high)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def score_block(
    true: np.ndarray, predicted: np.ndarray, codes: np.ndarray, draws: np.ndarray
) -> tuple[dict[str, list], dict[str, np.ndarray]]:
    """The reported measures with intervals, {measure: [value, low, high]}, and the resampled scores behind them."""
    resampled = resampled_scores(true, predicted, codes, draws, tuple(REPORTED))
    scores = {}
    for name, function in REPORTED.items():
        found = resampled[name][np.isfinite(resampled[name])]
        known = draws.shape[1] > 1 and len(found)
        edges = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if known else (np.nan, np.nan)
        scores[name] = [function(true, predicted), *map(float, edges)]
    return scores, resampled


def _flat(scores: dict[str, list]) -> dict[str, float]:
    return {
        name + ending: value
        for name, three in scores.items()
        for ending, value in zip(("", "_low", "_high"), three, strict=True)
    }


def _differences(matrix: Matrix, best: int, resamples: int, seed: int) -> pd.DataFrame:
    """R2 of every cell minus that of the choice, with its interval."""
    chosen, rows = _predictions(matrix, matrix.cells[best]), []
    for cell in matrix.cells:
        found = paired_bootstrap(_predictions(matrix, cell), chosen, matrix.groups, resamples, seed)
        for target, about in found.items():
            value, low, high = about["r2"]["difference"]
            row = {**_names(cell), "target": target}
            rows.append(row | {"difference": value, "difference_low": low, "difference_high": high})
    return pd.DataFrame(rows).astype(dict.fromkeys(("difference", "difference_low", "difference_high"), float))


def _predictions(matrix: Matrix, cell: Cell) -> pd.DataFrame:
    """Long table of a cell's predictions, as `paired_bootstrap` wants it."""
    tables = [
        pd.DataFrame(
            {
                "track_id": matrix.ratings.index,
                "target": target,
                "true": matrix.ratings[target].to_numpy(float),
                "predicted": cell.predicted[:, column],
            }
        )
        for column, target in enumerate(matrix.ratings)
    ]
    return pd.concat(tables, ignore_index=True)


def _procedure(matrix: Matrix, chosen: list[int], resamples: int, seed: int) -> dict[str, dict[str, list]]:
    """Scores, by target, of predicting each round's tracks with the cell chosen in that round."""
    codes, draws = _draws(matrix, resamples, seed)
    predicted = np.full(matrix.ratings.shape, np.nan)
    for row, position in enumerate(chosen):
        held_out = np.isnan(matrix.cells[0].loss[row])
        predicted[held_out] = matrix.cells[position].predicted[held_out]
    return {
        target: score_block(matrix.ratings[target].to_numpy(float), predicted[:, column], codes, draws)[0]
        for column, target in enumerate(matrix.ratings)
    }
