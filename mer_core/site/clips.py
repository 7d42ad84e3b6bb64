"""What a site shows: clips with one or several readings each, chosen from a run by rule.

A reading is one prediction for one clip with its relevance map. Classifiers: the run's own examples of the four
confusion cells. Regression: for each rating the clips that lie farthest above and below the average, in the middle,
and farthest from what listeners said. Where some explained clips may be published, regression examples are chosen
among those.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd

from mer_core.errors import UserError
from mer_core.explain.maps import RelevanceMap
from mer_core.runs import Run
from mer_core.site.licences import Terms, terms_of

REGRESSION_RULES = ("farthest above the average", "farthest below the average", "median", "largest error")
AUTHORS = ("composer", "artist", "performer", "author")
CLASSIFIER_TARGET = "happy"
MOST_TARGETS = 2


@dataclass(frozen=True)
class Reading:
    """One prediction of one clip.

    target : what is predicted; rule : why this clip was chosen, "" where nobody chose
    cell : confusion cell, "" for ratings
    predicted : probability of happy, or rating; lower, upper : its interval, or None
    reference : listeners' rating, or the class as 1 or 0, or None; scale : lowest and highest value
    """

    target: str
    rule: str
    cell: str
    predicted: float
    lower: float | None
    upper: float | None
    reference: float | None
    scale: tuple[float, float]


@dataclass(frozen=True)
class Clip:
    """A track on the site; `load(target)` reads its relevance map, `address` is its page's name without suffix."""

    track: str
    title: str
    author: str
    licence: str
    source: str
    terms: Terms
    path: str | None
    readings: tuple[Reading, ...]
    load: Callable[[str], RelevanceMap]
    address: str = ""


def clips_of_run(run: Run, count: int) -> tuple[list[Clip], list[str]]:
    """Up to `count` readings, gathered by clip, and what is to be told about their choice.

    Raises
    ------
    UserError : no maps, a run of another kind, or none of the examples is explained
    """
    if count < 1:
        raise UserError(f"--clips {count} leaves nothing to hear; give at least 1, such as 12")
    explained = run.relevance_tracks()
    if not explained:
        raise UserError(
            f"run {run.run_id!r} has no relevance maps to make audible; "
            f"make them with: python -m pipelines explain --run {run.run_id} --method lrp"
        )
    classifier = "classification" in run.metrics
    tracks = run.table("classes") if classifier else run.tracks
    tracks = tracks.astype({"track_id": str}).set_index("track_id")
    known = [track for track in explained if track in tracks.index]
    found, notes = (_cells if classifier else _ratings)(run, tracks.loc[known], count)
    if not found:
        raise UserError(
            f"none of the examples of run {run.run_id!r} has a relevance map; "
            f"make them with: python -m pipelines explain --run {run.run_id} --method lrp"
        )
    gathered: dict[str, list[Reading]] = {}
    for track, reading in found:
        gathered.setdefault(track, []).append(reading)
    clips = [_clip(run, track, tracks.loc[track], tuple(readings)) for track, readings in gathered.items()]
    return with_addresses(clips), notes


def _cells(run: Run, tracks: pd.DataFrame, count: int) -> tuple[list[tuple[str, Reading]], list[str]]:
    """The run's examples, first the most confident of each cell."""
    rows = run.table("examples").astype({"track_id": str})
    rules = list(dict.fromkeys(rows["rule"]))
    order = rows.assign(rank=rows["rule"].map(rules.index)).sort_values("rank", kind="stable")
    there = order[order["track_id"].isin(tracks.index)]
    notes = (
        [f"{len(rows) - len(there)} of {len(rows)} examples have no relevance map"] if len(there) < len(rows) else []
    )
    chosen = there.head(count).sort_index()
    return [
        (
            row.track_id,
            Reading(
                CLASSIFIER_TARGET,
                row.rule,
                row.cell,
                float(row.probability),
                None,
                None,
                float(tracks.loc[row.track_id, "true"]),
                (0.0, 1.0),
            ),
        )
        for row in chosen.itertuples()
    ], notes


def _ratings(run: Run, tracks: pd.DataFrame, count: int) -> tuple[list[tuple[str, Reading]], list[str]]:
    """For each target in turn, the clips that its rules name; the rules are gone through until there are enough."""
    scale = tuple(run.about["dataset"]["scale"])
    targets, notes = list(run.about["targets"])[:MOST_TARGETS], []
    rows = run.predictions.astype({"track_id": str})
    may = [track for track in tracks.index if terms_of(tracks.loc[track].get("licence")).publish]
    if may and len(may) < len(tracks):
        notes.append(f"chosen among the {len(may)} of {len(tracks)} explained clips whose licence allows publishing")
    rows = rows[rows["track_id"].isin(may or tracks.index)]
    queues = {target: _by_rule(rows[rows["target"] == target], scale) for target in targets}
    found: dict[str, list] = {target: [] for target in targets}
    for _ in range(count):
        for target in targets:
            if queues[target] and sum(map(len, found.values())) < count:
                found[target].append(queues[target].pop(0))
    return [pair for target in targets for pair in found[target]], notes


def _by_rule(rows: pd.DataFrame, scale: tuple[float, float]) -> list[tuple[str, Reading]]:
    """All tracks of one target in the order in which they are shown, each with its rule."""
    rows = rows.drop_duplicates("track_id").sort_values(["predicted", "track_id"]).reset_index(drop=True)
    error = (rows["predicted"] - rows["true"]).abs()
    from_middle = (rows.index.to_series() - (len(rows) - 1) // 2).abs()
    orders = (
        list(rows.index[::-1]),
        list(rows.index),
        list(from_middle.sort_values(kind="stable").index),
        list(error.sort_values(ascending=False, kind="stable").index),
    )
    queue, taken, again = [], set(), 1
    while len(taken) < len(rows):
        for rule, order in zip(REGRESSION_RULES, orders, strict=True):
            left = [number for number in order if number not in taken]
            if left:
                taken.add(left[0])
                words = rule if again == 1 else f"{rule}, no. {again}"
                queue.append((rows.loc[left[0], "track_id"], _reading(rows.loc[left[0]], words, scale)))
        again += 1
    return queue


def _reading(row: pd.Series, rule: str, scale: tuple[float, float]) -> Reading:
    lower, upper = (min(max(float(row[side]), scale[0]), scale[1]) for side in ("lower", "upper"))
    true = None if pd.isna(row["true"]) else float(row["true"])
    return Reading(row["target"], rule, "", float(row["predicted"]), lower, upper, true, scale)


def _clip(run: Run, track: str, row: pd.Series, readings: tuple[Reading, ...]) -> Clip:
    facts = {name.lower(): str(value) for name, value in row.items() if isinstance(value, str) and value.strip()}
    licence = facts.get("licence") or facts.get("license") or ""
    return Clip(
        track=track,
        title=facts.get("title", f"Track {track}"),
        author=", ".join(dict.fromkeys(facts[name] for name in AUTHORS if name in facts)),
        licence=licence,
        source=facts.get("source", ""),
        terms=terms_of(licence),
        path=facts.get("path"),
        readings=readings,
        load=lambda target: run.relevance_map(track, (target,)),
    )


def with_addresses(clips: list[Clip]) -> list[Clip]:
    """Clips with page names made from their ids: letters, digits and hyphens, each once."""
    taken: set[str] = set()
    named = []
    for clip in clips:
        slug = re.sub(r"[^a-z0-9]+", "-", clip.track.lower()).strip("-")[:40] or "clip"
        number, address = 1, f"clip-{slug}"
        while address in taken:
            number += 1
            address = f"clip-{slug}-{number}"
        taken.add(address)
        named.append(replace(clip, address=address))
    return named


def unpublished(run: Run) -> pd.DataFrame:
    """All tracks of a run whose sound may not be published: columns track_id, title, licence, why."""
    tracks = run.table("classes") if "classification" in run.metrics else run.tracks
    rows = []
    for row in tracks.to_dict("records"):
        licence = row.get("licence") or row.get("license")
        terms = terms_of(licence)
        if not terms.publish:
            told = licence if isinstance(licence, str) else ""
            title = row.get("title")
            rows.append((str(row["track_id"]), title if isinstance(title, str) else "", told, terms.said))
    return pd.DataFrame(rows, columns=["track_id", "title", "licence", "why"])
