"""Exact Shapley values of groups of columns, for any model: what each group as a whole does to a prediction.

Conventions
-----------
The players are groups. A group that is absent takes its columns, all together, from a track of the training part; the
worth of a coalition is the mean prediction over such tracks (interventional expectation). Values are in rating points,
and base + sum of values = prediction.

Two forms of group importance
-----------------------------
*Signed sums* of SHAP values within a group (`attribution.sum_by`) share out what every single column does. *Grouped
Shapley values* share out what whole groups do: columns of a group come and go together, so that nothing depends on how
credit is divided among columns that say the same, and an interaction of two groups is halved between them instead of
being split by their numbers of columns. For a model that is additive over groups both are equal when they use the same
background. They differ where groups interact; and trees' SHAP values are path-dependent, which follows the training
data's correlations, whereas the values here break them between groups. Grouped values exist for models that have no
exact SHAP values of columns too, such as support vectors.

Cost
----
2^G - 2 coalitions x tracks x background tracks predictions, G groups: 126 x 48 x 32 = 194 000 for one fold of 239
tracks with seven groups. Support vectors with a Gaussian kernel need no more than G (tracks + background tracks) x
vectors. Above eight groups it is refused.

References
----------
L. Shapley, 1953; M. Jullum, A. Redelmeier & K. Aas, groupShapley, arXiv:2106.12228; D. Janzing, L. Minorics & P.
Bloebaum, AISTATS 2020 (interventional expectation).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, QuantileTransformer
from sklearn.svm import SVR

from mer_core.errors import UserError
from mer_core.models.preparation import CommonScale
from mer_core.models.reductions import Decorrelate, GroupPca

MOST_GROUPS = 8
BACKGROUND = 32  # training tracks that stand for "absent"
ADDITIVITY = 1e-6  # rating points between prediction and base + sum of values, at most
CELLS = 4_000_000  # of the table given to one call of `predict`: 32 MB
COLUMN_BY_COLUMN = (SimpleImputer, QuantileTransformer, FunctionTransformer, MinMaxScaler, CommonScale)


def grouped_shapley(
    predict: Callable[[np.ndarray], np.ndarray], features: np.ndarray, groups: Sequence[str], background: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Exact Shapley values of groups of columns.

    Parameters
    ----------
    predict : (k, p) -> (k, t) or (k,), rating points; each row for itself
    features : (n, p) of the tracks to explain
    groups : (p,) group of each column; at most 8 different ones
    background : (m, p) tracks that absent groups take their columns from

    Returns
    -------
    base (t,): mean prediction of the background; values (n, G, t), groups in order of first appearance

    Raises
    ------
    UserError : more than 8 groups
    RuntimeError : base + sum of values misses a prediction by more than 1e-6, or a prediction is no number
    """
    features, background = np.asarray(features, dtype=float), np.asarray(background, dtype=float)
    labels = list(dict.fromkeys(groups))
    _check(labels, groups, features, background)
    members = np.array([[group == label for group in groups] for label in labels])
    whole = predict(features).reshape(len(features), -1)
    base = predict(background).reshape(len(background), -1).mean(axis=0)
    return base, _values(
        whole, base, len(labels), lambda present: _worth(predict, features, background, members[present].any(axis=0))
    )


def explain_groups(
    pipeline: Pipeline, background: np.ndarray, features: np.ndarray, groups: Sequence[str], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Grouped Shapley values of a fitted pipeline, with at most 32 tracks of the background, drawn by the seed.

    Steps that keep the groups apart (all but components of all columns) are done once, before tracks are mixed.

    Parameters
    ----------
    pipeline : fitted, from `mer_core.models.regressors.make_regressor`, of any family
    background : (m, p) raw features of its training tracks; features : (n, p); groups : (p,)

    Returns
    -------
    base (t,), values (n, G, t), groups in order of first appearance; a group the model leaves out has zeros
    """
    labels = list(dict.fromkeys(groups))
    _check(labels, groups, features, background)
    chosen = np.random.default_rng(seed).permutation(len(background))[:BACKGROUND]
    steps, left = _separable_steps(pipeline, groups)
    features, background = np.asarray(features, dtype=float), np.asarray(background, dtype=float)[np.sort(chosen)]
    if steps:
        features, background = (pipeline[:steps].transform(table) for table in (features, background))
    rest = pipeline[steps:]
    if _is_kernel_machine(rest):
        base, found = _kernel_shapley(rest, features, left, background)
    else:
        base, found = grouped_shapley(rest.predict, features, left, background)
    values = np.zeros((len(features), len(labels), found.shape[2]))
    values[:, [labels.index(label) for label in dict.fromkeys(left)]] = found
    return base, values


def group_columns(columns: pd.DataFrame) -> pd.DataFrame:
    """What each group is, as the column table of an explanation: one row a group, in order of first appearance.

    columns : from `describe_columns`
    """
    counts = columns["group"].value_counts(sort=False)
    labels = list(dict.fromkeys(columns["group"]))
    table = pd.DataFrame(index=pd.Index(labels, name="column", dtype=object))
    for name in ("lld", "descriptor", "group", "musical"):
        table[name] = labels
    words = [f"{label.replace('_', ' ')} as a whole (columns: {counts[label]})" for label in labels]
    return table.assign(statistic="together", plain=words)


def group_levels(features: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """How high each group's columns are: mean of their standardised values, to colour a plot by. (n, p) -> (n, G).

    Gaps and constant columns count as average.
    """
    features = pd.DataFrame(features)
    spread = features.std(ddof=0)
    standard = ((features - features.mean()) / spread.where(spread > 0)).fillna(0.0).to_numpy()
    labels = np.asarray(groups, dtype=object)
    return np.column_stack([standard[:, labels == label].mean(axis=1) for label in dict.fromkeys(groups)])


def _check(labels: list[str], groups: Sequence[str], features: np.ndarray, background: np.ndarray) -> None:
    if len(labels) > MOST_GROUPS:
        raise UserError(
            f"exact Shapley values of {len(labels)} groups need {2 ** len(labels)} coalitions; at most {MOST_GROUPS} "
            "groups are possible: merge groups, or sum the SHAP values of their columns"
        )
    if not len(background) or len({len(groups), np.shape(features)[1], np.shape(background)[1]}) > 1:
        raise ValueError(
            f"{len(groups)} groups, features {np.shape(features)} and background {np.shape(background)} do not fit"
        )


def _values(whole: np.ndarray, base: np.ndarray, count: int, worth: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Shapley values (n, G, t) from predictions (n, t), the base (t,) and the worth (n, t) of groups (G,) bool."""
    shares = _shares(count)
    values = np.zeros((len(whole), count, whole.shape[1]))
    full = 2**count - 1
    for coalition in range(full + 1):
        present = (coalition >> np.arange(count) & 1).astype(bool)
        found = np.broadcast_to(base, whole.shape) if coalition == 0 else whole if coalition == full else worth(present)
        values += shares[present.sum(), present.astype(int)][None, :, None] * found[:, None, :]
    error = np.abs(base + values.sum(axis=1) - whole).max()
    if not error <= ADDITIVITY:
        raise RuntimeError(f"grouped Shapley values miss a prediction by {error:.2e} rating points")
    return values


def _shares(count: int) -> np.ndarray:
    """Shapley's weights by size of a coalition: [size, 1] of its members, [size, 0] (negative) of the others."""
    shares = np.zeros((count + 1, 2))
    for size in range(count + 1):
        if size > 0:
            shares[size, 1] = math.factorial(size - 1) * math.factorial(count - size) / math.factorial(count)
        if size < count:
            shares[size, 0] = -math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
    return shares


def _worth(predict: Callable, features: np.ndarray, background: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Mean prediction (n, t) when the columns `known` (p,) are the track's own and the others a background track's."""
    step = max(1, CELLS // background.size)
    parts = []
    for start in range(0, len(features), step):
        rows = features[start : start + step]
        mixed = np.repeat(background[None], len(rows), axis=0)
        mixed[:, :, known] = rows[:, None, known]
        predicted = predict(mixed.reshape(-1, mixed.shape[2]))
        parts.append(predicted.reshape(len(rows), len(background), -1).mean(axis=1))
    return np.concatenate(parts)


def _is_kernel_machine(rest: Pipeline) -> bool:
    machines = [getattr(one, "regressor_", None) for one in getattr(rest[-1], "estimators_", [])]
    return len(rest) == 1 and bool(machines) and all(isinstance(one, SVR) and one.kernel == "rbf" for one in machines)


def _kernel_shapley(
    rest: Pipeline, features: np.ndarray, groups: Sequence[str], background: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `grouped_shapley`, for support vectors with a Gaussian kernel, without mixing any tracks.

    The kernel exp(-gamma |z - s|^2) is a product over groups, so that its mean over background tracks is a product of
    the present groups' factors of the track and the mean of the absent groups' factors: G x (n + m) of them in all.
    """
    labels, targets = np.asarray(groups, dtype=object), []
    for machine in rest[-1].estimators_:
        vectors = machine.regressor_

        def factors(rows: np.ndarray, vectors: SVR = vectors) -> np.ndarray:
            found = []
            for label in dict.fromkeys(groups):
                distance = cdist(rows[:, labels == label], vectors.support_vectors_[:, labels == label], "sqeuclidean")
                found.append(np.exp(-vectors._gamma * distance))
            return np.array(found)

        targets.append((factors(features), factors(background), vectors, machine.transformer_))

    def worth(present: np.ndarray) -> np.ndarray:
        parts = []
        for own, other, vectors, scaler in targets:
            kernel = own[present].prod(axis=0) * other[~present].prod(axis=0).mean(axis=0)
            parts.append(scaler.inverse_transform((kernel @ vectors.dual_coef_[0] + vectors.intercept_)[:, None]))
        return np.hstack(parts)

    whole = rest.predict(features).reshape(len(features), -1)
    base = rest.predict(background).reshape(len(background), -1).mean(axis=0)
    return base, _values(whole, base, len(targets[0][0]), worth)


def _separable_steps(pipeline: Pipeline, groups: Sequence[str]) -> tuple[int, list[str]]:
    """How many first steps make columns out of one group each, and the groups of the columns that they make."""
    left = list(groups)
    for number, (_, step) in enumerate(pipeline.steps):
        if isinstance(step, Decorrelate):
            left = [group for group, kept in zip(left, step.kept_, strict=True) if kept]
        elif isinstance(step, GroupPca) and list(step.groups) == left:
            left = [group for group, block in step.blocks_.items() for _ in block["loadings"]]
        elif not isinstance(step, COLUMN_BY_COLUMN):
            return number, left
    return len(pipeline.steps), left
