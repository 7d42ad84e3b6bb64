"""Data sets by name or folder: `load("demo")`, `load("data/deam")`.

Layouts: `tracks` (a tracks.csv beside its audio), `deam` (DEAM as distributed), and the built-in `demo` and `composed`
corpora.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mer_core.datasets.dataset import VALENCE_AROUSAL, Dataset, LoadReport
from mer_core.datasets.deam import SONG_LEVEL, is_deam, load_deam
from mer_core.datasets.tracks import REQUIRED, load_tracks
from mer_core.errors import UserError
from mer_core.paths import artifacts_root

__all__ = ["LAYOUTS", "VALENCE_AROUSAL", "Dataset", "LoadReport", "load"]

Progress = Callable[[float, str], None]
BUILT_IN = ("demo", "composed")
LAYOUTS = ("auto", "deam", "tracks")
LABELS = ("corrected", "published")


def load(
    spec: str | Path, layout: str = "auto", labels: str = "corrected", progress: Progress | None = None
) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    spec : "demo" or "composed" for the built-in corpora, rendered at first use, or a folder ("./demo" where one has
        that name)
    layout : "deam" or "tracks"; "auto" detects it
    labels : "corrected" or "published", for DEAM; data sets without a known fault are loaded as given under either
    progress : called as progress(fraction in 0..1, message) while a built-in corpus is rendered

    Raises
    ------
    UserError
        where there is no such folder, its layout is none of these, or nothing in it can be used
    """
    for name, value, values in (("layout", layout, LAYOUTS), ("labels", labels, LABELS)):
        if value not in values:
            raise UserError(f"{name} {value!r} is unknown; use {' or '.join(values)}.")
    if spec in BUILT_IN:
        return _load_built_in(str(spec), progress)
    folder = Path(spec).expanduser()
    if not folder.is_dir():
        what = (
            "is a file; name the folder it lies in" if folder.exists() else 'does not exist; name a folder, or "demo"'
        )
        raise UserError(f"data set {str(spec)!r} {what}.")
    if layout == "auto":
        layout = _detect(folder)
    return load_deam(folder, labels) if layout == "deam" else load_tracks(folder)


def _load_built_in(name: str, progress: Progress | None) -> Dataset:
    corpora = importlib.import_module("mer_core.datasets.demo")
    folder = artifacts_root() / name
    build = corpora.build_demo if name == "demo" else corpora.build_composed
    build(folder, progress=progress)  # returns at once where this version is already there
    return replace(load_tracks(folder), name=name, layout=name, synthetic=True)


def _detect(folder: Path) -> str:
    if (folder / "tracks.csv").is_file():
        return "tracks"
    if is_deam(folder):
        return "deam"
    below = sorted(
        child for child in folder.iterdir() if child.is_dir() and ((child / "tracks.csv").is_file() or is_deam(child))
    )
    hint = f" Did you mean {below[0]}?" if below else ""
    raise UserError(
        f"{folder} has no known layout; expected tracks.csv (columns {', '.join(REQUIRED)}) or DEAM's "
        f"`{SONG_LEVEL}` or MEMD_audio in it.{hint}"
    )
