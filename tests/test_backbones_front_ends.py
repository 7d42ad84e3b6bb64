"""Front ends against librosa, against what is stored with the weights, and against slow definitions."""

from __future__ import annotations

import numpy as np
import pytest

from mer_core.models.backbones import front_ends

HALF = 2.0**-11  # relative rounding of half precision


def signal(seconds: float, rate: int) -> np.ndarray:
    """A rising tone over noise, with a silent end."""
    random = np.random.default_rng(0)
    time = np.arange(round(seconds * rate)) / rate
    samples = 0.3 * np.sin(2 * np.pi * (100 + 300 * time) * time) + random.normal(0, 0.02, len(time))
    samples[-rate // 2 :] = 0
    return samples.astype(np.float32)


def slow_power(samples: np.ndarray, window: np.ndarray, hop: int, n_fft: int) -> np.ndarray:
    """|DFT|^2 of mirrored, centred frames in double precision (frames, bins)."""
    margin = (n_fft - len(window)) // 2
    window = np.pad(window, (margin, n_fft - len(window) - margin))
    mirrored = np.pad(samples.astype(float), n_fft // 2, mode="reflect")
    frames = range(0, len(samples) + 1, hop)
    return np.array([np.abs(np.fft.rfft(window * mirrored[at : at + n_fft])) ** 2 for at in frames])


def hann(length: int, periodic: bool) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length if periodic else length - 1))


def test_musicnn_windows_are_librosas():
    import librosa

    samples = signal(7, 16000)
    mel = librosa.feature.melspectrogram(y=samples, sr=16000, n_fft=512, hop_length=256, n_mels=96, pad_mode="reflect")
    expected = np.log10(1 + 10000 * mel.T.astype(np.float16).astype(float))
    windows = front_ends.musicnn_windows(samples).numpy()
    assert windows.shape == (2, 187, 96)
    # Values next to a boundary of half precision may round to either side: one step, 2 x HALF of the value.
    difference = np.abs(windows.reshape(-1, 96) - expected[: 2 * 187])
    assert difference.max() < 1.01 * 2 * HALF / np.log(10)
    assert (difference > 1e-5).mean() < 0.01


def test_loud_sound_does_not_overflow():
    square = np.sign(np.sin(2 * np.pi * 440 * np.arange(48000) / 16000)).astype(np.float32)
    windows = front_ends.musicnn_windows(square)
    assert windows.isfinite().all() and windows.max() > np.log10(65504)  # beyond what half precision holds


def test_tagger_windows_by_their_definition():
    samples = signal(4, 16000)
    windows = front_ends.tagger_windows(samples, 48000, 16000).numpy()
    assert windows.shape == (2, 96, 188)
    mels = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 98)
    edges = 700 * (10 ** (mels / 2595) - 1)
    bins = np.arange(257) * 16000 / 512
    triangles = [
        np.minimum((bins - low) / (mid - low), (high - bins) / (high - mid)).clip(0)
        for low, mid, high in zip(edges, edges[1:], edges[2:], strict=False)
    ]
    for number, start in enumerate((0, 16000)):
        power = slow_power(samples[start : start + 48000], hann(512, True), 256, 512)
        expected = 10 * np.log10(np.maximum(power @ np.array(triangles).T, 1e-10)).T
        audible = expected > -80  # below, single precision has nothing but its rounding
        np.testing.assert_allclose(windows[number][audible], expected[audible], atol=0.02)


@pytest.mark.parametrize("kind", ["mtat/musicnn", "jamendo/fcn", "msd/crnn"])
def test_tagger_constants_are_those_stored_with_the_weights(real_weights, kind):
    import torch

    path = real_weights("sota_music_tagging") / "models" / kind / "best_model.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    np.testing.assert_allclose(front_ends._mel_filters(htk=True).T, state["spec.mel_scale.fb"], atol=2e-5)
    np.testing.assert_allclose(hann(512, True), state["spec.spectrogram.window"], atol=1e-6)


def test_kaldi_filters_by_their_definition():
    filters = front_ends.kaldi_mel_filters(128, 1024, 32000, 0, 15000)
    assert filters.shape == (128, 513)

    def mel(hertz):
        return 1127.0 * np.log(1 + hertz / 700)

    step = mel(15000) / 129
    for band in (0, 1, 40, 127):
        for bin_ in range(513):
            at = mel(bin_ * 31.25)
            left, centre, right = band * step, (band + 1) * step, (band + 2) * step
            value = 0.0
            if left < at < right and bin_ < 512:
                value = (at - left) / (centre - left) if at <= centre else (right - at) / (right - centre)
            assert filters[band, bin_] == pytest.approx(value, abs=1e-9)


def test_audioset_windows_by_their_definition():
    samples = signal(3, 32000)
    windows = front_ends.audioset_windows(samples, 500).numpy()
    emphasised = np.array([samples[i] - 0.97 * samples[i - 1] for i in range(1, len(samples))])
    power = slow_power(emphasised, hann(800, False), 320, 1024)
    mel = power @ front_ends.kaldi_mel_filters(128, 1024, 32000, 0, 15000).T
    expected = (np.log(mel + 1e-5) + 4.5) / 5
    assert windows.shape == (1, 1, 128, 300)
    np.testing.assert_allclose(windows[0, 0].T, expected, atol=2e-3)


def test_ten_seconds_are_one_audioset_window():
    for seconds, count in ((10, 1), (14.9, 1), (15.1, 2), (20, 3)):
        windows = front_ends.audioset_windows(np.zeros(round(seconds * 32000), np.float32), 500)
        assert windows.shape == (count, 1, 128, 1000)


def test_cut_rounds_every_start_by_itself():
    import torch

    starts = front_ends.cut(torch.arange(1000), 10, 62.5)[:, 0]
    assert starts.tolist() == [round(62.5 * i) for i in range(16)]
