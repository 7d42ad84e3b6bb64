"""MobileNetV3 for spectrograms, as in EfficientAT.

Sources: Howard et al., "Searching for MobileNetV3" (2019), tables 1 and 2; Schmid, Koutini & Widmer, "Efficient
large-scale audio tagging via transformer-to-CNN knowledge distillation" (2023), with its code `fschmid56/EfficientAT`,
whose names of modules are kept so that its weights load by name.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn


class Block(NamedTuple):
    """One row of the paper's table for "large", before the width is scaled."""

    kernel: int
    expanded: int
    output: int
    squeezes: bool
    hard_swish: bool
    stride: int


BLOCKS = (
    Block(3, 16, 16, False, False, 1),
    Block(3, 64, 24, False, False, 2),
    Block(3, 72, 24, False, False, 1),
    Block(5, 72, 40, True, False, 2),
    Block(5, 120, 40, True, False, 1),
    Block(5, 120, 40, True, False, 1),
    Block(3, 240, 80, False, True, 2),
    Block(3, 200, 80, False, True, 1),
    Block(3, 184, 80, False, True, 1),
    Block(3, 184, 80, False, True, 1),
    Block(3, 480, 112, True, True, 1),
    Block(3, 672, 112, True, True, 1),
    Block(5, 672, 160, True, True, 2),
    Block(5, 960, 160, True, True, 1),
    Block(5, 960, 160, True, True, 1),
)
FIRST, LAST = 16, 1280  # channels before the first block, and of the hidden layer of the classifier
EPSILON = 1e-3


def channels(count: float) -> int:
    """The multiple of 8 nearest to a number of channels, never more than a tenth below it."""
    rounded = max(8, int(count + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * count else rounded


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, activation: type[nn.Module] | None = None
) -> nn.Sequential:
    """Convolution without bias, batch norm, activation."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=EPSILON),
    ]
    return nn.Sequential(*layers, *([] if activation is None else [activation()]))


class ChannelGate(nn.Module):
    """Squeeze and excitation: a factor in [0, 1] for each channel, from the channels' means."""

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = channels(width // 4)
        self.fc1 = nn.Linear(width, squeezed)
        self.fc2 = nn.Linear(squeezed, width)
        self.relu = nn.ReLU()
        self.sigmoid = nn.Sigmoid()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Image with each channel scaled."""
        factors = self.sigmoid(self.fc2(self.relu(self.fc1(image.mean((2, 3))))))
        return image * factors[:, :, None, None]


class Gates(nn.Module):
    """The published network may gate other axes too; these weights gate channels alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conc_se_layers = nn.ModuleList([ChannelGate(width)])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Image with each channel scaled."""
        return self.conc_se_layers[0](image)


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, gate, narrow; added to its input where the shapes agree."""

    def __init__(self, inputs: int, row: Block, width: float) -> None:
        super().__init__()
        expanded, outputs = channels(row.expanded * width), channels(row.output * width)
        activation = nn.Hardswish if row.hard_swish else nn.ReLU
        layers = [] if expanded == inputs else [convolution(inputs, expanded, 1, activation=activation)]
        layers.append(convolution(expanded, expanded, row.kernel, row.stride, expanded, activation))
        if row.squeezes:
            layers.append(Gates(expanded))
        layers.append(convolution(expanded, outputs, 1))
        self.block = nn.Sequential(*layers)
        self.residual = row.stride == 1 and inputs == outputs

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Filtered image."""
        output = self.block(image)
        return output + image if self.residual else output


class MobileNet(nn.Module):
    """(windows, 1, mel bands, frames) -> layers by name.

    `logits` (windows, classes); `embedding` (384 at width 0.4: the last convolution, mean over time and frequency);
    `dense` (512 at width 0.4: hidden layer of the classifier before its activation).
    """

    def __init__(self, classes: int = 527, width: float = 0.4) -> None:
        super().__init__()
        inputs = channels(FIRST * width)
        layers = [convolution(1, inputs, 3, 2, activation=nn.Hardswish)]
        for row in BLOCKS:
            layers.append(InvertedResidual(inputs, row, width))
            inputs = channels(row.output * width)
        last = 6 * inputs
        self.features = nn.Sequential(*layers, convolution(inputs, last, 1, activation=nn.Hardswish))
        hidden = channels(LAST * width)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(last, hidden),
            nn.Hardswish(),
            nn.Dropout(0.2),
            nn.Linear(hidden, classes),
        )

    def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every layer by name."""
        embedding = self.classifier[:2](self.features(windows))
        dense = self.classifier[2](embedding)
        return {"logits": self.classifier[3:](dense), "embedding": embedding, "dense": dense}
