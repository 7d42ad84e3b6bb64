"""Training a staged network on tracks, step by step of a schedule; the best epoch on the validation tracks is kept.

Conventions: outputs are standardised ratings, with mean and spread of the training tracks; a track's output is the mean
over its windows, in training and in prediction. Torch is imported inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mer_core.errors import UserError
from mer_core.models.training.recipe import Recipe
from mer_core.models.training.schedule import Step
from mer_core.models.training.windows import AT_ONCE, Kept, Windows

PENALTIES = tuple(10.0 ** np.arange(-1, 5.5, 0.5))  # of a head that is solved
Say = Callable[[str], None]


@dataclass(frozen=True)
class Tuning:
    """How one network is trained.

    steps : of the schedule; recipe : of each step, but for its epochs
    decay : factor on the learning rate from a stage to the one before it
    fixed_norms : batch norms outside the head stay as they were trained before
    """

    steps: tuple[Step, ...]
    recipe: Recipe
    decay: float = 0.7
    fixed_norms: bool = True


@dataclass(frozen=True)
class Tuned:
    """A trained network; output * spread + centre are ratings; steps : what happened in each, as plain data."""

    network: object
    centre: np.ndarray
    spread: np.ndarray
    steps: tuple[dict, ...]


@dataclass(frozen=True)
class Material:
    """Tracks to train and validate on, and their windows.

    targets : (t,) of each track; the first `rated` ones are ratings, and what is validated
    weight : of the loss of each other target, against 1 for a rating
    scale : ends of the rating scale where outputs are in -1..1; None for outputs without bounds
    kept : what the first `kept_stages` stages give, where these are never trained
    """

    windows: Windows
    targets: dict[str, np.ndarray]
    train: tuple[str, ...]
    validation: tuple[str, ...]
    rated: int
    weight: float = 1.0
    scale: tuple[float, float] | None = None
    kept: Kept | None = None
    kept_stages: int = 0

    def source(self, frozen: int) -> tuple[Windows | Kept, int]:
        """What batches are made of while so many stages are frozen, and the number of the stage that takes it."""
        if self.kept is not None and frozen >= self.kept_stages:
            return self.kept, self.kept_stages
        return self.windows, 0

    def scaling(self) -> tuple[np.ndarray, np.ndarray]:
        """(t,) each: output * the second + the first is the target; from the training tracks, or the rating scale."""
        known = np.stack([self.targets[track] for track in self.train])
        if self.scale is not None:
            low, high = self.scale
            return np.full(known.shape[1], (low + high) / 2), np.full(known.shape[1], (high - low) / 2)
        spread = np.maximum(known.std(axis=0), 1e-6)
        if known.shape[1] > self.rated:  # one spread for all, so that strong components count more than weak ones
            spread[self.rated :] = np.sqrt(np.mean(spread[self.rated :] ** 2) / self.weight)
        return known.mean(axis=0), spread


def fit_tuning(
    network: object,
    material: Material,
    tuning: Tuning,
    folder: str | Path,
    *,
    report: Callable[[dict], None] | None = None,
    say: Say = lambda text: None,
) -> Tuned:
    """Train in place, step by step; every step starts from the best network of the one before.

    Parameters
    ----------
    network : a `Staged`, on its device
    folder : for checkpoints, one sub-folder a step: a training that was killed goes on there
    report : called with each epoch's row, which also has "step" and "phase"
    say : called with sentences on what is trained

    Raises
    ------
    UserError : an empty validation part, or what the engine raises
    """
    if not material.validation:
        raise UserError("there is no track to validate on; the dataset needs more groups than folds")
    folder, facts = Path(folder), []
    for number, step in enumerate(tuning.steps):
        facts.append(_fit_step(network, material, tuning, step, number, folder, report, say))
    return Tuned(network, *material.scaling(), tuple(facts))


def stages_to_keep(network: object, tuning: Tuning) -> int:
    """How many first stages no step trains, but for steps that train all; 0 where there are none."""
    frozen = [network.freeze(step.trained(len(network.names)), tuning.fixed_norms) for step in tuning.steps]
    return min((first for first in frozen if first), default=0)


def untouched(tuning: Tuning) -> bool:
    """Whether no step trains all stages."""
    return all(step.what != "all" for step in tuning.steps)


def _fit_step(network, material, tuning, step, number, folder, report, say) -> dict:
    """One step of the schedule; what happened."""
    if number == 0 and network.to_normalise is not None:
        _normalise(network.get_submodule(network.to_normalise), material)
    first = network.freeze(step.trained(len(network.names)), tuning.fixed_norms)
    trained, total = network.counts()
    say(f"step {number + 1}, {step}: {trained:,} of {total:,} parameters are trained")
    source, first = material.source(first)
    if number == 0 and hasattr(network.stages[network.names[-1]], "standardise"):
        _standardise_head(network, first, source, material)
    facts = {"step": str(step), "trained": trained, "parameters": total, "kept_stages": first}
    if step.epochs == 0:
        return facts | _solve_head(network, first, source, material)
    recipe = replace(tuning.recipe, epochs=step.epochs, seed=tuning.recipe.seed + 1000 * number)
    groups = network.rate_groups(recipe.learning_rate, tuning.decay)
    history = _descend(network, first, source, material, recipe, groups, folder / f"step-{number}", number, report)
    return facts | {key: value for key, value in asdict(history).items()}


def _descend(network, first: int, source, material: Material, recipe, groups, folder, number: int, report):
    """Gradient steps on what `source` gives; the engine's history."""
    import torch

    from mer_core.models.networks.staged import OverWindows
    from mer_core.models.training.engine import train

    centre, spread = material.scaling()

    def batches(generator: torch.Generator) -> Iterable:
        random = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        order = random.permutation(len(material.train))
        for start in range(0, len(order), recipe.batch_size):
            chosen = [material.train[i] for i in order[start : start + recipe.batch_size]]
            if len(chosen) < 2:  # batch norm has no spread of one
                continue
            inputs = tuple(torch.from_numpy(part) for part in source.draw(chosen, random))
            wanted = (np.stack([material.targets[track] for track in chosen]) - centre) / spread
            yield inputs if len(inputs) > 1 else inputs[0], torch.from_numpy(wanted.astype(np.float32))

    def validate(kept) -> dict:
        outputs = cover_outputs(kept.network, first, source, material.validation)[:, : material.rated]
        wanted = np.stack([material.targets[track] for track in material.validation])[:, : material.rated]
        error = outputs - (wanted - centre[: material.rated]) / spread[: material.rated]
        return {"score": float(np.sqrt(np.mean(error**2))), "errors": error, "outputs": outputs}

    told = None if report is None else lambda row: report(row | {"step": number, "phase": "fine-tuning"})
    return train(OverWindows(network, first), batches, validate, recipe, folder, groups=groups, report=told, start=True)


def cover_outputs(network: object, first: int, source: Windows | Kept, tracks: Iterable[str]) -> np.ndarray:
    """(n, t) mean output over the windows that cover each track, float64."""
    return np.stack([window_outputs(network, first, source, track).mean(axis=0) for track in tracks])


def window_outputs(network: object, first: int, source: Windows | Kept, track: str) -> np.ndarray:
    """(w, t) output of each window that covers a track, float64; the stages from number `first` are run."""
    import torch

    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        parts = [torch.from_numpy(part).split(AT_ONCE) for part in source.cover(track)]
        found = [
            network(tuple(part.to(device) for part in batch) if len(batch) > 1 else batch[0].to(device), first)
            for batch in zip(*parts, strict=True)
        ]
        return torch.cat(found).float().cpu().numpy().astype(float)


def _embedded(network, first: int, source: Windows | Kept, tracks: Iterable[str]) -> list[np.ndarray]:
    """What comes before the head, for the windows of each track: (w, d) float64."""
    import torch

    device, last, rows = next(network.parameters()).device, len(network.names) - 1, []
    network.eval()
    with torch.inference_mode():
        for track in tracks:
            parts = tuple(torch.from_numpy(part).to(device) for part in source.cover(track))
            rows.append(network(parts if len(parts) > 1 else parts[0], first, last).cpu().numpy().astype(float))
    return rows


def _normalise(module: object, material: Material) -> None:
    """Give a `Normalised` the mean and spread of the training tracks' spectrograms."""
    tables = material.windows.spectrograms.tables
    values = [(np.mean(tables[t], dtype=float), np.mean(np.square(tables[t], dtype=float))) for t in material.train]
    mean, square = np.mean(values, axis=0)
    module.mean.fill_(float(mean))
    module.spread.fill_(float(np.sqrt(square - mean**2)))


def _standardise_head(network, first: int, source: Windows | Kept, material: Material) -> None:
    """Give a `LinearHead` the mean and spread of the training tracks' windows."""
    windows = np.concatenate(_embedded(network, first, source, material.train))
    network.stages[network.names[-1]].standardise(windows.mean(axis=0), windows.std(axis=0) + 1e-6)


def _solve_head(network, first: int, source: Windows | Kept, material: Material) -> dict:
    """Ridge on the mean over windows of what comes before a `LinearHead`; the penalty is best on the validation part.

    The closed form of training a linear head with weight decay; every target has its own penalty.
    """
    head = network.stages[network.names[-1]]
    if not hasattr(head, "solve"):
        kind = type(head).__name__
        raise UserError(f"--unfreeze head is for linear heads; write head:10, in epochs, for this network's {kind}")
    centre, spread = material.scaling()
    mean, deviation = head.mean.cpu().numpy().astype(float), head.spread.cpu().numpy().astype(float)
    x, checked = (
        (np.stack([rows.mean(axis=0) for rows in _embedded(network, first, source, tracks)]) - mean) / deviation
        for tracks in (material.train, material.validation)
    )
    y, true = (
        (np.stack([material.targets[track] for track in tracks]) - centre) / spread
        for tracks in (material.train, material.validation)
    )
    weights, penalties = _ridge(x, y, checked, true)
    head.solve(weights, -(x.mean(axis=0) @ weights))
    error = (checked - x.mean(axis=0)) @ weights - true
    return {"penalties": penalties, "best_score": float(np.sqrt(np.mean(error[:, : material.rated] ** 2)))}


def _ridge(x: np.ndarray, y: np.ndarray, checked: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Weights (d, t) on centred x, y and the penalty of each target that is best on the checked rows."""
    middle = x.mean(axis=0)
    u, s, v = np.linalg.svd(x - middle, full_matrices=False)
    best, chosen, penalties = np.full(y.shape[1], np.inf), np.zeros((x.shape[1], y.shape[1])), [0.0] * y.shape[1]
    for penalty in PENALTIES:
        weights = v.T @ ((s / (s**2 + penalty))[:, None] * (u.T @ y))
        errors = (((checked - middle) @ weights - true) ** 2).mean(axis=0)
        for column in np.flatnonzero(errors < best):
            best[column], chosen[:, column], penalties[column] = errors[column], weights[:, column], float(penalty)
    return chosen, penalties
