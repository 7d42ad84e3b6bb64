"""Finished run folders for tests of the pages: small, realistic, written without training anything.

Ratings are random, predictions are the ratings pulled to the average plus noise, and attributions add up to the
predictions. Audio is a chord whose loudness and height follow the ratings, so that a player has something to play.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

TARGETS = ("valence", "arousal")
SCALE = (1.0, 9.0)
STATISTICS = ("mean", "std", "min", "max", "q25", "q75", "skew", "kurtosis")


def write_run(
    root: Path,
    run_id: str = "demo-extra-trees",
    n: int = 48,
    n_llds: int = 20,
    audio: int = 12,
    seed: int = 0,
    model: str = "extra-trees",
    skill: float = 0.6,
    explained: bool = True,
    synthetic: bool = True,
    started: str = "2026-11-20T10:00:00+00:00",
    dataset: str = "demo",
) -> Path:
    """Write `root/runs/<run_id>` and return it."""
    rng = np.random.default_rng(seed)
    folder = root / "runs" / run_id
    folder.mkdir(parents=True)
    ids = [f"{i:04d}" for i in range(n)]
    ratings = np.clip(rng.normal(5, 1.6, (n, 2)), *SCALE)
    fold = np.arange(n) % 5
    predicted = ratings.mean(axis=0) + skill * (ratings - ratings.mean(axis=0)) + rng.normal(0, 0.5, (n, 2))
    tracks = pd.DataFrame(
        {"track_id": ids, "path": write_audio(root / "audio", ids[:audio], ratings) + [None] * (n - audio)}
    )
    tracks["part"] = np.where(np.arange(n) % 3 == 0, "minor", "major")
    tracks["group"] = [f"piece {i // 4}" for i in range(n)]
    tracks["fold"] = fold
    tracks["title"] = [f"Chorale {i // 4}, version {i % 4}" for i in range(n)]
    for t, target in enumerate(TARGETS):
        tracks[target], tracks[f"{target}_std"] = ratings[:, t], rng.uniform(0.6, 2.2, n)
    tracks.to_parquet(folder / "tracks.parquet", index=False)
    write_predictions(folder, tracks, predicted)
    write_neighbours(folder, ids)
    write_json(folder / "metrics.json", metrics(ratings, predicted, tracks["part"].to_numpy()))
    columns = None
    if explained:
        columns = write_shap(folder, ids, predicted, n_llds, rng)
    write_json(folder / "run.json", about(run_id, n, columns, model, synthetic, started, dataset))
    write_json(folder / "status.json", {"job_id": run_id, "pipeline": "train", "state": "done", "fraction": 1.0})
    (folder / "log.txt").write_text("12:00:00 done\n")
    return folder


def make_holdout(folder: Path, tested: int = 20, leaks: tuple[dict, ...] = ()) -> None:
    """Turn a run of `write_run` into one that tested only its first tracks, and learned from the others."""
    predictions = pd.read_parquet(folder / "predictions.parquet")
    ids = sorted(predictions["track_id"].unique())[:tested]
    predictions[predictions["track_id"].isin(ids)].to_parquet(folder / "predictions.parquet", index=False)
    described = json.loads((folder / "run.json").read_text())
    write_json(folder / "run.json", described | {"protocol": "music2emo", "leaks": list(leaks)})
    from mer_core.explain.attribution import FeatureExplanation, read_explanation, write_explanation

    whole = read_explanation(folder / "explanations" / "shap")
    arrays = [np.array(part)[:tested] for part in (whole.base, whole.values, whole.features)]
    part = FeatureExplanation("shap", whole.tracks[:tested], whole.columns, whole.targets, *arrays)
    write_explanation(folder / "explanations" / "shap", part)


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))


def write_audio(
    folder: Path, ids: list[str], ratings: np.ndarray, seconds: float = 3.0, rate: int = 22050
) -> list[str]:
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    time_s = np.arange(int(rate * seconds)) / rate
    paths = []
    for track, (valence, arousal) in zip(ids, ratings, strict=False):
        path = folder / f"{track}.flac"
        if not path.exists():
            root = 130 + 20 * arousal
            third = 1.26 if valence > 5 else 1.19
            beat = 0.6 + 0.4 * np.cos(2 * np.pi * time_s * arousal / 4) ** 8
            chord = sum(np.sin(2 * np.pi * root * ratio * time_s) for ratio in (1, third, 1.5))
            soundfile.write(path, 0.04 * arousal * beat * chord / 3, rate)
        paths.append(str(path))
    return paths


def write_predictions(folder: Path, tracks: pd.DataFrame, predicted: np.ndarray) -> None:
    rows = []
    for t, target in enumerate(TARGETS):
        rows.append(
            tracks[["track_id", "part", "fold"]].assign(
                target=target,
                true=tracks[target],
                predicted=predicted[:, t],
                lower=predicted[:, t] - 1.3,
                upper=predicted[:, t] + 1.3,
            )
        )
    pd.concat(rows, ignore_index=True).to_parquet(folder / "predictions.parquet", index=False)


def write_neighbours(folder: Path, ids: list[str]) -> None:
    n = len(ids)
    rows = [(ids[i], rank, ids[(i + 3 * rank) % n], 0.4 + 0.1 * rank) for i in range(n) for rank in range(1, 9)]
    pd.DataFrame(rows, columns=["track_id", "rank", "neighbour", "distance"]).to_parquet(
        folder / "neighbours.parquet", index=False
    )


def metrics(ratings: np.ndarray, predicted: np.ndarray, parts: np.ndarray) -> dict:
    constant = np.broadcast_to(ratings.mean(axis=0), ratings.shape)
    targets = {}
    for t, target in enumerate(TARGETS):
        targets[target] = {"all": scores(ratings[:, t], predicted[:, t])}
        targets[target] |= {p: scores(ratings[parts == p, t], predicted[parts == p, t]) for p in sorted(set(parts))}
    baseline = {target: {"all": scores(ratings[:, t], constant[:, t])} for t, target in enumerate(TARGETS)}
    ceiling = {target: {"r2": 0.85, "share": targets[target]["all"]["r2"][0] / 0.85} for target in TARGETS}
    return {
        "schema": 1,
        "protocol": "grouped-5fold",
        "targets": targets,
        "baselines": {"constant": baseline},
        "ceiling": ceiling,
    }


def scores(true: np.ndarray, predicted: np.ndarray) -> dict:
    error = predicted - true
    r2 = 1 - (error**2).sum() / ((true - true.mean()) ** 2).sum()
    moving = predicted.std() > 1e-9
    r = float(np.corrcoef(true, predicted)[0, 1]) if moving else None
    values = {
        "r2": r2,
        "rmse": (error**2).mean() ** 0.5,
        "mae": np.abs(error).mean(),
        "pearson": r,
        "spearman": r,
        "ccc": r and r * 0.95,
    }
    around = {
        name: [None] * 3 if v is None else [float(v), float(v) - 0.08, float(v) + 0.07] for name, v in values.items()
    }
    return {"n": len(true)} | around


def write_shap(folder: Path, ids: list[str], predicted: np.ndarray, n_llds: int, rng: np.random.Generator) -> int:
    from mer_core.explain.attribution import FeatureExplanation, write_explanation
    from mer_core.features.groups import describe_columns
    from mer_core.features.llds import lld_columns

    chosen = lld_columns()[:: max(1, 260 // n_llds)][:n_llds]
    columns = describe_columns([f"{lld}_{statistic}" for lld in chosen for statistic in STATISTICS])
    n, p = len(ids), len(columns)
    features = rng.normal(size=(n, p))
    weights = rng.exponential(size=(p, 2)) ** 3
    values = features[:, :, None] * weights * rng.choice([-1, 1], size=(p, 2))
    base = np.tile(predicted.mean(axis=0), (n, 1))
    # Scaled so that a track's effects add up to its prediction.
    values *= ((predicted - base) / values.sum(axis=1))[:, None, :].clip(-0.05, 0.05)
    values[:, 0, :] += predicted - base - values.sum(axis=1)
    explanation = FeatureExplanation("shap", tuple(ids), columns, TARGETS, base, values, features)
    write_explanation(folder / "explanations" / "shap", explanation)
    return p


def about(run_id: str, n: int, columns: int | None, model: str, synthetic: bool, started: str, dataset: str) -> dict:
    report = {
        "found": {"tracks": n, "audio files": 12},
        "missing": [],
        "skipped": [["9999", "no rating"]],
        "notes": ["rating scale 1-9 as given"],
    }
    return {
        "schema": 1,
        "run_id": run_id,
        "pipeline": "train",
        "config": {"dataset": dataset, "model": model, "features": "stats8"},
        "dataset": {
            "name": dataset,
            "layout": "demo",
            "root": "",
            "label_version": "as given",
            "scale": list(SCALE),
            "fingerprint": "ab" * 8,
            "synthetic": synthetic,
            "n_tracks": n,
            "report": report,
        },
        "features": {"name": "stats8", "source": "recomputed", "n_columns": columns or 2080, "failures": []},
        "model": model,
        "targets": list(TARGETS),
        "protocol": "grouped-5fold",
        "split_digest": "0123456789abcdef",
        "seed": 42,
        "versions": {},
        "weights": None,
        "started": started,
        "seconds": 81.2,
        "machine": "Linux x86_64, 2 cores, Python 3.11.7",
        "interval_level": 0.9,
    }


def write_many(root: Path, runs: int = 30, n: int = 1802, n_llds: int = 260) -> None:
    """As many runs, and as large ones, as the app is meant for; the first is explained."""
    for i in range(runs):
        model = ("extra-trees", "ridge", "boosting", "svr")[i % 4]
        write_run(
            root,
            f"2026112{i % 10}-1{i:02d}000-train-deam-stats8-{model}-{i:06x}",
            n=n,
            n_llds=n_llds if i == 0 else 20,
            audio=12,
            seed=i,
            model=model,
            skill=0.75 if i == 0 else 0.4 + 0.008 * i,
            explained=i == 0,
            synthetic=False,
            started=f"2026-11-{1 + i % 28:02d}T10:00:00+00:00",
            dataset="deam",
        )


def write_job(
    root: Path, job_id: str, state: str, message: str = "", fraction: float = 0.4, heartbeat: float | None = None
) -> Path:
    """A job folder as the pages find it."""
    folder = root / "jobs" / job_id
    folder.mkdir(parents=True)
    now = time.time() if heartbeat is None else heartbeat
    status = {
        "job_id": job_id,
        "pipeline": "train",
        "state": state,
        "fraction": fraction,
        "message": message,
        "heartbeat": now,
        "started": now - 30,
        "pid": 0,
        "arguments": ["--dataset", "demo"],
        "run": None,
    }
    write_json(folder / "status.json", status)
    (folder / "log.txt").write_text(f"12:00:00 loading\n12:00:01 {message}\n")
    return folder
