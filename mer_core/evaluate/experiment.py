"""An experiment: a feature table joined with ratings under a protocol, its folds fitted, its errors and baselines.

Conventions: rows are tracks, in the order of the feature table; one column per target, on the dataset's rating scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from mer_core.datasets.dataset import Dataset
from mer_core.errors import UserError
from mer_core.evaluate.cross_validation import (
    CrossValidation,
    choose_parameters,
    constant_predictions,
    cross_validate,
    per_track,
)
from mer_core.evaluate.protocols import PROTOCOLS, Chunks, chunk_features, count_leaks, make_chunks, make_split
from mer_core.evaluate.scoring import score_parts
from mer_core.evaluate.splits import Split, check_disjoint
from mer_core.explain.attribution import FeatureExplanation
from mer_core.explain.grouped import group_columns, group_levels
from mer_core.features import FeatureTable, describe_columns
from mer_core.models.reductions import split_reduction
from mer_core.models.regressors import make_regressor

Progress = Callable[[float, str], None]
FEWEST_TRACKS = 10


@dataclass(frozen=True)
class Plan:
    """What is tried: features and their reduction, model family, protocol, targets, seed, threads (None: all cores)."""

    features: str
    model: str
    protocol: str
    targets: tuple[str, ...]
    seed: int
    workers: int | None = None

    @property
    def table(self) -> str:
        """The features without their reduction."""
        return split_reduction(self.features)[0]

    @property
    def reduction(self) -> str | None:
        """How their columns become fewer, a key of `REDUCTIONS`."""
        return split_reduction(self.features)[1]


@dataclass(frozen=True)
class Data:
    """Features (n, p) and ratings (n, t) of the tracks that have both; `left_out` says which have not, and why.

    leaks : what of the training parts is tested, counted; notes : what else was done otherwise than asked
    chunks : under a protocol that cuts tracks, their chunks; `split` then has each track where its first chunk is
    """

    table: FeatureTable
    features: pd.DataFrame
    ratings: pd.DataFrame
    groups: pd.Series
    parts: pd.Series
    split: Split
    left_out: list[tuple[str, str]]
    leaks: list[dict]
    notes: tuple[str, ...]
    chunks: Chunks | None = None


def check_targets(targets: tuple[str, ...], dataset: Dataset) -> None:
    """Raise UserError where no target is named, or one that the dataset does not rate."""
    unknown = [target for target in targets if target not in dataset.targets]
    if unknown:
        raise UserError(
            f"--targets {', '.join(unknown)}: not rated in {dataset.name}; choose from {', '.join(dataset.targets)}"
        )
    if not targets:
        raise UserError("--targets is empty; name at least one rating, such as valence,arousal")


def align(plan: Plan, dataset: Dataset, table: FeatureTable, split: Split | None = None) -> Data:
    """Join a feature table with the ratings, and make the protocol's split of their tracks, or use the one given.

    Raises
    ------
    UserError : fewer than 10 tracks have both, all targets are constant, or the protocol cannot be served
    """
    targets, notes = _varying_targets(plan, dataset)
    ratings = dataset.ratings[targets]
    unrated = ratings.index[ratings.isna().any(axis=1)]
    left_out = [*table.failures, *((track, f"no rating of {' and '.join(targets)}") for track in unrated)]
    shared = table.values.index.intersection(ratings.index.difference(unrated, sort=False), sort=False)
    if len(shared) < FEWEST_TRACKS:
        reason = f"; first reason: {left_out[0][1]}" if left_out else ""
        raise UserError(
            f"only {len(shared)} of {len(ratings)} tracks of {dataset.name} have both features and ratings; "
            f"at least {FEWEST_TRACKS} are needed{reason}"
        )
    protocol, chunks, pieces = PROTOCOLS[plan.protocol], None, None
    if protocol.unit == "chunk":
        pieces, short = _chunk_table(plan, dataset, shared)
        left_out += short
        shared = shared.intersection(pieces.index.str.rsplit("#", n=1).str[0], sort=False)
    split = split or make_split(plan.protocol, dataset, shared, plan.seed)
    leaks = count_leaks(plan.protocol, split, dataset)
    if pieces is not None:
        chunks = make_chunks(pieces, split, shared)
        split = chunks.by_track
    kept = shared[shared.isin(split.assignment.index)]
    left_out += [(track, f"in no part of the split {plan.protocol}") for track in shared.difference(kept, sort=False)]
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


def _varying_targets(plan: Plan, dataset: Dataset) -> tuple[list[str], tuple[str, ...]]:
    """Targets that can be learned, and a sentence on each that is the same for every track."""
    constant = [target for target in plan.targets if dataset.ratings[target].nunique() < 2]
    varying = [target for target in plan.targets if target not in constant]
    if not varying:
        raise UserError(
            f"{' and '.join(constant)} of {dataset.name} are the same for every track: there is nothing to learn; "
            "check the ratings, or name other --targets"
        )
    said = (f"{target} is the same for every rated track, so it was left out." for target in constant)
    return varying, tuple(said)


def _chunk_table(plan: Plan, dataset: Dataset, tracks: pd.Index) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Features of the chunks of these tracks, and (track, reason) for those too short to be cut."""
    pieces, short = chunk_features(plan.table, dataset, plan.workers)
    pieces = pieces[pieces.index.str.rsplit("#", n=1).str[0].isin(tracks)]
    return pieces.dropna(axis=1, how="all"), [(track, why) for track, why in short if track in tracks]


def fit_folds(
    plan: Plan,
    data: Data,
    explain: bool,
    progress: Progress,
    columns: pd.Index | None = None,
    *,
    method: str = "shap",
    components: Mapping[int | str, int] | None = None,
) -> CrossValidation:
    """Train and test under the protocol's split; predictions are of tracks.

    columns : the columns to learn from, as they are; all of them, with the plan's reduction, when None
    method : of the explanation, "shap" of columns or components, or "grouped" of whole perceptual groups
    components : of each round, as in `cross_validate`
    """
    options = {"tune": PROTOCOLS[plan.protocol].tuned, "workers": plan.workers}
    rounds = "training part" if "test" in data.split.parts else f"{len(data.split.parts)} folds"
    doing = f"training{' and explaining' if explain else ''} {plan.model} on {rounds}"
    options["progress"] = lambda fraction, _: progress(fraction, doing)
    if columns is None and plan.reduction is not None:
        options |= {"reduction": plan.reduction, "columns": data.table.columns.loc[data.features.columns]}
    options |= {} if components is None else {"components": components}
    if data.chunks is None:
        features = data.features if columns is None else data.features[columns]
        if explain and method == "grouped":
            options["together"] = tuple(data.table.columns["group"].loc[features.columns])
        return cross_validate(
            features, data.ratings, data.groups, data.split, plan.model, plan.seed, explain=explain, **options
        )
    if explain:
        raise UserError(f"--protocol {plan.protocol} only shows what a leak is worth; explain a run of another one")
    chunks = data.chunks
    features = chunks.features if columns is None else chunks.features[chunks.features.columns.intersection(columns)]
    if plan.reduction is not None and columns is None:
        options["columns"] = describe_columns(features.columns)
    ratings, groups = chunks.spread(data.ratings), chunks.spread(data.groups)
    result = cross_validate(features, ratings, groups, chunks.split, plan.model, plan.seed, **options)
    return per_track(result, chunks.owners)


def baselines_of(plan: Plan, data: Data, progress: Progress) -> dict[str, np.ndarray]:
    """Out-of-fold predictions (n, t) of the constant, and of the same model on one statistic of each descriptor.

    The baselines' columns are not reduced.
    """
    predictions = {"constant": constant_predictions(data.ratings, data.split).to_numpy()}
    for statistic in ("mean", "q25"):
        columns = data.table.columns.index[data.table.columns["statistic"] == statistic]
        if 0 < len(columns) < data.features.shape[1]:
            predictions[f"{statistic}-only"] = fit_folds(plan, data, False, progress, columns).predicted
    return predictions


def errors_of(data: Data, result: CrossValidation) -> pd.DataFrame:
    """Errors (true - predicted) of the tested tracks, columns targets."""
    return data.ratings.loc[result.tested] - result.predicted


def validation_errors(data: Data, result: CrossValidation) -> pd.DataFrame | None:
    """Errors on the validation part of a hold-out, columns targets; None for folds."""
    return None if result.validation is None else pd.DataFrame(result.validation, columns=data.ratings.columns)


def unseen_errors(data: Data, result: CrossValidation) -> pd.DataFrame:
    """Errors on all tracks that their model had not seen."""
    return pd.concat([errors_of(data, result), validation_errors(data, result)], ignore_index=True)


def chunk_scores(data: Data, chunks: CrossValidation, resamples: int, seed: int) -> dict:
    """Scores of the chunks' own predictions."""
    true, groups, parts = map(data.chunks.spread, (data.ratings, data.groups, data.parts))
    return score_parts(true, chunks.predicted, groups, parts, resamples, seed)


def track_table(dataset: Dataset, data: Data) -> pd.DataFrame:
    """One row per track that was used: path, part, group, fold, ratings, spread, metadata."""
    index = data.features.index
    tracks, spread = dataset.tracks.loc[index], dataset.spread.loc[index].add_suffix("_std")
    head = tracks[["path", "part", "group"]].assign(fold=data.split.assignment.loc[index])
    taken = {*head, *dataset.targets, *spread}
    metadata = tracks[[name for name in tracks if name not in taken]]
    return pd.concat([head, dataset.ratings.loc[index], spread, metadata], axis=1).rename_axis("track_id").reset_index()


def explanation_of(
    data: Data, result: CrossValidation, scale: tuple[float, float], method: str = "shap"
) -> FeatureExplanation:
    """Values of all out-of-fold predictions, in our own format: of columns, of the folds' components, or of groups."""
    columns, features = data.table.columns.loc[data.features.columns], data.features.loc[result.tested].to_numpy()
    if method == "grouped":
        columns, features = group_columns(columns), group_levels(features, tuple(columns["group"]))
    elif result.components is not None:
        columns, features = result.components.about, result.components.scores
    return FeatureExplanation(
        method=method,
        tracks=tuple(result.tested),
        columns=columns,
        targets=tuple(data.ratings),
        base=result.base,
        values=result.values,
        features=features,
        predicted=result.predicted,
        scale=scale,
    )


def final_model(plan: Plan, data: Data, components: int | None = None) -> tuple[Pipeline, dict]:
    """The model for new files, fitted on all tracks, and the parameters that were chosen for it.

    components : that it keeps (of each group), where that was chosen
    """
    parameters = {}
    kind = {"reduction": plan.reduction, "columns": data.table.columns.loc[data.features.columns]}
    if PROTOCOLS[plan.protocol].tuned:
        parameters = choose_parameters(data.features, data.ratings, data.groups, plan.model, plan.seed, **kind)
    model = make_regressor(plan.model, plan.seed, **kind, **parameters)
    if components is not None:
        model.set_params(reduce__components=components)
        parameters = parameters | {"components": components}
    return model.fit(data.features.to_numpy(), data.ratings.to_numpy()), parameters
