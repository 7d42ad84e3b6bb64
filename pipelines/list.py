"""The runs there are, newest first, with their scores."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take no arguments."""


def main(arguments: argparse.Namespace) -> int:
    """Print one line per run; unreadable ones with the reason."""
    from mer_core.runs import list_runs, runs_root

    summaries = list_runs()
    if not summaries:
        print(f"no runs in {runs_root()} yet; make some with: python -m pipelines demo")
    width = max((len(summary.run_id) for summary in summaries), default=0)
    for summary in summaries:
        print(f"{summary.run_id:{width}}  {one_line(summary)}")
    return 0


def one_line(summary) -> str:
    """Dataset, labels, model and R2 of each target with its interval."""
    if summary.problem:
        return f"unreadable: {summary.problem}"
    dataset = summary.about.get("dataset", {})
    words = [
        dataset.get("name", ""),
        dataset.get("label_version", ""),
        summary.about.get("model", summary.about["pipeline"]),
    ]
    for target, parts in summary.metrics.get("targets", {}).items():
        value, low, high = parts["all"]["r2"]
        interval = f" [{low:.3f}, {high:.3f}]" if low is not None else ""
        words.append(f"{target} R2 {value:.3f}{interval}")
    return "  ".join(words)
