"""Pipelines as a user calls them: a folder of audio and ratings in, a run, predictions and clear errors out."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

import pipelines
from mer_core.paths import REPOSITORY
from mer_core.runs import read_run

RATE = 22050


def write_folder(folder, tracks=30, seconds=4.0, seed=0):
    """A `tracks` folder whose ratings have audible causes: loudness for arousal, brightness for valence."""
    random = np.random.default_rng(seed)
    (folder / "audio").mkdir(parents=True)
    rows = []
    time_s = np.arange(int(seconds * RATE)) / RATE
    for number in range(tracks):
        loud, bright = random.uniform(0.05, 0.8), random.uniform(0, 1)
        tone = np.sin(2 * np.pi * 220 * time_s) + bright * np.sin(2 * np.pi * 2640 * time_s)
        noise = 0.02 * random.standard_normal(len(time_s))
        soundfile.write(folder / "audio" / f"{number}.wav", loud * (tone / 2 + noise), RATE)
        rows.append(
            {
                "track_id": f"t{number}",
                "path": f"audio/{number}.wav",
                "valence": round(2 + 6 * bright, 2),
                "arousal": round(2 + 7 * loud, 2),
                "group": f"album {number % 10}",
                "valence_std": 1.2,
                "arousal_std": 1.1,
            }
        )
    pd.DataFrame(rows).to_csv(folder / "tracks.csv", index=False)
    (folder / "dataset.json").write_text('{"rating_scale": [1, 9]}')
    return folder


def call(*arguments, artifacts, timeout=300):
    """Run `python -m pipelines ...` and return the finished process."""
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "MER_ARTIFACTS": str(artifacts)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("music"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, folder):
    """(artifacts folder, finished process, run folder) of one trained run."""
    artifacts = tmp_path_factory.mktemp("artifacts")
    done = call("train", "--dataset", folder, "--model", "ridge", "--resamples", 50, artifacts=artifacts)
    assert done.returncode == 0, done.stderr
    return artifacts, done, artifacts / "runs" / done.stdout.strip().split("/")[-1]


@pytest.fixture
def run(trained, monkeypatch):
    monkeypatch.setenv("MER_ARTIFACTS", str(trained[0]))
    return read_run(trained[2].name)


def test_the_last_line_names_the_run_folder(trained):
    _, done, run_folder = trained
    assert done.stdout.splitlines()[-1] == f"run: {run_folder}"
    assert (run_folder / "run.json").exists()


def test_scores_follow_from_the_predictions(run):
    table = run.predictions
    for target in ("valence", "arousal"):
        rows = table[table["target"] == target]
        assert len(rows) == 30 and rows["track_id"].is_unique
        error = rows["true"] - rows["predicted"]
        r2 = 1 - (error**2).sum() / ((rows["true"] - rows["true"].mean()) ** 2).sum()
        value, low, high = run.metrics["targets"][target]["all"]["r2"]
        assert value == pytest.approx(r2) and low < value < high
        assert value > 0.5  # the causes are planted and easy to hear
        assert run.metrics["baselines"]["constant"][target]["all"]["r2"][0] < 0.05
        assert (rows["lower"] < rows["predicted"]).all() and (rows["predicted"] < rows["upper"]).all()
    assert set(run.metrics["baselines"]) == {"constant", "mean-only", "q25-only"}
    assert run.metrics["ceiling"]["valence"]["share"] > 0


def test_no_group_is_trained_on_and_tested(run):
    folds = run.tracks.groupby("group")["fold"].nunique()
    assert (folds == 1).all() and run.tracks["fold"].nunique() == 5


def test_shap_values_explain_the_scored_predictions(run):
    explanation = run.explanation("shap")
    table = run.predictions.pivot(index="track_id", columns="target", values="predicted")
    rebuilt = explanation.base + explanation.values.sum(axis=1)
    expected = table.loc[list(explanation.tracks), list(explanation.targets)].to_numpy()
    assert np.abs(rebuilt - expected).max() < 1e-6


def test_neighbours_are_the_nearest(run):
    from mer_core.datasets import load
    from mer_core.features import build_features

    values = build_features("stats8", load(run.about["config"]["dataset"])).values
    values = values.fillna(values.median())
    varying = values.loc[:, values.std(ddof=0) > 1e-9 * values.abs().mean()]
    scaled = (varying - varying.mean()) / varying.std(ddof=0)
    distance = ((scaled.loc["t0"] - scaled) ** 2).sum(axis=1).drop("t0") ** 0.5 / np.sqrt(values.shape[1])
    rows = run.neighbours[run.neighbours["track_id"] == "t0"].set_index("neighbour")
    assert rows.index.tolist() == distance.sort_values().index[:8].tolist()
    assert np.allclose(rows["distance"], distance.loc[rows.index])


def test_the_same_config_gives_the_same_metrics(trained, folder):
    artifacts, _, run_folder = trained
    done = call("train", "--dataset", folder, "--model", "ridge", "--resamples", 50, "--json", artifacts=artifacts)
    assert json.loads(done.stdout) == json.loads((run_folder / "metrics.json").read_text())


def test_predict_prints_csv_on_the_rating_scale(trained, folder):
    artifacts, _, run_folder = trained
    file = folder / "audio" / "3.wav"
    done = call("predict", "--run", run_folder.name, file, artifacts=artifacts)
    assert done.returncode == 0, done.stderr
    header, row = list(csv.reader(io.StringIO(done.stdout)))
    expected = "path,valence,arousal,valence_lower,valence_upper,arousal_lower,arousal_upper"
    assert ",".join(header) == expected and row[0] == str(file)
    valence, arousal, low, high, *_ = map(float, row[1:])
    rated = pd.read_csv(folder / "tracks.csv").set_index("track_id").loc["t3"]
    assert abs(valence - rated["valence"]) < 1 and abs(arousal - rated["arousal"]) < 1  # a track it was trained on
    assert 1 <= low < valence < high <= 9


def test_predict_goes_on_after_bad_files(trained, folder, tmp_path):
    artifacts, _, run_folder = trained
    short, empty, silent = tmp_path / "short.wav", tmp_path / "empty.mp3", tmp_path / "silent.wav"
    soundfile.write(short, 0.1 * np.ones(RATE // 5), RATE)
    empty.touch()
    soundfile.write(silent, np.zeros(5 * RATE), RATE)
    good = f"{folder}/./audio/0.wav"  # as the user spells it
    files = [short, good, empty, tmp_path / "none.wav", silent, good]
    done = call("predict", "--run", run_folder.name, *files, artifacts=artifacts)
    assert done.returncode == 3 and "Traceback" not in done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["path"] for row in rows] == [str(file) for file in files]
    assert [bool(row["error"]) for row in rows] == [True, False, True, True, True, False]
    assert not rows[0]["valence"] and rows[1]["valence"]
    assert "0.2" in rows[0]["error"] and "silent" in rows[4]["error"]


def test_list_and_show(trained):
    artifacts, _, run_folder = trained
    done = call("list", artifacts=artifacts)
    assert run_folder.name in done.stdout and "valence R2" in done.stdout
    done = call("show", run_folder.name, artifacts=artifacts)
    assert done.returncode == 0 and "human ceiling" in done.stdout and "ratings 1 to 9" in done.stdout
    done = call("show", run_folder.name[:-2], artifacts=artifacts)
    assert done.returncode == 2 and run_folder.name in done.stderr


def test_explain_adds_what_was_left_out(tmp_path, folder):
    options = (
        "--dataset",
        folder,
        "--model",
        "extra-trees",
        "--resamples",
        10,
        "--run-id",
        "plain",
        "--explain",
        "none",
    )
    assert call("train", *options, artifacts=tmp_path).returncode == 0
    assert not (tmp_path / "runs/plain/explanations").exists()
    done = call("explain", "--run", "plain", artifacts=tmp_path)
    assert done.returncode == 0 and done.stdout.strip().endswith("runs/plain"), done.stderr
    assert (tmp_path / "runs/plain/explanations/shap/explanation.json").exists()


def test_features_are_written_as_tables(tmp_path, folder):
    done = call("features", "--dataset", folder, "--features", "stats15", artifacts=tmp_path)
    assert done.returncode == 0, done.stderr
    run_folder = done.stdout.strip().removeprefix("run: ")
    table = pd.read_parquet(f"{run_folder}/features.parquet")
    notes = " ".join(json.loads(Path(run_folder, "run.json").read_text())["features"]["notes"])
    without_value = int(re.search(r"(\d+) feature columns without any value", notes)[1]) if notes else 0
    assert table.shape == (30, 1 + 3900 - without_value)


@pytest.mark.parametrize("reduction", ["decorrelated", "group-pca", "global-pca"])
def test_reduced_columns_train_explain_and_predict(trained, folder, reduction, monkeypatch, capsys):
    from pipelines.__main__ import run_command, run_pipeline

    monkeypatch.setenv("MER_ARTIFACTS", str(trained[0]))
    options = ["--dataset", str(folder), "--features", f"stats8-{reduction}", "--resamples", "20"]
    run_pipeline("train", [*options, "--explain", "none", "--run-id", reduction])
    plain, reduced = read_run(trained[2].name), read_run(reduction)
    about = reduced.about["features"]
    assert about["name"] == f"stats8-{reduction}" and about["n_columns"] == plain.about["features"]["n_columns"]
    assert len(about["reduction"]["n_per_round"]) == 5
    assert 0 < about["reduction"]["n_final"] < about["n_columns"]
    assert reduced.metrics["targets"]["arousal"]["all"]["r2"][0] > (0.5 if reduction == "decorrelated" else 0.2)
    for name in ("mean-only", "q25-only"):  # on columns as they are
        ours, theirs = (run.metrics["baselines"][name]["valence"]["all"]["r2"][0] for run in (reduced, plain))
        assert ours == pytest.approx(theirs)
    run_pipeline("explain", ["--run", reduction])
    explanation = reduced.explanation("shap")
    scored = reduced.predictions.pivot(index="track_id", columns="target", values="predicted")
    expected = scored.loc[list(explanation.tracks), list(explanation.targets)].to_numpy()
    assert np.abs(explanation.base + explanation.values.sum(axis=1) - expected).max() < 1e-6
    capsys.readouterr()
    assert run_command("predict", ["--run", reduction, str(folder / "audio" / "3.wav")]) == 0
    row = next(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    rated = pd.read_csv(folder / "tracks.csv").set_index("track_id").loc["t3"]
    assert abs(float(row["arousal"]) - rated["arousal"]) < 1.5


def test_features_say_what_a_reduction_leaves(trained, folder, monkeypatch, capsys):
    from pipelines.__main__ import run_pipeline

    monkeypatch.setenv("MER_ARTIFACTS", str(trained[0]))
    options = ["--dataset", str(folder), "--features", "stats8-group-pca", "--reproduce-source", "--run-id", "seen"]
    run_pipeline("features", options)
    run, said = read_run("seen"), capsys.readouterr().err
    tables = {path.stem: pd.read_parquet(path) for path in run.folder.glob("*.parquet")}
    names = {"features", "columns", "reduction", "spectrum", "loadings", "components", "reproduction"}
    assert set(tables) == names
    n_columns = run.about["features"]["n_columns"]
    assert len(tables["columns"]) == len(tables["reduction"]) == n_columns
    assert run.metrics["counts"]["expected"] == 2080
    assert f"30 tracks, {n_columns} columns, 2080 expected" in said
    assert sum(row["columns"] for row in run.metrics["coverage"]) == n_columns
    components = tables["components"].drop(columns="track_id")
    assert components.shape == (30, run.about["features"]["reduction"]["n_final"])
    assert sum(row["components"] for row in run.metrics["reduction"]) == tables["spectrum"]["kept"].sum()
    assert components.shape[1] == tables["spectrum"]["kept"].sum()
    assert set(tables["loadings"]["component"]) == set(components)
    assert "DEAM's 1802 songs" in said and "1257" in said


BAD_CALLS = [
    (["nonsense"], "'nonsense' is no pipeline"),
    (["train", "--dataset", "{tmp}/none"], "none"),
    (["train", "--dataset", "{tmp}/empty"], "empty"),
    (["train", "--dataset", "{folder}", "--targets", "joy"], "joy"),
    (["train", "--dataset", "{folder}", "--features", "stats9"], "stats9"),
    (["train", "--dataset", "{folder}", "--features", "stats8-pca"], "pca is no reduction"),
    (["features", "--dataset", "{folder}", "--features", "mert", "--reproduce-source"], "stats8 and stats15 only"),
    (["features", "--reproduce-source", "perhaps"], "neither yes nor no"),
    (["train", "--dataset", "{folder}", "--model", "svr"], "svr"),
    (["train", "--dataset", "{folder}", "--resamples", "0"], "--resamples 0"),
    (["train", "--dataset", "{folder}", "--seed", "x"], "--seed"),
    (["predict", "--run", "nothing", "{folder}/audio/0.wav"], "'nothing' was not found"),
    (["show", "nothing"], "'nothing' was not found"),
    (["explain", "--run", "../.."], "was not found"),
]


@pytest.mark.parametrize(("arguments", "expected"), BAD_CALLS)
def test_mistakes_get_one_line_and_exit_code_2(tmp_path, folder, arguments, expected):
    (tmp_path / "empty").mkdir()
    words = [word.format(tmp=tmp_path, folder=folder) for word in arguments]
    done = call(*words, artifacts=tmp_path / "artifacts")
    assert done.returncode == 2
    assert expected in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not list((tmp_path / "artifacts").glob("runs/*"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path, folder):
    (tmp_path / "file").write_text("not a folder")
    done = call("train", "--dataset", folder, artifacts=tmp_path / "file")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "MER_ARTIFACTS" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent differently on Windows")
def test_ctrl_c_leaves_no_half_written_run(tmp_path, folder):
    arguments = [sys.executable, "-m", "pipelines", "train", "--dataset", str(folder), "--run-id", "stopped"]
    environment = {**os.environ, "MER_ARTIFACTS": str(tmp_path)}
    process = subprocess.Popen(arguments, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "runs" / ".partial-stopped").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert not list((tmp_path / "runs").glob("*")) and not list((tmp_path / "runs").glob(".partial*"))


def test_bad_tracks_are_left_out_and_counted(tmp_path):
    folder = write_folder(tmp_path / "music", tracks=24)
    (folder / "audio" / "0.wav").write_bytes(b"")
    (folder / "audio" / "1.wav").write_bytes((folder / "audio" / "1.wav").read_bytes()[:3000])
    (folder / "audio" / "2.wav").unlink()
    soundfile.write(folder / "audio" / "3.wav", 0.1 * np.ones(RATE // 5), RATE)
    soundfile.write(folder / "audio" / "4.wav", np.zeros(4 * RATE), RATE)
    table = pd.read_csv(folder / "tracks.csv")
    table.loc[5, "valence"] = np.nan
    table.loc[6, "arousal"] = 99
    table.loc[7, "track_id"] = "t8"
    table.loc[9, "path"] = "../../outside.wav"
    table.to_csv(folder / "tracks.csv", index=False)
    options = ("--dataset", folder, "--model", "ridge", "--resamples", 10, "--run-id", "bad")
    done = call("train", *options, artifacts=tmp_path / "artifacts")
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "artifacts/runs/bad/run.json").read_text())
    left_out = {item: reason for item, reason in run["dataset"]["report"]["skipped"] + run["features"]["failures"]}
    named = " ".join([*left_out, *left_out.values()])
    for item in ("t0", "t1", "t2", "t3", "t4", "t5", "t6", "t8", "t9"):
        assert item in named, f"{item} is not accounted for in {left_out}"
    predictions = pd.read_parquet(tmp_path / "artifacts/runs/bad/predictions.parquet")
    assert predictions["track_id"].nunique() == 24 - 9


@pytest.mark.parametrize("name", pipelines.PIPELINES)
def test_every_pipeline_documents_every_field(name, capsys):
    from pipelines.__main__ import config_parser

    module = pipelines.load(name)
    text = config_parser(name, module).format_help()
    for item in fields(module.Config):
        assert f"--{item.name.replace('_', '-')}" in text and item.metadata["help"].strip()
    assert module.__doc__ and module.execute and module.words


def test_models_on_the_command_line_are_the_families():
    from mer_core.models.regressors import FAMILIES
    from pipelines.train import MODELS

    assert set(MODELS) == set(FAMILIES)
