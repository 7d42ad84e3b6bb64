"""CNN14 of PANNs: six double convolutions on a log-mel spectrogram, 2048 dimensions, 527 AudioSet classes.

Names of layers and parameters are those of the published checkpoints, so that their state dict loads strictly; the
layers that only compute the spectrogram there (`spectrogram_extractor`, `logmel_extractor`, `spec_augmenter`) are not
part of this network.

Reference: Q. Kong et al., "PANNs: Large-scale pretrained audio neural networks", IEEE/ACM TASLP 28, 2020;
`qiuqiangkong/audioset_tagging_cnn` (MIT).
"""

from __future__ import annotations

import torch
from torch import nn

CHANNELS = (64, 128, 256, 512, 1024, 2048)


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation and ReLU, then mean pooling."""

    def __init__(self, before: int, after: int, pool: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()  # a module each, for hooks that ask for types
        self.pool = nn.AvgPool2d(pool)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, before, t, f) -> (b, after, t // pool, f // pool)."""
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.pool(self.relu2(self.bn2(self.conv2(x))))


class Cnn14(nn.Module):
    """Network from log-mel windows to an embedding and class logits.

    bands : mel bands; channels : of the six blocks, the last is the embedding's size; classes : outputs
    """

    def __init__(self, bands: int = 64, channels: tuple[int, ...] = CHANNELS, classes: int = 527):
        super().__init__()
        self.bn0 = nn.BatchNorm2d(bands)
        for number, (before, after) in enumerate(zip((1, *channels[:-1]), channels, strict=True), 1):
            pool = 1 if number == len(channels) else 2
            setattr(self, f"conv_block{number}", ConvBlock(before, after, pool))
        self.blocks = len(channels)
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        self.relu = nn.ReLU()
        self.fc_audioset = nn.Linear(channels[-1], classes)

    def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """(b, 1, t, bands) log-mel in dB, t >= 32 -> `embedding` (b, d), after its ReLU, and `logits` (b, classes)."""
        x = self.bn0(windows.transpose(1, 3)).transpose(1, 3)
        for number in range(1, self.blocks + 1):
            x = getattr(self, f"conv_block{number}")(x)
        x = x.mean(dim=3)
        embedding = self.relu(self.fc1(x.amax(dim=2) + x.mean(dim=2)))
        return {"embedding": embedding, "logits": self.fc_audioset(embedding)}


def published_part(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those entries of a published state dict that belong to this network, without its fixed spectrogram layers."""
    fixed = ("spectrogram_extractor.", "logmel_extractor.", "spec_augmenter.")
    return {name: value for name, value in state.items() if not name.startswith(fixed)}
