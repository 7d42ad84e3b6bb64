"""Who is trained on and who is tested on: splits by track and by group, never by chunk.

Conventions
-----------
A group (artist, album, piece) lies in one part only. Strata are quantile cells of valence x arousal, so that every part
hears the whole plane. A split depends on track ids, groups, ratings and the seed, never on the order of the rows.

References
----------
Chunk and artist leakage in music data: A. Flexer & D. Schnitzer, Computer Music Journal 34(3), 2010.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import VALENCE_AROUSAL
from mer_core.errors import UserError

PART_NAMES = {2: ("train", "test"), 3: ("train", "validation", "test")}
SIZE_PENALTY = 0.1  # weight of a part's size against its balance, as in the 64-seed search of earlier DEAM work
UNRATED = -1  # stratum of tracks that lack valence or arousal, and of rare cells


@dataclass(frozen=True)
class Split:
    """Tracks dealt into folds or parts.

    name : protocol, e.g. "grouped-5fold", "grouped-holdout"
    assignment : index track_id (str, unique), sorted; value fold number 0..k-1, or "train", "validation", "test"
    seed : seed it was drawn with, None for a published list
    """

    name: str
    assignment: pd.Series
    seed: int | None = None

    @property
    def parts(self) -> tuple:
        """Fold numbers in order, or the part names that occur, train first."""
        present = set(self.assignment)
        named = tuple(part for part in PART_NAMES[3] if part in present)
        return named or tuple(sorted(int(fold) for fold in present))

    def members(self, part: int | str) -> pd.Index:
        """Track ids of one fold or part."""
        return self.assignment.index[(self.assignment == part).to_numpy()]

    def rounds(self) -> tuple[tuple[int | str, pd.Index, pd.Index], ...]:
        """(part, training ids, test ids) of every model to fit: one a fold, or one in all for a hold-out.

        A hold-out's round trains on "train" and tests on "test"; its "validation" is left to whoever tunes.
        """
        if "test" in self.parts:
            return (("test", self.members("train"), self.members("test")),)
        index = self.assignment.index
        return tuple((fold, index.difference(self.members(fold)), self.members(fold)) for fold in self.parts)

    def digest(self) -> str:
        """Sixteen hex digits that change when any track changes its part, and with nothing else."""
        pairs = sorted(f"{track}\t{part}" for track, part in self.assignment.items())
        return hashlib.sha256("\n".join(pairs).encode()).hexdigest()[:16]


def strata(ratings: pd.DataFrame, bins: int = 3) -> pd.Series:
    """Cell of each track on the valence-arousal plane, cut at quantiles.

    Parameters
    ----------
    ratings : index track_id; `valence` and `arousal` (or else the first two columns), any scale, NaN where unrated
    bins : quantile bins per dimension; ties that make two cuts equal merge the bins between them

    Returns
    -------
    Series, same index: valence bin * bins + arousal bin in 0..bins^2 - 1, or -1 where a rating is missing
    """
    names = [name for name in VALENCE_AROUSAL if name in ratings] or list(ratings.columns[:2])
    rated = ratings[names].notna().all(axis=1).to_numpy()
    cells = np.full(len(ratings), UNRATED)
    cells[rated] = 0
    for name in names:
        values = ratings[name].to_numpy(dtype=float)[rated]
        cuts = np.unique(np.quantile(values, np.arange(1, bins) / bins)) if len(values) else []
        cells[rated] = cells[rated] * bins + np.searchsorted(cuts, values, side="left")
    return pd.Series(cells, index=ratings.index, name="stratum")


def grouped_kfold(groups: pd.Series, ratings: pd.DataFrame, folds: int = 5, seed: int = 42) -> Split:
    """Deal groups into folds with like shares of every stratum (stratified group k-fold, shuffled).

    Parameters
    ----------
    groups : index track_id; artist, album or piece of each track, no gaps
    ratings : same tracks; see `strata`. Cells with fewer tracks than folds count as one
    folds : number of folds, at least 2
    seed : of the shuffle

    Raises
    ------
    UserError : fewer than two tracks a fold, fewer groups than folds, a group column of one value
    """
    groups, ratings = _aligned(groups, ratings)
    _check_enough(groups, folds, f"{folds} folds", "use fewer folds")
    for bins in (3, 2, 1):  # few groups can leave a fold empty for the sake of balance: then ask for less balance
        assignment = _stratified_group_folds(groups, _merge_rare(strata(ratings, bins), folds), folds, seed)
        if assignment.nunique() == folds:
            break
    return Split(f"grouped-{folds}fold", assignment, seed)


def grouped_holdout(
    groups: pd.Series,
    ratings: pd.DataFrame,
    shares: tuple[float, ...] = (0.7, 0.15, 0.15),
    seed: int = 42,
    trials: int = 64,
) -> Split:
    """Deal groups into train, (validation,) test: the most balanced of many random deals.

    Parameters
    ----------
    groups, ratings : as in `grouped_kfold`
    shares : shares of the tracks, two (train, test) or three (train, validation, test) numbers that sum to 1
    seed : of the random orders of groups
    trials : orders tried; the winner has the least sum over parts of the L1 distance between the part's and the whole
        set's histograms of strata, plus 0.1 times the relative error of the part's size

    Raises
    ------
    UserError : shares that are no such list, too few tracks or groups
    """
    if len(shares) not in PART_NAMES or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise UserError(f"shares {shares} do not deal all tracks: give 2 or 3 positive numbers that sum to 1")
    groups, ratings = _aligned(groups, ratings)
    _check_enough(groups, len(shares), f"{len(shares)} parts", "use fewer parts")
    cells = pd.get_dummies(strata(ratings)).to_numpy(dtype=float)
    codes, names = pd.factorize(groups, sort=True)
    sizes = np.bincount(codes)
    best, best_cost = None, np.inf
    for trial in np.random.default_rng(seed).permuted(np.tile(np.arange(len(names)), (trials, 1)), axis=1):
        parts = _deal(trial, sizes, shares)[codes]
        cost = _imbalance(parts, cells, shares)
        if cost < best_cost:
            best, best_cost = parts, cost
    if best is None:
        raise UserError(
            f"{len(names)} groups of {sizes.min()} to {sizes.max()} tracks leave a part of {shares} empty: "
            "use grouped-5fold, or shares with larger smallest part"
        )
    labels = np.array(PART_NAMES[len(shares)], dtype=object)
    return Split("grouped-holdout", pd.Series(labels[best], index=groups.index, name="part"), seed)


def inner_folds(groups: pd.Series, ratings: pd.DataFrame, folds: int = 3, seed: int = 42) -> Split:
    """Grouped folds of one training part alone, to tune and select on inside nested cross-validation.

    Parameters
    ----------
    groups, ratings : of the training tracks only; otherwise as in `grouped_kfold`
    """
    return grouped_kfold(groups, ratings, folds, seed)


def check_disjoint(split: Split, groups: pd.Series) -> None:
    """Raise ValueError when a track or a group lies in two parts of the split, or a track has no group.

    groups : index track_id, at least the tracks of the split
    """
    index = split.assignment.index
    if index.has_duplicates:
        raise ValueError(f"track {index[index.duplicated()][0]!r} is in the {split.name} split twice; list it once")
    table = pd.DataFrame({"part": split.assignment.astype(str), "group": groups.reindex(index)})
    if table["group"].isna().any():
        raise ValueError(f"track {table.index[table['group'].isna()][0]!r} has no group; give every track one")
    shared = table.groupby("group")["part"].unique().loc[lambda parts: parts.str.len() > 1]
    if len(shared):
        parts = " and ".join(sorted(shared.iloc[0]))
        raise ValueError(f"group {shared.index[0]!r} lies in parts {parts} of {split.name} ({len(shared)} groups do)")


def _aligned(groups: pd.Series, ratings: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    """Groups as text and ratings, both sorted by track id: the order of the rows must not matter."""
    if groups.isna().any():
        missing = groups.index[groups.isna()]
        raise UserError(
            f"{len(missing)} tracks have no group (first: {missing[0]}): fill the group column, "
            "with the track's own id where nothing is shared"
        )
    groups = groups.astype(str).sort_index()
    return groups, ratings.loc[groups.index]


def _check_enough(groups: pd.Series, parts: int, what: str, cure: str) -> None:
    """Raise UserError unless `parts` disjoint parts of two tracks each are possible."""
    if parts < 2:
        raise UserError(f"{what} cannot hold out a test part: use at least 2")
    if len(groups) < 2 * parts:
        raise UserError(f"{len(groups)} tracks are too few for {what}: give at least {2 * parts} tracks, or {cure}")
    n_groups = groups.nunique()
    if n_groups == 1:
        raise UserError(
            f"the group of all {len(groups)} tracks is {groups.iloc[0]!r}, so nothing can be held out: give each "
            "artist or album its own value, or leave the group column out"
        )
    if n_groups < parts:
        raise UserError(f"{n_groups} groups cannot fill {what} without sharing one: give more groups, or {cure}")


def _merge_rare(cells: pd.Series, least: int) -> pd.Series:
    """Cells with fewer than `least` tracks put together, since they cannot be in every fold anyway."""
    counts = cells.map(cells.value_counts())
    merged = cells.where(counts >= least, UNRATED)
    if 0 < (merged == UNRATED).sum() < least:
        merged = merged.where(merged != UNRATED, cells.value_counts().idxmax())
    return merged


def _stratified_group_folds(groups: pd.Series, cells: pd.Series, folds: int, seed: int) -> pd.Series:
    """Fold number of every track."""
    from sklearn.model_selection import StratifiedGroupKFold

    assignment = pd.Series(-1, index=groups.index, name="fold")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, test) in enumerate(splitter.split(cells, cells, groups)):
        assignment.iloc[test] = fold
    return assignment


def _deal(order: np.ndarray, sizes: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """Part number of every group when groups in this order fill one part after the other (by their middle track)."""
    filled = np.cumsum(sizes[order])
    middle = (filled - sizes[order] / 2) / filled[-1]
    parts = np.empty(len(order), dtype=int)
    parts[order] = np.searchsorted(np.cumsum(shares)[:-1], middle, side="right")
    return parts


def _imbalance(parts: np.ndarray, cells: np.ndarray, shares: tuple[float, ...]) -> float:
    """Cost of a deal, see `grouped_holdout`; infinite when a part is empty. parts (n,), cells one-hot (n, strata)."""
    cost = 0.0
    for part, share in enumerate(shares):
        members = parts == part
        if not members.any():
            return np.inf
        cost += np.abs(cells[members].mean(0) - cells.mean(0)).sum()
        cost += SIZE_PENALTY * abs(members.mean() - share) / share
    return cost
