"""The first page and the page of licences: what this is, how good the model is, which clips, and whose they are."""

from __future__ import annotations

from html import escape

import pandas as pd

from mer_core.evaluate.classification import CELLS
from mer_core.site.clip_page import Shown, credit, is_cut
from mer_core.site.clips import Clip, Reading
from mer_core.site.facts import Facts, Score, cell_words
from mer_core.site.html import badge_line, chance, page, percent, picture, pills

LISTEN = (
    (
        "Same loudness",
        "All versions of a clip play equally loud, so that louder does not sound more convincing. What had to be "
        "added is printed as a gain; a large gain means that the evidence is faint in the music.",
    ),
    (
        "Evidence for",
        "The music through a mask that opens where the sound raised the prediction. Nothing is added: what you hear "
        "is in the original.",
    ),
    ("Evidence against", "The same for what lowered the prediction."),
    (
        "Without it",
        "The music with its evidence for taken out. If it still sounds as happy or as tense to you, the model listens "
        "to something else than you do.",
    ),
    (
        "What relevance is not",
        "It is not what listeners respond to, and no proof that the model would change its mind without it. It says "
        "how this one model came to this one number, compared with its average prediction.",
    ),
    (
        "Keys",
        "Space plays and pauses, A to D choose a version at the same place, the arrows step by a second; a click on "
        "the heat map jumps there. Without JavaScript every version has a player of its own.",
    ),
)


def index_page(facts: Facts, shown: list[tuple[Clip, list[Shown]]], silent: int) -> str:
    """The overview; `silent` counts the run's tracks whose sound may not be published."""
    what = "how happy or sad music sounds" if facts.classifier else f"the {_words(facts.targets)} people hear in music"
    intro = (
        f"A computer model has learned to predict {what}. Here are {len(shown)} clips with its predictions, "
        "and an answer that you can hear to the question why: what in the sound raised the number, what lowered it, "
        "and what is left without it. Listen, and judge whether the model hears what you hear."
    )
    clips = _four_cells(facts, shown) if facts.classifier else _by_target(facts, shown)
    notes = "".join(f'<p class="note">{escape(note[0].upper() + note[1:])}.</p>' for note in facts.notes)
    listen = "".join(f"<dt>{escape(term)}</dt><dd>{escape(said)}</dd>" for term, said in LISTEN)
    body = (
        f'<header class="top"><h1>Hear why</h1><p class="intro">{escape(intro)}</p>'
        f"{pills(facts.badges)}</header>\n<main>"
        f"{_none_published(shown)}"
        f"<section><h2>The clips</h2>{clips}{notes}</section>\n"
        f"<section><h2>How to listen</h2><dl>{listen}</dl></section>\n"
        f"<section><h2>The model</h2>{_model(facts)}{badge_line(facts.badges)}</section></main>\n"
        f'<footer><p><a href="licences.html">Licences and credits</a>{_withheld(silent)}</p>'
        f"<p>Made by MER Explorer from run {escape(facts.run_id)}.</p></footer>"
    )
    return page("Hear why: what a model listens to in music", body)


def _words(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _none_published(shown: list[tuple[Clip, list[Shown]]]) -> str:
    if any(each.sounds for _, readings in shown for each in readings):
        return ""
    return (
        '<p class="silent">None of these clips can be heard here: no licence allows publishing their sound, '
        "or their audio could not be read. The maps and numbers are shown without it.</p>"
    )


def _withheld(silent: int) -> str:
    return f"; {silent} tracks of this run are not published, and why" if silent else ""


def _model(facts: Facts) -> str:
    """The model, data, protocol and score as a sentence each."""
    low, high = facts.scale
    scores = "".join(f"<p>{_score(score)}</p>" for score in facts.scores)
    weights = f" Pretrained weights: {escape(', '.join(facts.weights))}." if facts.weights else ""
    classes = f"<p>{escape(facts.classes)}</p>" if facts.classes else ""
    return (
        f"<p>A {escape(facts.model)}.{weights}</p>"
        f"<p>Data: {escape(facts.dataset)}, {facts.n_tracks} tracks, rated from {low:g} to {high:g}.</p>{classes}"
        f"<p>Tested on {facts.n_tested} tracks, each by a model that has not learned from it: "
        f"{escape(facts.protocol)}.</p>{scores}"
    )


def _score(score: Score) -> str:
    value, low, high = score.interval
    interval = "" if low is None else f" (95 % interval {percent(low)} to {percent(high)})"
    return f"<strong>{escape(score.name)}: {percent(value)}</strong>{interval} {escape(score.meaning)}."


def _four_cells(facts: Facts, shown: list[tuple[Clip, list[Shown]]]) -> str:
    """The confusion matrix as four fields, each with its count and its clips."""
    fields = []
    for cell in CELLS:
        cards = [_card(clip, each) for clip, readings in shown for each in readings if each.reading.cell == cell]
        right = "right" if cell in ("happy-happy", "sad-sad") else "wrong"
        none = '<p class="note">No clip of this kind is shown.</p>'
        count = facts.cells[cell]
        fields.append(
            f'<section class="cell {right}"><h3>{cell_words(cell)}</h3>'
            f'<p class="count">{count} {"clip" if count == 1 else "clips"} of {facts.n_tested}</p>'
            f'<div class="cards">{"".join(cards) or none}</div></section>'
        )
    return f'<div class="cells">{"".join(fields)}</div>'


def _by_target(facts: Facts, shown: list[tuple[Clip, list[Shown]]]) -> str:
    """A list of cards for each target."""
    parts = []
    for target in dict.fromkeys(each.reading.target for _, readings in shown for each in readings):
        cards = [_card(clip, each) for clip, readings in shown for each in readings if each.reading.target == target]
        parts.append(
            f'<section><h3>{escape(target.capitalize())}</h3><div class="cards">{"".join(cards)}</div></section>'
        )
    return "".join(parts)


def _card(clip: Clip, shown: Shown) -> str:
    """A link to a clip: its map, its title, why it was chosen, and the prediction."""
    chosen = "".join(
        f'<span class="rule">{escape(words)}</span>'
        for words in (shown.reading.rule, f"track {clip.track}")
        if shown.reading.rule
    )
    heard = "" if shown.sounds else '<span class="mute">not to be heard</span>'
    return (
        f'<a class="card" href="{clip.address}.html">{picture(shown.heat, "", "thumb")}'
        f'<span class="title">{escape(clip.title)}</span><span class="author">{escape(clip.author)}</span>'
        f'<span class="facts">{escape(_prediction(shown.reading))}</span>'
        f"{chosen}{heard}</a>"
    )


def _prediction(reading: Reading) -> str:
    if reading.cell:
        return f"{chance(reading.predicted)} happy"
    listeners = "" if reading.reference is None else f", listeners {reading.reference:.1f}"
    return f"predicted {reading.predicted:.1f}{listeners}"


def licences_page(shown: list[tuple[Clip, list[Shown]]], withheld: pd.DataFrame) -> str:
    """Credits of every clip that is shown, and the tracks whose sound is not published."""
    credits = "".join(
        f'<section class="credit"><h3><a href="{clip.address}.html">{escape(clip.title)}</a></h3>'
        f"{credit(clip, any(is_cut(each) for each in readings))}</section>"
        for clip, readings in shown
    )
    body = (
        '<header class="top"><p class="crumb"><a href="index.html">← All clips</a></p><h1>Licences and credits</h1>'
        '<p class="intro">Sound is published here only where the licence told with a clip allows it.</p></header>\n'
        f"<main><section><h2>Clips on this site</h2>{credits}</section>{_withheld_table(withheld)}</main>"
    )
    return page("Licences and credits", body)


def _withheld_table(withheld: pd.DataFrame) -> str:
    if withheld.empty:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(row.title or row.track_id)}</th><td>{escape(row.licence or "none told")}</td>'
        f"<td>{escape(row.why)}</td></tr>"
        for row in withheld.itertuples()
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Track", "Licence", "Why"))
    return (
        f"<section><h2>Not published</h2><details><summary>{len(withheld)} tracks of this run</summary>"
        f'<table class="wide"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></details></section>'
    )
