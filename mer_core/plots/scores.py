"""How good predictions are: leaderboard, true against predicted, residuals, error by region of the plane.

Conventions: errors are predicted minus rated, in points of the rating scale; intervals are 95 % unless said otherwise.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mer_core.plots.plane import MANY_POINTS, QUADRANT_WORDS
from mer_core.plots.style import finish, palette, target_colour, translucent


def leaderboard(table: pd.DataFrame, metric: str, dark: bool, best: float | None = None) -> go.Figure:
    """One row a run (and baseline), one dot with its interval per target.

    table : columns label, target, value, low, high, baseline (bool: drawn hollow); the first row is drawn on top
    best : the best possible value of this measure, drawn as a line (1 for R2 and correlations)
    """
    colours = palette(dark)
    labels = list(dict.fromkeys(table["label"]))
    targets = list(dict.fromkeys(table["target"]))
    figure = go.Figure()
    for i, target in enumerate(targets):
        rows = table[(table["target"] == target) & table["value"].notna()]
        shift = (i - (len(targets) - 1) / 2) * 0.22
        y = [len(labels) - 1 - labels.index(label) - shift for label in rows["label"]]
        colour = target_colour(target, dark)
        hollow = np.where(rows["baseline"], "rgba(0,0,0,0)", colour)
        bars = {
            "type": "data",
            "symmetric": False,
            "array": (rows["high"] - rows["value"]).fillna(0),
            "arrayminus": (rows["value"] - rows["low"]).fillna(0),
            "thickness": 1.5,
            "width": 4,
            "color": colour,
        }
        figure.add_trace(
            go.Scatter(
                x=rows["value"],
                y=y,
                mode="markers",
                name=target,
                error_x=bars,
                customdata=np.column_stack([rows["label"], rows["low"].map(_two), rows["high"].map(_two)]),
                hovertemplate="%{customdata[0]}<br>"
                + target
                + " %{x:.2f} (%{customdata[1]} to %{customdata[2]})<extra></extra>",
                marker={
                    "size": 11,
                    "color": hollow,
                    "line": {"color": colour, "width": 2},
                    "symbol": ("circle", "diamond", "square")[i % 3],
                },
            )
        )
    finish(figure, dark, 90 + 38 * max(2, len(labels)), legend=True)
    if best is not None:
        figure.add_vline(x=best, line={"color": colours["line"], "width": 1, "dash": "dot"})
    ticks = {"tickvals": [len(labels) - 1 - i for i in range(len(labels))], "ticktext": labels}
    figure.update_yaxes(range=[-0.6, len(labels) - 0.4], showgrid=True, **ticks)
    figure.update_xaxes(title_text=metric, zeroline=True)
    return figure


def _two(value: float) -> str:
    return "unknown" if value is None or np.isnan(value) else f"{value:.2f}"


def true_vs_predicted(
    table: pd.DataFrame,
    target: str,
    scale: tuple[float, float],
    dark: bool,
    selected: tuple[str, ...] = (),
    height: int = 460,
) -> go.Figure:
    """Predicted against rated, one dot a track, the diagonal where they agree, intervals of the selected tracks.

    table : columns track_id, label, true, predicted, lower, upper
    """
    colours = palette(dark)
    low, high = scale
    figure = finish(go.Figure(), dark, height)
    figure.add_shape(
        type="line", x0=low, y0=low, x1=high, y1=high, layer="below", line={"color": colours["line"], "width": 1}
    )
    trace = go.Scattergl if len(table) > MANY_POINTS else go.Scatter
    chosen = table["track_id"].isin(selected).to_numpy()
    figure.add_trace(
        trace(
            x=table["true"].to_numpy(np.float32),
            y=table["predicted"].to_numpy(np.float32),
            mode="markers",
            customdata=table["track_id"].to_numpy(object),
            text=table["label"].to_numpy(object),
            hovertemplate="%{text}<br>rated %{x:.2f}, predicted %{y:.2f}<extra></extra>",
            marker={"size": 8 if len(table) <= 400 else 5, "opacity": 0.7, "color": target_colour(target, dark)},
            unselected={"marker": {"opacity": 0.7}},
            selected={"marker": {"opacity": 1}},
        )
    )
    if chosen.any():
        _add_chosen(figure, table[chosen], colours["ink"], "true", "predicted")
    figure.update_xaxes(title_text=f"Rated {target} ({low:g}–{high:g})", range=_padded(scale))
    figure.update_yaxes(title_text=f"Predicted {target} ({low:g}–{high:g})", range=_padded(scale), scaleanchor="x")
    figure.update_xaxes(constrain="domain", nticks=9)
    figure.update_yaxes(constrain="domain", nticks=9)
    return figure


def _padded(scale: tuple[float, float]) -> list[float]:
    pad = 0.03 * (scale[1] - scale[0])
    return [scale[0] - pad, scale[1] + pad]


def _add_chosen(figure: go.Figure, rows: pd.DataFrame, ink: str, x: str, y: str) -> None:
    bars = {
        "type": "data",
        "symmetric": False,
        "array": rows["upper"] - rows["predicted"],
        "arrayminus": rows["predicted"] - rows["lower"],
        "color": ink,
        "thickness": 1.2,
        "width": 5,
    }
    figure.add_trace(
        go.Scatter(
            x=rows[x],
            y=rows[y],
            mode="markers",
            hoverinfo="skip",
            error_y=bars if y == "predicted" and rows["lower"].notna().all() else None,
            marker={"size": 13, "color": "rgba(0,0,0,0)", "line": {"color": ink, "width": 2}},
        )
    )


def residuals(table: pd.DataFrame, target: str, scale: tuple[float, float], dark: bool, height: int = 300) -> go.Figure:
    """Error against the rated value: a slope shows predictions that shrink towards the average."""
    figure = finish(go.Figure(), dark, height)
    trace = go.Scattergl if len(table) > MANY_POINTS else go.Scatter
    figure.add_trace(
        trace(
            x=table["true"].to_numpy(np.float32),
            y=(table["predicted"] - table["true"]).to_numpy(np.float32),
            mode="markers",
            text=table["label"].to_numpy(object),
            hovertemplate="%{text}<br>rated %{x:.2f}, error %{y:+.2f}<extra></extra>",
            marker={"size": 6, "opacity": 0.6, "color": target_colour(target, dark)},
        )
    )
    figure.add_hline(y=0, line={"color": palette(dark)["line"], "width": 1})
    figure.update_xaxes(title_text=f"Rated {target} ({scale[0]:g}–{scale[1]:g})", range=_padded(scale))
    figure.update_yaxes(title_text="Error (predicted − rated)", zeroline=False)
    return figure


def error_by_quadrant(table: pd.DataFrame, dark: bool, height: int = 300) -> go.Figure:
    """Mean absolute error and mean error per region of the plane, with the number of tracks.

    table : columns quadrant ("Q1".."Q4"), target, mae, low, high, n
    """
    figure = go.Figure()
    names = [q for q in QUADRANT_WORDS if q in set(table["quadrant"])]
    counts = table.groupby("quadrant")["n"].first()
    ticks = [f"{QUADRANT_WORDS[q]}<br>n = {counts[q]}" for q in names]
    targets = list(dict.fromkeys(table["target"]))
    for i, target in enumerate(targets):
        rows = table[table["target"] == target].set_index("quadrant").reindex(names)
        x = np.arange(len(names)) + (i - (len(targets) - 1) / 2) * 0.2
        bars = {
            "type": "data",
            "symmetric": False,
            "array": rows["high"] - rows["mae"],
            "arrayminus": rows["mae"] - rows["low"],
            "thickness": 1.5,
            "width": 4,
        }
        figure.add_trace(
            go.Scatter(
                x=x,
                y=rows["mae"],
                error_y=bars,
                mode="markers",
                name=target,
                customdata=rows[["low", "high"]].to_numpy(),
                hovertemplate=target + " %{y:.2f} (%{customdata[0]:.2f} to %{customdata[1]:.2f})<extra></extra>",
                marker={
                    "size": 11,
                    "color": target_colour(target, dark),
                    "symbol": ("circle", "diamond", "square")[i % 3],
                },
            )
        )
    finish(figure, dark, height, legend=True)
    figure.update_xaxes(
        tickvals=list(range(len(names))), ticktext=ticks, range=[-0.5, len(names) - 0.5], showgrid=False
    )
    figure.update_yaxes(title_text="Mean absolute error<br>(rating points)", rangemode="tozero")
    return figure


def label_histogram(values: pd.DataFrame, axis_title: str, dark: bool, height: int = 260) -> go.Figure:
    """Histogram per column, as overlaid steps in the colours of the targets."""
    figure = go.Figure()
    pooled = values.to_numpy(float).ravel()
    pooled = pooled[np.isfinite(pooled)]
    edges = np.linspace(pooled.min(), pooled.max() + 1e-9, 25) if len(pooled) else np.linspace(0, 1, 2)
    for target in values.columns:
        counts, _ = np.histogram(values[target].dropna(), bins=edges)
        colour = target_colour(target, dark)
        figure.add_trace(
            go.Scatter(
                x=edges,
                y=[*counts, counts[-1]],
                mode="lines",
                name=target,
                fill="tozeroy",
                fillcolor=translucent(colour, 0.15),
                line={"shape": "hv", "color": colour, "width": 2},
                hovertemplate="%{x:.2f}: %{y} tracks<extra></extra>",
            )
        )
    finish(figure, dark, height, legend=True)
    figure.update_xaxes(title_text=axis_title)
    figure.update_yaxes(title_text="Tracks", rangemode="tozero")
    return figure


def split_balance(
    table: pd.DataFrame, targets: list[str], scale: tuple[float, float], dark: bool, height: int = 300
) -> go.Figure:
    """Spread of the ratings in every fold, one box a target: balanced folds look alike.

    table : columns fold and one per target
    """
    figure = go.Figure()
    folds = table["fold"].astype(str)
    for target in targets:
        colour = target_colour(target, dark)
        figure.add_trace(
            go.Box(
                x=folds,
                y=table[target].to_numpy(np.float32),
                name=target,
                line={"color": colour, "width": 1.5},
                fillcolor=translucent(colour, 0.2),
                marker={"size": 3},
                boxpoints=False,
            )
        )
    finish(figure, dark, height, legend=True)
    counts = folds.value_counts()
    order = sorted(counts.index, key=lambda name: (len(name), name))
    figure.update_layout(boxmode="group")
    figure.update_xaxes(
        title_text="Fold (n tracks)",
        categoryorder="array",
        categoryarray=order,
        type="category",
        tickvals=order,
        ticktext=[f"{name}<br>n = {counts[name]}" for name in order],
    )
    figure.update_yaxes(title_text=f"Rating ({scale[0]:g}–{scale[1]:g})", range=_padded(scale))
    return figure
