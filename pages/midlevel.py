"""Mid-level: emotions as sums of qualities that musicians can name, to read, to change and to hear."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from mer_core.jobs import start_job
from mer_core.plots import midlevel as figures
from mer_core.runs import Run
from ui import data
from ui import midlevel as own
from ui.evidence import evidence
from ui.frame import dark, expected_failures, footer, frame, how_to_read, show_badges
from ui.player import Clip, player
from ui.selection import choose, choose_target, choose_track, example_track, link
from ui.tables import choose_among, made_by
from ui.words import in_points

NONE = "no other track"
REACH = 3.0  # standard deviations that a slider goes to


def main() -> None:
    """Draw the page."""
    badges = frame("Mid-level", "Which qualities that a musician can name make the feeling?")
    found = made_by(("midlevel",), "midlevel.json")
    if not found:
        nothing_yet()
        return
    first, second, third, fourth = st.columns([3, 3, 2, 3])
    run = choose_among(found, "midlevel", "Runs of midlevel: ratings through named qualities.", first)
    if run is None:
        return
    _, badge, colour, meaning = own.kind_of(run)
    with badges:
        st.badge(badge, icon=":material/straighten:", color=colour, help=meaning)
    show_badges(badges, run.about)
    with expected_failures():
        page_of(run, second, third, fourth)
    footer(run)


def nothing_yet() -> None:
    """What is missing and the one thing that cures it."""
    st.subheader("No run through named qualities yet")
    st.write(
        "A mid-level run predicts seven qualities, such as melodiousness or dissonance, and makes each rating from "
        "them by a sum that one can read. It compares this with going straight from audio to ratings."
    )
    if st.button("Make one from the demo", type="primary", icon=":material/play_arrow:"):
        start_job("midlevel", {"dataset": "demo", "network": "musicnn-mtt@dense"})
        st.switch_page("pages/runs.py")
    st.code("python -m pipelines midlevel --dataset demo --network musicnn-mtt@dense", language="bash")


def page_of(run: Run, second, third, fourth) -> None:
    """Everything about one run and one or two of its tracks."""
    table = data.clips(run)
    heard = [name for name in run.relevance_tracks() if name in table.index]
    track = choose_track(run, example_track(table.loc[heard] if heard else table), place=second)
    rating = choose_target(run, third)
    with fourth:
        other = choose("Compare with", [NONE, *table.index], "other", NONE, "A second track, drawn beside the first.")
    if track is None or rating is None:
        return
    chosen = {track: str(table.loc[track, "label"])}
    if other not in (None, NONE, track):
        chosen[other] = str(table.loc[other, "label"])
    of_track(run, table, chosen, rating)
    formula(run, rating)
    what_if(run, table, track)
    listen(run, table, track, rating)
    schemes(run)


def of_track(run: Run, table: pd.DataFrame, chosen: dict[str, str], rating: str) -> None:
    """Qualities and their effects, of one or two tracks."""
    kind, questions, effects = own.kind_of(run)[0], own.told(run)["questions"], own.effects(run)
    track = next(iter(chosen))
    row = table.loc[track]
    st.subheader(row["label"])
    said = f"{rating.capitalize()}: rated **{row[rating]:.1f}**, predicted **{row[f'{rating}_predicted']:.1f}**. "
    st.markdown(said + own.strongest(effects[effects["track_id"] == track], rating))
    player([Clip(name, label, table.loc[name, "path"]) for name, label in chosen.items()], key="midlevel")
    left, right = st.columns(2, gap="large")
    with left:
        asked = "\n\n".join(f"**{figures.plain(name)}**: {question}" for name, question in questions.items())
        st.markdown("#### What it sounds like", help=asked)
        bars = pd.DataFrame({"quality": list(questions), "question": list(questions.values())})
        for name, label in chosen.items():
            bars[label] = own.z_scores(run, name).loc[bars["quality"]].to_numpy()
        st.plotly_chart(
            figures.quality_bars(bars, tuple(chosen.values()), kind, dark()),
            key="qualities",
            config={"displayModeBar": False},
            alt="Qualities of the chosen tracks in standard deviations from the average track",
        )
    with right:
        st.markdown(f"#### What that does to {rating}")
        st.plotly_chart(
            figures.effects_plot(effects[effects["rating"] == rating], chosen, rating, kind, dark()),
            key="effects",
            config={"displayModeBar": False},
            alt=f"What each quality adds to {rating}: boxes over all tracks, marks of the chosen ones",
        )
    how_to_read(
        "Left: how much of each quality the model hears in a track that it has not learned. Right: what each adds to "
        "the rating, weight times quality; boxes hold the middle half of all tracks. All effects and the average "
        "rating together are the prediction, exactly."
    )
    with st.expander("What raters are asked about each quality"):
        for name, question in questions.items():
            st.markdown(f"**{figures.plain(name).capitalize()}**: {question}")
        source = Path(run.about["midlevel"]["source"]).name
        st.caption(f"{own.kind_of(run)[3]} Questions after Aljanaki & Soleymani (2018). From: {source}.")


def formula(run: Run, rating: str) -> None:
    """The rating as a sum, in words, and how sure its weights are."""
    st.divider()
    st.subheader(f"How is {rating} made of them?")
    scheme = run.about["midlevel"]["main"]
    st.markdown(f"`{own.told(run)['schemes'][scheme]['formulas'][rating]}`")
    weights = run.table("weights")
    rows = weights[(weights["scheme"] == scheme) & (weights["rating"] == rating)]
    st.plotly_chart(
        figures.weights_forest(rows, rating, own.kind_of(run)[0], dark()),
        key="weights",
        config={"displayModeBar": False},
        alt=f"Weight of each quality on {rating} with its interval",
    )
    how_to_read(
        "The sum of the final model; each quality counts in standard deviations. A weight is what one standard "
        "deviation more adds to the rating while the others stay. Bars are 95 % intervals over albums, artists or "
        "pieces; hollow marks could as well be zero. Qualities that go together share their weights, so a weight is no "
        "proof of a cause."
    )


def what_if(run: Run, table: pd.DataFrame, track: str) -> None:
    """Sliders for the qualities, and what the ratings would be."""
    st.divider()
    st.subheader("What if it were played otherwise?")
    questions, z = own.told(run)["questions"], own.z_scores(run, track)
    ratings = run.about["targets"]
    before = pd.Series({name: float(table.loc[track, f"{name}_predicted"]) for name in ratings})
    left, right = st.columns(2, gap="large")
    new = z.copy()
    with left:
        for name, question in questions.items():
            start = float(round(z[name], 1))
            reach = max(REACH, abs(start))
            moved = st.slider(
                figures.plain(name), -reach, reach, start, 0.1, key=f"if-{run.run_id}-{track}-{name}", help=question
            )
            new[name] = z[name] if moved == start else moved
        st.button("As it is", icon=":material/undo:", on_click=_reset, args=(f"if-{run.run_id}-{track}-",))
    after = own.what_if(own.linear_map(run, track), before, z, new)
    with right:
        st.plotly_chart(
            figures.what_if_plot(before.to_dict(), after.to_dict(), data.scale(run), dark()),
            key="what-if",
            config={"displayModeBar": False},
            alt="Each rating as predicted and as it would be",
        )
        moved = [f"{name} **{in_points(after[name] - before[name])}**" for name in ratings if new.ne(z).any()]
        st.markdown(", ".join(moved) if moved else "Move a slider: the ratings follow at once.")
    how_to_read(
        "Sliders are in standard deviations from the average track. The answer is exact for this model, since it is a "
        "sum: the hollow mark is the prediction, the full one what it would be. It says what the model would answer, "
        "not how to play it; real qualities seldom change one at a time."
    )


def _reset(prefix: str) -> None:
    for key in [key for key in st.session_state if str(key).startswith(prefix)]:
        del st.session_state[key]


def listen(run: Run, table: pd.DataFrame, track: str, rating: str) -> None:
    """The second level: where in the sound a quality, or a rating through all of them, comes from."""
    st.divider()
    st.subheader("Where in the sound is it?")
    qualities = list(own.told(run)["questions"])
    names = {figures.plain(name): name for name in qualities} | {f"{rating}, through all": rating}
    effects = own.effects(run)
    rows = effects[(effects["track_id"] == track) & (effects["rating"] == rating)].set_index("quality")["effect"]
    loudest = figures.plain(str(rows.abs().idxmax()))
    shown = choose("Listen to", list(names), "part", loudest, "A quality, or the rating that all of them make.")
    if shown is None:
        return
    target = names[shown] if shown in names else rating
    if target in qualities:
        weight = own.linear_map(run, track).loc[target, rating]
        raises = "raises" if weight > 0 else "lowers"
        st.markdown(
            f"More {shown} {raises} {rating} ({in_points(weight)} per standard deviation), so what raises {shown} "
            f"below {raises} {rating} through it. In this track {shown} adds **{in_points(rows[target])}**."
        )
    evidence(run, track, target, str(table.loc[track, "label"]), table.loc[track, "path"], key="midlevel")


def schemes(run: Run) -> None:
    """What naming the qualities costs, and how well they are heard."""
    st.divider()
    st.subheader("What does it cost to explain?")
    found, kind = run.metrics["midlevel"], own.kind_of(run)[0]
    cost = pd.DataFrame(found["cost"])
    shown = cost[cost["metric"] == "pearson"]
    st.plotly_chart(
        figures.cost_plot(shown, kind, dark()),
        key="cost",
        config={"displayModeBar": False},
        alt="Correlation of each scheme on each rating",
    )
    if "cost" in shown:
        for row in shown[(shown["rating"] == "mean") & (shown["scheme"] != "a2e")].to_dict("records"):
            label, words, _ = figures.SCHEMES[row["scheme"]]
            st.markdown(
                f"- **{label}** ({words}) costs **{row['cost']:.3f}** of mean r against A2E "
                f"(95 % interval {in_points(row['cost_low'])} to {in_points(row['cost_high'])})."
            )
    with st.expander("All scores, and how well each quality is heard"):
        columns = ["scheme", "rating", "metric", "value", "low", "high", "cost", "cost_low", "cost_high"]
        st.dataframe(cost[[name for name in columns if name in cost]].round(3), hide_index=True, key="costs")
        heard = pd.DataFrame(found["qualities"]).round(3)
        st.dataframe(heard, hide_index=True, key="heard")
        st.caption(f"Pearson r of predicted qualities with those they were learned from ({kind}), on unseen tracks.")
    link("pages/models.py", "How well does it predict, in all detail?", icon=":material/target:", run=run.run_id)
    link("pages/track.py", "The same track on its own page", icon=":material/graphic_eq:", run=run.run_id)


main()
