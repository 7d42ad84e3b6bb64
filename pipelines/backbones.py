"""The pretrained networks: what each gives, its licence, and whether it can be opened here."""

from __future__ import annotations

import argparse
import json

READY = "yes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the weights folder and the output format."""
    parser.add_argument(
        "--weights", default=None, metavar="FOLDER", help="folder with a sub-folder per model (default: MER_WEIGHTS)"
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of the table")


def main(arguments: argparse.Namespace) -> int:
    """Print one row per backbone, then where each one's weights come from."""
    rows = describe(arguments.weights)
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    columns = {
        "name": [row["name"] for row in rows],
        "gives": [f"{row['dims']}-d" + (f", {row['tags']} tags" if row["tags"] else "") for row in rows],
        "Hz": [str(row["rate"]) for row in rows],
        "window/hop s": [f"{row['window_s']:.4g}/{row['hop_s']:.4g}" for row in rows],
        "MB": [f"{row['size_mb']:.4g}" for row in rows],
        "here": [READY if row["loadable"] else "no" for row in rows],
        "licence": [row["licence"] for row in rows],
        "source": [row["source"] for row in rows],
    }
    widths = {title: max(map(len, (title, *cells))) for title, cells in columns.items()}
    for cells in ([*columns], *map(list, zip(*columns.values(), strict=True))):
        print("  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths.values(), strict=True)).rstrip())
    for row in rows:
        if not row["loadable"]:
            print(f"{row['name']}: {row['problem']}")
    return 0


def describe(weights: str | None) -> list[dict]:
    """What the table shows of each backbone; files are looked for, and compared with their checksums when opened."""
    from pathlib import Path

    from mer_core.errors import UserError
    from mer_core.models.backbones import BACKBONES, missing

    if weights is not None and not Path(weights).is_dir():
        raise UserError(f"--weights {weights} is no folder; name the one that holds the weights, a sub-folder a model")
    rows = []
    for backbone in BACKBONES.values():
        problem = missing(backbone, weights)
        rows.append(
            {
                "name": backbone.name,
                "title": backbone.title,
                "task": backbone.task,
                "dims": backbone.dims,
                "layers": list(backbone.layers),
                "tags": len(backbone.tags),
                "rate": backbone.rate,
                "window_s": backbone.window_s,
                "hop_s": backbone.hop_s,
                "size_mb": backbone.size_mb,
                "licence": backbone.licence,
                "source": backbone.source,
                "saw": list(backbone.saw),
                "loadable": problem is None,
                "problem": problem,
            }
        )
    return rows
