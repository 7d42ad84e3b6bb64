"""Where on the valence-arousal plane a model errs: maps of 3 x 3 regions.

Conventions
-----------
A track's region is that of its true ratings. Two maps, after G. Kritsovas
(https://github.com/Grkritsovas/postgrad-final-project): regions of equal width between the lowest and highest true
rating, with the error in each; and regions cut at the quantiles of the true ratings, with the share of tracks whose
prediction falls into the same bin. A bin holds its lower edge; the last one also its upper edge, and everything beyond.
Means over few tracks say little, so regions of fewer than 10 are marked.

Accuracy needs its chance level beside it: always naming the fullest bin is right as often as that bin is full.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import VALENCE_AROUSAL

BINS = 3
FEW = 10  # tracks


def region_maps(predictions: pd.DataFrame, bins: int = BINS) -> dict | None:
    """Errors by region of equal width, accuracy by quantile region.

    Parameters
    ----------
    predictions : rows (track_id, target, true, predicted), as runs hold them; other targets are left aside
    bins : per dimension

    Returns
    -------
    {"bins", "few": tracks below which a region is marked, "width": {"edges": {target: [bins + 1]}, "regions": rows},
    "quantile": {"edges", "regions": rows, "accuracy": {target: share, "both": share}, "chance": same}}, or None unless
    valence and arousal were both predicted. Each row has valence, arousal (bins 0, 1, 2), n, few; by width also rmse
    and bias (predicted - true) {target: rating points, "joint": mean of the two rmse}, by quantile accuracy {target,
    "both"}; None where no track is
    """
    table = predictions.pivot(index="track_id", columns="target", values=["true", "predicted"])
    if not set(VALENCE_AROUSAL) <= set(table["true"]):
        return None
    names = list(VALENCE_AROUSAL)
    true, predicted = (table[side][names].to_numpy(dtype=float) for side in ("true", "predicted"))
    edges = np.linspace(true.min(axis=0), true.max(axis=0), bins + 1).T
    cells = _bins(true, edges)
    errors = [_errors(true[rows], predicted[rows]) for rows in _regions(cells, bins)]
    width = {"edges": dict(zip(names, edges.tolist(), strict=True)), "regions": _rows(cells, bins, errors)}
    edges = np.quantile(true, np.linspace(0, 1, bins + 1), axis=0).T
    cells, guessed = _bins(true, edges), _bins(predicted, edges)
    hits = np.column_stack([cells == guessed, (cells == guessed).all(axis=1)])
    shares = [{"accuracy": _shares(hits[rows])} for rows in _regions(cells, bins)]
    counts = [np.bincount(labels) for labels in (*cells.T, cells @ [bins, 1])]
    quantile = {
        "edges": dict(zip(names, edges.tolist(), strict=True)),
        "regions": _rows(cells, bins, shares),
        "accuracy": _shares(hits),
        "chance": dict(zip((*names, "both"), (float(count.max() / len(true)) for count in counts), strict=True)),
    }
    return {"bins": bins, "few": FEW, "width": width, "quantile": quantile}


def _bins(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin 0..bins - 1 of each value; (n, 2), edges (2, bins + 1) -> (n, 2)."""
    inner = edges[:, 1:-1]
    return np.column_stack([np.searchsorted(inner[side], values[:, side], side="right") for side in range(2)])


def _regions(cells: np.ndarray, bins: int) -> list[np.ndarray]:
    """Which tracks (n,) bool are in each region, valence bin by valence bin."""
    return [(cells == [v, a]).all(axis=1) for v in range(bins) for a in range(bins)]


def _rows(cells: np.ndarray, bins: int, about: list[dict]) -> list[dict]:
    rows = []
    for number, (chosen, facts) in enumerate(zip(_regions(cells, bins), about, strict=True)):
        n = int(chosen.sum())
        rows.append({"valence": number // bins, "arousal": number % bins, "n": n, "few": n < FEW} | facts)
    return rows


def _errors(true: np.ndarray, predicted: np.ndarray) -> dict:
    if not len(true):
        return {"rmse": dict.fromkeys((*VALENCE_AROUSAL, "joint")), "bias": dict.fromkeys(VALENCE_AROUSAL)}
    rmse = np.sqrt(np.mean((predicted - true) ** 2, axis=0))
    bias = np.mean(predicted - true, axis=0)
    return {
        "rmse": dict(zip((*VALENCE_AROUSAL, "joint"), map(float, (*rmse, rmse.mean())), strict=True)),
        "bias": dict(zip(VALENCE_AROUSAL, map(float, bias), strict=True)),
    }


def _shares(hits: np.ndarray) -> dict[str, float | None]:
    """Share of hits per dimension and in both. (n, 3)."""
    shares = hits.mean(axis=0).tolist() if len(hits) else [None] * 3
    return dict(zip((*VALENCE_AROUSAL, "both"), shares, strict=True))
