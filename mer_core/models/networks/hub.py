"""Models of `transformers` as listeners: windows in, layers by name out.

The wrapped model is `model`. Each class takes windows as the front end of its family makes them.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

AT_ONCE = 30 * 24000  # samples in one pass of MERT, whose first layer alone makes 100 numbers of each
MERT_LAYERS = (6, 7)  # of the hidden states, 0 being the input of the first layer: "layers 5 and 6" counted without it


class AstLayers(nn.Module):
    """Audio Spectrogram Transformer with its AudioSet classifier."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """(b, 1024 frames, 128 bands) -> `embedding`, mean of class and distillation token; `mean` of all tokens."""
        tokens = self.model.audio_spectrogram_transformer(windows)
        embedding = tokens.pooler_output
        return {
            "embedding": embedding,
            "mean": tokens.last_hidden_state.mean(dim=1),
            "logits": self.model.classifier(embedding),
        }


class ClapLayers(nn.Module):
    """Audio branch of CLAP."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """(b, 1, 1001 frames, 64 bands) -> `embedding` in the space shared with text, `pooled` before the projection.

        `embedding` is not brought to length 1, which comparisons by cosine do themselves.
        """
        pooled = self.model.audio_model(input_features=windows).pooler_output
        return {"embedding": self.model.audio_projection(pooled), "pooled": pooled}


class MertLayers(nn.Module):
    """MERT: means over time of the hidden states of a HuBERT encoder."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """(b, n) samples, NaN after the end of a shorter window -> `layers_5_6`, two layers side by side; `hidden_i`.

        Shorter windows are heard one by one, because padding would change the group norm of the first convolution.
        """
        lengths = (~windows.isnan()).sum(dim=1)
        rows: list[tuple[torch.Tensor, ...]] = [()] * len(windows)
        for length in lengths.unique().tolist():
            for chosen in (lengths == length).nonzero()[:, 0].split(max(1, AT_ONCE // length)):
                states = self.model(windows[chosen, :length], output_hidden_states=True).hidden_states
                means = torch.stack([state.mean(dim=1) for state in states], dim=1)
                for row, index in enumerate(chosen.tolist()):
                    rows[index] = means[row].unbind()
        hidden = [torch.stack(column) for column in zip(*rows, strict=True)]
        return {"layers_5_6": torch.cat([hidden[i] for i in MERT_LAYERS], dim=1)} | {
            f"hidden_{i}": state for i, state in enumerate(hidden)
        }


class VisionLayers(nn.Module):
    """An image network on mel spectrograms: the same picture in all three colours, 224 x 224."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
        """(b, bands, frames), normalised -> `embedding`: the mean over the picture, or the class token of a ViT."""
        size = (224, 224)
        picture = nn.functional.interpolate(windows[:, None], size, mode="bilinear", align_corners=False)
        output = self.model(picture.expand(-1, 3, -1, -1))
        pooled = output.pooler_output
        return {"embedding": output.last_hidden_state[:, 0] if pooled is None else pooled}
