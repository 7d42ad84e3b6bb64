"""Every page with finished runs, with none, with a damaged one, and with addresses that name what does not exist."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fixture_runs import make_holdout, write_job, write_run
from streamlit.testing.v1 import AppTest

from mer_core import plots
from ui import data, selection, words

APP = str(Path(__file__).resolve().parent.parent / "app.py")
PAGES = ("app.py", "pages/dataset.py", "pages/models.py", "pages/importance.py", "pages/track.py", "pages/runs.py")
ABOUT_A_RUN = PAGES[:-1]


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("two-runs")
    write_run(root)
    write_run(root, "demo-ridge", model="ridge", skill=0.2, explained=False, started="2026-11-19T10:00:00+00:00")
    write_job(root, "job-1", "failed", "--targets joy: not rated in demo; choose from valence, arousal")
    return root


@pytest.fixture
def runs(two_runs, monkeypatch) -> Path:
    monkeypatch.setenv("MER_ARTIFACTS", str(two_runs))
    return two_runs


def shown(page: str, **query: str) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=60)
    if page != "app.py":
        app.switch_page(page)
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def text_of(app: AppTest) -> str:
    kinds = ("title", "subheader", "markdown", "caption", "warning", "error", "info", "success", "code")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(app, kind))


def box(app: AppTest, key: str):
    return next(element for element in app.selectbox if element.key == key)


@pytest.mark.parametrize("page", PAGES)
def test_page_shows_a_run(runs, page):
    app = shown(page)
    assert not app.exception and not app.error
    assert len(app.title) == 1
    if page in ABOUT_A_RUN:
        said = text_of(app)
        assert "demo-extra-trees" in said and "split 0123456789ab" in said and "How to read this" in said
        assert "synthetic data" in said and "only 48 tracks" in said


@pytest.mark.parametrize("page", ABOUT_A_RUN)
def test_page_without_runs_says_what_to_do(artifacts, page):
    app = shown(page)
    assert not app.exception
    assert "No runs yet" in text_of(app) and "python -m pipelines demo" in text_of(app)
    assert any(button.label == "Make the demo runs" for button in app.button)


def test_runs_page_without_runs(artifacts):
    app = shown("pages/runs.py")
    assert not app.exception and "No jobs yet." in text_of(app)
    assert app.selectbox[0].value == "demo"


@pytest.mark.parametrize("page", ABOUT_A_RUN)
def test_page_watches_the_first_run_being_made(artifacts, page):
    write_job(artifacts, "job-2", "running", "composing clip 12 of 192")
    said = text_of(shown(page))
    assert "The first run is being made" in said


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "damage", ["run.json", "metrics.json", "predictions.parquet", "tracks.parquet", "explanation.json"]
)
def test_a_damaged_run_is_named_and_harms_no_other(two_runs, tmp_path, monkeypatch, page, damage):
    root = tmp_path / "artifacts"
    shutil.copytree(two_runs, root)
    victim = next((root / "runs" / "demo-extra-trees").rglob(damage))
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 3])
    monkeypatch.setenv("MER_ARTIFACTS", str(root))
    app = shown(page)
    assert not app.exception
    if damage in ("run.json", "metrics.json") and page in ("app.py", "pages/runs.py"):
        assert "1 run folder cannot be read" in [expander.label for expander in app.expander]
    if damage.endswith(".parquet") and page in ABOUT_A_RUN:
        assert any("cannot be read" in error.value for error in app.error)
    assert not shown(page, run="demo-ridge").exception


@pytest.mark.parametrize("page", ABOUT_A_RUN)
def test_unknown_run_is_said_and_not_exchanged(runs, page):
    app = shown(page, run="demo-extra-tree")
    assert not app.exception
    assert box(app, "run").value is None
    assert any("demo-extra-tree” here" in warning.value for warning in app.warning)
    near = next(button for button in app.button if button.label == "demo-extra-trees")
    near.click().run()
    assert box(app, "run").value == "demo-extra-trees" and not app.warning


@pytest.mark.parametrize("page", ["app.py", "pages/dataset.py", "pages/track.py"])
def test_unknown_track_offers_the_nearest(runs, page):
    app = shown(page, track="0099")
    assert not app.exception and box(app, "track").value is None
    assert any("no track “0099”" in warning.value for warning in app.warning)
    assert "0047" in [button.label for button in app.button]


@pytest.mark.parametrize("page", ["pages/models.py", "pages/importance.py", "pages/track.py"])
def test_unknown_target_is_said(runs, page):
    app = shown(page, target="joy")
    assert not app.exception and box(app, "target").value is None
    assert any("no target “joy”" in warning.value for warning in app.warning)


def test_unknown_level_is_said(runs):
    assert any("“loudness” is not a choice" in w.value for w in shown("pages/importance.py", level="loudness").warning)


@pytest.mark.parametrize("page", ABOUT_A_RUN)
def test_deep_link_chooses_the_run(runs, page):
    app = shown(page, run="demo-ridge")
    assert not app.exception and box(app, "run").value == "demo-ridge"
    assert "run demo-ridge" in text_of(app)


def test_deep_link_chooses_track_and_target(runs):
    app = shown("pages/track.py", run="demo-extra-trees", track="0031", target="arousal", level="single columns")
    assert not app.exception
    assert app.subheader[0].value == "0031 · Chorale 7, version 3"
    assert "What moved its arousal?" in text_of(app)
    next_button = next(button for button in app.button if button.label == "Next")
    next_button.click().run()
    assert box(app, "track").value == "0032"


def test_a_clicked_point_selects_its_track(runs):
    app = shown("pages/dataset.py")
    app.session_state["ratings"] = {"selection": {"points": [{"customdata": ["0012"]}]}}
    assert selection.clicked(app.session_state["ratings"]) == ["0012"]


def test_selected_dots_become_the_list(runs):
    app = AppTest.from_file(APP, default_timeout=60)
    app.switch_page("pages/models.py")
    points = [{"customdata": "0003"}, {"customdata": ["0007"]}]
    app.session_state["scatter"] = {"selection": {"points": points, "point_indices": [], "box": [], "lasso": []}}
    app.run()
    assert "##### 2 selected tracks" in text_of(app)
    listed = next(frame.value for frame in app.dataframe if "error" in frame.value)
    assert set(listed["track"].str[:4]) == {"0003", "0007"}


@pytest.mark.parametrize("page", ABOUT_A_RUN)
def test_tracks_that_were_learned_from_have_no_prediction(artifacts, page):
    leak = {"kind": "artist", "sentence": "12 of 20 tested tracks share their artist with one that was learned from."}
    make_holdout(write_run(artifacts), leaks=(leak,))
    app = shown(page)
    assert not app.exception and not app.error and "leaky protocol" in text_of(app)
    learned_from = shown(page, track="0033")
    assert not learned_from.exception and not learned_from.error
    if page in ("app.py", "pages/track.py"):
        assert any(info.value == words.NOT_TESTED for info in learned_from.info)


def test_the_best_run_is_an_honest_one(artifacts):
    leak = {"kind": "track", "sentence": "20 of 20 tested tracks were in part learned from."}
    make_holdout(write_run(artifacts, "good-but-leaky", skill=0.9), leaks=(leak,))
    write_run(artifacts, "honest", skill=0.4, started="2026-11-18T10:00:00+00:00")
    assert box(shown("pages/models.py"), "run").value == "honest"


def test_runs_with_one_name_stay_apart(artifacts):
    for time_of_day in ("100000", "110000"):
        write_run(artifacts, f"20261120-{time_of_day}-train-demo-stats8-ridge-abcdef", explained=False)
    table = data.scores_table(data.usable(), "r2")
    assert table[~table["baseline"]]["label"].nunique() == 2


def test_run_without_explanation_names_the_command(runs):
    for page in ("pages/importance.py", "pages/track.py"):
        assert "python -m pipelines explain --run demo-ridge --method shap" in text_of(shown(page, run="demo-ridge"))


def test_leaderboard_says_what_cannot_be_told_apart(runs):
    said = text_of(shown("app.py"))
    assert "Valence: **demo-extra-trees** beats demo-ridge on the same tracks." in said


def test_history_shows_why_a_job_failed(runs):
    app = shown("pages/runs.py")
    history = next(frame.value for frame in app.dataframe if "message" in frame.value)
    assert history["message"][0].startswith("--targets joy") and history["state"][0] == "failed"
    assert history["command"][0] == "python -m pipelines train --dataset demo"


def test_form_has_a_widget_for_every_option(runs):
    from dataclasses import fields

    import pipelines

    for name in pipelines.PIPELINES:
        app = shown("pages/runs.py", pipeline=name)
        assert not app.exception
        keys = {w.key for kind in ("selectbox", "number_input", "text_input", "checkbox") for w in getattr(app, kind)}
        assert {f"{name}-{item.name}" for item in fields(pipelines.load(name).Config)} <= keys


def test_silent_job_is_reported_as_died(artifacts):
    write_job(artifacts, "job-3", "running", "training", heartbeat=time.time() - 300)
    app = shown("pages/runs.py")
    history = next(frame.value for frame in app.dataframe if "message" in frame.value)
    assert history["state"][0] == "died"


def test_a_changed_run_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MER_ARTIFACTS", str(tmp_path))
    folder = write_run(tmp_path, explained=False)
    assert data.open_run("demo-extra-trees").metrics["protocol"] == "grouped-5fold"
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"protocol": "nested"}))
    assert data.open_run("demo-extra-trees").metrics["protocol"] == "nested"


def test_numbers_have_no_negative_zero():
    assert [words.number(value) for value in (-0.001, -0.25, 1.0)] == ["0.00", "−0.25", "1.00"]


def test_quadrants_count_anticlockwise():
    found = plots.quadrant(np.array([8, 2, 2, 8, 5, np.nan]), np.array([8, 8, 2, 2, 5, 3]), (1, 9))
    assert list(found) == ["Q1", "Q2", "Q3", "Q4", "Q1", ""]


def test_waterfall_arrives_at_the_prediction():
    parts = pd.Series({f"f{i}": value for i, value in enumerate([0.5, -1.25, 0.1, 0.05, -0.02])})
    figure = plots.waterfall(parts, 5.0, {}, "valence", (1, 9), False, top=3)
    steps = [trace for trace in figure.data if trace.type == "bar"]
    assert [step.x[0] for step in steps] == [-1.25, 0.5, 0.1, pytest.approx(0.03)]
    assert steps[0].base[0] == 5.0 and steps[-1].base[0] + steps[-1].x[0] == pytest.approx(5.0 + parts.sum())
    ends = [trace.x[0] for trace in figure.data if trace.type == "scatter"]
    assert ends == [5.0, pytest.approx(4.38)]


def test_interval_ellipse_touches_its_bounds_and_stays_on_the_scale():
    row = {"valence": 2.0, "arousal": 5.0, "valence_predicted": 2.5, "arousal_predicted": 5.5}
    row |= {"valence_lower": 0.5, "valence_upper": 4.5, "arousal_lower": 4.0, "arousal_upper": 7.0}
    empty = pd.DataFrame({"track_id": [], "label": [], "valence": [], "arousal": []})
    ellipse = next(t for t in plots.track_plane(row, empty, (1, 9), False).data if t.name == "interval")
    assert (min(ellipse.x), max(ellipse.x)) == (1.0, pytest.approx(4.5))
    assert (min(ellipse.y), max(ellipse.y)) == (pytest.approx(4.0, abs=0.01), pytest.approx(7.0, abs=0.01))


def test_joint_ellipse_is_the_set_at_its_mahalanobis_distance():
    row = {"valence": 5.0, "arousal": 5.0, "valence_predicted": 4.5, "arousal_predicted": 5.5}
    joint = {"covariance": [[1.0, 0.4], [0.4, 0.5]], "radius": 1.5}
    empty = pd.DataFrame({"track_id": [], "label": [], "valence": [], "arousal": []})
    figure = plots.track_plane(row, empty, (1, 9), False, joint=joint)
    border = next(t for t in figure.data if t.name == "interval")
    away = np.column_stack([np.array(border.x) - 4.5, np.array(border.y) - 5.5])
    distance = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(joint["covariance"]), away))
    assert distance == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"pitch": -1.0, "rhythm": -0.4, "timbre": 0.3}, "**sadder or more unpleasant** than average"),
        ({"pitch": 0.02, "rhythm": -0.02}, "**about average**"),
        ({"pitch": 2.0}, "**happier or more pleasant** than average"),
    ],
)
def test_sentence_says_direction(parts, expected):
    assert expected in words.reason_sentence("valence", pd.Series(parts), 5.0, {}, (1, 9))


def test_sentence_names_the_largest_reasons_in_order():
    parts = pd.Series({"rhythm": -0.4, "pitch": -1.0, "timbre": 0.3, "voice": -0.1})
    said = words.reason_sentence("arousal", parts, 5.0, {"pitch": "how high it is"}, (1, 9))
    assert "because of **how high it is** (−1.00) and **rhythm** (−0.40)." in said and "Timbre (+0.30) pulls" in said


def test_nearest_ids_by_number_or_spelling():
    assert selection.nearest("1001", ["2", "999", "1003", "5000"], 2) == ["1003", "999"]
    assert selection.nearest("bach-1", ["mozart-1", "bach-11", "x"], 1) == ["bach-11"]


def test_words_of_a_single_column_say_whether_a_track_has_much_of_it(runs):
    found = data.explanation(data.open_run("demo-extra-trees"))
    words, track = data.track_words(found, "column", found.tracks[0]), found.tracks[0]
    for number, column in enumerate(found.columns.index[:5]):
        much = found.features[0, number] > np.nanmedian(found.features[:, number])
        assert words[column] == f"{'high' if much else 'low'} {found.columns.loc[column, 'plain']}"
    group = found.columns["musical"].value_counts().index[0]
    assert data.track_words(found, "musical", track)[group] == data.plain_words(found, "musical")[group]
