"""The training engine: best checkpoint kept, resumed exactly, stopped with a reason; losses; spectrogram windows."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import pearsonr
from torch import nn

from mer_core.datasets.audio import write_flac
from mer_core.errors import UserError
from mer_core.models.networks.midlevel_vgg import MidlevelVgg
from mer_core.models.networks.residual_cnn import ResidualCnn
from mer_core.models.training.engine import train
from mer_core.models.training.losses import ccc_loss
from mer_core.models.training.recipe import Recipe
from mer_core.models.training.spectrograms import (
    STYLES,
    MelStyle,
    Spectrograms,
    even_windows,
    load_spectrograms,
    random_window,
    spectrogram_of_file,
)
from mer_core.models.training.tracks import fit_tracks, masked, predict_tracks, shifted

INPUTS = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
TARGETS = INPUTS[:, :2] * 2 + 0.5


def small_network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))


def batches(generator):
    for rows in torch.randperm(48, generator=generator).split(8):
        yield INPUTS[rows], TARGETS[rows]


def held_out(network):
    return nn.functional.mse_loss(network(INPUTS[48:]), TARGETS[48:])


RECIPE = Recipe(epochs=8, learning_rate=1e-2, schedule="plateau", patience=8, averaging=0.9, seed=5)


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_a_resumed_training_takes_the_same_steps(tmp_path, schedule):
    from dataclasses import replace

    recipe = replace(RECIPE, schedule=schedule, warm_up=2)
    whole, halves = small_network(), small_network()
    expected = train(whole, batches, held_out, recipe, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(row):
        if row["epoch"] == 3:
            raise Killed

    with pytest.raises(Killed):
        train(halves, batches, held_out, recipe, tmp_path / "halves", report=kill)
    fresh = small_network()
    found = train(fresh, batches, held_out, recipe, tmp_path / "halves")
    assert [row["score"] for row in found.rows] == [row["score"] for row in expected.rows]
    for a, b in zip(whole.parameters(), fresh.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_best_epoch_comes_back_not_the_last(tmp_path):
    scores = iter([3.0, 1.0, 2.0, 2.5, 2.6])
    seen = []

    def validate(network):
        seen.append([p.clone() for p in network.parameters()])
        return next(scores)

    network = small_network()
    history = train(network, batches, validate, Recipe(epochs=9, patience=3), tmp_path)
    assert (history.best_epoch, history.best_score, history.stopped, len(history.rows)) == (1, 1.0, "patience", 5)
    for kept, best in zip(network.parameters(), seen[1], strict=True):
        assert torch.equal(kept, best)


def test_learning_learns(tmp_path):
    history = train(small_network(), batches, held_out, Recipe(epochs=30, learning_rate=1e-2, clip=10), tmp_path)
    assert history.best_score < 0.3 * float(TARGETS[48:].var())


def test_a_loss_that_is_no_number_keeps_the_last_good_network(tmp_path):
    calls = iter(range(100))

    def poisoned(generator):
        for x, y in batches(generator):
            yield x, y * math.nan if next(calls) == 14 else y

    network = small_network()
    history = train(network, poisoned, held_out, Recipe(epochs=9), tmp_path)
    assert history.stopped == "the loss of batch 3 in epoch 3 is no number" and len(history.rows) == 2
    assert all(torch.isfinite(p).all() for p in network.parameters())
    with pytest.raises(UserError, match="no usable network"):
        train(network, lambda g: [(INPUTS, TARGETS * math.nan)], held_out, Recipe(), tmp_path / "other")


def test_checkpoints_of_something_else_are_refused(tmp_path):
    train(small_network(), batches, held_out, Recipe(epochs=1), tmp_path)
    with pytest.raises(UserError, match="another batch_size"):
        train(small_network(), batches, held_out, Recipe(epochs=1, batch_size=4), tmp_path)
    with pytest.raises(UserError, match="another architecture"):
        train(nn.Linear(5, 2), batches, held_out, Recipe(epochs=2), tmp_path)
    (tmp_path / "last.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        train(small_network(), batches, held_out, Recipe(epochs=1), tmp_path)


def test_concordance_loss_is_one_minus_lins_coefficient():
    x, y = INPUTS[:, 0].double(), (INPUTS[:, 1] + INPUTS[:, 0]).double()
    r, sx, sy = pearsonr(x, y)[0], x.std(unbiased=False), y.std(unbiased=False)
    lin = 2 * r * sx * sy / (sx**2 + sy**2 + (x.mean() - y.mean()) ** 2)
    assert float(ccc_loss(x[:, None], y[:, None])) == pytest.approx(1 - float(lin), abs=1e-7)


def test_the_residual_network_has_the_published_shape():
    network = ResidualCnn()
    counts = {kind: sum(isinstance(m, kind) for m in network.modules()) for kind in (nn.Conv2d, nn.Linear)}
    assert counts == {nn.Conv2d: 1 + 16 + 3, nn.Linear: 2}  # stem, two in each of eight blocks, three shortcuts
    assert network.eval()(torch.zeros(2, 313, 128)).shape == (2, 2)
    small = ResidualCnn(outputs=3, widths=(4, 8), dropout=0.0)
    assert small.embed(torch.zeros(1, 1, 40, 32)).shape == (1, 8)


def test_windows_cover_the_track_and_short_tracks_repeat():
    table = np.arange(20, dtype=np.float16)[:, None] * np.ones((1, 3), np.float16)
    found = even_windows(table, 8)
    assert found.shape == (4, 8, 3) and found[0, 0, 0] == 0 and found[-1, -1, 0] == 19
    assert even_windows(table[:5], 8)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    generator = np.random.default_rng(0)
    starts = {int(random_window(table, 8, generator)[0, 0]) for _ in range(200)}
    assert starts == set(range(13))


def test_spectrograms_are_cached_and_failures_are_told(artifacts, tmp_path):
    from mer_core.datasets import load

    rate, style = 22050, STYLES["residual-cnn"]
    time = np.arange(rate * 4) / rate
    write_flac(tmp_path / "a.flac", 0.3 * np.sin(2 * np.pi * 1000 * time).astype(np.float32), rate)
    (tmp_path / "b.flac").write_bytes(b"")
    pd.DataFrame(
        {"track_id": ["a", "b"], "path": ["a.flac", "b.flac"], "valence": [2.0, 7.0], "arousal": [3.0, 6.0]}
    ).to_csv(tmp_path / "tracks.csv", index=False)
    found = load_spectrograms(load(tmp_path), style)
    table = found.tables["a"]
    assert table.shape == (1 + 4 * rate // 512, 128) and table.max() == 0 and table.min() >= -1
    loudest = style.band_hz()[np.asarray(table, dtype=float).mean(axis=0).argmax()]
    assert abs(loudest - 1000) < 40
    assert [track for track, _ in found.failures] == ["b"]
    stored = list((artifacts / "cache" / "spectrograms").rglob("*.npy"))
    assert len(stored) == 1
    np.save(stored[0], np.zeros((3, 128), np.float16))  # it is read, not computed again
    assert spectrogram_of_file(tmp_path / "a.flac", style).shape == (3, 128)


def test_the_mid_level_front_end_has_313_frames_of_149_bands():
    style = STYLES["mid-level"]
    time = np.arange(10 * style.rate) / style.rate
    table = style.compute((0.2 * np.sin(2 * np.pi * 880 * time)).astype(np.float32))
    assert table.shape == (style.frames, 149) == (313, 149)
    assert abs(style.band_hz()[np.asarray(table[100:200], dtype=float).mean(axis=0).argmax()] - 880) < 15
    np.testing.assert_allclose(style.filters().sum(axis=0), 1)
    assert (style.compute(np.zeros(30000, np.float32)) == 0).all()
    click = np.zeros(10 * style.rate, np.float32)
    click[round(style.rate * 160 / 31.25)] = 1  # the centre of frame 160
    assert np.asarray(style.compute(click), dtype=float).sum(axis=1).argmax() == 160


def test_the_mid_level_network_is_as_listed_and_its_bottleneck_is_all_that_emotions_see():
    network = MidlevelVgg(outputs=8, qualities=7).eval()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 64, 128, 128, 256, 256, 384, 512, 256]
    assert convolutions[0].stride == (2, 2) and convolutions[-1].padding == (0, 0)
    found = MidlevelVgg(outputs=8, qualities=7, width=0.1).eval()
    with torch.inference_mode():
        out = found(torch.randn(2, 313, 149))
        assert out.shape == (2, 15)
        torch.testing.assert_close(out[:, 7:], found.emotions(out[:, :7]))


def test_a_network_learns_tracks_and_resists_its_augmentation(tmp_path):
    """Loudness of the upper half of the bands is what is rated; the smallest residual network finds it."""
    random = np.random.default_rng(2)
    style = MelStyle("tiny", 22050, 512, 256, 32, 0, 11025, 0.4)
    rated = {f"t{k}": np.array([random.normal(), random.normal()]) for k in range(48)}
    tables = {
        track: (random.normal(0, 0.3, (90, 32)) + np.repeat(ratings, 16)).astype(np.float16)
        for track, ratings in rated.items()
    }
    known = Spectrograms(style, tables, ())
    tracks = list(rated)
    fitted = fit_tracks(
        lambda: ResidualCnn(widths=(4, 8), dropout=0.0),
        known,
        rated,
        tracks[:28],
        tracks[28:36],
        Recipe(epochs=25, learning_rate=1e-2, batch_size=7, schedule="cosine", patience=25),
        tmp_path,
        augment=0.3,
    )
    predicted = predict_tracks(fitted, known, tracks[36:])
    true = np.stack([rated[track] for track in tracks[36:]])
    assert all(pearsonr(true[:, k], predicted[:, k])[0] > 0.8 for k in (0, 1))
    with pytest.raises(UserError, match="validate on"):
        fit_tracks(ResidualCnn, known, rated, tracks, [], Recipe(), tmp_path / "none")


def test_augmentation_keeps_shape_and_most_of_the_window():
    random, window = np.random.default_rng(0), np.arange(2000.0).reshape(50, 40)
    for _ in range(50):
        changed = masked(window, random)
        assert changed.shape == window.shape and (changed != window).mean() < 1 - 0.8**6 + 0.02
        moved = shifted(window, random)
        start = int(np.flatnonzero(moved[:, 0] == 0)[0])
        assert start <= 15 and (np.roll(moved, -start, axis=0) == window).all()
    assert (window == np.arange(2000.0).reshape(50, 40)).all()


def test_a_training_killed_within_an_epoch_takes_the_same_steps(tmp_path):
    whole, again = small_network(), small_network()
    expected = train(whole, batches, held_out, RECIPE, tmp_path / "whole")
    steps = iter(range(1000))

    def killed(generator):
        for batch in batches(generator):
            if next(steps) == 27:  # the fifth epoch's fourth batch
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        train(again, killed, held_out, RECIPE, tmp_path / "halves")
    fresh = small_network()
    found = train(fresh, batches, held_out, RECIPE, tmp_path / "halves")
    assert len(found.rows) == 8 and found.best_score == pytest.approx(expected.best_score, abs=1e-6)
    for a, b in zip(whole.parameters(), fresh.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_the_network_as_given_comes_back_where_no_epoch_is_better(tmp_path):
    network = small_network()
    before = [p.clone() for p in network.parameters()]
    scores = iter([1.0, 2.0, 3.0])
    history = train(network, batches, lambda _: next(scores), Recipe(epochs=2), tmp_path, start=True)
    assert history.best_epoch == -1 and history.best_score == 1.0
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


class Greedy(nn.Module):
    """Has no memory for more than three rows while it is trained."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(5, 2)
        nn.init.ones_(self.inside.weight)
        nn.init.zeros_(self.inside.bias)

    def forward(self, x):
        if len(x) > 3 and torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            raise torch.OutOfMemoryError("out of memory")
        return self.inside(x)


def test_a_batch_that_does_not_fit_is_cut_and_the_step_stays_the_same(tmp_path):
    greedy, plain = Greedy(), Greedy()
    recipe, rows = Recipe(epochs=2, learning_rate=1e-2, loss="mse"), []
    history = train(greedy, batches, held_out, recipe, tmp_path / "greedy", report=rows.append)
    assert [row["pieces"] for row in history.rows] == [4, 4]  # of batches of 8: 8, 4, 2 rows
    train(plain.inside, batches, held_out, recipe, tmp_path / "plain")
    torch.testing.assert_close(greedy.inside.weight, plain.inside.weight, rtol=1e-5, atol=1e-6)

    class Insatiable(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(UserError, match="smaller network"):
        train(Insatiable(), batches, held_out, recipe, tmp_path / "none")


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    import errno

    from mer_core.models.training import checkpoints

    saved, save = [0], torch.save

    def full(content, path):
        saved[0] += 1
        if saved[0] > 5:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(content, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        train(small_network(), batches, held_out, RECIPE, tmp_path)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]
    done = len(checkpoints.read(tmp_path / "last.pt")["history"]["rows"])
    assert 0 < done < RECIPE.epochs
    history = train(small_network(), batches, held_out, RECIPE, tmp_path)
    assert [row["epoch"] for row in history.rows] == list(range(RECIPE.epochs))


def test_a_checkpoint_of_another_architecture_names_keys(tmp_path):
    train(small_network(), batches, held_out, Recipe(epochs=1), tmp_path)
    with pytest.raises(
        UserError, match=r"another architecture: it lacks bias, weight; it has 0.bias, 0.weight, 3.bias"
    ):
        train(nn.Linear(5, 2), batches, held_out, Recipe(epochs=2), tmp_path)


WORKER = """
import sys, torch
from torch import nn
from mer_core.models.training import distributed
from mer_core.models.training.engine import train
from mer_core.models.training.recipe import Recipe

assert distributed.start_group() == (sys.argv[2] == "two")
x = torch.randn(37, 5, generator=torch.Generator().manual_seed(1))
y = x[:, :2] * 2 + 0.5
torch.manual_seed(3)
network = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2))

def batches(generator):
    for rows in torch.randperm(37, generator=generator).split(8):
        yield x[rows], y[rows]

recipe = Recipe(epochs=3, learning_rate=1e-2, optimiser="adam", averaging=0.9)
score = lambda kept: nn.functional.mse_loss(kept(x), y)
history = train(network, batches, score, recipe, sys.argv[1])
if distributed.world()[0] == 0:
    state = {"loss": [row["loss"] for row in history.rows], **network.state_dict()}
    torch.save(state, sys.argv[1] + "/result.pt")
"""


def test_two_processes_take_the_steps_of_one(tmp_path):
    """Each of two processes works on half of every batch, also of the last of five rows: sizes 3 and 2."""
    import os
    import subprocess
    import sys

    (tmp_path / "worker.py").write_text(WORKER)
    results = {}
    for name, starter in (
        ("one", [sys.executable]),
        ("two", [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [*starter, str(tmp_path / "worker.py"), str(folder), name]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        results[name] = torch.load(folder / "result.pt", weights_only=True)
    assert results["two"]["loss"] == pytest.approx(results["one"]["loss"], abs=1e-5)
    for key in ("0.weight", "2.bias"):
        torch.testing.assert_close(results["two"][key], results["one"][key], rtol=1e-4, atol=1e-5)
