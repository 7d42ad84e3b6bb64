"""Relevance maps of mid-level runs, two levels in one folder: of each quality, and of the ratings they make.

Each track is explained by the model of its own fold. Maps of qualities are in their standard deviations, those of
ratings in rating points.
"""

from __future__ import annotations

import os
import shutil

from mer_core.errors import UserError

SAME = 1e-3  # rating points between a run's prediction and the one that is explained, at most


def add_maps(config, dataset, found, writer) -> None:
    """Write `explanations/lrp/` of a run in the making."""
    result = found.results[found.main]
    chosen = list(result.ratings.index) if config.explain == "all" else examples(result)
    folder = writer.folder / "explanations"

    def progress(fraction: float, message: str) -> None:
        writer.progress(0.92 + 0.08 * fraction, message)

    failures = make_maps(config, dataset, found.data, result, found.sounds, chosen, folder, progress)
    for track, why in failures:
        writer.log(f"{track} has no relevance map: {why}")


def examples(result) -> list[str]:
    """The tracks that are highest and lowest in each rating."""
    table = result.ratings
    return sorted({str(track) for name in table for track in (table[name].idxmax(), table[name].idxmin())})


def make_maps(config, dataset, data, result, sounds, chosen: list[str], folder, progress) -> list[tuple[str, str]]:
    """Explain the chosen tracks into `folder`/lrp; return (track, reason) of those that failed.

    Raises
    ------
    UserError : a network without frames and bands, or not one track could be explained
    """
    from mer_core.explain.maps import write_maps
    from mer_core.explain.midlevel_relevance import two_levels

    one = _of_networks(result, sounds) if sounds is not None else _of_embeddings(config, dataset, data, result)
    failures: list[tuple[str, str]] = []

    def maps():
        for done, track in enumerate(chosen):
            progress(done / len(chosen), f"relevance of track {track}")
            try:
                yield track, two_levels(one(track), result.maps[int(result.fold[track])])
            except UserError as error:
                failures.append((track, str(error)))

    temporary = folder / ".lrp"
    shutil.rmtree(temporary, ignore_errors=True)
    about = {"backbone": config.network, "output": "qualities, then ratings", "failures": failures}
    if not write_maps(temporary, maps(), about):
        shutil.rmtree(temporary)
        raise UserError(f"no track could be explained; the first, {failures[0][0]}: {failures[0][1]}")
    shutil.rmtree(folder / "lrp", ignore_errors=True)
    os.replace(temporary, folder / "lrp")
    return failures


def _of_networks(result, sounds):
    """A function from a track to the map of its qualities, by networks on spectrograms."""
    from mer_core.explain.midlevel_relevance import relevance_of_networks

    return lambda track: relevance_of_networks(
        result.models[int(result.fold[track])], sounds.tables[track], sounds.style
    )


def _of_embeddings(config, dataset, data, result):
    """The same by a head on one embedding, or on several; those on another grid than the first are not on the map."""
    import numpy as np

    from mer_core.datasets.audio import read_audio
    from mer_core.explain.midlevel_relevance import added, part_of_head, quality_head
    from mer_core.explain.relevance import relevance_of_track
    from mer_core.explain.relevance_grids import grid_of
    from mer_core.models.backbones import open_backbone
    from mer_core.models.representations import embedding_parts, parts_of

    parts = embedding_parts(config.network)
    if len(parts) != len(parts_of(config.network)) or any(part.tags or part.pool != "mean" for part in parts):
        raise UserError(f"{config.network} is not made of embeddings pooled by the mean alone, such as musicnn-mtt")
    columns = list(data.features)
    spans = [slice(min(own), max(own) + 1) for part in parts if (own := _own(part, columns))]
    grids = [grid_of(part.backbone) for part in parts]
    same = [np.array_equal(grid.band_hz, grids[0].band_hz) and grid.frame_s == grids[0].frame_s for grid in grids]
    listeners = [
        open_backbone(part.backbone.name, config.weights or None) if here else None
        for part, here in zip(parts, same, strict=True)
    ]
    heads = {}
    for number, model in result.models.items():
        learned = data.features.loc[result.fold.index[result.fold != number]].to_numpy()
        heads[number] = quality_head(model.model, learned, tuple(data.qualities))

    def one(track: str):
        head, embedding = heads[int(result.fold[track])], data.features.loc[track].to_numpy()
        whole = head.contributions(embedding[None])[0]
        maps, unheard = [], np.zeros(whole.shape[1])
        for part, span, listener in zip(parts, spans, listeners, strict=True):
            if listener is None:
                unheard += whole[span].sum(axis=0)
                continue
            samples, _ = read_audio(dataset.tracks["path"].loc[track], rate=listener.backbone.rate)
            own = part_of_head(head, embedding, span, whole)
            maps.append(relevance_of_track(listener, own, samples, layer=part.layer))
        return added(maps[0], maps[1:], head.base, unheard)

    return one


def _own(part, columns: list[str]) -> list[int]:
    return [position for position, column in enumerate(columns) if part.owns(column)]


def execute(config, job, finished) -> str:
    """`explain --method lrp` of a finished run of `midlevel` on embeddings; return its id."""
    from dataclasses import fields
    from types import SimpleNamespace

    from mer_core.datasets import load
    from mer_core.models.representations import check_weights
    from pipelines import midlevel
    from pipelines.train import stage

    if config.rule != "auto":
        raise UserError("--rule cannot be chosen for runs of midlevel; leave it out")
    known = {item.name for item in fields(midlevel.Config)}
    options = {name: value for name, value in finished.about["config"].items() if name in known}
    made = midlevel.Config(**options | {"ratings": tuple(options["ratings"]), "workers": config.workers})
    main = finished.about["midlevel"]["main"]
    if made.network == "vgg" or main == "a2e":
        raise UserError(
            f"run {finished.run_id!r} ({made.network}, {main}) is explained while it is made; make it again with: "
            "python -m pipelines midlevel --network vgg --explain all"
        )
    check_weights(made.network, finished.about["weights"] or [], made.weights or None)
    tested = list(dict.fromkeys(finished.predictions["track_id"].astype(str)))
    if unknown := [track for track in config.tracks if track not in tested]:
        raise UserError(
            f"--tracks {unknown[0]}: not predicted in run {finished.run_id!r}; tracks are {', '.join(tested[:5])} ..."
        )
    writer = SimpleNamespace(progress=stage(job, 0.0, 0.4), log=job.log)
    dataset = load(made.dataset, made.layout, made.labels)
    data, result = midlevel.repeated(made, dataset, main, finished.about["targets"], writer)
    scored = finished.predictions.assign(track_id=finished.predictions["track_id"].astype(str))
    scored = scored.pivot(index="track_id", columns="target", values="predicted").loc[result.ratings.index]
    if not (scored[list(result.ratings)] - result.ratings).abs().max(axis=None) <= SAME:
        raise UserError(
            f"the models of run {finished.run_id!r} cannot be repeated: its data or the libraries have changed since; "
            "make it again, then explain the new run"
        )
    chosen = [track for track in tested if not config.tracks or track in config.tracks]
    folder = finished.folder / "explanations"
    for track, why in make_maps(made, dataset, data, result, None, chosen, folder, stage(job, 0.4, 0.98)):
        job.log(f"{track} has no relevance map: {why}")
    job.opens_on(finished.run_id)
    return finished.run_id
