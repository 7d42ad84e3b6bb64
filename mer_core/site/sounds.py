"""A clip's versions as files: an excerpt, sonified at equal loudness, as MP3 whose decoded level is measured.

An encoder changes levels (LAME turns constant bit rates down by 0.45 dB) and peaks; so each file is decoded again, put
right, and the numbers that are told are those of the decoded file.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from mer_core.explain.levels import loudness, true_peak
from mer_core.explain.maps import RelevanceMap
from mer_core.explain.sonify import PEAK_DBTP, Sonification, sonify

RATE = 22050  # relevance ends at 8 to 11 kHz
TOTAL_S, SHORTEST_S, LONGEST_S = 240.0, 10.0, 30.0  # of all excerpts together, which keeps a site below 12 MB; of one
BIT_RATE = 64  # kb/s, constant, so that browsers seek exactly
LOWEST_RATE, HIGHEST_RATE = 8, 160  # kb/s of MP3 at 22.05 kHz, between which libsndfile's level is linear
LEVEL_LU = 0.1
TRIALS = 5


@dataclass(frozen=True)
class Sound:
    """One version as a file: its bytes; gain_db, lufs and true_peak_db of what it decodes to; said : what to know."""

    data: bytes
    gain_db: float
    lufs: float
    true_peak_db: float
    said: str


@dataclass(frozen=True)
class Sounds:
    """All versions of a clip by name, "original" first; `sonified` tells which are silent, and of edge artefacts."""

    versions: dict[str, Sound]
    sonified: Sonification
    suffix: str


def excerpt_length(readings: int) -> float:
    """Seconds that each of so many readings may have at most: 20 where there are twelve."""
    return float(np.clip(TOTAL_S / max(readings, 1), SHORTEST_S, LONGEST_S))


def excerpt_of(found: RelevanceMap, longest_s: float) -> tuple[float, float]:
    """Start and end in seconds of what is shown: all, or the stretch in which the map has most, by half seconds."""
    if found.duration_s <= longest_s:
        return 0.0, found.duration_s
    size = np.abs(found.values[0]).sum(axis=1)
    total = np.concatenate([[0.0], np.cumsum(size)])
    starts = np.arange(0, found.duration_s - longest_s + 1e-9, 0.5)
    inside = [np.searchsorted(found.seconds, (start, start + longest_s)) for start in starts]
    start = float(starts[int(np.argmax([total[stop] - total[begin] for begin, stop in inside]))])
    return start, start + longest_s


def make_sounds(samples: np.ndarray, found: RelevanceMap, start: float) -> Sounds:
    """Sonify an excerpt and encode its versions.

    Parameters
    ----------
    samples : (n,) float32 at `RATE`, the excerpt, which begins `start` seconds into the clip
    found : map of one target over the whole clip

    Raises
    ------
    UserError : silence, or an excerpt below 0.4 s
    """
    end = start + len(samples) / RATE
    inside = (found.seconds >= start) & (found.seconds < end)
    made = sonify(samples, RATE, found.values[0][inside], found.seconds[inside] - start, found.band_hz)
    suffix = "mp3" if _writes_mp3() else "flac"
    return Sounds(_encoded(made, suffix), made, suffix)


def _encoded(made: Sonification, suffix: str) -> dict[str, Sound]:
    """Encode, decode and put right until all versions are as loud as meant and no peak is too high."""
    trim, drop = dict.fromkeys(made.versions, 0.0), 0.0
    for _ in range(TRIALS):
        data = {
            name: encode(version.samples * 10 ** ((trim[name] - drop) / 20), suffix)
            for name, version in made.versions.items()
        }
        heard = {name: decode(each) for name, each in data.items()}
        lufs = {name: loudness(samples, RATE) for name, samples in heard.items()}
        peaks = {name: true_peak(samples) for name, samples in heard.items()}
        off = {name: version.lufs - drop - lufs[name] for name, version in made.versions.items()}
        over = max(peaks.values()) - PEAK_DBTP
        if over <= 0 and max(map(abs, off.values())) <= LEVEL_LU:
            break
        trim = {name: trim[name] + off[name] for name in trim}
        # What is put right after this adds to the peak too.
        drop += max(0.0, max(peaks[name] + off[name] for name in peaks) - PEAK_DBTP + 0.02)
    return {
        name: Sound(data[name], version.gain_db + lufs[name] - version.lufs, lufs[name], peaks[name], version.said)
        for name, version in made.versions.items()
    }


def encode(samples: np.ndarray, suffix: str) -> bytes:
    """MP3 at 64 kb/s, or 16-bit FLAC, of mono samples at `RATE`."""
    import soundfile

    stream = io.BytesIO()
    kind = {"format": "FLAC", "subtype": "PCM_16"}
    if suffix == "mp3":
        level = (HIGHEST_RATE - BIT_RATE) / (HIGHEST_RATE - LOWEST_RATE)
        kind = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT", "compression_level": level}
    soundfile.write(stream, np.asarray(samples, dtype=np.float32), RATE, **kind)
    return stream.getvalue()


def decode(data: bytes) -> np.ndarray:
    """Samples (n,) of a file of ours."""
    import soundfile

    return soundfile.read(io.BytesIO(data), dtype="float32")[0]


def _writes_mp3() -> bool:
    import soundfile

    return "MP3" in soundfile.available_formats()
