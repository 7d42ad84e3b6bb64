"""The demo corpus and the runs the app opens on.

192 short clips composed as an experiment with known causes (see `mer_core/datasets/demo`), and runs of every kind, so
that a newcomer can hear, compare and inspect explanations without any data of their own.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, fields

from pipelines import PIPELINES, option

BACKBONE = "musicnn-mtt"
# Run, pipeline, options: in the order in which they are worth waiting for. The app opens on the first.
RUNS = (
    ("demo-proxies", "train", {"features": "proxies", "model": "blend"}),
    ("demo-extra-trees", "train", {"model": "extra-trees"}),
    ("demo-happy-sad", "classify", {"network": BACKBONE}),
    ("demo-midlevel", "midlevel", {"network": f"{BACKBONE}@dense+notes"}),
    ("demo-musicnn", "train", {"features": BACKBONE, "model": "ridge"}),
    ("demo-words", "train", {"features": f"{BACKBONE}-tags", "model": "ridge"}),
    ("demo-ridge", "train", {"model": "ridge"}),
    ("demo-blend", "train", {"model": "blend"}),
)
MADE_BY = 0.3  # share of the time that composing takes


@dataclass(frozen=True)
class Config:
    """Options of `demo`."""

    seed: int = option(42, "seed of folds and models (the corpus itself is always the same)")
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What the job's name is made of."""
    return ("demo",)


def execute(config: Config, job, run_id: str) -> str:
    """Build the corpus where it is missing and make the runs that are missing; return the id the app opens on."""
    from mer_core.datasets import load
    from mer_core.runs import list_runs

    load("demo", progress=lambda fraction, message: job.progress(MADE_BY * fraction, message))
    finished = {summary.run_id for summary in list_runs() if summary.problem is None}
    step = (1 - MADE_BY) / len(RUNS)
    for position, (name, pipeline, options) in enumerate(RUNS):
        if name not in finished:
            module = importlib.import_module(PIPELINES[pipeline])
            known = {field.name for field in fields(module.Config)}
            shared = {key: value for key, value in (("seed", config.seed), ("workers", config.workers)) if key in known}
            low = MADE_BY + step * position
            module.execute(module.Config(**options, **shared), job, name, (low, low + step))
    job.progress(1.0, "the demo is ready")
    job.opens_on(RUNS[0][0])
    return RUNS[0][0]
