"""Why a rating was predicted, on the clip's own time and frequency: relevance relative to the average track.

Definition
----------
A head predicts base + sum over j of c_j from the track's embedding e, the mean over windows (`relevance_heads`). base
is the mean prediction, c_j is exact, and c_j = 0 at m_j, the value of dimension j in the average track.

1. Windows. k_j = c_j / (e_j - m_j) is dimension j's slope between the average track and this one. Since e_j is the mean
   over W windows, k_j (e_jw - m_j) / W is window w's share of c_j. (Where e_j is within a tenth of a standard deviation
   of m_j the slope is held down; c_j is small there.)
2. What is there and what is missing. Let a = e_jw - z_j be the unit's activation, z_j its value when it is off. Of the
   distance from the average track, only what the unit has more than the average, on the same side of z_j, is in the
   clip: p = a - (m_j - z_j clipped to between 0 and a). It is handed on: k_j p / W, which is never more than the
   activation's own effect, since p lies between 0 and a. What the average track has and this one has not, can be
   pointed at nowhere in the clip. It is counted as *missing*.
3. Network. k_j p / W goes from unit j to the inputs in the proportions of layer-wise relevance propagation. Shifts of
   norms, biases and learned tokens that do not depend on the clip take their own part, counted as *biases*.

prediction = base + sum of the map + missing + biases + stabilisers + padding, each computed on its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mer_core.errors import UserError
from mer_core.explain.maps import RelevanceMap
from mer_core.explain.relevance_grids import grid_of, lay_out
from mer_core.explain.relevance_heads import AdditiveHead
from mer_core.models.backbones.listener import Listener

REFERENCE = "mean prediction of the training tracks"
NEAR = 0.1  # standard deviations from the reference, within which slopes are held down
SILENT = 1e-5  # of full scale
BATCH = 4  # windows at once: the front filters of musicnn need 100 MB for each


def relevance_of_track(
    listener: Listener,
    head: AdditiveHead,
    samples: np.ndarray,
    targets: tuple[str, ...] | None = None,
    rule: str | None = None,
    layer: str | None = None,
) -> RelevanceMap:
    """Relevance map of a clip.

    Parameters
    ----------
    samples : (n,) float32, mono, at the backbone's rate
    targets : of the head's; all of them when None
    rule : key of `mer_core.explain.lrp_rules.COMPOSITES`; None for the one that suits the backbone
    layer : of the backbone, on whose mean over windows the head was fitted; the first when None

    Raises
    ------
    UserError : silence, a clip below 1 s, an unknown rule or target, a backbone without frames and bands
    """
    backbone = listener.backbone
    grid, layer = grid_of(backbone), layer or backbone.layers[0]
    rule = rule or grid.rule
    targets = targets or head.targets
    if unknown := [target for target in targets if target not in head.targets]:
        raise UserError(f"the head does not predict {', '.join(unknown)}; choose from {', '.join(head.targets)}")
    if len(samples) and np.abs(samples).max() < SILENT:
        raise UserError("the clip is silent: nothing in it can be relevant; explain a clip with sound")
    windows = listener.front_end(samples)
    chosen = [head.targets.index(target) for target in targets]
    # Shares are of the mean over all windows. Where they go through the network at once, nothing is heard twice.
    embedding = listener.listen(windows)[layer] if len(windows) > BATCH else None
    seeds = _Seeds(head, chosen, embedding)
    found = _propagate(listener, windows, layer, seeds, rule, grid.floor)
    contributions = seeds.contributions
    duration_s = len(samples) / backbone.rate
    starts = np.arange(len(windows)) * backbone.hop_s
    repeated = backbone.short == "repeat" and listener.note(samples) is not None
    maps = np.stack([grid.axes(one) for one in found.values])
    values, padding = lay_out(maps, starts, grid, duration_s, repeated)
    base = head.base[chosen]
    missing = contributions.sum(axis=0) - found.seeded
    return RelevanceMap(
        values=values,
        seconds=grid.offset_s + np.arange(values.shape[1]) * grid.frame_s,
        band_hz=np.asarray(grid.band_hz),
        edges_hz=grid.edges_hz,
        targets=tuple(targets),
        base=base,
        predicted=base + contributions.sum(axis=0),
        remainder=np.stack([missing, found.biases, found.stabilisers, padding]),
        conservation_error=found.error,
        rule=rule,
        reference=REFERENCE,
        heard_s=min(duration_s, float(starts[-1]) + backbone.window_s),
        duration_s=duration_s,
        note=listener.note(samples),
    )


class _Seeds:
    """What each unit hands on in each window; see 1 and 2 of the definition."""

    def __init__(self, head: AdditiveHead, chosen: list[int], embedding: np.ndarray | None):
        """`chosen` : targets of the head (t,); `embedding` : (w, d), or None and `settle` is called before weights."""
        self.head, self.chosen, self.reference = head, chosen, head.reference
        self.contributions: np.ndarray | None = None
        if embedding is not None:
            self.settle(embedding)

    def settle(self, embedding: np.ndarray) -> None:
        """Take the windows' embeddings (w, d), unless they are known."""
        if self.contributions is not None:
            return
        self.embedding = embedding.astype(np.float64)
        mean = self.embedding.mean(axis=0)
        self.contributions = self.head.contributions(mean[None])[0][:, self.chosen]
        distance = mean - self.reference
        least = np.maximum(distance**2, (NEAR * self.head.spread) ** 2)
        slopes = self.contributions * (distance / np.where(least == 0, 1, least))[:, None]
        self.slopes = slopes.T / len(embedding)

    def weights(self, start: int, stop: int, zero: np.ndarray) -> np.ndarray:
        """(t, windows, d): what is handed on, divided by the activation; zero : (d,) where units are off."""
        activation, average = self.embedding[start:stop] - zero, self.reference - zero
        present = activation - np.clip(average, np.minimum(activation, 0), np.maximum(activation, 0))
        share = np.divide(present, activation, out=np.zeros_like(present), where=activation != 0)
        return self.slopes[:, None, :] * share


@dataclass(frozen=True)
class _Found:
    """Relevance of all windows (t, w, ...); the rest (t,)."""

    values: np.ndarray
    seeded: np.ndarray
    biases: np.ndarray
    stabilisers: np.ndarray
    error: np.ndarray


def _propagate(listener: Listener, windows, layer: str, seeds: _Seeds, rule: str, floor: float | None) -> _Found:
    """Hand relevance on through the network, some windows at a time."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with two, the backward pass of musicnn's filters takes ten times as long
    try:
        return _propagated(listener, windows, layer, seeds, rule, floor)
    finally:
        torch.set_num_threads(threads)


def _propagated(listener: Listener, windows, layer: str, seeds: _Seeds, rule: str, floor: float | None) -> _Found:
    import torch

    from mer_core.explain.lrp_engine import explain_outputs

    finite = windows[torch.isfinite(windows)]
    bounds = (float(finite.min()) if floor is None else floor, float(finite.max()))
    maps, sums = [], []
    for start in range(0, len(windows), BATCH):
        stop, seen = min(start + BATCH, len(windows)), {}

        def choose(outputs, start=start, stop=stop, seen=seen):
            units = outputs[layer]
            seeds.settle(units.detach().numpy())
            zero = getattr(units, "natural_zero", torch.zeros(1)).reshape(-1).double().numpy()
            weights = seeds.weights(start, stop, zero)
            active = weights * (seeds.embedding[start:stop] - zero)
            seen |= {"seeded": active.sum((1, 2)), "size": np.abs(active).sum((1, 2))}
            seen["off"] = (weights * zero).sum((1, 2))  # part of the shift of a last norm, and not handed on
            return (torch.from_numpy(weights.astype(np.float32)) * units).sum((1, 2))

        part = explain_outputs(listener.network, windows[start:stop], choose, rule, bounds)
        maps.append(part.values)
        off_map = part.biases - seen["off"] + part.stabilisers
        lost = part.values.sum(axis=tuple(range(1, part.values.ndim)), dtype=np.float64) + off_map - seen["seeded"]
        sums.append([seen["seeded"], part.biases - seen["off"], part.stabilisers, lost, seen["size"]])
    seeded, biases, stabilisers, lost, size = np.sum(sums, axis=0)
    return _Found(
        np.concatenate(maps, axis=1), seeded, biases, stabilisers, np.abs(lost) / np.where(size == 0, 1, size)
    )
