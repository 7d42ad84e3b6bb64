"""From out-of-fold predictions to the tables of a run: scores with intervals, baselines, ceiling, prediction rows.

Conventions: rows in the order of the tested tracks; one column per target; ratings on the dataset's scale.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import Dataset
from mer_core.evaluate.audit import spread_report
from mer_core.evaluate.intervals import halfwidths
from mer_core.evaluate.metrics import human_ceiling, score_with_intervals


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


def ceilings(true: pd.DataFrame, parts: pd.Series, dataset: Dataset, scores: dict) -> dict[str, dict]:
    """Human ceiling of the tested tracks, over all and per part, and the share of it that the model's R2 reaches.

    The number of raters, and whether the published spread is that of the raters or of the population, are taken from
    the audit of each part (`spread_report`).

    Parameters
    ----------
    true : (n, t) ratings of the tested tracks; parts : same index; scores : of the same tracks, from `score_parts`

    Returns
    -------
    {target: {"r2", "rmse", "raters", "n", "share", "assumed": whether the number of raters is, "parts": {part: same}}}
    of the targets whose raters' spread is known and not zero throughout (as with one rater)
    """
    report = {part: about["raters"] for part, about in spread_report(dataset).items() if "raters" in about}
    names = parts.astype(str)
    raters = names.map({part: about["typical"] for part, about in report.items()})
    few = names.map({part: about["deviation"] == "population" for part, about in report.items()}) & (raters > 1)
    unbiased = np.where(few, np.sqrt(raters / (raters - 1).where(few, 1)), 1.0)
    table = {}
    for target in true.columns.intersection(dataset.spread.columns, sort=False):
        noise = dataset.spread[target].loc[true.index].astype(float) * unbiased / np.sqrt(raters)
        assumed = {part: about["source"] == "assumed" for part, about in report.items()}
        found = {}
        for part, score in scores[target].items():
            rows = names.notna() if part == "all" else names == part
            about = _ceiling(noise[rows], true[target][rows], raters[rows], score["r2"][0])
            if about:
                found[part] = about | {"assumed": any(assumed[name] for name in names[rows].unique())}
        if "all" in found:
            table[target] = found.pop("all") | {"parts": found}
    return table


def _ceiling(noise: pd.Series, ratings: pd.Series, raters: pd.Series, reached: float | None) -> dict | None:
    """Ceiling from the uncertainty of each mean rating; None where nothing is known of it."""
    known = noise.notna() & ratings.notna()
    if known.sum() < 2 or not noise[known].any():
        return None
    typical = float(known.sum() / (1 / raters[known]).sum())
    ceiling = human_ceiling(noise, ratings, raters=1) | {"raters": typical}
    share = reached / ceiling["r2"] if reached is not None and ceiling["r2"] > 0 else None
    return ceiling | {"share": share}


def prediction_rows(
    true: pd.DataFrame,
    predicted: np.ndarray,
    parts: pd.Series,
    folds: np.ndarray,
    level: float,
    validation: np.ndarray | None = None,
) -> pd.DataFrame:
    """Long table of predictions with intervals: track_id, part, fold, target, true, predicted, lower, upper.

    The interval of a track has the given level and comes from the errors in the other folds, or on the validation part
    of a hold-out, (m, t).
    """
    half = halfwidths(true.to_numpy() - predicted, folds, level, validation)
    tables = []
    for column, target in enumerate(true.columns):
        rows = {"track_id": true.index, "part": parts.to_numpy(), "fold": folds, "target": target}
        rows |= {"true": true[target].to_numpy(), "predicted": predicted[:, column]}
        rows |= {"lower": predicted[:, column] - half[:, column], "upper": predicted[:, column] + half[:, column]}
        tables.append(pd.DataFrame(rows))
    return pd.concat(tables, ignore_index=True)
