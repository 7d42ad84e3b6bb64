"""The listening site: who may be heard, what the files hold, and how the pages behave from a disk."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyloudnorm
import pytest
import soundfile
from fixture_runs import write_run
from playwright.sync_api import expect

from mer_core.errors import UserError
from mer_core.explain.levels import true_peak
from mer_core.explain.maps import RelevanceMap, write_maps
from mer_core.runs import Run
from mer_core.site.licences import terms_of
from mer_core.site.songs import Song, find_songs
from mer_core.site.sounds import decode, excerpt_length, excerpt_of
from pipelines.__main__ import main
from pipelines.site_files import clip_of

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'title'"
RENDERED = "composition in the public domain (published 1723); sound rendered by this project"
CC_BY = "CC BY 3.0 https://creativecommons.org/licenses/by/3.0/"
FRAMES, BANDS, SECONDS = 60, 24, 3.0


def relevance_map(targets: tuple[str, ...], seed: int = 0, duration_s: float = SECONDS) -> RelevanceMap:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(len(targets), FRAMES, BANDS)).astype(np.float32) / 100
    base, remainder = np.full(len(targets), 5.0), np.zeros((4, len(targets)))
    remainder[0] = 0.25
    return RelevanceMap(
        values=values,
        seconds=(np.arange(FRAMES) + 0.5) * duration_s / FRAMES,
        band_hz=np.geomspace(80, 8000, BANDS),
        edges_hz=(60.0, 9000.0),
        targets=targets,
        base=base,
        predicted=base + values.sum(axis=(1, 2)) + 0.25,
        remainder=remainder,
        conservation_error=np.full(len(targets), 2e-5),
        rule="epsilon-plus-flat",
        reference="mean prediction of the training tracks",
        heard_s=duration_s,
        duration_s=duration_s,
    )


def add_maps(run: Path, tracks: list[str], targets: tuple[str, ...]) -> None:
    write_maps(run / "explanations" / "lrp", ((t, relevance_map(targets, k)) for k, t in enumerate(tracks)))


def rating_run(root: Path, licences: list[str | None]) -> Path:
    """A run on ratings whose first tracks have these licences, audio and maps."""
    run = write_run(root, n=24, audio=len(licences), explained=False, synthetic=False, dataset="songs")
    tracks = pd.read_parquet(run / "tracks.parquet")
    tracks["licence"] = licences + [None] * (len(tracks) - len(licences))
    tracks["composer"] = "A. N. Other <b>"
    tracks["title"] = HOSTILE
    tracks.to_parquet(run / "tracks.parquet", index=False)
    add_maps(run, list(tracks["track_id"][: len(licences)]), ("valence", "arousal"))
    return run


def class_run(root: Path) -> Path:
    """A classifier's run: four tracks, one in each cell, with maps."""
    run = rating_run(root, [RENDERED] * 4)
    tracks = pd.read_parquet(run / "tracks.parquet").head(4)
    cells = ["happy-happy", "sad-sad", "happy-sad", "sad-happy"]
    true, probability = [1, 0, 1, 0], [0.999, 0.1, 0.2, 0.8]
    tracks.assign(true=true, probability=probability, cell=cells).to_parquet(run / "classes.parquet", index=False)
    rows = {"cell": cells, "rule": "most confident", "track_id": tracks["track_id"], "probability": probability}
    pd.DataFrame(rows).to_parquet(run / "examples.parquet", index=False)
    counts = dict(zip(cells, (41, 37, 5, 7), strict=True))
    scores = {"n": 90, "balanced_accuracy": [0.8664, 0.8112, 0.9235], "cells": counts}
    (run / "metrics.json").write_text(json.dumps({"schema": 1, "targets": {}, "classification": scores}))
    about = json.loads((run / "run.json").read_text())
    about |= {"pipeline": "classify", "targets": ["happy"], "classes": "46 tracks are happy and 44 sad."}
    (run / "run.json").write_text(json.dumps(about))
    add_maps(run, list(tracks["track_id"]), ("happy",))
    return run


@pytest.fixture(scope="module")
def ratings(tmp_path_factory) -> tuple[Path, Path]:
    """(run, site) of ratings: three clips may be published, the others may not."""
    root = tmp_path_factory.mktemp("ratings")
    run = rating_run(root, [CC_BY, RENDERED, CC_BY, None])
    assert main(["site", "--run", str(run), "--out", str(root / "site")]) == 0
    return run, root / "site"


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("classes")
    assert main(["site", "--run", str(class_run(root)), "--out", str(root / "site")]) == 0
    return root / "site"


def pages(site: Path) -> dict[str, str]:
    found = {path.name: path.read_text(encoding="utf-8") for path in site.glob("*.html")}
    assert "index.html" in found and "licences.html" in found
    return found


class Elements(HTMLParser):
    """All start tags of a page with their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CC0 1.0", "CC0 (no rights reserved)"),
        ("Public Domain https://creativecommons.org/publicdomain/mark/1.0/", "Public domain"),
        (RENDERED, "Public-domain composition, sound made by this project"),
        ("CC-BY https://creativecommons.org/licenses/by/3.0/", "CC BY"),
        ("cc_by 4.0", "CC BY"),
        ("https://creativecommons.org/licenses/by-sa/4.0/", "CC BY-SA"),
        ("Creative Commons Attribution-ShareAlike 4.0", "CC BY-SA"),
        ("CC BY-NC 4.0", "CC BY-NC"),
        ("CC BY-NC-SA 4.0", "CC BY-NC-SA"),
    ],
)
def test_open_licences_are_published(text, name):
    terms = terms_of(text)
    assert (terms.publish, terms.name) == (True, name)
    assert ("commercial" in terms.said) == ("NC" in name)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "   ",
            None,
            float("nan"),
            "all rights reserved",
            "unknown",
            "not CC BY",
            "CC BYPASS",
            "CC BY NonCommercial ND",
        ),
        *(
            "CC BY-ND 4.0",
            "CC BY-NC-ND 3.0",
            "https://creativecommons.org/licenses/by-nc-nd/3.0/",
            "CC BY, no derivatives",
        ),
        *("CC BY https://creativecommons.org/licenses/by-nd/3.0/", "CC BY 3.0, all rights reserved"),
        *("Creative Commons Attribution-NonCommercial-NoDerivs", "composition in the public domain (published 1800)"),
        *("Public domain composition, recording by X", "public domain (c) 2010 X", "CC0 sleeve; © the band"),
    ],
)
def test_everything_else_is_not(text):
    terms = terms_of(text)
    assert not terms.publish and terms.said


def test_a_long_clip_is_cut_to_where_the_relevance_is():
    found = relevance_map(("valence",), duration_s=60.0)
    found.values[:] = 0
    found.values[0, 40:50] = 1.0  # 40 to 50 s
    start, end = excerpt_of(found, 15.0)
    assert start <= 40.0 and end >= 50.0 and end - start == 15.0
    short = relevance_map(("valence",), duration_s=7.25)
    assert excerpt_of(short, 15.0) == (0.0, 7.25)


def test_all_versions_of_a_clip_are_files_of_one_length_and_one_loudness(ratings):
    groups: dict[str, dict] = {}
    for path in (ratings[1] / "media").glob("*.mp3"):
        stem, version = path.stem.rsplit("-", 1)
        groups.setdefault(stem, {})[version] = decode(path.read_bytes())
    assert len(groups) == 6
    for versions in groups.values():
        assert set(versions) == {"original", "for", "against", "without"}
        assert {len(samples) for samples in versions.values()} == {int(SECONDS * 22050)}
        levels = [pyloudnorm.Meter(22050).integrated_loudness(samples) for samples in versions.values()]
        assert np.ptp(levels) < 0.5
        assert max(map(true_peak, versions.values())) < -0.99


def test_the_original_is_the_music_at_the_gain_that_is_told(ratings):
    run, site = ratings
    page = pages(site)["clip-0000.html"]
    gain = float(re.search(r"the music, ([+-][\d.]+) dB", page)[1])
    music, rate = soundfile.read(pd.read_parquet(run / "tracks.parquet")["path"][0], dtype="float32")
    published = decode(next((site / "media").glob("0000-1-original.mp3")).read_bytes())
    assert rate == 22050
    assert np.corrcoef(music, published)[0, 1] > 0.99
    assert 20 * np.log10(published.std() / music.std()) == pytest.approx(gain, abs=0.15)


def test_nothing_is_loaded_from_outside_and_every_page_says_so(ratings, classes):
    for site in (ratings[1], classes):
        for name, text in pages(site).items():
            elements = Elements(text).found
            policy = [a["content"] for tag, a in elements if a.get("http-equiv") == "Content-Security-Policy"]
            assert len(policy) == 1 and policy[0].startswith("default-src 'none'") and "unsafe" not in policy[0], name
            assert not [a for _, a in elements if "style" in a or any(key.startswith("on") for key in a)]
            for tag, attributes in elements:
                for key in ("src", "href", "srcset"):
                    address = attributes.get(key, "").partition("#")[0]
                    if tag == "a" and address.startswith("https://creativecommons.org/"):
                        continue
                    assert not re.match(r"\w+:|/", address), address
                    assert not address or (site / address).is_file(), address
        for path in (file for file in site.rglob("*") if file.suffix in (".css", ".js", ".yml", ".json")):
            assert not re.search(r"https?://|url\(|@import", path.read_text(encoding="utf-8")), path


def test_hostile_titles_are_shown_and_not_run(ratings):
    for text in pages(ratings[1]).values():
        assert "&lt;script&gt;alert(1)" in text
        assert not [tag for tag, a in Elements(text).found if tag == "script" and a.get("src") != "site.js"]
        assert "<b>" not in text


def test_no_page_names_a_place_on_this_machine(ratings):
    run, site = ratings
    for text in pages(site).values():
        assert str(run.parent.parent) not in text and "/tmp/" not in text


def test_a_clip_without_a_licence_is_named_but_not_published(ratings):
    _, site = ratings
    text = pages(site)["licences.html"]
    assert "21 tracks of this run" in text and "No licence is told" in text
    assert "chosen among the 3 of 4 explained clips" in pages(site)["index.html"].lower()
    assert not list((site / "media").glob("0003-*"))


def test_confusion_cells_have_their_counts_and_clips(classes):
    text = pages(classes)["index.html"]
    for words, count in (("Happy, heard as happy", 41), ("Sad, taken for happy", 7), ("Happy, taken for sad", 5)):
        cell = text.partition(f"<h3>{words}</h3>")[2].partition("</section>")[0]
        assert f"{count} clips of 90" in cell and cell.count('class="card"') == 1
    assert "87 %" in text and "81 % to 92 %" in text
    assert "over 99 % happy" in text


def test_numbers_of_a_clip_are_told(ratings):
    text = pages(ratings[1])["clip-0000.html"]
    assert "Not on the map: missing</th><td>+0.250 rating points" in text
    assert "Conservation error</th><td>2.0e-05" in text
    assert "LUFS" in text and "creativecommons.org/licenses/by/3.0/" in text and "Name the author" in text


def test_the_same_run_gives_the_same_bytes_and_a_site_is_replaced_whole(ratings, tmp_path):
    run, site = ratings
    first = {path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    again = tmp_path / "again"
    again.mkdir()
    assert main(["site", "--run", str(run), "--out", str(again)]) == 0
    assert {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()} == first
    (again / "clip-old.html").write_text("left over")
    (again / ".git").mkdir()
    (again / ".git" / "config").write_text("kept")
    assert main(["site", "--run", str(run), "--out", str(again), "--clips", "1"]) == 0
    assert not (again / "clip-old.html").exists() and (again / ".git" / "config").read_text() == "kept"
    assert len(list(again.glob("clip-*.html"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_a_folder_that_holds_something_else_is_left_alone(ratings, tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("mine")
    assert main(["site", "--run", str(ratings[0]), "--out", str(tmp_path)]) == 2
    assert "not a listening site" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    assert main(["site", "--run", str(ratings[0]), "--out", str(tmp_path / "letter.txt")]) == 2


@pytest.mark.parametrize("extra", [["--clips", "0"], ["--run", "no-such-run"]])
def test_mistakes_are_one_line(ratings, tmp_path, capsys, extra):
    assert main(["site", "--run", str(ratings[0]), "--out", str(tmp_path / "site"), *extra]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_run_without_maps_says_how_to_make_them(tmp_path, capsys):
    run = write_run(tmp_path, n=10, audio=0, explained=False)
    assert main(["site", "--run", str(run), "--out", str(tmp_path / "site")]) == 2
    assert "python -m pipelines explain --run demo-extra-trees --method lrp" in capsys.readouterr().err


def test_nothing_publishable_gives_a_silent_site_that_says_so(tmp_path, capsys):
    run = rating_run(tmp_path, [None, "all rights reserved"])
    assert main(["site", "--run", str(run), "--out", str(tmp_path / "site")]) == 0
    assert "no clip can be heard" in capsys.readouterr().out
    site = tmp_path / "site"
    assert not list(site.rglob("*.mp3")) and "None of these clips can be heard" in pages(site)["index.html"]
    assert "none of those known to allow publishing" in pages(site)["clip-0001.html"]


def test_audio_that_is_gone_or_silent_is_told_on_its_page(tmp_path):
    run = rating_run(tmp_path, [RENDERED, RENDERED])
    first, second = pd.read_parquet(run / "tracks.parquet")["path"][:2]
    Path(first).unlink()
    soundfile.write(second, np.zeros(int(SECONDS * 22050)), 22050)
    assert main(["site", "--run", str(run), "--out", str(tmp_path / "site")]) == 0
    found = pages(tmp_path / "site")
    assert "could not be read" in found["clip-0000.html"] and str(tmp_path) not in found["clip-0000.html"]
    assert "silent" in found["clip-0001.html"]
    assert "<audio" not in "".join(found.values())


def test_twelve_clips_stay_below_twelve_megabytes(ratings):
    """One second of all files of a reading, scaled to twelve full excerpts."""
    media = list((ratings[1] / "media").iterdir())
    readings = len(list((ratings[1] / "media").glob("*-light.png")))
    sound = sum(path.stat().st_size for path in media if path.suffix == ".mp3") / readings / SECONDS
    for count in (12, 24):
        assert count * excerpt_length(count) * sound < 8.4e6  # leaves 150 kB for the two pictures of each


def wait_for(page, condition: str) -> None:
    """Ask again until it is true; playwright's own waiting needs `eval`, which the pages forbid."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    pytest.fail(f"not true within 5 s: {condition}")


def test_licences_of_own_files_are_read_from_the_text_beside_them(tmp_path):
    for name in ("b_song", "c", "d", "e"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(100), 22050)
    (tmp_path / "b_song.txt").write_text(
        "Let's Go by Ann Other is licensed under a Creative Commons Attribution License.\n"
        "From: https://example.org/song\nCC-BY https://creativecommons.org/licenses/by/3.0/\n"
    )
    (tmp_path / "c.txt").write_text("CC BY 3.0 for the cover\nCC BY-ND 4.0 for the music\n")
    (tmp_path / "d.txt").write_text("La la la, these are the words")
    song, two, words, bare = find_songs([str(tmp_path)])
    assert (song.title, song.author, song.source) == ("Let's Go", "Ann Other", "https://example.org/song")
    assert terms_of(song.licence).name == "CC BY" and "licenses/by/3.0" in song.licence
    assert [terms_of(each.licence).publish for each in (two, words, bare)] == [False] * 3
    assert (bare.title, bare.licence) == ("e", "")


def test_a_table_of_own_files_names_none_outside_its_folder(tmp_path):
    folder = tmp_path / "songs"
    folder.mkdir()
    (folder / "tracks.csv").write_text("path,title,artist,licence\na.wav,Song,Ann,CC0\n")
    assert [(s.path, s.title, s.author, s.licence) for s in find_songs([str(folder)])] == [
        (folder / "a.wav", "Song", "Ann", "CC0")
    ]
    (folder / "tracks.csv").write_text("path,licence\n../private.wav,CC0\n")
    with pytest.raises(UserError, match="outside of the folder"):
        find_songs([str(folder)])
    with pytest.raises(UserError, match="does not exist"):
        find_songs([str(tmp_path / "none.wav")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no audio"):
        find_songs([str(tmp_path / "empty")])


def test_a_song_of_ones_own_has_a_reading_of_each_target_without_reference(ratings, tmp_path):
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    widths = {"interval_halfwidth": {"valence": 0.5, "arousal": 99.0}}
    (run / "model" / "model.json").write_text(json.dumps(widths))
    song = Song(tmp_path / "a.wav", "A", "Ann", CC_BY, "")
    found = relevance_map(("valence", "arousal"))
    clip = clip_of(Run("r", run, {"dataset": {"scale": [1.0, 9.0]}}), song, found)
    valence, arousal = clip.readings
    assert valence.upper - valence.lower == pytest.approx(1.0) and valence.reference is None
    assert (arousal.lower, arousal.upper) == (1.0, 9.0)
    assert clip.terms.publish and clip.load("arousal").targets == ("arousal",)
    assert clip.load("arousal").gap() == pytest.approx(found.gap()[[1]])
    assert np.array_equal(clip.load("arousal").values[0], found.values[1])


def test_files_need_a_model_that_relevance_explains(capsys, tmp_path):
    run = write_run(tmp_path, n=10, audio=0, explained=False)
    about = json.loads((run / "run.json").read_text())
    about["config"]["protocol"] = "grouped-5fold"
    (run / "run.json").write_text(json.dumps(about))
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 22050)
    assert main(["site", "--run", str(run), "--files", str(tmp_path), "--out", str(tmp_path / "site")]) == 2
    assert "lrp explains" in capsys.readouterr().err


@pytest.mark.browser
@pytest.mark.parametrize("options", [{}, {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}])
def test_pages_work_from_a_disk(classes, ratings, watched_page, options):
    for site in (classes, ratings[1]):
        with watched_page((site / "index.html").as_uri(), **options) as (page, problems):
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            # Going to the next page aborts what is still being fetched; a file that is missing fails otherwise.
            page.on(
                "requestfailed",
                lambda request, problems=problems: (
                    problems.append(f"{request.failure}: {request.url}") if "ABORTED" not in request.failure else None
                ),
            )
            for name in ("index.html", "licences.html", "clip-0001.html"):
                page.goto((site / name).as_uri())
                page.evaluate("document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; })")
                wait_for(page, "[...document.images].every(i => i.complete && i.naturalWidth > 0)")
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            wait_for(page, "[...document.querySelectorAll('audio')].every(a => a.readyState > 0)")
            lengths = page.locator("audio").evaluate_all("all => all.map(a => a.duration)")
            assert len(lengths) >= 4 and np.ptp(lengths) < 1e-6 and abs(lengths[0] - SECONDS) < 0.06
            player = page.locator("figure.listening").first
            player.press("b")
            player.press(" ")
            wait_for(page, "document.querySelectorAll('audio')[1].currentTime > 0.2")
            assert all(url.startswith(site.as_uri()) for url in asked) and asked


@pytest.mark.browser
def test_pages_work_without_a_script(classes, chromium):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((classes / "index.html").as_uri())
    page.locator("a.card").first.click()
    expect(page.locator("audio[controls]")).to_have_count(4)
    assert page.locator("audio[controls]").nth(3).is_visible()
    context.close()
