"""Which route is best: score against number of columns, differences from the choice, from data set to data set.

Conventions: a route is a set of features with a family of models. Colours are those of the target; the shape of a mark
says how the family can be explained. Intervals are 95 %.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mer_core.plots.style import SEQUENTIAL, empty, finish, palette, target_colour, translucent

SHAPES = {
    "linear": ("circle", "linear: weights can be read"),
    "tree": ("square", "trees: exact SHAP values"),
    "mixed": ("diamond", "mixture: exact SHAP values"),
    None: ("x", "no exact SHAP values"),
}
RINGED = {"chosen": "chosen", "interpretable": "easiest to understand"}


def columns_scatter(table: pd.DataFrame, target: str, metric: str, dark: bool, height: int = 420) -> go.Figure:
    """Score against the number of columns that a route uses (logarithmic), and the best that few columns reach.

    table : columns label, columns, value, low, high, explainer, chosen, interpretable
    """
    if table.empty:
        return empty("No route with a known number of columns.", dark)
    colour, colours, figure = target_colour(target, dark), palette(dark), go.Figure()
    order = table.sort_values(["columns", "value"])
    figure.add_trace(
        go.Scatter(
            x=order["columns"],
            y=order["value"].cummax(),
            mode="lines",
            name="best with at most so many",
            hoverinfo="skip",
            line={"shape": "hv", "color": colours["line"], "width": 1.5, "dash": "dot"},
        )
    )
    for explainer, (symbol, words) in SHAPES.items():
        rows = table[table["explainer"].isna() if explainer is None else table["explainer"] == explainer]
        if rows.empty:
            continue
        figure.add_trace(
            go.Scatter(
                x=rows["columns"],
                y=rows["value"],
                mode="markers",
                name=words,
                customdata=np.column_stack([rows["label"], rows["low"].map(_two), rows["high"].map(_two)]),
                hovertemplate="%{customdata[0]}<br>%{x} columns<br>"
                + f"{metric} "
                + "%{y:.2f} (%{customdata[1]} to %{customdata[2]})<extra></extra>",
                marker={"size": 9, "symbol": symbol, "color": translucent(colour, 0.75)},
            )
        )
    _ring(figure, table, colours["ink"])
    finish(figure, dark, height, legend=True)
    figure.update_xaxes(
        title_text="Columns or components that the model uses", type="log", tickvals=_ticks(table["columns"])
    )
    figure.update_yaxes(title_text=f"{metric} of {target}")
    return figure


def _ticks(columns: pd.Series) -> list[int]:
    """Round numbers over the range of a logarithmic axis, a few of them."""
    decades = [10**power for power in range(7)]
    fine = sorted(step * decade for decade in decades for step in (1, 2, 5))
    inside = [tick for tick in fine if columns.min() * 0.8 <= tick <= columns.max() * 1.25]
    return inside if len(inside) <= 7 else [tick for tick in inside if tick in decades]


def _ring(figure: go.Figure, table: pd.DataFrame, ink: str) -> None:
    """Circle and name the choice and the route that is easiest to understand."""
    for position, (column, words) in enumerate(RINGED.items()):
        for row in table[table[column].astype(bool)].itertuples():
            figure.add_trace(
                go.Scatter(
                    x=[row.columns],
                    y=[row.value],
                    mode="markers+text",
                    text=[words],
                    textposition=("top center", "bottom center")[position],
                    textfont={"color": ink, "size": 12},
                    hoverinfo="skip",
                    showlegend=False,
                    cliponaxis=False,
                    marker={"size": 17, "color": "rgba(0,0,0,0)", "line": {"color": ink, "width": 1.5}},
                )
            )


def difference_forest(table: pd.DataFrame, target: str, dark: bool) -> go.Figure:
    """Difference of each route from the reference, with its interval; hollow where the interval holds zero.

    table : columns label, difference, low, high; the first row is drawn on top
    """
    if table.empty:
        return empty("No other route was scored on the same tracks.", dark)
    colour, colours = target_colour(target, dark), palette(dark)
    apart = (table["low"] > 0) | (table["high"] < 0)
    y = np.arange(len(table))[::-1]
    figure = go.Figure(
        go.Scatter(
            x=table["difference"],
            y=y,
            mode="markers",
            customdata=np.column_stack([table["label"], table["low"].map(_signed), table["high"].map(_signed)]),
            hovertemplate="%{customdata[0]}<br>%{x:+.3f} (%{customdata[1]} to %{customdata[2]})<extra></extra>",
            error_x={
                "type": "data",
                "symmetric": False,
                "array": (table["high"] - table["difference"]).fillna(0),
                "arrayminus": (table["difference"] - table["low"]).fillna(0),
                "thickness": 1.5,
                "width": 4,
                "color": colour,
            },
            marker={
                "size": 10,
                "color": np.where(apart, colour, "rgba(0,0,0,0)"),
                "line": {"color": colour, "width": 2},
            },
        )
    )
    finish(figure, dark, 90 + 30 * max(2, len(table)))
    figure.add_vline(x=0, line={"color": colours["ink"], "width": 1.5})
    figure.update_yaxes(tickvals=list(y), ticktext=list(table["label"]), range=[-0.6, len(table) - 0.4], zeroline=False)
    figure.update_xaxes(title_text=f"Difference in R² of {target}", zeroline=False)
    return figure


def transfer_heat(table: pd.DataFrame, metric: str, dark: bool) -> go.Figure:
    """Learned on (rows) against tested on (columns).

    table : columns train, test, value, low, high, same (held-out folds of the dataset itself), shared, n
    """
    if table.empty:
        return empty("Nothing has been learned on one data set and tested on another yet.", dark)
    names = sorted(set(table["train"]) | set(table["test"]))
    cells = table.set_index(["train", "test"])
    grid = [[cells["value"].get((a, b), np.nan) for b in names] for a in names]
    figure = go.Figure(
        go.Heatmap(
            x=names,
            y=names,
            z=np.clip(np.array(grid, dtype=float), 0, 1),
            zmin=0,
            zmax=1,
            colorscale=[[i / (len(SEQUENTIAL) - 1), c] for i, c in enumerate(SEQUENTIAL)],
            showscale=False,
            xgap=3,
            ygap=3,
            hoverinfo="skip",
        )
    )
    for a in names:
        for b in names:
            figure.add_annotation(x=b, y=a, showarrow=False, **_cell_words(cells, a, b, palette(dark)["ink"]))
    finish(figure, dark, 130 + 92 * len(names))
    figure.update_xaxes(title_text=f"tested on ({metric})", showgrid=False, side="bottom", type="category")
    figure.update_yaxes(title_text="learned on", showgrid=False, autorange="reversed", type="category")
    return figure


def _cell_words(cells: pd.DataFrame, a: str, b: str, ink: str) -> dict:
    """Text of one cell and its colour: light on dark cells, dark on bright ones."""
    if (a, b) not in cells.index:
        return {"text": "not tried", "font": {"color": ink, "size": 12}}
    row = cells.loc[(a, b)]
    lines = [f"<b>{_two(row['value'])}</b>", f"{_two(row['low'])} to {_two(row['high'])}"]
    lines += ["own folds held out"] if row["same"] else []
    return {"text": "<br>".join(lines), "font": {"color": "#10131A" if row["value"] > 0.45 else "#FFFFFF", "size": 12}}


def _two(value: float) -> str:
    return "unknown" if value is None or np.isnan(value) else f"{value:.2f}".replace("-", "−")


def _signed(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{value:+.3f}".replace("-", "−")
