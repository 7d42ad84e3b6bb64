"""Train a network: the best checkpoint is what comes back, and a training that was killed goes on where it was.

Conventions
-----------
Everything random in an epoch (order, crops, augmentation, dropout) follows from the recipe's seed and the epoch's
number alone. So a training resumed from the last finished epoch takes the same steps as one that was never stopped.
Several processes (torchrun) share out each batch and take the same steps as one; the first one writes.
"""

from __future__ import annotations

import copy
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from mer_core.errors import UserError
from mer_core.models.training import checkpoints, distributed
from mer_core.models.training.losses import LOSS_FUNCTIONS
from mer_core.models.training.recipe import Recipe

Inputs = torch.Tensor | tuple[torch.Tensor, ...]
Batches = Callable[[torch.Generator], Iterable[tuple[Inputs, torch.Tensor]]]
AHEAD = 2  # batches that are prepared while the accelerator works


@dataclass
class History:
    """What happened: one row an epoch; which was best; why it ended.

    rows : epoch, loss, score, learning_rate, seconds, loader_share (of the time, spent waiting for batches), pieces
    pieces : into how many each batch is cut, so that it fits into the accelerator's memory
    """

    rows: list[dict] = field(default_factory=list)
    best_epoch: int = -1
    best_score: float = math.inf
    stopped: str = ""
    pieces: int = 1


def choose_device() -> torch.device:
    """CUDA (of several processes each its own), then Apple's, then the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def train(
    network: nn.Module,
    batches: Batches,
    validate: Callable[[nn.Module], float | dict],
    recipe: Recipe,
    folder: str | Path,
    *,
    groups: list[dict] | None = None,
    report: Callable[[dict], None] | None = None,
    start: bool = False,
) -> History:
    """Train in place and leave the network with its best weights, in evaluation mode, on the device it was given on.

    Parameters
    ----------
    network : on the device to train on
    batches : called with an epoch's generator, yields (input, target) batches in that epoch's order
    validate : score of the network in evaluation mode, lower is better, NaN counts as infinitely bad; or a dict with
        "score" in it, whose other entries `report` gets as well
    recipe : see there
    folder : where `last.pt` and `best.pt` are kept; a training of the same recipe found there is resumed
    groups : parameter groups of the optimiser, e.g. with their own `lr`; all trainable parameters when None
    report : called with each epoch's row
    start : the network as it is given counts as well, as epoch -1: it comes back where no epoch is better

    Returns
    -------
    History; `stopped` says "patience", "epochs", or which batch had a loss that is no number

    Raises
    ------
    UserError : checkpoints of another recipe or architecture in `folder`, or a first loss that is no number
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = _start(network, recipe, groups)
    if (folder / "last.pt").exists():
        _resume(state, folder / "last.pt", recipe)
    elif start:
        state.history.best_score = _score(state, validate)["score"]
        _save({"network": state.kept().state_dict()}, folder / "best.pt")
    history = state.history
    while not history.stopped and len(history.rows) < recipe.epochs:
        epoch = len(history.rows)
        row, problem = _epoch(state, batches, recipe, epoch)
        if problem:
            history.stopped = problem
            break
        found = _score(state, validate)
        row |= {"score": found["score"], "learning_rate": max(g["lr"] for g in state.optimiser.param_groups)}
        _remember(state, row, recipe, folder)
        if report is not None:
            report(found | row)
    history.stopped = history.stopped or "epochs"
    distributed.wait_for_all()
    _restore_best(network, history, folder, recipe)
    return history


def _remember(state: _State, row: dict, recipe: Recipe, folder: Path) -> None:
    """Add an epoch to the history and write the checkpoints."""
    history, epoch = state.history, row["epoch"]
    history.rows.append(row)
    if row["score"] < history.best_score:
        history.best_epoch, history.best_score = epoch, row["score"]
        _save({"network": state.kept().state_dict()}, folder / "best.pt")
    if epoch - history.best_epoch >= recipe.patience:
        history.stopped = "patience"
    _reschedule(state, recipe, epoch)
    _save(state.checkpoint(recipe), folder / "last.pt")


def _restore_best(network: nn.Module, history: History, folder: Path, recipe: Recipe) -> None:
    if not math.isfinite(history.best_score):
        raise UserError(
            f"training gave no usable network ({history.stopped}); lower the learning rate of {recipe.learning_rate:g}"
        )
    network.load_state_dict(checkpoints.read(folder / "best.pt")["network"])
    network.eval()


@dataclass
class _State:
    """Everything that changes while training; `forward` is the network as it is called."""

    network: nn.Module
    forward: Callable[[Inputs], torch.Tensor]
    average: nn.Module | None
    optimiser: torch.optim.Optimizer
    rates: list[float]
    history: History
    factor: float = 1.0

    def kept(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.average if self.average is not None else self.network

    def checkpoint(self, recipe: Recipe) -> dict:
        return {
            "recipe": asdict(recipe),
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "factor": self.factor,
            "history": asdict(self.history),
        }


def _start(network: nn.Module, recipe: Recipe, groups: list[dict] | None) -> _State:
    groups = groups or [{"params": [p for p in network.parameters() if p.requires_grad]}]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser]
    optimiser = kind(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    average = copy.deepcopy(network).eval() if recipe.averaging else None
    forward = distributed.shared(network)
    if next(network.parameters()).device.type == "cuda":
        forward = torch.compile(forward)
    rates = [group["lr"] for group in optimiser.param_groups]
    return _State(network, forward, average, optimiser, rates, History())


def _resume(state: _State, path: Path, recipe: Recipe) -> None:
    """Continue from a checkpoint; a longer `epochs` is the one change that is allowed."""
    saved = checkpoints.read(path)
    differing = [k for k, v in asdict(recipe).items() if k != "epochs" and saved["recipe"].get(k) != v]
    if differing:
        raise UserError(
            f"{path} was trained with another {differing[0]} ({saved['recipe'].get(differing[0])}, not "
            f"{getattr(recipe, differing[0])}); use another folder or delete it"
        )
    checkpoints.check_same_shape(saved["network"], state.network, path)
    state.network.load_state_dict(saved["network"])
    if state.average is not None:
        state.average.load_state_dict(saved["average"])
    state.optimiser.load_state_dict(saved["optimiser"])
    state.factor, state.history = saved["factor"], History(**saved["history"])
    if state.history.stopped == "epochs":
        state.history.stopped = ""


def _epoch(state: _State, batches: Batches, recipe: Recipe, epoch: int) -> tuple[dict, str]:
    """One pass: its row so far, and what went wrong ("" when nothing did)."""
    seed = recipe.seed * 100_003 + epoch
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    device = next(state.network.parameters()).device
    state.network.train()
    total, rows, waited, began = 0.0, 0, 0.0, time.perf_counter()
    source = batches(generator)
    source = iter(_prefetched(source) if device.type == "cuda" else source)
    for number in range(2**31):
        asked = time.perf_counter()
        if (batch := next(source, None)) is None:
            break
        waited += time.perf_counter() - asked
        _set_rates(state, recipe, epoch)
        mine, weight = distributed.share(len(batch[1]))
        inputs, targets = _part(batch[0], mine, device), batch[1][mine].to(device)
        loss = _step(state, inputs, targets, weight, recipe)
        if not math.isfinite(loss):
            return {}, f"the loss of batch {number + 1} in epoch {epoch + 1} is no number"
        if state.average is not None:
            _average(state.average, state.network, recipe.averaging)
        total, rows = total + loss * len(batch[1]), rows + len(batch[1])
    seconds = time.perf_counter() - began
    row = {"epoch": epoch, "loss": total / max(rows, 1), "seconds": seconds, "loader_share": waited / seconds}
    return row | {"pieces": state.history.pieces}, ""


def _part(inputs: Inputs, rows: slice, device: torch.device) -> Inputs:
    if isinstance(inputs, torch.Tensor):
        return inputs[rows].to(device, non_blocking=True)
    return tuple(part[rows].to(device, non_blocking=True) for part in inputs)


def _step(state: _State, inputs: Inputs, targets: torch.Tensor, weight: float, recipe: Recipe) -> float:
    """One step of the optimiser on a batch; its mean loss, NaN where it was not taken.

    A batch that does not fit into the accelerator's memory is cut in two, again and again, and its gradients are summed
    up, which is the same step but for batch norm; later batches are cut likewise.
    """
    while True:
        try:
            loss = _gradients(state, inputs, targets, weight, recipe)
            break
        except torch.OutOfMemoryError:
            if state.history.pieces >= len(targets):
                raise UserError(
                    f"the accelerator's memory does not hold one of {len(targets)} rows of a batch; use a smaller "
                    "network or shorter windows"
                ) from None
            state.history.pieces = min(2 * state.history.pieces, len(targets))
            state.optimiser.zero_grad(set_to_none=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    loss = distributed.mean_over_processes(loss)
    if math.isfinite(loss):
        nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip)
        state.optimiser.step()
    return loss


def _gradients(state: _State, inputs: Inputs, targets: torch.Tensor, weight: float, recipe: Recipe) -> float:
    """Gradients of the mean loss of a batch, in as many pieces as its history says; that loss, times `weight`."""
    loss_of, device, total = LOSS_FUNCTIONS[recipe.loss], targets.device, 0.0
    state.optimiser.zero_grad(set_to_none=True)
    size = math.ceil(len(targets) / state.history.pieces)
    for first in range(0, len(targets), size):
        rows = slice(first, first + size)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = loss_of(state.forward(_part(inputs, rows, device)), targets[rows])
        loss = loss * (weight * len(targets[rows]) / len(targets))
        if not torch.isfinite(loss) and distributed.world()[1] == 1:
            return math.nan  # of several processes all must go on to the gradients, which they exchange
        loss.backward()
        total += float(loss.detach())
    return total


def _prefetched(batches: Iterable) -> Iterator:
    """The same batches, prepared by a thread while the accelerator works."""
    ready: queue.Queue = queue.Queue(AHEAD)

    def prepare() -> None:
        try:
            for batch in batches:
                ready.put((batch, None))
            ready.put((None, None))
        except BaseException as error:  # handed to the thread that trains
            ready.put((None, error))

    threading.Thread(target=prepare, daemon=True).start()
    while True:
        batch, error = ready.get()
        if error is not None:
            raise error
        if batch is None:
            return
        yield batch


def _score(state: _State, validate: Callable[[nn.Module], float | dict]) -> dict:
    """What `validate` says of the network that is kept, with its "score", infinite where that is NaN."""
    network = state.kept()
    network.eval()
    with torch.inference_mode():
        found = validate(network)
    found = found if isinstance(found, dict) else {"score": float(found)}
    score = distributed.agreed(found["score"])
    return found | {"score": math.inf if math.isnan(score) else score}


def _save(content: dict, path: Path) -> None:
    if distributed.world()[0] == 0:
        checkpoints.save(content, path)


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Exponential moving average of weights and, as they belong to these, of batch norms' statistics."""
    for mine, other in zip(average.parameters(), network.parameters(), strict=True):
        mine.lerp_(other, 1 - decay)
    for mine, other in zip(average.buffers(), network.buffers(), strict=True):
        mine.lerp_(other, 1 - decay) if mine.is_floating_point() else mine.copy_(other)


def _set_rates(state: _State, recipe: Recipe, epoch: int) -> None:
    factor = state.factor
    if epoch < recipe.warm_up:
        factor *= (epoch + 1) / (recipe.warm_up + 1)
    elif recipe.schedule == "cosine":
        done = (epoch - recipe.warm_up) / max(1, recipe.epochs - recipe.warm_up)
        factor *= 0.5 * (1 + math.cos(math.pi * done))
    for group, rate in zip(state.optimiser.param_groups, state.rates, strict=True):
        group["lr"] = rate * factor


def _reschedule(state: _State, recipe: Recipe, epoch: int) -> None:
    """Halve the rate each time that half the patience has gone by without gain."""
    waited, step = epoch - state.history.best_epoch, max(1, recipe.patience // 2)
    if recipe.schedule == "plateau" and waited and waited % step == 0:
        state.factor *= 0.5
