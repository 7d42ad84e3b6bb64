"""Run folders and jobs: atomic, readable, and honest about what went wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pandas as pd
import pytest

from mer_core import jobs, runs
from mer_core.errors import UserError
from mer_core.jobs import Job
from mer_core.paths import REPOSITORY


@dataclass(frozen=True)
class Config:
    seed: int = 1
    targets: tuple = ("valence",)


def write_run(run_id="one", **about):
    with Job(run_id, "train", echo=False) as job, runs.RunWriter(run_id, "train", Config(), job) as writer:
        writer.progress(0.5, "half way")
        writer.about(**about)
        writer.write_json(
            "metrics.json", {"schema": 1, "targets": {"valence": {"all": {"r2": [float("nan"), None, None]}}}}
        )
        writer.write_table("predictions", pd.DataFrame({"track_id": ["a"], "predicted": [5.0]}))
        assert not (runs.runs_root() / run_id).exists()  # nothing to see before it is complete
    return runs.read_run(run_id)


def test_a_complete_run_is_read_back(artifacts):
    run = write_run(seed=3)
    assert run.about["seed"] == 3 and run.about["config"] == {"seed": 1, "targets": ["valence"]}
    assert run.metrics["targets"]["valence"]["all"]["r2"] == [None, None, None]  # NaN is no JSON
    assert run.predictions["predicted"].tolist() == [5.0]
    assert json.loads((run.folder / "status.json").read_text())["state"] == "done"
    assert "half way" in (run.folder / "log.txt").read_text()
    assert [summary.run_id for summary in runs.list_runs()] == ["one"]
    assert runs.read_run("latest").run_id == "one"


@pytest.mark.parametrize(
    ("error", "state"),
    [(UserError("no such folder"), "failed"), (KeyboardInterrupt(), "cancelled"), (ValueError("x"), "failed")],
)
def test_a_run_that_ends_early_leaves_no_folder(artifacts, error, state):
    with pytest.raises(type(error)):
        with Job("two", "train", echo=False) as job, runs.RunWriter("two", "train", Config(), job) as writer:
            writer.write_table("predictions", pd.DataFrame({"a": [1]}))
            raise error
    assert list(runs.runs_root().iterdir()) == []
    status = jobs.job_status("two")
    assert status.state == state and not status.active
    assert ("Traceback" in jobs.job_log("two")) == isinstance(error, ValueError)


def test_what_a_killed_run_left_behind_is_removed_after_a_day(artifacts):
    for name, age_s in (("killed", runs.ABANDONED_S + 60), ("alive", 60)):
        folder = runs.runs_root() / f".partial-{name}"
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age_s,) * 2)
    write_run()
    assert sorted(path.name for path in runs.runs_root().iterdir()) == [".partial-alive", "one"]
    assert [summary.run_id for summary in runs.list_runs()] == ["one"]


def test_the_same_run_is_not_written_twice(artifacts):
    write_run()
    with pytest.raises(UserError, match="'one' exists already"):
        write_run()
    assert runs.read_run("one")


def test_damaged_runs_are_listed_with_the_reason(artifacts):
    write_run("good")
    write_run("cut")
    (runs.runs_root() / "cut" / "metrics.json").write_text('{"schema": 1, "targ')
    (runs.runs_root() / "empty").mkdir()
    write_run("newer")
    path = runs.runs_root() / "newer" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    problems = {summary.run_id: summary.problem for summary in runs.list_runs()}
    assert problems["good"] is None
    assert "cannot be read" in problems["cut"]
    assert "run.json is missing" in problems["empty"]
    assert "schema 99" in problems["newer"]


def test_an_unknown_run_names_the_nearest(artifacts):
    write_run("demo-ridge")
    with pytest.raises(UserError, match="did you mean demo-ridge"):
        runs.read_run("demo-rigde")
    with pytest.raises(UserError, match="predictions"):
        os.remove(runs.runs_root() / "demo-ridge" / "predictions.parquet")
        _ = runs.read_run("demo-ridge").predictions
    with pytest.raises(UserError, match="pipelines explain --run demo-ridge"):
        runs.read_run("demo-ridge").explanation("shap")


def test_a_silent_job_is_dead(artifacts):
    with Job("quiet", "train", echo=False):
        pass
    path = jobs.jobs_root() / "quiet" / "status.json"
    status = json.loads(path.read_text())
    path.write_text(json.dumps(status | {"state": "running", "heartbeat": time.time() - jobs.SILENT_AFTER_S - 1}))
    assert jobs.job_status("quiet").state == "died"
    path.write_text("{")
    assert jobs.job_status("quiet").state == "failed"


@pytest.mark.parametrize("bad", ["", "../x", "a/b", ".hidden"])
def test_job_ids_cannot_leave_the_folder(artifacts, bad):
    with pytest.raises(UserError, match="not a plain name"):
        Job(bad, "train")


def test_two_jobs_cannot_share_an_id(artifacts):
    script = "import time; from mer_core.jobs import Job\nwith Job('busy', 'train', echo=False):\n"
    script += "    print(1, flush=True)\n    time.sleep(30)"
    other = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "1\n"
        with pytest.raises(UserError, match="already running"):
            Job("busy", "train", echo=False).__enter__()
    finally:
        other.kill()
        other.wait()


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def test_a_started_job_can_be_watched_and_fails_with_a_reason(artifacts):
    job_id = jobs.start_job("train", {"dataset": str(artifacts / "nowhere"), "seed": 7})
    assert jobs.job_status(job_id).active  # seen before the process has loaded anything
    wait_for(lambda: not jobs.job_status(job_id).active)
    status = jobs.job_status(job_id)
    assert status.state == "failed" and "nowhere" in status.message
    assert status.arguments[:2] == ("--dataset", str(artifacts / "nowhere"))


@pytest.mark.skipif(os.name != "posix", reason="signals are sent differently on Windows")
def test_a_cancelled_job_cleans_up(artifacts):
    job_id = jobs.start_job("demo", {})
    wait_for(lambda: jobs.job_status(job_id).pid and jobs.job_status(job_id).fraction > 0)
    jobs.cancel_job(job_id)
    wait_for(lambda: not jobs.job_status(job_id).active)
    assert jobs.job_status(job_id).state == "cancelled"
    assert not list(artifacts.glob("runs/*")) and not list(artifacts.glob("runs/.partial*"))
    with pytest.raises(UserError, match="not running"):
        jobs.cancel_job(job_id)
    assert signal.getsignal(signal.SIGTERM) is not None
