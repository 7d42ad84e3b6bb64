"""A network whose input is counted from silence, so that what is silent is 0 and has no relevance."""

from __future__ import annotations

import torch
from torch import nn


class AboveSilence(nn.Module):
    """network(x + silence): takes spectrograms less the value that silence has in them."""

    def __init__(self, network: nn.Module, silence: float):
        """`network` : takes (b, frames, bands); `silence` : the value of silence."""
        super().__init__()
        self.network = network
        self.register_buffer("silence", torch.tensor(silence))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the network returns."""
        return self.network(x + self.silence)
