"""Attributions to principal components that each fold has found for itself, brought under common names.

Conventions
-----------
Components are refitted on every fold's training part. Their order and sign are accidents of these tracks: two of like
variance change places from fold to fold. So each component of a fold is shown under the name of the component of all
tracks that it is most like: within its group one to one, with the highest sum of absolute correlations of the scores,
over all tracks (Hungarian method), and turned so that the correlation is positive. Its SHAP values are not touched by
that. `agreement` is the mean over folds of this absolute correlation: near 1 every fold has found this component, near
0 the name stands for something else in each. A component that a fold does not have counts nothing there, and its score
is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from mer_core.features.groups import descriptor_words
from mer_core.models.preparation import reducing_part
from mer_core.models.reductions import Decorrelate, loadings_table

ALL_GROUPS = "all groups"  # stands where a component is made of columns of every group
NAMED = 2  # descriptors in a component's plain words


@dataclass(frozen=True)
class Components:
    """What the attributions of a run with components belong to.

    about : (q,) rows, index component, as the column table of an explanation, and `agreement` of the folds, 0..1
    scores : (n, q) of each track on its own fold's components, NaN where the fold has no such component
    values : (n, q, t) rating points
    """

    about: pd.DataFrame
    scores: np.ndarray
    values: np.ndarray


def component_scores(model: Pipeline, matrix: np.ndarray) -> pd.DataFrame | None:
    """Scores (n, k) of all tracks on a fitted model's components; None where it works on columns."""
    reduce = model.named_steps.get("reduce")
    if reduce is None or isinstance(reduce, Decorrelate):
        return None
    return pd.DataFrame(reducing_part(model).transform(matrix), columns=reduce.get_feature_names_out())


def merge_folds(
    model: Pipeline, matrix: np.ndarray, columns: pd.DataFrame, folds: list[tuple[np.ndarray, pd.DataFrame, np.ndarray]]
) -> Components:
    """One table of all folds' components.

    Parameters
    ----------
    model : any fold's, whose steps up to the reduction are fitted again on all tracks, as what to compare with
    matrix : (n, p) raw features of all tracks
    columns : what each raw column means, from `describe_columns`
    folds : per fold, its tracks (n,) bool, `component_scores` of all tracks, attributions (m, k, t) of its own
    """
    counts = {
        group: max(_group_of(scores.columns).count(group) for _, scores, _ in folds)
        for group in dict.fromkeys(group for _, scores, _ in folds for group in _group_of(scores.columns))
    }
    names = [f"{group} PC{rank}".strip() for group, count in counts.items() for rank in range(1, count + 1)]
    common = clone(reducing_part(model)).set_params(reduce__components=max(counts.values())).fit(matrix)
    reference = pd.DataFrame(common.transform(matrix), columns=common[-1].get_feature_names_out())
    reference = reference.reindex(columns=names, fill_value=0.0).to_numpy()
    out = np.full((len(matrix), len(names)), np.nan)
    values = np.zeros((len(matrix), len(names), folds[0][2].shape[2]))
    likeness = np.full((len(folds), len(names)), np.nan)
    for number, (tracks, scores, attributions) in enumerate(folds):
        positions, alike = _matched(scores, reference, names)
        out[np.ix_(tracks, positions)] = scores.to_numpy()[tracks] * np.where(alike < 0, -1.0, 1.0)
        values[np.ix_(tracks, positions)] = attributions
        likeness[number, positions] = np.abs(alike)
    about = describe_components(common[-1], columns, names)
    return Components(about.assign(agreement=np.nanmean(likeness, axis=0).round(3)), out, values)


def _matched(scores: pd.DataFrame, reference: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Position in `names` of each of a fold's components (k,), and its correlation with the reference there."""
    correlation = _correlations(scores.to_numpy(), reference)
    own, other = (np.asarray(_group_of(table), dtype=object) for table in (scores.columns, names))
    positions = np.empty(len(own), dtype=int)
    for group in dict.fromkeys(own):
        mine, theirs = np.flatnonzero(own == group), np.flatnonzero(other == group)
        rows, places = linear_sum_assignment(np.abs(correlation[np.ix_(mine, theirs)]), maximize=True)
        positions[mine[rows]] = theirs[places]
    return positions, correlation[np.arange(len(own)), positions]


def _group_of(names: Iterable[str]) -> list[str]:
    """The group in "dissonance PC3", "" in "PC3"."""
    return [name.rpartition("PC")[0].strip() for name in names]


def describe_components(reduce, columns: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """What each component means, in the form of `describe_columns`: named by its group and its strongest loadings.

    The musical label is the group, or the component itself where components are made of all columns.

    reduce : fitted `GroupPca` or `GlobalPca`; columns : of the raw table; names : components, some of which it may lack
    """
    loadings = loadings_table(reduce, columns)
    loadings["descriptor"] = columns["descriptor"].loc[loadings["column"]].to_numpy()
    each = loadings.drop_duplicates(["component", "descriptor"])
    strongest = each.groupby("component", sort=False).head(NAMED)
    words, said = descriptor_words(), {}
    for name, rows in strongest.groupby("component", sort=False):
        signs = np.where(rows["loading"] < 0, "less", "more")
        parts = zip(signs, rows["descriptor"], rows["statistic"], strict=True)
        said[name] = ": " + "; ".join(f"{sign} {words.get(what, what)} {statistic}" for sign, what, statistic in parts)
    table = []
    for name in names:
        group, rank = _group_of([name])[0], name.rpartition("PC")[2]
        title = f"{group.replace('_', ' ') or 'component'} {rank}"
        plain = f"{title}{said.get(name, '')} (component)"
        table.append((name, "component", name, group or ALL_GROUPS, group or name, plain))
    return pd.DataFrame(
        table,
        index=pd.Index(names, name="column", dtype=object),
        columns=["lld", "statistic", "descriptor", "group", "musical", "plain"],
        dtype=object,
    )


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlations (columns of a, columns of b); 0 with a constant column."""
    unit = []
    for table in (a, b):
        centred = table - table.mean(axis=0)
        length = np.linalg.norm(centred, axis=0)
        unit.append(centred / np.where(length > 0, length, 1.0))
    return unit[0].T @ unit[1]
