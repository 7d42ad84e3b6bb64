"""Make a relevance map audible: mask the sound's own spectrogram, keep its phase, bring all versions to one loudness.

S' = ISTFT(M * STFT(x)), with a mask M in [0, 1] made from the relevance map, so nothing is heard that is not in the
music. The map's scale is taken where the music's energy is, so near-silent bins cannot set it; the mask is smooth in
time and frequency, so that it does not click; bins beyond the map's bands are 0.

Versions: "for" what raised the prediction, "against" what lowered it, "without" the music less what raised it (1 - M).
All of them, and the original, are played at one loudness: that of the original, lowered where a true peak would exceed
-1 dBTP. Each version's gain is told.

References
----------
ITU-R BS.1770-4 (loudness, true peak), through pyloudnorm. The equation is that of the sonifications in G. Mozu's
thesis project, https://github.com/giacomozu/Explainability-Methods-in-Music-Emotion-Recognition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mer_core.errors import UserError

VERSIONS = ("for", "against", "without")
FFT_S, OVERLAP = 0.093, 4  # 2048 samples at 22.05 kHz
FULL = 0.95  # share of the music's energy whose relevance lies below what opens the mask fully
SMOOTH_FRAMES, SMOOTH_BINS = 1.5, 1.0  # standard deviations of the mask's smoothing
PEAK_DBTP = -1.0
MOST_GAIN_DB = 40.0  # a version farther below the original is left quieter, and said to be
SILENCE_LUFS = -70.0
SHORTEST_S = 0.4  # one block of the loudness measure
EDGE_ENERGY, EDGE_SHARE = 0.005, 0.2


@dataclass(frozen=True)
class Version:
    """One way to hear a clip.

    samples : (n,) or (2, n) float32, as long as the original; gain_db : what was added to reach the common loudness;
    lufs, true_peak_db : of `samples`; said : what to know of it, "" when it is as loud as the others
    """

    samples: np.ndarray
    gain_db: float
    lufs: float
    true_peak_db: float
    said: str = ""


@dataclass(frozen=True)
class Sonification:
    """A clip and what a map makes of it.

    versions : by name, "original" first; those without any relevance are absent, `silent` says why
    edge_share : of the map's energy, in bands that together hold 0.5 % of the music's; `edge` is whether that is > 20 %
    """

    versions: dict[str, Version]
    silent: dict[str, str]
    edge_share: float

    @property
    def edge(self) -> bool:
        """Whether the map lies where the music is not."""
        return self.edge_share > EDGE_SHARE


def sonify(
    samples: np.ndarray,
    rate: int,
    relevance: np.ndarray,
    seconds: np.ndarray,
    band_hz: np.ndarray,
    softness: float = 0.5,
) -> Sonification:
    """All versions of a clip at one loudness.

    Parameters
    ----------
    samples : (n,) or (channels, n) float, the original; rate : Hz
    relevance : (frames, bands), positive raises the prediction; seconds : (frames,) and band_hz : (bands,) centres
    softness : 0 leaves only the strongest evidence, 1 almost all that has any

    Raises
    ------
    UserError : silence, or a clip below 0.4 s, whose loudness is undefined
    """
    samples = np.asarray(samples, dtype=np.float64)
    if samples.shape[-1] < SHORTEST_S * rate:
        raise UserError(f"clip of {samples.shape[-1] / rate:.2f} s has no loudness; at least {SHORTEST_S} s are needed")
    if loudness(samples, rate) <= SILENCE_LUFS:
        raise UserError("the clip is silent, so there is nothing to hear in its explanation")
    spectrum = stft(samples, rate)
    masks, silent = make_masks(spectrum, samples.shape[-1], rate, relevance, seconds, band_hz, softness)
    raw = {"original": samples}
    raw |= {name: istft(spectrum * mask, samples.shape[-1], rate) for name, mask in masks.items()}
    energy = band_energy(spectrum, samples.shape[-1], rate, band_hz)
    return Sonification(equally_loud(raw, rate), silent, edge_share(relevance, energy))


def make_masks(
    spectrum: np.ndarray,
    length: int,
    rate: int,
    relevance: np.ndarray,
    seconds: np.ndarray,
    band_hz: np.ndarray,
    softness: float,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Masks (bins, frames) in [0, 1] by version, and why a version has none."""
    if not 0 <= softness <= 1:
        raise ValueError(f"softness is {softness}, expected 0 to 1")
    grid = on_grid(relevance, seconds, band_hz, spectrum.shape[-2:], length, rate)
    power = np.mean(np.abs(spectrum.reshape(-1, *grid.shape)) ** 2, axis=0)
    size = _energy_quantile(np.abs(grid), power)
    masks, silent = {}, {}
    for name, part in (("for", grid.clip(min=0)), ("against", (-grid).clip(min=0))):
        if size <= 0 or not (part * power).any():
            silent[name] = "nothing raised the prediction" if name == "for" else "nothing lowered the prediction"
            continue
        masks[name] = _smooth((part / size).clip(max=1) ** 4 ** (0.5 - softness))
    if "for" in masks:
        masks["without"] = 1 - masks["for"]
    else:
        silent["without"] = silent["for"]
    return masks, silent


def on_grid(
    relevance: np.ndarray, seconds: np.ndarray, band_hz: np.ndarray, shape: tuple[int, int], length: int, rate: int
) -> np.ndarray:
    """A map (frames, bands) on the grid of a spectrum (bins, frames), 0 outside of its bands and its time."""
    bins, frames = shape
    times = np.linspace(0, length / rate, frames)
    hertz = np.linspace(0, rate / 2, bins)
    step = np.median(np.diff(seconds)) if len(seconds) > 1 else np.inf
    at = np.clip(np.interp(times, seconds, np.arange(len(seconds))), 0, len(seconds) - 1)
    low = np.floor(at).astype(int)
    share = (at - low)[:, None]
    over_time = relevance[low] * (1 - share) + relevance[np.minimum(low + 1, len(seconds) - 1)] * share
    over_time[(times < seconds[0] - step) | (times > seconds[-1] + step)] = 0
    position = np.interp(hertz, band_hz, np.arange(len(band_hz)))
    band = np.floor(position).astype(int)
    share = position - band
    grid = over_time[:, band] * (1 - share) + over_time[:, np.minimum(band + 1, len(band_hz) - 1)] * share
    below, above = 2 * band_hz[0] - band_hz[1], 2 * band_hz[-1] - band_hz[-2]
    grid[:, (hertz < below) | (hertz > above)] = 0
    return np.ascontiguousarray(grid.T)


def _energy_quantile(size: np.ndarray, power: np.ndarray) -> float:
    """Relevance below which 95 % of the music's energy lies, of the energy that has any relevance at all."""
    relevant = size > 0
    if not (power[relevant] > 0).any():
        return 0.0
    order = np.argsort(size[relevant])
    share = np.cumsum(power[relevant][order])
    return float(size[relevant][order][np.searchsorted(share, FULL * share[-1])])


def _smooth(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(mask, (SMOOTH_BINS, SMOOTH_FRAMES), mode="nearest").clip(0, 1)


def _transform(rate: int) -> tuple[int, int]:
    """Length and hop of the Fourier windows, samples."""
    n_fft = 2 ** round(np.log2(FFT_S * rate))
    return n_fft, n_fft // OVERLAP


def stft(samples: np.ndarray, rate: int) -> np.ndarray:
    """Complex spectrum (..., bins, frames), Hann windows, 75 % overlap, centred frames."""
    n_fft, hop = _transform(rate)
    padded = np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(n_fft // 2, n_fft)])
    starts = np.arange(0, samples.shape[-1] + n_fft // 2, hop)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=-1)[..., starts, :]
    from scipy.fft import rfft

    return np.swapaxes(rfft((frames * _hann(n_fft)).astype(np.float32), axis=-1), -1, -2)


def istft(spectrum: np.ndarray, length: int, rate: int) -> np.ndarray:
    """Samples (..., length) of a spectrum of `stft`; overlap-add with the window again, so that masks do not click."""
    from scipy.fft import irfft

    n_fft, hop = _transform(rate)
    window = _hann(n_fft)
    frames = irfft(np.swapaxes(spectrum, -1, -2), n_fft, axis=-1) * window
    count = frames.shape[-2]
    out = np.zeros((*frames.shape[:-2], (count + OVERLAP) * hop))
    weight = np.zeros(out.shape[-1])
    for part in range(OVERLAP):  # frames hop / OVERLAP apart do not overlap: add a quarter of them at once
        chosen = frames[..., part::OVERLAP, :]
        flat = chosen.reshape(*chosen.shape[:-2], -1)
        out[..., part * hop : part * hop + flat.shape[-1]] += flat
        weight[part * hop : part * hop + flat.shape[-1]] += np.tile(window**2, chosen.shape[-2])
    start = n_fft // 2
    return out[..., start : start + length] / np.maximum(weight[start : start + length], 1e-3)


def _hann(n_fft: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)


def band_energy(spectrum: np.ndarray, length: int, rate: int, band_hz: np.ndarray) -> np.ndarray:
    """Energy of a sound in each band of a map (bands,): every bin belongs to the band whose centre is nearest."""
    power = np.mean(np.abs(spectrum.reshape(-1, *spectrum.shape[-2:])) ** 2, axis=0).sum(axis=1)
    hertz = np.linspace(0, rate / 2, len(power))
    edges = (band_hz[1:] + band_hz[:-1]) / 2
    inside = (hertz >= 2 * band_hz[0] - band_hz[1]) & (hertz <= 2 * band_hz[-1] - band_hz[-2])
    return np.bincount(np.searchsorted(edges, hertz[inside]), power[inside], len(band_hz))


def edge_share(relevance: np.ndarray, energy: np.ndarray) -> float:
    """Share of a map's energy (sum of squares) in the quietest bands, those that together hold 0.5 % of the music's."""
    total = float((relevance.astype(float) ** 2).sum())
    if total == 0 or energy.sum() == 0:
        return 0.0
    order = np.argsort(energy)
    quiet = order[np.cumsum(energy[order]) < EDGE_ENERGY * energy.sum()]
    return float((relevance[:, quiet].astype(float) ** 2).sum() / total)


def equally_loud(raw: dict[str, np.ndarray], rate: int) -> dict[str, Version]:
    """All versions at the loudness of "original", or lower where a true peak would exceed -1 dBTP."""
    loud = {name: loudness(samples, rate) for name, samples in raw.items()}
    peaks = {name: true_peak(samples) for name, samples in raw.items()}
    gains = {name: min(loud["original"] - loud[name], MOST_GAIN_DB) for name in raw}
    lower = max(0.0, max(peaks[name] + gains[name] for name in raw) - PEAK_DBTP)
    found = {}
    for name, samples in raw.items():
        gain = gains[name] - lower
        quiet = loud["original"] - loud[name] > MOST_GAIN_DB
        said = (
            f"too faint to be raised more than {MOST_GAIN_DB:g} dB, so it is quieter than the others" if quiet else ""
        )
        scaled = (samples * 10 ** (gain / 20)).astype(np.float32)
        found[name] = Version(scaled, gain, loud[name] + gain, peaks[name] + gain, said)
    return found


def loudness(samples: np.ndarray, rate: int) -> float:
    """Integrated loudness, LUFS; -100 for silence."""
    import pyloudnorm

    value = pyloudnorm.Meter(rate).integrated_loudness(np.atleast_2d(samples).T)
    return float(value) if np.isfinite(value) else -100.0


def true_peak(samples: np.ndarray) -> float:
    """Largest value between samples too (4 times oversampled), dBTP; -200 for silence."""
    from scipy.signal import resample_poly

    peak = np.abs(resample_poly(np.asarray(samples, dtype=np.float32), 4, 1, axis=-1)).max()
    return float(20 * np.log10(max(peak, 1e-10)))
