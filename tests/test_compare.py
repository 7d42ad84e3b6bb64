"""Comparing protocols, label versions and finished runs, as a user calls it; runs under every kind of protocol."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from mer_core.errors import UserError
from mer_core.runs import compare_runs, read_run
from pipelines.__main__ import main

TRACKS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a feature table, groups of three tracks,; no audio is needed."""
    root = tmp_path_factory.mktemp("music")
    random = np.random.default_rng(0)
    features = random.normal(size=(TRACKS, 5))
    table = pd.DataFrame({"track_id": [f"t{i}" for i in range(TRACKS)], "path": "none.wav"})
    table["valence"] = np.clip(5 + features[:, 0] + random.normal(0, 0.5, TRACKS), 1, 9)
    table["arousal"] = np.clip(5 + features[:, 1] + random.normal(0, 1.0, TRACKS), 1, 9)
    table["group"] = [f"g{i // 3}" for i in range(TRACKS)]
    table["part"] = ["2014"] * 45 + ["2015"] * 15
    table["valence_std"], table["arousal_std"] = 1.2, 0.0
    table.to_csv(root / "tracks.csv", index=False)
    (root / "dataset.json").write_text('{"rating_scale": [1, 9]}')
    columns = [f"x{i}" for i in range(5)]
    pd.DataFrame(features, columns=columns).assign(track_id=table["track_id"]).to_csv(root / "table.csv", index=False)
    return root


@pytest.fixture(scope="module", autouse=True)
def one_artifacts_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield


def call(name, folder, run_id, *more):
    options = ["--dataset", folder, "--features", folder / "table.csv", "--resamples", 50, "--run-id", run_id]
    return main([name, *map(str, options), *map(str, more)])


def train(folder, run_id, *more):
    assert call("train", folder, run_id, "--explain", "none", *more) == 0
    return read_run(run_id)


@pytest.fixture(scope="module")
def ridge(folder):
    return train(folder, "ridge", "--model", "ridge", "--permutations", "39")


@pytest.fixture(scope="module")
def hold_out(folder):
    return train(folder, "original", "--model", "ridge", "--protocol", "original", "--explain", "shap")


def test_a_run_says_how_sure_it_is(ridge):
    metrics = ridge.metrics
    assert metrics["leaks"] == [] and ridge.about["leaks"] == []
    for target in ("valence", "arousal", "joint"):
        for level in ("0.8", "0.9"):
            assert set(metrics["coverage"][target][level]) == {"all", "2014", "2015"}
    rows = ridge.predictions[ridge.predictions["target"] == "valence"]
    inside = (rows["lower"] <= rows["true"]) & (rows["true"] <= rows["upper"])
    assert inside.mean() == pytest.approx(metrics["coverage"]["valence"]["0.9"]["all"])
    assert metrics["permutation"]["targets"]["valence"]["p"] == 1 / 40
    levels = json.loads((ridge.folder / "intervals.json").read_text())["levels"]
    stored = json.loads((ridge.folder / "model" / "model.json").read_text())
    assert stored["interval_halfwidth"] == levels["0.9"]["halfwidth"]
    assert stored["ellipse"]["0.8"] == levels["0.8"]["ellipse"]
    assert levels["0.8"]["ellipse"]["targets"] == ["valence", "arousal"]
    assert levels["0.8"]["ellipse"]["radius"] < levels["0.9"]["ellipse"]["radius"]


def test_the_ceiling_is_left_out_where_one_person_rated(ridge):
    assert set(ridge.metrics["ceiling"]) == {"valence"}  # the spread of arousal is 0
    limit = ridge.metrics["ceiling"]["valence"]
    assert limit["assumed"] and limit["raters"] == pytest.approx(10) and set(limit["parts"]) == {"2014", "2015"}


def test_a_hold_out_keeps_the_names_of_its_parts(hold_out):
    assert set(hold_out.tracks["fold"]) == {"train", "validation", "test"}
    assert set(hold_out.predictions["fold"]) == {"test"}
    tested = hold_out.tracks.loc[hold_out.tracks["fold"] == "test", "track_id"]
    assert set(hold_out.predictions["track_id"]) == set(tested) == {f"t{i}" for i in range(45, 60)}
    assert set(hold_out.explanation("shap").tracks) == set(tested)
    assert hold_out.about["split_sizes"]["test"] == 15
    assert hold_out.metrics["targets"]["valence"]["all"]["n"] == 15


def test_a_constant_rating_is_left_out_and_said(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "music")
    folder = tmp_path / "music"
    pd.read_csv(folder / "tracks.csv").assign(arousal=4.0).to_csv(folder / "tracks.csv", index=False)
    run = train(folder, "constant", "--model", "ridge")
    assert run.about["targets"] == ["valence"] and "arousal is the same" in run.about["notes"][0]
    assert set(run.metrics["targets"]) == {"valence"} and "joint" not in run.metrics["coverage"]
    assert main(["explain", "--run", "constant"]) == 0
    assert read_run("constant").explanation("shap").targets == ("valence",)
    assert call("train", folder, "none", "--model", "ridge", "--targets", "arousal") == 2
    assert "nothing to learn" in capsys.readouterr().err


def test_runs_are_compared_on_the_tracks_that_both_tested(ridge, hold_out, folder):
    same = compare_runs(ridge, ridge, 50)["targets"]["valence"]
    assert same["r2"]["difference"] == [0, 0, 0] and same["r2"]["winner"] is None and same["n"] == TRACKS
    noise = pd.read_csv(folder / "table.csv").assign(x0=0.0, x1=0.0)
    noise.to_csv(folder / "noise.csv", index=False)
    worse = train(folder, "worse", "--model", "ridge", "--targets", "valence", "--features", folder / "noise.csv")
    found = compare_runs(ridge, worse, 200)
    assert set(found["targets"]) == {"valence"} and found["leaks"] == []
    assert found["targets"]["valence"]["r2"]["winner"] == "a" and found["targets"]["valence"]["rmse"]["winner"] == "a"
    assert compare_runs(hold_out, ridge, 50)["targets"]["arousal"]["n"] == 15
    ridge.metrics["leaks"].append({"kind": "artist", "sentence": "Some leak."})
    found = compare_runs(ridge, worse, 200)
    ridge.metrics["leaks"].clear()
    assert found["targets"]["valence"]["r2"]["winner"] is None and found["leaks"] == ["ridge: Some leak."]
    other = read_run("worse")
    other.about["dataset"]["fingerprint"] = "other"
    with pytest.raises(UserError, match="differ in tracks or ratings"):
        compare_runs(ridge, other)


def test_protocols_side_by_side(folder, capsys):
    assert call("compare", folder, "both", "--model", "ridge") == 0
    said, run = capsys.readouterr().err, read_run("both")
    table = pd.read_parquet(run.folder / "comparison.parquet")
    assert set(table["protocol"]) == {"grouped-5fold", "nested", "original", "custom"}
    assert set(run.metrics["refused"]) == {"music2emo", "leaky-chunks"}
    assert "music2emo: not done." in said and "train.txt is missing" in said and "nothing leaks." in said
    assert set(table["labels"]) == {"as given"}
    single = train(folder, "single", "--model", "ridge")
    score = single.metrics["targets"]["valence"]["2015"]
    row = table[(table["protocol"] == "grouped-5fold") & (table["target"] == "valence") & (table["part"] == "2015")]
    assert row["n"].item() == 15 and row["rmse"].item() == pytest.approx(score["rmse"][0])
    assert [row[name].item() for name in ("r2", "r2_low", "r2_high")] == pytest.approx(score["r2"])
    share = single.metrics["ceiling"]["valence"]["parts"]["2015"]["share"]
    assert row["share_of_ceiling"].item() == pytest.approx(share)


def test_finished_runs_pair_by_pair(ridge, hold_out, capsys):
    assert main(["compare", "--runs", "ridge,original,ridge", "--run-id", "pairs", "--resamples", "50"]) == 0
    run = read_run("pairs")
    assert [(pair["a"], pair["b"]) for pair in run.metrics["pairs"]] == [("ridge", "original")]
    table = pd.read_parquet(run.folder / "comparison.parquet")
    assert len(table) == 2 * 3 and "valence R2, 15 tracks: ridge against original" in capsys.readouterr().err
    for runs, expected in (("ridge", "at least two"), ("ridge,nothing", "'nothing' was not found")):
        assert main(["compare", "--runs", runs]) == 2
        assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--protocols", "grouped-5fold,magic"], "magic"),
        (["--protocols", "leaky-chunks"], "no protocol can be served"),
        (["--targets", "joy"], "joy"),
    ],
)
def test_mistakes_get_one_line(folder, capsys, more, expected):
    assert call("compare", folder, "bad", *more) == 2
    assert expected in capsys.readouterr().err.splitlines()[-1]


def test_both_label_versions_of_deam_in_two_columns(real_data, capsys):
    deam = real_data("deam")
    options = ["--features", deam / "song_mean_167.parquet", "--model", "ridge", "--resamples", 20]
    options += ["--protocols", "grouped-5fold,music2emo", "--run-id", "versions"]
    assert main(["compare", "--dataset", str(deam), *map(str, options)]) == 0
    said = capsys.readouterr().err
    assert "R2, corrected" in said and "R2, published" in said and "emoMusic" in said
    table = pd.read_parquet(read_run("versions").folder / "comparison.parquet")
    whole = table[(table["protocol"] == "grouped-5fold") & (table["part"] == "all")].set_index(["labels", "target"])
    # Exchanged labels make valence look easier and arousal harder than they are.
    assert whole.loc[("published", "valence"), "r2"] - whole.loc[("corrected", "valence"), "r2"] > 0.03
    assert whole.loc[("corrected", "arousal"), "r2"] - whole.loc[("published", "arousal"), "r2"] > 0.1
    assert set(table["part"]) == {"all", "2013", "2014", "2015"}


def test_cut_tracks_leak(tmp_path):
    from tests.test_pipelines import write_folder

    music = write_folder(tmp_path / "music", tracks=12, seconds=11.0)
    options = ["--dataset", music, "--model", "ridge", "--resamples", 20, "--protocol", "leaky-chunks"]
    assert main(["train", *map(str, options), "--run-id", "leaky"]) == 0
    run = read_run("leaky")
    assert {leak["kind"] for leak in run.metrics["leaks"]} == {"chunk", "track", "artist"} and run.about["leaks"]
    assert run.metrics["chunks"]["targets"]["valence"]["all"]["n"] == 36
    assert run.metrics["targets"]["valence"]["all"]["n"] == 12 and run.explanation_names() == ()
    assert main(["explain", "--run", "leaky"]) == 2
