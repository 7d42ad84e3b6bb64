"""`predict` on a run of `classify` whose networks were trained there: the probability of happy of audio files."""

from __future__ import annotations

import csv
import sys

from mer_core.errors import UserError


def main(run, files: list[str], over_time: str) -> int:
    """Print one CSV row per file (path, happy, perhaps error) and return the number of files that failed."""
    from mer_core.datasets.audio import check_audible, read_audio
    from mer_core.evaluate.own_networks import FILE, load_networks, probability
    from mer_core.models.training.spectrograms import STYLES

    if not (run.folder / "model" / FILE).is_file():
        raise UserError(
            f"run {run.run_id!r} keeps no network that predicts ({run.about['features']['name']} under a head of each "
            "fold); name a run of 'classify --network vit', or one of 'train'"
        )
    if over_time:
        raise UserError("--over-time is for runs of 'train' on one embedding; leave it out for a classifier")
    name, models = load_networks(run.folder / "model")
    style, rows = STYLES[name], []
    for file in files:
        row = {"path": file}
        try:
            samples, _ = read_audio(file, style.rate)
            check_audible(samples)
            row["happy"] = f"{probability(models, name, style.compute(samples)):.4f}"
        except UserError as error:
            row["error"] = str(error)
        rows.append(row)
    failed = sum("error" in row for row in rows)
    header = ["path", "happy", *(["error"] if failed else [])]
    writer = csv.DictWriter(sys.stdout, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return failed
