"""Relevance maps of a finished run's predictions, for `explain --method lrp`.

The folds' heads are fitted again from the recorded config, and each track is explained by the head that has not seen
it. A head that does not repeat the run's predictions is refused, so that what is explained is what was scored.
"""

from __future__ import annotations

import os
import shutil

from mer_core.errors import UserError

SAME = 1e-3  # rating points between a run's prediction and the one that is explained, at most


def execute(config, job) -> str:
    """Write `explanations/lrp/` of the run that `config` (of `explain`) names; return that run's id."""
    from dataclasses import replace

    from mer_core.datasets import load
    from mer_core.evaluate.experiment import align
    from mer_core.explain.maps import write_maps
    from mer_core.models.backbones import open_backbone
    from mer_core.models.representations import build_representation, check_weights
    from mer_core.runs import read_run
    from pipelines import maps_of_classes, midlevel_maps, train

    finished = read_run(config.run)
    if finished.about["pipeline"] == "classify":
        return maps_of_classes.execute(config, job, finished)
    if finished.about["pipeline"] == "midlevel":
        return midlevel_maps.execute(config, job, finished)
    part = explainable(finished)
    trained = replace(train.recorded(finished), workers=config.workers)
    check_weights(trained.features, finished.about["weights"] or [], trained.weights or None)
    plan, dataset = train.plan_of(trained), load(trained.dataset, trained.layout, trained.labels)
    wanted = _wanted(config, finished)
    table = build_representation(plan.table, dataset, plan.workers, train.stage(job, 0.0, 0.3), trained.weights or None)
    data = align(plan, dataset, table)
    listener = open_backbone(part.backbone.name, trained.weights or None)
    rule = None if config.rule == "auto" else config.rule
    heads = _heads(plan, data, finished, wanted)
    failures: list[tuple[str, str]] = []
    maps = _maps(dataset, listener, heads, part.layer, rule, failures, train.stage(job, 0.3, 0.98), len(wanted))
    final = finished.folder / "explanations" / "lrp"
    temporary = final.with_name(".lrp")
    shutil.rmtree(temporary, ignore_errors=True)
    count = write_maps(temporary, maps, {"backbone": part.backbone.name, "layer": part.layer, "failures": failures})
    if not count:
        shutil.rmtree(temporary)
        raise UserError(f"no track could be explained; the first, {failures[0][0]}: {failures[0][1]}")
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    for track, why in failures:
        job.log(f"{track} has no relevance map: {why}")
    job.opens_on(finished.run_id)
    return finished.run_id


def explainable(finished):
    """The one embedding that a run's model stands on; UserError where relevance cannot be handed on to the sound."""
    from mer_core.models.representations import window_part

    about = finished.about
    if about["pipeline"] != "train" or about["config"]["protocol"] == "leaky-chunks":
        raise UserError(f"run {finished.run_id!r} has no models of tracks that lrp explains; name a run of 'train'")
    spec = about["features"]["name"]
    part = window_part(spec)
    if part is None or part.tags:
        raise UserError(
            f"run {finished.run_id!r} has features {spec}; lrp explains models on one network's embedding, such as "
            "musicnn-msd, pooled by the mean"
        )
    if about["model"] not in ("ridge", "elasticnet"):
        raise UserError(
            f"run {finished.run_id!r} has model {about['model']}; lrp explains linear ones: train it with --model ridge"
        )
    return part


def _wanted(config, finished) -> list[str]:
    """Tracks to explain, in the run's order."""
    tested = list(dict.fromkeys(finished.predictions["track_id"].astype(str)))
    if unknown := [track for track in config.tracks if track not in tested]:
        raise UserError(
            f"--tracks {unknown[0]}: not predicted in run {finished.run_id!r}; tracks are {', '.join(tested[:5])} ..."
        )
    return [track for track in tested if not config.tracks or track in config.tracks]


def _heads(plan, data, finished, wanted: list[str]):
    """(head, its held-out tracks that are wanted) of each round."""
    import numpy as np

    from mer_core.explain.relevance_heads import regression_head
    from mer_core.models.regressors import make_regressor

    scored = finished.predictions.pivot(index="track_id", columns="target", values="predicted")[list(data.ratings)]
    for (_, train, test), parameters in zip(data.split.rounds(), finished.about["chosen_parameters"], strict=True):
        chosen = [track for track in wanted if track in set(map(str, test))]
        if not chosen:
            continue
        learned = data.features.index.isin(train)
        rows = data.features.to_numpy()
        model = make_regressor(plan.model, plan.seed, **parameters).fit(rows[learned], data.ratings.to_numpy()[learned])
        known = data.features.index.isin(chosen)
        repeated = model.predict(rows[known]).reshape(known.sum(), -1)
        if not np.abs(repeated - scored.loc[data.features.index[known]].to_numpy()).max() <= SAME:
            raise UserError(
                f"the models of run {finished.run_id!r} cannot be repeated: its data or the libraries have changed "
                "since; train it again, then explain the new run"
            )
        yield regression_head(model, rows[learned], tuple(data.ratings)), chosen


def _maps(dataset, listener, heads, layer: str, rule: str | None, failures: list, progress, total: int):
    """(track, map), one after the other; what fails goes into `failures`."""
    from mer_core.datasets.audio import read_audio
    from mer_core.explain.relevance import relevance_of_track

    done = 0
    for head, tracks in heads:
        for track in tracks:
            progress(done / total, f"relevance of track {track}")
            try:
                samples, _ = read_audio(dataset.tracks["path"].loc[track], rate=listener.backbone.rate)
                yield track, relevance_of_track(listener, head, samples, rule=rule, layer=layer)
            except UserError as error:
                failures.append((track, str(error)))
            done += 1
