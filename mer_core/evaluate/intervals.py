"""How far off a prediction may be: conformal intervals of each target, and an ellipse on the valence-arousal plane.

Conventions
-----------
Errors are true - predicted, (n, t), in rating points, on tracks that the model has not seen. A track's interval comes
from the errors of the other folds, or of the validation part of a hold-out, never from its own.

References
----------
V. Vovk, Annals of Mathematics and Artificial Intelligence 74, 2015 (cross-conformal prediction). C. Johnstone &
B. Cox, Proceedings of Machine Learning Research 152, 2021 (Mahalanobis distance as score: conformal ellipsoids).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import VALENCE_AROUSAL
from mer_core.evaluate.metrics import conformal_halfwidth

LEVELS = (0.8, 0.9)


def calibration_rounds(
    errors: np.ndarray, folds: np.ndarray, validation: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Who is calibrated by whom.

    Parameters
    ----------
    errors : (n, t) of the tested tracks; folds : (n,) fold of each
    validation : (m, t) errors on the validation part of a hold-out; None for folds

    Returns
    -------
    [(tested rows, bool (n,); errors to calibrate them with, (k, t))]
    """
    if validation is not None:
        return [(np.ones(len(errors), dtype=bool), validation)]
    names = pd.unique(folds)
    if len(names) < 2:
        raise ValueError(f"{len(names)} fold has no other folds to take errors from; give a validation part")
    return [(folds == fold, errors[folds != fold]) for fold in names]


def halfwidths(errors: np.ndarray, folds: np.ndarray, level: float, validation: np.ndarray | None = None) -> np.ndarray:
    """Half width of every tested track's interval, (n, t); arguments as in `calibration_rounds`."""
    half = np.empty(errors.shape)
    for rows, others in calibration_rounds(errors, folds, validation):
        half[rows] = [conformal_halfwidth(column, level) for column in np.abs(others).T]
    return half


def ellipse(errors: np.ndarray, level: float) -> dict:
    """Ellipse around a prediction that holds the true point with probability >= level.

    errors : (k, 2) valence, arousal. Returns {"covariance": (2, 2) mean product of errors about the prediction,
    "radius": r}: the points with e' covariance^-1 e <= r^2; r is infinite when k is too small (k < 9 at 0.9).
    """
    covariance = errors.T @ errors / len(errors)
    return {"covariance": covariance, "radius": conformal_halfwidth(distances(errors, covariance), level)}


def distances(errors: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Mahalanobis distance of every error, (n,); errors (n, 2), covariance (2, 2)."""
    inverse = np.linalg.pinv(covariance, hermitian=True)
    return np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", errors, inverse, errors), 0))


def coverage(
    errors: pd.DataFrame, folds: np.ndarray, parts: pd.Series, validation: pd.DataFrame | None = None
) -> dict[str, dict]:
    """Share of tracks inside their intervals, and inside their ellipses.

    Parameters
    ----------
    errors : (n, t) columns targets; folds : (n,); parts : part of each track; validation : (m, t) or None

    Returns
    -------
    {target or "joint": {"0.8": {"all": share, part: share where there are several}, "0.9": {...}}}; "joint" where
    valence and arousal are both targets
    """
    held = None if validation is None else validation.to_numpy()
    plane = [list(errors).index(name) for name in VALENCE_AROUSAL if name in errors]
    chosen = {"all": np.ones(len(errors), dtype=bool)}
    if parts.nunique() > 1:
        chosen |= {str(part): (parts == part).to_numpy() for part in sorted(parts.unique())}
    table: dict[str, dict] = {target: {} for target in (*errors, *(["joint"] if len(plane) == 2 else []))}
    for level in LEVELS:
        values = errors.to_numpy()
        inside = dict(zip(errors, (np.abs(values) <= halfwidths(values, folds, level, held)).T, strict=True))
        if len(plane) == 2:
            inside["joint"] = _inside_ellipse(values[:, plane], folds, level, None if held is None else held[:, plane])
        for target, rows in inside.items():
            table[target][str(level)] = {part: float(rows[members].mean()) for part, members in chosen.items()}
    return table


def _inside_ellipse(errors: np.ndarray, folds: np.ndarray, level: float, validation: np.ndarray | None) -> np.ndarray:
    inside = np.zeros(len(errors), dtype=bool)
    for rows, others in calibration_rounds(errors, folds, validation):
        shape = ellipse(others, level)
        inside[rows] = distances(errors[rows], shape["covariance"]) <= shape["radius"]
    return inside


def interval_summary(errors: pd.DataFrame) -> dict[str, dict]:
    """What a new track's prediction gets, from all errors on unseen tracks, (n, t) columns targets.

    {"0.8": {"halfwidth": {target: h}, "ellipse": {"targets": [...], "covariance": [[...]], "radius": r} or None}, ...}
    """
    plane = [name for name in VALENCE_AROUSAL if name in errors]
    summary = {}
    for level in LEVELS:
        half = {target: conformal_halfwidth(errors[target].abs(), level) for target in errors}
        shape = {"targets": plane} | ellipse(errors[plane].to_numpy(), level) if len(plane) == 2 else None
        summary[str(level)] = {"halfwidth": half, "ellipse": shape}
    return summary
