"""What a pretrained network hears: embeddings over time, their pool as a table, and its tags.

The network stays as it was trained. Windows are kept in a cache keyed by the audio's content and the weights, so that a
run that was interrupted goes on where it stopped, and `train --features BACKBONE` finds them again.
"""

from __future__ import annotations

from dataclasses import dataclass

from mer_core.errors import UserError
from pipelines import option


@dataclass(frozen=True)
class Config:
    """Options of `embed`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'")
    layout: str = option("auto", "layout of the folder", ("auto", "deam", "tracks"))
    backbone: str = option("musicnn-msd", "name of a backbone (`python -m pipelines backbones` lists them)")
    layer: str = option("", "layer of the network (empty: the backbone's first)")
    pool: str = option("mean", "how windows are summed up in features.parquet", ("mean", "mean-std"))
    weights: str = option(
        "", "pretrained weights: a folder, 'hub' to download, 'random' (empty: MER_WEIGHTS, or what packages bring)"
    )
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What a run's name is made of."""
    return config.dataset, config.backbone, config.layer


def execute(config: Config, job, run_id: str) -> str:
    """Load the dataset, make the run folder, fill it; return the run's id."""
    from mer_core.datasets import load
    from mer_core.models.embeddings import read_part
    from mer_core.runs import RunWriter

    name = f"{config.backbone}@{config.layer}" if config.layer else config.backbone
    part = read_part(f"{name}:{config.pool}")
    if part is None or part.tags:
        from mer_core.models.backbones import BACKBONES

        raise UserError(f"--backbone {config.backbone}: there is none of this name; choose from {', '.join(BACKBONES)}")
    with RunWriter(run_id, "embed", config, job) as writer:
        run(config, part, load(config.dataset, config.layout), writer)
    return run_id


def run(config: Config, part, dataset, writer) -> None:
    """Listen; write `embeddings`, `features`, `columns`, `scores`, `spectrum` and, where there are tags, `tags`."""
    from mer_core.models.embedding_tables import component_tables, tag_table, window_table
    from mer_core.models.embeddings import load_embeddings, pooled_table
    from mer_core.runs import describe_dataset

    weights, workers = config.weights or None, config.workers or None
    heard = load_embeddings(dataset, part.backbone, weights, workers, writer.progress, part.layer)
    table, windows = pooled_table(part, heard), window_table(heard)
    writer.write_table("embeddings", windows)
    writer.write_table("features", table.values.rename_axis("track_id").reset_index())
    writer.write_table("columns", table.columns.rename_axis("column").reset_index())
    if part.backbone.tags:
        writer.write_table("tags", tag_table(heard))
    scores, spectrum = component_tables(table.values)
    writer.write_table("scores", scores)
    writer.write_table("spectrum", spectrum)
    about = {
        "name": f"{part.label}:{part.pool}",
        "source": table.source,
        "n_columns": table.values.shape[1],
        "failures": table.failures,
        "notes": table.notes,
    }
    writer.about(dataset=describe_dataset(dataset), features=about, notes=table.notes, weights=list(table.weights))
    for note in table.notes:
        writer.log(note)
    for track, reason in table.failures:
        writer.log(f"left out {track}: {reason}")
    counts = {"tracks": len(table.values), "windows": len(windows), "columns": table.values.shape[1]}
    counts["left_out"] = len(table.failures)
    writer.write_json("metrics.json", {"schema": 1, "protocol": None, "targets": {}, "counts": counts})
