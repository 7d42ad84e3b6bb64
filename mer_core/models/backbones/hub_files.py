"""Weights in the layout of the model hub: fetched when asked for, loaded whole or not at all.

A folder holds `config.json` and `model.safetensors` or `pytorch_model.bin`. What was fetched has its checksums in
`fetched.json` beside them. No code of a repository is ever run.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from mer_core.errors import UserError
from mer_core.models.backbones.backbone import Backbone
from mer_core.models.backbones.weights import FETCHED, check_sum, weights_root

CONFIG = "config.json"
SHOWN = 3  # names listed in a message


def fetch(backbone: Backbone) -> None:
    """Download a backbone's files into its folder under the weights root, and write down their checksums.

    A download that was cut short goes on where it stopped.

    Raises
    ------
    UserError : a backbone that is not on the hub, no network, a repository that refuses, or no space
    """
    from huggingface_hub import model_info, snapshot_download
    from huggingface_hub.errors import HTTPError  # of the library it asks with

    if not backbone.hub:
        raise UserError(
            f"--weights hub: {backbone.name} is not on the model hub; take it from {backbone.source} and name the "
            "folder with --weights"
        )
    folder = weights_root() / backbone.weights_folder
    wanted = [name.split("|") for name, _ in backbone.files]
    try:
        there = {file.rfilename for file in model_info(backbone.hub).siblings}
        names = [next((name for name in names if name in there), names[0]) for names in wanted]
        snapshot_download(backbone.hub, local_dir=folder, allow_patterns=names)
    except (OSError, HTTPError) as error:
        raise UserError(
            f"--weights hub: {backbone.hub} could not be fetched ({str(error).splitlines()[0]}); check the network, or "
            f"put its files into {folder}"
        ) from error
    if absent := [name for name in names if not (folder / name).is_file()]:
        raise UserError(f"--weights hub: {backbone.hub} gave no {absent[0]}; check the network, and start again")
    sums = {name: check_sum(folder / name, None) for name in names}
    (folder / FETCHED).write_text(json.dumps({"hub": backbone.hub, "sha256": sums}, indent=1), encoding="utf-8")


def read_config(path: Path, types: tuple[str, ...]) -> dict:
    """`config.json` beside a weights file; UserError unless it is of one of the model types."""
    config = path.parent / CONFIG
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        found = content["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{config} cannot be read as a model's configuration ({error}); fetch it again") from error
    if found not in types:
        raise UserError(f"{config} describes a model of type {found!r}, where {' or '.join(types)} was expected")
    return content


def load_pretrained(model_class, config_class, path: Path, ignored: tuple[str, ...] = (), **options):
    """A model of `transformers` with exactly the tensors of a local folder.

    Parameters
    ----------
    model_class, config_class : of `transformers`
    path : its weights file; `config.json` lies beside it
    ignored : beginnings of names that belong to other parts of the published model
    options : further arguments of the model

    Raises
    ------
    UserError : a file that cannot be read, or tensors that are missing, unexpected, or of another shape, by name: a
        model that is random in part gives plausible numbers
    """
    with quiet():
        config = config_class.from_pretrained(path.parent, local_files_only=True)
        try:
            model, report = model_class.from_pretrained(
                path.parent,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                use_safetensors=path.suffix == ".safetensors",
                **options,
            )
        except Exception as error:  # the readers of both formats raise errors of many kinds
            raise UserError(f"{path} cannot be loaded ({_reason(error)}); fetch it again") from error
    unexpected = [name for name in report["unexpected_keys"] if not name.startswith(ignored)]
    problems = [
        (report["missing_keys"], "lacks"),
        (unexpected, "has what the network has not:"),
        ([name for name, *_ in report["mismatched_keys"]], "has another shape of"),
    ]
    told = [f"{verb} {_some(names)}" for names, verb in problems if names]
    if told:
        raise UserError(f"{path} does not fit {model_class.__name__}: it {'; it '.join(told)}; give it its own file")
    return model


def read_checkpoint(path: Path, key: str | None = None) -> dict:
    """State dict of a PyTorch checkpoint, or of its entry `key`, read without running code of the file's.

    Numbers and arrays of numpy, which trainers store beside the weights, are let through.

    Raises
    ------
    UserError : a file that is no such checkpoint
    """
    import pickle

    import numpy as np
    import torch

    numpy_types = [np.dtype, np.ndarray, np._core.multiarray.scalar, np._core.multiarray._reconstruct]
    numpy_types += [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "b1")]
    # Files written with numpy 1 name the same functions by their old address.
    numpy_types += [
        (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
        (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    ]
    try:
        with torch.serialization.safe_globals(numpy_types):
            content = torch.load(path, map_location="cpu", weights_only=True)
        state = content[key] if key in content else content
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} is no weights file or is damaged ({_reason(error)}); fetch it again") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path} holds no table of tensors{f' under {key!r}' if key else ''}; fetch it again")
    return state


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing its own report: what matters of it becomes an error."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


def _reason(error: Exception) -> str:
    """First line of an error; torch's advice to load a file unsafely is not passed on."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return "it holds other things than tensors and numbers" if "Weights only" in first else first


def _some(names) -> str:
    names = sorted(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
