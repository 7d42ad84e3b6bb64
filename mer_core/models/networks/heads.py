"""Small heads on frozen embeddings: an MLP on the mean over time, and one that learns which windows to listen to.

The MLP is the regressor that earlier work put on MERT (1536-256-128-2 with batch normalisation, ReLU, dropout .3 and
tanh; AdamW, gradient clipping at .75, early stopping). Ratings are mapped linearly from their scale to -1..1 for it.

Training is deterministic: the same rows, seed and parameters give the same weights. The epoch is chosen on a held-out
part of the training rows, whole groups where groups are given. Fitted weights are numpy arrays, so that skops can store
a head and no pickle is needed.

References
----------
Attention pooling: M. Ilse, J. Tomczak & M. Welling, "Attention-based deep multiple instance learning", ICML 2018.
"""

from __future__ import annotations

import copy
import threading
from pathlib import Path

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import GroupShuffleSplit
from torch import nn

from mer_core.errors import UserError

HELD_OUT = 0.15  # of the training rows (groups), to choose the epoch on
FEWEST_HELD_OUT = 4  # rows; with fewer there is no early stopping
CLIP = 0.75  # of the gradient's norm
HIDDEN, NARROW, DROPOUT = 256, 128, 0.3
RANDOM = threading.Lock()  # torch has one random state for all threads: heads are trained one at a time
MARGIN = 1.1  # beyond the ratings seen, where no scale is given: tanh reaches its ends only at infinity


class MlpHead(nn.Module):
    """(b, dims) -> (b, outputs) in -1..1."""

    def __init__(self, dims: int, outputs: int, hidden: int = HIDDEN, narrow: int = NARROW):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dims, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(hidden, narrow),
            nn.ReLU(),
            nn.Linear(narrow, outputs),
            nn.Tanh(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, dims) -> (b, outputs)."""
        return self.layers(x)


class AttentionHead(nn.Module):
    """(b, w, dims) windows of tracks -> (b, outputs): their mean, weighted by a learned attention, into `MlpHead`."""

    def __init__(self, dims: int, outputs: int, hidden: int = HIDDEN, narrow: int = NARROW):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dims, narrow), nn.Tanh(), nn.Linear(narrow, 1))
        self.head = MlpHead(dims, outputs, hidden, narrow)

    def attention(self, x: torch.Tensor) -> torch.Tensor:
        """Weight of each window, (b, w), sums to 1; windows that are NaN are padding and have none."""
        padding = x.isnan().any(dim=2)
        scores = self.score(x.nan_to_num()).squeeze(2)
        return scores.masked_fill(padding, -torch.inf).softmax(dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, w, dims), padded with windows of NaN -> (b, outputs)."""
        return self.head((self.attention(x)[:, :, None] * x.nan_to_num()).sum(dim=1))


def held_out(n: int, groups: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from and rows to choose the epoch on: whole groups (or rows), the latter empty if there are few."""
    owners = np.arange(n) if groups is None else np.asarray(groups)
    everyone = np.arange(n)
    if len(np.unique(owners)) < 2 or n * HELD_OUT < FEWEST_HELD_OUT:
        return everyone, everyone[:0]
    deal = GroupShuffleSplit(1, test_size=HELD_OUT, random_state=seed)
    return next(deal.split(everyone, groups=owners))


def train_head(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    groups: np.ndarray | None = None,
    *,
    epochs: int = 80,
    patience: int = 10,
    rate: float = 1e-4,
    decay: float = 1e-5,
    batch: int = 32,
    seed: int = 0,
) -> int:
    """Train a head in place by mean squared error; it keeps the weights of its best epoch on the held-out part.

    Parameters
    ----------
    network : takes rows of `x`, gives rows of `y`; left in evaluation mode
    x : (n, ...) float32; y : (n, t) float32 in the network's units; groups : (n,) of each row, or None
    epochs, patience : at most so many, and none after `patience` without a better held-out error
    rate, decay, batch, seed : of AdamW and of the batches' order

    Returns
    -------
    number of epochs behind the weights that were kept
    """
    train, check = held_out(len(x), groups, seed)
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    best, best_error, best_epoch = None, np.inf, 0
    for epoch in range(1, epochs + 1):
        network.train()
        for rows in _batches(train, batch, order):
            optimiser.zero_grad()
            nn.functional.mse_loss(network(x[rows]), y[rows]).backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimiser.step()
        network.eval()
        if not len(check):
            best_epoch = epoch
            continue
        with torch.inference_mode():
            error = float(nn.functional.mse_loss(network(x[check]), y[check]))
        if error < best_error:
            best, best_error, best_epoch = copy.deepcopy(network.state_dict()), error, epoch
        elif epoch - best_epoch >= patience:
            break
    if best is not None:
        network.load_state_dict(best)
    return best_epoch


def _batches(rows: np.ndarray, size: int, order: torch.Generator) -> list[torch.Tensor]:
    """Batches in random order; a last one of a single row joins the one before, as its spread would be undefined."""
    shuffled = torch.as_tensor(rows)[torch.randperm(len(rows), generator=order)]
    parts = list(shuffled.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


class HeadRegressor(RegressorMixin, BaseEstimator):
    """`MlpHead` with scikit-learn's interface: fit(X, y), predict(X).

    Parameters
    ----------
    rate, decay, epochs, patience, batch, seed : see `train_head`
    scale : lowest and highest possible rating; None takes the ratings seen, and a little more
    init : safetensors file of `save_weights` to start from (say, of a head trained on another data set), or None
    """

    def __init__(self, rate=1e-4, decay=1e-5, epochs=80, patience=10, batch=32, seed=42, scale=None, init=None):
        self.rate, self.decay, self.epochs, self.patience = rate, decay, epochs, patience
        self.batch, self.seed, self.scale, self.init = batch, seed, scale, init

    def _rows(self, X) -> torch.Tensor:
        """What the network takes: (n, d)."""
        return torch.from_numpy(np.array(X, dtype=np.float32))

    def _empty(self) -> nn.Module:
        """An unfitted network."""
        return MlpHead(self.n_features_in_, self.outputs_)

    def fit(self, X, y, groups=None) -> HeadRegressor:
        """Train on X, one row a track, and ratings (n, t) or (n,); groups : (n,) that are held out whole, or None.

        UserError where fewer than two rows are given, or `init` does not fit.
        """
        rows, ratings = self._rows(X), np.asarray(y, dtype=np.float64)
        if len(rows) < 2:
            raise UserError(f"{len(rows)} track is too few to train a head; give at least 2")
        self.flat_, ratings = ratings.ndim == 1, ratings.reshape(len(ratings), -1)
        self.middle_, self.half_ = _mapping(ratings, self.scale)
        self.n_features_in_, self.outputs_ = rows.shape[-1], ratings.shape[1]
        targets = torch.from_numpy(((ratings - self.middle_) / self.half_).astype(np.float32))
        schedule = {"epochs": self.epochs, "patience": self.patience, "rate": self.rate, "decay": self.decay}
        with RANDOM, torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = self._empty()
            if self.init is not None:
                load_weights(self.init, network)
            self.epochs_ = train_head(network, rows, targets, groups, **schedule, batch=self.batch, seed=self.seed)
        self.state_ = {name: value.numpy() for name, value in network.state_dict().items()}
        return self

    def network(self) -> nn.Module:
        """The fitted network, in evaluation mode; its outputs are (rating - middle_) / half_."""
        with torch.device("meta"):  # without first values, which would be drawn from the one random state
            network = self._empty()
        state = {name: torch.from_numpy(np.array(value)) for name, value in self.state_.items()}
        network.load_state_dict(state, assign=True)
        return network.eval()

    def predict(self, X) -> np.ndarray:
        """Ratings (n, t), or (n,) where it was fitted on such."""
        with torch.inference_mode():
            outputs = self.network()(self._rows(X)).numpy()
        ratings = outputs.astype(np.float64) * self.half_ + self.middle_
        return ratings[:, 0] if self.flat_ else ratings


class AttentionRegressor(HeadRegressor):
    """`AttentionHead` on lists of windows: X is [(w, d) array per track]; w may differ."""

    def _rows(self, X) -> torch.Tensor:
        return padded(X)

    def _empty(self) -> nn.Module:
        return AttentionHead(self.n_features_in_, self.outputs_)

    def attention(self, X) -> list[np.ndarray]:
        """Weight of each window, one (w,) array a track, each summing to 1: where the head listens."""
        with torch.inference_mode():
            weights = self.network().attention(padded(X)).numpy()
        return [row[: len(windows)] for row, windows in zip(weights, X, strict=True)]


def padded(windows: list[np.ndarray]) -> torch.Tensor:
    """Windows of tracks, [(w, d)] -> (n, longest w, d), shorter tracks ending in windows of NaN."""
    table = np.full((len(windows), max(map(len, windows)), windows[0].shape[1]), np.nan, dtype=np.float32)
    for row, values in zip(table, windows, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(table)


def _mapping(ratings: np.ndarray, scale: tuple[float, float] | None) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half width per target that map the scale, or what was seen, to -1..1."""
    low, high = (ratings.min(axis=0), ratings.max(axis=0)) if scale is None else np.array(scale, float)[:, None]
    half = (high - low) / 2 * (MARGIN if scale is None else 1)
    shape = ratings.shape[1]
    return np.broadcast_to((low + high) / 2, shape).copy(), np.broadcast_to(np.where(half > 0, half, 1.0), shape).copy()


def save_weights(path: str | Path, regressor: HeadRegressor) -> None:
    """Write a fitted head's weights as safetensors, for `init` of another one."""
    from safetensors.numpy import save_file

    save_file({name: np.array(value) for name, value in regressor.state_.items()}, path)


def load_weights(path: str | Path, network: nn.Module) -> None:
    """Load what `save_weights` wrote; UserError for no such file, or weights of another shape, naming the first."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise UserError(f"there are no head weights at {path}; give the head.safetensors of a finished run")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} cannot be read as safetensors ({error}); give the file of a finished run") from error
    own = network.state_dict()
    wrong = [name for name in own.keys() | state.keys() if name not in state or name not in own]
    wrong += [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if wrong:
        name = min(wrong)
        found, wanted = (tuple(part[name].shape) if name in part else "nothing" for part in (state, own))
        raise UserError(
            f"{path} does not fit this head: {name} is {found} there and {wanted} here; train it on the same embedding "
            "and targets"
        )
    network.load_state_dict(state)
