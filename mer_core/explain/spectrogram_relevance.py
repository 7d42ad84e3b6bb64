"""Why a network that was trained on spectrograms calls a track happy: relevance of its logit on time and frequency.

logit = offset + slope * mean over windows of (second output - first output). Spectrograms lie in [-1, 0], -1 being
silence; relevance is relative to silence, whose own share is counted among the biases. Without that, the loudest places
of the music, which are 0, could have none.
"""

from __future__ import annotations

import numpy as np

from mer_core.errors import UserError
from mer_core.explain.maps import RelevanceMap
from mer_core.models.training.spectrograms import MelStyle, even_windows

SILENCE = -1.0


def relevance_of_spectrogram(
    network: object,
    table: np.ndarray,
    style: MelStyle,
    target: str,
    slope: float,
    offset: float,
    rule: str,
    reference: str,
) -> RelevanceMap:
    """Relevance map of a track's logit.

    Parameters
    ----------
    network : in evaluation mode, on the CPU, from (b, frames, bands) to two outputs
    table : (frames, bands) of the track, in [-1, 0]
    rule : key of `mer_core.explain.lrp_rules.COMPOSITES`

    Raises
    ------
    UserError : silence, or an unknown rule
    """
    if float(np.max(table)) <= SILENCE:
        raise UserError("the clip is silent: nothing in it can be relevant; explain a clip with sound")
    windows = even_windows(table, style.frames).astype(np.float32)
    # The same windows of the frames' own numbers say where each value belongs.
    places = even_windows(np.arange(len(table))[:, None], style.frames)[:, :, 0]
    found = _propagate(network, windows, slope, rule)
    values = np.zeros((1, *table.shape))
    np.add.at(values[0], places.ravel(), found.values[0].reshape(-1, table.shape[1]))
    frame_s, nothing = style.hop / style.rate, np.zeros(1)
    duration_s = (len(table) - 1) * frame_s
    repeated = len(table) < style.frames
    return RelevanceMap(
        values=values.astype(np.float32),
        seconds=np.arange(len(table)) * frame_s,
        band_hz=style.band_hz(),
        edges_hz=(float(style.low), float(style.high)),
        targets=(target,),
        base=np.array([offset]),
        predicted=offset + found.outputs.astype(float),
        remainder=np.stack([nothing, found.biases, found.stabilisers, nothing]),
        conservation_error=found.error,
        rule=rule,
        reference=reference,
        heard_s=duration_s,
        duration_s=duration_s,
        note=f"shorter than the window of {style.seconds:g} s, so it was repeated" if repeated else None,
    )


def _propagate(network: object, windows: np.ndarray, slope: float, rule: str):
    """Relevance of the windows (w, frames, bands) for slope * mean of (second output - first output)."""
    import torch

    from mer_core.explain.lrp_engine import composite_of, explain_outputs
    from mer_core.models.networks.above_silence import AboveSilence

    share, inputs = slope / len(windows), torch.from_numpy(windows)

    def logit(outputs):
        return share * (outputs[:, 1] - outputs[:, 0]).sum()

    if composite_of(rule).first:  # its first layer has a rule that knows the lowest value
        return explain_outputs(network, inputs, logit, rule, (SILENCE, 0.0))
    return explain_outputs(AboveSilence(network, SILENCE).eval(), inputs - SILENCE, logit, rule)
