"""The VGG-like network of Chowdhury et al. 2019 (arXiv 1907.03572), from log spectrograms to mid-level and emotion.

Nine convolutions (batch norm and ReLU after each), two max-pools, mean over time and frequency: 256 values. On them
stand one linear layer (`direct`), or the bottleneck of named qualities and a linear layer from these to the emotions.
"""

from __future__ import annotations

import torch
from torch import nn

LAYERS = ((64, 5, 2, 2), (64, 3, 1, 1), "pool", (128, 3, 1, 1), (128, 3, 1, 1), "pool", (256, 3, 1, 1), (256, 3, 1, 1))
LAYERS += ((384, 3, 1, 1), (512, 3, 1, 1), (256, 3, 1, 0))  # (channels, kernel, stride, padding)


class MidlevelVgg(nn.Module):
    """(b, frames, bands) -> (b, outputs), or with qualities (b, qualities + outputs): qualities first, then emotions.

    qualities : size of the bottleneck, 0 for none; the emotions are then a linear function of it and of nothing else
    width : factor on all channels (1 is the published network)

    `half` makes the convolutions work in bfloat16, five times as fast on processors with matrix units; set it while
    training, and take it back before predictions and explanations.
    """

    def __init__(self, outputs: int, qualities: int = 0, width: float = 1.0, dropout: float = 0.3):
        super().__init__()
        layers, inputs = [], 1
        for layer in LAYERS:
            if layer == "pool":
                layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
                continue
            channels, kernel, stride, padding = layer
            channels = max(1, round(channels * width))
            layers += [nn.Conv2d(inputs, channels, kernel, stride, padding), nn.BatchNorm2d(channels), nn.ReLU()]
            inputs = channels
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.qualities = nn.Linear(inputs, qualities) if qualities else None
        self.emotions = nn.Linear(qualities or inputs, outputs)
        self.half = False

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """(b, 256 x width) of spectrograms (b, frames, bands)."""
        if not self.half:
            return self.pool(self.features(x.unsqueeze(1))).flatten(1)
        with torch.autocast(x.device.type, torch.bfloat16):
            found = self.features(x.unsqueeze(1).contiguous(memory_format=torch.channels_last))
        return self.pool(found.float()).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Emotions, behind the qualities where there is a bottleneck."""
        embedding = self.embed(x)
        if self.qualities is None:
            return self.emotions(embedding)
        qualities = self.qualities(embedding)
        return torch.cat([qualities, self.emotions(qualities)], dim=1)


def fast_half() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware (AMX)."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
