"""Networks trained on windows of tracks, and their predictions of whole tracks.

Conventions: a network maps windows (b, frames, bands) to outputs (b, t). Ratings are standardised with the mean and
spread of the training tracks and brought back for prediction; a track's prediction is the mean over windows that cover
it evenly, so that nothing about it is random. Torch is imported when a network is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mer_core.errors import UserError
from mer_core.models.training.recipe import Recipe
from mer_core.models.training.spectrograms import Spectrograms, even_windows, random_window

BATCH = 16
LARGEST_MASK = 0.2  # of the window, as in https://github.com/Moad26/Music-classification
MASKS = 3
LONGEST_SHIFT = 0.3


@dataclass(frozen=True)
class Fitted:
    """A trained network with what brings its outputs back to ratings; `history` is that of the engine."""

    network: object
    centre: np.ndarray
    spread: np.ndarray
    history: object


def fit_tracks(
    make_network: Callable[[], object],
    spectrograms: Spectrograms,
    targets: dict[str, np.ndarray],
    train: list[str],
    validation: list[str],
    recipe: Recipe,
    folder: str | Path,
    *,
    augment: float = 0.0,
    report: Callable[[dict], None] | None = None,
) -> Fitted:
    """Train on random windows of the training tracks; the epoch that is best on the validation tracks is kept.

    Parameters
    ----------
    make_network : builds it; called after the recipe's seed is set
    targets : of each track (t,) ratings, or (1,) class for cross-entropy
    train, validation : track ids; the caller sees to it that they share no group
    augment : chance in [0, 1] that a window is shifted in time and masked in time and frequency
    folder : for checkpoints
    report : called with each epoch's row

    Raises
    ------
    UserError : an empty validation part, or what the engine raises
    """
    import torch

    from mer_core.models.training.engine import choose_device
    from mer_core.models.training.engine import train as run

    if not validation:
        raise UserError("there is no track to validate on; the dataset needs more groups than folds")
    classes = recipe.loss == "cross-entropy"
    known = np.stack([targets[track] for track in train]).astype(np.float32)
    centre, spread = np.zeros(known.shape[1]), np.ones(known.shape[1])
    if not classes:
        centre, spread = known.mean(axis=0), np.maximum(known.std(axis=0), 1e-6)

    def batches(generator: torch.Generator) -> Iterator:
        random = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        for chosen, windows in _window_batches(spectrograms, train, recipe.batch_size, augment, random):
            wanted = np.stack([targets[track] for track in chosen])
            wanted = wanted[:, 0].astype(np.int64) if classes else ((wanted - centre) / spread).astype(np.float32)
            yield torch.from_numpy(windows), torch.from_numpy(wanted)

    def validate(network) -> float:
        wanted = np.stack([targets[track] for track in validation])
        outputs = outputs_of(network, spectrograms, validation)
        return (
            log_loss(outputs, wanted)
            if classes
            else float(np.sqrt(np.mean((outputs - (wanted - centre) / spread) ** 2)))
        )

    torch.manual_seed(recipe.seed)
    network = make_network().to(choose_device())
    history = run(network, batches, validate, recipe, folder, report=report)
    return Fitted(network, centre, spread, history)


def _window_batches(
    spectrograms: Spectrograms, train: list[str], size: int, augment: float, random: np.random.Generator
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Every track once, in random order: (tracks, windows (b, frames, bands) float32)."""
    order, frames = random.permutation(len(train)), spectrograms.style.frames
    for start in range(0, len(order), size):
        chosen = [train[i] for i in order[start : start + size]]
        if len(chosen) < 2:  # batch norm has no spread of one
            continue
        windows = [random_window(spectrograms.tables[track], frames, random).astype(np.float32) for track in chosen]
        windows = [masked(shifted(w, random), random) if random.random() < augment else w for w in windows]
        yield chosen, np.stack(windows)


def log_loss(logits: np.ndarray, classes: np.ndarray) -> float:
    """Mean cross-entropy of logits (n, c) for classes (n, 1)."""
    logits = logits - logits.max(axis=1, keepdims=True)
    logits = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(-np.take_along_axis(logits, classes.astype(int), axis=1).mean())


def outputs_of(network: object, spectrograms: Spectrograms, tracks: list[str]) -> np.ndarray:
    """(n, t) mean output over the even windows of each track, float64."""
    import torch

    device, frames = next(network.parameters()).device, spectrograms.style.frames
    means = []
    network.eval()
    with torch.inference_mode():
        for track in tracks:
            windows = even_windows(spectrograms.tables[track], frames).astype(np.float32)
            parts = torch.from_numpy(windows).split(BATCH)
            means.append(torch.cat([network(part.to(device)).float().cpu() for part in parts]).mean(0).numpy())
    return np.stack(means).astype(float)


def predict_tracks(fitted: Fitted, spectrograms: Spectrograms, tracks: list[str]) -> np.ndarray:
    """(n, t) predictions on the rating scale."""
    return outputs_of(fitted.network, spectrograms, tracks) * fitted.spread + fitted.centre


def shifted(window: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Moved in time by up to 30 % of its length; what leaves at the end comes in at the start."""
    return np.roll(window, int(random.uniform(0, LONGEST_SHIFT) * len(window)), axis=0)


def masked(window: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Three stretches of time and three of frequency, each at most 20 %, replaced by the window's mean."""
    window, mean = window.copy(), window.mean()
    for axis in (0, 1):
        length = window.shape[axis]
        for _ in range(MASKS):
            size = int(random.uniform(0, LARGEST_MASK) * length)
            start = int(random.integers(length - size + 1))
            window[(slice(None),) * axis + (slice(start, start + size),)] = mean
    return window
