"""Show what augmentation does to a track of a run of `finetune`: a window as it is, shifted in time, and masked too."""

from __future__ import annotations

import argparse

import numpy as np

from mer_core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add run, track, seed and file."""
    parser.add_argument("--run", required=True, help="id or folder of a run of finetune")
    parser.add_argument("--track", required=True, help="id of one of its tracks")
    parser.add_argument("--seed", type=int, default=0, help="of the window's place, the shift and the masks")
    parser.add_argument(
        "--out", required=True, metavar="OUT.npy", help="array (3, frames, bands) to write: as it is, shifted, masked"
    )


def main(arguments: argparse.Namespace) -> int:
    """Write the array and say what it is."""
    from mer_core.models.training.saved import load_about, style_of_about
    from mer_core.models.training.spectrograms import random_window, spectrogram_of_file
    from mer_core.models.training.tracks import masked, shifted
    from mer_core.runs import read_run

    run = read_run(arguments.run)
    if run.about["pipeline"] != "finetune":
        raise UserError(f"run {run.run_id!r} is of {run.about['pipeline']!r}, not of finetune; name one of finetune")
    paths = run.tracks.set_index("track_id")["path"]
    if arguments.track not in paths.index:
        raise UserError(
            f"--track {arguments.track}: not in run {run.run_id!r}; tracks are {', '.join(paths.index[:5])}"
        )
    if arguments.seed < 0:
        raise UserError(f"--seed {arguments.seed} is negative; give 0 or more")
    style, random = style_of_about(load_about(run.folder / "model")), np.random.default_rng(arguments.seed)
    window = random_window(spectrogram_of_file(paths[arguments.track], style), style.frames, random)
    window = np.asarray(window, np.float32)
    moved = shifted(window, random)
    try:
        np.save(arguments.out, np.stack([window, moved, masked(moved, random)]))
    except OSError as error:
        raise UserError(f"--out {arguments.out} cannot be written ({error.strerror}); choose another file") from None
    print(f"{arguments.out}: a window of {style.seconds:.1f} s of {arguments.track} as it is, shifted, and masked too")
    return 0
