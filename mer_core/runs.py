"""Run folders: what a pipeline writes and pages read.

`artifacts/runs/<run_id>/` is written under a temporary name and renamed when complete, so a folder without `run.json`
is never a run. Its files are listed in the README; the names stand here and nowhere else.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shutil
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import Dataset
from mer_core.errors import UserError
from mer_core.evaluate.significance import paired_bootstrap
from mer_core.explain.attribution import FeatureExplanation, read_explanation, write_explanation
from mer_core.explain.maps import FILE, RelevanceMap, read_about, read_map
from mer_core.jobs import Job
from mer_core.paths import artifacts_root

SCHEMA = 1
PACKAGES = (
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "opensmile",
    "shap",
    "librosa",
    "soundfile",
    "torch",
    "transformers",
)
ABANDONED_S = 24 * 3600
_PARTIAL = ".partial-"


def runs_root() -> Path:
    """Folder of all runs."""
    return artifacts_root() / "runs"


def config_digest(config: object) -> str:
    """Six hex digits of a config dataclass; the same config has the same digest."""
    return hashlib.sha256(json.dumps(asdict(config), sort_keys=True, default=str).encode()).hexdigest()[:6]


def new_run_id(pipeline: str, *words: str, config: object) -> str:
    """`20261121-034500-train-demo-stats8-ridge-1a2b3c`: sorts by time, reads without opening."""
    slug = "-".join(
        "".join(c if c.isalnum() else "-" for c in Path(word).stem)[:24].strip("-") for word in words if word
    )
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{pipeline}-{slug}-{config_digest(config)}".lower()


def plain(value: object) -> object:
    """Turn numpy numbers, tuples and paths into what JSON knows; NaN and infinities become null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (datetime, Path)):
        return str(value)
    return value


def describe_dataset(dataset: Dataset) -> dict:
    """What `run.json` says of the data."""
    return {
        "name": dataset.name,
        "layout": dataset.layout,
        "root": dataset.root,
        "label_version": dataset.label_version,
        "scale": dataset.scale,
        "fingerprint": dataset.fingerprint(),
        "synthetic": dataset.synthetic,
        "n_tracks": len(dataset.tracks),
        "report": asdict(dataset.report),
    }


def _sweep() -> None:
    """Remove what runs that were killed have left behind: unfinished folders that nothing has touched for a day."""
    for folder in runs_root().glob(f"{_PARTIAL}*"):
        if time.time() - folder.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)


class RunWriter:
    """A run folder in the making: written under a temporary name, it appears when all is there."""

    def __init__(self, run_id: str, pipeline: str, config: object, job: Job, span: tuple[float, float] = (0.0, 1.0)):
        """`span` is the part of the job's progress bar that this run fills."""
        self.run_id, self.job, self._span = run_id, job, span
        self.final = runs_root() / run_id
        self.folder = runs_root() / f"{_PARTIAL}{run_id}"
        self._started, self._clock = datetime.now(UTC), time.monotonic()
        self._about = {"schema": SCHEMA, "run_id": run_id, "pipeline": pipeline, "config": asdict(config)}

    def __enter__(self) -> RunWriter:
        """Make the temporary folder; UserError when a run of this name is complete."""
        if self.final.exists():
            raise UserError(f"run {self.run_id!r} exists already; give another --run-id or delete {self.final}")
        shutil.rmtree(self.folder, ignore_errors=True)
        _sweep()
        self.folder.mkdir(parents=True)
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Rename the folder when all went well, else remove it."""
        if error is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        self._about |= {
            "versions": installed_versions(),
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._clock, 2),
            "machine": machine(),
        }
        for name in ("status.json", "log.txt"):
            if (self.job.folder / name).exists():
                shutil.copyfile(self.job.folder / name, self.folder / name)
        status = json.loads((self.folder / "status.json").read_text(encoding="utf-8"))
        self.write_json("status.json", status | {"state": "done", "fraction": 1.0, "run": self.run_id})
        self.write_json("run.json", self._about)
        os.replace(self.folder, self.final)
        self.job.opens_on(self.run_id)

    def about(self, **facts: object) -> None:
        """Add facts to `run.json`."""
        self._about |= facts

    def progress(self, fraction: float, message: str) -> None:
        """Say how far this run is, 0..1."""
        low, high = self._span
        self.job.progress(low + fraction * (high - low), message)

    def log(self, text: str) -> None:
        """Append to the log."""
        self.job.log(text)

    def write_json(self, name: str, content: object) -> None:
        """Write a JSON file into the folder (NaN as null)."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(plain(content), indent=1, allow_nan=False), encoding="utf-8")

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write a table as Parquet, without its index."""
        table.to_parquet(self.folder / f"{name}.parquet", index=False)

    def write_explanation(self, name: str, explanation: FeatureExplanation) -> None:
        """Write attributions under `explanations/<name>/`."""
        write_explanation(self.folder / "explanations" / name, explanation)


def machine() -> str:
    """One line on the computer, such as "Linux x86_64, 2 cores, Python 3.11.7"."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def installed_versions() -> dict[str, str]:
    """Versions of the libraries that numbers depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


@dataclass(frozen=True)
class Run:
    """A finished run; its tables are read when asked for."""

    run_id: str
    folder: Path
    about: dict

    def table(self, name: str) -> pd.DataFrame:
        """A Parquet table of the run; UserError where it has none of that name or it cannot be read."""
        path = self.folder / f"{name}.parquet"
        if not path.exists():
            raise UserError(
                f"run {self.run_id!r} has no {name}; the {self.about['pipeline']!r} pipeline does not write them"
            )
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); delete the run and make it again") from None

    @cached_property
    def metrics(self) -> dict:
        """`metrics.json`."""
        return _read_json(self.folder / "metrics.json")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Out-of-fold predictions: track_id, part, fold, target, true, predicted, lower, upper."""
        return self.table("predictions")

    @cached_property
    def tracks(self) -> pd.DataFrame:
        """Tracks as the run saw them: track_id, path, part, group, fold, ratings, spread, metadata."""
        return self.table("tracks")

    @cached_property
    def neighbours(self) -> pd.DataFrame:
        """Nearest tracks in standardised feature space: track_id, rank, neighbour, distance."""
        return self.table("neighbours")

    @cached_property
    def intervals(self) -> dict:
        """`intervals.json`: per level, half widths and the ellipse on the plane; empty where there is none."""
        path = self.folder / "intervals.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def explanation_names(self) -> tuple[str, ...]:
        """Which attributions the run holds, e.g. ("shap",)."""
        folder = self.folder / "explanations"
        found = folder.iterdir() if folder.is_dir() else ()
        return tuple(sorted(p.name for p in found if p.name[0] != "." and not (p / FILE).exists()))

    def relevance_tracks(self) -> tuple[str, ...]:
        """Which tracks have a relevance map."""
        folder = self.folder / "explanations" / "lrp"
        return tuple(read_about(folder)["tracks"]) if folder.is_dir() else ()

    def relevance_map(self, track: str, targets: tuple[str, ...] | None = None) -> RelevanceMap:
        """A track's relevance on its time and frequency; UserError with the command that makes it where it is missing.

        targets : the run's; all of them when None
        """
        if track not in self.relevance_tracks():
            raise UserError(
                f"run {self.run_id!r} has no relevance map of track {track!r}; "
                f"make it with: python -m pipelines explain --run {self.run_id} --method lrp --tracks {track}"
            )
        return read_map(self.folder / "explanations" / "lrp", track, targets)

    def explanation(self, name: str) -> FeatureExplanation:
        """Attributions by name; UserError with the command that makes them where they are missing."""
        if name not in self.explanation_names():
            raise UserError(
                f"run {self.run_id!r} has no {name!r} explanation; "
                f"make it with: python -m pipelines explain --run {self.run_id} --method {name}"
            )
        return read_explanation(self.folder / "explanations" / name)


@dataclass(frozen=True)
class RunSummary:
    """A line of the index: enough for a leaderboard; `problem` says why a folder cannot be used."""

    run_id: str
    about: dict
    metrics: dict
    problem: str | None = None


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: the folder is not a complete run; delete it and run the pipeline again"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete the run and make it again") from None
    if content.get("schema") != SCHEMA:
        raise UserError(
            f"{path} has schema {content.get('schema')!r}, expected {SCHEMA}: it was written by another version"
        )
    return content


def read_run(run: str | Path) -> Run:
    """A finished run by id, by folder, or "latest"; UserError with the nearest ids where there is none."""
    folder = Path(run) if Path(run).is_dir() and Path(run, "run.json").exists() else runs_root() / str(run)
    if str(run) == "latest":
        complete = [s.run_id for s in list_runs() if s.problem is None and s.metrics.get("targets")]
        if not complete:
            raise UserError("there is no finished run yet; make one with: python -m pipelines train --dataset demo")
        folder = runs_root() / complete[0]
    if not folder.is_dir() or not (folder.parent == runs_root() or (folder / "run.json").exists()):
        import difflib

        near = difflib.get_close_matches(str(run), [s.run_id for s in list_runs()], n=3, cutoff=0.3)
        hint = f"did you mean {', '.join(near)}?" if near else "list them with: python -m pipelines list"
        raise UserError(f"run {str(run)!r} was not found in {runs_root()}; {hint}")
    return Run(folder.name, folder, _read_json(folder / "run.json"))


def list_runs() -> list[RunSummary]:
    """All run folders, newest first; unreadable ones come with the reason."""
    if not runs_root().is_dir():
        return []
    found = []
    for folder in runs_root().iterdir():
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        try:
            run = read_run(folder.name)
            found.append(RunSummary(run.run_id, run.about, run.metrics))
        except UserError as error:
            found.append(RunSummary(folder.name, {}, {}, str(error)))
    return sorted(found, key=lambda summary: (summary.about.get("started", ""), summary.run_id), reverse=True)


def compare_runs(a: Run, b: Run, resamples: int = 1000, seed: int = 0) -> dict:
    """Which of two runs predicts the same tracks better; only tracks that both have tested are compared.

    Returns
    -------
    {"targets": what `paired_bootstrap` returns, "leaks": [sentences on runs whose protocol leaks]}; a run that leaks is
    no winner, however high it scores

    Raises
    ------
    UserError : other data or labels, no target in common, or fewer than 10 tracks in common
    """
    names = [
        f"{run.run_id!r} ({run.about['dataset']['name']}, {run.about['dataset']['label_version']})" for run in (a, b)
    ]
    if a.about["dataset"]["fingerprint"] != b.about["dataset"]["fingerprint"]:
        raise UserError(
            f"runs {names[0]} and {names[1]} differ in tracks or ratings; compare runs of one dataset and label version"
        )
    groups = pd.concat([run.tracks.set_index("track_id")["group"] for run in (a, b)])
    groups = groups[~groups.index.duplicated()]
    try:
        targets = paired_bootstrap(a.predictions, b.predictions, groups, resamples, seed)
    except ValueError as error:
        raise UserError(f"runs {names[0]} and {names[1]} cannot be compared: {error}") from None
    if not targets:
        raise UserError(f"runs {names[0]} and {names[1]} predict no target in common; compare runs that do")
    leaks = [f"{run.run_id}: {leak['sentence']}" for run in (a, b) for leak in run.metrics.get("leaks", [])]
    leaky = [name for name, run in (("a", a), ("b", b)) if run.metrics.get("leaks")]
    for about in targets.values():
        for found in about.values():
            if isinstance(found, dict) and found["winner"] in leaky:
                found["winner"] = None
    return {"targets": targets, "leaks": leaks}
