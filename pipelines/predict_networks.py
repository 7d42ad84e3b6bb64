"""`predict` with the networks of a run of `finetune`: the mean over those of its folds."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from mer_core.errors import UserError


def predict(run, files: list[str], workers: int | None) -> tuple[list[dict], int]:
    """Rows for the CSV, in the order of the files, and how many of them failed; as `pipelines.predict.predict`."""
    from mer_core.models.training.saved import FILE, load_networks, predict_table

    saved = load_networks(run.folder / "model")
    half = json.loads((run.folder / "model" / FILE).read_text(encoding="utf-8"))["interval_halfwidth"]
    low, high = run.about["dataset"]["scale"]
    found = dict(zip(files, _heard(saved, files, workers), strict=True))
    rows = []
    for file in files:
        row, table = {"path": file}, found[file]
        if isinstance(table, Exception):
            row["error"] = str(table)
        else:
            for target, value in zip(saved.targets, predict_table(saved, table), strict=True):
                value = min(max(float(value), low), high)
                row |= {target: f"{value:.4f}"}
                row |= {
                    f"{target}_lower": f"{max(value - half[target], low):.4f}",
                    f"{target}_upper": f"{min(value + half[target], high):.4f}",
                }
        rows.append(row)
    return rows, sum("error" in row for row in rows)


def write_windows(run, files: list[str], workers: int | None, out: str) -> None:
    """Write ratings of windows one second apart: path, seconds (the window's centre), target, predicted."""
    from mer_core.models.training.saved import load_networks, predict_over_time

    saved, tables = load_networks(run.folder / "model"), []
    files = list(dict.fromkeys(files))
    for file, table in zip(files, _heard(saved, files, workers), strict=True):
        if isinstance(table, Exception):
            continue
        seconds, ratings = predict_over_time(saved, table)
        tables += [
            pd.DataFrame({"path": file, "seconds": seconds, "target": target, "predicted": ratings[:, column]})
            for column, target in enumerate(saved.targets)
        ]
    columns = ["path", "seconds", "target", "predicted"]
    (pd.concat(tables) if tables else pd.DataFrame(columns=columns)).round(4).to_csv(out, index=False)


def _heard(saved, files: list[str], workers: int | None) -> list[np.ndarray | Exception]:
    """Spectrogram of each file, or why there is none."""
    from mer_core import compute
    from mer_core.datasets.audio import check_audible, read_audio
    from mer_core.models.training.spectrograms import spectrogram_of_file

    def one(file: str) -> np.ndarray:
        samples, rate = read_audio(file, saved.style.rate)
        try:
            check_audible(samples)
            if len(samples) < rate:
                raise UserError(f"clip of {len(samples) / rate:.2f} s is too short; give at least 1 s")
        except UserError as error:
            raise UserError(f"{file}: {error}") from None
        return spectrogram_of_file(file, saved.style)

    outcomes = compute.map_items(one, files, workers)
    for outcome in outcomes:
        if outcome.error is not None and not isinstance(outcome.error, UserError):
            raise outcome.error
    return [outcome.error or outcome.value for outcome in outcomes]
