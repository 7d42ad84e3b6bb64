"""Models: how good the predictions are, and where they fail."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from mer_core import plots
from ui import data, empty
from ui.frame import dark, expected_failures, footer, frame, how_to_read, show_badges
from ui.player import Clip, player
from ui.selection import choose_run, choose_target, clicked, link
from ui.versus import chance_sentences, versus_section
from ui.words import BASELINES, METRICS, PROTOCOLS, in_points, number

CHOSEN_AT_MOST = 40
FEW = 15


def main() -> None:
    """Draw the page."""
    badges = frame("Models", "How good are the predictions, and where do they fail?")
    empty.stop_without_runs()
    first, second = st.columns([3, 2])
    run = choose_run(first)
    if run is None:
        return
    show_badges(badges, run.about)
    target = choose_target(run, second)
    if target is None:
        return
    with expected_failures():
        table = predicted(run, target)
        headline(run, target)
        scatter(run, table, target)
        failures(run, table, target)
        versus_section(run)
        details(run, table, target)
    footer(run)


def predicted(run, target: str) -> pd.DataFrame:
    """True and predicted values of one target with the tracks' labels."""
    clips = data.clips(run)
    names = {f"{target}_predicted": "predicted", f"{target}_lower": "lower", f"{target}_upper": "upper", target: "true"}
    kept = ["track_id", "label", "path", "part", "group", "fold", *(["quadrant"] if "quadrant" in clips else [])]
    return clips[[*kept, *names]].rename(columns=names).dropna(subset=["true", "predicted"])


def headline(run, target: str) -> None:
    """The numbers that answer the question, each with its interval."""
    scores = run.metrics["targets"][target]["all"]
    low, high = data.scale(run)
    for place, metric in zip(st.columns(4), ("r2", "ccc", "pearson", "mae"), strict=True):
        value, lower, upper = scores[metric]
        name, meaning, _ = METRICS[metric]
        unit = f"points on {low:g}–{high:g}, " if metric == "mae" else ""
        place.metric(name, "–" if value is None else f"{value:.2f}", help=meaning)
        place.caption(unit + (f"95 % interval {lower:.2f} to {upper:.2f}" if lower is not None else "interval unknown"))
    share = run.metrics.get("ceiling", {}).get(target, {}).get("share")
    if share is not None:
        st.markdown(f"That is **{share:.0%}** of what the raters' own disagreement allows (see Dataset).")


def scatter(run, table: pd.DataFrame, target: str) -> None:
    """Predicted against rated; the selected tracks as a table and a list to play."""
    left, right = st.columns(2, gap="large")
    with left:
        chosen = clicked(st.session_state.get("scatter"))
        figure = plots.true_vs_predicted(table, target, data.scale(run), dark(), tuple(chosen))
        figure.update_layout(dragmode="select")
        st.plotly_chart(
            figure,
            key="scatter",
            on_select="rerun",
            selection_mode=("points", "box", "lasso"),
            config={
                "displaylogo": False,
                "modeBarButtonsToRemove": ["zoom", "pan", "zoomIn", "zoomOut", "autoScale", "toImage"],
            },
            alt=f"Predicted against rated {target}",
        )
        how_to_read(
            "On the line, prediction and rating agree; above it the model rates too high, below it too low. A cloud "
            "flatter than the line means that the model plays safe and stays near the average. Drag a box over dots "
            "to hear those tracks."
        )
    with right:
        rows = table[table["track_id"].isin(chosen)]
        if rows.empty:
            st.markdown("##### Furthest from the line")
            rows = table.loc[(table["predicted"] - table["true"]).abs().nlargest(8).index]
        else:
            st.markdown(f"##### {len(rows)} selected track{'s' if len(rows) > 1 else ''}")
        listing(run, rows, target)


def listing(run, rows: pd.DataFrame, target: str) -> None:
    """Tracks as a table, with one player for them all."""
    shown = rows.assign(error=rows["predicted"] - rows["true"])
    shown = shown.reindex(shown["error"].abs().sort_values(ascending=False).index)
    st.dataframe(
        shown[["label", "true", "predicted", "error"]].rename(columns={"label": "track", "true": "rated"}),
        hide_index=True,
        height=min(320, 38 + 35 * len(shown)),
        key="listing",
        column_config={"track": st.column_config.TextColumn(width=200)}
        | {
            name: st.column_config.NumberColumn(format="%.2f" if name != "error" else "%+.2f", width=74)
            for name in ("rated", "predicted", "error")
        },
    )
    heard = shown.head(CHOSEN_AT_MOST)
    player([Clip(r.track_id, f"{r.label} ({in_points(r.error)})", r.path) for r in heard.itertuples()], key="models")
    first = heard.iloc[0]["track_id"]
    link("pages/track.py", f"Why {first}?", icon=":material/arrow_forward:", run=run.run_id, track=first, target=target)


def failures(run, table: pd.DataFrame, target: str) -> None:
    """Residuals, and error per region of the plane."""
    st.divider()
    st.subheader("Where does it fail?")
    left, right = st.columns(2, gap="large")
    with left:
        st.plotly_chart(
            plots.residuals(table, target, data.scale(run), dark()),
            key="residuals",
            config={"displayModeBar": False},
            alt=f"Error of predicted {target} against its rating",
        )
        how_to_read("Falling from left to right means that low ratings are predicted too high and high ones too low.")
    with right:
        if "quadrant" not in table:
            st.caption("Regions of the plane need ratings of both valence and arousal.")
            return
        regions = by_region(table, target)
        st.plotly_chart(
            plots.error_by_quadrant(regions, dark()),
            key="regions",
            config={"displayModeBar": False},
            alt="Error per region of the plane",
        )
        few = regions[regions["n"] < FEW]
        note = f" Regions with fewer than {FEW} tracks say little." if len(few) else ""
        how_to_read(f"Average size of the error for music of each feeling, with its 95 % interval.{note}")


def by_region(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """Mean absolute error per region, its 95 % interval (normal approximation over tracks) and the number of tracks."""
    error = (table["predicted"] - table["true"]).abs()
    grouped = error.groupby(table["quadrant"])
    half = 1.96 * grouped.std() / np.sqrt(grouped.size())
    rows = pd.DataFrame(
        {
            "mae": grouped.mean(),
            "low": (grouped.mean() - half).clip(lower=0),
            "high": grouped.mean() + half,
            "n": grouped.size(),
        }
    )
    return rows[rows.index != ""].assign(target=target).rename_axis("quadrant").reset_index()


def details(run, table: pd.DataFrame, target: str) -> None:
    """Baselines, dataset parts, folds, protocol."""
    st.divider()
    st.subheader("Compared with what?")
    metrics = run.metrics
    rows = [{"predictor": f"this run ({run.about['model']})"} | scores_of(metrics["targets"][target]["all"])]
    rows += [
        {"predictor": BASELINES.get(name, name)} | scores_of(targets[target]["all"])
        for name, targets in metrics.get("baselines", {}).items()
        if target in targets
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, key="baselines")
    st.caption("Each score with its 95 % interval, from resampling whole groups (albums, artists or pieces).")
    for sentence in chance_sentences(run):
        st.markdown(f"Against chance, {sentence}")
    intervals(metrics.get("coverage", {}), target)
    parts = {name: scores for name, scores in metrics["targets"][target].items() if name != "all"}
    if parts:
        with st.expander("Scores per part of the dataset"):
            st.dataframe(
                pd.DataFrame(
                    [{"part": name, "n": scores.get("n")} | scores_of(scores) for name, scores in parts.items()]
                ),
                hide_index=True,
            )
    with st.expander("Scores per fold"):
        st.dataframe(fold_table(table), hide_index=True)
        st.caption("Single folds are small; look at how much they differ, not at which is best.")
    with st.expander("How this run was made"):
        st.markdown(f"**{run.about['protocol']}**: {PROTOCOLS.get(run.about['protocol'], '')}")
        for leak in run.about.get("leaks") or []:
            st.markdown(f"- {leak['sentence']}")
        features = run.about["features"]
        st.markdown(
            f"Features **{features['name']}** ({features['n_columns']} columns, {features['source']}), model "
            f"**{run.about['model']}**, {run.about['seconds']:.0f} s on {run.about['machine']}."
        )
        st.json(run.about["config"], expanded=False)


def intervals(coverage: dict, target: str) -> None:
    """How many ratings really lie inside their intervals and ellipses, overall and per part."""
    if target not in coverage:
        return
    with st.expander("Do the intervals keep their promise?"):
        rows = [
            {"what": name, "promised": f"{float(level):.0%}"} | {part: f"{share:.1%}" for part, share in found.items()}
            for name, key in ((f"interval of {target}", target), ("ellipse on the plane", "joint"))
            for level, found in coverage.get(key, {}).items()
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True, key="coverage")
        how_to_read(
            "Share of held-out tracks whose rating lies inside. Widths come from the errors in other folds, so they "
            "hold for music like the whole dataset; a part that differs from the rest can get more or less."
        )


def scores_of(scores: dict) -> dict[str, str]:
    """Measures of one score block as text with interval."""
    found = {}
    for metric, (name, _, _) in METRICS.items():
        value, low, high = scores.get(metric) or (None, None, None)
        found[name] = "–" if value is None else number(value)
        if low is not None:
            found[name] += f" ({number(low)} to {number(high)})"
    return found


def fold_table(table: pd.DataFrame) -> pd.DataFrame:
    """Tracks, groups, error and R2 of every fold."""
    rows = []
    for fold, part in table.groupby("fold"):
        error = part["predicted"] - part["true"]
        variance = ((part["true"] - part["true"].mean()) ** 2).sum()
        r2 = 1 - (error**2).sum() / variance if variance > 0 else np.nan
        rows.append(
            {"fold": fold, "tracks": len(part), "groups": part["group"].nunique(), "MAE": error.abs().mean(), "R²": r2}
        )
    return pd.DataFrame(rows).round(2)


main()
