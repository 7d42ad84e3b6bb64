"""Audit of a collection: the order of its labels, how much raters differ, what that caps, and what else is wrong.

What cannot be checked is said in `messages`; the rest is done. Results are plain dictionaries for `metrics.json`, and
one table with the evidence of each track.

Conventions: ratings, spreads and RMSE are in points of the rating scale.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import VALENCE_AROUSAL, Dataset
from mer_core.datasets.deam import DYNAMIC, LAST_EXCHANGED, read_dynamic
from mer_core.errors import UserError
from mer_core.evaluate.label_order import exchange_back, judge_order, order_table
from mer_core.evaluate.metrics import human_ceiling
from mer_core.evaluate.quality import dataset_overlap, duplicates, out_of_range, split_overlap
from mer_core.evaluate.raters import recover_raters

ASSUMED_RATERS = 10
LOUDNESS = "audspec_lengthL1norm_sma_amean"


def audit(
    dataset: Dataset,
    loudness: pd.Series | None = None,
    splits: dict[str, list[str]] | None = None,
    others: tuple[Dataset, ...] = (),
) -> tuple[dict, pd.DataFrame]:
    """Everything the audit says of a dataset.

    Parameters
    ----------
    dataset : with the labels that are to be audited
    loudness : from `loudness_of`; index track_id
    splits : {name of a list: track ids}
    others : data sets that may hold the same tracks

    Returns
    -------
    The report, keys labels, verdict, order, after (the order once the exchange found is undone), spread, duplicates,
    out_of_range, splits, overlaps, messages; and the table of `judge_order` with track_id as a column
    """
    dynamic = dynamic_means(dataset)
    order, table = judge_order(order_table(dataset, dynamic, loudness), dataset.name)
    after = judge_order(exchange_back(table), dataset.name)[0] if order["n_exchanged"] else None
    report = {
        "labels": dataset.label_version,
        "verdict": order["verdict"],
        "order": order,
        "after": after,
        "spread": spread_report(dataset),
        "duplicates": duplicates(dataset),
        "out_of_range": out_of_range(dataset, dynamic),
        "splits": split_overlap(dataset, splits) if splits else None,
        "overlaps": known_overlaps(dataset) + [dataset_overlap(dataset, other) for other in others],
    }
    return report | {"messages": _messages(dataset, dynamic, report)}, table.rename_axis("track_id").reset_index()


def dynamic_means(dataset: Dataset) -> pd.DataFrame | None:
    """Time means of the dynamic ratings: index track_id, columns valence and arousal; None where there are none.

    DEAM's own, or `dynamic/valence.csv` and `dynamic/arousal.csv` in the dataset's folder: a row a track, its id first,
    then a column for each time. UserError where one of the two is there and the other is not, or cannot be read.
    """
    if dataset.layout == "deam":
        try:
            tables = read_dynamic(dataset.root)
        except (
            UserError
        ):  # it asks for tables that the rest of the audit can do without; `_messages` says they are missing
            return None
    else:
        files = {target: Path(dataset.root) / "dynamic" / f"{target}.csv" for target in VALENCE_AROUSAL}
        if not any(file.is_file() for file in files.values()):
            return None
        tables = {target: _read_series(file) for target, file in files.items()}
    return pd.DataFrame({target: tables[target].mean(axis=1) for target in VALENCE_AROUSAL})


def _read_series(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, index_col=0, dtype={0: str}, skipinitialspace=True, encoding="utf-8-sig")
        table.index = table.index.astype(str)
        table = table.astype(float)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as dynamic ratings ({error}); give a row a track: its id, then numbers."
        ) from None
    if table.index.has_duplicates:
        raise UserError(
            f"{path} has two rows for track {table.index[table.index.duplicated()][0]}; keep one row a track."
        )
    return table


def loudness_of(features: pd.DataFrame) -> pd.Series | None:
    """Mean loudness (sum of the auditory spectrum) of each track from a feature table; None where it has none."""
    for name in (LOUDNESS, f"{LOUDNESS}_mean"):
        if name in features:
            return features[name].dropna()
    return None


def spread_report(dataset: Dataset) -> dict:
    """Raters of each part and of all, and what their disagreement caps.

    Returns
    -------
    {part or "all": {"raters": {"counts", "typical", "assumed", "deviation", ...}, target: {"n", "mean", "sd", "low",
    "high", "ceiling": {"r2", "rmse", "raters", "n"} or None}, "messages"}}
    """
    parts = dataset.tracks["part"].astype(str)
    names = sorted(parts.unique())
    report, sample = {}, dataset.spread.astype(float).copy()
    for part in names:
        chosen = parts == part
        raters = _raters(dataset, chosen)
        # The ceiling wants the spread of the population of raters; that of n people, divided by n, is too small.
        few = raters["deviation"] == "population" and raters["typical"] > 1
        factor = np.sqrt(raters["typical"] / (raters["typical"] - 1)) if few else 1.0
        sample.loc[chosen] *= factor
        report[part] = {"raters": raters} | _ceilings(dataset, sample, chosen, raters["typical"])
    if len(names) > 1:
        report["all"] = _pooled(dataset, sample, parts, report)
    return report


def _raters(dataset: Dataset, chosen: pd.Series) -> dict:
    """Number of raters of a part: told by a column `raters`, read from the means, or assumed."""
    names = [name for name in dataset.targets if name in dataset.spread]
    told = pd.to_numeric(dataset.tracks.get("raters", pd.Series(dtype=float)), errors="coerce")
    told = told.reindex(chosen.index)[chosen].dropna()
    means = dataset.ratings.loc[chosen, names or list(dataset.targets)].to_numpy(float).ravel()
    spreads = dataset.spread.loc[chosen, names].to_numpy(float).ravel() if names else None
    found = recover_raters(means, spreads)
    about = {"deviation": None, "fit": None, "chance": None}
    if found is not None:
        about = {"deviation": found.deviation, "fit": found.fit, "chance": found.chance}
    if len(told) and (told >= 1).all():
        counts = {int(n): float(share) for n, share in told.value_counts(normalize=True).items()}
        source, typical = "told by the column raters", float(len(told) / (1 / told).sum())
    elif found is not None:
        source, counts, typical = "read from the means, which are whole sums divided by it", found.counts, found.typical
    else:
        source, counts, typical = "assumed", {ASSUMED_RATERS: 1.0}, float(ASSUMED_RATERS)
    sentence = f"{' or '.join(map(str, counts))} raters a track ({source})"
    return {"sentence": sentence, "source": source.split()[0], "counts": counts, "typical": typical} | about


def _ceilings(dataset: Dataset, sample: pd.DataFrame, chosen: pd.Series, raters: float) -> dict:
    """Spread as published and human ceiling of each target, and what keeps them from being known."""
    result, messages, unknown = {}, [], []
    for target in dataset.targets:
        ratings = dataset.ratings.loc[chosen, target]
        if ratings.nunique() < 2:
            value = f"{ratings.dropna().iloc[0]:g}" if ratings.notna().any() else "missing"
            messages.append(f"{target} is {value} for every track: there is nothing to learn or to score.")
        if target not in dataset.spread or dataset.spread.loc[chosen, target].isna().all():
            unknown.append(target)
            continue
        published = dataset.spread.loc[chosen, target].dropna()
        result[target] = {
            "n": len(published),
            "mean": published.mean(),
            "sd": published.std(ddof=0),
            "low": published.min(),
            "high": published.max(),
            "ceiling": None,
        }
        if (published == 0).all():
            messages.append(
                f"The raters' spread of {target} is 0 for every track, as with one rater: no human ceiling."
            )
        elif len(published) > 1 and ratings.nunique() > 1:
            result[target]["ceiling"] = human_ceiling(sample.loc[chosen, target], ratings, raters)
    if unknown:
        messages.append(f"The raters' spread is not known for {', '.join(unknown)}, so no human ceiling can be given.")
    return result | {"messages": messages}


def _pooled(dataset: Dataset, sample: pd.DataFrame, parts: pd.Series, report: dict) -> dict:
    """All parts together: spreads are scaled as if ASSUMED_RATERS had rated, with the same error of the mean."""
    typical = parts.map({part: report[part]["raters"]["typical"] for part in parts.unique()})
    scaled = sample.mul(np.sqrt(ASSUMED_RATERS / typical), axis=0)
    pooled = _ceilings(dataset, scaled, pd.Series(True, index=parts.index), ASSUMED_RATERS)
    return pooled | {"messages": []}


def known_overlaps(dataset: Dataset) -> list[dict]:
    """Overlaps with other data sets that are known from their making."""
    if dataset.layout != "deam":
        return []
    count = sum(track.isdecimal() and int(track) <= LAST_EXCHANGED for track in dataset.tracks.index)
    sentence = (
        f"Overlap: {count} songs (ids up to {LAST_EXCHANGED}) are those of emoMusic; a model that has seen "
        "one of the two must not be tested on these songs of the other."
    )
    return [{"other": "emoMusic", "ids": count, "sentence": sentence}] if count else []


def sentences(report: dict) -> list[str]:
    """The report of `audit` as lines to read: the verdict first."""
    said = [report["verdict"]]
    for part in report["order"]["parts"].values():
        said.append(part["verdict"])
        if part["loudness"] and part["state"] != "unknown":
            said.append(f"  {part['loudness']['sentence']}.")
        said += [f"  {message}" for message in part["messages"] if part["state"] != "unknown"]
    if report["after"]:
        said.append(f"With these tracks exchanged back: {report['after']['verdict']}")
        said += [f"  {part['verdict']}" for part in report["after"]["parts"].values()]
    for part, about in report["spread"].items():
        if "raters" in about:
            said.append(f"{part}: {about['raters']['sentence']}.")
        said += [f"{part}: {_ceiling_words(t, a)}" for t, a in about.items() if isinstance(a, dict) and "ceiling" in a]
    if report["splits"]:
        said.append(report["splits"]["verdict"])
    return said + [overlap["sentence"] for overlap in report["overlaps"]] + report["messages"]


def _ceiling_words(target: str, about: dict) -> str:
    words = f"{target}: spread of the raters {about['mean']:.2f} on average"
    limit = about["ceiling"]
    return (
        f"{words}; no model can reach more than R2 {limit['r2']:.2f}, RMSE {limit['rmse']:.2f}."
        if limit
        else f"{words}."
    )


def _messages(dataset: Dataset, dynamic: pd.DataFrame | None, report: dict) -> list[str]:
    """What could not be checked, or was found besides, one sentence each."""
    said = []
    if dynamic is None:
        place = DYNAMIC if dataset.layout == "deam" else "dynamic"
        said.append(
            "No dynamic ratings of both: whether valence and arousal are exchanged can be judged by loudness at most; "
            f"put {place}/valence.csv and {place}/arousal.csv (id, then a column for each time) into the folder."
        )
    for part, about in report["spread"].items():
        said += [f"{part}: {message}" for message in about["messages"]]
    if dataset.tracks["group"].nunique() == len(dataset.tracks):
        said.append("No two tracks share a group (artist, album or piece): if groups are unknown, splits may leak.")
    unrated = int(dataset.ratings[list(VALENCE_AROUSAL)].isna().any(axis=1).sum())
    if unrated:
        said.append(f"{unrated} of {len(dataset.tracks)} tracks lack valence or arousal.")
    said += [f"{len(ids)} tracks: {what} ({', '.join(ids[:5])})." for what, ids in report["out_of_range"].items()]
    return said + _said_of_duplicates(report["duplicates"])


def _said_of_duplicates(found: dict) -> list[str]:
    said = []
    for key, what in (("audio", "the same audio file"), ("songs", "the same artist and title")):
        groups = found[key]["groups"]
        if groups:
            times = "once" if found[key]["count"] == 1 else f"{found[key]['count']} times"
            said.append(f"Several tracks have {what}, {times}: {' and '.join(groups[0][:3])}.")
    same = found["ratings"]
    if same["suspicious"]:
        said.append(
            f"{same['pairs']} pairs of tracks have identical ratings where chance makes {same['expected']:.1f}."
        )
    return said
