"""Tables of features that are computed from a clip as a whole: one row a file, cached by its content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core import compute
from mer_core.errors import UserError
from mer_core.features import cache, harmony, note_profile, proxies
from mer_core.features.llds import reason
from mer_core.features.notes import RATE

SHORTEST_S = 3.0

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class ClipFeatures:
    """A kind of such features.

    columns : (group, plain words) by column
    compute : samples (n,), mono at `notes.RATE` -> values by column, NaN where one is not defined
    version : raised with whatever changes a value; part of the cache's address
    """

    columns: dict[str, tuple[str, str]]
    compute: Callable[[np.ndarray], dict[str, float]]
    version: int


CLIP_FEATURES = {
    "proxies": ClipFeatures(
        {name: (name, f"{proxy.title.lower()}, computed ({proxy.unit})") for name, proxy in proxies.PROXIES.items()},
        proxies.proxies_of,
        proxies.VERSION,
    ),
    "harmony": ClipFeatures(
        {name: (name.split("_")[0] + "s", words) for name, words in harmony.COLUMNS.items()},
        harmony.harmony_of,
        harmony.VERSION,
    ),
    "notes": ClipFeatures(note_profile.COLUMNS, note_profile.note_profile, note_profile.VERSION),
}


def clip_table(
    name: str, paths: list, index: list[str], workers: int | None = None, progress: Progress | None = None
) -> tuple[pd.DataFrame, tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Features of files.

    Parameters
    ----------
    name : of CLIP_FEATURES
    paths : audio files, None where there is none
    index : what each is called

    Returns
    -------
    Table (index of the files that could be read) float64; (name, reason) of the others; notes
    """
    features = CLIP_FEATURES[name]

    def one(path: str | Path | None) -> tuple[np.ndarray, str | None]:
        if not isinstance(path, str | Path):
            raise UserError("There is no audio file; add it to the dataset.")
        version = f"{name} {features.version}"
        return cache.fetch(Path(path), version, tuple(features.columns), lambda: _extract(Path(path), features))

    tell = progress and (lambda fraction, message: progress(fraction, f"{name}: {message} tracks"))
    outcomes = compute.map_items(one, paths, workers, tell)
    named = list(zip(index, outcomes, strict=True))
    good = [(track, outcome.value) for track, outcome in named if outcome.error is None]
    failures = tuple((track, reason(outcome.error)) for track, outcome in named if outcome.error is not None)
    rows = np.array([values[0] for _, (values, _) in good], dtype=np.float64).reshape(-1, len(features.columns))
    table = pd.DataFrame(rows, pd.Index([track for track, _ in good], dtype=object), list(features.columns))
    notes = [damage for _, (_, damage) in good if damage]
    missing = table.isna().sum()
    notes += [
        f"{count} tracks have no {column}: too few notes begin." for column, count in missing[missing > 0].items()
    ]
    return table, failures, tuple(notes)


def clip_columns(name: str) -> pd.DataFrame:
    """What each column means, as `describe_columns` does for descriptors."""
    rows = [
        (column, column, "value", column, group, group, words)
        for column, (group, words) in CLIP_FEATURES[name].columns.items()
    ]
    names = ["column", "lld", "statistic", "descriptor", "group", "musical", "plain"]
    return pd.DataFrame(rows, columns=names, dtype=object).set_index("column")


def _extract(path: Path, features: ClipFeatures) -> np.ndarray:
    from mer_core.datasets.audio import check_audible, read_audio

    samples, _ = read_audio(path, rate=RATE)
    try:
        check_audible(samples)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if len(samples) < SHORTEST_S * RATE:
        seconds = len(samples) / RATE
        raise UserError(f"{path} is {seconds:.2f} s long, at least {SHORTEST_S:g} s are needed; use a longer excerpt")
    values = features.compute(samples)
    return np.array([[values[column] for column in features.columns]], dtype=np.float32)
