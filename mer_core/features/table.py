"""Feature tables: one row a track, one column a feature.

Conventions
-----------
Track ids are strings. A table holds a row for every track that has features; the others are listed with their reason.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core import compute
from mer_core.datasets.dataset import Dataset
from mer_core.errors import UserError
from mer_core.features.clips import CLIP_FEATURES, clip_columns, clip_table
from mer_core.features.groups import describe_columns, split_column
from mer_core.features.llds import lld_columns, llds_of_file, load_llds, reason
from mer_core.features.statistics import STATISTICS_8, STATISTICS_15, column_names, summarise

ID_COLUMNS = ("track_id", "song_id")

# Where ids are plain numbers, two datasets share many. A table of which less is of this dataset is pointed out; one of
# which most is not, and which lacks many of its tracks as well, is refused.
POOR_MATCH, STRANGE_ROWS, STRANGE_TRACKS = 0.8, 0.5, 0.9


@dataclass(frozen=True)
class FeatureTable:
    """Features of the tracks of a dataset.

    values : index track_id (str), float64; NaN where a feature is not defined for a track (no column is NaN throughout)
    columns : what each column means, from `describe_columns`
    source : "recomputed" or "published" LLDs, or "table <file name>"
    failures : (track_id, reason) for every track of the dataset without a row
    notes : what the user should know of besides, one sentence each
    weights : of each pretrained network that made columns: name, source, sha256, licence
    """

    values: pd.DataFrame
    columns: pd.DataFrame
    source: str
    failures: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    weights: tuple[dict, ...] = ()


def build_features(
    name_or_path: str | Path,
    dataset: Dataset,
    workers: int | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> FeatureTable:
    """The features of a dataset's tracks.

    Parameters
    ----------
    name_or_path : a name in BUILDERS, or the path of a Parquet or CSV table keyed by `track_id` or `song_id`
    dataset : whose tracks are wanted
    workers : threads; all cores when None
    progress : called as progress(fraction in 0..1, message)

    Raises
    ------
    UserError for an unknown name, a table that cannot be used, or when no track has features.
    """
    if builder := BUILDERS.get(str(name_or_path)):
        return builder(dataset, workers, progress)
    path = Path(name_or_path)
    if not path.is_file():
        known = ", ".join(BUILDERS)
        raise UserError(f"Features {str(name_or_path)!r} are neither built in ({known}) nor a file; give one of these.")
    return _from_file(path, dataset)


def features_of_files(
    feature_spec: str, columns: Iterable[str], paths: Iterable[str | Path], workers: int | None = None
) -> tuple[pd.DataFrame, tuple[tuple[str, str], ...]]:
    """The features of audio files that a run needs to predict.

    Parameters
    ----------
    feature_spec : what the run's features were called, for the message when they cannot be had from audio
    columns : names of the run's columns: `{lld}_{statistic}`, bare `{lld}` (its mean), or of CLIP_FEATURES; LLDs are
        recomputed also where the run was trained on published ones, whose values differ somewhat: warn of it
    paths : audio files
    workers : threads; all cores when None

    Returns
    -------
    The table, index path (str, as given) of the files that could be read, columns as given; and (path, reason) for the
    others.

    Raises
    ------
    UserError when a column cannot be computed from audio.
    """
    columns, paths = list(columns), [str(path) for path in paths]
    owners = {
        name: [column for column in columns if column in features.columns] for name, features in CLIP_FEATURES.items()
    }
    of_clips = {column for owned in owners.values() for column in owned}
    tables, failures = [], []
    if others := [column for column in columns if column not in of_clips]:
        table, failed = _lld_statistics_of_files(feature_spec, others, paths, workers)
        tables, failures = [table], list(failed)
    for name, owned in owners.items():
        if owned:
            table, failed, _ = clip_table(name, paths, paths, workers)
            tables.append(table[owned])
            failures += failed
    values = pd.concat(tables, axis=1, join="inner")[columns].rename_axis("path")
    first = dict(reversed(failures))
    return values, tuple((path, first[path]) for path in dict.fromkeys(paths) if path in first)


def _lld_statistics_of_files(
    feature_spec: str, columns: list[str], paths: list[str], workers: int | None
) -> tuple[pd.DataFrame, tuple[tuple[str, str], ...]]:
    parts = [split_column(column) for column in columns]
    for column, (_, statistic) in zip(columns, parts, strict=True):
        if statistic is None:
            raise UserError(
                f"Features {feature_spec!r} have the column {column!r}, which is no statistic of an LLD, so that audio "
                "files cannot be given it; train the run on stats8 or stats15 to predict from audio."
            )
    outcomes = compute.map_items(llds_of_file, paths, workers)
    good = [outcome for outcome in outcomes if outcome.error is None]
    failures = tuple((outcome.item, reason(outcome.error)) for outcome in outcomes if outcome.error is not None)
    wanted = [f"{lld}_{statistic}" for lld, statistic in parts]
    values = _summary([outcome.value[0] for outcome in good], STATISTICS_15)[wanted].set_axis(columns, axis=1)
    return values.set_axis([outcome.item for outcome in good], axis=0), failures


def _from_llds(names: tuple[str, ...], dataset: Dataset, workers, progress) -> FeatureTable:
    """Statistics of the LLDs."""
    llds = load_llds(dataset, workers, progress)
    if not llds.tables:
        first = ": ".join(llds.failures[0]) if llds.failures else "there are no tracks"
        raise UserError(f"No track of dataset {dataset.name} has features ({first}); check its audio files.")
    values = _summary(list(llds.tables.values()), names)
    values.index = pd.Index(list(llds.tables), name="track_id")
    values, empty = _without_empty_columns(values)
    return FeatureTable(values, describe_columns(values.columns), llds.source, llds.failures, llds.notes + empty)


def _summary(tables: list[np.ndarray], names: tuple[str, ...]) -> pd.DataFrame:
    columns = column_names(lld_columns(), names)
    values = summarise(tables, names) if tables else np.empty((0, len(columns)))
    return pd.DataFrame(values, columns=columns)


def _from_clips(name: str, dataset: Dataset, workers, progress) -> FeatureTable:
    """Features of whole clips."""
    tracks = dataset.tracks
    values, failures, notes = clip_table(name, list(tracks["path"]), list(tracks.index), workers, progress)
    if values.empty:
        first = ": ".join(failures[0]) if failures else "there are no tracks"
        raise UserError(f"No track of dataset {dataset.name} has {name} ({first}); check its audio files.")
    values, empty = _without_empty_columns(values.rename_axis("track_id"))
    return FeatureTable(values, clip_columns(name).loc[values.columns], "recomputed", failures, notes + empty)


# name -> function(dataset, workers, progress) -> FeatureTable
BUILDERS: dict[str, Callable[..., FeatureTable]] = {
    "stats8": functools.partial(_from_llds, STATISTICS_8),
    "stats15": functools.partial(_from_llds, STATISTICS_15),
    **{name: functools.partial(_from_clips, name) for name in CLIP_FEATURES},
}


def _from_file(path: Path, dataset: Dataset) -> FeatureTable:
    """The rows of a table file that belong to the dataset's tracks."""
    table = read_table(path)
    if ratings := [column for column in table.columns if column in dataset.targets]:
        raise UserError(f"{path} has the column {ratings[0]!r}, which is what is to be predicted; remove it.")
    tracks = dataset.tracks.index
    matched = tracks[tracks.isin(table.index)]
    if matched.empty:
        raise UserError(
            f"{path} has none of the {len(tracks)} tracks of dataset {dataset.name} (its ids are like "
            f"{table.index[0]!r}, the dataset's like {tracks[0]!r}); give a table of this dataset."
        )
    of_table, of_dataset = len(matched) / len(table), len(matched) / len(tracks)
    if of_table < STRANGE_ROWS and of_dataset < STRANGE_TRACKS:
        raise UserError(
            f"{path} shares {len(matched)} ids with dataset {dataset.name}, of its own {len(table)} and the dataset's "
            f"{len(tracks)}: it looks like a table of other music with ids that are alike; give a table of this "
            "dataset, or only those of its rows that are"
        )
    failures = tuple(
        (track, f"There is no row for it in {path.name}.") for track in tracks.difference(matched, sort=False)
    )
    notes = []
    if len(others := table.index.difference(tracks, sort=False)):
        some = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        notes.append(f"{path.name} has {len(others)} rows for ids that are no tracks of the dataset ({some}).")
    if min(of_table, of_dataset) < POOR_MATCH:
        notes.append(
            f"{len(matched)} of the {len(table)} rows of {path.name} belong to the {len(tracks)} tracks of "
            f"{dataset.name}: check that it is a table of this dataset."
        )
    values = table.loc[matched].rename_axis("track_id")
    if gaps := int(np.isinf(values.to_numpy()).sum()):
        notes.append(f"{path.name} has {gaps} infinite values, which count as missing.")
        values = values.replace([np.inf, -np.inf], np.nan)
    values, empty = _without_empty_columns(values)
    return FeatureTable(values, describe_columns(values.columns), f"table {path.name}", failures, (*notes, *empty))


def read_table(path: Path) -> pd.DataFrame:
    """A Parquet or CSV (comma or semicolon) table of numbers, keyed by `track_id` or `song_id`: index of str, float64.

    Raises
    ------
    UserError when it cannot be read, has no such key, an empty or repeated key, a column that is not numeric, or none.
    """
    table = _read_file(path)
    key = next((name for name in ID_COLUMNS if name in table.columns), None)
    if key is None:
        raise UserError(
            f"{path} has no column track_id or song_id (it begins with {list(table.columns[:3])}); add one."
        )
    ids = table.pop(key)
    if ids.isna().any():
        raise UserError(f"{path} has {int(ids.isna().sum())} rows without {key}; fill them in or remove them.")
    if pd.api.types.is_float_dtype(ids) and (ids % 1 == 0).all():
        ids = ids.astype(np.int64)
    table.index = pd.Index(ids.astype(str).str.strip(), name=key, dtype=object)
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise UserError(f"{path} has more than one row for {key} {twice}; keep one row a track.")
    if repeated := list(table.columns[table.columns.duplicated()]):
        raise UserError(f"{path} has more than one column {repeated[0]!r}; rename or remove all but one.")
    for column, kind in table.dtypes.items():
        if not pd.api.types.is_numeric_dtype(kind):
            raise UserError(f"{path} has the column {column!r}, which is not numeric; features are numbers: remove it.")
    if table.empty:
        raise UserError(
            f"{path} has {len(table)} rows and {table.shape[1]} feature columns; at least one of each is needed."
        )
    return table.astype(np.float64)


def _read_file(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(path)
            return table.reset_index() if table.index.name in ID_COLUMNS else table
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        separator = ";" if header.count(";") > header.count(",") else ","
        # Ids are read as text, so that "007" stays what it is.
        return pd.read_csv(path, sep=separator, dtype=dict.fromkeys(ID_COLUMNS, str), encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # the errors of both parsers are ValueErrors
        raise UserError(f"{path} cannot be read as a table ({error}); expected Parquet (.parquet) or CSV.") from error


def _without_empty_columns(values: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Leave out columns that have no value for any track, and say so."""
    empty = values.columns[values.isna().all()]
    if empty.empty:
        return values, ()
    if len(empty) == values.shape[1]:
        raise UserError(
            "No feature column has a value for any track of the dataset; check the table or the audio files."
        )
    some = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
    return values.drop(columns=empty), (f"{len(empty)} feature columns without any value were left out ({some}).",)
