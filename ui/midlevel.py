"""What the Mid-level page takes from a run: qualities and effects of tracks, the map, and what-if."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from mer_core.runs import Run
from ui.tables import read_json

KINDS = {  # kind -> (short, for figures; badge; its colour; what it means)
    "human": ("rated by listeners", "rated qualities", "green", "Listeners compared excerpts by these questions."),
    "truth": (
        "planted",
        "planted qualities",
        "violet",
        "The music was composed by this program; its qualities are computed from the notes, and nobody has rated them.",
    ),
    "proxies": (
        "computed",
        "computed qualities",
        "orange",
        "Published estimators computed these from the sound. Nobody has rated them: read each as what its estimator "
        "measures.",
    ),
    "transferred": (
        "transferred",
        "transferred qualities",
        "orange",
        "A model that learned the planted qualities of composed music estimated these. Nobody has rated them.",
    ),
}


def kind_of(run: Run) -> tuple[str, str, str, str]:
    """Words for where the run's qualities come from."""
    return KINDS[run.about["midlevel"]["kind"]]


@st.cache_data(max_entries=8, show_spinner=False)
def _effects(folder: str, stamp: int) -> pd.DataFrame:
    table = pd.read_parquet(f"{folder}/effects.parquet")
    return table.assign(track_id=table["track_id"].astype(str))


def effects(run: Run) -> pd.DataFrame:
    """Columns track_id, quality, rating, z, weight, effect, of every track by the model that had not seen it."""
    return _effects(str(run.folder), (run.folder / "effects.parquet").stat().st_mtime_ns)


def told(run: Run) -> dict:
    """`midlevel.json`: kind, questions, maps and formulas."""
    return read_json(run, "midlevel.json")


def z_scores(run: Run, track: str) -> pd.Series:
    """Qualities of a track in standard deviations, index quality."""
    table = effects(run)
    return table[table["track_id"] == track].drop_duplicates("quality").set_index("quality")["z"]


def linear_map(run: Run, track: str) -> pd.DataFrame:
    """Weights (quality x rating) of the map that predicted this track, rating points per standard deviation."""
    rows = effects(run)
    return rows[rows["track_id"] == track].pivot(index="quality", columns="rating", values="weight")


def what_if(weights: pd.DataFrame, before: pd.Series, z: pd.Series, new: pd.Series) -> pd.Series:
    """Ratings when qualities `z` become `new`: the map is linear, so the change is weight times difference, exactly.

    weights : quality x rating; before : rating as predicted
    """
    change = weights.to_numpy().T @ (new.loc[weights.index] - z.loc[weights.index]).to_numpy()
    return before + pd.Series(change, weights.columns).loc[before.index]


def strongest(table: pd.DataFrame, rating: str) -> str:
    """A sentence on what moved a track's rating most; table : its rows of `effects`."""
    rows = table[table["rating"] == rating].sort_values("effect", key=np.abs, ascending=False)
    parts = []
    for row in rows.head(2).itertuples():
        level = "more" if row.z > 0 else "less"
        name, size = row.quality.replace("_", " "), f"{row.effect:+.2f}".replace("-", "−")
        parts.append(f"it has **{level} {name}** than the average track, which adds **{size}** to {rating}")
    return "; ".join(parts)[:1].upper() + "; ".join(parts)[1:] + "."
