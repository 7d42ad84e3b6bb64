"""The Compare page: with a matrix, with single runs, with nothing; its tables and figures from plain data."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from fixture_runs import make_holdout, write_run
from test_pages import shown, text_of
from test_transfer import LLDS, write_dataset

from mer_core.plots import routes as figures
from mer_core.runs import read_run
from pipelines.__main__ import main
from ui import routes, versus


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Artifacts with a matrix of one dataset, and with transfers between it and another."""
    root = tmp_path_factory.mktemp("music")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_ARTIFACTS", str(root / "artifacts"))
        one = write_dataset(root, "one", 1, (1, 9), LLDS)
        two = write_dataset(root, "two", 2, (1, 9), LLDS, prefix="b")
        tables = f"{one / 'one.csv'},{one / 'one.csv'}-global-pca,magic"
        given = ["--dataset", one, "--features", tables, "--models", "ridge,svr", "--run-id", "matrix"]
        assert main(["compare", *map(str, given), "--resamples", "50"]) == 0
        given = ["--train-on", f"{one},{two}", "--test-on", two, "--run-id", "away", "--resamples", "50"]
        assert main(["compare", *map(str, given), "--features", f"{one / 'one.csv'},{two / 'two.csv'}"]) == 0
    return root / "artifacts"


@pytest.fixture
def artifacts_compared(compared, monkeypatch):
    monkeypatch.setenv("MER_ARTIFACTS", str(compared))
    return compared


def test_the_choice_is_said_with_its_honest_score(artifacts_compared):
    app = shown("pages/compare.py")
    assert not app.exception and not app.error and len(app.title) == 1
    said, board = text_of(app), read_run("matrix").metrics["boards"]["one"]
    score = board["procedure"]["valence"]["r2"][0]
    assert f"**{board['choice']['model']} on {board['choice']['features']}**" in said
    assert f"**R² {score:.2f}**" in said and "**magic** was refused" in said and "How to read this" in said
    assert "the columns of one" in said and "to itself" not in said


def test_filters_leave_the_routes_that_fit(artifacts_compared):
    app = shown("pages/compare.py")
    table = lambda: next(f.value for f in app.dataframe if "protocol" in f.value)  # noqa: E731
    assert set(table()["model"]) == {"ridge", "svr"} and len(table()) == 4
    next(box for box in app.multiselect if box.key == "models").set_value(["svr"]).run()
    assert not app.exception and set(table()["model"]) == {"svr"}
    next(box for box in app.multiselect if box.key == "features").set_value(["one-global-pca"]).run()
    assert list(table()["features"]) == ["one-global-pca"] and not app.exception


def test_unknown_dataset_is_said(artifacts_compared):
    write_run(artifacts_compared, "other-run", dataset="elsewhere", explained=False)
    app = shown("pages/compare.py", dataset="nowhere")
    assert not app.exception and any("no dataset “nowhere”" in warning.value for warning in app.warning)
    app = shown("pages/compare.py", dataset="elsewhere (as given labels)")
    listed = next(frame.value for frame in app.dataframe if "protocol" in frame.value)
    assert not app.exception and list(listed["run"]) == ["other-run"]


def test_single_runs_are_compared_and_a_matrix_is_offered(artifacts):
    write_run(artifacts, "good", explained=False)
    write_run(artifacts, "poor", model="ridge", skill=0.1, explained=False)
    leak = {"kind": "artist", "sentence": "12 of 20 tested tracks share their artist with one that was learned from."}
    make_holdout(write_run(artifacts, "leaky", model="svr", skill=0.9), leaks=(leak,))
    app = shown("pages/compare.py")
    assert not app.exception and not app.error
    said = text_of(app)
    assert "No choice has been made" in said and "python -m pipelines compare --dataset demo" in said
    assert "The reference, at zero, is **extra-trees · stats8**" in said and "synthetic data" in said
    assert any(button.label.startswith("Compare four feature sets") for button in app.button)
    listed = next(frame.value for frame in app.dataframe if "protocol" in frame.value)
    assert list(listed.loc[listed["run"] == "leaky", "caveats"]) == ["leaky protocol"]
    next(box for box in app.checkbox if box.key == "honest").check().run()
    listed = next(frame.value for frame in app.dataframe if "protocol" in frame.value)
    assert set(listed["model"]) == {"extra-trees", "ridge"}


def test_page_without_anything_says_what_to_do(artifacts):
    app = shown("pages/compare.py")
    assert not app.exception and "No runs yet" in text_of(app)


@pytest.mark.parametrize("damage", ["comparison.parquet", "transfer.parquet", "metrics.json"])
def test_a_damaged_comparison_is_named(compared, tmp_path, monkeypatch, damage):
    import shutil

    shutil.copytree(compared, tmp_path / "artifacts")
    monkeypatch.setenv("MER_ARTIFACTS", str(tmp_path / "artifacts"))
    victim = next((tmp_path / "artifacts").rglob(damage))
    victim.write_bytes(victim.read_bytes()[:80])
    app = shown("pages/compare.py")
    assert not app.exception
    named = any("cannot be read" in error.value for error in app.error)
    assert named or "1 run folder cannot be read" in [expander.label for expander in app.expander]


def test_routes_of_runs_count_the_columns_that_models_see(artifacts):
    folder = write_run(artifacts, "reduced", explained=False)
    about = json.loads((folder / "run.json").read_text())
    about["features"] |= {"name": "stats8-group-pca", "reduction": {"n_per_round": [30, 34, 31, 90, 32]}}
    (folder / "run.json").write_text(json.dumps(about))
    table = routes.routes("demo (as given labels)")
    assert set(table["columns"]) == {32} and set(table["label"]) == {"extra-trees · stats8-group-pca"}
    assert set(table["explainer"]) == {"tree"} and routes.routes("nothing (as given labels)").empty


def test_families_are_explained_as_the_engine_says():
    from mer_core.models.regressors import FAMILIES

    assert {name: FAMILIES[name].explainer for name in routes.EXPLAINERS} == routes.EXPLAINERS


def transfer_rows(*pairs):
    three = {"r2": 0.1, "r2_low": 0.0, "r2_high": 0.2, "home_r2": 0.6, "home_r2_low": 0.5, "home_r2_high": 0.7}
    return pd.DataFrame([{"train": a, "test": b, "same": a == b, "shared": 3, "n": 60} | three for a, b in pairs])


def test_the_diagonal_holds_what_is_reached_at_home():
    cells = routes.heat_table(transfer_rows(("a", "b")), "r2").set_index(["train", "test"])
    assert cells["value"].to_dict() == {("a", "b"): 0.1, ("b", "b"): 0.6}
    figure = figures.transfer_heat(cells.reset_index(), "R²", False)
    words = {(note.y, note.x): note.text for note in figure.layout.annotations}
    assert words["b", "a"] == "not tried" and "own folds held out" in words["b", "b"] and "0.10" in words["a", "b"]
    assert routes.heat_table(transfer_rows(("a", "a")), "r2")["value"].tolist() == [0.1]


def test_a_difference_whose_interval_holds_zero_is_hollow():
    rows = [("better", 0.1, 0.05, 0.2), ("unclear", -0.1, -0.2, 0.01), ("worse", -0.3, -0.4, -0.2)]
    figure = figures.difference_forest(
        pd.DataFrame(rows, columns=["label", "difference", "low", "high"]), "valence", False
    )
    marks = figure.data[0]
    assert [colour == "rgba(0,0,0,0)" for colour in marks.marker.color] == [False, True, False]
    assert list(marks.error_x.array) == pytest.approx([0.1, 0.11, 0.1])
    assert list(figure.layout.yaxis.ticktext) == ["better", "unclear", "worse"] and list(marks.y) == [2, 1, 0]


def test_the_line_of_the_best_with_few_columns_never_falls():
    table = pd.DataFrame({"label": list("abcd"), "columns": [2000, 10, 100, 100], "value": [0.5, 0.3, 0.2, 0.4]})
    table = table.assign(low=table["value"] - 0.1, high=np.nan, explainer=["linear", "tree", None, "linear"])
    figure = figures.columns_scatter(
        table.assign(chosen=[1, 0, 0, 0], interpretable=[0, 0, 0, 1]), "valence", "R²", False
    )
    line = figure.data[0]
    assert list(line.x) == [10, 100, 100, 2000] and list(line.y) == [0.3, 0.3, 0.4, 0.5]
    assert {trace.marker.symbol for trace in figure.data[1:4]} == {"circle", "square", "x"}
    assert [trace.text[0] for trace in figure.data[4:]] == ["chosen", "easiest to understand"]
    assert list(figure.layout.xaxis.tickvals) == [10, 100, 1000]
    few = figures.columns_scatter(table.assign(columns=4, chosen=0, interpretable=0), "valence", "R²", False)
    assert list(few.layout.xaxis.tickvals) == [5]


def test_no_reference_without_an_honest_run(artifacts):
    write_run(artifacts, "alone", explained=False)
    rows = routes.routes("demo (as given labels)")
    label, rivals = versus.reference_differences(rows[rows["target"] == "valence"])
    assert label == "extra-trees · stats8" and rivals.empty
