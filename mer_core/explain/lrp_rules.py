"""Rules of layer-wise relevance propagation (LRP) for layers that are linear in their input.

Every rule is written as `z * (y / z).detach()`: y is what the layer gives, z is linear in the input and says in which
proportions the relevance of y goes to the inputs. The value is y; input x gradient is the relevance. A network all of
whose layers are written so has its relevance map after one backward pass.

References
----------
S. Bach et al., PLoS ONE 10(7), 2015 (epsilon, alpha-beta); G. Montavon et al., Pattern Recognition 65, 2017 (z+, box);
G. Montavon et al., in Explainable AI, Springer 2019 (gamma); A. Andeol et al., 2021 (gamma for inputs of both signs);
R. Achtibat et al., AttnLRP, ICML 2024; A. Ali et al., ICML 2022 (CP-LRP: attention and deviations held constant).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch

STABILISER = 1e-6  # keeps denominators from 0; what it takes is counted
GAMMA = 0.25


@dataclass(frozen=True)
class Composite:
    """Which rule which kind of layer follows.

    first : of the layers that see the input, "flat", "box" or "gamma-low"; None for the same as the others
    convolution, linear : "plain" (gradient x input; the bias has its share), "epsilon", "zplus" (inputs alone have
        shares), "gamma" (inputs alone), "gamma-bias" (the bias has its share)
    attention : "cp", attention weights are constants; "attn", relevance goes through the softmax too
    conserves : whether input, biases and learned tokens together have the relevance of the output
    """

    first: str | None
    convolution: str
    linear: str
    attention: str = "cp"
    conserves: bool = True


COMPOSITES = {
    "epsilon-plus-flat": Composite("flat", "zplus", "epsilon"),
    "epsilon-gamma-box": Composite("box", "gamma", "epsilon"),
    "cp-lrp": Composite(None, "plain", "plain"),
    "cp-lrp-gamma": Composite(None, "gamma-bias", "gamma-bias"),
    "gamma-silence": Composite("gamma-low", "gamma-bias", "gamma-bias"),
    "attn-lrp": Composite(None, "plain", "plain", attention="attn", conserves=False),
}


@dataclass(frozen=True)
class Counted:
    """Scalars 1 that require gradient; their gradients are what stabilisers and resting values take."""

    stabilisers: torch.Tensor
    biases: torch.Tensor


@dataclass(frozen=True)
class Layer:
    """A linear or convolutional layer with its input.

    apply : (x, weight, bias or None) -> output
    filters_alike : whether all filters see all of the input, so that one stands for all where weights are equal
    low, high : like x, the lowest and highest values that the input could have; None behind the first layer
    """

    x: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    apply: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
    filters_alike: bool = True
    low: torch.Tensor | None = None
    high: torch.Tensor | None = None

    @cached_property
    def output(self) -> torch.Tensor:
        """What the layer gives, without gradient."""
        with torch.no_grad():
            return self.apply(self.x, self.weight, self.bias)


def follow(rule: str, layer: Layer, counted: Counted, positive: bool = False) -> torch.Tensor:
    """The layer's output, whose gradient follows the rule.

    positive : whether a ReLU comes next, so that negative outputs have no relevance, and half of some work is saved
    """
    weight = layer.weight.detach()
    if rule == "plain":
        return layer.apply(layer.x, weight, layer.bias)
    return _Ratio.apply(RULES[rule](layer, weight, counted, positive), layer.output, counted.stabilisers)


class _Ratio(torch.autograd.Function):
    """`z * (y / z).detach()` with a stabilised z, as one step, which saves most of its memory and time."""

    @staticmethod
    def forward(ctx, z, y, leak):
        """`z` : (b, filters or 1, ...); `y` : (b, filters, ...)."""
        side = torch.copysign(torch.full((), STABILISER), z)
        ctx.save_for_backward(y / (z + side), side)
        return y.clone()  # what follows may work in place

    @staticmethod
    def backward(ctx, gradient):
        ratio, side = ctx.saved_tensors
        of_z = gradient * ratio
        of_z = of_z if of_z.shape == side.shape else of_z.sum(1, keepdim=True)
        return of_z, None, torch.dot(of_z.flatten(), side.flatten())


def _epsilon(layer: Layer, weight: torch.Tensor, counted: Counted, positive: bool) -> torch.Tensor:
    """Shares as contributions are."""
    return layer.apply(layer.x, weight, None)


def _zplus(layer: Layer, weight: torch.Tensor, counted: Counted, positive: bool) -> torch.Tensor:
    """Shares of positive contributions alone."""
    return _by_sign(layer, weight.clamp(min=0), weight.clamp(max=0))


def _gamma(layer: Layer, weight: torch.Tensor, counted: Counted, positive: bool) -> torch.Tensor:
    """Contributions of the output's own sign count 1 + gamma times."""
    more, less = weight + GAMMA * weight.clamp(min=0), weight + GAMMA * weight.clamp(max=0)
    above = _by_sign(layer, more, less)
    return above if positive else torch.where(layer.output > 0, above, _by_sign(layer, less, more))


def _gamma_bias(layer: Layer, weight: torch.Tensor, counted: Counted, positive: bool) -> torch.Tensor:
    """Gamma rule in which the bias is one more input."""
    z = _gamma(layer, weight, counted, positive)
    if layer.bias is None:
        return z
    channels = -1 if layer.weight.dim() == 2 else 1
    bias = layer.bias.reshape([-1 if axis == channels % z.dim() else 1 for axis in range(z.dim())])
    return z + _favoured(bias, layer.output, positive)


def _gamma_low(layer: Layer, weight: torch.Tensor, counted: Counted, positive: bool) -> torch.Tensor:
    """Gamma rule for what the input is above its lowest value; what the layer gives for the lowest is its bias."""
    height = layer.x * ((layer.x.detach() - layer.low) * _per_input(layer.x))
    z = _gamma(replace(layer, x=height), weight, counted, positive)
    with torch.no_grad():
        resting = layer.apply(layer.low[:1], weight, layer.bias)
    return z + _favoured(resting, layer.output, positive) * counted.biases


def _favoured(bias: torch.Tensor, output: torch.Tensor, positive: bool) -> torch.Tensor:
    """A bias 1 + gamma times where it has the sign of the output."""
    same = bias.detach() > 0 if positive else (bias.detach() > 0) == (output > 0)
    return bias * torch.where(same, 1 + GAMMA, 1.0)


def _flat(layer: Layer, weight: torch.Tensor, counted: Counted, positive: bool) -> torch.Tensor:
    """Equal shares for all inputs; padding, whose zeros are exact, has none."""
    one_filter = torch.ones_like(weight[:1]) if layer.filters_alike else torch.ones_like(weight)
    return layer.apply(layer.x * _per_input(layer.x), one_filter, None)


def _box(layer: Layer, weight: torch.Tensor, counted: Counted, positive: bool) -> torch.Tensor:
    """Shares of what the input is above its lowest value or below its highest one, whichever the weight asks for."""
    fixed, share = layer.x.detach(), _per_input(layer.x)
    above = layer.apply(layer.x * ((fixed - layer.low) * share), weight.clamp(min=0), None)
    return above + layer.apply(layer.x * ((fixed - layer.high) * share), weight.clamp(max=0), None)


RULES = {
    "epsilon": _epsilon,
    "zplus": _zplus,
    "gamma": _gamma,
    "gamma-bias": _gamma_bias,
    "gamma-low": _gamma_low,
    "flat": _flat,
    "box": _box,
}


def _by_sign(layer: Layer, of_positive: torch.Tensor, of_negative: torch.Tensor) -> torch.Tensor:
    """The layer with one weight for positive and one for negative inputs."""
    z = layer.apply(layer.x.clamp(min=0), of_positive, None)
    # Behind a ReLU there are no negative inputs, and half of the work is saved.
    return z + layer.apply(layer.x.clamp(max=0), of_negative, None) if bool((layer.x < 0).any()) else z


def _per_input(x: torch.Tensor) -> torch.Tensor:
    """1 / x, constant; 0 for zeros."""
    fixed = x.detach()
    return torch.where(fixed == 0, 0.0, 1 / torch.where(fixed == 0, 1.0, fixed))
