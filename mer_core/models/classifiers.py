"""Linear classifiers of two classes whose probabilities are calibrated, and whose logit is a sum over features.

Conventions: class 1 is happy. The logit is 0 where both classes are as likely; a positive contribution speaks for
class 1. `bias` is the logit of the average training track, so contributions are relative to it.

Reference: J. Platt, Advances in Large Margin Classifiers, 1999 (calibration by a logistic curve on held-out scores).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from mer_core.errors import UserError

STRENGTHS = np.logspace(-4, 1, 11)  # inverse penalties that are tried
INNER_FOLDS = 4
FREE = 1e6  # inverse penalty of the calibration: none to speak of


@dataclass(frozen=True)
class LinearHead:
    """logit = bias + sum over p of weights * (x - centre) / spread; all (p,) but the bias."""

    centre: np.ndarray
    spread: np.ndarray
    weights: np.ndarray
    bias: float

    def contributions(self, features: np.ndarray) -> np.ndarray:
        """(n, p) share of each feature in the logit, beyond that of the average training track."""
        return (np.asarray(features, dtype=float) - self.centre) / self.spread * self.weights

    def logit(self, features: np.ndarray) -> np.ndarray:
        """(n,) from features (n, p)."""
        return self.bias + self.contributions(features).sum(axis=1)

    def probability(self, features: np.ndarray) -> np.ndarray:
        """(n,) calibrated probability of class 1."""
        return sigmoid(self.logit(features))

    def to_json(self) -> dict:
        """Plain lists, read back by `from_json`."""
        arrays = {name: getattr(self, name).tolist() for name in ("centre", "spread", "weights")}
        return {"schema": 1, "kind": "linear", "bias": self.bias, **arrays}

    @classmethod
    def from_json(cls, content: dict) -> LinearHead:
        """A head from what `to_json` gave."""
        return cls(*(np.array(content[name]) for name in ("centre", "spread", "weights")), content["bias"])


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """Probability of a logit, without overflow."""
    return np.exp(-np.logaddexp(0, -np.asarray(logit, dtype=float)))


def fit_linear_head(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int = 42) -> LinearHead:
    """Logistic regression whose penalty and calibration come from grouped folds inside the data it is given.

    Parameters
    ----------
    features : (n, p), without gaps; labels : (n,) of 0 and 1; groups : (n,) never on both sides of an inner fold

    Raises
    ------
    UserError : one class only
    """
    features, labels = np.asarray(features, dtype=float), np.asarray(labels, dtype=int)
    if len(np.unique(labels)) < 2:
        raise UserError("all training tracks are of one class; choose another margin or more data")
    centre, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    scaled = (features - centre) / spread
    rounds = inner_rounds(labels, groups, seed)
    held = {strength: _held_out(scaled, labels, rounds, strength) for strength in STRENGTHS}
    best = min(STRENGTHS, key=lambda strength: _log_loss(labels, held[strength]))
    curve = calibrate(held[best], labels)
    model = LogisticRegression(C=best, max_iter=1000).fit(scaled, labels)
    slope, offset = curve
    return LinearHead(centre, spread, slope * model.coef_[0], float(slope * model.intercept_[0] + offset))


def calibrate(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope and offset that turn held-out scores (n,) into logits; the slope is not negative."""
    curve = LogisticRegression(C=FREE).fit(np.reshape(scores, (-1, 1)), labels)
    return max(float(curve.coef_[0, 0]), 0.0), float(curve.intercept_[0])


def inner_rounds(labels: np.ndarray, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit and to check, by group, where both classes are in each part to fit."""
    folds = min(INNER_FOLDS, len(np.unique(groups)))
    if folds < 2:
        raise UserError("all training tracks are of one group; classes need at least two groups a fold")
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    rounds = [(fit, check) for fit, check in split if len(np.unique(labels[fit])) == 2 and len(check)]
    if not rounds:
        raise UserError("no inner fold has both classes in training; choose a smaller margin or more data")
    return rounds


def _held_out(scaled: np.ndarray, labels: np.ndarray, rounds: list, strength: float) -> np.ndarray:
    """Scores of tracks by models that have not seen them; 0 where no round checks a track."""
    scores = np.zeros(len(labels))
    for fit, check in rounds:
        scores[check] = (
            LogisticRegression(C=strength, max_iter=1000).fit(scaled[fit], labels[fit]).decision_function(scaled[check])
        )
    return scores


def _log_loss(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(np.mean(np.logaddexp(0, np.where(labels == 1, -scores, scores))))
