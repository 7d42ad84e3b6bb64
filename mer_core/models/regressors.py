"""Families of regressors from a feature table to several ratings at once.

Conventions
-----------
A model is a scikit-learn pipeline: the steps of `mer_core.models.preparation` (imputation, reduction, scaling), then
the regressor. It is fitted on features (n, p) and ratings (n, t) on the
rating scale, and predicts (n, t); forests of one target predict (n,). Every step is fitted on what it is given and
nothing else, so fitting inside a fold cannot leak. The same seed gives the same model.

Parameters were chosen inside the training part of one fold of two data sets (DEAM's 1802 songs x 167 columns, 239
film-music excerpts x 2080 columns).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    ExtraTreesRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
    VotingRegressor,
)
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import MultiTaskElasticNetCV, RidgeCV
from sklearn.model_selection import KFold
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from mer_core.errors import UserError
from mer_core.models.kernel import GaussianRidge, MeanRegressor
from mer_core.models.preparation import reducing_steps, scaling_steps
from mer_core.models.reductions import COMPONENTS

# Ratings are (n, t) throughout, also for one target.
warnings.filterwarnings("ignore", message="A column-vector y was passed", category=DataConversionWarning)


@dataclass(frozen=True)
class Family:
    """A kind of regressor.

    make : (seed, threads, parameters) -> unfitted estimator for ratings (n, t)
    scaled : whether its features are brought to one scale first
    explainer : "tree", "linear" or "mixed" where exact SHAP values exist, else None
    summary : one line for help texts
    grid : parameter sets that nested cross-validation chooses from, the defaults first
    """

    make: Callable[[int, int, dict], object]
    scaled: bool
    explainer: str | None
    summary: str
    grid: tuple[dict, ...]


def make_regressor(
    family: str,
    seed: int,
    *,
    threads: int = 1,
    reduction: str | None = None,
    columns: pd.DataFrame | None = None,
    **parameters,
) -> Pipeline:
    """Unfitted pipeline of a family.

    Parameters
    ----------
    family : key of `FAMILIES`
    seed : of everything random in it
    threads : used inside forests and the elastic net's search; folds are the better thing to run in parallel
    reduction : key of `mer_core.models.reductions.REDUCTIONS`, or None
    columns : what each column means, from `describe_columns`; needed by a reduction
    parameters : replace the family's defaults, e.g. one entry of its grid

    Raises
    ------
    UserError : an unknown family or reduction, or a reduction that does not fit the columns
    """
    if family not in FAMILIES:
        raise UserError(f"model {family!r} is unknown: choose from {', '.join(FAMILIES)}")
    last = _last_steps(family, seed, threads, reduction in COMPONENTS, parameters)
    return Pipeline([*reducing_steps(reduction, columns), *last])


def component_regressor(family: str, seed: int) -> Pipeline:
    """What a family's pipeline has after its components, to be fitted on components that were found beforehand."""
    return Pipeline(_last_steps(family, seed, 1, True, {}))


def _last_steps(family: str, seed: int, threads: int, on_components: bool, parameters: dict) -> list:
    """Scaling and regressor."""
    kind = FAMILIES[family]
    regressor = kind.make(seed, threads, parameters)
    if on_components and family == "blend":  # whose ridge scales by itself, next to trees that do not
        regressor.set_params(estimator__ridge=_scaled_ridge(on_components))
    return [*(scaling_steps(on_components) if kind.scaled else []), ("regressor", regressor)]


def width(model: Pipeline) -> int:
    """Columns or components that a fitted pipeline's regressor sees."""
    reduce, n_columns = model.named_steps.get("reduce"), model["impute"].n_features_in_
    return n_columns if reduce is None else len(reduce.get_feature_names_out(np.arange(n_columns)))


def _ridge(seed: int, threads: int, parameters: dict) -> RidgeCV:
    """L2 penalty chosen per target by leave-one-out error within the training data (closed form, no randomness)."""
    return RidgeCV(**{"alphas": np.logspace(-1, 5, 19), "alpha_per_target": True} | parameters)


def _elasticnet(seed: int, threads: int, parameters: dict) -> MultiTaskElasticNetCV:
    """Penalty chosen by three folds within the training data; a column is kept for all targets or for none."""
    inner = KFold(3, shuffle=True, random_state=seed)
    defaults = {"l1_ratio": 0.3, "alphas": 15, "eps": 3e-3, "tol": 1e-3}
    return MultiTaskElasticNetCV(**defaults | parameters, cv=inner, n_jobs=threads)


def _svr(seed: int, threads: int, parameters: dict) -> MultiOutputRegressor:
    """Targets are standardised, so that the width of the tube means the same on every rating scale."""
    machine = SVR(**{"C": 5.0, "epsilon": 0.1, "gamma": "auto"} | parameters)
    return MultiOutputRegressor(TransformedTargetRegressor(machine, transformer=StandardScaler()))


# Depth and leaf size are capped because the cost of exact SHAP values follows leaves x depth^2; no R2 is lost by it.
def _forest(seed: int, threads: int, parameters: dict) -> RandomForestRegressor:
    defaults = {"n_estimators": 300, "max_features": "sqrt", "min_samples_leaf": 3, "max_depth": 12}
    return RandomForestRegressor(**defaults | parameters, random_state=seed, n_jobs=threads)


def _extra_trees(seed: int, threads: int, parameters: dict) -> ExtraTreesRegressor:
    defaults = {"n_estimators": 300, "max_features": 0.33, "min_samples_leaf": 3, "max_depth": 12}
    return ExtraTreesRegressor(**defaults | parameters, random_state=seed, n_jobs=threads)


def _boosted_trees(seed: int, parameters: dict) -> HistGradientBoostingRegressor:
    """One target's boosted trees."""
    defaults = {"learning_rate": 0.025, "max_iter": 500, "max_leaf_nodes": 15, "l2_regularization": 5.0}
    defaults |= {"max_features": 0.2, "max_bins": 64, "early_stopping": False}
    return HistGradientBoostingRegressor(**defaults | parameters, random_state=seed)


def _boosting(seed: int, threads: int, parameters: dict) -> MultiOutputRegressor:
    return MultiOutputRegressor(_boosted_trees(seed, parameters))


def _blend(seed: int, threads: int, parameters: dict) -> MultiOutputRegressor:
    """Mean of ridge and boosting, whose errors differ; SHAP values of a mean are the mean of the SHAP values."""
    members = [("ridge", _scaled_ridge(False)), ("boosting", _boosted_trees(seed, parameters))]
    return MultiOutputRegressor(VotingRegressor(members))


def _scaled_ridge(on_components: bool) -> Pipeline:
    """One target's ridge with the scaling that the family has."""
    return Pipeline([*scaling_steps(on_components), ("ridge", RidgeCV(alphas=np.logspace(-1, 5, 19)))])


def _kernel_ridge(seed: int, threads: int, parameters: dict) -> GaussianRidge:
    """Sharpness and penalty were chosen by folds inside the training parts of 239 film-music excerpts, on embeddings.

    There, R2 of valence, arousal and tension averaged .713, where ridge had .694 and svr .670 (musicnn-mtt@dense).
    """
    return GaussianRidge(**parameters)


def _committee(seed: int, threads: int, parameters: dict) -> MeanRegressor:
    """Kernel ridge follows what is nearly linear, trees the skewed ratings that are low for most tracks.

    Correlations rise a little with the trees, R2 does not.
    """
    trees = _extra_trees(seed, threads, {"max_features": 0.1, "n_estimators": 200})
    return MeanRegressor([("kernel-ridge", GaussianRidge(**parameters)), ("extra-trees", trees)])


def _mlp(seed: int, threads: int, parameters: dict) -> object:
    from mer_core.models.networks.heads import HeadRegressor

    return HeadRegressor(**{"rate": 1e-3, "epochs": 200, "patience": 30} | parameters, seed=seed)


FAMILIES: dict[str, Family] = {
    "ridge": Family(_ridge, True, "linear", "linear, all columns shrunk", ({},)),
    "elasticnet": Family(
        _elasticnet, True, "linear", "linear, few columns kept", ({}, {"l1_ratio": 0.1}, {"l1_ratio": 0.9})
    ),
    "svr": Family(_svr, True, None, "support vectors with a Gaussian kernel", ({}, {"C": 1.0}, {"C": 20.0})),
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
        ({}, {"max_features": 0.1}, {"min_samples_leaf": 8}),
    ),
    "boosting": Family(
        _boosting,
        False,
        "tree",
        "gradient-boosted trees, one model per target",
        ({}, {"max_leaf_nodes": 6}, {"max_iter": 250}),
    ),
    "blend": Family(
        _blend,
        False,
        "mixed",
        "mean of ridge and boosting",
        ({}, {"max_leaf_nodes": 6}, {"max_iter": 250}),
    ),
    "kernel-ridge": Family(
        _kernel_ridge,
        True,
        None,
        "ridge with a wide Gaussian kernel, for embeddings",
        ({}, {"alpha": 0.1}, {"alpha": 0.4}, {"sharpness": 0.5}, {"sharpness": 0.125}),
    ),
    "committee": Family(
        _committee,
        True,
        None,
        "mean of kernel-ridge and extra-trees",
        ({}, {"alpha": 0.4}, {"sharpness": 0.5}),
    ),
    "mlp": Family(_mlp, True, None, "small neural network", ({}, {"rate": 3e-4}, {"decay": 1e-2})),
}
