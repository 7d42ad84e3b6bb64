"""Small pieces of HTML that all pages of the site are made of; every text that is not ours is escaped here."""

from __future__ import annotations

from html import escape
from urllib.parse import urlsplit

POLICY = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'self'; script-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)


def page(title: str, body: str, script: bool = False) -> str:
    """A whole page; everything it loads lies beside it."""
    code = '<script src="site.js" defer></script>' if script else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">\n'
        '<link rel="stylesheet" href="site.css"><link rel="icon" href="icon.png">\n'
        f"<title>{escape(title)}</title>{code}</head>\n<body>\n{body}\n</body></html>\n"
    )


def pills(badges: tuple[tuple[str, str], ...]) -> str:
    """The words of the warnings in one line, linked to their sentences further down."""
    items = "".join(f'<li><a href="#limits">{escape(words)}</a></li>' for words, _ in badges)
    return f'<ul class="pills">{items}</ul>' if items else ""


def badge_line(badges: tuple[tuple[str, str], ...]) -> str:
    """Warnings, each with its sentence beside it."""
    items = "".join(f"<li><strong>{escape(words)}</strong> {escape(said)}</li>" for words, said in badges)
    return f'<ul class="badges" id="limits" aria-label="What to know before believing it">{items}</ul>' if items else ""


def picture(light: str, alt: str, kind: str) -> str:
    """A heat map in its light and its dark variant; `light` ends in `-light.png`."""
    dark = light.replace("-light.png", "-dark.png")
    return (
        f'<picture class="{kind}"><source srcset="{escape(dark)}" media="(prefers-color-scheme: dark)">'
        f'<img src="{escape(light)}" alt="{escape(alt)}" loading="lazy"></picture>'
    )


def table(rows: list[tuple[str, str]], caption: str) -> str:
    """Two columns, name and value; both are escaped."""
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f"<table><caption>{escape(caption)}</caption><tbody>{body}</tbody></table>"


def linked(text: str) -> str:
    """Escaped text; where it ends in a web address, that is a link. Nothing is fetched unless a reader follows it."""
    words = text.split()
    if not words or urlsplit(words[-1]).scheme not in ("http", "https"):
        return escape(text)
    address = escape(words[-1])
    before = escape(" ".join(words[:-1]))
    return f'{before} <a rel="license noreferrer" href="{address}">{address}</a>'.strip()


def scale_figure(low: float, high: float, predicted: float, span: tuple | None, reference: float | None) -> str:
    """A rating scale: the prediction as a dot, its interval as a band, the listeners' rating as a ring."""

    def at(value: float) -> float:
        return 12 + 376 * (min(max(value, low), high) - low) / (high - low)

    said = f"Prediction {predicted:.2f} on a scale from {low:g} to {high:g}"
    said += "" if reference is None else f"; listeners: {reference:.2f}"
    band = ring = ""
    if span is not None:
        left, right = at(span[0]), at(span[1])
        band = f'<rect class="span" x="{left:.1f}" y="10" width="{right - left:.1f}" height="20" rx="4"/>'
    if reference is not None:
        ring = f'<circle class="ring" cx="{at(reference):.1f}" cy="20" r="8"/>'
    middle = at((low + high) / 2)
    return (
        f'<svg class="scale" viewBox="0 0 400 40" role="img" aria-label="{escape(said)}">'
        f'<line class="axis" x1="12" x2="388" y1="20" y2="20"/>'
        f'<line class="axis" x1="{middle:.1f}" x2="{middle:.1f}" y1="14" y2="26"/>'
        f'{band}{ring}<circle class="dot" cx="{at(predicted):.1f}" cy="20" r="5"/></svg>'
    )


def percent(value: float | None) -> str:
    """A share as "87 %"."""
    return "undefined" if value is None else f"{100 * value:.0f} %"


def chance(value: float) -> str:
    """A probability as "87 %", never as certain."""
    return "over 99 %" if value > 0.995 else "under 1 %" if value < 0.005 else percent(value)
