"""What goes with the ratings: features, metadata, principal components.

Conventions: correlations are Spearman's rho; q is the false discovery rate, a finding where it is at most 0.05.
"""

from __future__ import annotations

import textwrap

import pandas as pd
import plotly.graph_objects as go

from mer_core.plots.plane import MANY_POINTS
from mer_core.plots.style import SEQUENTIAL, empty, finish, palette, target_colour

FINDING = 0.05
LABEL_WIDTH = 44


def correlation_list(table: pd.DataFrame, target: str, dark: bool, count: int = 15) -> go.Figure:
    """The columns that go most with a target, one line each, hollow where q is above 0.05.

    table : columns column, target, n, rho, q, and plain (a few words) where known
    """
    rows = table[(table["target"] == target) & table["rho"].notna()]
    if rows.empty:
        return empty(f"No feature varies that could go with {target}.", dark)
    rows = rows.reindex(rows["rho"].abs().sort_values(ascending=False, kind="stable").index)[:count][::-1]
    plain = rows["plain"] if "plain" in rows else rows["column"]
    labels = [_lines(words or name) for words, name in zip(plain.fillna(""), rows["column"], strict=True)]
    colour = target_colour(target, dark)
    figure = go.Figure(
        go.Scatter(
            x=rows["rho"],
            y=list(range(len(rows))),
            mode="markers",
            customdata=rows["column"].to_numpy(object),
            text=[f"q {_small(q)}, n = {n}" for q, n in zip(rows["q"], rows["n"], strict=True)],
            hovertemplate="%{customdata}<br>rho = %{x:.2f}, %{text}<extra></extra>",
            marker={
                "size": 10,
                "color": [colour if q <= FINDING else "rgba(0,0,0,0)" for q in rows["q"]],
                "line": {"color": colour, "width": 2},
            },
        )
    )
    for place, rho in enumerate(rows["rho"]):
        line = {"color": palette(dark)["line"], "width": 1}
        figure.add_shape(type="line", x0=0, x1=rho, y0=place, y1=place, line=line, layer="below")
    finish(figure, dark, 70 + 32 * max(3, len(rows)))
    figure.update_xaxes(title_text=f"rho with {target}", zeroline=True)
    # A list as tick text keeps equal labels apart: two columns may have the same plain words.
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=labels, range=[-0.7, len(rows) - 0.3], showgrid=False)
    return figure


def _lines(text: str) -> str:
    return "<br>".join(textwrap.wrap(text, LABEL_WIDTH))


def _small(q: float) -> str:
    return "< 0.001" if q < 0.001 else f"= {q:.3f}"


def level_means(
    table: pd.DataFrame, column: str, dark: bool, targets: tuple[str, ...] = ("valence", "arousal"), count: int = 15
) -> go.Figure:
    """Mean rating of the largest levels of a metadata column (genre, key, mode), with its 95 % interval.

    table : columns column, level, target, n, mean, low, high; levels are ordered by their mean of the first target
    """
    rows = table[(table["column"] == column) & table["target"].isin(targets)]
    if rows.empty:
        return empty(f"{column} has no levels to compare.", dark)
    counts = rows.groupby("level")["n"].max()
    largest = rows[(rows["target"] == targets[0]) & rows["level"].isin(counts.nlargest(count).index)]
    order = largest.sort_values("mean")["level"].tolist()
    figure = go.Figure()
    for i, target in enumerate(targets):
        own = rows[rows["target"] == target].set_index("level").reindex(order)
        bars = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 3}
        bars |= {"array": own["high"] - own["mean"], "arrayminus": own["mean"] - own["low"]}
        symbol = ("circle", "diamond", "square")[i % 3]
        figure.add_trace(
            go.Scatter(
                x=own["mean"],
                y=[place - (i - (len(targets) - 1) / 2) * 0.24 for place in range(len(order))],
                error_x=bars,
                mode="markers",
                name=target,
                text=order,
                hovertemplate="%{text}: " + target + " %{x:.2f}<extra></extra>",
                marker={"size": 9, "color": target_colour(target, dark), "symbol": symbol},
            )
        )
    finish(figure, dark, 90 + 28 * max(3, len(order)), legend=True)
    figure.update_xaxes(title_text="Mean rating")
    labels = [f"{level} (n = {counts[level]})" for level in order]
    figure.update_yaxes(tickvals=list(range(len(order))), ticktext=labels, range=[-0.7, len(order) - 0.3])
    return figure


def components_scatter(
    table: pd.DataFrame,
    shares: dict[str, float],
    colour: pd.Series,
    colour_title: str,
    dark: bool,
    components: tuple[str, str] = ("PC1", "PC2"),
    height: int = 460,
) -> go.Figure:
    """Tracks in the plane of two principal components, coloured by a rating; far outliers lie beyond the axes.

    table : columns track_id, label (hover text) and the components; shares : {component: share of the variance, 0..1}
    colour : one number a row, aligned with table; rows without one are left out
    """
    shown = colour.notna()
    if not shown.any():
        return empty(f"No track has {colour_title}.", dark)
    x, y = components
    rows = table[shown]
    trace = go.Scattergl if len(rows) > MANY_POINTS else go.Scatter
    bar = {"title": {"text": colour_title, "side": "right"}, "thickness": 10, "outlinewidth": 0, "nticks": 5}
    marker = {"size": 9 if len(rows) <= 400 else 6, "opacity": 0.85, "color": colour[shown]}
    marker |= {"colorscale": list(SEQUENTIAL), "colorbar": bar, "showscale": True}
    marker |= {"line": {"width": 0.5, "color": palette(dark)["line"]}}
    figure = go.Figure(
        trace(
            x=rows[x],
            y=rows[y],
            mode="markers",
            customdata=rows["track_id"].to_numpy(object),
            text=rows["label"].to_numpy(object),
            marker=marker,
            hovertemplate="%{text}<br>" + f"{colour_title} %{{marker.color:.2f}}<extra></extra>",
        )
    )
    finish(figure, dark, height)
    figure.update_xaxes(title_text=f"{x} ({shares[x]:.0%} of the variance)", zeroline=True, range=_most(rows[x]))
    figure.update_yaxes(title_text=f"{y} ({shares[y]:.0%} of the variance)", zeroline=True, range=_most(rows[y]))
    inside = rows[x].between(*_most(rows[x])) & rows[y].between(*_most(rows[y]))
    if not inside.all():
        text = f"{(~inside).sum()} of {len(rows)} tracks lie outside"
        figure.add_annotation(text=text, showarrow=False, x=1, y=0, xref="paper", yref="paper", yanchor="bottom")
    return figure


def _most(values: pd.Series) -> list[float]:
    """Range of the middle 98 %, half as wide again on both sides: a few extreme tracks would squeeze all others."""
    low, high = values.quantile(0.01), values.quantile(0.99)
    pad = (high - low) / 2
    return [max(low - pad, values.min() - pad / 8), min(high + pad, values.max() + pad / 8)]
