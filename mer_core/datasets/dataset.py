"""What every loader returns: tracks, listeners' ratings, and a report of what was found and left out.

Conventions
-----------
Track ids are strings, unique within a dataset. Ratings are on the dataset's own scale, printed wherever a value is
shown. Valence always comes before arousal.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

VALENCE_AROUSAL = ("valence", "arousal")


@dataclass(frozen=True)
class LoadReport:
    """What loading found and what it left out.

    found : what there is, in words and counts, e.g. {"tracks": 239, "audio files": 239, "artists": 29}
    missing : parts of the layout that are not there, one sentence each
    skipped : (item, reason) for everything that was left out; nothing is dropped without a row here
    notes : corrections and inferences the user should know of, one sentence each (swapped labels, inferred scale)
    """

    found: dict[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Tracks with ratings, aligned on one index.

    name : short name for tables and run ids ("demo", or the folder's name)
    root : the folder that holds it
    layout : "demo", "deam" or "tracks"
    label_version : "corrected", "published" or "as given"
    scale : lowest and highest possible rating
    tracks : index track_id (str); columns `path` (absolute path as str, or None where there is no audio),
        `group` (artist, album or piece: kept apart by every split), `part` (subset by which scores are also reported),
        then any metadata columns
    ratings : same index; one float column per target, valence and arousal first; NaN where unrated
    spread : same index; rater standard deviation, a subset of the targets' columns (may have none)
    report : what was found and left out
    synthetic : True for the demo corpus (badged wherever it is shown)
    """

    name: str
    root: Path
    layout: str
    label_version: str
    scale: tuple[float, float]
    tracks: pd.DataFrame
    ratings: pd.DataFrame
    spread: pd.DataFrame
    report: LoadReport
    synthetic: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the rated qualities, valence and arousal first."""
        return tuple(self.ratings.columns)

    def fingerprint(self) -> str:
        """Sixteen hex digits that change when ids, groups, parts or ratings change (not with paths or metadata)."""
        digest = hashlib.sha256()
        for table in (self.tracks[["group", "part"]], self.ratings, self.spread):
            digest.update(",".join(table.columns).encode())
            digest.update(np.asarray(pd.util.hash_pandas_object(table, index=True)).tobytes())
        return digest.hexdigest()[:16]
