"""What only a browser can tell: deep links, clicks on points, sound, live jobs, both themes, narrow screens.

One server serves all tests. Streamlit's client asks for its server below the page's own address first; those answers
(404) are no fault of ours and are left out of the problems a page may not have.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import FINISHED
from fixture_runs import write_run
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

PROBE = "console: Failed to load resource: the server responded with a status of 404 (Not Found)"
PROBES_A_PAGE = 2
DEEP_LINKS = {  # the first one is also the first request that the fresh server answers
    "/track?run=demo-ridge&track=0007&target=arousal": "What moved its arousal?",
    "/?run=demo-ridge&track=0007": "Pick a clip, hear it, see why",
    "/dataset?run=demo-ridge&track=0007": "How much do listeners agree?",
    "/models?run=demo-ridge&target=arousal": "Where does it fail?",
    "/importance?run=demo-ridge&target=arousal&level=descriptors": "Which properties of the sound",
    "/runs?pipeline=explain&run=demo-ridge": "python -m pipelines explain",
}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def site(serve, tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    write_run(root)
    write_run(root, "demo-ridge", model="ridge", skill=0.5, started="2026-11-19T10:00:00+00:00")
    with serve(root) as url:
        yield url, root


@pytest.fixture
def opened(watched_page):
    @contextmanager
    def open_page(url: str, **options):
        with watched_page(url, **options) as (page, problems):
            page.set_default_timeout(15_000)
            yield page
            settled(page)
            assert problems.count(PROBE) <= PROBES_A_PAGE
            problems[:] = [problem for problem in problems if problem != PROBE]

    return open_page


def settled(page) -> None:
    page.wait_for_timeout(150)
    page.wait_for_selector(FINISHED, timeout=20_000)


def audio_state(audio) -> tuple[float, float, bool]:
    return tuple(audio.evaluate("a => [a.duration || 0, a.currentTime, a.paused]"))


def wait_for_duration(page, audio) -> float:
    for _ in range(50):
        if audio.count() and (duration := audio_state(audio)[0]) > 0:
            return duration
        page.wait_for_timeout(100)
    raise AssertionError("the audio element has no duration after 5 s")


def too_wide(page) -> bool:
    return page.evaluate(
        "(() => { const main = document.querySelector('[data-testid=stMain]');"
        " return document.documentElement.scrollWidth > innerWidth || main.scrollWidth > main.clientWidth; })()"
    )


@pytest.mark.parametrize(("address", "shows"), DEEP_LINKS.items(), ids=lambda value: value.split("?")[0])
def test_cold_deep_link(site, opened, address, shows):
    url, _ = site
    with opened(url + address) as page:
        expect(page.get_by_text(shows).first).to_be_visible()
        if "track=0007" in address:
            expect(page.get_by_text("0007 · Chorale 1, version 3").first).to_be_visible()
        if not address.startswith("/runs"):
            expect(page.get_by_text("run demo-ridge").first).to_be_visible()
        assert page.get_by_test_id("stSidebarNav").count() == 0


def test_clicking_a_point_selects_its_track_and_plays(site, opened):
    url, root = site
    tracks = pd.read_parquet(root / "runs" / "demo-extra-trees" / "tracks.parquet")
    place = tracks[["valence", "arousal"]].to_numpy()
    apart = np.sort(np.hypot(*(place[:, None] - place[None]).transpose(2, 0, 1)), axis=1)[:12, 1]
    chosen = int(apart.argmax())
    with opened(f"{url}/dataset?track=0001") as page:
        point = page.locator(".scatterlayer .trace .points path").nth(chosen)
        point.scroll_into_view_if_needed()
        box = point.bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        expect(page.get_by_text(f"{chosen:04d} · Chorale").first).to_be_visible()
        expect(page).to_have_url(re.compile(f"track={chosen:04d}"))
        audio = page.get_by_test_id("player-audio")
        assert wait_for_duration(page, audio) == pytest.approx(3.0, abs=0.1)
        page.get_by_role("button", name=re.compile("^Play ")).click()
        page.wait_for_timeout(600)
        _, position, paused = audio_state(audio)
        assert position > 0.1 and not paused
        page.get_by_role("link", name="Why does the model hear it that way?").click()
        expect(page.get_by_role("heading", name="Track", exact=True)).to_be_visible()
        expect(page).to_have_url(re.compile(f"/track.*track={chosen:04d}"))
        expect(page.get_by_role("heading", name=re.compile(f"{chosen:04d} · "))).to_be_visible()


def test_one_player_at_a_time_and_its_keys(site, opened):
    url, _ = site
    with opened(f"{url}/track?run=demo-extra-trees&track=0002") as page:
        expect(page.get_by_text("What sounds alike to the model?")).to_be_visible()
        first, second = page.get_by_test_id("player-audio").nth(0), page.get_by_test_id("player-audio").nth(1)
        wait_for_duration(page, first)
        wait_for_duration(page, second)
        first.evaluate("a => a.play()")
        page.wait_for_timeout(200)
        second.evaluate("a => a.play()")
        page.wait_for_timeout(200)
        assert audio_state(first)[2] and not audio_state(second)[2]
        player = page.get_by_label("Audio player").nth(1)
        player.press("Space")
        assert audio_state(second)[2]
        second.evaluate("a => { a.currentTime = 0 }")
        player.press("ArrowRight")
        assert audio_state(second)[1] == pytest.approx(2.0, abs=0.1)
        before = second.get_attribute("src")
        player.press("ArrowDown")
        assert second.get_attribute("src") != before
        expect(page.get_by_text(re.compile("−?[0-9.]+ dB")).first).to_be_visible()


def test_a_rerun_does_not_stop_the_music(site, opened):
    url, _ = site
    with opened(f"{url}/track?run=demo-extra-trees&track=0002") as page:
        audio = page.get_by_test_id("player-audio").first
        wait_for_duration(page, audio)
        audio.evaluate("a => { a.loop = true; return a.play(); }")
        page.get_by_text("statistics", exact=True).click()
        settled(page)
        page.wait_for_timeout(300)
        assert not audio_state(audio)[2]


def test_a_job_that_fails_says_why(site, opened):
    url, root = site
    with opened(f"{url}/runs?pipeline=train") as page:
        page.get_by_role("textbox", name="Dataset").fill("no-such-folder")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_text(re.compile("train failed")).first).to_be_visible(timeout=40_000)
        expect(page.get_by_text("no-such-folder").first).to_be_visible()
        expect(page.get_by_text("python -m pipelines train --dataset no-such-folder").first).to_be_visible()


def test_a_job_is_watched_until_its_run_can_be_opened(site, opened, tmp_path):
    url, _ = site
    table = small_corpus(tmp_path)
    with opened(f"{url}/runs?pipeline=train") as page:
        page.get_by_role("textbox", name="Dataset").fill(str(tmp_path))
        page.get_by_role("textbox", name="Features").fill(str(table))
        page.get_by_text("More options").click()
        page.get_by_role("spinbutton", name="Resamples").fill("20")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_text("last sign of life").first).to_be_visible(timeout=15_000)
        expect(page.get_by_text("train finished").first).to_be_visible(timeout=60_000)
        page.get_by_role("link", name=re.compile("^.*Open ")).first.click()
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        expect(page.get_by_text("only 30 tracks").filter(visible=True).first).to_be_visible()


def small_corpus(folder: Path) -> Path:
    """Thirty rated tracks without audio, and a table of six features of theirs."""
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.normal(size=(30, 6)), columns=[f"f{i}" for i in range(6)])
    features.insert(0, "track_id", [f"t{i:02d}" for i in range(30)])
    ratings = (5 + features[["f0", "f1"]].to_numpy()).clip(1, 9)
    tracks = pd.DataFrame(
        {"track_id": features["track_id"], "path": "", "valence": ratings[:, 0], "arousal": ratings[:, 1]}
    )
    tracks.assign(group=[f"g{i // 3}" for i in range(30)]).to_csv(folder / "tracks.csv", index=False)
    features.to_csv(folder / "features.csv", index=False)
    return folder / "features.csv"


@pytest.mark.parametrize("page_name", ["", "dataset", "models", "importance", "track", "runs"])
def test_dark_and_narrow(site, opened, page_name):
    url, _ = site
    with opened(f"{url}/{page_name}", color_scheme="dark", viewport=PHONE) as page:
        settled(page)
        ground = page.get_by_test_id("stApp").evaluate("a => getComputedStyle(a).backgroundColor")
        assert max(map(int, re.findall(r"\d+", ground)[:3])) < 60
        assert not too_wide(page)
