"""Mid-level qualities of a dataset's tracks as people or a score gave them, and what the raters were asked.

The seven qualities, their order and the questions are those of Aljanaki & Soleymani (2018), "A data-driven approach to
mid-level perceptual musical feature modeling", ISMIR (data: https://osf.io/5aupt), whose raters compared two excerpts.

Conventions
-----------
Tables have one row a track and one column a quality, in the order of `SEVEN`; every quality grows with its name. The
kind says where they come from, and stands wherever they are shown: `human` ratings, planted `truth`, computed
`proxies`, or `transferred` from a corpus with truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import Dataset
from mer_core.datasets.demo.midlevel import QUALITIES
from mer_core.errors import UserError

SEVEN = tuple(QUALITIES)[:7]
QUESTIONS = {
    "melodiousness": "Which excerpt is more melodious: to which would you rather sing along?",
    "articulation": "Which has more sounds with staccato articulation, short and detached?",
    "rhythmic_complexity": "Is it hard to tap the rhythm back, hard to find the metre; are there many rhythmic layers?",
    "rhythmic_stability": "Imagine marching along: which excerpt is easier to march to?",
    "dissonance": "Which is noisier in timbre, or has more dissonant intervals (tritones, seconds)?",
    "tonal_stability": "Where are tonic and key easier to hear; are there fewer modulations?",
    "minorness": "Accompanied by chords, which would have more minor ones?",
}
KINDS = {
    "human": "rated by listeners",
    "truth": "planted: computed from the notes that were played",
    "proxies": "computed from the sound by published estimators, not rated by anyone",
    "transferred": "estimated by a model that learned planted qualities of composed music, not rated by anyone",
}
FOLDER, FILE = "metadata_annotations", "annotations.csv"
SOUNDTRACKS_OFFSET = 3575  # clip i of the film-music set is song i + 3575 of the mid-level data set
# Names in the published table, in releases and papers -> ours.
PUBLISHED = {
    "melody": "melodiousness",
    "melodiousness": "melodiousness",
    "articulation": "articulation",
    "rhythm_complexity": "rhythmic_complexity",
    "rhythmic_complexity": "rhythmic_complexity",
    "rhythm_stability": "rhythmic_stability",
    "rhythmic_stability": "rhythmic_stability",
    "dissonance": "dissonance",
    "tonal_stability": "tonal_stability",
    "atonality": "tonal_stability",  # the table's name for it; it grows with stability, as raters were asked
    "mode": "minorness",
    "modality": "minorness",
    "minorness": "minorness",
}
TRUTH = "truth.csv"
LEAST_TRACKS = 10


@dataclass(frozen=True)
class MidlevelTargets:
    """Qualities to learn.

    kind : key of `KINDS`; values : index track_id, columns `SEVEN` or those of them that vary
    source : the file or the estimator; notes : what was left out, one sentence each
    """

    kind: str
    values: pd.DataFrame
    source: str
    notes: tuple[str, ...] = ()


def planted_qualities(dataset: Dataset) -> MidlevelTargets:
    """Columns `mid_*` of the corpus's truth.csv.

    Raises
    ------
    UserError : no such table, columns that are missing, or too few tracks
    """
    path = Path(dataset.root) / TRUTH
    if not path.is_file():
        raise UserError(
            f"{dataset.name} has no planted qualities ({TRUTH} is not in {dataset.root}); use --midlevel proxies"
        )
    table = pd.read_csv(path, dtype={"track_id": str}).set_index("track_id")
    names = [f"mid_{name}" for name in SEVEN]
    if missing := [name for name in names if name not in table]:
        raise UserError(f"{path} has no column {missing[0]!r}; build the corpus again")
    return checked("truth", table[names].set_axis(list(SEVEN), axis=1), str(path), dataset)


def has_planted_qualities(dataset: Dataset) -> bool:
    """Whether the dataset is a corpus with planted qualities."""
    return (Path(dataset.root) / TRUTH).is_file()


def human_ratings(place: str | Path, dataset: Dataset) -> MidlevelTargets:
    """Ratings of the published data set's folder, or of a table with the same columns.

    place : the folder (`metadata_annotations/annotations.csv` in it) or the CSV file. Its ids are those of the dataset,
        or for film-music clip i song i + 3575.

    Raises
    ------
    UserError : no such file, a column that is missing or no number, or too few of the dataset's tracks in it
    """
    path = _annotations(Path(place).expanduser())
    try:
        table = pd.read_csv(path, sep=None, engine="python", dtype=str)
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as a table ({error}); expected CSV with song_id and ratings") from None
    table.columns = [str(name).strip().strip("﻿").lower().replace(" ", "_") for name in table.columns]
    ids = next((name for name in ("song_id", "track_id") if name in table), None)
    if ids is None:
        raise UserError(f"{path} has no column song_id or track_id; its columns are {', '.join(table.columns)}")
    found = {PUBLISHED[name]: name for name in table if name in PUBLISHED}
    if missing := [name for name in SEVEN if name not in found]:
        raise UserError(f"{path} has no ratings of {', '.join(missing)}; its columns are {', '.join(table.columns)}")
    values = table.set_index(table[ids].str.strip())[[found[name] for name in SEVEN]].set_axis(list(SEVEN), axis=1)
    values = values.apply(pd.to_numeric, errors="coerce")
    if values.index.has_duplicates:
        raise UserError(f"{path} lists {values.index[values.index.duplicated()][0]!r} twice; keep one row a song")
    return checked("human", _matched(values, dataset), str(path), dataset)


def _annotations(place: Path) -> Path:
    """The table of ratings in a place."""
    if place.is_file():
        return place
    for candidate in (place / FOLDER / FILE, place / FILE):
        if candidate.is_file():
            return candidate
    raise UserError(
        f"{place} holds no mid-level ratings; expected {FOLDER}/{FILE} in it, as published at https://osf.io/5aupt"
    )


def _matched(values: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Rows of the dataset's tracks: by their own ids, or by the published numbering of the film-music clips."""
    tracks = dataset.tracks.index
    direct = values.index.intersection(tracks)
    numbers = {str(int(track) + SOUNDTRACKS_OFFSET): track for track in tracks if str(track).isdigit()}
    moved = values.index.intersection(pd.Index(list(numbers), dtype=object))
    if len(moved) > len(direct):
        return values.loc[moved].rename(index=numbers)
    return values.loc[direct]


def checked(kind: str, values: pd.DataFrame, source: str, dataset: Dataset) -> MidlevelTargets:
    """Targets of the dataset's tracks that have all qualities, without those that never change.

    Raises
    ------
    UserError : fewer than ten tracks have them, or not one quality varies
    """
    tracks = dataset.tracks.index
    values = values.loc[tracks.intersection(values.index, sort=False)].astype(float).replace([np.inf, -np.inf], np.nan)
    complete = values.dropna()
    notes = []
    if len(complete) < LEAST_TRACKS:
        raise UserError(
            f"{source} has qualities of {len(complete)} of the {len(tracks)} tracks of {dataset.name}; at least "
            f"{LEAST_TRACKS} are needed: check that its ids are those of the tracks"
        )
    if lost := [track for track in tracks if track not in complete.index]:
        notes.append(f"No qualities in {source} of {len(lost)} tracks, which were left out (first: {lost[0]}).")
    constant = [name for name in complete if complete[name].nunique() < 2]
    if len(constant) == complete.shape[1]:
        raise UserError(f"the qualities in {source} are the same for every track: there is nothing to learn from them")
    notes += [f"{name.replace('_', ' ')} is the same for every track, so it was left out." for name in constant]
    return MidlevelTargets(kind, complete.drop(columns=constant), source, tuple(notes))
