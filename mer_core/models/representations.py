"""What a model sees of a track: tables named by `--features`, several of them joined with "+".

A part is a name of `mer_core.features` (statistics of descriptors), an embedding of a pretrained network (see
`mer_core.models.embeddings`) or the path of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from mer_core.datasets.dataset import Dataset
from mer_core.errors import UserError
from mer_core.features import FeatureTable, build_features, features_of_files
from mer_core.features.table import BUILDERS
from mer_core.models.backbones import BACKBONES
from mer_core.models.embeddings import Part, build_embedding, embedding_of_files, read_part, weights_record

Progress = Callable[[float, str], None]


def parts_of(spec: str) -> tuple[str, ...]:
    """`stats8+musicnn-msd` -> its parts; a path that exists is one part, whatever characters it holds."""
    return (spec,) if Path(spec).is_file() else tuple(spec.split("+"))


def build_representation(
    spec: str,
    dataset: Dataset,
    workers: int | None = None,
    progress: Progress | None = None,
    weights: str | Path | None = None,
) -> FeatureTable:
    """The table of every part of `spec`, side by side; a track must be in all of them.

    weights : where pretrained networks find theirs, see `mer_core.models.backbones.open_backbone`

    Raises
    ------
    UserError : an unknown part, one named twice, or tables without a track in common
    """
    names = parts_of(spec)
    if len(set(names)) < len(names):
        raise UserError(f"--features {spec} names a part twice; name each once")
    tables = []
    for number, name in enumerate(names):
        share = None if progress is None else _share(progress, number, len(names))
        tables.append(_table(name, dataset, workers, share, weights))
    return tables[0] if len(tables) == 1 else _joined(spec, tables)


def embedding_parts(spec: str) -> list[Part]:
    """The parts of `spec` that are embeddings."""
    return [part for name in parts_of(spec) if not Path(name).is_file() and (part := read_part(name)) is not None]


def window_part(spec: str) -> Part | None:
    """The embedding that `spec` is, where a window has the same columns as a track: alone, pooled by the mean."""
    parts = embedding_parts(spec)
    return parts[0] if len(parts_of(spec)) == len(parts) == 1 and parts[0].pool == "mean" else None


def _table(name: str, dataset: Dataset, workers, progress, weights) -> FeatureTable:
    """The table of one part."""
    if parts := embedding_parts(name):
        return build_embedding(parts[0], dataset, workers, progress, weights)
    if name not in BUILDERS and not Path(name).is_file():
        known = ", ".join([*BUILDERS, *BACKBONES])
        raise UserError(f"Features {name!r} are neither built in ({known}) nor a file; give one of these.")
    return build_features(name, dataset, workers, progress)


def representation_of_files(
    spec: str,
    columns: Iterable[str],
    paths: Iterable[str | Path],
    workers: int | None = None,
    weights: str | Path | None = None,
) -> tuple[pd.DataFrame, tuple[tuple[str, str], ...]]:
    """The columns that a run needs, of audio files: table indexed by path, and (path, reason) of those that failed.

    A file that fails for one part is left out of all.
    """
    columns, paths = list(columns), [str(path) for path in paths]
    parts = embedding_parts(spec)
    tables, failures = [], []
    if others := [column for column in columns if not any(part.owns(column) for part in parts)]:
        table, failed = features_of_files(spec, others, paths, workers)
        tables, failures = [table], list(failed)
    for part in parts:
        owned = [column for column in columns if part.owns(column)]
        table, failed = embedding_of_files(part, owned, paths, workers, weights)
        tables.append(table)
        failures += failed
    values = pd.concat(tables, axis=1, join="inner")[columns]
    first = dict(reversed(failures))
    return values, tuple((path, first[path]) for path in dict.fromkeys(paths) if path in first)


def check_weights(spec: str, recorded: Iterable[dict], weights: str | Path | None = None) -> None:
    """Raise UserError unless the weights found here are those that a run was trained with.

    recorded : the run's `weights`, each with name, source and sha256
    """
    known = {entry["name"]: entry for entry in recorded}
    for part in embedding_parts(spec):
        if part.backbone.name not in known:
            continue
        then, now = known[part.backbone.name], weights_record(part.backbone, weights)
        if then.get("sha256") != now.get("sha256"):
            raise UserError(
                f"the run was trained with {_words(then)}, but found are {_words(now)}: its model does not fit them; "
                "name the folder of the former with --weights"
            )


def _words(record: dict) -> str:
    """Weights in a message."""
    name, checksum = record["name"], record.get("sha256")
    return f"random weights of {name}" if checksum is None else f"weights of {name} with SHA-256 {checksum[:12]}"


def _share(progress: Progress, number: int, count: int) -> Progress:
    """Progress of one part as part of the whole."""
    return lambda fraction, message: progress((number + fraction) / count, message)


def _joined(spec: str, tables: list[FeatureTable]) -> FeatureTable:
    """One table of several, of the tracks that all have."""
    values = pd.concat([table.values for table in tables], axis=1, join="inner")
    if values.empty:
        raise UserError(f"--features {spec}: no track has all of its parts; use them one by one to see which fails")
    if twice := list(values.columns[values.columns.duplicated()]):
        raise UserError(f"--features {spec}: more than one part has the column {twice[0]!r}; rename it in one of them")
    failures = dict(failure for table in tables for failure in table.failures)
    return FeatureTable(
        values,
        pd.concat([table.columns for table in tables]),
        " + ".join(dict.fromkeys(table.source for table in tables)),
        tuple(failures.items()),
        tuple(note for table in tables for note in table.notes),
        tuple({entry["name"]: entry for table in tables for entry in table.weights}.values()),
    )
