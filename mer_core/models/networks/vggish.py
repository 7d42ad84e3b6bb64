"""VGGish: a VGG on 0.96 s of log-mel spectrogram with a 128-dimensional embedding, trained on YouTube-8M.

Names of layers and parameters are those of the published PyTorch port, so that its state dict loads strictly. The
embedding is the network's own, after its ReLU, without the whitening and 8-bit rounding made for YouTube-8M.

Reference: S. Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017;
`harritaylor/torchvggish` (Apache-2.0).
"""

from __future__ import annotations

import torch
from torch import nn

FRAMES, BANDS = 96, 64
CHANNELS = (64, 128, 256, 256, 512, 512)
POOLED = (1, 2, 4, 6)  # convolutions that are followed by a pooling


class Vggish(nn.Module):
    """Network from log-mel patches to an embedding.

    channels : of the six convolutions; hidden : width of the two dense layers; dims : of the embedding
    """

    def __init__(self, channels: tuple[int, ...] = CHANNELS, hidden: int = 4096, dims: int = 128):
        super().__init__()
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(zip((1, *channels[:-1]), channels, strict=True), 1):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            if number in POOLED:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        size = channels[-1] * (FRAMES // 16) * (BANDS // 16)
        self.embeddings = nn.Sequential(
            nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, dims), nn.ReLU()
        )

    def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """(b, 1, 96, 64) log-mel -> `embedding` (b, dims)."""
        x = self.features(windows).permute(0, 2, 3, 1)  # the original flattens with channels last
        return {"embedding": self.embeddings(x.flatten(1))}
