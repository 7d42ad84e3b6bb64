"""Emotions through named qualities: the linear map from qualities to ratings, and the three schemes on embeddings.

After Chowdhury et al. 2019 (arXiv 1907.03572). With z the standardised qualities of a track,

    rating = intercept + sum over qualities q of weight_q * z_q,

so that weight_q * z_q is exactly what quality q adds to the rating, and a changed quality changes it by a product.

Schemes
-------
a2e : audio to ratings, without qualities. What the others are measured against.
a2mid2e : audio to qualities; the map is fitted afterwards, on predictions for tracks that the qualities' model of an
    inner fold had not seen. Predictions of tracks that it had seen are too good, and would make the weights too small.
joint : one bottleneck for both. Its target T lies between the qualities Q and what the map W would need for the
    ratings Y (both standardised): T minimises trade * |T - Q|^2 + |Y - T W|^2, so

        T = Q + (Y - Q W) W' (trade I + W W')^-1.

    The head learns T, W is fitted again on unseen predictions of T, a few times in turn. A large `trade` keeps the
    qualities what they are named (a2mid2e), a small one lets them follow the ratings. It is chosen inside the training
    part: the largest one whose ratings correlate, on average, at most `TOLERANCE` less than with the best one, so that
    the qualities keep their meaning where that costs nothing. (The paper adds both losses unweighted, which is another
    trade for every set of ratings.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin, clone
from sklearn.pipeline import Pipeline

from mer_core.models.regressors import make_regressor

SCHEMES = ("a2e", "a2mid2e", "joint")
HEADS = ("kernel-ridge", "ridge")
TRADES = (10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)  # tried in this order
TOLERANCE = 0.005
ROUNDS = 2  # of fitting bottleneck and map in turn, for each trade, starting from the last
PENALTY = 0.01  # of the map, per track: keeps weights of qualities that go together from running away
Targets = tuple[np.ndarray, np.ndarray | None]  # of the tracks, and of another corpus's that are learned too
LEAST = 0.005  # weights below this share of the rating's spread are left out of formulas


@dataclass(frozen=True)
class LinearMap:
    """Ratings as a linear function of qualities.

    qualities, ratings : names, q and t of them
    centre, spread : (q,) mean and standard deviation of each quality, in its own unit
    intercept : (t,) rating of a track with average qualities
    weights : (q, t) rating points per standard deviation
    """

    qualities: tuple[str, ...]
    ratings: tuple[str, ...]
    centre: np.ndarray
    spread: np.ndarray
    intercept: np.ndarray
    weights: np.ndarray

    def effects(self, values: np.ndarray) -> np.ndarray:
        """(n, q, t) what each quality of each track adds to each rating; values (n, q) in their own units."""
        return ((np.asarray(values, dtype=float) - self.centre) / self.spread)[:, :, None] * self.weights

    def predict(self, values: np.ndarray) -> np.ndarray:
        """(n, t) ratings of qualities (n, q): the intercept plus all effects."""
        return self.intercept + self.effects(values).sum(axis=1)

    def formula(self, rating: str) -> str:
        """`happy = 5.10 + 0.42 × tonal stability − 0.46 × dissonance`, largest weight first, z-scores understood."""
        column = self.ratings.index(rating)
        weights, text = self.weights[:, column], f"{rating} = {self.intercept[column]:.2f}"
        for index in np.argsort(-np.abs(weights), kind="stable"):
            if abs(weights[index]) >= LEAST:
                sign = "+" if weights[index] > 0 else "−"
                text += f" {sign} {abs(weights[index]):.2f} × {self.qualities[index].replace('_', ' ')}"
        return text.replace("-", "−")

    def as_dict(self) -> dict:
        """Plain values, from which `LinearMap(**...)` can be made again by `read_map`."""
        arrays = {name: getattr(self, name).tolist() for name in ("centre", "spread", "intercept", "weights")}
        return {"qualities": list(self.qualities), "ratings": list(self.ratings)} | arrays


def read_map(plain: dict) -> LinearMap:
    """The map that `as_dict` has told."""
    arrays = {name: np.array(plain[name], dtype=float) for name in ("centre", "spread", "intercept", "weights")}
    return LinearMap(tuple(plain["qualities"]), tuple(plain["ratings"]), **arrays)


def what_if(found: LinearMap, values: np.ndarray, changed: dict[str, float]) -> np.ndarray:
    """(t,) ratings of a track with qualities (q,) when those in `changed` had other values; exact, since linear."""
    new = np.array([changed.get(name, value) for name, value in zip(found.qualities, values, strict=True)], dtype=float)
    return found.predict(new[None])[0]


def fit_map(values: pd.DataFrame, ratings: pd.DataFrame, penalty: float = PENALTY) -> LinearMap:
    """Least squares from qualities (n, q) to ratings (n, t), standardised qualities lightly penalised."""
    centre, spread = values.mean().to_numpy(), values.std(ddof=0).to_numpy()
    spread = np.where(spread > 0, spread, 1.0)
    z, wanted = (values.to_numpy() - centre) / spread, ratings.to_numpy()
    intercept = wanted.mean(axis=0)
    weights = np.linalg.solve(z.T @ z + penalty * len(z) * np.eye(z.shape[1]), z.T @ (wanted - intercept))
    return LinearMap(tuple(values), tuple(ratings), centre, spread, intercept, weights)


class Bottleneck(RegressorMixin, BaseEstimator):
    """A fitted model of qualities with its map: features (n, p) -> (n, q + t), qualities first, then ratings.

    Parameters
    ----------
    model : fitted pipeline from features to qualities
    centre, spread, intercept, weights : of the map, see `LinearMap`
    """

    def __init__(self, model=None, centre=None, spread=None, intercept=None, weights=None):
        self.model = model
        self.centre = centre
        self.spread = spread
        self.intercept = intercept
        self.weights = weights

    def fit(self, X: np.ndarray, y: np.ndarray) -> Bottleneck:
        """It is made of fitted parts; this only satisfies the interface."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return self.model is not None

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n, p) -> (n, q + t)."""
        qualities = self.model.predict(X).reshape(len(X), -1)
        return np.hstack([qualities, self.intercept + (qualities - self.centre) / self.spread @ self.weights])


class BlockWeights(TransformerMixin, BaseEstimator):
    """Columns times a factor each, so that blocks of columns count the same, however many columns they have.

    factors : (p,)
    """

    def __init__(self, factors=None):
        self.factors = factors

    def fit(self, X: np.ndarray, y: object = None) -> BlockWeights:
        """Nothing is learned."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: np.ndarray) -> np.ndarray:
        """(n, p) -> (n, p)."""
        return np.asarray(X, dtype=float) * self.factors


def make_head(head: str, seed: int, blocks: np.ndarray | None = None) -> Pipeline:
    """Unfitted regressor, in which a few computed columns are heard beside hundreds of an embedding.

    blocks : (p,) which block each column belongs to; None where there is one
    """
    model = make_regressor(head, seed)
    if blocks is None or len(np.unique(blocks)) < 2:
        return model
    sizes = np.array([np.sum(blocks == block) for block in blocks])
    factors = np.sqrt(len(blocks) / (len(np.unique(blocks)) * sizes))
    return Pipeline([*model.steps[:-1], ("weigh", BlockWeights(factors)), model.steps[-1]])


@dataclass(frozen=True)
class Learning:
    """What a scheme is fitted on; all tables indexed by track_id.

    features (n, p), qualities (n, q), ratings (n, t), groups (n,)
    more : tracks of another corpus, features and qualities of which are learned too, and ratings where it has them all
        (the bottleneck of joint follows the ratings on the tracks that have them)
    blocks : (p,) of the features, see `make_head`
    """

    features: pd.DataFrame
    qualities: pd.DataFrame
    ratings: pd.DataFrame
    groups: pd.Series
    more: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None] | None = None
    blocks: np.ndarray | None = None

    def part(self, tracks: pd.Index) -> Learning:
        """The same of some tracks; the other corpus stays."""
        tables = (table.loc[tracks] for table in (self.features, self.qualities, self.ratings, self.groups))
        return Learning(*tables, self.more, self.blocks)

    def stacked(self, wanted: pd.DataFrame, others: pd.DataFrame | None) -> tuple[np.ndarray, np.ndarray]:
        """Features and targets, with the other corpus below where it has targets."""
        if self.more is None or others is None:
            return self.features.to_numpy(), wanted.to_numpy()
        both = np.vstack([self.features.to_numpy(), self.more[0].to_numpy()])
        return both, np.vstack([wanted.to_numpy(), others[list(wanted)].to_numpy()])


@dataclass(frozen=True)
class FittedScheme:
    """A scheme's model.

    model : pipeline from features to ratings (a2e), or to the bottleneck's values
    map : None for a2e
    trade : chosen for joint
    """

    scheme: str
    model: Pipeline
    map: LinearMap | None = None
    trade: float | None = None

    def predict(self, features: pd.DataFrame) -> tuple[np.ndarray | None, np.ndarray]:
        """Qualities (n, q), None for a2e, and ratings (n, t)."""
        values = self.model.predict(features.to_numpy()).reshape(len(features), -1)
        return (None, values) if self.map is None else (values, self.map.predict(values))

    def estimator(self) -> Pipeline:
        """What is saved: features -> ratings, for a2e; else -> qualities and ratings."""
        if self.map is None:
            return self.model
        found = self.map
        arrays = (found.centre, found.spread, found.intercept, found.weights)
        return Pipeline([("bottleneck", Bottleneck(self.model, *arrays))])


class Inner:
    """The inner folds of a training part, each with its features prepared once for all that is fitted on them."""

    def __init__(self, data: Learning, folds: pd.Series, head: str, seed: int):
        """`folds` : number of each track's inner fold."""
        self.tracks, self.folds, self.parts = data.features.index, folds.loc[data.features.index].to_numpy(), []
        for fold in np.unique(self.folds):
            held = self.folds == fold
            rows, others = data.features.to_numpy(), None if data.more is None else data.more[0].to_numpy()
            learned = rows[~held] if others is None else np.vstack([rows[~held], others])
            *steps, (_, regressor) = make_head(head, seed, data.blocks).steps
            prepare = Pipeline(steps).fit(learned)
            self.parts.append((held, prepare.transform(learned), prepare.transform(rows[held]), regressor))

    def unseen(self, wanted: np.ndarray, others: np.ndarray | None) -> np.ndarray:
        """Predictions of `wanted` (n, k) for each fold by a head fitted on the rest.

        others : (m, k) of the other corpus's tracks; without them its tracks are not learned
        """
        predicted = np.empty(wanted.shape)
        for held, learned, rows, regressor in self.parts:
            targets = wanted[~held] if others is None else np.vstack([wanted[~held], others])
            model = clone(regressor).fit(learned[: len(targets)], targets)
            predicted[held] = model.predict(rows).reshape(len(rows), -1)
        return predicted

    def mapped(self, values: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """(n, t) ratings by maps from `values` (n, q), that of each fold fitted on the others."""
        predicted, values, ratings = np.empty(ratings.shape), pd.DataFrame(values), pd.DataFrame(ratings)
        for held, *_ in self.parts:
            predicted[held] = fit_map(values[~held], ratings[~held]).predict(values[held].to_numpy())
        return predicted


def fit_schemes(
    names: Sequence[str], data: Learning, folds: pd.Series, head: str, seed: int
) -> dict[str, FittedScheme]:
    """Fit some of `SCHEMES` on tracks; folds : inner fold of each, for what must be fitted on unseen predictions."""
    level, scale = data.qualities.mean(), data.qualities.std(ddof=0).replace(0, 1.0)
    middle, spread = data.ratings.mean(), data.ratings.std(ddof=0).replace(0, 1.0)
    q, y = ((data.qualities - level) / scale).to_numpy(), ((data.ratings - middle) / spread).to_numpy()
    more = rated = None
    if data.more is not None:
        more = ((data.more[1][list(data.qualities)] - level) / scale).to_numpy()
        rated = None if data.more[2] is None else ((data.more[2][list(data.ratings)] - middle) / spread).to_numpy()
    found = {}
    if "a2e" in names:
        others = None if data.more is None else data.more[2]
        found["a2e"] = FittedScheme("a2e", make_head(head, seed, data.blocks).fit(*data.stacked(data.ratings, others)))
    if set(names) == {"a2e"}:
        return found
    inner = Inner(data, folds, head, seed)

    def finished(scheme: str, targets: Targets, unseen: np.ndarray, trade: float | None) -> FittedScheme:
        """The head of `targets`, and the map from what it predicts for unseen tracks; both in z-scores."""
        wanted, values = (
            pd.DataFrame(z, data.qualities.index, level.index) * scale + level for z in (targets[0], unseen)
        )
        others = None if more is None else pd.DataFrame(targets[1], columns=level.index) * scale + level
        model = make_head(head, seed, data.blocks).fit(*data.stacked(wanted, others))
        return FittedScheme(scheme, model, fit_map(values, data.ratings), trade)

    unseen = inner.unseen(q, more)
    if "a2mid2e" in names:
        found["a2mid2e"] = finished("a2mid2e", (q, more), unseen, None)
    if "joint" in names:
        found["joint"] = finished("joint", *_best_trade(inner, (q, more), (y, rated), unseen))
    return {name: found[name] for name in names}


def adjusted(qualities: np.ndarray, ratings: np.ndarray, weights: np.ndarray, trade: float) -> np.ndarray:
    """(n, q) the targets T of the bottleneck, see the head of the module; all standardised, weights (q, t)."""
    inverse = np.linalg.inv(trade * np.eye(len(weights)) + weights @ weights.T)
    return qualities + (ratings - qualities @ weights) @ weights.T @ inverse


def _best_trade(inner: Inner, q: Targets, y: Targets, unseen: np.ndarray) -> tuple[Targets, np.ndarray, float]:
    """Targets of the bottleneck, its unseen predictions, and the trade.

    q, y : z-scores of the tracks, and of the other corpus's where it has them
    """
    values, tried = unseen, []
    for trade in TRADES:
        for _ in range(ROUNDS):
            weights = _raw_weights(values, y[0])
            others = q[1] if q[1] is None or y[1] is None else adjusted(q[1], y[1], weights, trade)
            targets = adjusted(q[0], y[0], weights, trade), others
            values = inner.unseen(*targets)
        tried.append((targets, values, trade, correlation(inner.mapped(values, y[0]), y[0])))
    least = max(reached for *_, reached in tried) - TOLERANCE
    return next(found for *found, reached in tried if reached >= least)


def correlation(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean over the columns of Pearson's r, (n, t) each."""
    pairs = zip(predicted.T, true.T, strict=True)
    return float(np.mean([np.corrcoef(p, t)[0, 1] if np.ptp(p) and np.ptp(t) else 0.0 for p, t in pairs]))


def _raw_weights(values: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """(q, t) of the map on values as they are, not standardised."""
    found = fit_map(pd.DataFrame(values), pd.DataFrame(ratings))
    return found.weights / found.spread[:, None]
