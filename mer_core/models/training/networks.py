"""What can be fine-tuned, by name: how it is built, what it is given, and how it is trained where nothing else is said.

The residual CNN starts from nothing; musicnn from the weights in its package; AST and the image networks from files
that the user brings, or from random weights where these are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mer_core.errors import UserError
from mer_core.models.backbones import find_backbone, open_backbone
from mer_core.models.backbones.hub_front_ends import MEL_STYLES
from mer_core.models.training.front_ends import FRONT_ENDS
from mer_core.models.training.spectrograms import MelStyle

if TYPE_CHECKING:
    from mer_core.models.networks.staged import Staged

PUBLISHED_WIDTH, SMALL_WIDTH = 64, 16  # channels of the residual CNN's first stage: on an accelerator, on a processor
HOP = 512  # samples, of the residual CNN


@dataclass(frozen=True)
class Shape:
    """Of the residual CNN: mel bands, Fourier window, longest window in ms, rate in Hz, input channels, width."""

    n_mels: int = 128
    n_fft: int = 2048
    max_ms: int = 30000
    sample_rate: int = 22050
    channels: int = 1
    width: int = SMALL_WIDTH


@dataclass(frozen=True)
class Trainable:
    """A network that can be fine-tuned.

    build : (outputs, weights, shape) -> (Staged, record of the weights or None)
    style : of its spectrograms; None for the residual CNN, whose style follows from its shape
    unfreeze : schedule of its training; per_track : windows drawn of each track; learning_rate of the head
    batch_size : tracks; augment : chance that a drawn window is shifted and masked
    bounded : outputs are in -1..1, for the ends of the rating scale; pretrained : it starts from weights
    """

    build: Callable[[int, str | None, Shape], tuple[Staged, dict | None]]
    style: object | None
    unfreeze: str
    learning_rate: float
    batch_size: int = 16
    per_track: int = 1
    augment: float = 0.0
    bounded: bool = False
    pretrained: bool = True


def find_network(name: str) -> Trainable:
    """The entry of that name; UserError when there is none."""
    if name not in NETWORKS:
        raise UserError(f"--network {name} is unknown; choose from {', '.join(NETWORKS)}")
    return NETWORKS[name]


def style_of(name: str, shape: Shape, longest_s: float | None = None) -> object:
    """The style of a network's spectrograms; the residual CNN's window is no longer than the longest track."""
    if (style := find_network(name).style) is not None:
        return style
    seconds = shape.max_ms / 1000 if longest_s is None else min(shape.max_ms / 1000, longest_s)
    return MelStyle(
        "residual-cnn", shape.sample_rate, shape.n_fft, HOP, shape.n_mels, 0, shape.sample_rate / 2, seconds
    )


def _residual(outputs: int, weights: str | None, shape: Shape) -> tuple:
    from mer_core.models.networks.residual_cnn import ResidualCnn
    from mer_core.models.networks.stages import staged_residual

    widths = tuple(shape.width * 2**k for k in range(4))
    dropout = 0.5 if shape.width >= PUBLISHED_WIDTH else 0.1  # small networks have nothing to spare
    return staged_residual(ResidualCnn(outputs, shape.channels, widths, dropout), shape.channels), None


def _opened(name: str, weights: str | None) -> tuple:
    """A backbone's network and what a run records of its weights."""
    listener = open_backbone(name, weights)
    return listener.network.requires_grad_(True), listener.weights | {"saw": list(find_backbone(name).saw)}


def _musicnn(name: str) -> Callable:
    def build(outputs: int, weights: str | None, shape: Shape) -> tuple:
        from mer_core.models.networks.stages import staged_musicnn

        network, record = _opened(name, weights)
        return staged_musicnn(network, outputs), record

    return build


def _ast(normal: tuple[float, float] | None) -> Callable:
    def build(outputs: int, weights: str | None, shape: Shape) -> tuple:
        from mer_core.models.networks.stages import staged_ast

        network, record = _opened("ast", weights)
        return staged_ast(network.model.audio_spectrogram_transformer, outputs, normal), record

    return build


def _picture(network: str, style: str) -> Callable:
    def build(outputs: int, weights: str | None, shape: Shape) -> tuple:
        from mer_core.models.networks.stages import staged_picture

        name = f"{network}-{style}"
        opened, record = _opened(name, weights)
        return staged_picture(opened.model, outputs, MEL_STYLES[style].normal), record

    return build


AST_NORMAL = (-4.2677393, 2 * 4.5689974)  # AudioSet's mean and twice its spread, as published
NETWORKS: dict[str, Trainable] = {
    "residual-cnn": Trainable(_residual, None, "all:50", 5e-4, 32, augment=0.8, pretrained=False),
    **{
        f"musicnn-{corpus}": Trainable(
            _musicnn(f"musicnn-{corpus}"), FRONT_ENDS["musicnn"], "head,last-2:15", 1e-4, 16, per_track=4
        )
        for corpus in ("msd", "mtt")
    },
    "ast": Trainable(_ast(AST_NORMAL), FRONT_ENDS["ast"], "head:3,last-2:5,all:7", 1e-4),
    "ast-44k": Trainable(_ast(None), FRONT_ENDS["ast-44k"], "head:3,last-2:5,all:7", 1e-4),
    **{
        f"{network}-{style}": Trainable(
            _picture(network, style), FRONT_ENDS[f"mel-{style}"], "head:30,last-2:20", 1e-4, 32, bounded=True
        )
        for network in ("efficientnet", "mobilenet")
        for style in MEL_STYLES
    },
}
