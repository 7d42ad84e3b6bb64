"""What hub networks see of the sound, against slow definitions of the published front ends."""

from __future__ import annotations

import numpy as np
import pytest

from mer_core.models.backbones import BACKBONES
from mer_core.models.backbones import hub_front_ends as front_ends
from mer_core.models.backbones.hub import transform_of


def noise(rate: int, seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(rate * seconds))).astype(np.float32)


def tone(rate: int, seconds: float, hertz: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def click(rate: int, seconds: float, at_s: float) -> np.ndarray:
    samples = np.zeros(round(rate * seconds), np.float32)
    samples[round(at_s * rate)] = 1.0
    return samples


def hertz_to_mel(hertz):
    """Mel scale of Kaldi and of VGGish."""
    return 1127 * np.log(1 + np.asarray(hertz) / 700)


def triangle(hertz: float, band: int, bands: int, low: float, high: float) -> float:
    """Height of one mel triangle, straight on the mel axis, at one frequency."""
    edges = np.linspace(hertz_to_mel(low), hertz_to_mel(high), bands + 2)
    mel = hertz_to_mel(hertz)
    left, centre, right = edges[band : band + 3]
    return max(0.0, min((mel - left) / (centre - left), (right - mel) / (right - centre)))


def test_ast_is_kaldis_filter_bank_with_the_published_normalisation():
    samples, frame = noise(16000, 10.24), 500
    part = samples[frame * 160 : frame * 160 + 400].astype(float)
    part = part - part.mean()
    part[1:] -= 0.97 * part[:-1]
    part[0] -= 0.97 * part[0]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)  # symmetric, as Kaldi's
    power = np.abs(np.fft.rfft(part * window, 512)) ** 2
    frequencies = np.arange(257) * 16000 / 512
    for band in (3, 40, 100, 127):
        energy = sum(p * triangle(f, band, 128, 20, 8000) for p, f in zip(power, frequencies, strict=True))
        expected = (np.log(max(energy, np.finfo(np.float32).eps)) + 4.2677393) / (2 * 4.5689974)
        assert front_ends.ast_windows(samples, 5.12)[0, frame, band].item() == pytest.approx(expected, abs=2e-3)


def test_ast_windows_are_1024_frames_and_padded_with_zeros_before_the_normalisation():
    assert front_ends.ast_windows(noise(16000, 20), 5.12).shape == (2, 1024, 128)
    short = front_ends.ast_windows(noise(16000, 2), 5.12)
    assert short.shape == (1, 1024, 128)
    np.testing.assert_allclose(short[0, 198:], 4.2677393 / (2 * 4.5689974), rtol=1e-6)
    assert short[0, :198].std() > 0.01


def test_a_tone_and_a_click_light_up_different_axes_of_the_patches():
    """What the patch projection of an AST is given: rows must be frequency and columns time."""
    import torch
    from transformers import ASTConfig, ASTForAudioClassification

    from mer_core.models.networks.hub import AstLayers

    model = ASTForAudioClassification(
        ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    )
    seen = []
    projections = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    projections[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0][0, 0]))
    network = AstLayers(model.eval())
    for samples in (tone(16000, 10.24, 2000), click(16000, 10.24, 5.0)):
        with torch.inference_mode():
            network(front_ends.ast_windows(samples, 5.12))
    (of_tone, of_click) = (patches.numpy() for patches in seen)
    assert of_tone.shape == (128, 1024)
    band = of_tone[:, 100:900].argmax(axis=0)
    assert np.ptp(band) == 0  # the same row at all times
    assert triangle(2000, band[0], 128, 20, 8000) > 0.5
    frame = of_click[20:, :1022].argmax(axis=1)  # the last two frames are padding
    assert np.ptp(frame) <= 2 and abs(frame[0] - 500) <= 2  # the same column in all rows, at 5 s


def mel_decibel(samples: np.ndarray, rate: int, fft: int, hop: int, bands: int, low: float, high: float, frame: int):
    """Slaney mel spectrogram in dB of one frame, centred, with reflected edges and a periodic window."""
    import librosa

    padded = np.pad(samples.astype(float), fft // 2, mode="reflect")
    part = padded[frame * hop : frame * hop + fft] * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft) / fft))
    filters = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=bands, fmin=low, fmax=high)
    return 10 * np.log10(np.maximum(filters @ np.abs(np.fft.rfft(part)) ** 2, 1e-10))


def test_clap_is_a_slaney_mel_spectrogram_in_decibel():
    samples = noise(48000, 10)
    windows = front_ends.clap_windows(samples, 5.0)
    assert windows.shape == (1, 1, 1001, 64)
    for frame in (0, 333, 1000):
        np.testing.assert_allclose(
            windows[0, 0, frame], mel_decibel(samples, 48000, 1024, 480, 64, 0, 14000, frame), atol=1e-2
        )


def test_clap_cuts_long_clips_in_the_same_way_each_time():
    samples = noise(48000, 16)
    first, second = (front_ends.clap_windows(samples, 5.0) for _ in range(2))
    assert first.shape[0] == 2
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first[1], front_ends.clap_windows(samples[5 * 48000 : 15 * 48000], 5.0)[0])


def test_clap_repeats_short_clips_whole_and_ends_in_silence():
    windows = front_ends.clap_windows(noise(48000, 4), 5.0)[0, 0].numpy()
    np.testing.assert_allclose(windows[10:390], windows[410:790], atol=1e-3)
    assert (windows[810:] == -100).all() and (windows[:790] > -100).all()


def test_mert_is_normalised_as_published_and_gives_374_frames_for_5_s():
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    samples = noise(24000, 5) * 3 + 0.2
    published = Wav2Vec2FeatureExtractor(sampling_rate=24000, do_normalize=True)
    expected = published(samples, sampling_rate=24000, return_tensors="np")["input_values"]
    windows = front_ends.mert_windows(samples, 5.0, 5.0)
    np.testing.assert_allclose(windows, expected, atol=1e-4)
    model = HubertModel(HubertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16))
    assert model._get_feat_extract_output_lengths(windows.shape[1]) == 374


@pytest.mark.parametrize(
    ("seconds", "lengths"),
    [(20, [20]), (30, [30]), (30.9, [30]), (31, [30, 1]), (45, [30, 15]), (75, [30, 30, 15])],
)
def test_mert_hears_pieces_of_30_s_and_a_shorter_last_one(seconds, lengths):
    windows = front_ends.mert_windows(noise(24000, seconds), 30.0, 30.0).numpy()
    assert [round(np.isfinite(row).sum() / 24000, 2) for row in windows] == lengths


def test_mert_windows_that_overlap_end_with_the_clip():
    windows = front_ends.mert_windows(noise(24000, 7), 5.0, 1.0).numpy()
    assert [np.isfinite(row).sum() / 24000 for row in windows] == [5, 5, 5]


def test_cnn14_is_a_slaney_mel_spectrogram_from_50_to_14000_hertz():
    samples = noise(32000, 10)
    windows = front_ends.cnn14_windows(samples, 5.0)
    assert windows.shape == (1, 1, 1001, 64)
    for frame in (0, 333, 1000):
        expected = mel_decibel(samples, 32000, 1024, 320, 64, 50, 14000, frame)
        np.testing.assert_allclose(windows[0, 0, frame], expected, atol=1e-2)


def test_vggish_is_the_logarithm_of_a_magnitude_mel_spectrogram():
    samples, patch, frame = noise(16000, 3), 1, 17
    windows = front_ends.vggish_windows(samples, 0.96)
    assert windows.shape == (3, 1, 96, 64)
    start = (patch * 96 + frame) * 160
    part = samples[start : start + 400] * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400))
    magnitude = np.abs(np.fft.rfft(part.astype(float), 512))
    frequencies = np.arange(257) * 16000 / 512
    for band in (0, 30, 63):
        energy = sum(m * triangle(f, band, 64, 125, 7500) for m, f in zip(magnitude, frequencies, strict=True))
        assert windows[patch, 0, frame, band].item() == pytest.approx(np.log(energy + 0.01), abs=1e-4)


@pytest.mark.parametrize(
    ("style", "shape"),
    [
        ("panns", (4, 64, 1001)),
        ("ast", (4, 128, 1001)),
        ("vggish", (82, 64, 97)),
        ("musicnn", (13, 96, 188)),
        ("clap", (4, 64, 1001)),
    ],
)
def test_mel_styles_have_their_published_shapes(style, shape):
    """Four clips of (128, 1001) for the style "ast" are printed by the work they come from."""
    backbone = BACKBONES[f"vit-{style}"]
    windows = transform_of(backbone)(noise(backbone.rate, 40))
    assert windows.shape == shape
    if front_ends.MEL_STYLES[style].normal is None:
        np.testing.assert_allclose(windows.numpy().mean(axis=(1, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(windows.numpy().std(axis=(1, 2)), 1, atol=1e-3)
    else:
        assert windows.max().item() == pytest.approx(41.76 / 16.17, abs=1e-3)  # 0 dB at each window's maximum


def test_silence_gives_numbers():
    for name in ("ast", "clap", "mert-5s", "cnn14", "vggish", "vit-panns", "vit-ast"):
        backbone = BACKBONES[name]
        windows = transform_of(backbone)(np.zeros(round(backbone.rate * max(backbone.window_s, 1)), np.float32))
        assert np.isfinite(windows.numpy()).all(), name
