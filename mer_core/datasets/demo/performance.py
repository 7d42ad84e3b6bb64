"""From a score and six cue levels to the notes as played: which pitch sounds from when to when, and how loud.

Conventions
-----------
Times in seconds from the start of the clip, pitches as MIDI numbers, velocities 1-127 (amplitude is proportional to
velocity in the synthesiser). Levels as in `design`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mer_core.datasets.demo.pieces import MAJOR_SCALE, MINOR_ALTER, Piece

NOTES = np.dtype([("start", "f8"), ("end", "f8"), ("pitch", "i4"), ("velocity", "i4"), ("voice", "i4")])

TEMPO_FACTOR = (0.54, 0.82, 1.22, 1.84)
REGISTER_PITCH = (55, 62, 69, 76)  # mean pitch of the melody, a fifth apart
LOUDNESS_LUFS = (-31.0, -26.0, -21.0, -16.0)
VELOCITY = (66, 78, 92, 106)
NOTE_RATIO = (1.0, 0.75, 0.5, 0.28)  # share of its written length for which a note sounds
LONGEST_NOTE_S = (np.inf, 2.0, 1.0, 0.45)  # a staccato stays one at any tempo

LOWEST_PITCH, HIGHEST_PITCH = 29, 98
LEAD_IN_S = 0.03
TAIL_S = 0.9  # for the last notes and the reverberation to fade
MUSIC_S = (10.6, 13.2)  # shortest and longest time until the last note ends


@dataclass(frozen=True)
class Performance:
    """One clip as played.

    notes : NOTES array, sorted by start
    seconds : length of the clip
    beat_s : length of a beat
    first_beat_s : time of a beat
    """

    notes: np.ndarray
    seconds: float
    beat_s: float
    first_beat_s: float


def perform(
    piece: Piece,
    score: np.ndarray,
    levels: dict[str, float],
    rng: np.random.Generator,
    seconds: float | None = None,
) -> Performance:
    """Play `score` (SCORE array) at the given levels, repeating the excerpt as often as its tempo asks for.

    levels : of each cue, between two where not whole; mode is 0 or 1
    seconds : length of the clip; when None, whole bars or beats of about twelve seconds
    """
    score = in_mode(score, piece.mode, ("minor", "major")[levels["mode"]])
    length = piece.end - piece.start
    quarter_s = moderate_quarter_s(score, length) / between(TEMPO_FACTOR, levels["tempo"])
    stop = _last_boundary(piece, quarter_s) if seconds is None else (seconds - LEAD_IN_S - TAIL_S) / quarter_s
    times = np.ceil(stop / length).astype(int)
    pitch = np.tile(pitches(score, between(REGISTER_PITCH, levels["register"])), times)
    score = np.concatenate([_shifted(score, repeat * length) for repeat in range(times)])
    inside = score["start"] < stop - 1e-6
    score, pitch = score[inside], pitch[inside]
    notes = np.zeros(len(score), NOTES)
    notes["pitch"], notes["voice"] = pitch, score["voice"]
    notes["velocity"] = _velocities(piece, score, between(VELOCITY, levels["dynamics"]), rng)
    written = np.minimum(score["length"], stop - score["start"]) * quarter_s
    ratio, longest = (between(values, levels["articulation"]) for values in (NOTE_RATIO, LONGEST_NOTE_S))
    notes["start"] = LEAD_IN_S + score["start"] * quarter_s + _timing(score["start"], rng)
    notes["end"] = notes["start"] + np.clip(written * ratio, 0.06, longest)
    notes = _without_collisions(notes[np.argsort(notes["start"], kind="stable")])
    first_beat = LEAD_IN_S + piece.downbeat % piece.beat * quarter_s
    return Performance(notes, LEAD_IN_S + stop * quarter_s + TAIL_S, piece.beat * quarter_s, first_beat)


def between(values: tuple[float, ...], level: float) -> float:
    """The value of a level; in proportion between two where it is not whole."""
    lower = int(level)
    share = level - lower
    return values[lower] if share == 0 else (1 - share) * values[lower] + share * values[lower + 1]


def in_mode(score: np.ndarray, original: str, target: str) -> np.ndarray:
    """The same music in major or minor: third, sixth and seventh degrees change, harmony and contour stay.

    To minor, the seventh stays raised where it leads (harmonic minor) and is lowered where the melody falls to the
    sixth; the sixth stays raised on its way up to a raised seventh (melodic minor). To major, all become natural.
    Secondary leading tones whose goal has been lowered are lowered with it.
    """
    score = score.copy()
    if original == target:
        return score
    degree, alter = score["degree"], score["alter"]
    if target == "major":
        score["alter"] = np.where(alter < 0, alter - MINOR_ALTER[degree], alter)
        return score
    score["alter"] = np.where(np.isin(degree, (1, 4)) & (alter == 1), 0, alter)
    score["alter"] += np.where(np.isin(degree, (2, 5)) & (alter == 0), -1, 0)
    for voice in np.unique(score["voice"]):
        _melodic_minor(score, np.flatnonzero(score["voice"] == voice))
    return _without_cross_relations(score)


def _melodic_minor(score: np.ndarray, line: np.ndarray) -> None:
    """Lower sevenths that fall to the sixth, keep sixths that rise to a raised seventh; `line`: indices of a voice."""
    step = score["octave"] * 7 + score["degree"]
    onsets = np.unique(score["start"][line])
    by_onset = [line[score["start"][line] == onset] for onset in onsets]
    for here, there in zip(by_onset[:-1][::-1], by_onset[1:][::-1], strict=True):
        for note in here:
            follows = set(step[there] - step[note])
            if score["degree"][note] == 6 and score["alter"][note] == 0 and -1 in follows:
                score["alter"][note] = -1
            leads = any(score["degree"][n] == 6 and score["alter"][n] == 0 for n in there)
            if score["degree"][note] == 5 and score["alter"][note] == -1 and 1 in follows and leads:
                score["alter"][note] = 0


def _without_cross_relations(score: np.ndarray) -> np.ndarray:
    """Where both forms of a sixth or seventh would sound together, the highest voice's form is taken by all."""
    end = score["start"] + score["length"]
    for upper in np.argsort(score["voice"], kind="stable"):
        if score["degree"][upper] not in (5, 6):
            continue
        together = (score["start"] < end[upper] - 1e-6) & (end > score["start"][upper] + 1e-6)
        clash = together & (score["degree"] == score["degree"][upper]) & (score["voice"] > score["voice"][upper])
        score["alter"][clash] = score["alter"][upper]
    return score


def moderate_quarter_s(score: np.ndarray, length: float) -> float:
    """Seconds per quarter note at a moderate tempo.

    Halfway (in logarithms) between one beat rate for all pieces and one note rate for all: a chorale in quarter notes
    and a rag in sixteenths then both sound like themselves.
    """
    onsets_per_quarter = len(np.unique(score["start"])) / length
    return np.sqrt(onsets_per_quarter) / 2.06


def pitches(score: np.ndarray, melody_mean: float) -> np.ndarray:
    """MIDI pitches (n,), transposed so that the melody's mean (weighted by length) is the nearest to `melody_mean`."""
    relative = 12 * score["octave"] + MAJOR_SCALE[score["degree"]] + score["alter"]
    melody = score["voice"] == 0
    shift = round(melody_mean - np.average(relative[melody], weights=score["length"][melody]))
    pitch = relative + shift
    # Far notes of wide scores move by an octave into what instruments can play and ears can tell apart.
    pitch += 12 * np.ceil((LOWEST_PITCH - pitch).clip(min=0) / 12).astype(int)
    return pitch - 12 * np.ceil((pitch - HIGHEST_PITCH).clip(min=0) / 12).astype(int)


def _shifted(score: np.ndarray, quarters: float) -> np.ndarray:
    later = score.copy()
    later["start"] += quarters
    return later


def _last_boundary(piece: Piece, quarter_s: float) -> float:
    """Where to stop, in quarter notes: after the last whole bar that fits, or whole beat when bars are long."""
    shortest, longest = (seconds / quarter_s for seconds in MUSIC_S)
    for unit in (piece.bar, piece.beat):
        stop = np.floor(longest / unit) * unit
        if stop >= shortest:
            return stop
    return longest


def _timing(starts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deviations from the beat in seconds: notes that belong together stay nearly together."""
    together, which = np.unique(starts, return_inverse=True)
    shared = rng.normal(0, 0.008, len(together)).clip(-0.016, 0.016)
    return shared[which] + rng.normal(0, 0.003, len(starts)).clip(-0.006, 0.006)


def _velocities(piece: Piece, score: np.ndarray, base: float, rng: np.random.Generator) -> np.ndarray:
    """Melody above accompaniment, downbeats a little stronger, an arch over every four bars, small irregularities."""
    place = score["start"] - piece.downbeat
    on_bar = np.isclose(place % piece.bar, 0, atol=1e-3) | np.isclose(place % piece.bar, piece.bar, atol=1e-3)
    arch = 1 + 0.08 * np.sin(np.pi * (score["start"] / (4 * piece.bar) % 1))
    part = np.where(score["voice"] == 0, 1.0, 0.64)
    velocity = base * part * arch * (1 + 0.06 * on_bar) + rng.normal(0, 3, len(score))
    return velocity.round().clip(20, 127).astype(int)


def _without_collisions(notes: np.ndarray) -> np.ndarray:
    """A note of the same voice and pitch ends a moment before the next one begins; a doubled note is kept once."""
    keep = np.ones(len(notes), bool)
    sounding: dict[tuple[int, int], int] = {}
    for index, note in enumerate(notes):
        key = (int(note["voice"]), int(note["pitch"]))
        before = sounding.get(key)
        if before is not None and note["start"] - notes["start"][before] < 0.04:
            notes["end"][before] = max(notes["end"][before], note["end"])
            keep[index] = False
            continue
        if before is not None:
            notes["end"][before] = min(notes["end"][before], note["start"] - 0.012)
        sounding[key] = index
    return notes[keep]
