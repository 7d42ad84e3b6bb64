"""Happy or sad: classes made from ratings, scores of a probability, the four confusion cells, examples chosen by rule.

Conventions: class 1 is happy, 0 is sad; a probability is that of happy; a track is called happy from .5 upwards. The
cells are named true class first: "happy-sad" is a happy track that was called sad.

References
----------
K. Brodersen et al., ICPR 2010 (balanced accuracy). G. Brier, Monthly Weather Review 78, 1950. M. Naeini et al., AAAI
2015 (expected calibration error).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import Dataset
from mer_core.errors import UserError
from mer_core.evaluate.metrics import draw_groups

CELLS = ("happy-happy", "sad-sad", "happy-sad", "sad-happy")
CELL_WORDS = {
    "happy-happy": "happy, heard as happy",
    "sad-sad": "sad, heard as sad",
    "happy-sad": "happy, taken for sad",
    "sad-happy": "sad, taken for happy",
}
RULES = ("most confident", "median", "borderline")
BINS = 10
FEWEST_OF_A_CLASS = 5


@dataclass(frozen=True)
class Classes:
    """Tracks sorted into happy (1) and sad (0).

    labels : index track_id, int; score : index track_id of all rated tracks, what decides, in rating points
    said : one sentence on how the classes came about
    """

    labels: pd.Series
    score: pd.Series
    said: str


def happy_or_sad(dataset: Dataset, source: str = "valence", margin: float = 1.0) -> Classes:
    """Classes from ratings; tracks within the margin are neither and are left out.

    Parameters
    ----------
    source : "valence" (rated valence minus the middle of the scale) or "happy-sad" (rated happiness minus sadness)
    margin : least distance from zero in rating points, >= 0

    Raises
    ------
    UserError : ratings that the dataset lacks, or fewer than 5 tracks of a class
    """
    if source == "happy-sad" and not {"happy", "sad"} <= set(dataset.targets):
        raise UserError(f"--classes happy-sad needs ratings 'happy' and 'sad', which {dataset.name} lacks; use valence")
    if source == "valence" and "valence" not in dataset.targets:
        raise UserError(f"--classes valence needs the rating 'valence', which {dataset.name} lacks")
    if margin < 0:
        raise UserError(f"--margin {margin:g} is negative; give 0 or more rating points, such as 1")
    middle = sum(dataset.scale) / 2
    ratings = dataset.ratings
    score = ratings["happy"] - ratings["sad"] if source == "happy-sad" else ratings["valence"] - middle
    score = score.dropna()
    clear = score[score.abs() >= max(margin, 1e-12)]
    labels = (clear > 0).astype(int)
    counts = labels.value_counts()
    what = "happiness minus sadness" if source == "happy-sad" else f"valence minus {middle:g}"
    said = (
        f"{counts.get(1, 0)} tracks are happy and {counts.get(0, 0)} sad, by {what} of at least {margin:g}; "
        f"{len(score) - len(clear)} are neither."
    )
    if counts.reindex([0, 1], fill_value=0).min() < FEWEST_OF_A_CLASS:
        raise UserError(f"{said} At least {FEWEST_OF_A_CLASS} of each are needed; choose a smaller --margin")
    return Classes(labels, score, said)


def cells_of(true: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Confusion cell of each track (n,), from classes (n,) and probabilities of happy (n,)."""
    words = np.array(["sad", "happy"])
    called = (np.asarray(probability) >= 0.5).astype(int)
    return np.char.add(np.char.add(words[np.asarray(true)], "-"), words[called])


def classification_scores(
    true: np.ndarray, probability: np.ndarray, groups: np.ndarray, resamples: int = 1000, seed: int = 0
) -> dict:
    """Scores of probabilities, each [value, low, high] with a 95 % bootstrap interval over groups.

    Parameters
    ----------
    true : (n,) classes; probability : (n,) of happy; groups : (n,) whole groups are drawn

    Returns
    -------
    {"n", "balanced_accuracy", "accuracy", "auc", "brier", "calibration_error", "cells": {cell: count}}; None where a
    resample or the data have one class only
    """
    true, probability = np.asarray(true, dtype=int), np.asarray(probability, dtype=float)
    codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    values = _scores(true, probability, np.ones(len(true)))
    draws = {name: [] for name in values}
    if codes.max() > 0:
        for counts in draw_groups(int(codes.max()) + 1, resamples, seed):
            for name, value in _scores(true, probability, counts[codes].astype(float)).items():
                draws[name].append(value)
    table: dict = {"n": len(true)}
    for name, value in values.items():
        found = np.array(draws[name], dtype=float)
        found = found[np.isfinite(found)]
        interval = [float(edge) for edge in np.quantile(found, [0.025, 0.975])] if len(found) else [None, None]
        table[name] = [value if np.isfinite(value) else None, *interval]
    cells = pd.Series(cells_of(true, probability)).value_counts()
    table["cells"] = {cell: int(cells.get(cell, 0)) for cell in CELLS}
    return table


def _scores(true: np.ndarray, probability: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Scores of rows that occur `weight` times."""
    right = (probability >= 0.5) == (true == 1)
    happy, sad = weight * (true == 1), weight * (true == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recalls = [np.divide(kind @ right, kind.sum()) for kind in (happy, sad)]
        return {
            "balanced_accuracy": float(np.mean(recalls)),
            "accuracy": float(weight @ right / weight.sum()),
            "auc": _auc(probability, happy, sad),
            "brier": float(weight @ (probability - true) ** 2 / weight.sum()),
            "calibration_error": _calibration_error(true, probability, weight),
        }


def _auc(probability: np.ndarray, happy: np.ndarray, sad: np.ndarray) -> float:
    """Chance that a happy track has a higher probability than a sad one, ties counting half."""
    if not happy.sum() or not sad.sum():
        return np.nan
    values, codes = np.unique(probability, return_inverse=True)
    up, down = (np.bincount(codes, kind, len(values)) for kind in (happy, sad))
    below = np.cumsum(down) - down
    return float(up @ (below + down / 2) / (happy.sum() * sad.sum()))


def _calibration_error(true: np.ndarray, probability: np.ndarray, weight: np.ndarray) -> float:
    """Mean distance between said and found share of happy tracks over ten equal bins of probability."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    excess = np.bincount(bins, weight * (probability - true), BINS)
    return float(np.abs(excess).sum() / weight.sum())


def reliability(true: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    """Said against found: one row per bin that has tracks: said (mean probability), found (share happy), n."""
    frame = pd.DataFrame({"said": probability, "found": np.asarray(true, dtype=float)})
    frame["bin"] = np.minimum((frame["said"] * BINS).astype(int), BINS - 1)
    return frame.groupby("bin").agg(said=("said", "mean"), found=("found", "mean"), n=("said", "size")).reset_index()


def examples(true: pd.Series, probability: pd.Series) -> pd.DataFrame:
    """Up to three tracks of each confusion cell, chosen by rule and not by ear.

    "most confident" is farthest from .5, "borderline" nearest, "median" the middle of the rest by that distance; ties
    are broken by track id.

    Returns
    -------
    columns cell, rule, track_id, probability
    """
    frame = pd.DataFrame({"cell": cells_of(true.to_numpy(), probability.to_numpy()), "probability": probability})
    frame["distance"] = (frame["probability"] - 0.5).abs()
    frame = frame.assign(track_id=frame.index.astype(str)).reset_index(drop=True)
    rows = []
    for cell in CELLS:
        ranked = frame[frame["cell"] == cell].sort_values(["distance", "track_id"], ascending=[False, True])
        positions = dict(zip(RULES, (0, (len(ranked) - 1) // 2, len(ranked) - 1), strict=True))
        taken: set[int] = set()
        for rule, position in positions.items():
            if len(ranked) and position not in taken:
                taken.add(position)
                row = ranked.iloc[position]
                rows.append({"cell": cell, "rule": rule} | row[["track_id", "probability"]].to_dict())
    return pd.DataFrame(rows, columns=["cell", "rule", "track_id", "probability"])
