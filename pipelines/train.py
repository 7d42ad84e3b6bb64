"""Features and a regressor under a protocol: honest scores, explanations, and a model that predicts.

Every score is made from out-of-fold predictions: no track, and no group (artist, album, piece), is in the training
part of the model that predicts it. The model that is saved is fitted afterwards on all tracks, for `predict`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mer_core.errors import UserError
from pipelines import option

MODELS = ("ridge", "elasticnet", "svr", "forest", "extra-trees", "boosting", "blend")
PROTOCOLS = ("grouped-5fold", "nested", "original", "custom", "music2emo", "leaky-chunks")
INTERVAL_LEVEL = 0.9


@dataclass(frozen=True)
class Config:
    """Options of `train`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'")
    layout: str = option("auto", "layout of the folder", ("auto", "deam", "tracks"))
    labels: str = option(
        "corrected",
        "DEAM's static labels with valence and arousal put right for ids <= 1000, or as published",
        ("corrected", "published"),
    )
    features: str = option(
        "stats8", "stats8 (2080 columns), stats15 (3900), or a Parquet/CSV table keyed by track_id or song_id"
    )
    weights: str = option(
        "", "pretrained weights: a folder, 'hub' to download, 'random' (empty: MER_WEIGHTS, or what packages bring)"
    )
    model: str = option("ridge", "family of the regressor", MODELS)
    protocol: str = option(
        "grouped-5fold",
        "how tracks are kept apart: 5 folds by group; nested: with parameters chosen inside each fold; DEAM's full "
        "songs as test (original, custom); published lists (music2emo); leaky-chunks: only to show the leak",
        PROTOCOLS,
    )
    targets: tuple[str, ...] = option(("valence", "arousal"), "ratings to predict, comma-separated")
    explain: str = option("shap", "attributions of each out-of-fold prediction", ("shap", "none"))
    seed: int = option(42, "seed of folds, models and resampling")
    resamples: int = option(1000, "bootstrap resamples (over groups) of each interval")
    permutations: int = option(0, "exchanges of the ratings among groups, to test the scores against chance (0: none)")
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What a run's name is made of."""
    return config.dataset, config.features, config.model


def execute(config: Config, job, run_id: str, span: tuple[float, float] = (0.0, 1.0)) -> str:
    """Load the dataset, make the run folder, fill it; return the run's id."""
    from mer_core.datasets import load
    from mer_core.runs import RunWriter

    with RunWriter(run_id, "train", config, job, span) as writer:
        writer.progress(0.0, f"loading {config.dataset}")
        dataset = load(config.dataset, config.layout, config.labels)
        run(config, dataset, writer)
    return run_id


def run(config: Config, dataset, writer) -> None:
    """Extract features, cross-validate, score, explain, fit the final model, write everything."""
    from mer_core.evaluate.experiment import align, explanation_of, fit_folds
    from mer_core.models.regressors import FAMILIES
    from mer_core.models.representations import build_representation

    if config.explain == "shap" and FAMILIES[config.model].explainer is None:
        raise UserError(
            f"--model {config.model} has no exact SHAP explainer; add --explain none, or choose another model"
        )
    check(config, dataset)
    plan = plan_of(config)
    table = build_representation(
        config.features, dataset, plan.workers, stage(writer, 0.0, 0.45), config.weights or None
    )
    data = align(plan, dataset, table)
    writer.log(f"{len(data.features)} tracks x {data.features.shape[1]} columns, {data.groups.nunique()} groups")
    for note in [*data.notes, *(leak["sentence"] for leak in data.leaks)]:
        writer.log(note)
    explain = config.explain == "shap" and data.chunks is None
    result = fit_folds(plan, data, explain, stage(writer, 0.45, 0.8))
    describe(config, dataset, data, result, writer)
    write_scores(config, dataset, data, result, writer)
    if explain:
        writer.progress(0.92, "writing SHAP values")
        writer.write_explanation("shap", explanation_of(data, result, dataset.scale))
    writer.progress(0.94, f"fitting {config.model} on all tracks")
    write_model(plan, data, result, writer)


def plan_of(config: Config):
    """The options that an experiment depends on."""
    from mer_core.evaluate.experiment import Plan

    return Plan(config.features, config.model, config.protocol, config.targets, config.seed, config.workers or None)


def stage(writer, low: float, high: float) -> Callable[[float, str], None]:
    """Progress of one stage as part of the run's."""
    return lambda fraction, message: writer.progress(low + fraction * (high - low), message)


def check(config: Config, dataset) -> None:
    """Raise UserError for options that cannot be, before the long work begins."""
    from mer_core.evaluate.experiment import check_targets

    check_targets(config.targets, dataset)
    check_resamples(config.resamples)
    if config.permutations < 0:
        raise UserError(f"--permutations {config.permutations} is negative; give 0 for none, or a number such as 200")
    if config.permutations and config.protocol == "leaky-chunks":
        raise UserError("--permutations tests no scores that leak; choose another protocol than leaky-chunks")


def check_resamples(resamples: int) -> None:
    """Raise UserError unless there is anything to resample."""
    if resamples < 1:
        raise UserError(f"--resamples {resamples} is too small; give at least 1, such as 1000")


def describe(config: Config, dataset, data, result, writer) -> None:
    """Say in `run.json` what the run was made from."""
    from mer_core.runs import describe_dataset

    writer.about(
        dataset=describe_dataset(dataset),
        features={
            "name": config.features,
            "source": data.table.source,
            "n_columns": data.features.shape[1],
            "failures": data.left_out,
            "notes": data.table.notes,
        },
        model=config.model,
        targets=list(data.ratings),
        protocol=config.protocol,
        leaks=data.leaks,
        notes=data.notes,
        chosen_parameters=result.chosen,
        split_digest=(data.split if data.chunks is None else data.chunks.split).digest(),
        split_sizes=data.split.assignment.value_counts().sort_index().to_dict(),
        seed=config.seed,
        weights=list(data.table.weights) or None,
        interval_level=INTERVAL_LEVEL,
    )


def write_scores(config: Config, dataset, data, result, writer) -> None:
    """Write `metrics.json`, `predictions.parquet`, `tracks.parquet` and `neighbours.parquet`."""
    from mer_core.evaluate import experiment
    from mer_core.evaluate.cross_validation import permutation_scores
    from mer_core.evaluate.intervals import coverage, interval_summary
    from mer_core.evaluate.protocols import PROTOCOLS
    from mer_core.evaluate.scoring import ceilings, prediction_rows, score_parts
    from mer_core.features.neighbours import nearest_tracks

    true, parts = data.ratings.loc[result.tested], data.parts.loc[result.tested]

    def scored(predicted) -> dict:
        return score_parts(true, predicted, data.groups.loc[result.tested], parts, config.resamples, config.seed)

    predictions = experiment.baselines_of(plan_of(config), data, stage(writer, 0.8, 0.86))
    writer.progress(0.88, f"scoring with {config.resamples} resamples over groups")
    scores, errors = scored(result.predicted), experiment.errors_of(data, result)
    metrics = {
        "schema": 1,
        "protocol": config.protocol,
        "targets": scores,
        "baselines": {name: scored(predicted) for name, predicted in predictions.items()},
        "ceiling": ceilings(true, parts, dataset, scores),
        "coverage": coverage(errors, result.fold, parts, experiment.validation_errors(data, result)),
        "leaks": data.leaks,
    }
    if result.chunks is not None:
        metrics["chunks"] = {"targets": experiment.chunk_scores(data, result.chunks, config.resamples, config.seed)}
    if config.permutations:
        metrics["permutation"] = permutation_scores(
            data.features,
            data.ratings,
            data.groups,
            data.split,
            config.model,
            config.seed,
            config.permutations,
            tune=PROTOCOLS[config.protocol].tuned,
            workers=config.workers or None,
            progress=stage(writer, 0.89, 0.92),
        )
    writer.write_json("metrics.json", metrics)
    writer.write_json(
        "intervals.json", {"schema": 1, "levels": interval_summary(experiment.unseen_errors(data, result))}
    )
    rows = prediction_rows(true, result.predicted, parts, result.fold, INTERVAL_LEVEL, result.validation)
    writer.write_table("predictions", rows)
    writer.write_table("tracks", experiment.track_table(dataset, data))
    writer.write_table("neighbours", nearest_tracks(data.features))


def write_model(plan, data, result, writer) -> None:
    """Fit on all tracks and save the model, its columns, the half width of its intervals and its ellipses."""
    from mer_core.evaluate.experiment import final_model, unseen_errors
    from mer_core.evaluate.intervals import interval_summary
    from mer_core.models.store import save_model

    model, parameters = final_model(plan, data)
    (writer.folder / "model").mkdir()
    save_model(writer.folder / "model" / "model.skops", model)
    levels = interval_summary(unseen_errors(data, result))
    writer.write_json(
        "model/model.json",
        {
            "schema": 1,
            "targets": list(data.ratings),
            "columns": list(data.features.columns),
            "parameters": parameters,
            "interval_level": INTERVAL_LEVEL,
            "interval_halfwidth": levels[str(INTERVAL_LEVEL)]["halfwidth"],
            "ellipse": {level: about["ellipse"] for level, about in levels.items()},
        },
    )
