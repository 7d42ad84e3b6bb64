"""What a training depends on, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

OPTIMISERS = ("adam", "adamw")
LOSSES = ("mse", "mae", "huber", "ccc", "cross-entropy")
SCHEDULES = ("constant", "plateau", "cosine")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    epochs : at most; patience : epochs without a better validation score before training stops
    learning_rate, weight_decay, optimiser : of the optimiser; parameter groups may bring their own rate
    loss : on standardised ratings, or on classes (cross-entropy)
    schedule : "plateau" halves the rate after patience / 2 epochs without gain; "cosine" falls to zero at the end
    warm_up : epochs over which the rate rises linearly from zero
    clip : largest norm of a step's gradient
    averaging : decay per step of the moving average of weights that is validated and kept; 0 for none
    seed : of the initial weights' use: order, crops, augmentation, dropout
    """

    epochs: int = 50
    batch_size: int = 8
    learning_rate: float = 5e-4
    weight_decay: float = 1e-3
    optimiser: str = "adamw"
    loss: str = "mse"
    schedule: str = "plateau"
    warm_up: int = 0
    clip: float = 1.0
    patience: int = 20
    averaging: float = 0.0
    seed: int = 42
