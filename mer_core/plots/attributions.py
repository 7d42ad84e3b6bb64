"""SHAP values, drawn: importance bars, beeswarm, dependence, waterfall.

Conventions: values are in points of the rating scale. Evidence that raises a prediction is warm, evidence that
lowers it cool.
"""

from __future__ import annotations

from textwrap import wrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mer_core.plots.style import AGAINST_TO_FOR, finish, palette

LABEL_WIDTH = 38  # characters a line, so that labels leave room for what they label on a phone
LINE_PX = 15
MANY_COLOURED = 1000
SWARM_POINTS = 4000  # at most this many dots in a beeswarm: what can be told apart, and a small page


def _named(names: list[str], labels: dict[str, str], least: int) -> tuple[list[str], int]:
    """Plain words in short lines with the technical name below, and the height in px that one row needs."""
    texts = []
    for name in names:
        words = labels.get(name, name)
        lines = wrap(words, LABEL_WIDTH) or [words]
        if words not in (name, name.replace("_", " ")):
            lines.append(f"<span style='font-size:10px;opacity:.7'>{name}</span>")
        texts.append("<br>".join(lines))
    return texts, max(least, LINE_PX * max((text.count("<br>") + 1 for text in texts), default=1) + 8)


def importance_bars(table: pd.DataFrame, target: str, dark: bool, selected: str | None = None) -> go.Figure:
    """Mean absolute SHAP value per name, largest on top; custom data is the name.

    table : columns name, label, value, low, high (95 % interval; may be NaN)
    """
    colours = palette(dark)
    rows = table.iloc[::-1]
    texts, row_px = _named(list(rows["name"]), dict(zip(rows["name"], rows["label"], strict=True)), 34)
    bars = {
        "type": "data",
        "symmetric": False,
        "array": (rows["high"] - rows["value"]).fillna(0),
        "arrayminus": (rows["value"] - rows["low"]).fillna(0),
        "thickness": 1.2,
        "width": 3,
        "color": colours["ink"],
    }
    figure = go.Figure(
        go.Bar(
            x=rows["value"],
            y=rows["name"],
            text=rows["label"],
            textposition="none",
            orientation="h",
            customdata=rows["name"],
            error_x=bars,
            marker={"color": colours["point"], "opacity": np.where(rows["name"] == selected, 1.0, 0.6).tolist()},
            hovertemplate="%{text}<br>moves " + target + " by %{x:.3f} points on average<extra></extra>",
            unselected={"marker": {"opacity": 0.6}},
            selected={"marker": {"opacity": 1}},
        )
    )
    finish(figure, dark, 90 + row_px * max(3, len(rows)))
    figure.update_xaxes(
        title_text=f"Average size of the effect<br>on {target} (rating points)",
        rangemode="tozero",
        nticks=5,
        tickangle=0,
    )
    figure.update_yaxes(showgrid=False, type="category", tickvals=list(rows["name"]), ticktext=texts)
    return figure


def beeswarm(
    values: pd.DataFrame, features: pd.DataFrame | None, labels: dict[str, str], target: str, dark: bool
) -> go.Figure:
    """One dot a track and name: where it lies is the effect, its colour the value of the feature (cool low, warm high).

    values, features : index track_id, one column per name (most important first); features is None where a name sums
        several columns and so has no value of its own
    """
    names = list(values.columns)
    keep = values.sample(min(len(values), SWARM_POINTS // max(1, len(names))), random_state=0).index
    effects = values.loc[keep].to_numpy(float)
    heights = [len(names) - 1 - i + _swarm(effects[:, i]) for i in range(len(names))]
    marker = {"size": 5, "opacity": 0.75, "color": palette(dark)["point"]}
    if features is not None:
        rank = features.loc[keep, names].rank(pct=True).to_numpy(np.float32)
        marker |= {"color": rank.ravel("F"), "colorscale": AGAINST_TO_FOR[dark], "cmin": 0, "cmax": 1}
        marker |= {"showscale": True, "colorbar": _low_to_high()}
    figure = go.Figure(
        _scatter_of(effects.size)(
            x=effects.ravel("F").astype(np.float32),
            y=np.concatenate(heights).astype(np.float32),
            mode="markers",
            marker=marker,
            customdata=np.tile(keep.to_numpy(object), len(names)),
            hovertemplate="%{customdata}<br>effect %{x:+.3f}<extra></extra>",
        )
    )
    texts, row_px = _named(names, labels, 34)
    finish(figure, dark, 90 + row_px * max(3, len(names)))
    figure.add_vline(x=0, line={"color": palette(dark)["line"], "width": 1})
    figure.update_xaxes(
        title_text=f"Effect on predicted {target}<br>(rating points)", zeroline=False, nticks=5, tickangle=0
    )
    ticks = {"tickvals": list(range(len(names)))[::-1], "ticktext": texts}
    figure.update_yaxes(range=[-0.6, len(names) - 0.4], showgrid=False, zeroline=False, **ticks)
    return figure


def _scatter_of(points: int) -> type:
    """Kind of scatter: many dots with a colour each are drawn by WebGL, as SVG they make the page slow to answer."""
    return go.Scattergl if points > MANY_COLOURED else go.Scatter


def _low_to_high() -> dict:
    return {
        "tickvals": [0, 1],
        "ticktext": ["low", "high"],
        "title": {"text": "feature value", "side": "right"},
        "thickness": 10,
        "len": 0.6,
        "outlinewidth": 0,
    }


def _swarm(effect: np.ndarray, bins: int = 60, half: float = 0.38) -> np.ndarray:
    """Vertical offsets in [-half, half] that spread dots of similar effect apart, more where there are more of them."""
    span = np.ptp(effect) or 1.0
    place = np.floor((effect - effect.min()) / span * (bins - 1)).astype(int)
    counts = np.bincount(place, minlength=bins)
    offsets = np.zeros(len(effect), dtype=np.float32)
    for index in np.flatnonzero(counts > 1):
        members = np.flatnonzero(place == index)
        reach = half * counts[index] / counts.max()
        offsets[members] = np.linspace(-reach, reach, len(members))
    return offsets


def dependence(
    feature: pd.Series, effect: pd.Series, label: str, target: str, dark: bool, selected: str | None = None
) -> go.Figure:
    """Effect of one feature against its value, one dot a track; the line joins the medians of tenths of the tracks."""
    colours = palette(dark)
    x, y = feature.to_numpy(float), effect.to_numpy(float)
    bound = float(np.nanmax(np.abs(y))) or 1.0
    figure = go.Figure(
        _scatter_of(len(feature))(
            x=x.astype(np.float32),
            y=y.astype(np.float32),
            mode="markers",
            customdata=feature.index.to_numpy(object),
            hovertemplate="%{customdata}<br>value %{x:.4g}, effect %{y:+.3f}<extra></extra>",
            marker={
                "size": 6,
                "opacity": 0.8,
                "color": y,
                "colorscale": AGAINST_TO_FOR[dark],
                "cmin": -bound,
                "cmax": bound,
            },
        )
    )
    order = np.argsort(x)
    tenths = [part for part in np.array_split(order[np.isfinite(x[order])], 10) if len(part) >= 3]
    figure.add_trace(
        go.Scatter(
            x=[np.median(x[p]) for p in tenths],
            y=[np.median(y[p]) for p in tenths],
            mode="lines",
            hoverinfo="skip",
            line={"color": colours["ink"], "width": 2},
        )
    )
    if selected is not None and selected in feature.index:
        ring = {"size": 14, "color": "rgba(0,0,0,0)", "line": {"color": colours["ink"], "width": 2}}
        figure.add_trace(
            go.Scatter(x=[feature[selected]], y=[effect[selected]], mode="markers", hoverinfo="skip", marker=ring)
        )
    finish(figure, dark, 340)
    figure.add_hline(y=0, line={"color": colours["line"], "width": 1})
    figure.update_xaxes(title_text="<br>".join(line for part in label.split("<br>") for line in wrap(part, 52)))
    figure.update_yaxes(title_text=f"Effect on {target}<br>(rating points)", zeroline=False)
    return figure


def waterfall(
    parts: pd.Series,
    base: float,
    labels: dict[str, str],
    target: str,
    scale: tuple[float, float],
    dark: bool,
    top: int = 8,
) -> go.Figure:
    """From the average prediction to this one: the largest effects as steps, everything else as one.

    parts : signed effects by name, in rating points; base + parts.sum() is the prediction
    """
    colours = palette(dark)
    ordered = parts.reindex(parts.abs().sort_values(ascending=False).index)
    texts, row_px = _named(list(ordered.index[:top]), labels, 32)
    steps = list(zip(texts, ordered.iloc[:top].astype(float), strict=True))
    if len(ordered) > top:
        steps.append((f"all {len(ordered) - top} others", float(ordered.iloc[top:].sum())))
    levels = base + np.concatenate([[0.0], np.cumsum([value for _, value in steps])])
    rows = len(steps) + 2
    figure = go.Figure([_step(rows - 2 - i, levels[i], *step, colours) for i, step in enumerate(steps)])
    figure.add_trace(_end(rows - 1, levels[0], colours["ink"]))
    figure.add_trace(_end(0, levels[-1], colours["ink"]))
    line = {"color": colours["line"], "width": 1, "dash": "dot"}
    for i in range(rows - 1):
        figure.add_shape(
            type="line", x0=levels[i], x1=levels[i], y0=rows - 1 - i, y1=rows - 2 - i, layer="below", line=line
        )
    names = ["average prediction", *(label for label, _ in steps), "this clip's prediction"]
    finish(figure, dark, 90 + row_px * rows)
    reach = 0.3 * max(float(np.ptp(levels)), 0.02 * (scale[1] - scale[0]))
    figure.update_xaxes(
        title_text=f"{target.capitalize()} ({scale[0]:g}–{scale[1]:g})",
        range=[levels.min() - reach, levels.max() + reach],
        zeroline=False,
    )
    ticks = {"tickvals": list(range(rows))[::-1], "ticktext": names}
    figure.update_yaxes(range=[-0.6, rows - 0.4], showgrid=False, zeroline=False, **ticks)
    return figure


def _step(row: int, start: float, label: str, value: float, colours: dict[str, str]) -> go.Bar:
    """One effect of a waterfall, from where the last one ended."""
    return go.Bar(
        x=[value],
        base=[start],
        y=[row],
        orientation="h",
        width=0.62,
        text=[f"{value:+.2f}".replace("-", "−")],
        textposition="outside",
        cliponaxis=False,
        textfont={"color": colours["ink"]},
        marker={"color": colours["for" if value >= 0 else "against"]},
        hovertemplate=f"{label}<br>{value:+.3f} points<extra></extra>",
    )


def _end(row: int, value: float, ink: str) -> go.Scatter:
    """Where a waterfall starts or arrives, with its number."""
    return go.Scatter(
        x=[value],
        y=[row],
        mode="markers+text",
        text=[f" {value:.2f}"],
        textposition="middle right",
        hoverinfo="skip",
        textfont={"color": ink},
        marker={"size": 11, "color": ink},
    )
