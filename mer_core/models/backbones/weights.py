"""Finding weights, and refusing those that are not what they should be."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from pathlib import Path

from mer_core.errors import UserError
from mer_core.models.backbones.backbone import WHEEL, Backbone, WeightsFile
from mer_core.paths import REPOSITORY

SHOWN = 3  # names listed in a message
# Weight decay has driven filters of published networks below the smallest normal number, where processors are up to a
# hundred times slower. What is smaller than this is set to zero, which changes outputs by less than their rounding.
NEGLIGIBLE = 1e-20
HUB = "hub"  # in place of a folder: download what is missing
FETCHED = "fetched.json"  # beside downloaded files: their checksums as they came


def weights_root(weights: str | Path | None = None) -> Path:
    """Folder with one sub-folder per model: the argument, `MER_WEIGHTS`, or `weights/` in the repository."""
    return Path(weights or os.environ.get("MER_WEIGHTS") or REPOSITORY / "weights")


def weights_folder(backbone: Backbone, weights: str | Path | None = None) -> Path | None:
    """Folder where this backbone's files should be; None where the package that brings them is not installed."""
    if not backbone.weights_folder.startswith(WHEEL):
        return weights_root(weights) / backbone.weights_folder
    package, _, inside = backbone.weights_folder.removeprefix(WHEEL).partition("/")
    spec = importlib.util.find_spec(package)  # finds it without running it: it would import TensorFlow
    return None if spec is None else Path(spec.submodule_search_locations[0]) / inside


def missing(backbone: Backbone, weights: str | Path | None = None) -> str | None:
    """What keeps this backbone from being opened, and how to get it; None when its files are there."""
    folder = weights_folder(backbone, weights)
    if folder is None:
        return f"{how_to_get(backbone)}: the weights come inside this package"
    for names, _ in backbone.files:
        if not located(folder, names).is_file():
            return f"{located(folder, names)} is missing: {how_to_get(backbone)}"
    return None


def located(folder: Path, names: str) -> Path:
    """The file of that name; of several, "a|b", the first that is there, else the first."""
    paths = [folder / name for name in names.split("|")]
    return next((path for path in paths if path.is_file()), paths[0])


def how_to_get(backbone: Backbone) -> str:
    """One clause: what the user can do to have these weights."""
    if backbone.weights_folder.startswith(WHEEL):
        return "pip install --no-deps musicnn==0.1.0"
    if backbone.hub:
        return (
            f"copy the files of {backbone.hub} into {backbone.weights_folder}/ under MER_WEIGHTS or --weights, or "
            "download them with --weights hub"
        )
    folder = f"{backbone.weights_folder}/{backbone.files[0][0]}"
    return f"take it from {backbone.source} and put it at {folder} under MER_WEIGHTS or --weights"


def find_weights(backbone: Backbone, weights: str | Path | None = None) -> WeightsFile:
    """The weights on this machine, with every file compared with its published checksum.

    Raises
    ------
    UserError : a missing root, a missing file, or a checksum that is not the published one
    """
    if weights == HUB:
        from mer_core.models.backbones.hub_files import fetch

        weights = None
        if missing(backbone):
            fetch(backbone)
    root = weights_root(weights)
    if weights is not None and not root.is_dir():
        raise UserError(
            f"--weights {root} is no folder; name the folder that holds the weights, one sub-folder a model"
        )
    if problem := missing(backbone, weights):
        raise UserError(f"{backbone.name} cannot be opened: {problem}")
    folder = weights_folder(backbone, weights)
    paths = [located(folder, names) for names, _ in backbone.files]
    came = fetched_sums(folder)
    found = [
        check_sum(path, expected or came.get(path.name))
        for path, (_, expected) in zip(paths, backbone.files, strict=True)
    ]
    return WeightsFile(paths[0], found[0], backbone.source, backbone.licence)


def fetched_sums(folder: Path) -> dict[str, str]:
    """SHA-256 of downloaded files as they came, by name; empty where the user brought them."""
    note = folder / FETCHED
    if not note.is_file():
        return {}
    try:
        return json.loads(note.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{note} cannot be read ({error}); delete it, or download the files again") from error


def check_sum(path: Path, expected: str | None) -> str:
    """SHA-256 of a file; UserError where it is not the expected one."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    if expected is not None and found != expected:
        raise UserError(
            f"{path} has the SHA-256 {found} where {expected} was expected: it is incomplete, damaged or another file;"
            " fetch it again"
        )
    return found


def read_state(path: Path) -> dict:
    """State dict of a PyTorch file, read without running code of the file's; UserError where it is damaged."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    except Exception as error:  # the reader of a damaged file may stumble over anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is no weights file or is damaged ({reason}); fetch it again") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path} holds no table of tensors, as weights are expected to be; fetch it again")
    return state


def fill(network, state: dict, path: Path) -> None:
    """Load tensors by name, all of them and no others.

    Raises
    ------
    UserError : names that are missing or unexpected, or shapes that differ: other weights than this network's
    """
    own = network.state_dict()
    counted = {name for name in own if name.endswith("num_batches_tracked")}  # a counter, which training alone uses
    problems = []
    if absent := sorted(own.keys() - state.keys() - counted):
        problems.append(f"lacks {_some(absent)}")
    if unknown := sorted(state.keys() - own.keys()):
        problems.append(f"has {_some(unknown)}, which the network has not")
    shapes = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if shapes:
        name = min(shapes)
        problems.append(f"has {name} of shape {tuple(state[name].shape)} for {tuple(own[name].shape)}")
    if problems:
        raise UserError(
            f"{path} does not fit {type(network).__name__}: it {'; it '.join(problems)}; give it its own file"
        )
    import torch

    parameters = {name: tensor * (tensor.abs() >= NEGLIGIBLE) for name, tensor in state.items()}
    network.load_state_dict(parameters, strict=False)  # compared above; torch would also ask for the counters
    if not all(torch.isfinite(tensor).all() for tensor in network.state_dict().values()):
        raise UserError(f"{path} holds weights that are not finite numbers; fetch it again")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
