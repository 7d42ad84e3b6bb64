"""How many principal components a model should see, and which family should see them, chosen inside training parts.

Two routes: `group-pca` keeps the first m components of every perceptual group, `global-pca` the first n of all columns.
Components are nested (the first m of m + 1 are the first m), so that each training part's components are found once, at
the largest count, and cut.

Nested selection
----------------
In each outer training part, grouped inner folds score every count with one fast family, the probe; the objective is the
mean over targets of the RMSE (0.5 (RMSE valence + RMSE arousal)), averaged over inner folds. Two choices follow: the
count of the least objective, and the smallest count within one standard error of it (L. Breiman et al., Classification
and Regression Trees, 1984). Imputation and components are fitted on inner training parts for that. The outer fold has
no say in it: its scores measure the choice. Families are then scored in the same way at each fold's chosen count, and
the winner is the family of the least inner objective, a mean over the outer folds.

Methods follow G. Kritsovas, https://github.com/Grkritsovas/postgrad-final-project, which chooses on the folds that it
reports, and a global number of components by valence alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from mer_core.compute import map_items
from mer_core.errors import UserError
from mer_core.evaluate.cross_validation import RIDGE_AT_ONCE
from mer_core.evaluate.experiment import Data
from mer_core.evaluate.exploration import benjamini_hochberg, correlations
from mer_core.evaluate.metrics import METRICS, r2, rmse, score_with_intervals
from mer_core.evaluate.significance import permutation_test
from mer_core.evaluate.splits import inner_folds
from mer_core.models.preparation import reducing_part, reducing_steps
from mer_core.models.reductions import loadings_table, spectrum_table
from mer_core.models.regressors import component_regressor

ALL = "all"  # as a count: as many as every training part has; as a fold: the choice that the final model is made with
GRIDS = {"group-pca": tuple(map(str, range(1, 17))), "global-pca": ("8", "16", "32", "64", "128", ALL)}
RULES = ("minimum", "one-se")
INNER_FOLDS = 5
TOP_LOADINGS = 20
JOINT = "joint"  # the target of rows that average over targets

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Part:
    """Components of one training part, found by it alone.

    train, test : (n,) bool; scores : (n, k) of all tracks; rank : (k,) 1 for the first component of its group
    """

    train: np.ndarray
    test: np.ndarray
    scores: np.ndarray
    rank: np.ndarray

    def predict(self, truth: np.ndarray, family: str, count: int, seed: int) -> np.ndarray:
        """Predictions (m, t) of the test tracks by a model of the first `count` components (of each group)."""
        scores = self.scores[:, self.rank <= count]
        model = component_regressor(family, seed).fit(scores[self.train], truth[self.train])
        return model.predict(scores[self.test]).reshape(self.test.sum(), -1)


@dataclass(frozen=True)
class Fold:
    """One choice to make: an outer part and its inner folds; `outer` is None for the choice on all tracks."""

    name: int | str
    outer: Part | None
    inner: tuple[Part, ...]


def fit_parts(
    data: Data, reduction: str, largest: int | None, seed: int, workers: int | None, progress: Progress | None = None
) -> list[Fold]:
    """Components of every training part: of each round of the split, of its inner folds, and of those of all tracks.

    largest : number of components (of each group) that is wanted at most, None for all that exist

    Raises
    ------
    UserError : too few groups of tracks for the inner folds
    """
    index, columns = data.features.index, data.table.columns.loc[data.features.columns]
    outer = {part: (index.isin(train), index.isin(test)) for part, train, test in data.split.rounds()}
    trained = {name: train for name, (train, _) in outer.items()} | {ALL: np.ones(len(index), dtype=bool)}
    inner = {name: _inner_masks(data, train, seed) for name, train in trained.items()}
    matrix = data.features.to_numpy()

    def fit(masks: tuple[np.ndarray, np.ndarray]) -> Part:
        train, test = masks
        model = Pipeline(reducing_steps(reduction, columns, components=largest or len(matrix)))
        scores = model.fit(matrix[train]).transform(matrix)
        ranks = [np.arange(1, len(block["loadings"]) + 1) for block in model["reduce"].blocks_.values()]
        return Part(train, test, scores, np.concatenate(ranks))

    jobs = [*outer.values(), *(masks for folds in inner.values() for masks in folds)]
    parts = iter(_done(map_items(fit, jobs, workers, progress)))
    fitted = {name: next(parts) for name in outer}
    return [Fold(name, fitted.get(name), tuple(next(parts) for _ in folds)) for name, folds in inner.items()]


def counts_to_try(wanted: tuple[str, ...], reduction: str, folds: list[Fold]) -> tuple[int, ...]:
    """Counts in rising order, each of which every training part has (of its largest group).

    wanted : numbers and "all", or empty for the route's usual ones, as far as they exist

    Raises
    ------
    UserError : not a count, or more components than the smallest training part has
    """
    parts = [part for fold in folds for part in (*fold.inner, fold.outer) if part is not None]
    smallest = min(parts, key=lambda part: part.rank.max())
    available = int(smallest.rank.max())
    counts = {available if text == ALL else int(text) for text in wanted or GRIDS[reduction]}
    if wanted and max(counts) > available:
        what = "a group" if reduction == "group-pca" else "the table"
        raise UserError(
            f"--components {max(counts)} is more than the {available} components that {what} has in the smallest inner "
            f"training part ({int(smallest.train.sum())} tracks); give at most {available}"
        )
    return tuple(sorted(count for count in counts if count <= available))


def largest_of(wanted: tuple[str, ...], reduction: str) -> int | None:
    """Largest count among those wanted (or usual), None for all; UserError for what is no count."""
    for text in wanted:
        if text != ALL and not (text.isdecimal() and int(text) > 0):
            raise UserError(f"--components {text!r} is no count; give numbers from 1 and 'all', such as 4,8,16,all")
    grid = wanted or GRIDS[reduction]
    return None if ALL in grid else max(map(int, grid))


def sweep(
    data: Data,
    folds: list[Fold],
    counts: tuple[int, ...],
    probe: str,
    seed: int,
    workers: int | None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Scores of the probe for every fold and count, inner (to choose by) and outer (to measure the choice).

    Returns
    -------
    Rows fold (text; "all" is the choice on all tracks), components, target ("joint": mean over targets), inner_rmse
    (mean over inner folds), inner_se (its standard error), inner_r2 (of all inner predictions), outer_rmse, outer_r2
    (NaN for "all")
    """
    jobs = [(fold, count) for fold in folds for count in counts]
    tables = _done(map_items(lambda job: _score(data, job[0], job[1], probe, seed)[0], jobs, workers, progress))
    return pd.concat(tables, ignore_index=True)


def choose(table: pd.DataFrame, rule: str) -> dict[str, int]:
    """Count chosen in each fold: of the least joint inner RMSE, or the smallest within one standard error of it.

    table : from `sweep`; rule : one of `RULES`
    """
    chosen = {}
    for fold, rows in table[table["target"] == JOINT].groupby("fold", sort=False):
        rows = rows.sort_values("components")
        best = rows.loc[rows["inner_rmse"].idxmin()]
        limit = best["inner_rmse"] + (best["inner_se"] if rule == "one-se" else 0.0)
        chosen[fold] = int(rows.loc[rows["inner_rmse"] <= limit, "components"].iloc[0])
    return chosen


def board(
    data: Data,
    folds: list[Fold],
    chosen: dict[str, int],
    families: tuple[str, ...],
    seed: int,
    resamples: int,
    workers: int | None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Every family on the same folds at each fold's chosen count; the winner is chosen by inner scores alone.

    Returns
    -------
    Rows family, target, inner_rmse (mean over outer folds), inner_joint, winner, n, and for every metric of the outer
    predictions its value, `_low` and `_high` (95 %, bootstrap over groups); the best inner_joint first
    """
    folds = [fold for fold in folds if fold.outer is not None]
    jobs = [(family, fold) for family in families for fold in folds]

    def score(job: tuple[str, Fold]) -> tuple[pd.DataFrame, np.ndarray]:
        return _score(data, job[1], chosen[str(job[1].name)], job[0], seed)

    results = _done(map_items(score, jobs, workers, progress))
    rows = []
    for family in families:
        own = [result for (name, _), result in zip(jobs, results, strict=True) if name == family]
        inner = pd.concat([table for table, _ in own]).groupby("target")["inner_rmse"].mean()
        truth = pd.concat([data.ratings[fold.outer.test] for fold in folds])
        predicted = np.concatenate([outer for _, outer in own])
        for column, target in enumerate(truth):
            groups = data.groups.loc[truth.index].to_numpy()
            found = score_with_intervals(truth[target].to_numpy(), predicted[:, column], groups, resamples, seed)
            row = {"family": family, "target": target, "inner_rmse": inner[target], "inner_joint": inner[JOINT]}
            row["n"] = found["n"]
            for name in METRICS:
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), found[name], strict=True))
            rows.append(row)
    table = pd.DataFrame(rows).sort_values("inner_joint", kind="stable", ignore_index=True)
    table.insert(4, "winner", table["family"] == table["family"].iloc[0])
    return table


def permutation(
    data: Data,
    folds: list[Fold],
    chosen: dict[str, int],
    family: str,
    permutations: int,
    seed: int,
    workers: int | None,
    progress: Progress,
) -> dict:
    """Permutation test of a family at the chosen counts, as `significance.permutation_test` returns it.

    Components do not look at ratings, so that they stay; the counts stay as well, chosen with the true ratings, which
    favours the true score a little.
    """
    folds = [fold for fold in folds if fold.outer is not None]
    at_once, calls = (RIDGE_AT_ONCE if family == "ridge" else 1), [0]
    tested = np.any([fold.outer.test for fold in folds], axis=0)

    def predict(exchanged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        progress(min(calls[0] * at_once / (permutations + 1), 1.0), f"exchanging ratings {permutations} times")
        calls[0] += 1
        predicted = np.full(exchanged.shape, np.nan)
        work = [(fold.outer, chosen[str(fold.name)]) for fold in folds]
        done = map_items(lambda job: job[0].predict(exchanged, family, job[1], seed), work, workers)
        for (part, _), found in zip(work, _done(done), strict=True):
            predicted[part.test] = found
        return tested, predicted[tested]

    return permutation_test(predict, data.ratings, data.groups, permutations, seed, at_once)


def descriptive_tables(model: Pipeline, data: Data) -> dict[str, pd.DataFrame]:
    """What the final model's components are, which are fitted on all tracks: to look at, not to score.

    Returns
    -------
    scores : track_id and a column per component
    correlations : component, target, n, pearson, pearson_p, pearson_q, spearman, spearman_p, spearman_q (false
        discovery rate over all components and targets); strongest first
    loadings : component, group, column, lld, statistic, plain, loading; the 20 strongest of each component
    spectrum : group, component, share, cumulative, kept
    """
    columns, reduce = data.table.columns.loc[data.features.columns], model["reduce"]
    names = reduce.get_feature_names_out()
    scores = pd.DataFrame(reducing_part(model).transform(data.features.to_numpy()), data.features.index, names)
    loadings = loadings_table(reduce, columns, TOP_LOADINGS)
    plain = columns["plain"].loc[loadings["column"]].to_numpy()
    loadings.insert(loadings.columns.get_loc("loading"), "plain", plain)
    return {
        "scores": scores.rename_axis("track_id").reset_index(),
        "correlations": _correlations(scores, data.ratings),
        "loadings": loadings,
        "spectrum": spectrum_table(reduce),
    }


def _correlations(scores: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """Pearson and Spearman correlations of components with targets."""
    from scipy.stats import pearsonr

    ranked = correlations(scores, ratings)
    table = ranked.rename(columns={"column": "component", "rho": "spearman", "p": "spearman_p", "q": "spearman_q"})
    linear = [pearsonr(scores[row.component], ratings[row.target]) for row in table.itertuples()]
    table.insert(3, "pearson", [found.statistic for found in linear])
    table.insert(4, "pearson_p", [found.pvalue for found in linear])
    table.insert(5, "pearson_q", benjamini_hochberg(table["pearson_p"].to_numpy()))
    return table


def _inner_masks(data: Data, train: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(training, test) tracks (n,) bool of the inner folds of a training part, fewer folds where groups are few."""
    groups = data.groups[train]
    if groups.nunique() < 2:
        raise UserError(
            f"all {len(groups)} tracks of a training part are of the group {groups.iloc[0]!r}, so that nothing can be "
            "chosen inside it: give a dataset of at least 4 groups (artists, albums, pieces)"
        )
    folds = min(INNER_FOLDS, groups.nunique(), len(groups) // 2)
    assignment = inner_folds(groups, data.ratings[train], max(folds, 2), seed).assignment
    fold = assignment.reindex(data.features.index).to_numpy()
    return [(train & (fold != number), fold == number) for number in range(max(folds, 2))]


def _score(data: Data, fold: Fold, count: int, family: str, seed: int) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Rows of `sweep` for one fold and count, and the outer predictions (m, t)."""
    truth, targets = data.ratings.to_numpy(), list(data.ratings)
    predicted = [part.predict(truth, family, count, seed) for part in fold.inner]
    errors = np.array([_each(rmse, truth[part.test], found) for part, found in zip(fold.inner, predicted, strict=True)])
    errors = np.column_stack([errors, errors.mean(axis=1)])
    pooled = _each(r2, np.concatenate([truth[part.test] for part in fold.inner]), np.concatenate(predicted))
    table = {
        "fold": str(fold.name),
        "components": count,
        "target": [*targets, JOINT],
        "inner_rmse": errors.mean(axis=0),
        "inner_se": errors.std(axis=0, ddof=1) / np.sqrt(len(errors)),
        "inner_r2": [*pooled, np.mean(pooled)],
    }
    outer, scores = None, {"outer_rmse": np.nan, "outer_r2": np.nan}
    if fold.outer is not None:
        outer = fold.outer.predict(truth, family, count, seed)
        for name, metric in (("outer_rmse", rmse), ("outer_r2", r2)):
            found = _each(metric, truth[fold.outer.test], outer)
            scores[name] = [*found, np.mean(found)]
    return pd.DataFrame(table | scores), outer


def _each(metric: Callable, truth: np.ndarray, predicted: np.ndarray) -> list[float]:
    """A metric of every target."""
    return [metric(truth[:, column], predicted[:, column]) for column in range(truth.shape[1])]


def _done(outcomes: list) -> list:
    """Values of all outcomes; the first error is raised."""
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    return [outcome.value for outcome in outcomes]
