"""How a training went, as figures."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from mer_core.plots.style import finish, palette

MEASURES = {
    "score": "validation error, standard deviations",
    "loss": "training loss",
    "learning_rate": "learning rate of the head",
}


def epochs_in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with a column `at`: how many epochs the fold had seen, counted over the steps of its schedule."""
    rows = rows.sort_values(["phase", "fold", "step", "epoch"], kind="stable")
    return rows.assign(at=rows.groupby(["phase", "fold"]).cumcount() + 1)


def training_curves(rows: pd.DataFrame, measure: str, dark: bool) -> go.Figure:
    """One line a fold over its epochs; a dotted line where a step of the schedule begins.

    rows : columns phase, fold, step, epoch and the measure
    """
    colours, rows = palette(dark), epochs_in_order(rows)
    figure = go.Figure()
    names = list(dict.fromkeys(rows["fold"]))
    for number, fold in enumerate(names):
        own = rows[rows["fold"] == fold]
        name = f"fold {int(fold) + 1}" if str(fold).isdigit() else str(fold)
        line = {
            "color": colours["point"],
            "width": 2,
            "dash": ("solid", "dash", "dot", "dashdot", "longdash")[number % 5],
        }
        figure.add_scatter(
            x=own["at"],
            y=own[measure],
            mode="lines+markers",
            name=name,
            line=line,
            marker={"size": 4},
            customdata=own["step"] + 1,
            hovertemplate=f"{name}, step %{{customdata}}, epoch %{{x}}: %{{y:.3g}}<extra></extra>",
        )
    starts = rows[(rows["epoch"] == 0) & (rows["at"] > 1)]["at"].mode()
    for at in starts:
        figure.add_vline(x=at - 0.5, line={"color": colours["line"], "dash": "dot"})
    figure = finish(figure, dark, 360)
    figure.update_layout(showlegend=len(names) > 1)
    figure.update_xaxes(title_text="epochs", rangemode="tozero")
    figure.update_yaxes(title_text=MEASURES.get(measure, measure), type="log" if measure == "learning_rate" else None)
    return figure
