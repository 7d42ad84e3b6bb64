"""The pipeline that trains networks: honest folds, resumed where it was killed, new files predicted, two stages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fixture_runs import write_job
from test_pages import shown, text_of

from mer_core.datasets.audio import write_flac
from mer_core.errors import UserError
from mer_core.evaluate.training_log import TrainingLog, scatter
from mer_core.models.training.saved import load_networks, predict_table
from mer_core.models.training.spectrograms import spectrogram_of_file
from mer_core.plots.training import training_curves
from mer_core.runs import read_run
from pipelines.__main__ import main

RATE = 8000
SMALL = ["--network", "residual-cnn", "--width", "4", "--n-mels", "24", "--n-fft", "512", "--max-ms", "1000"]
SMALL += [
    "--sample-rate",
    "8000",
    "--epochs",
    "3",
    "--batch-size",
    "8",
    "--resamples",
    "20",
    "--learning-rate",
    "0.003",
]


def write_corpus(folder: Path, tracks: int, seed: int) -> Path:
    """Tones in noise: loud ones are aroused, high ones pleasant; two tracks a group."""
    random, rows = np.random.default_rng(seed), []
    folder.mkdir(parents=True)
    for k in range(tracks):
        pitch, level, seconds = random.uniform(0, 1), random.uniform(0, 1), random.uniform(1.1, 2.2)
        time = np.arange(int(seconds * RATE)) / RATE
        tone = np.sin(2 * np.pi * (200 + 2000 * pitch) * time) * 0.3
        sound = tone + random.normal(0, 0.01 + 0.3 * level, len(time))
        write_flac(folder / f"{k:02d}.flac", (0.5 * sound).clip(-1, 1).astype(np.float32), RATE)
        rows.append((f"{k:02d}", f"{k:02d}.flac", 2 + 6 * pitch, 2 + 6 * level, f"album {k // 2}"))
    table = pd.DataFrame(rows, columns=["track_id", "path", "valence", "arousal", "group"])
    table.to_csv(folder / "tracks.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus, another one, and a run of each option that needs one."""
    root = tmp_path_factory.mktemp("finetune")
    one, _ = write_corpus(root / "one", 24, 1), write_corpus(root / "other", 20, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_ARTIFACTS", str(root / "artifacts"))
        assert main(["finetune", "--dataset", str(one), *SMALL, "--run-id", "base"]) == 0
    return root


@pytest.fixture
def runs(made, monkeypatch):
    monkeypatch.setenv("MER_ARTIFACTS", str(made / "artifacts"))
    return made


def test_every_track_is_tested_by_a_network_that_knows_no_track_of_its_group(runs):
    run = read_run("base")
    table = run.predictions
    assert len(table) == 48 and table["predicted"].notna().all() and (table["lower"] <= table["predicted"]).all()
    assert run.tracks.groupby("group")["fold"].nunique().max() == 1 and run.tracks["fold"].nunique() == 5
    assert run.about["training"]["schedule"] == "all:3" and run.about["weights"] is None
    wide = table.pivot(index="track_id", columns="target")
    for target, parts in run.metrics["targets"].items():
        true, predicted = wide["true"][target], wide["predicted"][target]
        r2 = 1 - ((true - predicted) ** 2).sum() / ((true - true.mean()) ** 2).sum()
        assert parts["all"]["r2"][0] == pytest.approx(r2, abs=1e-9)
        unit = run.metrics["unit"][target]
        assert unit["mae"] == pytest.approx((true - predicted).abs().mean() / 8, abs=1e-9)
    curves = run.table("curves")
    assert len(curves) == 15 and curves["score"].gt(0).all() and curves["loader_share"].between(0, 1).all()
    dynamic = run.table("dynamic")
    means = dynamic.groupby(["track_id", "target"])["predicted"].mean().unstack()
    pd.testing.assert_frame_equal(means, wide["predicted"], check_names=False, check_exact=False, atol=1e-9)


def test_a_killed_run_goes_on_and_ends_the_same(runs, monkeypatch):
    from mer_core.models.training import windows

    draw, calls = windows.Windows.draw, iter(range(10_000))

    def killed(self, tracks, random):
        if next(calls) == 19:  # in the third fold
            raise KeyboardInterrupt
        return draw(self, tracks, random)

    options = ["finetune", "--dataset", str(runs / "one"), *SMALL, "--run-id", "again"]
    monkeypatch.setattr(windows.Windows, "draw", killed)
    assert main(options) == 130 and not (runs / "artifacts" / "runs" / "again").exists()
    monkeypatch.setattr(windows.Windows, "draw", draw)
    assert main(options) == 0
    assert read_run("again").metrics == read_run("base").metrics
    assert len(read_run("again").table("curves")) < 15  # what was done before was not done again
    assert not list((runs / "artifacts" / "cache" / "training").iterdir())


def test_new_files_get_the_mean_of_all_networks(runs, capsys, tmp_path):
    file, out = str(runs / "one" / "03.flac"), tmp_path / "curve.csv"
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    capsys.readouterr()
    assert main(["predict", "--run", "base", "--over-time", str(out), file, str(tmp_path / "bad.wav")]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("path,valence,arousal,valence_lower") and "bad.wav is not audio" in lines[2]
    saved = load_networks(read_run("base").folder / "model")
    assert len(saved.models) == 5
    table = spectrogram_of_file(file, saved.style)
    single = [predict_table(type(saved)(**{**vars(saved), "models": (model,)}), table) for model in saved.models]
    expected = np.clip(np.mean(single, axis=0), 1, 9)
    assert [float(cell) for cell in lines[1].split(",")[1:3]] == pytest.approx(expected, abs=1e-4)
    curve = pd.read_csv(out)
    assert set(curve["target"]) == {"valence", "arousal"} and curve["seconds"].between(0, 2.2).all()


def test_networks_are_stored_without_code_and_checked(runs):
    folder = read_run("base").folder / "model"
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
    file = sorted(folder.glob("*.safetensors"))[0]
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-1] + b"x")
        with pytest.raises(UserError, match="another checksum"):
            load_networks(folder)
    finally:
        file.write_bytes(content)


def test_leaky_pieces_say_so(runs):
    options = ["finetune", "--dataset", str(runs / "one"), *SMALL, "--protocol", "leaky-chunks"]
    assert main([*options, "--epochs", "1", "--run-id", "leaky"]) == 0
    run = read_run("leaky")
    assert {leak["kind"] for leak in run.about["leaks"]} >= {"chunk", "track"}
    assert len(run.predictions) == 48 and run.metrics["chunks"]["targets"]["valence"]["all"]["n"] == 72


def test_the_same_recordings_under_other_names_are_no_other_music(runs, capsys):
    copy = runs / "copy"
    copy.mkdir()
    table = pd.read_csv(runs / "one" / "tracks.csv", dtype=str).head(12)
    for number, path in enumerate(table["path"]):
        shutil.copy(runs / "one" / path, copy / f"renamed-{number}.flac")
    renamed = {"track_id": [f"r{n}" for n in range(12)], "path": [f"renamed-{n}.flac" for n in range(12)]}
    table.assign(**renamed, group=[f"h{n // 2}" for n in range(12)]).to_csv(copy / "tracks.csv", index=False)
    options = ["finetune", "--dataset", str(runs / "one"), *SMALL, "--epochs", "1", "--pretrain", str(copy)]
    assert main([*options, "--run-id", "copied"]) == 2
    assert "renamed-" in (said := capsys.readouterr().err) and "pretrain on other music" in said


def test_two_stages(runs, capsys):
    options = ["finetune", "--dataset", str(runs / "one"), *SMALL, "--epochs", "1", "--pretrain-epochs", "1"]
    assert main([*options, "--pretrain", str(runs / "other"), "--run-id", "after"]) == 0
    about = read_run("after").about
    assert about["training"]["pretrained_on"]["tracks"] == 20 and "after other" in about["model"]
    assert any("Pretrained on other" in note for note in about["notes"])
    assert set(read_run("after").table("curves")["phase"]) == {"pretraining", "fine-tuning"}
    third = write_corpus(runs / "third", 20, 7)
    elsewhere = ["finetune", "--dataset", str(third), *SMALL, "--epochs", "1", "--pretrain", "after"]
    assert main([*elsewhere, "--run-id", "third"]) == 0
    source = read_run("third").about["training"]["pretrained_on"]
    assert source["run"] == "after" and len(source["saw"]) == 2
    for wrong, said in (
        (str(runs / "one"), "data set itself"),
        ("after", "this very data set"),
        ("nowhere", "no finished"),
    ):
        assert main([*options, "--pretrain", wrong, "--run-id", "wrong"]) == 2
        assert said in capsys.readouterr().err
    other = ["finetune", "--dataset", str(runs / "other"), *SMALL, "--epochs", "1", "--run-id", "wrong"]
    assert main([*other, "--pretrain", "third"]) == 2, "seen two runs before"
    assert "this very data set" in capsys.readouterr().err
    assert main([*elsewhere, "--width", "8", "--run-id", "wrong"]) == 2
    assert "another network" in capsys.readouterr().err


def test_recipes_are_compared_over_seeds(runs):
    options = ["finetune", "--dataset", str(runs / "one"), *SMALL]
    for seed in ("1", "2"):
        assert main([*options, "--epochs", "1", "--seed", seed, "--run-id", f"seed-{seed}"]) == 0
        assert main([*options, "--epochs", "2", "--seed", seed, "--run-id", f"longer-{seed}"]) == 0
    named = "seed-1,seed-2,longer-1,longer-2,base"
    assert main(["compare", "--runs", named, "--resamples", "20", "--run-id", "recipes"]) == 0
    pairs = read_run("recipes").table("comparison").set_index(["run_a", "run_b", "target", "metric"])
    row = pairs.loc[("residual-cnn, all:1 (mean of 2 seeds)", "residual-cnn, all:2", "arousal", "r2")]
    tables = [read_run(f"seed-{k}").predictions.query("target == 'arousal'").set_index("track_id") for k in (1, 2)]
    true, predicted = tables[0]["true"], (tables[0]["predicted"] + tables[1]["predicted"]) / 2
    assert row["a"] == pytest.approx(1 - ((true - predicted) ** 2).sum() / ((true - true.mean()) ** 2).sum())
    table = read_run("recipes").table("recipes")
    assert table["schedule"].tolist() == [f"all:{k}" for k in (1, 1, 2, 2, 3, 3)]
    assert table["seeds"].tolist() == [2, 2, 2, 2, 1, 1]
    each = [read_run(f"seed-{seed}").metrics["targets"]["valence"]["all"]["r2"][0] for seed in (1, 2)]
    row = table.iloc[0]
    assert row["target"] == "valence" and row["mean"] == pytest.approx(np.mean(each))
    assert row["sd"] == pytest.approx(abs(each[0] - each[1]) / np.sqrt(2))


@pytest.mark.parametrize("network", ["ast", "ast-44k", "mobilenet-musicnn"])
def test_other_networks_run_with_random_weights_and_say_so(runs, monkeypatch, network):
    from mer_core.models.backbones.hub import MODELS
    from ui.frame import badges

    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    small = {"depth_multiplier": 0.1, "finegrained_output": True, "min_depth": 4, "depth_divisible_by": 4}
    for name, value in (tiny if network.startswith("ast") else small).items():
        monkeypatch.setitem(MODELS[network.partition("-")[0]].published, name, value)
    monkeypatch.setattr("mer_core.models.networks.stages.PICTURE", 32)
    options = ["--network", network, "--weights", "random", "--unfreeze", "head:1,last-1:1", "--resamples", "20"]
    assert main(["finetune", "--dataset", str(runs / "one"), *options, "--run-id", f"of-{network}"]) == 0
    run = read_run(f"of-{network}")
    assert "random weights" in [text for text, *_ in badges(run.about)]
    assert (
        run.predictions["predicted"].between(1 if "mobile" in network else -9, 9 if "mobile" in network else 19).all()
    )
    steps = json.loads((run.folder / "steps.json").read_text())["rounds"]["0"]
    assert [step["step"] for step in steps] == ["head:1", "last-1:1"] and steps[0]["trained"] < steps[1]["trained"]
    assert main(["predict", "--run", run.run_id, str(runs / "one" / "03.flac")]) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--network", "resnet"], "--network resnet is unknown"),
        (["--unfreeze", "head:3"], "both say how long"),
        (["--learning-rate", "-1"], "--learning-rate"),
        (["--n-fft", "4"], "--n-fft 4 is too small"),
        (["--targets", "joy"], "joy"),
        (["--teacher", "stats8"], "is no embedding"),
        (["--resamples", "0"], "--resamples 0"),
    ],
)
def test_mistakes_are_told_in_one_line(runs, capsys, options, said):
    assert main(["finetune", "--dataset", str(runs / "one"), *SMALL, *options, "--run-id", "wrong"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error:") and said in last


def test_a_head_that_cannot_be_solved_is_told(runs, capsys):
    options = ["finetune", "--dataset", str(runs / "one"), *SMALL[: SMALL.index("--epochs")], "--run-id", "wrong"]
    for schedule, said in (
        ("head", "linear heads"),
        ("head:1,last-2", "no step"),
        ("last-9:2", "stages before the head"),
    ):
        assert main([*options, "--unfreeze", schedule]) == 2
        assert said in capsys.readouterr().err


def test_deezer_lists_need_previews_that_the_user_brings(tmp_path, real_data):
    from mer_core.datasets.deezer import is_deezer, load_deezer

    lists = real_data("deezer")
    assert is_deezer(lists)
    with pytest.raises(UserError, match="--pretrain-audio"):
        load_deezer(lists)
    (tmp_path / "some song.mp3").write_bytes(b"x")
    with pytest.raises(UserError, match="dzr_sng_id"):
        load_deezer(lists, tmp_path)
    for name in ("532171", "213754", "216237"):
        (tmp_path / f"{name}.mp3").write_bytes(b"x")
    found = load_deezer(lists, tmp_path)
    assert found.tracks["part"].to_dict() == {"213754": "train", "216237": "validation", "532171": "test"}
    assert found.tracks.loc["532171", "group"] == "Fiona Apple"
    assert found.ratings.loc["532171"].tolist() == pytest.approx([-0.420759114214, 0.75464367831])
    assert sum(int(sentence.split()[0]) for sentence in found.report.missing) == 18644 - 3


def test_epochs_are_logged_for_the_app_and_for_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    random = np.random.default_rng(0)
    true = random.normal(size=(30, 2))
    outputs = true + random.normal(0, 0.5, (30, 2))
    with TrainingLog(tmp_path, ("valence", "arousal")) as log:
        for epoch in range(6):
            row = {"epoch": epoch, "step": 0, "fold": "1", "loss": 1.0 / (epoch + 1), "score": 0.5, "seconds": 2.0}
            log.add(row | {"loader_share": 0.5 if epoch == 0 else 0.1, "outputs": outputs, "errors": outputs - true})
    rows = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(6))
    explained = 1 - ((outputs - true) ** 2).sum(axis=0) / ((true - true.mean(axis=0)) ** 2).sum(axis=0)
    assert rows[0]["r2_arousal"] == pytest.approx(explained[1])
    assert rows[0]["pearson_valence"] == pytest.approx(np.corrcoef(true[:, 0], outputs[:, 0])[0, 1])
    assert "10.0%" in log.summary()
    (folder,) = (tmp_path / "tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([1 / (k + 1) for k in range(6)])
    assert {"error/valence", "error/arousal"} == set(events.Tags()["histograms"])
    assert [event.step for event in events.Images("scatter/valence")] == [0, 5]


def test_a_scatter_picture_has_high_ratings_at_the_top_right():
    picture = scatter(np.array([[2.99]]), np.array([[2.99]]), 0)[0]
    assert picture[0, -1] == 1 and (picture == 1).sum() == 1


def test_the_training_page_shows_curves_steps_and_augmentation(runs):
    app = shown("pages/training.py", run="base")
    assert not app.exception and not app.error
    assert "schedule **all:3**" in text_of(app) and "How to read this" in text_of(app)
    (steps,) = (frame.value for frame in app.dataframe if "parameters trained" in frame.value)
    assert steps["step"].tolist() == ["all:3"] and steps["epochs (mean of folds)"].tolist() == [3]
    app.toggle(key="preview").set_value(True).run()
    assert not app.exception and not app.error and len(app.get("image")) == 3


def test_the_training_page_follows_what_runs_now(artifacts):
    write_job(artifacts, "job-9", "running", "fold 2, epoch 3")
    status = artifacts / "jobs" / "job-9" / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"pipeline": "finetune"}))
    row = {"phase": "fine-tuning", "fold": "0", "step": 0, "epoch": 0, "loss": 1.0, "score": 0.9, "learning_rate": 0.1}
    (artifacts / "jobs" / "job-9" / "curves.jsonl").write_text(json.dumps(row) + "\n" + '{"phase": "fine')
    app = shown("pages/training.py")
    assert not app.exception and "Now: job-9" in text_of(app) and len(app.get("plotly_chart")) == 1
    status.unlink()
    assert "No network was trained yet" in text_of(shown("pages/training.py"))


def test_curves_count_epochs_over_the_steps_of_each_fold():
    rows = [("0", 0, 0), ("0", 0, 1), ("0", 1, 0), ("1", 0, 0), ("1", 1, 0), ("1", 1, 1)]
    table = pd.DataFrame(rows, columns=["fold", "step", "epoch"]).assign(phase="fine-tuning", score=1.0)
    figure = training_curves(table, "score", False)
    assert [list(line.x) for line in figure.data] == [[1, 2, 3], [1, 2, 3]]
    assert sorted(shape.x0 for shape in figure.layout.shapes) == [1.5, 2.5]


def test_augmentation_of_a_track_is_written(runs, tmp_path, capsys):
    out = str(tmp_path / "three.npy")
    assert main(["augmentation", "--run", "base", "--track", "03", "--seed", "4", "--out", out]) == 0
    given, moved, covered = np.load(out)
    assert sorted(given.mean(axis=1)) == pytest.approx(sorted(moved.mean(axis=1))) and (covered != moved).any()
    assert main(["augmentation", "--run", "base", "--track", "none", "--out", out]) == 2
    assert "not in run" in capsys.readouterr().err
