"""Which notes sound when, and when notes begin: what the harmonic and rhythmic proxies are computed from.

Conventions
-----------
Samples are mono float32 at RATE. Notes are numbered from LOWEST (C2, MIDI 36), NOTES of them.

References
----------
C. Brown, "Calculation of a constant Q spectral transform", JASA 89, 1991. C. Schörkhuber et al., "A Matlab toolbox for
efficient perfect reconstruction time-frequency transforms", AES 2014 (variable Q). M. Mauch & S. Dixon, "Approximate
note transcription for the improved identification of difficult chords", ISMIR 2010 (notes as non-negative combinations
of harmonic patterns). D. Lee & H. S. Seung, NIPS 2000 (multiplicative updates). S. Böck & G. Widmer, DAFx 2013 (onsets
from lagged differences of a log spectrum).
"""

from __future__ import annotations

import functools

import numpy as np

RATE = 22050  # Hz
LOWEST, NOTES = 36, 72  # MIDI number of the first; how many
HOP = 512  # samples between two frames of notes
_BINS = 3  # of the spectrum, for each note
_PARTIALS, _WIDTH, _UPDATES = 12, 0.8, 80  # of a pattern; bins; steps of the factorisation
_ONSET_HOP, _ONSET_WINDOW, _ONSET_LAG = 128, 1024, 3  # samples, samples, frames
_ONSET_STEP, _ONSET_WAIT = 0.1, 0.05  # height above the mean around it; s between two


def note_strengths(samples: np.ndarray, bandwidth: float = 0.0, decay: float = 0.8) -> np.ndarray:
    """How strongly each note sounds: (NOTES, frames), 1 where the loudest note of nine tenths of the frames is.

    Parameters
    ----------
    samples : (n,)
    bandwidth : Hz by which the filters are wider than those of constant Q: follows time better, pitch worse
    decay : amplitude of each partial of a note over that of the one below
    """
    import librosa

    spectrum = np.abs(
        librosa.vqt(
            samples,
            sr=RATE,
            hop_length=HOP,
            fmin=librosa.midi_to_hz(LOWEST),
            n_bins=NOTES * _BINS,
            bins_per_octave=12 * _BINS,
            gamma=bandwidth,
            tuning=librosa.estimate_tuning(y=samples, sr=RATE, bins_per_octave=12 * _BINS),
        )
    )
    patterns = _patterns(decay)
    overlap, heard = patterns.T @ patterns, patterns.T @ spectrum
    strengths = heard + 1e-9
    for _ in range(_UPDATES):
        strengths *= heard / (overlap @ strengths + 1e-9)
    return strengths / max(np.quantile(strengths.max(axis=0), 0.9), 1e-9)


@functools.cache
def _patterns(decay: float) -> np.ndarray:
    """Spectra of the notes (bins, NOTES), each of norm 1: partials whose amplitudes fall geometrically."""
    bins = np.arange(NOTES * _BINS)[:, None, None]
    partials = np.arange(1, _PARTIALS + 1)
    places = (np.arange(NOTES)[:, None] + 12 * np.log2(partials)) * _BINS
    bumps = np.exp(-0.5 * ((bins - places) / _WIDTH) ** 2)
    bumps[np.abs(bins - places) > 3] = 0
    patterns = bumps @ decay ** (partials - 1.0)
    return patterns / np.linalg.norm(patterns, axis=0)


def onset_times(samples: np.ndarray) -> np.ndarray:
    """When notes begin (k,), s, at least 50 ms apart."""
    import librosa

    mel = librosa.feature.melspectrogram(
        y=samples, sr=RATE, n_fft=_ONSET_WINDOW, hop_length=_ONSET_HOP, n_mels=80, fmin=50, fmax=8000
    )
    strength = librosa.onset.onset_strength(
        S=librosa.power_to_db(mel, top_db=50), sr=RATE, hop_length=_ONSET_HOP, lag=_ONSET_LAG
    )
    return librosa.onset.onset_detect(
        onset_envelope=strength,
        sr=RATE,
        hop_length=_ONSET_HOP,
        units="time",
        delta=_ONSET_STEP,
        wait=_ONSET_WAIT * RATE / _ONSET_HOP,
    )


def level(samples: np.ndarray, window: int = 1024, hop: int = 256) -> tuple[np.ndarray, float]:
    """Level of the sound in dB, frame by frame (frames,), and frames per second."""
    import librosa

    rms = librosa.feature.rms(y=samples, frame_length=window, hop_length=hop)[0]
    return 20 * np.log10(np.maximum(rms, 1e-7)), RATE / hop
