"""Compare: which route from sound to feeling is best, by how much, and does it hold elsewhere."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from mer_core import plots
from mer_core.jobs import list_jobs, start_job
from mer_core.plots.routes import columns_scatter, difference_forest, transfer_heat
from ui import data, empty, routes
from ui.frame import dark, expected_failures, frame, how_to_read, show_badges
from ui.progress import watch
from ui.selection import choose, choose_one, link, say_unknown
from ui.versus import reference_differences
from ui.words import METRICS, number

SHOWN = 15  # routes in a figure, unless all are asked for
QUIET = {"displayModeBar": False}
START = {
    "dataset": "demo",
    "features": "stats8,stats8-decorrelated,stats8-group-pca,stats8-global-pca",
    "models": "ridge,elasticnet,forest",
}
SUFFIX = {"chosen": " ★", "interpretable": " ◆"}


def main() -> None:
    """Draw the page."""
    badges = frame("Compare", "Which route is best, and by how much?")
    if not routes.comparisons("matrix") and not routes.comparisons("transfer"):
        empty.stop_without_runs()
    names = routes.dataset_names()
    dataset = names[0] if names else None
    if len(names) > 1:
        dataset = choose("Dataset", names, "dataset", names[0], "Scores can be compared only on the same tracks.")
        if dataset is None:
            say_unknown("dataset", "dataset", names)
            return
    with expected_failures():
        if dataset is not None:
            board = routes.newest_board(dataset)
            about = described(dataset, board)
            if about is not None:
                show_badges(badges, about)
            one_dataset(dataset, board)
        between()
    empty.unreadable()


def described(dataset: str, board: tuple | None) -> dict | None:
    """What the badges are about: the dataset of the newest matrix, or of the newest run."""
    if board is not None:
        run, name, _ = board
        each = next((d for d in run.about["datasets"] if d["name"] == name), run.about["dataset"])
        return {"dataset": each, "weights": run.about.get("weights")}
    found = [summary for summary in data.usable() if data.dataset_key(summary) == dataset]
    return {"dataset": found[0].about["dataset"]} if found else None


def one_dataset(dataset: str, board: tuple | None) -> None:
    """The leaderboard of a dataset, its figures, and the choice."""
    if board is None:
        offer(dataset)
    else:
        verdict(*board)
    table = filtered(routes.routes(dataset))
    if table.empty:
        st.info("No route fits these filters; widen them to see routes again.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        measure = choose_one("Measure", {key: METRICS[key][0] for key in routes.MEASURES}, "metric")
        every = st.toggle("Show all routes", key="every") if table["label"].nunique() > SHOWN else True
    leaderboard(table, measure, every)
    targets = list(dict.fromkeys(table["target"]))
    target = choose_one("Target", {name: name for name in targets}, "target-shown") if len(targets) > 1 else targets[0]
    left, right = st.columns(2, gap="large")
    with left:
        columns_figure(table[table["target"] == target], target, measure)
    with right:
        differences(table, target, board, every)


def offer(dataset: str) -> None:
    """Say that no matrix was made for this dataset, and how to make one."""
    running = [job for job in list_jobs() if job.active and job.pipeline == "compare"]
    if running:
        watch(running[0].job_id)
        return
    about = next(s.about["dataset"] for s in data.usable() if data.dataset_key(s) == dataset)
    spec = "demo" if about["synthetic"] else about.get("root") or about["name"]
    st.markdown(
        "These are single runs. **No choice has been made among them on validation data**, so the best of them looks "
        "better than it is. A matrix fits several features and models on the same folds and chooses honestly:"
    )
    given = START | {"dataset": spec}
    if st.button("Compare four feature sets with three models", type="primary", icon=":material/play_arrow:"):
        start_job("compare", given)
        st.rerun()
    command = [f"--{name} {value}" for name, value in given.items()]
    st.code(" ".join(["python -m pipelines compare", *command]), language="bash", wrap_lines=True)


def verdict(run, name: str, board: dict) -> None:
    """The answer in words: what was chosen, what choosing so is worth, and what is easiest to understand."""
    choice, simple = board["choice"], board["interpretable"]
    st.markdown(
        f"Of {board['n_cells']} routes on **{name}**, **{choice['model']} on {choice['features']}** "
        f"({choice['columns']} columns) was chosen, by validation inside the training parts alone (★). "
        f"Choosing that way in each fold predicts new groups with {scored(board['procedure'])}."
    )
    if simple == choice:
        st.markdown("It is also the **easiest to understand** among the routes about as good (◆).")
    else:
        st.markdown(
            f"**{simple['model']} on {simple['features']}** ({simple['columns']} columns) is the easiest to understand "
            f"of those within one standard error of it (◆); choosing for that predicts with "
            f"{scored(board['interpretable_procedure'])}."
        )
    refused = board.get("refused") or {}
    with st.expander("How it was chosen" + (f", and {len(refused)} feature sets that were refused" if refused else "")):
        st.markdown(
            f"{board['n']} tracks of {board['n_groups']} groups in {board['n_folds']} folds. In each fold every route "
            "is fitted on inner folds of the training part; the one with the smallest inner error predicts the "
            f"held-out tracks. Easiest to understand means: {board['rule']}."
        )
        chosen = pd.DataFrame(board["chosen_per_fold"]).value_counts().rename("folds").reset_index()
        st.dataframe(chosen.rename(columns={"features": "chosen features"}), hide_index=True)
        for features, why in refused.items():
            st.markdown(f"- **{features}** was refused: {why}")
        st.caption(f"run {run.run_id} · {name} · split {str(board['split_digest'])[:12]}")


def scored(procedure: dict) -> str:
    """`R² 0.44 (0.33 to 0.53) for valence and ...`."""
    words = []
    for target, scores in procedure.items():
        value, low, high = scores["r2"]
        interval = "" if low is None else f" ({number(low)} to {number(high)})"
        words.append(f"**R² {number(value)}**{interval} for {target}")
    return " and ".join(words)


def filtered(table: pd.DataFrame) -> pd.DataFrame:
    """The routes left by the filters above the figures."""
    with st.expander("Filter", icon=":material/filter_list:"):
        first, second = st.columns(2)
        models = first.multiselect("Models", sorted(table["model"].unique()), key="models", placeholder="all")
        features = second.multiselect("Features", sorted(table["features"].unique()), key="features", placeholder="all")
        honest = st.checkbox("Leave out what leaks, has random weights or saw this dataset", key="honest")
    if models:
        table = table[table["model"].isin(models)]
    if features:
        table = table[table["features"].isin(features)]
    return table[table["caveats"] == ""] if honest else table


def leaderboard(table: pd.DataFrame, measure: str, every: bool) -> None:
    """Every route's score with its interval; as a table below."""
    labels = routes.ordered(table, measure)[: None if every else SHOWN]
    on_plane = table["target"].isin(("valence", "arousal"))
    shown = table[on_plane] if on_plane.any() else table
    rows = shown.set_index("label").loc[[name for name in labels if name in set(shown["label"])]].reset_index()
    rows = rows.rename(columns={measure: "value", f"{measure}_low": "low", f"{measure}_high": "high"})
    rows["label"] = marked(rows)
    name, meaning, best = METRICS[measure]
    st.caption(f"**{name}** · {meaning}")
    st.plotly_chart(
        plots.leaderboard(rows.assign(baseline=False), f"{name}, with 95 % interval", dark(), best),
        key="routes",
        config=QUIET,
        alt=f"{name} of every route with its interval",
    )
    marks = "★ was chosen on validation data, ◆ is the easiest to understand among those about as good. "
    how_to_read(
        "Each mark is one route's score on tracks whose album, artist or piece it has not learned from; the bar is "
        f"what it could be with another sample of them. {marks if rows['chosen'].any() else ''}Bars that overlap "
        "decide nothing: the differences below do."
    )
    as_table(table, measure)


def marked(table: pd.DataFrame) -> pd.Series:
    """Labels with the marks of the choice, and with what limits their claims."""
    label = table["label"]
    for column, suffix in SUFFIX.items():
        label = label + table[column].astype(bool).map({True: suffix, False: ""})
    return label + table["caveats"].map(lambda text: f" ⚠ {text}" if text else "")


def as_table(table: pd.DataFrame, measure: str) -> None:
    """All routes with numbers; a row that is a run links to its page."""
    name = METRICS[measure][0]
    wide = table.pivot_table(index="label", columns="target", values=measure, sort=False)
    facts = table.drop_duplicates("label").set_index("label")
    targets = [target for target in dict.fromkeys(table["target"]) if target in wide]
    rows = facts[["model", "features", "columns", "protocol", "caveats", "run_id"]].join(
        wide[targets].add_suffix(f" {name}")
    )
    rows = rows.loc[[label for label in routes.ordered(table, measure) if label in rows.index]]
    with st.expander(f"All {len(rows)} routes as a table"):
        event = st.dataframe(
            rows.rename(columns={"run_id": "run"}),
            hide_index=True,
            on_select="rerun",
            selection_mode="single-row",
            key="routes-table",
            column_config={f"{t} {name}": st.column_config.NumberColumn(format="%.3f") for t in targets},
        )
        chosen = event["selection"]["rows"]
        run_id = rows.iloc[chosen[0]]["run_id"] if chosen else ""
        if run_id:
            link("pages/models.py", f"Open {run_id}", icon=":material/target:", run=run_id)
        else:
            st.caption("Tick a row that names a run to open it. Routes of a matrix keep scores, no single predictions.")


def columns_figure(table: pd.DataFrame, target: str, measure: str) -> None:
    """Accuracy against the number of columns."""
    st.subheader("What do more columns buy?")
    known = table[table["columns"].notna() & (table["columns"] > 0)]
    known = known.rename(columns={measure: "value", f"{measure}_low": "low", f"{measure}_high": "high"})
    st.plotly_chart(
        columns_scatter(known, target, METRICS[measure][0], dark()),
        key="columns",
        config=QUIET,
        alt=f"{METRICS[measure][0]} of {target} against the number of columns",
    )
    how_to_read(
        "Each mark is a route; ten times as many columns is one step to the right. Where the dotted line is flat, more "
        "columns buy nothing. The shape says how a prediction can be explained."
    )


def differences(table: pd.DataFrame, target: str, board: tuple | None, every: bool) -> None:
    """Paired differences from the choice, or from the best run where no choice was made."""
    st.subheader("By how much?")
    rows = table[table["target"] == target]
    if board is not None:
        rows = rows[rows["difference"].notna() & ~rows["chosen"].astype(bool)] if "difference" in rows else rows[:0]
        rows = rows.rename(columns={"difference_low": "low", "difference_high": "high"})
        reference = f"{board[2]['choice']['model']} on {board[2]['choice']['features']} (★)"
    else:
        best, rows = reference_differences(rows)
        reference = best or "none"
    rows = rows.sort_values("difference", ascending=False)
    shown = rows if every else rows.head(SHOWN)
    st.plotly_chart(
        difference_forest(shown.assign(label=marked(shown)), target, dark()),
        key="differences",
        config=QUIET,
        alt=f"Difference in R² of {target} from the reference, with intervals",
    )
    how_to_read(
        f"The reference, at zero, is **{reference}**. Both are scored on the same tracks, again and again on other "
        "samples of groups. Hollow marks, whose bar holds zero, cannot be told from it; filled ones can."
    )


def between() -> None:
    """From data set to data set."""
    st.divider()
    st.subheader("Does it hold on other music?")
    table = routes.transfers()
    if table.empty:
        st.caption("Nothing has been learned on one data set and tested on another yet. Name two folders of yours:")
        st.code("python -m pipelines compare --train-on FOLDER,demo --test-on FOLDER,demo", language="bash")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        options = list(dict.fromkeys(table.loc[~table["same"], "route"])) or list(dict.fromkeys(table["route"]))
        route = st.selectbox("Route", options, key="route", width=420)
        measure = choose_one("Measure between data sets", {"pearson": METRICS["pearson"][0], "r2": "R²"}, "between")
    chosen = table[table["route"] == route]
    targets = list(dict.fromkeys(chosen["target"]))
    for place, target in zip(st.columns(max(2, len(targets)), gap="large"), targets, strict=False):
        rows = chosen[chosen["target"] == target]
        with place:
            st.markdown(f"**{target.capitalize()}**")
            st.plotly_chart(
                transfer_heat(routes.heat_table(rows, measure), METRICS[measure][0], dark()),
                key=f"transfer-{target}",
                config=QUIET,
                alt=f"{METRICS[measure][0]} of {target}, learned on one data set and tested on another",
            )
    how_to_read(
        "Read a row: a model that learned from this dataset, tested on each other one. On the diagonal, folds of the "
        "dataset itself are held out, on the same columns: what could be reached at home. Correlation asks whether "
        "tracks are put in the right order; R² also whether the level and the spread of the ratings are met."
    )
    for note in routes.notes():
        st.caption(note)


main()
