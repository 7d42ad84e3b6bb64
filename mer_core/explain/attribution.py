"""Attributions of predictions to feature columns, and the folder they are kept in.

Conventions
-----------
`base + values.sum(over columns)` is the prediction, in rating points; a positive value raises the prediction. The base
is given per track, because each track is explained by the model of its own fold.

The folder holds `explanation.json` (schema version, method, targets, tracks, column table, conventions, shapes) and the
arrays `values.npy`, `base.npy`, `features.npy`: no file whose loading can run code. Arrays are read memory-mapped.

Sums over a set of columns keep the sign: values are added within a track first; absolute values and means over tracks
come after. (Adding absolute values makes large groups look important by their size.)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.errors import UserError

SCHEMA = 1
LEVELS = ("column", "lld", "descriptor", "statistic", "group", "musical")
AXES = {"values": ("track", "column", "target"), "base": ("track", "target"), "features": ("track", "column")}


@dataclass(frozen=True)
class FeatureExplanation:
    """Why each prediction of a run came out as it did.

    method : e.g. "shap"
    tracks : (n,) track ids
    columns : (p,) rows, index column name; what each column is: `lld`, `statistic`, `descriptor`, `group`, `musical`,
        `plain`
    targets : (t,) names of the ratings
    base : (n, t) what the track's model predicts knowing nothing of it, rating points
    values : (n, p, t) signed share of each column in the prediction, rating points
    features : (n, p) raw feature values, NaN where missing
    predicted : (n, t) the predictions explained, or None; when given, the additivity error is recorded
    scale : lowest and highest possible rating, or None
    """

    method: str
    tracks: tuple[str, ...]
    columns: pd.DataFrame
    targets: tuple[str, ...]
    base: np.ndarray
    values: np.ndarray
    features: np.ndarray
    predicted: np.ndarray | None = None
    scale: tuple[float, float] | None = None

    def __post_init__(self):
        n, p, t = len(self.tracks), len(self.columns), len(self.targets)
        expected = {"values": (n, p, t), "base": (n, t), "features": (n, p)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"{name} of an explanation has shape {getattr(self, name).shape}; {n} tracks, {p} columns and {t} "
                    f"targets need {shape}"
                )


def write_explanation(folder: str | Path, explanation: FeatureExplanation) -> None:
    """Write into a folder, which is made when it does not exist.

    Values and base are stored in double precision, so that they add up as computed; features in single precision.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "values": np.asarray(explanation.values, dtype=np.float64),
        "base": np.asarray(explanation.base, dtype=np.float64),
        "features": np.asarray(explanation.features, dtype=np.float32),
    }
    error = None
    if explanation.predicted is not None:
        total = arrays["base"] + arrays["values"].sum(axis=1, dtype=np.float64)
        error = float(np.abs(total - explanation.predicted).max())
    table = explanation.columns
    about = {
        "schema": SCHEMA,
        "kind": "feature attribution",
        "method": explanation.method,
        "unit": "rating points",
        "scale": explanation.scale and [float(edge) for edge in explanation.scale],
        "sign": "a positive value raises the prediction",
        "additivity": "base + sum of values over columns = prediction",
        "additivity_error": error,
        "targets": list(explanation.targets),
        "tracks": [str(track) for track in explanation.tracks],
        "columns": {
            "column": [str(name) for name in table.index],
            **{str(name): [None if pd.isna(cell) else str(cell) for cell in table[name]] for name in table},
        },
        "arrays": {
            name: {"file": f"{name}.npy", "axes": AXES[name], "shape": array.shape, "type": str(array.dtype)}
            for name, array in arrays.items()
        },
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    # Last, so that a folder with this file is complete.
    (folder / "explanation.json").write_text(json.dumps(about, indent=1, allow_nan=False), encoding="utf-8")


def read_explanation(folder: str | Path) -> FeatureExplanation:
    """Read what `write_explanation` wrote; arrays are memory-mapped.

    Raises
    ------
    UserError : nothing there, another schema version, or a damaged file
    """
    folder = Path(folder)
    file = folder / "explanation.json"
    if not file.is_file():
        raise UserError(
            f"{folder} holds no explanation.json: name the folder of a finished explanation, or make it again"
        )
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        if about["schema"] != SCHEMA:
            raise UserError(
                f"{file} has schema {about['schema']!r}, this version reads {SCHEMA}: make the explanation again"
            )
        return FeatureExplanation(
            method=about["method"],
            tracks=tuple(about["tracks"]),
            columns=pd.DataFrame(about["columns"]).set_index("column"),
            targets=tuple(about["targets"]),
            scale=about["scale"] and tuple(about["scale"]),
            **{name: _read_array(folder / f"{name}.npy", about["arrays"][name]) for name in AXES},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error!r}): make the explanation again") from error


def sum_by(explanation: FeatureExplanation, level: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Signed sums of the values over the columns that share a label.

    Parameters
    ----------
    level : "column" (no sum), "lld" (the 260), "descriptor" (the 65), "statistic", "group" or "musical"

    Returns
    -------
    labels (g,) in order of first appearance, sums (n, g, t) in rating points; columns without label are "unmapped"
    """
    if level not in LEVELS:
        raise UserError(f"level {level!r} is unknown: choose from {', '.join(LEVELS)}")
    if level == "column":
        return tuple(explanation.columns.index), explanation.values
    codes, labels = pd.factorize(explanation.columns[level].fillna("unmapped").astype(str))
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(labels)))
    values = explanation.values if np.array_equal(order, np.arange(len(order))) else explanation.values[:, order]
    return tuple(labels), np.add.reduceat(values, starts, axis=1, dtype=np.float64)


def global_importance(explanation: FeatureExplanation, level: str) -> pd.DataFrame:
    """Mean over tracks of the absolute signed sum: how far each label moves a prediction, in rating points.

    level : as in `sum_by`

    Returns
    -------
    index label, one column per target, in order of first appearance
    """
    labels, sums = sum_by(explanation, level)
    return pd.DataFrame(
        np.abs(sums).mean(axis=0, dtype=np.float64),
        index=pd.Index(labels, name=level),
        columns=list(explanation.targets),
    )


def _read_array(file: Path, entry: dict) -> np.ndarray:
    """One array, memory-mapped, of the recorded shape and type."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file} is missing or damaged ({error}): make the explanation again") from error
    if list(array.shape) != entry["shape"] or str(array.dtype) != entry["type"]:
        raise UserError(
            f"{file} holds {array.dtype} {array.shape}, not {entry['type']} {tuple(entry['shape'])}: "
            "make the explanation again"
        )
    return array
