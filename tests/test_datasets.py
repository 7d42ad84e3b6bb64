"""Loaders against the published figures of DEAM, and against the folders people really have."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mer_core.datasets import VALENCE_AROUSAL, Dataset, load
from mer_core.datasets.deam import DYNAMIC, SONG_LEVEL, read_dynamic
from mer_core.errors import UserError

TRACKS = """track_id,path,valence,arousal,tension,valence_std,group,mood,year,cue_mode
a,audio/a.wav,2.5,7.25,6,0.5,Holst,calm,1999,1
b,audio/b.wav,8.5,3.5,,1.25,Holst,,2001,2
c,audio/c.wav,5,1,2.5,,Bax,dark,,3
"""


def make_tracks(folder: Path, table: str | bytes = TRACKS, audio: str = "abc", **told) -> Path:
    (folder / "audio").mkdir(parents=True)
    (folder / "tracks.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    for name in audio:
        (folder / "audio" / f"{name}.wav").write_bytes(b"not empty")
    if told:
        (folder / "dataset.json").write_text(json.dumps(told))
    return folder


def make_deam(folder: Path) -> Path:
    """Five songs in DEAM's layout, with the headers as they are found in the wild."""
    (folder / SONG_LEVEL).mkdir(parents=True)
    (folder / SONG_LEVEL / "static_annotations_averaged_songs_1_2000.csv").write_bytes(
        b"song_id, valence_mean, valence_std, arousal_mean, arousal_std\r\n"
        b"2,3.1,0.94,3,0.63\r\n1000,6,1.1,4,1.2\r\n1001,7.1,1.3,2.2,1.4\r\n1002,11,1,5,1\r\n1003,,1,5,1\r\n2,3,1,3,1\r\n"
    )
    (folder / SONG_LEVEL / "static_annotations_averaged_songs_2000_2058.csv").write_bytes(
        b"song_id, valence_mean, valence_std, valence_ max_mean, valence_max_std, valence_min_mean, valence_min_std, "
        b"arousal_mean, arousal_std, arousal_max_mean, arousal_max_std, arousal_min_mean, arousal_min_std\r\n"
        b"2001,3.2,0.98,5.0,1.41,2.2,0.98,6.6,0.8,8.6,0.49,3.4,1.02\r\n"
    )
    (folder / "metadata").mkdir()
    (folder / "metadata" / "metadata_2013.csv").write_text(
        "song_id,album,artist,title,Genre\n"
        '2,"\t2.mp3","The Troubadours\t","\tTonight\t","\tBlues\t"\n1000,1000.mp3,,x,\n'
    )
    (folder / "metadata" / "metadata_2014.csv").write_text(
        'song_id,artist,album,title,Genre,,,\n1001,the troubadours ,"""Digital.""",Weatherman,Rock,free,,czHit,more\n'
    )
    (folder / "metadata" / "metadata_2015.csv").write_text(
        "song_id,title,artist,album,Genre,,\n2001,Tree,Bax,n/a,Rock,,\n"
    )
    (folder / DYNAMIC).mkdir()
    for target in VALENCE_AROUSAL:
        (folder / DYNAMIC / f"{target}.csv").write_text("song_id,sample_15000ms,sample_15500ms\n2,-0.1,0.2\n1001,.3,\n")
    (folder / "MEMD_audio").mkdir()
    for name, content in {"2.mp3": b"x", "1001.mp3": b"", "7.mp3": b"x", "2.wav": b"x"}.items():
        (folder / "MEMD_audio" / name).write_bytes(content)
    (folder / "features").mkdir()
    (folder / "features" / "2.csv").write_text("frameTime;F0final_sma_stddev\n0.0;1.0\n")
    return folder


@pytest.fixture
def fake_demo(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Stands for the demo corpus, whose own tests render it."""
    calls = []

    def build_demo(folder, seed=0, progress=None):
        if folder.exists():
            return
        calls.append(Path(folder))
        make_tracks(Path(folder), rating_scale=[1, 9], targets=["valence", "arousal"], synthetic=True)

    monkeypatch.setitem(sys.modules, "mer_core.datasets.demo", types.SimpleNamespace(build_demo=build_demo))
    return types.SimpleNamespace(calls=calls, artifacts=artifacts)


# Every loader keeps the same contract.


@pytest.fixture(params=["demo", "tracks", "deam", "deam published", "real deam", "real soundtracks"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    if request.param == "demo":
        request.getfixturevalue("fake_demo")
        return load("demo")
    if request.param.startswith("real"):
        return load(request.getfixturevalue("real_data")(request.param.split()[1]))
    if request.param == "tracks":
        return load(make_tracks(tmp_path / "mine"))
    return load(make_deam(tmp_path / "deam"), labels="published" if "published" in request.param else "corrected")


def test_contract_of_a_dataset(dataset: Dataset) -> None:
    for table in (dataset.ratings, dataset.spread):
        assert table.index.equals(dataset.tracks.index)
        assert all(dtype == np.float64 for dtype in table.dtypes)
    ids = dataset.tracks.index
    assert ids.name == "track_id" and ids.is_unique and len(ids) and all(type(i) is str and i for i in ids)
    assert dataset.targets[:2] == VALENCE_AROUSAL and dataset.ratings.columns.is_unique
    assert set(dataset.spread) <= set(dataset.ratings)
    assert list(dataset.tracks)[:3] == ["path", "group", "part"]
    assert dataset.tracks[["group", "part"]].notna().all(axis=None)
    for path in dataset.tracks["path"]:
        assert path is None or (Path(path).is_absolute() and Path(path).is_relative_to(dataset.root))
        assert path is None or Path(path).stat().st_size
    low, high = dataset.scale
    assert low < high and dataset.ratings.stack().dropna().between(low, high).all()
    assert (dataset.spread.stack().dropna() >= 0).all()
    assert dataset.layout in ("demo", "deam", "tracks")
    assert dataset.label_version in ("corrected", "published", "as given")
    report = dataset.report
    assert report.found["tracks"] == len(ids)
    assert report.found["audio files"] == dataset.tracks["path"].notna().sum()
    assert bool(report.missing) >= dataset.tracks["path"].isna().any()
    assert all(len(row) == 2 and all(row) for row in report.skipped)
    assert all(text.endswith(".") for text in (*report.missing, *report.notes))


def test_fingerprint_is_stable_and_sensitive(dataset: Dataset) -> None:
    def changed(table: str, column: str, value: object) -> str:
        other = getattr(dataset, table).copy()
        other.iloc[0, other.columns.get_loc(column)] = value
        return dataclasses.replace(dataset, **{table: other}).fingerprint()

    own = dataset.fingerprint()
    labels = "published" if dataset.label_version == "published" else "corrected"
    assert load("demo" if dataset.synthetic else dataset.root, labels=labels).fingerprint() == own
    assert changed("tracks", "path", "/elsewhere") == own
    for other in (("ratings", "valence", 4.125), ("tracks", "group", "another"), ("tracks", "part", "another")):
        assert changed(*other) != own


# What a spec can be.


def test_demo_is_built_once_and_badged(fake_demo) -> None:
    demo = load("demo")
    assert load("demo").fingerprint() == demo.fingerprint()
    assert fake_demo.calls == [fake_demo.artifacts / "demo"]
    assert (demo.name, demo.layout, demo.synthetic) == ("demo", "demo", True)
    assert load(fake_demo.artifacts / "demo").synthetic, "the badge stays when the corpus is loaded as a folder"


def test_spec_that_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    make_tracks(tmp_path / "mine")
    for spec, layout, message in [
        (tmp_path / "nowhere", "auto", "does not exist"),
        (tmp_path / "file", "auto", "is a file"),
        (tmp_path / "empty", "auto", "no known layout; expected tracks.csv .*MEMD_audio"),
        (tmp_path, "auto", "Did you mean .*mine"),
        (tmp_path / "empty", "tracks", "tracks.csv does not exist"),
        (tmp_path / "empty", "deam", "neither static ratings nor audio"),
        (tmp_path / "mine", "mirdata", "layout 'mirdata' is unknown; use auto or deam or tracks"),
    ]:
        with pytest.raises(UserError, match=message):
            load(spec, layout)
    with pytest.raises(UserError, match="labels 'fixed' is unknown; use corrected or published"):
        load(tmp_path / "mine", labels="fixed")


def test_layout_is_detected_or_named(tmp_path: Path) -> None:
    both = make_deam(tmp_path / "both")
    assert load(both).layout == "deam"
    make_tracks(tmp_path / "mine")
    (tmp_path / "mine" / "tracks.csv").rename(both / "tracks.csv")
    assert load(both).layout == "tracks"
    assert load(both, "deam").layout == "deam"


# The tracks layout.


def test_tracks_as_given(tmp_path: Path) -> None:
    data = load(make_tracks(tmp_path / "mine"))
    assert (data.name, data.layout, data.label_version, data.scale) == ("mine", "tracks", "as given", (1, 9))
    assert data.targets == ("valence", "arousal", "tension"), "year is off the scale, cue_* and *_std are no ratings"
    np.testing.assert_array_equal(data.ratings, [[2.5, 7.25, 6], [8.5, 3.5, np.nan], [5, 1, 2.5]])
    np.testing.assert_array_equal(data.spread, [[0.5], [1.25], [np.nan]])
    assert list(data.tracks["group"]) == ["Holst", "Holst", "Bax"] and set(data.tracks["part"]) == {"all"}
    assert list(data.tracks["mood"].fillna("-")) == ["calm", "-", "dark"]
    np.testing.assert_array_equal(data.tracks["year"], [1999, 2001, np.nan])
    np.testing.assert_array_equal(data.tracks["cue_mode"], [1, 2, 3])
    assert data.report.found == {"tracks": 3, "audio files": 3, "groups": 2}
    assert data.report.missing == data.report.skipped == ()
    assert [note.split()[:3] for note in data.report.notes] == [["Rating", "scale", "taken"], ["Also", "taken", "for"]]
    assert load(data.root, labels="published").ratings.equals(data.ratings)


def test_tables_as_programs_write_them(tmp_path: Path) -> None:
    wanted = load(make_tracks(tmp_path / "plain"))
    rows = [line.split(",") for line in TRACKS.splitlines()]
    spellings = {
        "mark": ("\ufeff" + TRACKS).encode(),
        "lines": TRACKS.replace("\n", "\r\n").encode(),
        "spaces": TRACKS.replace(",", ", ").replace("\n", " \n\n").encode(),
        "tabs": TRACKS.replace(",", "\t").encode(),
        "spreadsheet": "\r\n".join(";".join(cell.replace(".", ",") for cell in row) for row in rows)
        .replace(",wav", ".wav")
        .encode(),
        "quoted": "\n".join(",".join(f'"{cell}"' for cell in row) for row in rows).encode(),
        "backslash": TRACKS.replace("audio/", "audio\\").encode(),
        "trailing": TRACKS.replace("\n", ",,\n").encode(),
        "index": "".join(f"{n or ''},{line}\n" for n, line in enumerate(TRACKS.splitlines())).encode(),
    }
    for name, table in spellings.items():
        data = load(make_tracks(tmp_path / name, table))
        assert data.fingerprint() == wanted.fingerprint(), name
        assert data.report.skipped == () and data.report.found == wanted.report.found, name


def test_rows_set_aside_are_listed_with_reasons(tmp_path: Path) -> None:
    rows = {
        "good": "audio/a.wav,5,5",
        "good2": "audio/b.wav,4,6",
        "absolute": "/etc/passwd,5,5",
        "drive": "C:\\music\\x.wav,5,5",
        "upwards": "audio/../../x.wav,5,5",
        "link": "audio/link.wav,5,5",
        "blank": "audio/c.wav,,5",
        "nan": "audio/c.wav,5,NaN",
        "word": "audio/c.wav,high,5",
        "infinite": "audio/c.wav,5,inf",
        "off": "audio/c.wav,0.5,5",
        "long": "audio/c.wav,5,5,6,7",
        "": "audio/c.wav,5,5",
    }
    table = "track_id,path,valence,arousal\n" + "".join(f"{i},{rest}\n" for i, rest in rows.items())
    folder = make_tracks(tmp_path / "mine", table + "good,audio/c.wav,7,7\nshort,audio/c.wav,5\n", rating_scale=[1, 9])
    (tmp_path / "outside.wav").write_bytes(b"x")
    (folder / "audio" / "link.wav").symlink_to(tmp_path / "outside.wav")
    data = load(folder)
    assert list(data.tracks.index) == ["good", "good2"]
    assert list(data.ratings.loc["good"]) == [5, 5]
    reasons = dict(data.report.skipped)
    assert len(data.report.skipped) == len(rows) + 2 - 2
    for item, words in {
        "absolute": "not one inside the folder",
        "drive": "not one inside the folder",
        "upwards": "not one inside the folder",
        "link": "link out of the folder",
        "blank": "no valence",
        "nan": "no arousal",
        "word": "valence 'high' is not a number from 1 to 9",
        "infinite": "arousal 'inf' is not a number",
        "off": "valence '0.5' is not a number from 1 to 9",
        "line 13": "6 cells where the header has 4",
        "line 14": "no track_id",
        "good": "line 15 repeats the track_id of line 2",
        "short": "no arousal",
    }.items():
        assert words in reasons.pop(item), item
    assert not reasons


def test_tracks_without_usable_audio_stay(tmp_path: Path) -> None:
    table = (
        TRACKS.replace("audio/c.wav", "")
        + "d,audio/d.wav,5,5,5,x,,,,\ne,audio/a.wav,5,5,5,-1,,,,\nf,audio,5,5,5,1,,,,\n"
    )
    folder = make_tracks(tmp_path / "mine", table, audio="ad")
    (folder / "audio" / "d.wav").write_bytes(b"")
    (folder / "audio" / "extra.MP3").write_bytes(b"x")
    data = load(folder)
    assert list(data.tracks["path"].isna()) == [False, True, True, True, False, True]
    assert data.report.missing == ("No audio for 4 of 6 tracks (such as b, c, d): they need a feature table.",)
    assert [(Path(item).name, reason) for item, reason in data.report.skipped] == [
        ("d.wav", "the audio file is empty (0 bytes); its track is kept without audio"),
        ("d", "valence_std 'x' is no spread; taken as unknown"),
        ("e", "valence_std '-1' is no spread; taken as unknown"),
    ]
    notes = " ".join(data.report.notes)
    assert "1 audio files in the folder belong to no track" in notes
    assert "1 tracks name an audio file that an earlier track has" in notes
    assert "3 tracks without a group count as a group each" in notes
    assert list(data.tracks["group"])[3:] == ["d", "e", "f"]


def test_scale_is_told_or_inferred(tmp_path: Path) -> None:
    header = "track_id,path,valence,arousal\n"
    for n, (values, scale) in enumerate(
        {"0.1,1": (0, 1), "-0.1,1": (-1, 1), "1.5,6.5": (1, 9), "0,9.5": (0, 10), "0,55": (0, 100)}.items()
    ):
        data = load(make_tracks(tmp_path / str(n), f"{header}a,,{values}\n"))
        assert data.scale == scale and "dataset.json" in data.report.notes[0]
    told = load(make_tracks(tmp_path / "told", f"{header}a,,2,3\n", audio="", rating_scale=[1, 7], name="mine"))
    assert told.scale == (1, 7) and told.name == "mine"
    assert told.report.notes == ("No group column: tracks of one artist may fall on both sides of a split.",)
    with pytest.raises(UserError, match="run from -2.3 to 2.8, which fits no usual scale; write"):
        load(make_tracks(tmp_path / "standardised", f"{header}a,,-2.3,2.8\n"))


def test_targets_are_told_or_inferred(tmp_path: Path) -> None:
    told = load(make_tracks(tmp_path / "told", rating_scale=[1, 9], targets=["cue_mode"]))
    assert told.targets == ("valence", "arousal", "cue_mode")
    assert "tension" in told.tracks and "cue_mode" not in told.tracks
    off = load(make_tracks(tmp_path / "off", rating_scale=[1, 9], targets=["tension", "year"]), "tracks")
    assert list(off.tracks.index) == ["c"], "a told rating off the scale sets its track aside, a blank one does not"
    with pytest.raises(UserError, match="names the target 'joy', which is no column"):
        load(make_tracks(tmp_path / "wrong", targets=["joy"]))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("track_id,path,valence,arousal\n", "has no usable row"),
        ("track_id,path,valence\na,b,1\n", "lacks the column arousal .it has track_id, path, valence."),
        ("track_id,path,valence,arousal,valence\na,b,1,1,1\n", "two columns named valence"),
        ("track_id,path,valence,arousal\na,b,x,y\n", "no number under valence or arousal"),
        ("track_id,path,valence,arousal\na,/b,2,3\n", "no row of .* can be used .first: a, its path '/b'"),
        (b"track_id,path,valence,arousal\n\xff\xfe,b,2,3\n", "is not UTF-8 text"),
        (b"track_id,path,valence,arousal\na\x00,b,2,3\n", "is not UTF-8 text"),
        (f"track_id,path,valence,arousal\na,{'b' * 200_000},2,3\n", "is not a readable table"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, table: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(make_tracks(tmp_path / "mine", table))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[1]", "holds a list"), *[(f'{{"rating_scale": {s}}}', "is not .lowest, highest.") for s in
     ("9", "[9, 1]", '["1", "9"]', "[1, 5, 9]", "[true, 9]", "null")]],
)  # fmt: skip
def test_descriptions_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    folder = make_tracks(tmp_path / "mine")
    (folder / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=message):
        load(folder)


def test_soundtracks(real_data) -> None:
    data = load(real_data("soundtracks"))
    assert len(data.tracks) == 239 and data.tracks["group"].nunique() == 29 and data.scale == (1, 9)
    assert data.targets == ("valence", "arousal", "energy", "tension", "anger", "fear", "happy", "sad", "tender")
    assert data.ratings["energy"].equals(data.ratings["arousal"].rename("energy"))
    assert list(data.tracks)[3:] == ["target_category", "excerpt"]
    assert data.report.skipped == data.report.missing == ()


# DEAM.


def test_deam_exchanges_labels_only_where_they_are_wrong(tmp_path: Path) -> None:
    folder = make_deam(tmp_path / "deam")
    published, corrected = load(folder, labels="published"), load(folder)
    assert (published.label_version, corrected.label_version) == ("published", "corrected")
    assert published.ratings.T.to_dict("list") == {
        "2": [3.1, 3],
        "1000": [6, 4],
        "1001": [7.1, 2.2],
        "2001": [3.2, 6.6],
    }
    assert corrected.ratings.T.to_dict("list") == {
        "2": [3, 3.1],
        "1000": [4, 6],
        "1001": [7.1, 2.2],
        "2001": [3.2, 6.6],
    }
    assert published.spread.T.to_dict("list")["2"] == [0.94, 0.63]
    assert corrected.spread.T.to_dict("list")["2"] == [0.63, 0.94]
    assert published.spread.loc["1001"].equals(corrected.spread.loc["1001"])
    assert published.fingerprint() != corrected.fingerprint()
    assert "2 songs (ids up to 1000) are exchanged back" in corrected.report.notes[0]
    assert "exchanged for 2 songs" in published.report.notes[0]


def test_deam_reports_everything(tmp_path: Path) -> None:
    data = load(make_deam(tmp_path / "deam"))
    assert list(data.tracks["part"]) == ["2013", "2013", "2014", "2015"]
    assert list(data.tracks["group"]) == ["the troubadours", "song 1000", "the troubadours", "bax"]
    first, _, third, last = data.tracks.drop(columns=["group", "part"]).fillna("-").to_dict("records")
    assert first == {
        "path": str(data.root / "MEMD_audio" / "2.mp3"),
        "title": "Tonight",
        "artist": "The Troubadours",
        "album": "-",
        "genre": "Blues",
        "tags": "-",
    }
    assert (third["album"], third["tags"], last["album"]) == ("Digital.", "free; czHit; more", "-")
    counts = {"tracks": 4, "audio files": 1, "feature tables": 1, "dynamic tables": 2, "artists": 2}
    assert data.report.found == counts
    assert data.report.missing == ("No audio for 3 of 4 tracks (such as 1000, 1001, 2001): they need a feature table.",)
    skipped = [(item.rpartition("/")[2], reason) for item, reason in data.report.skipped]
    assert skipped == [
        ("2.wav", "2.mp3 is already used for this song"),
        ("song 1002 in line 5 of static_annotations_averaged_songs_1_2000.csv",
         "valence 11.0 or arousal 5.0 is not on the scale of 1 to 9"),
        ("song 1003 in line 6 of static_annotations_averaged_songs_1_2000.csv", "not a song id with four numbers"),
        ("song 2 in line 7 of static_annotations_averaged_songs_1_2000.csv", "the song is rated in an earlier line"),
        ("1001.mp3", "the audio file is empty (0 bytes); its track is kept without audio"),
    ]  # fmt: skip
    assert "1 songs without an artist count as a group each." in data.report.notes
    assert "1 audio files belong to no rated song; they are ignored." in data.report.notes


def test_deam_as_its_archives_unpack(tmp_path: Path) -> None:
    flat, deep = make_deam(tmp_path / "flat"), tmp_path / "deep"
    deep.mkdir()
    for name, below in {
        "annotations": "DEAM_Annotations",
        "MEMD_audio": "DEAM_audio",
        "features": "features",
        "metadata": "metadata",
    }.items():
        (deep / below).mkdir()
        (flat / name).rename(deep / below / name)
    data = load(deep)
    assert data.layout == "deam"
    assert data.report.found == {"tracks": 4, "audio files": 1, "feature tables": 1, "dynamic tables": 2, "artists": 2}
    assert len(read_dynamic(deep)["valence"]) == 2


def test_deam_without_some_of_its_parts(tmp_path: Path) -> None:
    folder = make_deam(tmp_path / "deam")
    for part in ("metadata", DYNAMIC, "features"):
        (folder / part).rename(tmp_path / Path(part).name)
    (folder / SONG_LEVEL / "static_annotations_averaged_songs_2000_2058.csv").unlink()
    data = load(folder)
    assert list(data.tracks["group"]) == ["song 2", "song 1000", "song 1001"]
    starts = [
        "No static ratings of the 2015",
        "No metadata",
        "No audio for 2",
        "No published descriptors",
        "No dynamic",
    ]
    assert [sentence[: len(start)] for sentence, start in zip(data.report.missing, starts, strict=True)] == starts
    with pytest.raises(UserError, match="no dynamic ratings of valence"):
        read_dynamic(folder)
    (folder / SONG_LEVEL / "static_annotations_averaged_songs_1_2000.csv").unlink()
    unrated = load(folder)
    assert list(unrated.tracks.index) == ["2", "7", "1001"] and unrated.ratings.isna().all(axis=None)
    assert "no song has a rating" in unrated.report.missing[0] and not unrated.report.notes


def test_deam_table_with_other_columns(tmp_path: Path) -> None:
    folder = make_deam(tmp_path / "deam")
    (folder / SONG_LEVEL / "static_annotations_averaged_songs_1_2000.csv").write_text("song_id,valence\n2,3\n")
    with pytest.raises(UserError, match="lacks the column arousal_mean"):
        load(folder)


@pytest.fixture(scope="module")
def deam(real_data) -> dict[str, Dataset]:
    return {labels: load(real_data("deam"), labels=labels) for labels in ("corrected", "published")}


@pytest.fixture(scope="module")
def over_time(real_data) -> pd.DataFrame:
    """Mean over time of the 2 Hz ratings."""
    return pd.DataFrame({target: table.mean(axis=1) for target, table in read_dynamic(real_data("deam")).items()})


def test_deam_has_its_songs(deam: dict[str, Dataset]) -> None:
    data = deam["corrected"]
    assert data.tracks["part"].value_counts().to_dict() == {"2013": 744, "2014": 1000, "2015": 58}
    shared = data.tracks["group"].value_counts()
    assert (len(shared), shared[shared > 1].sum(), shared.max()) == (948, 1162, 23)
    assert data.tracks[["title", "artist"]].notna().all(axis=None)
    assert data.tracks.loc["2", ["title", "artist", "group"]].tolist() == [
        "Tonight  A Lonely Century",
        "The New Mystikal Troubadours",
        "the new mystikal troubadours",
    ]
    assert data.report.found["audio files"] == 10 and data.report.skipped == ()


@pytest.mark.parametrize(
    ("labels", "means", "deviations", "r", "spread", "quadrants"),
    [
        ("published", [4.904, 4.814], [1.174, 1.282], 0.570, [1.50, 1.46], [594, 237, 229, 742]),
        ("corrected", [4.995, 4.724], [1.109, 1.327], 0.594, [1.47, 1.49], [594, 276, 190, 742]),
    ],
)
def test_deam_figures(deam: dict[str, Dataset], labels, means, deviations, r, spread, quadrants) -> None:
    ratings = deam[labels].ratings
    np.testing.assert_allclose(ratings.mean(), means, atol=6e-4)
    np.testing.assert_allclose(ratings.std(), deviations, atol=6e-4)
    assert ratings.corr().iloc[0, 1] == pytest.approx(r, abs=6e-4)
    np.testing.assert_allclose(deam[labels].spread.mean(), spread, atol=6e-3)
    pleasant, lively = ratings["valence"] > 5, ratings["arousal"] > 5
    counts = [
        (pleasant & lively).sum(),
        (pleasant & ~lively).sum(),
        (~pleasant & lively).sum(),
        (~pleasant & ~lively).sum(),
    ]
    assert counts == quadrants


@pytest.mark.parametrize(
    ("labels", "part", "own", "other"),
    [
        ("published", "2013", [0.575, 0.570], [0.956, 0.949]),
        ("corrected", "2013", [0.949, 0.956], [0.570, 0.575]),
        ("corrected", "2014", [0.912, 0.942], [0.591, 0.570]),
        ("corrected", "2015", [0.984, 0.929], [0.050, -0.101]),
    ],
)
def test_deam_static_against_dynamic(deam, over_time: pd.DataFrame, labels: str, part: str, own, other) -> None:
    data = deam[labels]
    static = data.ratings[data.tracks["part"] == part]
    dynamic = over_time.loc[static.index]
    np.testing.assert_allclose(static.corrwith(dynamic), own, atol=6e-4)
    exchanged = dynamic[["arousal", "valence"]].set_axis(VALENCE_AROUSAL, axis=1)
    np.testing.assert_allclose(static.corrwith(exchanged), other, atol=6e-4)
    assert (static.corrwith(dynamic) >= 0.85).all() == (labels == "corrected")


def test_deam_dynamic_ratings(real_data) -> None:
    dynamic = read_dynamic(real_data("deam"))
    assert [dynamic[target].shape for target in VALENCE_AROUSAL] == [(1802, 1223), (1802, 1224)]
    for table in dynamic.values():
        np.testing.assert_array_equal(table.columns, 15 + 0.5 * np.arange(table.shape[1]))
        assert table.index.name == "track_id" and table.index[0] == "2"
        assert table.stack().dropna().between(-1, 1).all()
    assert dynamic["arousal"].at["2", 15.0] == -0.109386
