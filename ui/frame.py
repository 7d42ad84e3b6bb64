"""The frame of every page: title, question, menu, badges, footer, and how an expected failure looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from mer_core.errors import UserError
from mer_core.runs import Run
from ui.selection import current

PAGES = (
    ("app.py", "Overview", ":material/explore:"),
    ("pages/listening.py", "Listening", ":material/headphones:"),
    ("pages/dataset.py", "Dataset", ":material/library_music:"),
    ("pages/features.py", "Features", ":material/grid_view:"),
    ("pages/selection.py", "Selection", ":material/filter_alt:"),
    ("pages/models.py", "Models", ":material/target:"),
    ("pages/compare.py", "Compare", ":material/leaderboard:"),
    ("pages/importance.py", "Importance", ":material/bar_chart:"),
    ("pages/track.py", "Track", ":material/graphic_eq:"),
    ("pages/midlevel.py", "Mid-level", ":material/piano:"),
    ("pages/backbones.py", "Backbones", ":material/hearing:"),
    ("pages/training.py", "Training", ":material/show_chart:"),
    ("pages/runs.py", "Runs", ":material/play_circle:"),
)
FEW_TRACKS = 60
ICON = Path(__file__).with_name("icon.png")  # a local file: icon names are fetched from the internet
CSS = """<style>
[data-testid="stMainBlockContainer"] { max-width: 1280px; }
[data-testid="stPlotlyChart"] { overflow: hidden; }
@media (max-width: 640px) { [data-testid="stMainBlockContainer"] { padding-left: 1rem; padding-right: 1rem; } }
</style>"""


def frame(title: str, question: str) -> st.delta_generator.DeltaGenerator:
    """Draw menu, title and question; return the line under them where the badges go."""
    st.set_page_config(page_title=f"{title} · MER Explorer", page_icon=str(ICON), layout="wide")
    st.html(CSS)
    with st.sidebar:
        st.markdown("### MER Explorer")
        st.caption("Music emotion, explained and audible")
        for page, label, icon in PAGES:
            st.page_link(page, label=label, icon=icon, query_params=current())
    st.title(title)
    st.markdown(f"**{question}**")
    return st.container(horizontal=True, gap="small")


def dark() -> bool:
    """Whether the page is shown on a dark ground."""
    return st.context.theme.type == "dark"


def show_badges(place: st.delta_generator.DeltaGenerator, about: dict) -> None:
    """What a reader must know before believing a figure."""
    with place:
        for text, icon, colour, help in badges(about):
            st.badge(text, icon=icon, color=colour, help=help)


def badges(about: dict) -> list[tuple[str, str, str, str]]:
    """(text, icon, colour, explanation) of what limits a run's claims."""
    data, weights, found = about["dataset"], about.get("weights") or [], []
    if data["synthetic"]:
        text = (
            "The music was composed by this program and the ratings follow a formula plus noise: right for checking "
            "explanations, not evidence about listeners."
        )
        found.append(("synthetic data", ":material/science:", "violet", text))
    if any(each["source"] == "random" for each in weights):
        found.append(
            (
                "random weights",
                ":material/casino:",
                "red",
                "No pretrained weights were loaded: its numbers mean nothing yet.",
            )
        )
    if any(each.get("saw_dataset") for each in weights):
        found.append(
            (
                "saw this dataset",
                ":material/visibility:",
                "red",
                "The pretrained network learned from these tracks, so its scores are too good.",
            )
        )
    if about.get("leaks"):
        text = " ".join(leak["sentence"] for leak in about["leaks"]) + " So its scores are too good."
        found.append(("leaky protocol", ":material/water_drop:", "red", text))
    if data["label_version"] == "published":
        found.append(
            (
                "published labels",
                ":material/swap_horiz:",
                "orange",
                "DEAM's labels as published: valence and arousal are exchanged for song ids up to 1000.",
            )
        )
    features = about.get("features") or {}
    if notes := [*(features.get("notes") or ()), *(about.get("notes") or ())]:
        found.append(("notes", ":material/info:", "orange", " ".join(notes)))
    if data["n_tracks"] < FEW_TRACKS:
        found.append(
            (
                f"only {data['n_tracks']} tracks",
                ":material/scatter_plot:",
                "orange",
                "A small sample: intervals are wide and rankings unstable.",
            )
        )
    return found


def footer(run: Run) -> None:
    """Which run the figures are from."""
    about, low, high = run.about, *run.about["dataset"]["scale"]
    parts = [
        f"run {run.run_id}",
        f"dataset {about['dataset']['name']} ({about['dataset']['n_tracks']} tracks, "
        f"{about['dataset']['label_version']} labels, ratings {low:g}–{high:g})",
        f"protocol {about['protocol']}",
        f"split {str(about['split_digest'])[:12]}",
        f"started {about['started'][:16].replace('T', ' ')} UTC",
    ]
    st.divider()
    st.caption(" · ".join(parts))


def how_to_read(text: str) -> None:
    """Two or three plain sentences under a main figure."""
    st.caption(f"**How to read this.** {text}")


@contextmanager
def expected_failures() -> Iterator[None]:
    """Show a UserError in place of what it prevented; every other exception goes on."""
    try:
        yield
    except UserError as error:
        st.error(str(error), icon=":material/error:")
