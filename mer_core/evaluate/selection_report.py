"""What a search for few columns found, as tables: curves over k, the final design, how stable the choice is."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mer_core.evaluate.cross_validation import CrossValidation
from mer_core.evaluate.experiment import Data
from mer_core.evaluate.metrics import draw_groups, r2, resampled_scores, rmse
from mer_core.evaluate.selection import Choice, Round, Search
from mer_core.evaluate.selection_ranking import Ranking
from mer_core.evaluate.significance import paired_bootstrap
from mer_core.evaluate.stability import kuncheva, nogueira

LEVEL = 0.95


def curve_table(data: Data, search: Search, rounds: list[Round], resamples: int, seed: int) -> pd.DataFrame:
    """Scores of every k: one row per fold and k, then rows of fold "all".

    Returns
    -------
    fold, granularity, k, columns (mean number over the folds in "all"), {inner, outer}_joint, {inner,
    outer}_{rmse, r2}_{target}, outer_joint_low, outer_joint_high. inner: predictions inside the training part, mean
    over the folds in "all"; outer: the held-out tracks, pooled in "all", where the interval is from a bootstrap over
    groups (NaN elsewhere).
    """
    truth = data.ratings.to_numpy()
    rows = []
    for one in rounds:
        for position, k in enumerate(search.sizes):
            row = {"fold": str(one.part), "granularity": search.granularity, "k": k}
            row["columns"] = float(one.ranking.design(k).sum())
            row |= _scores("inner", data, truth[one.train], one.inner[:, :, position])
            rows.append(row | _scores("outer", data, truth[one.test], one.outer[:, :, position]))
    table = pd.DataFrame(rows)
    pooled = table.drop(columns="fold").groupby(["granularity", "k"], as_index=False).mean().assign(fold="all")
    tested = np.concatenate([np.flatnonzero(one.test) for one in rounds])
    outer = np.concatenate([one.outer for one in rounds])
    for position in range(len(search.sizes)):
        scores = _scores("outer", data, truth[tested], outer[:, :, position])
        groups = data.groups.to_numpy()[tested]
        scores |= _interval(truth[tested], outer[:, :, position], groups, resamples, seed)
        for name, score in scores.items():
            pooled.loc[position, name] = score
    return pd.concat([table, pooled], ignore_index=True)


def _scores(stage: str, data: Data, true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Objective, and RMSE and R2 of each target."""
    errors = {target: rmse(true[:, t], predicted[:, t]) for t, target in enumerate(data.ratings)}
    shares = {target: r2(true[:, t], predicted[:, t]) for t, target in enumerate(data.ratings)}
    row = {f"{stage}_joint": float(np.mean(list(errors.values())))}
    for target in errors:
        row |= {f"{stage}_rmse_{target}": errors[target], f"{stage}_r2_{target}": shares[target]}
    return row


def _interval(true: np.ndarray, predicted: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> dict:
    """Interval of the objective from a bootstrap over groups; all targets are scored on the same resamples."""
    codes = np.unique(groups.astype(str), return_inverse=True)[1]
    draws = draw_groups(int(codes.max()) + 1, resamples, seed)
    joint = np.mean(
        [resampled_scores(y, p, codes, draws, ("rmse",))["rmse"] for y, p in zip(true.T, predicted.T, strict=True)],
        axis=0,
    )
    low, high = np.quantile(joint, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"outer_joint_low": float(low), "outer_joint_high": float(high)}


def design_facts(data: Data, search: Search, ranking: Ranking, choice: Choice, rule: str) -> dict:
    """The final design and how it was chosen, for `design.json`."""
    k = search.sizes[choice.picked[rule]]
    chosen = ranking.design(k)
    order = np.lexsort((ranking.rank, -ranking.score))
    order = order[chosen[order]]
    names = data.features.columns
    test = data.split.members("test")
    return {
        "schema": 1,
        "columns": [names[column] for column in order],
        "granularity": search.granularity,
        "ranking": search.ranking,
        "rule": rule,
        "k": k,
        "k_of_rule": {name: search.sizes[position] for name, position in choice.picked.items()},
        "targets": list(data.ratings),
        "model": search.family,
        "fit": search.fit,
        "seed": search.seed,
        "scores": {names[column]: float(ranking.score[column]) for column in order},
        "blocks": {names[column]: str(search.blocks[column]) for column in order},
        "tried": [
            {"k": size, "columns": int(ranking.design(size).sum()), "joint": float(joint), "se": float(deviation)}
            for size, joint, deviation in zip(search.sizes, choice.joint, choice.deviation, strict=True)
        ],
        "chosen_on": "inner folds of the training part" if len(test) else "held-out tracks of every fold",
        "ranked_on": int(len(data.features) - len(test)),
    }


def stability_facts(designs: pd.DataFrame) -> dict:
    """Stability indices over all folds and repeats, and over the folds of each repeat's own split."""
    matrix = designs.to_numpy()
    facts = {"selections": len(designs), "nogueira": nogueira(matrix, LEVEL), "kuncheva": kuncheva(matrix)}
    facts["columns"] = {"ever": int(matrix.any(axis=0).sum()), "always": int(matrix.all(axis=0).sum())}
    per_repeat = designs.groupby(level="repeat")
    return facts | {"repeats": {str(number): nogueira(some.to_numpy(), LEVEL) for number, some in per_repeat}}


def stability_table(data: Data, designs: pd.DataFrame, ranking: Ranking, chosen: np.ndarray) -> pd.DataFrame:
    """Every column: its meaning, how often it was selected (0..1), its final score and rank, whether it is chosen."""
    columns = data.table.columns.loc[data.features.columns]
    table = columns[["group", "lld", "statistic", "plain"]].rename_axis("column").reset_index()
    rank = pd.array(np.where(ranking.rank < len(columns), ranking.rank, -1), dtype="Int64")
    rank[rank == -1] = pd.NA
    table = table.assign(frequency=designs.mean().to_numpy(), score=ranking.score, rank=rank, chosen=chosen)
    return table.sort_values(["chosen", "frequency", "score"], ascending=False, kind="stable")


def selections_table(designs: pd.DataFrame) -> pd.DataFrame:
    """Heat map of the choice: repeat, fold, column, selected, for the columns that were selected at least once."""
    ever = designs.loc[:, designs.any()]
    return ever.rename_axis(columns="column").stack().rename("selected").reset_index()


def against_all(
    data: Data, result: CrossValidation, everything: CrossValidation, resamples: int, seed: int
) -> dict[str, dict]:
    """Design (a) and all columns (b), both out of fold, on the same resamples; see `significance.paired_bootstrap`."""
    tables = [
        pd.concat(
            pd.DataFrame(
                {"track_id": one.tested, "target": target, "true": data.ratings[target].loc[one.tested].to_numpy()}
            ).assign(predicted=one.predicted[:, column])
            for column, target in enumerate(data.ratings)
        )
        for one in (result, everything)
    ]
    return paired_bootstrap(*tables, data.groups, resamples, seed)


def sentence(rule: dict, n_all: int, design: dict) -> str:
    """What selection cost, in words."""
    counts = sorted(set(rule["columns"]))
    columns = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    parts = []
    for target, about in rule["against_all"].items():
        difference, low, high = about["r2"]["difference"]
        interval = "" if low is None else f" ({low:+.3f} to {high:+.3f})"
        parts.append(f"{target} {about['r2']['a']:.3f}, {difference:+.3f}{interval} against all")
    return (
        f"designs of {columns} of {n_all} columns: R2 {'; '.join(parts)}; final design k = {design['k']}, "
        f"{len(design['columns'])} columns"
    )
