"""From one dataset to another: learn on all tracks of one, predict the tracks of the other.

Conventions
-----------
*Shared columns* are those that mean the same in both: the same LLD and statistic, whatever a table calls them (DEAM's
song means are called by their LLD alone), or the same name where a column is no statistic of an LLD.

Predictions are on the training dataset's rating scale and are mapped onto the test dataset's: the lowest possible
rating onto the lowest, the highest onto the highest, linearly. R2, RMSE and CCC then also measure whether two groups of
listeners use their scales alike; Pearson r does not depend on that. `r2_aligned` is R2 after giving the predictions the
mean and standard deviation of the *test ratings* (2 r - 1): no forecast, but what is lost besides level and spread.

Scaling: "train" fits everything on the training dataset. "each" first replaces every column by its normal scores within
its own dataset, which cancels constant differences between recordings or feature extractors; it looks at all tracks
of the test dataset at once (transductive), though not at their ratings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata

from mer_core.datasets.dataset import Dataset
from mer_core.errors import UserError
from mer_core.evaluate.cross_validation import cross_validate
from mer_core.evaluate.leaderboard import score_block
from mer_core.evaluate.metrics import draw_groups
from mer_core.evaluate.protocols import make_split
from mer_core.features import FeatureTable
from mer_core.models.regressors import make_regressor, width

ALIGNMENTS = ("train", "each")


@dataclass(frozen=True)
class Side:
    """A dataset and its features, both for the same tracks: values (n, p), ratings (n, t), groups (n,)."""

    dataset: Dataset
    table: FeatureTable
    values: pd.DataFrame
    ratings: pd.DataFrame
    groups: pd.Series


def make_side(dataset: Dataset, table: FeatureTable, targets: list[str]) -> Side:
    """The tracks of a dataset that have features and all targets."""
    ratings = dataset.ratings[targets].dropna()
    tracks = table.values.index[table.values.index.isin(ratings.index)]
    return Side(dataset, table, table.values.loc[tracks], ratings.loc[tracks], dataset.tracks.loc[tracks, "group"])


def same_data(a: Dataset, b: Dataset) -> bool:
    """Whether two data sets have the same tracks and ratings."""
    return a.fingerprint() == b.fingerprint()


def shared_columns(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Columns that mean the same in both tables.

    a, b : from `describe_columns`

    Returns
    -------
    Index as `a`'s, one column `other`: the name in b; in the order of a

    Raises
    ------
    UserError : there is none
    """
    keys = {}
    for name, lld, statistic in zip(b.index, b["lld"], b["statistic"], strict=True):
        keys.setdefault((lld, statistic), name)
    pairs = {}
    for name, lld, statistic in zip(a.index, a["lld"], a["statistic"], strict=True):
        if (lld, statistic) in keys:
            pairs[name] = keys.pop((lld, statistic))
    if not pairs:
        raise UserError(
            f"the features share no column ({len(a)} like {a.index[0]!r}, {len(b)} like {b.index[0]!r}); "
            "use the same --features for both"
        )
    return pd.DataFrame({"other": pairs})


def map_scale(ratings: np.ndarray, old: tuple[float, float], new: tuple[float, float]) -> np.ndarray:
    """Ratings of one scale on another: lowest onto lowest, highest onto highest, linearly."""
    return new[0] + (ratings - old[0]) * (new[1] - new[0]) / (old[1] - old[0])


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Each column's ranks as normal quantiles, mean ranks for ties; NaN stays. (n, p)."""
    known = np.isfinite(values).sum(axis=0)
    ranks = rankdata(values, axis=0, nan_policy="omit")
    return norm.ppf((ranks - 0.5) / np.maximum(known, 1))


@dataclass(frozen=True)
class Transfer:
    """Predictions (n, t) of the test tracks on their own scale, by models of the other dataset and of their own folds.

    shared : columns that both datasets have; columns : columns or components that the regressor sees
    """

    predicted: np.ndarray
    at_home: np.ndarray
    shared: int
    columns: int


def transfer(
    train: Side, test: Side, model: str, reduction: str | None, align: str, seed: int, workers: int | None = None
) -> Transfer:
    """Predict one dataset by a model of another, and by its own five grouped folds on the same columns.

    Where both datasets are the same, the two are the same.

    Raises
    ------
    UserError : no shared column, or groups too few for folds
    """
    pairs = shared_columns(train.table.columns, test.table.columns)
    columns = train.table.columns.loc[pairs.index]
    seen, new = train.values[pairs.index], test.values[pairs["other"]].set_axis(pairs.index, axis=1)
    if align == "each":
        seen, new = (pd.DataFrame(normal_scores(t.to_numpy()), t.index, t.columns) for t in (seen, new))
    split = make_split("grouped-5fold", test.dataset, new.index, seed)
    options = {"reduction": reduction, "columns": columns}
    result = cross_validate(new, test.ratings, test.groups, split, model, seed, workers=workers, **options)
    if same_data(train.dataset, test.dataset):
        return Transfer(result.predicted, result.predicted, len(pairs), int(np.median(result.n_inputs)))
    fitted = make_regressor(model, seed, **options).fit(seen.to_numpy(), train.ratings.to_numpy())
    predicted = map_scale(fitted.predict(new.to_numpy()), train.dataset.scale, test.dataset.scale)
    return Transfer(predicted.reshape(len(new), -1), result.predicted, len(pairs), width(fitted))


def score_transfer(test: Side, predicted: np.ndarray, resamples: int, seed: int) -> dict[str, dict[str, list]]:
    """Measures by target, {measure: [value, low, high]}, with intervals over the test dataset's groups."""
    codes = np.unique(test.groups.to_numpy().astype(str), return_inverse=True)[1]
    draws = draw_groups(int(codes.max()) + 1, resamples, seed)
    scores = {}
    for column, target in enumerate(test.ratings):
        found, _ = score_block(test.ratings[target].to_numpy(float), predicted[:, column], codes, draws)
        scores[target] = found | {"r2_aligned": [2 * r - 1 for r in found["pearson"]]}
    return scores
