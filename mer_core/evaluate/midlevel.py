"""What going through named qualities costs, and how sure its weights are: the schemes under grouped folds.

Conventions: all tables are indexed by track_id; predictions are for tracks of groups that no model of the fold has
seen. Intervals are 95 %, from a bootstrap over groups, the same resamples for all schemes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from mer_core.datasets.midlevel_ratings import MidlevelTargets
from mer_core.evaluate.metrics import draw_groups, pearson, r2, resampled_scores, rmse
from mer_core.evaluate.splits import Split, inner_folds
from mer_core.features import FeatureTable
from mer_core.models.midlevel import Learning, LinearMap, fit_map, fit_schemes

Progress = Callable[[float, str], None]
INNER = 5
MEAN = "mean"  # over all ratings
METRICS = {"pearson": pearson, "r2": r2}
LEVEL = 0.95


@dataclass(frozen=True)
class SchemeResult:
    """One scheme's predictions of unseen tracks.

    ratings : (n, t); qualities : (n, q), None for a2e; fold : of each track
    maps : map of each fold; models : what predicted each fold's tracks; trades : chosen in each fold, for joint
    """

    ratings: pd.DataFrame
    qualities: pd.DataFrame | None
    fold: pd.Series
    maps: dict[int, LinearMap]
    models: dict[int, object]
    trades: dict[int, float] = field(default_factory=dict)


def inner_assignment(groups: pd.Series, ratings: pd.DataFrame, seed: int, folds: int = INNER) -> pd.Series:
    """Inner fold of each training track; fewer folds where there are fewer groups."""
    return inner_folds(groups, ratings, min(folds, groups.nunique()), seed).assignment


def cross_validate_schemes(
    names: Sequence[str], data: Learning, split: Split, head: str, seed: int, progress: Progress | None = None
) -> dict[str, SchemeResult]:
    """Every scheme with a head on embeddings, under the folds of `split`."""
    rounds, found = split.rounds(), {name: [] for name in names}
    for done, (fold, train, test) in enumerate(rounds):
        if progress is not None:
            progress(done / len(rounds), f"fold {done + 1} of {len(rounds)}: {', '.join(names)}")
        part = data.part(train)
        folds = inner_assignment(part.groups, part.ratings, seed)
        for name, fitted in fit_schemes(names, part, folds, head, seed).items():
            qualities, ratings = fitted.predict(data.features.loc[test])
            found[name].append((fold, test, qualities, ratings, fitted))
    order = data.features.index[data.features.index.isin(split.assignment.index)]
    return {name: gathered(rows, order, list(data.qualities), list(data.ratings)) for name, rows in found.items()}


def gathered(rows: list[tuple], order: pd.Index, qualities: list[str], ratings: list[str]) -> SchemeResult:
    """One result of the folds' (fold, tracks, qualities or None, ratings, model with `map` and `trade`)."""
    predicted = pd.concat([pd.DataFrame(values, tracks, ratings) for _, tracks, _, values, _ in rows]).loc[order]
    fold = pd.concat([pd.Series(number, tracks) for number, tracks, *_ in rows]).loc[order].astype(int)
    named = [pd.DataFrame(values, tracks, qualities) for _, tracks, values, _, _ in rows if values is not None]
    maps = {number: fitted.map for number, *_, fitted in rows if fitted.map is not None}
    trades = {number: fitted.trade for number, *_, fitted in rows if fitted.trade is not None}
    models = {number: fitted for number, *_, fitted in rows}
    return SchemeResult(predicted, pd.concat(named).loc[order] if named else None, fold, maps, models, trades)


def cost_table(
    results: dict[str, SchemeResult], ratings: pd.DataFrame, groups: pd.Series, resamples: int, seed: int
) -> pd.DataFrame:
    """Scores of each scheme and what is lost against a2e.

    Columns scheme, rating ("mean" over all, too), metric (pearson, r2), value, low, high, and where a2e is among the
    schemes cost, cost_low, cost_high: a2e minus the scheme, on the same resamples.
    """
    drawn = {name: _drawn(result.ratings, ratings, groups, resamples, seed) for name, result in results.items()}
    rows = []
    for name, tables in drawn.items():
        for metric, (values, draws) in tables.items():
            for rating in values:
                row = {"scheme": name, "rating": rating, "metric": metric, "value": values[rating]}
                row |= dict(zip(("low", "high"), _interval(draws[rating]), strict=True))
                if "a2e" in drawn:
                    best, others = (part[rating] for part in drawn["a2e"][metric])
                    row["cost"] = best - values[rating]
                    row |= dict(zip(("cost_low", "cost_high"), _interval(others - draws[rating]), strict=True))
                rows.append(row)
    return pd.DataFrame(rows)


def _drawn(predicted: pd.DataFrame, true: pd.DataFrame, groups: pd.Series, resamples: int, seed: int) -> dict:
    """{metric: ({rating: value}, {rating: (resamples,)})}, the mean over ratings among them."""
    codes = np.unique(groups.loc[true.index].to_numpy().astype(str), return_inverse=True)[1]
    counts = draw_groups(int(codes.max()) + 1, resamples, seed)
    found = {metric: ({}, {}) for metric in METRICS}
    for rating in true:
        y, p = true[rating].to_numpy(), predicted[rating].to_numpy()
        draws = resampled_scores(y, p, codes, counts, tuple(METRICS))
        for metric, score in METRICS.items():
            found[metric][0][rating], found[metric][1][rating] = score(y, p), draws[metric]
    for values, draws in found.values():
        values[MEAN], draws[MEAN] = float(np.mean(list(values.values()))), np.mean(list(draws.values()), axis=0)
    return found


def _interval(draws: np.ndarray) -> tuple[float, float]:
    known = draws[np.isfinite(draws)]
    if not len(known):
        return np.nan, np.nan
    return tuple(np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist())


def quality_scores(
    results: dict[str, SchemeResult], true: pd.DataFrame, groups: pd.Series, resamples: int, seed: int
) -> pd.DataFrame:
    """How well each scheme's bottleneck says the qualities: scheme, quality, pearson with low and high, r2, rmse."""
    rows = []
    for name, result in results.items():
        if result.qualities is None:
            continue
        scores = _drawn(result.qualities, true, groups, resamples, seed)
        for quality in true:
            low, high = _interval(scores["pearson"][1][quality])
            row = {"scheme": name, "quality": quality, "pearson": scores["pearson"][0][quality], "low": low}
            row |= {"high": high, "r2": scores["r2"][0][quality]}
            rows.append(row | {"rmse": rmse(true[quality].to_numpy(), result.qualities[quality].to_numpy())})
    return pd.DataFrame(rows, columns=["scheme", "quality", "pearson", "low", "high", "r2", "rmse"])


def weight_intervals(
    qualities: pd.DataFrame, ratings: pd.DataFrame, groups: pd.Series, resamples: int, seed: int
) -> pd.DataFrame:
    """The map on unseen qualities of all tracks, its weights with intervals: quality, rating, weight, low, high.

    Weights are rating points per standard deviation; each resample of groups gives a map of its own.
    """
    found = fit_map(qualities, ratings)
    codes, names = pd.factorize(groups.loc[ratings.index].astype(str))
    members = [np.flatnonzero(codes == code) for code in range(len(names))]
    draws = []
    for counts in draw_groups(len(names), resamples, seed):
        rows = np.concatenate([np.tile(members[code], count) for code, count in enumerate(counts) if count])
        drawn = fit_map(qualities.iloc[rows], ratings.iloc[rows])
        draws.append(drawn.weights / drawn.spread[:, None] * found.spread[:, None])
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return pd.DataFrame(
        [
            (quality, rating, found.weights[i, j], low[i, j], high[i, j])
            for j, rating in enumerate(ratings)
            for i, quality in enumerate(qualities)
        ],
        columns=["quality", "rating", "weight", "low", "high"],
    )


def with_shown_maps(final: dict, results: dict[str, SchemeResult], ratings: pd.DataFrame) -> dict:
    """Final models with the map that is shown with its intervals: fitted on all tracks' unseen qualities."""
    return {
        name: model if model.map is None else replace(model, map=fit_map(results[name].qualities, ratings))
        for name, model in final.items()
    }


def cue_signs(predicted: pd.DataFrame, cues: pd.DataFrame, planted: pd.DataFrame) -> pd.DataFrame:
    """Do the ratings that the map gives follow the planted cues?

    Parameters
    ----------
    predicted : (n, t) ratings that come from unseen qualities through the map
    cues : (n, c) z-scores; planted : (c, t) the corpus's weights

    Returns
    -------
    cue, rating, planted, found (weight of the cue in the predictions, least squares), right (same sign)
    """
    z = np.column_stack([np.ones(len(cues)), cues.to_numpy()])
    weights = np.linalg.lstsq(z, predicted.to_numpy(), rcond=None)[0][1:]
    rows = [
        (cue, rating, float(planted.loc[cue, rating]), float(weights[i, j]))
        for j, rating in enumerate(predicted)
        for i, cue in enumerate(cues)
    ]
    table = pd.DataFrame(rows, columns=["cue", "rating", "planted", "found"])
    return table.assign(right=np.sign(table["planted"]) == np.sign(table["found"]))


@dataclass(frozen=True)
class Comparison:
    """All that a mid-level run knows.

    data : what was learned; targets : the qualities and their kind; split : of the tracks
    results : of each scheme; final : its model fitted on all tracks (with `map`, `trade` and `estimator`)
    table : features of the tracks; left_out : (track, reason); notes : one sentence each
    sounds : spectrograms, where networks were trained on them
    """

    data: Learning
    targets: MidlevelTargets
    split: Split
    results: dict[str, SchemeResult]
    final: dict[str, object]
    table: FeatureTable
    left_out: list[tuple[str, str]]
    notes: tuple[str, ...]
    sounds: object = None

    @property
    def main(self) -> str:
        """The scheme whose predictions are the run's: the one that explains and costs least."""
        return next(name for name in ("joint", "a2mid2e", "a2e") if name in self.results)
