"""Heads that are sums over the dimensions of an embedding, and what each dimension adds relative to the average track.

A head's prediction is base + the sum over j of c_j(e_j), where e is the track's embedding, base the mean prediction of
the training tracks, and c_j has mean 0 over them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.pipeline import Pipeline

from mer_core.errors import UserError
from mer_core.explain.shapley import LINEAR, explain_regressor
from mer_core.models.classifiers import LinearHead


@dataclass(frozen=True)
class AdditiveHead:
    """A fitted head.

    targets : (t,) names of what it predicts
    base : (t,) mean prediction of the training tracks, or their mean logit
    contributions : embeddings (n, d) -> (n, d, t), the c_j
    reference : (d,) value of each dimension at which its contributions are 0
    spread : (d,) standard deviation over the training tracks
    """

    targets: tuple[str, ...]
    base: np.ndarray
    contributions: Callable[[np.ndarray], np.ndarray]
    reference: np.ndarray
    spread: np.ndarray


def regression_head(pipeline: Pipeline, background: np.ndarray, targets: tuple[str, ...]) -> AdditiveHead:
    """A fitted regressor of `mer_core.models.regressors` as a head.

    Parameters
    ----------
    background : (m, d) embeddings of the training tracks

    Raises
    ------
    UserError : the family is not linear, or columns are reduced first
    """
    if not isinstance(pipeline[-1], LINEAR) or "reduce" in pipeline.named_steps:
        raise UserError(
            "relevance can be handed on to the sound by ridge and elasticnet alone, on columns that are not reduced; "
            "train such a head on the same embedding"
        )
    background = np.asarray(background, dtype=float)
    base, _ = explain_regressor(pipeline, background, background[:1])
    scores = np.asarray(pipeline[:-1].transform(background), dtype=float)
    # Each column's scaling is monotonous, so the value at which its score is the mean score can be looked up.
    order = np.argsort(scores, axis=0, kind="stable")
    sorted_scores, sorted_values = (np.take_along_axis(table, order, axis=0) for table in (scores, background))
    reference = np.array(
        [
            np.interp(mean, column, values)
            for mean, column, values in zip(scores.mean(axis=0), sorted_scores.T, sorted_values.T, strict=True)
        ]
    )
    return AdditiveHead(
        targets,
        base,
        lambda rows: explain_regressor(pipeline, background, np.asarray(rows, dtype=float))[1],
        reference,
        background.std(axis=0),
    )


def classification_head(head: LinearHead, target: str) -> AdditiveHead:
    """A linear classifier's logit as a head; `target` names class 1."""
    return AdditiveHead(
        (target,),
        np.array([head.bias]),
        lambda rows: head.contributions(rows)[:, :, None],
        np.asarray(head.centre, dtype=float),
        np.asarray(head.spread, dtype=float),
    )
