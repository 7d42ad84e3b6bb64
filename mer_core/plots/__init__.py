"""Figures of plain data: functions from tables to plotly figures, with no Streamlit and no reading of files."""

from mer_core.plots.attributions import beeswarm, dependence, importance_bars, waterfall
from mer_core.plots.plane import QUADRANT_WORDS, predictions_plane, quadrant, ratings_plane, track_plane
from mer_core.plots.scores import (
    error_by_quadrant,
    label_histogram,
    leaderboard,
    residuals,
    split_balance,
    true_vs_predicted,
)
from mer_core.plots.style import empty

__all__ = [
    "QUADRANT_WORDS",
    "beeswarm",
    "dependence",
    "empty",
    "error_by_quadrant",
    "importance_bars",
    "label_histogram",
    "leaderboard",
    "predictions_plane",
    "quadrant",
    "ratings_plane",
    "residuals",
    "split_balance",
    "track_plane",
    "true_vs_predicted",
    "waterfall",
]
