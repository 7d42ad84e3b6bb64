"""Importance: which properties of the sound the model listens to."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from mer_core import plots
from ui import data, empty
from ui.frame import dark, expected_failures, footer, frame, how_to_read, show_badges
from ui.player import Clip, player
from ui.selection import choose_one, choose_run, choose_target, clicked, current, link
from ui.words import LEVEL_HELP

SWARM_ROWS = 10


def main() -> None:
    """Draw the page."""
    badges = frame("Importance", "Which properties of the sound does the model listen to?")
    empty.stop_without_runs()
    first, second = st.columns([3, 2])
    run = choose_run(first)
    if run is None:
        return
    show_badges(badges, run.about)
    target = choose_target(run, second)
    if target is None:
        return
    if not run.explanation_names():
        not_explained(run)
        return
    with expected_failures():
        explained(run, target)
    footer(run)


def not_explained(run) -> None:
    """Empty state of a run without attributions."""
    st.subheader("This run has not been explained yet")
    st.write("Explaining repeats its models and works out how much each feature moved each prediction.")
    st.code(f"python -m pipelines explain --run {run.run_id} --method shap", language="bash")
    link(
        "pages/runs.py", "Start it on the Runs page", icon=":material/play_circle:", pipeline="explain", run=run.run_id
    )


def explained(run, target: str) -> None:
    """Importance at a level, the spread behind each bar, and how one feature acts."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        level = choose_one("Level", data.LEVELS, "level", LEVEL_HELP)
        top = st.slider("How many", 5, 30, 12, key="top", bind="query-params", width=220)
    found = data.explanation(run)
    plain = data.plain_words(found, level)
    table = data.importance(run, target, level).head(top)
    table = table.assign(label=[plain.get(name, name) for name in table["name"]])
    chosen = chosen_name(table, level)
    # Long names need the width of the page.
    stacked = level in ("descriptor", "column")
    left, right = (st.container(), st.container()) if stacked else st.columns(2, gap="large")
    with left:
        st.plotly_chart(
            plots.importance_bars(table, target, dark(), chosen),
            key=f"bars-{level}",
            on_select="rerun",
            selection_mode="points",
            config={"displayModeBar": False},
            alt=f"Average effect on {target} of the most important {data.LEVELS[level]}",
        )
        how_to_read(
            f"The longer a bar, the more this moves predicted {target}, in rating points and averaged over all tracks; "
            "the thin line is its 95 % interval. It says what the model uses, not what causes the feeling. Click a "
            "bar to see how it acts."
        )
    with right:
        swarm(run, target, level, table, chosen)
    acting(run, target, level, chosen, plain)


def chosen_name(table: pd.DataFrame, level: str) -> str:
    """The clicked bar, as long as it is among those shown; else the most important."""
    names = clicked(st.session_state.get(f"bars-{level}"))
    return names[0] if names and names[0] in set(table["name"]) else str(table["name"].iloc[0])


def swarm(run, target: str, level: str, table: pd.DataFrame, chosen: str) -> None:
    """One dot per track and name."""
    names = list(table["name"].head(SWARM_ROWS))
    found = data.explanation(run)
    features = None
    if level == "column":
        positions = found.columns.index.get_indexer(names)
        features = pd.DataFrame(found.features[:, positions], index=list(found.tracks), columns=names)
    labels = dict(zip(table["name"], table["label"], strict=True))
    values = data.effects(run, target, level)[names]
    st.plotly_chart(
        plots.beeswarm(values, features, labels, target, dark()),
        key="swarm",
        config={"displayModeBar": False},
        alt=f"Effects on {target} of the most important {data.LEVELS[level]}, one dot a track",
    )
    colour = (
        "Its colour is the feature's own value: cool low, warm high."
        if level == "column"
        else "Choose single columns to see each feature's own value as colour."
    )
    how_to_read(
        f"Every dot is one track: right of the line the feature raised its predicted {target}, left of it lowered it. "
        f"{colour}"
    )


def acting(run, target: str, level: str, chosen: str, plain: dict[str, str]) -> None:
    """Dependence plot of the strongest column behind the chosen name."""
    st.divider()
    st.subheader(f"How does “{plain.get(chosen, chosen)}” act?")
    found = data.explanation(run)
    members = found.columns.index if level == "column" else found.columns.index[found.columns[level] == chosen]
    if level == "column":
        column = chosen
    else:
        ranked = data.importance(run, target, "column")
        options = list(ranked[ranked["name"].isin(members)]["name"].head(20))
        st.caption(f"{len(members)} of {len(found.columns)} columns belong to it; the strongest come first.")
        words = found.columns["plain"]
        column = st.selectbox(
            "Column", options, key=f"column-{level}-{chosen}", format_func=lambda name: f"{words[name]}: {name}"
        )
    row = found.columns.loc[column]
    proxy = row["group"].replace("_", " ")
    st.caption(f"{row['plain'].capitalize()}. Column `{column}`, acoustic proxy {proxy}, statistic {row['statistic']}.")
    position = found.columns.index.get_loc(column)
    feature = pd.Series(found.features[:, position], index=list(found.tracks))
    effect = data.effects(run, target, "column")[column]
    left, right = st.columns([3, 2], gap="large")
    with left:
        event = st.plotly_chart(
            plots.dependence(feature, effect, f"{row['plain']}<br>{column}", target, dark(), current().get("track")),
            key="dependence",
            on_select="rerun",
            selection_mode="points",
            config={"displayModeBar": False},
            alt=f"Effect of {column} against its value",
        )
        how_to_read(
            "A rising cloud means: the more of it, the higher the prediction. The dark line is the middle of each "
            "tenth of the tracks."
        )
    with right:
        hear(run, clicked(event), feature)


def hear(run, chosen: list[str], feature: pd.Series) -> None:
    """The clicked track, or tracks from both ends of the feature, to listen to."""
    table = data.clips(run)
    if chosen:
        st.markdown("##### The track you clicked")
        tracks = chosen[:1]
    else:
        st.markdown("##### Hear both ends")
        known = feature.dropna().sort_values()
        audible = known[table.loc[known.index, "path"].notna()]
        ordered = (audible if len(audible) >= 6 else known).index
        tracks = [*ordered[:3], *ordered[-3:]]
    place = ["least", "least", "least", "most", "most", "most"] if not chosen else [""]
    player(
        [
            Clip(t, f"{word + ': ' if word else ''}{table.loc[t, 'label']}", table.loc[t, "path"])
            for t, word in zip(tracks, place, strict=False)
        ],
        key="importance",
    )
    link("pages/track.py", f"Why {tracks[0]}?", icon=":material/arrow_forward:", run=run.run_id, track=tracks[0])


main()
