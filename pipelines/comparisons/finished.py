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
    writer.write_json("metrics.json", {"schema": 1, "protocol": None, "targets": {}, "pairs": pairs})
    recipes = recipe_table(runs)
    rows += recipe_rows(runs, config)
    writer.write_table("comparison", pd.DataFrame(rows))
    if len(recipes):
        writer.write_table("recipes", recipes)
    leaks = dict.fromkeys(sentence for pair in pairs for sentence in pair["leaks"])
    told = ["A run that leaks is not called better than another.", *leaks] if leaks else []
    say([*map(_verdict, rows), *recipe_sentences(recipes), *told], writer)


def recipe_table(runs: list):
    """Networks trained by `finetune` with the same recipe, over their seeds.

    Columns network, schedule, pretrained, target, seeds (number), mean, sd, low, high of R2; empty without such runs.
    """
    import pandas as pd

    rows = []
    for run in runs:
        training = run.about.get("training")
        if training is None:
            continue
        source = training["pretrained_on"] or {}
        facts = {"network": run.about["features"]["name"], "schedule": training["schedule"]}
        facts |= {"pretrained": source.get("dataset", "no"), "seed": run.about["seed"]}
        for target, parts in run.metrics["targets"].items():
            rows.append(facts | {"target": target, "r2": parts["all"]["r2"][0]})
    if not rows:
        return pd.DataFrame()
    # Rows are in the order of the command line; so are the recipes.
    groups = pd.DataFrame(rows).groupby(["network", "schedule", "pretrained", "target"], sort=False)
    found = groups.agg(
        seeds=("seed", "nunique"), mean=("r2", "mean"), sd=("r2", "std"), low=("r2", "min"), high=("r2", "max")
    )
    return found.reset_index()


def recipe_rows(runs: list, config) -> list[dict]:
    """Recipes of several seeds against each other: their predictions averaged over the same seeds, then paired.

    Rows as those of `pair_rows`; a recipe is named "network, schedule" and what it was pretrained on.
    """
    import pandas as pd

    from mer_core.evaluate.significance import paired_bootstrap

    members: dict[str, dict[int, object]] = {}
    for run in runs:
        if (training := run.about.get("training")) is not None and not run.about["leaks"]:
            source = training["pretrained_on"] or {}
            after = f" after {source.get('run', source['dataset'])}" if source else ""
            name = f"{run.about['features']['name']}, {training['schedule']}{after}"
            members.setdefault(name, {})[run.about["seed"]] = run
    rows = []
    for a, b in combinations(members, 2):
        seeds = sorted(members[a].keys() & members[b].keys())
        if len(seeds) < 2:
            continue
        tables = [
            pd.concat([members[name][seed].predictions for seed in seeds])
            .groupby(["target", "track_id"], sort=False)[["true", "predicted"]]
            .mean()
            .reset_index()
            for name in (a, b)
        ]
        groups = members[a][seeds[0]].tracks.set_index("track_id")["group"]
        found = paired_bootstrap(*tables, groups, config.resamples, config.seed)
        rows += pair_rows({"a": f"{a} (mean of {len(seeds)} seeds)", "b": b, "targets": found})
    return rows


def recipe_sentences(recipes) -> list[str]:
    """One sentence for each recipe and target of several seeds."""
    return [
        f"{row.network}, {row.schedule}, pretrained on {row.pretrained}: {row.target} R2 {row.mean:.3f}, the mean of "
        f"{row.seeds} seeds (standard deviation {row.sd:.3f}, from {row.low:.3f} to {row.high:.3f})."
        for row in recipes.itertuples(index=False)
        if row.seeds > 1
    ]


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
