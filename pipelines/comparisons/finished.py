"""Finished runs, pair by pair."""

from __future__ import annotations

from itertools import combinations

from mer_core.errors import UserError
from pipelines.comparisons import say


def compare(config, writer) -> None:
    """Compare finished runs pair by pair; write `comparison.parquet` and `metrics.json`, print who is better."""
    import pandas as pd

    from mer_core.runs import compare_runs, read_run

    runs = [read_run(name) for name in dict.fromkeys(config.runs)]
    if len(runs) < 2:
        raise UserError(f"--runs {','.join(config.runs)} names {len(runs)} run; give at least two finished runs")
    pairs, rows = [], []
    for number, (a, b) in enumerate(combinations(runs, 2)):
        writer.progress(0.9 * number / max(1, len(runs) * (len(runs) - 1) / 2), f"{a.run_id} against {b.run_id}")
        pair = {"a": a.run_id, "b": b.run_id, **compare_runs(a, b, config.resamples, config.seed)}
        pairs.append(pair)
        rows += pair_rows(pair)
    facts = {key: runs[0].about.get(key) for key in ("dataset", "targets", "weights")}
    writer.about(**facts, protocol=None, seed=config.seed, compared=[run.run_id for run in runs])
    writer.write_table("comparison", pd.DataFrame(rows))
    writer.write_json("metrics.json", {"schema": 1, "protocol": None, "targets": {}, "pairs": pairs})
    leaks = dict.fromkeys(sentence for pair in pairs for sentence in pair["leaks"])
    told = ["A run that leaks is not called better than another.", *leaks] if leaks else []
    say([*map(_verdict, rows), *told], writer)


def pair_rows(pair: dict) -> list[dict]:
    """Differences of one pair as flat rows."""
    rows = []
    for target, about in pair["targets"].items():
        for metric in ("r2", "rmse", "ccc"):
            found = about[metric]
            row = {"run_a": pair["a"], "run_b": pair["b"], "target": target, "n": about["n"], "metric": metric}
            row |= {"a": found["a"], "b": found["b"]}
            row |= dict(zip(("difference", "low", "high"), found["difference"], strict=True))
            winner = pair[found["winner"]] if found["winner"] else None
            rows.append(row | {"better": winner})
    return rows


def _verdict(row: dict) -> str:
    names = {"r2": "R2", "rmse": "RMSE", "ccc": "CCC"}
    found = f"{row['target']} {names[row['metric']]}, {row['n']} tracks: {row['run_a']} against {row['run_b']}"
    if row["difference"] is None or row["low"] is None:
        return f"{found}: no difference can be told."
    difference = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    verdict = f"{row['better']} is better" if row["better"] else "neither is shown to be better"
    return f"{found}: {difference}; {verdict}."
