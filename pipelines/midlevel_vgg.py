"""The schemes with networks that are trained here on log spectrograms, for `midlevel --network vgg`."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import asdict
from pathlib import Path

SECONDS = 10.0  # of a window
FINE = 3  # a network that has learned another corpus before is given a third of the epochs
HELD_SHARE = 10  # every tenth group of a corpus that is learned before says when to stop


def compared(config, dataset, corpus, ratings: list[str], kind: str, names, writer):
    """The schemes on spectrograms; returns `mer_core.evaluate.midlevel.Comparison`."""
    import pandas as pd

    from mer_core.evaluate.midlevel import Comparison, gathered, inner_assignment, with_shown_maps
    from mer_core.evaluate.midlevel_data import build_targets
    from mer_core.features import FeatureTable
    from mer_core.models.midlevel import Learning
    from mer_core.models.midlevel_network import HALVES, fit_network, recipe_of
    from mer_core.models.training.spectrograms import STYLES, load_spectrograms
    from pipelines.midlevel import split_of, usable
    from pipelines.train import stage

    sounds = load_spectrograms(dataset, STYLES["mid-level"], config.workers or None, stage(writer, 0.0, 0.05))
    targets = build_targets(config.midlevel, dataset, config.workers or None, stage(writer, 0.05, 0.1))
    nothing = pd.DataFrame(index=pd.Index(list(sounds.tables), name="track_id"))
    notes = short_notes(sounds)
    tracks, left_out = usable(dataset, nothing.index, targets, ratings, sounds.failures)
    groups = dataset.tracks["group"].loc[tracks]
    data = Learning(nothing.loc[tracks], targets.values.loc[tracks], dataset.ratings.loc[tracks, ratings], groups)
    table = FeatureTable(nothing, pd.DataFrame(), "recomputed", sounds.failures, notes)
    split = split_of(dataset, tracks, config.seed)
    epochs = config.epochs if corpus is None else max(1, config.epochs // FINE)
    recipe = recipe_of(epochs, config.seed, corpus is not None)
    results, final = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        starts = {}
        if corpus is not None:
            starts, said = started(config, dataset, corpus, list(targets.values), ratings, names, writer, Path(folder))
            notes = (*notes, *said)
        share = 0.6 / (len(names) * (len(split.rounds()) + 1))
        done = 0

        def fitted(name: str, part: pd.Index, label: str):
            nonlocal done
            tell = stage(writer, 0.1 + share * done, 0.1 + share * (done + 1))
            halves = inner_assignment(groups[part], data.ratings.loc[part], config.seed, HALVES)
            report = reporter(tell, f"{name}, {label}", 2 * epochs)
            done += 1
            return fit_network(
                name,
                sounds,
                data.qualities.loc[part],
                data.ratings.loc[part],
                halves,
                recipe,
                Path(folder) / label,
                starts.get(name),
                report,
            )

        for name in names:
            rows = []
            for fold, train, test in split.rounds():
                model = fitted(name, train, f"fold {fold + 1}")
                rows.append((fold, test, *model.predict(sounds, list(test)), model))
            results[name] = gathered(rows, tracks, list(data.qualities), ratings)
            final[name] = fitted(name, tracks, "all tracks")
    final = with_shown_maps(final, results, data.ratings)
    return Comparison(data, targets, split, results, final, table, left_out, (*targets.notes, *notes), sounds)


def short_notes(sounds) -> tuple[str, ...]:
    """A sentence on the tracks that are shorter than a window."""
    short = [track for track, table in sounds.tables.items() if len(table) < sounds.style.frames]
    if not short:
        return ()
    return (
        f"{len(short)} tracks are shorter than {SECONDS:g} s and were repeated to that length (first: {short[0]}).",
    )


def reporter(tell, label: str, epochs: int):
    """Progress of a training, or of two, of so many epochs in all."""
    seen = [0]

    def report(row: dict) -> None:
        seen[0] += 1
        tell(seen[0] / epochs, f"{label}, epoch {row['epoch'] + 1}: validation error {row['score']:.3f}")

    return report


def started(config, dataset, corpus, qualities: list[str], ratings: list[str], names, writer, folder: Path):
    """Weights to begin with, by scheme, from a corpus with planted qualities; trained once and kept in the cache."""
    import pandas as pd
    import torch

    from mer_core.evaluate.midlevel_data import more_tracks
    from mer_core.models.midlevel_network import pretrained, recipe_of
    from mer_core.models.training.spectrograms import STYLES, load_spectrograms
    from mer_core.paths import artifacts_root
    from pipelines.train import stage

    sounds = load_spectrograms(corpus, STYLES["mid-level"], config.workers or None, stage(writer, 0.05, 0.1))
    nothing = pd.DataFrame(index=pd.Index(list(sounds.tables), name="track_id"))
    more = more_tracks(nothing, corpus, dataset, ratings)
    tracks, rated = more[0].index, more[2]
    group = corpus.tracks["group"].loc[tracks]
    held = tracks[group.isin(sorted(group.unique())[::HELD_SHARE])]
    recipe, found = recipe_of(config.epochs, config.seed), {}
    notes = [f"{len(tracks)} tracks of {corpus.root.name} were learned before."]
    if rated is None and "a2e" in names:
        notes.append(f"{corpus.root.name} has not these ratings, so a2e begins with what it learned of the qualities.")
    for name in names:
        known = "a2e" if name == "a2e" and rated is not None else "a2mid2e"
        key = (asdict(recipe), corpus.fingerprint(), list(tracks), qualities, ratings if known == "a2e" else [], known)
        stored = artifacts_root() / "cache" / "midlevel" / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.pt"
        if not stored.exists():
            tell = stage(writer, 0.05, 0.1)
            report = reporter(tell, f"{known}, {corpus.root.name}", config.epochs)
            weights = pretrained(known, sounds, more[1][qualities], rated, held, recipe, folder, report)
            stored.parent.mkdir(parents=True, exist_ok=True)
            torch.save(weights, stored.with_suffix(".partial"))
            stored.with_suffix(".partial").replace(stored)
        found[name] = torch.load(stored, weights_only=True)
    return found, notes


def predicted_files(run, facts: dict, files: list[str], workers: int | None) -> tuple[dict, list[tuple[str, str]]]:
    """For `predict`: path -> qualities, then ratings; and (path, reason) of the files that could not be read."""
    import sys

    import numpy as np

    from mer_core import compute
    from mer_core.errors import UserError
    from mer_core.models.midlevel_network import load_network
    from mer_core.models.training.spectrograms import STYLES, Spectrograms, spectrogram_of_file

    model, style = load_network(run.folder / "model"), STYLES["mid-level"]
    outcomes = compute.map_items(lambda path: spectrogram_of_file(path, style), files, workers)
    for outcome in outcomes:
        if outcome.error is not None and not isinstance(outcome.error, UserError):
            raise outcome.error
    failures = [(outcome.item, str(outcome.error)) for outcome in outcomes if outcome.error is not None]
    tables = {outcome.item: outcome.value for outcome in outcomes if outcome.error is None}
    sounds = Spectrograms(style, tables, ())
    for note in short_notes(sounds):
        print(f"note: {note}", file=sys.stderr)
    if not tables:
        return {}, failures
    qualities, ratings = model.predict(sounds, list(tables))
    values = ratings if qualities is None else np.hstack([qualities, ratings])
    return dict(zip(tables, values, strict=True)), failures
