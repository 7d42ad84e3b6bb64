"""The head of Music2Emo: MERT embedding, chords and mode to 56 moods and to valence and arousal.

Names of parameters are those of the published checkpoints (there with the prefix `model.`).

Reference: J. Kang & D. Herremans, "Towards unified music emotion recognition across dimensional and categorical
models", arXiv 2502.03979; `AMAAI-Lab/Music2Emotion` (MIT).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mer_core.models.backbones.hub_files import read_checkpoint
from mer_core.models.backbones.weights import fill
from mer_core.models.networks.heads import HeadRegressor

CHORDS = 100  # ids of a track, padded or cut
ROOTS = ATTRIBUTES = 14
EMBEDDING = 4  # of a root, and of an attribute
WIDTH = 2 * EMBEDDING


def positions(length: int, width: int) -> torch.Tensor:
    """Sinusoidal encoding of positions (Vaswani et al. 2017): (length, width), sines at even columns."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle = torch.arange(length)[:, None] * rate
    return torch.stack((angle.sin(), angle.cos()), dim=2).reshape(length, width)


class Music2EmoHead(nn.Module):
    """Head of Music2Emo.

    dims : of the audio embedding (published: MERT's layers 5 and 6, 1536); moods : outputs of the mood branch (56)
    """

    def __init__(self, dims: int = 1536, moods: int = 56):
        super().__init__()
        self.chord_root_embedding = nn.Embedding(ROOTS, EMBEDDING)
        self.chord_attr_embedding = nn.Embedding(ATTRIBUTES, EMBEDDING)
        layer = nn.TransformerEncoderLayer(WIDTH, nhead=WIDTH, dim_feedforward=64, dropout=0.1, batch_first=True)
        self.chord_transformer = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.input_proj = nn.Sequential(nn.Linear(dims + WIDTH + 1, 512), nn.ReLU())
        self.classification_branch = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, moods))
        self.regression_branch = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 2))

    def summary(self, roots: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        """What the chords come to: ids (b, 100) each -> (b, 8), the transformer's output at a class token of zeros.

        Tracks with the same chords, such as none, are worked out once.
        """
        different, place = torch.stack((roots, attributes)).unique(dim=1, return_inverse=True)
        chords = torch.cat((self.chord_root_embedding(different[0]), self.chord_attr_embedding(different[1])), dim=2)
        chords = chords + positions(chords.shape[1], WIDTH).to(chords)
        chords = torch.cat((torch.zeros_like(chords[:, :1]), chords), dim=1)
        return self.chord_transformer(chords)[:, 0][place]

    def forward(
        self, embedding: torch.Tensor, roots: torch.Tensor, attributes: torch.Tensor, minor: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the moods (b, moods), and valence and arousal (b, 2) on the scale it was trained on (1 to 9).

        embedding : (b, dims); roots, attributes : (b, 100) ids of `mer_core.models.chords`; minor : (b, 1), 1 for minor
        """
        hidden = self.input_proj(torch.cat((embedding, self.summary(roots, attributes), minor), dim=1))
        return self.classification_branch(hidden), self.regression_branch(hidden)


def load_head(path: Path) -> Music2EmoHead:
    """The published head of a Lightning checkpoint, in evaluation mode.

    Only the entries under `model.` are weights of the head. UserError where these are not exactly the head's, by name.
    """
    state = read_checkpoint(path, "state_dict")
    head = Music2EmoHead()
    fill(head, {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}, path)
    return head.eval()


def pack(embedding: np.ndarray, roots: np.ndarray, attributes: np.ndarray, minor: np.ndarray) -> np.ndarray:
    """One table of a head's inputs: embedding (n, d), ids (n, 100) twice, mode (n,) -> (n, d + 201) float32."""
    return np.concatenate([embedding, roots, attributes, minor[:, None]], axis=1, dtype=np.float32)


class PackedHead(nn.Module):
    """A head that takes what `pack` makes and gives valence and arousal alone."""

    def __init__(self, head: Music2EmoHead):
        super().__init__()
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, d + 201) -> (b, 2)."""
        return self.both(x)[1]

    def both(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(b, d + 201) -> logits of the moods and (b, 2)."""
        embedding, roots, attributes, minor = x.split((x.shape[1] - 2 * CHORDS - 1, CHORDS, CHORDS, 1), dim=1)
        return self.head(embedding, roots.long(), attributes.long(), minor)


class Music2EmoRegressor(HeadRegressor):
    """A head of this architecture trained on ratings of valence and arousal: X as `pack` makes it, y (n, 2)."""

    def _empty(self) -> nn.Module:
        return PackedHead(Music2EmoHead(self.n_features_in_ - 2 * CHORDS - 1, moods=1))
