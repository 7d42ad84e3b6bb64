"""An opened backbone: samples in, windows, embeddings and tags out."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mer_core.errors import UserError
from mer_core.models.backbones.backbone import Backbone

if TYPE_CHECKING:
    import torch

BATCH = 2  # windows at once: activations of more fall out of the cache, and the networks here take twice as long
SHORTEST_S = 1.0  # below this there is nothing a network of seconds could have learned to hear


@dataclass(frozen=True)
class Listener:
    """A network with its front end.

    Attributes
    ----------
    backbone : what it is
    network : torch module in evaluation mode; windows -> {"logits": ..., layer: ...}
    transform : samples (n,) -> windows (w, ...), for clips of at least one window
    weights : what a run records of the weights: name, source, sha256, licence; or {"source": "random"}
    threads : batches of windows that are heard at once, each on its own core
    """

    backbone: Backbone
    network: torch.nn.Module
    transform: Callable[[np.ndarray], torch.Tensor]
    weights: dict
    threads: int = 1

    def front_end(self, samples: np.ndarray) -> torch.Tensor:
        """Windows (w, ...) of a clip, w >= 1; what is left after the last whole window is not heard.

        samples : (n,) float32, mono, at the backbone's rate

        Raises
        ------
        UserError : a clip below 1 s
        ValueError : samples of another shape
        """
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 1:
            raise ValueError(f"mono samples (n,) expected, got an array of shape {samples.shape}")
        backbone = self.backbone
        if len(samples) < SHORTEST_S * backbone.rate:
            seconds = len(samples) / backbone.rate
            raise UserError(
                f"clip of {seconds:.2f} s; {backbone.name} needs at least {SHORTEST_S:g} s: use a longer one"
            )
        return self.transform(filled(samples, backbone))

    def note(self, samples: np.ndarray) -> str | None:
        """What was done to a clip shorter than a window; None for others."""
        backbone, seconds = self.backbone, len(samples) / self.backbone.rate
        if len(samples) >= window_samples(backbone):
            return None
        done = {"repeat": "repeated to fill it", "zeros": "filled up with silence", "whole": "heard as it is"}
        done |= {"repeat-zeros": "repeated, then filled up with silence", "own": "filled up with constant frames"}
        return (
            f"{seconds:.1f} s, shorter than {backbone.name}'s window of {backbone.window_s:g} s: {done[backbone.short]}"
        )

    def listen(self, windows: torch.Tensor) -> dict[str, np.ndarray]:
        """Everything the network gives, from one pass: its layers (w, d) and, where it has tags, `logits` (w, tags)."""
        import torch

        def heard(batch: torch.Tensor) -> dict[str, torch.Tensor]:
            with torch.inference_mode():
                return {name: output.float() for name, output in self.network(batch).items()}

        with ThreadPoolExecutor(self.threads) as pool:
            parts = list(pool.map(heard, windows.split(BATCH)))
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}

    def embed(self, windows: torch.Tensor) -> dict[str, np.ndarray]:
        """Layers (w, d), float32, by name; the first of `backbone.layers` is the embedding."""
        outputs = self.listen(windows)
        return {name: outputs[name] for name in self.backbone.layers}

    def tag_probabilities(self, windows: torch.Tensor) -> np.ndarray | None:
        """Probability of each tag in each window (w, tags), in [0, 1]; None where the backbone has no tags."""
        return probabilities(self.listen(windows)["logits"]) if self.backbone.tags else None

    def window_times(self, n_windows: int) -> np.ndarray:
        """Centres of the first windows (w,), s."""
        return np.arange(n_windows) * self.backbone.hop_s + self.backbone.window_s / 2


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Logistic function: logits -> probabilities in [0, 1]; every tag is a question of its own."""
    from scipy.special import expit

    return expit(logits)


def window_samples(backbone: Backbone) -> int:
    """Samples in a window."""
    return round(backbone.window_s * backbone.rate)


def filled(samples: np.ndarray, backbone: Backbone) -> np.ndarray:
    """A clip at least one window long, as `backbone.short` says; longer ones unchanged."""
    length = window_samples(backbone)
    if len(samples) >= length or backbone.short not in ("repeat", "zeros"):
        return samples
    if backbone.short == "repeat":
        return np.tile(samples, math.ceil(length / len(samples)))[:length]
    return np.pad(samples, (0, length - len(samples)))
