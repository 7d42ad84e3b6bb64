"""The `tracks` layout: a folder with audio and a `tracks.csv`, the one to use for one's own data.

`tracks.csv` has the columns `track_id, path, valence, arousal`, and may have `group` (artist, album or piece: kept
apart by every split), `part` (a subset by which scores are also reported), `<rating>_std` (spread of the raters),
further ratings, and any metadata. Paths are relative to the folder and stay inside it.

`dataset.json` beside it may say
`{"rating_scale": [1, 9], "targets": ["valence", "arousal", "tension"], "name": "...", "synthetic": false}`. Without it:

* the scale is the first of `SCALES` that holds every valence and arousal;
* a column counts as a further rating when it has at least two different values, all of them numbers on that scale, and
  is neither `*_std` nor `cue_*`.

Both inferences are told in the report.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd

from mer_core.datasets.dataset import VALENCE_AROUSAL, Dataset, LoadReport
from mer_core.datasets.table_file import read_rows
from mer_core.errors import UserError

REQUIRED = ("track_id", "path", *VALENCE_AROUSAL)
# A seven-point scale cannot be told from a nine-point one by its values: dataset.json says so.
SCALES = ((0.0, 1.0), (-1.0, 1.0), (1.0, 9.0), (0.0, 10.0), (0.0, 100.0))
BLANK = ("", "nan", "na", "n/a", "none", "null")
AUDIO_SUFFIXES = frozenset((".mp3", ".wav", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff"))


def load_tracks(folder: str | Path) -> Dataset:
    """Load a folder in the `tracks` layout.

    A track without its audio stays, with path None: a feature table may stand in for the audio. A row that cannot be
    used (no id, an id used before, no valence or arousal on the scale, a path that leaves the folder) is set aside and
    listed in `report.skipped`. UserError where nothing is left, or where `tracks.csv` or `dataset.json` are wrong.
    """
    folder = Path(folder).resolve()
    skipped, notes = [], []
    told = _read_description(folder / "dataset.json")
    table, numbers = _read_table(folder / "tracks.csv", skipped, notes)
    scale = _scale(folder, told, numbers, notes)
    targets = _targets(folder, told, table, numbers, scale, notes)
    kept = _usable(folder, table, numbers[targets], scale, skipped)
    if not kept.any():
        raise UserError(
            f"no row of {folder / 'tracks.csv'} can be used (first: {skipped[0][0]}, {skipped[0][1]}); mend it."
        )
    table = table[kept].set_index("track_id")
    numbers = numbers[kept].set_axis(table.index)
    tracks = pd.DataFrame({"group": _groups(table, notes), "part": _parts(table)}, index=table.index)
    tracks.insert(0, "path", _audio_paths(folder, table["path"], skipped, notes))
    ratings, spread = numbers[targets], _spread(table, numbers, targets, skipped)
    for column in table.columns.difference([*tracks, *ratings, *(f"{t}_std" for t in targets)], sort=False):
        tracks[column] = _metadata(table[column], numbers[column])
    present = int(tracks["path"].notna().sum())
    found = {"tracks": len(tracks), "audio files": present, "groups": tracks["group"].nunique()}
    report = LoadReport(found, missing_audio(tracks["path"]), tuple(skipped), tuple(notes))
    name, synthetic = str(told.get("name") or folder.name), bool(told.get("synthetic"))
    return Dataset(name, folder, "tracks", "as given", scale, tracks, ratings, spread, report, synthetic)


def existing_audio(path: Path, skipped: list[tuple[str, str]]) -> str | None:
    """The path as text where it is a file with content; an empty file is added to `skipped`."""
    if not path.is_file():
        return None
    if path.stat().st_size == 0:
        skipped.append((str(path), "the audio file is empty (0 bytes); its track is kept without audio"))
        return None
    return str(path)


def missing_audio(paths: pd.Series) -> tuple[str, ...]:
    """A sentence on the tracks whose path is None, or nothing where all have audio."""
    absent = list(paths.index[paths.isna()])
    if not absent:
        return ()
    examples = ", ".join(absent[:3])
    return (f"No audio for {len(absent)} of {len(paths)} tracks (such as {examples}): they need a feature table.",)


def _read_description(path: Path) -> dict:
    if not path.exists():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); mend or remove it.") from None
    if not isinstance(told, dict):
        raise UserError(f'{path} holds a {type(told).__name__} where {{"rating_scale": [1, 9]}} was expected; mend it.')
    return told


def _read_table(path: Path, skipped: list, notes: list) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells as text, indexed by line number, and the same cells as numbers (NaN where they are none)."""
    header, rows, separator = read_rows(path)
    absent = [name for name in REQUIRED if name not in header]
    if absent:
        raise UserError(
            f"{path} lacks the column {absent[0]} (it has {', '.join(header)}); expected {', '.join(REQUIRED)}."
        )
    named = [name for name in header if name]
    twice = [name for name in named if named.count(name) > 1]
    if twice:
        raise UserError(f"{path} has two columns named {twice[0]}; rename or remove one.")
    if len(named) < len(header):
        notes.append(f"{len(header) - len(named)} columns without a name in tracks.csv are ignored.")
    whole = {}
    for line, cells in rows:
        if any(cells[len(header) :]):
            skipped.append((f"line {line}", f"{len(cells)} cells where the header has {len(header)}"))
        else:
            whole[line] = (cells + [""] * len(header))[: len(header)]
    if not whole:
        raise UserError(f"{path} has no usable row under its header; add one line for each track.")
    table = pd.DataFrame.from_dict(whole, orient="index", columns=header, dtype="str")[named]
    decimal_comma = separator == ";"  # what spreadsheets write where the comma is the decimal sign
    return table, table.apply(lambda cells: _numbers(cells.str.replace(",", ".") if decimal_comma else cells))


def _numbers(cells: pd.Series) -> pd.Series:
    return pd.to_numeric(cells, errors="coerce").astype(float)


def _scale(folder: Path, told: dict, numbers: pd.DataFrame, notes: list) -> tuple[float, float]:
    if "rating_scale" in told:
        return _told_scale(folder, told["rating_scale"])
    rated = numbers[list(VALENCE_AROUSAL)]
    low, high = rated.min().min(), rated.max().max()
    if math.isnan(low):
        raise UserError(f"{folder / 'tracks.csv'} has no number under valence or arousal; fill in the ratings.")
    for scale in SCALES:
        if scale[0] <= low and high <= scale[1]:
            notes.append(
                f"Rating scale taken to be {scale[0]:g} to {scale[1]:g}, because ratings run from {low:g} to {high:g}; "
                'write {"rating_scale": [low, high]} to dataset.json if it is another.'
            )
            return scale
    raise UserError(
        f"ratings of {folder / 'tracks.csv'} run from {low:g} to {high:g}, which fits no usual scale; "
        'write {"rating_scale": [low, high]} to dataset.json beside it.'
    )


def _told_scale(folder: Path, value: object) -> tuple[float, float]:
    numeric = isinstance(value, list) and len(value) == 2 and all(type(v) in (int, float) for v in value)
    if not numeric or not value[0] < value[1]:
        raise UserError(
            f"rating_scale {value} in {folder / 'dataset.json'} is not [lowest, highest]; write e.g. [1, 9]."
        )
    return float(value[0]), float(value[1])


def _targets(folder: Path, told: dict, table: pd.DataFrame, numbers: pd.DataFrame, scale, notes: list) -> list[str]:
    """Names of the rated columns, valence and arousal first: as told, or inferred by the rule above."""
    if "targets" in told:
        named = told["targets"] if isinstance(told["targets"], list) else [told["targets"]]
        unknown = [name for name in named if name not in table.columns]
        if unknown:
            raise UserError(
                f"{folder / 'dataset.json'} names the target {unknown[0]!r}, which is no column of tracks.csv."
            )
        return list(dict.fromkeys((*VALENCE_AROUSAL, *named)))
    further = [
        name
        for name in table.columns.difference([*REQUIRED, "group", "part"], sort=False)
        if not name.endswith("_std") and not name.startswith("cue_") and _is_rating(table[name], numbers[name], scale)
    ]
    if further:
        notes.append(
            f"Also taken for ratings, because they hold numbers on the scale: {', '.join(further)}; "
            'write {"targets": [...]} to dataset.json if that is not so.'
        )
    return [*VALENCE_AROUSAL, *further]


def _is_rating(cells: pd.Series, numbers: pd.Series, scale: tuple[float, float]) -> bool:
    filled = ~cells.str.lower().isin(BLANK)
    return numbers[filled].between(*scale).all() and numbers.nunique() > 1


def _usable(folder: Path, table: pd.DataFrame, ratings: pd.DataFrame, scale, skipped: list) -> pd.Series:
    """Which rows can be used; the others are added to `skipped`, each with the first reason found."""
    first_line: dict[str, int] = {}
    kept = {}
    records = zip(table.index, table.to_dict("records"), ratings.to_dict("records"), strict=True)
    for line, cells, values in records:
        track = cells["track_id"]
        if not track:
            reason = "no track_id"
        elif track in first_line:
            reason = f"line {line} repeats the track_id of line {first_line[track]}"
        else:
            first_line[track] = line
            reason = _leaves_folder(folder, cells["path"]) or _no_rating(cells, values, scale)
        if reason:
            skipped.append((track or f"line {line}", reason))
        kept[line] = reason is None
    return pd.Series(kept)


def _leaves_folder(folder: Path, text: str) -> str | None:
    path = Path(text.replace("\\", "/"))
    if path.is_absolute() or text[1:2] == ":" or ".." in path.parts:
        return f"its path {text!r} is not one inside the folder"
    if not (folder / path).resolve().is_relative_to(folder):
        return f"its path {text!r} is a link out of the folder; put the audio itself there"
    return None


def _no_rating(cells: dict[str, str], ratings: dict[str, float], scale: tuple[float, float]) -> str | None:
    for name, value in ratings.items():
        blank = cells[name].lower() in BLANK
        if blank and name in VALENCE_AROUSAL:
            return f"no {name}"
        if not blank and not scale[0] <= value <= scale[1]:
            return f"{name} {cells[name]!r} is not a number from {scale[0]:g} to {scale[1]:g}"
    return None


def _audio_paths(folder: Path, texts: pd.Series, skipped: list, notes: list) -> pd.Series:
    """Absolute paths, None where there is no audio; says which audio is named by no row, or by several."""
    paths = [folder / text.replace("\\", "/") for text in texts]
    audio = pd.Series([existing_audio(path, skipped) for path in paths], index=texts.index, dtype=object)
    there = {str(path) for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES}
    unnamed = len(there - set(map(str, paths)))
    if unnamed:
        notes.append(f"{unnamed} audio files in the folder belong to no track in use; they are ignored.")
    shared = int(audio.dropna().duplicated().sum())
    if shared:
        notes.append(f"{shared} tracks name an audio file that an earlier track has; one group should hold both.")
    return audio


def _groups(table: pd.DataFrame, notes: list) -> pd.Series:
    if "group" not in table:
        notes.append("No group column: tracks of one artist may fall on both sides of a split.")
        return table.index.to_series()
    alone = table["group"] == ""
    if alone.any():
        notes.append(f"{alone.sum()} tracks without a group count as a group each.")
    return table["group"].where(~alone, table.index.to_series())


def _parts(table: pd.DataFrame) -> pd.Series | str:
    return table["part"].replace("", "other") if "part" in table else "all"


def _spread(table: pd.DataFrame, numbers: pd.DataFrame, targets: list[str], skipped: list) -> pd.DataFrame:
    """Rater standard deviations, named like their targets; what is no spread becomes NaN and is reported."""
    columns = [name for name in targets if f"{name}_std" in table]
    spread = numbers[[f"{name}_std" for name in columns]].set_axis(columns, axis=1)
    for name in columns:
        cells = table[f"{name}_std"]
        wrong = ~cells.str.lower().isin(BLANK) & ~spread[name].between(0, math.inf, inclusive="left")
        skipped += [
            (track, f"{name}_std {cells[track]!r} is no spread; taken as unknown") for track in cells.index[wrong]
        ]
        spread.loc[wrong, name] = math.nan
    return spread


def _metadata(cells: pd.Series, numbers: pd.Series) -> pd.Series:
    filled = cells != ""
    return numbers if filled.any() and numbers[filled].notna().all() else cells.where(filled, None)
