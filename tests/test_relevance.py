"""Relevance of ratings on time and frequency: everything adds up, is where it should be, and survives its files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mer_core.errors import UserError
from mer_core.explain.maps import RelevanceMap, read_about, read_map, write_maps
from mer_core.explain.relevance import _Seeds, relevance_of_track
from mer_core.explain.relevance_grids import Grid, grid_of, lay_out
from mer_core.explain.relevance_heads import AdditiveHead, classification_head, regression_head
from mer_core.models.backbones import BACKBONES, open_backbone
from mer_core.models.classifiers import LinearHead
from mer_core.models.regressors import make_regressor

RATE = 16000


@pytest.fixture(scope="module")
def listener():
    return open_backbone("musicnn-msd")


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """Seven seconds: two windows, and a rest that is not heard."""
    time = np.arange(7 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * f * time) for f in (220, 277, 330, 880))
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.1 * chord * np.exp(-3 * (time % 0.5)) + 0.01 * noise).astype(np.float32)


def head_for(listener, family: str = "ridge") -> tuple[AdditiveHead, object]:
    rng = np.random.default_rng(1)
    sounds = [rng.standard_normal(4 * RATE) * rng.uniform(0.001, 0.3) for _ in range(4)]
    heard = np.concatenate([listener.listen(listener.front_end(s.astype(np.float32)))["embedding"] for s in sounds])
    rows = heard[rng.integers(0, len(heard), 40)] + 0.3 * rng.standard_normal((40, 200))
    model = make_regressor(family, 0).fit(rows, rng.normal(size=(40, 2)) + rows[:, :2])
    return regression_head(model, rows, ("valence", "arousal")), model


@pytest.fixture(scope="module")
def head(listener):
    return head_for(listener)


@pytest.fixture(scope="module")
def found(listener, head, clip) -> RelevanceMap:
    return relevance_of_track(listener, head[0], clip)


def test_the_parts_add_up_to_the_prediction(listener, head, clip, found):
    embedding = listener.listen(listener.front_end(clip))["embedding"].mean(axis=0, dtype=float)
    np.testing.assert_allclose(found.predicted, head[1].predict(embedding[None])[0], atol=1e-6)
    assert np.abs(found.gap()).max() < 1e-3
    assert found.conservation_error.max() < 1e-3
    assert found.targets == ("valence", "arousal")
    assert np.abs(found.values).sum() > 0.1


@pytest.mark.parametrize("rule", ["epsilon-plus-flat", "cp-lrp", "cp-lrp-gamma"])
def test_every_rule_adds_up_on_the_real_network(listener, head, clip, rule):
    found = relevance_of_track(listener, head[0], clip[: 4 * RATE], ("arousal",), rule)
    assert found.values.shape[0] == 1 and found.rule == rule
    assert np.abs(found.gap()).max() < 1e-3
    assert found.conservation_error.max() < 1e-3


def test_what_was_not_heard_has_no_relevance(found):
    assert found.heard_s == pytest.approx(2 * 187 * 256 / RATE)
    assert found.duration_s == 7
    heard = found.seconds < found.heard_s
    assert (found.values[:, ~heard] == 0).all()
    assert (np.abs(found.values[:, heard]).sum(axis=2) > 0).mean() > 0.9
    assert found.values.shape[1:] == (len(found.seconds), 96)


def test_relevance_is_where_the_sound_is(found):
    """The chord has its energy below 1.2 kHz; above there is faint noise."""
    low = found.band_hz < 1200
    size = np.abs(found.values).sum(axis=(0, 1))
    assert size[low].sum() > 2 * size[~low].sum()


def test_each_window_has_its_share(listener, head, clip):
    """Two windows that sound alike share alike; the second half of a track that repeats gets what the first gets."""
    window = clip[: 187 * 256]
    twice = relevance_of_track(listener, head[0], np.concatenate([window, window]))
    halves = np.abs(twice.values[:, :170]).sum(), np.abs(twice.values[:, 187 : 187 + 170]).sum()
    assert halves[0] == pytest.approx(halves[1], rel=0.2)


def slow_present(value: float, zero: float, average: float) -> float:
    """How much more of itself a unit has than in the average track, on its side of where it is off."""
    activation, usual = value - zero, average - zero
    if activation >= 0:
        return activation - min(max(usual, 0), activation)
    return activation - max(min(usual, 0), activation)


def test_what_is_missing_is_not_handed_on():
    rng = np.random.default_rng(2)
    embedding, reference, zero = rng.normal(size=(3, 8)), rng.normal(size=8), rng.normal(size=8)
    slopes = rng.normal(size=(8, 2))
    shares = lambda rows: slopes * (rows - reference)[:, :, None]  # noqa: E731
    head = AdditiveHead(("a", "b"), np.zeros(2), shares, reference, np.zeros(8))
    seeds = _Seeds(head, [0, 1], embedding)
    seeded = seeds.weights(0, 3, zero) * (embedding - zero)
    for w in range(3):
        for j in range(8):
            expected = slopes[j] * slow_present(embedding[w, j], zero[j], reference[j]) / 3
            np.testing.assert_allclose(seeded[:, w, j], expected, atol=1e-12)
    # A unit that is off everywhere has nothing to hand on, whatever it is worth.
    off = _Seeds(head, [0, 1], np.tile(zero, (3, 1))).weights(0, 3, zero)
    assert (off == 0).all()


def test_slopes_near_the_average_track_are_held_down():
    head = AdditiveHead(("a",), np.zeros(1), lambda rows: 1e3 * rows[:, :, None], np.zeros(1), np.ones(1))
    seeds = _Seeds(head, [0], np.array([[1e-6]]))
    assert np.abs(seeds.slopes).max() < 1e-3 / 0.1


def test_a_head_is_zero_at_its_reference(head):
    adds = head[0].contributions(head[0].reference[None])[0]
    assert np.abs(adds).max() < 0.02 * np.abs(head[0].contributions(head[0].reference[None] + 1)).max()


def test_a_classifier_is_a_head_too(listener, clip):
    rng = np.random.default_rng(3)
    linear = LinearHead(rng.normal(size=200) * 0.1, np.ones(200), rng.normal(size=200), -0.4)
    found = relevance_of_track(listener, classification_head(linear, "happy"), clip[: 4 * RATE])
    embedding = listener.listen(listener.front_end(clip[: 4 * RATE]))["embedding"].mean(axis=0, dtype=float)
    np.testing.assert_allclose(found.predicted, linear.logit(embedding[None]), rtol=1e-5)
    assert np.abs(found.gap()).max() < 1e-3


def test_a_short_clip_is_folded_back_and_said(listener, head, clip):
    found = relevance_of_track(listener, head[0], clip[: 2 * RATE])
    assert "repeated" in found.note and len(found.seconds) == round(2 * RATE / 256)
    assert np.abs(found.gap()).max() < 1e-3
    np.testing.assert_array_equal(found.remainder[3], 0)


def test_bad_input_is_said(listener, head, clip):
    with pytest.raises(UserError, match="silent"):
        relevance_of_track(listener, head[0], np.zeros(4 * RATE, np.float32))
    with pytest.raises(UserError, match="needs at least 1 s"):
        relevance_of_track(listener, head[0], clip[: RATE // 2])
    with pytest.raises(UserError, match="choose from valence, arousal"):
        relevance_of_track(listener, head[0], clip, ("joy",))
    with pytest.raises(UserError, match="choose one of epsilon-plus-flat"):
        relevance_of_track(listener, head[0], clip, rule="nix")
    with pytest.raises(UserError, match="mert has no frames and bands"):
        grid_of(BACKBONES["mert"])
    rows = np.random.default_rng(4).normal(size=(20, 3))
    forest = make_regressor("forest", 0, n_estimators=2).fit(rows, rows[:, :2])
    with pytest.raises(UserError, match="ridge and elasticnet alone"):
        regression_head(forest, rows, ("a", "b"))


def test_windows_are_laid_out_where_they_were_heard():
    grid = Grid(0.5, 0.0, np.arange(3.0), (0.0, 3.0), None)
    windows = np.ones((1, 2, 4, 3))
    values, padding = lay_out(windows, np.array([0.0, 1.0]), grid, 2.0, repeated=False)
    np.testing.assert_array_equal(values[0, :, 0], [1, 1, 2, 2, 1])
    assert padding[0] == 3  # one frame of three bands lies behind the end
    values, padding = lay_out(windows[:, :1], np.array([0.0]), grid, 1.0, repeated=True)
    np.testing.assert_array_equal(values[0, :, 0], [2, 2])
    assert padding[0] == 0


@pytest.mark.parametrize("name", ["musicnn-msd", "vgg-mtt", "tagger-mtat-fcn", "efficientat", "cnn14", "vggish", "ast"])
def test_grids_find_a_tone(name):
    """The loudest band of a tone's window is the band at its frequency, at the time of its beginning."""
    backbone, tone, start = BACKBONES[name], 1500.0, 0.6
    short = replace(backbone, window_s=min(backbone.window_s, 10.24))
    time = np.arange(round(short.window_s * backbone.rate)) / backbone.rate
    samples = (0.3 * np.sin(2 * np.pi * tone * time) * (time >= start)).astype(np.float32)
    samples += 1e-5 * np.random.default_rng(0).standard_normal(len(samples)).astype(np.float32)
    grid, windows = grid_of(backbone), window_of(name, samples)
    picture = grid.axes(windows.numpy())[0]
    assert picture.shape[1] == len(grid.band_hz)
    band = picture[len(picture) // 2 + 20].argmax()
    edges = (*grid.edges_hz[:1], *grid.band_hz, *grid.edges_hz[1:])
    assert edges[band] < tone < edges[band + 2]
    begins = np.flatnonzero(picture[:, band] > (picture[:, band].max() + picture[:, band].min()) / 2)[0]
    assert abs(begins * grid.frame_s + grid.offset_s - start) < 0.03
    if grid.floor is not None:
        assert picture.min() >= grid.floor


def window_of(name: str, samples: np.ndarray) -> torch.Tensor:
    from mer_core.models.backbones import front_ends, hub_front_ends

    if name == "efficientat":
        return front_ends.audioset_windows(samples, 500)
    if name.startswith("tagger"):
        return front_ends.tagger_windows(samples, len(samples), len(samples))
    if name in ("cnn14", "vggish", "ast"):
        return getattr(hub_front_ends, f"{name}_windows")(samples, 5.0)
    return front_ends.musicnn_windows(samples)


def test_files_give_back_what_was_written(found, tmp_path):
    assert (
        write_maps(tmp_path, [("a/1", found), ("b", replace(found, values=0 * found.values))], {"backbone": "x"}) == 2
    )
    again = read_map(tmp_path, "a/1")
    peak = np.abs(found.values).max(axis=(1, 2), keepdims=True)
    assert (np.abs(again.values - found.values) / peak).max() < 1e-3
    for name in ("seconds", "band_hz", "base", "predicted", "remainder", "conservation_error"):
        np.testing.assert_allclose(getattr(again, name), getattr(found, name), rtol=1e-12, atol=1e-9)
    assert (again.targets, again.rule, again.note, again.heard_s) == (found.targets, found.rule, None, found.heard_s)
    one = read_map(tmp_path, "a/1", ("arousal",))
    np.testing.assert_array_equal(one.values[0], again.values[1])
    assert (read_map(tmp_path, "b").values == 0).all()
    assert read_about(tmp_path)["backbone"] == "x"
    seconds = found.duration_s
    assert (tmp_path / "00000.npy").stat().st_size / seconds * 10 < 1e6


def test_damaged_files_are_said(found, tmp_path):
    with pytest.raises(UserError, match="holds no maps.json"):
        read_map(tmp_path, "a")
    write_maps(tmp_path, [("a", found)])
    with pytest.raises(UserError, match="track 'b' has no relevance map"):
        read_map(tmp_path, "b")
    with pytest.raises(UserError, match="choose from valence, arousal"):
        read_map(tmp_path, "a", ("joy",))
    (tmp_path / "00000.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="missing or damaged"):
        read_map(tmp_path, "a")
    about = json.loads((tmp_path / "maps.json").read_text())
    (tmp_path / "maps.json").write_text(json.dumps(about | {"schema": 99}))
    with pytest.raises(UserError, match="schema 99"):
        read_about(tmp_path)
    (tmp_path / "maps.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        read_about(tmp_path)
