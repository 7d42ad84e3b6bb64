"""Predict from audio files with a finished run, as CSV on the run's rating scale.

Each row has the prediction of every target and an interval at the run's level (90 %), made from the run's out-of-fold
errors; a classifier's row has the probability of happy instead. A file that cannot be read gets a row with its reason
in the `error` column, and the exit code is then 3.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

from mer_core.errors import UserError

EXIT_SOME_FAILED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run and the files."""
    parser.add_argument("--run", required=True, help="id or folder of a finished run, or 'latest'")
    parser.add_argument("--workers", type=int, default=0, help="threads (default: one per core)")
    parser.add_argument("--weights", default="", help="folder of pretrained weights (default: the one of the training)")
    parser.add_argument(
        "--over-time",
        default="",
        metavar="OUT.csv",
        help="also write predictions of windows (path, seconds, target, predicted); of finetune, or on one embedding",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio files of at least 3 s")


def main(arguments: argparse.Namespace) -> int:
    """Print one CSV row per file and return 0, or 3 when any file failed."""
    from mer_core.runs import read_run

    run = read_run(arguments.run)
    if run.about["pipeline"] == "classify":
        from pipelines import predict_classes

        return EXIT_SOME_FAILED if predict_classes.main(run, arguments.files, arguments.over_time) else 0
    if arguments.over_time:
        check_over_time(run, arguments.over_time)
    if run.about["pipeline"] == "finetune":
        from pipelines import predict_networks

        workers = arguments.workers or None
        if arguments.over_time:
            predict_networks.write_windows(run, arguments.files, workers, arguments.over_time)
        return say(run.about["targets"], *predict_networks.predict(run, arguments.files, workers))
    facts_file = run.folder / "model" / "model.json"
    if not facts_file.exists():
        raise UserError(
            f"run {run.run_id!r} holds no model (pipeline {run.about['pipeline']!r}); name a run of 'train'"
        )
    facts = json.loads(facts_file.read_text(encoding="utf-8"))
    rows, failed = predict(
        run,
        facts,
        arguments.files,
        arguments.workers or None,
        arguments.weights or None,
    )
    if arguments.over_time:
        write_windows(run, arguments)
    return say(run.about["targets"], rows, failed, facts.get("qualities", []))


def say(targets: list[str], rows: list[dict], failed: int, qualities: list[str] | tuple[str, ...] = ()) -> int:
    """Print the rows as CSV and return the exit code; qualities of runs of midlevel are in their own units."""
    header = ["path", *targets, *(f"{target}_{side}" for target in targets for side in ("lower", "upper")), *qualities]
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

    Predictions and intervals are cut at the ends of the rating scale. `weights` are those of pretrained networks; they
    must be the ones that the run was trained with.
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
    if facts.get("network") == "vgg":
        from pipelines.midlevel_vgg import predicted_files

        answers, failures = predicted_files(run, facts, once, workers)
    else:
        # The model first: its reader is slower to load the more modules there are, and PyTorch brings thousands.
        model = load_model(run.folder / "model" / "model.skops")
        features, failures = representation_of_files(table, facts["columns"], once, workers, weights)
        answers = {
            path: model.predict(features.loc[[path], facts["columns"]].to_numpy()).ravel() for path in features.index
        }
    errors = {str(path): reason for path, reason in failures}
    low, high = run.about["dataset"]["scale"]
    rows = []
    for file in files:
        row = {"path": file}
        if file in errors:
            row["error"] = errors[file]
        else:
            qualities, values = facts.get("qualities", []), answers[file]
            for target, value in zip(facts["targets"], values[len(qualities) :], strict=True):
                half, value = facts["interval_halfwidth"][target], min(max(value, low), high)
                row |= {target: f"{value:.4f}"}
                row |= {
                    f"{target}_lower": f"{max(value - half, low):.4f}",
                    f"{target}_upper": f"{min(value + half, high):.4f}",
                }
            row |= {name: f"{value:.4f}" for name, value in zip(qualities, values, strict=False)}
        rows.append(row)
    return rows, sum("error" in row for row in rows)


def check_over_time(run, out: str) -> None:
    """Raise UserError unless windows have the run's columns and the file can be written, before the long work."""
    from mer_core.models.reductions import split_reduction
    from mer_core.models.representations import window_part

    name = split_reduction(run.about["features"]["name"])[0]
    if run.about["pipeline"] != "finetune" and window_part(name) is None:
        raise UserError(
            "--over-time needs a run on one embedding pooled by its mean, such as musicnn-msd; "
            f"run {run.run_id!r} has {run.about['features']['name']}"
        )
    if not Path(out).absolute().parent.is_dir():
        raise UserError(f"--over-time {out}: there is no such folder; make it first")


def write_windows(run, arguments: argparse.Namespace) -> None:
    """Write the predictions of the windows of all files that could be read; see `mer_core.evaluate.dynamic`."""
    from mer_core.evaluate.dynamic import window_predictions
    from mer_core.models.embeddings import listen_to
    from mer_core.models.reductions import split_reduction
    from mer_core.models.representations import window_part
    from mer_core.models.store import load_model

    part = window_part(split_reduction(run.about["features"]["name"])[0])
    weights = arguments.weights or run.about["config"].get("weights") or None
    files = list(dict.fromkeys(arguments.files))
    outcomes = listen_to(files, part.backbone, weights, arguments.workers or None, layer=part.layer).outcomes
    heard = {outcome.item: outcome.value[0] for outcome in outcomes if outcome.error is None}
    model = load_model(run.folder / "model" / "model.skops")
    table = window_predictions(part, heard, model, run.about["targets"]).rename(columns={"track_id": "path"})
    table.round(4).to_csv(arguments.over_time, index=False)
