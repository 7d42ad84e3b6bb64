"""What a pretrained network heard in a track: its tags in words, and the ratings window by window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from mer_core.listening import Heat, Version
from mer_core.plots.curves import curve_picture
from mer_core.plots.style import finish, palette, target_colour
from mer_core.runs import Run
from ui import data
from ui.frame import dark, how_to_read
from ui.listening import address, listening_player
from ui.player import AUDIO_TYPES
from ui.tables import has

SHOWN_TAGS = 8


def heard(run: Run, row: pd.Series) -> None:
    """Tags and curve of the track, where the run has them."""
    if has(run, "tags"):
        tags(run, row["track_id"])
    if has(run, "dynamic"):
        curve(run, row)


def tags(run: Run, track: str) -> None:
    """The network's own words for the track."""
    table = run.table("tags")
    table = table[table["track_id"].astype(str) == track].sort_values("probability", ascending=False).head(SHOWN_TAGS)
    if table.empty:
        return
    st.divider()
    st.subheader("What does the network call it?")
    rows = table.iloc[::-1]
    figure = go.Figure(
        go.Bar(
            x=rows["probability"],
            y=[f"{tag} " for tag in rows["tag"]],
            orientation="h",
            marker_color=palette(dark())["point"],
            text=[f"{value:.0%}" for value in rows["probability"]],
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    finish(figure, dark(), 60 + 28 * len(rows))
    figure.update_xaxes(range=[0, 1], tickformat=".0%", title_text="probability, averaged over the track")
    st.plotly_chart(
        figure, key="tags", config={"displayModeBar": False}, alt="The most probable tags: " + ", ".join(table["tag"])
    )
    names = ", ".join(table["backbone"].unique()) if "backbone" in table else "the network"
    how_to_read(
        f"{names} learned these words from people who tagged other music. They say what it hears; if they are wrong, "
        "do not trust its prediction either."
    )


def curve(run: Run, row: pd.Series) -> None:
    """Predicted ratings window by window, under the player's cursor."""
    table = run.table("dynamic")
    table = table[table["track_id"].astype(str) == row["track_id"]]
    targets = [target for target in run.about["targets"] if target in set(table["target"])]
    if table["seconds"].nunique() < 2:
        return
    st.divider()
    st.subheader("How does the prediction move while it plays?")
    seconds = np.sort(table["seconds"].unique())
    duration = float(seconds[-1] + (seconds[1] - seconds[0]) / 2)
    scale = data.scale(run)
    st.html(" &nbsp; ".join(f'<span style="color:{target_colour(t, dark())}">■</span> {t}' for t in targets))
    picture = curve_picture(table, scale, duration, dark())
    low, high = scale
    heat = Heat(
        address(picture, "image/svg+xml", f"curve-{row['track_id']}"),
        _summary(table),
        tuple(f"{value:g}" for value in np.linspace(high, low, 5)),
        tuple(f"{value:.0f} s" for value in np.linspace(0, duration, 5)),
    )
    path = Path(row["path"]) if isinstance(row["path"], str) else None
    if path is not None and path.is_file() and path.suffix.lower() in AUDIO_TYPES:
        where = address(str(path), AUDIO_TYPES[path.suffix.lower()], f"whole-{row['track_id']}")
        listening_player(str(row["label"]), [Version("Original", "as recorded", where)], heat, key="curve")
    else:
        st.image(picture.decode())
    how_to_read(
        "The lines are predictions from windows of a few seconds by a model that was trained on whole tracks and has "
        "not seen this one: an extrapolation. On ten songs with ratings over time such curves told loud songs from "
        "calm ones, but did not follow listeners from moment to moment."
    )


def _summary(table: pd.DataFrame) -> str:
    """The curve in words, for those who do not see it."""
    said = []
    for target, rows in table.sort_values("seconds").groupby("target"):
        first, last = rows["predicted"].iloc[[0, -1]]
        span = f"between {rows['predicted'].min():.1f} and {rows['predicted'].max():.1f}"
        said.append(f"{target} {span}, from {first:.1f} at the start to {last:.1f} at the end")
    return "Predictions over time: " + "; ".join(said)
