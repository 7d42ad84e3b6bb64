"""Pretrained networks as frozen listeners: what there is, where its weights are, and how to open it.

Each module of this package holds the entries of one family in a dict `BACKBONES`; they are put together here.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

from mer_core.errors import UserError
from mer_core.models.backbones import hub, local, wheel
from mer_core.models.backbones.backbone import Backbone, WeightsFile
from mer_core.models.backbones.listener import Listener
from mer_core.models.backbones.weights import find_weights, missing, weights_root

__all__ = [
    "BACKBONES",
    "Backbone",
    "Listener",
    "WeightsFile",
    "find_backbone",
    "find_weights",
    "missing",
    "open_backbone",
    "weights_root",
]

FAMILIES = (wheel, local, hub)
BACKBONES: dict[str, Backbone] = {name: entry for family in FAMILIES for name, entry in family.BACKBONES.items()}
RANDOM = "random"
SEED = 0  # of random weights


def find_backbone(name: str) -> Backbone:
    """The entry of that name; UserError when there is none."""
    if name not in BACKBONES:
        raise UserError(f"there is no backbone {name!r}; choose one of {', '.join(BACKBONES)}")
    return BACKBONES[name]


def open_backbone(name: str, weights: str | Path | None = None, hop_s: float | None = None) -> Listener:
    """Load a backbone, ready to listen.

    Parameters
    ----------
    name : key of BACKBONES
    weights : folder with one sub-folder per model; None for `MER_WEIGHTS`, or `weights/` in the repository; "random"
        for untrained weights, which the listener records as {"source": "random"}; "hub" to use what lies in the
        default folder and to download there what is missing
    hop_s : step from window to window, s; None for the backbone's own

    Raises
    ------
    UserError : no such backbone; weights that are missing, damaged, of another network, or not the published ones
    """
    import torch

    backbone = find_backbone(name)
    if hop_s is not None:
        if not 0 < hop_s <= backbone.window_s:
            raise UserError(f"the hop is {hop_s:g} s, but must be above 0 and at most the window of {backbone.name}")
        backbone = replace(backbone, hop_s=hop_s)
    module, _, function = backbone.load.partition(":")
    load = getattr(importlib.import_module(module), function)
    if weights == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            network, transform = load(backbone, None)
        record = {"name": name, "source": RANDOM}
    else:
        found = find_weights(backbone, weights)
        network, transform = load(backbone, found.path)
        record = {"name": name, "source": found.source, "sha256": found.sha256, "licence": found.licence}
    return Listener(backbone, network.eval().requires_grad_(False), transform, record)
