"""Losses of predictions (b, t) against targets (b, t), or of logits (b, c) against classes (b,)."""

from __future__ import annotations

import torch
from torch.nn import functional


def ccc_loss(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """1 - concordance correlation (Lin 1989), mean over targets; it needs more than one row to say anything."""
    mean_p, mean_t = predicted.mean(0), true.mean(0)
    covariance = ((predicted - mean_p) * (true - mean_t)).mean(0)
    spread = predicted.var(0, unbiased=False) + true.var(0, unbiased=False) + (mean_p - mean_t) ** 2
    return (1 - 2 * covariance / (spread + 1e-8)).mean()


LOSS_FUNCTIONS = {
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "huber": functional.huber_loss,
    "ccc": ccc_loss,
    "cross-entropy": functional.cross_entropy,
}
