"""Finished runs as the pages need them, read once per change on disk.

Cached objects are shared between sessions: never change them in place.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from mer_core.errors import UserError
from mer_core.explain.attribution import FeatureExplanation, sum_by
from mer_core.plots import quadrant
from mer_core.runs import Run, RunSummary, list_runs, read_run, runs_root
from ui.words import BASELINES

LEVELS = {
    "musical": "musical qualities",
    "group": "acoustic proxies",
    "descriptor": "descriptors",
    "statistic": "statistics",
    "column": "single columns",
}
NAME_COLUMNS = ("title", "piece", "song", "name", "artist", "composer", "album", "excerpt")
SHOWN_NAMES = 2
MAIN_CUES = 3


def _stamp(*paths: Path) -> tuple[int, ...]:
    """Modification times in ns, 0 where there is no file: changes when any of the files does."""
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)


def summaries() -> list[RunSummary]:
    """All runs, newest first; unreadable ones carry the reason."""
    root = runs_root()
    folders = sorted(p for p in root.iterdir() if p.is_dir() and p.name[0] != ".") if root.is_dir() else []
    stamps = tuple((p.name, *_stamp(p / "run.json", p / "metrics.json")) for p in folders)
    return _summaries(str(root), stamps)


@st.cache_resource(max_entries=4, show_spinner=False)
def _summaries(root: str, stamps: tuple) -> list[RunSummary]:
    return list_runs()


def usable() -> list[RunSummary]:
    """Runs with predictions to show, newest first."""
    return [summary for summary in summaries() if summary.problem is None and summary.metrics.get("targets")]


def best_run(found: list[RunSummary]) -> RunSummary:
    """The run with the highest mean R2 among those on the dataset of the newest run; leaky ones only where all leak."""
    same = [s for s in found if dataset_key(s) == dataset_key(found[0])]
    same = [s for s in same if not s.about.get("leaks")] or same
    return max(same, key=lambda s: np.mean([scores["all"]["r2"][0] or -9 for scores in s.metrics["targets"].values()]))


def dataset_key(summary: RunSummary) -> str:
    """Name and label version of a run's dataset: runs are compared only where both are the same."""
    about = summary.about["dataset"]
    return f"{about['name']} ({about['label_version']} labels)"


def open_run(run_id: str) -> Run:
    """A finished run, kept in memory until its folder changes; UserError where it cannot be read."""
    folder = runs_root() / run_id
    return _open_run(str(folder), _stamp(folder / "run.json", folder / "metrics.json", folder / "explanations"))


@st.cache_resource(max_entries=40, show_spinner=False)
def _open_run(folder: str, stamp: tuple) -> Run:
    return read_run(Path(folder).name)


def _key(run: Run) -> tuple[str, tuple[int, ...]]:
    return str(run.folder), _stamp(run.folder / "run.json", run.folder / "explanations")


def scale(run: Run) -> tuple[float, float]:
    """Lowest and highest rating."""
    low, high = run.about["dataset"]["scale"]
    return float(low), float(high)


def joint_interval(run: Run) -> dict | None:
    """Ellipse that holds both ratings of a clip with the run's level; None for runs that know none."""
    level = str(run.about.get("interval_level", 0.9))
    return run.intervals.get("levels", {}).get(level, {}).get("ellipse")


def ellipse_words(run: Run) -> str:
    """What the dotted ellipse means, as the end of a sentence."""
    level = run.about.get("interval_level", 0.9)
    if joint_interval(run):
        return f"the dotted ellipse should hold the ring for {level:.0%} of clips"
    return f"the dotted ellipse spans the {level:.0%} intervals of both predictions"


def clips(run: Run) -> pd.DataFrame:
    """One row a track, index track_id: what `tracks` has, `<target>_predicted`, `_lower`, `_upper`, label, quadrant."""
    return _clips(run, _key(run))


@st.cache_resource(max_entries=40, show_spinner=False)
def _clips(_run: Run, key: tuple) -> pd.DataFrame:
    table = _run.tracks.assign(track_id=_run.tracks["track_id"].astype(str))
    for target, rows in _run.predictions.groupby("target"):
        rows = rows.assign(track_id=rows["track_id"].astype(str)).set_index("track_id")
        renamed = rows[["predicted", "lower", "upper"]].add_prefix(f"{target}_")
        table = table.join(renamed, on="track_id")
    table["label"] = track_labels(table)
    if {"valence", "arousal"} <= set(table):
        table["quadrant"] = quadrant(table["valence"], table["arousal"], scale(_run))
    return table.set_index("track_id", drop=False).rename_axis(None)


def track_labels(table: pd.DataFrame) -> pd.Series:
    """What a listener reads beside a track: id, title or artist where known, and the main cues of composed clips."""
    names = [name for name in NAME_COLUMNS if name in table and table[name].notna().any()]
    if names in ([], ["excerpt"]) and not table["group"].equals(table["track_id"]):
        names = ["group", *names]
    cues = cue_columns(table)[:MAIN_CUES]
    label = table["track_id"].astype(str)
    for name in names[: 1 if cues else SHOWN_NAMES]:
        label = label + table[name].map(lambda text: f" · {text}" if isinstance(text, str) and text.strip() else "")
    return label + " · " + table[cues].astype(str).agg(", ".join, axis=1) if cues else label


def cue_columns(table: pd.DataFrame | pd.Series) -> list[str]:
    """Columns that say how a clip was composed, in order of their weight in its ratings; none for recorded music."""
    names = table.index if isinstance(table, pd.Series) else table.columns
    return [str(name) for name in names if str(name).startswith("cue_")]


def explanation(run: Run, method: str = "shap") -> FeatureExplanation:
    """Attributions of a run, read once; UserError with the command that makes them."""
    return _explanation(run, method, _key(run))


@st.cache_resource(max_entries=12, show_spinner=False)
def _explanation(_run: Run, method: str, key: tuple) -> FeatureExplanation:
    return _run.explanation(method)


def effects(run: Run, target: str, level: str) -> pd.DataFrame:
    """Signed effects in rating points, index track_id, one column per name at a level (see LEVELS)."""
    return _effects(run, target, level, _key(run))


@st.cache_resource(max_entries=48, show_spinner=False)
def _effects(_run: Run, target: str, level: str, key: tuple) -> pd.DataFrame:
    found = explanation(_run)
    if target not in found.targets:
        raise UserError(
            f"target {target!r} is not explained in run {_run.run_id!r}; choose from {', '.join(found.targets)}"
        )
    position = list(found.targets).index(target)
    if level == "column":
        return pd.DataFrame(found.values[:, :, position], index=list(found.tracks), columns=found.columns.index)
    names, values = sum_by(found, level)
    return pd.DataFrame(values[:, :, position], index=list(found.tracks), columns=list(names))


def base(run: Run, target: str) -> pd.Series:
    """Average prediction that each track's effects start from, index track_id."""
    found = explanation(run)
    return pd.Series(found.base[:, list(found.targets).index(target)], index=list(found.tracks))


def importance(run: Run, target: str, level: str) -> pd.DataFrame:
    """Mean absolute effect per name, largest first: name, value, low, high (95 % over tracks), direction."""
    return _importance(run, target, level, _key(run))


@st.cache_resource(max_entries=48, show_spinner=False)
def _importance(_run: Run, target: str, level: str, key: tuple) -> pd.DataFrame:
    size = effects(_run, target, level).abs()
    error = 1.96 * size.std() / np.sqrt(len(size))
    table = pd.DataFrame({"name": size.columns.astype(str), "value": size.mean().to_numpy(), "error": error.to_numpy()})
    table["low"], table["high"] = (table["value"] - table["error"]).clip(lower=0), table["value"] + table["error"]
    return table.sort_values("value", ascending=False, ignore_index=True)


def scores_table(found: list[RunSummary], metric: str) -> pd.DataFrame:
    """Scores of runs on one dataset: run_id, label, target, value, low, high, baseline; best first, baselines last."""
    rows, baselines = [], {}
    for summary in found:
        for target, parts in summary.metrics["targets"].items():
            rows.append(
                {"run_id": summary.run_id, "label": run_label(summary), "target": target, "baseline": False}
                | _score(parts["all"].get(metric))
            )
        for name, targets in summary.metrics.get("baselines", {}).items():
            for target, parts in targets.items():
                baselines.setdefault((name, target), _score(parts["all"].get(metric)))
    table = pd.DataFrame(rows)
    twice = table.groupby(["label", "target"])["run_id"].transform("size") > 1
    table.loc[twice, "label"] += " · " + table.loc[twice, "run_id"].str[4:13]
    direction = 1 if metric in ("rmse", "mae") else -1
    order = table.groupby("label")["value"].mean().mul(direction).sort_values(na_position="last").index
    table = table.set_index("label").loc[list(order)].reset_index()
    extra = [
        {"run_id": "", "label": f"baseline: {BASELINES.get(name, name)}", "target": target, "baseline": True} | score
        for (name, target), score in baselines.items()
    ]
    return pd.concat([table, pd.DataFrame(extra)], ignore_index=True) if extra else table


def _score(score: list | None) -> dict[str, float]:
    value, low, high = score or (None, None, None)
    return {
        key: np.nan if item is None else float(item) for key, item in (("value", value), ("low", low), ("high", high))
    }


def run_label(summary: RunSummary) -> str:
    """Short name of a run among others: its id where that is short, else model and features with the end of the id."""
    if len(summary.run_id) <= 24:
        return summary.run_id
    about = summary.about
    features = about["features"]["name"]
    protocol = "" if about["protocol"] == "grouped-5fold" else f" · {about['protocol']}"
    return f"{about['model']} · {Path(str(features)).stem}{protocol} · {summary.run_id[-6:]}"


def distance(table: pd.DataFrame) -> pd.Series:
    """How far the prediction lies from the rating on the plane, in rating points."""
    return np.hypot(table["valence"] - table["valence_predicted"], table["arousal"] - table["arousal_predicted"])


MUSICAL_WORDS = {
    "brightness": "brightness",
    "dynamics": "loudness and dynamics",
    "pitch": "pitch",
    "rhythm": "rhythm and movement",
    "spectral": "balance of low and high tones",
    "timbre": "tone colour",
    "voice": "how clearly pitches stand out",
    "voice_quality": "smooth or rough tone",
    "unmapped": "other properties of the sound",
}


def track_words(found: FeatureExplanation, level: str, track: str) -> dict[str, str]:
    """Plain words as in `plain_words`; those of a single column say whether this track has much or little of it."""
    words, names = plain_words(found, level), found.columns.index if level == "column" else found.columns[level]
    row = found.tracks.index(track)
    for name, count in pd.Series(names).value_counts().items():
        value, all_values = (found.features[rows, np.asarray(names == name)] for rows in (row, slice(None)))
        if count == 1 and np.isfinite(value[0]):
            words[name] = f"{'high' if value[0] > np.nanmedian(all_values) else 'low'} {words[name]}"
    return words


def plain_words(found: FeatureExplanation, level: str) -> dict[str, str]:
    """Plain words by name at a level, taken from the table of columns."""
    columns = found.columns
    if level == "column":
        return columns["plain"].to_dict()
    names = list(dict.fromkeys(columns[level]))
    if level == "musical":
        return {name: MUSICAL_WORDS.get(name, name.replace("_", " ")) for name in names}
    if level == "group":
        return {name: "not assigned to a family" if name == "unmapped" else name.replace("_", " ") for name in names}
    first = columns.drop_duplicates(level).set_index(level)["plain"]
    words, statistic = first.str.rsplit(" (", n=1).str[0].str.split(",").str[0], first.str.rsplit(" (", n=1).str[-1]
    return (statistic.str.rstrip(")") if level == "statistic" else words).to_dict()
