"""The demo corpus and the runs the app opens on.

192 short clips composed as an experiment with known causes (see `mer_core/datasets/demo`), their features, and one
run per model family, so that a newcomer can hear, compare and inspect explanations without any data of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines import option

MODELS = ("extra-trees", "ridge", "blend")


@dataclass(frozen=True)
class Config:
    """Options of `demo`."""

    seed: int = option(42, "seed of folds and models (the corpus itself is always the same)")
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What the job's name is made of."""
    return ("demo",)


def execute(config: Config, job, run_id: str) -> str:
    """Build the corpus where it is missing and train the runs that are missing; return the id the app opens on."""
    from mer_core.datasets import load
    from mer_core.runs import list_runs
    from pipelines import train

    load("demo", progress=lambda fraction, message: job.progress(0.35 * fraction, message))
    finished = {summary.run_id for summary in list_runs() if summary.problem is None}
    step = 0.65 / len(MODELS)
    for position, model in enumerate(MODELS):
        if (name := f"demo-{model}") not in finished:
            low = 0.35 + step * position
            train.execute(
                train.Config(model=model, seed=config.seed, workers=config.workers), job, name, (low, low + step)
            )
    job.progress(1.0, "the demo is ready")
    job.opens_on(f"demo-{MODELS[0]}")
    return f"demo-{MODELS[0]}"
