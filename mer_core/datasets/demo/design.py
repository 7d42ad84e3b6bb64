"""The experiment behind the demo corpus: which cues are set how, and what listeners are simulated to answer.

After Eerola, Friberg & Bresin (2013), "Emotional expression in music: contribution, linearity, and additivity of
primary musical cues", Frontiers in Psychology 4:487, doi:10.3389/fpsyg.2013.00487. They varied six cues of the same
music in an optimised factorial design and found that the cues act linearly and add up, explain 77-89 % of the
variance of the ratings, and matter in the order mode, tempo, register, dynamics, articulation, timbre.

That much is theirs. The weights below are OURS: chosen to have that order, that size, and signs that agree with the
literature on each cue. No person has rated these clips.

Conventions
-----------
Valence and arousal on a 1-9 scale, valence first. Cue levels count from 0 (mode: 0 minor, 1 major; else 0-3, upwards:
faster, higher, louder, shorter notes, brighter sound). A cue's z-score has mean 0 and variance 1 over the whole design.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CUES = ("mode", "tempo", "register", "dynamics", "articulation", "timbre")
LEVEL_NAMES = {
    "mode": ("minor", "major"),
    "tempo": ("slow", "moderate", "brisk", "fast"),
    "register": ("low", "middle", "high", "very high"),
    "dynamics": ("very soft", "soft", "loud", "very loud"),
    "articulation": ("legato", "portato", "detached", "staccato"),
    "timbre": ("recorder and voices", "piano", "oboes and strings", "brass"),
}
CONDITIONS = 16  # per piece

SCALE = (1.0, 9.0)
TARGETS = ("valence", "arousal")
INTERCEPT = 5.0
# Rating points per standard deviation of the cue, in the order of CUES.
WEIGHTS = {
    "valence": (0.80, 0.40, 0.45, -0.20, 0.30, -0.10),
    "arousal": (0.10, 0.65, 0.35, 0.50, 0.35, 0.30),
}
PIECE_SD = 0.38  # rating points by which pieces differ, whatever the cues
RATERS = 10
RATER_BIAS_SD = 0.5  # each simulated rater answers this much higher or lower throughout
RATER_NOISE_SD = 1.1  # and this much differently from clip to clip


@dataclass(frozen=True)
class Ratings:
    """Simulated ratings of n clips; every array is (n, 2), valence then arousal.

    contributions : (n, 6, 2), each cue's share; INTERCEPT + their sum over cues is the noise-free rating
    piece : what the piece adds
    mean, spread : mean and standard deviation over the simulated raters, each of whom stays within SCALE
    clipped : share of the single answers that SCALE cut off
    """

    contributions: np.ndarray
    piece: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    clipped: float


def cue_levels(n_pieces: int, seed: int) -> np.ndarray:
    """Levels of the six cues, int (n_pieces, 16, 6): the z-scores of any two cues are uncorrelated in every piece.

    The five cues with four levels fill the orthogonal array OA(16, 4^5, strength 2): every pair of levels of every
    two of them occurs once in a piece. Levels are relabelled at random from one pair of pieces to the next. No degree
    of freedom is left for mode, so it shares the one contrast that is irrelevant when cues act linearly: outer
    against inner levels of one other cue. The second piece of a pair has all levels of the first reversed (a
    foldover), which undoes that sharing and keeps every cue uncorrelated also with the product of any two.
    """
    rng = np.random.default_rng([seed, 1])
    levels = np.empty((n_pieces, CONDITIONS, len(CUES)), int)
    for piece in range(n_pieces):
        if piece % 2 == 0:
            relabelled = [rng.permutation(4)[column] for column in _orthogonal_array().T]
            mode = np.isin(relabelled[piece // 2 % 5], (0, 3))
            block = np.column_stack([mode, *relabelled])
        else:
            block = np.array([1, 3, 3, 3, 3, 3]) - block
        levels[piece] = rng.permutation(block)
    return levels


def _orthogonal_array() -> np.ndarray:
    """OA(16, 4^5, 2) by the Bose construction: columns a, b, a + kb (k = 1, 2, 3) over the field of four elements."""
    product = np.array([[0, 0, 0, 0], [0, 1, 2, 3], [0, 2, 3, 1], [0, 3, 1, 2]])
    a, b = np.divmod(np.arange(16), 4)
    return np.column_stack([a, b, *(a ^ product[k, b] for k in (1, 2, 3))])  # addition in this field is XOR


def z_scores(levels: np.ndarray) -> np.ndarray:
    """Cue levels (..., 6) as z-scores of the full design: mode -1 or 1, the others -1.34, -0.45, 0.45, 1.34."""
    mean = np.array([0.5] + [1.5] * 5)
    deviation = np.array([0.5] + [np.sqrt(1.25)] * 5)
    return (levels - mean) / deviation


def simulate_ratings(z: np.ndarray, pieces: np.ndarray, seed: int) -> Ratings:
    """Ratings of RATERS simulated listeners.

    z : (n, 6) z-scores of the cues; pieces : (n,) number of each clip's piece, 0 and up
    """
    rng = np.random.default_rng([seed, 2])
    contributions = z[:, :, None] * np.array([WEIGHTS[target] for target in TARGETS]).T
    # Standardised, so that pieces and raters as a whole neither shift the ratings nor change how much the cues explain;
    # evenly spaced, so that no piece stands out.
    spaced = np.linspace(-1, 1, pieces.max() + 1)
    piece = PIECE_SD * _standardised(np.column_stack([rng.permutation(spaced), rng.permutation(spaced)]))[pieces]
    bias = RATER_BIAS_SD * _standardised(rng.normal(size=(RATERS, 2)))
    felt = INTERCEPT + contributions.sum(axis=1) + piece
    answers = felt[None] + bias[:, None] + RATER_NOISE_SD * rng.normal(size=(RATERS, *felt.shape))
    within = np.clip(answers, *SCALE)
    clipped = float(np.mean(within != answers))
    return Ratings(contributions, piece, within.mean(axis=0), within.std(axis=0, ddof=1), clipped)


def _standardised(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=0)
    spread = centred.std(axis=0)
    return centred / np.where(spread > 0, spread, 1.0)


def documentation() -> dict:
    """What `weights.json` holds: the planted causes in words and numbers."""
    by_cues = {target: sum(weight**2 for weight in WEIGHTS[target]) for target in TARGETS}
    rest = PIECE_SD**2 + RATER_NOISE_SD**2 / RATERS
    return {
        "about": "Planted by this project, after the findings of Eerola, Friberg & Bresin (2013): cues act linearly "
        "and add up, in this order of importance. The weights are ours; no person has rated these clips.",
        "reference": "Eerola, T., Friberg, A. & Bresin, R. (2013). Frontiers in Psychology 4:487. "
        "https://doi.org/10.3389/fpsyg.2013.00487",
        "unit": "rating points (scale 1-9) per standard deviation of the cue",
        "order_of_importance": list(CUES),
        "levels": {cue: list(names) for cue, names in LEVEL_NAMES.items()},
        "intercept": {target: INTERCEPT for target in TARGETS},
        "weights": {target: dict(zip(CUES, WEIGHTS[target], strict=True)) for target in TARGETS},
        "piece_sd": PIECE_SD,
        "raters": RATERS,
        "rater_bias_sd": RATER_BIAS_SD,
        "rater_noise_sd": RATER_NOISE_SD,
        "expected_share_of_variance_explained_by_cues": {
            target: round(variance / (variance + rest), 3) for target, variance in by_cues.items()
        },
    }
