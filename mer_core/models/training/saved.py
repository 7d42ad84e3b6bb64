"""Networks of a finished training on disk: `network.json` and one safetensors file a round; loading runs no code.

A new track's rating is the mean over the networks of all rounds, each the mean over the track's windows.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mer_core.errors import UserError
from mer_core.models.training.networks import Shape, find_network, style_of
from mer_core.models.training.spectrograms import even_windows
from mer_core.models.training.tuning import Tuned, window_outputs
from mer_core.models.training.windows import Kept

FILE = "network.json"
SCHEMA = 1


@dataclass(frozen=True)
class Saved:
    """Networks as they were trained; `seconds` is the length of the window they take."""

    network: str
    shape: Shape
    targets: tuple[str, ...]
    seconds: float
    models: tuple[Tuned, ...]

    @property
    def style(self) -> object:
        """Of their spectrograms."""
        return style_of(self.network, self.shape, self.seconds)


def save_networks(
    folder: Path, name: str, shape: Shape, targets: tuple[str, ...], seconds: float, models: dict, facts: dict
) -> None:
    """Write the networks of all rounds; `models` by round, `facts` are added to `network.json`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    rounds = []
    for part, tuned in models.items():
        file = folder / f"round-{part}.safetensors"
        save_file({key: tensor.cpu().contiguous() for key, tensor in tuned.network.state_dict().items()}, file)
        sums = hashlib.sha256(file.read_bytes()).hexdigest()
        rounds.append({"file": file.name, "sha256": sums, "centre": list(tuned.centre), "spread": list(tuned.spread)})
    about = {"schema": SCHEMA, "network": name, "shape": asdict(shape), "targets": list(targets), "seconds": seconds}
    text = json.dumps(about | {"rounds": rounds} | facts, indent=1)
    (folder / FILE).write_text(text, encoding="utf-8")


def load_about(folder: Path) -> dict:
    """`network.json`; UserError where there is none or another version wrote it."""
    try:
        about = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / FILE} cannot be read ({error}); make the run again") from None
    if about.get("schema") != SCHEMA:
        raise UserError(
            f"{folder / FILE} has schema {about.get('schema')!r}, expected {SCHEMA}: another version wrote it"
        )
    return about


def style_of_about(about: dict) -> object:
    """Style of the spectrograms that the networks of a `network.json` take."""
    return style_of(about["network"], Shape(**about["shape"]), about["seconds"])


def load_networks(folder: Path) -> Saved:
    """Read what `save_networks` wrote; UserError for files that are missing, damaged or of another network."""
    about = load_about(folder)
    shape, models = Shape(**about["shape"]), []
    for entry in about["rounds"]:
        state = _read(folder / entry["file"], entry["sha256"])
        network, _ = find_network(about["network"]).build(len(entry["centre"]), "random", shape)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip()[:120]
            raise UserError(f"{folder / entry['file']} is of another architecture ({reason}); train again") from None
        models.append(Tuned(network.eval(), np.array(entry["centre"]), np.array(entry["spread"]), ()))
    return Saved(about["network"], shape, tuple(about["targets"]), about["seconds"], tuple(models))


def _read(path: Path, checksum: str) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            raise UserError(f"{path} has another checksum than when it was written; make the run again")
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; make the run again") from None
    except SafetensorError as error:
        raise UserError(f"{path} cannot be read as safetensors ({error}); make the run again") from None


def predict_table(saved: Saved, table: np.ndarray) -> np.ndarray:
    """(t,) ratings of a track, from its spectrogram (frames, bands)."""
    windows = even_windows(table, saved.style.frames)
    return np.mean([_ratings(saved, model, windows).mean(axis=0) for model in saved.models], axis=0)


def predict_over_time(saved: Saved, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (w,) s of windows one second apart, and their ratings (w, t); a track shorter than a window has one."""
    style = saved.style
    count = 1 + int(max(0, len(table) - style.frames) / style.per_second)
    starts = np.round(np.arange(count) * style.per_second).astype(int)
    if len(table) <= style.frames:
        windows = even_windows(table, style.frames)
    else:
        windows = np.stack([table[start : start + style.frames] for start in starts])
    centres = starts / style.per_second + min(style.seconds, len(table) / style.per_second) / 2
    return centres, np.mean([_ratings(saved, model, windows) for model in saved.models], axis=0)


def _ratings(saved: Saved, model: Tuned, windows: np.ndarray) -> np.ndarray:
    """Ratings (w, t) of windows (w, frames, bands) by one network."""
    rated = len(saved.targets)
    outputs = window_outputs(model.network, 0, Kept({"": (windows,)}), "")[:, :rated]
    return outputs * model.spread[:rated] + model.centre[:rated]
