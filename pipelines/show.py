"""One run in full: what it was made from, its scores with intervals, its baselines, what was left out."""

from __future__ import annotations

import argparse

METRICS = ("r2", "rmse", "mae", "pearson", "spearman", "ccc")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run."""
    parser.add_argument("run", help="id or folder of a finished run, or 'latest'")


def main(arguments: argparse.Namespace) -> int:
    """Print the run as text."""
    from mer_core.runs import read_run

    run = read_run(arguments.run)
    about, dataset = run.about, run.about["dataset"]
    features = {"n_columns": None, "failures": [], "notes": []} | (about.get("features") or {})
    low, high = dataset["scale"]
    print(f"run       {run.run_id}\nfolder    {run.folder}")
    print(f"made      {about['started']} in {about['seconds']} s, {about['machine']}")
    print(f"dataset   {dataset['name']}, {dataset['n_tracks']} tracks, ratings {low:g} to {high:g}")
    print(f"labels    {dataset['label_version']}")
    if features["n_columns"] is not None:
        print(f"features  {features['name']}, {features['n_columns']} columns, {features['source']}")
    print("config    " + " ".join(f"--{key} {value}" for key, value in about["config"].items()))
    print_scores(run.metrics)
    if about["pipeline"] == "compare":  # its log is what it found, as lines to read
        print("\n" + (run.folder / "log.txt").read_text(encoding="utf-8").rstrip())
    left_out = [*dataset["report"]["skipped"], *features["failures"]]
    print(f"\nleft out: {len(left_out)}")
    for item, reason in left_out:
        print(f"  {item}: {reason}")
    report = dataset["report"]
    for note in [*report["missing"], *report["notes"], *features["notes"], *(about.get("notes") or ())]:
        print(f"note: {note}")
    return 0


def print_scores(metrics: dict) -> None:
    """Print scores of the model and of its baselines, one row per target and part."""
    tables = {"": metrics["targets"]} | {
        f"{name} baseline": targets for name, targets in metrics.get("baselines", {}).items()
    }
    for name, targets in tables.items():
        for target, parts in targets.items():
            for part, row in parts.items():
                words = [f"{metric} {cell(row[metric])}" for metric in METRICS]
                print(f"{name:19} {target:9} {part:6} n {row['n']:<5} " + "  ".join(words))
    for target, row in metrics.get("ceiling", {}).items():
        share = "" if row["share"] is None else f"; the model reaches {row['share']:.0%} of it"
        print(f"human ceiling       {target:9} r2 {row['r2']:.3f}{share}")


def cell(interval: list) -> str:
    """A score with its interval."""
    value, low, high = interval
    if value is None:
        return "undefined"
    return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")
