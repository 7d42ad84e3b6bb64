"""Colours and layout that every figure shares.

Conventions: a colour means one thing wherever it appears (Okabe-Ito hues, lighter ones on a dark page). `dark` is True
on a dark page. Figures have a transparent background, so they sit on either page.
"""

from __future__ import annotations

import plotly.graph_objects as go

LIGHT = {
    "valence": "#009E73",
    "arousal": "#B0568C",
    "for": "#D55E00",
    "against": "#0072B2",
    "spread": "#767676",
    "point": "#4A5568",
    "line": "#A0A7B4",
    "ink": "#1F2430",
    "faint": "rgba(31,36,48,0.14)",
    "wash": "rgba(31,36,48,0.045)",
}
DARK = {
    "valence": "#2CC79A",
    "arousal": "#E19CC4",
    "for": "#FF8A3D",
    "against": "#56B4E9",
    "spread": "#A3A3A3",
    "point": "#B8C1D1",
    "line": "#6B7484",
    "ink": "#F2F4F8",
    "faint": "rgba(242,244,248,0.20)",
    "wash": "rgba(242,244,248,0.06)",
}
SEQUENTIAL = ("#3B528B", "#2A788E", "#22A884", "#7AD151", "#E3CF2A")
GREY_LIGHT = ("#D5D8DE", "#8C9099", "#1F2430")
GREY_DARK = ("#4A5160", "#9AA1AE", "#F2F4F8")
AGAINST_TO_FOR = {
    False: ((0.0, "#0072B2"), (0.5, "#AEB4BF"), (1.0, "#D55E00")),
    True: ((0.0, "#56B4E9"), (0.5, "#8A92A0"), (1.0, "#FF8A3D")),
}


def palette(dark: bool) -> dict[str, str]:
    """The named colours for a light or a dark page."""
    return DARK if dark else LIGHT


def target_colour(target: str, dark: bool) -> str:
    """Colour of a rated quality: valence and arousal have their own, the others share the ink."""
    colours = palette(dark)
    return colours.get(target, colours["ink"]) if target in ("valence", "arousal") else colours["point"]


def translucent(colour: str, alpha: float) -> str:
    """`#RRGGBB` as an rgba() string with opacity `alpha` in [0, 1]."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def finish(figure: go.Figure, dark: bool, height: int, legend: bool = False) -> go.Figure:
    """Apply the shared layout: fonts, margins, faint grid, legend above the plot."""
    colours = palette(dark)
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 30 if legend else 12, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": colours["ink"], "size": 13},
        hoverlabel={"align": "left"},
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "itemsizing": "constant", "title_text": ""},
        dragmode=False,
        bargap=0.25,
    )
    axis = {"automargin": True, "gridcolor": colours["faint"], "zerolinecolor": colours["faint"], "title_standoff": 8}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def empty(message: str, dark: bool, height: int = 160) -> go.Figure:
    """A figure that only says why there is nothing to draw."""
    figure = finish(go.Figure(), dark, height)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=message, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    return figure
