"""Fewer columns from many, fitted on training rows alone: decorrelation and principal components.

Conventions
-----------
Each reduction is a scikit-learn transformer of arrays (n, p) without gaps, whose columns are those of the table that it
was made for. Perceptual groups come from `describe_columns`; a column of none is "unmapped". A component is a weighted
sum of standardised columns (mean 0, standard deviation 1 on the training rows); the weights of one component, its
*loadings*, have unit length, and its largest loading is positive. The same rows give the same result. In models the
columns that components are made of are normal scores, see `mer_core.models.preparation`.

The rules follow G. Kritsovas, https://github.com/Grkritsovas/postgrad-final-project, except that they are fitted on the
training rows; that code's decorrelation looks at all songs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from mer_core.errors import UserError
from mer_core.features.groups import UNMAPPED
from mer_core.features.table import BUILDERS

THRESHOLD, VARIANCE = 0.95, 0.95
RANK = 1e-10  # a component with a smaller part of the largest one's variance is rounding, not a component
EVERYTHING = "all"  # stands for a group where components are made of all columns
TOP = 20  # loadings of each component in `reduction_tables`


class Decorrelate(TransformerMixin, BaseEstimator):
    """Drop a column when an earlier one of its perceptual group says nearly the same.

    Inside each group, in column order: a column is dropped if its absolute Pearson correlation with any earlier column,
    itself dropped or not, is above the threshold. Unmapped columns are kept, and so are constant ones, whose
    correlation is undefined.

    Parameters
    ----------
    groups : (p,) perceptual group of each column
    threshold : of the absolute correlation

    Attributes
    ----------
    kept_ : (p,) bool
    partner_ : (p,) position of the earlier column with the highest correlation, where that made a column go, else -1
    correlation_ : (p,) signed correlation with that column, NaN where kept
    """

    def __init__(self, groups: tuple[str, ...], threshold: float = THRESHOLD):
        self.groups = groups
        self.threshold = threshold

    def fit(self, X: np.ndarray, y: object = None) -> Decorrelate:
        """Choose the columns to keep. X : (n, p) without gaps."""
        X = _checked(X, len(self.groups))
        self.partner_ = np.full(X.shape[1], -1)
        self.correlation_ = np.full(X.shape[1], np.nan)
        for members in members_of(self.groups).values():
            correlation = _correlations(X[:, members])
            strength = np.abs(np.triu(correlation, k=1))
            strongest = strength.argmax(axis=0)
            gone = strength.max(axis=0) > self.threshold
            self.partner_[members[gone]] = members[strongest[gone]]
            self.correlation_[members[gone]] = correlation[strongest[gone], gone]
        self.kept_ = self.partner_ < 0
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """The kept columns (n, k)."""
        check_is_fitted(self)
        return _checked(X, len(self.groups))[:, self.kept_]

    def decisions(self, columns: pd.Index) -> pd.DataFrame:
        """What became of each column.

        columns : (p,) names

        Returns
        -------
        Rows column, group, kept, dropped_because (the earlier column), r (its correlation with that one)
        """
        check_is_fitted(self)
        columns = np.asarray(columns, dtype=object)
        because = [columns[partner] if partner >= 0 else None for partner in self.partner_]
        return pd.DataFrame(
            {
                "column": columns,
                "group": list(self.groups),
                "kept": self.kept_,
                "dropped_because": because,
                "r": self.correlation_,
            }
        )

    def get_feature_names_out(self, columns: np.ndarray) -> np.ndarray:
        """Names of the kept columns; columns : (p,) names."""
        check_is_fitted(self)
        return np.asarray(columns, dtype=object)[self.kept_]


class GroupPca(TransformerMixin, BaseEstimator):
    """Principal components of each perceptual group's decorrelated columns; unmapped columns are left out.

    Parameters
    ----------
    groups : (p,) perceptual group of each column
    threshold : of the decorrelation that comes first
    variance : a group keeps its first components that together hold at least this share of its variance
    components : keep this many of each group instead, or all that exist where there are fewer

    Attributes
    ----------
    decorrelate_ : the fitted `Decorrelate`
    blocks_ : for each group that varies, its arrays: columns (positions), centre, scale, loadings (k, columns), shares
        (of the group's variance, of every component that exists)
    """

    def __init__(
        self,
        groups: tuple[str, ...],
        threshold: float = THRESHOLD,
        variance: float = VARIANCE,
        components: int | None = None,
    ):
        self.groups = groups
        self.threshold = threshold
        self.variance = variance
        self.components = components

    def fit(self, X: np.ndarray, y: object = None) -> GroupPca:
        """Find each group's components. X : (n, p) without gaps."""
        X = _checked(X, len(self.groups))
        self.decorrelate_ = Decorrelate(self.groups, self.threshold).fit(X)
        self.blocks_ = {}
        for group, members in members_of(self.groups).items():
            block = _principal(X, members[self.decorrelate_.kept_[members]], self.variance, self.components)
            if len(block["loadings"]):
                self.blocks_[group] = block
        _check_any(self.blocks_, X)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Component scores (n, k), group by group."""
        check_is_fitted(self)
        return _scores(self.blocks_, _checked(X, len(self.groups)))

    def get_feature_names_out(self, columns: object = None) -> np.ndarray:
        """Names like "dissonance PC3"."""
        check_is_fitted(self)
        return _names(self.blocks_)


class GlobalPca(TransformerMixin, BaseEstimator):
    """Principal components of all columns together, the unmapped ones too.

    Parameters
    ----------
    variance : keep the first components that together hold at least this share of the variance
    components : keep this many instead, or all that exist where there are fewer

    Attributes
    ----------
    blocks_ : as in `GroupPca`, with the one entry "all"
    """

    def __init__(self, variance: float = VARIANCE, components: int | None = None):
        self.variance = variance
        self.components = components

    def fit(self, X: np.ndarray, y: object = None) -> GlobalPca:
        """Find the components. X : (n, p) without gaps."""
        X = _checked(X, None)
        block = _principal(X, np.arange(X.shape[1]), self.variance, self.components)
        self.blocks_ = {EVERYTHING: block} if len(block["loadings"]) else {}
        _check_any(self.blocks_, X)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Component scores (n, k)."""
        check_is_fitted(self)
        return _scores(self.blocks_, _checked(X, len(self.blocks_[EVERYTHING]["columns"])))

    def get_feature_names_out(self, columns: object = None) -> np.ndarray:
        """Names like "PC12"."""
        check_is_fitted(self)
        return _names(self.blocks_)


REDUCTIONS: dict[str, type] = {"decorrelated": Decorrelate, "group-pca": GroupPca, "global-pca": GlobalPca}
COMPONENTS = ("group-pca", "global-pca")  # whose columns are no longer those of the table


def split_reduction(spec: str) -> tuple[str, str | None]:
    """`stats8-decorrelated` -> (`stats8`, `decorrelated`); a path that exists is a table, whatever its name.

    Raises
    ------
    UserError : a reduction of nothing, two of them, or of `stats8` and its like by an unknown name
    """
    reduction = None if Path(spec).is_file() else _reduction_of(spec)
    if reduction is None:
        table, _, rest = spec.partition("-")
        if table in BUILDERS and rest.isalpha():
            raise UserError(
                f"--features {spec}: {rest} is no reduction; choose {', '.join(REDUCTIONS)}, or {table} alone"
            )
        return spec, None
    base = spec.removesuffix(reduction).removesuffix("-")
    if not base:
        raise UserError(f"--features {spec} names no table to reduce; give one, such as stats8-{reduction}")
    if not Path(base).is_file() and (inner := _reduction_of(base)):
        raise UserError(f"--features {spec} names two reductions; keep {inner} or {reduction}")
    return base, reduction


def _reduction_of(spec: str) -> str | None:
    return next((name for name in REDUCTIONS if spec == name or spec.endswith(f"-{name}")), None)


def make_reduction(name: str, columns: pd.DataFrame, **parameters) -> Decorrelate | GroupPca | GlobalPca:
    """Unfitted reduction of a table.

    Parameters
    ----------
    name : key of `REDUCTIONS`
    columns : what each column means, from `describe_columns`, in the order of the arrays to come
    parameters : replace the reduction's defaults

    Raises
    ------
    UserError : an unknown name, or a reduction by groups of columns that are in none
    """
    if name not in REDUCTIONS:
        raise UserError(f"reduction {name!r} is unknown: choose from {', '.join(REDUCTIONS)}")
    if name == "global-pca":
        return GlobalPca(**parameters)
    groups = tuple(str(group) for group in columns["group"].fillna(UNMAPPED))
    if not members_of(groups):
        raise UserError(
            f"reduction {name} works inside perceptual groups, and none of the {len(groups)} columns is in one; "
            "choose global-pca, or features made of stats8 or stats15"
        )
    return REDUCTIONS[name](groups, **parameters)


def members_of(groups: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Positions of the columns of each perceptual group, in order of first appearance; unmapped ones are in none."""
    labels = np.asarray(groups, dtype=object)
    return {group: np.flatnonzero(labels == group) for group in dict.fromkeys(groups) if group != UNMAPPED}


def loadings_table(fitted: GroupPca | GlobalPca, columns: pd.DataFrame, top: int | None = None) -> pd.DataFrame:
    """What each component is made of.

    columns : as for `make_reduction`; top : how many loadings of each component, all when None

    Returns
    -------
    Rows component, group, column, lld, statistic, loading; each component's strongest loadings first
    """
    tables = []
    for group, block in fitted.blocks_.items():
        about = columns.iloc[block["columns"]]
        for name, loadings in zip(_names({group: block}), block["loadings"], strict=True):
            order = np.argsort(-np.abs(loadings), kind="stable")[:top]
            rows = about.iloc[order][["lld", "statistic"]].rename_axis("column").reset_index()
            tables.append(rows.assign(component=name, group=group, loading=loadings[order]))
    return pd.concat(tables, ignore_index=True)[["component", "group", "column", "lld", "statistic", "loading"]]


def spectrum_table(fitted: GroupPca | GlobalPca) -> pd.DataFrame:
    """Rows group, component (1, 2, ...), share, cumulative (of the group's variance), kept; all that exist."""
    tables = []
    for group, block in fitted.blocks_.items():
        shares = block["shares"]
        ranks = np.arange(1, len(shares) + 1)
        table = {"group": group, "component": ranks, "share": shares, "cumulative": np.cumsum(shares)}
        tables.append(pd.DataFrame(table | {"kept": ranks <= len(block["loadings"])}))
    return pd.concat(tables, ignore_index=True)


def reduction_tables(fitted: Decorrelate | GroupPca | GlobalPca, columns: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What a fitted reduction did: tables "reduction", "spectrum" and "loadings" (the strongest), those that it has.

    columns : as for `make_reduction`
    """
    tables = {}
    decorrelate = fitted if isinstance(fitted, Decorrelate) else getattr(fitted, "decorrelate_", None)
    if decorrelate is not None:
        tables["reduction"] = decorrelate.decisions(columns.index)
    if not isinstance(fitted, Decorrelate):
        tables |= {"spectrum": spectrum_table(fitted), "loadings": loadings_table(fitted, columns, TOP)}
    return tables


def _checked(X: np.ndarray, columns: int | None) -> np.ndarray:
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2 or (columns is not None and X.shape[1] != columns):
        raise ValueError(f"a reduction of {columns} columns was given an array of shape {X.shape}")
    return X


def _check_any(blocks: dict, X: np.ndarray) -> None:
    if not blocks:
        raise UserError(
            f"no column of {X.shape[1]} that could go into a component varies over the {len(X)} training tracks; "
            "check the table, or use the features without reduction"
        )


def _correlations(values: np.ndarray) -> np.ndarray:
    """Pearson correlations (p, p); 0 with a constant column, for which there is none."""
    varies = np.ptp(values, axis=0) > 0
    centred = values - values.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=varies & (length > 0))
    return np.clip(unit.T @ unit, -1, 1)


def _principal(X: np.ndarray, columns: np.ndarray, variance: float, components: int | None) -> dict[str, np.ndarray]:
    """Principal components of some columns, standardised; constant columns stay at zero."""
    values = X[:, columns]
    centre, scale = values.mean(axis=0), values.std(axis=0)
    scale[(np.ptp(values, axis=0) == 0) | (scale == 0)] = 1.0
    standard = np.where(np.ptp(values, axis=0) == 0, 0.0, (values - centre) / scale)
    loadings, power = _axes(standard)
    shares = power / power.sum() if len(power) else power
    if components is None:
        # Rounding must not ask for a component more where the sum reaches the share exactly.
        wanted = int(np.searchsorted(np.cumsum(shares), variance - 1e-12)) + 1
    else:
        wanted = components
    return {"columns": columns, "centre": centre, "scale": scale, "loadings": loadings[:wanted], "shares": shares}


def _axes(standard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (k, p) of falling variance, and that variance; by the smaller of the two Gram matrices."""
    n, p = standard.shape
    power, vectors = np.linalg.eigh(standard.T @ standard if p <= n else standard @ standard.T)
    power, vectors = power[::-1], vectors[:, ::-1]
    real = power > RANK * max(float(power[0]), np.finfo(float).tiny)
    power, axes = power[real], vectors[:, real].T
    if p > n:
        axes = axes @ standard
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
    return axes * np.where(largest < 0, -1.0, 1.0)[:, None], power


def _scores(blocks: dict, X: np.ndarray) -> np.ndarray:
    return np.hstack(
        [
            ((X[:, block["columns"]] - block["centre"]) / block["scale"]) @ block["loadings"].T
            for block in blocks.values()
        ]
    )


def _names(blocks: dict) -> np.ndarray:
    return np.array(
        [
            f"PC{rank}" if group == EVERYTHING else f"{group} PC{rank}"
            for group, block in blocks.items()
            for rank in range(1, len(block["loadings"]) + 1)
        ],
        dtype=object,
    )
