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
    from mer_core.models.regressors import FAMILIES
    from mer_core.runs import describe_dataset

    if config.explain == "shap" and FAMILIES[config.model].explainer is None:
        raise UserError(
            f"--model {config.model} has no exact SHAP explainer; add --explain none, or choose another model"
        )
    data = prepare(config, dataset, stage(writer, 0.0, 0.45))
    writer.log(f"{len(data.features)} tracks x {data.features.shape[1]} columns, {data.groups.nunique()} groups")
    for note in [*data.notes, *(leak["sentence"] for leak in data.leaks)]:
        writer.log(note)
    explain = config.explain == "shap" and data.chunks is None
    result = fit_folds(config, data, explain, stage(writer, 0.45, 0.8))
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
        weights=None,
        interval_level=INTERVAL_LEVEL,
    )
    write_scores(config, dataset, data, result, writer)
    if explain:
        writer.progress(0.92, "writing SHAP values")
        writer.write_explanation("shap", explanation_of(config, data, result, dataset.scale))
    writer.progress(0.94, f"fitting {config.model} on all tracks")
    write_model(config, data, result, writer)


def stage(writer, low: float, high: float) -> Callable[[float, str], None]:
    """Progress of one stage as part of the run's."""
    return lambda fraction, message: writer.progress(low + fraction * (high - low), message)


@dataclass(frozen=True)
class Data:
    """Features and ratings of the tracks that have both, aligned; `left_out` says which have not, and why.

    leaks : what of the training parts is tested, counted; notes : what else was done otherwise than asked
    chunks : under a protocol that cuts tracks, their chunks; `split` then has each track where its first chunk is
    """

    table: object
    features: object
    ratings: object
    groups: object
    parts: object
    split: object
    left_out: list
    leaks: list
    notes: tuple[str, ...]
    chunks: object = None


def prepare(config: Config, dataset, progress) -> Data:
    """Features, ratings and split of the tracks that have both features and all the targets."""
    from mer_core.features import build_features

    check(config, dataset)
    return align(config, dataset, build_features(config.features, dataset, config.workers or None, progress))


def check(config: Config, dataset) -> None:
    """Raise UserError for options that cannot be, before the long work begins."""
    unknown = [target for target in config.targets if target not in dataset.targets]
    if unknown:
        raise UserError(
            f"--targets {', '.join(unknown)}: not rated in {dataset.name}; choose from {', '.join(dataset.targets)}"
        )
    if not config.targets:
        raise UserError("--targets is empty; name at least one rating, such as valence,arousal")
    if config.resamples < 1:
        raise UserError(f"--resamples {config.resamples} is too small; give at least 1, such as 1000")
    if config.permutations < 0:
        raise UserError(f"--permutations {config.permutations} is negative; give 0 for none, or a number such as 200")
    if config.permutations and config.protocol == "leaky-chunks":
        raise UserError("--permutations tests no scores that leak; choose another protocol than leaky-chunks")


def align(config: Config, dataset, table, split=None) -> Data:
    """Join a feature table with the ratings, and make the protocol's split of their tracks, or use the one given."""
    from mer_core.evaluate.protocols import PROTOCOLS, count_leaks, make_chunks, make_split
    from mer_core.evaluate.splits import check_disjoint

    targets, notes = varying_targets(config, dataset)
    ratings = dataset.ratings[targets]
    unrated = ratings.index[ratings.isna().any(axis=1)]
    left_out = [*table.failures, *((track, f"no rating of {' and '.join(targets)}") for track in unrated)]
    shared = table.values.index.intersection(ratings.index.difference(unrated, sort=False), sort=False)
    if len(shared) < 10:
        reason = left_out[0][1] if left_out else "no feature row has a rated track's id"
        raise UserError(
            f"only {len(shared)} of {len(ratings)} tracks of {dataset.name} have both features and ratings; "
            f"at least 10 are needed; first reason: {reason}"
        )
    protocol, chunks, pieces = PROTOCOLS[config.protocol], None, None
    if protocol.unit == "chunk":
        pieces, short = chunk_table(config, dataset, shared)
        left_out += short
        shared = shared.intersection(pieces.index.str.rsplit("#", n=1).str[0], sort=False)
    split = split or make_split(config.protocol, dataset, shared, config.seed)
    leaks = count_leaks(config.protocol, split, dataset)
    if pieces is not None:
        chunks = make_chunks(pieces, split, shared)
        split = chunks.by_track
    kept = shared[shared.isin(split.assignment.index)]
    left_out += [(track, f"in no part of the split {config.protocol}") for track in shared.difference(kept, sort=False)]
    tracks = dataset.tracks.loc[kept]
    if not protocol.leaks:
        check_disjoint(split, tracks["group"])
    if len(split.parts) < 5 and "test" not in split.parts:
        notes += (f"Only {len(split.parts)} folds, since {dataset.name} has no more groups.",)
    return Data(
        table,
        table.values.loc[kept],
        ratings.loc[kept],
        tracks["group"],
        tracks["part"],
        split,
        left_out,
        leaks,
        notes,
        chunks,
    )


def varying_targets(config: Config, dataset) -> tuple[list[str], tuple[str, ...]]:
    """Targets that can be learned, and a sentence on each that is the same for every track."""
    constant = [target for target in config.targets if dataset.ratings[target].nunique() < 2]
    varying = [target for target in config.targets if target not in constant]
    if not varying:
        raise UserError(
            f"{' and '.join(constant)} of {dataset.name} are the same for every track: there is nothing to learn; "
            "check the ratings, or name other --targets"
        )
    said = (f"{target} is the same for every rated track, so it was left out." for target in constant)
    return varying, tuple(said)


def chunk_table(config: Config, dataset, tracks):
    """Features of the chunks of these tracks, and (track, reason) for those too short to be cut."""
    from mer_core.evaluate.protocols import chunk_features

    pieces, short = chunk_features(config.features, dataset, config.workers or None)
    pieces = pieces[pieces.index.str.rsplit("#", n=1).str[0].isin(tracks)]
    return pieces.dropna(axis=1, how="all"), [(track, why) for track, why in short if track in tracks]


def fit_folds(config: Config, data: Data, explain: bool, progress, columns=None):
    """Train and test under the protocol's split, on all columns or on those named; predictions are of tracks."""
    from mer_core.evaluate.cross_validation import cross_validate, per_track
    from mer_core.evaluate.protocols import PROTOCOLS

    options = {"tune": PROTOCOLS[config.protocol].tuned, "workers": config.workers or None}
    rounds = "training part" if "test" in data.split.parts else f"{len(data.split.parts)} folds"
    doing = f"training{' and explaining' if explain else ''} {config.model} on {rounds}"
    options["progress"] = lambda fraction, _: progress(fraction, doing)
    if data.chunks is None:
        features = data.features if columns is None else data.features[columns]
        return cross_validate(
            features, data.ratings, data.groups, data.split, config.model, config.seed, explain=explain, **options
        )
    if explain:
        raise UserError(f"--protocol {config.protocol} only shows what a leak is worth; explain a run of another one")
    chunks = data.chunks
    features = chunks.features if columns is None else chunks.features[chunks.features.columns.intersection(columns)]
    ratings, groups = chunks.spread(data.ratings), chunks.spread(data.groups)
    result = cross_validate(features, ratings, groups, chunks.split, config.model, config.seed, **options)
    return per_track(result, chunks.owners)


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
    from mer_core.evaluate.cross_validation import permutation_scores
    from mer_core.evaluate.intervals import coverage, interval_summary
    from mer_core.evaluate.protocols import PROTOCOLS
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
        "ceiling": ceilings(true, parts, dataset, scores),
        "coverage": coverage(errors_of(data, result), result.fold, parts, validation_errors(data, result)),
        "leaks": data.leaks,
    }
    if result.chunks is not None:
        metrics["chunks"] = {"targets": chunk_scores(config, data, result.chunks)}
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
    writer.write_json("intervals.json", {"schema": 1, "levels": interval_summary(unseen_errors(data, result))})
    rows = prediction_rows(true, result.predicted, parts, result.fold, INTERVAL_LEVEL, result.validation)
    writer.write_table("predictions", rows)
    writer.write_table("tracks", track_table(dataset, data))
    writer.write_table("neighbours", nearest_tracks(data.features))


def errors_of(data: Data, result):
    """Errors (true - predicted) of the tested tracks, columns targets."""
    return data.ratings.loc[result.tested] - result.predicted


def validation_errors(data: Data, result):
    """Errors on the validation part of a hold-out, columns targets; None for folds."""
    import pandas as pd

    return None if result.validation is None else pd.DataFrame(result.validation, columns=data.ratings.columns)


def unseen_errors(data: Data, result):
    """Errors on all tracks that their model had not seen."""
    import pandas as pd

    return pd.concat([errors_of(data, result), validation_errors(data, result)], ignore_index=True)


def chunk_scores(config: Config, data: Data, chunks) -> dict:
    """Scores of the chunks' own predictions."""
    from mer_core.evaluate.scoring import score_parts

    true, groups, parts = map(data.chunks.spread, (data.ratings, data.groups, data.parts))
    return score_parts(true, chunks.predicted, groups, parts, config.resamples, config.seed)


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
        targets=tuple(data.ratings),
        base=result.base,
        values=result.values,
        features=data.features.loc[result.tested].to_numpy(),
        predicted=result.predicted,
        scale=scale,
    )


def write_model(config: Config, data: Data, result, writer) -> None:
    """Fit on all tracks and save the model, its columns, the half width of its intervals and its ellipses."""
    from mer_core.evaluate.cross_validation import choose_parameters
    from mer_core.evaluate.intervals import interval_summary
    from mer_core.evaluate.protocols import PROTOCOLS
    from mer_core.models.regressors import make_regressor
    from mer_core.models.store import save_model

    parameters = {}
    if PROTOCOLS[config.protocol].tuned:
        parameters = choose_parameters(data.features, data.ratings, data.groups, config.model, config.seed)
    model = make_regressor(config.model, config.seed, **parameters)
    model.fit(data.features.to_numpy(), data.ratings.to_numpy())
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
