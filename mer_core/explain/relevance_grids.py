"""Where a network's inputs lie in time and frequency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mer_core.errors import UserError
from mer_core.models.backbones import Backbone, front_ends, hub_front_ends


@dataclass(frozen=True)
class Grid:
    """Frames and bands of a front end.

    frame_s : step from frame to frame, s; offset_s : centre of the first frame of a window after the window's start
    band_hz : (bands,) centres, rising; edges_hz : where the lowest band begins and the highest ends
    axes : windows of relevance, as the network takes them -> (w, frames, bands)
    floor : what silence looks like to the network; None where that depends on the clip
    rule : of relevance propagation, where none is asked for
    """

    frame_s: float
    offset_s: float
    band_hz: np.ndarray
    edges_hz: tuple[float, float]
    axes: Callable[[np.ndarray], np.ndarray]
    floor: float | None = None
    rule: str = "gamma-silence"


def grid_of(backbone: Backbone) -> Grid:
    """The grid of a backbone's windows; UserError for one whose windows have no frames and bands."""
    name = backbone.name
    family = name if name in GRIDS else name.partition("-")[0]
    if family not in GRIDS:
        raise UserError(
            f"relevance of {name} has no frames and bands to be shown on; choose a backbone of {', '.join(GRIDS)}"
        )
    return GRIDS[family]()


def _rows(windows: np.ndarray) -> np.ndarray:
    return windows


def _turned(windows: np.ndarray) -> np.ndarray:
    return windows.swapaxes(1, 2)


def _channel(windows: np.ndarray) -> np.ndarray:
    return windows[:, 0]


def _channel_turned(windows: np.ndarray) -> np.ndarray:
    return windows[:, 0].swapaxes(1, 2)


def _slaney(hop: int, rate: int, bands: int, low: float, high: float, axes: Callable, floor: float | None) -> Grid:
    import librosa

    hz = librosa.mel_frequencies(bands + 2, fmin=low, fmax=high)
    return Grid(hop / rate, 0.0, hz[1:-1], (hz[0], hz[-1]), axes, floor)


def _htk(hop: int, rate: int, bands: int, low: float, high: float, axes: Callable, offset_s: float = 0.0) -> Grid:
    """Bands on the scale 1127 ln(1 + f / 700), which is Kaldi's and HTK's."""
    mel = np.linspace(*(1127 * np.log1p(np.array([low, high]) / 700)), bands + 2)
    hz = 700 * np.expm1(mel / 1127)
    return Grid(hop / rate, offset_s, hz[1:-1], (hz[0], hz[-1]), axes)


def _musicnn() -> Grid:
    rate, hop, bands = front_ends.MUSIC_RATE, front_ends.MUSIC_HOP, front_ends.MUSIC_BANDS
    return _slaney(hop, rate, bands, 0, rate / 2, _rows, 0.0)


def _tagger() -> Grid:
    rate, hop, bands = front_ends.MUSIC_RATE, front_ends.MUSIC_HOP, front_ends.MUSIC_BANDS
    return _htk(hop, rate, bands, 0, rate / 2, _turned)


def _efficientat() -> Grid:
    rate, hop, bands = front_ends.AUDIOSET_RATE, front_ends.AUDIOSET_HOP, front_ends.AUDIOSET_BANDS
    return _htk(hop, rate, bands, 0, front_ends.AUDIOSET_TOP, _channel_turned)


def _ast() -> Grid:
    grid = _htk(160, hub_front_ends.AST_RATE, 128, 20, hub_front_ends.AST_RATE / 2, _rows, 0.0125)
    return replace(grid, rule="cp-lrp-gamma")


def _cnn14() -> Grid:
    ends = hub_front_ends
    return _slaney(ends.CNN14_HOP, ends.CNN14_RATE, ends.CNN14_BANDS, *ends.CNN14_RANGE, _channel, None)


def _vggish() -> Grid:
    ends = hub_front_ends
    return _htk(ends.VGGISH_HOP, ends.VGGISH_RATE, ends.VGGISH_BANDS, *ends.VGGISH_RANGE, _channel, 0.0125)


GRIDS = {
    "musicnn": _musicnn,
    "vgg": _musicnn,
    "tagger": _tagger,
    "efficientat": _efficientat,
    "ast": _ast,
    "cnn14": _cnn14,
    "vggish": _vggish,
}


def lay_out(
    windows: np.ndarray, starts_s: np.ndarray, grid: Grid, duration_s: float, repeated: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Add windows of relevance up on the frames of the clip.

    Parameters
    ----------
    windows : (t, w, frames, bands)
    starts_s : (w,) where windows begin
    repeated : whether a window goes on, after the clip's end, with the clip from its start; else with padding

    Returns
    -------
    values (t, frames of the clip, bands) float32, and what fell on padding (t,)
    """
    count = max(1, round((duration_s - grid.offset_s) / grid.frame_s) + (0 if repeated else 1))
    values = np.zeros((len(windows), count, windows.shape[3]), np.float64)
    padding = np.zeros(len(windows))
    for index, start in enumerate(starts_s):
        frames = round(start / grid.frame_s) + np.arange(windows.shape[2])
        inside = frames < count
        if repeated:
            frames, inside = frames % count, np.ones(len(frames), bool)
        for target, rows in enumerate(windows[:, index]):
            np.add.at(values[target], frames[inside], rows[inside])
            padding[target] += rows[~inside].sum(dtype=np.float64)
    return values.astype(np.float32), padding
