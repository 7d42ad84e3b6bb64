"""Backbones: which pretrained networks listen here, what they learned from, and whether one may use them."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import streamlit as st

from mer_core.jobs import start_job
from mer_core.paths import REPOSITORY
from mer_core.plots.exploration import components_scatter
from ui.frame import dark, expected_failures, frame, how_to_read, show_badges
from ui.player import Clip, player
from ui.selection import choose_one, clicked
from ui.tables import choose_among, made_by, rated_tracks

COLOURS = ("valence", "arousal")


def main() -> None:
    """Draw the page."""
    place = frame("Backbones", "Which pretrained networks listen here, what did they learn from, and may one use them?")
    with expected_failures():
        listed()
    st.divider()
    st.subheader("How does a network order the music?")
    found = made_by(("embed",), "scores.parquet")
    if not found:
        nothing_yet()
        return
    run = choose_among(found, "embedding", "Runs of embed: what a network hears of each track.")
    if run is not None:
        show_badges(place, run.about)
        with expected_failures():
            scatter(run)


@st.cache_data(show_spinner="Looking for weights", ttl=600)
def registry() -> list[dict]:
    """All backbones as the command line tells them; asked in another process, which loads no network either."""
    command = [sys.executable, "-m", "pipelines", "backbones", "--json"]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return json.loads(told)


def listed() -> None:
    """The registry as a table."""
    rows = registry()
    here = [row for row in rows if row["loadable"]]
    st.markdown(
        f"**{len(here)} of {len(rows)}** can be opened here: their weights came with the installation or lie in the "
        "weights folder. Nothing is downloaded unless it is asked for."
    )
    table = pd.DataFrame(
        {
            "network": row["name"],
            "here": "yes" if row["loadable"] else "no",
            "licence": row["licence"],
            "what it is": row["title"],
            "learned": row["task"],
            "gives": f"{row['dims']} numbers" + (f", {row['tags']} tags" if row["tags"] else ""),
            "hears": f"{row['window_s']:.3g} s at {row['rate'] / 1000:g} kHz",
            "MB": row["size_mb"],
            "learned from": ", ".join(row["saw"]),
            "missing": row["problem"] or "",
            "source": row["source"],
        }
        for row in rows
    )
    st.dataframe(table, hide_index=True, key="registry", height=38 + 35 * min(len(table), 14))
    how_to_read(
        "A network that learned from a dataset has an unfair start on it: its scores there carry the badge “saw this "
        "dataset”. Licences are those of the weights; non-commercial ones say NC."
    )


def nothing_yet() -> None:
    """The one thing that makes embeddings."""
    st.write("No embeddings have been made yet. The network inside the installation needs about a minute for the demo.")
    if st.button("Let musicnn listen to the demo", type="primary", icon=":material/play_arrow:"):
        start_job("embed", {"dataset": "demo", "backbone": "musicnn-mtt"})
        st.switch_page("pages/runs.py")
    st.code("python -m pipelines embed --dataset demo --backbone musicnn-mtt", language="bash")


def scatter(run) -> None:
    """Tracks on two components of their embeddings, coloured by a rating; a click plays."""
    tracks = rated_tracks(run)
    if tracks is None:
        st.caption("No run on these tracks has ratings yet; train one to colour the picture.")
        return
    scores = run.table("scores")
    scores["track_id"] = scores["track_id"].astype(str)
    scores = scores[scores["track_id"].isin(tracks.index)].reset_index(drop=True)
    scores["label"] = tracks.loc[scores["track_id"], "label"].to_numpy()
    colours = {target: f"rated {target}" for target in COLOURS if target in tracks}
    by = choose_one("Colour", colours, "embedding-colour")
    spectrum = run.table("spectrum").set_index("component")["share"]
    st.plotly_chart(
        components_scatter(
            scores,
            {"PC1": spectrum[1], "PC2": spectrum[2]},
            tracks[by].reindex(scores["track_id"]).reset_index(drop=True),
            by,
            dark(),
        ),
        key="embedding-scatter",
        on_select="rerun",
        selection_mode="points",
        config={"displayModeBar": False},
        alt=f"Tracks ordered by what the network hears, coloured by rated {by}",
    )
    how_to_read(
        f"Tracks that sound alike to {run.about['features']['name']} lie close together; it has never been told a "
        "rating. If the colours still separate, what it hears goes with the emotion. Click a dot to hear it."
    )
    chosen = clicked(st.session_state.get("embedding-scatter"))[:1] or [scores["track_id"].iloc[0]]
    row = tracks.loc[chosen[0]]
    player([Clip(chosen[0], str(row["label"]), row["path"])], key="embedding")


main()
