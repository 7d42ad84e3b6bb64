"""Runs: start work, watch it, and find out why it failed."""

from __future__ import annotations

import typing
from dataclasses import MISSING, Field, fields
from datetime import datetime

import pandas as pd
import streamlit as st

import pipelines
from mer_core.jobs import JobStatus, list_jobs, start_job
from ui import data, empty
from ui.frame import frame
from ui.progress import command_line, ended, watch
from ui.selection import link

MAIN_FIELDS = 6  # further options of a pipeline are folded away
RUN_FIELDS = {"run"}


def main() -> None:
    """Draw the page."""
    frame("Runs", "What is being worked on, and what can be started?")
    jobs = list_jobs()
    left, right = st.columns(2, gap="large")
    with left:
        form()
    with right:
        activity(jobs)
    history(jobs)
    finished()
    empty.unreadable()


def form() -> None:
    """A form made from a pipeline's options."""
    st.subheader("Start")
    names = list(pipelines.PIPELINES)
    # A newcomer needs the demo first; later the usual thing is to train.
    usual = names.index("train" if data.usable() else "demo")
    name = st.selectbox("Pipeline", names, index=usual, key="pipeline", bind="query-params")
    module = pipelines.load(name)
    st.caption((module.__doc__ or "").strip().split("\n\n")[0].replace("\n", " "))
    types = typing.get_type_hints(module.Config)
    options = fields(module.Config)
    with st.form(f"start-{name}"):
        values = {item.name: widget(name, item, types[item.name]) for item in options[:MAIN_FIELDS]}
        if len(options) > MAIN_FIELDS:
            with st.expander("More options"):
                values |= {item.name: widget(name, item, types[item.name]) for item in options[MAIN_FIELDS:]}
        submitted = st.form_submit_button("Start", type="primary", icon=":material/play_arrow:")
    changed = {item.name: as_text(values[item.name]) for item in options if differs(item, values[item.name])}
    words = [f"--{key.replace('_', '-')} {value}" for key, value in changed.items()]
    if submitted:
        lacking = [item.name for item in options if item.default is MISSING and not values[item.name]]
        if lacking:
            st.error(f"{' and '.join(lacking)} must be given.")
            return
        st.session_state["watched"] = start_job(name, changed)
        st.rerun()
    st.caption("The same from the command line (options at their default left out):")
    st.code(" ".join(["python -m pipelines", name, *words]), language="bash", wrap_lines=True)


def widget(pipeline: str, item: Field, kind: type) -> object:
    """Input for one option: its type decides which."""
    key, label = f"{pipeline}-{item.name}", item.name.replace("_", " ").capitalize()
    default, choices, help = item.default, item.metadata.get("choices"), item.metadata.get("help")
    if pipeline in ("explain",) and item.name in RUN_FIELDS or item.name == "run":
        ids = [summary.run_id for summary in data.usable()]
        asked = st.query_params.get("run")
        return st.selectbox(
            label,
            ids,
            index=ids.index(asked) if asked in ids else (0 if ids else None),
            key=key,
            help=help,
            placeholder="no finished run yet",
        )
    if choices:
        return st.selectbox(
            label, choices, index=choices.index(default) if default in choices else 0, key=key, help=help
        )
    if kind is bool:
        return st.checkbox(label, value=bool(default), key=key, help=help)
    if kind is int:
        return st.number_input(label, value=default, step=1, key=key, help=help)
    if kind is float:
        return st.number_input(label, value=default, key=key, help=help)
    return st.text_input(label, value="" if default is MISSING else as_text(default), key=key, help=help)


def as_text(value: object) -> str:
    """A value as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def differs(item: Field, value: object) -> bool:
    """Whether an option has to be named on the command line."""
    return value is not None and (item.default is MISSING or as_text(value) != as_text(item.default))


def activity(jobs: list[JobStatus]) -> None:
    """Jobs that run now, and how the one started here ended."""
    st.subheader("Now")
    active = [job for job in jobs if job.active]
    for job in active:
        watch(job.job_id)
    watched = next((job for job in jobs if job.job_id == st.session_state.get("watched")), None)
    if watched is not None and not watched.active:
        ended(watched)
        open_links(watched)
    if not active and watched is None:
        st.caption("Nothing is running. What you start here goes on when you leave the page or close the browser.")


def open_links(job: JobStatus) -> None:
    """Links to the run that a finished job made."""
    if job.run and any(summary.run_id == job.run for summary in data.usable()):
        link("app.py", f"Open {job.run}", icon=":material/explore:", run=job.run, track=None)


def history(jobs: list[JobStatus]) -> None:
    """All jobs with how they ended and the command that repeats each."""
    st.divider()
    st.subheader("History")
    if not jobs:
        st.caption("No jobs yet.")
        return
    rows = [
        {
            "started": datetime.fromtimestamp(job.started).strftime("%Y-%m-%d %H:%M"),
            "state": job.state,
            "pipeline": job.pipeline,
            "message": job.message,
            "command": command_line(job),
        }
        for job in jobs
    ]
    event = st.dataframe(
        pd.DataFrame(rows), hide_index=True, on_select="rerun", selection_mode="single-row", key="history"
    )
    chosen = event["selection"]["rows"]
    if chosen:
        ended(jobs[chosen[0]]) if not jobs[chosen[0]].active else watch(jobs[chosen[0]].job_id)
        open_links(jobs[chosen[0]])
    else:
        st.caption("Tick a row for its log and the command that repeats it.")


def finished() -> None:
    """Finished runs, with links."""
    found = [summary for summary in data.summaries() if summary.problem is None]
    if not found:
        return
    st.subheader("Finished runs")
    for summary in found[:8]:
        with st.container(horizontal=True, vertical_alignment="center"):
            if summary.metrics.get("targets"):
                link("pages/models.py", summary.run_id, icon=":material/target:", run=summary.run_id, track=None)
            else:
                st.markdown(f"`{summary.run_id}`")
            st.caption(
                f"{summary.about['pipeline']} · {summary.about['started'][:16].replace('T', ' ')} UTC · "
                f"{summary.about['seconds']:.0f} s"
            )
    if len(found) > 8:
        st.caption(f"and {len(found) - 8} older ones: `python -m pipelines list`")


main()
