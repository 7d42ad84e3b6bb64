"""Relevance maps of happy/sad classifiers: what is on them, what they add up to, and bad input."""

from __future__ import annotations

import dataclasses
import io
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile

from mer_core.errors import UserError
from mer_core.evaluate import own_networks, pretraining
from mer_core.explain.spectrogram_relevance import relevance_of_spectrogram
from mer_core.models.training.spectrograms import STYLES, MelStyle, even_windows, spectrogram_of_file
from mer_core.runs import read_run
from pipelines.__main__ import main

RATE = 16000
STYLE = MelStyle("tiny", 22050, 2048, 512, 32, 0, 11025, 1.0)


@pytest.fixture(scope="module")
def network():
    import torch
    from torch import nn

    from mer_core.models.networks.residual_cnn import ResidualCnn

    torch.manual_seed(0)
    made = ResidualCnn(outputs=2, widths=(4, 8), dropout=0.0).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    return made


def spectrogram(frames: int) -> np.ndarray:
    """Half of the bands silent, and sound in the others."""
    table = np.full((frames, STYLE.bands), -1.0, np.float16)
    table[:, :16] = -np.random.default_rng(frames).uniform(0, 1, (frames, 16)).astype(np.float16)
    return table


@pytest.mark.parametrize("frames", [30, 44, 150])
@pytest.mark.parametrize("rule", ["gamma-silence", "cp-lrp-gamma"])
def test_a_map_adds_up_to_the_logit_and_lies_where_there_is_sound(network, frames, rule):
    import torch

    table = spectrogram(frames)
    found = relevance_of_spectrogram(network, table, STYLE, "happy", 1.7, -0.4, rule, "equal outputs")
    with torch.inference_mode():
        outputs = network(torch.from_numpy(even_windows(table, STYLE.frames).astype(np.float32))).numpy()
    assert found.predicted[0] == pytest.approx(1.7 * (outputs[:, 1] - outputs[:, 0]).mean() - 0.4, abs=1e-5)
    assert found.conservation_error[0] < 1e-3 and abs(found.gap()[0]) < 1e-4
    assert found.values.shape == (1, frames, 32) and len(found.seconds) == frames
    size = np.abs(found.values[0])
    assert size[:, 16:].sum() < 1e-3 * size.sum() and (size[:, :16].sum(axis=1) > 0).mean() > 0.9
    assert (found.note is not None) == (frames < STYLE.frames)


def test_silence_is_refused(network):
    with pytest.raises(UserError, match="silent"):
        relevance_of_spectrogram(network, np.full((50, 32), -1.0), STYLE, "happy", 1, 0, "cp-lrp", "")


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    """A run on noise: happy clips are bright, sad ones dark; one clip is silent."""
    root = tmp_path_factory.mktemp("classes")
    folder, random = root / "music", np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for k in range(20):
        noise = random.standard_normal(int(3.2 * RATE))
        dark = np.convolve(noise, np.ones(8) / 8, "same")
        happy = k % 2
        soundfile.write(folder / f"{k}.wav", 0.1 * (noise if happy else dark) * (k != 19), RATE)
        rows.append((f"t{k:02}", f"{k}.wav", 7.0 if happy else 3.0, 5.0 + 0.1 * k, f"g{k // 2}"))
    table = pd.DataFrame(rows, columns=["track_id", "path", "valence", "arousal", "group"])
    table.to_csv(folder / "tracks.csv", index=False)
    (folder / "dataset.json").write_text('{"rating_scale": [1, 9]}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_ARTIFACTS", str(root / "artifacts"))
        options = ["--dataset", str(folder), "--network", "musicnn-mtt", "--resamples", "20", "--run-id", "tiny"]
        assert main(["classify", *options]) == 0
        yield root / "artifacts"


def test_examples_are_explained_with_the_run(classified):
    run = read_run("tiny")
    examples = list(run.table("examples")["track_id"])
    probability = run.table("classes").set_index("track_id")["probability"]
    assert set(run.relevance_tracks()) >= set(examples) - {"t19"}
    for track in run.relevance_tracks()[:3]:
        found = run.relevance_map(track)
        assert found.targets == ("happy",) and found.conservation_error[0] < 1e-3 and abs(found.gap()[0]) < 1e-2
        assert 1 / (1 + np.exp(-found.predicted[0])) == pytest.approx(probability[track], abs=1e-4)


def test_a_finished_run_is_explained_again_as_it_was(classified, capsys):
    run = read_run("tiny")
    track = run.relevance_tracks()[0]
    before = run.relevance_map(track)
    assert main(["explain", "--run", "tiny", "--method", "lrp", "--tracks", track]) == 0
    assert run.relevance_tracks() == (track,)
    np.testing.assert_allclose(run.relevance_map(track).values, before.values, atol=1e-4)
    assert main(["explain", "--run", "tiny", "--method", "lrp", "--tracks", "t77"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--tracks t77: not classified in run 'tiny'" in said
    assert main(["explain", "--run", "tiny", "--method", "lrp", "--tracks", "t19"]) == 2
    assert "not classified" in capsys.readouterr().err and run.relevance_tracks() == (track,)
    assert ["t19", "silent"] in [[name, "silent" if "silent" in why else why] for name, why in _failures(run)]


def _failures(run):
    return run.about["features"]["failures"]


@pytest.fixture(scope="module")
def trained(classified):
    """The same clips by a small network that was first taught on other ones."""
    teaching = classified.parent / "other"
    shutil.copytree(classified.parent / "music", teaching)
    for path in teaching.glob("*.wav"):  # the same bytes would be refused
        samples, rate = soundfile.read(path)
        soundfile.write(path, 0.9 * samples[::-1][1:], rate)
    table = pd.read_csv(teaching / "tracks.csv")
    table["track_id"], table["group"] = "o" + table["track_id"], "o" + table["group"]
    table.to_csv(teaching / "tracks.csv", index=False)
    truth = pd.DataFrame({"track_id": table["track_id"], "z_mode": table["valence"] - 5, "planted": 1.0})
    truth.to_csv(teaching / "truth.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_ARTIFACTS", str(classified))
        patch.setattr(pretraining, "RECIPE", dataclasses.replace(pretraining.RECIPE, epochs=3, averaging=0.0))
        options = ["--dataset", str(classified.parent / "music"), "--network", "residual-cnn", "--resamples", "20"]
        options += ["--pretrain", str(teaching), "--epochs", "2", "--explain", "none", "--run-id", "taught"]
        assert main(["classify", *options]) == 0
        yield classified


def test_a_network_is_taught_on_other_music_first(trained):
    told = read_run("taught").about["pretrained"]
    assert told["dataset"] == "other" and told["targets"] == ["valence", "arousal", "z_mode"]
    assert told["tracks"] == 19 and told["groups"] == 10  # one is silent
    assert told["heard"]["z_mode"] > 0.5  # bright from dark
    assert [name for name, why in _failures(read_run("taught")) if "silent" in why] == ["t19"]


def test_networks_of_a_run_are_kept_predict_and_are_explained(trained, capsys):
    run = read_run("taught")
    table = run.table("classes").astype({"track_id": str}).set_index("track_id")
    assert sorted(path.name for path in (run.folder / "model").glob("*.safetensors")) == [
        f"fold-{k}.safetensors" for k in range(5)
    ]
    track = str(table.index[3])
    assert main(["explain", "--run", "taught", "--method", "lrp", "--tracks", track]) == 0
    found = run.relevance_map(track)
    assert 1 / (1 + np.exp(-found.predicted[0])) == pytest.approx(table.at[track, "probability"], abs=1e-4)
    assert found.conservation_error[0] < 1e-3 and abs(found.gap()[0]) < 1e-2
    capsys.readouterr()
    files = [str(trained.parent / "music" / name) for name in ("1.wav", "19.wav")]
    assert main(["predict", "--run", "taught", *files]) == 3
    rows = pd.read_csv(io.StringIO(capsys.readouterr().out))
    _, models = own_networks.load_networks(run.folder / "model")
    spectrogram = spectrogram_of_file(files[0], STYLES["residual-cnn"])
    assert rows["happy"][0] == pytest.approx(own_networks.probability(models, "residual-cnn", spectrogram), abs=1e-3)
    assert "silent" in rows["error"][1]


def test_music_that_is_tested_is_not_taught(trained, capsys):
    music = str(trained.parent / "music")
    assert main(["classify", "--dataset", music, "--network", "residual-cnn", "--pretrain", music]) == 2
    assert "would leak into every fold" in capsys.readouterr().err
    renamed = shutil.copytree(music, trained.parent / "renamed")
    table = pd.read_csv(renamed / "tracks.csv")
    table.assign(track_id="r" + table["track_id"], group="r" + table["group"]).to_csv(
        renamed / "tracks.csv", index=False
    )
    assert main(["classify", "--dataset", music, "--network", "residual-cnn", "--pretrain", str(renamed)]) == 2
    assert "pretrain on other music" in capsys.readouterr().err
    assert main(["classify", "--dataset", music, "--network", "musicnn-mtt", "--pretrain", music]) == 2
    assert "comes trained" in capsys.readouterr().err


def test_damaged_networks_are_refused(trained, tmp_path):
    for name, message in (("network.json", "schema"), ("fold-2.safetensors", "checksum")):
        folder = tmp_path / name
        shutil.copytree(read_run("taught").folder / "model", folder)
        (folder / name).write_bytes(b"{}" + (folder / name).read_bytes() * (name != "network.json"))
        with pytest.raises(UserError, match=message):
            own_networks.load_networks(folder)
    (tmp_path / "fold-2.safetensors" / "fold-2.safetensors").unlink()
    with pytest.raises(UserError, match="missing"):
        own_networks.load_networks(tmp_path / "fold-2.safetensors")


def test_styles_of_trained_networks_know_their_bands():
    for name in ("vit", "residual-cnn"):
        hz = STYLES[name].band_hz()
        assert len(hz) == STYLES[name].bands and (np.diff(hz) > 0).all()
