"""The second level: from qualities to the sound, by a head with a kernel and by networks on spectrograms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mer_core.explain.maps import RelevanceMap
from mer_core.explain.midlevel_relevance import (
    added,
    kernel_contributions,
    part_of_head,
    quality_head,
    relevance_of_networks,
    two_levels,
)
from mer_core.models.kernel import GaussianRidge
from mer_core.models.midlevel import LinearMap
from mer_core.models.midlevel_network import Shape, fit_network, load_network, recipe_of, save_network
from mer_core.models.regressors import make_regressor
from mer_core.models.training.spectrograms import STYLES, Spectrograms

QUALITIES, RATINGS = ("melodiousness", "dissonance"), ("valence", "arousal", "sad")


@pytest.fixture(scope="module")
def linear():
    weights = np.array([[0.5, -0.2, 0.1], [-0.7, 0.4, 0.0]])
    return LinearMap(QUALITIES, RATINGS, np.array([0.4, 2.0]), np.array([0.1, 0.5]), np.array([5.0, 4, 3]), weights)


def map_of(seed: int, base=(0.3, 1.0)) -> RelevanceMap:
    random = np.random.default_rng(seed)
    values = random.normal(size=(2, 5, 4)).astype(np.float32)
    remainder, base = random.normal(size=(4, 2)), np.array(base)
    predicted = base + values.sum(axis=(1, 2), dtype=float) + remainder.sum(axis=0)
    axes = {"seconds": np.arange(5.0), "band_hz": np.arange(1.0, 5), "edges_hz": (0.5, 5)}
    told = {"rule": "r", "reference": "x", "heard_s": 5.0, "duration_s": 5.0}
    return RelevanceMap(values, targets=QUALITIES, base=base, predicted=predicted, remainder=remainder,
                        conservation_error=np.array([1e-6, 2e-6]), **axes, **told)  # fmt: skip


def test_the_map_of_a_rating_is_the_weighted_sum_of_its_qualities(linear):
    found = map_of(0)
    both = two_levels(found, linear)
    assert both.targets == (*QUALITIES, *RATINGS)
    slope = linear.weights / linear.spread[:, None]
    for number, rating in enumerate(RATINGS):
        slow = slope[0, number] * found.values[0] + slope[1, number] * found.values[1]
        assert both.values[both.targets.index(rating)] == pytest.approx(slow, abs=1e-5)
    assert both.predicted[2:] == pytest.approx(linear.predict(found.predicted[None])[0])
    assert both.predicted[:2] == pytest.approx((found.predicted - linear.centre) / linear.spread)
    assert both.gap() == pytest.approx(np.zeros(5), abs=1e-4)


def test_maps_of_joined_embeddings_add_up_with_what_is_on_no_map():
    first, second = map_of(1, base=(0, 0)), map_of(2, base=(0, 0))
    both = added(first, [second], np.array([0.4, 2.0]), np.array([0.1, -0.3]))
    assert both.predicted == pytest.approx(np.array([0.5, 1.7]) + first.predicted + second.predicted)
    assert both.gap() == pytest.approx(np.zeros(2), abs=1e-5)


@pytest.fixture(scope="module")
def embedded():
    random = np.random.default_rng(0)
    rows = random.normal(size=(50, 6)) ** 3
    targets = np.stack([rows[:, 0] + np.tanh(rows[:, 1]), rows[:, 2] * 0.5 + rows[:, 0]], axis=1)
    return rows, targets


def test_integrated_gradients_of_a_kernel_add_up_and_follow_slopes(embedded):
    rows, targets = embedded
    ridge = GaussianRidge().fit(rows, targets)
    start, end = rows.mean(axis=0), rows[7]
    found = kernel_contributions(ridge, start, end)
    difference = ridge.predict(end[None])[0] - ridge.predict(start[None])[0]
    assert found.sum(axis=0) == pytest.approx(difference, abs=1e-8)
    step = 1e-4  # near the start, a contribution is slope times distance
    near = kernel_contributions(ridge, start, start + step * (end - start))
    slopes = np.array([(ridge.predict((start + step * e)[None]) - ridge.predict(start[None]))[0] for e in np.eye(6)])
    assert near == pytest.approx(slopes * (end - start)[:, None], rel=1e-2, abs=1e-8)


@pytest.mark.parametrize("family", ["kernel-ridge", "ridge"])
def test_a_head_of_qualities_is_a_sum_over_dimensions(embedded, family):
    rows, targets = embedded
    model = make_regressor(family, 0).fit(rows, targets)
    head = quality_head(model, rows, QUALITIES)
    whole = head.contributions(rows[3][None])[0]
    assert head.base + whole.sum(axis=0) == pytest.approx(model.predict(rows[3][None])[0], abs=1e-6)
    assert head.contributions(head.reference[None])[0] == pytest.approx(np.zeros((6, 2)), abs=0.02)
    spans = (slice(0, 2), slice(2, 6))
    parts = [part_of_head(head, rows[3], span, whole) for span in spans]
    sums = [part.contributions(rows[3][None, span])[0].sum(axis=0) for part, span in zip(parts, spans, strict=True)]
    assert head.base + sums[0] + sums[1] == pytest.approx(model.predict(rows[3][None])[0], abs=1e-6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two networks after one epoch on eight clips: six of full length, one short and one silent."""
    style, random = STYLES["mid-level"], np.random.default_rng(0)
    tables = {f"t{i}": random.gamma(1, 0.3, (style.frames + 10 * i, 149)).astype(np.float16) for i in range(6)}
    tables |= {"short": tables["t0"][:100], "silent": np.zeros((style.frames, 149), np.float16)}
    sounds, ids = Spectrograms(style, tables, ()), [f"t{i}" for i in range(6)]
    qualities = pd.DataFrame(random.normal(size=(6, 2)), ids, list(QUALITIES))
    ratings = pd.DataFrame(random.normal(5, 1, (6, 3)), ids, list(RATINGS))
    halves = pd.Series([0, 0, 0, 1, 1, 1], ids)
    folder = tmp_path_factory.mktemp("vgg")
    return fit_network("joint", sounds, qualities, ratings, halves, recipe_of(1, 0), folder), sounds


def test_networks_predict_through_one_map_and_are_read_as_they_were(trained, tmp_path):
    model, sounds = trained
    assert model.shape == Shape(3, 2) and len(model.networks) == 2
    qualities, ratings = model.predict(sounds, ["t1", "short"])
    assert ratings == pytest.approx(model.map.predict(qualities))
    save_network(tmp_path, model)
    again = load_network(tmp_path).predict(sounds, ["t1", "short"])
    assert again[0] == pytest.approx(qualities) and again[1] == pytest.approx(ratings)


def test_a_network_begins_with_the_qualities_of_an_earlier_one():
    import torch

    earlier = Shape(2).make()
    earlier.half = False
    start = earlier.state_dict() | {"centre": torch.tensor([1.0, 2.0]), "spread": torch.tensor([0.5, 3.0])}
    level = pd.DataFrame([[0.0, 1.0, 5.0, 5.0, 5.0], [1.0, 2.0, 1.0, 1.0, 1.0]])
    now = Shape(3, 2).make(start, level)
    now.half = False
    sound = torch.rand(2, 80, 149)
    with torch.inference_mode():
        before, after = earlier.eval()(sound), now.eval()(sound)[:, :2]
    assert after.numpy() * [1.0, 2.0] + [0.0, 1.0] == pytest.approx(before.numpy() * [0.5, 3.0] + [1.0, 2.0], abs=1e-4)


def test_maps_of_networks_hold_the_whole_prediction(trained):
    from mer_core.errors import UserError

    model, sounds = trained
    for track, note in (("t2", None), ("short", "repeated")):
        found = two_levels(relevance_of_networks(model, sounds.tables[track], sounds.style), model.map)
        qualities, ratings = model.predict(sounds, [track])
        assert found.values.shape == (5, *sounds.tables[track].shape)
        assert found.predicted[2:] == pytest.approx(ratings[0], abs=1e-3)
        assert np.abs(found.gap()).max() < 1e-3 and found.conservation_error.max() < 1e-3
        assert (found.note is None) == (note is None)
    with pytest.raises(UserError, match="silent"):
        relevance_of_networks(model, sounds.tables["silent"], sounds.style)
