"""Happy or sad: a classifier, its calibrated probabilities, the four confusion cells, and examples of each.

Classes come from ratings with a margin; what lies within it is neither. Probabilities are out-of-fold. Examples are
chosen by rule (most confident, median, borderline of each cell), then explained, so that they can be heard.

A network that is trained here learns from few clips. With `--pretrain composed` it first learns to hear mode, tempo
and what else makes a performance from some 1200 rendered clips of other pieces (once; what it learned is kept).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace

from mer_core.errors import UserError
from pipelines import option

NETWORKS = ("vit", "residual-cnn")


@dataclass(frozen=True)
class Config:
    """Options of `classify`."""

    dataset: str = option("demo", "'demo', 'composed', or a folder in the layout 'tracks' or 'deam'")
    layout: str = option("auto", "layout of the folder", ("auto", "deam", "tracks"))
    labels: str = option("corrected", "DEAM's static labels, put right or as published", ("corrected", "published"))
    network: str = option(
        "musicnn-msd",
        "a pretrained backbone (see 'backbones') under a linear head, or vit or residual-cnn, trained from nothing",
    )
    classes: str = option("valence", "what sorts tracks into happy and sad", ("valence", "happy-sad"))
    margin: float = option(1.0, "rating points that a track must be away from the middle to be happy or sad")
    explain: str = option("examples", "which tracks get a relevance map", ("examples", "all", "none"))
    weights: str = option(
        "", "pretrained weights: a folder, 'hub' to download, 'random' (empty: MER_WEIGHTS, or what packages bring)"
    )
    pretrain: str = option(
        "", "corpus of other music on which vit or residual-cnn learns first: 'composed', or a folder like --dataset"
    )
    epochs: int = option(0, "at most, of a network that is trained (0: 40, or 12 of --pretrain)")
    seed: int = option(42, "seed of folds, training and resampling")
    resamples: int = option(1000, "bootstrap resamples (over groups) of each interval")
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What a run's name is made of."""
    return config.dataset, config.network


def execute(config: Config, job, run_id: str, span: tuple[float, float] = (0.0, 1.0)) -> str:
    """Load, sort into classes, classify under grouped folds, write; return the run's id."""
    from mer_core.datasets import load
    from mer_core.evaluate.classification import happy_or_sad
    from mer_core.models.backbones import BACKBONES
    from mer_core.runs import RunWriter
    from pipelines.train import check_resamples

    if config.network not in NETWORKS and config.network not in BACKBONES:
        known = ", ".join([*NETWORKS, *BACKBONES])
        raise UserError(f"--network {config.network} is unknown; choose from {known}")
    if config.pretrain and config.network not in NETWORKS:
        raise UserError(
            f"--pretrain is for networks trained here ({', '.join(NETWORKS)}); {config.network} comes trained"
        )
    if config.epochs < 0:
        raise UserError(f"--epochs {config.epochs} is negative; give 1 or more, or 0 for the usual number")
    check_resamples(config.resamples)
    with RunWriter(run_id, "classify", config, job, span) as writer:
        writer.progress(0.0, f"loading {config.dataset}")
        dataset = load(config.dataset, config.layout, config.labels)
        classes = happy_or_sad(dataset, config.classes, config.margin)
        writer.log(classes.said)
        with tempfile.TemporaryDirectory() as folder:
            found = classified(config, dataset, classes, folder, writer)
        write(config, dataset, classes, found, writer)
    return run_id


@dataclass(frozen=True)
class Found:
    """Out-of-fold probabilities with what they come from.

    labels, groups : by track; result : Classified; sounds : spectrograms or embeddings; failures : (track, reason)
    pretrained : what the run says of pretraining, or None
    """

    labels: object
    groups: object
    split: object
    result: object
    sounds: object
    failures: tuple
    pretrained: dict | None = None


def classified(config: Config, dataset, classes, folder: str, writer) -> Found:
    """Out-of-fold probabilities."""
    from mer_core.evaluate.happy_sad import classify_embeddings
    from mer_core.evaluate.splits import grouped_kfold
    from mer_core.models.representations import build_representation
    from pipelines.train import stage

    if config.network in NETWORKS:
        return _by_own_network(config, dataset, classes, folder, writer)
    workers, groups = config.workers or None, dataset.tracks["group"]
    sounds = build_representation(config.network, dataset, workers, stage(writer, 0.0, 0.6), config.weights or None)
    labels = classes.labels[classes.labels.index.isin(sounds.values.index)]
    split = grouped_kfold(groups[labels.index], dataset.ratings.loc[labels.index], 5, config.seed)
    result = classify_embeddings(sounds.values, labels, groups, split)
    return Found(labels, groups[labels.index], split, result, sounds, sounds.failures)


def _by_own_network(config: Config, dataset, classes, folder: str, writer) -> Found:
    from mer_core.evaluate.happy_sad import classify_spectrograms
    from mer_core.evaluate.own_networks import builder
    from mer_core.evaluate.pretraining import audible, classify_taught
    from mer_core.evaluate.splits import grouped_kfold
    from mer_core.models.training.spectrograms import STYLES, load_spectrograms
    from pipelines.train import stage

    first = taught(config, dataset, writer) if config.pretrain else None
    done = 0.65 if first else 0.0
    style, workers = STYLES[config.network], config.workers or None
    sounds = audible(load_spectrograms(dataset, style, workers, stage(writer, done, done + 0.05)))
    groups = dataset.tracks["group"]
    labels = classes.labels[classes.labels.index.isin(sounds.tables)]
    split = grouped_kfold(groups[labels.index], dataset.ratings.loc[labels.index], 5, config.seed)
    if first:
        result = classify_taught(first, sounds, labels, groups, split)
        return Found(labels, groups[labels.index], split, result, sounds, sounds.failures, first.facts)
    result = classify_spectrograms(
        builder(config.network),
        sounds,
        labels,
        groups,
        split,
        recipe_of(config),
        folder,
        progress=stage(writer, 0, 0.7),
    )
    return Found(labels, groups[labels.index], split, result, sounds, sounds.failures)


def taught(config: Config, dataset, writer):
    """The network as it is after learning from the corpus that `--pretrain` names; none of its music is tested."""
    from mer_core.datasets import load
    from mer_core.evaluate.pretraining import RECIPE, audible, check_apart, pretrain
    from mer_core.models.training.spectrograms import STYLES, load_spectrograms
    from pipelines.train import stage

    corpus = load(config.pretrain, progress=stage(writer, 0.0, 0.1))
    check_apart(corpus, dataset)
    reading = stage(writer, 0.1, 0.2)
    sounds = audible(load_spectrograms(corpus, STYLES[config.network], config.workers or None, reading))

    recipe = replace(RECIPE, seed=config.seed, epochs=config.epochs or RECIPE.epochs)

    def report(row: dict) -> None:
        done = (row["epoch"] + 1) / recipe.epochs
        writer.progress(0.2 + 0.45 * done, f"pretraining, epoch {row['epoch'] + 1}: error {row['score']:.3f}")

    first = pretrain(config.network, corpus, sounds, recipe, report)
    if corpus.synthetic and dataset.synthetic:
        same_rule = f"the ratings of {corpus.name} and {dataset.name} are simulated by one rule, though of other music"
        first = replace(first, facts=first.facts | {"note": same_rule})
    heard = ", ".join(f"{name} {value:.2f}" for name, value in first.facts["heard"].items() if value is not None)
    writer.log(f"pretrained on {corpus.name}; correlation on its pieces that were held out: {heard}")
    return first


def recipe_of(config: Config):
    """How networks are trained here: small data, so small steps and a moving average."""
    from mer_core.models.training.recipe import Recipe

    epochs = config.epochs or 40
    return Recipe(
        epochs=epochs,
        batch_size=16,
        learning_rate=1e-3,
        weight_decay=1e-2,
        loss="cross-entropy",
        schedule="cosine",
        warm_up=min(3, epochs - 1),
        patience=max(10, epochs // 3),
        seed=config.seed,
    )


def write(config: Config, dataset, classes, found: Found, writer) -> None:
    """Write `run.json`'s facts, `metrics.json`, `classes`, `examples`, `reliability` and networks that were trained."""
    import pandas as pd

    from mer_core.evaluate.classification import cells_of, classification_scores, examples, reliability
    from mer_core.evaluate.own_networks import save_networks
    from mer_core.runs import describe_dataset
    from pipelines.maps_of_classes import add_maps

    labels, groups, result, sounds = found.labels, found.groups, found.result, found.sounds
    writer.progress(0.72, f"scoring with {config.resamples} resamples over groups")
    probability = result.probability
    scores = classification_scores(labels, probability, groups, config.resamples, config.seed)
    writer.about(
        dataset=describe_dataset(dataset),
        features={"name": config.network, "failures": found.failures, "notes": getattr(sounds, "notes", ())},
        model="linear head" if config.network not in NETWORKS else config.network,
        targets=["happy"],
        protocol="grouped-5fold",
        classes=classes.said,
        split_digest=found.split.digest(),
        seed=config.seed,
        weights=list(getattr(sounds, "weights", ())) or None,
        pretrained=found.pretrained,
        leaks=[],
    )
    if config.network in NETWORKS:
        save_networks(writer.folder / "model", config.network, result.models, {"pretrained": found.pretrained})
    tracks = dataset.tracks.loc[labels.index]
    facts = {"score": classes.score[labels.index], "true": labels, "probability": probability, "fold": result.fold}
    table = tracks.assign(**facts, cell=cells_of(labels, probability))
    ratings = dataset.ratings.loc[labels.index]
    table = table.join(ratings.rename(columns={name: f"{name}_rating" for name in ratings if name in table}))
    writer.write_table("classes", table.rename_axis("track_id").reset_index())
    writer.write_table("examples", examples(labels, probability))
    writer.write_table("reliability", reliability(labels, probability))
    metrics = {"schema": 1, "protocol": "grouped-5fold", "targets": {}, "classification": scores}
    writer.write_json("metrics.json", metrics)
    add_maps(config, dataset, found, writer)
    balanced, low, high = scores["balanced_accuracy"]
    interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    writer.log(f"balanced accuracy {balanced:.3f}{interval}; {pd.Series(scores['cells']).to_dict()}")
