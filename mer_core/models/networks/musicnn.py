"""musicnn: filters shaped like timbres and like rhythms, then three convolutions over time.

Source: Pons & Serra, "musicnn: Pre-trained convolutional neural networks for music audio tagging" (2019), in the form
of the package `musicnn` 0.1.0.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

TIMBRAL = ((204, (7, 38)), (204, (7, 67)))  # filters, (frames, bands)
TEMPORAL = ((51, (128, 1)), (51, (64, 1)), (51, (32, 1)))
EPSILON = 1e-3  # of every batch norm


class Musicnn(nn.Module):
    """(windows, 187 frames, 96 log-mel bands) -> layers by name.

    `logits` (windows, tags); `embedding` (200, after the last batch norm); `dense` (the same layer before its ReLU);
    `max_pool` and `mean_pool` (753 each: 561 channels of the front filters and 3 x 64 of the convolutions, over time);
    `pooled` (1506: maximum and mean of each channel side by side).
    """

    def __init__(self, tags: int = 50, width: int = 64, hidden: int = 200) -> None:
        super().__init__()
        front = TIMBRAL + TEMPORAL
        channels = sum(count for count, _ in front)
        pooled = 2 * (channels + 3 * width)
        self.input_norm = nn.BatchNorm2d(1, eps=EPSILON)
        self.front = nn.ModuleList(nn.Conv2d(1, count, size) for count, size in front)
        self.front_norm = nn.ModuleList(nn.BatchNorm2d(count, eps=EPSILON) for count, _ in front)
        self.middle = nn.ModuleList(nn.Conv1d(inputs, width, 7, padding=3) for inputs in (channels, width, width))
        self.middle_norm = nn.ModuleList(nn.BatchNorm1d(width, eps=EPSILON) for _ in range(3))
        self.pooled_norm = nn.BatchNorm1d(pooled, eps=EPSILON)
        self.dense = nn.Linear(pooled, hidden)
        self.dense_norm = nn.BatchNorm1d(hidden, eps=EPSILON)
        self.tags = nn.Linear(hidden, tags)
        self.relu = nn.ReLU()

    def filters(self, windows: torch.Tensor) -> torch.Tensor:
        """Front filters, each at its strongest over frequency: (windows, 561, frames)."""
        image = self.input_norm(windows.unsqueeze(1))
        outputs = []
        for convolution, norm, (_, (frames, _)) in zip(self.front, self.front_norm, TIMBRAL + TEMPORAL, strict=True):
            before = (frames - 1) // 2  # an even filter looks one frame further ahead than back
            padded = F.pad(image, (0, 0, before, frames - 1 - before))
            outputs.append(norm(self.relu(convolution(padded))).amax(3))
        return torch.cat(outputs, 1)

    def summary(self, windows: torch.Tensor) -> torch.Tensor:
        """Front filters and the three convolutions, the last two with residuals: (windows, 753, frames)."""
        stages = [self.filters(windows)]
        for convolution, norm in zip(self.middle, self.middle_norm, strict=True):
            output = norm(self.relu(convolution(stages[-1])))
            stages.append(output if len(stages) == 1 else output + stages[-1])
        return torch.cat(stages, 1)

    def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every layer by name."""
        summary = self.summary(windows)
        max_pool, mean_pool = summary.amax(2), summary.mean(2)
        pooled = torch.stack([max_pool, mean_pool], 2).flatten(1)
        dense = self.dense(self.pooled_norm(pooled))
        embedding = self.dense_norm(self.relu(dense))
        return {
            "logits": self.tags(embedding),
            "embedding": embedding,
            "dense": dense,
            "pooled": pooled,
            "max_pool": max_pool,
            "mean_pool": mean_pool,
        }
