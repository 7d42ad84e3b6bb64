"""Overview: what was tried, what works, and how sure that is."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from mer_core import plots
from ui import data, empty
from ui.frame import dark, expected_failures, footer, frame, how_to_read, show_badges
from ui.player import Clip, player
from ui.selection import choose_one, choose_run, choose_track, example_track, link, take_clicked
from ui.versus import winner_sentence
from ui.words import METRICS, NOT_TESTED, reason_sentence

RIVALS = 2  # runs that the best one is compared with track by track


def main() -> None:
    """Draw the page."""
    badges = frame("Overview", "Which feelings does music carry for the model, and how sure can it be?")
    empty.stop_without_runs()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        run = choose_run()
    if run is not None:
        show_badges(badges, run.about)
        with expected_failures():
            hero(run)
    with expected_failures():
        leaderboard()
    empty.unreadable()
    if run is not None:
        footer(run)


def hero(run) -> None:
    """The plane of the chosen run beside a clip one can play."""
    table = data.clips(run)
    if not {"valence_predicted", "arousal_predicted"} <= set(table):
        st.info(
            f"This run predicts {', '.join(run.about['targets'])}; the plane needs valence and arousal. See Models."
        )
        return
    left, right = st.columns([3, 2], gap="large")
    with right:
        st.markdown("#### Pick a clip, hear it, see why")
        track = choose_track(run, example_track(table), label="Clip")
        if track is not None:
            clip_card(run, table.loc[track])
    with left:
        figure = plots.predictions_plane(
            table, data.scale(run), dark(), selected=track, height=540, joint=data.joint_interval(run)
        )
        st.plotly_chart(
            figure,
            key="plane",
            on_select=_clicked,
            selection_mode="points",
            config={"displayModeBar": False},
            alt="Rated and predicted positions of all tracks on the valence-arousal plane",
        )
        how_to_read(
            "Right is pleasant, up is excited. A ring is where listeners rated a clip, the dot where the model puts "
            f"it without having seen its ratings; {data.ellipse_words(run)}. Click a point to hear it."
        )


def _clicked() -> None:
    take_clicked("plane")


def clip_card(run, row: pd.Series) -> None:
    """Player, position in numbers and the reason of one clip."""
    st.markdown(f"**{row['label']}**")
    player([Clip(row["track_id"], row["label"], row["path"])], key="overview")
    if pd.isna(row["valence_predicted"]):
        st.info(NOT_TESTED)
        return
    for target in ("valence", "arousal"):
        predicted = f"predicted **{row[f'{target}_predicted']:.1f}** {interval(row, target)}"
        st.markdown(f"{target.capitalize()}: rated **{row[target]:.1f}**, {predicted}")
    if "shap" in run.explanation_names():
        found = data.explanation(run)
        plain = data.track_words(found, "musical", row["track_id"])
        for target in [t for t in ("valence", "arousal") if t in found.targets]:
            parts = data.effects(run, target, "musical").loc[row["track_id"]]
            start = float(data.base(run, target)[row["track_id"]])
            st.markdown(reason_sentence(target, parts, start, plain, data.scale(run)))
    link(
        "pages/track.py",
        "See why, step by step",
        icon=":material/arrow_forward:",
        run=run.run_id,
        track=row["track_id"],
    )


def interval(row: pd.Series, target: str) -> str:
    """The prediction interval in words, empty where unknown."""
    low, high = row.get(f"{target}_lower"), row.get(f"{target}_upper")
    return f"({low:.1f} to {high:.1f})" if pd.notna(low) and pd.notna(high) else ""


def leaderboard() -> None:
    """Scores of all runs on one dataset, with intervals and baselines."""
    st.divider()
    st.subheader("What was tried, and what works")
    found = data.usable()
    groups = list(dict.fromkeys(data.dataset_key(summary) for summary in found))
    dataset = groups[0]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(groups) > 1:
            help = "Scores can be compared only on the same tracks and labels."
            dataset = st.selectbox("Dataset", groups, help=help, width=340)
        metric = choose_one("Measure", {key: words[0] for key, words in METRICS.items()}, "metric")
    name, meaning, best = METRICS[metric]
    same = [summary for summary in found if data.dataset_key(summary) == dataset]
    table = data.scores_table(same, metric)
    st.caption(f"**{name}** · {meaning}")
    on_plane = table["target"].isin(("valence", "arousal"))
    shown = table[on_plane] if on_plane.any() else table
    st.plotly_chart(
        plots.leaderboard(shown, f"{name}, with 95 % interval", dark(), best),
        key="leaderboard",
        config={"displayModeBar": False},
        alt=f"{name} of every run with its interval",
    )
    for target in dict.fromkeys(shown["target"]):
        verdict(table, target)
    how_to_read(
        "Each mark is one run's score on tracks it had not learned from; the bar is what the score could be with "
        "another sample of albums, artists or pieces. Which run is better is asked track by track, not by the bars. "
        "Hollow marks are simple answers that any model must beat."
    )
    score_list(same, dataset)


def verdict(table: pd.DataFrame, target: str) -> None:
    """Whether the best run on a target is really better than the next two."""
    rows = table[(table["target"] == target) & ~table["baseline"] & table["value"].notna()]
    ids = rows["run_id"].head(1 + RIVALS).tolist()
    if len(ids) > 1:
        text = winner_sentence(data.open_run(ids[0]), ids[1:], target)
        st.markdown(f"- {text}" if text else "")


def score_list(found: list, dataset: str) -> None:
    """All measures as a table; choosing a row links to its page."""
    rows = []
    for summary in found:
        about = summary.about
        row = {
            "run": summary.run_id,
            "model": about["model"],
            "features": about["features"]["name"],
            "protocol": about["protocol"],
            "tracks": about["dataset"]["n_tracks"],
            "started": about["started"][:16].replace("T", " "),
        }
        for target, parts in summary.metrics["targets"].items():
            value, low, high = parts["all"]["r2"]
            row[f"{target} R²"] = f"{value:.2f} ({low:.2f}–{high:.2f})" if low is not None else f"{value:.2f}"
            row[f"{target} MAE"] = parts["all"]["mae"][0]
        rows.append(row)
    with st.expander(f"All {len(rows)} runs on {dataset} as a table"):
        event = st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            on_select="rerun",
            selection_mode="single-row",
            key="runs-table",
            column_config={
                name: st.column_config.NumberColumn(format="%.2f", help=METRICS["mae"][1])
                for name in rows[0]
                if name.endswith("MAE")
            },
        )
        chosen = event["selection"]["rows"]
        if chosen:
            run_id = rows[chosen[0]]["run"]
            link("pages/models.py", f"Open {run_id}", icon=":material/target:", run=run_id)
        else:
            st.caption("Tick a row to open that run.")


main()
