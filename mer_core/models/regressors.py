"""Families of regressors from a feature table to several ratings at once.

Conventions
-----------
A model is a scikit-learn pipeline: median imputation, standardisation where the family needs it, regressor. It is
fitted on features (n, p) and ratings (n, t) on the rating scale, and predicts (n, t); forests of one target predict
(n,). Every step is fitted on what it is given and nothing else, so fitting inside a fold cannot leak. The same seed
gives the same model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.exceptions import DataConversionWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, RidgeCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from mer_core.errors import UserError

# Ratings are (n, t) throughout, also for one target.
warnings.filterwarnings("ignore", message="A column-vector y was passed", category=DataConversionWarning)


@dataclass(frozen=True)
class Family:
    """A kind of regressor.

    make : (seed, threads, parameters) -> unfitted estimator for ratings (n, t)
    scaled : whether its features are standardised first
    explainer : "tree" or "linear" where exact SHAP values exist, else None
    summary : one line for help texts
    grid : parameter sets that nested cross-validation chooses from, the defaults first
    """

    make: Callable[[int, int, dict], object]
    scaled: bool
    explainer: str | None
    summary: str
    grid: tuple[dict, ...]


def make_regressor(family: str, seed: int, *, threads: int = 1, **parameters) -> Pipeline:
    """Unfitted pipeline of a family.

    Parameters
    ----------
    family : key of `FAMILIES`
    seed : of everything random in it
    threads : used inside forests; folds are the better thing to run in parallel
    parameters : replace the family's defaults, e.g. one entry of its grid

    Raises
    ------
    UserError : an unknown family
    """
    if family not in FAMILIES:
        raise UserError(f"model {family!r} is unknown: choose from {', '.join(FAMILIES)}")
    kind = FAMILIES[family]
    # A column that is empty in one fold keeps its place (as zeros), so that columns and attributions stay aligned.
    steps = [("impute", SimpleImputer(strategy="median", keep_empty_features=True))]
    if kind.scaled:
        steps.append(("scale", StandardScaler()))
    return Pipeline([*steps, ("regressor", kind.make(seed, threads, parameters))])


def _ridge(seed: int, threads: int, parameters: dict) -> RidgeCV:
    """L2 penalty chosen per target by leave-one-out error within the training data (closed form, no randomness)."""
    return RidgeCV(**{"alphas": np.logspace(0, 6, 19), "alpha_per_target": True} | parameters)


def _elasticnet(seed: int, threads: int, parameters: dict) -> ElasticNet:
    return ElasticNet(**{"alpha": 0.1, "l1_ratio": 0.5, "max_iter": 5000} | parameters)


def _svr(seed: int, threads: int, parameters: dict) -> MultiOutputRegressor:
    """Targets are standardised, so that the width of the tube means the same on every rating scale."""
    machine = SVR(**{"C": 1.0, "epsilon": 0.1} | parameters)
    return MultiOutputRegressor(TransformedTargetRegressor(machine, transformer=StandardScaler()))


def _forest(seed: int, threads: int, parameters: dict) -> RandomForestRegressor:
    defaults = {"n_estimators": 400, "max_features": "sqrt", "min_samples_leaf": 3, "max_depth": 12}
    return RandomForestRegressor(**defaults | parameters, random_state=seed, n_jobs=threads)


def _extra_trees(seed: int, threads: int, parameters: dict) -> ExtraTreesRegressor:
    defaults = {"n_estimators": 400, "max_features": 0.33, "min_samples_leaf": 3, "max_depth": 12}
    return ExtraTreesRegressor(**defaults | parameters, random_state=seed, n_jobs=threads)


def _boosting(seed: int, threads: int, parameters: dict) -> MultiOutputRegressor:
    defaults = {"learning_rate": 0.05, "max_iter": 300, "max_leaf_nodes": 15, "l2_regularization": 1.0}
    defaults |= {"max_features": 0.3, "early_stopping": False}
    return MultiOutputRegressor(HistGradientBoostingRegressor(**defaults | parameters, random_state=seed))


FAMILIES: dict[str, Family] = {
    "ridge": Family(_ridge, True, "linear", "linear, all columns shrunk", ({},)),
    "elasticnet": Family(
        _elasticnet,
        True,
        "linear",
        "linear, few columns kept",
        ({}, {"alpha": 0.03}, {"alpha": 0.3}),
    ),
    "svr": Family(_svr, True, None, "support vectors with a Gaussian kernel", ({}, {"C": 0.3}, {"C": 3.0})),
    "forest": Family(
        _forest,
        False,
        "tree",
        "random forest, one for all targets",
        ({}, {"max_features": 0.33}, {"min_samples_leaf": 8}),
    ),
    "extra-trees": Family(
        _extra_trees,
        False,
        "tree",
        "extremely randomised trees, one forest for all targets",
        ({}, {"max_features": "sqrt"}, {"min_samples_leaf": 8}),
    ),
    "boosting": Family(
        _boosting,
        False,
        "tree",
        "gradient-boosted trees, one model a target",
        ({}, {"max_leaf_nodes": 7}, {"max_iter": 600}),
    ),
}
