"""Audio is decoded by content, refused when it is not whole, and written whole or not at all."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mer_core.datasets import mp3
from mer_core.datasets.audio import read_audio, write_flac
from mer_core.errors import UserError

RATE = 44100
ID3 = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)


def tone(seconds: float = 1.0, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(samples: np.ndarray, kind: str, rate: int = RATE, **options) -> bytes:
    """Bytes of a file of that kind; samples (n,) or (n, channels)."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, **options)
    return file.getvalue()


def riff_mp3(frames: bytes) -> bytes:
    """MP3 frames in a RIFF container with format tag 0x0055 and a chunk of odd length before the data."""
    layout = struct.pack("<HHIIHH", 0x55, 1, RATE, 16000, 1, 0) + struct.pack("<HHIHHH", 12, 1, 2, 417, 1, 1393)
    chunks = b"WAVE" + b"".join(
        name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
        for name, content in ((b"fmt ", layout), (b"LIST", b"odd"), (b"data", frames))
    )
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def without_index(data: bytes) -> bytes:
    """The MP3 stream without the frame that holds its Xing/Info header."""
    return data[mp3.frame_at(data, 0).length :]


@pytest.fixture
def put(tmp_path: Path):
    def write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize(
    ("kind", "error"), [("WAV", 1e-4), ("FLAC", 1e-4), ("AIFF", 1e-4), ("OGG", 0.02), ("MP3", 0.02)]
)
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.raw", "a"])
def test_decodes_by_content_not_by_suffix(put, kind: str, error: float, name: str) -> None:
    samples, rate = read_audio(put(name, encoded(tone(), kind)))
    assert rate == RATE and samples.dtype == np.float32 and samples.shape == (RATE,)
    middle = slice(RATE // 10, -RATE // 10)  # coders of limited bandwidth ring at the ends
    np.testing.assert_allclose(samples[middle], tone()[middle], atol=error)


@pytest.mark.parametrize("wrap", [bytes, ID3.__add__, riff_mp3, lambda frames: riff_mp3(ID3 + frames)])
def test_mp3_under_wav(put, wrap) -> None:
    data = encoded(tone(), "MP3")
    plain, _ = read_audio(put("a.mp3", data))
    wrapped, rate = read_audio(put("a.wav", wrap(data)))
    assert rate == RATE
    np.testing.assert_allclose(wrapped, plain, atol=1e-6)


def test_channels(put) -> None:
    left, right = tone(), tone(hertz=660)
    path = put("a.wav", encoded(np.stack([left, right], axis=1), "WAV", subtype="FLOAT"))
    np.testing.assert_allclose(read_audio(path)[0], (left + right) / 2, atol=1e-6)
    stereo, _ = read_audio(path, mono=False)
    np.testing.assert_array_equal(stereo, [left, right])
    assert stereo.flags.c_contiguous
    both, _ = read_audio(put("mono.wav", encoded(left, "WAV", subtype="FLOAT")), mono=False)
    np.testing.assert_array_equal(both, [left, left])
    many = put("many.wav", encoded(np.stack([left] * 6, axis=1), "WAV", subtype="FLOAT"))
    np.testing.assert_allclose(read_audio(many)[0], left, atol=1e-6)
    with pytest.raises(UserError, match="6 channels where one or two were expected; mix it down"):
        read_audio(many, mono=False)


@pytest.mark.parametrize("mono", [True, False])
def test_resampling(put, mono: bool) -> None:
    path = put("a.wav", encoded(tone(2), "WAV", subtype="FLOAT"))
    samples, rate = read_audio(path, 16000, mono)
    assert rate == 16000 and samples.shape[-1] == 32000 and samples.ndim == (1 if mono else 2)
    middle = slice(1600, -1600)
    np.testing.assert_allclose(np.atleast_2d(samples)[-1][middle], tone(2, 16000)[middle], atol=1e-4)
    high = put("high.wav", encoded(tone(2, hertz=12000), "WAV", subtype="FLOAT"))
    assert np.abs(read_audio(high, 16000)[0][middle]).max() < 1e-3, (
        "above the new Nyquist frequency: removed, not folded"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty .0 bytes.; download or export it again"),
        (b"no music, only words\n" * 300, "is not audio that can be decoded; expected WAV, FLAC"),
        (bytes(5000), "is not audio"),
        (np.random.default_rng(0).bytes(20_000), "is not audio"),
        (b"RIFF", "is not audio"),
        (b"ID3", "is not audio"),
        (ID3, "is not audio"),
        (encoded(tone(0), "WAV"), "holds no samples"),
        (encoded(np.array([0, np.nan, 0]), "WAV", subtype="FLOAT"), "not finite numbers"),
        (encoded(np.array([0, np.inf, 0]), "WAV", subtype="FLOAT"), "not finite numbers"),
    ],
    # Named, because float WAV files hold the time of writing: names from the bytes would differ between workers.
    ids=["empty", "text", "zeros", "noise", "RIFF", "ID3", "ID3-tag", "no-samples", "NaN", "infinite"],
)
def test_what_is_no_audio_is_refused(put, capfd, data: bytes, message: str) -> None:
    path = put("a.wav", data)
    with pytest.raises(UserError, match=message) as caught:
        read_audio(path)
    assert str(caught.value).startswith(f"{path} ") and str(caught.value).endswith(".")
    assert capfd.readouterr().err == "", "decoders keep quiet"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; check the path"):
        read_audio(tmp_path / "nowhere.wav")
    with pytest.raises(UserError, match="is a folder where an audio file was expected"):
        read_audio(str(tmp_path))


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "OGG", "MP3"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_audio_is_refused(put, kind: str, share: float) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE)
    data = encoded(noise, kind)
    assert read_audio(put("whole", data))[0].shape == (5 * RATE,)
    with pytest.raises(UserError, match="truncated.*; download or export it again"):
        read_audio(put("a.wav", data[: int(share * len(data))]))


def test_wav_from_a_pipe_is_whole(put) -> None:
    data = bytearray(encoded(tone(), "WAV"))
    at = data.index(b"data") + 4
    for declared in (0xFFFFFFFF, 0x7FFFF024):  # what ffmpeg and sox write where they cannot know
        data[4:8] = data[at : at + 4] = struct.pack("<I", declared)
        assert read_audio(put("a.wav", bytes(data)))[0].shape == (RATE,)


def test_mp3_of_variable_rate_without_its_index_is_read_to_the_end(put) -> None:
    """On its own, libsndfile guesses the length from the first frames, here loud ones, and stops before the end."""
    noise = np.random.default_rng(0).normal(0, 0.2, 10 * RATE)
    sound = np.concatenate([noise, np.zeros(20 * RATE), tone()])
    data = encoded(sound, "MP3", bitrate_mode="VARIABLE", compression_level=0.3)
    bare = without_index(data)
    alone = soundfile.SoundFile(io.BytesIO(bare))
    assert len(alone.read()) < 30 * RATE, "otherwise this test shows nothing"
    samples, rate = read_audio(put("a.mp3", ID3 + bare))
    assert abs(len(samples) / rate - 31) < 0.1
    assert np.abs(samples[-rate // 2 : -rate // 4]).max() > 0.4, "the tone at the end is there"
    junk = bare[: len(bare) // 2 + 7] + b"\xff\xfb\x00junk" * 50 + bare[len(bare) // 2 + 7 :] + b"TAG" + bytes(125)
    assert len(read_audio(put("junk.mp3", junk))[0]) / rate > 30.5


def test_mp3_with_a_large_tag_at_its_end(put, capfd) -> None:
    data = encoded(tone(5), "MP3")
    samples, _ = read_audio(put("a.mp3", data + b"APETAGEX" + bytes(30_000) + b"TAG" + bytes(125)))
    np.testing.assert_array_equal(samples, read_audio(put("b.mp3", data))[0])
    assert capfd.readouterr().err == "", "decoders keep quiet"


def test_mp3_of_constant_rate_without_an_index_is_read_as_it_is(put) -> None:
    """Nobody knows how long it was meant to be, so trailing tags do not make it count as truncated."""
    bare = without_index(encoded(tone(5), "MP3", bitrate_mode="CONSTANT", compression_level=0.5))
    plain = soundfile.SoundFile(io.BytesIO(bare)).read(dtype="float32")
    for data in (bare, bare + b"APETAGEX" + bytes(30_000), bare[: len(bare) // 2]):
        samples, _ = read_audio(put("a.mp3", data))
        np.testing.assert_array_equal(samples[: len(plain) // 3], plain[: len(plain) // 3])


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 24000, 32000, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_frames_are_counted(rate: int, channels: int) -> None:
    data = encoded(np.stack([tone(3, rate)] * channels, axis=1), "MP3", rate)
    frames = [frame for _, frame in mp3.frames(data, 0)]
    assert sum(frame.length for frame in frames) == len(data), "every byte belongs to a frame"
    assert {frame.rate for frame in frames} == {rate}
    assert mp3.prepare(data) == (data, True)
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    assert tag == 4 + frames[0].side
    assert int.from_bytes(data[tag + 8 : tag + 12], "big") == len(frames) - 1, "the encoder's own count"


def test_real_audio_is_decoded_as_libsndfile_does(real_data) -> None:
    files = sorted((real_data("deam") / "MEMD_audio").glob("*.mp3")) + sorted(real_data("cc_audio").glob("*.ogg"))[:2]
    files += sorted((real_data("soundtracks") / "audio").glob("*.mp3"))[:10]
    files += sorted(real_data("musicnn_demo").glob("*.mp3"))
    for path in files:
        with soundfile.SoundFile(path) as file:
            wanted = file.read(dtype="float32", always_2d=True).mean(axis=1)
        samples, rate = read_audio(path)
        assert rate == file.samplerate
        np.testing.assert_array_equal(samples, wanted, err_msg=path.name)


def test_real_audio_cut_short_is_refused(real_data, put) -> None:
    for path in (real_data("deam") / "MEMD_audio" / "2.mp3", next(real_data("cc_audio").glob("*Dance_number_5*.ogg"))):
        data = path.read_bytes()
        with pytest.raises(UserError, match="is truncated"):
            read_audio(put("cut", data[: len(data) * 2 // 3]))


def test_real_deam_clips_last_45_seconds(real_data) -> None:
    for path in (real_data("deam") / "MEMD_audio").glob("*.mp3"):
        samples, rate = read_audio(path)
        assert 45.0 < len(samples) / rate < 45.1


@pytest.mark.parametrize("channels", [1, 2])
def test_flac_comes_back(tmp_path: Path, channels: int) -> None:
    samples = np.stack([tone(), -tone(hertz=660)])[:channels]
    samples = samples[0] if channels == 1 else samples
    path = tmp_path / "deep" / "er" / "a.flac"
    write_flac(path, samples, RATE)
    again, rate = read_audio(path, mono=channels == 1)
    assert rate == RATE and soundfile.info(path).subtype == "PCM_16" and soundfile.info(path).format == "FLAC"
    np.testing.assert_allclose(again, samples, atol=1 / 32767)
    assert [p.name for p in path.parent.iterdir()] == ["a.flac"]


def test_flac_is_never_clipped(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write_flac(path, np.array([-1.0, 1.0, 0.0]), 8000)
    before = path.read_bytes()
    np.testing.assert_allclose(read_audio(path)[0], [-1, 1, 0], atol=1 / 32767)
    for samples in ([0, 1.001], [0, -1.5], [0, np.nan]):
        with pytest.raises(ValueError, match="exceeds full scale 1"):
            write_flac(path, np.array(samples), 8000)
    assert path.read_bytes() == before


def test_flac_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.flac"
    write_flac(path, tone(), RATE)
    before = path.read_bytes()

    def fail(file, *_, **__):
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(soundfile, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        write_flac(path, tone(hertz=660), RATE)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.flac"]
