"""The note profile, on clips whose notes are known."""

from __future__ import annotations

import numpy as np
import pytest

from mer_core.features.clips import CLIP_FEATURES
from mer_core.features.note_profile import COLUMNS, note_profile
from mer_core.features.notes import RATE


def played(pitches, seconds: float = 0.4, chord=(), silent: float = 0.0) -> np.ndarray:
    """Notes one after the other, over held ones; each has six partials and fades, the end of it silent."""
    time_s = np.arange(int(seconds * RATE)) / RATE

    def tone(pitch, fading):
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        return sum(0.6**k * np.sin(2 * np.pi * hertz * (k + 1) * time_s) for k in range(6)) * np.exp(-fading * time_s)

    gate = time_s < seconds * (1 - silent)
    parts = [gate * (tone(pitch, 3) + 0.4 * sum(tone(low, 0) for low in chord)) for pitch in pitches]
    return np.concatenate(parts).astype(np.float32)


@pytest.fixture(scope="module")
def clips():
    up = [60, 62, 64, 65, 67, 69, 71, 72]
    return {
        "steps": note_profile(played([*up, *up[::-1]], chord=(48, 52, 55))),
        "leaps": note_profile(played([60, 72, 64, 76, 67, 79, 62, 74] * 2, chord=(48, 52, 55))),
        "minor": note_profile(played([60, 62, 63, 65, 67, 68, 70, 72] * 2, chord=(48, 51, 55))),
        "staccato": note_profile(played([*up, *up[::-1]], silent=0.6)),
    }


def value(clip: dict, name: str) -> float:
    return clip[f"notes: {name}"]


def test_every_column_is_described_and_has_a_value(clips):
    assert all(set(clip) == set(COLUMNS) for clip in clips.values())
    assert all(np.isfinite(list(clip.values())).all() for clip in clips.values())
    assert CLIP_FEATURES["notes"].columns is COLUMNS


def test_melody_key_rhythm_and_gaps_are_told(clips):
    assert value(clips["steps"], "steps up to 2.5 0.35") > value(clips["leaps"], "steps up to 2.5 0.35") + 0.4
    assert value(clips["minor"], "mode 0.35") > 0 > value(clips["steps"], "mode 0.35")
    assert value(clips["staccato"], "gap 12") > value(clips["steps"], "gap 12") + 0.3
    assert value(clips["steps"], "interval quantile 0.5") == pytest.approx(np.log2(0.4), abs=0.1)
    beats = {number: value(clips["steps"], f"period {number}") for number in range(28)}
    periods = 2.0 ** np.linspace(-3, 1.5, 28)
    assert min(abs(periods[max(beats, key=beats.get)] / 0.4 - k) for k in (1, 2)) < 0.1


def test_silence_between_notes_leaves_no_gap_in_the_numbers():
    quiet = note_profile(np.r_[played([60]), np.zeros(3 * RATE, np.float32)])
    assert np.isfinite(list(quiet.values())).all()
