"""What a network is given of tracks: windows of their spectrograms, or what frozen stages have made of these.

Conventions: `draw` gives tuples of arrays (b, w, ...), b tracks of w windows each; `cover` gives all windows of one
track, (w, ...). Frozen stages are run once; what they give lies in memory-mapped files in half precision.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mer_core.errors import UserError
from mer_core.models.training.spectrograms import Spectrograms, even_starts, even_windows, random_window
from mer_core.models.training.tracks import masked, shifted

AT_ONCE = 8  # windows in one pass
MAP = 5000  # numbers of a window: more are kept in half precision
LARGEST_GB = 4.0  # of outputs of frozen stages that are kept; more is computed anew in each epoch


@dataclass(frozen=True)
class Windows:
    """Windows of spectrograms.

    per_track : drawn of each track; most : that cover one; augment : chance that a drawn one is shifted and masked
    """

    spectrograms: Spectrograms
    per_track: int = 1
    most: int = 8
    augment: float = 0.0

    def draw(self, tracks: list[str], random: np.random.Generator) -> tuple[np.ndarray, ...]:
        """(b, w, frames, bands) float32 at random places."""
        frames, rows = self.spectrograms.style.frames, []
        for track in tracks:
            for _ in range(self.per_track):
                window = random_window(self.spectrograms.tables[track], frames, random).astype(np.float32)
                rows.append(masked(shifted(window, random), random) if random.random() < self.augment else window)
        return (np.stack(rows).reshape(len(tracks), self.per_track, *rows[0].shape),)

    def cover(self, track: str) -> tuple[np.ndarray, ...]:
        """(w, frames, bands) float32, evenly over the track."""
        table, frames = self.spectrograms.tables[track], self.spectrograms.style.frames
        return (even_windows(table, frames, self.most).astype(np.float32),)


@dataclass(frozen=True)
class Kept:
    """What frozen stages give for the windows that cover each track; `tables` by track id, each (w, ...)."""

    tables: dict[str, tuple[np.ndarray, ...]]
    per_track: int = 1

    def draw(self, tracks: list[str], random: np.random.Generator) -> tuple[np.ndarray, ...]:
        """(b, w, ...) of windows chosen at random, none twice where there are enough."""
        rows = []
        for track in tracks:
            count = len(self.tables[track][0])
            chosen = random.choice(count, self.per_track, replace=count < self.per_track)
            rows.append([part[np.sort(chosen)].astype(np.float32) for part in self.tables[track]])
        return tuple(np.stack(column) for column in zip(*rows, strict=True))

    def cover(self, track: str) -> tuple[np.ndarray, ...]:
        """(w, ...) float32."""
        return tuple(np.array(part, np.float32) for part in self.tables[track])


def keep_outputs(
    network: object,
    stop: int,
    windows: Windows,
    folder: Path,
    report: Callable[[float], None] = lambda share: None,
) -> Kept | None:
    """What the stages before number `stop` give for all tracks: run once, then read from the cache.

    Parameters
    ----------
    network : a `Staged`, whose first stages are as they will stay
    folder : of the cache; the files' name follows from those stages and the spectrograms
    report : called with the share that is done

    Returns
    -------
    None where the arrays would be larger than 4 GB: the caller then runs the stages in every epoch

    Raises
    ------
    UserError : the disk is full
    """
    tables = windows.spectrograms.tables
    counts = [
        len(even_starts(len(table), windows.spectrograms.style.frames, windows.most)) for table in tables.values()
    ]
    ends = np.concatenate([[0], np.cumsum(counts)])
    names = _addresses(network, windows)

    def read(count: int) -> Kept:
        files = [np.load(path, mmap_mode="r") for path in sorted((folder / names[count - 1]).glob("part-*.npy"))]
        found = {track: tuple(file[ends[i] : ends[i + 1]] for file in files) for i, track in enumerate(tables)}
        return Kept(found, windows.per_track)

    if not (folder / names[stop - 1]).is_dir():
        first = next((count for count in range(stop - 1, 0, -1) if (folder / names[count - 1]).is_dir()), 0)
        source = read(first) if first else windows  # from what another schedule has left here
        if not _run_stages(network, (first, stop), source, list(tables), ends, folder / names[stop - 1], report):
            return None
    return read(stop)


def _addresses(network: object, windows: Windows) -> list[str]:
    """Folder of what each stage gives: its name, and digits that change with any weight so far or any spectrogram."""
    digest = hashlib.sha256(repr((windows.spectrograms.style, windows.most)).encode())
    for track, table in windows.spectrograms.tables.items():
        digest.update(track.encode())
        digest.update(np.ascontiguousarray(table).tobytes())
    found = []
    for name in network.names:
        digest.update(name.encode())
        for tensor in network.stages[name].state_dict().values():
            digest.update(tensor.detach().cpu().numpy().tobytes())
        found.append(f"to-{name}-{digest.hexdigest()[:16]}")
    return found


def _run_stages(network, span: tuple[int, int], source, tracks: list[str], ends, address: Path, report) -> bool:
    """Run stages over what `source` has of all tracks and write their outputs; False where these would be too large."""
    import torch

    device, files = next(network.parameters()).device, []
    partial = address.with_name(f".{address.name}.{os.getpid()}.partial")
    network.eval()
    try:
        with torch.inference_mode():
            for number, track in enumerate(tracks):
                batches = zip(
                    *(torch.from_numpy(part).to(device).split(AT_ONCE) for part in source.cover(track)), strict=True
                )
                outputs = [network(batch if len(batch) > 1 else batch[0], *span) for batch in batches]
                outputs = [output if isinstance(output, tuple) else (output,) for output in outputs]
                arrays = [torch.cat(column).float().cpu().numpy() for column in zip(*outputs, strict=True)]
                if not files:
                    if sum(2 * int(ends[-1]) * array[0].size for array in arrays) > LARGEST_GB * 1e9:
                        return False
                    files = _files(partial, int(ends[-1]), arrays)
                for file, array in zip(files, arrays, strict=True):
                    file[ends[number] : ends[number + 1]] = array
                report((number + 1) / len(tracks))
        for file in files:
            file.flush()
        if not address.is_dir():  # another process may have been faster
            os.replace(partial, address)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _files(folder: Path, rows: int, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Memory-mapped arrays for so many rows like these; half precision where the numbers are maps."""
    folder.mkdir(parents=True, exist_ok=True)
    size = sum(rows * array[0].size * (2 if array[0].size > MAP else 4) for array in arrays)
    if shutil.disk_usage(folder).free < size:
        raise UserError(f"{folder.parent} has no room for the outputs of the frozen stages ({size / 1e9:.1f} GB)")
    return [
        np.lib.format.open_memmap(
            folder / f"part-{i}.npy", "w+", np.float16 if array[0].size > MAP else np.float32, (rows, *array.shape[1:])
        )
        for i, array in enumerate(arrays)
    ]
