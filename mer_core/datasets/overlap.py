"""Whether two data sets hold the same recording, whatever it is called in each."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mer_core.datasets.dataset import Dataset
from mer_core.errors import UserError


def check_other_music(name: str, paths: Iterable[str | Path | None], dataset: Dataset) -> None:
    """Raise UserError where a recording that is learned from (--pretrain `name`) is one of those to be tested."""
    if found := shared_audio(paths, dataset.tracks["path"]):
        raise UserError(
            f"--pretrain {name} holds {found[0]}, which is {found[1]} of {dataset.name}: tested tracks would have been "
            "learned; pretrain on other music"
        )


def shared_audio(ours: Iterable[str | Path | None], theirs: Iterable[str | Path | None]) -> tuple[Path, Path] | None:
    """The first file of ours whose bytes are those of one of theirs, and that one; None where there is none.

    Only files of equal size are read. Missing files hold nothing. The same recording in another encoding is not found.
    """
    by_size = defaultdict(list)
    for path in _files(theirs):
        by_size[path.stat().st_size].append(path)
    for path in _files(ours):
        for other in by_size.get(path.stat().st_size, ()):
            if path.samefile(other) or _digest(path) == _digest(other):
                return path, other
    return None


def _files(paths: Iterable[str | Path | None]) -> list[Path]:
    return [Path(path) for path in paths if isinstance(path, str | Path) and Path(path).is_file()]


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
