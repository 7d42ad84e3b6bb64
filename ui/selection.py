"""Run, track and target: chosen once, kept in the address, carried from page to page by links.

A value in the address that does not exist is said to be unknown, with what comes near; it is never exchanged silently.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from mer_core.errors import UserError
from mer_core.runs import Run
from ui import data

CARRIED = ("run", "track", "target")


def current() -> dict[str, str]:
    """Run, track and target chosen so far, for links to other pages."""
    chosen = {key: st.session_state.get(key) or st.query_params.get(key) for key in CARRIED}
    return {key: value for key, value in chosen.items() if isinstance(value, str) and value}


def link(page: str, label: str, icon: str | None = None, **params: str | None) -> None:
    """Link to another page that takes the selection along; `params` override it."""
    st.page_link(page, label=label, icon=icon, query_params={k: v for k, v in {**current(), **params}.items() if v})


def choose(
    label: str, options: Sequence[str], key: str, default: str, help: str | None = None, visible: bool = True
) -> str | None:
    """Select box bound to the address; None, after saying so, when the address names something that does not exist."""
    options = list(options)
    asked = st.session_state[key] if key in st.session_state else st.query_params.get(key)
    if asked is None and not st.session_state.get(f"unknown-{key}"):
        st.session_state[key] = default
    elif asked is not None and asked not in options:
        st.session_state[f"unknown-{key}"] = asked
        st.session_state[key] = None
    chosen = st.selectbox(
        label,
        options,
        index=None,
        key=key,
        bind="query-params",
        help=help,
        label_visibility="visible" if visible else "collapsed",
        placeholder=f"Choose a {label.lower()}",
    )
    if chosen is not None:
        st.session_state.pop(f"unknown-{key}", None)
    return chosen


def choose_one(label: str, options: dict[str, str], key: str, help: str | None = None) -> str:
    """Row of buttons bound to the address by their labels; the first is preselected. Returns the key chosen."""
    asked = st.query_params.get(key)
    if key not in st.session_state and asked is not None and asked not in options.values():
        st.warning(f"“{asked}” is not a choice of “{label}”, so “{next(iter(options.values()))}” is shown.")
    return st.segmented_control(
        label,
        list(options),
        default=next(iter(options)),
        format_func=options.get,
        key=key,
        bind="query-params",
        required=True,
        help=help,
        wrap=True,
    )


def unknown(key: str) -> str | None:
    """What the address named although it does not exist."""
    return st.session_state.get(f"unknown-{key}")


def nearest(asked: str, options: Sequence[str], n: int = 5) -> list[str]:
    """Ids that look like the one asked for: by spelling, or by number where all are numbers."""
    options = list(options)
    if asked.isdigit() and all(option.isdigit() for option in options):
        return sorted(options, key=lambda option: (abs(int(option) - int(asked)), option))[:n]
    return difflib.get_close_matches(asked, options, n=n, cutoff=0.0)


def say_unknown(what: str, key: str, options: Sequence[str]) -> None:
    """Warn that the address names something unknown, and offer what comes near."""
    asked = unknown(key)
    if asked is None:
        return
    st.warning(f"There is no {what} “{asked}” here. Choose another one, or take one of the nearest:")
    with st.container(horizontal=True):
        for option in nearest(asked, options):
            st.button(option, key=f"near-{key}-{option}", on_click=_take, args=(key, option))


def _take(key: str, value: str) -> None:
    st.session_state[key] = value
    st.session_state.pop(f"unknown-{key}", None)


def choose_run(place=None) -> Run | None:
    """The run all figures of the page are about; None when the address names an unknown one (said on the page)."""
    found = data.usable()
    ids = [summary.run_id for summary in found]
    with place if place is not None else st.container():
        chosen = choose(
            "Run",
            ids,
            "run",
            data.best_run(found).run_id,
            "A finished training run. The best one on the newest dataset is preselected.",
        )
    if chosen is None:
        unreadable = {summary.run_id: summary.problem for summary in data.summaries() if summary.problem}
        if unknown("run") in unreadable:
            st.error(f"Run “{unknown('run')}” cannot be read: {unreadable[unknown('run')]}")
        say_unknown("run", "run", ids)
        return None
    return data.open_run(chosen)


def choose_target(run: Run, place=None) -> str | None:
    """The rated quality the page is about."""
    with place if place is not None else st.container():
        chosen = choose(
            "Target",
            run.about["targets"],
            "target",
            run.about["targets"][0],
            "The rating that is predicted: valence (unpleasant to pleasant), arousal (calm to excited), or another "
            "one of the dataset.",
        )
    if chosen is None:
        say_unknown("target", "target", run.about["targets"])
    return chosen


def choose_track(run: Run, default: str, place=None, label: str = "Track") -> str | None:
    """The track the page is about."""
    ids = list(data.clips(run).index)
    with place if place is not None else st.container():
        chosen = choose(
            label, ids, "track", default, "Type to search. Clicking a point in a figure chooses its track, too."
        )
    if chosen is None:
        say_unknown("track", "track", ids)
    return chosen


def take_clicked(figure_key: str) -> None:
    """Callback of a figure: the clicked point's track becomes the selected one."""
    for track in clicked(st.session_state.get(figure_key)):
        st.session_state["track"] = track
        st.session_state.pop("unknown-track", None)
        return


def clicked(event: dict | None) -> list[str]:
    """Custom data (track ids, names) of the selected points, in order, without repeats."""
    points = ((event or {}).get("selection") or {}).get("points") or []
    values = [point.get("customdata") for point in points]
    flat = [value[0] if isinstance(value, (list, tuple)) else value for value in values if value is not None]
    return [str(value) for value in dict.fromkeys(flat)]


def example_track(table: pd.DataFrame) -> str:
    """A track worth hearing first: has audio, lies far from the middle, and is predicted well."""
    if "valence_predicted" not in table or "arousal_predicted" not in table:
        return str(table.index[0])
    tested = table[table["valence_predicted"].notna() & table["arousal_predicted"].notna()]
    with_audio = tested[tested["path"].notna()]
    pool = with_audio if len(with_audio) else tested
    middle = pool[["valence", "arousal"]].mean()
    strength = ((pool[["valence", "arousal"]] - middle) ** 2).sum(axis=1) ** 0.5
    return str((strength - 2 * data.distance(pool)).idxmax())


def require(found: object, message: str) -> None:
    """UserError with a message where something is missing."""
    if not found:
        raise UserError(message)
