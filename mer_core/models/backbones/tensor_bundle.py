"""Checkpoints of TensorFlow's kind "V2" (tensor bundle), read with numpy alone.

A bundle is a table of names (`.index`, in LevelDB's table format) over the numbers themselves (`.data-00000-of-00001`).
Formats: `tensorflow/core/protobuf/tensor_bundle.proto` and `tensorflow/core/lib/io/format.cc` of TensorFlow, and
`doc/table_format.md` of LevelDB.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from mer_core.errors import UserError

INDEX, DATA = ".index", ".data-00000-of-00001"
MAGIC = bytes.fromhex("57fb808b247547db")  # ends every table
FOOTER_BYTES = 48  # two block handles, padding, magic
TRAILER_BYTES = 5  # after each block: kind of compression, checksum
RESTART_BYTES = 4
DTYPES = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 9: np.dtype("<i8")}
# Fields of the message BundleEntryProto, of TensorShapeProto and of its Dim.
DTYPE, SHAPE, SHARD, OFFSET, SIZE, SLICES = 1, 2, 3, 4, 5, 7
DIMENSIONS, LENGTH = 2, 1


class Damaged(ValueError):
    """What is read breaks the format; told to the user with the file's name."""


def read_bundle(folder: str | Path) -> dict[str, np.ndarray]:
    """Every variable of the checkpoint whose files are `folder/.index` and `folder/.data-00000-of-00001`.

    Raises
    ------
    UserError : a file that is missing, truncated, compressed, or no part of a bundle
    """
    folder = Path(folder)
    table, data = (_read_bytes(folder / name) for name in (INDEX, DATA))
    arrays = {}
    try:
        for key, value in table_entries(table):
            if key:  # the empty key holds the bundle's header
                arrays[key.decode()] = _tensor(message_fields(value), data)
    except Damaged as error:
        raise UserError(f"{folder / INDEX} cannot be read ({error}); install or copy the checkpoint again") from error
    if not arrays:
        raise UserError(f"{folder / INDEX} names no variable; install or copy the checkpoint again")
    return arrays


def table_entries(table: bytes) -> list[tuple[bytes, bytes]]:
    """Keys and values of a table, in its order."""
    if len(table) < FOOTER_BYTES or table[-len(MAGIC) :] != MAGIC:
        raise Damaged("it does not end as a checkpoint's table does")
    footer = table[-FOOTER_BYTES:]
    at = 0
    for _ in range(2):  # offset and size of the block of meta data, which a bundle leaves empty
        _, at = read_varint(footer, at)
    entries = []
    for _, handle in _block_entries(table, *_handle(footer, at)):
        entries += _block_entries(table, *_handle(handle, 0))
    return entries


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Value and next position of an integer in base 128, lowest digits first."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Damaged("a number runs past its end")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def message_fields(data: bytes) -> dict[int, list]:
    """Protocol buffer -> values by number of field; messages within it stay bytes."""
    at, fields = 0, {}
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = read_varint(data, at)
        else:
            if wire == 2:
                length, at = read_varint(data, at)
            elif wire in (1, 5):
                length = {1: 8, 5: 4}[wire]
            else:
                raise Damaged(f"field {number} has the unknown wire type {wire}")
            value, at = _take(data, at, length), at + length
        fields.setdefault(number, []).append(value)
    return fields


def _handle(data: bytes, at: int) -> tuple[int, int]:
    """Offset and size of a block."""
    offset, at = read_varint(data, at)
    size, _ = read_varint(data, at)
    return offset, size


def _block_entries(table: bytes, offset: int, size: int) -> list[tuple[bytes, bytes]]:
    """Keys and values of one block, where a key repeats only what differs from the key before."""
    block = _take(table, offset, size + TRAILER_BYTES)
    if block[size] != 0:
        raise Damaged(f"the block at byte {offset} is compressed, which is not supported")
    restarts = int.from_bytes(block[size - RESTART_BYTES : size], "little")
    end = size - RESTART_BYTES * (1 + restarts)
    if end < 0:
        raise Damaged(f"the block at byte {offset} is shorter than its own index")
    at, key, entries = 0, b"", []
    while at < end:
        shared, at = read_varint(block, at)
        fresh, at = read_varint(block, at)
        length, at = read_varint(block, at)
        if shared > len(key):
            raise Damaged(f"the block at byte {offset} repeats a key that it does not have")
        key = key[:shared] + _take(block, at, fresh)
        entries.append((key, _take(block, at + fresh, length)))
        at += fresh + length
    return entries


def _tensor(entry: dict[int, list], data: bytes) -> np.ndarray:
    """One variable, copied."""
    code = entry.get(DTYPE, [0])[0]
    if code not in DTYPES:
        raise Damaged(f"a variable has data type {code}; known are {', '.join(map(str, DTYPES))}")
    if SLICES in entry or entry.get(SHARD, [0])[0] != 0:
        raise Damaged("a variable lies in several pieces or files, which is not supported")
    dimensions = message_fields(entry[SHAPE][0]).get(DIMENSIONS, []) if SHAPE in entry else []
    shape = [message_fields(dimension).get(LENGTH, [0])[0] for dimension in dimensions]
    offset, size = entry.get(OFFSET, [0])[0], entry.get(SIZE, [0])[0]
    if math.prod(shape) * DTYPES[code].itemsize != size:
        raise Damaged(f"a variable of shape {shape} has {size} bytes")
    if offset + size > len(data):
        raise Damaged(f"{DATA} ends at byte {len(data)}, before a variable that ends at {offset + size}")
    return np.frombuffer(data, DTYPES[code], math.prod(shape), offset).reshape(shape).copy()


def _take(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise Damaged(f"it ends at byte {len(data)}, before something that ends at {at + length}")
    return data[at : at + length]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); install or copy the checkpoint again") from None
