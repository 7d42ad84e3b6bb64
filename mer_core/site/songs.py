"""Audio files of one's own for the site, and what is told of their licence beside them.

In a folder with a `tracks.csv` (columns `path`, and `title`, `artist`, `composer`, `licence`, `source` where known; no
ratings are needed) its rows are the songs. Otherwise each audio file is one, and a `.txt` of the same name may tell its
licence: "TITLE by AUTHOR is licensed under ...", then lines with the licence and where the song is from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mer_core.datasets.table_file import read_rows
from mer_core.datasets.tracks import AUDIO_SUFFIXES
from mer_core.errors import UserError
from mer_core.site.clips import AUTHORS
from mer_core.site.licences import terms_of

STATEMENT = re.compile(r"(?P<title>.+) by (?P<author>.+?) is (?:licensed|in the public domain)", re.IGNORECASE)
ADDRESS = re.compile(r"https?://\S+")
LONGEST_TEXT = 20_000  # bytes of a licence text that are read


@dataclass(frozen=True)
class Song:
    """An audio file with what is known of it; "" where nothing is."""

    path: Path
    title: str
    author: str
    licence: str
    source: str


def find_songs(places: list[str]) -> list[Song]:
    """Songs of files and folders, in the order given; files of a folder by name.

    Raises
    ------
    UserError : a place that does not exist, or a folder without audio
    """
    found: dict[Path, Song] = {}
    for place in map(Path, places):
        if not place.exists():
            raise UserError(f"--files {place} does not exist; name audio files, or a folder that holds some")
        songs = _of_folder(place) if place.is_dir() else [_beside(place)]
        if not songs:
            raise UserError(f"--files {place} holds no audio file; name one that holds some")
        found |= {song.path.resolve(): song for song in songs}
    return list(found.values())


def _of_folder(folder: Path) -> list[Song]:
    if (folder / "tracks.csv").is_file():
        return _of_table(folder)
    return [_beside(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in AUDIO_SUFFIXES]


def _of_table(folder: Path) -> list[Song]:
    """Songs of a `tracks.csv`; paths stay inside the folder."""
    header, rows, _ = read_rows(folder / "tracks.csv")
    if "path" not in header:
        raise UserError(f"{folder / 'tracks.csv'} lacks the column path (it has {', '.join(header)}); add it")
    songs = []
    for line, cells in rows:
        row = dict(zip(header, cells, strict=False))
        path = folder / row["path"].replace("\\", "/")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"line {line} of {folder / 'tracks.csv'} names {row['path']!r} outside of the folder; mend it"
            )
        author = ", ".join(dict.fromkeys(row[name] for name in AUTHORS if row.get(name)))
        licence = row.get("licence") or row.get("license") or ""
        songs.append(Song(path, row.get("title") or _title(path), author, licence, row.get("source", "")))
    return songs


def _beside(path: Path) -> Song:
    """A file, with the text of the same name beside it."""
    text = path.with_suffix(".txt")
    told = text.read_bytes()[:LONGEST_TEXT].decode("utf-8", errors="replace") if text.is_file() else ""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    licence = licence_in(lines)
    statement = STATEMENT.match(lines[0]) if lines else None
    title, author = (statement["title"], statement["author"]) if statement else (_title(path), "")
    sources = [found[0] for line in lines if line != licence and (found := ADDRESS.search(line))]
    return Song(path, title, author, licence, sources[0] if sources else "")


def licence_in(lines: list[str]) -> str:
    """The line that names a licence: one that forbids publishing before one that allows it; else the first line."""
    known = [line for line in lines if terms_of(line).name]
    forbidding = [line for line in known if not terms_of(line).publish]
    return (forbidding + known + lines + [""])[0]


def _title(path: Path) -> str:
    return path.stem.replace("_", " ").strip() or "Untitled"
