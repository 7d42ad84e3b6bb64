"""What the label audit and the exploration found on a dataset, as sections of its page."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from mer_core.plots.audit import correlation_matrices, evidence_strip
from mer_core.plots.exploration import components_scatter, correlation_list, level_means
from mer_core.runs import Run
from ui import data
from ui.frame import dark, how_to_read
from ui.selection import choose_one, take_clicked

QUIET = {"displayModeBar": False}
SAID_OF_STATE = {"exchanged": st.error, "scattered": st.error, "straight": st.success}


def newest(run: Run, pipeline: str) -> Run | None:
    """The newest run of `audit` or `eda` on the same folder as `run`, or None."""
    folder = run.about["dataset"].get("root")
    for summary in data.summaries():
        about = summary.about
        if summary.problem is None and about["pipeline"] == pipeline and about["dataset"].get("root") == folder:
            return data.open_run(summary.run_id)
    return None


def _missing(run: Run, pipeline: str, what: str) -> None:
    """Say how to get what is not there."""
    about = run.about["dataset"]
    spec = "demo" if about["synthetic"] else f"'{about.get('root') or about['name']}'"
    st.caption(f"{what} Start the pipeline **{pipeline}** on the Runs page, or:")
    st.code(f"python -m pipelines {pipeline} --dataset {spec}", language="bash")


def audit_section(run: Run) -> None:
    """Whether valence and arousal are in their places, and what else is odd about the labels."""
    st.divider()
    st.subheader("Can the labels be trusted?")
    found = newest(run, "audit")
    if found is None:
        _missing(run, "audit", "The labels of this dataset have not been audited yet.")
        return
    audit = found.metrics["audit"]
    order = audit["order"]
    SAID_OF_STATE.get(order.get("state"), st.info)(f"As {audit['labels']}: {audit['verdict']}")
    if audit.get("after"):
        st.caption(f"After the correction this program applies: {audit['after']['verdict']}")
    parts = order.get("parts") or {}
    known = {part: facts.get("correlations") for part, facts in parts.items()}
    if any(known.values()):
        st.plotly_chart(
            correlation_matrices(known, dark()),
            key="audit-matrices",
            config=QUIET,
            alt="Correlation of static with dynamic ratings, one square per part",
        )
        how_to_read(
            "Each square compares the one rating a track got as a whole with the ratings given while it played. What "
            "belongs together lies on the falling diagonal and should be dark; a dark rising diagonal means that "
            "valence and arousal are exchanged."
        )
        evidence = found.table("audit_tracks")
        st.plotly_chart(
            evidence_strip(evidence, {part: facts.get("blocks") or [] for part, facts in parts.items()}, dark()),
            key="audit-evidence",
            config=QUIET,
            alt="Evidence of every track that its labels are exchanged, in order of the ids",
        )
        how_to_read(
            "Every dot is a track, in order of the ids: above the line its labels fit better when exchanged, below as "
            "they are. Shaded blocks are exchanged as a whole."
        )
    with st.expander("Every check of the audit"):
        st.markdown("\n".join(f"- {line}" for line in _sentences(audit)))
        st.caption(f"From run {found.run_id}.")


def _sentences(audit: dict) -> list[str]:
    """Verdict per part, loudness, raters, and whatever else the audit has to say."""
    lines = []
    for facts in (audit["order"].get("parts") or {}).values():
        lines += [facts["verdict"], *([facts["loudness"]["sentence"]] if facts.get("loudness") else [])]
    for part, facts in audit["spread"].items():
        if facts.get("raters"):
            lines.append(f"{part}: {facts['raters']['sentence']}")
        for target, row in facts.items():
            if isinstance(row, dict) and row.get("ceiling"):
                limit = row["ceiling"]
                lines.append(
                    f"{part}: {target}: raters spread by {row['mean']:.2f} points on average; no model can pass "
                    f"R² {limit['r2']:.2f} or RMSE {limit['rmse']:.2f}"
                )
    return [*lines, *audit.get("messages", [])]


def exploration_section(run: Run) -> None:
    """What goes with the ratings, and the main directions the features vary in."""
    st.divider()
    st.subheader("What goes with the ratings?")
    found = newest(run, "eda")
    if found is None:
        _missing(run, "eda", "This dataset has not been explored yet.")
        return
    eda = found.metrics["eda"]
    target = choose_one("Rating", {name: name for name in run.about["targets"]}, "eda-target")
    left, right = st.columns(2, gap="large")
    with left:
        _correlations(found, eda, target)
    with right:
        _components(found, eda, target, data.clips(run))
    _levels(found)
    with st.expander("Distributions and the relation of valence and arousal, per part"):
        st.dataframe(pd.DataFrame(eda["distributions"]).round(2), hide_index=True)
        st.dataframe(pd.DataFrame(eda["relation"]).round(2), hide_index=True)
        for message in eda.get("messages", []):
            st.caption(message)
        st.caption(f"From run {found.run_id}.")


def _correlations(found: Run, eda: dict, target: str) -> None:
    if not eda.get("columns"):
        st.caption("The exploration was made without features.")
        return
    st.plotly_chart(
        correlation_list(found.table("eda_correlations"), target, dark()),
        key="eda-correlations",
        config=QUIET,
        alt=f"Features that go most with {target}",
    )
    count = eda["significant"].get(target, 0)
    how_to_read(
        f"Rank correlation of single features with rated {target}; {count} of {eda['columns']} hold after correction "
        "for having looked at them all (hollow marks do not). Going together is not causing."
    )


def _components(found: Run, eda: dict, target: str, clips: pd.DataFrame) -> None:
    if not eda.get("components"):
        return
    scores = found.table("pca_scores")
    known = clips.reset_index(drop=True)[["track_id", "label", target]]
    table = scores.merge(known, on="track_id", how="inner")
    shares = {row["component"]: row["variance"] for row in eda["components"]}
    st.plotly_chart(
        components_scatter(table, shares, table[target], target, dark()),
        key="eda-components",
        config=QUIET,
        on_select=_clicked,
        selection_mode="points",
        alt=f"Tracks on the first two principal components, coloured by {target}",
    )
    how_to_read(
        f"Tracks that sound alike to the features lie together; colour is rated {target}. It takes {eda['n_95']} such "
        "directions to hold 95 % of what varies. Click a track to hear it above."
    )


def _clicked() -> None:
    take_clicked("eda-components")


def _levels(found: Run) -> None:
    levels = found.table("eda_levels")
    names = [name for name in dict.fromkeys(levels["column"]) if name != "part"]
    if not names:
        return
    with st.expander("Ratings by " + ", ".join(names)):
        column = choose_one("Metadata", {name: name for name in names}, "eda-column") if len(names) > 1 else names[0]
        st.plotly_chart(
            level_means(levels, column, dark()), key="eda-levels", config=QUIET, alt=f"Mean ratings by {column}"
        )
