"""Attributions to principal components that each fold has found for itself, brought under common names.

Conventions
-----------
Components are refitted on every fold's training part. What is called "dissonance PC3" is the third component of that
group in each fold; folds whose third components differ are not made to agree. The sign of a component is arbitrary, so
scores are turned to correlate positively with those of the components of all tracks; a value (its SHAP value) does not
depend on the sign. `agreement` says how alike the folds' components are: the mean over folds of the absolute
correlation of their scores with those of all tracks, over all tracks. A component that a fold does not have counts
nothing there, and its score is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from mer_core.features.groups import descriptor_words
from mer_core.models.reductions import Decorrelate, loadings_table

ALL_GROUPS = "all groups"  # stands where a component is made of columns of every group
NAMED = 2  # loadings in a component's plain words


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
    return pd.DataFrame(reduce.transform(model["impute"].transform(matrix)), columns=reduce.get_feature_names_out())


def merge_folds(
    model: Pipeline, matrix: np.ndarray, columns: pd.DataFrame, folds: list[tuple[np.ndarray, pd.DataFrame, np.ndarray]]
) -> Components:
    """One table of all folds' components.

    Parameters
    ----------
    model : any fold's, for its imputation and reduction, which are fitted again on all tracks as what to compare with
    matrix : (n, p) raw features of all tracks
    columns : what each raw column means, from `describe_columns`
    folds : per fold, its tracks (n,) bool, `component_scores` of all tracks, attributions (m, k, t) of its own
    """
    most = max(len(block["loadings"]) for block in model["reduce"].blocks_.values())
    widest = max(scores.shape[1] for _, scores, _ in folds) + most
    common = clone(model[:2]).set_params(reduce__components=widest).fit(matrix)
    reference = pd.DataFrame(common.transform(matrix), columns=common[-1].get_feature_names_out())
    found = {name for _, scores, _ in folds for name in scores}
    names = [name for name in reference if name in found]
    names += sorted(found.difference(names), key=lambda name: (name.rpartition("PC")[0], int(name.rpartition("PC")[2])))
    out = np.full((len(matrix), len(names)), np.nan)
    values = np.zeros((len(matrix), len(names), folds[0][2].shape[2]))
    likeness = np.full((len(folds), len(names)), np.nan)
    for number, (tracks, scores, attributions) in enumerate(folds):
        positions = pd.Index(names).get_indexer(scores.columns)
        alike = _correlations(scores, reference.reindex(columns=scores.columns))
        out[np.ix_(tracks, positions)] = scores.to_numpy()[tracks] * np.where(alike < 0, -1.0, 1.0)
        values[np.ix_(tracks, positions)] = attributions
        likeness[number, positions] = np.abs(alike)
    about = describe_components(common[-1], columns, names)
    return Components(about.assign(agreement=np.nanmean(likeness, axis=0).round(3)), out, values)


def describe_components(reduce, columns: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """What each component means, in the form of `describe_columns`: named by its group and its strongest loadings.

    reduce : fitted `GroupPca` or `GlobalPca`; columns : of the raw table; names : components, some of which it may lack
    """
    strongest = loadings_table(reduce, columns).groupby("component", sort=False).head(NAMED)
    words = descriptor_words()
    said = {}
    for name, rows in strongest.groupby("component", sort=False):
        descriptors = columns.loc[rows["column"], "descriptor"]
        signs = np.where(rows["loading"] < 0, "less", "more")
        said[name] = "; ".join(
            f"{sign} {words.get(what, what)} {statistic}"
            for sign, what, statistic in zip(signs, descriptors, rows["statistic"], strict=True)
        )
    table = []
    for name in names:
        group, rank = name.rpartition("PC")[0].strip() or ALL_GROUPS, name.rpartition("PC")[2]
        title = f"component {rank} of {group.replace('_', ' ')}"
        plain = f"{title}: {said[name]}" if name in said else title
        table.append((name, "component", name, group, "mixed", plain))
    return pd.DataFrame(
        table,
        index=pd.Index(names, name="column", dtype=object),
        columns=["lld", "statistic", "descriptor", "group", "musical", "plain"],
        dtype=object,
    )


def _correlations(scores: pd.DataFrame, reference: pd.DataFrame) -> np.ndarray:
    """Pearson correlation of each pair of columns (k,); NaN where the reference has no such column."""
    a, b = (table.to_numpy() - table.to_numpy().mean(axis=0) for table in (scores, reference))
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
