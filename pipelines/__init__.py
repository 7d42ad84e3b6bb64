"""Pipelines and commands by name; each is a small module, imported when it is asked for.

A pipeline module has a frozen dataclass `Config`, whose fields carry `metadata={"help": ..., "choices": ...}`, and
`run(config, dataset, writer)`. A command module has `add_arguments(parser)` and `main(arguments) -> exit code`.
"""

from __future__ import annotations

import importlib
from dataclasses import MISSING, field
from types import ModuleType

PIPELINES = {
    "demo": "pipelines.demo",
    "features": "pipelines.features",
    "audit": "pipelines.audit",
    "eda": "pipelines.eda",
    "embed": "pipelines.embed",
    "train": "pipelines.train",
    "select": "pipelines.select",
    "group_pca": "pipelines.group_pca",
    "global_pca": "pipelines.global_pca",
    "ablation": "pipelines.ablation",
    "finetune": "pipelines.finetune",
    "classify": "pipelines.classify",
    "midlevel": "pipelines.midlevel",
    "explain": "pipelines.explain",
    "compare": "pipelines.compare",
    "music2emo": "pipelines.music2emo",
}
COMMANDS = {
    "predict": "pipelines.predict",
    "augmentation": "pipelines.augmentation",
    "list": "pipelines.list",
    "show": "pipelines.show",
    "backbones": "pipelines.backbones",
    "site": "pipelines.site",
}


def load(name: str) -> ModuleType:
    """Import the module behind a pipeline's or command's name; KeyError when there is none."""
    return importlib.import_module((PIPELINES | COMMANDS)[name])


def option(default: object, help: str, choices: tuple[str, ...] | None = None) -> object:
    """Field of a `Config`: its default, one sentence of help, and what may be chosen.

    A default of MISSING makes the field required.
    """
    return field(default=default, metadata={"help": help, "choices": choices})


REQUIRED = MISSING
