"""Walk the frames of an MPEG layer III stream: where it starts, how long it is, and an index for streams without one.

Why: libsndfile guesses the length of an MP3 without a Xing/Info header from its first frames and stops there, so a file
of variable bit rate can lose its end without a word. Counting the frames of a 5-minute song takes about 20 ms.

Reference: ISO/IEC 11172-3 and 13818-3 (frame header), the Xing header as documented by mpg123 and LAME.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

RATES = (44100, 48000, 32000)
KILOBITS_MPEG1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
KILOBITS_MPEG2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
RATE_DIVISOR = {3: 1, 2: 2, 0: 4}  # by the header's version bits: MPEG-1, MPEG-2, MPEG-2.5


class Frame(NamedTuple):
    """One frame: its length in bytes, its sampling rate in Hz and the bytes of side information after the header."""

    length: int
    rate: int
    side: int


def frame_at(data: bytes, position: int) -> Frame | None:
    """The layer III frame whose header starts at `position`, or None where there is no such header."""
    if position + 4 > len(data) or data[position] != 0xFF or data[position + 1] & 0xE6 != 0xE2:
        return None
    version, kilobits, rate = (data[position + 1] >> 3) & 3, data[position + 2] >> 4, (data[position + 2] >> 2) & 3
    if version == 1 or kilobits in (0, 15) or rate == 3:
        return None
    first = version == 3
    rate = RATES[rate] // RATE_DIVISOR[version]
    bits = 1000 * (KILOBITS_MPEG1 if first else KILOBITS_MPEG2)[kilobits - 1]
    mono = data[position + 3] >> 6 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    padding = (data[position + 2] >> 1) & 1
    return Frame((144 if first else 72) * bits // rate + padding, rate, side)


def skip_tags(data: bytes) -> int:
    """Position after any ID3v2 tags at the start."""
    position = 0
    while data[position : position + 3] == b"ID3" and position + 10 <= len(data):
        size = 0
        for byte in data[position + 6 : position + 10]:
            size = size << 7 | byte & 0x7F
        position += 10 + size
    return position


def frames(data: bytes, start: int) -> Iterator[tuple[int, Frame]]:
    """Positions and headers of the complete frames from `start` on, stepping over bytes that are no frame."""
    position, rate = start, None
    while position < len(data):
        frame = frame_at(data, position)
        follows = frame and (position + frame.length == len(data) or frame_at(data, position + frame.length))
        # In the middle of a stream one header is enough; after bytes of another kind two in a row are wanted.
        if frame and position + frame.length <= len(data) and (frame.rate == rate or follows):
            yield position, frame
            position, rate = position + frame.length, frame.rate
        else:
            position, rate = data.find(b"\xff", position + 1), None
            if position < 0:
                return


def is_mp3(data: bytes) -> bool:
    """Whether the bytes, after any ID3v2 tags, start like an MPEG layer III stream (some encoders pad with zeros)."""
    start = skip_tags(data)
    while data[start : start + 1] == b"\0":
        start += 1
    first = frame_at(data, start)
    return first is not None and (start + first.length >= len(data) or frame_at(data, start + first.length) is not None)


def prepare(data: bytes) -> tuple[bytes, bool]:
    """The stream in a form that libsndfile decodes to its end, and whether that form says how long it is meant to be.

    What follows the last frame is cut off: at a tag with a cover picture the decoder gives up. A stream of several bit
    rates without a Xing/Info header gets one that counts the frames there are. One of a single bit rate stays without:
    its length is guessed well, and what was meant nobody knows.
    """
    walk = list(frames(data, skip_tags(data)))
    if not walk:
        return data, False
    (start, first), (last, frame) = walk[0], walk[-1]
    data = data[: last + frame.length]
    tag = start + 4 + first.side
    if data[tag : tag + 4] in (b"Xing", b"Info") and data[tag + 7] & 1:
        return data, True
    lengths = {frame.length for _, frame in walk}
    if max(lengths) - min(lengths) <= 1:  # one byte is padding
        return data, False
    index = data[start : start + 4] + bytes(first.side) + b"Xing" + struct.pack(">II", 1, len(walk))
    return index + bytes(first.length - len(index)) + data[start:], True
