"""What feature columns are and what a reduction leaves of them; how few columns are enough."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mer_core.plots.style import empty, finish, palette, target_colour, translucent

ENOUGH = 0.95
LONGEST_LABEL = 44  # characters
HUES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C7A00")


def group_bars(table: pd.DataFrame, dark: bool) -> go.Figure:
    """Columns of each perceptual group: kept, and dropped where a reduction dropped any.

    table : columns group, columns, kept (both counts)
    """
    rows, colours = table.iloc[::-1], palette(dark)
    names = [name.replace("_", " ") for name in rows["group"]]
    dropped = rows["columns"] - rows["kept"]
    figure = go.Figure()
    parts = [("kept", rows["kept"], colours["point"]), ("dropped", dropped, translucent(colours["point"], 0.25))]
    for name, values, colour in parts if dropped.any() else parts[:1]:
        hover = "%{y}: %{x} " + name + "<extra></extra>"
        text = [str(int(value)) if value else "" for value in values]
        figure.add_trace(
            go.Bar(x=values, y=names, orientation="h", name=name, marker_color=colour, hovertemplate=hover, text=text)
        )
    finish(figure, dark, 80 + 38 * len(rows), legend=bool(dropped.any()))
    figure.update_layout(barmode="stack")
    figure.update_traces(textposition="inside", insidetextanchor="end", textangle=0)
    figure.update_xaxes(title_text="columns")
    figure.update_yaxes(showgrid=False)
    return figure


def spectrum_lines(table: pd.DataFrame, dark: bool, height: int = 360) -> go.Figure:
    """Share of the variance that the first components explain together, a line per group, and the 95 % line.

    table : columns group, component (from 1), cumulative (0..1)
    """
    if table.empty:
        return empty("This run has no principal components.", dark)
    figure = go.Figure()
    for hue, (group, rows) in zip(HUES * 4, table.groupby("group", sort=False), strict=False):
        enough = int((rows["cumulative"] < ENOUGH).sum()) + 1
        figure.add_trace(
            go.Scatter(
                x=rows["component"],
                y=rows["cumulative"],
                name=f"{group.replace('_', ' ')}: {enough}",
                mode="lines",
                line={"color": hue, "width": 2},
                hovertemplate=group.replace("_", " ") + ": first %{x} explain %{y:.1%}<extra></extra>",
            )
        )
    figure.add_hline(y=ENOUGH, line={"dash": "dot", "color": palette(dark)["line"]}, annotation_text="95 %")
    finish(figure, dark, height, legend=True)
    figure.update_xaxes(title_text="components", type="log", dtick=1)
    figure.update_yaxes(title_text="variance explained", tickformat=".0%", range=[0, 1.02])
    return figure


def column_scatter(values: pd.Series, ratings: pd.Series, target: str, dark: bool) -> go.Figure:
    """A column against a rating, one dot a track; custom data is the track id. Both indexed by track_id."""
    shown = values.notna() & ratings.notna()
    figure = go.Figure(
        go.Scatter(
            x=values[shown],
            y=ratings[shown],
            mode="markers",
            customdata=values.index[shown].to_numpy(object),
            marker={"size": 7, "opacity": 0.75, "color": target_colour(target, dark)},
            hovertemplate="%{customdata}: %{x:.3g}, " + target + " %{y:.2f}<extra></extra>",
        )
    )
    finish(figure, dark, 320)
    figure.update_xaxes(title_text="value of the column")
    figure.update_yaxes(title_text=f"rated {target}")
    return figure


def size_curve(table: pd.DataFrame, chosen: dict[str, float], whole: float | None, dark: bool) -> go.Figure:
    """Error against the number of columns: mean and spread over folds, the choices, and all columns.

    table : columns columns (number), mean, low, high; chosen : rule -> mean number of columns; whole : error with all
    """
    colours = palette(dark)
    line = {"color": colours["for"], "width": 2}
    figure = go.Figure()
    band = {"x": [*table["columns"], *table["columns"][::-1]], "y": [*table["high"], *table["low"][::-1]]}
    fill = translucent(colours["for"], 0.15)
    figure.add_trace(
        go.Scatter(
            **band,
            mode="lines",
            fill="toself",
            fillcolor=fill,
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    hover = "%{x:.0f} columns: %{y:.3f}<extra></extra>"
    figure.add_trace(
        go.Scatter(
            x=table["columns"], y=table["mean"], mode="lines+markers", line=line, hovertemplate=hover, showlegend=False
        )
    )
    for place, (rule, columns) in enumerate(chosen.items()):
        figure.add_vline(
            x=columns,
            line={"dash": "dash", "color": colours["point"], "width": 1.5},
            annotation={"text": f"{rule}: {columns:.0f}", "y": 1 - 0.1 * place, "yanchor": "top", "xanchor": "right"},
        )
    if whole is not None:
        figure.add_hline(y=whole, line={"dash": "dot", "color": colours["ink"]}, annotation_text="all columns")
    finish(figure, dark, 380)
    figure.update_xaxes(title_text="columns used", range=[0, 1.05 * max([*table["columns"], *chosen.values()])])
    figure.update_yaxes(title_text="error on unseen groups (RMSE, mean over targets)")
    return figure


def selection_map(chosen: pd.DataFrame, labels: list[str], dark: bool) -> go.Figure:
    """Which columns each fold chose: rows columns, columns folds, values 0 or 1; labels say what each row measures."""
    colours = palette(dark)
    names = [f"{label}<br>{name}" for name, label in zip(chosen.index, labels, strict=True)][::-1]
    figure = go.Figure(
        go.Heatmap(
            z=chosen.to_numpy(float)[::-1],
            x=list(chosen.columns),
            y=list(range(len(chosen))),
            colorscale=[[0, colours["wash"]], [1, colours["for"]]],
            showscale=False,
            xgap=3,
            ygap=2,
            customdata=np.repeat(np.array(names, dtype=object)[:, None], chosen.shape[1], axis=1),
            hovertemplate="%{customdata}<br>fold %{x}: %{z:.0f}<extra></extra>",
        )
    )
    finish(figure, dark, 70 + 24 * len(chosen))
    figure.update_yaxes(
        tickvals=list(range(len(chosen))), ticktext=[_short(label) for label in labels[::-1]], showgrid=False
    )
    figure.update_xaxes(type="category", title_text="fold", side="top", showgrid=False)
    return figure


def validity_map(table: pd.DataFrame, dark: bool) -> go.Figure:
    """Correlation of each proxy (row) with its planted quality and with every rating (columns).

    table : columns proxy, against, n, r, low, high
    """
    colours, shown = palette(dark), table.iloc[::-1]
    rows, others = list(dict.fromkeys(shown["proxy"])), list(dict.fromkeys(table["against"]))
    grid = shown.pivot(index="proxy", columns="against", values="r").reindex(index=rows, columns=others)
    text = shown.assign(text=[f"{r.r:+.2f} [{r.low:+.2f}, {r.high:+.2f}], {r.n} tracks" for r in shown.itertuples()])
    hover = text.pivot(index="proxy", columns="against", values="text").reindex(index=rows, columns=others)
    figure = go.Figure(
        go.Heatmap(
            z=grid.to_numpy(float),
            x=[name.replace("_", " ") for name in others],
            y=[name.replace("_", " ") for name in rows],
            zmin=-1,
            zmax=1,
            colorscale=[[0, colours["against"]], [0.5, colours["wash"]], [1, colours["for"]]],
            showscale=False,
            xgap=2,
            ygap=2,
            text=grid.round(2).to_numpy(),
            texttemplate="%{text:+.2f}",
            textfont={"color": colours["ink"]},
            customdata=hover.to_numpy(object),
            hovertemplate="%{y} with %{x}: r %{customdata}<extra></extra>",
        )
    )
    finish(figure, dark, 80 + 36 * len(rows))
    figure.update_xaxes(side="top", showgrid=False)
    figure.update_yaxes(showgrid=False)
    return figure


def _short(label: str) -> str:
    """The whole label is in the hover text; on a telephone a long one would leave the map no room."""
    return textwrap.shorten(label, LONGEST_LABEL, placeholder=" …")
