"""Listening: happy or sad, the four confusion cells, and the evidence as sound."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from mer_core.jobs import list_jobs, start_job
from mer_core.plots.reliability import reliability_figure
from mer_core.runs import Run
from ui import data
from ui.evidence import evidence
from ui.frame import dark, expected_failures, footer, frame, how_to_read, show_badges
from ui.progress import ended, watch
from ui.selection import choose, say_unknown, unknown
from ui.words import CELLS

COMMAND = "python -m pipelines classify --dataset demo --network musicnn-mtt"
CLASS = {1: "happy", 0: "sad"}


def main() -> None:
    """Draw the page."""
    badges = frame("Listening", "Can you hear why?")
    found = [s for s in data.summaries() if s.problem is None and "classification" in s.metrics]
    if not found:
        nothing_yet()
        return
    ids = [summary.run_id for summary in found]
    asked = st.query_params.get("run")
    chosen = choose(
        "Classifier",
        ids,
        "classifier",
        asked if asked in ids else ids[0],
        "A finished run of 'classify': a model that calls clips happy or sad.",
    )
    if chosen is None:
        say_unknown("classifier", "classifier", ids)
        return
    run = data.open_run(chosen)
    show_badges(badges, run.about)
    untrusted(badges, run)
    with expected_failures():
        page_of(run)
    footer(run)


def untrusted(badges, run: Run) -> None:
    """Say where nobody has measured whether the maps are true."""
    if not run.metrics.get("trust"):
        with badges:
            st.badge(
                "faithfulness not measured yet",
                icon=":material/help:",
                color="orange",
                help="Nobody has yet measured whether the model really depends on the parts that these maps point at.",
            )


def nothing_yet() -> None:
    """No classifier yet: what it is, the button and the command that make one."""
    jobs = [job for job in list_jobs() if job.pipeline in ("classify", "demo")]
    if jobs and jobs[0].active:
        st.subheader("The first classifier is being made")
        st.write("This page opens by itself when it is ready. You may leave it; the work goes on.")
        watch(jobs[0].job_id)
        return
    st.subheader("Nothing to listen to yet")
    st.write(
        "A classifier calls clips happy or sad. This page plays what spoke for it, what spoke against it, and the "
        "music without it, all equally loud. The demo needs no data of yours; it takes a few minutes."
    )
    if st.button("Classify the demo music", type="primary", icon=":material/play_arrow:"):
        start_job("classify", {"dataset": "demo", "network": "musicnn-mtt"})
        st.rerun()
    st.caption("The same from the command line:")
    st.code(COMMAND, language="bash")
    if jobs and jobs[0].state in ("failed", "died"):
        st.markdown("##### The last attempt failed")
        ended(jobs[0])


def page_of(run: Run) -> None:
    """Score, cells, and the clip that was chosen in them."""
    tracks = run.table("classes").astype({"track_id": str}).set_index("track_id")
    examples = run.table("examples").astype({"track_id": str})
    score(run)
    if examples.empty:
        st.info("This run has no examples to hear; classify a dataset with more clips.")
        return
    track = chosen_example(run, examples, tracks.index)
    cells(run, examples, track)
    others(run, tracks, examples, track)
    if track is None:
        return
    chosen = examples.set_index("track_id")
    clip(run, tracks.loc[track], chosen.loc[track, "rule"] if track in chosen.index else None, track)


def score(run: Run) -> None:
    """How good it is and whether its probabilities can be believed, in one sentence; the figure on demand."""
    scores = run.metrics["classification"]
    value, low, high = scores["balanced_accuracy"]
    interval = "" if low is None else f" (95 % interval {low:.0%} to {high:.0%})"
    off = scores["calibration_error"][0]
    calibrated = "" if off is None else f" Its probabilities are off by {100 * off:.0f} percentage points on average."
    st.markdown(
        f"It calls **{value:.0%}** of happy and sad clips rightly{interval}, where guessing gives 50 %; no clip, nor "
        f"its album or piece, was learned from.{calibrated} {run.about.get('classes', '')}"
    )
    if taught := run.about.get("pretrained"):
        note = f"; {taught['note']}" if taught.get("note") else ""
        st.caption(
            f"Its network first learned to tell what is played from {taught['tracks']} clips of {taught['groups']} "
            f"other pieces or albums ({taught['dataset']}{note})."
        )
    with st.expander("Can its probabilities be believed?"):
        st.plotly_chart(
            reliability_figure(run.table("reliability"), dark()),
            key="reliability",
            config={"displayModeBar": False},
            alt="Share of happy clips against the probability that was given",
        )
        how_to_read("A dot on the dotted line: what was said came true as often. Larger dots stand for more clips.")


def chosen_example(run: Run, examples: pd.DataFrame, tracks: pd.Index) -> str | None:
    """The clip to hear: of the address, else the first example that has a map."""
    ids, key = list(examples["track_id"]), "example"
    asked = st.session_state.get(key) or st.query_params.get(key)
    if asked in tracks:
        return asked
    if asked is not None and unknown("classifier") is None and st.session_state.get("example-of") in (None, run.run_id):
        st.warning(f"There is no clip “{asked}” in this run; choose one of those below.")
        return None
    explained = [track for track in ids if track in run.relevance_tracks()]
    return (explained or ids)[0]


def others(run: Run, tracks: pd.DataFrame, examples: pd.DataFrame, chosen: str | None) -> None:
    """All further clips that have a map, to choose from."""
    known = [
        track for track in run.relevance_tracks() if track in tracks.index and track not in set(examples["track_id"])
    ]
    if not known:
        return
    key = f"others-{run.run_id}"
    st.session_state[key] = chosen if chosen in known else None

    def take() -> None:
        if st.session_state[key] is not None:
            _take(run.run_id, st.session_state[key])

    st.selectbox(
        f"Or any of the {len(known)} other clips that have a map",
        known,
        key=key,
        index=None,
        placeholder="Choose a clip",
        format_func=lambda track: f"{track}: {CELLS[tracks.loc[track, 'cell']]}",
        on_change=take,
        width=520,
    )


def _take(run_id: str, track: str) -> None:
    st.session_state["example"], st.session_state["example-of"] = track, run_id
    st.query_params["example"] = track


def cells(run: Run, examples: pd.DataFrame, chosen: str | None) -> None:
    """The four confusion cells, two by two, each with its examples to choose from."""
    counts = run.metrics["classification"]["cells"]
    names = list(CELLS)
    for row in (names[:2], names[2:]):
        for column, cell in zip(st.columns(2), row, strict=True):
            with column, st.container(border=True, height="stretch"):
                st.markdown(f"**{CELLS[cell]}**: {counts[cell]} clip{'' if counts[cell] == 1 else 's'}")
                mine = examples[examples["cell"] == cell]
                if mine.empty:
                    st.caption("No clip fell into this cell.")
                with st.container(horizontal=True, gap="small"):
                    for each in mine.itertuples():
                        st.button(
                            f"{each.rule}: {each.track_id}",
                            key=f"hear-{each.track_id}",
                            type="primary" if each.track_id == chosen else "secondary",
                            on_click=_take,
                            args=(run.run_id, each.track_id),
                            help=f"{each.probability:.1%} for happy",
                        )
    st.caption(
        "Named first is what listeners said. Examples are chosen by rule, not by ear: most confident is farthest from "
        "50 %, borderline nearest, median in between."
    )


def clip(run: Run, row: pd.Series, rule: str | None, track: str) -> None:
    """What was said of the clip, and its evidence; rule : by which it is an example, if it is one."""
    title = row.get("title")
    label = f"{track} · {title}" if isinstance(title, str) and title.strip() else track
    st.subheader(label)
    low, high = data.scale(run)
    rated = f" Listeners rated its valence {row['valence']:.1f} on {low:g}–{high:g}." if "valence" in row else ""
    true = CLASS[int(row["true"])]
    st.markdown(
        f"The model gives **{chance(row['probability'])}** for happy; by its ratings it is **{true}**.{rated} "
        f"{CELLS[row['cell']]}{f'; {rule} example of its cell' if rule else ''}."
    )
    evidence(run, track, "happy", label, row.get("path"))


def chance(probability: float) -> str:
    """A probability without false certainty."""
    if probability > 0.999:
        return "more than 99.9 %"
    return "less than 0.1 %" if probability < 0.001 else f"{probability:.1%}"


main()
