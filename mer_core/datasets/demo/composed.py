"""The composed corpus: many clips of other pieces than the demo's, to train networks on before they see any ratings.

About 300 pieces (chorales, movements of string quartets, dance tunes and airs; `composed_pieces.csv`, made by
`choosing`), each played four times for exactly ten seconds, twice in major and twice in minor. Every other cue is
drawn anew for each clip, independently of everything else: tempo, register, dynamics and articulation anywhere between
the demo's lowest and highest level, timbre among the demo's four ensembles and six further ones. Ratings follow the
demo's stated rule (`design.WEIGHTS`) from the same six cues and are as synthetic.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.datasets.demo import design, render
from mer_core.datasets.demo.pieces import Piece

PIECES_FILE = Path(__file__).with_name("composed_pieces.csv")
COLUMNS = (
    *("slug", "title", "composer", "published", "source", "number", "tonic", "mode", "start", "end", "bar"),
    *("downbeat", "beat", "parts", "chords", "chord_length", "pattern", "incipit"),
)
# Accompaniments of a tune, for a chord of a length: (offset, length, tone), tone 0 = bass, 1-3 = root, third, fifth.
PATTERNS = {
    "striding": lambda n: ((0, n, 0), *((n / 2, n / 2, tone) for tone in (1, 2, 3))),
    "rolling": lambda n: ((0, n, 0), (n / 3, n / 3, 3), (2 * n / 3, n / 3, 2)),
    "held": lambda n: tuple((0, n, tone) for tone in (0, 1, 2, 3)),
    "broken": lambda n: ((0, n, 0), *((place * n / 4, n / 4, tone) for place, tone in enumerate((1, 3, 2, 3)))),
}
PERFORMANCES = 4  # of a piece
SECONDS = 10.0
DESCRIPTION = (
    "Some 300 public-domain pieces, each played four times for ten seconds; mode is balanced within a piece and the "
    "other five cues are drawn independently. No piece of the demo corpus is among them. Ratings are simulated by the "
    "demo's rule: no person has rated these clips. Files as in the demo corpus."
)


@cache
def pieces() -> tuple[Piece, ...]:
    """The pieces, as `composed_pieces.csv` holds them."""
    table = pd.read_csv(PIECES_FILE, keep_default_na=False, dtype={"number": str, "chords": str})
    found = []
    for row in table.drop(columns="incipit").to_dict("records"):
        row["number"] = int(row["number"]) if row["number"] else None
        row["parts"] = tuple(range(row["parts"]))
        row["pattern"] = PATTERNS[row["pattern"]](row["chord_length"]) if row["pattern"] else ()
        found.append(Piece(**row))
    return tuple(found)


def plan(seed: int) -> pd.DataFrame:
    """One row a clip: index track_id; `piece`, the level of every cue (float from 0 to 3; mode 0 or 1), `family`.

    `family` is the place of the instruments in `render.FAMILIES`; its level in timbre is that of the cue.
    """
    rng = np.random.default_rng([seed, 3])
    slugs = [piece.slug for piece in pieces()]
    count = len(slugs) * PERFORMANCES
    table = pd.DataFrame({"piece": np.repeat(slugs, PERFORMANCES)})
    halves = np.arange(PERFORMANCES) % 2
    family = rng.integers(len(render.FAMILIES), size=count)
    table["mode"] = np.concatenate([rng.permutation(halves) for _ in slugs])
    for cue in design.CUES[1:-1]:
        table[cue] = rng.uniform(0, 3, count).round(3)
    table["timbre"] = np.array(render.FAMILY_LEVELS)[family]
    table["family"] = family
    table.index = pd.Index([f"{slug}_{row % PERFORMANCES + 1}" for row, slug in table["piece"].items()])
    return table.rename_axis("track_id")
