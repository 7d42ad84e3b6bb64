"""Writes the demo corpus, or the composed one, into a folder, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mer_core.datasets.demo import composed, design, render, tables
from mer_core.datasets.demo.midlevel import QUALITIES
from mer_core.datasets.demo.pieces import PIECES, Piece
from mer_core.errors import UserError
from mer_core.paths import REPOSITORY

DESCRIPTION = (
    "Twelve public-domain pieces, each played in 16 ways in which mode, tempo, register, dynamics, articulation and "
    "timbre vary independently. Ratings are simulated: no person has rated these clips. truth.csv holds the planted "
    "causes and mid-level qualities, weights.json the weights, notes.csv the notes as played."
)
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Corpus:
    """What is built: `version` is raised whenever that changes; `seconds` as in `performance.perform`."""

    name: str
    version: int
    description: str
    pieces: Callable[[], tuple[Piece, ...]]
    plan: Callable[[int], pd.DataFrame]
    seconds: float | None = None


DEMO = Corpus("demo", 2, DESCRIPTION, lambda: PIECES, lambda seed: tables.plan(seed))
COMPOSED = Corpus("composed", 1, composed.DESCRIPTION, composed.pieces, composed.plan, composed.SECONDS)


def build_demo(folder: str | Path, seed: int = 0, progress: Progress | None = None) -> None:
    """Build the demo corpus; see `build_corpus`."""
    build_corpus(folder, DEMO, seed, progress)


def build_composed(folder: str | Path, seed: int = 0, progress: Progress | None = None) -> None:
    """Build the composed corpus; see `build_corpus`."""
    build_corpus(folder, COMPOSED, seed, progress)


def build_corpus(folder: str | Path, corpus: Corpus, seed: int = 0, progress: Progress | None = None) -> None:
    """Build a corpus (layout `tracks`) in `folder`; returns at once where it is already there.

    Everything is written to a temporary folder beside it and renamed at the end, so an interrupted build leaves
    nothing and starts again. An older version, or one of another seed, is replaced.

    Parameters
    ----------
    folder : where to build, new, empty, or an earlier build of the same corpus
    seed : of the design, the performances and the simulated listeners; the same seed gives the same bytes
    progress : called as progress(fraction in 0..1, message)

    Raises
    ------
    UserError where `folder` holds something else, or a package that renders is missing
    """
    folder = Path(folder).resolve()
    identity = _identity(corpus, seed)
    if _described(folder) == identity:
        return
    if folder.exists() and not _may_be_replaced(folder, corpus.name):
        name = corpus.name
        raise UserError(f"{folder} holds something that is not a {name} corpus; name a new or empty folder for it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(folder)
    building = Path(tempfile.mkdtemp(prefix=_prefix(folder), dir=folder.parent))
    building.chmod(0o755)  # mkdtemp's folders are private
    try:
        clips = corpus.plan(seed)
        write_corpus(building, clips, list(clips.index), seed, progress, corpus=corpus)
        _put_in_place(building, folder, identity)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def write_corpus(
    folder: Path,
    clips: pd.DataFrame,
    chosen: list[str],
    seed: int,
    progress: Progress | None = None,
    workers: int = 0,
    corpus: Corpus = DEMO,
) -> None:
    """Perform, render and describe the clips `chosen` of the plan `clips`; `workers` processes, 0 for one per core."""
    render.check_installed()
    tell = progress or (lambda fraction, message: None)
    tell(0.0, "reading the scores")
    performances = tables.perform_all(clips.loc[chosen], seed, corpus.pieces(), corpus.seconds)
    _write(folder / "notes.csv", tables.notes_table(performances))
    _write(folder / "tracks.csv", tables.tracks_table(clips, performances, seed, corpus.pieces()))
    tell(0.08, "playing the pieces")
    loudness = _render(folder, clips.loc[chosen], workers or _cores(), lambda done, text: tell(0.08 + 0.9 * done, text))
    _write(folder / "truth.csv", tables.truth_table(clips, performances, loudness, seed))
    _write_json(folder / "weights.json", {**design.documentation(), "mid_level_qualities": QUALITIES})
    about = {"rating_scale": list(design.SCALE), "targets": list(design.TARGETS), "description": corpus.description}
    _write_json(folder / "dataset.json", {**_identity(corpus, seed), **about})
    tell(1.0, f"the {corpus.name} corpus is complete")


def _render(folder: Path, clips: pd.DataFrame, workers: int, tell: Progress) -> dict[str, float]:
    """Render all clips in `workers` processes; returns the loudness (LUFS) each clip has got.

    Processes of their own, because the synthesiser holds the interpreter lock, and started by command line, so that a
    script without a main guard may build the corpus.
    """
    (folder / "audio").mkdir()
    tasks = folder / "tasks.json"
    lufs, families = tables.target_loudness(clips), tables.families(clips)
    _write_json(tasks, [{"track_id": t, "timbre": int(families[t]), "lufs": lufs[t]} for t in clips.index])
    logs = [folder / f"worker{number}.log" for number in range(min(workers, len(clips)))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    running = []
    try:
        for number, log in enumerate(logs):
            command = [sys.executable, "-m", "mer_core.datasets.demo.worker", str(folder), str(number), str(len(logs))]
            with log.open("w") as output:
                running.append(
                    subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT)
                )
        _wait(running, logs, folder / "audio", len(clips), tell)
    finally:
        for process in running:
            process.kill()
            process.wait()
    results = [line.split() for log in logs for line in log.read_text().splitlines()]
    for done in (*logs, tasks):
        done.unlink()
    return {track: float(value) for track, value in results}


def _wait(running: list[subprocess.Popen], logs: list[Path], audio: Path, total: int, tell: Progress) -> None:
    while True:
        codes = [process.poll() for process in running]
        done = len(list(audio.glob("*.flac")))
        tell(done / total, f"clip {done} of {total}")
        for code, log in zip(codes, logs, strict=True):
            if code not in (None, 0):
                raise RuntimeError(f"rendering the corpus failed:\n{log.read_text()[-2000:]}")
        if all(code == 0 for code in codes):
            return
        time.sleep(0.2)


def _put_in_place(building: Path, folder: Path, identity: dict) -> None:
    if folder.exists():
        if _described(folder) == identity:
            return  # another process was faster
        shutil.rmtree(folder)
    building.rename(folder)


def _identity(corpus: Corpus, seed: int) -> dict:
    return {"name": corpus.name, "synthetic": True, "version": corpus.version, "seed": seed}


def _described(folder: Path) -> dict | None:
    """What a finished corpus says it is; None for anything else."""
    try:
        told = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    wanted = _identity(DEMO, 0)
    return {key: told.get(key) for key in wanted} if isinstance(told, dict) else None


def _may_be_replaced(folder: Path, name: str) -> bool:
    if not folder.is_dir():
        return False
    told = _described(folder)
    return not any(folder.iterdir()) or (told is not None and told["name"] == name and told["synthetic"] is True)


def _prefix(folder: Path) -> str:
    return f".{folder.name}.building-"


def _clear_abandoned(folder: Path) -> None:
    """Remove what builds left that were killed; none takes an hour."""
    for left in folder.parent.glob(f"{_prefix(folder)}*"):
        if time.time() - left.stat().st_mtime > 3600:
            shutil.rmtree(left, ignore_errors=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, lineterminator="\n", encoding="utf-8")


def _write_json(path: Path, content: dict | list) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
