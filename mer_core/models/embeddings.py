"""What pretrained networks hear of a track: embeddings window by window, and their pools as a feature table.

Conventions
-----------
A part of `--features` names a backbone, after "@" a layer other than its first one, and after a colon how windows are
summed up: `musicnn-msd` (the mean over time), `musicnn-msd@dense:mean-std` (mean and population standard deviation).
`musicnn-msd-tags` is the mean probability of each of the backbone's tags, so that a linear model's weights are words.
Columns are `musicnn-msd[17]`, `musicnn-msd@dense[17]_std` and `tag musicnn-msd: guitar`.

Windows are cached; the networks are opened only when a window is not.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core import compute
from mer_core.datasets.dataset import Dataset
from mer_core.errors import UserError
from mer_core.features import FeatureTable
from mer_core.features.llds import reason
from mer_core.models import embedding_cache as cache
from mer_core.models.backbones import BACKBONES, Backbone, find_weights, open_backbone
from mer_core.models.backbones.collapse import collapse_note
from mer_core.models.backbones.listener import Listener, probabilities

POOLS = ("mean", "mean-std")
STATISTICS = (("mean", "", "on average"), ("std", "_std", "spread over the track"))
TAGS = "-tags"
RANDOM = "random"
VERSION = 1  # of how it is cached

Progress = Callable[[float, str], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """An embedding as `--features` names it: backbone, layer, pool, and whether its tags stand for it."""

    backbone: Backbone
    layer: str
    pool: str = "mean"
    tags: bool = False

    @property
    def label(self) -> str:
        """Backbone and, where it is not the first, layer: what the columns' names begin with."""
        first = self.layer == self.backbone.layers[0]
        return self.backbone.name if first else f"{self.backbone.name}@{self.layer}"

    def owns(self, column: str) -> bool:
        """Whether a column is one of this part's."""
        return column.startswith(f"tag {self.backbone.name}: " if self.tags else f"{self.label}[")


@dataclass(frozen=True)
class Heard:
    """What a backbone heard of one track.

    times : (w,) centre of each window, s
    embedding : (w, d) float32
    tags : (w, n_tags) probabilities, float32, or None where the backbone has no tags
    note : what was done to a clip shorter than a window, or None
    """

    times: np.ndarray
    embedding: np.ndarray
    tags: np.ndarray | None
    note: str | None = None


@dataclass(frozen=True)
class Embeddings:
    """What a backbone heard of many tracks.

    tables : by track id
    weights : name, source, sha256, licence, saw (data sets) and saw_dataset (whether this one is among them); or
        {"name", "source": "random"}
    failures : (track_id, reason) of the others
    notes : what the user should know of besides, one sentence each
    """

    backbone: Backbone
    tables: dict[str, Heard]
    weights: dict
    failures: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def read_part(name: str) -> Part | None:
    """The embedding that a part of `--features` names; None where it names none.

    Raises
    ------
    UserError : a pool or layer that is unknown, or tags of a backbone that has none
    """
    head, colon, pool = name.partition(":")
    base, at, layer = head.partition("@")
    tags = base not in BACKBONES and base.endswith(TAGS)
    backbone = BACKBONES.get(base.removesuffix(TAGS) if tags else base)
    if backbone is None:
        return None
    if at and (tags or layer not in backbone.layers):
        raise UserError(f"--features {name}: {base} has no layer {layer!r}; choose from {', '.join(backbone.layers)}")
    if colon and pool not in POOLS:
        raise UserError(f"--features {name}: {pool!r} is no pool; choose {' or '.join(POOLS)}")
    if tags and pool not in ("", "mean"):
        raise UserError(f"--features {name}: tags are averaged over time; leave out :{pool}")
    if tags and not backbone.tags:
        raise UserError(f"--features {name}: {backbone.name} has no tags; use {backbone.name} itself")
    return Part(backbone, layer or backbone.layers[0], pool or POOLS[0], tags)


def weights_record(backbone: Backbone, weights: str | Path | None = None) -> dict:
    """What a run records of a backbone's weights: name, source, sha256, licence; UserError where there are none."""
    if weights == RANDOM:
        return {"name": backbone.name, "source": RANDOM}
    found = find_weights(backbone, weights)
    return {"name": backbone.name, "source": found.source, "sha256": found.sha256, "licence": found.licence}


def load_embeddings(
    dataset: Dataset,
    backbone: Backbone,
    weights: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    layer: str | None = None,
) -> Embeddings:
    """What a backbone hears of a dataset's tracks, from the cache where it can be.

    Parameters
    ----------
    weights : see `mer_core.models.backbones.open_backbone`
    workers : threads; all cores when None
    progress : called as progress(fraction in 0..1, message)
    layer : one of `backbone.layers`; the first when None

    Raises
    ------
    UserError when the weights are not to be had, or no track could be heard
    """
    ids = list(dataset.tracks.index)
    heard = listen_to(list(dataset.tracks["path"]), backbone, weights, workers, progress, layer)
    tables, failures, notes = {}, [], []
    for track, outcome in zip(ids, heard.outcomes, strict=True):
        if outcome.error is not None:
            failures.append((track, reason(outcome.error)))
            continue
        tables[track], damage = outcome.value
        if damage:
            _log.warning(damage)
            notes.append(damage)
    if not tables:
        first = ": ".join(failures[0]) if failures else "there are no tracks"
        raise UserError(f"No track of dataset {dataset.name} could be heard ({first}); check its audio files.")
    if short := [(track, table.note) for track, table in tables.items() if table.note]:
        notes.append(f"{len(short)} tracks are too short for a window (track {short[0][0]}: {short[0][1]}).")
    record = heard.weights
    if record["source"] != RANDOM:
        record |= {"saw": list(backbone.saw), "saw_dataset": backbone.has_seen(dataset)}
    return Embeddings(backbone, tables, record, tuple(failures), tuple(notes))


@dataclass(frozen=True)
class Listening:
    """Outcomes of files, in their order, value (Heard, note of a damaged cache entry or None); and the weights."""

    outcomes: list[compute.Outcome]
    weights: dict


def listen_to(
    paths: list[str | Path | None],
    backbone: Backbone,
    weights: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    layer: str | None = None,
) -> Listening:
    """What a backbone hears of audio files, from the cache where it can be; files that fail have their error."""
    record = weights_record(backbone, weights)
    version = f"{VERSION} {backbone.rate} {backbone.window_s} {backbone.hop_s} {backbone.short} {backbone.layers} "
    version += f"{backbone.front_end} {record.get('sha256', RANDOM)}"
    opener = _Opener(backbone, weights)
    workers = workers or compute.default_workers()
    opener.threads = max(1, workers // max(len(paths), 1))

    def one(path: str | Path | None) -> tuple[Heard, str | None]:
        if not isinstance(path, str | Path):
            raise UserError("There is no audio file; add it to the dataset.")
        return _fetch(Path(path), backbone, layer or backbone.layers[0], version, opener)

    tell = progress and (lambda fraction, message: progress(fraction, f"{backbone.name}: {message} tracks"))
    outcomes = compute.map_items(one, paths, workers, tell)
    ours = [outcome.error for outcome in outcomes if outcome.error and not isinstance(outcome.error, UserError)]
    if ours and all(outcome.error for outcome in outcomes):
        raise ours[0]
    return Listening(outcomes, record)


class _Opener:
    """Opens a backbone once, when a thread first needs it."""

    def __init__(self, backbone: Backbone, weights: str | Path | None):
        self.backbone, self.weights, self.threads = backbone, weights, 1
        self._lock, self._listener = threading.Lock(), None

    def __call__(self) -> Listener:
        with self._lock:
            if self._listener is None:
                import torch

                # Cores share out files, or windows: one operation on several threads waits for the slowest of them.
                torch.set_num_threads(1)
                self._listener = replace(open_backbone(self.backbone.name, self.weights), threads=self.threads)
            return self._listener


def _fetch(path: Path, backbone: Backbone, layer: str, version: str, opener: _Opener) -> tuple[Heard, str | None]:
    """What is heard of a file, and one sentence where a damaged cache entry had to be replaced."""
    entry = cache.entry_path(path, backbone.name, version)
    damage = None
    try:
        arrays, note = cache.read(entry, ["times", layer, *(["tags"] if backbone.tags else [])])
        return Heard(arrays["times"], arrays[layer], arrays.get("tags"), note), None
    except FileNotFoundError:
        pass
    except cache.Damaged as error:
        damage = f"The cached {backbone.name} embedding of {path} was damaged ({error}) and was made again."
    arrays, note = hear(path, backbone, opener)
    cache.write(entry, arrays, note)
    return Heard(arrays["times"], arrays[layer], arrays.get("tags"), note), damage


def hear(
    path: Path, backbone: Backbone, open_listener: Callable[[], Listener]
) -> tuple[dict[str, np.ndarray], str | None]:
    """Listen to an audio file: its layers (w, d) by name, `times` (w,), `tags` (w, n); and the note on a short clip.

    Raises
    ------
    UserError when it cannot be decoded, is silent, or is shorter than 1 s
    """
    from mer_core.datasets.audio import check_audible, read_audio

    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_listener)  # the first time PyTorch is loaded, while the file is decoded
        samples, _ = read_audio(path, rate=backbone.rate)
        listener = opening.result()
    try:
        check_audible(samples)
        outputs = listener.listen(listener.front_end(samples))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    arrays = {layer: outputs[layer] for layer in backbone.layers}
    first = arrays[backbone.layers[0]]
    if not np.isfinite(first).all():
        raise UserError(f"{path}: the {backbone.name} embedding is not finite; check the weights and the file.")
    arrays["times"] = listener.window_times(len(first))
    if backbone.tags:
        arrays["tags"] = probabilities(outputs["logits"]).astype(np.float32)
    return arrays, listener.note(samples)


def column_table(part: Part, dims: int) -> pd.DataFrame:
    """What each column of a part means, as `describe_columns` does for descriptors.

    Columns of an embedding of `dims` numbers are of the group named after its backbone, those of tags of "tags".
    """
    name = part.backbone.name
    if part.tags:
        pairs = [(f"tag {name}: {tag}", tag) for tag in part.backbone.tags]
        rows = [(column, column, "value", column, "tags", "tags", tag) for column, tag in pairs]
    else:
        rows = [
            (column + suffix, column, statistic, column, name, name, f"{part.label}, dimension {number} ({words})")
            for statistic, suffix, words in STATISTICS[: len(part.pool.split("-"))]
            for number, column in enumerate(f"{part.label}[{i}]" for i in range(dims))
        ]
    names = ["column", "lld", "statistic", "descriptor", "group", "musical", "plain"]
    return pd.DataFrame(rows, columns=names, dtype=object).set_index("column")


def pooled(part: Part, tables: list[Heard]) -> np.ndarray:
    """Tracks as rows (n, p): windows summed up as the part says, float64."""
    series = [np.asarray(heard.tags if part.tags else heard.embedding, np.float64) for heard in tables]
    if part.pool == "mean":
        rows = [windows.mean(axis=0) for windows in series]
    else:
        rows = [np.concatenate([windows.mean(axis=0), windows.std(axis=0)]) for windows in series]
    return np.reshape(rows, (len(series), -1))


def build_embedding(
    part: Part,
    dataset: Dataset,
    workers: int | None = None,
    progress: Progress | None = None,
    weights: str | Path | None = None,
) -> FeatureTable:
    """The pooled embeddings of a dataset's tracks, see `load_embeddings`."""
    return pooled_table(part, load_embeddings(dataset, part.backbone, weights, workers, progress, part.layer))


def pooled_table(part: Part, heard: Embeddings) -> FeatureTable:
    """Embeddings over time as a feature table; notes say where they have collapsed, or the weights are random."""
    tables, notes = list(heard.tables.values()), list(heard.notes)
    columns = column_table(part, tables[0].embedding.shape[1])
    values = pd.DataFrame(pooled(part, tables), pd.Index(list(heard.tables), name="track_id"), columns.index)
    means = np.array([table.embedding.mean(axis=0) for table in tables])
    if not part.tags and (note := collapse_note(part.label, means)):
        notes.append(note)
    if heard.weights["source"] == RANDOM:
        notes.append(f"{part.backbone.name} has random weights: it was not trained, and knows nothing of music.")
    return FeatureTable(values, columns, "recomputed", heard.failures, tuple(notes), (heard.weights,))


def embedding_of_files(
    part: Part, columns: list[str], paths: list[str], workers: int | None = None, weights: str | Path | None = None
) -> tuple[pd.DataFrame, tuple[tuple[str, str], ...]]:
    """Columns of the part for audio files: table indexed by path, and (path, reason) of those that failed."""
    outcomes = listen_to(paths, part.backbone, weights, workers, layer=part.layer).outcomes
    good = [outcome for outcome in outcomes if outcome.error is None]
    failures = tuple((outcome.item, reason(outcome.error)) for outcome in outcomes if outcome.error is not None)
    index = pd.Index([outcome.item for outcome in good], name="path", dtype=object)
    if not good:
        return pd.DataFrame(index=index, columns=columns, dtype=float), failures
    heard = [outcome.value[0] for outcome in good]
    names = column_table(part, heard[0].embedding.shape[1]).index
    return pd.DataFrame(pooled(part, heard), index, names)[columns], failures
