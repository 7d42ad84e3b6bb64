"""Spectrograms in front of the networks that are fine-tuned: what is kept on disk; their first stage does the rest.

Conventions as in `spectrograms`: (frames, bands) float16; every style has `rate` Hz, `frames` of a window, its
`seconds`, and `per_second` frames.
"""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass

import numpy as np

from mer_core.models.backbones import front_ends
from mer_core.models.backbones.hub_front_ends import AST_RATE, MEL_STYLES

FLOOR = 1e-10
IMPORTING = threading.Lock()  # transformers cannot be imported by two threads at once


@dataclass(frozen=True)
class MusicnnPower:
    """Mel power of musicnn, rounded to half precision as its authors stored it; the logarithm comes afterwards."""

    name: str = "musicnn"
    rate: int = front_ends.MUSIC_RATE
    frames: int = front_ends.MUSICNN_FRAMES

    @property
    def per_second(self) -> float:
        """Frames in a second."""
        return self.rate / front_ends.MUSIC_HOP

    @property
    def seconds(self) -> float:
        """Length of a window."""
        return self.frames / self.per_second

    def compute(self, samples: np.ndarray) -> np.ndarray:
        """(frames, 96) float16."""
        return front_ends.musicnn_power(samples).numpy()


@dataclass(frozen=True)
class KaldiBank:
    """128 log filter-bank energies every 10 ms, as AST takes them, before they are normalised."""

    name: str = "ast"
    rate: int = AST_RATE
    frames: int = 1024
    per_second: float = 100.0

    @property
    def seconds(self) -> float:
        """Length of a window."""
        return self.frames / self.per_second

    def compute(self, samples: np.ndarray) -> np.ndarray:
        """(frames, 128) float16."""
        with IMPORTING:
            from transformers import ASTFeatureExtractor

        count = max(1, 1 + (len(samples) - 400) // 160)
        with warnings.catch_warnings():  # its lowest filters fall between two bins and are empty, as published
            warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
            extractor = ASTFeatureExtractor(max_length=count, do_normalize=False)
        found = extractor(samples, sampling_rate=self.rate, return_tensors="np")["input_values"][0]
        return found.astype(np.float16)


@dataclass(frozen=True)
class Decibels:
    """Mel bands of a power spectrum in dB, no reference, no floor but 1e-10.

    rate Hz; n_fft, hop samples; bands; window : frames; htk : HTK's scale with triangles of height 1, else Slaney's
    """

    name: str
    rate: int
    n_fft: int
    hop: int
    bands: int
    frames: int
    htk: bool = False

    @property
    def per_second(self) -> float:
        """Frames in a second."""
        return self.rate / self.hop

    @property
    def seconds(self) -> float:
        """Length of a window."""
        return self.frames / self.per_second

    def compute(self, samples: np.ndarray) -> np.ndarray:
        """(frames, bands) float16, about -100 to 60."""
        import librosa

        options = {"sr": self.rate, "n_fft": self.n_fft, "hop_length": self.hop, "n_mels": self.bands}
        if self.htk:
            options |= {"htk": True, "norm": None, "pad_mode": "reflect"}
        with warnings.catch_warnings():  # with a short Fourier window the lowest bands fall between two bins
            warnings.filterwarnings("ignore", message="Empty filters detected")
            power = librosa.feature.melspectrogram(y=samples, **options)
        return (10 * np.log10(np.maximum(power, FLOOR))).T.astype(np.float16)


def _picture(name: str) -> Decibels:
    """One of the five mel styles in front of image networks."""
    style = MEL_STYLES[name]
    frames = 1 + int(style.window_s * style.rate) // style.hop
    return Decibels(f"mel-{name}", style.rate, style.fft, style.hop, style.bands, frames)


FRONT_ENDS = {
    "musicnn": MusicnnPower(),
    "ast": KaldiBank(),
    "ast-44k": Decibels("ast-44k", 44100, 400, 200, 128, 1024, htk=True),
    **{f"mel-{name}": _picture(name) for name in MEL_STYLES},
}
