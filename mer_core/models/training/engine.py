"""Train a network: the best checkpoint is what comes back, and a training that was killed goes on where it was.

Conventions
-----------
Everything random in an epoch (order, crops, augmentation, dropout) follows from the recipe's seed and the epoch's
number alone. So a training resumed from the last finished epoch takes the same steps as one that was never stopped.
Checkpoints are tensors and plain values, read with `weights_only=True`, and replaced atomically: a full disk or a kill
leaves the former one.
"""

from __future__ import annotations

import copy
import math
import os
import pickle
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from mer_core.errors import UserError
from mer_core.models.training.losses import LOSS_FUNCTIONS
from mer_core.models.training.recipe import Recipe

Batches = Callable[[torch.Generator], Iterable[tuple[torch.Tensor, torch.Tensor]]]


@dataclass
class History:
    """What happened: one row an epoch (epoch, loss, score, learning_rate); which was best; why it ended."""

    rows: list[dict] = field(default_factory=list)
    best_epoch: int = -1
    best_score: float = math.inf
    stopped: str = ""


def choose_device() -> torch.device:
    """CUDA, then Apple's, then the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def train(
    network: nn.Module,
    batches: Batches,
    validate: Callable[[nn.Module], float],
    recipe: Recipe,
    folder: str | Path,
    *,
    groups: list[dict] | None = None,
    report: Callable[[dict], None] | None = None,
) -> History:
    """Train in place and leave the network with its best weights, in evaluation mode, on the device it was given on.

    Parameters
    ----------
    network : on the device to train on
    batches : called with an epoch's generator, yields (input, target) batches in that epoch's order
    validate : score of the network in evaluation mode, lower is better; NaN counts as infinitely bad
    recipe : see there
    folder : where `last.pt` and `best.pt` are kept; a training of the same recipe found there is resumed
    groups : parameter groups of the optimiser, e.g. with their own `lr`; all trainable parameters when None
    report : called with each epoch's row

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
    history = state.history
    while not history.stopped and len(history.rows) < recipe.epochs:
        epoch = len(history.rows)
        loss, problem = _epoch(state, batches, recipe, epoch)
        if problem:
            history.stopped = problem
            break
        score = _score(state, validate)
        row = {"epoch": epoch, "loss": loss, "score": score, "learning_rate": state.optimiser.param_groups[0]["lr"]}
        history.rows.append(row)
        if score < history.best_score:
            history.best_epoch, history.best_score = epoch, score
            _save({"network": state.kept().state_dict()}, folder / "best.pt")
        if epoch - history.best_epoch >= recipe.patience:
            history.stopped = "patience"
        _reschedule(state, recipe, epoch)
        _save(state.checkpoint(recipe), folder / "last.pt")
        if report is not None:
            report(row)
    history.stopped = history.stopped or "epochs"
    _restore_best(network, history, folder, recipe)
    return history


def _restore_best(network: nn.Module, history: History, folder: Path, recipe: Recipe) -> None:
    if history.best_epoch < 0:
        raise UserError(
            f"training gave no usable network ({history.stopped}); lower the learning rate of {recipe.learning_rate:g}"
        )
    network.load_state_dict(_read(folder / "best.pt")["network"])
    network.eval()


@dataclass
class _State:
    """Everything that changes while training."""

    network: nn.Module
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
    return _State(network, average, optimiser, [group["lr"] for group in optimiser.param_groups], History())


def _resume(state: _State, path: Path, recipe: Recipe) -> None:
    """Continue from a checkpoint; a longer `epochs` is the one change that is allowed."""
    saved = _read(path)
    differing = [k for k, v in asdict(recipe).items() if k != "epochs" and saved["recipe"].get(k) != v]
    if differing:
        raise UserError(
            f"{path} was trained with another {differing[0]} ({saved['recipe'].get(differing[0])}, not "
            f"{getattr(recipe, differing[0])}); use another folder or delete it"
        )
    try:
        state.network.load_state_dict(saved["network"])
    except RuntimeError as error:
        raise UserError(
            f"{path} is of another architecture ({str(error).splitlines()[1].strip()[:120]}); "
            "use another folder or delete it"
        ) from None
    if state.average is not None:
        state.average.load_state_dict(saved["average"])
    state.optimiser.load_state_dict(saved["optimiser"])
    state.factor, state.history = saved["factor"], History(**saved["history"])
    if state.history.stopped == "epochs":
        state.history.stopped = ""


def _epoch(state: _State, batches: Batches, recipe: Recipe, epoch: int) -> tuple[float, str]:
    """One pass: mean loss, and what went wrong ("" when nothing did)."""
    seed = recipe.seed * 100_003 + epoch
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    loss_of, device = LOSS_FUNCTIONS[recipe.loss], next(state.network.parameters()).device
    state.network.train()
    total, rows = 0.0, 0
    for number, (inputs, targets) in enumerate(batches(generator)):
        _set_rates(state, recipe, epoch)
        inputs, targets = inputs.to(device), targets.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = loss_of(state.network(inputs), targets)
        if not torch.isfinite(loss):
            return math.nan, f"the loss of batch {number + 1} in epoch {epoch + 1} is no number"
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip)
        state.optimiser.step()
        if state.average is not None:
            _average(state.average, state.network, recipe.averaging)
        total, rows = total + float(loss.detach()) * len(inputs), rows + len(inputs)
    return total / max(rows, 1), ""


def _score(state: _State, validate: Callable[[nn.Module], float]) -> float:
    network = state.kept()
    network.eval()
    with torch.inference_mode():
        score = float(validate(network))
    return math.inf if math.isnan(score) else score


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Exponential moving average of weights; statistics of batch norm are taken over as they are."""
    for mine, other in zip(average.parameters(), network.parameters(), strict=True):
        mine.lerp_(other, 1 - decay)
    for mine, other in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(other)


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


def _save(content: dict, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        torch.save(content, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> dict:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0][:80]
        raise UserError(f"{path} cannot be read as a checkpoint ({reason}); delete it and train again") from None
