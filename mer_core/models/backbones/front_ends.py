"""What the networks see of the sound: each front end as its authors published it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

MUSICNN_RATE, MUSICNN_FFT, MUSICNN_HOP, MUSICNN_BANDS, MUSICNN_FRAMES = 16000, 512, 256, 96, 187


def musicnn_windows(samples: np.ndarray, hop_frames: float = MUSICNN_FRAMES) -> torch.Tensor:
    """Log-mel windows of musicnn (w, 187, 96) from samples at 16 kHz; source: `extractor.py` of `musicnn` 0.1.0.

    Power mel spectrogram with Slaney's scale and areas, rounded to half precision as the training data were stored,
    then log10(1 + 10000 S). The published code multiplies the rounded values by 10000 in single precision, because
    numpy below 1.17, which it asks for, promotes half precision with an integer that large; newer ones overflow.
    """
    import librosa
    import torch

    power = librosa.feature.melspectrogram(
        y=samples, sr=MUSICNN_RATE, n_fft=MUSICNN_FFT, hop_length=MUSICNN_HOP, n_mels=MUSICNN_BANDS
    )
    power = power.T.astype(np.float16).astype(np.float32)
    return cut(torch.from_numpy(np.log10(10000 * power + 1)), MUSICNN_FRAMES, hop_frames)


def cut(frames: torch.Tensor, length: int, hop: float) -> torch.Tensor:
    """Windows (w, length, ...) of frames (n, ...), one every `hop` frames; what is left after the last is dropped.

    Each start is rounded by itself, so that a hop of 62.5 frames does not drift.
    """
    import torch

    starts = [round(i * hop) for i in range(int((len(frames) - length) / hop) + 1)]
    return torch.stack([frames[start : start + length] for start in starts])
