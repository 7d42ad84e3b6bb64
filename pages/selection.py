"""Selection: how few columns are enough, and whether the same ones would be chosen again."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from mer_core.jobs import start_job
from mer_core.plots import columns as figures
from ui.frame import dark, expected_failures, footer, frame, how_to_read, show_badges
from ui.selection import link
from ui.tables import choose_among, made_by, read_json

RULES = {"minimum": "least error", "one-se": "within one error", "largest": "all allowed"}
SHOWN = 40


def main() -> None:
    """Draw the page."""
    badges = frame("Selection", "How few numbers are enough, and would the same ones be chosen again?")
    found = made_by(("select",), "selection.json")
    if not found:
        nothing_yet()
        return
    run = choose_among(found, "selection", "Runs of select: few columns instead of all.")
    if run is None:
        return
    show_badges(badges, run.about)
    with expected_failures():
        page_of(run)
    footer(run)


def nothing_yet() -> None:
    """What is missing and the one thing that cures it."""
    st.subheader("Nothing has been selected yet")
    st.write(
        "Select ranks the columns inside each training part, tries designs of growing size on held-out groups, and "
        "says which size is enough, and how often each column is chosen."
    )
    if st.button("Select from the demo's features", type="primary", icon=":material/play_arrow:"):
        start_job("select", {"dataset": "demo", "columns": "40"})
        st.switch_page("pages/runs.py")
    st.code("python -m pipelines select --dataset demo --columns 40", language="bash")


def page_of(run) -> None:
    """Everything about one selection."""
    about, curve = read_json(run, "selection.json"), run.table("curve")
    verdict(run, about)
    chosen = {RULES[rule]: pd.Series(found["columns"]).mean() for rule, found in about["rules"].items()}
    st.plotly_chart(
        figures.size_curve(over_folds(curve), chosen, whole_error(about), dark()),
        key="sizes",
        config={"displayModeBar": False},
        alt="Error on unseen groups against the number of columns used",
    )
    how_to_read(
        "The line is the error on tracks of groups that neither the ranking nor the model has seen; the band is its "
        "95 % interval over groups. Dashed lines mark the mean sizes that rules chose inside the training "
        "parts: that of least error, the fewest within one standard error of it, and all that were allowed."
    )
    stability(run, about)
    columns(run)
    link("pages/importance.py", "How do the chosen columns act?", icon=":material/bar_chart:", run=run.run_id)
    link("pages/track.py", "What do they say of one track?", icon=":material/graphic_eq:", run=run.run_id)


def verdict(run, about: dict) -> None:
    """The design against all columns, in words."""
    rule = about["rule"]
    found = about["rules"][rule]
    size = pd.Series(found["columns"])
    st.markdown(
        f"**{size.min():.0f} to {size.max():.0f}** of **{len(run.table('stability'))}** columns "
        f"(rule: {RULES[rule]}), compared with all columns on the same folds:"
        if size.min() < size.max()
        else f"**{size.min():.0f}** of **{len(run.table('stability'))}** columns (rule: {RULES[rule]}), compared with "
        "all columns on the same folds:"
    )
    places = st.columns(len(found["against_all"]))
    for place, (target, paired) in zip(places, found["against_all"].items(), strict=True):
        score = paired["r2"]
        value, low, high = score["difference"]
        with place:
            shown = low is not None and (low > 0 or high < 0)
            st.metric(
                f"R² of {target}",
                f"{score['a']:.3f}",
                f"{value:+.3f} against all",
                delta_color="normal" if shown else "off",
                delta_arrow="off",
            )
            st.caption(
                f"all columns: {score['b']:.3f}; 95 % interval of the difference {low:+.3f} to {high:+.3f}"
                if low is not None
                else f"all columns: {score['b']:.3f}"
            )


def over_folds(curve: pd.DataFrame) -> pd.DataFrame:
    """Error of each size over the held-out tracks of all folds, with its interval over groups where the run has it."""
    rows = curve[curve["fold"] == "all"].sort_values("columns")
    table = rows[["columns"]].assign(mean=rows["outer_joint"], low=rows["outer_joint"], high=rows["outer_joint"])
    if {"outer_joint_low", "outer_joint_high"} <= set(rows):
        table = table.assign(low=rows["outer_joint_low"], high=rows["outer_joint_high"])
    return table[table["mean"].notna()].reset_index(drop=True)


def whole_error(about: dict) -> float | None:
    """Mean error over targets with all columns."""
    paired = about["rules"][about["rule"]]["against_all"].values()
    errors = [target["rmse"]["b"] for target in paired]
    return sum(errors) / len(errors) if errors else None


def stability(run, about: dict) -> None:
    """Whether another part of the data would have chosen the same columns."""
    st.divider()
    st.subheader("Would the same ones be chosen again?")
    st.markdown(stability_words(about.get("stability", {})))
    selections = run.table("selections")
    first = selections[(selections["repeat"] == selections["repeat"].min()) & (selections["fold"] != "all")]
    table = first.pivot_table(index="column", columns="fold", values="selected", aggfunc="max", fill_value=False)
    order = run.table("stability").set_index("column")
    table = table.loc[table.any(axis=1)].astype(float)
    ranked = order.loc[table.index].sort_values(["frequency", "score"], ascending=False).index[:SHOWN]
    st.plotly_chart(
        figures.selection_map(table.loc[ranked], [order.loc[name, "plain"] for name in ranked], dark()),
        key="map",
        config={"displayModeBar": False},
        alt="Which of the most frequent columns each fold chose",
    )
    how_to_read(
        "Rows are columns, those chosen most often on top; a filled cell says that this fold chose it. Many rows with "
        "a single cell mean that other columns would do as well: they repeat each other."
    )


def stability_words(found: dict) -> str:
    """The stability index in a sentence."""
    index = found.get("nogueira") or {}
    if index.get("value") is None:
        return "One selection cannot be compared with another; select with --repeats 5 to see how stable it is."
    value, low, high = index["value"], index["low"], index["high"]
    kind = "excellent" if value >= 0.75 else "fair" if value >= 0.4 else "poor"
    return (
        f"Stability **{value:.2f}** (95 % interval {low:.2f} to {high:.2f}; 1: always the same columns, 0: by chance): "
        f"**{kind}** by the usual reading (Nogueira et al. 2018: above .75 excellent, below .4 poor)."
    )


def columns(run) -> None:
    """The final design in plain words."""
    st.divider()
    table = run.table("stability")
    chosen = table[table["chosen"]].sort_values("score", ascending=False)
    st.subheader(f"The final design: {len(chosen)} columns")
    shown = chosen[["plain", "group", "statistic", "frequency", "column"]]
    st.dataframe(
        shown.assign(group=shown["group"].str.replace("_", " ")).rename(
            columns={"plain": "in plain words", "group": "acoustic proxy of", "frequency": "chosen by folds"}
        ),
        hide_index=True,
        key="design",
        column_config={"chosen by folds": st.column_config.ProgressColumn(min_value=0, max_value=1, format="percent")},
    )


main()
