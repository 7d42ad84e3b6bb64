"""The twelve pieces of the demo corpus, as data, and their scores.

Compositions are in the public domain; the notes are read from the corpus that comes with music21. Three are bare tunes,
and get chords and a plain accompaniment here.

Conventions
-----------
Times within a score are in quarter notes from the start of the excerpt. A pitch is written relative to the tonic,
because that is what a change of mode needs: `degree` 0-6 on the scale, `octave`, and `alter` in semitones relative to
the *major* scale on that tonic (so the third of a minor piece has `alter` -1).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

SCORE = np.dtype(
    [("start", "f8"), ("length", "f8"), ("degree", "i4"), ("octave", "i4"), ("alter", "i4"), ("voice", "i4")]
)
MAJOR_SCALE = np.array([0, 2, 4, 5, 7, 9, 11])
MINOR_ALTER = np.array([0, 0, -1, 0, 0, -1, -1])


@dataclass(frozen=True)
class Piece:
    """One excerpt and where to find it.

    slug : short name, the group of its tracks
    title, composer, published : for the listener; `published` also says why the work is in the public domain
    source, number : path in music21's corpus, and the number of the tune in a collection
    tonic, mode : key of the excerpt in music21's spelling ("B-" is B flat), "major" or "minor"
    start, end : the excerpt in quarter notes from the start of the score; whole phrases, so that it can be repeated
    bar, downbeat, beat : length of a bar, first downbeat after `start`, and length of a beat, in quarter notes
    parts : indices of the parts to play, melody first
    chords : degrees 1-7 of one chord per `chord_length` from the first downbeat on; empty where the score is complete
    pattern : accompaniment of one chord: (offset, length, tone), tone 0 = bass, 1-3 = root, third and fifth
    """

    slug: str
    title: str
    composer: str
    published: str
    source: str
    tonic: str
    mode: str
    start: float
    end: float
    bar: float
    downbeat: float = 0.0
    beat: float = 1.0
    parts: tuple[int, ...] = (0, 1)
    number: int | None = None
    chords: str = ""
    chord_length: float = 0.0
    pattern: tuple[tuple[float, float, int], ...] = ()


_ROLLING = ((0.0, 1.5, 0), (0.5, 0.5, 3), (1.0, 0.5, 2))
_STRIDING = ((0.0, 2.0, 0), (1.0, 1.0, 1), (1.0, 1.0, 2), (1.0, 1.0, 3))

PIECES = (
    Piece(
        "verdi-donna",
        "La donna è mobile (Rigoletto)",
        "Giuseppe Verdi (1813-1901)",
        "1851",
        "verdi/laDonnaEMobile.mxl",
        tonic="B-",
        mode="major",
        start=1.5,
        end=25.5,
        bar=1.5,
        beat=0.5,
    ),
    Piece(
        "bach-jesu",
        "Jesu, meine Freude (BWV 227)",
        "Johann Sebastian Bach (1685-1750)",
        "about 1723",
        "bach/bwv227.1.mxl",
        tonic="E",
        mode="minor",
        start=0,
        end=24,
        bar=4,
        parts=(0, 1, 2, 3),
    ),
    Piece(
        "mozart-facile",
        "Sonata facile, first movement (K. 545)",
        "Wolfgang Amadeus Mozart (1756-1791)",
        "1805",
        "mozart/k545/movement1_exposition.mxl",
        tonic="C",
        mode="major",
        start=0,
        end=16,
        bar=4,
    ),
    Piece(
        "greensleeves",
        "Greensleeves",
        "traditional (16th century)",
        "1778, in Aird's Selection",
        "airdsAirs/book1.abc",
        number=130,
        tonic="A",
        mode="minor",
        start=0,
        end=24,
        bar=3,
        downbeat=0.5,
        beat=1.5,
        parts=(0,),
        chords="1 1 7 7 1 1 3 5 1 1 7 7 1 5 1 1",
        chord_length=1.5,
        pattern=_ROLLING,
    ),
    Piece(
        "handel-pianga",
        "Lascia ch'io pianga (Rinaldo)",
        "George Frideric Handel (1685-1759)",
        "1711",
        "handel/rinaldo/Lascia_chio_pianga.mxl",
        tonic="D",
        mode="major",
        start=90,
        end=114,
        bar=3,
        parts=(0, 1, 2),
    ),
    Piece(
        "chopin-mazurka",
        "Mazurka in C sharp minor, op. 6 no. 2",
        "Frédéric Chopin (1810-1849)",
        "1832",
        "chopin/mazurka06-2.krn",
        tonic="C#",
        mode="minor",
        start=23,
        end=47,
        bar=3,
        downbeat=1,
    ),
    Piece(
        "liliuokalani-aloha",
        "Aloha ʻOe",
        "Liliʻuokalani (1838-1917)",
        "1884",
        "liliuokalani/aloha_oe.mxl",
        tonic="G",
        mode="major",
        start=47.5,
        end=79.5,
        bar=4,
        downbeat=1.5,
        parts=(0, 1, 2, 3),
    ),
    Piece(
        "bach-jubilo",
        "In dulci jubilo (BWV 368)",
        "Johann Sebastian Bach (1685-1750)",
        "1784",
        "bach/bwv368.mxl",
        tonic="F",
        mode="major",
        start=0,
        end=24,
        bar=3,
        downbeat=1,
        parts=(0, 1, 2, 3),
    ),
    Piece(
        "mozart-adagio",
        "String quartet no. 3, second movement (K. 156)",
        "Wolfgang Amadeus Mozart (1756-1791)",
        "1792",
        "mozart/k156/movement2.mxl",
        tonic="E",
        mode="minor",
        start=0,
        end=16,
        bar=4,
        parts=(0, 1, 2, 3),
    ),
    Piece(
        "minstrel-boy",
        "The Minstrel Boy",
        "traditional (18th century)",
        "1813, with words by Thomas Moore",
        "miscFolk/americanfifeopus.abc",
        number=24,
        tonic="G",
        mode="major",
        start=0,
        end=16,
        bar=4,
        downbeat=1,
        parts=(0,),
        chords="1 5 1 1 4 1 5 1",
        chord_length=2,
        pattern=_STRIDING,
    ),
    Piece(
        "joplin-maple",
        "Maple Leaf Rag",
        "Scott Joplin (1868-1917)",
        "1899",
        "joplin/maple_leaf_rag.mxl",
        tonic="A-",
        mode="major",
        start=0.5,
        end=8.5,
        bar=2,
    ),
    Piece(
        "foster-jeanie",
        "Jeanie with the Light Brown Hair",
        "Stephen Foster (1826-1864)",
        "1854",
        "leadSheet/fosterBrownHair.mxl",
        tonic="F",
        mode="major",
        start=2,
        end=50,
        bar=4,
        downbeat=2,
        parts=(0,),
        chords="1 1 4 4 1 5 1 1 1 1 4 4 1 2 5 5 1 1 4 4 1 5 1",
        chord_length=2,
        pattern=_STRIDING,
    ),
)


def read_score(piece: Piece) -> np.ndarray:
    """The notes of a piece as a SCORE array, sorted by start, voice 0 = melody; imports music21 (about 1.5 s, once)."""
    import music21

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overfull bars in some files, none of them inside our excerpts
        parsed = music21.corpus.parse(piece.source, number=piece.number)
    tonic = music21.pitch.Pitch(piece.tonic + "0")
    parts = list(parsed.parts)
    for part in parts:  # what comes later is not looked at, which saves most of the time of a long movement
        part.remove([element for element in part if element.offset >= piece.end])
    rows = [
        (float(note.offset) - piece.start, float(note.quarterLength), *_relative(pitch, tonic), voice)
        for voice, part in enumerate(piece.parts)
        for note in parts[part].stripTies().flatten().notes
        if note.quarterLength > 0 and piece.start <= note.offset < piece.end
        for pitch in note.pitches
    ]
    melody = np.array(rows, SCORE)
    return _tidy(np.concatenate([melody, accompaniment(piece, melody)]), piece.end - piece.start)


def accompaniment(piece: Piece, melody: np.ndarray) -> np.ndarray:
    """Voices 1 (chord) and 2 (bass) from a piece's chord degrees, placed below the melody; empty without chords."""
    centre = round(np.average(melody["octave"] * 7 + melody["degree"], weights=melody["length"]))
    rows = []
    for place, chord in enumerate(map(int, piece.chords.split())):
        for offset, length, tone in piece.pattern:
            degree = (chord - 1 + 2 * max(tone - 1, 0)) % 7
            lowest = centre - (16 if tone == 0 else 9)
            step = lowest + (degree - lowest) % 7
            start = piece.downbeat + place * piece.chord_length + offset
            rows.append((start, length, degree, step // 7, _scale_alter(piece.mode, chord, degree), 1 + (tone == 0)))
    return np.array(rows, SCORE)


def _scale_alter(mode: str, chord: int, degree: int) -> int:
    """Major scale, or natural minor with the leading tone raised in the dominant."""
    return 0 if mode == "major" or (chord, degree) == (5, 6) else MINOR_ALTER[degree]


def _relative(pitch, tonic) -> tuple[int, int, int]:
    steps = pitch.diatonicNoteNum - tonic.diatonicNoteNum
    octave, degree = divmod(steps, 7)
    return degree, octave, round(pitch.ps - tonic.ps) - 12 * octave - MAJOR_SCALE[degree]


def _tidy(notes: np.ndarray, length: float) -> np.ndarray:
    """Sorted; cut at the end of the excerpt; a note that two voices share kept once, in the upper voice."""
    notes = notes[notes["start"] < length]
    notes = notes[np.lexsort((notes["voice"], notes["alter"], notes["degree"], notes["octave"], notes["start"]))]
    notes["length"] = np.minimum(notes["length"], length - notes["start"])
    _, first = np.unique(notes[["start", "degree", "octave", "alter"]], return_index=True)
    return notes[np.sort(first)]
