"""Are the labels right? Agreement of static and dynamic ratings, evidence along the ids, spread of the raters.

Conventions: evidence is in nats, above 0 where a track looks exchanged (the colour of evidence for), below 0 where it
looks right (the colour of evidence against). Correlations are shaded by size alone; the number says the sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mer_core.plots.style import GREY_DARK, GREY_LIGHT, empty, finish, palette, translucent

TARGETS = ("valence", "arousal")
MOST_TICKS = 8
DASHES = ("solid", "dash", "dot", "dashdot")


def correlation_matrices(parts: Mapping[str, Mapping], dark: bool, height: int = 230) -> go.Figure:
    """Static ratings (rows) against dynamic ones (columns), one square of four cells a part.

    parts : {part: {static: {dynamic: r}} or None where it is not known}; what belongs together lies on the falling
        diagonal, which should be dark
    """
    shown = {part: cells for part, cells in parts.items() if cells}
    if not shown:
        return empty("There are no dynamic ratings to compare the static ones with.", dark)
    figure = make_subplots(1, len(shown), subplot_titles=list(shown), horizontal_spacing=0.08, shared_yaxes=True)
    for column, (part, cells) in enumerate(shown.items(), start=1):
        values = np.array([[cells[s][d] for d in TARGETS] for s in TARGETS], float)
        figure.add_trace(_squares(part, values, dark), 1, column)
        for (row, place), r in np.ndenumerate(values):
            text = f"<b>{r:.2f}</b>" if row == place else f"{r:.2f}"
            cell = {"x": TARGETS[place], "y": TARGETS[row], "text": text, "showarrow": False}
            figure.add_annotation(**cell, font={"color": _ink_on(abs(r), dark), "size": 14}, row=1, col=column)
    finish(figure, dark, height)
    figure.update_layout(margin_t=34)
    figure.update_xaxes(title_text="dynamic", showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_yaxes(title_text="static", col=1)
    return figure


def _squares(part: str, values: np.ndarray, dark: bool) -> go.Heatmap:
    return go.Heatmap(
        x=TARGETS,
        y=TARGETS,
        z=np.abs(values),
        customdata=values,
        zmin=0,
        zmax=1,
        colorscale=list(GREY_DARK if dark else GREY_LIGHT),
        showscale=False,
        xgap=3,
        ygap=3,
        hovertemplate=f"{part}: static %{{y}} and dynamic %{{x}}, r = %{{customdata:.2f}}<extra></extra>",
    )


def _ink_on(size: float, dark: bool) -> str:
    """A text colour that can be read on the shade of a correlation of that size."""
    strong = not size < 0.5  # also where it is not defined
    return ("#1F2430" if strong else "#F2F4F8") if dark else ("#FFFFFF" if strong else "#1F2430")


def evidence_strip(
    table: pd.DataFrame, blocks: Mapping[str, Sequence[Mapping]], dark: bool, height: int = 300
) -> go.Figure:
    """Evidence of each track along the ids, blocks of exchanged tracks shaded, borders as wide as they are unsure.

    table : columns track_id, part, evidence (NaN where not judged), exchanged, in order of the ids
    blocks : {part: blocks with first, last, first_range, last_range (ids)}
    """
    judged = table[table["evidence"].notna()].reset_index(drop=True)
    if judged.empty:
        return empty("No track has both static and dynamic ratings.", dark)
    colours = palette(dark)
    figure = go.Figure()
    # Distances shrink with size, so that the border at 0 stays visible beside very clear tracks.
    height_of = np.sign(judged["evidence"]) * np.log1p(judged["evidence"].abs())
    for name, chosen, colour in (
        ("looks exchanged", judged["evidence"] > 0, colours["for"]),
        ("looks right", judged["evidence"] <= 0, colours["against"]),
    ):
        rows = judged[chosen]
        figure.add_trace(
            go.Scatter(
                x=rows.index,
                y=height_of[chosen],
                mode="markers",
                name=name,
                marker={"size": 4, "color": colour, "opacity": 0.75},
                customdata=rows["track_id"].to_numpy(object),
                text=[f"{v:+.1f} nats ({part})" for v, part in zip(rows["evidence"], rows["part"], strict=True)],
                hovertemplate="%{customdata}<br>%{text}<extra></extra>",
            )
        )
    finish(figure, dark, height, legend=True)
    _shade_blocks(figure, judged, blocks, dark)
    _mark_parts(figure, judged, dark)
    places = np.unique(np.linspace(0, len(judged) - 1, MOST_TICKS).round().astype(int))
    names = judged["track_id"].iloc[places]
    figure.update_xaxes(title_text="Tracks in order of their ids", tickvals=places, ticktext=names)
    ticks = [-100, -30, -10, -3, 0, 3, 10, 30, 100]
    figure.update_yaxes(
        title_text="Evidence (nats):<br>right ↔ exchanged",
        tickvals=[np.sign(t) * np.log1p(abs(t)) for t in ticks],
        ticktext=[f"{t:g}" for t in ticks],
        zeroline=True,
    )
    return figure


def _shade_blocks(figure: go.Figure, judged: pd.DataFrame, blocks: Mapping[str, Sequence[Mapping]], dark: bool) -> None:
    place = pd.Series(judged.index, judged["track_id"])
    warm = palette(dark)["for"]
    for part, found in blocks.items():
        for block in found:
            sure = (place[block["first_range"][1]] - 0.5, place[block["last_range"][0]] + 0.5)
            widest = (place[block["first_range"][0]] - 0.5, place[block["last_range"][1]] + 0.5)
            for x0, x1 in (sure, widest):
                figure.add_vrect(x0=x0, x1=x1, fillcolor=translucent(warm, 0.12), line_width=0, layer="below")
            text = f"{block['first']}–{block['last']}<br>exchanged ({part})"
            middle = (place[block["first"]] + place[block["last"]]) / 2
            figure.add_annotation(x=middle, y=0.02, yref="paper", yanchor="bottom", text=text, showarrow=False)


def _mark_parts(figure: go.Figure, judged: pd.DataFrame, dark: bool) -> None:
    """Lines between parts, where the ids of a part stand together."""
    changes = np.flatnonzero(judged["part"].to_numpy()[1:] != judged["part"].to_numpy()[:-1]) + 1
    if len(changes) != judged["part"].nunique() - 1:
        return
    for start in [0, *changes] if len(changes) else []:
        if start:
            figure.add_vline(x=start - 0.5, line={"color": palette(dark)["line"], "width": 1, "dash": "dot"})
        where = {"x": start, "y": 1, "yref": "paper", "xanchor": "left", "yanchor": "top"}
        figure.add_annotation(**where, text=judged["part"].iloc[start], showarrow=False)


def spread_histogram(table: pd.DataFrame, targets: Sequence[str], dark: bool, height: int = 260) -> go.Figure:
    """How much raters differ, one panel a target, one line a part, as shares so that parts of any size compare.

    table : columns part and `<target>_std` (standard deviation of a track's raters, rating points, NaN where unknown)
    """
    known = [target for target in targets if f"{target}_std" in table and table[f"{target}_std"].notna().any()]
    if not known:
        return empty("The spread of the raters is not known.", dark)
    figure = make_subplots(1, len(known), subplot_titles=known, shared_yaxes=True, horizontal_spacing=0.05)
    values = table[[f"{target}_std" for target in known]].to_numpy(float)
    edges = np.linspace(0, np.nanmax(values) * (1 + 1e-9) or 1, 21)
    colours = palette(dark)
    for column, target in enumerate(known, start=1):
        for i, (part, rows) in enumerate(table.groupby("part", sort=True)):
            spread = rows[f"{target}_std"].dropna()
            if spread.empty:
                continue
            share = np.histogram(spread, bins=edges)[0] / len(spread)
            line = {"shape": "hv", "color": colours["spread" if i else "ink"], "width": 2, "dash": DASHES[i % 4]}
            hover = f"{part}: %{{y:.0%}} of {len(spread)} tracks from %{{x:.2f}}<extra></extra>"
            trace = go.Scatter(x=edges[:-1], y=share, mode="lines", line=line, name=str(part), hovertemplate=hover)
            figure.add_trace(trace.update(legendgroup=str(part), showlegend=column == 1), 1, column)
    finish(figure, dark, height, legend=table["part"].nunique() > 1)
    figure.update_layout(margin_t=64 if table["part"].nunique() > 1 else 34, legend_y=1.12)
    figure.update_xaxes(title_text="Spread of the raters (points)")
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(title_text="Tracks", col=1)
    return figure
