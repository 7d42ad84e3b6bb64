"""Sonification: what is heard is in the music, where the map says so, at one loudness, without clicks."""

import numpy as np
import pytest

from mer_core.errors import UserError
from mer_core.explain import sonify as module
from mer_core.explain.levels import loudness, true_peak
from mer_core.explain.sonify import (
    edge_share,
    energy_of_bands,
    equally_loud,
    istft,
    make_masks,
    mean_power,
    on_grid,
    prepare,
    sonify,
    sonify_clip,
    stft,
)

RATE, SECONDS = 22050, 6
TIME = np.arange(RATE * SECONDS) / RATE
LOW, HIGH = 0.2 * np.sin(2 * np.pi * 220 * TIME), 0.2 * np.sin(2 * np.pi * 3000 * TIME)
MUSIC = LOW + HIGH + 1e-3 * np.random.default_rng(0).standard_normal(len(TIME))
BANDS = np.geomspace(60, 7500, 96)
FRAMES = np.linspace(0, SECONDS, 375)


def energies(samples: np.ndarray) -> tuple[float, float]:
    """Around 220 Hz and around 3 kHz."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    return tuple(float(power[abs(hertz - f) < 100].sum()) for f in (220, 3000))


def tone_map(low: float, high: float) -> np.ndarray:
    """Relevance `low` below 1 kHz and `high` above."""
    return np.tile(np.where(BANDS < 1000, low, high), (len(FRAMES), 1))


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
@pytest.mark.parametrize("shape", [(30011,), (2, 30011)])
def test_an_open_mask_changes_nothing(rate, shape):
    samples = np.random.default_rng(1).standard_normal(shape)
    np.testing.assert_allclose(istft(stft(samples, rate), 30011, rate), samples, atol=2e-6)


def test_evidence_is_what_raised_and_the_rest_is_without_it():
    found = sonify(MUSIC, RATE, tone_map(1.0, -1.0), FRAMES, BANDS)
    low, high = energies(found.versions["for"].samples)
    assert low > 1000 * high
    low, high = energies(found.versions["against"].samples)
    assert high > 1000 * low
    low, high = energies(found.versions["without"].samples)
    assert high > 1000 * low
    assert not found.silent


def test_all_versions_are_equally_loud_as_long_and_below_the_peak():
    loud = MUSIC / np.abs(MUSIC).max()
    found = sonify(loud, RATE, tone_map(1.0, -0.4), FRAMES, BANDS).versions
    assert list(found) == ["original", "for", "against", "without"]
    assert {version.samples.shape for version in found.values()} == {loud.shape}
    assert np.ptp([loudness(version.samples, RATE) for version in found.values()]) < 0.5
    assert all(true_peak(version.samples) < -0.99 for version in found.values())
    for version in found.values():
        assert version.lufs == pytest.approx(loudness(version.samples, RATE), abs=0.1)
        assert version.true_peak_db == pytest.approx(true_peak(version.samples), abs=0.1)


def test_time_is_kept():
    half = tone_map(1.0, 1.0)
    half[len(half) // 2 :] = 0
    heard = sonify(MUSIC, RATE, half, FRAMES, BANDS).versions["for"].samples
    first, last = heard[: int(2.8 * RATE)], heard[int(3.2 * RATE) :]
    assert (first**2).sum() > 1e5 * (last**2).sum()


def test_a_mask_that_switches_does_not_click():
    """Two pure tones masked on and off every 0.2 s leave hardly anything far from the tones."""
    relevance = tone_map(1.0, 1.0)
    relevance[(np.arange(len(FRAMES)) // 12) % 2 == 1] = 0
    heard = sonify(LOW + HIGH, RATE, relevance, FRAMES, BANDS, softness=0).versions["for"].samples
    power = np.abs(np.fft.rfft(heard)) ** 2
    hertz = np.fft.rfftfreq(len(heard), 1 / RATE)
    far = (abs(hertz - 220) > 200) & (abs(hertz - 3000) > 200)
    assert power[far].sum() < 1e-4 * power.sum()
    steps = np.abs(np.diff(heard)).max() / np.abs(heard).max()
    assert steps <= 1.05 * np.abs(np.diff(LOW + HIGH)).max() / np.abs(LOW + HIGH).max()


def test_near_silent_bands_cannot_dominate():
    relevance = tone_map(1.0, 0.0)
    relevance[:, BANDS > 6000] = 500.0  # huge where there is only noise, 46 dB down
    found = sonify(MUSIC, RATE, relevance, FRAMES, BANDS)
    low, _ = energies(found.versions["for"].samples)
    assert low > 0.9 * (np.abs(np.fft.rfft(found.versions["for"].samples)) ** 2).sum()
    assert found.edge and found.edge_share > 0.99


def test_softness_lets_weak_evidence_be_heard():
    shares = []
    for softness in (0.0, 0.5, 1.0):
        low, high = energies(sonify(MUSIC, RATE, tone_map(1.0, 0.2), FRAMES, BANDS, softness).versions["for"].samples)
        shares.append(high / low)
    assert shares[0] < shares[1] < shares[2]


def test_edge_share_is_the_relevance_in_the_quietest_bands():
    energy = np.array([0.001, 100.0, 50.0, 0.3])  # the quietest two hold 0.2 %
    relevance = np.array([[3.0, 1.0, 0.0, 2.0], [0.0, 1.0, 0.0, 0.0]])
    assert edge_share(relevance, energy) == pytest.approx((9 + 4) / (9 + 4 + 1 + 1))
    assert edge_share(np.zeros((2, 4)), energy) == 0


def test_energy_of_a_tone_is_in_its_band():
    energy = energy_of_bands(mean_power(stft(LOW, RATE)), RATE, BANDS)
    assert abs(BANDS[energy.argmax()] - 220) < 15 and energy.max() > 0.5 * energy.sum()


def test_maps_are_placed_on_the_spectrum():
    relevance = np.zeros((len(FRAMES), len(BANDS)))
    band, frame = int(np.argmin(abs(BANDS - 3000))), 100
    relevance[frame, band] = 1.0
    grid = on_grid(relevance, FRAMES, BANDS, (1025, 259), len(TIME), RATE)
    at = np.unravel_index(grid.argmax(), grid.shape)
    assert abs(at[0] * RATE / 2048 - BANDS[band]) < 40 and abs(at[1] * SECONDS / 258 - FRAMES[frame]) < 0.02
    assert grid[0].max() == 0 and grid[-1].max() == 0


def test_one_sided_maps_say_what_is_missing():
    found = sonify(MUSIC, RATE, tone_map(-1.0, -1.0), FRAMES, BANDS)
    assert list(found.versions) == ["original", "against"]
    assert found.silent["for"] == "nothing raised the prediction" == found.silent["without"]
    assert sonify(MUSIC, RATE, tone_map(0.0, 0.0), FRAMES, BANDS).versions.keys() == {"original"}


def test_faint_versions_say_so():
    found = equally_loud({"original": MUSIC, "for": MUSIC * 1e-3}, RATE)
    assert found["for"].gain_db <= 40 and "quieter" in found["for"].said and not found["original"].said


def test_silence_and_shreds_are_refused():
    with pytest.raises(UserError, match="silent"):
        sonify(np.zeros(RATE), RATE, tone_map(1, 1), FRAMES, BANDS)
    with pytest.raises(UserError, match=r"0\.20 s"):
        sonify(MUSIC[: RATE // 5], RATE, tone_map(1, 1), FRAMES, BANDS)


# What is fast is what is meant


def test_loudness_is_that_of_pyloudnorm():
    import pyloudnorm

    rng = np.random.default_rng(3)
    for rate, shape in ((22050, (60_001,)), (44100, (2, 90_000)), (16000, (9000,))):
        samples = 0.1 * rng.standard_normal(shape) * np.linspace(0, 1, shape[-1]) ** 6  # the gate matters
        expected = pyloudnorm.Meter(rate).integrated_loudness(np.atleast_2d(samples).T)
        assert loudness(samples, rate) == pytest.approx(expected, abs=1e-9)
        assert loudness(samples.astype(np.float32), rate) == pytest.approx(expected, abs=2e-3)
    assert loudness(np.zeros(22050), 22050) == -100


def test_true_peak_is_that_of_oversampling_everything():
    from scipy.signal import resample_poly

    rng = np.random.default_rng(4)
    click = np.zeros(5000)
    click[4990:4992] = 0.7, 0.7  # its peak is between two samples near the end
    for samples in (click, rng.standard_normal((2, 7001)), MUSIC, np.sin(np.pi / 2 * np.arange(999) + np.pi / 4)):
        expected = np.abs(resample_poly(samples.astype(np.float32), 4, 1, axis=-1)).max()
        assert true_peak(samples) == pytest.approx(20 * np.log10(expected), abs=0.01)
    assert true_peak(click) > 20 * np.log10(0.8)
    assert true_peak(np.zeros(100)) == -200


def test_the_scale_of_a_map_is_the_weighted_quantile():
    rng = np.random.default_rng(5)
    for size in (
        rng.exponential(size=(50, 40)) ** 3,
        np.where(rng.random((50, 40)) < 0.5, 0, 1e6 * rng.random((50, 40))),
    ):
        size, power = size.astype(np.float32), rng.exponential(size=(50, 40)).astype(np.float32)
        values, weights = size[size > 0], power[size > 0].astype(float)
        order = np.argsort(values)
        expected = values[order][np.searchsorted(np.cumsum(weights[order]), 0.95 * weights.sum())]
        assert module._energy_quantile(size, power) == pytest.approx(expected, rel=1e-6)
    assert module._energy_quantile(np.zeros((5, 5), np.float32), np.ones((5, 5), np.float32)) == 0


def test_masks_are_smoothed_by_a_gaussian():
    from scipy.ndimage import gaussian_filter

    mask = (np.random.default_rng(6).random((60, 45)) < 0.3).astype(np.float32)
    np.testing.assert_allclose(module._smooth(mask), gaussian_filter(mask, (1.0, 1.5), mode="nearest"), atol=1e-6)


@pytest.mark.parametrize("softness", [0.0, 0.5, 0.8])
def test_without_is_the_complement_of_the_mask(softness):
    stereo = np.stack([MUSIC, 0.5 * MUSIC[::-1]]).astype(np.float32)
    clip = prepare(stereo, RATE)
    found = sonify_clip(clip, tone_map(1.0, -0.3), FRAMES, BANDS, softness)
    masks, _ = make_masks(clip.power, stereo.shape[-1], RATE, tone_map(1.0, -0.3), FRAMES, BANDS, softness)
    assert 0 <= masks["for"].min() and masks["for"].max() <= 1
    expected = istft(stft(stereo, RATE) * (1 - masks["for"]), stereo.shape[-1], RATE)
    version = found.versions["without"]
    np.testing.assert_allclose(version.samples, expected * 10 ** (version.gain_db / 20), atol=1e-5)
    assert version.lufs == pytest.approx(loudness(version.samples, RATE), abs=0.01)
