"""Backbones: networks against slow evaluations of their checkpoints, published tags, refusals, the command."""

from __future__ import annotations

import ast
import csv
import importlib.util
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import mer_core.models.backbones as registry
from mer_core.datasets.audio import read_audio
from mer_core.errors import UserError
from mer_core.models.backbones import BACKBONES, find_weights, local, missing, open_backbone, wheel
from mer_core.models.backbones.tensor_bundle import read_bundle
from mer_core.models.backbones.weights import fill, read_state
from pipelines.__main__ import main

TECHNO, GUITAR = "joram-moments_of_clarity-08-solipsism-59-88.mp3", "TRWJAZW128F42760DD_test.mp3"
WHEEL = importlib.util.find_spec("musicnn")
needs_wheel = pytest.mark.skipif(WHEEL is None, reason="pip install --no-deps musicnn==0.1.0")
EPSILON = 1e-3


@pytest.fixture(scope="module")
def listener():
    """`listener(name)`: opened once."""
    opened = {}

    def get(name, root=None):
        if name not in opened:
            opened[name] = open_backbone(name, root)
        return opened[name]

    return get


@pytest.fixture(scope="module")
def clip(real_data):
    """`clip(TECHNO, rate)`: samples of a demo clip."""
    return lambda name, rate: read_audio(real_data("musicnn_demo") / name, rate)[0]


def noise(seconds: float, rate: int = 16000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate)).astype(np.float32)


# --- networks against numpy ---------------------------------------------------


def normed(x: np.ndarray, arrays: dict, number: int) -> np.ndarray:
    """Batch norm by its definition, channels last."""
    name = "batch_normalization" + (f"_{number}" if number else "")
    gamma, beta, mean, variance = (arrays[f"{name}/{k}"] for k in ("gamma", "beta", "moving_mean", "moving_variance"))
    return gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta


def convolved(image: np.ndarray, arrays: dict, name: str) -> np.ndarray:
    """(rows, columns, inputs) -> (rows, columns, filters), float64, nothing padded, by explicit sums; then ReLU."""
    kernel = arrays[f"{name}/kernel"].astype(float)
    views = np.lib.stride_tricks.sliding_window_view(image, kernel.shape[:2], (0, 1))  # rows, columns, inputs, kernel
    sums = np.tensordot(views, kernel, ((3, 4, 2), (0, 1, 2)))
    return np.maximum(sums + arrays[f"{name}/bias"], 0)


def padded(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Zeros for filters of that size, the odd one at the end, as TensorFlow's "same" puts them."""
    margins = [((size - 1) // 2, size - 1 - (size - 1) // 2) for size in (rows, columns)]
    return np.pad(image, [*margins, (0, 0)])


def musicnn_logits(patch: np.ndarray, arrays: dict) -> np.ndarray:
    image = normed(patch[:, :, None].astype(float), arrays, 0)
    front = []
    for i, frames in enumerate((7, 7, 128, 64, 32)):
        output = convolved(padded(image, frames, 1), arrays, "conv2d" + (f"_{i}" if i else ""))
        front.append(normed(output, arrays, 1 + i).max(1))
    stages = [np.concatenate(front, 1)]
    for i in range(3):
        output = convolved(padded(stages[-1][:, :, None], 7, 1), arrays, f"conv2d_{5 + i}")[:, 0]
        output = normed(output, arrays, 6 + i)
        stages.append(output if i == 0 else output + stages[-1])
    summary = np.concatenate(stages, 1)
    pooled = np.stack([summary.max(0), summary.mean(0)], 1).ravel()
    hidden = normed(pooled, arrays, 9) @ arrays["dense/kernel"] + arrays["dense/bias"]
    return normed(np.maximum(hidden, 0), arrays, 10) @ arrays["dense_1/kernel"] + arrays["dense_1/bias"]


def pooled_max(image: np.ndarray, size: tuple[int, int], stride: int) -> np.ndarray:
    views = np.lib.stride_tricks.sliding_window_view(image, size, (0, 1))[::stride, ::stride]
    return views.max((3, 4))


def vgg_logits(patch: np.ndarray, arrays: dict) -> np.ndarray:
    image = normed(patch[:, :, None].astype(float), arrays, 0)
    for i, (size, stride) in enumerate((((4, 1), 2), ((2, 2), 2), ((2, 2), 2), ((2, 2), 2), ((4, 4), 4))):
        image = normed(convolved(padded(image, 3, 3), arrays, f"{1 + i}CNN"), arrays, 1 + i)
        image = pooled_max(image, size, stride)
    return image.ravel() @ arrays["dense/kernel"] + arrays["dense/bias"]


@needs_wheel
@pytest.mark.parametrize(
    ("name", "folder", "slow"),
    [
        ("musicnn-mtt", "MTT_musicnn", musicnn_logits),
        ("musicnn-msd", "MSD_musicnn", musicnn_logits),
        ("vgg-msd", "MSD_vgg", vgg_logits),
    ],
)
def test_logits_equal_a_slow_evaluation_of_the_checkpoint(listener, name, folder, slow):
    opened = listener(name)
    windows = opened.front_end(noise(3.0))
    arrays = read_bundle(Path(WHEEL.submodule_search_locations[0]) / folder)
    np.testing.assert_allclose(opened.listen(windows)["logits"][0], slow(windows[0].numpy(), arrays), atol=1e-4)


@needs_wheel
def test_layers_are_parts_of_one_another(listener):
    opened = listener("musicnn-mtt")
    layers = opened.listen(opened.front_end(noise(6.0)))
    assert {name: layer.shape for name, layer in layers.items()} == {
        "logits": (2, 50),
        "embedding": (2, 200),
        "dense": (2, 200),
        "pooled": (2, 1506),
        "max_pool": (2, 753),
        "mean_pool": (2, 753),
    }
    np.testing.assert_array_equal(layers["pooled"][:, ::2], layers["max_pool"])
    np.testing.assert_array_equal(layers["pooled"][:, 1::2], layers["mean_pool"])
    assert (layers["max_pool"] >= layers["mean_pool"] - 1e-4).all()
    assert layers["dense"].min() < 0  # before the ReLU


# --- what is published ----------------------------------------------------------


def top_tags(opened, samples: np.ndarray, count: int) -> list[str]:
    order = opened.tag_probabilities(opened.front_end(samples)).mean(0).argsort()[::-1]
    return [opened.backbone.tags[i] for i in order[:count]]


@needs_wheel
def test_tags_of_the_demo_clips_are_the_published_ones(listener, clip):
    published = "techno, electronic, synth, fast, beat, drums, no vocals, no vocal, dance, ambient".split(", ")
    assert top_tags(listener("musicnn-mtt"), clip(TECHNO, 16000), 10) == published
    assert top_tags(listener("musicnn-mtt"), clip(GUITAR, 16000), 3) == ["guitar", "piano", "fast"]


def test_efficientat_hears_music(listener, clip, real_weights):
    opened = listener("efficientat", real_weights("efficientat_mn04").parent)
    for name, also in ((TECHNO, "Musical instrument"), (GUITAR, "Guitar")):
        tags = top_tags(opened, clip(name, 32000)[: 10 * 32000], 8)
        assert tags[0] == "Music" and also in tags


@pytest.mark.parametrize(
    ("name", "clip_name", "tag", "low", "high"),
    [  # reported for these files on these clips
        ("tagger-mtat-musicnn", TECHNO, "techno", 0.635, 0.645),
        ("tagger-mtat-musicnn", GUITAR, "guitar", 0.825, 0.835),
        ("tagger-jamendo-musicnn", TECHNO, "electronic", 0.505, 0.655),
        ("tagger-jamendo-fcn", TECHNO, "electronic", 0.505, 0.655),
        ("tagger-jamendo-crnn", TECHNO, "electronic", 0.505, 0.655),
    ],
)
def test_taggers_hear_what_was_reported(listener, clip, real_weights, name, clip_name, tag, low, high):
    opened = listener(name, real_weights("sota_music_tagging").parent)
    probabilities = opened.tag_probabilities(opened.front_end(clip(clip_name, 16000))).mean(0)
    assert low <= probabilities[opened.backbone.tags.index(tag)] <= high
    assert probabilities.argmax() == opened.backbone.tags.index(tag)


@needs_wheel
def test_tag_lists_are_those_of_the_package():
    text = (Path(WHEEL.submodule_search_locations[0]) / "configuration.py").read_text()
    lists = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
    }
    assert list(BACKBONES["musicnn-mtt"].tags) == lists["MTT_LABELS"]
    assert list(BACKBONES["musicnn-msd"].tags) == lists["MSD_LABELS"]


def test_tag_lists_are_those_beside_the_weights(real_weights):
    taggers = real_weights("sota_music_tagging")
    assert list(BACKBONES["tagger-mtat-fcn"].tags) == np.load(taggers / "mtat_tags.npy").tolist()
    assert list(BACKBONES["tagger-msd-fcn"].tags) == (taggers / "msd_50tagList.txt").read_text().split("\n")[:50]
    with (real_weights("efficientat_mn04") / "class_labels_indices.csv").open(newline="") as file:
        assert list(BACKBONES["efficientat"].tags) == [row["display_name"] for row in csv.DictReader(file)]


def test_every_entry_is_whole():
    for name, backbone in BACKBONES.items():
        assert backbone.name == name and backbone.layers and 0 < backbone.hop_s <= backbone.window_s
        assert backbone.source and backbone.licence and backbone.size_mb > 0 and backbone.saw
        assert len(set(backbone.tags)) == len(backbone.tags)


# --- listening --------------------------------------------------------------------


@needs_wheel
def test_windows_are_heard_alike_alone_and_in_batches(listener):
    opened = listener("vgg-mtt")
    windows = opened.front_end(noise(55))
    assert len(windows) == 18  # 55 s hold 18 of 2.992 s, more than one batch
    together = opened.embed(windows)["embedding"]
    alone = opened.embed(windows[17:])["embedding"]
    np.testing.assert_allclose(together[17:], alone, atol=1e-5)
    assert together.dtype == np.float32


def test_window_times_do_not_drift():
    opened = open_backbone("vgg-mtt", "random", hop_s=1.0)
    samples = np.zeros(60 * 16000, np.float32)
    samples[30 * 16000] = 1.0  # a click at 30 s
    windows = opened.front_end(samples).numpy()
    with_click = [i for i, window in enumerate(windows) if window.max() > 0]
    times = opened.window_times(len(windows))
    half = opened.backbone.window_s / 2
    assert with_click == [i for i, time in enumerate(times) if abs(time - 30) < half]
    assert np.allclose(np.diff(times), 1.0) and np.isclose(times[0], half)


def test_clips_shorter_than_a_window_are_filled_as_said():
    repeating, whole = (open_backbone(name, "random") for name in ("musicnn-mtt", "efficientat"))
    short = noise(1.5)
    np.testing.assert_array_equal(repeating.front_end(short), repeating.front_end(np.tile(short, 2)[:47872]))
    assert "1.5 s" in repeating.note(short) and "repeated" in repeating.note(short)
    assert repeating.note(noise(3)) is None
    assert whole.front_end(noise(4, 32000)).shape == (1, 1, 128, 400)
    assert "as it is" in whole.note(noise(4, 32000))
    with pytest.raises(UserError, match=r"0\.90 s.*musicnn-mtt needs at least 1 s"):
        repeating.front_end(noise(0.9))
    with pytest.raises(ValueError, match="mono"):
        repeating.front_end(np.zeros((2, 16000)))


@needs_wheel
def test_silence_and_noise_give_finite_numbers(listener):
    opened = listener("musicnn-mtt")
    for samples in (np.zeros(48000, np.float32), np.ones(48000, np.float32), noise(3)):
        heard = opened.listen(opened.front_end(samples))
        assert all(np.isfinite(layer).all() for layer in heard.values())
        probabilities = opened.tag_probabilities(opened.front_end(samples))
        assert (probabilities >= 0).all() and (probabilities <= 1).all()


# --- weights ------------------------------------------------------------------------


def test_random_weights_are_recorded_as_such_and_repeat():
    first, second = (open_backbone("musicnn-msd", "random") for _ in range(2))
    assert first.weights == {"name": "musicnn-msd", "source": "random"}
    windows = first.front_end(noise(3))
    np.testing.assert_array_equal(first.embed(windows)["dense"], second.embed(windows)["dense"])


@needs_wheel
def test_real_weights_are_recorded_with_their_checksum(listener):
    weights = listener("musicnn-msd").weights
    assert weights["sha256"] == wheel.CHECKSUMS["MSD_musicnn"][0] and weights["licence"] == "ISC"


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / BACKBONES[name].weights_folder / BACKBONES[name].files[0][0]
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_missing_and_wrong_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(
        UserError, match=r"efficientat cannot be opened: .*mn04_as_mAP_432\.pt is missing: take it from"
    ):
        open_backbone("efficientat", tmp_path)
    path = put(tmp_path, "efficientat", b"not these")
    with pytest.raises(UserError, match="SHA-256 [0-9a-f]{64} where 899a8c62[0-9a-f]{56} was expected") as caught:
        open_backbone("efficientat", tmp_path)
    assert str(path) in str(caught.value)
    with pytest.raises(UserError, match="is no folder"):
        open_backbone("efficientat", tmp_path / "nowhere")
    with pytest.raises(UserError, match="no backbone 'musicn'; choose one of musicnn-msd"):
        open_backbone("musicn")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install --no-deps musicnn==0\.1\.0"):
        open_backbone("musicnn-msd")


@needs_wheel
def test_a_damaged_wheel_is_refused(tmp_path, monkeypatch):
    installed = Path(WHEEL.submodule_search_locations[0]) / "MTT_vgg"
    shutil.copytree(installed, tmp_path / "MTT_vgg")
    data = tmp_path / "MTT_vgg" / ".data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    entry = replace(BACKBONES["vgg-mtt"], weights_folder="MTT_vgg")
    with pytest.raises(UserError, match="SHA-256"):
        find_weights(entry, tmp_path)
    monkeypatch.setitem(registry.BACKBONES, "vgg-mtt", replace(entry, files=tuple((n, None) for n, _ in entry.files)))
    with pytest.raises(UserError, match="ends at byte"):
        open_backbone("vgg-mtt", tmp_path)


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    import torch

    network, _ = local.load_tagger(BACKBONES["tagger-mtat-crnn"], None)
    state = network.state_dict()
    check = partial(fill, network, path=Path("weights.pth"))
    check(dict(state))
    with pytest.raises(UserError, match=r"weights\.pth does not fit TaggerCrnn: it lacks dense\.bias"):
        check({name: tensor for name, tensor in state.items() if name != "dense.bias"})
    with pytest.raises(UserError, match="it has head.weight, which the network has not"):
        check(state | {"head.weight": torch.zeros(2)})
    with pytest.raises(UserError, match=r"dense\.bias of shape \(4,\) for \(50,\)"):
        check(state | {"dense.bias": torch.zeros(4)})
    with pytest.raises(UserError, match="not finite"):
        check(state | {"dense.bias": torch.full((50,), torch.nan)})
    other, _ = local.load_tagger(BACKBONES["tagger-mtat-fcn"], None)
    with pytest.raises(UserError, match="and .* more"):
        fill(other, state, Path("weights.pth"))


def test_files_that_are_no_weights_are_refused(tmp_path):
    import torch

    path = tmp_path / "weights.pth"
    torch.save({"a": torch.arange(1000.0)}, path)
    whole = path.read_bytes()
    assert torch.equal(read_state(path)["a"], torch.arange(1000.0))
    for content in (whole[: len(whole) // 2], whole[:10], b"", b"hello", whole[100:]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="no weights file or is damaged"):
            read_state(path)
    torch.save({"a": "text"}, path)
    with pytest.raises(UserError, match="no table of tensors"):
        read_state(path)
    torch.save(Path("x"), path)  # a file that would run code
    with pytest.raises(UserError, match="no weights file"):
        read_state(path)


# --- the command --------------------------------------------------------------------


def test_the_command_tells_what_can_be_opened(tmp_path, capsys):
    put(tmp_path, "efficientat", b"some file")
    assert main(["backbones", "--weights", str(tmp_path), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(BACKBONES)
    assert rows["efficientat"]["loadable"] and rows["efficientat"]["tags"] == 527
    assert rows["musicnn-msd"]["loadable"] == (missing(BACKBONES["musicnn-msd"]) is None)
    assert not rows["tagger-msd-fcn"]["loadable"] and "is missing" in rows["tagger-msd-fcn"]["problem"]
    assert main(["backbones", "--weights", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["name", "gives", "Hz"]
    assert [line.split()[0] for line in lines[1 : 1 + len(BACKBONES)]] == list(BACKBONES)
    assert main(["backbones", "--weights", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: --weights")
