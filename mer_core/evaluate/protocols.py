"""Protocols by name: who is trained on, who is tested, and what leaks from one to the other.

A protocol makes a `Split` of a dataset's tracks, or of chunks of them. What leaks is counted from the split that was
made, not taken from the protocol's reputation: an honest protocol has no leaks.

References
----------
`original` and `custom` follow the splits of earlier openSMILE work on DEAM; `music2emo` is the published list of
Music2Emo (J. Kang & D. Herremans, "Towards unified music emotion recognition", arXiv 2502.03979); `leaky-chunks` is
what cutting songs before splitting them does (A. Flexer & D. Schnitzer, Computer Music Journal 34(3), 2010).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import Dataset
from mer_core.datasets.deam import LAST_EXCHANGED
from mer_core.errors import UserError
from mer_core.evaluate.quality import read_ids
from mer_core.evaluate.splits import PART_NAMES, SIZE_PENALTY, Split, grouped_holdout, grouped_kfold, strata

FOLDS = 5
CHUNKS = 3
LEAST_FRAMES = 5  # of a chunk: the least that features are taken from
FULL_SONGS = "2015"  # DEAM's part of 58 full songs
SHARE = 0.15  # of the tracks, for each of validation and test
TRIALS = 64


@dataclass(frozen=True)
class Protocol:
    """A way to keep tracks apart.

    summary : in words
    make : (dataset, ids of the tracks to use, seed) -> Split of these tracks, or of their chunks
    leaks : kinds of leak that it is known for ("track", "chunk", "artist", "cross-dataset"); none for an honest one
    tuned : whether the model's parameters are chosen inside each training part
    unit : what the split deals: "track" or "chunk"
    """

    summary: str
    make: Callable[[Dataset, pd.Index, int], Split]
    leaks: tuple[str, ...] = ()
    tuned: bool = False
    unit: str = "track"


def make_split(name: str, dataset: Dataset, tracks: pd.Index, seed: int) -> Split:
    """Split of a protocol, under its own name.

    Raises
    ------
    UserError : the dataset cannot serve this protocol (no such part, no lists, too few tracks or groups)
    """
    split = PROTOCOLS[name].make(dataset, tracks, seed)
    return Split(name, split.assignment, split.seed)


def _folds(dataset: Dataset, tracks: pd.Index, seed: int) -> Split:
    """Five folds by group; as many as there are groups where there are fewer, but at least two."""
    groups = dataset.tracks["group"].loc[tracks]
    folds = min(FOLDS, max(2, groups.nunique()))
    return grouped_kfold(groups, dataset.ratings.loc[tracks], folds, seed)


def _nested(dataset: Dataset, tracks: pd.Index, seed: int) -> Split:
    n_groups = dataset.tracks["group"].loc[tracks].nunique()
    if n_groups < FOLDS:
        raise UserError(
            f"--protocol nested needs {FOLDS} groups, {dataset.name} has {n_groups}: use --protocol grouped-5fold"
        )
    return _folds(dataset, tracks, seed)


def _original(dataset: Dataset, tracks: pd.Index, seed: int) -> Split:
    """Test: the full songs; validation: groups with 15 % of the other tracks. Whoever shares a test group is out."""
    groups = dataset.tracks["group"].loc[tracks]
    full = _full_songs(dataset, tracks, "original")
    rest = tracks[~groups.isin(groups[full]).to_numpy()]
    deal = grouped_holdout(groups[rest], dataset.ratings.loc[rest], (1 - SHARE, SHARE), seed, TRIALS)
    return _with_test(deal, full, seed)


def _custom(dataset: Dataset, tracks: pd.Index, seed: int) -> Split:
    """Test: the groups of the full songs and borrowed ones, 15 % of the tracks; validation: as many of the rest."""
    groups, ratings = dataset.tracks["group"].loc[tracks].sort_index(), dataset.ratings.loc[tracks].sort_index()
    forced = groups.isin(groups[_full_songs(dataset, tracks, "custom")]).to_numpy()
    chosen = _borrow(groups, ratings, forced, SHARE * len(tracks), seed)
    rest = groups.index[~chosen]
    share = SHARE * len(tracks) / len(rest)
    deal = grouped_holdout(groups[rest], ratings.loc[rest], (1 - share, share), seed, TRIALS)
    return _with_test(deal, groups.index[chosen], seed)


def _borrow(groups: pd.Series, ratings: pd.DataFrame, forced: np.ndarray, size: float, seed: int) -> np.ndarray:
    """Test members, bool (n,): the forced tracks and whole other groups up to `size` tracks, most alike the whole set.

    Cost of a trial: L1 distance of the two histograms of valence x arousal cells, plus 0.1 times the relative error of
    the size.
    """
    cells = pd.get_dummies(strata(ratings)).to_numpy(dtype=float)
    codes, names = pd.factorize(groups, sort=True)
    sizes = np.bincount(codes)
    others = np.setdiff1d(np.arange(len(names)), codes[forced])
    best, best_cost = forced, np.inf
    random = np.random.default_rng(seed)
    for _ in range(TRIALS):
        order = random.permutation(others)
        taken = order[forced.sum() + np.cumsum(sizes[order]) <= size]
        members = forced | np.isin(codes, taken)
        cost = np.abs(cells[members].mean(0) - cells.mean(0)).sum() + SIZE_PENALTY * abs(members.sum() - size) / size
        if cost < best_cost:
            best, best_cost = members, cost
    return best


def _full_songs(dataset: Dataset, tracks: pd.Index, name: str) -> pd.Index:
    full = tracks[(dataset.tracks["part"].loc[tracks].astype(str) == FULL_SONGS).to_numpy()]
    if full.empty:
        raise UserError(
            f"--protocol {name} tests on DEAM's full songs (part {FULL_SONGS}), of which {dataset.name} has none with "
            "features and ratings: use --protocol grouped-5fold, or DEAM with its annotations of songs 2001 to 2058"
        )
    return full


def _with_test(deal: Split, test: pd.Index, seed: int) -> Split:
    """Hold-out of a deal in two (train, validation) and a test part."""
    parts = deal.assignment.replace({"test": "validation"})
    return Split("", pd.concat([parts, pd.Series("test", index=test)]).sort_index().rename("part"), seed)


def _published_lists(dataset: Dataset, tracks: pd.Index, seed: int) -> Split:
    """Lists `splits/train.txt`, `validation.txt` and `test.txt` in the dataset's folder, one track id a line."""
    parts = {}
    for part in PART_NAMES[3]:
        path = Path(dataset.root) / "splits" / f"{part}.txt"
        if not path.is_file():
            raise UserError(
                f"--protocol music2emo reads its published lists, and {path} is missing: put train.txt, validation.txt "
                "and test.txt (one track id a line) there, or use --protocol grouped-5fold"
            )
        for track in read_ids(path):
            if parts.setdefault(track, part) != part:
                raise UserError(f"{path} has track {track}, which is in {parts[track]}.txt too; keep it in one list")
    assignment = pd.Series(parts, dtype=object).reindex(tracks).dropna().sort_index().rename("part")
    counts = assignment.value_counts()
    if (few := [part for part in PART_NAMES[3] if counts.get(part, 0) < 2]) or counts["train"] < 10:
        part = few[0] if few else "train"
        raise UserError(
            f"{Path(dataset.root) / 'splits' / part}.txt has {counts.get(part, 0)} of the tracks with features and "
            f"ratings: give lists of {dataset.name}'s track ids"
        )
    return Split("", assignment)


def _random_chunks(dataset: Dataset, tracks: pd.Index, seed: int) -> Split:
    """Chunks dealt to folds at random, whichever track they come from."""
    ids = np.sort(chunk_owners(tracks).index.to_numpy(dtype=str))
    folds = np.random.default_rng(seed).permutation(np.arange(len(ids)) % FOLDS)
    return Split("", pd.Series(folds, index=pd.Index(ids, dtype=object), name="fold"), seed)


def chunk_owners(tracks: pd.Index) -> pd.Series:
    """Track of each chunk: index "<track>#<number>", chunks of a track side by side."""
    owners = np.repeat(tracks.to_numpy(dtype=object), CHUNKS)
    ids = [f"{track}#{number}" for track in tracks for number in range(CHUNKS)]
    return pd.Series(owners, index=pd.Index(ids, dtype=object), name="track_id")


def chunk_features(name: str, dataset: Dataset, workers=None, progress=None) -> tuple[pd.DataFrame, list]:
    """Statistics of each third of every track.

    Parameters
    ----------
    name : "stats8" or "stats15"

    Returns
    -------
    (chunks, columns) float64, index as in `chunk_owners`; and (track, reason) for tracks too short to be cut
    """
    from mer_core.features.llds import lld_columns, load_llds
    from mer_core.features.statistics import STATISTICS_8, STATISTICS_15, column_names, summarise

    statistics = {"stats8": STATISTICS_8, "stats15": STATISTICS_15}
    if name not in statistics:
        raise UserError(
            f"--protocol leaky-chunks cuts tracks and needs features from audio, not {name!r}: use --features stats8, "
            "or another protocol"
        )
    tables = load_llds(dataset, workers, progress).tables
    least = CHUNKS * LEAST_FRAMES
    usable = {track: table for track, table in tables.items() if len(table) >= least}
    short = [
        (track, f"Its {len(table)} frames are too few to cut it into {CHUNKS} (at least {least}).")
        for track, table in tables.items()
        if track not in usable
    ]
    if not usable:
        raise UserError(
            f"No track of {dataset.name} has the {least} frames ({(least - 1) / 2 + 3:g} s) that {CHUNKS} chunks take: "
            "use another protocol"
        )
    pieces = [piece for table in usable.values() for piece in np.array_split(table, CHUNKS)]
    columns = column_names(lld_columns(), statistics[name])
    index = chunk_owners(pd.Index(list(usable), dtype=object)).index
    return pd.DataFrame(summarise(pieces, statistics[name]), index=index, columns=columns), short


@dataclass(frozen=True)
class Chunks:
    """Pieces of tracks: features (index chunk id), owners (track of each, same index), and the split that deals them.

    `by_track` has each track in the fold of its first chunk.
    """

    features: pd.DataFrame
    owners: pd.Series
    split: Split
    by_track: Split

    def spread(self, table: pd.DataFrame | pd.Series) -> pd.DataFrame | pd.Series:
        """Rows of a table of tracks, repeated for each of their chunks."""
        return table.loc[self.owners].set_axis(self.owners.index, axis=0)


def make_chunks(features: pd.DataFrame, split: Split, tracks: pd.Index) -> Chunks:
    """Chunks of the tracks; features (of these or more) from `chunk_features`, split of their chunks."""
    owners = chunk_owners(tracks)
    first = split.assignment[owners.index[~owners.duplicated()]].set_axis(tracks).sort_index()
    return Chunks(features.loc[owners.index], owners, split, Split(split.name, first, split.seed))


def count_leaks(name: str, split: Split, dataset: Dataset) -> list[dict]:
    """What of the training parts is in the test parts of a protocol's split.

    Returns
    -------
    [{"kind": "chunk", "track", "artist" or "cross-dataset", "count": tested tracks (chunks) concerned, "share": of all
    tested, "sentence"}], those that occur
    """
    index = split.assignment.index
    by_chunk = PROTOCOLS[name].unit == "chunk"
    owner = index.to_series().str.rsplit("#", n=1).str[0] if by_chunk else index.to_series()
    groups = dataset.tracks["group"].astype(str)
    tested, same_track, same_group = set(), pd.Index([]), set()
    for _, train, test in split.rounds():
        known = pd.Index(owner[train].unique())
        heard = test[owner[test].isin(known).to_numpy()]
        tested |= set(owner[test])
        same_track = same_track.append(heard)
        # A track's group leaks through its other tracks; those tracks of a group that are in training are counted.
        members = groups[known].value_counts()
        own = owner[test].isin(known).to_numpy().astype(int)
        others = members.reindex(groups[owner[test]]).fillna(0).to_numpy() - own
        same_group |= set(owner[test][others > 0])
    counts = {"chunk": len(same_track) if by_chunk else 0, "track": len(set(owner[same_track]))}
    counts["artist"] = len(same_group)
    if "cross-dataset" in PROTOCOLS[name].leaks and dataset.layout == "deam":
        counts["cross-dataset"] = sum(track.isdecimal() and int(track) <= LAST_EXCHANGED for track in tested)
    whole = {"chunk": sum(len(test) for _, _, test in split.rounds())}
    return [
        {"kind": kind, "count": count, "share": count / whole.get(kind, len(tested))}
        | {"sentence": SENTENCES[kind].format(count=count, all=whole.get(kind, len(tested)))}
        for kind, count in counts.items()
        if count
    ]


SENTENCES = {
    "chunk": "{count} of {all} tested chunks have a neighbour from the same track in the training part.",
    "track": "{count} of {all} tested tracks were in part learned from.",
    "artist": "{count} of {all} tested tracks share their artist, album or piece with a track that was learned from.",
    "cross-dataset": "{count} of {all} tested songs (ids up to 1000) are emoMusic's: a model that learned from "
    "emoMusic too, as the published Music2Emo did, has heard them.",
}

PROTOCOLS: dict[str, Protocol] = {
    "grouped-5fold": Protocol(
        "Five rounds; all tracks of an artist, album or piece are in the same fold, and each fold is tested once.",
        _folds,
    ),
    "nested": Protocol(
        "As grouped-5fold, with the model's parameters chosen inside each training part.", _nested, tuned=True
    ),
    "original": Protocol(
        "Tested on DEAM's 58 full songs, which differ from the excerpts learned from; validation 15 % of the rest by "
        "artist.",
        _original,
    ),
    "custom": Protocol(
        "Tested on 15 % of the songs, DEAM's 58 full ones among them; validation as many; no artist in two parts.",
        _custom,
    ),
    "music2emo": Protocol(
        "The published lists of Music2Emo: random songs, artists not kept apart.",
        _published_lists,
        ("artist", "cross-dataset"),
    ),
    "leaky-chunks": Protocol(
        "Each track is cut in three and the pieces are dealt to five folds at random: only to show what that leak is "
        "worth.",
        _random_chunks,
        ("chunk", "track", "artist"),
        unit="chunk",
    ),
}
