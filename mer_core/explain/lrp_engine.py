"""Layer-wise relevance propagation through any torch network, as input x gradient of a network rewritten as it runs.

Conventions
-----------
Nothing of the network is changed or copied: while it runs, its calls of torch's functions are exchanged for ones with
the same values and other gradients. What they are exchanged for goes by the kind of function, so that networks need
not be known:

* linear layers and convolutions follow the rules of a composite (`lrp_rules`)
* batch norm directly behind one of them is merged with it; elsewhere its scale is a constant and its shift has a share
* layer norm and group norm: the deviation is a constant
* GELU, SiLU, tanh and the like: identity, y = x * (y / x)
* sigmoids that gate, and attention weights: constants (under "attn" relevance also goes through the softmax, halved)
* ReLU, sums, concatenation, means and maxima have the right gradients as they are; a maximum's winner takes all

The relevance of an output is shared among input, biases and learned tokens, and stabilisers. All three are counted on
their own, and none as a rest, so that their sum tests the whole calculation.

References
----------
See `lrp_rules`; gates: L. Arras et al., in Explainable AI, Springer 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

from mer_core.errors import UserError
from mer_core.explain.lrp_rules import COMPOSITES, Composite, Counted, Layer, follow

TALL = 16  # taps from which a filter of one column has a gradient of its own
TINY = 1e-6  # inputs nearer to 0 are moved here, so that also silence can have relevance


@dataclass(frozen=True)
class Relevance:
    """Relevance of the input for t outputs.

    values : (t, *shape of the inputs) float32
    outputs : (t,) the explained numbers
    biases, stabilisers : (t,) relevance of biases and learned tokens, and of stabilisers of denominators
    error : (t,) |input + biases + stabilisers - output|, relative to the output or, where that is more, to one per
        mille of all relevance of the input, signs apart, beyond which lies rounding
    """

    values: np.ndarray
    outputs: np.ndarray
    biases: np.ndarray
    stabilisers: np.ndarray
    error: np.ndarray


def composite_of(rule: str) -> Composite:
    """The composite of that name; UserError where there is none."""
    if rule not in COMPOSITES:
        raise UserError(f"rule {rule!r} is unknown; choose one of {', '.join(COMPOSITES)}")
    return COMPOSITES[rule]


def explain_outputs(
    network: torch.nn.Module,
    inputs: torch.Tensor,
    choose: Callable[[object], torch.Tensor],
    rule: str = "cp-lrp",
    bounds: tuple[float, float] | None = None,
) -> Relevance:
    """Relevance of every input value for some numbers that a network gives.

    Parameters
    ----------
    network : in evaluation mode
    inputs : (b, ...) one batch
    choose : what the network returns -> (t,) or (), the numbers to explain: sums of its outputs times constants
    rule : key of `COMPOSITES`
    bounds : lowest and highest value that inputs can have, for the box rule; those of `inputs` when None

    Raises
    ------
    UserError : unknown rule, or one with a rule for the first layer for a network with learned tokens
    ValueError : network in training mode, or layers whose relevance is not defined here
    """
    composite = composite_of(rule)
    if network.training:
        raise ValueError("the network is in training mode; call .eval() before explaining it")
    if composite.first and any("token" in name for name, _ in network.named_parameters()):
        raise UserError(f"rule {rule!r} is for networks without class tokens; choose cp-lrp-gamma, cp-lrp or attn-lrp")
    with torch.enable_grad():
        x = inputs.detach().clone()
        x = torch.where(x.abs() < TINY, torch.full_like(x, TINY), x).requires_grad_(True)
        counted = Counted(*(torch.ones((), requires_grad=True) for _ in range(2)))
        leaves = {
            name: tensor.detach().clone().requires_grad_(True) if tensor.is_floating_point() else tensor
            for name, tensor in (*network.named_parameters(), *network.named_buffers())
        }
        shown = x if composite.first is None else torch.cat([x, *_bounds(x, bounds)])
        mode = _Rewriting(composite, counted, len(x) if composite.first else None)
        shown.of_input = True
        with mode:
            outputs = functional_call(network, leaves, (shown,))
        numbers = choose(tree_map_only(torch.Tensor, mode.settled, outputs)).reshape(-1)
        shifts = [counted.biases, *(leaf for leaf in leaves.values() if leaf.requires_grad)]
        return _backward(numbers, x, counted.stabilisers, shifts)


def _bounds(x: torch.Tensor, bounds: tuple[float, float] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Batches like x of its lowest and of its highest possible values."""
    low, high = bounds or (float(x.detach().min()), float(x.detach().max()))
    return torch.full_like(x, low), torch.full_like(x, high)


def _backward(numbers: torch.Tensor, x: torch.Tensor, stabiliser: torch.Tensor, shifts: list) -> Relevance:
    """Input x gradient for each number, with what biases and stabilisers have of it."""
    values, biases, stabilisers = [], [], []
    for index, number in enumerate(numbers):
        again = index < len(numbers) - 1
        gradient, leaked, *rest = torch.autograd.grad(
            number, [x, stabiliser, *shifts], retain_graph=again, allow_unused=True
        )
        values.append(torch.zeros_like(x) if gradient is None else (x * gradient).detach())
        stabilisers.append(0.0 if leaked is None else float(leaked))
        shares = zip(shifts, rest, strict=True)
        biases.append(sum(float((leaf * grad).detach().double().sum()) for leaf, grad in shares if grad is not None))
    maps = torch.stack(values)
    outputs, biases, stabilisers = numbers.detach().double().numpy(), np.array(biases), np.array(stabilisers)
    flat = maps.double().flatten(1)
    size = np.maximum(np.abs(outputs), flat.abs().sum(dim=1).numpy() / 1000)
    lost = np.abs(flat.sum(dim=1).numpy() + biases + stabilisers - outputs)
    error = lost / np.where(size == 0, 1, size)
    return Relevance(maps.numpy(), outputs, biases, stabilisers, error)


class _Rewriting(TorchFunctionMode):
    """Exchanges calls of torch's functions while a network runs.

    A layer's output is `pending` until something else than a batch norm wants it, because that would be merged.
    """

    def __init__(self, composite: Composite, counted: Counted, batch: int | None):
        """`batch` : size of the batch, where the network is shown three: inputs, lowest and highest values."""
        super().__init__()
        self.composite, self.counted, self.batch = composite, counted, batch

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in ASKING:
            return func(*args, **kwargs)
        if func is not F.batch_norm:
            settle = partial(self.settled, positive=func in (F.relu, torch.relu, TENSOR.relu))
            args, kwargs = tree_map_only(torch.Tensor, settle, (args, kwargs))
        exchange = EXCHANGES.get(func)
        result = func(*args, **kwargs) if exchange is None else exchange(self, func, *args, **kwargs)
        if any(getattr(tensor, "of_input", False) for tensor in _tensors((args, kwargs))):
            for tensor in _tensors(result):
                tensor.of_input = True
        return result

    def settled(self, tensor: torch.Tensor, positive: bool = False) -> torch.Tensor:
        """The tensor with its rule's gradient; `positive` where a ReLU wants it."""
        if not hasattr(tensor, "pending"):
            return tensor
        done = tensor.__dict__.setdefault("done", {})
        if positive not in done:
            layer, rule = tensor.pending
            done[positive] = follow(rule, layer, self.counted, positive)
            done[positive].of_input = True
        return done[positive]

    def layer(self, kind: str, layer: Layer) -> torch.Tensor:
        """Output of a linear or convolutional layer, pending; the first ones are shown their bounds too."""
        if not getattr(layer.x, "of_input", False):
            return layer.apply(layer.x, layer.weight, layer.bias)
        rule = getattr(self.composite, kind)
        if self.at_input(layer.x):
            x, low, high = layer.x.chunk(3)
            layer, rule = replace(layer, x=x, low=low.detach(), high=high.detach()), self.composite.first
        output = layer.output
        output.pending = layer, rule
        return output

    def at_input(self, x: torch.Tensor) -> bool:
        """Whether no layer with weights has been passed yet."""
        return self.batch is not None and len(x) == 3 * self.batch


class _PassAffine(torch.autograd.Function):
    """scale * x + shift of the input, before any layer: relevance stays where it is."""

    @staticmethod
    def forward(ctx, x, scale, shift):
        y = scale * x + shift
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        x, y = ctx.saved_tensors
        # The bounds' rows have no gradient, and may be 0.
        return torch.where(x == 0, 0.0, gradient * y / torch.where(x == 0, 1.0, x)), None, None


class _TallConvolution(torch.autograd.Function):
    """One channel of pictures, filters one column wide: as conv2d, but its gradient in a tenth of the time."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(weight)
        return F.conv2d(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient):
        (weight,) = ctx.saved_tensors
        batch, filters, rows, columns = gradient.shape
        taps = weight.shape[2]
        shares = torch.matmul(weight.view(filters, taps).T, gradient.flatten(2)).view(batch, taps, rows, columns)
        out = gradient.new_zeros(batch, 1, rows + taps - 1, columns)
        for tap in range(taps):
            out[:, 0, tap : tap + rows] += shares[:, tap]
        return out, None, None


def _convolution(mode, func, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    plain = stride in (1, (1, 1)) and padding in (0, (0, 0)) and dilation in (1, (1, 1))
    tall = weight.dim() == 4 and weight.shape[1] == weight.shape[3] == 1 and weight.shape[2] >= TALL and groups == 1

    def apply(x, w, b):
        if tall and plain and not w.requires_grad and (b is None or not b.requires_grad):
            return _TallConvolution.apply(x, w, b)
        return func(x, w, b, stride, padding, dilation, groups)

    return mode.layer("convolution", Layer(input, weight, bias, apply, filters_alike=groups == 1))


def _linear(mode, func, input, weight, bias=None):
    return mode.layer("linear", Layer(input, weight, bias, func))


def _batch_norm(mode, func, x, mean, variance, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    if training:
        raise ValueError("batch norm in training mode cannot be explained; call .eval() on the network")
    shape = (1, -1) + (1,) * (x.dim() - 2)
    scale = (variance + eps).rsqrt().detach() * (1 if weight is None else weight.detach())
    shift = (0 if bias is None else bias) - mean * scale
    if hasattr(x, "pending"):
        layer, rule = x.pending
        merged = layer.weight * scale.reshape((-1,) + (1,) * (layer.weight.dim() - 1))
        merged = replace(layer, weight=merged, bias=shift + (0 if layer.bias is None else layer.bias * scale))
        output = merged.output
        output.pending = merged, rule
        return output
    x, scale, shift = mode.settled(x), scale.reshape(shape), shift.reshape(shape)
    if mode.at_input(x):
        return _PassAffine.apply(x, scale, shift.detach())
    output = x * scale + shift
    output.natural_zero = shift.detach()
    return output


def _layer_norm(mode, func, x, shape, weight=None, bias=None, eps=1e-5):
    dims = tuple(range(-len(shape), 0))
    normal = _normal(x, dims, eps)
    normal = normal if weight is None else normal * weight.detach()
    return normal if bias is None else normal + bias


def _group_norm(mode, func, x, groups, weight=None, bias=None, eps=1e-5):
    normal = _normal(x.reshape(len(x), groups, -1), (-1,), eps).reshape(x.shape)
    shape = (1, -1) + (1,) * (x.dim() - 2)
    normal = normal if weight is None else normal * weight.detach().reshape(shape)
    return normal if bias is None else normal + bias.reshape(shape)


def _normal(x: torch.Tensor, dims: tuple[int, ...], eps: float) -> torch.Tensor:
    """Mean 0 over `dims` and variance 1, the deviation constant."""
    centred = x - x.mean(dims, keepdim=True)
    return centred / (centred.square().mean(dims, keepdim=True) + eps).sqrt().detach()


def _identity(mode, func, x, *args, **kwargs):
    fixed = x.detach().clone()  # some of these work in place
    slope = func(fixed.clone(), *args, **kwargs) / torch.where(fixed == 0, 1.0, fixed)
    return x * torch.where(fixed == 0, 0.0, slope)


def _constant(mode, func, *args, **kwargs):
    return func(*args, **kwargs).detach()


def _softmax(mode, func, *args, **kwargs):
    weights = func(*args, **kwargs)
    return weights.detach() if mode.composite.attention == "cp" else weights


def _attention(mode, func, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **kwargs):
    if is_causal or kwargs.get("enable_gqa"):
        raise ValueError("causal and grouped attention have no relevance rule here")
    halved = mode.composite.attention == "attn"
    scores = query @ key.transpose(-2, -1)
    scores = (_half(scores) if halved else scores) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        masked = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if masked else scores + attn_mask
    weights = scores.softmax(-1)
    return _half(weights @ value) if halved else weights.detach() @ value


def _half(x: torch.Tensor) -> torch.Tensor:
    """The same value with half of its gradient: the two factors of a product share its relevance."""
    return x / 2 + (x / 2).detach()


def _product(mode, func, a, b, **kwargs):
    """A factor that does not come from the input is a constant."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        ours = [getattr(factor, "of_input", False) for factor in (a, b)]
        a, b = (a.detach() if ours == [False, True] else a), (b.detach() if ours == [True, False] else b)
    return func(a, b, **kwargs)


def _winner(mode, func, x, dim=(), keepdim=False):
    """A maximum over one axis, whose winner is looked up; of equal ones the first wins."""
    dim = dim[0] if isinstance(dim, tuple) and len(dim) == 1 else dim
    return x.max(dim, keepdim).values if isinstance(dim, int) else func(x, dim, keepdim)


def _unsupported(mode, func, *args, **kwargs):
    raise ValueError(f"{func.__name__} has no relevance rule here")


TENSOR = torch.Tensor
ASKING = {TENSOR.dim, TENSOR.size, *(getattr(TENSOR, n).__get__ for n in ("shape", "ndim", "dtype", "device"))}
EXCHANGES = {
    F.linear: _linear,
    F.batch_norm: _batch_norm,
    F.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    F.scaled_dot_product_attention: _attention,
    F.multi_head_attention_forward: _unsupported,
    **dict.fromkeys((torch.conv1d, torch.conv2d), _convolution),
    **dict.fromkeys((F.gelu, F.silu, F.hardswish, F.elu, F.hardtanh, F.relu6, F.tanh), _identity),
    **dict.fromkeys((torch.tanh, TENSOR.tanh), _identity),
    **dict.fromkeys((torch.amax, TENSOR.amax), _winner),
    **dict.fromkeys((torch.sigmoid, TENSOR.sigmoid, F.sigmoid, F.hardsigmoid), _constant),
    **dict.fromkeys((F.softmax, torch.softmax, TENSOR.softmax), _softmax),
    **dict.fromkeys((torch.mul, TENSOR.mul, TENSOR.__mul__, TENSOR.__rmul__, TENSOR.__imul__), _product),
}


def _tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, torch.Tensor)]
