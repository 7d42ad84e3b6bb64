"""Predict from audio files with a finished run, as CSV on the run's rating scale.

Each row has the prediction of every target and an interval at the run's level (90 %), made from the run's out-of-fold
errors. A file that cannot be read gets a row with its reason in the `error` column, and the exit code is then 3.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys

from mer_core.errors import UserError

EXIT_SOME_FAILED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run and the files."""
    parser.add_argument("--run", required=True, help="id or folder of a finished run, or 'latest'")
    parser.add_argument("--workers", type=int, default=0, help="threads (default: one per core)")
    parser.add_argument("--weights", default="", help="folder of pretrained weights (default: the one of the training)")
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio files of at least 3 s")


def main(arguments: argparse.Namespace) -> int:
    """Print one CSV row per file and return 0, or 3 when any file failed."""
    from mer_core.runs import read_run

    run = read_run(arguments.run)
    facts_file = run.folder / "model" / "model.json"
    if not facts_file.exists():
        raise UserError(
            f"run {run.run_id!r} holds no model (pipeline {run.about['pipeline']!r}); name a run of 'train'"
        )
    rows, failed = predict(
        run,
        json.loads(facts_file.read_text(encoding="utf-8")),
        arguments.files,
        arguments.workers or None,
        arguments.weights or None,
    )
    targets = run.about["targets"]
    header = ["path", *targets, *(f"{target}_{side}" for target in targets for side in ("lower", "upper"))]
    if failed:
        header.append("error")
    writer = csv.DictWriter(sys.stdout, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return EXIT_SOME_FAILED if failed else 0


def predict(
    run, facts: dict, files: list[str], workers: int | None, weights: str | None = None
) -> tuple[list[dict], int]:
    """Rows for the CSV, in the order of the files, and how many of them failed.

    Intervals are cut at the ends of the rating scale. `weights` are those of pretrained networks; they must be the ones
    that the run was trained with.
    """
    from mer_core.models.reductions import split_reduction
    from mer_core.models.representations import check_weights, representation_of_files
    from mer_core.models.store import load_model

    source = run.about["features"]["source"]
    if source != "recomputed":
        print(
            f"note: run {run.run_id} was trained on features of another source ({source}); those of your files are "
            "computed here and agree with such tables only approximately",
            file=sys.stderr,
        )
    once = list(dict.fromkeys(files))
    table, _ = split_reduction(run.about["features"]["name"])
    weights = weights or run.about["config"].get("weights") or None
    check_weights(table, run.about.get("weights") or [], weights)
    features, failures = representation_of_files(table, facts["columns"], once, workers, weights)
    errors = {str(path): reason for path, reason in failures}
    model = load_model(run.folder / "model" / "model.skops")
    low, high = run.about["dataset"]["scale"]
    rows = []
    for file in files:
        row = {"path": file}
        if file in errors:
            row["error"] = errors[file]
        else:
            values = model.predict(features.loc[[file], facts["columns"]].to_numpy()).ravel()
            for target, value in zip(facts["targets"], values, strict=True):
                half = facts["interval_halfwidth"][target]
                row |= {target: f"{value:.4f}"}
                row |= {
                    f"{target}_lower": f"{max(value - half, low):.4f}",
                    f"{target}_upper": f"{min(value + half, high):.4f}",
                }
        rows.append(row)
    return rows, sum("error" in row for row in rows)
