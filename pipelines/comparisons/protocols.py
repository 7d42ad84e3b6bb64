"""One model under several protocols and label versions, side by side."""

from __future__ import annotations

from mer_core.errors import UserError
from pipelines.comparisons import say
from pipelines.train import check_resamples


def compare(config, writer) -> None:
    """Train under each protocol and label version; write `comparison.parquet` and `metrics.json`, print a table."""
    import pandas as pd

    from mer_core.evaluate.protocols import PROTOCOLS as REGISTRY
    from mer_core.models.reductions import split_reduction
    from mer_core.models.representations import build_representation
    from mer_core.runs import describe_dataset

    unknown = [name for name in config.protocols if name not in REGISTRY]
    if unknown or not config.protocols:
        raise UserError(
            f"--protocols {','.join(unknown) or 'is empty'}: no such protocol; choose from {', '.join(REGISTRY)}"
        )
    writer.progress(0.0, f"loading {config.dataset}")
    datasets = load_versions(config)
    first = datasets[0]
    table = build_representation(
        split_reduction(config.features)[0],
        first,
        config.workers or None,
        lambda done, said: writer.progress(0.4 * done, said),
        config.weights or None,
    )
    rows, refused = [], {}
    for number, name in enumerate(config.protocols):
        writer.progress(0.4 + 0.55 * number / len(config.protocols), f"{config.model} under {name}")
        try:
            rows += rows_of(config, name, datasets, table)
        except UserError as error:
            refused[name] = str(error)
    if not rows:
        raise UserError(f"no protocol can be served; {config.protocols[0]}: {refused[config.protocols[0]]}")
    writer.about(
        dataset=describe_dataset(first),
        features={
            "name": config.features,
            "source": table.source,
            "n_columns": table.values.shape[1],
            "failures": table.failures,
            "notes": table.notes,
        },
        model=config.model,
        targets=list(config.targets),
        protocol=None,
        protocols={name: REGISTRY[name].summary for name in config.protocols},
        refused=refused,
        seed=config.seed,
        weights=list(table.weights) or None,
    )
    flat = pd.DataFrame(rows).assign(leaks=[" ".join(row["leaks"]) for row in rows])
    writer.write_table("comparison", flat)
    metrics = {"schema": 1, "protocol": None, "targets": {}, "comparison": rows, "refused": refused}
    writer.write_json("metrics.json", metrics)
    say([*side_by_side(flat), *(f"{name}: not done. {why}" for name, why in refused.items())], writer)


def load_versions(config) -> list:
    """The dataset in each label version asked for; one where it has only one."""
    from mer_core.datasets import load

    if config.labels != "both":
        return [load(config.dataset, config.layout, config.labels)]
    first = load(config.dataset, config.layout, "corrected")
    if first.label_version != "corrected":
        return [first]
    return [first, load(config.dataset, config.layout, "published")]


def rows_of(config, protocol: str, datasets: list, table) -> list[dict]:
    """Scores of the model under one protocol: a row per label version, target and part."""
    from mer_core.evaluate.experiment import Plan, align, check_targets, fit_folds
    from mer_core.evaluate.scoring import ceilings, score_parts

    plan = Plan(config.features, config.model, protocol, config.targets, config.seed, config.workers or None)
    rows, split = [], None
    for dataset in datasets:
        check_targets(config.targets, dataset)
        check_resamples(config.resamples)
        data = align(plan, dataset, table, split)
        # Label versions are compared under one split, which is balanced by the first version's ratings.
        split = data.split if data.chunks is None else data.chunks.split
        result = fit_folds(plan, data, False, lambda fraction, message: None)
        true, parts = data.ratings.loc[result.tested], data.parts.loc[result.tested]
        groups = data.groups.loc[result.tested]
        scores = score_parts(true, result.predicted, groups, parts, config.resamples, config.seed)
        limits = ceilings(true, parts, dataset, scores)
        facts = {"protocol": protocol, "labels": dataset.label_version, "learned_from": len(split.rounds()[0][1])}
        said = [leak["sentence"] for leak in data.leaks]
        rows += [facts | row | {"leaks": said} for row in score_rows(scores, limits)]
    return rows


def score_rows(scores: dict, limits: dict) -> list[dict]:
    """Scores of every target and part as flat rows, with the share of the human ceiling where it is known."""
    rows = []
    for target, parts in scores.items():
        for part, score in parts.items():
            limit = limits.get(target, {})
            limit = limit if part == "all" else limit.get("parts", {}).get(part, {})
            row = {"target": target, "part": part, "n": score["n"]}
            for metric in ("r2", "rmse", "ccc"):
                row |= dict(zip((metric, f"{metric}_low", f"{metric}_high"), score[metric], strict=True))
            rows.append(row | {"share_of_ceiling": limit.get("share")})
    return rows


def side_by_side(table) -> list[str]:
    """Lines to read: protocol, target and part down, label versions across; then what leaks."""
    versions = list(table["labels"].unique())
    lines = [f"{'protocol':14}{'target':10}{'part':6}{'n':>5}  " + "".join(f"R2, {name:24}" for name in versions)]
    for (protocol, target, part), rows in table.groupby(["protocol", "target", "part"], sort=False):
        by_version = rows.set_index("labels")
        cells = (_cell(by_version.loc[name]) for name in versions)
        lines.append(f"{protocol:14}{target:10}{part:6}{rows['n'].iloc[0]:>5}  " + "".join(f"{c:28}" for c in cells))
    for protocol, rows in table.groupby("protocol", sort=False):
        lines.append(f"{protocol}: {rows['leaks'].iloc[0] or 'nothing leaks.'}")
    return [line.rstrip() for line in lines]


def _cell(row) -> str:
    import math

    if row["r2"] is None or math.isnan(row["r2"]):
        return "undefined"
    interval = "" if row["r2_low"] is None else f" [{row['r2_low']:.3f}, {row['r2_high']:.3f}]"
    share = row["share_of_ceiling"]
    return f"{row['r2']:.3f}{interval}" + ("" if share is None or math.isnan(share) else f" {share:.0%}")
