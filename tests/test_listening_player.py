"""The listening player: plain HTML without a script, one transport with it, in the app and from a file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from mer_core.listening import SCRIPT, STYLE, Heat, Version, markup
from mer_core.plots.heat import axis_labels, heat_picture

HERE = Path(__file__).parent


def test_markup_escapes_what_users_wrote():
    html = markup('a "b" <c>', [Version("<i>", "x & y", "a.flac")], Heat('m".png', "<map>"))
    assert "<c>" not in html and "<i>" not in html and "<map>" not in html
    assert "x &amp; y" in html and 'src="a.flac"' in html


def test_warm_is_for_and_cool_is_against_and_low_bands_are_at_the_bottom():
    relevance = np.zeros((4, 3))
    relevance[1, 0], relevance[2, 2] = 1.0, -1.0
    pixels = np.asarray(Image.open(__import__("io").BytesIO(heat_picture(relevance))).convert("RGB")).astype(int)
    assert pixels.shape == (3, 4, 3)
    red, _, blue = pixels[2, 1]  # lowest band, second frame
    assert red > blue + 100
    red, _, blue = pixels[0, 2]  # highest band, third frame
    assert blue > red + 100
    assert (pixels[1, 0] == 255).all()


def test_axis_labels_go_from_the_first_value_to_the_last():
    assert axis_labels(np.array([8000.0, 4000.0, 50.0]), 3, "Hz") == ("8.0 kHz", "4.0 kHz", "50 Hz")


def sounding(page) -> list[bool]:
    return page.locator("audio").evaluate_all("players => players.map(audio => !audio.paused)")


def wait_until(page, index: int, seconds: float) -> None:
    for _ in range(100):
        if page.locator("audio").nth(index).evaluate("audio => audio.currentTime") > seconds:
            return
        page.wait_for_timeout(50)
    pytest.fail(f"player {index} does not get to {seconds} s")


@pytest.mark.browser
def test_one_transport_keeps_position_and_plays_one_at_a_time(serve, tmp_path, watched_page):
    with serve(tmp_path, script=HERE / "listening_app.py") as url, watched_page(url) as (page, problems):
        first, second = page.locator("figure.listening").nth(0), page.locator("figure.listening").nth(1)
        first.get_by_role("button", name="Play Original").click()
        wait_until(page, 0, 0.5)
        first.press("c")
        expect(first.locator(".said")).to_have_text("Without it: 660 Hz, +3.0 dB")
        assert page.locator("audio").nth(2).evaluate("audio => audio.currentTime") > 0.4  # where the other one was
        assert sounding(page) == [False, False, True, False, False, False]
        second.get_by_role("button", name="Play Original").click()
        wait_until(page, 3, 0.1)
        assert sounding(page) == [False, False, False, True, False, False]
        box = second.locator(".map").bounding_box()
        second.locator(".map").click(position={"x": box["width"] / 2, "y": box["height"] / 2})
        wait_until(page, 3, 2.9)
        second.press(" ")
        assert sounding(page) == [False] * 6
        share = page.locator("audio").nth(3).evaluate("audio => audio.currentTime / audio.duration")
        cursor = second.locator(".cursor").bounding_box()
        assert abs(cursor["x"] - box["x"] - box["width"] * share) < 5
        assert not [problem for problem in problems if "404" not in problem]
        problems.clear()


@pytest.mark.browser
@pytest.mark.parametrize("script", [True, False])
def test_a_file_plays_with_and_without_a_script(chromium, tmp_path, script):
    from listening_app import tone

    versions = []
    for k in (1, 2):
        (tmp_path / f"{k}.flac").write_bytes(tone(220.0 * k))
        versions.append(Version(f"Version {k}", "as it is", f"{k}.flac"))
    (tmp_path / "page.js").write_text(SCRIPT + "document.querySelectorAll('.listening').forEach(listeningPlayer);")
    (tmp_path / "page.css").write_text(STYLE)
    policy = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'self'; script-src 'self'"
    (tmp_path / "page.html").write_text(
        f'<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<link rel="stylesheet" href="page.css">{markup("a clip", versions)}<script src="page.js"></script>'
    )
    context = chromium.new_context(java_script_enabled=script)
    page = context.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto((tmp_path / "page.html").as_uri())
    controls = page.locator("audio[controls]")
    if script:
        page.locator("figure.listening").press("b")
        page.locator("figure.listening").press(" ")
        expect(page.locator("figure.listening .time")).to_have_text("0:01 / 0:06")
        expect(controls).to_have_count(0)
    else:
        expect(controls).to_have_count(2)
        assert controls.first.is_visible()
    assert not said
    context.close()
