"""Are valence and arousal where they belong? The judgement of each part of a collection, in numbers and in a sentence.

Static ratings (one a track) are held against the time means of dynamic ones, and against loudness where it is known.

Conventions: correlations are Pearson's over tracks; p-values are one-sided (see `exchange`). Tables have the columns
valence, arousal, dynamic_valence, dynamic_arousal, loudness, and part; index track_id, in the order of the ids.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import VALENCE_AROUSAL, Dataset
from mer_core.evaluate.exchange import (
    CERTAIN,
    DECIDED,
    MIN_TRACKS,
    Finding,
    agreement,
    exchange_p,
    find_exchange,
    loudness_p,
)

DYNAMIC = tuple(f"dynamic_{target}" for target in VALENCE_AROUSAL)
REVERSED = -0.5


def in_order(ids: pd.Index) -> list[str]:
    """Ids sorted as people count: numbers by value, so that "9" comes before "10"."""

    def key(name: str) -> list[tuple]:
        return [(0, int(word), "") if word.isdecimal() else (1, 0, word) for word in re.findall(r"\d+|\D+", name)]

    return sorted(map(str, ids), key=key)


def order_table(dataset: Dataset, dynamic: pd.DataFrame | None, loudness: pd.Series | None) -> pd.DataFrame:
    """Everything that tells the two ratings apart, one row a track in the order of the ids; NaN where unknown."""
    order = in_order(dataset.ratings.index)
    table = dataset.ratings.loc[order, list(VALENCE_AROUSAL)].astype(float)
    table.insert(0, "part", dataset.tracks.loc[order, "part"].astype(str))
    for target, name in zip(VALENCE_AROUSAL, DYNAMIC, strict=True):
        table[name] = np.nan if dynamic is None else dynamic[target].reindex(order)
    table["loudness"] = np.nan if loudness is None else loudness.reindex(order)
    return table


def judge_order(table: pd.DataFrame, name: str) -> tuple[dict, pd.DataFrame]:
    """Judge every part of an `order_table`.

    Returns
    -------
    {"verdict": sentence, "state", "n_exchanged", "runs": [[first id, last id, tracks]...], "parts": {part: see
    `judge_part`}}, and the table with the columns evidence (nats), probability and exchanged added (NaN, NaN, False
    where not judged)
    """
    table = table.assign(evidence=np.nan, probability=np.nan, exchanged=False)
    parts = {}
    for part in sorted(table["part"].unique()):
        rows = table[table["part"] == part]
        parts[part], finding = judge_part(part, rows)
        if finding is not None:
            judged = _complete(rows).index
            for column in ("evidence", "probability", "exchanged"):
                table.loc[judged, column] = getattr(finding, column)
    runs = _runs(table)
    states = [part["state"] for part in parts.values()]
    # The worst thing said of any part is what is said of the whole.
    state = next((s for s in ("exchanged", "blocks", "scattered", "undecided", "straight") if s in states), "unknown")
    result = {"state": state, "n_exchanged": int(table["exchanged"].sum()), "runs": runs, "parts": parts}
    return {"verdict": _overall(name, parts, runs, len(table))} | result, table


def judge_part(part: str, rows: pd.DataFrame) -> tuple[dict, Finding | None]:
    """Judge the tracks of one part.

    Returns
    -------
    {"n", "n_dynamic", "state", "verdict", "correlations": {static: {dynamic: r}}, "p_exchanged", "p_block",
    "n_exchanged", "n_exchanged_range", "n_certain", "blocks": [{"first", "last", "n", "first_range", "last_range"}],
    "loudness", "messages"}; state is straight, exchanged (all), blocks, scattered, undecided or unknown (nothing to
    judge by)
    """
    usable = _complete(rows)
    loudness = judge_loudness(rows)
    result = {"n": len(rows), "n_dynamic": len(usable), "state": "unknown", "verdict": "", "correlations": None}
    result |= {"p_exchanged": None, "p_block": None, "n_exchanged": 0, "n_exchanged_range": [0, 0], "n_certain": 0}
    result |= {"blocks": [], "loudness": loudness, "messages": []}
    obstacle = _obstacle(rows, usable)
    if obstacle:
        said = f"{part}: not judged: {obstacle}"
        if loudness:
            said += f" Loudness alone: {loudness['sentence']}."
        return result | {"verdict": said, "messages": [obstacle]}, None
    static, dynamic = usable[list(VALENCE_AROUSAL)].to_numpy(), usable[list(DYNAMIC)].to_numpy()
    between, finding, p = agreement(static, dynamic), find_exchange(static, dynamic), exchange_p(static, dynamic)
    state = {"none": "straight", "all": "exchanged"}.get(finding.kind, finding.kind)
    if (state == "straight" and p < 1 - DECIDED) or (state == "exchanged" and p > DECIDED):
        state = "undecided"
        finding = replace(finding, exchanged=np.zeros(len(usable), bool), probability=np.full(len(usable), 0.5))
    rows_of = {s: dict(zip(VALENCE_AROUSAL, r, strict=True)) for s, r in zip(VALENCE_AROUSAL, between, strict=True)}
    result |= {"state": state, "correlations": rows_of, "p_exchanged": p, "p_block": finding.block_p}
    if state in ("exchanged", "blocks", "scattered"):
        result |= {
            "n_exchanged": int(finding.exchanged.sum()),
            "n_exchanged_range": [round(number) for number in finding.expected[1:]],
            "n_certain": int((finding.probability >= CERTAIN).sum()),
            "blocks": [_describe(block, list(usable.index)) for block in finding.blocks],
        }
    result["messages"] = _remarks(between, len(rows) - len(usable))
    return result | {"verdict": f"{part}: {_sentence(result, between)}"}, finding


def judge_loudness(rows: pd.DataFrame) -> dict | None:
    """Which of the two ratings loudness goes with: {"n", "valence": r, "arousal": r, "p", "sentence"}, None if unknown.

    p is that of "loudness goes with the rating called valence more than with the one called arousal".
    """
    usable = rows.dropna(subset=["loudness", *VALENCE_AROUSAL])
    if len(usable) < MIN_TRACKS or (usable[["loudness", *VALENCE_AROUSAL]].nunique() < 2).any():
        return None
    # Ranks, because loudness is skewed and a few loud tracks would decide.
    loudness, static = usable["loudness"].rank().to_numpy(), usable[list(VALENCE_AROUSAL)].to_numpy()
    valence, arousal = (float(np.corrcoef(loudness, column)[0, 1]) for column in static.T)
    p = loudness_p(loudness, static)
    which = "as it should be" if p >= 1 - DECIDED else "as if exchanged" if p <= DECIDED else "which decides nothing"
    sentence = f"loudness goes with valence by r = {valence:.2f} and with arousal by {arousal:.2f}, {which} ({_p(p)})"
    return {"n": len(usable), "valence": valence, "arousal": arousal, "p": p, "sentence": sentence}


def exchange_back(table: pd.DataFrame) -> pd.DataFrame:
    """An `order_table` with the ratings of the tracks found exchanged put in the other order."""
    mended, found = table.copy(), table["exchanged"].to_numpy(bool)
    mended.loc[found, list(VALENCE_AROUSAL)] = table.loc[found, list(VALENCE_AROUSAL)].to_numpy()[:, ::-1]
    return mended


def _complete(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.dropna(subset=[*VALENCE_AROUSAL, *DYNAMIC])


def _obstacle(rows: pd.DataFrame, usable: pd.DataFrame) -> str | None:
    """Why a part cannot be judged, or None."""
    if rows[list(DYNAMIC)].isna().all(axis=None):
        return "there are no dynamic ratings to hold the static ones against."
    if len(usable) < MIN_TRACKS:
        return f"{len(usable)} tracks have both static and dynamic ratings; at least {MIN_TRACKS} are needed."
    constant = [name for name in (*VALENCE_AROUSAL, *DYNAMIC) if usable[name].nunique() < 2]
    if constant:
        return f"{constant[0].replace('_', ' ')} is {usable[constant[0]].iloc[0]:g} for every track; ratings must vary."
    return None


def _remarks(between: np.ndarray, without: int) -> list[str]:
    """What else is odd about the agreement of static and dynamic ratings."""
    said = [f"{without} tracks lack static or dynamic ratings and are not judged."] if without else []
    for place, target in enumerate(VALENCE_AROUSAL):
        if between[place, place] < REVERSED:
            said.append(
                f"Static {target} runs against dynamic {target} (r = {between[place, place]:.2f}): is a scale reversed?"
            )
    return said


def _describe(block, ids: list[str]) -> dict:
    """A block in ids: its ends, and between which ids each end lies with 95 %."""
    return {
        "first": ids[block.start],
        "last": ids[block.stop - 1],
        "n": block.stop - block.start,
        "first_range": [ids[block.start_range[0]], ids[block.start_range[1]]],
        "last_range": [ids[block.stop_range[0] - 1], ids[block.stop_range[1] - 1]],
    }


def _sentence(result: dict, between: np.ndarray) -> str:
    (vv, va), (av, aa) = between
    straight, crossed = f"straight {vv:.2f} and {aa:.2f}", f"crossed {va:.2f} and {av:.2f}"
    numbers = f"agreement with the dynamic ratings {straight}, {crossed}"
    n, count = result["n_dynamic"], result["n_exchanged"]
    if result["state"] == "straight":
        return f"valence and arousal are in their places ({numbers}; {_p(result['p_exchanged'])} for exchanged)."
    if result["state"] == "exchanged":
        return f"valence and arousal are exchanged in all {n} tracks ({numbers}; {_p(result['p_exchanged'])})."
    if result["state"] == "blocks":
        blocks = " and ".join(_block_words(block) for block in result["blocks"])
        return f"valence and arousal are exchanged in {count} of {n} tracks: {blocks} ({_p(result['p_block'])})."
    if result["state"] == "scattered":
        low, high = result["n_exchanged_range"]
        return (
            f"valence and arousal are exchanged in {low} to {high} of {n} tracks, in no block; "
            f"{result['n_certain']} of them can be named with 95 % certainty ({numbers})."
        )
    return f"cannot be decided: static and dynamic ratings agree too little or alike in both orders ({numbers})."


def _block_words(block: dict) -> str:
    words = f"ids {block['first']} to {block['last']}"
    loose = []
    for end, name in (("first", "start"), ("last", "end")):
        low, high = block[f"{end}_range"]
        if low != high:
            loose.append(f"{name} between {low} and {high}")
    return f"{words} ({', '.join(loose)}, 95 %)" if loose else words


def _runs(table: pd.DataFrame) -> list[list]:
    """Runs of exchanged tracks over all parts, as [first id, last id, tracks]; tracks not judged do not interrupt."""
    judged = table[table["evidence"].notna()]
    flags = judged["exchanged"].to_numpy(bool)
    number = np.cumsum(np.diff(flags, prepend=False))
    return [[ids[0], ids[-1], len(ids)] for ids in (list(g.index) for _, g in judged[flags].groupby(number[flags]))]


def _overall(name: str, parts: dict, runs: list, n: int) -> str:
    found = [part for part, result in parts.items() if result["state"] in ("exchanged", "blocks", "scattered")]
    open_parts = [part for part, result in parts.items() if result["state"] in ("undecided", "unknown")]
    rest = f" Not decided for {', '.join(open_parts)}." if open_parts else ""
    if not found and len(open_parts) == len(parts):
        return f"{name}: whether valence and arousal are exchanged cannot be said."
    if not found:
        return f"{name}: valence and arousal are in their places.{rest}"
    count = sum(result["n_exchanged"] for result in parts.values())
    scattered = any(parts[part]["state"] == "scattered" for part in found)
    where = "scattered" if scattered else "ids " + ", ".join(f"{a} to {b}" if a != b else a for a, b, _ in runs)
    about = "about " if scattered else ""
    where = f"{where}; {', '.join(found)}"
    return f"{name}: valence and arousal are exchanged in {about}{count} of {n} tracks ({where}).{rest}"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else "p > 0.999" if p > 0.999 else f"p = {p:.3f}"
