"""Dataset: what listeners say of the tracks, and how reliable that is."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from mer_core import plots
from ui import data, empty, findings
from ui.frame import dark, expected_failures, footer, frame, how_to_read, show_badges
from ui.player import Clip, player
from ui.selection import choose_one, choose_run, choose_track, example_track, link, take_clicked

COLOURS = {
    "spread": "rater spread",
    "quadrant": "region",
    "part": "dataset part",
    "fold": "fold",
    "residual": "prediction error",
}


def main() -> None:
    """Draw the page."""
    badges = frame("Dataset", "What do listeners say about this music, and how much do they agree?")
    empty.stop_without_runs()
    run = choose_run()
    if run is None:
        return
    show_badges(badges, run.about)
    with expected_failures():
        table = data.clips(run)
        if {"valence", "arousal"} <= set(table):
            playable_plane(run, table)
        else:
            st.info("This run knows no valence and arousal ratings, so there is no plane to draw.")
        reliability(run, table)
        findings.audit_section(run)
        findings.exploration_section(run)
        st.divider()
        balance(run, table)
        loading(run)
    footer(run)


def playable_plane(run, table: pd.DataFrame) -> None:
    """All rated tracks on the plane; clicking one plays it."""
    kinds = {key: name for key, name in COLOURS.items() if colour_of(table, key) is not None}
    left, right = st.columns([3, 2], gap="large")
    with left:
        colour = choose_one("Colour by", kinds, "colour")
    with right:
        track = choose_track(run, example_track(table))
        if track is not None:
            card(run, table.loc[track])
    with left:
        figure = plots.ratings_plane(table, data.scale(run), dark(), colour_of(table, colour), title_of(colour), track)
        st.plotly_chart(
            figure,
            key="ratings",
            on_select=_clicked,
            selection_mode="points",
            config={"displayModeBar": False},
            alt=f"Ratings of {len(table)} tracks on the valence-arousal plane, coloured by {kinds[colour]}",
        )
        how_to_read(
            "Every mark is one track where listeners put it: right is pleasant, up is excited. Click one to hear it. "
            "Empty regions are music this dataset does not hold, and where any model has to guess."
        )


def _clicked() -> None:
    take_clicked("ratings")


def title_of(colour: str) -> str:
    """Title of the colour bar, with unit."""
    return {"spread": "rater spread (points)", "residual": "distance predicted–rated (points)"}.get(
        colour, COLOURS[colour]
    )


def colour_of(table: pd.DataFrame, kind: str) -> pd.Series | None:
    """What the marks are coloured by; None where the run does not know it."""
    if kind == "spread":
        known = [name for name in ("valence_std", "arousal_std") if name in table and table[name].notna().any()]
        return table[known].mean(axis=1) if known else None
    if kind == "residual":
        return data.distance(table) if {"valence_predicted", "arousal_predicted"} <= set(table) else None
    if kind == "quadrant":
        return table["quadrant"].map(plots.QUADRANT_WORDS) if "quadrant" in table else None
    if kind == "fold":
        return "fold " + table["fold"].astype(str) if "fold" in table else None
    return table["part"].astype(str) if "part" in table and table["part"].nunique() > 1 else None


def card(run, row: pd.Series) -> None:
    """Player and ratings of one track."""
    st.markdown(f"**{row['label']}**")
    player([Clip(row["track_id"], row["label"], row["path"])], key="dataset")
    low, high = data.scale(run)
    for target in [t for t in ("valence", "arousal") if t in row]:
        spread = row.get(f"{target}_std")
        shown = f", raters differ by ± {spread:.1f}" if spread is not None and pd.notna(spread) else ""
        st.markdown(f"{target.capitalize()}: **{row[target]:.1f}** on {low:g}–{high:g}{shown}")
    link(
        "pages/track.py",
        "Why does the model hear it that way?",
        icon=":material/arrow_forward:",
        run=run.run_id,
        track=row["track_id"],
    )


def reliability(run, table: pd.DataFrame) -> None:
    """Histogram of rater spread, or of the ratings where spread is unknown."""
    st.divider()
    st.subheader("How much do listeners agree?")
    spread = {
        t: table[f"{t}_std"] for t in run.about["targets"] if f"{t}_std" in table and table[f"{t}_std"].notna().any()
    }
    if spread:
        left, right = st.columns(2, gap="large")
        with left:
            st.plotly_chart(
                plots.label_histogram(
                    pd.DataFrame(spread), "Rater spread of a track (standard deviation, rating points)", dark()
                ),
                key="spread",
                config={"displayModeBar": False},
                alt="Histogram of rater spread",
            )
            how_to_read(
                "The further right, the more listeners disagree about a track. Disagreement limits how well any model "
                "can do."
            )
        place, ceiling = right, run.metrics.get("ceiling", {})
        for target, limit in ceiling.items():
            if limit.get("r2") is not None:
                st.markdown(
                    f"Best R² any model could reach on **{target}**, given this disagreement: about "
                    f"**{limit['r2']:.2f}**"
                )
    else:
        st.caption("This dataset does not say how much its raters disagree, so the human ceiling is unknown.")
        place = st.container()
    with place:
        ratings = table[[t for t in run.about["targets"] if t in table]]
        st.plotly_chart(
            plots.label_histogram(ratings, f"Mean rating ({data.scale(run)[0]:g}–{data.scale(run)[1]:g})", dark()),
            key="ratings-histogram",
            config={"displayModeBar": False},
            alt="Histogram of the ratings",
        )


def balance(run, table: pd.DataFrame) -> None:
    """Ratings per fold."""
    if "fold" not in table:
        return
    with st.expander("Are the folds alike?"):
        targets, groups = [t for t in run.about["targets"] if t in table], table["group"].nunique()
        st.plotly_chart(
            plots.split_balance(table, targets, data.scale(run), dark()),
            key="balance",
            config={"displayModeBar": False},
            alt="Ratings per fold",
        )
        how_to_read(
            "Each fold is tested by a model that learned from the others. All tracks of one album, artist or piece "
            f"({groups} groups here) are in the same fold, so nothing is recognised instead of understood. Balanced "
            "folds look alike."
        )


def loading(run) -> None:
    """What loading found and left out."""
    report, failures = run.about["dataset"]["report"], run.about["features"].get("failures", [])
    with st.expander(f"What was found, and what was left out ({len(report['skipped']) + len(failures)})"):
        if report["found"]:
            st.markdown("**Found:** " + ", ".join(f"{count} {what}" for what, count in report["found"].items()))
        for title, lines in (("Missing", report["missing"]), ("Notes", report["notes"])):
            if lines:
                st.markdown(f"**{title}**\n" + "\n".join(f"- {line}" for line in lines))
        left_out = [*report["skipped"], *failures]
        if left_out:
            st.markdown("**Left out**")
            st.dataframe(pd.DataFrame(left_out, columns=["item", "reason"]), hide_index=True)
        else:
            st.markdown("Nothing was left out.")


main()
