"""The 260 LLD columns: names, values against an independent windowing, DEAM's tables, cleaning and the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from mer_core.compute import map_items
from mer_core.datasets.audio import read_audio
from mer_core.datasets.dataset import Dataset, LoadReport
from mer_core.errors import UserError
from mer_core.features import cache, llds
from mer_core.features.llds import (
    LLD_NAMES,
    RATE,
    clean,
    deam_name,
    extract_llds,
    lld_columns,
    llds_of_file,
    load_llds,
    read_published,
)

OGG = "cc_audio/Kevin_MacLeod_-_P_I_Tchaikovsky_Dance_of_the_Sugar_Plum_Fairy.ogg"
DEAM = "deam/MEMD_audio/2.mp3"
VARIANTS = "feature_csv_variants"


def tune(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Half-second notes of three harmonics with a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = rng.choice([220.0, 261.6, 329.6, 440.0], size=len(time) // (rate // 2) + 1).repeat(rate // 2)[: len(time)]
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tones = sum(np.sin(k * phase) / k for k in (1, 2, 3))
    return (0.2 * tones * np.exp(-3 * (time % 0.5)) + 0.01 * rng.normal(size=len(time))).astype(np.float32)


def write_tune(path: Path, seconds: float = 4.0, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tune(seconds, seed), RATE, format="FLAC")
    return path


def dataset_of(root: Path, paths: dict[str, Path | None], layout: str = "tracks") -> Dataset:
    index = pd.Index(list(paths), name="track_id")
    tracks = pd.DataFrame({"path": [p and str(p) for p in paths.values()], "group": list(paths), "part": "all"}, index)
    ratings = pd.DataFrame(5.0, index, ["valence", "arousal"])
    return Dataset("test", root, layout, "as given", (1, 9), tracks, ratings, pd.DataFrame(index=index), LoadReport())


# --- names and values


def test_names_and_order_are_those_of_published_tables(real_data):
    header = (real_data(VARIANTS) / "joy_1.csv").read_text().splitlines()[0].split(";")
    assert header[0] == "frameTime"
    assert lld_columns() == tuple(deam_name(name) for name in header[1:])
    assert len(set(lld_columns())) == 260 and len(set(LLD_NAMES)) == 65


def windowed(samples: np.ndarray) -> pd.DataFrame:
    """The same columns from openSMILE's frame-level output: means and population SD of 100 frames of 10 ms, hop 50."""
    import opensmile

    levels = []
    for level in (opensmile.FeatureLevel.LowLevelDescriptors, opensmile.FeatureLevel.LowLevelDescriptors_Deltas):
        smile = opensmile.Smile(opensmile.FeatureSet.IS13, level)
        levels.append(pd.DataFrame(smile(samples, RATE)[0].T.astype(np.float64), columns=smile.feature_names))
    shorter = min(map(len, levels))
    series = pd.concat([level.iloc[:shorter] for level in levels], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(series.to_numpy(), 100, axis=0)[::50]
    columns = {}
    for number, name in enumerate(series.columns):
        columns[f"{deam_name(name)}_stddev"] = windows[:, number].std(axis=1)
        columns[f"{deam_name(name)}_amean"] = windows[:, number].mean(axis=1)
    return pd.DataFrame(columns)[list(lld_columns())]


@pytest.mark.parametrize("name", [OGG, DEAM])
def test_values_equal_an_independent_windowing_on_real_audio(name: str, real_data):
    samples, _ = read_audio(real_data(name), rate=RATE)
    samples = samples[10 * RATE : 17 * RATE]
    ours, reference = extract_llds(samples, RATE), windowed(samples)
    assert list(ours.columns) == list(lld_columns())
    assert ours.shape == (12, 260) == reference.shape
    # Means of deltas cancel almost to zero, hence a tolerance relative to the column's size and its series' spread.
    size = reference.abs().max().to_numpy().reshape(-1, 2).max(axis=1).repeat(2)
    assert np.max(np.abs(ours.to_numpy() - reference.to_numpy()) / np.where(size, size, 1)) < 1e-6


def test_index_is_the_start_of_each_window_in_seconds():
    assert list(extract_llds(tune(2.6), RATE).index) == [0.0, 0.5, 1.0, 1.5]


@pytest.mark.parametrize(("seconds", "frames"), [(1.04, 1), (1.5, 1), (1.54, 2), (3.03, 4), (3.04, 5), (10.0, 18)])
def test_number_of_frames(seconds: float, frames: int):
    values = extract_llds(tune(seconds), RATE)
    assert len(values) == frames
    assert np.isfinite(values.to_numpy()).all()


def test_audio_at_another_rate_is_resampled():
    ours = extract_llds(tune(4, rate=48000), 48000)
    reference = extract_llds(tune(4), RATE)
    for column in ("pcm_fftMag_spectralCentroid_sma_amean", "pcm_RMSenergy_sma_amean", "F0final_sma_amean"):
        assert ours[column].mean() == pytest.approx(reference[column].mean(), rel=0.1)


def test_samples_beyond_full_scale_are_clipped_and_do_not_wrap_around():
    loud = 8 * tune(4)
    assert np.abs(loud).max() > 1
    clipped = np.clip(loud, -1, 32767 / 32768)
    assert extract_llds(loud, RATE).equals(extract_llds(clipped, RATE))
    full_scale = np.sign(np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32)
    assert extract_llds(full_scale, RATE)["pcm_RMSenergy_sma_amean"].min() > 0.9


def test_one_result_whatever_the_thread():
    clips = [tune(3.5, seed) for seed in range(4)]
    alone = [extract_llds(clip, RATE) for clip in clips]
    together = map_items(lambda clip: extract_llds(clip, RATE), clips * 2, workers=4)
    assert all(outcome.value.equals(expected) for outcome, expected in zip(together, alone * 2, strict=True))


def test_too_short_audio_is_refused_with_both_lengths():
    with pytest.raises(UserError, match=r"0\.80 s long.*1\.04 s"):
        extract_llds(tune(0.8), RATE)


@pytest.mark.parametrize("level", [0.0, 1e-6])
def test_silence_is_refused(level: float):
    with pytest.raises(UserError, match="silent"):
        extract_llds(np.full(5 * RATE, level, dtype=np.float32), RATE)


# --- cleaning


def gappy(frames: int = 8, columns: int = 12) -> pd.DataFrame:
    return pd.DataFrame(np.arange(frames * columns, dtype=float).reshape(frames, columns)).add_prefix("c")


def test_clean_leaves_complete_tables_alone():
    assert clean(gappy()).equals(gappy())


def test_clean_fills_gaps_with_column_means_and_drops_empty_frames():
    frame = gappy()
    frame.iloc[2] = np.nan
    frame.iloc[0, 0], frame.iloc[1, 0], frame.iloc[3, 5] = np.inf, -np.inf, np.nan
    frame["c7"] = np.nan
    cleaned = clean(frame)
    assert list(cleaned.index) == [0, 1, 3, 4, 5, 6, 7]
    rest = [3, 4, 5, 6, 7]
    assert cleaned.loc[[0, 1], "c0"].tolist() == [frame.loc[rest, "c0"].mean()] * 2
    assert cleaned.loc[3, "c5"] == frame.loc[[0, 1, 4, 5, 6, 7], "c5"].mean()
    assert cleaned["c7"].isna().all()
    assert cleaned.drop(columns="c7").notna().all(axis=None)
    assert cleaned.loc[rest, "c0"].equals(frame.loc[rest, "c0"])


def test_clean_refuses_too_few_frames_or_columns():
    frame = gappy(6)
    frame.iloc[:2] = np.nan
    with pytest.raises(UserError, match=r"4 frames.*5 are needed.*3\.04 s"):
        clean(frame)
    frame = gappy()
    frame[["c1", "c2", "c3"]] = np.nan
    with pytest.raises(UserError, match="9 descriptor columns.*10"):
        clean(frame)


# --- published tables


def test_all_public_variants_are_read(real_data):
    files = sorted(real_data(VARIANTS).glob("*.csv"))
    assert len(files) == 22
    for path in files:
        table = read_published(path)
        raw = pd.read_csv(path, sep=";").drop(columns="frameTime")
        assert table.shape == (24, 260) and list(table.columns) == list(lld_columns())
        assert table.to_numpy() == pytest.approx(raw.to_numpy())


def published(path: Path, frames: int = 6, spelling=str, columns=None, **changes) -> Path:
    """Write a table in DEAM's layout."""
    names = list(columns or lld_columns())
    values = np.random.default_rng(0).normal(size=(frames, len(names)))
    table = pd.DataFrame(values, columns=names).assign(**changes).rename(columns=spelling)
    table.insert(0, "frameTime", 15 + np.arange(frames) / 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep=";", index=False)
    return path


def test_both_spellings_of_mfccs_give_the_same_table(tmp_path: Path):
    long = read_published(published(tmp_path / "1.csv"))
    short = read_published(published(tmp_path / "2.csv", spelling=lambda name: name.replace("pcm_fftMag_mfcc", "mfcc")))
    assert "mfcc_sma[1]_amean" in (tmp_path / "2.csv").read_text() and long.equals(short)
    assert long.index[0] == 15.0


def test_columns_that_a_published_table_lacks_are_nan(tmp_path: Path):
    table = read_published(published(tmp_path / "1.csv", columns=lld_columns()[:30]))
    assert table.shape == (6, 260) and table.notna().sum(axis=1).eq(30).all()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"frames": 4}, "4 frames"),
        ({"columns": lld_columns()[:9]}, "9 descriptor columns"),
        ({"spelling": lambda name: name + "?"}, "unknown column"),
        ({"F0final_sma_amean": "loud"}, "F0final_sma_amean that is no number"),
    ],
)
def test_unusable_published_tables_are_refused(tmp_path: Path, arguments: dict, complaint: str):
    with pytest.raises(UserError, match=rf"7\.csv\b.*{complaint}"):
        read_published(published(tmp_path / "7.csv", **arguments))


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "\0\0\0"])
def test_what_is_no_table_is_refused(tmp_path: Path, content: str):
    path = tmp_path / "7.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=r"7\.csv"):
        read_published(path)


def test_published_tables_are_never_mixed_with_recomputed_ones(tmp_path: Path, artifacts: Path):
    audio = {track: write_tune(tmp_path / "MEMD_audio" / f"{track}.flac") for track in ("2", "3", "4")}
    published(tmp_path / "features" / "2.csv")
    published(tmp_path / "features" / "4.csv", frames=2)
    loaded = load_llds(dataset_of(tmp_path, audio, "deam"))
    assert loaded.source == "published"
    assert list(loaded.tables) == ["2"]
    failures = dict(loaded.failures)
    assert "3.csv" in failures["3"] and "not mixed" in failures["3"]
    assert "2 frames" in failures["4"]
    assert not (artifacts / "cache").exists()


def test_tables_of_other_songs_do_not_make_a_dataset_published(tmp_path: Path, artifacts: Path):
    published(tmp_path / "features" / "99.csv")
    loaded = load_llds(dataset_of(tmp_path, {"2": write_tune(tmp_path / "2.flac")}, "deam"))
    assert loaded.source == "recomputed" and list(loaded.tables) == ["2"]


# --- whole datasets and the cache


def test_bad_files_are_collected_and_good_ones_kept_in_order(tmp_path: Path, artifacts: Path):
    silent, text = tmp_path / "silent.flac", tmp_path / "text.mp3"
    soundfile.write(silent, np.zeros(5 * RATE), RATE)
    text.write_text("not audio at all")
    files = {
        "b": write_tune(tmp_path / "b.flac"),
        "short": write_tune(tmp_path / "short.flac", 2.9),
        "shorter": write_tune(tmp_path / "shorter.flac", 0.5),
        "silent": silent,
        "text": text,
        "gone": tmp_path / "gone.mp3",
        "none": None,
        "a": write_tune(tmp_path / "a.flac", seed=1),
    }
    told = []
    loaded = load_llds(dataset_of(tmp_path, files), workers=2, progress=lambda *report: told.append(report))
    assert list(loaded.tables) == ["b", "a"] and loaded.source == "recomputed"
    assert loaded.tables["a"].shape == (6, 260) and loaded.tables["a"].dtype == np.float32
    reasons = dict(loaded.failures)
    assert list(reasons) == ["short", "shorter", "silent", "text", "gone", "none"]
    assert "4 frames" in reasons["short"] and "3.04 s" in reasons["short"]
    assert "0.50 s long" in reasons["shorter"] and "silent" in reasons["silent"]
    assert "no audio file" in reasons["none"]
    assert all(str(files[track]) in reason for track, reason in reasons.items() if track != "none")
    assert told[-1] == (1.0, "descriptors, recomputed: 8 of 8 tracks")


def test_second_run_reads_the_cache(tmp_path: Path, artifacts: Path, monkeypatch):
    first, _ = llds_of_file(write_tune(tmp_path / "a.flac"))
    moved = (tmp_path / "a.flac").rename(tmp_path / "moved.flac")

    def never(path):
        raise AssertionError("extracted again")

    monkeypatch.setattr(llds, "_extract_file", never)
    again, note = llds_of_file(moved)
    assert np.array_equal(first, again) and note is None
    (entry,) = (artifacts / "cache" / "llds").rglob("*.parquet")
    assert entry.parent.name == entry.name[:2] and len(entry.stem) == 64
    assert entry == cache.entry_path(moved, llds.extractor_version())
    with pytest.raises(AssertionError):
        llds_of_file(write_tune(moved, seed=1))


def test_cache_entries_depend_on_the_version(tmp_path: Path, artifacts: Path):
    path = write_tune(tmp_path / "a.flac")
    assert "2.6" in llds.extractor_version()
    assert cache.entry_path(path, "1") != cache.entry_path(path, "2")


def damages():
    def truncate(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-100])

    def empty(path: Path) -> None:
        path.write_bytes(b"")

    def flip_a_bit(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    def swap_for_another_table(path: Path) -> None:
        pd.DataFrame({"llds": [1.0, 2.0]}).to_parquet(path)

    return [truncate, empty, flip_a_bit, swap_for_another_table]


@pytest.mark.parametrize("damage", damages())
def test_damaged_cache_entries_are_extracted_again_and_said(damage, tmp_path: Path, artifacts: Path):
    data = dataset_of(tmp_path, {"a": write_tune(tmp_path / "a.flac")})
    good = load_llds(data)
    (entry,) = (artifacts / "cache" / "llds").rglob("*.parquet")
    damage(entry)
    repaired = load_llds(data)
    assert np.array_equal(repaired.tables["a"], good.tables["a"])
    assert len(repaired.notes) == 1 and "a.flac were damaged" in repaired.notes[0]
    assert load_llds(data).notes == ()


def test_failed_write_leaves_nothing_behind(tmp_path: Path, artifacts: Path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr(cache.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        llds_of_file(write_tune(tmp_path / "a.flac"))
    assert not [path for path in artifacts.rglob("*") if path.is_file()]


def test_failure_of_ours_is_raised_when_nothing_else_came_of_it(tmp_path: Path, artifacts: Path, monkeypatch):
    def fail(path):
        raise RuntimeError("broken")

    monkeypatch.setattr(llds, "_extract_file", fail)
    with pytest.raises(RuntimeError, match="broken"):
        load_llds(dataset_of(tmp_path, {"a": write_tune(tmp_path / "a.flac"), "none": None}))
