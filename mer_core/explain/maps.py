"""Relevance maps of tracks, and the folder they are kept in, `explanations/lrp/`.

The folder holds `maps.json` (schema version, rule, reference, targets, and per track its times, its bands and all
numbers that are not on the map) and one `NUMBER.npy` a track: (targets, frames, bands), float16 in units of `scale`,
which is per target and written in the JSON, so that small relevance keeps its precision. Arrays are read memory-mapped;
nothing in the folder can run code. Ten seconds of three targets on musicnn's grid take 0.36 MB.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mer_core.errors import UserError

SCHEMA = 1
FILE = "maps.json"
REMAINDER = ("missing", "biases", "stabilisers", "padding")
AGAIN = "make the maps again with: python -m pipelines explain --method lrp"


@dataclass(frozen=True)
class RelevanceMap:
    """Relevance of every place of a clip for some ratings, in rating points (a classifier's: of the logit).

    values : (t, frames, bands) float32; positive raises the prediction
    seconds : (frames,) centres; band_hz : (bands,) centres; edges_hz : where bands begin and end
    targets : (t,)
    base, predicted : (t,)
    remainder : (4, t) what is not on the map: rows as `REMAINDER`
    conservation_error : (t,) what the network lost or gained, relative to all that was handed to it, signs apart
    rule, reference : how relevance was handed on, and relative to what
    heard_s, duration_s : how much of the clip the network has heard, and its length
    note : what was done to a clip shorter than a window, or None
    """

    values: np.ndarray
    seconds: np.ndarray
    band_hz: np.ndarray
    edges_hz: tuple[float, float]
    targets: tuple[str, ...]
    base: np.ndarray
    predicted: np.ndarray
    remainder: np.ndarray
    conservation_error: np.ndarray
    rule: str
    reference: str
    heard_s: float
    duration_s: float
    note: str | None = None

    def gap(self) -> np.ndarray:
        """(t,) prediction - base - map - remainder: 0 but for rounding."""
        total = self.values.sum(axis=(1, 2), dtype=np.float64) + self.remainder.sum(axis=0)
        return self.predicted - self.base - total


def write_maps(folder: str | Path, maps: Iterable[tuple[str, RelevanceMap]], about: dict | None = None) -> int:
    """Write (track id, map) pairs into a folder, which is made; return how many.

    about : what else the JSON says, such as backbone and weights
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tracks = []
    for number, (track, found) in enumerate(maps):
        scale = np.abs(found.values).max(axis=(1, 2)).astype(np.float64)
        stored = found.values / np.where(scale == 0, 1, scale)[:, None, None]
        np.save(folder / f"{number:05d}.npy", stored.astype(np.float16), allow_pickle=False)
        tracks.append(_entry(track, f"{number:05d}.npy", found, scale))
    content = {
        "schema": SCHEMA,
        "kind": "relevance maps",
        "axes": ["target", "frame", "band"],
        "sign": "a positive value raises the prediction",
        "sum": f"prediction = base + sum of the map + {' + '.join(REMAINDER)}",
        **(about or {}),
        "tracks": tracks,
    }
    # Last, so that a folder with this file is complete.
    (folder / FILE).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    return len(tracks)


def _entry(track: str, file: str, found: RelevanceMap, scale: np.ndarray) -> dict:
    """What the JSON says of a track."""
    step = float(np.diff(found.seconds).mean()) if len(found.seconds) > 1 else 0.0
    plain = {name: value for name, value in asdict(found).items() if name not in ("values", "seconds")}
    numbers = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in plain.items()}
    shape = list(found.values.shape)
    return (
        {"track": str(track), "file": file, "shape": shape, "scale": scale.tolist()}
        | numbers
        | {
            "first_s": float(found.seconds[0]),
            "frame_s": step,
        }
    )


def read_about(folder: str | Path) -> dict:
    """The folder's JSON, with `tracks` by id.

    Raises
    ------
    UserError : no maps there, of another version, or damaged
    """
    file = Path(folder) / FILE
    if not file.is_file():
        raise UserError(f"{folder} holds no {FILE}; {AGAIN}")
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        if about["schema"] != SCHEMA:
            raise UserError(f"{file} has schema {about['schema']!r}, this version reads {SCHEMA}; {AGAIN}")
        return about | {"tracks": {entry["track"]: entry for entry in about["tracks"]}}
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is damaged ({error!r}); {AGAIN}") from error


def read_map(folder: str | Path, track: str, targets: tuple[str, ...] | None = None) -> RelevanceMap:
    """A track's map; of the memory-mapped array only the wanted targets are read.

    Raises
    ------
    UserError : no such track or target, or a damaged file
    """
    known = read_about(folder)["tracks"]
    if track not in known:
        raise UserError(f"track {track!r} has no relevance map in {folder}; it has {', '.join(list(known)[:5])} ...")
    entry = known[track]
    targets = tuple(targets or entry["targets"])
    if unknown := [target for target in targets if target not in entry["targets"]]:
        raise UserError(f"{', '.join(unknown)} has no relevance map; choose from {', '.join(entry['targets'])}")
    stored = _read_array(Path(folder) / entry["file"], entry["shape"])
    chosen = [entry["targets"].index(target) for target in targets]
    scale = np.array(entry["scale"])[chosen]
    seconds = entry["first_s"] + np.arange(entry["shape"][1]) * entry["frame_s"]
    return RelevanceMap(
        values=stored[chosen].astype(np.float32) * scale[:, None, None].astype(np.float32),
        seconds=seconds,
        band_hz=np.array(entry["band_hz"]),
        edges_hz=tuple(entry["edges_hz"]),
        targets=targets,
        base=np.array(entry["base"])[chosen],
        predicted=np.array(entry["predicted"])[chosen],
        remainder=np.array(entry["remainder"])[:, chosen],
        conservation_error=np.array(entry["conservation_error"])[chosen],
        **{name: entry[name] for name in ("rule", "reference", "heard_s", "duration_s", "note")},
    )


def _read_array(file: Path, shape: list[int]) -> np.ndarray:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file} is missing or damaged ({error}); {AGAIN}") from error
    if list(array.shape) != shape or array.dtype != np.float16:
        raise UserError(f"{file} holds {array.dtype} {array.shape}, not float16 {tuple(shape)}; {AGAIN}")
    return array
