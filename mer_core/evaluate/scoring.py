"""From out-of-fold predictions to the tables of a run: scores with intervals, baselines, ceiling, prediction rows.

Conventions: rows in the order of the tested tracks; one column per target; ratings on the dataset's scale.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mer_core.evaluate.metrics import crossfold_intervals, human_ceiling, score_with_intervals


def score_parts(
    true: pd.DataFrame, predicted: np.ndarray, groups: pd.Series, parts: pd.Series, resamples: int, seed: int
) -> dict[str, dict[str, dict]]:
    """Scores of every target over all tracks, and over each part where there are several.

    Parameters
    ----------
    true : (n, t) ratings, index track_id; predicted : (n, t); groups, parts : same index as `true`
    resamples, seed : of the bootstrap over groups

    Returns
    -------
    {target: {"all": {metric: [value, low, high], "n": n}, part: {...}}}
    """
    names = sorted(parts.unique()) if parts.nunique() > 1 else []
    chosen = {"all": np.ones(len(true), dtype=bool)} | {str(name): (parts == name).to_numpy() for name in names}
    return {
        target: {
            part: score_with_intervals(
                true[target].to_numpy()[rows], predicted[rows, column], groups.to_numpy()[rows], resamples, seed
            )
            for part, rows in chosen.items()
        }
        for column, target in enumerate(true.columns)
    }


def ceilings(true: pd.DataFrame, spread: pd.DataFrame, scores: dict) -> dict[str, dict]:
    """Human ceiling of every target whose rater spread is known, and the share of it that the model's R2 reaches."""
    table = {}
    for target in true.columns.intersection(spread.columns, sort=False):
        known = spread[target].loc[true.index]
        if known.notna().sum() < 2:
            continue
        ceiling = human_ceiling(known, true[target])
        reached = scores[target]["all"]["r2"][0]
        share = reached / ceiling["r2"] if reached is not None and ceiling["r2"] > 0 else None
        table[target] = ceiling | {"share": share}
    return table


def prediction_rows(
    true: pd.DataFrame, predicted: np.ndarray, parts: pd.Series, folds: np.ndarray, level: float
) -> pd.DataFrame:
    """Long table of predictions with intervals: track_id, part, fold, target, true, predicted, lower, upper.

    The interval of a track comes from the errors in the other folds, and has the given level.
    """
    tables = []
    for column, target in enumerate(true.columns):
        lower, upper = crossfold_intervals(true[target].to_numpy(), predicted[:, column], folds, level)
        rows = {"track_id": true.index, "part": parts.to_numpy(), "fold": folds, "target": target}
        rows |= {"true": true[target].to_numpy(), "predicted": predicted[:, column], "lower": lower, "upper": upper}
        tables.append(pd.DataFrame(rows))
    return pd.concat(tables, ignore_index=True)
