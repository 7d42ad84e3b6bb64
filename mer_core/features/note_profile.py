"""What the notes of a clip look like, as numbers from which qualities can be learned: steps, chords, keys, rhythm.

Where a proxy (`proxies`) is one published estimator of one quality, this is a description of some hundred columns:
histograms of the steps of the highest line, of the intervals that sound together, of the pitch classes seen from their
best key, of the times between onsets, the periods of the onset curve, gaps and levels. Notes and onsets are those of
`notes`; nothing here is fitted to any quality.
"""

from __future__ import annotations

import numpy as np

from mer_core.features.notes import HOP, LOWEST, NOTES, RATE, level, note_strengths, onset_times
from mer_core.features.proxies import PROFILES

VERSION = 1  # raise it with whatever changes a value
THRESHOLDS = (0.2, 0.35, 0.5)  # of a note's strength, from which it counts
STEPS = (0.5, 2.5, 4.5, 7.5, 12.5)  # semitones between which steps of the highest line are counted
INTERVALS = 13  # 0 (octaves) to 11 semitones, and wider than two octaves
PERIODS_S = 2.0 ** np.linspace(-3, 1.5, 28)  # 0.125 to 2.8 s
GAPS_DB = (4, 6, 8, 12, 16, 24)
RATIOS = np.linspace(-3, 3, 13)  # octaves from the median time between onsets
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
WIDTHS = (0.08, 0.15, 0.25, 0.4)  # octaves, of the kernels of entropies
PREFIX = "notes: "


def _families() -> dict[str, list[str]]:
    """Names of the columns by family."""
    line = [f"steps up to {edge:g}" for edge in STEPS]
    line += ["repeated notes", "mean step", "line spread", "line height", "steps rising", "turns"]
    chords = [f"interval {number}" for number in range(INTERVALS - 1)] + ["interval wide", "seconds low"]
    chords += ["voices", "voices spread", "height", "range", "changes"]
    key = [
        "fit major",
        "fit minor",
        "clarity",
        "lead",
        "mode",
        *(f"degree {degree}" for degree in range(12)),
        "evenness",
    ]
    rhythm = ["onsets", *(f"interval quantile {quantile:g}" for quantile in QUANTILES)]
    rhythm += [f"ratio {number}" for number in range(len(RATIOS) - 1)] + [f"entropy {width:g}" for width in WIDTHS]
    rhythm += [f"{name} {number}" for number in range(len(PERIODS_S)) for name in ("period", "beats", "pulse")]
    return {
        "melody": [f"{name} {threshold:g}" for threshold in THRESHOLDS for name in line],
        "chords": [f"{name} {threshold:g}" for threshold in THRESHOLDS for name in chords],
        "key": [*(f"{name} {threshold:g}" for threshold in (0.0, *THRESHOLDS) for name in key), "chroma kept"],
        "rhythm": [*rhythm, "alike", "march", "pulse"],
        "level": [*(f"gap {step}" for step in GAPS_DB), "falls", "rises", "level spread"],
    }


# column -> (family, plain words)
COLUMNS = {f"{PREFIX}{name}": (family, name) for family, names in _families().items() for name in names}


def note_profile(samples: np.ndarray) -> dict[str, float]:
    """Columns by name, all finite.

    samples : (n,) float, mono, at `notes.RATE`
    """
    steady, quick = note_strengths(samples), note_strengths(samples, bandwidth=8.0, decay=0.6)
    onsets, found = onset_times(samples), {}
    for threshold in THRESHOLDS:
        found |= {f"{name} {threshold:g}": value for name, value in _line(quick, onsets, threshold).items()}
        found |= {f"{name} {threshold:g}": value for name, value in _chords(quick > threshold).items()}
    found |= _key(steady)
    found |= _rhythm(samples, onsets, len(samples) / RATE)
    found |= _gaps(samples)
    return {f"{PREFIX}{name}": float(value) if np.isfinite(value) else 0.0 for name, value in found.items()}


def _line(strengths: np.ndarray, onsets: np.ndarray, threshold: float) -> dict[str, float]:
    """Steps of the highest note, between onsets and between frames in which it changes."""
    heard = strengths > threshold * np.maximum(strengths.max(axis=0), 0.3)
    edges = np.unique(np.append((onsets * RATE / HOP).astype(int), heard.shape[1]))
    tops = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        share = heard[:, start : start + max(1, min(stop - start, 12))].mean(axis=1)
        if (share >= 0.5).any():
            tops.append(int(np.flatnonzero(share >= 0.5)[-1]))
    steps = np.diff(tops) if len(tops) > 1 else np.zeros(0)
    moving = steps[steps != 0]
    found = {f"steps up to {edge:g}": share for edge, share in zip(STEPS, _below(np.abs(moving)), strict=True)}
    found |= {"repeated notes": np.mean(steps == 0) if len(steps) else 0.0}
    found |= {"mean step": np.abs(steps).mean() if len(steps) else 0.0}
    found |= {"line spread": np.std(tops) if tops else 0.0, "line height": np.mean(tops) if tops else 0.0}
    found |= {"steps rising": np.mean(moving > 0) if len(moving) else 0.0}
    turns = np.diff(np.sign(moving)) != 0 if len(moving) > 1 else np.zeros(1)
    return found | {"turns": np.mean(turns)}


def _below(values: np.ndarray) -> list[float]:
    return [float(np.mean(values <= edge)) if len(values) else 0.0 for edge in STEPS]


def _chords(sounding: np.ndarray) -> dict[str, float]:
    """Which intervals sound together, how many notes, how high and how much they change."""
    notes = sounding.astype(float)
    together = notes @ notes.T / max(sounding.any(axis=0).sum(), 1)
    apart = np.abs(np.subtract.outer(np.arange(NOTES), np.arange(NOTES)))
    upper = np.triu(np.ones_like(together), 1) > 0
    found = {f"interval {i}": together[upper & (apart % 12 == i) & (apart <= 24)].sum() for i in range(INTERVALS - 1)}
    found |= {"interval wide": together[upper & (apart > 24)].sum()}
    found |= {"seconds low": together[upper & (apart <= 2) & (np.arange(NOTES)[:, None] < 24)].sum()}
    times, count = notes.sum(axis=1), notes.sum(axis=0)
    height = (times * np.arange(NOTES)).sum() / max(times.sum(), 1)
    spread = np.sqrt((times * (np.arange(NOTES) - height) ** 2).sum() / max(times.sum(), 1))
    changes = np.abs(np.diff(notes, axis=1)).sum() / max(notes.shape[1], 1)
    return found | {
        "voices": count.mean(),
        "voices spread": count.std(),
        "height": height,
        "range": spread,
        "changes": changes,
    }


def _key(steady: np.ndarray) -> dict[str, float]:
    """Pitch classes seen from the best key of each mode, and how well keys fit."""
    found, classes = {}, (np.arange(NOTES) + LOWEST) % 12
    for threshold in (0.0, *THRESHOLDS):
        weights = (steady * (steady > threshold)).sum(axis=1) if threshold == 0 else (steady > threshold).sum(axis=1)
        chroma = np.bincount(classes, weights, minlength=12)
        fits = {mode: _fits(chroma, profile) for mode, profile in PROFILES.items()}
        ordered = np.sort(np.concatenate(list(fits.values())))[::-1]
        found |= {f"fit {mode} {threshold:g}": fit.max() for mode, fit in fits.items()}
        found |= {f"clarity {threshold:g}": ordered[0], f"lead {threshold:g}": ordered[0] - ordered[1]}
        found[f"mode {threshold:g}"] = fits["minor"].max() - fits["major"].max()
        share = chroma / max(chroma.sum(), 1e-9)
        tonic = int(np.argmax(np.maximum(fits["major"], fits["minor"])))
        found |= {f"degree {i} {threshold:g}": share[(tonic + i) % 12] for i in range(12)}
        found[f"evenness {threshold:g}"] = -(share * np.log2(share + 1e-12)).sum()
    halves = np.array_split(steady > 0.3, 3, axis=1)
    parts = [np.bincount(classes, half.sum(axis=1), minlength=12) for half in halves]
    pairs = [np.corrcoef(a, b)[0, 1] for a, b in zip(parts[:-1], parts[1:], strict=True) if np.ptp(a) and np.ptp(b)]
    return found | {"chroma kept": np.mean(pairs) if pairs else 0.0}


def _fits(chroma: np.ndarray, profile: tuple[float, ...]) -> np.ndarray:
    """(12,) correlation with the profile on each tonic."""
    if np.ptp(chroma) == 0:
        return np.zeros(12)
    return np.array([np.corrcoef(chroma, np.roll(profile, tonic))[0, 1] for tonic in range(12)])


def _rhythm(samples: np.ndarray, onsets: np.ndarray, seconds: float) -> dict[str, float]:
    """Times between onsets, as they are and against their median, and the periods in which onsets come back."""
    found = {"onsets": len(onsets) / seconds}
    gaps = np.diff(onsets) if len(onsets) > 2 else np.array([seconds, seconds])
    octaves = np.log2(gaps)
    for quantile in QUANTILES:
        found[f"interval quantile {quantile:g}"] = np.quantile(octaves, quantile)
    relative = octaves - np.median(octaves)
    counts = np.histogram(relative.clip(-3, 3), RATIOS)[0] / len(relative)
    found |= {f"ratio {i}": share for i, share in enumerate(counts)}
    for width in WIDTHS:
        density = np.exp(-0.5 * ((octaves[:, None] - octaves) / width) ** 2).mean(axis=1)
        found[f"entropy {width:g}"] = -np.log2(density).mean()
    pairs = np.exp(-0.5 * ((relative[1:, None] - relative[:-1]) / 0.25) ** 2) if len(relative) > 1 else np.zeros((1, 1))
    found["alike"] = np.diag(pairs).mean()
    apart = np.subtract.outer(onsets, onsets)
    apart = apart[apart > 0]
    total = max(len(onsets), 1)
    for number, period in enumerate(PERIODS_S):
        near = np.exp(-0.5 * ((apart - period) / (0.04 * period + 0.01)) ** 2).sum() / total
        multiples = sum(np.exp(-0.5 * ((apart - k * period) / 0.03) ** 2).sum() for k in (1, 2, 3, 4)) / (4 * total)
        found |= {
            f"period {number}": near,
            f"beats {number}": multiples * np.exp(-0.5 * (np.log10(period / 0.6) / 0.2) ** 2),
        }
        found[f"pulse {number}"] = multiples
    best = max(found[f"beats {number}"] for number in range(len(PERIODS_S)))
    return found | {"march": best, "pulse": max(found[f"pulse {number}"] for number in range(len(PERIODS_S)))}


def _gaps(samples: np.ndarray) -> dict[str, float]:
    """How much of the time the sound is below its loudest moment nearby, and how level moves."""
    from scipy.ndimage import maximum_filter1d

    decibels, per_second = level(samples)
    top = maximum_filter1d(decibels, int(2 * per_second))
    found = {f"gap {step}": (decibels < top - step).mean() for step in GAPS_DB}
    moves = np.diff(decibels)
    return found | {
        "falls": np.mean(moves.clip(max=0)),
        "rises": np.mean(moves.clip(min=0)),
        "level spread": decibels.std(),
    }
