"""Baselines that relevance is compared with: gradient x input, integrated gradients, occlusion, attention rollout.

Each explains numbers that `choose` makes of what a network returns, as `lrp_engine.explain_outputs` does, and gives
(t, *shape of the inputs) float32.

References
----------
K. Simonyan et al., 2014 (gradient); M. Sundararajan et al., ICML 2017 (integrated gradients); M. Zeiler & R. Fergus,
ECCV 2014 (occlusion); S. Abnar & W. Zuidema, ACL 2020 (attention rollout).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Choose = Callable[[object], torch.Tensor]


def gradient_x_input(network: torch.nn.Module, inputs: torch.Tensor, choose: Choose) -> np.ndarray:
    """Effect of every input value if the network were linear as it is around this input."""
    return (_gradients(network, inputs, choose) * inputs).numpy()


def integrated_gradients(
    network: torch.nn.Module, inputs: torch.Tensor, choose: Choose, reference: float | torch.Tensor = 0.0, steps=64
) -> np.ndarray:
    """Mean gradient on the way from a reference to the input, times the distance (midpoint rule).

    The values sum to output(inputs) - output(reference), but for what too few steps miss.

    reference : a constant, such as silence, or like the inputs
    """
    distance = inputs - reference
    total = sum(
        _gradients(network, reference + (step + 0.5) / steps * distance, choose).double() for step in range(steps)
    )
    return (total / steps * distance).float().numpy()


def occlusion(
    network: torch.nn.Module,
    inputs: torch.Tensor,
    choose: Choose,
    patch: tuple[int, int],
    fill: float | torch.Tensor = 0.0,
) -> np.ndarray:
    """What the output loses when a patch of the last two axes is filled in, spread evenly over the patch.

    patch : rows, columns; those at the end are smaller where it does not divide
    """
    rows, columns = inputs.shape[-2:]
    result = None
    with torch.no_grad():
        whole = choose(network(inputs)).reshape(-1)
        for top in range(0, rows, patch[0]):
            for left in range(0, columns, patch[1]):
                place = (..., slice(top, top + patch[0]), slice(left, left + patch[1]))
                covered = inputs.clone()
                covered[place] = fill if isinstance(fill, float | int) else fill[place]
                lost = whole - choose(network(covered)).reshape(-1)
                result = torch.zeros(len(whole), *inputs.shape) if result is None else result
                size = result[0][place].numel()
                result[(slice(None), *place)] = (lost / size).reshape(-1, *[1] * inputs.dim())
    return result.numpy()


def attention_rollout(network: torch.nn.Module, inputs: torch.Tensor) -> np.ndarray:
    """How much each token's output sees of each token of the input, by attention alone: (b, tokens, tokens).

    Rows sum to 1; row 0 is the class token's where there is one. It knows nothing of outputs and signs.
    """
    with torch.no_grad(), _Attention() as seen:
        network(inputs)
    if not seen.weights:
        raise ValueError("the network has no attention; rollout is for transformers")
    together = torch.eye(seen.weights[0].shape[-1])
    for weights in seen.weights:
        together = (weights.mean(1) + torch.eye(weights.shape[-1])) / 2 @ together
    return together.numpy()


class _Attention(TorchFunctionMode):
    """Keeps the attention weights (b, heads, tokens, tokens) of every layer while a network runs."""

    def __init__(self):
        super().__init__()
        self.weights: list[torch.Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key = args[:2] if len(args) > 1 else (kwargs["query"], kwargs["key"])
            scores = query @ key.transpose(-2, -1) * (kwargs.get("scale") or query.shape[-1] ** -0.5)
            mask = kwargs.get("attn_mask")
            if mask is not None:
                scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
            self.weights.append(scores.softmax(-1))
        return func(*args, **kwargs)


def _gradients(network: torch.nn.Module, inputs: torch.Tensor, choose: Choose) -> torch.Tensor:
    """Gradients (t, ...) of each output."""
    with torch.enable_grad():
        x = inputs.detach().clone().requires_grad_(True)
        numbers = choose(network(x)).reshape(-1)
        return torch.stack(
            [torch.autograd.grad(number, x, retain_graph=i < len(numbers) - 1)[0] for i, number in enumerate(numbers)]
        )
