"""What a page shows when there is nothing to show yet: why, and the one thing that cures it."""

from __future__ import annotations

import streamlit as st

from mer_core.jobs import list_jobs, start_job
from ui import data
from ui.progress import ended, watch


def stop_without_runs() -> None:
    """End the page with a designed empty state when no finished run exists."""
    if data.usable():
        return
    running = [job for job in list_jobs() if job.active]
    if running:
        st.subheader("The first run is being made")
        st.write("This page opens by itself when it is ready. You may leave it; the work goes on.")
        watch(running[0].job_id)
        st.stop()
    st.subheader("No runs yet")
    st.write(
        "A run is a model that was trained and tested, with the reasons for every prediction. The demo makes some of "
        "them from music composed on this machine: no data needed, a few minutes."
    )
    if st.button("Make the demo runs", type="primary", icon=":material/play_arrow:"):
        start_job("demo", {})
        st.rerun()
    st.caption("The same from the command line:")
    st.code("python -m pipelines demo", language="bash")
    st.page_link(
        "pages/runs.py", label="Or train on your own folder of audio and ratings", icon=":material/folder_open:"
    )
    _last_failure()
    unreadable()
    st.stop()


def _last_failure() -> None:
    jobs = list_jobs()
    if jobs and jobs[0].state in ("failed", "died"):
        st.markdown("##### The last attempt failed")
        ended(jobs[0])


def unreadable() -> None:
    """List run folders that cannot be read, with the reason."""
    broken = [summary for summary in data.summaries() if summary.problem]
    if broken:
        with st.expander(
            f"{len(broken)} run folder{'s' if len(broken) > 1 else ''} cannot be read", icon=":material/broken_image:"
        ):
            for summary in broken:
                st.markdown(f"**{summary.run_id}**: {summary.problem}")
