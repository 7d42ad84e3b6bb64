"""The listening player, the same in the app and on static pages: one transport, several versions of a clip, a heat map.

`markup` writes plain HTML that works without a script (every version has the browser's own controls); `player.js`
turns it into one player that switches between the versions without losing position; `player.css` dresses both.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

_FOLDER = Path(__file__).parent
STYLE = (_FOLDER / "player.css").read_text(encoding="utf-8")
SCRIPT = (_FOLDER / "player.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Version:
    """One way to hear a clip: a short name, one line on what it is and at what gain, and where its audio is."""

    name: str
    said: str
    address: str


@dataclass(frozen=True)
class Heat:
    """A heat map without margins, over the whole clip: its address, what it shows in words, and labels of its axes.

    bands : labels from the highest band to the lowest, evenly spaced; times : labels from start to end, evenly spaced
    dark : address of the same for dark pages, "" where one picture serves both
    """

    address: str
    alt: str
    bands: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    dark: str = ""


def markup(label: str, versions: list[Version], heat: Heat | None = None) -> str:
    """HTML of a player; `label` names the clip for screen readers."""
    rows = "".join(
        f'<div class="version"><span class="name">{escape(version.name)}</span>'
        f'<span class="about">{escape(version.said)}</span>'
        f'<audio controls preload="none" src="{escape(version.address)}" '
        f'aria-label="{escape(version.name)}: {escape(label)}"></audio></div>'
        for version in versions
    )
    return (
        f'<figure class="listening" aria-label="Player: {escape(label)}">'
        f'{_heat(heat) if heat else ""}<div class="versions">{rows}</div></figure>'
    )


def _heat(heat: Heat) -> str:
    bands = "".join(f"<span>{escape(text)}</span>" for text in heat.bands)
    times = "".join(f"<span>{escape(text)}</span>" for text in heat.times)
    image = f'<img src="{escape(heat.address)}" alt="{escape(heat.alt)}">'
    if heat.dark:
        dark = f'<source srcset="{escape(heat.dark)}" media="(prefers-color-scheme: dark)">'
        image = f"<picture>{dark}{image}</picture>"
    return (
        f'<div class="map">{image}'
        f'<div class="bands" aria-hidden="true">{bands}</div></div><div class="times" aria-hidden="true">{times}</div>'
    )
