"""Is one run better than another, or than chance? Asked on the same tracks, with the interval of the difference."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from mer_core.errors import UserError
from mer_core.runs import Run, compare_runs
from ui import data
from ui.frame import how_to_read

MOST_RIVALS = 15
NAMES = {"r2": "R²", "rmse": "RMSE", "ccc": "CCC"}


@st.cache_data(max_entries=64, show_spinner="Comparing the two runs on the same resamples …")
def compared(first: str, second: str, key: tuple) -> dict:
    """`compare_runs` of two runs by id, kept until a run changes."""
    return compare_runs(data.open_run(first), data.open_run(second))


def _compared(run: Run, other: str) -> dict:
    stamps = tuple((data.open_run(name).about["started"], name) for name in (run.run_id, other))
    return compared(run.run_id, other, stamps)


def rivals(run: Run) -> list[str]:
    """Ids of the other runs on the same tracks and ratings."""
    mark = run.about["dataset"]["fingerprint"]
    return [s.run_id for s in data.usable() if s.about["dataset"]["fingerprint"] == mark and s.run_id != run.run_id]


def difference_rows(found: dict, first: str, second: str) -> pd.DataFrame:
    """One row per target and measure: both scores, their difference with its interval, and the verdict."""
    rows = []
    for target, scores in found["targets"].items():
        for measure, words in NAMES.items():
            row = scores[measure]
            value, low, high = row["difference"]
            winner = {"a": first, "b": second}.get(row["winner"], "cannot be told")
            interval = f"{value:+.3f} ({low:+.3f} to {high:+.3f})" if low is not None else f"{value:+.3f}"
            scored = {"this run": f"{row['a']:.3f}", "the other": f"{row['b']:.3f}"}
            rows.append({"target": target, "measure": words, **scored, "difference": interval, "better": winner})
    return pd.DataFrame(rows)


def versus_section(run: Run) -> None:
    """Choose another run and see whether the difference is more than luck."""
    st.divider()
    st.subheader("Better than another run?")
    others = rivals(run)
    if not others:
        st.caption(
            "There is no other run on the same tracks and ratings. Train another model to compare it with this one."
        )
        return
    other = st.selectbox("Compare with", others, key="versus", bind="query-params")
    try:
        found = _compared(run, other)
    except UserError as error:
        st.info(str(error))
        return
    st.dataframe(difference_rows(found, run.run_id, other), hide_index=True, key="versus-table")
    for sentence in found["leaks"]:
        st.warning(sentence)
    how_to_read(
        "Both runs are scored on the same tracks, again and again on other samples of albums, artists or pieces. Where "
        "the 95 % interval of the difference holds zero, the better score may be luck, and no run is called better."
    )


def winner_sentence(best: Run, others: list[str], target: str) -> str:
    """Whether the first run of a leaderboard really beats the next ones on a target; empty where none compares."""
    beaten, unsure = [], []
    for other in others:
        try:
            row = _compared(best, other)["targets"].get(target)
        except UserError:
            continue  # other tracks or ratings, so that there is nothing to pair; the Models page says why
        if row is not None:
            (beaten if row["r2"]["winner"] == "a" else unsure).append(other)
    if unsure:
        return (
            f"{target.capitalize()}: **{best.run_id}** cannot be called better than {', '.join(unsure)}: on the same "
            "tracks, the 95 % interval of the difference in R² holds zero."
        )
    if beaten:
        return f"{target.capitalize()}: **{best.run_id}** beats {', '.join(beaten)} on the same tracks."
    return ""


def reference_differences(routes: pd.DataFrame) -> tuple[str | None, pd.DataFrame]:
    """Differences of single runs from the best one that does not leak, on one target, track by track.

    routes : rows of `ui.routes.routes`, of one target

    Returns
    -------
    Label of the best run, and its rivals with `difference`, `low` and `high` of R2; those on other tracks are left out
    """
    runs = routes[routes["run_id"] != ""].sort_values("r2", ascending=False)
    honest = runs[runs["caveats"] == ""] if (runs["caveats"] == "").any() else runs
    if honest.empty:
        return None, runs.assign(difference=0.0, low=0.0, high=0.0)
    best, rows = honest.iloc[0], []
    for row in runs[runs["run_id"] != best["run_id"]].head(MOST_RIVALS).to_dict("records"):
        try:
            found = _compared(data.open_run(row["run_id"]), best["run_id"])["targets"].get(row["target"])
        except UserError:
            continue  # other tracks or ratings, so that there is nothing to pair
        if found is not None and found["r2"]["difference"][1] is not None:
            rows.append(row | dict(zip(("difference", "low", "high"), found["r2"]["difference"], strict=True)))
    return best["label"], pd.DataFrame(
        rows, columns=[*runs.columns.difference(["difference"]), "difference", "low", "high"]
    )


def chance_sentences(run: Run) -> list[str]:
    """What the permutation test says, one sentence per target; empty where it was not asked for."""
    test = run.metrics.get("permutation")
    if not test:
        return []
    return [
        f"{target}: R² {row['r2']:.2f} against at most {max(row['null']):.2f} in {test['permutations']} exchanges of "
        f"the ratings (p = {row['p']:.3f})."
        for target, row in test["targets"].items()
    ]
