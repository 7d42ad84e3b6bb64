"""Reading TensorFlow's checkpoints: bundles written here by the format's description, and the wheel's."""

from __future__ import annotations

import numpy as np
import pytest

from mer_core.errors import UserError
from mer_core.models.backbones.tensor_bundle import DATA, INDEX, MAGIC, read_bundle, read_varint

NONE, SNAPPY = 0, 1
CODES = {"<f4": 1, "<f8": 2, "<i4": 3, "<i8": 9}


def varint(number: int) -> bytes:
    digits = [number >> 7 * i & 127 for i in range(max(1, -(-number.bit_length() // 7)))]
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])


def numbers(**fields: int) -> bytes:
    """Protocol buffer of integers, `f4=7` for field 4."""
    return b"".join(varint(int(name[1:]) << 3) + varint(value) for name, value in fields.items())


def message(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def block(entries: list[tuple[bytes, bytes]], compression: int = NONE) -> bytes:
    """Table block whose keys leave out what they share with the key before."""
    body, before = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    restarts = (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    return body + restarts + bytes([compression]) + bytes(4)  # four bytes of checksum, which nobody reads


def write_bundle(folder, arrays: dict[str, np.ndarray], compression: int = NONE) -> None:
    data, entries = b"", [(b"", numbers(f1=1))]
    for name, array in sorted(arrays.items()):
        shape = b"".join(message(2, numbers(f1=length)) for length in array.shape)
        entry = numbers(f1=CODES[array.dtype.str]) + message(2, shape) + numbers(f4=len(data), f5=array.nbytes)
        entries.append((name.encode(), entry))
        data += array.tobytes()
    blocks = [block(entries[:2], compression), block(entries[2:], compression)]
    handles, at = [], 0
    for one in blocks:
        handles.append(varint(at) + varint(len(one) - 5))
        at += len(one)
    index = block([(entries[1][0], handles[0]), (entries[-1][0] + b"z", handles[1])])
    footer = varint(0) + varint(0) + varint(at) + varint(len(index) - 5)
    table = b"".join(blocks) + index + footer.ljust(40, b"\0") + MAGIC
    (folder / INDEX).write_bytes(table)
    (folder / DATA).write_bytes(data)


ARRAYS = {
    "dense/bias": np.array([1.5, -2, 3e-9], "<f4"),
    "dense/kernel": np.arange(300, dtype="<f4").reshape(3, 50, 2),
    "dense_1/kernel": np.arange(6, dtype="<f8").reshape(2, 3),
    "step": np.array(70_000, "<i8"),
    "steps": np.array([-1, 5], "<i4"),
}


def test_arrays_come_back_as_they_were_written(tmp_path):
    write_bundle(tmp_path, ARRAYS)
    read = read_bundle(tmp_path)
    assert list(read) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array, strict=True)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**32, 2**63 - 1])
def test_varints(number):
    assert read_varint(b"x" + varint(number) + b"rest", 1) == (number, 1 + len(varint(number)))


def damage(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (DATA, lambda data: data[:-4], "ends at byte"),
        (INDEX, lambda table: table[:-1], "does not end as"),
        (INDEX, lambda table: table[:20], "does not end as"),
        (INDEX, lambda table: table[-48:], "before something"),
        (INDEX, lambda table: b"", "does not end as"),
        (INDEX, lambda table: b"\xff" * 40 + table[40:], "cannot be read"),
        (INDEX, lambda table: table[:-48] + b"\xff" * 40 + MAGIC, "number runs past"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, change, words):
    write_bundle(tmp_path, ARRAYS)
    damage(tmp_path, name, change)
    with pytest.raises(UserError, match=words) as caught:
        read_bundle(tmp_path)
    assert str(tmp_path / INDEX) in str(caught.value)


def test_every_shorter_table_is_refused(tmp_path):
    write_bundle(tmp_path, ARRAYS)
    whole = (tmp_path / INDEX).read_bytes()
    for cut in range(0, len(whole), 7):
        (tmp_path / INDEX).write_bytes(whole[:cut] + MAGIC)  # with the right end, so that the body must tell
        with pytest.raises(UserError):
            read_bundle(tmp_path)


def test_what_is_not_supported_is_said(tmp_path):
    write_bundle(tmp_path, ARRAYS, SNAPPY)
    with pytest.raises(UserError, match="compressed"):
        read_bundle(tmp_path)
    write_bundle(tmp_path, ARRAYS)
    (tmp_path / DATA).unlink()
    with pytest.raises(UserError, match="No such file"):
        read_bundle(tmp_path)


def test_an_unknown_data_type_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(CODES, "<f4", 14)  # bfloat16
    write_bundle(tmp_path, ARRAYS)
    with pytest.raises(UserError, match="data type 14"):
        read_bundle(tmp_path)
