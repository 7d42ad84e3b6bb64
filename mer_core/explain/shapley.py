"""Exact SHAP values of a fitted regression pipeline: base + sum of values = prediction, for every track and target.

Conventions
-----------
Values are in rating points. A positive value means that this column's content raised the prediction. Trees:
path-dependent expectation over the training data (the tree's own node counts). Linear models: coefficient times
distance of the column's scaled value from the background's mean, which is the Shapley value when columns are varied
independently. Imputation and scaling act on each column alone, so a value belongs to the raw column. A mean of models
has the mean of their values. Where columns were dropped for saying the same as others, the kept ones have all of the
effect and the dropped ones 0. Where a model works on principal components, values belong to its components.

References
----------
S. Lundberg et al., Nature Machine Intelligence 2, 2020 (TreeSHAP); S. Lundberg & S.-I. Lee, NeurIPS 2017 (linear SHAP).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.ensemble import (
    ExtraTreesRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
    VotingRegressor,
)
from sklearn.linear_model import MultiTaskElasticNetCV, RidgeCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline

from mer_core.errors import UserError
from mer_core.models.reductions import Decorrelate

ADDITIVITY = 1e-6  # rating points between prediction and base + sum of values, at most
LINEAR = (RidgeCV, MultiTaskElasticNetCV)
TREES = (RandomForestRegressor, ExtraTreesRegressor, HistGradientBoostingRegressor)

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
    base (t,), values (n, p, t), both float64 in rating points; with components values are (n, k, t), in their order

    Raises
    ------
    UserError : the family has no exact explainer (svr)
    RuntimeError : base + sum of values misses a prediction by more than 1e-6
    """
    base, values = _explain(pipeline, background, features)
    _check_additive(np.reshape(pipeline.predict(features), (len(features), -1)), base, values)
    reduce = pipeline.named_steps.get("reduce")
    if isinstance(reduce, Decorrelate):
        kept, values = values, np.zeros((len(values), len(reduce.kept_), values.shape[2]))
        values[:, reduce.kept_] = kept
    return base, values


def _explain(estimator: object, background: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Base (t,) and values (n, p, t) of one estimator, or of the estimators it is made of."""
    if isinstance(estimator, Pipeline):
        prepare = estimator[:-1]
        return _explain(estimator[-1], *(np.asarray(prepare.transform(x), dtype=float) for x in (background, features)))
    if isinstance(estimator, LINEAR):
        return _linear(estimator, background, features)
    if isinstance(estimator, TREES):
        return _trees(estimator, features)
    if isinstance(estimator, MultiOutputRegressor):
        parts = [_explain(one, background, features) for one in estimator.estimators_]
        return np.concatenate([base for base, _ in parts]), np.concatenate([values for _, values in parts], axis=2)
    if isinstance(estimator, VotingRegressor):
        parts = [_explain(one, background, features) for one in estimator.estimators_]
        return np.mean([base for base, _ in parts], axis=0), np.mean([values for _, values in parts], axis=0)
    name = type(getattr(estimator, "regressor", estimator)).__name__.lower()
    raise UserError(f"{name} has no exact explainer: choose ridge, elasticnet, forest, extra-trees, boosting or blend")


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
