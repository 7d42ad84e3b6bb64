"""Networks that `classify` trains itself: how they are built, and how those of the folds are kept and read again.

In a run's folder `model/`: `network.json` (schema, network, folds with slope and offset of their logit, checksums) and
`fold-K.safetensors`. Reading them runs no code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mer_core.errors import UserError
from mer_core.evaluate.happy_sad import FoldNetwork, margin_of
from mer_core.models.classifiers import sigmoid
from mer_core.models.training.spectrograms import STYLES, Spectrograms
from mer_core.models.training.tracks import Fitted

NAMES = ("vit", "residual-cnn")
FILE = "network.json"
SCHEMA = 1


def builder(name: str, outputs: int = 2) -> Callable[[], object]:
    """What builds a network of `NAMES`."""

    def build() -> object:
        from mer_core.models.networks.residual_cnn import ResidualCnn
        from mer_core.models.networks.vit import SpectrogramViT

        if name == "vit":
            return SpectrogramViT(outputs)
        return ResidualCnn(outputs=outputs, widths=(16, 32, 64, 128), dropout=0.2)

    return build


def last_layer(name: str) -> str:
    """Name of the layer that gives the outputs."""
    return {"vit": "vit.classifier", "residual-cnn": "head.3"}[name]


def save_networks(folder: Path, name: str, models: dict[int, FoldNetwork], facts: dict) -> None:
    """Write the networks of all folds; `facts` are added to `network.json`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    folds = {}
    for number, model in models.items():
        file = folder / f"fold-{number}.safetensors"
        save_file({key: value.cpu().contiguous() for key, value in model.fitted.network.state_dict().items()}, file)
        checksum = hashlib.sha256(file.read_bytes()).hexdigest()
        folds[str(number)] = {"file": file.name, "sha256": checksum, "slope": model.slope, "offset": model.offset}
    about = {"schema": SCHEMA, "network": name, "style": STYLES[name].name, "outputs": ["sad", "happy"], "folds": folds}
    (folder / FILE).write_text(json.dumps(about | facts, indent=1), encoding="utf-8")


def load_networks(folder: Path) -> tuple[str, dict[int, FoldNetwork]]:
    """Name of the network, and those of the folds, in evaluation mode.

    Raises
    ------
    UserError : files that are missing, damaged, or of another version or network
    """
    file = folder / FILE
    if not file.is_file():
        raise UserError(f"{file} is missing: the run was made by an older version; classify again")
    about = json.loads(file.read_text(encoding="utf-8"))
    if about.get("schema") != SCHEMA or about.get("network") not in NAMES:
        raise UserError(f"{file} has schema {about.get('schema')!r}, expected {SCHEMA}; classify again")
    models, one = {}, np.ones(1)
    for number, entry in about["folds"].items():
        network = builder(about["network"])()
        try:
            network.load_state_dict(_read(folder / entry["file"], entry["sha256"]))
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip()[:120]
            raise UserError(f"{folder / entry['file']} is of another network ({reason}); classify again") from None
        fitted = Fitted(network.eval(), 0 * one, one, None)
        models[int(number)] = FoldNetwork(fitted, entry["slope"], entry["offset"])
    return about["network"], models


def _read(path: Path, checksum: str) -> dict:
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError(f"{path} is missing; classify again")
    if hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
        raise UserError(f"{path} has another checksum than when it was written; classify again")
    return load_file(path)


def probability(models: dict[int, FoldNetwork], name: str, table: np.ndarray) -> float:
    """Probability of happy of a new track from its spectrogram (frames, bands): the mean logit of all folds."""
    one = Spectrograms(STYLES[name], {"": table}, ())
    logits = [model.slope * margin_of(model.fitted, one, [""])[0] + model.offset for model in models.values()]
    return float(sigmoid(np.mean(logits)))
