"""Networks as named stages, one after the other, so that the first of them can be frozen and their outputs kept.

Conventions: a stage takes what the one before gives, a tensor or a tuple of tensors whose first axis is the window; the
last stage is the head. "last-k" means the k stages before the head, and the head.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

State = torch.Tensor | tuple[torch.Tensor, ...]


class Staged(nn.Module):
    """(w, ...) windows -> (w, outputs).

    stages : by name, in their order; the last is the head
    always : names of stages that are trained whatever is frozen, since nothing has trained them before
    to_normalise : name of the module whose `mean` and `spread` are those of the training tracks, if any
    """

    def __init__(self, stages: dict[str, nn.Module], always: tuple[str, ...] = ()):
        super().__init__()
        self.stages = nn.ModuleDict(stages)
        self.always = always
        self.to_normalise: str | None = None
        self.fixed_norms = False
        self.frozen: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the stages, in their order."""
        return tuple(self.stages)

    def forward(self, x: State, start: int = 0, stop: int | None = None) -> State:
        """What the stages from number `start` to before `stop` make of it; all of them by default."""
        for name in self.names[start:stop]:
            x = self.stages[name](x)
        return x

    def freeze(self, trained: int, fixed_norms: bool = True) -> int:
        """Train only the last `trained` stages (the head counts) and those of `always`; return how many come before.

        fixed_norms : batch norms outside the head keep their statistics, scales and shifts
        """
        first = max(0, len(self.names) - trained)
        self.frozen = frozenset(self.names[:first]) - set(self.always)
        self.fixed_norms = fixed_norms
        for name, stage in self.stages.items():
            stage.requires_grad_(name not in self.frozen)
        for norm in self._norms():
            norm.requires_grad_(False)
        return min([first, *(self.names.index(name) for name in self.always)])

    def train(self, mode: bool = True) -> Staged:
        """As usual, but what is frozen stays in evaluation mode: no dropout, no new statistics."""
        super().train(mode)
        for name in self.frozen:
            self.stages[name].eval()
        for norm in self._norms():
            norm.eval()
        return self

    def _norms(self) -> list[nn.Module]:
        """Batch norms that are to stay as they are."""
        if not self.fixed_norms:
            return []
        body = [stage for name, stage in self.stages.items() if name != self.names[-1] and name not in self.always]
        return [module for stage in body for module in stage.modules() if isinstance(module, _BatchNorm)]

    def counts(self) -> tuple[int, int]:
        """Numbers of parameters that are trained, and of all."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)

    def rate_groups(self, rate: float, decay: float) -> list[dict]:
        """Parameter groups for the optimiser: the head learns at `rate`, each stage before it `decay` times slower.

        Stages of `always` learn at the head's rate.
        """
        groups = []
        for depth, name in enumerate(reversed(self.names)):
            trained = [p for p in self.stages[name].parameters() if p.requires_grad]
            if trained:
                factor = 1.0 if name in self.always else decay**depth
                groups.append({"params": trained, "lr": rate * factor, "name": name})
        return groups


class OverWindows(nn.Module):
    """Tracks as (b, w, ...) outputs of the stages before `start` -> (b, outputs): the mean over their windows."""

    def __init__(self, network: Staged, start: int):
        super().__init__()
        self.network, self.start = network, start

    def forward(self, x: State) -> torch.Tensor:
        """A tensor, or a tuple of tensors, each (b, w, ...)."""
        parts = (x,) if isinstance(x, torch.Tensor) else tuple(x)
        rows, windows = parts[0].shape[:2]
        flat = tuple(part.flatten(0, 1).float() for part in parts)
        outputs = self.network(flat[0] if len(flat) == 1 else flat, self.start)
        return outputs.view(rows, windows, -1).mean(1)
