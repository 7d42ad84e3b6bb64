"""A cache of embeddings over time that is addressed by content.

The address is the SHA-256 of the audio file's bytes and of everything else that the embedding depends on: weights,
front end, windows. Each entry is one safetensors file, with a checksum of each array in its header; files appear whole
or not at all, so that several processes may share a cache, and a job that was killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mer_core.errors import UserError
from mer_core.paths import artifacts_root

NOTE = "note"


class Damaged(ValueError):
    """An entry that does not hold what was written."""


def entry_path(audio: Path, backbone: str, version: str) -> Path:
    """Where what a backbone heard of an audio file is cached: `<artifacts>/cache/embeddings/<backbone>/<aa>/<sha256>`.

    version : names everything that the embedding depends on besides the file's bytes

    Raises
    ------
    UserError when the file cannot be read.
    """
    try:
        with audio.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise UserError(f"{audio} cannot be read ({error.strerror}); check the path and its permissions.") from error
    digest.update(version.encode())
    name = digest.hexdigest()
    return artifacts_root() / "cache" / "embeddings" / backbone / name[:2] / f"{name}.safetensors"


def read(path: Path, names: Iterable[str]) -> tuple[dict[str, np.ndarray], str | None]:
    """The arrays of these names, and the note that was written with them.

    Raises
    ------
    FileNotFoundError : there is no such entry
    Damaged : it is cut short, was changed, or lacks one of the arrays
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise Damaged(str(error)) from error
    for name, array in arrays.items():
        if about.get(name) != _checksum(array):
            raise Damaged(f"{name} is not what was written")
    return arrays, about.get(NOTE)


def write(path: Path, arrays: dict[str, np.ndarray], note: str | None) -> None:
    """Write an entry under a temporary name and rename it."""
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    about = {name: _checksum(array) for name, array in arrays.items()} | ({NOTE: note} if note else {})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        save_file(arrays, temporary, about)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _checksum(array: np.ndarray) -> str:
    return f"{array.dtype}{array.shape}{zlib.crc32(array.tobytes()):08x}"
