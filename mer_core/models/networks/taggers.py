"""Three music taggers trained side by side on three collections: musicnn, FCN and CRNN.

Source: Won, Ferraro, Bogdanov & Serra, "Evaluation of CNN-based automatic music tagging models" (2020), with its code
`minzwon/sota-music-tagging-models`, whose names of modules are kept so that its weights load by name. All take
(windows, 96 mel bands, frames) in dB.
"""

from __future__ import annotations

import torch
from torch import nn

BANDS = 96


class Stage(nn.Module):
    """Convolution, batch norm, ReLU, and a maximum over blocks of bands and frames."""

    def __init__(self, inputs: int, outputs: int, pool: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.mp = nn.MaxPool2d(pool)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Filtered and pooled image."""
        return self.mp(self.relu(self.bn(self.conv(image))))


class Stage1d(nn.Module):
    """Convolution over time, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, frames: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, frames, padding=frames // 2)
        self.bn = nn.BatchNorm1d(outputs)
        self.relu = nn.ReLU()

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        """Filtered sequence."""
        return self.relu(self.bn(self.conv(sequence)))


class Timbral(nn.Module):
    """Filters over many bands and few frames, each at its strongest over frequency."""

    def __init__(self, outputs: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, outputs, size, padding=(0, size[1] // 2))
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(windows, filters, frames)."""
        return self.relu(self.bn(self.conv(image))).amax(2)


class Temporal(Stage1d):
    """Filters over many frames of the mean over frequency."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(windows, filters, frames)."""
        return super().forward(image.mean(2))


class TaggerMusicnn(nn.Module):
    """musicnn with batch norm before each ReLU; windows of 3 s.

    Layers: `embedding` (200), `dense` (200, before its ReLU), `pooled` (1506: 753 maxima over time, then 753 means).
    """

    def __init__(self, tags: int = 50) -> None:
        super().__init__()
        timbral = [Timbral(204, (int(share * BANDS), 7)) for share in (0.7, 0.4)]
        temporal = [Temporal(1, 51, frames) for frames in (129, 65, 33)]
        self.spec_bn = nn.BatchNorm2d(1)
        self.layers = nn.ModuleList([*timbral, *temporal])
        self.layer1 = Stage1d(561, 64, 7)
        self.layer2 = Stage1d(64, 64, 7)
        self.layer3 = Stage1d(64, 64, 7)
        self.dense1 = nn.Linear(1506, 200)
        self.bn = nn.BatchNorm1d(200)
        self.relu = nn.ReLU()
        self.dense2 = nn.Linear(200, tags)

    def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every layer by name."""
        image = self.spec_bn(windows.unsqueeze(1))
        front = torch.cat([layer(image) for layer in self.layers], 1)
        first = self.layer1(front)
        second = self.layer2(first) + first
        third = self.layer3(second) + second
        summary = torch.cat([front, first, second, third], 1)
        pooled = torch.cat([summary.amax(2), summary.mean(2)], 1)
        dense = self.bn(self.dense1(pooled))
        embedding = self.relu(dense)
        return {"logits": self.dense2(embedding), "embedding": embedding, "dense": dense, "pooled": pooled}


class TaggerFcn(nn.Module):
    """Convolutions alone (Choi et al. 2016); windows of 29 s.

    Layers: `embedding` (64), `middle` (128: fourth stage, mean over time).
    """

    def __init__(self, tags: int = 50) -> None:
        super().__init__()
        self.spec_bn = nn.BatchNorm2d(1)
        self.layer1 = Stage(1, 64, (2, 4))
        self.layer2 = Stage(64, 128, (2, 4))
        self.layer3 = Stage(128, 128, (2, 4))
        self.layer4 = Stage(128, 128, (3, 5))
        self.layer5 = Stage(128, 64, (4, 4))
        self.dense = nn.Linear(64, tags)

    def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every layer by name."""
        image = self.spec_bn(windows.unsqueeze(1))
        middle = self.layer4(self.layer3(self.layer2(self.layer1(image))))
        embedding = self.layer5(middle).flatten(1)
        return {"logits": self.dense(embedding), "embedding": embedding, "middle": middle.mean((2, 3))}


class TaggerCrnn(nn.Module):
    """Convolutions, then a recurrent network over time (Choi et al. 2017); windows of 29 s.

    Layers: `embedding` (32: state at the end), `middle` (128: last convolution, mean over time).
    """

    def __init__(self, tags: int = 50) -> None:
        super().__init__()
        self.spec_bn = nn.BatchNorm2d(1)
        self.layer1 = Stage(1, 64, (2, 2))
        self.layer2 = Stage(64, 128, (3, 3))
        self.layer3 = Stage(128, 128, (4, 4))
        self.layer4 = Stage(128, 128, (4, 4))
        self.layer5 = nn.GRU(128, 32, 2, batch_first=True)
        self.dense = nn.Linear(32, tags)

    def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every layer by name."""
        image = self.spec_bn(windows.unsqueeze(1))
        sequence = self.layer4(self.layer3(self.layer2(self.layer1(image)))).squeeze(2)
        states, _ = self.layer5(sequence.transpose(1, 2))
        embedding = states[:, -1]
        return {"logits": self.dense(embedding), "embedding": embedding, "middle": sequence.mean(2)}
