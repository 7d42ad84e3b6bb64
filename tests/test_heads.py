"""Heads on embeddings: their published shape, training that is deterministic and honest about its held-out part."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mer_core.errors import UserError

QUICK = {"rate": 3e-3, "epochs": 40}


@pytest.fixture(scope="module")
def heads():
    from mer_core.models.networks import heads

    return heads


@pytest.fixture(scope="module")
def data():
    """240 tracks of 12 dimensions in 60 groups, two ratings between 1 and 9 that depend on three of them."""
    random = np.random.default_rng(0)
    x = random.standard_normal((240, 12))
    ratings = 5 + 3 * np.tanh(x[:, :2] + 0.5 * x[:, 2:3]) + 0.2 * random.standard_normal((240, 2))
    return x, ratings.clip(1, 9), np.repeat(np.arange(60), 4)


def test_the_head_has_the_published_layers(heads):
    """1536-256-128-2 with batch normalisation after the first, biases everywhere."""
    sizes = [tuple(p.shape) for p in heads.MlpHead(1536, 2).parameters()]
    assert sizes == [(256, 1536), (256,), (256,), (256,), (128, 256), (128,), (2, 128), (2,)]


def test_it_learns_what_can_be_learned(heads, data):
    x, y, groups = data
    model = heads.HeadRegressor(scale=(1, 9), **QUICK).fit(x[:180], y[:180], groups[:180])
    predicted = model.predict(x[180:])
    assert r2_score(y[180:], predicted) > 0.8
    assert predicted.min() >= 1 and predicted.max() <= 9


def test_ratings_far_from_zero_are_learned_without_a_scale(heads, data):
    x, y, _ = data
    model = heads.HeadRegressor(**QUICK).fit(x, 1000 + 10 * y[:, 0])
    assert model.predict(x).shape == (240,)
    assert r2_score(1000 + 10 * y[:, 0], model.predict(x)) > 0.8


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_own_alone(heads, data):
    import torch

    x, y, _ = data
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fits = [heads.HeadRegressor(seed=seed, epochs=2).fit(x, y).predict(x) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(fits[0], fits[1])
    assert not np.allclose(fits[0], fits[2])
    assert torch.equal(before, torch.get_rng_state())


def test_heads_trained_in_several_threads_are_the_same_as_one_by_one(heads, data):
    from concurrent.futures import ThreadPoolExecutor

    x, y, _ = data

    def fitted(seed):
        return heads.HeadRegressor(seed=seed, epochs=2).fit(x, y).predict(x)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(fitted, range(4)))
    for seed, predicted in enumerate(together):
        np.testing.assert_array_equal(predicted, fitted(seed))


def test_whole_groups_are_held_out_and_small_data_are_not_cut(heads):
    groups = np.repeat(np.arange(20), 5)
    train, check = heads.held_out(100, groups, seed=0)
    assert not set(groups[train]) & set(groups[check])
    assert len(train) + len(check) == 100 and len(check) == 15
    assert len(heads.held_out(20, None, 0)[1]) == 0
    assert len(heads.held_out(100, np.zeros(100), 0)[1]) == 0


def test_the_epoch_that_is_kept_is_the_best_on_the_held_out_part(heads, data):
    """With noise for ratings, more epochs cannot help: what is kept never gets worse, and comes from an early epoch."""
    import torch

    x, _, groups = data
    y = np.random.default_rng(1).uniform(-1, 1, (240, 1)).astype(np.float32)
    rows, ratings = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y)
    _, check = heads.held_out(240, groups, 0)
    errors, kept = [], []
    for epochs in (1, 3, 6, 40):
        torch.manual_seed(0)
        network = heads.MlpHead(12, 1)
        kept.append(heads.train_head(network, rows, ratings, groups, rate=1e-2, epochs=epochs, patience=100))
        with torch.inference_mode():
            errors.append(float(((network(rows[check]) - ratings[check]) ** 2).mean()))
    assert errors == sorted(errors, reverse=True)
    assert kept[-1] < 40 and kept == sorted(kept)


def test_a_batch_of_one_row_does_not_stop_the_training(heads, data):
    x, y, _ = data
    assert np.isfinite(heads.HeadRegressor(epochs=1, batch=8).fit(x[:17], y[:17]).predict(x)).all()


def test_one_track_is_too_few(heads, data):
    with pytest.raises(UserError, match="1 track is too few"):
        heads.HeadRegressor().fit(data[0][:1], data[1][:1])


def test_it_is_stored_without_a_pickle(heads, data, tmp_path):
    import skops.io

    x, y, _ = data
    pipeline = make_pipeline(StandardScaler(), heads.HeadRegressor(epochs=2, scale=(1.0, 9.0))).fit(x, y)
    skops.io.dump(pipeline, tmp_path / "model.skops")
    own = skops.io.get_untrusted_types(file=tmp_path / "model.skops")
    assert own == ["mer_core.models.networks.heads.HeadRegressor"]
    again = skops.io.load(tmp_path / "model.skops", trusted=own)
    np.testing.assert_array_equal(again.predict(x), pipeline.predict(x))
    assert clone(again[-1]).get_params() == pipeline[-1].get_params()


def test_a_head_can_start_from_another_ones_weights(heads, data, tmp_path):
    """As one trained on a larger data set: with no epoch of its own it is that head, on this data set's scale."""
    x, y, _ = data
    path = tmp_path / "head.safetensors"
    first = heads.HeadRegressor(scale=(1, 9), **QUICK).fit(x, y)
    heads.save_weights(path, first)
    second = heads.HeadRegressor(scale=(0, 1), init=str(path), epochs=0).fit(x[:10], y[:10] / 10)
    np.testing.assert_allclose(second.predict(x), (first.predict(x) - 1) / 8, atol=1e-6)


def test_weights_that_do_not_fit_are_refused(heads, data, tmp_path):
    x, y, _ = data
    path = tmp_path / "head.safetensors"
    heads.save_weights(path, heads.HeadRegressor(epochs=0).fit(x, y))
    with pytest.raises(UserError, match=r"layers\.0\.weight is \(256, 12\) there and \(256, 5\) here"):
        heads.HeadRegressor(init=path).fit(x[:, :5], y)
    with pytest.raises(UserError, match="there are no head weights at"):
        heads.HeadRegressor(init=tmp_path / "none").fit(x, y)
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        heads.HeadRegressor(init=path).fit(x, y)


@pytest.fixture(scope="module")
def windows():
    """150 tracks of 3 to 6 windows; the one whose first dimension is high tells the rating, the others mislead."""
    random = np.random.default_rng(0)
    tracks, ratings, marked = [], [], []
    for _ in range(150):
        track = random.standard_normal((random.integers(3, 7), 6)) * 0.5
        chosen = random.integers(len(track))
        track[:, 0] = 0
        track[chosen, 0] = 2
        tracks.append(track)
        marked.append(chosen)
        ratings.append(2 * track[chosen, 1])
    return tracks, np.array(ratings), marked


def test_attention_finds_the_windows_that_matter(heads, windows):
    tracks, ratings, marked = windows
    model = heads.AttentionRegressor(rate=5e-3, epochs=60, seed=1).fit(tracks[:120], ratings[:120])
    weights = model.attention(tracks[120:])
    assert all(row.sum() == pytest.approx(1, abs=1e-5) for row in weights)
    assert [len(row) for row in weights] == [len(track) for track in tracks[120:]]
    assert np.mean([row.argmax() == place for row, place in zip(weights, marked[120:], strict=True)]) > 0.9
    means = np.array([track.mean(axis=0) for track in tracks])
    plain = heads.HeadRegressor(rate=5e-3, epochs=60, seed=1).fit(means[:120], ratings[:120])
    scores = [r2_score(ratings[120:], m.predict(rows)) for m, rows in ((model, tracks[120:]), (plain, means[120:]))]
    assert scores[0] > scores[1] + 0.2


def test_padding_changes_no_prediction(heads, windows):
    tracks, ratings, _ = windows
    model = heads.AttentionRegressor(epochs=1).fit(tracks[:30], ratings[:30])
    together = model.predict(tracks[:10])
    alone = np.concatenate([model.predict([track]) for track in tracks[:10]])
    np.testing.assert_allclose(together, alone, atol=1e-6)
