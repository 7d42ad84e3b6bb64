"""Mid-level qualities of a performance, computed from its notes: the truth for models that go through such qualities.

The first seven follow the questions of Aljanaki & Soleymani (2018), "A data-driven approach to mid-level perceptual
musical feature modeling", ISMIR (melodiousness, articulation, rhythmic complexity and stability, dissonance, tonal
stability, minorness); density, register and loudness complete what the cues of the experiment change. These are our
definitions on notes, not listeners' answers.

Conventions
-----------
Times in s, pitches as MIDI numbers. Every quality grows with its name.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from mer_core.datasets.demo.performance import Performance

QUALITIES = {
    "melodiousness": "share of the melody's steps that are no larger than a whole tone",
    "articulation": "staccato-ness: share of the time to the next note of the same voice that is silent",
    "rhythmic_complexity": "entropy in bits of the intervals between onsets, in twelfths of a beat",
    "rhythmic_stability": "share of the beats that carry an onset, times how close they are to 100 a minute (0-1)",
    "dissonance": "sensory roughness of the notes that sound together, mean over time",
    "tonal_stability": "how well the pitch classes fit the best of the 24 keys (correlation)",
    "minorness": "how much better they fit the best minor than the best major key (difference of correlations)",
    "rhythmic_density": "onsets per second",
    "register": "mean pitch, MIDI number",
}

SIMULTANEOUS_S = 0.035  # onsets closer than this are one onset
# Krumhansl & Kessler (1982), major and minor key profiles.
KEY_PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def mid_level(performance: Performance) -> dict[str, float]:
    """The qualities of QUALITIES, by name."""
    notes = performance.notes
    onsets = merged_onsets(notes["start"])
    fit = {mode: key_fit(notes, mode) for mode in KEY_PROFILES}
    return {
        "melodiousness": melodiousness(notes),
        "articulation": articulation(notes),
        "rhythmic_complexity": rhythmic_complexity(onsets, performance.beat_s),
        "rhythmic_stability": rhythmic_stability(onsets, performance.beat_s, performance.first_beat_s),
        "dissonance": dissonance(notes),
        "tonal_stability": max(fit.values()),
        "minorness": fit["minor"] - fit["major"],
        "rhythmic_density": len(onsets) / (notes["end"].max() - onsets[0]),
        "register": float(notes["pitch"].mean()),
    }


def merged_onsets(starts: np.ndarray) -> np.ndarray:
    """Onset times, simultaneous notes counted once."""
    starts = np.sort(starts)
    return starts[np.diff(starts, prepend=-np.inf) > SIMULTANEOUS_S]


def melodiousness(notes: np.ndarray) -> float:
    """Share of conjunct motion in the upper line of the first voice."""
    melody = np.sort(notes[notes["voice"] == 0], order=["start", "pitch"])
    last_of_chord = np.diff(melody["start"], append=np.inf) > SIMULTANEOUS_S  # the highest, as pitch breaks ties
    line = np.array([melody["pitch"][chord].max() for chord in np.split(np.arange(len(melody)), _ends(last_of_chord))])
    return float(np.mean(np.abs(np.diff(line)) <= 2))


def _ends(is_last: np.ndarray) -> np.ndarray:
    return np.flatnonzero(is_last)[:-1] + 1


def articulation(notes: np.ndarray) -> float:
    """Mean silent share of the time between a note and the next onset of its voice, 0 legato to 1."""
    silent = []
    for voice in np.unique(notes["voice"]):
        line = notes[notes["voice"] == voice]
        onsets = merged_onsets(line["start"])
        following = np.searchsorted(onsets, line["start"] + SIMULTANEOUS_S, side="right")
        inside = following < len(onsets)
        gap = onsets[following[inside]] - line["start"][inside]
        silent.append(1 - (line["end"] - line["start"])[inside] / gap)
    return float(np.concatenate(silent).clip(0, 1).mean())


def rhythmic_complexity(onsets: np.ndarray, beat_s: float) -> float:
    """Entropy in bits of the inter-onset intervals, rounded to twelfths of a beat."""
    intervals = np.round(np.diff(onsets) / beat_s * 12)
    share = np.unique(intervals, return_counts=True)[1] / len(intervals)
    return float(-(share * np.log2(share)).sum())


def rhythmic_stability(onsets: np.ndarray, beat_s: float, first_beat_s: float) -> float:
    """How easily one could march to it: the best of half, whole and double beats.

    Each is the share of beats with an onset times Parncutt's (1994) salience of that period, a bell curve around 0.6 s.
    """
    scores = []
    for period in (beat_s / 2, beat_s, beat_s * 2):
        beats = np.arange(first_beat_s, onsets[-1] + 1e-6, period)
        hit = np.abs(beats[:, None] - onsets[None]).min(axis=1) < SIMULTANEOUS_S
        scores.append(hit.mean() * np.exp(-0.5 * (np.log10(period / 0.6) / 0.2) ** 2))
    return float(max(scores))


def dissonance(notes: np.ndarray) -> float:
    """Roughness summed over all pairs of sounding notes, averaged over the time in which any note sounds."""
    start, end, pitch = notes["start"], notes["end"], notes["pitch"]
    together = np.minimum(end[:, None], end) - np.maximum(start[:, None], start)
    first, second = np.nonzero(np.triu(together > 0, 1))
    rough = np.array(
        [roughness(*sorted(pair)) for pair in zip(pitch[first].tolist(), pitch[second].tolist(), strict=True)]
    )
    return float((rough * together[first, second]).sum() / _sounding_s(start, end))


def _sounding_s(start: np.ndarray, end: np.ndarray) -> float:
    order = np.argsort(start)
    reached = np.maximum.accumulate(end[order])
    return float((reached - np.maximum(start[order], np.concatenate([[-np.inf], reached[:-1]]))).clip(0).sum())


@cache
def roughness(low: int, high: int) -> float:
    """Sensory dissonance of two tones with six partials each (amplitudes 0.88^k), after Sethares (1993)."""
    partials = np.arange(1, 7)
    f1, f2 = (440 * 2 ** ((pitch - 69) / 12) * partials for pitch in (low, high))
    amplitude = np.outer(0.88**partials, 0.88**partials)
    lower, apart = np.minimum(f1[:, None], f2), np.abs(f1[:, None] - f2)
    x = 0.24 / (0.0207 * lower + 18.96) * apart
    return float((amplitude * (np.exp(-3.51 * x) - np.exp(-5.75 * x))).sum())


def key_fit(notes: np.ndarray, mode: str) -> float:
    """Best correlation of the time each pitch class sounds with the twelve key profiles of a mode."""
    heard = np.bincount(notes["pitch"] % 12, weights=notes["end"] - notes["start"], minlength=12)
    profiles = [np.roll(KEY_PROFILES[mode], tonic) for tonic in range(12)]
    return float(max(np.corrcoef(heard, profile)[0, 1] for profile in profiles))
