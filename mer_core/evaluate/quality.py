"""What can be wrong with a collection besides its labels: tracks twice, values that cannot be, lists that overlap.

Conventions: functions take a `Dataset` (or plain tables) and return plain dictionaries for `metrics.json`; at most
SHOWN examples are listed, the counts are complete.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import Dataset
from mer_core.errors import UserError

SHOWN = 20
SUSPICIOUS = 0.001
SAME_SONGS = 0.8  # ids that mean the same songs in two data sets have ratings that agree at least so well


def duplicates(dataset: Dataset) -> dict:
    """The same id, audio file content, artist and title, or row of ratings more than once."""
    index = dataset.tracks.index
    audio, songs = ([ids for ids in by.values() if len(ids) > 1] for by in (_by_content(dataset), _by_song(dataset)))
    return {
        "ids": sorted(set(index[index.duplicated()])),
        "audio": {"count": len(audio), "groups": audio[:SHOWN], "files": int(dataset.tracks["path"].notna().sum())},
        "songs": {"count": len(songs), "groups": songs[:SHOWN]},
        "ratings": same_ratings(dataset.ratings, dataset.spread),
    }


def same_ratings(ratings: pd.DataFrame, spread: pd.DataFrame) -> dict:
    """Pairs of tracks with identical ratings (and spreads), and how many chance would make.

    Chance is the number of pairs with the same ratings, times the probability that the spread of each target agrees
    among pairs that agree in that target's rating (few raters leave few spreads possible for a mean). Without spreads
    it is the number of pairs times the probability that each rating agrees. Both are somewhat low, since ratings go
    together: only five times as many pairs as chance would make are called suspicious.

    Returns
    -------
    {"pairs", "expected", "p" (Poisson, one-sided), "suspicious", "groups": lists of ids}
    """
    from scipy.stats import poisson

    rows = pd.concat([ratings, spread.add_suffix("_std")], axis=1).dropna()
    if len(rows) < 2:
        return {"pairs": 0, "expected": 0.0, "p": 1.0, "suspicious": False, "groups": []}
    groups = [list(ids) for ids in rows.groupby(list(rows.columns)).groups.values() if len(ids) > 1]
    pairs = sum(math.comb(len(ids), 2) for ids in groups)
    names, known = list(ratings.columns), [name for name in spread.columns if spread[name].nunique() > 1]
    expected = (
        float(_pairs(rows[names])) if known else math.comb(len(rows), 2) * math.prod(_agree(rows, n) for n in names)
    )
    once = rows.drop_duplicates()  # copies must not vouch for themselves
    for name in known:
        expected *= _pairs(once[[name, f"{name}_std"]]) / max(1, _pairs(once[[name]]))
    p = float(poisson.sf(pairs - 1, expected))
    suspicious = p < SUSPICIOUS and pairs > 5 * expected
    return {"pairs": pairs, "expected": expected, "p": p, "suspicious": suspicious, "groups": groups[:SHOWN]}


def _pairs(rows: pd.DataFrame) -> int:
    return sum(math.comb(int(size), 2) for size in rows.value_counts())


def _agree(rows: pd.DataFrame, name: str) -> float:
    return _pairs(rows[[name]]) / math.comb(len(rows), 2)


def _by_content(dataset: Dataset) -> dict[str, list[str]]:
    """Ids by content of their audio; files of a size that no other has are not read."""
    by_size = defaultdict(list)
    for track, path in dataset.tracks["path"].dropna().items():
        by_size[Path(path).stat().st_size].append((track, path))
    found = defaultdict(list)
    for size, items in by_size.items():
        for track, path in items:
            found[_digest(path) if len(items) > 1 else f"{size} bytes"].append(track)
    return found


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _by_song(dataset: Dataset) -> dict[str, list[str]]:
    """Ids by artist and title, where both are known; case, spaces and signs do not count."""
    found = defaultdict(list)
    if {"artist", "title"} <= set(dataset.tracks):
        known = dataset.tracks[["artist", "title"]].dropna()
        for track, artist, title in known.itertuples():
            found[_letters(artist) + "|" + _letters(title)].append(track)
    return found


def _letters(text: str) -> str:
    return "".join(c for c in str(text).casefold() if c.isalnum())


def out_of_range(dataset: Dataset, dynamic: pd.DataFrame | None) -> dict[str, list[str]]:
    """Ids with values that cannot be, by what is wrong; empty where nothing is."""
    low, high = dataset.scale
    # Two raters at the two ends: no standard deviation, divided by n or n - 1, is larger.
    widest = (high - low) / math.sqrt(2)
    found = {}
    for name, values in dataset.ratings.items():
        found[f"{name} off the scale {low:g} to {high:g}"] = values[(values < low) | (values > high)]
        found[f"{name} infinite"] = values[np.isinf(values)]
    for name, values in dataset.spread.items():
        found[f"{name} spread below 0 or above {widest:.2f}"] = values[(values < 0) | (values > widest)]
    for name, values in {} if dynamic is None else dynamic.items():
        found[f"dynamic {name} beyond -1 to 1"] = values[values.abs() > 1]
    return {what: list(wrong.index) for what, wrong in found.items() if len(wrong)}


def read_ids(path: str | Path) -> list[str]:
    """Track ids of a list: one a line, or the first cell of each line; blank lines and lines from # on do not count."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"--split {path} is no file; give a text file with one track id a line.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"--split {path} is no text; give a text file with one track id a line.") from None
    ids = [line.replace(";", ",").split(",")[0].strip().strip('"') for line in lines]
    ids = [i for i in ids if i and not i.startswith("#") and i not in ("track_id", "song_id")]
    if not ids:
        raise UserError(f"--split {path} names no track; give a text file with one track id a line.")
    return ids


def split_overlap(dataset: Dataset, lists: dict[str, list[str]]) -> dict:
    """What the lists of a split share: tracks, and groups (artists, albums) with tracks on both sides."""
    about, known = {}, {}
    for name, ids in lists.items():
        known[name] = dataset.tracks.index.intersection(pd.Index(ids).unique())
        if not len(known[name]):
            raise UserError(
                f"--split {name} has none of the {len(dataset.tracks)} tracks of {dataset.name} "
                f"(its ids are like {ids[0]!r}, the dataset's like {dataset.tracks.index[0]!r}); give its own lists."
            )
        parts = dataset.tracks.loc[known[name], "part"].astype(str).value_counts().sort_index()
        about[name] = {
            "n": len(ids),
            "known": len(known[name]),
            "unknown": len(set(ids)) - len(known[name]),
            "repeated": len(ids) - len(set(ids)),
            "parts": parts.to_dict(),
        }
    pairs = [
        {"lists": [a, b], **_shared(dataset.tracks["group"], known[a], known[b])} for a, b in combinations(known, 2)
    ]
    said = [_unknown_sentence(name, told, dataset) for name, told in about.items() if told["unknown"]]
    said += [_overlap_sentence(pair) for pair in pairs] or ["One list alone has nothing to overlap with."]
    return {"lists": about, "pairs": pairs, "verdict": " ".join(said)}


def _unknown_sentence(name: str, told: dict, dataset: Dataset) -> str:
    return (
        f"{told['unknown']} of the {told['n']} ids of {name} are no tracks of {dataset.name}: is it a list of another?"
    )


def _shared(groups: pd.Series, a: pd.Index, b: pd.Index) -> dict:
    tracks = a.intersection(b)
    shared = set(groups.loc[a.difference(tracks)]) & set(groups.loc[b.difference(tracks)])
    second = int(groups.loc[b.difference(tracks)].isin(shared).sum())
    return {
        "tracks": len(tracks),
        "groups": len(shared),
        "affected": second,
        "share": (second + len(tracks)) / len(b),
        "examples": sorted(map(str, shared))[:5],
    }


def _overlap_sentence(pair: dict) -> str:
    a, b = pair["lists"]
    if not pair["tracks"] and not pair["groups"]:
        return f"{a} and {b} share no track and no group."
    known = pair["tracks"] + pair["affected"]
    return (
        f"{a} and {b} share {pair['tracks']} tracks and {pair['groups']} groups (artists or albums), so that "
        f"{known} tracks of {b} ({pair['share']:.0%}) are not new to a model trained on {a}."
    )


def dataset_overlap(dataset: Dataset, other: Dataset) -> dict:
    """Tracks that two data sets share: the same audio file, the same artist and title, or the same id and ratings.

    Ids are often plain numbers, so shared ids count only where the ratings of at least 10 of them correlate above
    SAME_SONGS, in either order of valence and arousal.
    """
    audio = _digests(dataset, other).keys() & _digests(other, dataset).keys()
    songs = _by_song(dataset).keys() & _by_song(other).keys()
    ids = dataset.ratings.dropna().index.intersection(other.ratings.dropna().index)
    first, second = (d.ratings.loc[ids, ["valence", "arousal"]].to_numpy() for d in (dataset, other))
    best = 0.0
    if len(ids) >= 10 and np.all(np.ptp(first, axis=0) > 0) and np.all(np.ptp(second, axis=0) > 0):
        between = np.corrcoef(first.T, second.T)[:2, 2:]
        best = float(max(between.trace(), between[::-1].trace()) / 2)
    same = len(ids) if best > SAME_SONGS else 0
    count = max(len(audio), len(songs), same)
    said = f"{count} tracks of {dataset.name} are also in {other.name}" if count else f"none found in {other.name}"
    about = {"other": other.name, "audio": len(audio), "songs": len(songs), "ids": same, "agreement": best}
    return about | {"sentence": f"Overlap: {said} (same audio {len(audio)}, artist and title {len(songs)}, id {same})."}


def _digests(dataset: Dataset, other: Dataset) -> dict[str, str]:
    """Ids by content of the audio files that have the size of one of the other's."""
    sizes = {Path(path).stat().st_size for path in other.tracks["path"].dropna()}
    paths = dataset.tracks["path"].dropna()
    return {_digest(path): track for track, path in paths.items() if Path(path).stat().st_size in sizes}
