"""Networks in stages: the same as in one piece, frozen where they should be, with the front ends they were made for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from mer_core.errors import UserError
from mer_core.models.backbones.front_ends import musicnn_windows
from mer_core.models.backbones.hub_front_ends import ast_windows
from mer_core.models.networks.musicnn import Musicnn
from mer_core.models.networks.residual_cnn import ResidualCnn
from mer_core.models.networks.staged import OverWindows, Staged
from mer_core.models.networks.stages import (
    LinearHead,
    staged_ast,
    staged_musicnn,
    staged_picture,
    staged_residual,
)
from mer_core.models.training import windows as kept_windows
from mer_core.models.training.front_ends import FRONT_ENDS
from mer_core.models.training.recipe import Recipe
from mer_core.models.training.schedule import Step, read_schedule
from mer_core.models.training.spectrograms import MelStyle, Spectrograms
from mer_core.models.training.tuning import (
    Material,
    Tuning,
    cover_outputs,
    fit_tuning,
    stages_to_keep,
)
from mer_core.models.training.windows import Windows, keep_outputs

RATE = 16000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE)).astype(np.float32)


def test_a_schedule_is_data():
    assert read_schedule("head:5,last-2:10,all:10", 6) == (Step("head", 5), Step("last-2", 10), Step("all", 10))
    assert [step.trained(6) for step in read_schedule("head,last-2:3,all:1")] == [1, 3, 6]
    assert str(read_schedule("head,last-1:3")[1]) == "last-1:3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("last-2:3,head:3", "widen"),
        ("last-2:3,last-2:3", "widen"),
        ("all", "EPOCHS"),
        ("tail:3", "no step"),
        ("last-9:2", "more than the 5 stages"),
        ("head:0", "no step"),
        ("", "no step"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(text, said):
    with pytest.raises(UserError, match=said):
        read_schedule(text, 6)


@pytest.fixture(scope="module")
def musicnn():
    torch.manual_seed(0)
    network = Musicnn(50, width=8, hidden=20).eval()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network


def test_musicnn_in_stages_is_musicnn(musicnn):
    samples = noise(3.5)
    staged = staged_musicnn(musicnn, 20).eval()
    staged.stages["head"].solve(np.eye(20), np.zeros(20))
    style = FRONT_ENDS["musicnn"]
    table = style.compute(samples)
    with torch.inference_mode():
        found = staged(torch.from_numpy(table[None, : style.frames].astype(np.float32)))
        expected = musicnn(musicnn_windows(samples)[:1])["dense"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_ast_hears_the_published_front_end():
    samples = noise(10.3)
    ours = FRONT_ENDS["ast"].compute(samples)[:1024].astype(float)
    published = ast_windows(samples, 10.24)[0].numpy() * 2 * 4.5689974 - 4.2677393
    assert np.abs(ours[:1020] - published[:1020]).max() < 0.02  # half precision of numbers up to 16


def tiny_ast(frames=64, bands=32):
    from transformers import ASTConfig, ASTModel

    torch.manual_seed(1)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return ASTModel(ASTConfig(**size, max_length=frames, num_mel_bins=bands)).eval()


def test_time_and_frequency_are_not_exchanged():
    """A tone differs from patch to patch along frequency alone, a click along time alone."""
    model = tiny_ast()
    patches = staged_ast(model, 2, (0.0, 1.0)).eval().stages["patches"]
    tone, click = torch.zeros(1, 64, 32), torch.zeros(1, 64, 32)
    tone[:, :, 20], click[:, 40] = 1, 1
    rows, columns = model.embeddings.get_shape(model.config)  # frequency, time
    for picture, along in ((tone, 0), (click, 1)):
        with torch.inference_mode():
            tokens = (patches(picture) - model.embeddings.position_embeddings)[0, 2:].view(rows, columns, -1)
        varies = [float(tokens.var(dim=axis).sum()) > 1e-6 for axis in (0, 1)]
        assert varies == [along == 0, along == 1]


def test_ast_in_stages_is_ast():
    model, x = tiny_ast(), torch.randn(3, 64, 32)
    staged = staged_ast(model, 2, (0.5, 2.0)).eval()
    with torch.inference_mode():
        expected = staged.stages["head"].mlp(model((x - 0.5) / 2).last_hidden_state.mean(1))
        torch.testing.assert_close(staged(x), expected, rtol=1e-5, atol=1e-6)


def tiny_pictures():
    from transformers import EfficientNetConfig, EfficientNetModel, MobileNetV2Config, MobileNetV2Model

    torch.manual_seed(2)
    one = {"in_channels": [8], "out_channels": [8], "strides": [2], "kernel_sizes": [3], "expand_ratios": [1]}
    one |= {"num_block_repeats": [1], "depthwise_padding": [], "width_coefficient": 0.25, "depth_coefficient": 1.0}
    return {
        "efficientnet": EfficientNetModel(EfficientNetConfig(**one, hidden_dim=320, image_size=224)),
        "mobilenet": MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.25)),
    }


@pytest.mark.parametrize("name", ["efficientnet", "mobilenet"])
def test_image_networks_take_mel_windows_of_any_level(name):
    staged = staged_picture(tiny_pictures()[name], 2, None).eval()
    x = torch.randn(2, 50, 40) * 10
    with torch.inference_mode():
        outputs = staged(x)
        assert outputs.shape == (2, 2) and outputs.abs().max() <= 1
        torch.testing.assert_close(staged(x - 12.0), outputs, rtol=1e-4, atol=1e-5)  # dB of gain
    assert staged.freeze(1) == 0 and staged.stages["adapter"].colours.weight.requires_grad  # nothing trained it before
    assert not any(p.requires_grad for p in staged.stages["stem"].parameters())


def test_the_residual_network_in_stages_is_itself():
    torch.manual_seed(3)
    network = ResidualCnn(widths=(4, 8), dropout=0.1).eval()
    x = torch.randn(2, 40, 32)
    with torch.inference_mode():
        torch.testing.assert_close(staged_residual(network).eval()(x), network(x))


def small_staged(outputs=2) -> Staged:
    torch.manual_seed(4)
    return Staged(
        {
            "one": nn.Sequential(nn.Flatten(), nn.Linear(24, 16), nn.BatchNorm1d(16), nn.ReLU()),
            "two": nn.Sequential(nn.Linear(16, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2)),
            "three": nn.Sequential(nn.Linear(12, 10), nn.Tanh()),
            "head": LinearHead(10, outputs),
        }
    )


def test_what_is_frozen_stays_and_slower_stages_come_first():
    network = small_staged()
    assert network.freeze(2) == 2 and network.counts() == (
        10 * 12 + 10 + 22,
        sum(p.numel() for p in network.parameters()),
    )
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    groups = network.rate_groups(0.1, 0.5)
    assert [(group["name"], group["lr"]) for group in groups] == [("head", 0.1), ("three", 0.05)]
    optimiser = torch.optim.SGD(groups)
    network.train()
    assert not network.stages["two"].training  # no dropout in what is frozen
    for _ in range(3):
        optimiser.zero_grad()
        (network(torch.randn(8, 4, 6)) - 1).square().mean().backward()
        optimiser.step()
    changed = {
        name.split(".")[1] for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {"three", "head"}
    network.freeze(4)
    network.train()
    network(torch.randn(8, 4, 6))
    assert torch.equal(network.stages["two"][1].running_mean, before["stages.two.1.running_mean"])
    network.freeze(4, fixed_norms=False)
    network.train()
    network(torch.randn(8, 4, 6))
    assert not torch.equal(network.stages["two"][1].running_mean, before["stages.two.1.running_mean"])


@pytest.fixture
def sounds():
    random = np.random.default_rng(5)
    tables = {f"t{k}": random.normal(size=(int(random.integers(4, 20)), 6)).astype(np.float16) for k in range(30)}
    return Spectrograms(MelStyle("tiny", 100, 64, 25, 6, 0, 50, 0.75), tables, ())


def material_of(sounds, **more) -> Material:
    targets = {
        track: np.array([5 + np.asarray(t, float)[:, :3].mean(), 5 - np.asarray(t, float)[:, 2].mean()])
        for track, t in sounds.tables.items()
    }
    names = tuple(targets)
    return Material(Windows(sounds), targets, names[:22], names[22:], 2, **more)


def test_outputs_of_frozen_stages_are_kept(sounds, tmp_path, monkeypatch):
    assert sounds.style.frames == 4
    network, windows = small_staged().eval(), Windows(sounds, per_track=2)
    kept = keep_outputs(network, 2, windows, tmp_path)
    for track in sounds.tables:
        found = cover_outputs(network, 2, kept, [track])
        np.testing.assert_allclose(found, cover_outputs(network, 0, windows, [track]), atol=1e-5)
    (drawn,) = kept.draw(["t0", "t1"], np.random.default_rng(0))
    assert drawn.shape == (2, 2, 12)
    deeper = keep_outputs(network, 3, windows, tmp_path)  # from what is kept of the second stage
    np.testing.assert_allclose(
        cover_outputs(network, 3, deeper, ["t4"]), cover_outputs(network, 0, windows, ["t4"]), atol=1e-5
    )
    monkeypatch.setattr(Staged, "forward", None)  # the second time nothing is run
    again = keep_outputs(network, 2, windows, tmp_path)
    np.testing.assert_array_equal(again.cover("t3")[0], kept.cover("t3")[0])
    monkeypatch.undo()
    with torch.no_grad():
        network.stages["two"][0].weight.add_(0.1)
    assert not np.allclose(keep_outputs(network, 2, windows, tmp_path).cover("t3")[0], kept.cover("t3")[0])
    monkeypatch.setattr(kept_windows, "LARGEST_GB", 1e-9)
    assert keep_outputs(network, 1, windows, tmp_path) is None


def test_a_solved_head_is_ridge_on_the_mean_embedding(sounds, tmp_path):
    network, material = small_staged(), material_of(sounds)
    tuned = fit_tuning(network, material, Tuning((Step("head", 0),), Recipe()), tmp_path)
    (facts,) = tuned.steps
    assert facts["trained"] == 22
    with torch.inference_mode():
        windows = [network(torch.from_numpy(material.windows.cover(t)[0]), 0, 3).numpy() for t in sounds.tables]
    pooled = np.stack([rows.mean(axis=0) for rows in windows])
    spread = np.concatenate(windows[:22]).std(axis=0)
    truth = np.stack(list(material.targets.values()))
    predicted = cover_outputs(network, 0, material.windows, list(sounds.tables)) * tuned.spread + tuned.centre
    for column in range(2):
        alpha = facts["penalties"][column]
        ridge = Ridge(alpha).fit(pooled[:22] / spread, truth[:22, column])
        np.testing.assert_allclose(predicted[:, column], ridge.predict(pooled / spread), atol=2e-3)


def test_each_step_starts_from_the_best_of_the_one_before(sounds, tmp_path):
    network, said, rows = small_staged(), [], []
    tuning = Tuning(read_schedule("head,last-1:4,all:3"), Recipe(learning_rate=1e-2, batch_size=8), 0.7)
    assert stages_to_keep(network, tuning) == 2
    tuned = fit_tuning(network, material_of(sounds), tuning, tmp_path, report=rows.append, say=said.append)
    scores = [step["best_score"] for step in tuned.steps]
    assert scores[0] >= scores[1] >= scores[2] and len(rows) == 7
    assert said[1].startswith("step 2, last-1:4: 152 of") and {row["step"] for row in rows} == {1, 2}
    material = material_of(sounds)
    wanted = np.stack([material.targets[track] for track in material.validation])
    outputs = cover_outputs(network, 0, material.windows, material.validation)
    error = np.sqrt(np.mean((outputs - (wanted - tuned.centre) / tuned.spread) ** 2))
    assert error == pytest.approx(scores[2], abs=1e-6)


def test_other_targets_weigh_as_told_and_bounded_outputs_use_the_scale(sounds):
    material = material_of(sounds)
    more = {track: np.concatenate([y, [3 * y[0], 40.0 * y[1]]]) for track, y in material.targets.items()}
    _, spread = Material(material.windows, more, material.train, (), 2, weight=0.25).scaling()
    known = np.stack([more[track] for track in material.train]).std(axis=0)
    np.testing.assert_allclose(spread[:2], known[:2])
    np.testing.assert_allclose(spread[2:], 2 * np.sqrt(np.mean(known[2:] ** 2)))
    centre, spread = material_of(sounds, scale=(1.0, 9.0)).scaling()
    assert centre.tolist() == [5, 5] and spread.tolist() == [4, 4]


def test_a_track_is_the_mean_of_its_windows():
    network, x = small_staged().eval(), torch.randn(3, 5, 4, 6)
    with torch.inference_mode():
        expected = torch.stack([network(rows).mean(0) for rows in x])
        torch.testing.assert_close(OverWindows(network, 0)(x), expected)
