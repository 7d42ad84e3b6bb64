"""Can probabilities be believed? What was said against what was found."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from mer_core.plots.style import finish, palette


def reliability_figure(table: pd.DataFrame, dark: bool) -> go.Figure:
    """Share of happy tracks against the probability that was given, one dot per tenth of the probabilities.

    table : columns said, found (0 to 1) and n, the number of tracks
    """
    colours = palette(dark)
    sizes = 6 + 26 * (table["n"] / table["n"].max()) ** 0.5
    diagonal = go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": colours["line"], "dash": "dot"})
    diagonal.update(hoverinfo="skip")
    dots = go.Scatter(
        x=table["said"],
        y=table["found"],
        mode="markers",
        marker={"size": sizes, "color": colours["point"]},
        customdata=table["n"],
        hovertemplate="said %{x:.0%}, found %{y:.0%} of %{customdata} tracks<extra></extra>",
    )
    figure = finish(go.Figure([diagonal, dots]), dark, 320)
    figure.update_xaxes(range=[-0.06, 1.06], tickformat=".0%", title_text="probability of happy that the model gave")
    figure.update_yaxes(range=[-0.06, 1.06], tickformat=".0%", title_text="share that was happy")
    return figure
