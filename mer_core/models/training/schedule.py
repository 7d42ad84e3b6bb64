"""Gradual unfreezing as data: which stages are trained, one step after the other, and for how long.

Written "head:5,last-2:10,all:10": the head for 5 epochs, then also the two stages before it for 10, then everything.
"head" without a number solves a linear head in closed form (ridge), which takes no epochs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mer_core.errors import UserError

EXAMPLE = "head:5,last-2:10,all:10"


@dataclass(frozen=True)
class Step:
    """One step: `what` is "head", "last-K" or "all"; epochs at most, 0 for a head that is solved."""

    what: str
    epochs: int

    def trained(self, stages: int) -> int:
        """How many of so many stages are trained, counted from the head."""
        if self.what in ("head", "all"):
            return 1 if self.what == "head" else stages
        return 1 + int(self.what.removeprefix("last-"))

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.what}:{self.epochs}" if self.epochs else self.what


def read_schedule(text: str, stages: int | None = None) -> tuple[Step, ...]:
    """The steps of a schedule.

    stages : of the network, to check "last-K" against; not checked when None

    Raises
    ------
    UserError : a step that is none, that trains no more than the one before, or more stages than there are
    """
    steps = tuple(_step(part.strip()) for part in text.split(","))
    for before, after in zip(steps[:-1], steps[1:], strict=True):
        if _rank(after) <= _rank(before):
            raise UserError(
                f"--unfreeze {text}: {after} trains no more than {before} before it; widen from step to step, as in "
                f"{EXAMPLE}"
            )
    if stages is not None:
        check_steps(steps, stages)
    return steps


def check_steps(steps: tuple[Step, ...], stages: int) -> None:
    """UserError where a step trains more stages than a network has."""
    for step in steps:
        if step.what not in ("head", "all") and step.trained(stages) > stages:
            raise UserError(
                f"--unfreeze {step}: {step.what} is more than the {stages - 1} stages before the head; use all"
            )


def _step(text: str) -> Step:
    found = re.fullmatch(r"(head|all|last-[1-9]\d*)(?::([1-9]\d*))?", text)
    if found is None or (found[2] is None and found[1] != "head"):
        raise UserError(f"--unfreeze {text!r} is no step; write head:EPOCHS, last-K:EPOCHS or all:EPOCHS, as {EXAMPLE}")
    return Step(found[1], int(found[2] or 0))


def _rank(step: Step) -> float:
    return float("inf") if step.what == "all" else step.trained(0)
