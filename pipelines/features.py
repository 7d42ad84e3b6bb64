"""260 descriptors twice a second by openSMILE, summed up by 8 or 15 statistics, as a table.

Descriptors are kept in a cache keyed by the audio's content, so later runs on the same files start at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines import option


@dataclass(frozen=True)
class Config:
    """Options of `features`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'")
    layout: str = option("auto", "layout of the folder", ("auto", "deam", "tracks"))
    features: str = option("stats8", "stats8 (2080 columns) or stats15 (3900)", ("stats8", "stats15"))
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What a run's name is made of."""
    return config.dataset, config.features


def execute(config: Config, job, run_id: str) -> str:
    """Load the dataset, make the run folder, fill it; return the run's id."""
    from mer_core.datasets import load
    from mer_core.runs import RunWriter

    with RunWriter(run_id, "features", config, job) as writer:
        run(config, load(config.dataset, config.layout), writer)
    return run_id


def run(config: Config, dataset, writer) -> None:
    """Extract, sum up, write `features.parquet` and `columns.parquet`, and say which tracks were left out and why."""
    from mer_core.models.representations import build_representation
    from mer_core.runs import describe_dataset

    table = build_representation(config.features, dataset, workers=config.workers or None, progress=writer.progress)
    writer.write_table("features", table.values.rename_axis("track_id").reset_index())
    writer.write_table("columns", table.columns.rename_axis("column").reset_index())
    about = {
        "name": config.features,
        "source": table.source,
        "n_columns": table.values.shape[1],
        "failures": table.failures,
        "notes": table.notes,
    }
    writer.about(dataset=describe_dataset(dataset), features=about)
    for track, reason in table.failures:
        writer.log(f"left out {track}: {reason}")
    counts = {"tracks": len(table.values), "columns": table.values.shape[1], "left_out": len(table.failures)}
    writer.write_json("metrics.json", {"schema": 1, "protocol": None, "targets": {}, "counts": counts})
