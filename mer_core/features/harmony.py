"""Chroma and chords of a clip as numbers: what keys and chords it dwells on, whatever its tonic.

References
----------
T. Fujishima, "Realtime chord recognition of musical sound", ICMC 1999 (chords as templates on the chroma). C.
Krumhansl, Cognitive Foundations of Musical Pitch, 1990 (the tonic of the best key).
"""

from __future__ import annotations

import numpy as np

from mer_core.features.notes import HOP, LOWEST, NOTES, RATE, note_strengths
from mer_core.features.proxies import PROFILES, SOUNDS

VERSION = 1  # raise it with whatever changes a value
# Semitones above the root.
CHORDS = {"major": (0, 4, 7), "minor": (0, 3, 7), "diminished": (0, 3, 6), "augmented": (0, 4, 8), "sus4": (0, 5, 7)}
DEGREES = ("1", "b2", "2", "b3", "3", "4", "b5", "5", "b6", "6", "b7", "7")
SMOOTH_S = 0.5  # over which chords are heard

COLUMNS = {f"degree_{name}": f"share of the notes' time on degree {name} of the best key" for name in DEGREES}
COLUMNS |= {f"chord_{kind}": f"share of the time on {kind} chords" for kind in CHORDS}
COLUMNS |= {"chord_changes": "chord changes per second", "chord_fit": "how well chords fit the notes (correlation)"}


def harmony_of(samples: np.ndarray) -> dict[str, float]:
    """The columns of COLUMNS by name; shares sum to 1 over degrees and over chords. 0 throughout where no note sounds.

    samples : (n,) float, mono, at `notes.RATE`
    """
    sounding = (note_strengths(samples) > SOUNDS).astype(float)
    chroma = np.stack([sounding[(np.arange(NOTES) + LOWEST) % 12 == pitch].sum(axis=0) for pitch in range(12)])
    total = chroma.sum(axis=1)
    if not total.any():
        return dict.fromkeys(COLUMNS, 0.0)
    degrees = np.roll(total, -tonic_of(total)) / total.sum()
    kinds, roots, fit = chords_of(chroma)
    shares = np.bincount(kinds, minlength=len(CHORDS)) / len(kinds)
    chord = kinds * 12 + roots
    changes = np.count_nonzero(np.diff(chord)) / (chroma.shape[1] * HOP / RATE)
    return dict(zip(COLUMNS, [*degrees, *shares, changes, fit], strict=True))


def tonic_of(chroma: np.ndarray) -> int:
    """Pitch class, C = 0, of the key whose profile a chroma (12,) resembles most."""
    fits = {
        (mode, tonic): np.corrcoef(chroma, np.roll(profile, tonic))[0, 1]
        for mode, profile in PROFILES.items()
        for tonic in range(12)
    }
    return max(fits, key=fits.get)[1]


def chords_of(chroma: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Kind (number in CHORDS) and root of the chord of each frame that sounds, and the mean correlation with it.

    chroma : (12, frames) >= 0, smoothed here over SMOOTH_S
    """
    from scipy.ndimage import uniform_filter1d

    smooth = uniform_filter1d(chroma, max(1, round(SMOOTH_S * RATE / HOP)), axis=1)
    smooth = smooth[:, np.ptp(smooth, axis=0) > 0]
    templates = np.zeros((len(CHORDS) * 12, 12))
    for row in range(len(templates)):
        templates[row, [(row % 12 + step) % 12 for step in list(CHORDS.values())[row // 12]]] = 1
    fits = _unit(templates) @ _unit(smooth.T).T
    best = fits.argmax(axis=0)
    return best // 12, best % 12, float(fits.max(axis=0).mean()) if fits.size else 0.0


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows with mean 0 and norm 1."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)
