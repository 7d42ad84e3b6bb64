"""What is in a collection: distributions of the ratings, how they go together, and what goes with them.

Conventions
-----------
Tables in, tables out, one row a result. Correlations with features and metadata are Spearman's rho; p-values are
two-sided and take tracks for independent (tracks of one artist are not quite, so that they are somewhat small); q is
the Benjamini-Hochberg false discovery rate over all tests of its table. Ratings are on the dataset's own scale.

References
----------
Y. Benjamini & Y. Hochberg, Journal of the Royal Statistical Society B 57(1), 1995. W. Kruskal & W. Wallis, Journal of
the American Statistical Association 47(260), 1952.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import VALENCE_AROUSAL, Dataset
from mer_core.evaluate.metrics import score_with_intervals

LEVEL = 0.05
COMPONENTS = 10
TOP_LOADINGS = 8
LEAST_IN_LEVEL = 5
FEW_VALUES = 5  # numbers with at most so many different values are levels (0/1 for minor/major), not a scale


def distributions(dataset: Dataset) -> pd.DataFrame:
    """Each target in each part and in "all".

    Returns
    -------
    columns part, target, n, mean, sd, low, q25, median, q75, high, skew, spread (mean standard deviation of the raters,
    NaN where unknown)
    """
    rows = []
    for part, chosen in _parts(dataset).items():
        for target in dataset.targets:
            values = dataset.ratings.loc[chosen, target].dropna()
            spread = dataset.spread.loc[chosen, target].mean() if target in dataset.spread else np.nan
            quartiles = values.quantile([0, 0.25, 0.5, 0.75, 1]).to_list()
            moments = [len(values), values.mean(), values.std(ddof=0)]
            rows.append([part, target, *moments, *quartiles, values.skew(), spread])
    names = "part target n mean sd low q25 median q75 high skew spread"
    return pd.DataFrame(rows, columns=names.split())


def relation(dataset: Dataset, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """How valence and arousal go together in each part and in "all".

    Returns
    -------
    columns part, n, pearson, pearson_low, pearson_high, spearman, spearman_low, spearman_high (95 % intervals over
    groups; NaN where not defined), and q1..q4: tracks in the quadrants of the plane (high valence and arousal, then
    anticlockwise; the middle of the scale counts as high)
    """
    rows, middle = [], sum(dataset.scale) / 2
    for part, chosen in _parts(dataset).items():
        rated = dataset.ratings.loc[chosen, list(VALENCE_AROUSAL)].dropna()
        if len(rated) < 2:
            continue
        valence, arousal = rated.to_numpy(float).T
        scores = score_with_intervals(valence, arousal, dataset.tracks.loc[rated.index, "group"], resamples, seed)
        high_v, high_a = valence >= middle, arousal >= middle
        quadrants = [high_v & high_a, ~high_v & high_a, ~high_v & ~high_a, high_v & ~high_a]
        rows.append([part, len(rated), *scores["pearson"], *scores["spearman"], *(int(q.sum()) for q in quadrants)])
    names = "part n pearson pearson_low pearson_high spearman spearman_low spearman_high q1 q2 q3 q4"
    return pd.DataFrame(rows, columns=names.split()).astype({name: float for name in names.split()[2:8]})


def _parts(dataset: Dataset) -> dict[str, pd.Series]:
    """Which tracks belong to each part and, where there are several, to "all"."""
    parts = dataset.tracks["part"].astype(str)
    names = sorted(parts.unique())
    everything = {"all": pd.Series(True, parts.index)}
    return everything if len(names) == 1 else everything | {part: parts == part for part in names}


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """False discovery rate q of every test: the smallest rate at which it would be called a finding. (n,), NaN stays.

    q of the i-th smallest of m p-values is the minimum over j >= i of p_j m / j.
    """
    p = np.asarray(p, dtype=float)
    q = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known])]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def correlations(features: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rho of every column with every target, over the tracks that have both.

    features : (n, p) and ratings : (n, t), index track_id; gaps are left out column by column

    Returns
    -------
    columns column, target, n, rho, p, q, sorted by target and falling |rho|; NaN where a column is constant
    """
    shared = features.index.intersection(ratings.index, sort=False)
    tables = [_with_target(features.loc[shared], ratings.loc[shared, target]) for target in ratings]
    table = pd.concat(tables, ignore_index=True)
    table["q"] = benjamini_hochberg(table["p"].to_numpy())
    order = table["rho"].abs().sort_values(ascending=False, kind="stable").index
    table = table.loc[order]
    return table.sort_values(
        "target", key=lambda names: names.map(list(ratings).index), kind="stable", ignore_index=True
    )


def _with_target(features: pd.DataFrame, target: pd.Series) -> pd.DataFrame:
    features = features[target.notna()]
    target = target.dropna()
    gaps = features.columns[features.isna().any()]
    whole = features.drop(columns=gaps)
    found = dict(zip(whole, _rank_correlations(whole.to_numpy(float), target.to_numpy(float)), strict=True))
    counts = dict.fromkeys(whole, len(target))
    for name in gaps:
        known = features[name].dropna()
        counts[name] = len(known)
        found[name] = _rank_correlations(known.to_numpy(float)[:, None], target.loc[known.index].to_numpy(float))[0]
    rho = np.array([found[name] for name in features])
    n = np.array([counts[name] for name in features])
    columns = {"column": list(features), "target": target.name, "n": n, "rho": rho, "p": _p_of_rho(rho, n)}
    return pd.DataFrame(columns)


def _rank_correlations(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Spearman's rho of each column with the target; NaN where one is constant. (n, p), (n,) -> (p,)."""
    from scipy.stats import rankdata

    if len(target) < 3:
        return np.full(matrix.shape[1], np.nan)
    a, b = (ranks - ranks.mean(0) for ranks in (rankdata(matrix, axis=0), rankdata(target)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip((b @ a) / np.sqrt((a * a).sum(0) * (b @ b)), -1, 1)


def _p_of_rho(rho: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Two-sided p by the t approximation with n - 2 degrees of freedom."""
    from scipy.stats import t

    freedom = np.maximum(n - 2, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n > 2, 2 * t.sf(np.abs(rho) * np.sqrt(freedom / (1 - rho**2)), freedom), np.nan)


@dataclass(frozen=True)
class Associations:
    """Metadata and ratings.

    table : columns column, kind ("numeric" or "levels"), target, n, levels, statistic (rho, or H of Kruskal and
    Wallis),
        eta2 (share of the rating's variance between levels; rho squared for numbers), p, q; sorted by falling eta2
    levels : columns column, level, target, n, mean, low, high (95 % of the mean, normal)
    skipped : (column, reason)
    """

    table: pd.DataFrame
    levels: pd.DataFrame
    skipped: tuple[tuple[str, str], ...]


def associations(metadata: pd.DataFrame, ratings: pd.DataFrame) -> Associations:
    """Which metadata (genre, key, mode, tempo, ...) go with the ratings.

    Numbers with more than FEW_VALUES different values are correlated; other columns are compared by level. Levels with
    fewer than LEAST_IN_LEVEL tracks are left out; a column is skipped when fewer than half of its tracks remain.
    """
    rows, levels, skipped = [], [], []
    for name in metadata:
        values = metadata[name].dropna()
        numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        if numeric and values.nunique() > FEW_VALUES:
            tested = correlations(values.to_frame().astype(float), ratings)
            tested = tested.rename(columns={"rho": "statistic"}).assign(kind="numeric", levels=0)
            rows.append(tested.assign(eta2=tested["statistic"] ** 2).drop(columns="q"))
            continue
        values = _levels(values)
        common = values[values.map(values.value_counts()) >= LEAST_IN_LEVEL]
        if common.nunique() < 2 or len(common) < len(values) / 2:
            skipped.append((name, _why_skipped(values, common)))
            continue
        for target in ratings:
            row, means = _by_level(name, common, ratings[target])
            rows.append(pd.DataFrame([row]))
            levels.append(means)
    order = ["column", "kind", "target", "n", "levels", "statistic", "eta2", "p"]
    table = pd.concat(rows, ignore_index=True)[order] if rows else pd.DataFrame(columns=order)
    table["q"] = benjamini_hochberg(table["p"].to_numpy())
    empty = pd.DataFrame(columns=["column", "level", "target", "n", "mean", "low", "high"])
    table = table.sort_values("eta2", ascending=False, kind="stable", ignore_index=True)
    return Associations(table, pd.concat(levels, ignore_index=True) if levels else empty, tuple(skipped))


def _levels(values: pd.Series) -> pd.Series:
    """Levels as text; spellings that differ in case alone become the most frequent of them ("jazz" is "Jazz")."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values.map("{:g}".format)
    text = values.astype(str).str.strip()
    usual = text.groupby(text.str.casefold()).agg(lambda spellings: spellings.mode().iloc[0])
    return text.str.casefold().map(usual)


def _why_skipped(values: pd.Series, common: pd.Series) -> str:
    if values.empty:
        return "has no values"
    if values.nunique() == 1:
        return f"is {values.iloc[0]} throughout"
    return f"only {len(common)} of {len(values)} tracks are in one of several levels of {LEAST_IN_LEVEL} tracks or more"


def _by_level(name: str, levels: pd.Series, target: pd.Series) -> tuple[dict, pd.DataFrame]:
    """Kruskal-Wallis test and eta squared of a target over levels, and the mean of each level."""
    from scipy.stats import kruskal

    known = target.reindex(levels.index).dropna()
    groups = known.groupby(levels.loc[known.index])
    means = groups.agg(["size", "mean", "sem"])
    total = ((known - known.mean()) ** 2).sum()
    between = (means["size"] * (means["mean"] - known.mean()) ** 2).sum()
    row = {"column": name, "kind": "levels", "target": target.name, "n": len(known), "levels": len(means)}
    row |= {"statistic": np.nan, "eta2": np.nan, "p": np.nan}
    if known.nunique() > 1 and len(means) > 1:
        statistic, p = kruskal(*(values.to_numpy() for _, values in groups))
        row |= {"statistic": float(statistic), "eta2": float(between / total), "p": float(p)}
    half = 1.96 * means["sem"]
    table = pd.DataFrame({"column": name, "level": means.index, "target": target.name, "n": means["size"].to_numpy()})
    ends = {"mean": means["mean"], "low": means["mean"] - half, "high": means["mean"] + half}
    return row, table.assign(**{key: values.to_numpy() for key, values in ends.items()})


@dataclass(frozen=True)
class Components:
    """Principal components of standardised features.

    scores : index track_id, columns PC1, PC2, ... (in standard deviations of the component)
    components : columns component, variance (share), cumulative
    correlations : as from `correlations`, of the scores with the ratings
    loadings : columns component, rank, column, loading (correlation of the column with the component)
    n_95 : components that hold 95 % of the variance
    """

    scores: pd.DataFrame
    components: pd.DataFrame
    correlations: pd.DataFrame
    loadings: pd.DataFrame
    n_95: int


def principal_components(features: pd.DataFrame, ratings: pd.DataFrame, count: int = COMPONENTS) -> Components | None:
    """The first principal components and what they go with; None where fewer than two columns vary or tracks are three.

    Gaps are filled with the column's median. A component points where its largest loading is positive.
    """
    filled = features.astype(float)
    filled = filled.fillna(filled.median())
    varying = filled.loc[:, filled.std(ddof=0) > 1e-12 * filled.abs().max().clip(lower=1e-300)]
    if varying.shape[1] < 2 or len(varying) < 4:
        return None
    matrix = ((varying - varying.mean()) / varying.std(ddof=0)).to_numpy()
    # Eigenvectors of the smaller of the two products: several times faster than a singular value decomposition.
    wide = len(matrix) <= matrix.shape[1]
    values, vectors = np.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    share = values / values.sum()
    count = min(count, int((share > 1e-12).sum()))
    size = np.sqrt(values[:count])
    left = vectors[:, :count] if wide else matrix @ vectors[:, :count] / size
    loadings = (left.T @ matrix) / np.sqrt(len(matrix))
    strongest = np.take_along_axis(loadings, np.abs(loadings).argmax(1)[:, None], axis=1)
    sign = np.sign(strongest)
    names = [f"PC{i + 1}" for i in range(count)]
    scores = pd.DataFrame(left * sign.T * np.sqrt(len(matrix)), varying.index, names)
    shares = pd.DataFrame({"component": names, "variance": share[:count], "cumulative": np.cumsum(share)[:count]})
    n_95 = int(np.searchsorted(np.cumsum(share), 0.95 - 1e-12) + 1)
    named = correlations(scores, ratings).rename(columns={"column": "component"})
    return Components(scores, shares, named, _top_loadings(loadings * sign, names, list(varying)), n_95)


def _top_loadings(loadings: np.ndarray, names: list[str], columns: list[str]) -> pd.DataFrame:
    rows = []
    for name, row in zip(names, loadings, strict=True):
        best = np.argsort(-np.abs(row), kind="stable")[:TOP_LOADINGS]
        rows += [(name, rank, columns[place], row[place]) for rank, place in enumerate(best, start=1)]
    return pd.DataFrame(rows, columns=["component", "rank", "column", "loading"])
