"""Log spectrograms of tracks, computed once and memory-mapped, and the windows that networks are given.

Conventions: a spectrogram is (frames, bands), float16 on disk, band 0 the lowest; frame k begins at k * hop samples
less half a Fourier window. The cache's address is the SHA-256 of the audio's bytes under the style's own name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mer_core import compute
from mer_core.datasets.audio import read_audio
from mer_core.datasets.dataset import Dataset
from mer_core.errors import UserError
from mer_core.paths import artifacts_root


@dataclass(frozen=True)
class MelStyle:
    """How a spectrogram is made: mel bands of a power spectrum, in dB below the clip's maximum.

    rate Hz; n_fft, hop samples; bands; low, high Hz; seconds : length of the window a network sees
    """

    name: str
    rate: int
    n_fft: int
    hop: int
    bands: int
    low: float
    high: float
    seconds: float
    floor_db: float = 80.0

    @property
    def frames(self) -> int:
        """Frames of a window."""
        return 1 + int(self.seconds * self.rate) // self.hop

    @property
    def per_second(self) -> float:
        """Frames in a second."""
        return self.rate / self.hop

    def compute(self, samples: np.ndarray) -> np.ndarray:
        """(frames, bands) float16 in [-1, 0]: dB below the maximum over the floor; silence is -1 throughout."""
        import librosa

        power = librosa.feature.melspectrogram(
            y=samples,
            sr=self.rate,
            n_fft=self.n_fft,
            hop_length=self.hop,
            n_mels=self.bands,
            fmin=self.low,
            fmax=self.high,
        )
        if power.max() <= 0:
            return np.full((power.shape[1], self.bands), -1, dtype=np.float16)
        return (librosa.power_to_db(power, ref=np.max, top_db=self.floor_db) / self.floor_db).T.astype(np.float16)

    def band_hz(self) -> np.ndarray:
        """Centre frequency of each band, Hz."""
        import librosa

        return librosa.mel_frequencies(self.bands + 2, fmin=self.low, fmax=self.high)[1:-1]


@dataclass(frozen=True)
class LogBandStyle:
    """Magnitudes in bands of equal width in log frequency, as log10(1 + x), of the clip scaled to a peak of 1.

    The front end of arXiv 1907.03572: 24 bands an octave from 20 Hz to 16 kHz around 440 Hz, each moved to the nearest
    of the 1024 Fourier bins and kept once, which leaves 149 triangles; `rate` / `per_second` = 705.6 samples from frame
    to frame, so frames begin at rounded places.
    """

    name: str
    rate: int
    n_fft: int
    per_second: float
    per_octave: int
    low: float
    high: float
    seconds: float

    @property
    def frames(self) -> int:
        """Frames of a window."""
        return int(np.ceil(self.seconds * self.per_second))

    def _bins(self) -> np.ndarray:
        """Fourier bins where triangles begin, peak and end."""
        reach = [
            np.floor(np.log2(self.low / 440) * self.per_octave),
            np.ceil(np.log2(self.high / 440) * self.per_octave),
        ]
        edges = 440 * 2.0 ** (np.arange(*reach) / self.per_octave)
        edges = edges[(edges >= self.low) & (edges <= self.high)]
        bins = np.arange(self.n_fft // 2) * self.rate / self.n_fft
        above = np.clip(np.searchsorted(bins, edges), 1, len(bins) - 1)
        return np.unique(above - (edges - bins[above - 1] < bins[above] - edges))

    def filters(self) -> np.ndarray:
        """(Fourier bins, bands), each triangle of area 1."""
        bins = self._bins()
        filters = np.zeros((self.n_fft // 2, len(bins) - 2))
        for band, (start, peak, stop) in enumerate(zip(bins[:-2], bins[1:-1], bins[2:], strict=True)):
            filters[start : peak + 1, band] = np.linspace(0, 1, peak - start + 1)
            filters[peak:stop, band] = np.linspace(1, 0, stop - peak, endpoint=False)
        return filters / filters.sum(axis=0)

    def band_hz(self) -> np.ndarray:
        """Frequency of each band's peak, Hz."""
        return self._bins()[1:-1] * self.rate / self.n_fft

    def compute(self, samples: np.ndarray) -> np.ndarray:
        """(frames, bands) float16, 0 for silence."""
        samples = samples / (np.abs(samples).max() or 1.0)
        starts = np.round(
            np.arange(int(np.ceil(len(samples) / self.rate * self.per_second))) * self.rate / self.per_second
        )
        padded = np.pad(samples, (self.n_fft // 2, self.n_fft))
        frames = padded[starts.astype(int)[:, None] + np.arange(self.n_fft)]
        magnitude = np.abs(np.fft.rfft(frames * np.hanning(self.n_fft), axis=1))[:, : self.n_fft // 2]
        return np.log10(1 + magnitude @ self.filters()).astype(np.float16)


STYLES = {
    "residual-cnn": MelStyle("residual-cnn", 22050, 2048, 512, 128, 0, 11025, 10.0),
    "mid-level": LogBandStyle("mid-level", 22050, 2048, 31.25, 24, 20, 16000, 10.0),
    "vit": MelStyle("vit", 22050, 2048, 988, 224, 30, 11025, 10.0),
}


@dataclass(frozen=True)
class Spectrograms:
    """Of the tracks that could be read: id -> (frames, bands), memory-mapped; and (id, reason) of the others."""

    style: MelStyle | LogBandStyle
    tables: dict[str, np.ndarray]
    failures: tuple[tuple[str, str], ...]


def load_spectrograms(
    dataset: Dataset,
    style: MelStyle | LogBandStyle,
    workers: int | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Spectrograms:
    """Spectrograms of a dataset's tracks, from the cache where they are in it.

    Raises
    ------
    UserError : no track has audio that can be read
    """
    paths = dataset.tracks["path"]
    known = [(track, path) for track, path in paths.items() if isinstance(path, str)]
    silent = [
        (track, "the dataset came without its audio") for track, path in paths.items() if not isinstance(path, str)
    ]
    outcomes = compute.map_items(lambda item: spectrogram_of_file(item[1], style), known, workers, progress)
    tables = {outcome.item[0]: outcome.value for outcome in outcomes if outcome.error is None}
    failures = [(outcome.item[0], str(outcome.error)) for outcome in outcomes if outcome.error is not None]
    for outcome in outcomes:
        if outcome.error is not None and not isinstance(outcome.error, UserError):
            raise outcome.error
    if not tables:
        first = (failures + silent)[0][1] if failures or silent else "there are no tracks"
        raise UserError(f"no track of dataset {dataset.name} has audio that can be read: {first}")
    return Spectrograms(style, tables, (*failures, *silent))


def spectrogram_of_file(path: str | Path, style: MelStyle | LogBandStyle) -> np.ndarray:
    """(frames, bands) of an audio file, memory-mapped from the cache; UserError where it cannot be read."""
    stored = _address(path, style)
    if not stored.exists():
        samples, _ = read_audio(path, style.rate)
        stored.parent.mkdir(parents=True, exist_ok=True)
        temporary = stored.with_name(f".{stored.name}.{os.getpid()}.partial.npy")
        try:
            np.save(temporary, style.compute(samples))
            os.replace(temporary, stored)
        finally:
            temporary.unlink(missing_ok=True)
    return np.load(stored, mmap_mode="r")


def _address(path: str | Path, style: MelStyle | LogBandStyle) -> Path:
    try:
        content = hashlib.sha256(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from None
    settings = hashlib.sha256(repr(sorted(asdict(style).items())).encode()).hexdigest()[:8]
    key = content.hexdigest()
    return artifacts_root() / "cache" / "spectrograms" / f"{style.name}-{settings}" / key[:2] / f"{key}.npy"


def random_window(table: np.ndarray, frames: int, generator: np.random.Generator) -> np.ndarray:
    """A window at a random place; a shorter track is repeated from its start until it is long enough."""
    if len(table) <= frames:
        return np.resize(table, (frames, table.shape[1]))
    start = generator.integers(len(table) - frames + 1)
    return np.asarray(table[start : start + frames])


def even_windows(table: np.ndarray, frames: int, most: int = 8) -> np.ndarray:
    """(w, frames, bands): windows that cover the track evenly, half overlapping at the least, at most `most`.

    The same every time; a shorter track is repeated from its start until it is long enough.
    """
    if len(table) <= frames:
        return np.resize(table, (1, frames, table.shape[1]))
    return np.stack([np.asarray(table[start : start + frames]) for start in even_starts(len(table), frames, most)])


def even_starts(length: int, frames: int, most: int = 8) -> np.ndarray:
    """First frames of the windows of `even_windows`, in a table of `length` frames."""
    if length <= frames:
        return np.zeros(1, dtype=int)
    count = min(most, int(np.ceil(2 * length / frames)) - 1)
    return np.round(np.linspace(0, length - frames, count)).astype(int)
