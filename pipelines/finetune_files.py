"""What a run of `finetune` writes: scores and tables as those of `train`, curves, events, and its networks."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace

from pipelines.train import INTERVAL_LEVEL


def write(config, setup, dataset, data, corpus, found, log, source, writer) -> None:
    """Write everything; `source` is what the networks were pretrained on, or None."""
    from mer_core.evaluate import experiment
    from mer_core.evaluate.cross_validation import per_track
    from mer_core.evaluate.intervals import interval_summary
    from mer_core.evaluate.training_log import EVENTS
    from mer_core.models.training.saved import save_networks
    from pipelines import train

    result, windows = found.result, found.windows
    if data.chunks is not None:
        result = per_track(result, data.chunks.owners)
        windows = windows.assign(track_id=windows["track_id"].str.rsplit("#", n=1).str[0])
    describe(config, setup, dataset, data, found, source, writer)
    options = train.Config(
        *(config.dataset, config.layout, config.labels, config.network, config.weights, "ridge", config.protocol),
        targets=config.targets,
        explain="none",
        seed=config.seed,
        resamples=config.resamples,
        workers=config.workers,
    )
    train.write_scores(options, dataset, data, result, writer, {"unit": unit_errors(data, result, dataset.scale)})
    if data.chunks is None:
        writer.write_table("dynamic", windows)
    if log.rows:
        writer.write_table("curves", log.table())
        shutil.copytree(writer.job.folder / EVENTS, writer.folder / EVENTS, dirs_exist_ok=True)
    writer.write_json("steps.json", {"schema": 1, "rounds": {str(k): m.steps for k, m in found.models.items()}})
    writer.progress(0.96, "writing the networks")
    levels = interval_summary(experiment.unseen_errors(data, result))
    facts = {
        "interval_level": INTERVAL_LEVEL,
        "interval_halfwidth": {k: float(v) for k, v in levels[str(INTERVAL_LEVEL)]["halfwidth"].items()},
    }
    shape = replace(setup.shape)
    seconds = corpus.sounds.style.seconds
    save_networks(writer.folder / "model", setup.network, shape, tuple(corpus.ratings), seconds, found.models, facts)


def describe(config, setup, dataset, data, found, source, writer) -> None:
    """Say in `run.json` what was trained, on what, and from where it started."""
    from mer_core.runs import describe_dataset

    schedule = ",".join(map(str, setup.tuning.steps))
    notes = list(data.notes)
    if source is not None:
        notes.append(f"Pretrained on {source['dataset']}{', a synthetic corpus' if source['synthetic'] else ''}.")
    first = next(iter(found.models.values()))
    record = [each | {"saw_dataset": saw(each, dataset)} for each in found.records]
    writer.about(
        dataset=describe_dataset(dataset),
        features={
            "name": config.network,
            "source": data.table.source,
            "n_columns": data.features.shape[1],
            "failures": data.left_out,
            "notes": list(data.table.notes),
            "reduction": None,
        },
        model=f"trained {schedule}" + (f" after {source['dataset']}" if source else ""),
        targets=list(data.ratings),
        protocol=config.protocol,
        leaks=data.leaks,
        notes=notes,
        split_digest=(data.split if data.chunks is None else data.chunks.split).digest(),
        split_sizes=data.split.assignment.value_counts().sort_index().to_dict(),
        seed=config.seed,
        weights=record or None,
        interval_level=INTERVAL_LEVEL,
        training={
            "schedule": schedule,
            "recipe": asdict(setup.tuning.recipe),
            "shape": asdict(setup.shape) if setup.kind.style is None else None,
            "parameters": first.steps[-1]["parameters"],
            "pretrained_on": source,
            "teacher": config.teacher or None,
        },
    )


def saw(record: dict, dataset) -> bool:
    """Whether the weights were trained on this data set."""
    from mer_core.models.backbones import find_backbone

    return record["source"] != "random" and find_backbone(record["name"]).has_seen(dataset)


def unit_errors(data, result, scale: tuple[float, float]) -> dict:
    """Mean squared and mean absolute error with the rating scale brought to 0..1, as AST's training is reported."""
    errors = (data.ratings.loc[result.tested] - result.predicted) / (scale[1] - scale[0])
    return {t: {"mse": float((errors[t] ** 2).mean()), "mae": float(errors[t].abs().mean())} for t in errors}
