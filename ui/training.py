"""Curves of trainings: of those that run now and of finished ones."""

from __future__ import annotations

import json

import pandas as pd

from mer_core.jobs import JobStatus, jobs_root

CURVES = "curves.jsonl"


def live_rows(job: JobStatus) -> pd.DataFrame:
    """Epochs that a running job has finished so far; empty where there are none. A line half-written is left out."""
    path = jobs_root() / job.job_id / CURVES
    if not path.exists():
        return pd.DataFrame()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]
    return pd.DataFrame(rows)


def steps_table(rounds: dict) -> pd.DataFrame:
    """Steps of a schedule over the rounds: step, parameters trained, of all, epochs, best validation error (means)."""
    rows = [step for steps in rounds.values() for step in steps]
    table = pd.DataFrame(
        {
            "step": step["step"],
            "trained": step["trained"],
            "of": step["parameters"],
            "epochs": len(step.get("rows", ())),
            "best": step["best_score"],
        }
        for step in rows
    )
    means = table.groupby("step", sort=False).mean()
    means.columns = ["parameters trained", "of all", "epochs (mean of folds)", "validation error (mean of folds)"]
    return means.reset_index()
