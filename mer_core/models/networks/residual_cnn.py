"""The residual network on mel spectrograms of https://github.com/Moad26/Music-classification.

7x7 stem, four stages of two residual blocks (64, 128, 256, 512 channels), dropout after each block, mean over time and
frequency, a head of two layers. Its shortcut is a 1x1 convolution where the shape changes.
"""

from __future__ import annotations

import torch
from torch import nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; dropout after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        changed = stride != 1 or inputs != outputs
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if changed
            else nn.Identity()
        )
        self.inner = nn.ReLU()
        self.outer = nn.ReLU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, inputs, h, w) -> (b, outputs, h / stride, w / stride)."""
        y = self.inner(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return self.dropout(self.outer(y + self.shortcut(x)))


class ResidualCnn(nn.Module):
    """(b, frames, bands) or (b, channels, frames, bands) -> (b, outputs)."""

    def __init__(
        self,
        outputs: int = 2,
        channels: int = 1,
        widths: tuple[int, ...] = (64, 128, 256, 512),
        dropout: float = 0.5,
    ):
        """`widths` : channels of the stages; the published network has (64, 128, 256, 512)."""
        super().__init__()
        first = widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(channels, first, 7, 2, 3, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.BatchNorm2d(first),
        )
        blocks, inputs = [], first
        for number, width in enumerate(widths):
            blocks += [
                ResidualBlock(inputs, width, 1 if number == 0 else 2, dropout),
                ResidualBlock(width, width, 1, dropout),
            ]
            inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(
            nn.Linear(inputs, inputs // 2), nn.ReLU(), nn.Dropout(0.3), nn.Linear(inputs // 2, outputs)
        )
        self.apply(_initialise)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """(b, widths[-1]): mean over time and frequency of the last stage."""
        x = x.unsqueeze(1) if x.dim() == 3 else x
        return self.pool(self.blocks(self.stem(x))).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (b, outputs), unbounded."""
        return self.head(self.embed(x))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
