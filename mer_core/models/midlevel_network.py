"""The schemes on spectrograms: two networks, each trained on half of the tracks and stopped on the other half.

What a network says of the half that it has not learned is unseen, so that the linear map can be fitted on all tracks;
the mean of both predicts. In the scheme joint the network's own last layer gives the second loss; the map that is used
is fitted again, because that layer has seen its tracks. Every quality and every rating counts the same in the loss.

Recipe of Chowdhury et al. 2019 (arXiv 1907.03572): Adam, 5e-4, batches of 8, windows of 10 s at random places, early
stopping after 50 epochs without gain; the rate falls to zero over the epochs that are allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.errors import UserError
from mer_core.models.midlevel import LinearMap, fit_map
from mer_core.models.training.recipe import Recipe
from mer_core.models.training.spectrograms import Spectrograms
from mer_core.models.training.tracks import Fitted, fit_tracks, predict_tracks

HALVES = 2
FINE_RATE = 2e-4  # of networks that have learned another corpus before
Report = Callable[[dict], None]


@dataclass(frozen=True)
class Shape:
    """How a network is built: outputs, and qualities in the bottleneck (0 for none)."""

    outputs: int
    qualities: int = 0

    def make(self, start: dict | None = None, level: pd.DataFrame | None = None) -> object:
        """The network, beginning with what an earlier one has learned.

        start : from `pretrained`; level : mean and spread (rows) of the new targets (columns), in whose z-scores the
        new network answers where the earlier one answered in those of its own
        """
        import torch

        from mer_core.models.networks.midlevel_vgg import MidlevelVgg, fast_half

        network = MidlevelVgg(self.outputs, self.qualities)
        if start is not None:
            own = network.state_dict()
            layer = "qualities" if self.qualities else "emotions"  # what were outputs may be the bottleneck now
            fitting = {name: value for name, value in start.items() if name.startswith("features.")}
            if start["emotions.weight"].shape == own[f"{layer}.weight"].shape:
                count = len(start["centre"])
                centre, spread = (
                    torch.tensor(level.iloc[row, :count].to_numpy(), dtype=torch.float32) for row in (0, 1)
                )
                scale = start["spread"] / spread
                fitting[f"{layer}.weight"] = start["emotions.weight"] * scale[:, None]
                fitting[f"{layer}.bias"] = start["emotions.bias"] * scale + (start["centre"] - centre) / spread
            network.load_state_dict(own | fitting)
        network.half = fast_half()
        return network.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class NetworkScheme:
    """A scheme's networks; `trade` is there for likeness with the schemes on embeddings, where it is chosen."""

    scheme: str
    shape: Shape
    networks: tuple[Fitted, ...]
    map: LinearMap | None = None
    trade: float | None = None

    def predict(self, sounds: Spectrograms, tracks: list[str]) -> tuple[np.ndarray | None, np.ndarray]:
        """Qualities (n, q), None for a2e, and ratings (n, t): the mean of the networks."""
        values = np.mean([predict_tracks(fitted, sounds, tracks) for fitted in self.networks], axis=0)
        if self.map is None:
            return None, values
        qualities = values[:, : len(self.map.qualities)]
        return qualities, self.map.predict(qualities)


def recipe_of(epochs: int, seed: int, started: bool = False) -> Recipe:
    """How the networks are trained; `started` on another corpus."""
    return Recipe(
        epochs=epochs,
        batch_size=8,
        learning_rate=FINE_RATE if started else 5e-4,
        weight_decay=0.0,
        optimiser="adam",
        schedule="cosine",
        patience=50,
        seed=seed,
    )


def fit_network(
    scheme: str,
    sounds: Spectrograms,
    qualities: pd.DataFrame,
    ratings: pd.DataFrame,
    halves: pd.Series,
    recipe: Recipe,
    folder: Path,
    start: dict | None = None,
    report: Report | None = None,
) -> NetworkScheme:
    """Train a scheme's networks on tracks.

    Parameters
    ----------
    qualities (n, q), ratings (n, t) : index track_id
    halves : 0 or 1 for each track, groups kept together
    folder : for checkpoints
    start : weights to begin with, from `pretrained`
    """
    wanted, shape = {
        "a2e": (ratings, Shape(ratings.shape[1])),
        "a2mid2e": (qualities, Shape(qualities.shape[1])),
        "joint": (pd.concat([qualities, ratings], axis=1), Shape(ratings.shape[1], qualities.shape[1])),
    }[scheme]
    targets = {track: row for track, row in zip(wanted.index, wanted.to_numpy(dtype=float), strict=True)}
    networks = []
    unseen = pd.DataFrame(np.nan, wanted.index, wanted.columns)
    for half in range(HALVES):
        learned, held = (list(wanted.index[(halves.loc[wanted.index] == half).to_numpy() == side]) for side in (1, 0))
        known = wanted.loc[learned]
        level = pd.DataFrame([known.mean(), known.std(ddof=0).clip(lower=1e-6)])
        fitted = fit_tracks(
            lambda level=level: shape.make(start, level),
            sounds,
            targets,
            learned,
            held,
            recipe,
            folder / f"{scheme}-{half}",
            report=report,
        )
        unseen.loc[held] = predict_tracks(fitted, sounds, held)
        fitted.network.half = False
        networks.append(fitted)
    names = list(qualities)
    found = None if scheme == "a2e" else fit_map(unseen[names], ratings)
    return NetworkScheme(scheme, shape, tuple(networks), found)


def pretrained(
    scheme: str,
    sounds: Spectrograms,
    qualities: pd.DataFrame,
    ratings: pd.DataFrame | None,
    held: pd.Index,
    recipe: Recipe,
    folder: Path,
    report: Report | None = None,
) -> dict:
    """Weights of a network from another corpus's sound to its ratings (a2e), or to its qualities (the others).

    held : its tracks that say when to stop. With them, `centre` and `spread` (k,) of what it has learned.
    """
    import torch

    wanted = ratings if scheme == "a2e" else qualities
    targets = {track: row for track, row in zip(wanted.index, wanted.to_numpy(dtype=float), strict=True)}
    learned = [track for track in wanted.index if track not in held]
    make, folder = Shape(wanted.shape[1]).make, folder / f"before-{scheme}"
    fitted = fit_tracks(make, sounds, targets, learned, list(held), recipe, folder, report=report)
    weights = {name: value.detach().clone() for name, value in fitted.network.state_dict().items()}
    scales = {name: torch.tensor(getattr(fitted, name), dtype=torch.float32) for name in ("centre", "spread")}
    return weights | scales


def save_network(folder: Path, final: NetworkScheme) -> None:
    """Write networks (`network-0.safetensors`, ...) and the numbers beside them (`network.json`)."""
    import json

    from safetensors.torch import save_file

    for number, fitted in enumerate(final.networks):
        state = {name: value.contiguous() for name, value in fitted.network.state_dict().items()}
        save_file(state, folder / f"network-{number}.safetensors")
    plain = {
        "scheme": final.scheme,
        "outputs": final.shape.outputs,
        "qualities": final.shape.qualities,
        "centre": [fitted.centre.tolist() for fitted in final.networks],
        "spread": [fitted.spread.tolist() for fitted in final.networks],
        "map": None if final.map is None else final.map.as_dict(),
    }
    (folder / "network.json").write_text(json.dumps(plain), encoding="utf-8")


def load_network(folder: Path) -> NetworkScheme:
    """Read what `save_network` wrote.

    Raises
    ------
    UserError : it is missing or damaged
    """
    import json

    from safetensors.torch import load_file

    from mer_core.models.midlevel import read_map

    try:
        plain = json.loads((folder / "network.json").read_text(encoding="utf-8"))
        shape, networks = Shape(plain["outputs"], plain["qualities"]), []
        for number, (centre, spread) in enumerate(zip(plain["centre"], plain["spread"], strict=True)):
            network = shape.make()
            network.load_state_dict(load_file(folder / f"network-{number}.safetensors"))
            network.half = False
            networks.append(Fitted(network.eval(), np.array(centre), np.array(spread), None))
        found = None if plain["map"] is None else read_map(plain["map"])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"the network in {folder} is missing or damaged ({error}): make the run again") from error
    return NetworkScheme(plain["scheme"], shape, tuple(networks), found)
