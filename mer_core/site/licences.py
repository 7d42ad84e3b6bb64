"""Which music may be published: by the text in the `licence` column, against a list of what allows it.

`licences.csv` is that list. A row applies where the text begins with its prefix (case, hyphens and underscores do not
matter; whole words), the words of `needs` follow and none of those of `unless` does; of several rows the longest prefix
decides. Whatever no row applies to, also no licence at all, is not published.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("licences.csv")


@dataclass(frozen=True)
class Terms:
    """What a licence text means here.

    name : of the licence, "" where it is not known; publish : whether the sound may be passed on
    said : the condition under which, or why not
    """

    name: str
    publish: bool
    said: str


@cache
def _rows() -> tuple[dict[str, str], ...]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(sorted(rows, key=lambda row: len(row["prefix"]), reverse=True))


def terms_of(text: object) -> Terms:
    """What a track's licence text allows; anything but a text counts as none."""
    told = text.strip() if isinstance(text, str) else ""
    if not told:
        return Terms("", False, "No licence is told for this clip, so its sound is not published.")
    plain = _plain(told)
    for row in _rows():
        prefix = _plain(row["prefix"])
        if not plain.startswith(prefix) or plain[len(prefix) : len(prefix) + 1].isalnum():
            continue
        rest = plain[len(prefix) :]
        if row["needs"] not in rest:
            continue
        if any(_says(rest, word) for word in filter(None, row["unless"].split("|"))):
            continue
        return Terms(row["name"], row["publish"] == "yes", row["condition"])
    return Terms("", False, "Its licence is none of those known to allow publishing, so its sound is not published.")


def _plain(text: str) -> str:
    """Lower case, without scheme; hyphens, underscores and runs of spaces are one space."""
    bare = re.sub(r"https?://(www\.)?", "", text.strip().lower())
    return re.sub(r"[\s_-]+", " ", bare)


def _says(text: str, word: str) -> bool:
    """Whether `word` stands in the text as whole words."""
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", text) is not None
