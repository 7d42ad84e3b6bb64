"""Relevance maps of happy/sad classifiers: of the logit of "happy", by the model of the fold that tested the track.

Heads on embeddings are explained like those of ratings. A network that was trained on spectrograms is explained on the
windows it hears: logit = offset + slope * mean over windows of (happy output - sad output), relative to its offset.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mer_core.errors import UserError

TARGET = "happy"
RULES = {"vit": "cp-lrp-gamma", "residual-cnn": "gamma-silence"}
SAME = 1e-3  # between a run's probability and the one that is explained, at most
OUTPUT_REFERENCE = "equal outputs for happy and sad, before calibration"


def add_maps(config, dataset, found, writer) -> None:
    """Write `explanations/lrp/` of a run in the making; a network without frames and bands is logged to have none."""
    from mer_core.evaluate.classification import examples

    labels, result, sounds = found.labels, found.result, found.sounds
    if config.explain == "none":
        return
    chosen = list(labels.index) if config.explain == "all" else list(examples(labels, result.probability)["track_id"])

    def progress(fraction: float, message: str) -> None:
        writer.progress(0.8 + 0.19 * fraction, message)

    try:
        failures = make_maps(config, dataset, result, sounds, chosen, None, writer.folder / "explanations", progress)
    except UserError as error:
        writer.log(f"no relevance maps: {error}")
        return
    for track, why in failures:
        writer.log(f"{track} has no relevance map: {why}")


def execute(config, job, finished) -> str:
    """`explain --method lrp` of a finished run of `classify`; return its id."""
    from dataclasses import fields, replace

    from mer_core.datasets import load
    from pipelines import classify
    from pipelines.train import stage

    known = {field.name for field in fields(classify.Config)}
    made = classify.Config(**{name: value for name, value in finished.about["config"].items() if name in known})
    made = replace(made, workers=config.workers)
    table = finished.table("classes").astype({"track_id": str}).set_index("track_id")
    if unknown := [track for track in config.tracks if track not in table.index]:
        raise UserError(
            f"--tracks {unknown[0]}: not classified in run {finished.run_id!r}; tracks are "
            f"{', '.join(table.index[:5])} ..."
        )
    dataset = load(made.dataset, made.layout, made.labels)
    chosen = [track for track in table.index if not config.tracks or track in config.tracks]
    if made.network in classify.NETWORKS:
        result, heard = _trained(finished, made, dataset, table, chosen)
    else:
        result, heard = _repeated(finished, made, dataset, table, job)
    rule = None if config.rule == "auto" else config.rule
    folder = finished.folder / "explanations"
    for track, why in make_maps(made, dataset, result, heard, chosen, rule, folder, stage(job, 0.3, 0.98)):
        job.log(f"{track} has no relevance map: {why}")
    job.opens_on(finished.run_id)
    return finished.run_id


def _trained(finished, made, dataset, table, chosen: list[str]):
    """The networks of a finished run, which have not seen the tracks of their folds, and the tracks' spectrograms."""
    from dataclasses import replace

    from mer_core.evaluate.happy_sad import Classified
    from mer_core.evaluate.own_networks import load_networks
    from mer_core.models.training.spectrograms import STYLES, load_spectrograms

    _, models = load_networks(finished.folder / "model")
    known = dataset.tracks.index.isin(chosen)
    if missing := [track for track in chosen if track not in dataset.tracks.index]:
        raise UserError(f"{missing[0]} of run {finished.run_id!r} is no longer in the dataset {dataset.name}")
    few = replace(dataset, tracks=dataset.tracks[known], ratings=dataset.ratings[known])
    sounds = load_spectrograms(few, STYLES[made.network], made.workers or None, None)
    return Classified(table["fold"], table["probability"], models), sounds


def _repeated(finished, made, dataset, table, job):
    """The linear heads of a finished run, fitted again, and what they were fitted to."""
    from mer_core.evaluate.classification import happy_or_sad
    from mer_core.evaluate.happy_sad import classify_embeddings
    from mer_core.evaluate.splits import grouped_kfold
    from mer_core.models.representations import build_representation, check_weights
    from pipelines.train import stage

    check_weights(made.network, finished.about["weights"] or [], made.weights or None)
    heard = build_representation(made.network, dataset, made.workers or None, stage(job, 0, 0.3), made.weights or None)
    labels = happy_or_sad(dataset, made.classes, made.margin).labels
    labels = labels[labels.index.isin(heard.values.index)]
    groups = dataset.tracks["group"]
    split = grouped_kfold(groups[labels.index], dataset.ratings.loc[labels.index], 5, made.seed)
    result = classify_embeddings(heard.values, labels, groups, split)
    scored = table["probability"]
    if set(scored.index) != set(labels.index) or not (scored - result.probability).abs().max() <= SAME:
        raise UserError(
            f"the models of run {finished.run_id!r} cannot be repeated: its data or the libraries have changed since; "
            "classify again, then explain the new run"
        )
    return result, heard


def make_maps(config, dataset, result, sounds, chosen: list[str], rule: str | None, folder: Path, progress) -> list:
    """Explain the chosen tracks into `folder`/lrp; return (track, reason) of those that failed.

    Raises
    ------
    UserError : a network without frames and bands, or not one track could be explained
    """
    from mer_core.explain.maps import write_maps
    from pipelines.classify import NETWORKS

    failures: list[tuple[str, str]] = []
    explain = _of_network if config.network in NETWORKS else _of_embedding
    one = explain(config, dataset, result, sounds, rule)

    def maps():
        for done, track in enumerate(chosen):
            progress(done / len(chosen), f"relevance of track {track}")
            try:
                yield track, one(track)
            except UserError as error:
                failures.append((track, str(error)))

    temporary = folder / ".lrp"
    shutil.rmtree(temporary, ignore_errors=True)
    if not write_maps(temporary, maps(), {"backbone": config.network, "output": "logit", "failures": failures}):
        shutil.rmtree(temporary)
        raise UserError(f"no track could be explained; the first, {failures[0][0]}: {failures[0][1]}")
    shutil.rmtree(folder / "lrp", ignore_errors=True)
    os.replace(temporary, folder / "lrp")
    return failures


def _of_embedding(config, dataset, result, sounds, rule: str | None):
    """A function from a track to its map, by a linear head on a backbone's embedding."""
    from mer_core.datasets.audio import read_audio
    from mer_core.explain.relevance import relevance_of_track
    from mer_core.explain.relevance_grids import grid_of
    from mer_core.explain.relevance_heads import classification_head
    from mer_core.models.backbones import BACKBONES, open_backbone

    grid_of(BACKBONES[config.network])
    listener = open_backbone(config.network, config.weights or None)
    heads = {number: classification_head(model, TARGET) for number, model in result.models.items()}

    def one(track: str):
        samples, _ = read_audio(dataset.tracks["path"].loc[track], rate=listener.backbone.rate)
        return relevance_of_track(listener, heads[result.fold[track]], samples, rule=rule)

    return one


def _of_network(config, dataset, result, sounds, rule: str | None):
    """A function from a track to its map, by a network on spectrograms."""
    from mer_core.explain.spectrogram_relevance import relevance_of_spectrogram

    rule, style = rule or RULES[config.network], sounds.style

    def one(track: str):
        model = result.models[result.fold[track]]
        network = model.fitted.network.cpu().eval()
        table = sounds.tables[track]
        return relevance_of_spectrogram(
            network, table, style, TARGET, model.slope, model.offset, rule, OUTPUT_REFERENCE
        )

    return one
