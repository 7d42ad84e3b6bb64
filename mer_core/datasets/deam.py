"""DEAM in the layout it is distributed in: 1802 songs with static and 2 Hz ratings of valence and arousal, 1 to 9.

    annotations/annotations averaged per song/song_level/static_annotations_averaged_songs_*.csv
    annotations/annotations averaged per song/dynamic (per second annotations)/{valence,arousal}.csv
    MEMD_audio/<id>.mp3     features/<id>.csv     metadata/metadata_*.csv

Any of them may be missing, or lie one folder deeper (as the archives unpack).

In the static tables valence and arousal are exchanged for song ids up to 1000 (the 2013 part): static "valence"
correlates .956 with dynamic arousal there and .575 with dynamic valence, and equals the arousal of EmoMusic, which
holds the same songs. The dynamic tables are right. `labels="corrected"` exchanges them back, `"published"` keeps them.

Reference: Aljanaki, Yang & Soleymani (2017), Developing a benchmark for emotional analysis of music, PLoS ONE 12(3).
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd

from mer_core.datasets.dataset import VALENCE_AROUSAL, Dataset, LoadReport
from mer_core.datasets.table_file import read_rows
from mer_core.datasets.tracks import AUDIO_SUFFIXES, existing_audio, missing_audio
from mer_core.errors import UserError

SCALE = (1.0, 9.0)
LAST_EXCHANGED = 1000  # last song id of the 2013 part
SONG_LEVEL = "annotations/annotations averaged per song/song_level"
DYNAMIC = "annotations/annotations averaged per song/dynamic (per second annotations)"
UNPACKED = (".", "DEAM_Annotations", "DEAM_audio", "features", "metadata")  # where the archives put their content
COLUMNS = tuple(f"{target}_{value}" for value in ("mean", "std") for target in VALENCE_AROUSAL)
METADATA = ("title", "artist", "album", "genre", "tags")
SAME_COLUMN = {"id": "song_id", "song title": "title", "track": "title"}  # headers differ between years and copies


def is_deam(folder: Path) -> bool:
    """Whether ratings or audio in DEAM's layout are in the folder."""
    return any(_places(folder, name) for name in (SONG_LEVEL, DYNAMIC, "MEMD_audio"))


def load_deam(folder: str | Path, labels: str = "corrected") -> Dataset:
    """Load DEAM with `labels` "corrected" or "published" (see above).

    Tracks are the songs with static ratings; without any static table, the songs with audio or features, all unrated.
    Groups are artists. UserError where there is nothing at all, or where a table cannot be read.
    """
    folder = Path(folder).resolve()
    missing, skipped, notes = [], [], []
    audio = _files_by_id(folder, "MEMD_audio", AUDIO_SUFFIXES, skipped)
    features = _files_by_id(folder, "features", {".csv"}, skipped)
    static = _exchange(_read_static(folder, {*audio, *features}, missing, skipped), labels, notes)
    index = pd.Index([str(song) for song in static.index], name="track_id")
    metadata = _read_metadata(folder, index, missing, notes)
    group = metadata["artist"].str.lower()
    tracks = pd.DataFrame(
        {
            "path": pd.Series(
                [existing_audio(audio[i], skipped) if i in audio else None for i in index], index, object
            ),
            "group": group.where(group.notna(), [f"song {i}" for i in index]),
            "part": [_part(song) for song in static.index],
        }
    ).join(metadata)
    unrated = set(audio) - set(index)
    if unrated:
        notes.append(f"{len(unrated)} audio files belong to no rated song; they are ignored.")
    missing += missing_audio(tracks["path"])
    found = {
        "tracks": len(tracks),
        "audio files": int(tracks["path"].notna().sum()),
        "feature tables": len(index.intersection(list(features))),
        "dynamic tables": len(_dynamic_files(folder)),
        "artists": group.nunique(),
    }
    if not found["feature tables"]:
        missing.append("No published descriptors (features): they are recomputed from the audio.")
    if not found["dynamic tables"]:
        missing.append(f"No dynamic ratings ({DYNAMIC}): the labels cannot be checked against them.")
    ratings, spread = (
        static[list(columns)].set_axis(VALENCE_AROUSAL, axis=1).set_axis(index)
        for columns in (COLUMNS[:2], COLUMNS[2:])
    )
    report = LoadReport(found, tuple(missing), tuple(skipped), tuple(notes))
    return Dataset(folder.name, folder, "deam", labels, SCALE, tracks, ratings, spread, report)


def read_dynamic(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Ratings over time: for valence and arousal, a row a track (index `track_id`, str), a column each 0.5 s.

    Columns are times in s from the start of the song (float); values are on DEAM's dynamic scale, -1 to 1, and NaN
    after a song's end. UserError where a table is missing.
    """
    files = _dynamic_files(Path(folder))
    for target in VALENCE_AROUSAL:
        if target not in files:
            raise UserError(f"{folder} has no dynamic ratings of {target}; put {DYNAMIC}/{target}.csv there.")
    return {target: _read_dynamic_file(files[target]) for target in VALENCE_AROUSAL}


def _read_dynamic_file(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, index_col=0, skipinitialspace=True, encoding="utf-8-sig")
    table.index = pd.Index(table.index.astype(str), name="track_id")
    table.columns = [float(re.sub(r"\D", "", name)) / 1000 for name in table.columns]  # "sample_15500ms" -> 15.5
    return table.astype(float)


def _places(folder: Path, name: str) -> list[Path]:
    return [folder / start / name for start in UNPACKED if (folder / start / name).is_dir()]


def _dynamic_files(folder: Path) -> dict[str, Path]:
    files = {path.stem: path for place in _places(folder, DYNAMIC) for path in place.glob("*.csv")}
    return {target: files[target] for target in VALENCE_AROUSAL if target in files}


def _files_by_id(folder: Path, name: str, suffixes: set[str] | frozenset[str], skipped: list) -> dict[str, Path]:
    """Files called <song id>.<suffix> in the folder of that name."""
    files: dict[str, Path] = {}
    for path in sorted(path for place in _places(folder, name) for path in place.iterdir()):
        if path.suffix.lower() in suffixes and path.stem.isdigit():
            if path.stem in files:
                skipped.append((str(path), f"{files[path.stem].name} is already used for this song"))
            files.setdefault(path.stem, path)
    return files


def _part(song: int) -> str:
    return "2013" if song <= LAST_EXCHANGED else "2014" if song <= 2000 else "2015"


def _read_static(folder: Path, others: set[str], missing: list, skipped: list) -> pd.DataFrame:
    """Mean and standard deviation of valence and arousal by song id (int), as published."""
    songs: dict[int, list[float]] = {}
    for place in _places(folder, SONG_LEVEL):
        for path in sorted(place.glob("static_annotations_averaged_songs_*.csv")):
            _read_static_file(path, songs, skipped)
    if songs:
        parts = {_part(song) for song in songs}
        missing += [f"No static ratings of the {part} part." for part in ("2013", "2014", "2015") if part not in parts]
    elif others:
        missing.append(f"No static ratings ({SONG_LEVEL}): no song has a rating.")
        songs = {int(song): [math.nan] * len(COLUMNS) for song in others}
    else:
        raise UserError(
            f"{folder} has neither static ratings nor audio of DEAM; expected {SONG_LEVEL} or MEMD_audio in it."
        )
    return pd.DataFrame.from_dict(songs, orient="index", columns=COLUMNS).sort_index()


def _read_static_file(path: Path, songs: dict[int, list[float]], skipped: list) -> None:
    header, rows, _ = read_rows(path)
    names = [name.replace("_ ", "_") for name in header]  # one header is spelt `valence_ max_mean`
    absent = {"song_id", *COLUMNS} - set(names)
    if absent:
        raise UserError(f"{path} lacks the column {min(absent)}; put DEAM's own table there.")
    for line, cells in rows:
        row = dict(zip(names, cells, strict=False))
        item = f"song {row['song_id']} in line {line} of {path.name}"
        try:
            song, values = int(row["song_id"]), [float(row[column]) for column in COLUMNS]
        except (KeyError, ValueError):
            skipped.append((item, "not a song id with four numbers"))
            continue
        if song in songs:
            skipped.append((item, "the song is rated in an earlier line"))
        elif not all(SCALE[0] <= value <= SCALE[1] for value in values[:2]):
            skipped.append((item, f"valence {values[0]} or arousal {values[1]} is not on the scale of 1 to 9"))
        else:
            songs[song] = values


def _exchange(static: pd.DataFrame, labels: str, notes: list) -> pd.DataFrame:
    """The table with valence and arousal exchanged back in the 2013 part, unless the published labels are wanted."""
    wrong = static.index <= LAST_EXCHANGED
    if not (wrong & static[COLUMNS[0]].notna()).any():
        return static
    if labels == "published":
        notes.append(f"Published labels: valence and arousal are exchanged for {wrong.sum()} songs (ids up to 1000).")
        return static
    notes.append(f"Corrected labels: valence and arousal of {wrong.sum()} songs (ids up to 1000) are exchanged back.")
    valence_mean, arousal_mean, valence_std, arousal_std = COLUMNS
    back = static.rename(
        columns={
            valence_mean: arousal_mean,
            arousal_mean: valence_mean,
            valence_std: arousal_std,
            arousal_std: valence_std,
        }
    )
    return static.where(~pd.Series(wrong, static.index), back[list(COLUMNS)], axis=0)


def _read_metadata(folder: Path, index: pd.Index, missing: list, notes: list) -> pd.DataFrame:
    songs: dict[str, dict[str, str]] = {}
    for path in sorted(path for place in _places(folder, "metadata") for path in place.glob("metadata*.csv")):
        header, rows, _ = read_rows(path)
        for _, cells in rows:
            song = _describe(header, cells)
            songs[song["song_id"]] = song
    metadata = pd.DataFrame.from_dict(songs, orient="index", columns=METADATA, dtype="str").reindex(index)
    if not songs:
        missing.append("No metadata: songs of one artist may fall on both sides of a split.")
    elif metadata["artist"].isna().any():
        notes.append(f"{metadata['artist'].isna().sum()} songs without an artist count as a group each.")
    return metadata


def _describe(header: list[str], cells: list[str]) -> dict[str, str | None]:
    """One song's metadata by name; cells under no name are tags."""
    names = [SAME_COLUMN.get(name.lower(), name.lower()) for name in header]
    cells = [re.sub(r"^[\s\"]+|[\s\"]+$", "", cell) for cell in cells]
    song = {name: cell for name, cell in zip(names, cells, strict=False) if name}
    tags = [cell for name, cell in zip(names + [""] * len(cells), cells, strict=False) if cell and not name]
    if re.fullmatch(r"\d+\.mp3", song.get("album", "")):  # in 2013 this column holds the file name
        song["album"] = ""
    song["tags"] = "; ".join(tags)
    return {name: None if cell in ("", "n/a") else cell for name, cell in song.items()}
