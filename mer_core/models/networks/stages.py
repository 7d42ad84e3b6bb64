"""The networks that are fine-tuned, in stages: musicnn, the residual CNN, AST, image networks on mel pictures.

Every first stage takes windows (w, frames, bands) as the style of the same name gives them, and does the rest of the
front end, so that spectrograms can be kept in half precision.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mer_core.models.networks.musicnn import Musicnn
from mer_core.models.networks.residual_cnn import ResidualCnn
from mer_core.models.networks.staged import Staged

DYNAMIC_RANGE = 80.0  # dB below the loudest that are kept
PICTURE = 224
HEAD_DROPOUT = 0.1


class MusicnnFront(nn.Module):
    """Mel power, rounded to half precision as published -> moments of the front filters, and their map over time."""

    def __init__(self, musicnn: Musicnn):
        super().__init__()
        self.input_norm, self.front, self.front_norm = musicnn.input_norm, musicnn.front, musicnn.front_norm
        self.relu = musicnn.relu

    def forward(self, windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(w, 187, 96) -> (w, 561, 2) maximum and mean over time, (w, 561, 187)."""
        maps = Musicnn.filters(self, torch.log10(10000 * windows + 1))
        return moments(maps), maps


class MusicnnMiddle(nn.Module):
    """One convolution over time; with a residual, but for the first."""

    def __init__(self, convolution: nn.Module, norm: nn.Module, residual: bool):
        super().__init__()
        self.convolution, self.norm, self.residual = convolution, norm, residual
        self.relu = nn.ReLU()

    def forward(self, state: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Moments so far (w, c, 2) and the map (w, channels, 187) -> moments (w, c + 64, 2), map (w, 64, 187)."""
        before, maps = state
        output = self.norm(self.relu(self.convolution(maps)))
        output = output + maps if self.residual else output
        return torch.cat([before, moments(output)], 1), output


class MusicnnDense(nn.Module):
    """Moments of all channels -> the dense layer (w, 200) before its ReLU, which is the layer `dense` of musicnn."""

    def __init__(self, musicnn: Musicnn):
        super().__init__()
        self.norm, self.dense = musicnn.pooled_norm, musicnn.dense

    def forward(self, state: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """The map is not needed any more."""
        return self.dense(self.norm(state[0].flatten(1)))


def moments(maps: torch.Tensor) -> torch.Tensor:
    """Maximum and mean over time of (w, channels, frames): (w, channels, 2)."""
    return torch.stack([maps.amax(2), maps.mean(2)], 2)


class LinearHead(nn.Module):
    """Standardised embedding -> outputs; starts at zero, which is the mean rating."""

    def __init__(self, dims: int, outputs: int, dropout: float = 0.0):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dims))
        self.register_buffer("spread", torch.ones(dims))
        self.dropout, self.out = nn.Dropout(dropout), nn.Linear(dims, outputs)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(w, dims) -> (w, outputs)."""
        return self.out(self.dropout((x - self.mean) / self.spread))

    @torch.no_grad()
    def standardise(self, mean: np.ndarray, spread: np.ndarray) -> None:
        """Take over the mean and spread (dims,) of embeddings of windows."""
        self.mean.copy_(torch.from_numpy(mean))
        self.spread.copy_(torch.from_numpy(spread))

    @torch.no_grad()
    def solve(self, weights: np.ndarray, bias: np.ndarray) -> None:
        """Take over a solution for standardised embeddings: weights (dims, outputs), bias (outputs,)."""
        self.out.weight.copy_(torch.from_numpy(weights.T.copy()))
        self.out.bias.copy_(torch.from_numpy(bias))


def staged_musicnn(musicnn: Musicnn, outputs: int) -> Staged:
    """Front filters, three convolutions over time, the dense layer, and a linear head in place of the tags."""
    middle = {
        f"middle-{i + 1}": MusicnnMiddle(musicnn.middle[i], musicnn.middle_norm[i], residual=i > 0) for i in range(3)
    }
    stages = {"front": MusicnnFront(musicnn), **middle, "dense": MusicnnDense(musicnn)}
    return Staged(stages | {"head": LinearHead(musicnn.dense.out_features, outputs, HEAD_DROPOUT)})


class Pooled(nn.Module):
    """Mean over time and frequency."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(w, c, h, w') -> (w, c)."""
        return x.mean((2, 3))


class AsPicture(nn.Module):
    """(w, frames, bands) -> (w, 1, frames, bands), repeated for further channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One picture a window."""
        return x.unsqueeze(1).expand(-1, self.channels, -1, -1)


def staged_residual(network: ResidualCnn, channels: int = 1) -> Staged:
    """Stem, pairs of residual blocks, head; see `ResidualCnn`."""
    pairs = {
        f"blocks-{i // 2 + 1}": nn.Sequential(*network.blocks[i : i + 2]) for i in range(0, len(network.blocks), 2)
    }
    stages = {"stem": nn.Sequential(AsPicture(channels), network.stem), **pairs}
    return Staged(stages | {"head": nn.Sequential(Pooled(), network.head)})


class Normalised(nn.Module):
    """(x - mean) / spread with numbers that are stored with the network."""

    def __init__(self, mean: float, spread: float):
        super().__init__()
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("spread", torch.tensor(float(spread)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        return (x - self.mean) / self.spread


class AstLayer(nn.Module):
    """One layer of the transformer."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(w, tokens, d) -> the same."""
        output = self.layer(x, None)
        return output[0] if isinstance(output, tuple) else output


class MeanTokens(nn.Module):
    """Layer norm, mean over all tokens (class and distillation included), 768-128-ReLU-dropout-outputs."""

    def __init__(self, norm: nn.Module, dims: int, outputs: int):
        super().__init__()
        self.norm = norm
        self.mlp = nn.Sequential(nn.Linear(dims, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(w, tokens, d) -> (w, outputs)."""
        return self.mlp(self.norm(x).mean(1))


def staged_ast(model: nn.Module, outputs: int, normal: tuple[float, float] | None) -> Staged:
    """Patches, layers, and the head of `rehan-hehe/Music-Emotion-Recognition-AST-DEAM-`.

    model : an `ASTModel` of transformers, which takes time before frequency and exchanges them itself
    normal : (mean, spread) of its input; None for those of the training tracks, which are filled in later
    """
    layers = {f"layer-{i + 1}": AstLayer(layer) for i, layer in enumerate(model.layers)}
    first = Normalised(*(normal or (0.0, 1.0)))
    stages = {"patches": nn.Sequential(first, model.embeddings), **layers}
    staged = Staged(stages | {"head": MeanTokens(model.layernorm, model.config.hidden_size, outputs)})
    staged.to_normalise = "stages.patches.0" if normal is None else None
    return staged


class PictureAdapter(nn.Module):
    """Mel window in dB -> three colours of 224 x 224: 80 dB below its maximum, normalised, 1x1 convolution, resized.

    normal : (mean, spread) in dB, the same for all, or None for each window's own
    """

    def __init__(self, normal: tuple[float, float] | None):
        super().__init__()
        self.normal = normal
        self.colours = nn.Conv2d(1, 3, 1, bias=False)
        nn.init.ones_(self.colours.weight)  # the same picture in all three

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """(w, frames, bands) -> (w, 3, 224, 224), bands upwards."""
        x = (windows - windows.amax((1, 2), keepdim=True)).clamp(min=-DYNAMIC_RANGE).transpose(1, 2)
        if self.normal is None:
            x = (x - x.mean((1, 2), keepdim=True)) / x.std((1, 2), keepdim=True).clamp(min=1e-6)
        else:
            x = (x - self.normal[0]) / self.normal[1]
        size = (PICTURE, PICTURE)
        return nn.functional.interpolate(self.colours(x[:, None]), size, mode="bilinear", align_corners=False)


def staged_picture(model: nn.Module, outputs: int, normal: tuple[float, float] | None) -> Staged:
    """Adapter, blocks of an image network, and the head 256-ReLU-dropout-128-ReLU-dropout-tanh of earlier work on DEAM.

    model : `EfficientNetModel` or `MobileNetV2Model` of transformers
    """
    if hasattr(model, "encoder"):
        encoder = model.encoder
        first, blocks = model.embeddings, encoder.blocks
        last, dims = nn.Sequential(encoder.top_conv, encoder.top_bn, encoder.top_activation), model.config.hidden_dim
    else:
        first, blocks, last = model.conv_stem, model.layer, model.conv_1x1
        dims = last.convolution.out_channels
    stages = {"adapter": PictureAdapter(normal), "stem": first}
    stages |= {f"block-{i + 1}": block for i, block in enumerate(blocks)}
    head = nn.Sequential(
        Pooled(),
        *(nn.Linear(dims, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.3)),
        *(nn.Linear(128, outputs), nn.Tanh()),
    )
    return Staged(stages | {"top": last, "head": head}, always=("adapter",))
