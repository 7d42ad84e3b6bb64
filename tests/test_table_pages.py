"""The Features and Selection pages, over runs that the pipelines made of a small table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_pages import shown, text_of
from test_transfer import LLDS, write_dataset

from mer_core.plots import columns as figures
from mer_core.runs import read_run
from pipelines.__main__ import main


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """Artifacts with a feature table, a component route, and a selection of one dataset."""
    root = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_ARTIFACTS", str(root / "artifacts"))
        one = write_dataset(root, "one", 1, (1, 9), LLDS)
        table = str(one / "one.csv")
        given = ["--dataset", str(one), "--features"]
        assert main(["features", *given, f"{table}-group-pca", "--run-id", "described"]) == 0
        small = ["--resamples", "20", "--run-id"]
        assert main(["global_pca", *given, table, "--families", "ridge", "--components", "1,2", *small, "route"]) == 0
        assert main(["select", *given, table, "--columns", "2", *small, "few"]) == 0
    return root / "artifacts"


@pytest.fixture
def tables(described, monkeypatch):
    monkeypatch.setenv("MER_ARTIFACTS", str(described))
    return described


def test_features_say_what_there_is_and_what_repeats(tables):
    app = shown("pages/features.py", table="described")
    assert not app.exception and not app.error
    run, said = read_run("described"), text_of(app)
    assert f"{len(run.table('reduction'))} columns" in said and "acoustic proxies" in said
    assert f"**{int(run.table('spectrum')['kept'].sum())}** principal components used" in said
    listed = next(frame.value for frame in app.dataframe if "in plain words" in frame.value)
    assert len(listed) == len(run.table("columns"))
    loadings = next(frame.value for frame in app.dataframe if "loading" in frame.value)
    assert loadings["loading"].abs().is_monotonic_decreasing


def test_a_component_route_shows_its_own_scores(tables):
    app = shown("pages/features.py", table="route")
    assert not app.exception and not app.error
    options = next(box for box in app.selectbox if box.key == "pc-x").options
    assert options == [name for name in read_run("route").table("scores").columns if name != "track_id"]
    next(box for box in app.selectbox if box.key == "pc-x").set_value(options[-1]).run()
    assert not app.exception
    assert any("false discovery rate" in frame.value for frame in app.dataframe)


def test_the_run_of_the_other_pages_comes_first(tables):
    boxes = [
        next(box for box in shown("pages/features.py", **asked).selectbox if box.key == "table")
        for asked in ({}, {"run": "route"}, {"run": "another kind of run"})
    ]
    assert [box.value for box in boxes] == ["described", "route", "described"]


def test_selection_compares_with_all_columns(tables):
    app = shown("pages/selection.py")
    assert not app.exception and not app.error
    run, said = read_run("few"), text_of(app)
    assert "compared with all columns" in said.replace("\n", " ") and "Stability **" in said
    assert [metric.label for metric in app.metric] == ["R² of valence", "R² of arousal"]
    value = run.metrics["targets"]["valence"]["all"]["r2"][0]
    assert float(app.metric[0].value) == pytest.approx(value, abs=6e-4)
    design = next(frame.value for frame in app.dataframe if "chosen by folds" in frame.value)
    assert len(design) == run.table("stability")["chosen"].sum() <= 2


@pytest.mark.parametrize("page", ["features", "selection"])
def test_an_unknown_run_is_named_and_an_empty_folder_offers_the_cure(page, tables, monkeypatch, tmp_path):
    key = {"features": "table", "selection": "selection"}[page]
    app = shown(f"pages/{page}.py", **{key: "nonesuch"})
    assert not app.exception and any("no run “nonesuch”" in warning.value for warning in app.warning)
    monkeypatch.setenv("MER_ARTIFACTS", str(tmp_path))
    app = shown(f"pages/{page}.py")
    assert not app.exception and len(app.button) == 1 and "python -m pipelines" in app.code[0].value


def test_the_spectrum_tells_how_many_components_are_enough():
    table = pd.DataFrame({"group": "a_b", "component": [1, 2, 3, 4], "cumulative": [0.6, 0.94, 0.95, 1.0]})
    assert figures.spectrum_lines(table, False).data[0].name == "a b: 3"


def test_validity_has_a_row_for_each_proxy_and_a_column_for_what_it_is_held_against():
    rows = [("minorness", "planted", 9, 0.9, 0.8, 1.0), ("minorness", "valence", 9, -0.5, -0.7, 0.0)]
    rows += [("register", "planted", 9, 0.7, 0.5, 0.8), ("register", "valence", 9, np.nan, np.nan, np.nan)]
    table = pd.DataFrame(rows, columns=["proxy", "against", "n", "r", "low", "high"])
    (heat,) = figures.validity_map(table, dark=False).data
    assert list(heat.x) == ["planted", "valence"] and list(heat.y) == ["register", "minorness"]
    np.testing.assert_array_equal(heat.z, [[0.7, np.nan], [0.9, -0.5]])
    assert "+0.80" in heat.customdata[1][0]


def test_dropped_columns_are_a_part_of_their_bar():
    table = pd.DataFrame({"group": ["x", "y"], "columns": [10, 4], "kept": [7, 4]})
    kept, dropped = figures.group_bars(table, False).data
    assert list(kept.x) == [4, 7] and list(dropped.x) == [0, 3]
    assert len(figures.group_bars(table.assign(kept=table["columns"]), False).data) == 1
