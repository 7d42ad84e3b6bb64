"""Relevance propagation: nothing is lost, an independent implementation agrees, and every rule is what it says."""

import importlib
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mer_core.errors import UserError
from mer_core.explain.gradients import attention_rollout, gradient_x_input, integrated_gradients, occlusion
from mer_core.explain.lrp_engine import explain_outputs
from mer_core.explain.lrp_rules import COMPOSITES
from mer_core.models.networks.midlevel_vgg import MidlevelVgg
from mer_core.models.networks.residual_cnn import ResidualCnn
from mer_core.models.networks.vit import SpectrogramViT

CONSERVING = [name for name, composite in COMPOSITES.items() if composite.conserves]


def with_random_norms(network: nn.Module) -> nn.Module:
    """Norms and biases that do something, as after training."""
    torch.manual_seed(1)
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        if name.endswith(("running_var", "norm.weight")) or "layernorm" in name and name.endswith("weight"):
            value.data.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias")) or "token" in name or "position_embeddings" in name:
            value.data.normal_(0, 0.1)
    return network.eval()


def transformers_network(kind: str) -> tuple[nn.Module, torch.Tensor]:
    import transformers

    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    if kind == "vit":
        return SpectrogramViT(2, hidden=24, layers=2, heads=2), torch.rand(1, 224, 224)
    if kind == "ast":
        config = transformers.ASTConfig(max_length=64, num_mel_bins=32, num_labels=2, **size)
        return transformers.ASTForAudioClassification(config), torch.randn(1, 64, 32)
    config = transformers.HubertConfig(
        conv_dim=(16, 16),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        **size,
    )
    return transformers.HubertModel(config), torch.randn(1, 800)


@pytest.fixture(scope="module")
def networks() -> dict:
    """Network, input, and what is explained of its output."""
    torch.manual_seed(0)
    found = {
        "residual": (ResidualCnn(widths=(6, 8)), torch.rand(2, 64, 48), lambda out: out[:, 1].sum()),
        "vgg": (MidlevelVgg(2, qualities=7, width=0.06), torch.rand(1, 96, 96), lambda out: out[0, -2:]),
        **{kind: (*transformers_network(kind), lambda out: getattr(out, "logits", out)[0]) for kind in ("vit", "ast")},
        "hubert": (*transformers_network("hubert"), lambda out: out.last_hidden_state.mean(1)[0, :2]),
    }
    return {name: (with_random_norms(network), *rest) for name, (network, *rest) in found.items()}


def import_zennit() -> ModuleType:
    """It asks for torchvision only to recognise two classes; stand-ins are removed again."""
    parts = ("zennit.attribution", "zennit.canonizers", "zennit.composites", "zennit.layer")
    if "zennit.attribution" not in sys.modules:
        for name in [name for name in sys.modules if name.partition(".")[0] == "zennit"]:
            del sys.modules[name]
        names = ("torchvision", "torchvision.models", "torchvision.models.resnet")
        package, models, resnet = (ModuleType(name) for name in names)
        package.models, models.resnet = models, resnet
        resnet.BasicBlock, resnet.Bottleneck = (type(name, (nn.Module,), {}) for name in ("BasicBlock", "Bottleneck"))
        kept = {name: sys.modules.get(name) for name in names}
        sys.modules.update(zip(names, (package, models, resnet), strict=True))
        try:
            for name in parts:
                importlib.import_module(name)
        finally:
            for name, module in kept.items():
                del sys.modules[name]
                if module is not None:
                    sys.modules[name] = module
    return sys.modules["zennit"]


def zennit_map(network: nn.Module, x: torch.Tensor, rule: str, unit: int) -> np.ndarray:
    """The same rules by zennit: norms merged by its canonizer, sums of residual blocks made modules by ours."""
    zennit = import_zennit()

    class SumBlocks(zennit.canonizers.AttributeCanonizer):
        def __init__(self):
            super().__init__(self._attributes)

        @staticmethod
        def _attributes(name, module):
            if type(module).__name__ != "ResidualBlock":
                return None

            def forward(self, x):
                y = self.second_norm(self.second(self.inner(self.first_norm(self.first(x)))))
                return self.dropout(self.outer(self.canonizer_sum(torch.stack([y, self.shortcut(x)], dim=-1))))

            return {"forward": forward.__get__(module), "canonizer_sum": zennit.layer.Sum()}

    merge = zennit.canonizers.MergeBatchNorm

    class Merge(merge):
        """Every norm into the convolution in front of it, in order of registration."""

        def apply(self, root):
            pairs, last = [], None
            for _, module in root.named_modules():
                if isinstance(module, nn.Conv2d):
                    last = module
                elif isinstance(module, nn.BatchNorm2d) and last is not None:
                    pairs.append((last, module))
                    last = None
            instances = []
            for convolution, norm in pairs:
                instance = self.copy()
                instance.register([convolution], norm)
                instances.append(instance)
            return instances

    common = {"canonizers": [SumBlocks(), Merge()], "zero_params": ["bias"]}
    if rule == "epsilon-plus-flat":
        composite = zennit.composites.EpsilonPlusFlat(**common)
    else:
        low, high = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
        composite = zennit.composites.EpsilonGammaBox(low=low, high=high, **common)
    with zennit.attribution.Gradient(model=network, composite=composite) as attributor:
        _, found = attributor(x, lambda out: torch.eye(out.shape[1])[[unit]] * out)
    return found.detach().numpy()


class PlainResidual(nn.Module):
    """The blocks of our network where zennit's way of merging norms applies: none without a convolution before it."""

    def __init__(self):
        super().__init__()
        whole = with_random_norms(ResidualCnn(widths=(6, 8)))
        self.stem = nn.Sequential(*list(whole.stem)[:3])
        self.blocks, self.pool, self.head = whole.blocks, whole.pool, nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.pool(self.blocks(self.stem(x))).flatten(1))


@pytest.mark.parametrize("rule", ["epsilon-plus-flat", "epsilon-gamma-box"])
@pytest.mark.parametrize("kind", ["residual", "vgg"])
def test_zennit_agrees(kind, rule):
    torch.manual_seed(3)
    if kind == "residual":
        network, x = PlainResidual().eval(), torch.rand(1, 1, 48, 40)
    else:
        vgg = with_random_norms(MidlevelVgg(2, width=0.1))
        network, x = nn.Sequential(vgg.features, vgg.pool, nn.Flatten(), vgg.emotions).eval(), torch.rand(1, 1, 80, 80)
    ours = explain_outputs(network, x, lambda out: out[0, 1], rule, bounds=(0.0, 1.0)).values[0]
    theirs = zennit_map(network, x, rule, unit=1)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9999
    np.testing.assert_allclose(ours.sum(), theirs.sum(), rtol=1e-2)


@pytest.mark.parametrize("rule", CONSERVING)
@pytest.mark.parametrize("name", ["residual", "vgg", "vit", "ast", "hubert"])
def test_nothing_is_lost(networks, name, rule):
    network, x, choose = networks[name]
    if name in ("vit", "ast") and COMPOSITES[rule].first:
        with pytest.raises(UserError, match="without class tokens; choose cp-lrp-gamma"):
            explain_outputs(network, x, choose, rule)
        return
    with torch.no_grad():
        expected = choose(network(x)).reshape(-1).numpy()
    found = explain_outputs(network, x, choose, rule)
    np.testing.assert_allclose(found.outputs, expected, rtol=1e-3, atol=1e-4)
    assert found.error.max() < 1e-3
    assert np.isfinite(found.values).all()
    assert found.values.shape == (len(expected), *x.shape)


def test_attnlrp_and_gradients_do_not_conserve(networks):
    network, x, choose = networks["ast"]
    assert explain_outputs(network, x, choose, "attn-lrp").error.max() > 0.01
    plain = gradient_x_input(network, x, choose)
    assert not np.allclose(plain.sum(axis=(1, 2, 3)), explain_outputs(network, x, choose, "cp-lrp").outputs, rtol=0.05)


def test_explaining_leaves_the_network_alone(networks):
    network, x, choose = networks["residual"]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    asked = [parameter.requires_grad for parameter in network.parameters()]
    first = explain_outputs(network, x, choose, "epsilon-plus-flat").values
    np.testing.assert_array_equal(first, explain_outputs(network, x, choose, "epsilon-plus-flat").values)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [parameter.requires_grad for parameter in network.parameters()] == asked


def slow_shares(rule: str, x: np.ndarray, weight: np.ndarray, bias: float, low: float, high: float) -> np.ndarray:
    """Share of each input and, last, of the bias in one unit of a linear layer, from the rules' definitions."""
    gamma, y, shares, of_bias = 0.25, weight @ x + bias, [], 0.0
    for value, w in zip(x, weight, strict=True):
        part = value * w
        favoured = 1 + gamma * (part * y > 0)
        shares.append(
            {
                "epsilon": part,
                "zplus": max(part, 0),
                "flat": 1.0,
                "box": part - low * max(w, 0) - high * min(w, 0),
                "gamma": part * favoured,
                "gamma-bias": part * favoured,
                "gamma-low": (value - low) * w * (1 + gamma * (w * y > 0)),
            }[rule]
        )
    if rule in ("gamma-bias", "gamma-low"):
        of_bias = bias + (low * weight.sum() if rule == "gamma-low" else 0)
        of_bias *= 1 + gamma * (of_bias * y > 0)
    return np.array([*shares, of_bias]) / (sum(shares) + of_bias) * y


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("rule", ["epsilon", "zplus", "flat", "box", "gamma", "gamma-bias", "gamma-low"])
def test_rules_are_their_definitions(rule, relu, monkeypatch):
    from mer_core.explain.lrp_rules import Composite

    rng = np.random.default_rng(4)
    x, weight, bias = rng.uniform(0.1, 0.9, 6), rng.normal(size=6), 0.3
    weight *= np.sign(weight @ x + bias)  # a ReLU must let it pass
    network = nn.Sequential(nn.Linear(6, 1), nn.ReLU()) if relu else nn.Sequential(nn.Linear(6, 1))
    network[0].weight.data, network[0].bias.data = torch.tensor(weight[None]).float(), torch.tensor([bias])
    first = rule if rule in ("flat", "box", "gamma-low") else None
    monkeypatch.setitem(COMPOSITES, "tried", Composite(first, rule, rule))
    found = explain_outputs(network.eval(), torch.tensor(x[None]).float(), lambda y: y[0], "tried", (0.0, 1.0))
    expected = slow_shares(rule, x, weight, bias, 0.0, 1.0)
    np.testing.assert_allclose([*found.values[0, 0], found.biases[0]], expected, rtol=1e-3, atol=1e-5)


def test_a_norm_in_front_keeps_relevance_in_place():
    torch.manual_seed(5)
    norm, layer = nn.BatchNorm1d(3), nn.Linear(3, 1)
    norm.running_mean.data, norm.running_var.data = torch.tensor([0.5, 0.1, 0.9]), torch.tensor([0.2, 1.5, 0.7])
    network, x = nn.Sequential(norm, layer).eval(), torch.rand(1, 3)
    inside = explain_outputs(layer.eval(), norm(x).detach(), lambda y: y[0], "epsilon-plus-flat").values
    np.testing.assert_allclose(
        explain_outputs(network, x, lambda y: y[0], "epsilon-plus-flat").values, inside, rtol=1e-4
    )


def test_the_winner_of_a_maximum_takes_all():
    class Loudest(nn.Module):
        def forward(self, x):
            return x.amax(2)

    found = explain_outputs(Loudest().eval(), torch.tensor([[[1.0, 3.0, 2.0]]]), lambda y: y[0], "cp-lrp").values
    np.testing.assert_allclose(found.ravel(), [0, 3, 0])


def test_a_gate_is_a_constant():
    class Gated(nn.Module):
        def forward(self, x):
            return (x * torch.sigmoid(x)).sum(1)

    x = torch.tensor([[1.0, -2.0]])
    found = explain_outputs(Gated().eval(), x, lambda y: y, "cp-lrp")
    np.testing.assert_allclose(found.values[0], (x * torch.sigmoid(x)).numpy(), rtol=1e-5)
    assert found.error[0] < 1e-6


def test_silence_and_training_mode():
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)).eval()
    found = explain_outputs(network, torch.zeros(1, 4), lambda y: y[0], "cp-lrp")
    assert np.abs(found.values).max() < 1e-5
    with pytest.raises(ValueError, match="training mode"):
        explain_outputs(network.train(), torch.zeros(1, 4), lambda y: y[0])
    with pytest.raises(UserError, match="choose one of epsilon-plus-flat"):
        explain_outputs(network.eval(), torch.zeros(1, 4), lambda y: y[0], "nix")


def test_integrated_gradients_are_complete(networks):
    network, x, choose = networks["vgg"]
    with torch.no_grad():
        difference = choose(network(x)) - choose(network(torch.zeros_like(x)))
    found = integrated_gradients(network, x, choose, 0.0, steps=200)
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), difference.numpy(), rtol=2e-2, atol=1e-3)


def test_occlusion_of_a_linear_network_is_what_its_patches_add():
    network = nn.Sequential(nn.Flatten(), nn.Linear(30, 2)).eval()
    x = torch.rand(1, 5, 6)
    found = occlusion(network, x, lambda y: y[0], (2, 4))
    parts = (network[1].weight.detach().reshape(2, 1, 5, 6) * x).numpy()
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), parts.sum(axis=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(found[:, 0, 4, 5], parts[:, 0, 4, 4:].sum(axis=1) / 2, rtol=1e-4)


def test_rollout_multiplies_the_attention_of_all_layers(networks):
    network, x, _ = networks["vit"]
    found = attention_rollout(network, x)
    np.testing.assert_allclose(found.sum(axis=2), 1, rtol=1e-5)
    network.vit.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            weights = network.vit(pixel_values=network.stem(x[:, None]), output_attentions=True).attentions
    finally:
        network.vit.set_attn_implementation("sdpa")
    first, second = ((w.mean(1)[0] + torch.eye(w.shape[-1])) / 2 for w in weights)
    np.testing.assert_allclose(found[0], (second @ first).numpy(), rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="no attention"):
        attention_rollout(nn.Linear(2, 2), torch.zeros(1, 2))


def test_eager_and_fused_attention_have_the_same_relevance(networks):
    network, x, choose = networks["vit"]
    fused = explain_outputs(network, x, choose, "cp-lrp").values
    network.vit.set_attn_implementation("eager")
    try:
        np.testing.assert_allclose(explain_outputs(network, x, choose, "cp-lrp").values, fused, rtol=1e-3, atol=1e-5)
    finally:
        network.vit.set_attn_implementation("sdpa")


def test_masked_attention():
    class Masked(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x, x, attn_mask=torch.tensor([[True, False], [True, True]]))

    x = torch.rand(1, 1, 2, 4)
    found = explain_outputs(Masked().eval(), x, lambda y: y[0, 0, 0].sum(), "cp-lrp")
    np.testing.assert_allclose(found.values[0, 0, 0, 1], 0)
    np.testing.assert_allclose(found.outputs[0], x[0, 0, 0].sum(), rtol=1e-5)


@pytest.mark.parametrize("taps", [16, 33])
def test_tall_filters_have_the_gradient_of_any_convolution(taps):
    from mer_core.explain.lrp_engine import _TallConvolution

    generator = torch.Generator().manual_seed(taps)
    x = torch.randn(2, 1, 50, 6, generator=generator, requires_grad=True)
    weight, bias = torch.randn(5, 1, taps, 1, generator=generator), torch.randn(5, generator=generator)
    seed = torch.randn(2, 5, 51 - taps, 6, generator=generator)
    expected = torch.autograd.grad(torch.nn.functional.conv2d(x, weight, bias), x, seed)[0]
    output = _TallConvolution.apply(x, weight, bias)
    torch.testing.assert_close(output, torch.nn.functional.conv2d(x, weight, bias))
    torch.testing.assert_close(torch.autograd.grad(output, x, seed)[0], expected, atol=1e-4, rtol=1e-4)
