"""Pretraining of a classifier's network on another corpus: it learns what is played before it is told what is felt.

All targets are learned at once, as standardised numbers: where the corpus brings a `truth.csv` (as the composed corpus
does) the cues (`z_...`) and mid-level qualities (`mid_...`), and in any case its ratings. What is learned is kept in
the cache, by everything that it depends on. Then each fold weighs what the network tells.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import Dataset
from mer_core.datasets.overlap import check_other_music
from mer_core.errors import UserError
from mer_core.evaluate.happy_sad import Classified, FoldNetwork, classify_embeddings
from mer_core.evaluate.own_networks import builder, last_layer
from mer_core.evaluate.splits import Split
from mer_core.models.classifiers import LinearHead
from mer_core.models.training.recipe import Recipe
from mer_core.models.training.spectrograms import STYLES, Spectrograms
from mer_core.models.training.tracks import Fitted, fit_tracks, outputs_of
from mer_core.paths import artifacts_root

VERSION = 1  # of how networks are pretrained; raise it with whatever changes what is learned
SILENCE = -1.0  # in spectrograms
CHECKED = 0.1  # share of the groups on which the best epoch is chosen
FEWEST_GROUPS = 10
RECIPE = Recipe(
    epochs=12, batch_size=16, learning_rate=1e-3, weight_decay=1e-2, schedule="cosine", warm_up=2, averaging=0.99
)


@dataclass(frozen=True)
class Pretrained:
    """A pretrained network in evaluation mode, what its outputs mean (standardised), and what a run says of it."""

    network: object
    name: str
    targets: tuple[str, ...]
    facts: dict


def audible(spectrograms: Spectrograms) -> Spectrograms:
    """Without silent tracks, which are named among the failures."""
    silent = [track for track, table in spectrograms.tables.items() if float(table.max()) <= SILENCE]
    tables = {track: table for track, table in spectrograms.tables.items() if track not in silent}
    failures = (*spectrograms.failures, *((track, "the clip is silent") for track in silent))
    return Spectrograms(spectrograms.style, tables, failures)


def lessons(dataset: Dataset, tracks: list[str]) -> pd.DataFrame:
    """What a network is taught of each track (n, t), none missing."""
    table = dataset.ratings.copy()
    file = dataset.root / "truth.csv"
    if file.is_file():
        truth = pd.read_csv(file, index_col="track_id")
        truth.index = truth.index.astype(str)
        table = table.join(truth[[name for name in truth if name.startswith(("z_", "mid_"))]])
    return table.loc[tracks].dropna()


def check_apart(teaching: Dataset, tested: Dataset) -> None:
    """Raise UserError where a track, group or recording of the one corpus is in the other."""
    for kind, ours, theirs in (
        ("track", teaching.tracks.index, tested.tracks.index),
        ("group", teaching.tracks["group"], tested.tracks["group"]),
    ):
        if shared := sorted(set(map(str, ours)) & set(map(str, theirs))):
            raise UserError(
                f"--pretrain {teaching.name} shares the {kind} {shared[0]!r} with {tested.name}, which would leak into "
                "every fold; pretrain on a corpus of other music"
            )
    check_other_music(teaching.name, teaching.tracks["path"], tested)


def pretrain(
    name: str,
    dataset: Dataset,
    spectrograms: Spectrograms,
    recipe: Recipe,
    report: Callable[[dict], None] | None = None,
) -> Pretrained:
    """Train a network of `own_networks.NAMES` on a corpus, or read from the cache what was learned before.

    recipe : such as RECIPE; the epoch is kept that is best on a tenth of the groups

    Raises
    ------
    UserError : fewer than ten groups
    """
    from safetensors.torch import load_file, save_file

    table = lessons(dataset, list(spectrograms.tables))
    groups = dataset.tracks["group"].astype(str)[table.index]
    names = groups.unique()
    if len(names) < FEWEST_GROUPS:
        raise UserError(f"--pretrain {dataset.name} has {len(names)} groups; at least {FEWEST_GROUPS} are needed")
    chosen = np.random.default_rng(recipe.seed).permutation(len(names))[: max(1, round(CHECKED * len(names)))]
    held = groups.isin(names[chosen])
    recipe = replace(recipe, patience=recipe.epochs)
    stored = _address(name, dataset, table, recipe)
    if not stored.is_file():
        with tempfile.TemporaryDirectory() as folder:
            fitted = fit_tracks(
                builder(name, table.shape[1]),
                spectrograms,
                {track: row.to_numpy(float) for track, row in table.iterrows()},
                list(table.index[~held]),
                list(table.index[held]),
                recipe,
                folder,
                augment=0.5,
                report=report,
            )
        found = outputs_of(fitted.network, spectrograms, list(table.index[held]))
        told = {"heard": _heard(found, table[held]), "best_epoch": fitted.history.best_epoch + 1}
        stored.parent.mkdir(parents=True, exist_ok=True)
        temporary = stored.with_suffix(f".{os.getpid()}")
        state = {key: value.cpu().contiguous() for key, value in fitted.network.state_dict().items()}
        save_file(state, temporary, {"told": json.dumps(told)})
        os.replace(temporary, stored)
    facts = {
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint(),
        "tracks": len(table),
        "groups": len(names),
        "targets": list(table),
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        **_told(stored),
    }
    network = builder(name, table.shape[1])()
    network.load_state_dict(load_file(stored))
    return Pretrained(network.eval(), name, tuple(table), facts)


def classify_taught(
    first: Pretrained, spectrograms: Spectrograms, labels: pd.Series, groups: pd.Series, split: Split
) -> Classified:
    """The pretrained network with a last layer for each fold, fitted to the fold's training part.

    Some sixty clips say little about three hundred thousand weights, so the others stay (linear probing, which also
    holds up better on other music: A. Kumar et al., ICLR 2022). The layer weighs what the network was taught to tell.
    """
    told = pd.DataFrame(outputs_of(first.network, spectrograms, list(labels.index)), labels.index)
    found = classify_embeddings(told, labels, groups, split)
    return replace(found, models={number: _with_head(first, head) for number, head in found.models.items()})


def _with_head(first: Pretrained, head: LinearHead) -> FoldNetwork:
    """The network whose outputs, happy less sad, are the head's logit."""
    network, layer = builder(first.name)(), last_layer(first.name)
    state = dict(first.network.state_dict())
    weight, bias = (state[f"{layer}.{part}"].double().numpy() for part in ("weight", "bias"))
    scaled = head.weights / head.spread
    half = np.array([-0.5, 0.5])
    like = state[f"{layer}.weight"]
    state[f"{layer}.weight"] = like.new_tensor(half[:, None] * (scaled @ weight))
    state[f"{layer}.bias"] = like.new_tensor(half * (scaled @ (bias - head.centre) + head.bias))
    network.load_state_dict(state)
    one = np.ones(1)
    return FoldNetwork(Fitted(network.eval(), 0 * one, one, None), 1.0, 0.0)


def _heard(found: np.ndarray, known: pd.DataFrame) -> dict[str, float]:
    """Correlation of each output with what is known, on groups that were not learned from."""
    with np.errstate(invalid="ignore", divide="ignore"):
        values = [np.corrcoef(found[:, number], known[name])[0, 1] for number, name in enumerate(known)]
    return {
        name: round(float(value), 3) if np.isfinite(value) else None for name, value in zip(known, values, strict=True)
    }


def _told(stored: Path) -> dict:
    from safetensors import safe_open

    with safe_open(stored, "pt") as file:
        return json.loads(file.metadata()["told"])


def _address(name: str, dataset: Dataset, table: pd.DataFrame, recipe: Recipe) -> Path:
    content = [VERSION, name, asdict(STYLES[name]), dataset.fingerprint(), list(table), asdict(recipe)]
    content.append(hashlib.sha256(pd.util.hash_pandas_object(table, index=True).to_numpy().tobytes()).hexdigest())
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]
    return artifacts_root() / "cache" / "pretrained" / f"{name}-{key}.safetensors"
