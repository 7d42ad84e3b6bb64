"""A job, watched live: progress, age of its heartbeat, last log lines, cancel."""

from __future__ import annotations

import time

import streamlit as st

from mer_core.errors import UserError
from mer_core.jobs import JobStatus, cancel_job, job_log, job_status

POLL = "1s"
ICONS = {
    "done": ":material/check_circle:",
    "failed": ":material/error:",
    "cancelled": ":material/cancel:",
    "died": ":material/heart_broken:",
    "running": ":material/autorenew:",
}


def watch(job_id: str) -> None:
    """Show a job; while it runs the part refreshes itself, and the whole page is drawn again when it ends."""
    status = job_status(job_id)
    if status is None:
        st.warning(f"There is no job “{job_id}”; it may have been removed.")
    elif status.active:
        st.fragment(_live, run_every=POLL)(job_id)
    else:
        ended(status)


def _live(job_id: str) -> None:
    status = job_status(job_id)
    if status is None or not status.active:
        st.rerun()
    age = max(0.0, time.time() - status.heartbeat)
    st.progress(status.fraction, text=f"**{status.pipeline}** · {status.fraction:.0%} · {status.message}")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"running for {_span(time.time() - status.started)} · last sign of life {age:.0f} s ago")
        if st.button("Cancel", key=f"cancel-{job_id}", icon=":material/stop_circle:"):
            try:
                cancel_job(job_id)
                st.toast("Asked the job to stop.")
            except UserError as error:
                st.warning(str(error))
    log = job_log(job_id, 12)
    if log:
        st.code(log, language=None, wrap_lines=True)


def ended(status: JobStatus) -> None:
    """How a job ended, why, and the command that repeats it."""
    if status.state == "done":
        st.success(f"**{status.pipeline}** finished: {status.message}", icon=ICONS["done"])
    elif status.state == "cancelled":
        st.info(f"**{status.pipeline}** was cancelled at {status.fraction:.0%}.", icon=ICONS["cancelled"])
    else:
        st.error(f"**{status.pipeline}** {status.state}: {status.message}", icon=ICONS.get(status.state))
    st.code(command_line(status), language="bash", wrap_lines=True)
    log = job_log(status.job_id, 40)
    if log:
        with st.expander("Log", expanded=status.state in ("failed", "died")):
            st.code(log, language=None, wrap_lines=True)


def command_line(status: JobStatus) -> str:
    """What to type to run the same again."""
    quoted = [f'"{word}"' if " " in word else word for word in status.arguments]
    return " ".join(["python -m pipelines", status.pipeline, *quoted])


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
