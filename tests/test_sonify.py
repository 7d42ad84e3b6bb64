"""Sonification: what is heard is in the music, where the map says so, at one loudness, without clicks."""

import numpy as np
import pytest

from mer_core.errors import UserError
from mer_core.explain.sonify import (
    band_energy,
    edge_share,
    equally_loud,
    istft,
    loudness,
    on_grid,
    sonify,
    stft,
    true_peak,
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
    energy = band_energy(stft(LOW, RATE), len(LOW), RATE, BANDS)
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
