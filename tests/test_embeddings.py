"""Embeddings of frozen networks as features: names, cache, pools, tables, and files predicted like the training."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mer_core.datasets import load
from mer_core.datasets.audio import write_flac
from mer_core.errors import UserError
from mer_core.models import embedding_cache as cache
from mer_core.models import embeddings
from mer_core.models.backbones import BACKBONES
from mer_core.models.embedding_tables import tag_table, window_table
from mer_core.models.embeddings import Embeddings, Heard, column_table, pooled, pooled_table, read_part
from mer_core.models.kernel import GaussianRidge, MeanRegressor
from mer_core.models.regressors import make_regressor
from mer_core.models.representations import (
    build_representation,
    check_weights,
    embedding_parts,
    representation_of_files,
    window_part,
)
from mer_core.models.store import load_model, save_model
from mer_core.runs import read_run
from pipelines.__main__ import main
from ui.frame import badges

RATE = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve tones of 3.2 s, louder and higher with arousal, and one that is too short."""
    root = tmp_path_factory.mktemp("tones")
    random = np.random.default_rng(0)
    time = np.arange(int(3.2 * RATE)) / RATE
    rows = []
    for number in range(12):
        tone = np.sin(2 * np.pi * (200 + 60 * number) * time) * (0.1 + 0.05 * number)
        write_flac(root / f"{number}.flac", 0.9 * tone + 0.01 * random.uniform(-1, 1, len(time)), RATE)
        rows.append((f"t{number}", f"{number}.flac", 9 - number / 2, 1 + number / 2, f"g{number // 2}"))
    write_flac(root / "short.flac", tone[: RATE // 2], RATE)
    rows.append(("short", "short.flac", 5.0, 5.0, "g9"))
    pd.DataFrame(rows, columns=["track_id", "path", "valence", "arousal", "group"]).to_csv(
        root / "tracks.csv", index=False
    )
    return root


def test_silence_is_not_heard(tmp_path):
    silent = tmp_path / "silent.flac"
    write_flac(silent, np.zeros(4 * RATE), RATE)
    (outcome,) = embeddings.listen_to([silent], BACKBONES["musicnn-msd"], workers=1).outcomes
    assert isinstance(outcome.error, UserError)
    assert str(silent) in str(outcome.error) and "is silent" in str(outcome.error)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A finished run on musicnn's dense layer."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_ARTIFACTS", str(root))
        options = ["--dataset", str(folder), "--features", "musicnn-mtt@dense", "--model", "kernel-ridge"]
        options += ["--explain", "none", "--resamples", "5", "--run-id", "tones"]
        assert main(["train", *options]) == 0
    return root / "runs" / "tones"


def test_names_of_parts():
    part = read_part("musicnn-msd@dense:mean-std")
    assert (part.backbone.name, part.layer, part.pool, part.tags) == ("musicnn-msd", "dense", "mean-std", False)
    assert read_part("musicnn-msd").layer == BACKBONES["musicnn-msd"].layers[0]
    assert read_part("musicnn-msd-tags").tags
    assert read_part("stats8") is None and read_part("some/file.parquet") is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("musicnn-msd:median", "mean-std"),
        ("musicnn-msd@nowhere", "dense"),
        ("musicnn-msd-tags:mean-std", "averaged"),
        ("musicnn-msd-tags@dense", "no layer"),
        ("mert-tags", "no tags"),
    ],
)
def test_parts_that_cannot_be(name, said):
    with pytest.raises(UserError, match=said):
        read_part(name)


def test_only_one_embedding_pooled_by_its_mean_has_windows_like_tracks():
    assert window_part("musicnn-msd@dense").layer == "dense"
    assert window_part("musicnn-msd:mean-std") is None
    assert window_part("musicnn-msd+musicnn-mtt") is None
    assert window_part("stats8") is None
    assert [part.backbone.name for part in embedding_parts("stats8+musicnn-msd+musicnn-mtt-tags")] == [
        "musicnn-msd",
        "musicnn-mtt",
    ]


def heard_at_random(windows=3, dims=200, seed=0):
    random = np.random.default_rng(seed)
    tags = random.uniform(size=(windows, 50)).astype(np.float32)
    return Heard(np.arange(windows) * 3.0, random.normal(size=(windows, dims)).astype(np.float32), tags)


def test_pools_against_loops():
    heard = [heard_at_random(3), heard_at_random(5, seed=1)]
    values = pooled(read_part("musicnn-msd:mean-std"), heard)
    for row, table in zip(values, heard, strict=True):
        for number in (0, 17, 199):
            series = [float(window[number]) for window in table.embedding]
            mean = sum(series) / len(series)
            assert row[number] == pytest.approx(mean, abs=1e-6)
            assert row[200 + number] == pytest.approx(
                (sum((x - mean) ** 2 for x in series) / len(series)) ** 0.5, abs=1e-6
            )
    assert pooled(read_part("musicnn-msd-tags"), heard)[1] == pytest.approx(heard[1].tags.mean(0), abs=1e-6)


def test_columns_say_what_they_are():
    table = column_table(read_part("musicnn-msd@dense:mean-std"), 200)
    assert list(table.index[[17, 217]]) == ["musicnn-msd@dense[17]", "musicnn-msd@dense[17]_std"]
    assert set(table["group"]) == {"musicnn-msd"} and list(table["statistic"].iloc[[0, 399]]) == ["mean", "std"]
    tags = column_table(read_part("musicnn-msd-tags"), 200)
    assert tags.loc["tag musicnn-msd: guitar", "plain"] == "guitar" and set(tags["group"]) == {"tags"}


def test_collapsed_and_random_embeddings_are_noted():
    same = heard_at_random()
    tables = {str(i): Heard(same.times, same.embedding + 1e-3 * i, same.tags) for i in range(12)}
    record = {"name": "musicnn-msd", "source": "random"}
    part = read_part("musicnn-msd")
    notes = pooled_table(part, Embeddings(part.backbone, tables, record)).notes
    assert any("collapsed" in note for note in notes) and any("random weights" in note for note in notes)
    different = {str(i): heard_at_random(seed=i) for i in range(12)}
    assert not pooled_table(part, Embeddings(part.backbone, different, record | {"source": "x"})).notes


@pytest.mark.parametrize(
    ("name", "seen"), [("music-AudioSet", True), ("audio_set", True), ("demo", False), ("million songs", False)]
)
def test_runs_know_whether_a_network_has_seen_the_dataset(name, seen, folder):
    entry = replace(BACKBONES["musicnn-mtt"], saw=("AudioSet", "Million Song Dataset"))
    tones = load(folder)
    assert entry.has_seen(replace(tones, name=name)) == seen
    assert replace(entry, saw=("DEAM",)).has_seen(replace(tones, layout="deam"))


def test_a_run_is_badged_that_its_network_saw_the_dataset(folder, artifacts, monkeypatch):
    options = ["--dataset", str(folder), "--features", "musicnn-mtt", "--explain", "none", "--resamples", "5"]
    for trained_on, badged in (("somewhere else", False), (folder.name, True)):
        monkeypatch.setitem(BACKBONES, "musicnn-mtt", replace(BACKBONES["musicnn-mtt"], saw=(trained_on,)))
        assert main(["train", *options, "--run-id", f"seen-{badged}"]) == 0
        about = read_run(f"seen-{badged}").about
        assert about["weights"][0]["saw"] == [trained_on]
        assert ("saw this dataset" in [text for text, *_ in badges(about)]) == badged


def test_another_front_end_is_not_served_from_the_cache(folder, artifacts, monkeypatch):
    heard = []
    hear, entry, path = embeddings.hear, BACKBONES["musicnn-mtt"], [folder / "3.flac"]
    monkeypatch.setattr(embeddings, "hear", lambda path, *rest: heard.append(path) or hear(path, *rest))
    for backbone in (entry, entry, replace(entry, front_end=entry.front_end + 1)):
        embeddings.listen_to(path, backbone)
    assert len(heard) == 2


def test_tables_of_windows_and_tags():
    heard = Embeddings(BACKBONES["musicnn-msd"], {"a": heard_at_random(2), "b": heard_at_random(3, seed=1)}, {})
    windows = window_table(heard)
    assert list(windows["track_id"]) == ["a", "a", "b", "b", "b"] and list(windows["window"]) == [0, 1, 0, 1, 2]
    assert windows.loc[4, "d7"] == heard.tables["b"].embedding[2, 7] and windows.loc[4, "seconds"] == 6.0
    tags = tag_table(heard).set_index("track_id").loc["a"]
    means = heard.tables["a"].tags.mean(axis=0)
    assert tags["tag"].iloc[0] == heard.backbone.tags[int(means.argmax())]
    assert tags["probability"].is_monotonic_decreasing and tags["probability"].iloc[0] == pytest.approx(means.max())


def test_cache_gives_what_was_written_and_notices_damage(tmp_path):
    path, values = tmp_path / "x.safetensors", np.arange(6, dtype=np.float32).reshape(2, 3)
    with pytest.raises(FileNotFoundError):
        cache.read(path, ["a"])
    cache.write(path, {"a": values, "b": values.T}, "short")
    arrays, note = cache.read(path, ["b"])
    assert np.array_equal(arrays["b"], values.T) and note == "short"
    with pytest.raises(cache.Damaged):
        cache.read(path, ["c"])
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(cache.Damaged):
        cache.read(path, ["a", "b"])
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(cache.Damaged):
        cache.read(path, ["a"])


def test_cache_is_hit_and_a_damaged_entry_is_made_again(folder, artifacts, monkeypatch):
    dataset = load(str(folder), "tracks")
    first = build_representation("musicnn-mtt", dataset)
    assert [track for track, _ in first.failures] == ["short"] and "at least 1 s" in first.failures[0][1]
    entry = sorted((artifacts / "cache" / "embeddings").rglob("*.safetensors"))[0]
    entry.write_bytes(entry.read_bytes()[:-4])
    opened = []
    opener = embeddings.open_backbone
    monkeypatch.setattr(embeddings, "open_backbone", lambda *given: opened.append(given) or opener(*given))
    again = build_representation("musicnn-mtt", dataset)
    assert opened and any("damaged" in note for note in again.notes)
    pd.testing.assert_frame_equal(first.values, again.values)
    monkeypatch.setattr(embeddings, "hear", None)  # a miss would fail; only the clip that is too short is tried
    cached = build_representation("musicnn-mtt", dataset)
    pd.testing.assert_frame_equal(first.values, cached.values)


def test_files_get_the_columns_of_the_training(folder, artifacts):
    dataset = load(str(folder), "tracks")
    spec = "musicnn-mtt@dense:mean-std+musicnn-mtt-tags"
    table = build_representation(spec, dataset)
    paths = [str(folder / "3.flac"), str(folder / "short.flac"), str(folder / "absent.flac"), str(folder / "0.flac")]
    wanted = list(table.values.columns[::-7])
    values, failures = representation_of_files(spec, wanted, paths)
    assert list(values.columns) == wanted and list(values.index) == [paths[0], paths[3]]
    assert np.array_equal(values.to_numpy(), table.values.loc[["t3", "t0"], wanted].to_numpy())
    assert [path for path, _ in failures] == paths[1:3]


def test_predict_repeats_the_training_and_writes_curves(run, folder, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MER_ARTIFACTS", str(run.parent.parent))
    facts = json.loads((run / "model" / "model.json").read_text())
    curve = tmp_path / "curve.csv"
    assert main(["predict", "--run", "tones", "--over-time", str(curve), str(folder / "5.flac")]) == 0
    printed = capsys.readouterr().out.splitlines()
    predicted = float(printed[1].split(",")[1])
    table = build_representation("musicnn-mtt@dense", load(str(folder), "tracks")).values
    model = load_model(run / "model" / "model.skops")
    assert predicted == pytest.approx(model.predict(table.loc[["t5"], facts["columns"]].to_numpy())[0, 0], abs=1e-4)
    rows = pd.read_csv(curve)
    assert list(rows["target"]) == ["valence", "arousal"] and rows["seconds"][0] == pytest.approx(1.496)
    assert rows["predicted"][0] == pytest.approx(predicted, abs=2e-4)  # a clip of one window is its own mean


def test_a_run_holds_weights_tags_and_windows(run):
    about = json.loads((run / "run.json").read_text())
    assert about["weights"][0]["name"] == "musicnn-mtt" and len(about["weights"][0]["sha256"]) == 64
    tags, windows = pd.read_parquet(run / "tags.parquet"), pd.read_parquet(run / "dynamic.parquet")
    assert set(tags["track_id"]) == {f"t{i}" for i in range(12)}
    # Clips of one window: the curve is the out-of-fold prediction itself.
    scored = pd.read_parquet(run / "predictions.parquet").set_index(["track_id", "target"])["predicted"]
    curve = windows.set_index(["track_id", "target"])["predicted"]
    assert np.abs(curve - scored).max() < 1e-8 and len(curve) == 24


def test_other_weights_are_refused(run):
    recorded = json.loads((run / "run.json").read_text())["weights"]
    check_weights("musicnn-mtt@dense", recorded)
    with pytest.raises(UserError, match="SHA-256 000000"):
        check_weights("musicnn-mtt@dense", [recorded[0] | {"sha256": "0" * 64}])
    with pytest.raises(UserError, match="found are random weights"):
        check_weights("musicnn-mtt@dense", recorded, "random")


def test_bad_options_are_one_line(folder, artifacts, capsys):
    for options in (
        ["embed", "--dataset", str(folder), "--backbone", "nobody"],
        ["embed", "--dataset", str(folder), "--backbone", "musicnn-mtt", "--layer", "nowhere"],
        ["train", "--dataset", str(folder), "--features", "musicnn-mtt", "--weights", str(folder / "none")],
        ["train", "--dataset", str(folder), "--features", "musicn-mtt"],
    ):
        assert main(options) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(said) == 1, options


def test_embed_writes_its_tables(folder, artifacts):
    options = ["--dataset", str(folder), "--backbone", "musicnn-mtt", "--pool", "mean-std", "--run-id", "heard"]
    assert main(["embed", *options]) == 0
    made = {path.name for path in (artifacts / "runs" / "heard").glob("*.parquet")}
    tables = {"embeddings", "features", "columns", "tags", "scores", "spectrum"}
    assert made == {f"{name}.parquet" for name in tables}
    features = pd.read_parquet(artifacts / "runs" / "heard" / "features.parquet").set_index("track_id")
    windows = pd.read_parquet(artifacts / "runs" / "heard" / "embeddings.parquet").set_index("track_id")
    assert features.shape == (12, 400) and features.loc["t2", "musicnn-mtt[5]"] == pytest.approx(
        windows.loc["t2", "d5"]
    )


def test_gaussian_ridge_against_its_definition():
    random = np.random.default_rng(3)
    rows, new = random.normal(size=(20, 4)), random.normal(size=(3, 4))
    ratings = np.stack([rows[:, 0] + 5, rows[:, 1] ** 2], axis=1)
    model = GaussianRidge(sharpness=0.5, alpha=0.3).fit(rows, ratings)
    gamma = 0.5 / (4 * rows.var())

    def kernel(a, b):
        return np.array([[np.exp(-gamma * sum((x - z) ** 2)) for z in b] for x in a])

    # In feature space: minimise |y - m - (phi - mean phi) w|^2 + alpha |w|^2, by a square root of the joint kernel.
    everything = np.vstack([rows, new])
    values, vectors = np.linalg.eigh(kernel(everything, everything))
    phi = vectors * np.sqrt(np.maximum(values, 0))
    centred = phi - phi[:20].mean(axis=0)
    weights = np.linalg.solve(
        centred[:20].T @ centred[:20] + 0.3 * np.eye(23), centred[:20].T @ (ratings - ratings.mean(axis=0))
    )
    assert model.predict(new) == pytest.approx(ratings.mean(axis=0) + centred[20:] @ weights, abs=1e-6)
    assert model.fit(rows, ratings[:, 0]).predict(new).shape == (3,)


def test_mean_of_models():
    random = np.random.default_rng(4)
    rows, ratings = random.normal(size=(15, 3)), random.normal(size=(15, 2))
    parts = [("wide", GaussianRidge()), ("sharp", GaussianRidge(sharpness=2.0))]
    both = MeanRegressor(parts).fit(rows, ratings).predict(rows)
    assert both == pytest.approx(sum(model.fit(rows, ratings).predict(rows) for _, model in parts) / 2)


@pytest.mark.parametrize("family", ["kernel-ridge", "committee", "mlp"])
def test_heads_are_stored_as_fitted(family, tmp_path):
    random = np.random.default_rng(5)
    rows, ratings = random.normal(size=(24, 6)), random.uniform(1, 9, size=(24, 2))
    quick = {"mlp": {"epochs": 3}}.get(family, {})
    model = make_regressor(family, 42, **quick).fit(rows, ratings)
    save_model(tmp_path / "m.skops", model)
    assert np.array_equal(load_model(tmp_path / "m.skops").predict(rows), model.predict(rows))
    assert np.array_equal(make_regressor(family, 42, **quick).fit(rows, ratings).predict(rows), model.predict(rows))
