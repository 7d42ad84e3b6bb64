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
PROTOCOLS = ("grouped-5fold", "nested")
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
    model: str = option("extra-trees", "family of the regressor", MODELS)
    protocol: str = option(
        "grouped-5fold",
        "how tracks are kept apart: 5 folds by group, or the same with parameters chosen inside each fold",
        PROTOCOLS,
    )
    targets: tuple[str, ...] = option(("valence", "arousal"), "ratings to predict, comma-separated")
    explain: str = option("shap", "attributions of each out-of-fold prediction", ("shap", "none"))
    seed: int = option(42, "seed of folds, models and resampling")
    resamples: int = option(1000, "bootstrap resamples (over groups) of each interval")
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
    from mer_core.models.regressors import FAMILIES
    from mer_core.runs import describe_dataset

    if config.explain == "shap" and FAMILIES[config.model].explainer is None:
        raise UserError(
            f"--model {config.model} has no exact SHAP explainer; add --explain none, or choose another model"
        )
    data = prepare(config, dataset, stage(writer, 0.0, 0.45))
    writer.log(f"{len(data.features)} tracks x {data.features.shape[1]} columns, {data.groups.nunique()} groups")
    result = fit_folds(config, data, config.explain == "shap", stage(writer, 0.45, 0.8))
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
        targets=list(config.targets),
        protocol=config.protocol,
        chosen_parameters=result.chosen,
        split_digest=data.split.digest(),
        seed=config.seed,
        weights=None,
        interval_level=INTERVAL_LEVEL,
    )
    write_scores(config, dataset, data, result, writer)
    if config.explain == "shap":
        writer.progress(0.92, "writing SHAP values")
        writer.write_explanation("shap", explanation_of(config, data, result, dataset.scale))
    writer.progress(0.94, f"fitting {config.model} on all tracks")
    write_model(config, data, result, writer)


def stage(writer, low: float, high: float) -> Callable[[float, str], None]:
    """Progress of one stage as part of the run's."""
    return lambda fraction, message: writer.progress(low + fraction * (high - low), message)


@dataclass(frozen=True)
class Data:
    """Features and ratings of the tracks that have both, aligned; `left_out` says which have not, and why."""

    table: object
    features: object
    ratings: object
    groups: object
    parts: object
    split: object
    left_out: list


def prepare(config: Config, dataset, progress) -> Data:
    """Features, ratings and split of the tracks that have both features and all the targets."""
    from mer_core.evaluate.splits import check_disjoint, grouped_kfold
    from mer_core.features import build_features

    unknown = [target for target in config.targets if target not in dataset.targets]
    if unknown:
        raise UserError(
            f"--targets {', '.join(unknown)}: not rated in {dataset.name}; choose from {', '.join(dataset.targets)}"
        )
    if not config.targets:
        raise UserError("--targets is empty; name at least one rating, such as valence,arousal")
    if config.resamples < 1:
        raise UserError(f"--resamples {config.resamples} is too small; give at least 1, such as 1000")
    table = build_features(config.features, dataset, workers=config.workers or None, progress=progress)
    ratings = dataset.ratings[list(config.targets)]
    unrated = ratings.index[ratings.isna().any(axis=1)]
    left_out = [*table.failures, *((track, f"no rating of {' and '.join(config.targets)}") for track in unrated)]
    shared = table.values.index.intersection(ratings.index.difference(unrated, sort=False), sort=False)
    if len(shared) < 10:
        reason = left_out[0][1] if left_out else "no feature row has a rated track's id"
        raise UserError(
            f"only {len(shared)} of {len(ratings)} tracks of {dataset.name} have both features and ratings; "
            f"at least 10 are needed; first reason: {reason}"
        )
    features, ratings, tracks = table.values.loc[shared], ratings.loc[shared], dataset.tracks.loc[shared]
    split = grouped_kfold(tracks["group"], dataset.ratings.loc[shared], folds=5, seed=config.seed)
    check_disjoint(split, tracks["group"])
    return Data(table, features, ratings, tracks["group"], tracks["part"], split, left_out)


def fit_folds(config: Config, data: Data, explain: bool, progress, columns=None):
    """Cross-validate on all columns, or on those named."""
    from mer_core.evaluate.cross_validation import cross_validate

    return cross_validate(
        data.features if columns is None else data.features[columns],
        data.ratings,
        data.groups,
        data.split,
        config.model,
        config.seed,
        tune=config.protocol == "nested",
        explain=explain,
        workers=config.workers or None,
        progress=lambda fraction, _: progress(fraction, f"training and explaining {config.model} on 5 folds"),
    )


def baselines_of(config: Config, data: Data, progress) -> dict:
    """Out-of-fold predictions of the constant, and of the same model on one statistic of each descriptor."""
    from mer_core.evaluate.cross_validation import constant_predictions

    predictions = {"constant": constant_predictions(data.ratings, data.split).to_numpy()}
    for statistic in ("mean", "q25"):
        columns = data.table.columns.index[data.table.columns["statistic"] == statistic]
        if 0 < len(columns) < data.features.shape[1]:
            predictions[f"{statistic}-only"] = fit_folds(config, data, False, progress, columns).predicted
    return predictions


def write_scores(config: Config, dataset, data: Data, result, writer) -> None:
    """Write `metrics.json`, `predictions.parquet`, `tracks.parquet` and `neighbours.parquet`."""
    from mer_core.evaluate.scoring import ceilings, prediction_rows, score_parts
    from mer_core.features.neighbours import nearest_tracks

    true, parts = data.ratings.loc[result.tested], data.parts.loc[result.tested]

    def scored(predicted) -> dict:
        return score_parts(true, predicted, data.groups.loc[result.tested], parts, config.resamples, config.seed)

    predictions = baselines_of(config, data, stage(writer, 0.8, 0.86))
    writer.progress(0.88, f"scoring with {config.resamples} resamples over groups")
    scores = scored(result.predicted)
    metrics = {
        "schema": 1,
        "protocol": config.protocol,
        "targets": scores,
        "baselines": {name: scored(predicted) for name, predicted in predictions.items()},
        "ceiling": ceilings(true, dataset.spread, scores),
    }
    writer.write_json("metrics.json", metrics)
    writer.write_table("predictions", prediction_rows(true, result.predicted, parts, result.fold, INTERVAL_LEVEL))
    writer.write_table("tracks", track_table(dataset, data))
    writer.write_table("neighbours", nearest_tracks(data.features))


def track_table(dataset, data: Data):
    """One row per track that was used: path, part, group, fold, ratings, spread, metadata."""
    import pandas as pd

    index = data.features.index
    tracks, spread = dataset.tracks.loc[index], dataset.spread.loc[index].add_suffix("_std")
    head = tracks[["path", "part", "group"]].assign(fold=data.split.assignment.loc[index])
    taken = {*head, *dataset.targets, *spread}
    metadata = tracks[[name for name in tracks if name not in taken]]
    return pd.concat([head, dataset.ratings.loc[index], spread, metadata], axis=1).rename_axis("track_id").reset_index()


def explanation_of(config: Config, data: Data, result, scale: tuple[float, float]):
    """SHAP values of all out-of-fold predictions, in our own format."""
    from mer_core.explain.attribution import FeatureExplanation

    return FeatureExplanation(
        method="shap",
        tracks=tuple(result.tested),
        columns=data.table.columns.loc[data.features.columns],
        targets=config.targets,
        base=result.base,
        values=result.values,
        features=data.features.loc[result.tested].to_numpy(),
        predicted=result.predicted,
        scale=scale,
    )


def write_model(config: Config, data: Data, result, writer) -> None:
    """Fit on all tracks and save the model, its columns, and the half width of its intervals."""
    import numpy as np

    from mer_core.evaluate.cross_validation import choose_parameters
    from mer_core.evaluate.metrics import conformal_halfwidth
    from mer_core.models.regressors import make_regressor
    from mer_core.models.store import save_model

    parameters = {}
    if config.protocol == "nested":
        parameters = choose_parameters(data.features, data.ratings, data.groups, config.model, config.seed)
    model = make_regressor(config.model, config.seed, **parameters)
    model.fit(data.features.to_numpy(), data.ratings.to_numpy())
    (writer.folder / "model").mkdir()
    save_model(writer.folder / "model" / "model.skops", model)
    residuals = np.abs(data.ratings.loc[result.tested].to_numpy() - result.predicted)
    halfwidths = {
        target: conformal_halfwidth(residuals[:, position], INTERVAL_LEVEL)
        for position, target in enumerate(config.targets)
    }
    writer.write_json(
        "model/model.json",
        {
            "schema": 1,
            "targets": config.targets,
            "columns": list(data.features.columns),
            "parameters": parameters,
            "interval_level": INTERVAL_LEVEL,
            "interval_halfwidth": halfwidths,
        },
    )
