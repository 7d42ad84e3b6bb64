"""260 descriptors twice a second by openSMILE, summed up by 8 or 15 statistics; and what a reduction leaves of them.

Descriptors are kept in a cache keyed by the audio's content, so later runs on the same files start at once. A reduction
named with the features is fitted here on all tracks, to be looked at; `train` fits it anew on each training part.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from mer_core.errors import UserError
from pipelines import option


@dataclass(frozen=True)
class Config:
    """Options of `features`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'")
    layout: str = option("auto", "layout of the folder", ("auto", "deam", "tracks"))
    features: str = option(
        "stats8",
        "stats8 (2080 columns), stats15 (3900), proxies (mid-level qualities, computed, with their validity), harmony "
        "(chroma and chords), a table or an embedding, several joined by '+'; with -decorrelated, -group-pca or "
        "-global-pca behind it, what is left of its columns",
    )
    weights: str = option(
        "", "pretrained weights: a folder, 'hub' to download, 'random' (empty: MER_WEIGHTS, or what packages bring)"
    )
    reproduce_source: bool = option(
        False, "count columns and components of stats8 or stats15 by the rules of the published source, beside its own"
    )
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
    """Extract, sum up, reduce; write `features.parquet`, `columns.parquet`, and say which tracks were left out and why.

    A reduction adds `reduction`, `spectrum`, `loadings` and `components` (scores of the tracks), those that it has.
    """
    from mer_core.features.proxies import PROXIES
    from mer_core.models.column_report import STATISTICS, as_in_source, coverage, expected_columns
    from mer_core.models.reductions import split_reduction
    from mer_core.models.representations import build_representation, parts_of
    from mer_core.runs import describe_dataset

    name, reduction = split_reduction(config.features)
    if config.reproduce_source and name not in STATISTICS:
        raise UserError(f"--reproduce-source has counts of stats8 and stats15 only, not of {name!r}; name one of these")
    table = build_representation(
        name,
        dataset,
        config.workers or None,
        lambda done, said: writer.progress(0.8 * done, said),
        config.weights or None,
    )
    columns = as_in_source(table.columns) if config.reproduce_source else table.columns
    writer.write_table("features", table.values.copy().rename_axis("track_id").reset_index())
    writer.write_table("columns", columns.rename_axis("column").reset_index())
    expected = expected_columns(name)
    about = {
        "name": config.features,
        "source": table.source,
        "n_columns": table.values.shape[1],
        "failures": table.failures,
        "notes": table.notes,
    }
    counts = {"tracks": len(table.values), "columns": table.values.shape[1], "left_out": len(table.failures)}
    metrics = {"schema": 1, "protocol": None, "targets": {}, "counts": counts}
    counts["expected"] = None if expected is None else len(expected)
    metrics["coverage"] = coverage(columns, expected).to_dict("records")
    lines = coverage_lines(counts, metrics["coverage"])
    if reduction is not None:
        writer.progress(0.85, f"reducing {counts['columns']} columns")
        about["reduction"], metrics["reduction"] = reduce(reduction, table.values, columns, writer)
        lines += reduction_lines(reduction, metrics["reduction"])
    if "proxies" in parts_of(name):
        lines += validity(table.values.filter(list(PROXIES)), dataset, writer)
    if config.reproduce_source:
        writer.progress(0.9, "counting by the source's rules")
        metrics["reproduction"] = reproduce(name, table.values, columns, writer)
        lines += reproduction_lines(metrics["reproduction"])
    writer.about(dataset=describe_dataset(dataset), features=about, weights=list(table.weights) or None)
    writer.write_json("metrics.json", metrics)
    lines += [f"left out {track}: {reason}" for track, reason in table.failures]
    for line in lines:
        writer.log(line)
        print(line, file=sys.stderr)


def reduce(name: str, values, columns, writer) -> tuple[dict, list[dict]]:
    """Fit a reduction on all tracks, write its tables; what `run.json` and `metrics.json` say of it."""
    from mer_core.models.column_report import left_by_group, reduce_table
    from mer_core.models.reductions import reduction_tables

    reduced = reduce_table(name, values, columns)
    for table_name, table in reduction_tables(reduced.fitted, columns).items():
        writer.write_table(table_name, table)
    if name != "decorrelated":
        writer.write_table("components", reduced.values.rename_axis("track_id").reset_index())
    about = {"name": name, "unit": "columns" if name == "decorrelated" else "components"}
    about |= {"n_final": reduced.values.shape[1], "note": "fitted on all tracks; train fits it on each training part"}
    return about, left_by_group(reduced.fitted, columns).to_dict("records")


def reproduce(name: str, values, columns, writer) -> list[dict]:
    """Write our counts by the source's rules beside its own (`reproduction.parquet`)."""
    from mer_core.models.column_report import against_source

    table = against_source(name, values, columns)
    writer.write_table("reproduction", table)
    return table.to_dict("records")


def validity(proxies, dataset, writer) -> list[str]:
    """Write how far proxies follow planted qualities and ratings (`validity.parquet`); lines that say it."""
    from mer_core.evaluate.validity import proxy_validity

    table = proxy_validity(proxies, dataset)
    writer.write_table("validity", table)
    lines = [f"{'proxy':22}{'against':14}{'n':>6}{'r':>8}  95 % interval"]
    return lines + [
        f"{row.proxy:22}{row.against:14}{row.n:6}{row.r:8.3f}  [{row.low:.3f}, {row.high:.3f}]"
        for row in table.itertuples()
    ]


def coverage_lines(counts: dict, rows: list[dict]) -> list[str]:
    """Columns expected and obtained, in all and by perceptual group."""
    expected = "" if counts["expected"] is None else f", {counts['expected']} expected"
    lines = [
        f"{counts['tracks']} tracks, {counts['columns']} columns{expected}",
        f"{'group':22}{'LLDs':>6}{'columns':>9}",
    ]
    return lines + [f"{row['group']:22}{row['llds']:6}{row['columns']:9}" for row in rows]


def reduction_lines(name: str, rows: list[dict]) -> list[str]:
    """What a reduction leaves, by group and in all."""
    numbers = [key for key in rows[0] if key != "group"]
    total = {"group": "total"} | {key: sum(row[key] for row in rows) for key in numbers}
    head = f"{name + ', all tracks':28}" + "".join(f"{key:>12}" for key in numbers)
    return [head, *(f"{row['group']:28}" + "".join(f"{row[key]:12}" for key in numbers) for row in [*rows, total])]


def reproduction_lines(rows: list[dict]) -> list[str]:
    """Our counts beside the source's, each step with its total."""
    lines = [f"{'step':14}{'group':22}{'ours':>8}{'source':>8}"]
    for step in dict.fromkeys(row["step"] for row in rows):
        mine = [row for row in rows if row["step"] == step]
        total = {key: sum(row[key] for row in mine) for key in ("ours", "source")} | {"step": step, "group": "total"}
        mine = mine if len(mine) == 1 else [*mine, total]
        lines += [f"{step:14}{row['group']:22}{row['ours']:8}{row['source']:8}" for row in mine]
    return [
        *lines,
        "The source's numbers were made on DEAM's 1802 songs with its published descriptor tables, its components on "
        "the training part of its split; counts of columns must be equal, those after a reduction depend on the music.",
    ]
