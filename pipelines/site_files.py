"""Clips of the site from audio files: predicted and explained by the final model of a run that has not heard them."""

from __future__ import annotations

import json

from mer_core.errors import UserError

SAME = 1e-3  # rating points between the model's prediction and the one that is explained, at most


def clips_of_files(run, places: list[str], progress) -> tuple[list, list[tuple[str, str]]]:
    """Clips of audio files and folders, and (file, reason) of those that cannot be explained.

    Raises
    ------
    UserError : a run whose model relevance cannot explain, other data than it was trained on, or no usable file
    """
    from mer_core.site.clips import with_addresses
    from mer_core.site.songs import find_songs

    songs = find_songs(places)
    explain = explainer(run, progress)
    clips, failures = [], []
    for number, song in enumerate(songs):
        progress(number / len(songs), f"explaining {song.path.name}")
        try:
            clips.append(clip_of(run, song, explain(song.path)))
        except UserError as error:
            failures.append((song.path.name, str(error)))
    if not clips:
        raise UserError(f"no file could be explained; the first, {failures[0][0]}: {failures[0][1]}")
    return with_addresses(clips), failures


def explainer(run, progress):
    """What makes a relevance map from a path, with the model that `predict` uses."""
    import numpy as np

    from mer_core.datasets import load
    from mer_core.datasets.audio import read_audio
    from mer_core.evaluate.experiment import align
    from mer_core.explain.relevance import relevance_of_track
    from mer_core.explain.relevance_heads import regression_head
    from mer_core.models.backbones import open_backbone
    from mer_core.models.representations import build_representation, check_weights
    from mer_core.models.store import load_model
    from mer_core.site.clips import MOST_TARGETS
    from pipelines import train
    from pipelines.relevance import explainable

    part, trained = explainable(run), train.recorded(run)
    weights = trained.weights or None
    check_weights(trained.features, run.about["weights"] or [], weights)
    plan, dataset = train.plan_of(trained), load(trained.dataset, trained.layout, trained.labels)
    if dataset.fingerprint() != run.about["dataset"]["fingerprint"]:
        raise UserError(f"the data of run {run.run_id!r} has changed since; train it again, then make the site")
    data = align(plan, dataset, build_representation(plan.table, dataset, plan.workers, progress, weights))
    model = load_model(run.folder / "model" / "model.skops")
    head = regression_head(model, data.features.to_numpy(), tuple(data.ratings))
    listener = open_backbone(part.backbone.name, weights)

    def explain(path):
        samples, _ = read_audio(path, rate=listener.backbone.rate)
        found = relevance_of_track(listener, head, samples, head.targets[:MOST_TARGETS], layer=part.layer)
        if not np.abs(found.gap()).max() <= SAME:
            raise UserError(f"its map does not add up to its prediction (off by {np.abs(found.gap()).max():.2g})")
        return found

    return explain


def clip_of(run, song, found):
    """A clip with a reading of each target, from a song and its map."""
    from dataclasses import replace

    from mer_core.site.clips import Clip, Reading
    from mer_core.site.licences import terms_of

    widths = json.loads((run.folder / "model" / "model.json").read_text(encoding="utf-8"))["interval_halfwidth"]
    low, high = run.about["dataset"]["scale"]

    def one(target: str):
        k = found.targets.index(target)
        values = {name: getattr(found, name)[[k]] for name in ("values", "base", "predicted", "conservation_error")}
        return replace(found, targets=(target,), remainder=found.remainder[:, [k]], **values)

    def reading(k: int, target: str):
        value = float(found.predicted[k])
        lower, upper = max(value - widths[target], low), min(value + widths[target], high)
        return Reading(target, "", "", value, lower, upper, None, (low, high))

    return Clip(
        track=song.path.stem,
        title=song.title,
        author=song.author,
        licence=song.licence,
        source=song.source,
        terms=terms_of(song.licence),
        path=str(song.path),
        readings=tuple(reading(k, target) for k, target in enumerate(found.targets)),
        load=one,
    )
