"""Read audio of any common kind by its content, and write FLAC.

Conventions
-----------
Samples are float32, full scale +-1, time last: (n,) mono or (2, n) stereo. Rates in Hz. A file's suffix is never
trusted: data sets do carry MP3 under `.wav`, as bare frames or inside a RIFF container (format tag 0x0055).
A file that ends before its header says so is refused: ratings belong to the whole excerpt.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mer_core.datasets import mp3
from mer_core.errors import UserError

SHORTFALL = 0.1  # s a file may end before its header says so: encoders' padding is shorter, any real cut longer
UNKNOWN_SIZE = 0x7FFFF000  # sizes from here on are what encoders write into a pipe, where they cannot know
CURE = "download or export it again"


def read_audio(path: str | Path, rate: int | None = None, mono: bool = True) -> tuple[np.ndarray, int]:
    """Decode a WAV, FLAC, OGG, MP3 or AIFF file, whatever its suffix.

    Parameters
    ----------
    path : file to read
    rate : rate in Hz to resample to (soxr, high quality); None keeps the file's own
    mono : mean of the channels; otherwise stereo, with a mono file on both channels

    Returns
    -------
    samples : float32, (n,) or (2, n); n > 0 and all finite
    rate : of these samples, in Hz

    Raises
    ------
    UserError
        where the file is missing, empty, not audio, truncated, without samples or with NaN in them
    """
    path = Path(path)
    data = _read_bytes(path)
    samples, own_rate = _decode(path, data)
    if not np.isfinite(samples).all():
        raise UserError(f"{path} holds samples that are not finite numbers; export it again without them.")
    if mono:
        samples = samples.mean(axis=1)
    elif samples.shape[1] > 2:
        raise UserError(
            f"{path} has {samples.shape[1]} channels where one or two were expected; mix it down to stereo."
        )
    else:
        samples = np.broadcast_to(samples, (len(samples), 2))
    if rate is not None and rate != own_rate:
        samples = soxr.resample(samples, own_rate, rate, quality="HQ")
    return np.ascontiguousarray(samples.T, dtype=np.float32), rate or own_rate


def check_audible(samples: np.ndarray) -> None:
    """Raise UserError for silence: no sample (any shape, full scale 1) reaches one step of 16 bits.

    Silence has valid descriptors and embeddings, but they say nothing about music.
    """
    if np.abs(samples).max(initial=0.0) < 1 / 32768:
        raise UserError("The audio is silent (no sample reaches one step of 16 bits); check how the file was made.")


def write_flac(path: str | Path, samples: np.ndarray, rate: int) -> None:
    """Write 16-bit FLAC, whole or not at all (temporary file, then rename); folders are made as needed.

    samples : (n,) or (channels, n), float in [-1, 1]; ValueError outside, because clipping would change what is heard
    rate : Hz
    """
    _check_peak(samples)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        soundfile.write(temporary, np.asarray(samples).T, rate, format="FLAC", subtype="PCM_16")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def flac_bytes(samples: np.ndarray, rate: int) -> bytes:
    """The same as bytes."""
    _check_peak(samples)
    stream = io.BytesIO()
    soundfile.write(stream, np.asarray(samples).T, rate, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def _check_peak(samples: np.ndarray) -> None:
    peak = np.abs(samples).max(initial=0.0)
    if not peak <= 1:
        raise ValueError(f"peak {peak:.3f} exceeds full scale 1; scale the samples before writing")


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise UserError(f"{path} is a folder where an audio file was expected; name a file in it.")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the path, or put the audio file there.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    if not data:
        raise UserError(f"{path} is empty (0 bytes); download or export it again.")
    return data


def _decode(path: Path, data: bytes) -> tuple[np.ndarray, int]:
    """Samples (n, channels) and rate; UserError where the data is not audio or ends early."""
    stream = _mp3_stream(data)
    stream, length_known = (data, True) if stream is None else mp3.prepare(stream)
    try:
        # From memory, because given a path libsndfile falls back on the suffix where the content says nothing.
        file = soundfile.SoundFile(io.BytesIO(stream))
    except soundfile.LibsndfileError:
        message = "is not audio that can be decoded; expected WAV, FLAC, OGG, MP3 or AIFF: convert it to one of these"
        raise UserError(f"{path} {message}.") from None
    with file:
        promised = file.frames / file.samplerate if length_known else 0.0
        try:
            samples = file.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise UserError(f"{path} is damaged or truncated ({error.error_string.rstrip('. ')}); {CURE}.") from None
        seconds = len(samples) / file.samplerate
    if data[:4] == b"OggS" and not data[data.rfind(b"OggS") + 5] & 4:
        raise UserError(f"{path} is truncated: its last page is missing after {seconds:.1f} s; {CURE}.")
    promised = max(promised, seconds * (1 + _missing_bytes(data) / len(data)))
    if promised - seconds > SHORTFALL:
        raise UserError(f"{path} is truncated: {seconds:.1f} of {promised:.1f} s can be decoded; {CURE}.")
    if not len(samples):
        raise UserError(f"{path} holds no samples; {CURE}.")
    return samples, file.samplerate


def _mp3_stream(data: bytes) -> bytes | None:
    """The MPEG frames, bare or taken out of a RIFF container; None for any other kind of audio."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        chunks = dict(_riff_chunks(data))
        data = chunks.get(b"data", b"") if chunks.get(b"fmt ", b"")[:2] == b"\x55\x00" else b""
    return data if mp3.is_mp3(data) else None


def _riff_chunks(data: bytes):
    position = 12
    while position + 8 <= len(data):
        size = struct.unpack_from("<I", data, position + 4)[0]
        yield data[position : position + 4], data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def _missing_bytes(data: bytes) -> int:
    """Bytes that a RIFF or AIFF header promises beyond the end of the file; 0 where the header says nothing."""
    order = {b"RIFF": "<I", b"RIFX": ">I", b"FORM": ">I"}.get(data[:4])
    if order is None or len(data) < 8:
        return 0
    declared = struct.unpack_from(order, data, 4)[0]
    return max(0, declared + 8 - len(data)) if declared < UNKNOWN_SIZE else 0
