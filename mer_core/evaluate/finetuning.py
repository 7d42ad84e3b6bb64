"""Networks trained under a protocol: one per round, stopped on whole groups of its training part, tested on the rest.

Everything that is fitted (weights, epoch, head, scaling, the teacher's components) comes from the training part of the
round. Pretraining sees other data sets only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.errors import UserError
from mer_core.evaluate.cross_validation import CrossValidation
from mer_core.evaluate.splits import Split, inner_folds
from mer_core.models.training.networks import Shape, Trainable, find_network
from mer_core.models.training.schedule import check_steps
from mer_core.models.training.spectrograms import Spectrograms, even_starts
from mer_core.models.training.tuning import (
    Material,
    Tuned,
    Tuning,
    fit_tuning,
    stages_to_keep,
    untouched,
    window_outputs,
)
from mer_core.models.training.windows import Kept, Windows, keep_outputs
from mer_core.paths import artifacts_root

Progress = Callable[[float, str], None]
COMPONENTS = 32  # of a teacher's embedding
INNER = 5  # folds of the training part, one of which is validated on


@dataclass(frozen=True)
class Setup:
    """What is trained and how.

    network, weights, shape : see `mer_core.models.training.networks`
    tuning : steps and recipe; augment, per_track : as in `Windows`
    teacher_weight : of the loss of each component of the teacher's embedding
    """

    network: str
    weights: str | None
    shape: Shape
    tuning: Tuning
    augment: float
    per_track: int
    teacher_weight: float = 2 / COMPONENTS

    @property
    def kind(self) -> Trainable:
        """Its entry."""
        return find_network(self.network)


@dataclass(frozen=True)
class Corpus:
    """Tracks with their spectrograms, ratings (index track_id), groups, and what a teacher hears of them, if any.

    scale : ends of the rating scale
    kept, kept_stages : what the first stages give, where these are never trained; see `with_kept`
    """

    sounds: Spectrograms
    ratings: pd.DataFrame
    groups: pd.Series
    scale: tuple[float, float]
    teacher: pd.DataFrame | None = None
    kept: Kept | None = None
    kept_stages: int = 0


@dataclass(frozen=True)
class Finished:
    """Networks of all rounds.

    result : out-of-fold predictions, as of any regressor
    windows : columns track_id, seconds (the window's centre), target, predicted; by the round's own network
    models : of each round; records : of the weights they started from
    """

    result: CrossValidation
    windows: pd.DataFrame
    models: dict[int | str, Tuned]
    records: tuple[dict, ...]


def fit_rounds(
    setup: Setup,
    corpus: Corpus,
    split: Split,
    folder: Path,
    *,
    start: dict | None = None,
    progress: Progress = lambda share, text: None,
    report: Callable[[dict], None] = lambda row: None,
    say: Callable[[str], None] = lambda text: None,
) -> Finished:
    """Train a network per round of the split and predict what it has not seen.

    Parameters
    ----------
    split : of the corpus's tracks (or of pieces of them, where these are what it lists)
    folder : for checkpoints; a training that was killed goes on from there
    start : state of the stages before the head, from pretraining; None for the network's own
    progress, report, say : of the whole; rows of epochs, with "fold"; sentences
    """
    models, predicted, folds, tables, records, validation = {}, {}, {}, [], (), None
    rounds = split.rounds()
    corpus = with_kept(setup, corpus, start, progress)
    for number, (part, train, test) in enumerate(rounds):
        inner, checked = _inner(corpus, split, train, setup.tuning.recipe.seed)

        def told(row: dict, number: int = number, part: int | str = part) -> None:
            done = _share(setup.tuning, row)
            text = f"{_round_name(part)}, epoch {row['epoch'] + 1}: validation error {row['score']:.3f}"
            progress((number + done) / len(rounds), text)
            report(row | {"fold": str(part)})

        tuned, records = fit_one(setup, corpus, inner, checked, folder / f"round-{part}", start, told, say)
        models[part] = tuned
        table, means = predict_unseen(setup, corpus, tuned, list(test))
        tables.append(table)
        predicted |= means
        folds |= dict.fromkeys(test, part)
        if "validation" in split.parts:
            _, means = predict_unseen(setup, corpus, tuned, checked)
            validation = corpus.ratings.loc[checked].to_numpy() - np.stack([means[track] for track in checked])
        say(f"{_round_name(part)}: {len(inner)} tracks to learn from, {len(checked)} to stop on, {len(test)} tested")
    tested = corpus.ratings.index[corpus.ratings.index.isin(list(predicted))]
    result = CrossValidation(
        tested,
        np.array([folds[track] for track in tested], dtype=object),
        np.stack([predicted[track] for track in tested]),
        None,
        None,
        tuple({"steps": [step["step"] for step in tuned.steps]} for tuned in models.values()),
        validation,
    )
    return Finished(result, pd.concat(tables, ignore_index=True), models, records)


def fit_one(
    setup: Setup,
    corpus: Corpus,
    train: list[str],
    validation: list[str],
    folder: Path,
    start: dict | None,
    report: Callable[[dict], None],
    say: Callable[[str], None],
) -> tuple[Tuned, tuple[dict, ...]]:
    """One network; its record of weights, where it started from any."""
    import torch

    from mer_core.models.training.engine import choose_device

    targets, rated = _targets(corpus, train), corpus.ratings.shape[1]
    torch.manual_seed(setup.tuning.recipe.seed)
    network, record = _begun(setup, len(next(iter(targets.values()))), start)
    windows = Windows(corpus.sounds, setup.per_track, augment=setup.augment)
    weight, scale = setup.teacher_weight, corpus.scale if setup.kind.bounded else None
    kept = (corpus.kept, corpus.kept_stages)
    material = Material(windows, targets, tuple(train), tuple(validation), rated, weight, scale, *kept)
    tuned = fit_tuning(network.to(choose_device()), material, setup.tuning, folder, report=report, say=say)
    return tuned, () if record is None else (record,)


def _begun(setup: Setup, outputs: int, start: dict | None) -> tuple:
    """The network before its training, and the record of its weights."""
    network, record = setup.kind.build(outputs, setup.weights, setup.shape)
    if start is not None:
        load_body(network, start)
    return network, record


def with_kept(setup: Setup, corpus: Corpus, start: dict | None, progress: Progress) -> Corpus:
    """The corpus with the outputs of the stages that no round trains, which are the same in all of them."""
    from mer_core.models.training.engine import choose_device

    network, _ = _begun(setup, corpus.ratings.shape[1], start)
    check_steps(setup.tuning.steps, len(network.names))
    count = stages_to_keep(network, setup.tuning)
    if not count or network.to_normalise is not None or setup.augment > 0:
        return corpus
    folder = artifacts_root() / "cache" / "stages" / setup.network
    windows = Windows(corpus.sounds, setup.per_track)
    name = network.names[count - 1]
    tell = lambda share: progress(0.0, f"running the frozen stages to {name}: {share:.0%}")  # noqa: E731
    kept = keep_outputs(network.to(choose_device()), count, windows, folder, tell)
    return corpus if kept is None else replace(corpus, kept=kept, kept_stages=count)


def load_body(network: object, start: dict) -> None:
    """Give a `Staged` the state of its stages before the head; UserError where it is of another network."""
    head = f"stages.{network.names[-1]}."
    own = network.state_dict()
    body = {name: tensor for name, tensor in start.items() if not name.startswith(head)}
    wrong = [name for name in own if not name.startswith(head) and name not in body]
    wrong += [name for name, tensor in body.items() if name not in own or own[name].shape != tensor.shape]
    if wrong:
        raise UserError(
            f"--pretrain: what was pretrained is another network ({min(wrong)} differs); pretrain with the same options"
        )
    network.load_state_dict(own | body)


def body_of(tuned: Tuned) -> dict:
    """State of the stages before the head, on the processor."""
    head = f"stages.{tuned.network.names[-1]}."
    state = tuned.network.state_dict()
    return {name: tensor.cpu().clone() for name, tensor in state.items() if not name.startswith(head)}


def predict_unseen(
    setup: Setup, corpus: Corpus, tuned: Tuned, tracks: list[str]
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Predictions of windows (columns track_id, seconds, target, predicted), and of tracks: their means (t,)."""
    windows, rated, style = Windows(corpus.sounds), corpus.ratings.shape[1], corpus.sounds.style
    kept = corpus.kept is not None and untouched(setup.tuning)
    source, first = (corpus.kept, corpus.kept_stages) if kept else (windows, 0)
    rows, means = [], {}
    for track in tracks:
        outputs = window_outputs(tuned.network, first, source, track)[:, :rated]
        ratings = outputs * tuned.spread[:rated] + tuned.centre[:rated]
        means[track] = ratings.mean(axis=0)
        starts = even_starts(len(corpus.sounds.tables[track]), style.frames, windows.most)
        seconds = starts / style.per_second + style.seconds / 2
        rows += [
            pd.DataFrame({"track_id": track, "seconds": seconds, "target": target, "predicted": ratings[:, column]})
            for column, target in enumerate(corpus.ratings)
        ]
    return pd.concat(rows, ignore_index=True), means


def pretrain(setup: Setup, corpus: Corpus, folder: Path, report, say) -> dict:
    """Train once on another corpus; the state of the stages before the head.

    One of five grouped folds is validated on; every stage is trained, norms included.
    """
    split = inner_folds(corpus.groups, corpus.ratings, min(INNER, corpus.groups.nunique()), setup.tuning.recipe.seed)
    checked = list(split.members(0))
    train = [track for track in corpus.ratings.index if track not in set(checked)]
    say(f"pretraining on {len(train)} tracks, validated on {len(checked)}")
    told = lambda row: report(row | {"fold": "pretraining", "phase": "pretraining"})  # noqa: E731
    tuned, _ = fit_one(setup, corpus, train, checked, folder, None, told, say)
    return body_of(tuned)


def pieces(corpus: Corpus, owners: pd.Series) -> Corpus:
    """The corpus of pieces of its tracks, as many of each as `owners` (index piece id) has, of equal length."""
    tables = {}
    for track, ids in owners.groupby(owners, sort=False):
        parts = np.array_split(corpus.sounds.tables[track], len(ids))
        tables |= dict(zip(ids.index, parts, strict=True))

    def spread(table):
        return None if table is None else table.loc[owners].set_axis(owners.index, axis=0)

    return replace(
        corpus,
        sounds=replace(corpus.sounds, tables=tables),
        ratings=spread(corpus.ratings),
        groups=spread(corpus.groups),
        teacher=spread(corpus.teacher),
    )


def _targets(corpus: Corpus, train: list[str]) -> dict[str, np.ndarray]:
    """Ratings of each track and, behind them, the components of what the teacher hears, fitted on the training part."""
    table = corpus.ratings.to_numpy(dtype=float)
    if corpus.teacher is not None:
        heard = corpus.teacher.loc[corpus.ratings.index].to_numpy(dtype=float)
        known = heard[corpus.ratings.index.isin(train)]
        mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-6
        _, _, axes = np.linalg.svd((known - mean) / spread, full_matrices=False)
        table = np.hstack([table, (heard - mean) / spread @ axes[:COMPONENTS].T])
    return dict(zip(corpus.ratings.index, table, strict=True))


def _inner(corpus: Corpus, split: Split, train: pd.Index, seed: int) -> tuple[list[str], list[str]]:
    """Tracks to learn from and tracks to stop on: the split's validation part, or whole groups of the training part."""
    if "validation" in split.parts:
        return list(train), list(split.members("validation"))
    groups = corpus.groups[train]
    inner = inner_folds(groups, corpus.ratings.loc[train], min(INNER, groups.nunique()), seed)
    checked = set(inner.members(0))
    return [track for track in train if track not in checked], [track for track in train if track in checked]


def _round_name(part: int | str) -> str:
    return f"fold {part + 1}" if isinstance(part, int) else "hold-out"


def _share(tuning: Tuning, row: dict) -> float:
    """How much of a round is done."""
    total = sum(step.epochs for step in tuning.steps)
    before = sum(step.epochs for step in tuning.steps[: row["step"]])
    return (before + row["epoch"] + 1) / max(total, 1)
