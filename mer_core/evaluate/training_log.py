"""What happens while networks are trained: a line of JSON an epoch, for the app, and TensorBoard events.

`curves.jsonl` in a job's folder has for each epoch: phase, fold, step, epoch, loss, score (validation error), r2 and
pearson of each target on the validation part, learning_rate, seconds, loader_share.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.errors import UserError

CURVES = "curves.jsonl"
EVENTS = "tensorboard"
EVERY = 5  # epochs between pictures
CELLS, EDGE = 64, 3.0  # of the scatter picture: pixels a side, standard deviations at its border


class TrainingLog:
    """Writes while it is open; `rows` are what was written."""

    def __init__(self, folder: Path, targets: tuple[str, ...]):
        """`folder` : the job's; `targets` : names of the ratings."""
        self.folder, self.targets, self.rows = folder, targets, []
        self._writers: dict[str, object] = {}

    def __enter__(self) -> TrainingLog:
        """Begin with an empty file."""
        (self.folder / CURVES).write_text("", encoding="utf-8")
        return self

    def __exit__(self, *problem: object) -> None:
        """Close the events."""
        for writer in self._writers.values():
            writer.close()

    def add(self, found: dict) -> None:
        """A row; `outputs` and `errors` (n, t) of the validation part, in standard deviations, become scores."""
        outputs, errors = found.pop("outputs", None), found.pop("errors", None)
        row = {"phase": "fine-tuning"} | found
        if outputs is not None:
            row |= self._scores(outputs, outputs - errors)
        self.rows.append(row)
        with (self.folder / CURVES).open("a", encoding="utf-8") as file:
            file.write(json.dumps({k: v if _finite(v) else None for k, v in row.items()}) + "\n")
        self._to_tensorboard(row, outputs, errors)

    def table(self) -> pd.DataFrame:
        """All rows."""
        return pd.DataFrame(self.rows)

    def summary(self) -> str:
        """How long it took, and the share of the time that batches were waited for after the first epoch of a step."""
        if not self.rows:
            return "no epoch was trained: the head was solved"
        table = self.table()
        later, text = table[table["epoch"] > 0], f"{len(table)} epochs in {table['seconds'].sum():.0f} s"
        if len(later):
            share = (later["loader_share"] * later["seconds"]).sum() / later["seconds"].sum()
            text += f"; {share:.1%} of the time after first epochs went into loading batches"
        if "pieces" in table and table["pieces"].max() > 1:
            text += f"; batches were cut in {table['pieces'].max()} to fit into the accelerator's memory"
        return text

    def _scores(self, outputs: np.ndarray, true: np.ndarray) -> dict:
        """R2 and Pearson's r of each target on the validation part."""
        found = {}
        for column, target in enumerate(self.targets[: outputs.shape[1]]):
            x, y = outputs[:, column], true[:, column]
            spread = float(np.sum((y - y.mean()) ** 2))
            found[f"r2_{target}"] = 1 - float(np.sum((x - y) ** 2)) / spread if spread > 0 else math.nan
            found[f"pearson_{target}"] = float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else math.nan
        return found

    def _to_tensorboard(self, row: dict, outputs: np.ndarray | None, errors: np.ndarray | None) -> None:
        """Scalars each epoch; scatter and error histograms every few."""
        name = "-".join(str(row[key]) for key in ("phase", "fold", "step") if key in row)
        if name not in self._writers:
            self._writers[name] = open_events(self.folder / EVENTS / name.replace(" ", "-"))
        writer, epoch = self._writers[name], row["epoch"]
        for key, value in row.items():
            if key not in ("epoch", "step") and isinstance(value, float) and math.isfinite(value):
                writer.add_scalar(key, value, epoch)
        if outputs is not None and epoch % EVERY == 0:
            for column, target in enumerate(self.targets[: outputs.shape[1]]):
                writer.add_histogram(f"error/{target}", errors[:, column], epoch)
                writer.add_image(f"scatter/{target}", scatter(outputs - errors, outputs, column), epoch)
        writer.flush()


def open_events(folder: Path) -> object:
    """A writer of TensorBoard events; UserError where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("TensorBoard is not installed; install it with: pip install tensorboard") from None
    return SummaryWriter(str(folder))


def scatter(true: np.ndarray, predicted: np.ndarray, column: int) -> np.ndarray:
    """Picture (1, 64, 64) in 0..1 of predicted against true standardised ratings, the diagonal in grey."""
    edges = np.linspace(-EDGE, EDGE, CELLS + 1)
    inside = (np.clip(x[:, column], -EDGE, EDGE - 1e-9) for x in (predicted, true))
    counts, _, _ = np.histogram2d(*inside, bins=(edges, edges))
    picture = np.where(counts > 0, 1.0, 0.4 * np.eye(CELLS))
    return picture[::-1][None]


def _finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
