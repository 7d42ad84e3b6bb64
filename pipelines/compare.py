"""Which route is best, and by how much? Features x models x data sets, from one data set to another, or finished runs.

Four comparisons; the options decide which one is made:

  --models ridge,blend,... (or several --features or data sets): every table of features with every family on every data
      set. Each cell is tested once, on the same folds; the choice is made inside the training parts. "--features all"
      names the eight sets of statistics, "--models all" every family.
  --train-on A --test-on B: learn on one data set and predict another, on the columns that both have; ratings are mapped
      from A's scale onto B's. Where both are the same, its folds are held out: what is to be lost.
  --runs RUN,RUN: finished runs, pair by pair.
  otherwise: one model under several protocols and label versions. Every protocol that leaks says so, with counts; a
      DEAM result has two columns, labels corrected and as published, both learned under the same split.

Differences are judged by a bootstrap over groups: nothing is called better where the 95 % interval of the difference
holds zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from mer_core.errors import UserError
from pipelines import option
from pipelines.comparisons import listed
from pipelines.train import MODELS, PROTOCOLS, check_resamples


@dataclass(frozen=True)
class Config:
    """Options of `compare`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'; several, comma-separated")
    features: str = option(
        "stats8",
        "features as in train, such as stats8, stats15-decorrelated or a table; several, comma-separated, or 'all'",
    )
    models: tuple[str, ...] = option((), f"families to compare on the same folds: {','.join(MODELS)}, or 'all'")
    train_on: str = option("", "data sets to learn from, comma-separated; with --test-on")
    test_on: str = option("", "data sets to predict, comma-separated; with --train-on")
    runs: tuple[str, ...] = option(
        (), "finished runs to compare pair by pair, comma-separated; then nothing is trained"
    )
    model: str = option("ridge", "family of the regressor, where --models names none", MODELS)
    protocols: tuple[str, ...] = option(PROTOCOLS, "protocols of train for one model, comma-separated")
    layout: str = option("auto", "layout of the folders", ("auto", "deam", "tracks"))
    labels: str = option(
        "both",
        "label versions of DEAM: both (protocols only; else corrected), or one of them; other data sets have one",
        ("both", "corrected", "published"),
    )
    targets: tuple[str, ...] = option(("valence", "arousal"), "ratings to predict, comma-separated")
    align: str = option(
        "train",
        "from data set to data set, columns are scaled as in the training data; or in each by itself, which looks at "
        "all tracks of the test data, not at their ratings",
        ("train", "each", "both"),
    )
    weights: str = option(
        "", "pretrained weights: a folder, 'hub' to download, 'random' (empty: MER_WEIGHTS, or what packages bring)"
    )
    seed: int = option(42, "seed of folds, models and resampling")
    resamples: int = option(1000, "bootstrap resamples (over groups) of each interval")
    workers: int = option(0, "threads (0: one per core)")


def kind(config: Config) -> str:
    """Which of the four comparisons the options ask for: "runs", "transfer", "matrix" or "protocols"."""
    if config.runs:
        return "runs"
    if config.train_on or config.test_on:
        return "transfer"
    several = max(len(listed(config.features)), len(listed(config.dataset))) > 1
    return "matrix" if config.models or several or config.features == "all" else "protocols"


def words(config: Config) -> tuple[str, ...]:
    """What a run's name is made of."""
    return {
        "runs": ("runs",),
        "transfer": ("transfer", *listed(config.train_on)[:1], *listed(config.test_on)[:1]),
        "matrix": ("matrix", *listed(config.dataset)[:2]),
        "protocols": (config.dataset, config.features, config.model),
    }[kind(config)]


def execute(config: Config, job, run_id: str, span: tuple[float, float] = (0.0, 1.0)) -> str:
    """Make the run folder and fill it with one of the four comparisons; return the run's id."""
    import importlib

    from mer_core.runs import RunWriter

    chosen = kind(config)
    check(config, chosen)
    module = importlib.import_module(f"pipelines.comparisons.{'finished' if chosen == 'runs' else chosen}")
    with RunWriter(run_id, "compare", config, job, span) as writer:
        writer.about(comparison=chosen)
        module.compare(config, writer)
    return run_id


def check(config: Config, chosen: str) -> None:
    """Raise UserError for options that cannot be, before the long work begins."""
    check_resamples(config.resamples)
    if unknown := [name for name in config.models if name not in (*MODELS, "all")]:
        raise UserError(f"--models {unknown[0]}: no such family; choose from {', '.join(MODELS)}, or all")
    if chosen == "transfer" and not (config.train_on and config.test_on):
        raise UserError("--train-on and --test-on go together; name what to learn from and what to predict")
    if not config.targets and chosen != "runs":
        raise UserError("--targets is empty; name at least one rating, such as valence,arousal")
