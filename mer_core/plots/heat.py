"""Relevance maps as pictures without margins: warm raises the prediction, cool lowers it, over the music in grey.

Conventions: maps are (frames, bands), band 0 the lowest; pictures have the lowest band at the bottom. One colour scale
is symmetric around 0.
"""

from __future__ import annotations

import io

import numpy as np

from mer_core.plots.style import palette

FULL = 99.5  # percentile of |relevance| that is drawn in full colour
GROUND = {False: (255, 255, 255), True: (14, 17, 23)}


def heat_picture(relevance: np.ndarray, music: np.ndarray | None = None, dark: bool = False) -> bytes:
    """PNG of a map.

    Parameters
    ----------
    relevance : (frames, bands), any unit; all zero gives a picture of the music alone
    music : (frames, bands) log-magnitudes of the same grid, drawn in grey underneath; none when None
    dark : for a dark page

    Returns
    -------
    The bytes of a PNG of bands x frames pixels (height x width)
    """
    from PIL import Image

    ground = np.array(GROUND[dark], dtype=float)
    canvas = np.broadcast_to(ground, (*relevance.shape, 3))
    if music is not None:
        low, high = np.percentile(music, [5, 99.5])
        grey = np.clip((music - low) / max(high - low, 1e-9), 0, 1)[..., None]
        canvas = ground + grey * 0.55 * (np.array(GROUND[not dark]) - ground)
    size = np.percentile(np.abs(relevance), FULL) or np.abs(relevance).max() or 1.0
    strength = np.clip(relevance / size, -1, 1)[..., None]
    colours = palette(dark)
    warm, cool = (np.array([int(colours[name][i : i + 2], 16) for i in (1, 3, 5)]) for name in ("for", "against"))
    opacity = np.abs(strength) ** 0.6  # so that half the largest value is still seen
    picture = canvas * (1 - opacity) + np.where(strength > 0, warm, cool) * opacity
    pixels = np.round(picture).astype(np.uint8).transpose(1, 0, 2)[::-1]
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def axis_labels(values: np.ndarray, count: int, unit: str = "") -> tuple[str, ...]:
    """`count` labels of an axis, evenly spaced from its first value to its last."""
    chosen = np.interp(np.linspace(0, len(values) - 1, count), np.arange(len(values)), values)
    return tuple(f"{value / 1000:.1f} k{unit}" if value >= 1000 else f"{value:.3g} {unit}".strip() for value in chosen)
