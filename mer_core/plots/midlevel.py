"""Mid-level qualities, drawn: those of a track, what each adds to a rating, weights, what-if, and what naming costs.

Conventions: qualities are in standard deviations from the average track, effects in rating points; what raises a rating
is warm, what lowers it cool. `kind` says in a few words where the qualities come from, and stands on every figure.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mer_core.plots.style import empty, finish, palette, translucent

SCHEMES = {
    "a2e": ("A2E", "straight from audio to the rating", "circle"),
    "a2mid2e": ("A2Mid2E", "through the qualities, the map fitted afterwards", "square"),
    "joint": ("Joint", "qualities and ratings learned together", "diamond"),
}
BAR_PX = 34


def plain(name: str) -> str:
    """A quality's name in words."""
    return name.replace("_", " ")


def quality_bars(table: pd.DataFrame, names: tuple[str, ...], kind: str, dark: bool) -> go.Figure:
    """Qualities of one track, or of two side by side.

    table : columns quality, question, and one column of z-scores per track, called as in `names` (labels)
    """
    colours, rows = palette(dark), table.iloc[::-1]
    fills = (colours["point"], translucent(colours["point"], 0.35))
    figure = go.Figure()
    for name, fill in list(zip(names, fills, strict=False))[::-1]:
        figure.add_trace(
            go.Bar(
                x=rows[name],
                y=[plain(quality) for quality in rows["quality"]],
                orientation="h",
                name=name,
                customdata=rows["question"],
                hovertemplate="%{y}: %{x:+.2f} SD<br><i>%{customdata}</i><extra></extra>",
                marker={"color": fill, "line": {"color": colours["point"], "width": 1}},
            )
        )
    finish(figure, dark, 110 + len(names) * 22 * len(rows), legend=len(names) > 1)
    figure.update_layout(legend_traceorder="reversed")
    figure.add_vline(x=0, line={"color": colours["line"], "width": 1})
    figure.update_yaxes(showgrid=False)
    figure.update_xaxes(title_text=f"less … more than the average track (SD)<br>qualities: {kind}", zeroline=False)
    return figure


def effects_plot(table: pd.DataFrame, chosen: dict[str, str], rating: str, kind: str, dark: bool) -> go.Figure:
    """What each quality adds to a rating: a box over all tracks, and marks of the chosen ones.

    table : columns track_id, quality, effect; chosen : track id -> label, one or two
    """
    if table.empty:
        return empty("This run has no effects: it was made without qualities.", dark)
    colours = palette(dark)
    order = table.groupby("quality")["effect"].apply(lambda effect: effect.abs().mean()).sort_values().index
    figure = go.Figure()
    for quality in order:
        figure.add_trace(
            go.Box(
                x=table.loc[table["quality"] == quality, "effect"],
                y=[plain(quality)] * int((table["quality"] == quality).sum()),
                orientation="h",
                boxpoints=False,
                fillcolor=colours["wash"],
                line={"color": colours["line"], "width": 1.2},
                showlegend=False,
                hoverinfo="skip",
            )
        )
    for (track, label), symbol in zip(chosen.items(), ("diamond", "circle-open"), strict=False):
        rows = table[table["track_id"] == track].set_index("quality").loc[order]
        sides = np.where(rows["effect"] >= 0, colours["for"], colours["against"])
        figure.add_trace(
            go.Scatter(
                x=rows["effect"],
                y=[plain(quality) for quality in order],
                mode="markers",
                name=label,
                marker={"size": 12, "color": sides, "symbol": symbol, "line": {"width": 2, "color": sides}},
                hovertemplate=f"{label}<br>%{{y}} adds %{{x:+.2f}} to {rating}<extra></extra>",
            )
        )
    finish(figure, dark, 130 + BAR_PX * len(order), legend=True)
    figure.add_vline(x=0, line={"color": colours["ink"], "width": 1})
    figure.update_yaxes(showgrid=False, type="category")
    figure.update_xaxes(title_text=f"effect on {rating} (rating points)<br>qualities: {kind}", zeroline=False)
    return figure


def weights_forest(table: pd.DataFrame, rating: str, kind: str, dark: bool) -> go.Figure:
    """Weights of a rating with 95 % intervals; hollow where the interval holds zero.

    table : columns quality, weight, low, high
    """
    rows, colours = table.sort_values("weight", key=np.abs), palette(dark)
    sides = np.where(rows["weight"] >= 0, colours["for"], colours["against"])
    sure = (rows["low"] > 0) | (rows["high"] < 0)
    figure = go.Figure()
    for row, side, solid in zip(rows.itertuples(), sides, sure, strict=True):
        figure.add_trace(
            go.Scatter(
                x=[row.weight],
                y=[plain(row.quality)],
                mode="markers",
                showlegend=False,
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [row.high - row.weight],
                    "arrayminus": [row.weight - row.low],
                    "color": side,
                    "thickness": 1.5,
                    "width": 4,
                },
                marker={"size": 10, "color": side if solid else "rgba(0,0,0,0)", "line": {"color": side, "width": 2}},
                hovertemplate=f"%{{y}}: %{{x:+.2f}} ({row.low:+.2f} to {row.high:+.2f})<extra></extra>",
            )
        )
    finish(figure, dark, 110 + BAR_PX * len(rows))
    figure.add_vline(x=0, line={"color": colours["ink"], "width": 1})
    figure.update_yaxes(showgrid=False, type="category")
    figure.update_xaxes(title_text=f"weight on {rating} (rating points per SD)<br>qualities: {kind}", zeroline=False)
    return figure


def what_if_plot(
    before: dict[str, float], after: dict[str, float], scale: tuple[float, float], dark: bool
) -> go.Figure:
    """Each rating as predicted, and as it would be, on the rating scale."""
    colours, names = palette(dark), list(before)[::-1]
    figure = go.Figure()
    for name in names:
        change = after[name] - before[name]
        side = colours["for"] if change > 0 else colours["against"]
        figure.add_trace(
            go.Scatter(
                x=[before[name], after[name]],
                y=[name, name],
                mode="lines+markers",
                showlegend=False,
                line={"color": side, "width": 3},
                marker={"size": [11, 13], "symbol": ["circle-open", "circle"], "color": [colours["point"], side]},
                hovertemplate=f"{name}: {before[name]:.2f} → {after[name]:.2f} ({change:+.2f})<extra></extra>",
            )
        )
        figure.add_annotation(
            x=1.0, xref="paper", y=name, xanchor="right", showarrow=False, text=f"{change:+.2f}".replace("-", "−")
        )
    finish(figure, dark, 90 + BAR_PX * len(names))
    figure.update_yaxes(showgrid=False, type="category")
    values, room = [*scale, *before.values(), *after.values()], 0.12 * (scale[1] - scale[0])
    figure.update_xaxes(
        range=[min(values) - room / 4, max(values) + room], title_text=f"rating ({scale[0]:g} to {scale[1]:g})"
    )
    return figure


def cost_plot(table: pd.DataFrame, kind: str, dark: bool) -> go.Figure:
    """Correlation of each scheme on each rating, with 95 % intervals.

    table : columns scheme, rating, value, low, high
    """
    colours, names = palette(dark), list(dict.fromkeys(table["rating"]))[::-1]
    fills = {"a2e": colours["spread"], "a2mid2e": colours["against"], "joint": colours["for"]}
    figure = go.Figure()
    for offset, (scheme, (label, words, symbol)) in zip((0.22, 0.0, -0.22), SCHEMES.items(), strict=True):
        rows = table[table["scheme"] == scheme]
        if rows.empty:
            continue
        figure.add_trace(
            go.Scatter(
                x=rows["value"],
                y=[names.index(name) + offset for name in rows["rating"]],
                mode="markers",
                name=label,
                customdata=np.column_stack([rows["rating"], rows["low"], rows["high"]]),
                hovertemplate=f"{label}: {words}<br>%{{customdata[0]}}: r %{{x:.3f}} "
                "(%{customdata[1]:.2f} to %{customdata[2]:.2f})<extra></extra>",
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": rows["high"] - rows["value"],
                    "arrayminus": rows["value"] - rows["low"],
                    "thickness": 1.3,
                    "width": 3,
                    "color": fills[scheme],
                },
                marker={"size": 10, "symbol": symbol, "color": fills[scheme]},
            )
        )
    finish(figure, dark, 120 + 44 * len(names), legend=True)
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, range=[-0.6, len(names) - 0.4])
    figure.update_xaxes(title_text=f"Pearson r on unseen tracks<br>qualities: {kind}")
    return figure
