"""Heat maps of an excerpt, for a light and a dark page, with the music in grey underneath where it may be published."""

from __future__ import annotations

import io

import numpy as np

from mer_core.explain.maps import RelevanceMap
from mer_core.explain.sonify import stft
from mer_core.plots.heat import heat_picture

WIDEST = 600  # columns
COLOURS = 128
FLOOR_DB = -80.0


def heat_pictures(
    found: RelevanceMap, start: float, end: float, samples: np.ndarray | None, rate: int
) -> tuple[bytes, bytes]:
    """PNGs for a light and a dark page of the map of one target between `start` and `end` seconds.

    samples : (n,) the music between them, or None where only the relevance may be shown
    """
    grid = over_time(found, start, end)
    music = None if samples is None else music_on(samples, rate, found.band_hz, len(grid))
    return tuple(_smaller(heat_picture(grid, music, dark)) for dark in (False, True))


def over_time(found: RelevanceMap, start: float, end: float) -> np.ndarray:
    """Means (columns, bands) of the map over evenly spaced stretches of time; 0 where the network heard nothing."""
    inside = (found.seconds >= start) & (found.seconds < end)
    seconds, values = found.seconds[inside], found.values[0][inside]
    step = float(np.diff(found.seconds).mean()) if len(found.seconds) > 1 else end - start
    columns = int(np.clip((end - start) / step, 1, WIDEST))
    column = np.minimum(((seconds - start) / (end - start) * columns).astype(int), columns - 1)
    count = np.bincount(column, minlength=columns)
    sums = np.zeros((columns, values.shape[1]))
    np.add.at(sums, column, values)
    return sums / np.maximum(count, 1)[:, None]


def music_on(samples: np.ndarray, rate: int, band_hz: np.ndarray, columns: int) -> np.ndarray:
    """Level in dB (columns, bands) of the music at a map's bands, evenly spaced in time."""
    power = np.abs(stft(np.asarray(samples, dtype=np.float64), rate)) ** 2  # bins x frames
    level = 10 * np.log10(np.maximum(power / max(power.max(), 1e-12), 10 ** (FLOOR_DB / 10)))
    hertz = np.linspace(0, rate / 2, len(level))
    at_bands = np.stack([np.interp(band_hz, hertz, frame) for frame in level.T])
    at = np.clip((np.arange(columns) + 0.5) / columns * len(at_bands), 0, len(at_bands) - 1).astype(int)
    return at_bands[at]


def _smaller(png: bytes) -> bytes:
    """The picture in 128 colours of its own, about a third of the bytes."""
    from PIL import Image

    stream = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()
