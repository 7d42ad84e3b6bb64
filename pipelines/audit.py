"""Check labels before learning from them: exchanged ratings, rater spread and its ceiling, duplicates, overlaps.

Where a dataset has dynamic ratings besides its static ones, each part is tested for valence and arousal being
exchanged, and the tracks concerned are named. Labels are checked as published, unless asked otherwise.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from pipelines import option


@dataclass(frozen=True)
class Config:
    """Options of `audit`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'")
    layout: str = option("auto", "layout of the folder", ("auto", "deam", "tracks"))
    labels: str = option(
        "published",
        "DEAM's static labels as published, or with valence and arousal put right for ids <= 1000",
        ("published", "corrected"),
    )
    features: str = option(
        "auto",
        "where loudness is taken from for a cross-check: stats8, stats15, a Parquet/CSV table, none, "
        "or auto: a Parquet table with it in the dataset's folder",
    )
    split: tuple[str, ...] = option((), "files with one track id a line (train, test, ...), checked for overlap")
    against: tuple[str, ...] = option((), "folders of other datasets that may hold the same tracks")


def words(config: Config) -> tuple[str, ...]:
    """What a run's name is made of."""
    return config.dataset, config.labels


def execute(config: Config, job, run_id: str, span: tuple[float, float] = (0.0, 1.0)) -> str:
    """Load the dataset, make the run folder, fill it; return the run's id."""
    from mer_core.datasets import load
    from mer_core.runs import RunWriter

    with RunWriter(run_id, "audit", config, job, span) as writer:
        writer.progress(0.0, f"loading {config.dataset}")
        run(config, load(config.dataset, config.layout, config.labels), writer)
    return run_id


def run(config: Config, dataset, writer) -> None:
    """Audit the labels; write `metrics.json`, `audit_tracks.parquet` and `tracks.parquet`; log the verdicts."""
    from mer_core.datasets import load
    from mer_core.evaluate.audit import audit, sentences
    from mer_core.evaluate.quality import read_ids
    from mer_core.runs import describe_dataset

    splits = {_list_name(path, config.split): read_ids(path) for path in config.split}
    others = tuple(load(folder) for folder in config.against)
    writer.progress(0.2, "looking for loudness")
    loudness, source = find_loudness(config.features, dataset)
    writer.progress(0.4, f"auditing {len(dataset.tracks)} tracks")
    report, table = audit(dataset, loudness, splits, others)
    writer.progress(0.9, "writing the audit")
    writer.about(
        dataset=describe_dataset(dataset),
        features=None
        if source is None
        else {"name": config.features, "source": source, "n_columns": 1, "failures": []},
        targets=list(dataset.targets),
        protocol=None,
        weights=None,
    )
    writer.write_table("audit_tracks", table)
    writer.write_table("tracks", track_table(dataset))
    writer.write_json("metrics.json", {"schema": 1, "protocol": None, "targets": {}, "audit": report})
    for sentence in sentences(report):
        writer.log(sentence)
        print(sentence, file=sys.stderr)


def find_loudness(features: str, dataset):
    """Loudness of each track and where it is from; (None, None) where there is none."""
    from mer_core.evaluate.audit import LOUDNESS, loudness_of

    if features == "none":
        return None, None
    if features != "auto":
        from mer_core.features import build_features

        table = build_features(features, dataset)
        return loudness_of(table.values), table.source
    import pyarrow.parquet

    from mer_core.features.table import read_table

    for path in sorted(Path(dataset.root).glob("*.parquet")):
        if LOUDNESS in pyarrow.parquet.read_schema(path).names:
            return loudness_of(read_table(path)), f"table {path.name}"
    return None, None


def track_table(dataset):
    """One row per track: path, part, group, ratings, spread of the raters, metadata."""
    import pandas as pd

    spread = dataset.spread.add_suffix("_std")
    metadata = dataset.tracks.drop(columns=["path", "part", "group"])
    taken = {"path", "part", "group", *dataset.targets, *spread}
    metadata = metadata[[name for name in metadata if name not in taken]]
    table = pd.concat([dataset.tracks[["path", "part", "group"]], dataset.ratings, spread, metadata], axis=1)
    return table.rename_axis("track_id").reset_index()


def _list_name(path: str, paths: tuple[str, ...]) -> str:
    """Name of a list: the file's, with its folder where two files have the same."""
    stem = Path(path).stem
    return stem if sum(Path(other).stem == stem for other in paths) == 1 else str(path)
