"""Exact SHAP values of a fitted regression pipeline: base + sum of values = prediction, for every track and target.

Conventions
-----------
Values are in rating points. A positive value means that this column's content raised the prediction. Trees:
path-dependent expectation over the training data (the tree's own node counts). Linear models: coefficient times
distance of the column's scaled value from the background's mean, which is the Shapley value when columns are varied
independently. Imputation and scaling act on each column alone, so a value belongs to the raw column.

References
----------
S. Lundberg et al., Nature Machine Intelligence 2, 2020 (TreeSHAP); S. Lundberg & S.-I. Lee, NeurIPS 2017 (linear SHAP).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import MultiTaskElasticNetCV, RidgeCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline

from mer_core.errors import UserError

ADDITIVITY = 1e-6  # rating points between prediction and base + sum of values, at most
LINEAR = (RidgeCV, MultiTaskElasticNetCV)
FORESTS = (RandomForestRegressor, ExtraTreesRegressor)

Table = np.ndarray | pd.DataFrame


def explain_regressor(pipeline: Pipeline, background: Table, features: Table) -> tuple[np.ndarray, np.ndarray]:
    """Base value and SHAP values of every prediction.

    Parameters
    ----------
    pipeline : fitted, from `mer_core.models.regressors.make_regressor`
    background : (m, p) raw training features, what "average" means for linear models; trees carry their own
    features : (n, p) raw features of the tracks to explain

    Returns
    -------
    base (t,), values (n, p, t), both float64 in rating points

    Raises
    ------
    UserError : the family has no exact explainer (svr)
    RuntimeError : base + sum of values misses a prediction by more than 1e-6
    """
    regressor, prepare = pipeline[-1], pipeline[:-1]
    prepared = np.asarray(prepare.transform(features), dtype=float)
    if isinstance(regressor, LINEAR):
        base, values = _linear(regressor, np.asarray(prepare.transform(background), dtype=float), prepared)
    elif isinstance(regressor, FORESTS):
        base, values = _trees(regressor, prepared)
    elif isinstance(regressor, MultiOutputRegressor) and isinstance(
        regressor.estimators_[0], HistGradientBoostingRegressor
    ):
        parts = [_trees(estimator, prepared) for estimator in regressor.estimators_]
        base, values = np.concatenate([base for base, _ in parts]), np.concatenate([v for _, v in parts], axis=2)
    else:
        inner = regressor.estimators_[0] if isinstance(regressor, MultiOutputRegressor) else regressor
        name = type(getattr(inner, "regressor", inner)).__name__.lower()
        raise UserError(f"{name} has no exact explainer: choose ridge, elasticnet, forest, extra-trees or boosting")
    _check_additive(np.reshape(pipeline.predict(features), (len(prepared), -1)), base, values)
    return base, values


def _linear(
    regressor: RidgeCV | MultiTaskElasticNetCV, background: np.ndarray, prepared: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Closed form: coefficient x (value - background mean)."""
    coefficients = np.atleast_2d(regressor.coef_)
    centre = background.mean(axis=0)
    base = coefficients @ centre + regressor.intercept_
    return base, (prepared - centre)[:, :, None] * coefficients.T[None]


def _trees(estimator: object, prepared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TreeSHAP of an ensemble. base (t,), values (n, p, t)."""
    import shap

    explainer = shap.TreeExplainer(estimator, feature_perturbation="tree_path_dependent")
    # The additivity of all families is checked in one place, to a stricter bound than shap's own.
    values = np.asarray(explainer.shap_values(prepared, check_additivity=False), dtype=float)
    return np.atleast_1d(np.asarray(explainer.expected_value, dtype=float)), values.reshape(*prepared.shape, -1)


def _check_additive(predicted: np.ndarray, base: np.ndarray, values: np.ndarray) -> None:
    """Raise RuntimeError unless base + values.sum(1) equals predicted (n, t)."""
    error = np.abs(base + values.sum(axis=1) - predicted)
    if not error.max() <= ADDITIVITY:
        row, target = np.unravel_index(np.argmax(error), error.shape)
        raise RuntimeError(
            f"SHAP values of row {row}, target {target} miss its prediction by {error[row, target]:.2e} rating points "
            f"(at most {ADDITIVITY:.0e} is rounding); the explainer does not understand this model"
        )
