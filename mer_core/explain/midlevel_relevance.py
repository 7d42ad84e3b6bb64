"""Two levels: from a rating to the qualities that make it, and from these to the place in the sound where they are.

After Haunschmid, Chowdhury & Widmer 2019, "Two-level explanations in music emotion recognition" (arXiv 1905.11760). A
rating is a linear function of qualities, and relevance propagation is linear in what is propagated, so the map of a
rating is the sum of its qualities' maps times their weights, exactly.

A head with a Gaussian kernel is no sum over dimensions. Its integrated gradients (M. Sundararajan et al., ICML 2017),
along the straight line from the average training track, are: they add up to prediction - base.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.pipeline import Pipeline

from mer_core.errors import UserError
from mer_core.explain.maps import RelevanceMap
from mer_core.explain.relevance_heads import AdditiveHead, regression_head
from mer_core.models.kernel import GaussianRidge
from mer_core.models.midlevel import LinearMap
from mer_core.models.training.spectrograms import LogBandStyle, even_windows

POINTS = 24  # of the line integral; the kernel is wide, so that it is exact to 1e-9
RULE = "gamma-silence"
REFERENCE = "the network's biases"


def quality_head(model: Pipeline, background: np.ndarray, qualities: tuple[str, ...]) -> AdditiveHead:
    """A head of qualities as a sum over dimensions; background (m, d) : the embeddings it has learned."""
    if not isinstance(model[-1], GaussianRidge):
        return regression_head(model, background, qualities)
    scores = np.asarray(model[:-1].transform(background), dtype=float)
    middle = scores.mean(axis=0)
    order = np.argsort(scores, axis=0, kind="stable")
    columns = zip(middle, scores.T, np.asarray(background, dtype=float).T, order.T, strict=True)
    reference = np.array([np.interp(at, column[rows], values[rows]) for at, column, values, rows in columns])

    def contributions(rows: np.ndarray) -> np.ndarray:
        ends = np.asarray(model[:-1].transform(np.asarray(rows, dtype=float)), dtype=float)
        return np.stack([kernel_contributions(model[-1], middle, end) for end in ends])

    base = model[-1].predict(middle[None])[0]
    return AdditiveHead(qualities, base, contributions, reference, np.asarray(background, dtype=float).std(axis=0))


def kernel_contributions(ridge: GaussianRidge, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(d, t) integrated gradients from `start` (d,) to `end`; they add up to the difference of the predictions."""
    places, shares = np.polynomial.legendre.leggauss(POINTS)
    total = np.zeros((len(start), ridge.weights_.shape[1]))
    for place, share in zip((places + 1) / 2, shares / 2, strict=True):
        at = start + place * (end - start)
        kernel = np.exp(-ridge.gamma_ * ((at - ridge.rows_) ** 2).sum(axis=1))
        pull = kernel[:, None] * ridge.weights_
        total += share * 2 * ridge.gamma_ * (ridge.rows_.T @ pull - np.outer(at, pull.sum(axis=0)))
    return (end - start)[:, None] * total


def part_of_head(head: AdditiveHead, embedding: np.ndarray, columns: slice, whole: np.ndarray) -> AdditiveHead:
    """What one of several joined embeddings adds for one track: its own columns of all contributions.

    embedding (d,) of the track; whole (d, t) : contributions of all columns. The base stays with the whole.
    """
    fixed = whole[columns]
    return AdditiveHead(
        head.targets,
        np.zeros(len(head.targets)),
        lambda rows: np.repeat(fixed[None], len(rows), axis=0),
        head.reference[columns],
        head.spread[columns],
    )


def added(first: RelevanceMap, others: list[RelevanceMap], base: np.ndarray, unheard: np.ndarray) -> RelevanceMap:
    """Sum of maps on one grid; `unheard` (t,) : contributions of networks on other grids, counted as missing."""
    values, remainder = first.values.copy(), first.remainder.copy()
    error, predicted = first.conservation_error, base + first.predicted + unheard
    for other in others:
        values += other.values
        remainder = remainder + other.remainder
        error, predicted = np.maximum(error, other.conservation_error), predicted + other.predicted
    remainder[0] += unheard
    return replace(first, values=values, remainder=remainder, base=base, predicted=predicted, conservation_error=error)


def two_levels(found: RelevanceMap, linear: LinearMap) -> RelevanceMap:
    """Maps of qualities, now in standard deviations, and of the ratings they make, in rating points.

    found : of the qualities of `linear`, in their own units
    """
    order = [found.targets.index(name) for name in linear.qualities]
    q = len(order)
    factors = np.hstack([np.diag(1 / linear.spread), linear.weights / linear.spread[:, None]])  # (q, q + t)
    start = np.concatenate([np.zeros(q), linear.intercept])

    def combined(values: np.ndarray) -> np.ndarray:
        return start + (values[order] - linear.centre) @ factors

    size = np.abs(factors)
    return replace(
        found,
        values=np.einsum("qfb,qt->tfb", found.values[order], factors).astype(np.float32),
        targets=(*linear.qualities, *linear.ratings),
        base=combined(found.base),
        predicted=combined(found.predicted),
        remainder=found.remainder[:, order] @ factors,
        conservation_error=(found.conservation_error[order] @ size) / size.sum(axis=0),
    )


def relevance_of_networks(model, table: np.ndarray, style: LogBandStyle, rule: str = RULE) -> RelevanceMap:
    """Map of the qualities that networks trained on spectrograms hear: the mean of their maps.

    Parameters
    ----------
    model : `mer_core.models.midlevel_network.NetworkScheme` with a map
    table : (frames, bands) of the track

    Raises
    ------
    UserError : silence, or an unknown rule
    """
    if float(np.max(table)) <= 0:
        raise UserError("the clip is silent: nothing in it can be relevant; explain a clip with sound")
    names = model.map.qualities
    windows = even_windows(table, style.frames).astype(np.float32)
    places = even_windows(np.arange(len(table))[:, None], style.frames)[:, :, 0]
    parts = [_of_network(fitted, windows, len(names), rule, len(model.networks)) for fitted in model.networks]
    values = np.zeros((len(names), *table.shape))
    for part in parts:
        for quality, one in enumerate(part.values):
            np.add.at(values[quality], places.ravel(), one.reshape(-1, table.shape[1]))
    centre = np.mean([fitted.centre[: len(names)] for fitted in model.networks], axis=0)
    biases, stabilisers = (sum(getattr(part, name) for part in parts) for name in ("biases", "stabilisers"))
    nothing, frame_s = np.zeros(len(names)), 1 / style.per_second
    duration_s = len(table) * frame_s
    short = len(table) < style.frames
    return RelevanceMap(
        values=values.astype(np.float32),
        seconds=np.arange(len(table)) * frame_s,
        band_hz=style.band_hz(),
        edges_hz=(float(style.low), float(style.high)),
        targets=names,
        base=centre,
        predicted=centre + sum(part.outputs for part in parts),
        remainder=np.stack([nothing, biases, stabilisers, nothing]),
        conservation_error=np.max([part.error for part in parts], axis=0),
        rule=rule,
        reference=REFERENCE,
        heard_s=duration_s,
        duration_s=duration_s,
        note=f"shorter than the window of {style.seconds:g} s, so it was repeated" if short else None,
    )


def _of_network(fitted, windows: np.ndarray, count: int, rule: str, networks: int):
    """Relevance of the windows for the qualities less their mean, a network's share of them."""
    import torch

    from mer_core.explain.lrp_engine import explain_outputs

    scale = torch.from_numpy((fitted.spread[:count] / len(windows) / networks).astype(np.float32))
    highest = float(windows.max())
    network = fitted.network.cpu().eval()
    return explain_outputs(
        network, torch.from_numpy(windows), lambda found: found[:, :count].sum(0) * scale, rule, (0.0, highest)
    )
