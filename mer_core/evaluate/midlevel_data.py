"""What a mid-level run learns: ratings, qualities of one kind, and what else of another corpus is learned with them.

Kinds are those of `mer_core.datasets.midlevel_ratings.KINDS`. They are never mixed: another corpus brings planted
qualities, so it serves the kinds truth and transferred only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import Dataset
from mer_core.datasets.midlevel_ratings import (
    KINDS,
    MidlevelTargets,
    checked,
    has_planted_qualities,
    human_ratings,
    planted_qualities,
)
from mer_core.errors import UserError
from mer_core.models.midlevel import make_head

Progress = Callable[[float, str], None]
AUTO = "auto"


def chosen_ratings(names: tuple[str, ...], dataset: Dataset) -> tuple[list[str], tuple[str, ...]]:
    """Ratings to predict, and what was left out; "auto" takes all that vary and repeat no other one.

    Raises
    ------
    UserError : no rating is named, one that the dataset does not have, or none that varies
    """
    if not names:
        raise UserError("--ratings is empty; name at least one, such as valence,arousal, or auto for all")
    asked = list(dataset.targets) if names == (AUTO,) else list(names)
    if unknown := [name for name in asked if name not in dataset.targets]:
        raise UserError(
            f"--ratings {', '.join(unknown)}: not rated in {dataset.name}; choose from {', '.join(dataset.targets)}"
        )
    kept, notes = [], []
    for name in asked:
        column = dataset.ratings[name]
        twin = next((other for other in kept if names == (AUTO,) and column.equals(dataset.ratings[other])), None)
        if column.nunique() < 2:
            notes.append(f"{name} is the same for every rated track, so it was left out.")
        elif twin is not None:
            notes.append(f"{name} has the same values as {twin}, so it was left out.")
        else:
            kept.append(name)
    if not kept:
        raise UserError(f"{' and '.join(asked)} of {dataset.name} are the same for every track: nothing to learn")
    return kept, tuple(notes)


def kind_of(midlevel: str, dataset: Dataset) -> str:
    """Which kind `--midlevel` asks for: auto is truth where it is planted, else proxies; a path is human ratings."""
    if midlevel == AUTO:
        return "truth" if has_planted_qualities(dataset) else "proxies"
    if midlevel == "human":
        raise UserError("--midlevel human needs the ratings: give the path of their folder or CSV file instead")
    return midlevel if midlevel in KINDS else "human"


def build_targets(
    midlevel: str, dataset: Dataset, workers: int | None = None, progress: Progress | None = None
) -> MidlevelTargets:
    """Qualities of the dataset's tracks, of every kind but transferred."""
    kind = kind_of(midlevel, dataset)
    if kind == "truth":
        return planted_qualities(dataset)
    if kind == "human":
        return human_ratings(midlevel, dataset)
    from mer_core.datasets.midlevel_ratings import SEVEN
    from mer_core.features import build_features

    table = build_features("proxies", dataset, workers, progress)
    values = table.values[[name for name in SEVEN if name in table.values]]
    undefined = values.isna()
    values = values.fillna(values.min())  # such as the rhythm of a clip in which hardly a note begins: the simplest
    found = checked("proxies", values, "estimators of mer_core.features.proxies", dataset)
    said = [
        f"{name.replace('_', ' ')} is not defined for {count} tracks, which were given the lowest value."
        for name, count in undefined.sum().items()
        if count
    ]
    if lost := [name.replace("_", " ") for name in SEVEN if name not in values]:
        said.append(f"No estimator of {' and '.join(lost)} was found valid, so the bottleneck is without.")
    return replace(found, notes=(*found.notes, *said))


def transferred_qualities(
    features: pd.DataFrame,
    corpus: pd.DataFrame,
    truth: MidlevelTargets,
    head: str,
    seed: int,
    dataset: Dataset,
    blocks: np.ndarray | None = None,
) -> MidlevelTargets:
    """Qualities of tracks as a head hears them that learned the planted ones of a corpus.

    features (n, p) of the dataset; corpus (m, p) the same of the corpus, and its `truth`. No rating is involved.
    blocks : of the features, see `make_head`
    """
    known = corpus.index.intersection(truth.values.index, sort=False)
    wanted = truth.values.loc[known]
    model = make_head(head, seed, blocks).fit(corpus.loc[known].to_numpy(), wanted.to_numpy())
    values = pd.DataFrame(model.predict(features.to_numpy()), features.index, wanted.columns)
    return checked("transferred", values, f"a {head} on {len(known)} clips of {truth.source}", dataset)


def more_tracks(
    features: pd.DataFrame, corpus: Dataset, dataset: Dataset, ratings: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None]:
    """Features, planted qualities and, where it has them all, ratings of a corpus to be learned besides.

    Its tracks of groups (pieces) that the dataset has too are left out: they would be tested on.

    Raises
    ------
    UserError : nothing is left
    """
    truth = planted_qualities(corpus).values
    own = set(dataset.tracks["group"].astype(str))
    apart = corpus.tracks.index[~corpus.tracks["group"].astype(str).isin(own)]
    kept = features.index.intersection(truth.index).intersection(apart)
    if kept.empty:
        raise UserError(f"--pretrain {corpus.root} has no track of a group that {dataset.name} has not")
    rated = corpus.synthetic and dataset.synthetic and set(ratings) <= set(corpus.targets)
    known = corpus.ratings.loc[kept, ratings] if rated else None
    return features.loc[kept], truth.loc[kept], None if known is None or known.isna().any(axis=None) else known
