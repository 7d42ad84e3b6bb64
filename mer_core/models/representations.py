"""What a model sees of a track: tables named by `--features`, several of them joined with "+".

A part is a name of `mer_core.features` (statistics of descriptors) or the path of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from mer_core.datasets.dataset import Dataset
from mer_core.errors import UserError
from mer_core.features import FeatureTable, build_features, features_of_files

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
        tables.append(build_features(name, dataset, workers, share))
    return tables[0] if len(tables) == 1 else _joined(spec, tables)


def representation_of_files(
    spec: str, columns: Iterable[str], paths: Iterable[str | Path], workers: int | None = None
) -> tuple[pd.DataFrame, tuple[tuple[str, str], ...]]:
    """The columns that a run needs, of audio files: table indexed by path, and (path, reason) of those that failed."""
    return features_of_files(spec, columns, paths, workers)


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
        tuple(weights for table in tables for weights in table.weights),
    )
