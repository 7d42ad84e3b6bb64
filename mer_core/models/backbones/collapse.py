"""Whether embeddings still tell clips apart.

A published CLAP checkpoint (`laion/larger_clap_music`) was reported to map all music into one narrow cone, with a mean
pairwise cosine of .92 and zero-shot tags at chance, where `larger_clap_general` has .75 and the unfused one .41. Such
embeddings look healthy one by one, so the check is made on many clips at once.

Only CLAP's space was trained to be compared by cosine. Embeddings of other networks share a large common part (those of
transformers are known for it), which a regressor subtracts: they count as collapsed when next to nothing else is left.
"""

from __future__ import annotations

import numpy as np

COLLAPSED = 0.8  # mean pairwise cosine beyond which a note is due, for spaces trained on cosines
CONSTANT = 0.999  # the same for other networks
COSINE_SPACES = ("clap",)  # beginnings of names
FEWEST_CLIPS = 10


def collapse(embeddings: np.ndarray) -> float:
    """Mean cosine between all pairs of different rows.

    Parameters
    ----------
    embeddings : (n, d) one row a clip (pooled over time), n >= 2; a row of zeros points nowhere and counts as equal to
        every other

    Returns
    -------
    between -1 and 1: near 0 for independent directions, 1 when all clips are the same
    """
    rows = np.asarray(embeddings, dtype=float)
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} embedding has no pair to compare; give at least 2")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    empty, n = int((lengths == 0).sum()), len(rows)
    among_empty = n * (n - 1) - (n - empty) * (n - empty - 1)  # ordered pairs with at least one empty row
    total = float(np.square(units.sum(axis=0)).sum() - (n - empty)) + among_empty
    return float(np.clip(total / (n * (n - 1)), -1, 1))


def collapse_note(name: str, embeddings: np.ndarray) -> str | None:
    """A sentence for the run when the pooled embeddings (n, d) of at least 10 clips have collapsed, else None.

    name : of the backbone
    """
    limit = COLLAPSED if name.startswith(COSINE_SPACES) else CONSTANT
    if len(embeddings) < FEWEST_CLIPS or (found := collapse(embeddings)) <= limit:
        return None
    return (
        f"The {name} embeddings of {len(embeddings)} clips hardly differ (mean pairwise cosine {found:.3f}, above "
        f"{limit}): they may have collapsed, so compare another backbone before you rely on them."
    )
