"""A vision transformer on log-mel pictures, that of transformers (Dosovitskiy et al. 2021), small enough to train."""

from __future__ import annotations

import torch
from torch import nn


class SpectrogramViT(nn.Module):
    """(b, 224, 224) frames x bands -> (b, outputs); pictures have the lowest band in the first column."""

    def __init__(self, outputs: int = 2, hidden: int = 96, layers: int = 4, heads: int = 4, patch: int = 16):
        """The published network has hidden 768, 12 layers and 12 heads."""
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        config = ViTConfig(
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            image_size=224,
            patch_size=patch,
            num_channels=1,
            num_labels=outputs,
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.0,
        )
        self.vit = ViTForImageClassification(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits or ratings of each picture."""
        return self.vit(pixel_values=x.unsqueeze(1)).logits
