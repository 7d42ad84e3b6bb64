"""Happy/sad classifiers under grouped folds: a linear head on embeddings, or a network trained on spectrograms.

Each track's probability is that of a classifier which has not seen it or its group; all of a fold's fitting (scaling,
penalty, epochs, calibration) happens inside its training part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.evaluate.splits import Split
from mer_core.models.classifiers import LinearHead, calibrate, fit_linear_head, inner_rounds, sigmoid
from mer_core.models.training.recipe import Recipe
from mer_core.models.training.spectrograms import Spectrograms
from mer_core.models.training.tracks import Fitted, fit_tracks, outputs_of

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class FoldNetwork:
    """A fold's trained network; its logit is slope * (happy output - sad output) + offset."""

    fitted: Fitted
    slope: float
    offset: float


@dataclass(frozen=True)
class Classified:
    """Out-of-fold probabilities.

    fold, probability : index track_id; models : of each fold, a LinearHead or a FoldNetwork
    """

    fold: pd.Series
    probability: pd.Series
    models: dict[int, LinearHead | FoldNetwork]


def classify_embeddings(features: pd.DataFrame, labels: pd.Series, groups: pd.Series, split: Split) -> Classified:
    """A linear head per fold on embeddings (n, p), all indexed by track_id."""
    fold, probability, models = _empty(labels), _empty(labels), {}
    for number, train, test in split.rounds():
        head = fit_linear_head(features.loc[train].to_numpy(), labels[train].to_numpy(), groups[train].to_numpy())
        fold[test], probability[test] = number, head.probability(features.loc[test].to_numpy())
        models[number] = head
    return Classified(fold.astype(int), probability, models)


def classify_spectrograms(
    make_network: Callable[[], object],
    spectrograms: Spectrograms,
    labels: pd.Series,
    groups: pd.Series,
    split: Split,
    recipe: Recipe,
    folder: str | Path,
    *,
    augment: float = 0.5,
    progress: Progress | None = None,
) -> Classified:
    """A network per fold, stopped and calibrated on a part of its training groups.

    make_network : gives two outputs, sad and happy; folder : for checkpoints, one sub-folder a fold
    """
    fold, probability, models = _empty(labels), _empty(labels), {}
    targets = {track: np.array([label]) for track, label in labels.items()}
    rounds = split.rounds()
    for done, (number, train, test) in enumerate(rounds):
        fit, check = inner_rounds(labels[train].to_numpy(), groups[train].to_numpy(), recipe.seed)[0]
        report = None
        if progress is not None:
            report = _reporter(progress, done, len(rounds), recipe.epochs)
        fitted = fit_tracks(
            make_network,
            spectrograms,
            targets,
            list(train[fit]),
            list(train[check]),
            recipe,
            Path(folder) / f"fold-{number}",
            augment=augment,
            report=report,
        )
        model = FoldNetwork(fitted, *calibrate(margin_of(fitted, spectrograms, train[check]), labels[train[check]]))
        fold[test] = number
        probability[test] = sigmoid(model.slope * margin_of(fitted, spectrograms, test) + model.offset)
        models[number] = model
    return Classified(fold.astype(int), probability, models)


def _empty(labels: pd.Series) -> pd.Series:
    return pd.Series(np.nan, index=labels.index)


def margin_of(fitted: Fitted, spectrograms: Spectrograms, tracks: pd.Index | list[str]) -> np.ndarray:
    """Happy output minus sad output (n,)."""
    outputs = outputs_of(fitted.network, spectrograms, list(tracks))
    return outputs[:, 1] - outputs[:, 0]


def _reporter(progress: Progress, done: int, rounds: int, epochs: int) -> Callable[[dict], None]:
    def report(row: dict) -> None:
        share = (done + (row["epoch"] + 1) / epochs) / rounds
        progress(share, f"fold {done + 1} of {rounds}, epoch {row['epoch'] + 1}: validation loss {row['score']:.3f}")

    return report
