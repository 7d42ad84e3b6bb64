"""Attributions of a finished run's predictions, added to its folder.

The folds' models are fitted again from the recorded config; the result is written only where their predictions equal
those of the run, so that what is explained is what was scored.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from mer_core.errors import UserError
from pipelines import REQUIRED, option

METHODS = ("shap", "grouped", "lrp")
MAKERS = ("train", "group_pca", "global_pca")
RULES = ("auto", "gamma-silence", "cp-lrp-gamma", "cp-lrp", "epsilon-plus-flat", "epsilon-gamma-box", "attn-lrp")
SAME = 1e-8  # largest difference of a repeated prediction, on the rating scale


@dataclass(frozen=True)
class Config:
    """Options of `explain`."""

    run: str = option(REQUIRED, "id or folder of a finished run, or 'latest'")
    method: str = option(
        "shap",
        "how predictions are attributed: shap, to each column or component; grouped, to whole perceptual groups, for "
        "any model; lrp, to the sound's time and frequency, for a linear model on one network's embedding",
        METHODS,
    )
    tracks: tuple[str, ...] = option((), "lrp: ids of the tracks, comma-separated; all when empty")
    rule: str = option("auto", "lrp: how relevance is handed on; auto is what suits the network", RULES)
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What the job's name is made of."""
    return config.method, config.run


def execute(config: Config, job, run_id: str) -> str:
    """Explain the run that `config` names; return that run's id."""
    from dataclasses import replace

    import numpy as np

    from mer_core.datasets import load
    from mer_core.evaluate.experiment import align, explanation_of, fit_folds
    from mer_core.explain.attribution import write_explanation
    from mer_core.models.representations import build_representation
    from mer_core.runs import read_run
    from pipelines import train

    if config.method == "lrp":
        from pipelines import relevance

        return relevance.execute(config, job)
    if config.tracks or config.rule != "auto":
        raise UserError(
            f"--tracks and --rule are for --method lrp; {config.method} explains all tracks: leave them out"
        )
    finished = read_run(config.run)
    maker = finished.about["pipeline"]
    if maker not in MAKERS:
        raise UserError(
            f"run {finished.run_id!r} is made by {maker!r}; {config.method} explains runs of {', '.join(MAKERS)}"
        )
    trained = replace(train.recorded(finished), workers=config.workers)
    plan, dataset = train.plan_of(trained), load(trained.dataset, trained.layout, trained.labels)
    table = build_representation(plan.table, dataset, plan.workers, train.stage(job, 0.0, 0.4), trained.weights or None)
    data = align(plan, dataset, table)
    kind = {"method": config.method, "components": components_of(finished, data.split)}
    result = fit_folds(plan, data, True, train.stage(job, 0.4, 0.9), **kind)
    scored = finished.predictions.pivot(index="track_id", columns="target", values="predicted")
    same_tracks = set(scored.index) == set(result.tested)
    if (
        not same_tracks
        or np.abs(scored.loc[result.tested, list(data.ratings)].to_numpy() - result.predicted).max() > SAME
    ):
        raise UserError(
            f"the models of run {finished.run_id!r} cannot be repeated: its data or the libraries have changed since; "
            "train it again, then explain the new run"
        )
    job.progress(0.95, "writing attributions")
    final = finished.folder / "explanations" / config.method
    temporary = final.with_name(f".{config.method}")
    shutil.rmtree(temporary, ignore_errors=True)
    write_explanation(temporary, explanation_of(data, result, dataset.scale, config.method))
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    job.opens_on(finished.run_id)
    return finished.run_id


def components_of(finished, split) -> dict | None:
    """How many components the model of each round keeps, where a PCA route has chosen that."""
    if finished.about["pipeline"] == "train":
        return None
    counts = [chosen["components"] for chosen in finished.about["chosen_parameters"]]
    return {part: count for (part, _, _), count in zip(split.rounds(), counts, strict=True)}
