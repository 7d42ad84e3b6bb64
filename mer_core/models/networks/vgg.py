"""The plain counterpart of musicnn: five 3 x 3 convolutions with pooling, then one linear layer.

Source: the networks `MSD_vgg` and `MTT_vgg` of the package `musicnn` 0.1.0 (Pons & Serra 2019).
"""

from __future__ import annotations

import torch
from torch import nn

POOLS = (((4, 1), 2), ((2, 2), 2), ((2, 2), 2), ((2, 2), 2), ((4, 4), 4))  # size (frames, bands), stride
EPSILON = 1e-3


class Vgg(nn.Module):
    """(windows, 187 frames, 96 log-mel bands) -> layers by name.

    `logits` (windows, tags); `embedding` (256: the last pooling, 2 moments x 128 channels, by moment); `pool3` and
    `pool4` (128 each: mean over time and frequency).
    """

    def __init__(self, tags: int = 50, width: int = 128) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm2d(1, eps=EPSILON)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, width, 3, padding=1) for inputs in (1, width, width, width, width)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, eps=EPSILON) for _ in POOLS)
        self.pools = nn.ModuleList(nn.MaxPool2d(size, stride) for size, stride in POOLS)
        self.tags = nn.Linear(2 * width, tags)
        self.relu = nn.ReLU()

    def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every layer by name."""
        image = self.input_norm(windows.unsqueeze(1))
        pooled = []
        for convolution, norm, pool in zip(self.convolutions, self.norms, self.pools, strict=True):
            image = pool(norm(self.relu(convolution(image))))
            pooled.append(image)
        embedding = image.permute(0, 2, 3, 1).flatten(1)  # channels last, as the linear layer was trained
        return {
            "logits": self.tags(embedding),
            "embedding": embedding,
            "pool3": pooled[2].mean((2, 3)),
            "pool4": pooled[3].mean((2, 3)),
        }
