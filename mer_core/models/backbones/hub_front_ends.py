"""What the networks of the model hub, PANNs and VGGish see of the sound, as published.

Every function takes samples (n,) float32 at its rate, and the step between windows in s, and gives windows (w, ...).
Sources: `ASTFeatureExtractor`, `ClapFeatureExtractor` and `Wav2Vec2FeatureExtractor` of `transformers`;
`qiuqiangkong/audioset_tagging_cnn`; `vggish_input.py` of `harritaylor/torchvggish`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from mer_core.models.backbones.front_ends import cut

if TYPE_CHECKING:
    import torch

AST_RATE, AST_WINDOW_S = 16000, 10.24
CLAP_RATE, CLAP_WINDOW_S = 48000, 10.0
MERT_RATE = 24000
SHORTEST_REST_S = 1.0  # what is left at the end and shorter is not worth a window
CNN14_RATE, CNN14_FFT, CNN14_HOP, CNN14_BANDS, CNN14_RANGE = 32000, 1024, 320, 64, (50.0, 14000.0)
CNN14_WINDOW_S = 10.0
VGGISH_RATE, VGGISH_FRAME, VGGISH_FFT, VGGISH_HOP, VGGISH_BANDS = 16000, 400, 512, 160, 64
VGGISH_RANGE, VGGISH_PATCH, VGGISH_OFFSET = (125.0, 7500.0), 96, 0.01


def cut_samples(samples: np.ndarray, rate: int, window_s: float, hop_s: float) -> list[np.ndarray]:
    """Whole windows from the start; a clip shorter than one is the only window, as it is."""
    length, hop = round(window_s * rate), round(hop_s * rate)
    return [samples[start : start + length] for start in range(0, max(len(samples) - length, 0) + 1, hop)]


@cache
def _ast_extractor():
    from transformers import ASTFeatureExtractor

    with warnings.catch_warnings():  # its lowest filters fall between two bins and are empty, as published
        warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
        return ASTFeatureExtractor()


@cache
def _clap_extractor():
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")


def ast_windows(samples: np.ndarray, hop_s: float) -> torch.Tensor:
    """128 Kaldi filter-bank energies of 1024 frames of 10 ms, (x + 4.2677393) / (2 * 4.5689974): (w, 1024, 128).

    Time comes first: the model itself exchanges the axes, and would take the other order without complaint. Frames
    that are missing at the end are zeros before the normalisation.
    """
    import torch

    parts = cut_samples(samples, AST_RATE, AST_WINDOW_S, hop_s)
    features = [_ast_extractor()(part, sampling_rate=AST_RATE, return_tensors="np")["input_values"] for part in parts]
    return torch.from_numpy(np.concatenate(features).astype(np.float32))


def clap_windows(samples: np.ndarray, hop_s: float) -> torch.Tensor:
    """Power mel spectrogram in dB of 10 s, 64 Slaney bands up to 14 kHz: (w, 1, 1001, 64).

    Windows are cut here: the published extractor takes a random piece of longer clips. Shorter ones are repeated as
    often as they fit, then filled up with silence.
    """
    import torch

    parts = cut_samples(samples, CLAP_RATE, CLAP_WINDOW_S, hop_s)
    features = [
        _clap_extractor()(part, sampling_rate=CLAP_RATE, return_tensors="np")["input_features"] for part in parts
    ]
    return torch.from_numpy(np.concatenate(features).astype(np.float32))


def mert_windows(samples: np.ndarray, window_s: float, hop_s: float) -> torch.Tensor:
    """Samples of each window at mean 0 and variance 1: (w, n), where the last one may be shorter and ends in NaN."""
    import torch

    length, hop, least = (round(seconds * MERT_RATE) for seconds in (window_s, hop_s, SHORTEST_REST_S))
    parts = [samples[:length]]
    for start in range(hop, len(samples) - least + 1, hop):
        if start - hop + length >= len(samples):
            break  # the window before reaches the end
        parts.append(samples[start : start + length])
    windows = np.full((len(parts), max(map(len, parts))), np.nan, dtype=np.float32)
    for row, part in zip(windows, parts, strict=True):
        part = part.astype(np.float64)
        row[: len(part)] = (part - part.mean()) / np.sqrt(part.var() + 1e-7)
    return torch.from_numpy(windows)


def cnn14_windows(samples: np.ndarray, hop_s: float) -> torch.Tensor:
    """Log-mel of PANNs, 64 Slaney bands from 50 to 14000 Hz in dB, no floor but 1e-10: (w, 1, 1001, 64) for 10 s."""
    import librosa
    import torch

    low, high = CNN14_RANGE
    options = {"n_fft": CNN14_FFT, "hop_length": CNN14_HOP, "n_mels": CNN14_BANDS, "fmin": low, "fmax": high}
    options |= {"sr": CNN14_RATE, "pad_mode": "reflect"}
    windows = [
        librosa.power_to_db(librosa.feature.melspectrogram(y=part, **options), ref=1.0, amin=1e-10, top_db=None).T
        for part in cut_samples(samples, CNN14_RATE, CNN14_WINDOW_S, hop_s)
    ]
    return torch.from_numpy(np.stack(windows)[:, None].astype(np.float32))


@cache
def vggish_filters() -> np.ndarray:
    """Mel filters (257 bins, 64 bands), triangles on the mel axis 1127 ln(1 + f / 700) from 125 to 7500 Hz."""
    from transformers.audio_utils import mel_filter_bank

    low, high = VGGISH_RANGE
    bins = VGGISH_FFT // 2 + 1
    options = {"norm": None, "mel_scale": "kaldi", "triangularize_in_mel_space": True}
    return mel_filter_bank(bins, VGGISH_BANDS, low, high, VGGISH_RATE, **options)


def vggish_windows(samples: np.ndarray, hop_s: float) -> torch.Tensor:
    """Patches of log(magnitude mel + 0.01), 25 ms frames every 10 ms, no padding at the edges: (w, 1, 96, 64)."""
    import torch
    from scipy.signal.windows import hann

    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), VGGISH_FRAME)[::VGGISH_HOP]
    magnitude = np.abs(np.fft.rfft(frames * hann(VGGISH_FRAME, sym=False), VGGISH_FFT))
    logmel = np.log(magnitude @ vggish_filters() + VGGISH_OFFSET).astype(np.float32)
    return cut(torch.from_numpy(logmel), VGGISH_PATCH, round(hop_s * VGGISH_RATE / VGGISH_HOP))[:, None]


@dataclass(frozen=True)
class MelStyle:
    """Mel settings of an audio network, in front of an image network.

    rate : Hz; bands; fft, hop : samples; window_s, hop_s : of the windows
    normal : (mean, standard deviation) in dB, the same for all clips, or None for each window's own
    """

    rate: int
    bands: int
    fft: int
    hop: int
    window_s: float
    hop_s: float
    normal: tuple[float, float] | None


# The two styles normalised alike for all clips have one published pair of constants between them, that of "ast".
OF_ALL = (-41.76, 16.17)
MEL_STYLES = {
    "panns": MelStyle(32000, 64, 1024, 320, 10.0, 10.0, None),
    "ast": MelStyle(16000, 128, 400, 160, 10.0, 10.0, OF_ALL),
    "vggish": MelStyle(16000, 64, 400, 160, 0.96, 0.48, None),
    "musicnn": MelStyle(16000, 96, 512, 256, 3.0, 3.0, None),
    "clap": MelStyle(48000, 64, 1024, 480, 10.0, 10.0, OF_ALL),
}


def style_windows(samples: np.ndarray, hop_s: float, style: MelStyle) -> torch.Tensor:
    """Power mel spectrogram in dB below each window's maximum, normalised: (w, bands, frames)."""
    import librosa
    import torch

    options = {"sr": style.rate, "n_fft": style.fft, "hop_length": style.hop, "n_mels": style.bands}
    windows = []
    for part in cut_samples(samples, style.rate, style.window_s, hop_s):
        decibel = librosa.power_to_db(librosa.feature.melspectrogram(y=part, **options), ref=np.max)
        mean, deviation = style.normal or (decibel.mean(), max(decibel.std(), 1e-6))
        windows.append((decibel - mean) / deviation)
    return torch.from_numpy(np.stack(windows).astype(np.float32))
