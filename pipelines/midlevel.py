"""Emotions through seven qualities that musicians can name: three schemes, their cost, weights one can read.

A2E goes from audio to ratings, A2Mid2E through the qualities to ratings by a linear map fitted afterwards, Joint learns
both at once (Chowdhury et al. 2019, arXiv 1907.03572). Scores are of tracks of groups that no model has seen. What the
qualities are (rated, planted, computed, transferred) is recorded in the run and shown wherever they are.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from mer_core.errors import UserError
from pipelines import option

SCHEMES = ("a2e", "a2mid2e", "joint")
VGG = "vgg"
INTERVAL_LEVEL = 0.9


@dataclass(frozen=True)
class Config:
    """Options of `midlevel`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'")
    layout: str = option("auto", "layout of the folder", ("auto", "deam", "tracks"))
    labels: str = option("corrected", "DEAM's static labels, put right or as published", ("corrected", "published"))
    scheme: str = option("all", "which way from audio to ratings; all compares them", (*SCHEMES, "all"))
    network: str = option(
        "musicnn-mtt@dense",
        "vgg, trained here on log spectrograms as in the paper, or pretrained embeddings under a head, several joined "
        "with + (see 'backbones')",
    )
    midlevel: str = option(
        "auto",
        "the qualities: truth (planted), proxies (computed from the sound), transferred (as heard by a head that "
        "learned planted ones), or the path of human ratings (folder or CSV as published at osf.io/5aupt); auto is "
        "truth, else proxies",
    )
    ratings: tuple[str, ...] = option(("auto",), "ratings to predict, comma-separated; auto takes all that differ")
    head: str = option(
        "kernel-ridge", "on embeddings; ridge can be traced back to the sound", ("kernel-ridge", "ridge")
    )
    pretrain: str = option("", "'composed', or another corpus with planted qualities, that is learned besides")
    weights: str = option(
        "", "pretrained weights: a folder, 'hub' to download, 'random' (empty: MER_WEIGHTS, or what packages bring)"
    )
    explain: str = option("examples", "which tracks get relevance maps", ("examples", "all", "none"))
    epochs: int = option(12, "vgg: at most; a third of them in each fold after --pretrain")
    seed: int = option(42, "seed of folds, models and resampling")
    resamples: int = option(1000, "bootstrap resamples (over groups) of each interval")
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What a run's name is made of."""
    return config.dataset, config.network, config.scheme


def execute(config: Config, job, run_id: str, span: tuple[float, float] = (0.0, 1.0)) -> str:
    """Load the dataset, make the run folder, fill it; return the run's id."""
    from mer_core.datasets import load
    from mer_core.runs import RunWriter
    from pipelines.train import check_resamples

    check_resamples(config.resamples)
    if config.epochs < 1:
        raise UserError(f"--epochs {config.epochs} is too small; give at least 1")
    if config.network == VGG and config.midlevel == "transferred":
        raise UserError("--midlevel transferred needs embeddings: give another --network than vgg")
    if config.network == VGG and config.head != "kernel-ridge":
        raise UserError(f"--head {config.head} is for embeddings; --network vgg has its own: leave --head out")
    with RunWriter(run_id, "midlevel", config, job, span) as writer:
        writer.progress(0.0, f"loading {config.dataset}")
        dataset = load(config.dataset, config.layout, config.labels)
        run(config, dataset, writer)
    return run_id


def run(config: Config, dataset, writer) -> None:
    """Build qualities and features, compare the schemes, write everything."""
    from mer_core.evaluate.midlevel_data import chosen_ratings, kind_of
    from pipelines.midlevel_writing import write

    ratings, notes = chosen_ratings(config.ratings, dataset)
    kind = kind_of(config.midlevel, dataset)
    names = SCHEMES if config.scheme == "all" else (config.scheme,)
    corpus = corpus_of(config, dataset, kind)
    if config.network == VGG:
        from pipelines.midlevel_vgg import compared
    else:
        compared = compared_embeddings
    found = compared(config, dataset, corpus, ratings, kind, names, writer)
    for note in (*notes, *found.notes):
        writer.log(note)
        print(f"note: {note}", file=sys.stderr)
    write(config, dataset, found, notes, writer)


def compared_embeddings(config: Config, dataset, corpus, ratings: list[str], kind: str, names, writer):
    """The schemes with a head on embeddings; returns `mer_core.evaluate.midlevel.Comparison`."""
    from mer_core.evaluate.midlevel import Comparison, cross_validate_schemes, inner_assignment, with_shown_maps
    from mer_core.models.midlevel import fit_schemes
    from pipelines.train import stage

    data, split, targets, table, left_out, notes = learning_of(config, dataset, corpus, ratings, kind, writer)
    results = cross_validate_schemes(names, data, split, config.head, config.seed, stage(writer, 0.4, 0.7))
    writer.progress(0.7, "fitting the final models on all tracks")
    folds = inner_assignment(data.groups, data.ratings, config.seed)
    final = with_shown_maps(fit_schemes(names, data, folds, config.head, config.seed), results, data.ratings)
    return Comparison(data, targets, split, results, final, table, left_out, (*targets.notes, *notes))


def repeated(config: Config, dataset, scheme: str, ratings: list[str], writer) -> tuple:
    """What a scheme of a finished run learned, and its result once more: (Learning, SchemeResult)."""
    from mer_core.evaluate.midlevel import cross_validate_schemes
    from mer_core.evaluate.midlevel_data import kind_of

    kind = kind_of(config.midlevel, dataset)
    data, split, *_ = learning_of(config, dataset, corpus_of(config, dataset, kind), ratings, kind, writer)
    return data, cross_validate_schemes([scheme], data, split, config.head, config.seed)[scheme]


def learning_of(config: Config, dataset, corpus, ratings: list[str], kind: str, writer) -> tuple:
    """Embeddings, qualities and ratings: (Learning, Split, MidlevelTargets, FeatureTable, left out, notes)."""
    import numpy as np

    from mer_core.datasets.midlevel_ratings import planted_qualities
    from mer_core.evaluate.midlevel_data import build_targets, more_tracks, transferred_qualities
    from mer_core.models.midlevel import Learning
    from mer_core.models.representations import build_representation, embedding_parts
    from pipelines.train import stage

    workers, weights = config.workers or None, config.weights or None
    table = build_representation(config.network, dataset, workers, stage(writer, 0.0, 0.2), weights)
    other, more, notes = None, None, list(table.notes)
    if corpus is not None:
        other = build_representation(config.network, corpus, workers, stage(writer, 0.2, 0.4), weights).values
    owned = embedding_parts(config.network)
    blocks = np.array([any(part.owns(column) for part in owned) for column in table.values], dtype=int)
    if kind == "transferred":
        truth = planted_qualities(corpus)
        targets = transferred_qualities(table.values, other, truth, config.head, config.seed, dataset, blocks)
    else:
        targets = build_targets(config.midlevel, dataset, workers, stage(writer, 0.2, 0.4))
        if corpus is not None:
            more = more_tracks(other, corpus, dataset, ratings)
            more = (more[0], more[1][list(targets.values)], more[2])
            notes.append(f"{len(more[0])} tracks of {corpus.root.name} were learned besides.")
    tracks, left_out = usable(dataset, table.values.index, targets, ratings, table.failures)
    tables = (table.values.loc[tracks], targets.values.loc[tracks], dataset.ratings.loc[tracks, ratings])
    data = Learning(*tables, dataset.tracks["group"].loc[tracks], more, blocks)
    return data, split_of(dataset, tracks, config.seed), targets, table, left_out, notes


def corpus_of(config: Config, dataset, kind: str):
    """The corpus with planted qualities that is learned besides or transferred from; None where none is needed."""
    from mer_core.datasets import load
    from mer_core.datasets.overlap import check_other_music

    if config.pretrain and kind not in ("truth", "transferred"):
        raise UserError(
            f"--pretrain has planted qualities, which cannot be mixed with {kind}; use --midlevel truth or transferred"
        )
    if not config.pretrain and kind != "transferred":
        return None
    corpus = load(config.pretrain or "demo")
    if corpus.root == dataset.root:
        raise UserError(f"--pretrain {corpus.root} is the dataset itself; name another corpus")
    if kind == "transferred":  # where truth is learned besides, pieces that both have are left out
        check_other_music(corpus.name, corpus.tracks["path"], dataset)
    return corpus


def usable(dataset, known, targets, ratings: list[str], failures) -> tuple:
    """Tracks with features, qualities and ratings, and (track, reason) of the others; UserError for too few."""
    rated = dataset.ratings[ratings].notna().all(axis=1)
    left_out = [*failures]
    left_out += [(track, f"no rating of {' and '.join(ratings)}") for track in rated.index[~rated]]
    tracks = known[known.isin(rated.index[rated]) & known.isin(targets.values.index)]
    left_out += [(track, "no mid-level qualities") for track in known[~known.isin(targets.values.index)]]
    if len(tracks) < 10:
        raise UserError(
            f"only {len(tracks)} tracks of {dataset.name} have audio, ratings and qualities; at least 10 are needed"
        )
    return tracks, left_out


def split_of(dataset, tracks, seed: int):
    """Five folds by group."""
    from mer_core.evaluate.protocols import make_split

    return make_split("grouped-5fold", dataset, tracks, seed)
