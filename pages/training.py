"""Training: how networks learn, live and afterwards, and what augmentation does to a track."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import streamlit as st

from mer_core.errors import UserError
from mer_core.jobs import job_status, list_jobs
from mer_core.paths import REPOSITORY, artifacts_root
from mer_core.plots.heat import heat_picture
from mer_core.plots.training import MEASURES, training_curves
from mer_core.runs import Run
from ui import data
from ui.frame import dark, expected_failures, footer, frame, how_to_read, show_badges
from ui.selection import choose_one, link
from ui.tables import choose_among, made_by, read_json
from ui.training import live_rows, steps_table

EXAMPLE = "python -m pipelines finetune --dataset demo --network musicnn-mtt"
STEPS = ("as it is", "shifted in time", "shifted and masked")


def main() -> None:
    """Draw the page."""
    place = frame("Training", "How do networks learn here, and when did they stop getting better?")
    active = [job for job in list_jobs() if job.active and job.pipeline == "finetune"]
    for job in active:
        st.subheader(f"Now: {job.job_id}")
        st.fragment(live, run_every="2s")(job.job_id)
    found = made_by(("finetune",), "steps.json")
    if not found:
        if not active:
            st.info("No network was trained yet. Start one on the Runs page, or from the command line:")
            st.code(EXAMPLE, language="bash")
            link("pages/runs.py", "Runs", icon=":material/play_circle:")
        return
    run = choose_among(found, "training", "Runs of finetune: a network per fold.")
    if run is None:
        return
    show_badges(place, run.about)
    with expected_failures():
        finished(run)
        augmentation(run)
    footer(run)


def live(job_id: str) -> None:
    """Curves of a running training; the page is drawn again when it ends."""
    job = job_status(job_id)
    if job is None or not job.active:
        st.rerun()
    st.progress(job.fraction, text=job.message)
    rows = live_rows(job)
    if rows.empty:
        st.caption("No epoch is finished yet.")
        return
    alt = "Validation error of each fold, epoch by epoch, as far as the training has come"
    st.plotly_chart(training_curves(rows, "score", dark()), key=f"live-{job_id}", alt=alt)


def finished(run: Run) -> None:
    """Curves, the steps of the schedule, and what was learned before."""
    training = run.about["training"]
    st.markdown(
        f"**{run.about['features']['name']}**, schedule **{training['schedule']}**, "
        f"{training['parameters']:,} parameters, seed {run.about['seed']}"
        + (f", pretrained on **{training['pretrained_on']['dataset']}**" if training["pretrained_on"] else "")
        + (f", learns to reproduce {training['teacher']} besides" if training["teacher"] else "")
    )
    if (run.folder / "curves.parquet").exists():
        rows = run.table("curves")
        names = {key: words.partition(",")[0].capitalize() for key, words in MEASURES.items()}
        names |= {f"r2_{target}": f"R² of {target}" for target in run.about["targets"] if f"r2_{target}" in rows}
        measure = choose_one("Shown", names, "measure")
        own = rows[rows["phase"] == "fine-tuning"]
        figure = training_curves(own if len(own) else rows, measure, dark())
        st.plotly_chart(figure, key="curves", alt=f"{names[measure]} of each fold, epoch by epoch")
        how_to_read(
            "One line for each fold's network. It is stopped on tracks of its own training part, whole albums at a "
            "time, and its best epoch is kept; a dotted line is where the next step of the schedule begins. The scores "
            "on Models are of other tracks, which no epoch was chosen on."
        )
    else:
        st.info("No epoch was trained: the head on the frozen network was solved in closed form.")
    st.dataframe(steps_table(read_json(run, "steps.json")["rounds"]), hide_index=True)
    link("pages/models.py", "Scores on unseen tracks", icon=":material/target:", run=run.run_id)


def augmentation(run: Run) -> None:
    """A window of a track before and after the changes that training makes at random."""
    st.subheader("What augmentation does")
    table = data.clips(run)
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    track = left.selectbox("Track", list(table.index), format_func=lambda t: table.loc[t, "label"], key="preview-track")
    draw = right.number_input("Draw", 0, 999, 0, key="preview-draw", help="Another number, another place and masks.")
    if not st.toggle("Show its spectrogram", key="preview"):
        st.caption("Windows are moved by up to 30 % of their length, and stretches of time and frequency are covered.")
        return
    pictures = preview(run.run_id, track, int(draw))
    for column, picture, words in zip(st.columns(3), pictures, STEPS, strict=True):
        column.image(heat_picture(np.zeros_like(picture), picture, dark()), caption=words, width="stretch")


@st.cache_data(show_spinner="Computing the spectrogram", max_entries=64)
def preview(run_id: str, track: str, seed: int) -> np.ndarray:
    """(3, frames, bands), computed in another process, which loads what a page does not need."""
    folder = artifacts_root() / "cache" / "previews"
    folder.mkdir(parents=True, exist_ok=True)
    out = Path(folder, f"{run_id}-{seed}.npy")
    command = [sys.executable, "-m", "pipelines", "augmentation", "--run", run_id, "--track", track]
    command += ["--seed", str(seed), "--out", str(out)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        raise UserError(done.stderr.strip().splitlines()[-1].removeprefix("error: "))
    try:
        return np.load(out)
    finally:
        out.unlink()


main()
