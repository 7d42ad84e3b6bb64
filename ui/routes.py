"""Routes (features with a model) of all runs in one table, and what is known from data set to data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.runs import Run, RunSummary
from ui import data

MEASURES = ("r2", "ccc", "pearson", "rmse")
LOWER_IS_BETTER = ("rmse",)
EXPLAINERS = {
    "ridge": "linear",
    "elasticnet": "linear",
    "forest": "tree",
    "extra-trees": "tree",
    "boosting": "tree",
    "blend": "mixed",
}


def comparisons(kind: str) -> list[RunSummary]:
    """Runs of `compare` of one kind ("matrix", "transfer"), newest first."""
    found = (summary for summary in data.summaries() if summary.problem is None)
    return [s for s in found if s.about["pipeline"] == "compare" and s.about.get("comparison") == kind]


def dataset_names() -> list[str]:
    """Data sets (with label version) that any route was tried on, those of matrices first."""
    names = [f"{name} ({board['labels']} labels)" for s in comparisons("matrix") for name, board in boards(s).items()]
    return list(dict.fromkeys([*names, *map(data.dataset_key, data.usable())]))


def boards(summary: RunSummary) -> dict:
    """What a matrix says of each of its data sets."""
    return summary.metrics.get("boards", {})


def newest_board(dataset: str) -> tuple[Run, str, dict] | None:
    """The newest matrix of a dataset: its run, the dataset's name in it, and its summary; None where there is none."""
    for summary in comparisons("matrix"):
        for name, board in boards(summary).items():
            if f"{name} ({board['labels']} labels)" == dataset:
                return data.open_run(summary.run_id), name, board
    return None


def routes(dataset: str) -> pd.DataFrame:
    """Every route tried on a dataset, a row per target; the newest of those alike.

    Returns
    -------
    Columns key, label, features, model, target, columns, explainer, run_id, protocol, caveats, chosen, interpretable,
    difference, difference_low, difference_high, and for each measure its value, `_low`, `_high`
    """
    tables = [_of_matrix(s, dataset) for s in comparisons("matrix")]
    tables += [_of_run(s) for s in data.usable() if data.dataset_key(s) == dataset]
    tables = [table for table in tables if len(table)]
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables, ignore_index=True)
    table = table.drop_duplicates(["features", "model", "target", "protocol"], ignore_index=True)
    other = table["protocol"].map(lambda name: "" if name == "grouped-5fold" else f" · {name}")
    table["label"] = table["model"] + " · " + table["features"] + other
    return table


def _of_matrix(summary: RunSummary, dataset: str) -> pd.DataFrame:
    if not any(f"{name} ({board['labels']} labels)" == dataset for name, board in boards(summary).items()):
        return pd.DataFrame()
    table = data.open_run(summary.run_id).table("comparison")
    table = table[table["dataset"] + " (" + table["labels"] + " labels)" == dataset]
    return table.assign(run_id="", protocol=summary.about["protocol"])


def _of_run(summary: RunSummary) -> pd.DataFrame:
    about, rows = summary.about, []
    features = about["features"]
    reduced = (features.get("reduction") or {}).get("n_per_round")
    weights = about.get("weights") or []
    warned = [
        ("leaky protocol", bool(about.get("leaks"))),
        ("random weights", any(each.get("source") == "random" for each in weights)),
        ("saw this dataset", any(each.get("saw_dataset") for each in weights)),
    ]
    facts = {
        "features": Path(str(features["name"])).stem if "/" in str(features["name"]) else str(features["name"]),
        "model": about["model"],
        "columns": int(np.median(reduced)) if reduced else features.get("n_columns"),
        "explainer": EXPLAINERS.get(about["model"]),
        "run_id": summary.run_id,
        "protocol": about["protocol"],
        "caveats": ", ".join(words for words, on in warned if on),
        "chosen": False,
        "interpretable": False,
    }
    for target, parts in summary.metrics["targets"].items():
        row = facts | {"target": target, "n": parts["all"].get("n")}
        for measure in MEASURES:
            value = parts["all"].get(measure) or (None, None, None)
            row |= {
                measure + ending: np.nan if x is None else x
                for ending, x in zip(("", "_low", "_high"), value, strict=True)
            }
        rows.append(row)
    return pd.DataFrame(rows)


def ordered(table: pd.DataFrame, measure: str) -> list[str]:
    """Labels of routes, the best mean over targets first."""
    means = table.groupby("label", sort=False)[measure].mean()
    return list(means.sort_values(ascending=measure in LOWER_IS_BETTER, kind="stable").index)


def transfers() -> pd.DataFrame:
    """Every pair of data sets that was tried, the newest of those alike; `route` is the same in both directions."""
    tables = [data.open_run(s.run_id).table("transfer").assign(run_id=s.run_id) for s in comparisons("transfer")]
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables, ignore_index=True)
    table = table.drop_duplicates(["train", "test", "features", "model", "align", "target"], ignore_index=True)
    names = table["features"].map(lambda name: " with ".join(sorted(name.split(" to "))))
    scaling = table["align"].map({"train": "", "each": " · scaled in each"})
    table["route"] = table["model"] + " · " + names + scaling
    return table


def notes() -> list[str]:
    """What must be known of the data sets that were learned on and tested on, one sentence each."""
    said = (note for summary in comparisons("transfer") for note in summary.metrics.get("notes", []))
    return [note for note in dict.fromkeys(said) if " to itself: " not in note]


def heat_table(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Cells of the heat map for one route and target; what a dataset reaches at home is on the diagonal."""
    away = table[~table["same"]]
    cells = [away] + [
        away.assign(train=away["test"], same=True, **{m: away[f"home_{m}"] for m in _three(measure)}),
        table[table["same"]],
    ]
    found = pd.concat(cells, ignore_index=True).drop_duplicates(["train", "test"], ignore_index=True)
    renamed = dict(zip(_three(measure), ("value", "low", "high"), strict=True))
    return found[["train", "test", "same", "shared", "n", *renamed]].rename(columns=renamed)


def _three(measure: str) -> list[str]:
    return [measure, f"{measure}_low", f"{measure}_high"]
