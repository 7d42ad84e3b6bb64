"""Write a site: pages, pictures, sounds and the workflow that publishes it, whole or not at all.

The same run gives the same bytes: nothing in the folder depends on the time or the machine it was made on.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.datasets.audio import read_audio
from mer_core.errors import UserError
from mer_core.listening import SCRIPT, STYLE
from mer_core.site.clip_page import Shown, clip_page
from mer_core.site.clips import Clip
from mer_core.site.facts import Facts
from mer_core.site.overview import index_page, licences_page
from mer_core.site.pictures import heat_pictures
from mer_core.site.sounds import RATE, Sounds, excerpt_length, excerpt_of, make_sounds

MARK = "site.json"
KIND = "mer-explorer listening site"
_HERE = Path(__file__).parent
START = "document.querySelectorAll('.listening').forEach(listeningPlayer);\n"
UNREAD = "The audio of this clip could not be read when the site was made."


@dataclass(frozen=True)
class Built:
    """What was written: the folder, how many clips, how many with sound, bytes, and a line for each thing missing."""

    folder: Path
    clips: int
    audible: int
    size: int
    missing: tuple[str, ...]


def build_site(
    out: Path, facts: Facts, clips: list[Clip], withheld: pd.DataFrame, progress: Callable[[float, str], None]
) -> Built:
    """Write the site to `out`, in place of an older one.

    withheld : tracks whose sound may not be published, see `mer_core.site.clips.unpublished`

    Raises
    ------
    UserError : `out` is a file, or holds something else than a site
    """
    out = out.absolute()
    check_place(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    making = out.with_name(f".{out.name}.{os.getpid()}.partial")
    shutil.rmtree(making, ignore_errors=True)
    missing: list[str] = []
    try:
        (making / "media").mkdir(parents=True)
        shown, longest = [], excerpt_length(sum(len(clip.readings) for clip in clips))
        for number, clip in enumerate(clips):
            progress(number / len(clips), f"clip {number + 1} of {len(clips)}: {clip.title}")
            shown.append((clip, [_show(making, clip, k, longest, missing) for k in range(len(clip.readings))]))
        _write_pages(making, facts, shown, withheld)
        _exchange(making, out)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file() and ".git" not in file.parts)
    audible = sum(any(each.sounds for each in readings) for _, readings in shown)
    return Built(out, len(clips), audible, size, tuple(missing))


def check_place(out: Path) -> None:
    """Raise UserError unless `out` can hold a site: absent, empty, or one that was made here before."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f"--out {out} is no folder; name a new one, or one that holds a site")
    if out.is_dir() and any(out.iterdir()) and not _is_site(out):
        raise UserError(f"--out {out} holds files that are not a listening site; name an empty or a new folder")


def _is_site(folder: Path) -> bool:
    try:
        return json.loads((folder / MARK).read_text(encoding="utf-8")).get("kind") == KIND
    except (OSError, ValueError, AttributeError):
        return False


def _exchange(making: Path, out: Path) -> None:
    """Put the new folder where the old one is; a repository that was made in the old one goes along."""
    if not out.exists():
        os.replace(making, out)
        return
    old = making.with_suffix(".old")
    os.replace(out, old)
    try:
        os.replace(making, out)
    except OSError:
        os.replace(old, out)
        raise
    if (old / ".git").exists():
        os.replace(old / ".git", out / ".git")
    shutil.rmtree(old)


def _show(folder: Path, clip: Clip, number: int, longest_s: float, missing: list[str]) -> Shown:
    """Make and write the pictures and sounds of one reading."""
    reading = clip.readings[number]
    found = clip.load(reading.target)
    start, end = excerpt_of(found, longest_s)
    samples, silence = _music(clip, start, end, missing)
    sounds: Sounds | None = None
    if samples is not None:
        end = start + len(samples) / RATE
        try:
            sounds = make_sounds(samples, found, start)
        except UserError as error:
            silence = f"{str(error)[0].upper()}{str(error)[1:]}."
            missing.append(f"{clip.track}: {error}")
    stem = f"media/{clip.address.removeprefix('clip-')}-{number + 1}"
    light, dark = heat_pictures(found, start, end, samples, RATE)
    (folder / f"{stem}-light.png").write_bytes(light)
    (folder / f"{stem}-dark.png").write_bytes(dark)
    addresses = {}
    for name, sound in sounds.versions.items() if sounds else ():
        addresses[name] = f"{stem}-{name}.{sounds.suffix}"
        (folder / addresses[name]).write_bytes(sound.data)
    return Shown(reading, found, start, end, f"{stem}-light.png", addresses, sounds, silence)


def _music(clip: Clip, start: float, end: float, missing: list[str]) -> tuple[np.ndarray | None, str]:
    """The excerpt of a clip that may be published, or None and the sentence that says why not."""
    if not clip.terms.publish:
        missing.append(f"{clip.track}: not published, licence {clip.licence or 'not told'!r}")
        return None, clip.terms.said
    if clip.path is None:
        missing.append(f"{clip.track}: its audio is not there")
        return None, UNREAD
    try:
        samples, _ = read_audio(clip.path, rate=RATE)
    except UserError as error:  # its words name a place on this machine: they are for the one who builds the site
        missing.append(f"{clip.track}: {error}")
        return None, UNREAD
    return samples[round(start * RATE) : round(end * RATE)], ""


def _write_pages(folder: Path, facts: Facts, shown: list[tuple[Clip, list[Shown]]], withheld: pd.DataFrame) -> None:
    """Everything that is not media."""
    files = {
        "index.html": index_page(facts, shown, len(withheld)),
        "licences.html": licences_page(shown, withheld),
        "site.css": STYLE + (_HERE / "site.css").read_text(encoding="utf-8"),
        "site.js": SCRIPT + START,
        ".nojekyll": "",
        ".github/workflows/pages.yml": (_HERE / "pages.yml").read_text(encoding="utf-8"),
        MARK: json.dumps({"kind": KIND, "schema": 1, "run": facts.run_id}) + "\n",
    }
    addresses = ["", *(clip.address for clip, _ in shown), ""]
    for number, (clip, readings) in enumerate(shown):
        files[f"{clip.address}.html"] = clip_page(facts, clip, readings, addresses[number], addresses[number + 2])
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    (folder / "icon.png").write_bytes((_HERE / "icon.png").read_bytes())
