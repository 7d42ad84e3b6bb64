"""Features: what the numbers behind a prediction measure, and how many of them say something new."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from mer_core.jobs import start_job
from mer_core.plots import columns as figures
from mer_core.plots.exploration import components_scatter
from ui import data
from ui.frame import dark, expected_failures, frame, how_to_read, show_badges
from ui.player import Clip, player
from ui.selection import choose_one, clicked
from ui.tables import choose_among, has, made_by, rated_tracks

MADE_BY = ("features", "group_pca", "global_pca", "train", "select")
MAIN_TARGETS = ("valence", "arousal")
PROXY = (
    "Groups are acoustic proxies: each descriptor was assigned by rule to the quality it may stand for; no listener "
    "has validated the assignment."
)


def main() -> None:
    """Draw the page."""
    badges = frame("Features", "What do the numbers measure, and how many of them say something new?")
    files = ("columns.parquet", "spectrum.parquet", "reduction.parquet")
    found = list({s.run_id: s for file in files for s in made_by(MADE_BY, file)}.values())
    if not found:
        nothing_yet()
        return
    run = choose_among(found, "table", "Runs that describe their feature table: of features, or of a reduction.")
    if run is None:
        return
    show_badges(badges, run.about)
    with expected_failures():
        page_of(run)


def nothing_yet() -> None:
    """What is missing and the one thing that cures it."""
    st.subheader("No feature table has been described yet")
    st.write(
        "The features pipeline extracts 260 descriptors twice a second, sums each up by 8 or 15 statistics, and says "
        "which of the resulting columns repeat each other."
    )
    arguments = {"dataset": "demo", "features": "stats8-group-pca"}
    if st.button("Describe the demo's features", type="primary", icon=":material/play_arrow:"):
        start_job("features", arguments)
        st.switch_page("pages/runs.py")
    st.code("python -m pipelines features --dataset demo --features stats8-group-pca", language="bash")


def page_of(run) -> None:
    """Everything about one table."""
    groups = group_table(run)
    if groups is not None:
        summary(run, groups)
        if groups["columns"].max() > 1 or has(run, "reduction"):
            group_sizes(groups)
    if has(run, "validity"):
        validity(run)
    if has(run, "columns"):
        all_columns(run)
    if has(run, "reduction"):
        dropped(run)
    if has(run, "spectrum"):
        components(run)


def group_sizes(groups: pd.DataFrame) -> None:
    """Columns of every group, kept and dropped."""
    st.plotly_chart(
        figures.group_bars(groups, dark()),
        key="groups",
        config={"displayModeBar": False},
        alt="Number of columns in each perceptual group, kept and dropped",
    )
    how_to_read(
        "Every bar is a group of columns that may stand for one musical quality. A column is dropped where an "
        f"earlier one of its group tells nearly the same (|r| above .95). {PROXY}"
    )


def group_table(run) -> pd.DataFrame | None:
    """Columns and kept columns of every group; None where the run does not say."""
    if has(run, "reduction"):
        table = run.table("reduction").groupby("group", sort=False)["kept"].agg(columns="size", kept="sum")
        if "group-pca" in run.about["features"]["name"]:  # made of the groups alone
            table.loc[table.index == "unmapped", "kept"] = 0
        return table.reset_index()
    if has(run, "columns"):
        counts = run.table("columns")["group"].value_counts()
        return pd.DataFrame({"group": counts.index, "columns": counts.to_numpy(), "kept": counts.to_numpy()})
    return None


def summary(run, groups: pd.DataFrame) -> None:
    """Columns obtained and expected, in one line."""
    counts = run.metrics.get("counts", {})
    total, kept = int(groups["columns"].sum()), int(groups["kept"].sum())
    parts = [f"**{run.about['features']['name']}**: {total} columns"]
    if counts.get("expected"):
        parts[0] += f" of {counts['expected']} expected"
    if kept < total:
        parts.append(f"**{kept}** left after decorrelation inside groups")
    if has(run, "spectrum"):
        kept_components = run.table("spectrum")["kept"].sum()
        parts.append(f"**{int(kept_components)}** principal components used")
    parts.append(f"{run.about['dataset']['n_tracks']} tracks of {run.about['dataset']['name']}")
    st.markdown(" · ".join(parts))


def validity(run) -> None:
    """Whether computed proxies follow what they are named after, and what they go with."""
    table = run.table("validity")
    planted = "planted" in set(table["against"])
    st.divider()
    st.subheader("Do the proxies follow what they are named after?" if planted else "What do the proxies go with?")
    st.plotly_chart(
        figures.validity_map(table, dark()),
        key="validity",
        config={"displayModeBar": False},
        alt="Correlation of each proxy with its planted quality and with every rating",
    )
    test = (
        "The first column is the test: the quality that was planted into these pieces, known from their notes. "
        if planted
        else "Nobody has rated or planted these qualities here; how valid they are is measured on the demo corpus. "
    )
    how_to_read(
        f"{test}Correlations with ratings say what goes with them, which need not be their cause. Hover for intervals."
    )


def all_columns(run) -> None:
    """Searchable table of all columns; a chosen one is looked at closely."""
    st.divider()
    st.subheader("What does each column measure?")
    table = run.table("columns")
    order = ["plain", "group", "musical", "statistic", "column"]
    shown = table[order].assign(group=table["group"].str.replace("_", " "))
    event = st.dataframe(
        shown.rename(columns={"plain": "in plain words", "group": "acoustic proxy of", "musical": "about"}),
        hide_index=True,
        key="columns",
        height=320,
        on_select="rerun",
        selection_mode="single-row",
        column_config={"in plain words": st.column_config.TextColumn(width=380)},
    )
    st.caption("Search with the magnifying glass of the table. Choose a row to see the column on every track.")
    rows = event["selection"]["rows"]
    spot_check(run, table.iloc[rows[0] if rows else 0])


def spot_check(run, row: pd.Series) -> None:
    """One column on every track, against the ratings, with the music."""
    tracks = rated_tracks(run)
    if not has(run, "features"):
        return
    values = run.table("features").set_index("track_id")[row["column"]]
    values.index = values.index.astype(str)
    st.markdown(f"**{row['plain']}** `{row['column']}`")
    if tracks is None:
        st.caption("No run on these tracks has ratings yet; train one to see this column against them.")
        return
    targets = [target for target in MAIN_TARGETS if target in tracks]
    if values.notna().sum() < 2 or not targets:
        st.caption("This column has no value for these tracks, or they are not rated for valence or arousal.")
        return
    places = st.columns(len(targets), gap="large")
    for place, target in zip(places, targets, strict=True):
        with place:
            st.plotly_chart(
                figures.column_scatter(values, tracks[target].reindex(values.index), target, dark()),
                key=f"spot-{target}",
                on_select="rerun",
                selection_mode="points",
                config={"displayModeBar": False},
                alt=f"{row['plain']} against rated {target}, one dot a track",
            )
    chosen = [track for target in targets for track in clicked(st.session_state.get(f"spot-{target}"))]
    extremes = [str(values.idxmax()), str(values.idxmin())]
    listen(tracks, chosen[:1] or extremes, "spot", ("highest value", "lowest value"))


def listen(tracks: pd.DataFrame, ids: list[str], key: str, words: tuple[str, ...] = ()) -> None:
    """A player of some tracks."""
    known = [track for track in ids if track in tracks.index]
    labels = words if len(known) == len(words) else ("",) * len(known)
    clips = [
        Clip(track, f"{word}: {tracks.loc[track, 'label']}" if word else str(tracks.loc[track, "label"]), path)
        for track, word, path in zip(known, labels, tracks.loc[known, "path"], strict=True)
    ]
    if clips:
        player(clips, key=key)


def dropped(run) -> None:
    """Which column made which one superfluous."""
    table = run.table("reduction")
    gone = table[~table["kept"]]
    if gone.empty:
        return
    with st.expander(f"{len(gone)} columns that an earlier one repeats", icon=":material/content_copy:"):
        st.dataframe(
            gone[["group", "column", "dropped_because", "r"]].rename(columns={"dropped_because": "repeats"}),
            hide_index=True,
            key="dropped",
            column_config={"r": st.column_config.NumberColumn(format="%.3f")},
        )


def components(run) -> None:
    """Spectrum, tracks on two components, what a component is made of, and what it goes with."""
    st.divider()
    st.subheader("How many directions do the tracks really differ in?")
    spectrum = run.table("spectrum")
    st.plotly_chart(
        figures.spectrum_lines(spectrum, dark()),
        key="spectrum",
        config={"displayModeBar": False},
        alt="Variance explained by the first components, a line per group",
    )
    how_to_read(
        "Principal components are directions along which the tracks differ most. Where a line crosses 95 %, that many "
        "components (the number beside the name) tell nearly all that the group's columns tell."
    )
    name = "scores" if has(run, "scores") else "components"
    if has(run, name):
        scatter(run, run.table(name), spectrum)
    if has(run, "loadings"):
        loadings(run)
    if has(run, "correlations"):
        goes_with(run)


def scatter(run, scores: pd.DataFrame, spectrum: pd.DataFrame) -> None:
    """Tracks in the plane of two components that one chooses; a click plays."""
    tracks = rated_tracks(run)
    if tracks is None:
        return
    names = [column for column in scores.columns if column != "track_id"]
    left, right = st.columns(2)
    x = left.selectbox("Across", names, key="pc-x")
    y = right.selectbox("Up", names, index=min(1, len(names) - 1), key="pc-y")
    table = scores[["track_id", *dict.fromkeys([x, y])]].assign(track_id=scores["track_id"].astype(str))
    table = table[table["track_id"].isin(tracks.index)].reset_index(drop=True)
    colours = {target: f"rated {target}" for target in MAIN_TARGETS if target in tracks}
    if {"valence_predicted", "arousal_predicted"} <= set(tracks) and has(run, "predictions"):
        colours["error"] = "error of the prediction"
    if not colours:
        return
    by = choose_one("Colour", colours, "pc-colour")
    colour = tracks[by] if by != "error" else data.distance(tracks)
    table["label"] = tracks.loc[table["track_id"], "label"].to_numpy()
    st.plotly_chart(
        components_scatter(
            table,
            shares_of(spectrum, (x, y)),
            colour.reindex(table["track_id"]).reset_index(drop=True),
            by,
            dark(),
            (x, y),
        ),
        key="pc-scatter",
        on_select="rerun",
        selection_mode="points",
        config={"displayModeBar": False},
        alt=f"Tracks on components {x} and {y}, coloured by {by}",
    )
    how_to_read(
        "Every dot is a track. If its colour changes smoothly along an axis, that direction of the sound goes with the "
        "rating. These components are fitted on all tracks, to look at; scores use those of each training part. Click "
        "a dot to hear it."
    )
    listen(tracks, clicked(st.session_state.get("pc-scatter"))[:1] or list(table["track_id"][:1]), "pc")


def shares_of(spectrum: pd.DataFrame, names: tuple[str, ...]) -> dict[str, float]:
    """Share of its group's variance that each component explains."""
    found = {}
    for row in spectrum.itertuples():
        label = f"PC{row.component}" if row.group == "all" else f"{row.group} PC{row.component}"
        found[label] = row.share
    return {name: found.get(name, float("nan")) for name in names}


def loadings(run) -> None:
    """What a component is made of, in plain words."""
    table = run.table("loadings")
    st.markdown("##### What is a component made of?")
    component = st.selectbox("Component", list(dict.fromkeys(table["component"])), key="loading-of")
    rows = table[table["component"] == component].copy()
    if "plain" not in rows and has(run, "columns"):
        rows["plain"] = rows["column"].map(run.table("columns").set_index("column")["plain"])
    rows = rows.reindex(rows["loading"].abs().sort_values(ascending=False).index)
    names = [name for name in ("plain", "statistic", "loading", "column") if name in rows]
    st.dataframe(
        rows[names].rename(columns={"plain": "in plain words"}).head(20),
        hide_index=True,
        key="loadings",
        column_config={"loading": st.column_config.NumberColumn(format="%.3f")},
    )


def goes_with(run) -> None:
    """Correlations of components with the ratings."""
    table = run.table("correlations")
    st.markdown("##### Which components go with the ratings?")
    shown = table.reindex(table["spearman"].abs().sort_values(ascending=False).index)
    names = ["component", "target", "pearson", "spearman", "spearman_q", "n"]
    st.dataframe(shown[names].rename(columns={"spearman_q": "false discovery rate"}), hide_index=True, key="goes-with")


main()
