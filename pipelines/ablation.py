"""What perceptual groups, statistics and the raters' agreement are worth: variants of a model on the same folds.

Each group is left out and used alone, each statistic used alone, and training tracks weighted by their raters'
agreement; every variant is compared with the whole on the same folds, with an interval of the difference.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from mer_core.errors import UserError
from pipelines import option
from pipelines.train import MODELS

PROTOCOLS = ("grouped-5fold", "original", "custom", "music2emo")


@dataclass(frozen=True)
class Config:
    """Options of `ablation`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'")
    layout: str = option("auto", "layout of the folder", ("auto", "deam", "tracks"))
    labels: str = option(
        "corrected",
        "DEAM's static labels with valence and arousal put right for ids <= 1000, or as published",
        ("corrected", "published"),
    )
    features: str = option("stats8", "stats8, stats15, or a table with columns named like theirs; without a reduction")
    weights: str = option("", "pretrained weights, as in train")
    model: str = option("ridge", "family of the regressor", MODELS)
    protocol: str = option("grouped-5fold", "how tracks are kept apart, as in train", PROTOCOLS)
    targets: tuple[str, ...] = option(("valence", "arousal"), "ratings to predict, comma-separated")
    kinds: tuple[str, ...] = option(
        ("groups", "statistics", "weighting"), "what is varied: groups, statistics, weighting, comma-separated"
    )
    seed: int = option(42, "seed of folds, models and resampling")
    resamples: int = option(1000, "bootstrap resamples (over groups) of each interval")
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What a run's name is made of."""
    return config.dataset, config.features, config.model


def execute(config: Config, job, run_id: str, span: tuple[float, float] = (0.0, 1.0)) -> str:
    """Load the dataset, make the run folder, fill it; return the run's id."""
    from mer_core.datasets import load
    from mer_core.runs import RunWriter

    with RunWriter(run_id, "ablation", config, job, span) as writer:
        writer.progress(0.0, f"loading {config.dataset}")
        run(config, load(config.dataset, config.layout, config.labels), writer)
    return run_id


def run(config: Config, dataset, writer) -> None:
    """Fit all variants and write `ablation.parquet`."""
    from mer_core.evaluate import ablation
    from mer_core.evaluate.experiment import Plan, align, track_table
    from mer_core.models.representations import build_representation
    from mer_core.runs import describe_dataset
    from pipelines import train

    check(config, dataset)
    plan = Plan(config.features, config.model, config.protocol, config.targets, config.seed, config.workers or None)
    table = build_representation(
        config.features, dataset, plan.workers, train.stage(writer, 0.0, 0.3), config.weights or None
    )
    data = align(plan, dataset, table)
    train.tell(data, writer)
    variants = []
    if set(config.kinds) != {"weighting"}:
        variants += ablation.column_variants(plan, data, config.kinds, train.stage(writer, 0.3, 0.85))
    if "weighting" in config.kinds:
        variants += ablation.weighting_variants(plan, data, dataset, train.stage(writer, 0.85, 0.95))
    writer.progress(0.95, f"comparing with {config.resamples} resamples over groups")
    found = ablation.compare_variants(data, variants, config.resamples, config.seed)
    writer.write_table("ablation", found)
    writer.write_table("tracks", track_table(dataset, data))
    writer.about(dataset=describe_dataset(dataset), model=config.model, targets=list(data.ratings), seed=config.seed)
    writer.about(protocol=config.protocol, leaks=data.leaks, notes=data.notes, split_digest=data.split.digest())
    writer.about(weights=list(table.weights) or None, features=about_features(config, data))
    rows = found.to_dict("records")
    writer.write_json("metrics.json", {"schema": 1, "protocol": config.protocol, "targets": {}, "ablation": rows})
    for line in lines(found):
        writer.log(line)
        print(line, file=sys.stderr)


def check(config: Config, dataset) -> None:
    """Raise UserError for options that cannot be, before the long work begins."""
    from mer_core.evaluate.ablation import KINDS, check_weights
    from mer_core.evaluate.experiment import check_targets
    from mer_core.models.reductions import split_reduction
    from pipelines import train

    check_targets(config.targets, dataset)
    train.check_resamples(config.resamples)
    if not config.kinds or (unknown := [kind for kind in config.kinds if kind not in KINDS]):
        what = f"{unknown[0]!r} is unknown" if config.kinds else "names none"
        raise UserError(f"--kinds {what}; choose from {', '.join(KINDS)}")
    if already := split_reduction(config.features)[1]:
        raise UserError(f"--features {config.features}: columns are left out here, not reduced; leave -{already} out")
    if "weighting" in config.kinds:
        check_weights(config.model, dataset, config.targets)


def about_features(config: Config, data) -> dict:
    """What `run.json` says of the features."""
    about = {"name": config.features, "source": data.table.source, "n_columns": data.features.shape[1]}
    return about | {"failures": data.left_out, "notes": data.table.notes}


def lines(found) -> list[str]:
    """The table as text: R2 of every variant and target, and the difference with its interval."""
    targets = list(dict.fromkeys(found["target"]))
    width = max(len(f"{row.kind} {row.name}") for row in found.itertuples())
    head = f"{'':{width}} columns" + "".join(f"  {'R2 ' + target:38}" for target in targets)
    said = [head]
    for (kind, name), rows in found.groupby(["kind", "name"], sort=False):
        text = f"{kind + ' ' + name:{width}} {rows['columns'].iloc[0]:7d}"
        for row in rows.itertuples():
            text += f"  {row.r2:6.3f}"
            if row.against:
                ends = f"{row.r2_difference_low:+.3f} to {row.r2_difference_high:+.3f}"
                text += f" {row.r2_difference:+.3f} ({ends}) {row.verdict:6}"
            else:
                text += " " * 32
        said.append(text.rstrip())
    return said
