"""Track: why the model hears one clip the way it does."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from mer_core import plots
from ui import data, empty
from ui.evidence import audible
from ui.frame import dark, expected_failures, footer, frame, how_to_read, show_badges
from ui.heard import heard
from ui.player import Clip, player
from ui.selection import choose_one, choose_run, choose_target, choose_track, example_track, link, take_clicked
from ui.words import LEVEL_HELP, NOT_TESTED, number, reason_sentence

NEIGHBOURS = 5
KNOWN = {"track_id", "path", "label", "title", "part", "group", "fold", "quadrant"}


def main() -> None:
    """Draw the page."""
    badges = frame("Track", "Why does the model hear this clip the way it does?")
    empty.stop_without_runs()
    first, second, third = st.columns([3, 3, 2])
    run = choose_run(first)
    if run is None:
        return
    show_badges(badges, run.about)
    with expected_failures():
        page_of(run, second, third)
    footer(run)


def page_of(run, second, third) -> None:
    """Everything about the chosen track; its selectors go into two places beside that of the run."""
    table = data.clips(run)
    track = choose_track(run, example_track(table), place=second)
    target = choose_target(run, third)
    if track is None or target is None:
        return
    row = table.loc[track]
    st.subheader(row["label"])
    identity(run, table, row)
    if pd.isna(row[f"{target}_predicted"]):
        st.info(NOT_TESTED)
    else:
        reasons(run, row, target)
        audible(run, row, target)
    heard(run, row)
    neighbours(run, table, row)


def identity(run, table: pd.DataFrame, row: pd.Series) -> None:
    """Player and facts beside the clip's place on the plane."""
    left, right = st.columns([5, 6], gap="large")
    with left:
        player([Clip(row["track_id"], row["label"], row["path"])], key="track")
        steps(table, row["track_id"])
        st.dataframe(positions(run, row), hide_index=True, key="positions")
        facts(table, row)
    with right:
        if {"valence_predicted", "arousal_predicted"} <= set(table) and pd.notna(row["valence_predicted"]):
            st.plotly_chart(
                plots.track_plane(row, table, data.scale(run), dark(), joint=data.joint_interval(run)),
                key="place",
                on_select=_clicked,
                selection_mode="points",
                config={"displayModeBar": False},
                alt="Rated and predicted position of this clip on the valence-arousal plane",
            )
            how_to_read(
                "Ring: where listeners put this clip. Dot: where the model puts it without having seen its ratings; "
                f"{data.ellipse_words(run)}. Faint dots are the other clips; click one to go there."
            )


def _clicked() -> None:
    take_clicked("place")


def steps(table: pd.DataFrame, track: str) -> None:
    """Previous and next track."""
    position = table.index.get_loc(track)
    with st.container(horizontal=True, vertical_alignment="center"):
        for label, move, icon in (("Previous", -1, ":material/chevron_left:"), ("Next", 1, ":material/chevron_right:")):
            other = position + move
            inside = 0 <= other < len(table)
            st.button(
                label, icon=icon, disabled=not inside, on_click=_go, args=(table.index[other] if inside else track,)
            )
        st.caption(f"{position + 1} of {len(table)}")


def _go(track: str) -> None:
    st.session_state["track"] = track


def positions(run, row: pd.Series) -> pd.DataFrame:
    """Rated and predicted value of every target with the interval."""
    low, high = data.scale(run)
    level = run.about.get("interval_level", 0.9)
    rows = []
    for target in run.about["targets"]:
        lower, upper = row.get(f"{target}_lower"), row.get(f"{target}_upper")
        rows.append(
            {
                f"on {low:g}–{high:g}": target,
                "rated": f"{row[target]:.2f}",
                "predicted": number(row[f"{target}_predicted"])
                if pd.notna(row[f"{target}_predicted"])
                else "not tested",
                f"{level:.0%} interval": f"{max(lower, low):.2f} to {min(upper, high):.2f}"
                if pd.notna(lower)
                else "unknown",
            }
            | ({"raters ±": f"{row[f'{target}_std']:.2f}"} if pd.notna(row.get(f"{target}_std")) else {})
        )
    return pd.DataFrame(rows)


def facts(table: pd.DataFrame, row: pd.Series) -> None:
    """Identity card: whatever the dataset says of the track."""
    targets = {name.removesuffix("_predicted") for name in table.columns if name.endswith("_predicted")}
    own = {f"{t}{end}" for t in targets for end in ("", "_predicted", "_lower", "_upper", "_std")}
    shown = {"group": row["group"], "tested in fold": row["fold"]}
    if table["part"].nunique() > 1:
        shown["part"] = row["part"]
    shown |= {name: row[name] for name in table.columns if name not in KNOWN | own | set(data.cue_columns(table))}
    lines = [f"{name.replace('_', ' ')}: **{_short(value)}**" for name, value in shown.items() if _said(value)]
    st.caption(" · ".join(lines))


def _said(value: object) -> bool:
    return value is not None and not (isinstance(value, float) and pd.isna(value)) and str(value).strip() != ""


def _short(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def reasons(run, row: pd.Series, target: str) -> None:
    """From the average prediction to this one, step by step."""
    st.divider()
    st.subheader(f"What moved its {target}?")
    if run.about["pipeline"] == "midlevel":
        st.write("This run makes its ratings from named qualities: see what each of them adds, and change them, on")
        link(
            "pages/midlevel.py",
            "Mid-level",
            icon=":material/piano:",
            midlevel=run.run_id,
            run=run.run_id,
            track=row["track_id"],
        )
        return
    if "shap" not in run.explanation_names():
        st.write("This run has not been explained yet. Make the explanation with:")
        st.code(f"python -m pipelines explain --run {run.run_id} --method shap", language="bash")
        return
    track = row["track_id"]
    groups = data.effects(run, target, "musical").loc[track]
    start = float(data.base(run, target)[track])
    plain = data.track_words(data.explanation(run), "musical", track)
    cues = ", ".join(f"{name.removeprefix('cue_')} **{row[name]}**" for name in data.cue_columns(row))
    if cues:
        st.caption(f"What is true of it: this clip was composed with {cues}; its ratings follow from these.")
    st.markdown(reason_sentence(target, groups, start, plain, data.scale(run)))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        level = choose_one("Level", data.LEVELS, "level", LEVEL_HELP)
        top = st.slider("Steps", 3, 20, 8, key="steps", bind="query-params", width=220)
    parts = data.effects(run, target, level).loc[track]
    found = data.explanation(run)
    labels = data.plain_words(found, level) if level == "column" else data.track_words(found, level, track)
    st.plotly_chart(
        plots.waterfall(parts, start, labels, target, data.scale(run), dark(), top),
        key="waterfall",
        config={"displayModeBar": False},
        alt=f"Steps from the average {target} to this clip's prediction",
    )
    how_to_read(
        f"Start at the top with the average prediction. Every orange step raises {target}, every blue one lowers it, "
        "in rating points; together they arrive at this clip's prediction. The values are SHAP values: they add up "
        "exactly, and they tell what the model used, which need not be what moves a listener."
    )
    link(
        "pages/importance.py",
        "How do these act on all tracks?",
        icon=":material/bar_chart:",
        run=run.run_id,
        target=target,
        level=data.LEVELS[level],
    )


def neighbours(run, table: pd.DataFrame, row: pd.Series) -> None:
    """Tracks that sound alike to the model, to hear beside this one."""
    st.divider()
    st.subheader("What sounds alike to the model?")
    found = run.neighbours
    near = found[found["track_id"].astype(str) == row["track_id"]].sort_values("rank").head(NEIGHBOURS)
    near = near[near["neighbour"].astype(str).isin(table.index)]
    if near.empty:
        st.caption("The run holds no neighbours of this track.")
        return
    others = table.loc[near["neighbour"].astype(str)]
    left, right = st.columns(2, gap="large")
    with left:
        clips = [Clip(row["track_id"], f"this clip: {row['label']}", row["path"])]
        clips += [
            Clip(other.track_id, f"{rank}. {other.label}", other.path)
            for rank, other in enumerate(others.itertuples(), start=1)
        ]
        player(clips, key="neighbours")
        how_to_read(
            "The closest tracks by all measured features, nearest first. If they sound unlike this one to you, the "
            "features miss what you hear."
        )
    with right:
        targets = [t for t in run.about["targets"] if t in others]
        shown = others[["label", *targets]].assign(distance=near["distance"].to_numpy())
        st.dataframe(
            shown.rename(columns={"label": "track"}),
            hide_index=True,
            key="neighbour-table",
            column_config={
                "track": st.column_config.TextColumn(width=240),
                "distance": st.column_config.NumberColumn(
                    format="%.2f", width=80, help="Typical difference per feature, in standard deviations"
                ),
            }
            | {
                t: st.column_config.NumberColumn(format="%.1f", width=75, help="As rated by listeners") for t in targets
            },
        )
        with st.container(horizontal=True):
            for other in others.index:
                st.button(other, key=f"go-{other}", on_click=_go, args=(other,), help="Go to this track")


main()
