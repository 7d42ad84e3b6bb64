"""The page of one clip: what was predicted, where in the sound the reasons lie, how they sound, and all numbers."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np

from mer_core.explain.maps import REMAINDER, RelevanceMap
from mer_core.explain.sonify import EDGE_SHARE
from mer_core.listening import Heat, Version, markup
from mer_core.plots.heat import axis_labels
from mer_core.site.clips import Clip, Reading
from mer_core.site.facts import Facts, cell_words
from mer_core.site.html import badge_line, chance, linked, page, percent, picture, pills, scale_figure, table
from mer_core.site.sounds import RATE, Sounds

NAMES = {"original": "Original", "for": "Evidence for", "against": "Evidence against", "without": "Without it"}
LOST = 1e-3  # of what was handed on, above which conservation is flagged


@dataclass(frozen=True)
class Shown:
    """A reading with what was made of it: its map, excerpt in seconds, media addresses and sounds.

    sounds : None where there are none, then `silence` says why
    """

    reading: Reading
    map: RelevanceMap
    start: float
    end: float
    heat: str
    addresses: dict[str, str]
    sounds: Sounds | None
    silence: str


def clip_page(facts: Facts, clip: Clip, shown: list[Shown], before: str, after: str) -> str:
    """A clip's page; `before` and `after` are addresses of its neighbours, "" at the ends."""
    badges = []
    if any(each.sounds and each.sounds.sonified.edge for each in shown):
        said = (
            f"More than {percent(EDGE_SHARE)} of this map lies where the music holds almost no energy, "
            "so what is heard may be an artefact of the network's edges."
        )
        badges.append(("edge artefact", said))
    badges += [(words, said) for words, said in facts.badges if words != "saw this dataset"]
    cut = any(is_cut(each) for each in shown)
    around = "".join(
        f'<a href="{address}.html" rel="{rel}">{words}</a>'
        for address, rel, words in ((before, "prev", "← Clip before"), (after, "next", "Next clip →"))
        if address
    )
    body = (
        '<header class="top"><p class="crumb"><a href="index.html">← All clips</a></p>'
        f"<h1>{escape(clip.title)}</h1>{_author(clip)}{pills(tuple(badges))}</header>\n<main>"
        f"{''.join(_section(facts, clip, each) for each in shown)}"
        f'<section class="credit"><h2>Licence and credit</h2>{credit(clip, cut)}</section>'
        f"{badge_line(tuple(badges))}</main>\n"
        f'<nav class="around" aria-label="Clips">{around}</nav>'
    )
    return page(f"{clip.title} · why the model hears it that way", body, script=True)


def _author(clip: Clip) -> str:
    return f'<p class="author">{escape(clip.author)}</p>' if clip.author else ""


def credit(clip: Clip, cut: bool) -> str:
    """Who made the clip, under which licence, what that asks for, and what was changed."""
    name = f"“{clip.title}”" + (f" by {clip.author}" if clip.author else "")
    lines = [f"<strong>{escape(name)}</strong>"]
    lines.append(f"Licence: {linked(clip.licence)}" if clip.licence else "Licence: not told")
    if clip.source.startswith(("http://", "https://")):
        lines.append(f"Source: {linked(clip.source)}")
    if clip.terms.said:
        lines.append(escape(clip.terms.said))
    if clip.terms.publish:
        changes = ["cut to an excerpt"] if cut else []
        changes += ["mixed to mono", "filtered by the explanation", "set to one loudness"]
        lines.append(f"Changed here: {', '.join(changes)}.")
    return "<p>" + "<br>".join(lines) + "</p>"


def _section(facts: Facts, clip: Clip, shown: Shown) -> str:
    """One reading: its sentence and scale, the player, and its numbers."""
    reading = shown.reading
    heading = cell_words(reading.cell) if reading.cell else reading.target.capitalize()
    span = None if reading.lower is None else (reading.lower, reading.upper)
    figure = scale_figure(*reading.scale, reading.predicted, span, reading.reference)
    ends = ("sad", "happy") if reading.cell else tuple(f"{edge:g}" for edge in reading.scale)
    label = f"{clip.title}, {heading.lower()}"
    return (
        f'<section class="reading"><h2>{escape(heading)}</h2><p class="verdict">{escape(verdict(reading))}</p>'
        f'<div class="rating">{figure}<p class="ends"><span>{ends[0]}</span><span>{ends[1]}</span></p>'
        f"{_legend(reading)}</div>"
        f"{_listening(label, shown)}{_numbers(facts, shown)}</section>\n"
    )


def _legend(reading: Reading) -> str:
    """What the marks on the scale are."""
    marks = ["dot: prediction"]
    marks += [] if reading.lower is None else ["band: 90 % interval"]
    marks += [] if reading.reference is None else ["ring: the class by ratings" if reading.cell else "ring: listeners"]
    return f'<p class="note">{", ".join(marks)}</p>'


def verdict(reading: Reading) -> str:
    """The prediction and what listeners said, in one or two sentences."""
    if reading.cell:
        true = "happy" if reading.reference else "sad"
        return f"The model gives {chance(reading.predicted)} for happy. By listeners' ratings it is {true}."
    low, high = reading.scale
    said = f"Predicted {reading.target}: {reading.predicted:.1f} on a scale from {low:g} to {high:g}"
    if reading.lower is not None:
        said += f", with a 90 % interval from {reading.lower:.1f} to {reading.upper:.1f}"
    return f"{said}." + ("" if reading.reference is None else f" Listeners said {reading.reference:.1f}.")


def _listening(label: str, shown: Shown) -> str:
    """The player with its heat map; the heat map alone, and why, where nothing may or can be heard."""
    target = shown.reading.target
    alt = (
        f"Relevance of the sound for {target}, time from left to right, low to high from bottom to top: "
        "warm raised the prediction, cool lowered it"
    )
    key = (
        '<p class="key"><span class="for"></span> raised the prediction <span class="against"></span> lowered it'
        + (' <span class="music"></span> the music' if shown.sounds else "")
        + f"<br>Shown: {escape(_extent(shown))}</p>"
    )
    if shown.sounds is None:
        why = f'<p class="silent">{escape(shown.silence)}</p>'
        return f"{picture(shown.heat, alt, 'lone')}{key}{why}"
    versions = [
        Version(NAMES[name], _about(name, target, sound.gain_db, sound.said), shown.addresses[name])
        for name, sound in shown.sounds.versions.items()
    ]
    bands = axis_labels(shown.map.band_hz[::-1], 5, "Hz")
    times = axis_labels(np.linspace(shown.start, shown.end, 50), 4, "s")
    dark = shown.heat.replace("-light.png", "-dark.png")
    player = markup(label, versions, Heat(shown.heat, alt, bands, times, dark))
    silent = "".join(
        f'<p class="silent">{NAMES[name]}: {escape(why)}.</p>' for name, why in shown.sounds.sonified.silent.items()
    )
    return f"{player}{key}{silent}"


def is_cut(shown: Shown) -> bool:
    """Whether only an excerpt of the clip is shown."""
    return shown.end - shown.start < shown.map.duration_s - 0.05


def _extent(shown: Shown) -> str:
    """Which part of the clip is shown."""
    whole = shown.map.duration_s
    if not is_cut(shown):
        return f"the whole clip, {whole:.0f} s"
    return f"{shown.start:.1f} to {shown.end:.1f} s of {whole:.0f} s, the stretch with the most relevance"


def _about(name: str, target: str, gain_db: float, said: str) -> str:
    """One line on a version: what it is, its gain, and what to know of it."""
    what = {
        "original": "the music",
        "for": f"what speaks for {target}" if target == "happy" else f"what raised {target}",
        "against": f"what speaks against {target}" if target == "happy" else f"what lowered {target}",
        "without": "the music less its evidence for",
    }[name]
    return f"{what}, {_gain(gain_db)} dB" + (f"; {said}" if said else "")


def _gain(gain_db: float) -> str:
    return f"{round(gain_db, 1) + 0.0:+.1f}"  # adding 0 makes -0.0 positive


def _numbers(facts: Facts, shown: Shown) -> str:
    """All figures of a reading, folded away."""
    found, parts = shown.map, []
    lost = float(found.conservation_error[0])
    unit = "logit" if shown.reading.cell else "rating points"
    rows = [("Average prediction (reference)", f"{found.base[0]:.3f} {unit}")]
    rows.append(("Sum of the map", f"{found.values.sum(dtype=float):+.3f} {unit}"))
    rows += [
        (f"Not on the map: {name}", f"{value:+.3f} {unit}")
        for name, value in zip(REMAINDER, found.remainder[:, 0], strict=True)
    ]
    rows.append(("Sum of all: the prediction", f"{found.predicted[0]:.3f} {unit}"))
    rows.append(("Conservation error", f"{lost:.1e}" + (f" (above {LOST:g}: flagged)" if lost > LOST else "")))
    rows.append(("Rule", f"{found.rule}, relative to the {found.reference}"))
    if found.note:
        rows.append(("Note", found.note))
    if shown.sounds:
        edge = shown.sounds.sonified
        flag = f" (above {percent(EDGE_SHARE)}: flagged as an artefact)" if edge.edge else ""
        rows.append(("Relevance where the music holds 0.5 % of its energy", f"{percent(edge.edge_share)}{flag}"))
    parts.append(table(rows, "The sum that makes the prediction"))
    if shown.sounds:
        parts.append(_levels(shown.sounds))
    measured = facts.trust.get(shown.reading.target)
    if isinstance(measured, dict):
        told = [(name.replace("_", " "), _value(value)) for name, value in measured.items()]
        parts.append(table(told, "Faithfulness, against controls"))
    return f"<details><summary>All numbers</summary>{''.join(parts)}</details>"


def _value(value: object) -> str:
    """A number, or [value, low, high], as text."""
    if isinstance(value, list) and len(value) == 3 and all(isinstance(each, (int, float)) for each in value):
        return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _levels(sounds: Sounds) -> str:
    """Gain, loudness and true peak of each file, as it decodes."""
    rows = "".join(
        f'<tr><th scope="row">{NAMES[name]}</th><td>{_gain(sound.gain_db)}</td><td>{sound.lufs:.1f}</td>'
        f"<td>{sound.true_peak_db:.1f}</td></tr>"
        for name, sound in sounds.versions.items()
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Version", "Gain, dB", "LUFS", "True peak, dBTP"))
    caption = f"Levels of the files as they decode ({sounds.suffix.upper()}, mono, {RATE / 1000:.2f} kHz)"
    body = f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    return f'<table class="levels"><caption>{caption}</caption>{body}</table>'
