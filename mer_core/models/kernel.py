"""Kernel ridge regression with a Gaussian kernel, and the mean of several regressors; all ratings at once.

Both are scikit-learn estimators whose fitted state is arrays, so that models with them can be stored.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.metrics.pairwise import rbf_kernel


class GaussianRidge(RegressorMixin, BaseEstimator):
    """Ridge regression in the space of a wide Gaussian kernel, with an unpenalised mean.

    The kernel is exp(-sharpness |x - z|^2 / (p v)), p columns of variance v: about exp(-2 sharpness) for two unrelated
    tracks. Where it is wide, the model is close to linear, and bends where that helps. The penalty is fixed, because
    leave-one-out error, which knows nothing of albums, asks for too small a one.

    Parameters
    ----------
    sharpness : 1 is scikit-learn's `gamma="scale"`; smaller is wider
    alpha : penalty, in units of the kernel's diagonal
    """

    def __init__(self, sharpness: float = 0.25, alpha: float = 0.2):
        self.sharpness = sharpness
        self.alpha = alpha

    def fit(self, X: np.ndarray, y: np.ndarray) -> GaussianRidge:
        """X : (n, p) without gaps; y : (n, t) or (n,)."""
        X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
        self.gamma_ = self.sharpness / (X.shape[1] * (X.var() or 1.0))
        self.rows_ = X
        kernel = rbf_kernel(X, gamma=self.gamma_)
        self.offset_ = kernel.mean(axis=0)
        self.mean_ = y.mean(axis=0)
        centred = kernel - self.offset_ - self.offset_[:, None] + self.offset_.mean()
        centred[np.diag_indices_from(centred)] += self.alpha
        self.weights_ = np.linalg.solve(centred, y - self.mean_)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """X : (m, p) -> (m, t) or (m,)."""
        # The weights sum to 0, since the centred kernel does, so that a row's own mean of the kernel drops out.
        kernel = rbf_kernel(np.asarray(X, dtype=float), self.rows_, gamma=self.gamma_)
        return self.mean_ + (kernel - self.offset_) @ self.weights_


class MeanRegressor(RegressorMixin, BaseEstimator):
    """The mean of several regressors' predictions.

    estimators : (name, regressor) pairs
    """

    def __init__(self, estimators: list):
        self.estimators = estimators

    def fit(self, X: np.ndarray, y: np.ndarray) -> MeanRegressor:
        """X : (n, p); y : (n, t) or (n,)."""
        self.estimators_ = [clone(estimator).fit(X, y) for _, estimator in self.estimators]
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """X : (m, p) -> (m, t); forests of one target predict (m,)."""
        return np.mean([estimator.predict(X).reshape(len(X), -1) for estimator in self.estimators_], axis=0)
