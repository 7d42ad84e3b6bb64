"""Features and a regressor under a protocol: honest scores, explanations, and a model that predicts.

Every score is made from out-of-fold predictions: no track, and no group (artist, album, piece), is in the training
part of the model that predicts it. The model that is saved is fitted afterwards on all tracks, for `predict`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from mer_core.errors import UserError
from pipelines import option

MODELS = (
    *("ridge", "elasticnet", "svr", "forest", "extra-trees", "boosting", "blend"),
    *("kernel-ridge", "committee", "mlp"),
)
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
        "stats8",
        "stats8 (2080 columns), stats15 (3900), a backbone such as musicnn-msd, musicnn-msd:mean-std or "
        "musicnn-msd-tags, or a Parquet/CSV table keyed by track_id or song_id; several joined with +; with "
        "-decorrelated, -group-pca or -global-pca behind it, reduced on the training parts",
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
    from mer_core.evaluate.experiment import align, explanation_of, final_model, fit_folds
    from mer_core.models.regressors import FAMILIES
    from mer_core.models.representations import build_representation

    if config.explain == "shap" and FAMILIES[config.model].explainer is None:
        raise UserError(
            f"--model {config.model} has no exact SHAP explainer; add --explain none, or choose another model"
        )
    check(config, dataset)
    plan = plan_of(config)
    table = build_representation(plan.table, dataset, plan.workers, stage(writer, 0.0, 0.45), config.weights or None)
    data = align(plan, dataset, table)
    writer.log(f"{len(data.features)} tracks x {data.features.shape[1]} columns, {data.groups.nunique()} groups")
    tell(data, writer)
    explain = config.explain == "shap" and data.chunks is None
    result = fit_folds(plan, data, explain, stage(writer, 0.45, 0.78))
    writer.progress(0.8, f"fitting {config.model} on all tracks")
    model, parameters = final_model(plan, data)
    describe(config, dataset, data, result, about_reduction(plan, model, result), writer)
    write_scores(config, dataset, data, result, writer)
    if explain:
        writer.progress(0.94, "writing SHAP values")
        writer.write_explanation("shap", explanation_of(data, result, dataset.scale))
    write_listening(config, plan, dataset, data, result, writer)
    writer.progress(0.96, "writing the model")
    write_model(plan, data, result, model, parameters, writer)


def tell(data, writer) -> None:
    """Log and print what the user should know of the features, the folds and the leaks."""
    for note in [*data.table.notes, *data.notes, *(leak["sentence"] for leak in data.leaks)]:
        writer.log(note)
        print(f"note: {note}", file=sys.stderr)


def plan_of(config: Config):
    """The options that an experiment depends on."""
    from mer_core.evaluate.experiment import Plan

    return Plan(config.features, config.model, config.protocol, config.targets, config.seed, config.workers or None)


def recorded(finished) -> Config:
    """The options that a finished run's models can be fitted with again, also those of a PCA route's winner."""
    from dataclasses import fields

    known = {item.name for item in fields(Config)}
    options = {name: value for name, value in finished.about["config"].items() if name in known}
    options |= {"features": finished.about["features"]["name"], "model": finished.about["model"]}
    return Config(**{name: tuple(value) if isinstance(value, list) else value for name, value in options.items()})


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


def describe(config: Config, dataset, data, result, reduction: dict | None, writer) -> None:
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
            "reduction": reduction,
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


def about_reduction(plan, model, result) -> dict | None:
    """What `run.json` says of the reduction: how many columns or components each round's and the final model see."""
    from mer_core.models.regressors import width

    if plan.reduction is None:
        return None
    about = {"name": plan.reduction, "unit": "columns" if plan.reduction == "decorrelated" else "components"}
    about |= {"n_per_round": result.n_inputs, "n_final": width(model)}
    about["note"] = "fitted on the training part of each round; the final model's on all tracks"
    if result.components is not None:
        about["agreement"] = round(float(result.components.about["agreement"].median()), 3)
        about["note"] += (
            "; a round's components are explained under the names of the components of all tracks that they are most "
            "like, and agreement is the median absolute correlation of their scores with those"
        )
    return about


def write_scores(config: Config, dataset, data, result, writer, more: dict | None = None) -> None:
    """Write `metrics.json`, with `more` in it, `predictions.parquet`, `tracks.parquet` and `neighbours.parquet`."""
    from mer_core.evaluate import experiment
    from mer_core.evaluate.cross_validation import permutation_scores
    from mer_core.evaluate.intervals import coverage, interval_summary
    from mer_core.evaluate.protocols import PROTOCOLS
    from mer_core.evaluate.regions import region_maps
    from mer_core.evaluate.scoring import ceilings, prediction_rows, score_parts
    from mer_core.features.neighbours import nearest_tracks

    true, parts = data.ratings.loc[result.tested], data.parts.loc[result.tested]

    def scored(predicted) -> dict:
        return score_parts(true, predicted, data.groups.loc[result.tested], parts, config.resamples, config.seed)

    predictions = experiment.baselines_of(plan_of(config), data, stage(writer, 0.84, 0.88))
    writer.progress(0.89, f"scoring with {config.resamples} resamples over groups")
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
            reduction=plan_of(config).reduction,
            columns=data.table.columns.loc[data.features.columns],
            progress=stage(writer, 0.9, 0.94),
        )
    rows = prediction_rows(true, result.predicted, parts, result.fold, INTERVAL_LEVEL, result.validation)
    metrics |= {"regions": region_maps(rows)} | (more or {})
    writer.write_json("metrics.json", metrics)
    writer.write_json(
        "intervals.json", {"schema": 1, "levels": interval_summary(experiment.unseen_errors(data, result))}
    )
    writer.write_table("predictions", rows)
    writer.write_table("tracks", experiment.track_table(dataset, data))
    writer.write_table("neighbours", nearest_tracks(data.features))


def write_listening(config: Config, plan, dataset, data, result, writer) -> None:
    """Write what pretrained networks heard besides: `tags.parquet`, and `dynamic.parquet` where windows can be scored.

    Everything comes from the cache that the features were just made from.
    """
    import pandas as pd

    from mer_core.evaluate.dynamic import unseen_windows
    from mer_core.models.embedding_tables import tag_table
    from mer_core.models.embeddings import load_embeddings
    from mer_core.models.representations import embedding_parts, window_part

    def heard_by(part):
        return load_embeddings(dataset, part.backbone, config.weights or None, plan.workers, layer=part.layer)

    tagging = {part.backbone.name: part for part in embedding_parts(plan.table) if part.backbone.tags}
    if tagging:
        writer.write_table("tags", pd.concat([tag_table(heard_by(part)) for part in tagging.values()]))
    part = window_part(plan.table)
    if part is not None and data.chunks is None and not any("components" in chosen for chosen in result.chosen):
        writer.write_table("dynamic", unseen_windows(plan, data, result, part, heard_by(part)))


def write_model(plan, data, result, model, parameters: dict, writer) -> None:
    """Save the model that is fitted on all tracks, its columns, the half width of its intervals and its ellipses.

    What a reduction did to the columns is saved as tables: `reduction`, `spectrum`, `loadings`, those that it has.
    """
    from mer_core.evaluate.experiment import unseen_errors
    from mer_core.evaluate.intervals import interval_summary
    from mer_core.models.reductions import reduction_tables
    from mer_core.models.store import save_model

    if plan.reduction is not None:
        for name, table in reduction_tables(model["reduce"], data.table.columns.loc[data.features.columns]).items():
            writer.write_table(name, table)
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
