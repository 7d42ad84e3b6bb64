"""Feature tables, features of single files, and the threads that make them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from mer_core.compute import default_workers, map_items
from mer_core.datasets.dataset import Dataset, LoadReport
from mer_core.errors import UserError
from mer_core.features import build_features, describe_columns, features_of_files, llds
from mer_core.features.llds import lld_columns
from mer_core.features.statistics import STATISTICS_8, STATISTICS_15, column_names, summarise


def dataset_of(ids: list[str], paths: dict[str, Path] | None = None) -> Dataset:
    index = pd.Index(ids, name="track_id")
    audio = [str(paths[track]) if paths and track in paths else None for track in ids]
    tracks = pd.DataFrame({"path": audio, "group": ids, "part": "all"}, index)
    ratings = pd.DataFrame(5.0, index, ["valence", "arousal"])
    return Dataset(
        "test", Path("."), "tracks", "as given", (1, 9), tracks, ratings, pd.DataFrame(index=index), LoadReport()
    )


def write_noise(path: Path, seed: int, seconds: float = 4.0) -> Path:
    """Noise whose loudness swells four times a second."""
    time_s = np.arange(round(seconds * 22050)) / 22050
    noise = np.random.default_rng(seed).normal(size=len(time_s)) * (0.06 + 0.05 * np.sin(8 * np.pi * time_s))
    soundfile.write(path, noise, 22050, format="FLAC")
    return path


@pytest.fixture
def clips(tmp_path: Path, artifacts: Path) -> dict[str, Path]:
    return {f"t{seed}": write_noise(tmp_path / f"t{seed}.flac", seed) for seed in range(3)}


# --- statistics of LLDs


@pytest.mark.parametrize(("name", "names"), [("stats8", STATISTICS_8), ("stats15", STATISTICS_15)])
def test_built_in_tables_hold_the_statistics_of_the_tracks_llds(name: str, names: tuple, clips: dict):
    features = build_features(name, dataset_of(["t2", "t0", "lost", "t1"], clips), workers=2)
    assert features.source == "recomputed"
    assert list(features.values.index) == ["t2", "t0", "t1"] and features.values.index.name == "track_id"
    assert [track for track, _ in features.failures] == ["lost"]
    columns = column_names(lld_columns(), names)
    kept = [column for column in columns if column in features.values]
    assert list(features.values.columns) == kept and list(features.columns.index) == kept
    assert features.columns.equals(describe_columns(kept))
    expected = pd.DataFrame(summarise([llds.llds_of_file(clips["t0"])[0]], names), columns=columns)
    assert features.values.loc["t0"].to_numpy() == pytest.approx(expected.loc[0, kept].to_numpy(), nan_ok=True)
    left_out = len(columns) - len(kept)
    assert bool(features.notes) == bool(left_out)
    assert not features.values.isna().all().any()


def test_columns_without_any_value_are_left_out_and_said(clips: dict, monkeypatch):
    table = np.random.default_rng(0).normal(size=(6, 260)).astype(np.float32)
    table[:, 3] = np.nan
    monkeypatch.setattr(llds, "_extract_file", lambda path: table)
    features = build_features("stats8", dataset_of(["t0"], clips))
    lost = [f"{lld_columns()[3]}_{name}" for name in STATISTICS_8]
    assert features.values.shape == (1, 2080 - 8) and not set(lost) & set(features.values)
    assert features.notes[-1].startswith("8 feature columns") and lost[0] in features.notes[-1]


def test_dataset_without_any_usable_track_is_refused_with_a_reason(clips: dict):
    with pytest.raises(UserError, match="lost.*no audio file"):
        build_features("stats8", dataset_of(["lost"], clips))


@pytest.mark.parametrize("name", ["stats9", "nowhere/table.parquet", "."])
def test_unknown_features_are_refused_with_the_known_ones(name: str):
    with pytest.raises(UserError, match="stats8, stats15"):
        build_features(name, dataset_of(["a"]))


# --- tables from files


def write_table(path: Path, **columns) -> Path:
    table = pd.DataFrame(columns)
    table.to_parquet(path, index=False) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("key", ["track_id", "song_id"])
def test_tables_are_joined_by_id_and_say_what_did_not_match(suffix: str, key: str, tmp_path: Path):
    path = write_table(
        tmp_path / f"f{suffix}", **{key: [7, 2, 9, 10], "tempo": [1.5, 2, np.inf, 4], "mode": [0, 1, 1, 0]}
    )
    features = build_features(str(path), dataset_of(["2", "3", "7", "9"]))
    assert features.values.index.tolist() == ["2", "7", "9"] and features.values.index.name == "track_id"
    assert features.values["mode"].tolist() == [1.0, 0.0, 1.0]
    assert features.values["tempo"].tolist()[:2] == [2.0, 1.5] and np.isnan(features.values.loc["9", "tempo"])
    assert features.source == f"table f{suffix}"
    assert [track for track, _ in features.failures] == ["3"]
    assert "1 rows for ids" in features.notes[0] and "10" in features.notes[0]
    assert "3 of the 4 rows" in features.notes[1] and "1 infinite" in features.notes[2]
    assert features.columns["group"].tolist() == ["unmapped"] * 2


def test_ids_are_text_and_keep_their_zeros(tmp_path: Path):
    (tmp_path / "f.csv").write_text("\ufefftrack_id;x\n007;1\n7;2\n", encoding="utf-8")
    features = build_features(tmp_path / "f.csv", dataset_of(["007", "7"]))
    assert features.values["x"].to_dict() == {"007": 1.0, "7": 2.0}


def test_float_ids_are_whole_numbers(tmp_path: Path):
    path = write_table(tmp_path / "f.parquet", song_id=[2.0, 3.0], x=[1.0, 2.0])
    assert list(build_features(path, dataset_of(["2", "3"])).values.index) == ["2", "3"]


@pytest.mark.parametrize(
    ("rows", "tracks", "said"),
    [
        (range(10), range(10), None),
        (range(8), range(10), None),  # one in five has no features
        (range(7), range(10), "7 of the 7 rows of t.csv belong to the 10 tracks"),
        (range(20), range(10), "10 of the 20 rows of t.csv belong to the 10 tracks"),  # a larger collection's table
        (range(1, 100), range(10), "9 of the 99 rows"),
        (range(2, 100), range(10), UserError),
        (range(5, 15), range(10), "5 of the 10 rows"),
        (range(5, 16), range(10), UserError),
    ],
)
def test_a_table_of_other_music_with_ids_alike_is_pointed_out_or_refused(rows, tracks, said, tmp_path):
    pd.DataFrame({"track_id": list(rows), "x": np.arange(len(rows)) % 3}).to_csv(tmp_path / "t.csv", index=False)
    dataset = dataset_of([str(track) for track in tracks])
    if said is UserError:
        with pytest.raises(UserError, match="looks like a table of other music"):
            build_features(tmp_path / "t.csv", dataset)
        return
    notes = [note for note in build_features(tmp_path / "t.csv", dataset).notes if "check that" in note]
    assert len(notes) == (said is not None) and all(said in note for note in notes)


def test_deams_song_means(real_data):
    path = real_data("deam/song_mean_167.parquet")
    features = build_features(path, dataset_of(["2", "3", "4", "5", "7", "8", "10", "12", "13", "2058", "1"]))
    assert features.values.shape == (10, 167) and [track for track, _ in features.failures] == ["1"]
    assert features.values.loc["2", "F0final_sma_amean"] == pytest.approx(
        pd.read_parquet(path).loc[2, "F0final_sma_amean"]
    )
    assert set(features.columns["statistic"]) == {"mean"} and "unmapped" in set(features.columns["group"])
    assert "1792 rows" in features.notes[0]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"id": ["a"], "x": [1.0]}, "no column track_id or song_id"),
        ({"track_id": ["a", "a"], "x": [1.0, 2.0]}, "more than one row for track_id a"),
        ({"track_id": ["a", None], "x": [1.0, 2.0]}, "1 rows without track_id"),
        ({"track_id": ["a"], "artist": ["b"]}, "'artist', which is not numeric"),
        ({"track_id": ["a"], "valence": [5.0]}, "'valence', which is what is to be predicted"),
        ({"track_id": ["a"]}, "0 feature columns"),
        ({"track_id": ["b"], "x": [1.0]}, "none of the 1 tracks.*'b'.*'a'"),
        ({"track_id": ["a"], "x": [np.nan]}, "No feature column has a value"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_unusable_tables_are_refused(suffix: str, columns: dict, complaint: str, tmp_path: Path):
    path = write_table(tmp_path / f"f{suffix}", **columns)
    with pytest.raises(UserError, match=complaint):
        build_features(path, dataset_of(["a"]))


@pytest.mark.parametrize("name", ["f.csv", "f.parquet"])
def test_files_that_are_no_tables_are_refused(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(b"\x00\xff\xfe rubbish")
    with pytest.raises(UserError, match=name):
        build_features(tmp_path / name, dataset_of(["a"]))


# --- features of files, for predicting


def test_files_get_the_same_features_as_tracks(clips: dict, tmp_path: Path):
    features = build_features("stats15", dataset_of(list(clips), clips))
    columns = list(features.values.columns[::-7])
    bad = tmp_path / "bad.mp3"
    values, failures = features_of_files("stats15", columns, [clips["t1"], bad, clips["t0"]], workers=2)
    assert list(values.index) == [str(clips["t1"]), str(clips["t0"])] and values.index.name == "path"
    assert np.array_equal(values, features.values.loc[["t1", "t0"], columns], equal_nan=True)
    assert [path for path, _ in failures] == [str(bad)] and "bad.mp3" in failures[0][1]


def test_files_get_the_columns_of_a_table_of_llds(clips: dict):
    columns = ["F0final_sma_amean", "mfcc_sma[1]_amean", "pcm_zcr_sma_stddev_q75"]
    values, failures = features_of_files("means.parquet", columns, [clips["t0"]])
    table = pd.DataFrame(llds.llds_of_file(clips["t0"])[0].astype(float), columns=list(lld_columns()))
    assert list(values.columns) == columns and failures == ()
    expected = [
        table["F0final_sma_amean"].mean(),
        table["pcm_fftMag_mfcc_sma[1]_amean"].mean(),
        table["pcm_zcr_sma_stddev"].quantile(0.75),
    ]
    assert values.iloc[0].to_numpy() == pytest.approx(expected)


def test_no_readable_file_gives_an_empty_table(tmp_path: Path):
    values, failures = features_of_files("stats8", ["F0final_sma_amean_mean"], [tmp_path / "none.mp3"])
    assert values.shape == (0, 1) and len(failures) == 1


def test_features_that_audio_cannot_give_are_refused(clips: dict):
    with pytest.raises(UserError, match="tempo.csv.*'tempo'.*stats8"):
        features_of_files("tempo.csv", ["F0final_sma_amean", "tempo"], [clips["t0"]])


# --- threads


def test_outcomes_come_in_the_order_of_the_items():
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        return item * item

    outcomes = map_items(slow_first, range(6), workers=3)
    assert [(outcome.item, outcome.value, outcome.error) for outcome in outcomes] == [
        (i, i * i, None) for i in range(6)
    ]
    assert map_items(slow_first, []) == []


def test_errors_are_collected_and_ours_are_logged_with_traceback(caplog):
    def fail(item: str) -> str:
        if item == "user":
            raise UserError("a mistake")
        if item == "ours":
            raise ZeroDivisionError("a bug")
        return item

    with caplog.at_level(logging.DEBUG):
        outcomes = map_items(fail, ["fine", "user", "ours"])
    assert [type(outcome.error) for outcome in outcomes] == [type(None), UserError, ZeroDivisionError]
    assert [outcome.value for outcome in outcomes] == ["fine", None, None]
    assert len(caplog.records) == 1 and caplog.records[0].exc_info[0] is ZeroDivisionError


def test_progress_is_told_in_the_calling_thread_and_ends_at_one():
    told = []
    map_items(
        lambda item: time.sleep(0.02), range(20), 2, lambda *report: told.append((*report, threading.get_ident()))
    )
    fractions = [fraction for fraction, *_ in told]
    assert fractions == sorted(fractions) and 2 <= len(told) < 20
    assert told[-1] == (1.0, "20 of 20", threading.get_ident())


def test_interrupt_drops_the_remaining_work_at_once():
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.1)

    def interrupt(fraction: float, message: str) -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        map_items(work, range(1000), 2, interrupt)
    assert time.monotonic() - start < 5
    count = len(begun)
    time.sleep(0.3)
    assert len(begun) <= count + 2 < 1000


@pytest.mark.parametrize("workers", [0, -1])
def test_number_of_workers_is_checked(workers: int):
    with pytest.raises(UserError, match=f"workers is {workers}"):
        map_items(str, [1], workers)
    assert default_workers() >= 1


@pytest.mark.parametrize("setting", [None, "2"])
def test_one_thread_before_and_after_numpy_is_loaded(setting: str | None):
    script = """
import sys
from mer_core.compute import one_thread
assert "numpy" not in sys.modules
if sys.argv[1] == "late": import numpy
one_thread()
import numpy, threadpoolctl
print({library["num_threads"] for library in threadpoolctl.threadpool_info()})
"""
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    if setting:
        environment |= {"OMP_NUM_THREADS": setting, "OPENBLAS_NUM_THREADS": setting}
    for order in ("early", "late"):
        done = subprocess.run([sys.executable, "-c", script, order], env=environment, capture_output=True, text=True)
        expected = min(int(setting or 1), os.cpu_count())
        assert done.stdout.strip() == f"{{{expected}}}", done.stderr
