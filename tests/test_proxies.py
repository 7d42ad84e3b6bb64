"""Proxies of mid-level qualities and harmony: notes from sound, known cases, tables, validity."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import pearsonr

from mer_core.datasets import load
from mer_core.datasets.audio import write_flac
from mer_core.datasets.demo import midlevel
from mer_core.evaluate.validity import ENOUGH, proxy_validity
from mer_core.features import build_features, features_of_files, proxies
from mer_core.features.clips import CLIP_FEATURES, clip_columns, clip_table
from mer_core.features.harmony import CHORDS, COLUMNS, chords_of, harmony_of, tonic_of
from mer_core.features.notes import LOWEST, NOTES, RATE, note_strengths, onset_times
from mer_core.features.proxies import LEFT_OUT, PROXIES, VALIDITY, interval_entropy, mean_roughness, proxies_of
from mer_core.runs import read_run
from pipelines.__main__ import main

MAJOR_SCALE, MINOR_SCALE = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 11)


def played(pitches, each: float = 0.4, share: float = 1.0) -> np.ndarray:
    """Notes one after the other (a tuple sounds together), eight partials, dying away; `share` of the time sounds."""
    time = np.arange(round(each * RATE)) / RATE
    parts = []
    for chord in pitches:
        tone = np.zeros(len(time))
        for pitch in np.atleast_1d(chord):
            frequency = 440 * 2 ** ((pitch - 69) / 12)
            tone += sum(0.7**k * np.sin(2 * np.pi * (k + 1) * frequency * time) for k in range(8))
        tone *= np.exp(-2 * time) * np.minimum(1, time / 0.005) * (time < share * each)
        parts.append(tone / (4 * np.size(chord)))
    return np.concatenate(parts).astype(np.float32)


def melody(scale, tonic: int = 60, notes: int = 20) -> np.ndarray:
    """Steps up and down a scale that dwell on its tonic triad."""
    order = [0, 1, 2, 4, 2, 0, 4, 5, 4, 3, 2, 1, 0, 6, 0, 2, 4, 2, 1, 0]
    return played([tonic + scale[step] for step in order[:notes]])


@pytest.fixture(scope="module")
def scales() -> dict[str, dict[str, float]]:
    return {"major": proxies_of(melody(MAJOR_SCALE)), "minor": proxies_of(melody(MINOR_SCALE))}


def test_single_notes_are_found_at_their_pitch():
    pitches = [48, 60, 67, 76, 84]
    strengths = note_strengths(played(pitches, each=1.0))
    assert strengths.shape[0] == NOTES and (strengths >= 0).all()
    middles = [round((i + 0.4) * strengths.shape[1] / len(pitches)) for i in range(len(pitches))]
    assert [int(strengths[:, frame].argmax()) + LOWEST for frame in middles] == pitches


def test_onsets_are_where_notes_begin():
    onsets = onset_times(np.concatenate([np.zeros(RATE // 4, np.float32), played([60, 64, 67, 72], each=0.5)]))
    assert_allclose(onsets, 0.25 + 0.5 * np.arange(4), atol=0.04)


def test_mode_key_and_register_follow_the_notes(scales):
    assert scales["minor"]["minorness"] > 0 > scales["major"]["minorness"]
    chromatic = proxies_of(played(list(range(60, 72)) * 2, each=0.3))
    assert chromatic["tonal_stability"] < min(scales[mode]["tonal_stability"] for mode in scales) - 0.1
    assert abs(scales["major"]["register"] - 65) < 4
    assert proxies_of(melody(MAJOR_SCALE, tonic=48))["register"] < scales["major"]["register"] - 6


def test_rough_chords_and_gaps_are_heard():
    rough, smooth = (proxies_of(played([chord] * 10)) for chord in ((60, 61, 66), (60, 67, 72)))
    assert rough["dissonance"] > 1.5 * smooth["dissonance"]
    short, long = (proxies_of(played([60, 62, 64, 65] * 4, share=share)) for share in (0.3, 1.0))
    assert short["articulation"] > long["articulation"] + 0.3
    assert abs(long["rhythmic_density"] - 2.5) < 0.5


def test_roughness_is_that_of_its_definition():
    sounding = np.zeros((NOTES, 3), bool)
    sounding[[60 - LOWEST, 64 - LOWEST, 67 - LOWEST], 0] = True
    sounding[[60 - LOWEST, 61 - LOWEST], 2] = True
    triad = sum(midlevel.roughness(*pair) for pair in ((60, 64), (60, 67), (64, 67)))
    assert mean_roughness(sounding) == pytest.approx((triad + midlevel.roughness(60, 61)) / 2)
    assert np.isnan(mean_roughness(np.zeros((NOTES, 3), bool)))


def test_intervals_of_one_length_have_no_entropy_and_others_more():
    assert interval_entropy(np.arange(10) * 0.5) == pytest.approx(0, abs=1e-9)
    two = np.cumsum([0.25, 1.0] * 8)
    assert interval_entropy(two) == pytest.approx(1, abs=0.1)  # two lengths, two octaves apart, equally often: one bit
    assert np.isnan(interval_entropy(np.arange(proxies.FEWEST_ONSETS - 1.0)))


def test_chords_and_degrees_are_named_whatever_the_key():
    for root in (0, 5):
        chroma = np.zeros((12, 60))
        chroma[[(root + step) % 12 for step in CHORDS["minor"]]] = 1
        kinds, roots, fit = chords_of(chroma)
        assert set(kinds) == {list(CHORDS).index("minor")} and set(roots) == {root} and fit == pytest.approx(1)
    assert tonic_of(np.roll(proxies.PROFILES["minor"], 9)) == 9
    in_c, in_f = (harmony_of(melody(MAJOR_SCALE, tonic)) for tonic in (60, 65))
    assert list(in_c) == list(COLUMNS)
    assert sum(in_c[f"degree_{name}"] for name in ("1", "3", "5")) > 0.5
    assert sum(value for name, value in in_c.items() if name.startswith("degree_")) == pytest.approx(1)
    assert_allclose([in_f[n] for n in in_f if "degree" in n], [in_c[n] for n in in_c if "degree" in n], atol=0.06)
    assert set(harmony_of(np.zeros(4 * RATE, np.float32)).values()) == {0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve melodies, major ones with high valence; a short and a silent file; planted minorness."""
    root = tmp_path_factory.mktemp("melodies")
    rows = []
    for number in range(12):
        scale = (MAJOR_SCALE, MINOR_SCALE)[number % 2]
        write_flac(root / f"{number}.flac", melody(scale, 55 + number, 12), RATE)
        rows.append(
            (f"t{number}", f"{number}.flac", 7.0 - 4 * (number % 2) + number / 10, 3 + number / 4, f"g{number // 3}")
        )
    write_flac(root / "short.flac", melody(MAJOR_SCALE)[:RATE], RATE)
    write_flac(root / "silent.flac", np.zeros(5 * RATE), RATE)
    rows += [("short", "short.flac", 5.0, 5.0, "g9"), ("silent", "silent.flac", 5.0, 5.0, "g9")]
    table = pd.DataFrame(rows, columns=["track_id", "path", "valence", "arousal", "group"])
    table.to_csv(root / "tracks.csv", index=False)
    truth = pd.DataFrame({"track_id": table["track_id"], "mid_minorness": [n % 2 for n in range(14)]})
    truth.to_csv(root / "truth.csv", index=False)
    return root


def test_a_table_of_clips_names_its_columns_and_its_failures(folder):
    dataset = load(str(folder), "tracks")
    table = build_features("proxies", dataset, workers=2)
    assert list(table.values.columns) == list(PROXIES) == list(table.columns.index)
    assert [track for track, _ in table.failures] == ["short", "silent"]
    reasons = dict(table.failures)
    assert "1.00 s long" in reasons["short"] and "is silent" in reasons["silent"]
    path = str(folder / "3.flac")
    again, failures = features_of_files("proxies", ["minorness", "register"], [path, str(folder / "gone.flac")])
    assert_allclose(again.loc[path], table.values.loc["t3", ["minorness", "register"]])
    assert [item for item, _ in failures] == [str(folder / "gone.flac")]


def test_columns_of_several_kinds_are_computed_for_files(folder):
    path = str(folder / "0.flac")
    columns = ["minorness", "degree_1", "F0final_sma_amean_mean"]
    values, failures = features_of_files("stats8+proxies+harmony", columns, [path])
    assert list(values.columns) == columns and not failures and values.notna().all(axis=None)
    alone = clip_table("harmony", [path], ["a"])[0]
    assert values.loc[path, "degree_1"] == alone.loc["a", "degree_1"]


def test_a_changed_version_is_not_served_from_the_cache(folder, monkeypatch):
    path = [folder / "0.flac"]
    first = clip_table("proxies", path, ["a"])[0]
    changed = CLIP_FEATURES["proxies"].__class__(
        CLIP_FEATURES["proxies"].columns, lambda _: dict.fromkeys(PROXIES, 1.0), 99
    )
    monkeypatch.setitem(CLIP_FEATURES, "proxies", changed)
    assert (clip_table("proxies", path, ["a"])[0] == 1).all(axis=None) and not (first == 1).all(axis=None)


def test_validity_is_a_correlation_with_what_was_planted_and_rated(folder):
    dataset = load(str(folder), "tracks")
    random = np.random.default_rng(0)
    tracks = dataset.tracks.index[:12]
    values = pd.DataFrame(
        {"minorness": [n % 2 for n in range(12)] + random.normal(0, 0.3, 12), "flat": 1.0}, index=tracks
    )
    table = proxy_validity(values, dataset, resamples=200).set_index(["proxy", "against"])
    r = pearsonr(values["minorness"], [n % 2 for n in range(12)])[0]
    assert table.loc[("minorness", "planted"), "r"] == pytest.approx(r)
    assert table.loc[("minorness", "planted"), "low"] < r <= table.loc[("minorness", "planted"), "high"] + 1e-9
    assert table.loc[("minorness", "valence"), "r"] < -0.8
    assert ("flat", "planted") not in table.index and np.isnan(table.loc[("flat", "valence"), "r"])


def test_features_writes_the_validity(folder, artifacts, capsys):
    assert main(["features", "--dataset", str(folder), "--features", "proxies", "--run-id", "valid"]) == 0
    found = read_run("valid").table("validity").set_index(["proxy", "against"])
    assert found.loc[("minorness", "planted"), "r"] > ENOUGH
    assert "planted" in capsys.readouterr().err


def test_what_is_shipped_is_valid_and_what_is_not_is_named():
    assert set(VALIDITY) == set(PROXIES) and not set(LEFT_OUT) & set(PROXIES)
    assert all(r >= ENOUGH and low < r < high for r, low, high in VALIDITY.values())
    assert all(proxy.question.endswith("?") and proxy.unit and proxy.source for proxy in PROXIES.values())
    assert list(clip_columns("harmony").index) == list(COLUMNS)
