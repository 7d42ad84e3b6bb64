"""What the networks see of the sound: each front end as its authors published it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

VERSION = 2  # raise it with whatever changes what a front end here gives: it is part of the cache's key
# musicnn and the taggers share these.
MUSIC_RATE, MUSIC_FFT, MUSIC_HOP, MUSIC_BANDS = 16000, 512, 256, 96  # Hz, samples, samples, mel bands
MUSICNN_FRAMES = 187  # in a window
DB_FLOOR = 1e-10
# EfficientAT.
AUDIOSET_RATE, AUDIOSET_FFT, AUDIOSET_WINDOW, AUDIOSET_HOP, AUDIOSET_BANDS = 32000, 1024, 800, 320, 128
AUDIOSET_TOP = 15000  # Hz
AUDIOSET_FRAMES = 1000  # in a window
PRE_EMPHASIS = 0.97


def musicnn_windows(samples: np.ndarray, hop_frames: float = MUSICNN_FRAMES) -> torch.Tensor:
    """Log-mel windows of musicnn (w, 187, 96) from samples at 16 kHz; source: `extractor.py` of `musicnn` 0.1.0.

    Power mel spectrogram with Slaney's scale and areas, frames centred and mirrored at the ends (as librosa 0.7 does),
    rounded to half precision as the training data were stored, then log10(1 + 10000 S). The published code multiplies
    the rounded values in single precision, because numpy below 1.17, which it asks for, promotes half precision with
    an integer as large as 10000; newer ones overflow.
    """
    import torch

    mel = musicnn_power(samples).to(torch.float32)
    return cut(torch.log10(10000 * mel + 1), MUSICNN_FRAMES, hop_frames)


def musicnn_power(samples: np.ndarray) -> torch.Tensor:
    """Mel power of musicnn (frames, 96) in half precision, of samples at 16 kHz; see `musicnn_windows`."""
    import torch

    return (_power(samples, MUSIC_FFT, MUSIC_HOP, "reflect") @ _mel_filters(htk=False).T).to(torch.float16)


def tagger_windows(samples: np.ndarray, length: int, hop: float) -> torch.Tensor:
    """Mel spectrograms in dB (w, 96, frames) of windows of `length` samples at 16 kHz, one every `hop` samples.

    HTK's mel scale, triangles of height 1, 10 log10(max(S, 1e-10)); each window is mirrored at its own ends. Source:
    `training/model.py` of `minzwon/sota-music-tagging-models`.
    """
    import torch

    windows = cut(torch.from_numpy(samples), length, hop)
    mel = _power(windows, MUSIC_FFT, MUSIC_HOP, "reflect") @ _mel_filters(htk=True).T
    return 10 * torch.log10(mel.clamp(min=DB_FLOOR)).transpose(1, 2).contiguous()


def audioset_windows(samples: np.ndarray, hop_frames: float) -> torch.Tensor:
    """Log-mel windows of EfficientAT (w, 1, 128, 1000) from samples at 32 kHz; fewer frames of a clip below 10 s.

    Pre-emphasis, 25 ms windows every 10 ms, Kaldi's mel triangles from 0 to 15 kHz, (log(S + 1e-5) + 4.5) / 5. Source:
    `models/preprocess.py` of `fschmid56/EfficientAT`.
    """
    import torch

    emphasised = torch.from_numpy(samples[1:] - np.float32(PRE_EMPHASIS) * samples[:-1])
    window = torch.hann_window(AUDIOSET_WINDOW, periodic=False)
    power = _power(emphasised, AUDIOSET_FFT, AUDIOSET_HOP, "reflect", window)
    frames = ((power @ _kaldi_filters().T + 1e-5).log() + 4.5) / 5
    return cut(frames, min(AUDIOSET_FRAMES, len(frames)), hop_frames).transpose(1, 2).unsqueeze(1).contiguous()


def cut(frames: torch.Tensor, length: int, hop: float) -> torch.Tensor:
    """Windows (w, length, ...) of frames (n, ...), one every `hop` frames; what is left after the last is dropped.

    Each start is rounded by itself, so that a hop of 62.5 frames does not drift.
    """
    import torch

    starts = [round(i * hop) for i in range(int((len(frames) - length) / hop) + 1)]
    return torch.stack([frames[start : start + length] for start in starts])


def kaldi_mel_filters(bands: int, n_fft: int, rate: int, low: float, high: float) -> np.ndarray:
    """Triangles (bands, n_fft // 2 + 1) that are straight on the mel scale 1127 ln(1 + f / 700); 0 at half the rate.

    Source: `MelBanks` in `feat/mel-computations.cc` of Kaldi.
    """
    edges = np.linspace(_kaldi_mel(low), _kaldi_mel(high), bands + 2)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    mel = _kaldi_mel(np.arange(n_fft // 2) * rate / n_fft)
    triangles = np.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clip(0)
    return np.pad(triangles, ((0, 0), (0, 1)))


def _kaldi_mel(hertz: float | np.ndarray) -> np.ndarray:
    return 1127 * np.log1p(np.asarray(hertz) / 700)


def _power(
    samples: np.ndarray | torch.Tensor, n_fft: int, hop: int, pad: str, window: torch.Tensor | None = None
) -> torch.Tensor:
    """Power spectrogram (..., frames, n_fft // 2 + 1) with centred frames; a periodic Hann window unless one is given.

    By torch, which takes half the time of librosa here and differs by rounding.
    """
    import torch

    window = torch.hann_window(n_fft) if window is None else window
    samples = torch.as_tensor(samples)
    spectrum = torch.stft(
        samples, n_fft, hop, len(window), window, center=True, pad_mode=pad, return_complex=True
    ).transpose(-1, -2)
    return spectrum.real.square() + spectrum.imag.square()


@cache
def _mel_filters(htk: bool) -> torch.Tensor:
    """Librosa's triangles (96, 257): HTK's scale with height 1, or Slaney's with area 1."""
    import librosa
    import torch

    norm = None if htk else "slaney"
    return torch.from_numpy(librosa.filters.mel(sr=MUSIC_RATE, n_fft=MUSIC_FFT, n_mels=MUSIC_BANDS, htk=htk, norm=norm))


@cache
def _kaldi_filters() -> torch.Tensor:
    import torch

    return torch.from_numpy(
        kaldi_mel_filters(AUDIOSET_BANDS, AUDIOSET_FFT, AUDIOSET_RATE, 0, AUDIOSET_TOP).astype(np.float32)
    )
