"""A small vision transformer on log-mel pictures: that of transformers (Dosovitskiy et al. 2021) behind convolutions.

From patches cut straight out of a thousand pictures it learns next to nothing; four convolutions that halve the picture
make the same tokens learnable (T. Xiao et al., "Early convolutions help transformers see better", NeurIPS 2021).
"""

from __future__ import annotations

import torch
from torch import nn


class SpectrogramViT(nn.Module):
    """(b, 224, 224) frames x bands -> (b, outputs); pictures have the lowest band in the first column.

    A token stands for 16 frames x 16 bands, and what lies around them.
    """

    def __init__(
        self,
        outputs: int = 2,
        hidden: int = 96,
        layers: int = 3,
        heads: int = 4,
        stem: tuple[int, ...] = (16, 32, 64, 64),
    ):
        """`stem` : channels of the convolutions; the published network has none, hidden 768, 12 layers and 12 heads."""
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        parts: list[nn.Module] = [nn.BatchNorm2d(1)]
        for before, after in zip((1, *stem[:-1]), stem, strict=True):
            parts += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.stem = nn.Sequential(*parts)
        config = ViTConfig(
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=2 * hidden,
            image_size=224 // 2 ** len(stem),
            patch_size=1,
            num_channels=stem[-1],
            num_labels=outputs,
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.0,
        )
        self.vit = ViTForImageClassification(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits or ratings of each picture."""
        return self.vit(pixel_values=self.stem(x.unsqueeze(1))).logits
