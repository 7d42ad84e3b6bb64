"""How `composed_pieces.csv` came about: `python -m mer_core.datasets.demo.choosing` writes it anew, in some minutes.

Candidates are Bach's chorales, movements of string quartets, and tunes of two collections of dance music and airs that
come with music21; a tune gets chords that fit it, and one of the plain accompaniments of PATTERNS. An excerpt is taken
where its key is clear in both modes: played in major, the best of the 24 keys is the tonic's major by a margin, and
played in minor its minor. None shares a composition, a collection's number or the beginning of its tune with a piece of
the demo corpus.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.datasets.demo.composed import COLUMNS, PATTERNS, PIECES_FILE
from mer_core.datasets.demo.midlevel import KEY_PROFILES
from mer_core.datasets.demo.performance import in_mode
from mer_core.datasets.demo.pieces import MAJOR_SCALE, PIECES, Piece, read_score

WANTED = {"chorale": 150, "quartet": 30, "reel": 80, "air": 60}
LENGTHS = (12.0, 28.0)  # quarter notes of an excerpt
CLEAR = 0.12  # by which the right mode must fit better than the other
CHORDS = {1: 0.15, 4: 0.0, 5: 0.1, 6: -0.1}  # what speaks for a degree beyond its notes
OTHERS = ("bwv227", "bwv368", "k156", "k545")  # of the demo: not these works at all
TITLES = ("jesu, meine freude", "in dulci jubilo", "greensleeves", "minstrel boy")
INCIPIT = 10


@dataclass(frozen=True)
class Candidate:
    """A score in music21's corpus; `parts` of them are played."""

    kind: str
    source: str
    number: int | None
    composer: str
    published: str


def candidates() -> list[Candidate]:
    """All scores that are considered, in a fixed order."""
    from music21 import corpus

    root = Path(corpus.__file__).parent
    found = [
        Candidate("chorale", f"bach/{path.name}", None, "Johann Sebastian Bach (1685-1750)", "before 1790")
        for path in sorted((root / "bach").glob("bwv*.mxl"))
    ]
    composers = {
        "haydn": ("Joseph Haydn (1732-1809)", "before 1800"),
        "mozart": ("Wolfgang Amadeus Mozart (1756-1791)", "before 1800"),
    }
    for name, (composer, published) in composers.items():
        paths = sorted((root / name).rglob("*.mxl"))
        found += [Candidate("quartet", str(path.relative_to(root)), None, composer, published) for path in paths]
    reels = sorted((root / "ryansMammoth").glob("*.abc"))
    found += [
        Candidate("reel", f"ryansMammoth/{path.name}", None, "traditional", "1883, in Ryan's Mammoth Collection")
        for path in reels[:: max(1, len(reels) // 200)]
    ]
    for name in ("0001-0050", "0051-0100", "0101-0200", "0201-0300", "0301-0350"):
        text = (root / "oneills1850" / f"{name}.abc").read_text(encoding="latin-1")
        for number in re.findall(r"^X:\s*(\d+)", text, re.MULTILINE)[::2]:
            source = f"oneills1850/{name}.abc"
            found.append(Candidate("air", source, int(number), "traditional", "1903, in O'Neill's Music of Ireland"))
    return found


def excerpt(candidate: Candidate, pattern: str) -> Piece | None:
    """A piece from the beginning of a score, or None where it is of no use."""
    import music21

    score = music21.corpus.parse(candidate.source, number=candidate.number)
    parts = list(score.parts)
    if len(parts) != (4 if candidate.kind in ("chorale", "quartet") else 1):
        return None
    melody = parts[0].stripTies().flatten()
    times = melody.getElementsByClass(music21.meter.TimeSignature)
    notes = [note for note in melody.notes if note.quarterLength > 0]
    if not times or len({time.ratioString for time in times}) > 1 or len(notes) < 12:
        return None
    bar, beat = float(times[0].barDuration.quarterLength), float(times[0].beatDuration.quarterLength)
    measures = list(parts[0].getElementsByClass(music21.stream.Measure))
    if len(measures) < 4 or bar <= 0:
        return None
    downbeat = float(measures[0].duration.quarterLength) % bar
    length = bar * max(1, np.floor(LENGTHS[1] / bar))
    length = min(length, np.floor((float(melody.highestTime) - 1e-6) / bar) * bar)
    if length < LENGTHS[0]:
        return None
    number = "" if candidate.number is None else f"-{candidate.number}"
    stem = re.sub(r"[^a-z0-9]+", "-", Path(candidate.source).with_suffix("").as_posix().lower()).strip("-")
    name = score.metadata.title or ""
    title = (name if candidate.kind in ("reel", "air") else "") or stem.replace("-", " ").replace("bach bwv", "BWV ")
    piece = Piece(
        slug=f"{stem}{number}"[:48],
        title=" ".join(title.split()),
        composer=candidate.composer,
        published=candidate.published,
        source=candidate.source,
        number=candidate.number,
        tonic="C",
        mode="major",
        start=0.0,
        end=length,
        bar=bar,
        downbeat=downbeat,
        beat=beat,
        parts=tuple(range(len(parts))),
    )
    return _in_its_key(piece, pattern)


def _in_its_key(piece: Piece, pattern: str) -> Piece | None:
    """The piece with its key and chords; None where either mode is unclear."""
    heard = _heard(read_score(piece))
    tonic, mode = max(
        ((tonic, mode) for tonic in range(12) for mode in KEY_PROFILES), key=lambda key: _fit(heard, *key)
    )
    names = {"major": "C D- D E- E F F# G A- A B- B", "minor": "C C# D E- E F F# G G# A B- B"}
    piece = replace(piece, tonic=names[mode].split()[tonic], mode=mode)
    score = read_score(piece)
    if len(piece.parts) == 1:
        length = piece.bar if piece.bar <= 3 else piece.bar / 2
        piece = replace(
            piece, chords=_chords(piece, score, length), chord_length=length, pattern=PATTERNS[pattern](length)
        )
        score = read_score(piece)
    if len(np.unique(score["start"])) < 12:
        return None
    return piece if _clear(score, piece.mode) else None


def _clear(score: np.ndarray, mode: str) -> bool:
    """Whether each mode is heard as itself on the tonic, and not as the other."""
    for target in KEY_PROFILES:
        heard = _heard(in_mode(score, mode, target))
        fits = {key: max(_fit(heard, tonic, key) for tonic in range(12)) for key in KEY_PROFILES}
        other = next(key for key in KEY_PROFILES if key != target)
        if _fit(heard, 0, target) < fits[target] or fits[target] < 0.6 or fits[target] - fits[other] < CLEAR:
            return False
    return True


def _heard(score: np.ndarray) -> np.ndarray:
    """Time that each pitch class sounds (12,), from the tonic."""
    classes = (MAJOR_SCALE[score["degree"]] + score["alter"]) % 12
    return np.bincount(classes, weights=score["length"], minlength=12)


def _fit(heard: np.ndarray, tonic: int, mode: str) -> float:
    return float(np.corrcoef(heard, np.roll(KEY_PROFILES[mode], tonic))[0, 1])


def _chords(piece: Piece, melody: np.ndarray, length: float) -> str:
    """Degrees that hold most of the melody's time, first and last on the tonic."""
    count = int(np.ceil((piece.end - piece.start - piece.downbeat) / length))
    chosen = []
    for place in range(count):
        low = piece.downbeat + place * length
        inside = np.clip(
            np.minimum(melody["start"] + melody["length"], low + length) - np.maximum(melody["start"], low), 0, None
        )
        on_beat = np.where(np.isclose(melody["start"], low), 1.5, 1.0) * inside
        shares = {
            degree: on_beat[np.isin((melody["degree"] + 1 - degree) % 7, (0, 2, 4))].sum() / length + prior
            for degree, prior in CHORDS.items()
        }
        chosen.append(max(shares, key=shares.get))
    chosen[0] = chosen[-1] = 1
    return " ".join(map(str, chosen))


def incipit(score: np.ndarray) -> str:
    """Steps between the first notes of the upper line."""
    melody = score[score["voice"] == 0]
    starts = np.unique(melody["start"])[: INCIPIT + 1]
    step = [int((melody["octave"] * 7 + melody["degree"])[melody["start"] == start].max()) for start in starts]
    return " ".join(map(str, np.diff(step)))


def choose() -> pd.DataFrame:
    """The table: one row a piece, columns as `composed.COLUMNS`."""
    taken = {incipit(read_score(piece)) for piece in PIECES}
    known = {(piece.source, piece.number) for piece in PIECES}
    titles = {title for title, name in _chorale_titles().items() if name.lower().startswith(TITLES)}
    counts, rows = Counter(), []
    for place, candidate in enumerate(_spread(candidates())):
        barred = any(work in candidate.source.lower().replace("/", "") for work in OTHERS)
        if counts[candidate.kind] >= WANTED[candidate.kind] or barred or (candidate.source, candidate.number) in known:
            continue
        if any(re.search(rf"bwv{re.escape(bwv)}(\.mxl|[a-z.])", candidate.source) for bwv in titles):
            continue
        pattern = list(PATTERNS)[place % len(PATTERNS)]
        piece = excerpt(candidate, pattern)
        if piece is None or piece.title.lower().startswith(TITLES):
            continue
        steps = incipit(read_score(piece))
        if steps in taken:
            continue
        taken.add(steps)
        counts[candidate.kind] += 1
        row = dict(zip(Piece.__dataclass_fields__, astuple(piece), strict=True))
        rows.append(row | {"parts": len(piece.parts), "pattern": pattern if piece.pattern else "", "incipit": steps})
    return pd.DataFrame(rows)[list(COLUMNS)].astype({"number": "Int64"}).sort_values("slug")


def _spread(found: list[Candidate]) -> list[Candidate]:
    """In random order, the same every time, so that a kind is drawn from its whole collection."""
    return [found[place] for place in np.random.default_rng(7).permutation(len(found))]


def _chorale_titles() -> dict[str, str]:
    """Title of each chorale by its BWV number, as music21 knows them."""
    from music21.corpus import chorales

    listed = chorales.ChoraleListRKBWV().byBWV
    return {str(bwv): entry["title"] for bwv, entry in listed.items()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    choose().to_csv(PIECES_FILE, index=False, lineterminator="\n")
