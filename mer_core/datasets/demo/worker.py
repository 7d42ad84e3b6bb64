"""Renders one share of a corpus being built: `python -m mer_core.datasets.demo.worker FOLDER NUMBER COUNT`.

Prints `track_id loudness` for each clip, in LUFS.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

from mer_core.datasets.audio import write_flac
from mer_core.datasets.demo.render import RATE, render
from mer_core.datasets.demo.tables import notes_of


def render_share(folder: Path, number: int, count: int) -> None:
    """Render every `count`-th task of `tasks.json`, from `number` on, with the notes and lengths of the tables."""
    notes = dict(iter(pd.read_csv(folder / "notes.csv").groupby("track_id")))
    seconds = pd.read_csv(folder / "tracks.csv", index_col="track_id")["seconds"]
    for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8"))[number::count]:
        track = task["track_id"]
        sound, lufs = render(notes_of(notes[track]), seconds[track], task["timbre"], task["lufs"])
        write_flac(folder / "audio" / f"{track}.flac", sound, RATE)
        print(track, round(lufs, 3), flush=True)


if __name__ == "__main__":
    render_share(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
