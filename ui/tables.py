"""Runs whose subject is the feature table: those of `features`, the component routes, and `select`."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import streamlit as st

from mer_core.runs import Run, RunSummary
from ui import data
from ui.selection import choose, current, say_unknown


def made_by(pipelines: tuple[str, ...], file: str) -> list[RunSummary]:
    """Readable runs of these pipelines that hold a file, newest first."""
    found = (summary for summary in data.summaries() if summary.problem is None)
    own = (summary for summary in found if summary.about["pipeline"] in pipelines)
    return [summary for summary in own if (data.runs_root() / summary.run_id / file).exists()]


def choose_among(found: list[RunSummary], key: str, help: str, place=None) -> Run | None:
    """One of these runs, kept in the address under its own key; None, after saying so, when an unknown one is named.

    The run of the other pages comes first, where it is one of these; otherwise the newest.
    """
    ids = [summary.run_id for summary in found]
    carried = current().get("run")
    with place if place is not None else st.container():
        chosen = choose("Run", ids, key, carried if carried in ids else ids[0], help)
    if chosen is None:
        say_unknown("run", key, ids)
        return None
    return data.open_run(chosen)


def has(run: Run, name: str) -> bool:
    """Whether the run holds a table."""
    return (run.folder / f"{name}.parquet").exists()


def read_json(run: Run, name: str) -> dict:
    """A JSON file of the run."""
    return json.loads(Path(run.folder, name).read_text(encoding="utf-8"))


def rated_tracks(run: Run) -> pd.DataFrame | None:
    """Tracks with ratings (and predictions where there are any), index track_id: the run's own, or those of the newest
    run on the same tracks and ratings; None where there is none.
    """
    if has(run, "tracks") and has(run, "predictions"):
        return data.clips(run)
    same = run.about["dataset"]["fingerprint"]
    for summary in data.usable():
        if summary.about["dataset"]["fingerprint"] == same:
            return data.clips(data.open_run(summary.run_id))
    return None
