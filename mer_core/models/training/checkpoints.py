"""Checkpoints of a training: tensors and plain values, read with `weights_only=True` and replaced atomically."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

from mer_core.errors import UserError

SHOWN = 3  # names listed in a message


def save(content: dict, path: Path) -> None:
    """Replace a checkpoint; a full disk or a kill leaves the former one."""
    import torch

    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        torch.save(content, temporary)
        os.replace(temporary, path)
    except RuntimeError as error:  # how torch's writer of archives says that the disk is full
        raise UserError(
            f"{path} cannot be written ({str(error).splitlines()[0][:80]}); free some space and start again: the "
            "former checkpoint is intact"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> dict:
    """What `save` has written; UserError where it is damaged."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0][:80]
        raise UserError(f"{path} cannot be read as a checkpoint ({reason}); delete it and train again") from None


def check_same_shape(state: dict, network: object, path: Path) -> None:
    """UserError, naming keys, where a saved state is not one of this network."""
    own = network.state_dict()
    problems = []
    if absent := sorted(own.keys() - state.keys()):
        problems.append(f"lacks {_some(absent)}")
    if unknown := sorted(state.keys() - own.keys()):
        problems.append(f"has {_some(unknown)} besides")
    if other := sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape):
        name = other[0]
        problems.append(f"has {name} of shape {tuple(state[name].shape)} for {tuple(own[name].shape)}")
    if problems:
        raise UserError(
            f"{path} is of another architecture: it {'; it '.join(problems)}; use another folder or delete it"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
