"""Happy or sad: a classifier, its calibrated probabilities, the four confusion cells, and examples of each.

Classes come from ratings with a margin; what lies within it is neither. Probabilities are out-of-fold. Examples are
chosen by rule (most confident, median, borderline of each cell), then explained, so that they can be heard.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

from mer_core.errors import UserError
from pipelines import option

NETWORKS = ("vit", "residual-cnn")


@dataclass(frozen=True)
class Config:
    """Options of `classify`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'")
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
    epochs: int = option(40, "at most, of a network that is trained")
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


def classified(config: Config, dataset, classes, folder: str, writer):
    """Out-of-fold probabilities with what they come from: (labels, groups, split, Classified, source of sounds)."""
    from mer_core.evaluate.happy_sad import classify_embeddings, classify_spectrograms
    from mer_core.evaluate.splits import grouped_kfold
    from mer_core.models.representations import build_representation
    from mer_core.models.training.spectrograms import STYLES, load_spectrograms
    from pipelines.train import stage

    workers, groups = config.workers or None, dataset.tracks["group"]
    if config.network in NETWORKS:
        sounds = load_spectrograms(dataset, STYLES[config.network], workers, stage(writer, 0.0, 0.1))
        tracks, failures = list(sounds.tables), sounds.failures
    else:
        sounds = build_representation(config.network, dataset, workers, stage(writer, 0.0, 0.6), config.weights or None)
        tracks, failures = list(sounds.values.index), sounds.failures
    labels = classes.labels[classes.labels.index.isin(tracks)]
    split = grouped_kfold(groups[labels.index], dataset.ratings.loc[labels.index], 5, config.seed)
    if config.network in NETWORKS:
        found = classify_spectrograms(
            maker(config.network),
            sounds,
            labels,
            groups,
            split,
            recipe_of(config),
            folder,
            progress=stage(writer, 0.1, 0.7),
        )
    else:
        found = classify_embeddings(sounds.values, labels, groups, split)
    return labels, groups[labels.index], split, found, sounds, failures


def maker(network: str):
    """What builds a network of two outputs."""
    from mer_core.models.networks.residual_cnn import ResidualCnn
    from mer_core.models.networks.vit import SpectrogramViT

    return {
        "vit": SpectrogramViT,
        "residual-cnn": lambda: ResidualCnn(outputs=2, widths=(16, 32, 64, 128), dropout=0.2),
    }[network]


def recipe_of(config: Config):
    """How networks are trained here: small data, so small steps and a moving average."""
    from mer_core.models.training.recipe import Recipe

    return Recipe(
        epochs=config.epochs,
        batch_size=16,
        learning_rate=1e-3,
        weight_decay=1e-2,
        loss="cross-entropy",
        schedule="cosine",
        warm_up=3,
        patience=max(10, config.epochs // 3),
        seed=config.seed,
    )


def write(config: Config, dataset, classes, found, writer) -> None:
    """Write `run.json`'s facts, `metrics.json`, `classes.parquet`, `examples.parquet` and `reliability.parquet`."""
    import pandas as pd

    from mer_core.evaluate.classification import cells_of, classification_scores, examples, reliability
    from mer_core.runs import describe_dataset
    from pipelines.maps_of_classes import add_maps

    labels, groups, split, result, sounds, failures = found
    writer.progress(0.72, f"scoring with {config.resamples} resamples over groups")
    probability = result.probability
    scores = classification_scores(labels, probability, groups, config.resamples, config.seed)
    writer.about(
        dataset=describe_dataset(dataset),
        features={"name": config.network, "failures": failures, "notes": getattr(sounds, "notes", ())},
        model="linear head" if config.network not in NETWORKS else config.network,
        targets=["happy"],
        protocol="grouped-5fold",
        classes=classes.said,
        split_digest=split.digest(),
        seed=config.seed,
        weights=list(getattr(sounds, "weights", ())) or None,
        leaks=[],
    )
    tracks = dataset.tracks.loc[labels.index]
    facts = {"score": classes.score[labels.index], "true": labels, "probability": probability, "fold": result.fold}
    table = tracks.assign(**facts, cell=cells_of(labels, probability))
    table = table.join(dataset.ratings.loc[labels.index], rsuffix="_rating")
    writer.write_table("classes", table.rename_axis("track_id").reset_index())
    writer.write_table("examples", examples(labels, probability))
    writer.write_table("reliability", reliability(labels, probability))
    metrics = {"schema": 1, "protocol": "grouped-5fold", "targets": {}, "classification": scores}
    writer.write_json("metrics.json", metrics)
    add_maps(config, dataset, found, writer)
    balanced, low, high = scores["balanced_accuracy"]
    interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    writer.log(f"balanced accuracy {balanced:.3f}{interval}; {pd.Series(scores['cells']).to_dict()}")
