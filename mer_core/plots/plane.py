"""The valence-arousal plane: one orientation, one look, wherever it appears.

Conventions: valence to the right, arousal upwards, both on the rating scale given; the cross marks the middle of the
scale. A rated (true) position is a ring, a predicted one a dot, a thin line joins the two, an ellipse is the prediction
interval. Every clickable point carries its track id as custom data.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mer_core.plots.style import GREY_DARK, GREY_LIGHT, SEQUENTIAL, finish, palette, translucent

MANY_POINTS = 3000  # above this, points are drawn by WebGL: SVG becomes slow
LINES_UP_TO = 120  # more lines than this hide the points they join
HOLLOW = "rgba(0,0,0,0)"
QUADRANT_WORDS = {"Q1": "happy, excited", "Q2": "tense, angry", "Q3": "sad, depressed", "Q4": "calm, content"}


def quadrant(valence: np.ndarray, arousal: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Quadrant "Q1" (high valence, high arousal) to "Q4" (high valence, low arousal), counted anticlockwise.

    A value on the middle of the scale counts as high. NaN gives "".
    """
    middle = sum(scale) / 2
    valence, arousal = np.asarray(valence, float), np.asarray(arousal, float)
    right, up = valence >= middle, arousal >= middle
    names = np.select([right & up, ~right & up, ~right & ~up], ["Q1", "Q2", "Q3"], "Q4")
    return np.where(np.isnan(valence) | np.isnan(arousal), "", names)


def blank_plane(scale: tuple[float, float], dark: bool, height: int = 520, small: bool = False) -> go.Figure:
    """An empty plane with its axes, cross and quadrant words."""
    colours = palette(dark)
    low, high = scale
    middle, pad = (low + high) / 2, (high - low) * 0.03
    figure = finish(go.Figure(), dark, height)
    for line in (
        {"x0": low, "x1": high, "y0": middle, "y1": middle},
        {"x0": middle, "x1": middle, "y0": low, "y1": high},
    ):
        figure.add_shape(type="line", layer="below", line={"color": colours["line"], "width": 1}, **line)
    figure.add_shape(
        type="rect", x0=low, x1=high, y0=low, y1=high, layer="below", line={"color": colours["faint"], "width": 1}
    )
    corners = {
        "Q1": (high, high, "right", "top"),
        "Q2": (low, high, "left", "top"),
        "Q3": (low, low, "left", "bottom"),
        "Q4": (high, low, "right", "bottom"),
    }
    for name, (x, y, xanchor, yanchor) in corners.items():
        figure.add_annotation(
            x=x,
            y=y,
            xanchor=xanchor,
            yanchor=yanchor,
            text=QUADRANT_WORDS[name],
            showarrow=False,
            font={"color": colours["spread"], "size": 12 if small else 14},
        )
    figure.update_layout(margin={"l": 56, "r": 12, "t": 14, "b": 50})
    ticks = {
        "range": [low - pad, high + pad],
        "showgrid": False,
        "zeroline": False,
        "nticks": 9,
        "constrain": "domain",
        "automargin": False,
    }
    span = f"{low:g}–{high:g}"
    figure.update_xaxes(**ticks)
    # An annotation, because plotly misplaces the title of an axis whose domain shrinks for a colour bar.
    figure.add_annotation(
        x=middle,
        y=low - pad,
        yshift=-24,
        yanchor="top",
        text=f"Valence ({span}): unpleasant → pleasant",
        showarrow=False,
        font={"color": colours["spread"], "size": 14},
    )
    figure.update_yaxes(
        title_text=f"Arousal ({span}): calm → excited", scaleanchor="x", scaleratio=1, constraintoward="top", **ticks
    )
    return figure


def _marks(table: pd.DataFrame, prefix: str, **marker) -> go.Scatter | go.Scattergl:
    trace = go.Scattergl if len(table) > MANY_POINTS else go.Scatter
    return trace(
        x=table[f"valence{prefix}"].to_numpy(np.float32),
        y=table[f"arousal{prefix}"].to_numpy(np.float32),
        mode="markers",
        customdata=table["track_id"].to_numpy(object),
        text=table["label"].to_numpy(object),
        marker=marker,
        unselected={"marker": {"opacity": marker.get("opacity", 1)}},
        selected={"marker": {"opacity": marker.get("opacity", 1)}},
    )


def ratings_plane(
    table: pd.DataFrame,
    scale: tuple[float, float],
    dark: bool,
    colour: pd.Series | None = None,
    colour_title: str = "",
    selected: str | None = None,
    height: int = 540,
) -> go.Figure:
    """Rated positions of many tracks, one ring each, coloured by a column.

    table : columns track_id, label (hover text), valence, arousal
    colour : aligned with table; numbers give a colour scale (rater spread: greys), text gives one colour a value
    """
    figure = blank_plane(scale, dark, height)
    shown = table.dropna(subset=["valence", "arousal"])
    size = 9 if len(shown) <= 400 else 6
    hover = "%{text}<br>valence %{x:.2f}, arousal %{y:.2f}<extra></extra>"
    if colour is None:
        trace = _marks(
            shown, "", size=size, opacity=0.9, color=HOLLOW, line={"color": palette(dark)["point"], "width": 1.5}
        )
        figure.add_trace(trace.update(name="rated", hovertemplate=hover))
    elif pd.api.types.is_numeric_dtype(colour):
        scale_colours = (GREY_DARK if dark else GREY_LIGHT) if "spread" in colour_title else SEQUENTIAL
        values = colour.reindex(shown.index)
        bar = {
            "title": {"text": colour_title, "side": "top"},
            "orientation": "h",
            "x": 0.5,
            "y": 1.01,
            "yanchor": "bottom",
            "nticks": 5,
            "thickness": 10,
            "len": 0.6,
            "outlinewidth": 0,
        }
        trace = _marks(
            shown,
            "",
            size=size,
            opacity=0.9,
            color=values.to_numpy(np.float32),
            colorscale=list(scale_colours),
            colorbar=bar,
            showscale=True,
            line={"width": 0.5, "color": palette(dark)["line"]},
        )
        figure.add_trace(trace.update(name="rated", hovertemplate=hover)).update_layout(margin_t=70, height=height + 40)
    else:
        _add_categories(figure, shown, colour.reindex(shown.index).astype(str), size, dark, hover)
    if selected is not None:
        add_selected(figure, shown[shown["track_id"] == selected], "", dark)
    return figure


def _add_categories(
    figure: go.Figure, table: pd.DataFrame, names: pd.Series, size: int, dark: bool, hover: str
) -> None:
    levels = sorted(names.unique())
    for i, level in enumerate(levels):
        colour = SEQUENTIAL[round(i * (len(SEQUENTIAL) - 1) / max(1, len(levels) - 1))]
        symbol = ("circle", "square", "diamond", "triangle-up", "cross")[i % 5]
        marks = _marks(
            table[names == level],
            "",
            size=size,
            opacity=0.9,
            color=colour,
            symbol=symbol,
            line={"width": 0.5, "color": palette(dark)["line"]},
        )
        figure.add_trace(marks.update(name=level, hovertemplate=hover))
    figure.update_layout(showlegend=True, margin_t=34)


def _over(figure: go.Figure) -> type:
    """Kind of scatter that lies over what the figure holds: WebGL marks are drawn over all SVG ones."""
    return go.Scattergl if any(trace.type == "scattergl" for trace in figure.data) else go.Scatter


def add_selected(figure: go.Figure, row: pd.DataFrame, prefix: str, dark: bool) -> None:
    """Mark one track with a large ring in the ink colour."""
    if row.empty:
        return
    figure.add_trace(
        _over(figure)(
            x=row[f"valence{prefix}"],
            y=row[f"arousal{prefix}"],
            mode="markers",
            hoverinfo="skip",
            showlegend=False,
            marker={"size": 20, "color": HOLLOW, "line": {"color": palette(dark)["ink"], "width": 3}},
        )
    )


def predictions_plane(
    table: pd.DataFrame,
    scale: tuple[float, float],
    dark: bool,
    selected: str | None = None,
    height: int = 560,
    joint: Mapping | None = None,
) -> go.Figure:
    """Rated (ring) and predicted (dot) positions of many tracks, joined by thin lines where there are few enough.

    table : columns track_id, label, valence, arousal, valence_predicted, arousal_predicted
    joint : see `add_pair`
    """
    colours = palette(dark)
    figure = blank_plane(scale, dark, height)
    shown = table.dropna(subset=["valence", "arousal", "valence_predicted", "arousal_predicted"])
    many = len(shown) > LINES_UP_TO
    joined = shown[shown["track_id"] == selected] if many else shown
    figure.add_trace(_joining_lines(joined, colours["line"]))
    hover = "%{text}<br>%{fullData.name}: valence %{x:.2f}, arousal %{y:.2f}<extra></extra>"
    size = 6 if many else 9
    rings = _marks(
        shown,
        "",
        size=size,
        opacity=0.35 if many else 0.9,
        color=HOLLOW,
        line={"color": colours["point"], "width": 1 if many else 1.5},
    )
    dots = _marks(shown, "_predicted", size=size - 1, opacity=0.75 if many else 0.9, color=colours["point"])
    figure.add_trace(rings.update(name="rated by listeners", hovertemplate=hover))
    figure.add_trace(dots.update(name="predicted", hovertemplate=hover))
    row = shown[shown["track_id"] == selected]
    if not row.empty:
        add_pair(figure, row.iloc[0], scale, dark, joint=joint)
    figure.update_layout(showlegend=True, margin_t=34)
    return figure


def _joining_lines(table: pd.DataFrame, colour: str) -> go.Scatter:
    gap = np.full(len(table), np.nan)
    x = np.column_stack([table["valence"], table["valence_predicted"], gap]).ravel()
    y = np.column_stack([table["arousal"], table["arousal_predicted"], gap]).ravel()
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": colour, "width": 1}, hoverinfo="skip", showlegend=False, opacity=0.6
    )


def add_pair(
    figure: go.Figure,
    row: Mapping,
    scale: tuple[float, float],
    dark: bool,
    labels: bool = False,
    joint: Mapping | None = None,
) -> None:
    """One track large: ring where it was rated, dot where it is predicted, line between, ellipse of a known interval.

    row : valence, arousal, valence_predicted, arousal_predicted and optionally `<target>_lower`, `<target>_upper`
    joint : covariance (2, 2) and radius of the ellipse that holds both ratings together; without it, the ellipse in
        the box of the two intervals is drawn
    """
    colours = palette(dark)
    bounds = [row.get(f"{t}_{side}") for t in ("valence", "arousal") for side in ("lower", "upper")]
    if joint is not None and joint.get("radius") is not None:
        figure.add_trace(_interval(*_joint_ellipse(row, joint), scale, colours["ink"]))
    elif all(value is not None and np.isfinite(value) for value in bounds):
        figure.add_trace(_interval(*_box_ellipse(row), scale, colours["ink"]))
    pair = {"x": [row["valence"], row["valence_predicted"]], "y": [row["arousal"], row["arousal_predicted"]]}
    figure.add_trace(
        go.Scatter(
            **pair, mode="lines", line={"color": colours["ink"], "width": 1.5}, hoverinfo="skip", showlegend=False
        )
    )
    for i, (name, fill) in enumerate((("rated", HOLLOW), ("predicted", colours["ink"]))):
        figure.add_trace(
            _over(figure)(
                x=[pair["x"][i]],
                y=[pair["y"][i]],
                mode="markers+text" if labels else "markers",
                showlegend=False,
                text=[name],
                textposition=_beside(pair, i, scale),
                textfont={"color": colours["ink"]},
                name=name,
                hovertemplate=f"{name}: valence %{{x:.2f}}, arousal %{{y:.2f}}<extra></extra>",
                marker={"size": 16, "color": fill, "line": {"color": colours["ink"], "width": 3}},
            )
        )


def _beside(pair: Mapping, i: int, scale: tuple[float, float]) -> str:
    """Where the label of one end of a pair goes: away from the other end, and inside the plane."""
    place = (pair["x"][i] - scale[0]) / (scale[1] - scale[0])
    side = "right" if place < 0.2 else "left" if place > 0.8 else "center"
    higher = pair["y"][i] > pair["y"][1 - i] or (pair["y"][i] == pair["y"][1 - i] and i == 0)
    return f"{'top' if higher else 'bottom'} {side}"


def _joint_ellipse(row: Mapping, joint: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """Border of the points at Mahalanobis distance `radius` from the prediction."""
    angle = np.linspace(0, 2 * np.pi, 73)
    values, axes = np.linalg.eigh(np.asarray(joint["covariance"], float))
    circle = np.stack([np.cos(angle), np.sin(angle)])
    border = joint["radius"] * (axes * np.sqrt(np.maximum(values, 0))) @ circle
    return row["valence_predicted"] + border[0], row["arousal_predicted"] + border[1]


def _box_ellipse(row: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """Border of the ellipse in the box of the two intervals (its centre need not be the prediction)."""
    angle = np.linspace(0, 2 * np.pi, 73)
    centre = [(row[f"{t}_lower"] + row[f"{t}_upper"]) / 2 for t in ("valence", "arousal")]
    radius = [(row[f"{t}_upper"] - row[f"{t}_lower"]) / 2 for t in ("valence", "arousal")]
    return centre[0] + radius[0] * np.cos(angle), centre[1] + radius[1] * np.sin(angle)


def _interval(x: np.ndarray, y: np.ndarray, scale: tuple[float, float], colour: str) -> go.Scatter:
    """The border of an interval, cut at the scale's ends."""
    return go.Scatter(
        x=np.clip(x, *scale),
        y=np.clip(y, *scale),
        mode="lines",
        fill="toself",
        fillcolor=translucent(colour, 0.08),
        line={"color": translucent(colour, 0.6), "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
        name="interval",
    )


def track_plane(
    row: Mapping,
    others: pd.DataFrame,
    scale: tuple[float, float],
    dark: bool,
    height: int = 420,
    joint: Mapping | None = None,
) -> go.Figure:
    """One track large on a faint cloud of the other tracks' rated positions (clickable: they carry their ids).

    others : columns track_id, label, valence, arousal; joint : see `add_pair`
    """
    colours = palette(dark)
    figure = blank_plane(scale, dark, height, small=True)
    shown = others.dropna(subset=["valence", "arousal"])
    cloud = _marks(shown, "", size=5, opacity=0.35, color=colours["line"])
    figure.add_trace(cloud.update(hovertemplate="%{text}<extra></extra>", showlegend=False))
    add_pair(figure, row, scale, dark, labels=True, joint=joint)
    return figure
