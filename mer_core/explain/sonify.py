"""Make a relevance map audible: mask the sound's own spectrogram, keep its phase, bring all versions to one loudness.

S' = ISTFT(M * STFT(x)), with a mask M in [0, 1] made from the relevance map, so nothing is heard that is not in the
music. The map's scale is taken where the music's energy is, so near-silent bins cannot set it; the mask is smooth in
time and frequency, so that it does not click; bins beyond the map's bands are 0.

Versions: "for" what raised the prediction, "against" what lowered it, "without" the music less what raised it (1 - M).
All of them, and the original, are played at one loudness: that of the original, lowered where a true peak would exceed
-1 dBTP. Each version's gain is told.

Cost: what depends on the clip alone (its spectrum, loudness and peak) is measured once, by `prepare`. "without" needs
no transform of its own: it is the original less "for", sample by sample, since masks add up to 1.

References
----------
ITU-R BS.1770-4 (loudness, true peak), see `levels`. The equation is that of the sonifications in G. Mozu's
thesis project, https://github.com/giacomozu/Explainability-Methods-in-Music-Emotion-Recognition.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mer_core.errors import UserError
from mer_core.explain.levels import k_weighted, loudness, loudness_of_weighted, true_peak

VERSIONS = ("for", "against", "without")
FFT_S, OVERLAP = 0.093, 4  # 2048 samples at 22.05 kHz
QUANTILE_STEPS = 4096
CHUNK = 64  # frames or bins
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


@dataclass(frozen=True)
class Clip:
    """A clip that is ready to be sonified.

    samples : (n,) or (channels, n) float32; spectrum : (..., bins, frames) complex64; power : (bins, frames), mean over
    channels; weighted : (channels, n), see `levels`; lufs, true_peak_db : of the samples
    """

    samples: np.ndarray
    rate: int
    spectrum: np.ndarray
    power: np.ndarray
    weighted: np.ndarray
    lufs: float
    true_peak_db: float


def prepare(samples: np.ndarray, rate: int) -> Clip:
    """Measure what does not depend on any map.

    samples : (n,) or (channels, n) float; rate : Hz

    Raises
    ------
    UserError : silence, or a clip below 0.4 s, whose loudness is undefined
    """
    samples = np.asarray(samples, dtype=np.float32)
    if samples.shape[-1] < SHORTEST_S * rate:
        raise UserError(f"clip of {samples.shape[-1] / rate:.2f} s has no loudness; at least {SHORTEST_S} s are needed")
    weighted = k_weighted(samples, rate)
    lufs = loudness_of_weighted(weighted, rate)
    if lufs <= SILENCE_LUFS:
        raise UserError("the clip is silent, so there is nothing to hear in its explanation")
    spectrum = stft(samples, rate)
    return Clip(samples, rate, spectrum, mean_power(spectrum), weighted, lufs, true_peak(samples))


def sonify(
    samples: np.ndarray,
    rate: int,
    relevance: np.ndarray,
    seconds: np.ndarray,
    band_hz: np.ndarray,
    softness: float = 0.5,
) -> Sonification:
    """All versions of a clip at one loudness; see `prepare` and `sonify_clip`."""
    return sonify_clip(prepare(samples, rate), relevance, seconds, band_hz, softness)


def sonify_clip(
    clip: Clip, relevance: np.ndarray, seconds: np.ndarray, band_hz: np.ndarray, softness: float = 0.5
) -> Sonification:
    """All versions of a clip at one loudness.

    Parameters
    ----------
    relevance : (frames, bands), positive raises the prediction; seconds : (frames,) and band_hz : (bands,) centres
    softness : 0 leaves only the strongest evidence, 1 almost all that has any
    """
    length, rate = clip.samples.shape[-1], clip.rate
    masks, silent = make_masks(clip.power, length, rate, relevance, seconds, band_hz, softness)
    raw, weighted = {"original": clip.samples}, {"original": clip.weighted}
    for name, mask in masks.items():
        raw[name] = istft(clip.spectrum * mask, length, rate)
        weighted[name] = k_weighted(raw[name], rate)
    if "for" in masks:
        raw["without"] = clip.samples - raw["for"]
        weighted["without"] = clip.weighted - weighted["for"]
    else:
        silent["without"] = silent["for"]
    loud = {name: loudness_of_weighted(each, rate) for name, each in weighted.items() if name != "original"}
    peaks = {name: true_peak(each) for name, each in raw.items() if name != "original"}
    versions = _level(raw, {"original": clip.lufs} | loud, {"original": clip.true_peak_db} | peaks)
    order = [name for name in ("original", *VERSIONS) if name in versions]
    energy = energy_of_bands(clip.power, rate, band_hz)
    return Sonification({name: versions[name] for name in order}, silent, edge_share(relevance, energy))


def make_masks(
    power: np.ndarray,
    length: int,
    rate: int,
    relevance: np.ndarray,
    seconds: np.ndarray,
    band_hz: np.ndarray,
    softness: float,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Masks (bins, frames) in [0, 1] of "for" and "against", and why one of them is not there; power : see `Clip`."""
    if not 0 <= softness <= 1:
        raise ValueError(f"softness is {softness}, expected 0 to 1")
    grid = on_grid(relevance, seconds, band_hz, power.shape, length, rate)
    used = _used(grid)  # a network hears up to 8 kHz, say, of 22: above, all masks are shut
    grid, power, bins = grid[used], power[used], len(power)
    size = _energy_quantile(np.abs(grid), power)
    exponent = np.float32(4 ** (0.5 - softness))
    masks, silent = {}, {}
    for name, sign in (("for", 1), ("against", -1)):
        part = np.clip(grid * np.float32(sign / size if size > 0 else 0), 0, 1)
        if not np.vdot(part.T, power.T) > 0:
            silent[name] = "nothing raised the prediction" if name == "for" else "nothing lowered the prediction"
            continue
        mask = np.zeros((grid.shape[1], bins), dtype=np.float32)
        mask[:, used] = _smooth(part if exponent == 1 else part**exponent).T
        masks[name] = mask.T
    return masks, silent


def _used(grid: np.ndarray) -> slice:
    """The bins in which a map says anything, and those around them that smoothing reaches."""
    rows = np.flatnonzero(np.abs(grid).max(axis=1))
    reach = int(4 * SMOOTH_BINS + 0.5)
    return slice(max(rows[0] - reach, 0), rows[-1] + reach + 1) if len(rows) else slice(0, 1)


def on_grid(
    relevance: np.ndarray, seconds: np.ndarray, band_hz: np.ndarray, shape: tuple[int, int], length: int, rate: int
) -> np.ndarray:
    """A map (frames, bands) on the grid of a spectrum (bins, frames), 0 outside of its bands and its time."""
    bins, frames = shape
    times = np.linspace(0, length / rate, frames)
    hertz = np.linspace(0, rate / 2, bins)
    step = np.median(np.diff(seconds)) if len(seconds) > 1 else np.inf
    low, share = _places(times, seconds)
    relevance = relevance.astype(np.float32).T
    over_time = relevance[:, low] * (1 - share) + relevance[:, np.minimum(low + 1, len(seconds) - 1)] * share
    over_time[:, (times < seconds[0] - step) | (times > seconds[-1] + step)] = 0
    band, share = _places(hertz, band_hz)
    to_bins = np.zeros((bins, len(band_hz)), dtype=np.float32)
    to_bins[np.arange(bins), band] = 1 - share
    to_bins[np.arange(bins), np.minimum(band + 1, len(band_hz) - 1)] += share
    below, above = 2 * band_hz[0] - band_hz[1], 2 * band_hz[-1] - band_hz[-2]
    to_bins[(hertz < below) | (hertz > above)] = 0
    return (over_time.T @ to_bins.T).T  # in memory, as a spectrum is, one frame after the other


def _places(wanted: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centre at or before each wanted value, and the share of the way to the next; the ends reach outwards."""
    at = np.interp(wanted, centres, np.arange(len(centres)))
    low = np.floor(at).astype(int)
    return low, (at - low).astype(np.float32)


def _energy_quantile(size: np.ndarray, power: np.ndarray) -> float:
    """Relevance below which 95 % of the music's energy lies, of the energy that has any relevance at all.

    Found within the one of some thousand equal steps in which it lies, so that only that step's values are sorted.
    """
    size, power = size.T.ravel(), power.T.ravel()  # as they lie in memory
    most = float(size.max(initial=0.0))
    power = power * (size > 0)
    if most <= 0 or not power.any():
        return 0.0
    step = (size * np.float32(QUANTILE_STEPS / most)).astype(np.int32)
    energy = np.cumsum(np.bincount(step, power))
    wanted = FULL * energy[-1]
    found = int(np.searchsorted(energy, wanted))
    inside = np.flatnonzero(step == found)
    order = inside[np.argsort(size[inside])]
    share = np.cumsum(power[order], dtype=np.float64) + (energy[found - 1] if found else 0.0)
    return float(size[order[min(np.searchsorted(share, wanted), len(order) - 1)]])


def _smooth(mask: np.ndarray) -> np.ndarray:
    """Gaussian in frequency and time, by shifted sums, which are several times faster than a general filter."""
    out = np.array(mask.T, order="C")
    for start in range(0, out.shape[0], CHUNK):  # in parts that a processor's cache holds
        out[start : start + CHUNK] = _blurred(out[start : start + CHUNK], 1, SMOOTH_BINS)
    for start in range(0, out.shape[1], CHUNK):
        out[:, start : start + CHUNK] = _blurred(out[:, start : start + CHUNK], 0, SMOOTH_FRAMES)
    return np.minimum(out, 1, out=out).T


def _blurred(mask: np.ndarray, axis: int, deviation: float) -> np.ndarray:
    """Gaussian along an axis, cut at four standard deviations; the ends are repeated."""
    reach = int(4 * deviation + 0.5)
    weights = np.exp(-0.5 * (np.arange(reach + 1) / deviation) ** 2)
    weights = (weights / (2 * weights.sum() - weights[0])).astype(np.float32)
    padded = np.pad(mask, [(reach, reach) if each == axis else (0, 0) for each in (0, 1)], mode="edge")
    out, pair = mask * weights[0], np.empty_like(mask)
    for shift in range(1, reach + 1):
        before, after = (
            padded[(slice(None),) * axis + (slice(start, start + mask.shape[axis]),)]
            for start in (reach - shift, reach + shift)
        )
        np.add(before, after, out=pair)
        pair *= weights[shift]
        out += pair
    return out


def _transform(rate: int) -> tuple[int, int]:
    """Length and hop of the Fourier windows, samples."""
    n_fft = 2 ** round(np.log2(FFT_S * rate))
    return n_fft, n_fft // OVERLAP


def stft(samples: np.ndarray, rate: int) -> np.ndarray:
    """Complex64 spectrum (..., bins, frames), Hann windows, 75 % overlap, centred frames."""
    from scipy.fft import rfft

    n_fft, hop = _transform(rate)
    samples = np.asarray(samples, dtype=np.float32)
    padded = np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(n_fft // 2, n_fft)])
    starts = np.arange(0, samples.shape[-1] + n_fft // 2, hop)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=-1)[..., starts, :]
    return np.swapaxes(rfft(frames * _hann(n_fft), axis=-1, overwrite_x=True), -1, -2)


def istft(spectrum: np.ndarray, length: int, rate: int) -> np.ndarray:
    """Samples (..., length) of a spectrum of `stft`; overlap-add with the window again, so that masks do not click."""
    from scipy.fft import irfft

    n_fft, hop = _transform(rate)
    frames = irfft(np.swapaxes(spectrum, -1, -2), n_fft, axis=-1, overwrite_x=True)
    frames *= _hann(n_fft)
    count = frames.shape[-2]
    out = np.zeros((*frames.shape[:-2], count + OVERLAP, hop), dtype=np.float32)
    for part in range(OVERLAP):
        out[..., part : part + count, :] += frames[..., part * hop : (part + 1) * hop]
    out = out.reshape(*frames.shape[:-2], -1)[..., n_fft // 2 : n_fft // 2 + length]
    out /= _window_sum(n_fft, count)[n_fft // 2 : n_fft // 2 + length]
    return out


@lru_cache(maxsize=8)
def _window_sum(n_fft: int, count: int) -> np.ndarray:
    """What overlapping windows amount to, for each sample that `count` frames reach."""
    hop = n_fft // OVERLAP
    out = np.zeros((count + OVERLAP, hop), dtype=np.float32)
    for part in range(OVERLAP):
        out[part : part + count] += (_hann(n_fft) ** 2)[part * hop : (part + 1) * hop]
    return np.maximum(out.ravel(), 1e-3)


@lru_cache(maxsize=8)
def _hann(n_fft: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)


def mean_power(spectrum: np.ndarray) -> np.ndarray:
    """Squared magnitude (bins, frames), mean over channels."""
    channels = spectrum.reshape(-1, *spectrum.shape[-2:])
    power = channels.real**2 + channels.imag**2
    return power[0] if len(power) == 1 else power.mean(axis=0)


def energy_of_bands(power: np.ndarray, rate: int, band_hz: np.ndarray) -> np.ndarray:
    """Energy of a sound in each band of a map (bands,): every bin belongs to the band whose centre is nearest."""
    power = power.sum(axis=1, dtype=np.float64)
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
    return _level(raw, loud, {name: true_peak(samples) for name, samples in raw.items()})


def _level(raw: dict[str, np.ndarray], loud: dict[str, float], peaks: dict[str, float]) -> dict[str, Version]:
    """Versions with their gains; loud : LUFS and peaks : dBTP of the raw ones."""
    gains = {name: min(loud["original"] - loud[name], MOST_GAIN_DB) for name in raw}
    lower = max(0.0, max(peaks[name] + gains[name] for name in raw) - PEAK_DBTP)
    found = {}
    for name, samples in raw.items():
        gain = gains[name] - lower
        quiet = loud["original"] - loud[name] > MOST_GAIN_DB
        said = (
            f"too faint to be raised more than {MOST_GAIN_DB:g} dB, so it is quieter than the others" if quiet else ""
        )
        scaled = np.asarray(samples * np.float32(10 ** (gain / 20)), dtype=np.float32)
        found[name] = Version(scaled, gain, loud[name] + gain, peaks[name] + gain, said)
    return found
