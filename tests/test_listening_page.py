"""The Listening page: cells, examples, what is heard, and what is said where nothing can be heard."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from fixture_runs import about, write_job, write_json
from playwright.sync_api import expect
from streamlit.testing.v1 import AppTest

from mer_core.evaluate.classification import cells_of, classification_scores, examples, reliability
from mer_core.explain.levels import loudness, true_peak
from mer_core.explain.maps import RelevanceMap, write_maps
from mer_core.runs import read_run

APP = str(Path(__file__).resolve().parent.parent / "app.py")
RATE, SECONDS = 22050, 4
BANDS = np.geomspace(60, 9000, 24)


def music(track: int) -> np.ndarray:
    """A low tone that beats and a high one that does not."""
    time = np.arange(RATE * SECONDS) / RATE
    beat = 0.6 + 0.4 * np.cos(2 * np.pi * time)
    return 0.2 * beat * np.sin(2 * np.pi * (200 + 20 * track) * time) + 0.1 * np.sin(2 * np.pi * 2000 * time)


def relevance(sign: str, track: int) -> RelevanceMap:
    """Warm at the low tone and cool at the high one; or all warm, all cool, or all where there is no music."""
    values = np.zeros((1, 60, len(BANDS)), np.float32)
    low, high = (int(np.abs(BANDS - tone).argmin()) for tone in (200 + 20 * track, 2000))
    values[0][:, low] = -0.02 if sign == "against" else 0.02
    values[0][:, high] = 0.0 if sign in ("for", "against") else -0.02
    if sign == "edge":
        values[:] = 0
        values[0][:, -1] = 0.02
    total = float(values.sum())
    return RelevanceMap(
        values=values,
        seconds=np.linspace(0, SECONDS, 60),
        band_hz=BANDS,
        edges_hz=(50.0, 10000.0),
        targets=("happy",),
        base=np.array([-1.0]),
        predicted=np.array([total - 0.5]),
        remainder=np.array([[0.5], [0.0], [0.0], [0.0]]),
        conservation_error=np.array([1e-7]),
        rule="gamma-silence",
        reference="mean prediction of the training tracks",
        heard_s=float(SECONDS),
        duration_s=float(SECONDS),
    )


def write_classifier(root: Path, run_id: str = "happy-sad", explained: bool = True) -> Path:
    """A run as `classify` writes it: 24 tracks, examples with sound and maps of all kinds."""
    folder = root / "runs" / run_id
    folder.mkdir(parents=True)
    (root / "audio").mkdir(exist_ok=True)
    rng = np.random.default_rng(3)
    ids = [f"c{k:02}" for k in range(24)]
    true = pd.Series(np.arange(24) % 2, index=ids)
    probability = pd.Series(np.clip(0.5 + (true - 0.5) * 0.5 + rng.normal(0, 0.3, 24), 0.0002, 0.9998), index=ids)
    groups = np.array([f"g{k // 3}" for k in range(24)])
    chosen = examples(true, probability)
    table = pd.DataFrame({"track_id": ids, "path": [str(root / "audio" / f"{track}.wav") for track in ids]})
    table["valence"], table["group"], table["fold"] = np.where(true, 7.2, 2.4), groups, 0
    table = table.assign(true=true.to_numpy(), probability=probability.to_numpy(), score=0.0)
    table.assign(cell=cells_of(true.to_numpy(), probability.to_numpy())).to_parquet(folder / "classes.parquet")
    chosen.to_parquet(folder / "examples.parquet")
    reliability(true.to_numpy(), probability.to_numpy()).to_parquet(folder / "reliability.parquet")
    scores = classification_scores(true.to_numpy(), probability.to_numpy(), groups, 50)
    write_json(
        folder / "metrics.json",
        {"schema": 1, "protocol": "grouped-5fold", "targets": {}, "classification": scores},
    )
    described = about(run_id, 24, 200, "linear head", False, "2026-11-20T10:00:00+00:00", "tiny")
    described |= {"pipeline": "classify", "targets": ["happy"], "classes": "12 tracks are happy and 12 sad."}
    described |= {"weights": [{"name": "musicnn-msd", "source": "package"}]}
    write_json(folder / "run.json", described)
    kinds = ["both", "for", "against", "edge", "silence", "gone"]
    tracks = list(chosen["track_id"])
    for number, track in enumerate(tracks):
        kind = kinds[number] if number < len(kinds) else "both"
        if kind != "gone":
            sound = music(number) * (kind != "silence")
            soundfile.write(root / "audio" / f"{track}.wav", sound, RATE)
    if explained:
        maps = [(track, relevance(kinds[n] if n < len(kinds) else "both", n)) for n, track in enumerate(tracks[:-1])]
        further = next(track for track in ids if track not in tracks)
        soundfile.write(root / "audio" / f"{further}.wav", music(0), RATE)
        told = {"backbone": "musicnn-msd", "failures": [(ids[-1], "it is cursed")]}
        write_maps(folder / "explanations" / "lrp", [*maps, (further, relevance("both", 0))], told)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("listening")
    folder = write_classifier(root)
    return root, list(pd.read_parquet(folder / "examples.parquet")["track_id"])


@pytest.fixture
def root(made, monkeypatch):
    monkeypatch.setenv("MER_ARTIFACTS", str(made[0]))
    return made


def shown(**query: str) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=60)
    app.switch_page("pages/listening.py")
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def text_of(app: AppTest) -> str:
    kinds = ("title", "subheader", "markdown", "caption", "warning", "error", "info", "code")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(app, kind))


def test_cells_are_counted_and_examples_named_by_rule(root):
    app = shown()
    assert not app.exception and not app.error
    said, counts = text_of(app), json.loads((root[0] / "runs/happy-sad/metrics.json").read_text())["classification"]
    for cell, words in {"happy-sad": "Happy, taken for sad", "sad-sad": "Sad, heard as sad"}.items():
        count = counts["cells"][cell]
        assert f"**{words}**: {count} clip{'' if count == 1 else 's'}" in said
    assert f"**{counts['balanced_accuracy'][0]:.0%}**" in said and "How to read this" in said
    assert "faithfulness not measured yet" in said and "Conservation error: 1.0e-07" in said
    labels = [button.label for button in app.button]
    assert [f"most confident: {root[1][0]}" in labels, f"median: {root[1][1]}" in labels] == [True, True]
    next(button for button in app.button if button.label.endswith(root[1][1])).click().run()
    assert app.query_params["example"] == root[1][1] and root[1][1] in [each.value for each in app.subheader]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "“Evidence against” cannot be heard: nothing lowered the prediction"),
        (2, "“Evidence for” cannot be heard: nothing raised the prediction"),
        (3, "artefact at the edge"),
        (4, "the clip is silent"),
        (5, "The audio file is not there any more"),
        (-1, "its relevance map is missing"),
    ],
)
def test_what_cannot_be_heard_or_believed_is_said(root, number, words):
    app = shown(example=root[1][number])
    assert not app.exception and not app.error
    assert words in text_of(app)
    first = text_of(shown(example=root[1][0]))
    assert words not in first


def test_a_map_that_is_missing_has_a_button_and_a_command(root):
    app = shown(example=root[1][-1])
    assert "python -m pipelines explain --run happy-sad --method lrp" in text_of(app)
    assert "Make its map" in [button.label for button in app.button]


def test_other_clips_with_a_map_can_be_chosen_too(root):
    run = read_run("happy-sad")
    further = [track for track in run.relevance_tracks() if track not in root[1]]
    app = shown()
    box = next(box for box in app.selectbox if "other clip" in box.label)
    assert len(further) == 1 and len(box.options) == 1 and box.options[0].startswith(further[0])
    box.set_value(further[0]).run()
    assert app.query_params["example"] == further[0] and further[0] in [each.value for each in app.subheader]
    said = text_of(app)
    assert "Conservation error" in said and "example of its cell" not in said
    next(button for button in app.button if button.label.endswith(root[1][0])).click().run()
    assert root[1][0] in [each.value for each in app.subheader] and "example of its cell" in text_of(app)


def test_why_there_is_no_map_is_said(root, tmp_path, monkeypatch):
    app = shown(example="c23")
    assert "The reasons for this prediction cannot be heard: it is cursed" in text_of(app)
    assert "Make its map" not in [button.label for button in app.button]
    folder = write_classifier(tmp_path, explained=False)
    about = json.loads((folder / "run.json").read_text())
    taught = {"tracks": 1224, "groups": 306, "dataset": "composed", "note": "one rule"}
    about |= {"pretrained": taught, "weights": None, "model": "vit", "features": about["features"] | {"name": "vit"}}
    write_json(folder / "run.json", about)
    monkeypatch.setenv("MER_ARTIFACTS", str(tmp_path))
    said = text_of(shown())
    assert "1224 clips of 306 other pieces or albums (composed; one rule)" in said
    assert "kept no networks" in said and "classify --network vit" in said and "linear model" not in said
    (folder / "model").mkdir()
    write_json(folder / "model" / "network.json", {})
    assert "Make its map" in [button.label for button in shown().button]


def test_unknown_names_in_the_address_are_said(root):
    app = shown(example="c99")
    assert not app.exception and any("no clip “c99”" in warning.value for warning in app.warning)
    app = shown(classifier="happy-sat")
    assert not app.exception and "happy-sad" in [button.label for button in app.button]


def test_without_a_classifier_the_page_says_what_to_do(artifacts):
    app = shown()
    assert not app.exception and "python -m pipelines classify --dataset demo" in text_of(app)
    assert "Classify the demo music" in [button.label for button in app.button]
    write_job(artifacts, "job-1", "failed", "demo cannot be composed")
    status = artifacts / "jobs" / "job-1" / "status.json"
    write_json(status, json.loads(status.read_text()) | {"pipeline": "classify"})
    assert "The last attempt failed" in text_of(shown())


@pytest.mark.browser
def test_versions_differ_are_equally_loud_and_keep_the_position(serve, made, watched_page):
    address = f"/listening?classifier=happy-sad&example={made[1][0]}"
    with serve(made[0]) as url, watched_page(url + address) as (page, problems):
        player = page.locator("figure.listening")
        expect(player.locator(".choices button")).to_have_count(4)
        sources = player.locator("audio").evaluate_all("players => players.map(audio => audio.src)")
        sounds = [soundfile.read(io.BytesIO(page.request.get(source).body())) for source in sources]
        assert {(len(samples), rate) for samples, rate in sounds} == {(RATE * SECONDS, RATE)}
        loud = [loudness(samples.T, rate) for samples, rate in sounds]
        assert max(loud) - min(loud) < 0.5
        assert max(true_peak(samples.T) for samples, _ in sounds) < -0.99
        low = [energy_below(samples[:, 0], 1000) for samples, _ in sounds]
        assert low[1] > 0.99 and low[2] < 0.01 and low[3] < low[0] < low[1]
        player.press(" ")
        wait_until(player, 0, "audio.currentTime > 0.4")
        player.press("b")
        wait_until(player, 1, "!audio.paused && audio.currentTime > 0.35")
        paused = player.locator("audio").evaluate_all("players => players.map(audio => audio.paused)")
        assert paused == [True, False, True, True]
        expect(player.locator(".said")).to_contain_text("Evidence for: only what speaks for happy")
        box = player.locator(".map").bounding_box()
        player.locator(".map").click(position={"x": box["width"] * 0.75, "y": 20})
        wait_until(player, 1, "audio.currentTime > 2.9")
        player.press(" ")
        problems[:] = [problem for problem in problems if "404" not in problem]


def energy_below(samples: np.ndarray, hertz: float) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    return float(power[np.fft.rfftfreq(len(samples), 1 / RATE) < hertz].sum() / power.sum())


def wait_until(player, index: int, condition: str) -> None:
    audio = player.locator("audio").nth(index)
    for _ in range(100):
        if audio.evaluate(f"audio => {condition}"):
            return
        player.page.wait_for_timeout(50)
    pytest.fail(f"player {index} never has {condition}")
