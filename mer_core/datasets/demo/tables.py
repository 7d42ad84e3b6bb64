"""The tables of the demo corpus: what is played, what the simulated listeners answer, and why."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd

from mer_core.datasets.demo import design
from mer_core.datasets.demo.midlevel import mid_level
from mer_core.datasets.demo.performance import LOUDNESS_LUFS, NOTES, Performance, between, perform
from mer_core.datasets.demo.pieces import PIECES, Piece, read_score
from mer_core.datasets.demo.render import FAMILY_NAMES


def plan(seed: int) -> pd.DataFrame:
    """One row a clip: index track_id; columns `piece` (slug) and the level of every cue (int), in the order of CUES."""
    levels = design.cue_levels(len(PIECES), seed)
    table = pd.DataFrame(levels.reshape(-1, len(design.CUES)), columns=list(design.CUES))
    table.insert(0, "piece", [piece.slug for piece in PIECES for _ in range(design.CONDITIONS)])
    table.index = pd.Index([f"{slug}_{row % design.CONDITIONS + 1:02d}" for row, slug in table["piece"].items()])
    return table.rename_axis("track_id")


def tracks_table(
    clips: pd.DataFrame, performances: dict[str, Performance], seed: int, pieces: tuple[Piece, ...] = PIECES
) -> pd.DataFrame:
    """`tracks.csv` of the clips that were performed: ratings, cue levels in words, what a listener wants to know.

    A level between two is called by the nearer one.
    """
    ratings = _ratings(clips, seed)
    by_slug = {piece.slug: piece for piece in pieces}
    table = pd.DataFrame({"path": "audio/" + clips.index + ".flac"}, index=clips.index)
    for number, target in enumerate(design.TARGETS):
        table[target] = ratings.mean[:, number].round(4)
    table["group"] = clips["piece"]
    for number, target in enumerate(design.TARGETS):
        table[f"{target}_std"] = ratings.spread[:, number].round(4)
    table["title"] = [by_slug[slug].title for slug in clips["piece"]]
    table["composer"] = [by_slug[slug].composer for slug in clips["piece"]]
    table["licence"] = [_licence(by_slug[slug]) for slug in clips["piece"]]
    for cue in design.CUES:
        table[f"cue_{cue}"] = [design.LEVEL_NAMES[cue][round(level)] for level in clips[cue]]
    table["cue_timbre"] = [FAMILY_NAMES[family] for family in families(clips)]
    table = table.loc[list(performances)]
    table["seconds"] = [round(performance.seconds, 3) for performance in performances.values()]
    return table


def truth_table(
    clips: pd.DataFrame, performances: dict[str, Performance], loudness: dict[str, float], seed: int
) -> pd.DataFrame:
    """`truth.csv`: the planted causes.

    Columns `z_<cue>`; `<target>_<cue>`, what the cue adds to the rating; `<target>_noise_free`, the intercept plus
    these; `<target>_piece`, what the piece adds on top; `mid_<quality>`, see `midlevel`, and `mid_loudness` in LUFS.
    """
    z = design.z_scores(clips[list(design.CUES)].to_numpy())
    ratings = _ratings(clips, seed)
    columns = {f"z_{cue}": z[:, number] for number, cue in enumerate(design.CUES)}
    for number, target in enumerate(design.TARGETS):
        for cue_number, cue in enumerate(design.CUES):
            columns[f"{target}_{cue}"] = ratings.contributions[:, cue_number, number]
        columns[f"{target}_noise_free"] = design.INTERCEPT + ratings.contributions[:, :, number].sum(axis=1)
        columns[f"{target}_piece"] = ratings.piece[:, number]
    table = pd.DataFrame(columns, index=clips.index).loc[list(performances)]
    qualities = pd.DataFrame([mid_level(performance) for performance in performances.values()], index=table.index)
    table = table.join(qualities.add_prefix("mid_"))
    table["mid_loudness"] = [loudness[track] for track in table.index]
    return table.round(6)


def perform_all(
    clips: pd.DataFrame, seed: int, pieces: tuple[Piece, ...] = PIECES, seconds: float | None = None
) -> dict[str, Performance]:
    """Play every clip of `clips` (rows of `plan`); times are rounded to what `notes.csv` holds; see `perform`."""
    by_slug = {piece.slug: piece for piece in pieces}
    scores = {slug: read_score(by_slug[slug]) for slug in clips["piece"].unique()}
    performances = {}
    for track, row in clips.iterrows():
        rng = np.random.default_rng([seed, zlib.crc32(track.encode())])
        levels = {cue: row[cue] for cue in design.CUES}
        played = perform(by_slug[row["piece"]], scores[row["piece"]], levels, rng, seconds)
        for time in ("start", "end"):
            played.notes[time] = played.notes[time].round(4)
        performances[track] = played
    return performances


def notes_table(performances: dict[str, Performance]) -> pd.DataFrame:
    """`notes.csv`: every note as played (s, MIDI pitch, velocity, voice with 0 = melody), by track_id."""
    tables = [pd.DataFrame(played.notes) for played in performances.values()]
    return pd.concat(tables, keys=performances, names=["track_id", None]).droplevel(1)


def notes_of(table: pd.DataFrame) -> np.ndarray:
    """Rows of `notes_table` as a NOTES array."""
    notes = np.zeros(len(table), NOTES)
    for name in NOTES.names:
        notes[name] = table[name]
    return notes


def target_loudness(clips: pd.DataFrame) -> dict[str, float]:
    """LUFS at which each clip is to be rendered."""
    return {track: between(LOUDNESS_LUFS, level) for track, level in clips["dynamics"].items()}


def families(clips: pd.DataFrame) -> pd.Series:
    """The instruments of each clip, by their place in `render.FAMILIES`."""
    return clips["family"] if "family" in clips else clips["timbre"]


def _ratings(clips: pd.DataFrame, seed: int) -> design.Ratings:
    z = design.z_scores(clips[list(design.CUES)].to_numpy())
    return design.simulate_ratings(z, pd.factorize(clips["piece"])[0], seed)


def _licence(piece: Piece) -> str:
    return f"composition in the public domain (published {piece.published}); sound rendered by this project"
