"""The dataset page on the real labels: the audit's verdict and what the exploration found, from runs made here."""

import subprocess
import sys

import pytest
from test_pages import shown, text_of

from mer_core.paths import REPOSITORY

SONG_MEANS = "deam/song_mean_167.parquet"


@pytest.fixture(scope="module")
def deam_runs(real_data, tmp_path_factory):
    """Artifacts folder with a training run, an audit and an exploration of DEAM."""
    artifacts, table, deam = tmp_path_factory.mktemp("deam"), real_data(SONG_MEANS), real_data("deam")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_ARTIFACTS", str(artifacts))
        for words in (
            ["train", "--features", table, "--resamples", "50", "--run-id", "train"],
            ["audit"],
            ["eda", "--features", table],
        ):
            command = [sys.executable, "-m", "pipelines", words[0], "--dataset", deam, *words[1:]]
            subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    return artifacts


def test_the_audit_says_which_labels_are_exchanged(deam_runs, monkeypatch):
    monkeypatch.setenv("MER_ARTIFACTS", str(deam_runs))
    app = shown("pages/dataset.py", run="train")
    assert not app.exception
    assert "exchanged in 744 of 1802 tracks (ids 2 to 1000; 2013)" in app.error[0].value
    said = text_of(app)
    assert "After the correction this program applies: deam: valence and arousal are in their places" in said
    assert "of 167 hold after correction" in said


def test_without_them_the_page_says_how_to_make_them(deam_runs, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "train").symlink_to(deam_runs / "runs" / "train")
    monkeypatch.setenv("MER_ARTIFACTS", str(tmp_path))
    app = shown("pages/dataset.py", run="train")
    assert not app.exception and not app.error
    commands = "\n".join(element.value for element in app.code)
    assert "pipelines audit --dataset" in commands and "pipelines eda --dataset" in commands


def test_the_models_page_keeps_its_promises_and_compares_runs(deam_runs, monkeypatch, real_data):
    monkeypatch.setenv("MER_ARTIFACTS", str(deam_runs))
    command = [sys.executable, "-m", "pipelines", "train", "--dataset", real_data("deam"), "--run-id", "other"]
    command += ["--features", real_data(SONG_MEANS), "--model", "elasticnet", "--resamples", "50", "--explain", "none"]
    subprocess.run([*command, "--permutations", "0"], cwd=REPOSITORY, check=True, capture_output=True)
    app = shown("pages/models.py", run="train", target="valence")
    assert not app.exception and not app.error
    tables = [element.value for element in app.dataframe]
    better = next(t for t in tables if "better" in t)
    assert set(better["target"]) == {"valence", "arousal"} and set(better["better"]) <= {
        "train",
        "other",
        "cannot be told",
    }
    covered = next(t for t in tables if "promised" in t)
    assert covered["what"].tolist() == ["interval of valence"] * 2 + ["ellipse on the plane"] * 2
    assert all(abs(float(row["all"][:-1]) - float(row["promised"][:-1])) <= 2 for _, row in covered.iterrows())
    overview = text_of(shown("app.py"))
    assert "the dotted ellipse should hold the ring for 90% of clips" in overview
    assert "cannot be called better than" in overview or "beats" in overview
