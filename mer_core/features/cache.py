"""A cache of LLD tables that is addressed by content.

The address is the SHA-256 of the audio file's bytes and of the extractor's version, so that a moved or renamed file is
found again and a changed one is not, and a new extractor starts afresh. Each table is one uncompressed Parquet file
with a single column of fixed-size lists (one list a frame, float32), checksummed; the names of the list's elements are
in the schema's metadata under `columns`. Reading 260 Parquet columns would take ten times as long. Files appear whole
or not at all, so that several processes may share a cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mer_core.errors import UserError
from mer_core.paths import artifacts_root


def fetch(
    audio: Path, version: str, columns: tuple[str, ...], extract: Callable[[], np.ndarray]
) -> tuple[np.ndarray, str | None]:
    """The table of an audio file: from the cache, else extracted and stored.

    Parameters
    ----------
    audio : audio file
    version : names everything the table depends on besides the file's bytes
    columns : names of the table's columns
    extract : makes the table, (frames, columns) float32; its errors pass through

    Returns
    -------
    The table (frames, columns) float32, and one sentence when a damaged cache entry had to be replaced (else None).
    """
    path = entry_path(audio, version)
    damage = None
    try:
        return _read(path, columns), None
    except FileNotFoundError:
        pass
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        damage = f"The cached descriptors of {audio} were damaged ({error}) and were extracted again."
    table = extract()
    _write(path, table, columns)
    return table, damage


def entry_path(audio: Path, version: str) -> Path:
    """Where the table of an audio file is cached: `<artifacts>/cache/llds/<aa>/<sha256>.parquet`.

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
    return artifacts_root() / "cache" / "llds" / name[:2] / f"{name}.parquet"


def _read(path: Path, columns: tuple[str, ...]) -> np.ndarray:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        table = file.read(use_threads=False)
    if json.loads(table.schema.metadata[b"columns"]) != list(columns):
        raise ValueError("other columns than expected")
    values = table["llds"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, len(columns))
    if values.dtype != np.float32:
        raise ValueError(f"{values.dtype} where float32 was expected")
    return values


def _write(path: Path, table: np.ndarray, columns: tuple[str, ...]) -> None:
    frames = pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), table.shape[1])
    content = pa.table({"llds": frames}).replace_schema_metadata({"columns": json.dumps(columns)})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        pq.write_table(
            content,
            temporary,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
