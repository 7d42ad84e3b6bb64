"""The pipeline midlevel over a table, its run folder, and the page that shows it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from test_pages import shown, text_of
from test_transfer import LLDS, write_dataset

from mer_core.datasets.midlevel_ratings import KINDS, SEVEN
from mer_core.plots import midlevel as figures
from mer_core.runs import read_run
from pipelines.__main__ import main
from ui import midlevel as own


def add_qualities(folder, name: str) -> pd.DataFrame:
    """Planted qualities that follow the table's columns."""
    table = pd.read_csv(folder / f"{name}.csv").set_index("track_id")
    random = np.random.default_rng(0)
    truth = table.to_numpy() @ random.normal(size=(3, 7)) + random.normal(0, 0.2, (len(table), 7))
    truth = pd.DataFrame(truth, table.index, [f"mid_{quality}" for quality in SEVEN])
    truth.to_csv(folder / "truth.csv")
    return truth


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Artifacts with a run of all schemes on planted qualities."""
    root = tmp_path_factory.mktemp("midlevel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_ARTIFACTS", str(root / "artifacts"))
        one = write_dataset(root, "one", 1, (1, 9), LLDS)
        add_qualities(one, "one")
        given = ["--dataset", str(one), "--network", str(one / "one.csv"), "--resamples", "30"]
        assert main(["midlevel", *given, "--head", "ridge", "--run-id", "named"]) == 0
    return root


@pytest.fixture
def runs(made, monkeypatch):
    monkeypatch.setenv("MER_ARTIFACTS", str(made / "artifacts"))
    return made


def test_the_run_says_what_its_qualities_are(runs):
    run = read_run("named")
    about = run.about["midlevel"]
    assert about["kind"] == "truth" and about["kind_in_words"] == KINDS["truth"] and about["main"] == "joint"
    assert about["schemes"] == ["a2e", "a2mid2e", "joint"] and about["qualities"] == list(SEVEN)
    cost = pd.DataFrame(run.metrics["midlevel"]["cost"])
    assert set(cost["rating"]) == {"valence", "arousal", "mean"}
    assert cost.loc[cost["scheme"] == "a2e", "cost"].eq(0).all()
    assert "no relevance maps" in (run.folder / "log.txt").read_text()


def test_effects_and_average_are_the_prediction(runs):
    run = read_run("named")
    effects, predicted = run.table("effects"), run.predictions.set_index(["track_id", "target"])["predicted"]
    maps = json.loads((run.folder / "midlevel.json").read_text())["schemes"]["joint"]["folds"]
    fold = run.tracks.set_index("track_id")["fold"]
    for (track, rating), rows in effects.groupby(["track_id", "rating"]):
        one = maps[str(fold[track])]
        base = one["intercept"][one["ratings"].index(rating)]
        assert base + rows["effect"].sum() == pytest.approx(predicted[track, rating])
        assert rows["effect"].to_numpy() == pytest.approx((rows["weight"] * rows["z"]).to_numpy())


def test_all_schemes_are_kept_with_their_qualities(runs):
    run = read_run("named")
    schemes, qualities = run.table("schemes"), run.table("qualities")
    joint = schemes[(schemes["scheme"] == "joint") & (schemes["rating"] == "valence")].set_index("track_id")
    kept = run.predictions[run.predictions["target"] == "valence"].set_index("track_id")
    assert joint.loc[kept.index, "predicted"].to_numpy() == pytest.approx(kept["predicted"].to_numpy())
    assert set(qualities["scheme"]) == {"a2mid2e", "joint"} and set(qualities["quality"]) == set(SEVEN)
    told = pd.DataFrame(run.metrics["midlevel"]["qualities"]).set_index(["scheme", "quality"])
    rows = qualities[(qualities["scheme"] == "a2mid2e") & (qualities["quality"] == "dissonance")]
    assert told.loc[("a2mid2e", "dissonance"), "pearson"] == pytest.approx(
        np.corrcoef(rows["true"], rows["predicted"])[0, 1]
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--ratings", "joy"], "--ratings joy"),
        (["--midlevel", "human"], "path of their folder"),
        (["--midlevel", "nowhere"], "holds no mid-level ratings"),
        (["--pretrain", "nowhere"], "'nowhere' does not exist"),
        (["--epochs", "0"], "--epochs 0"),
        (["--network", "vgg", "--midlevel", "transferred"], "needs embeddings"),
        (["--network", "vgg", "--head", "ridge"], "leave --head out"),
        (["--network", "nothing"], "'nothing'"),
    ],
)
def test_mistakes_are_one_sentence(runs, given, said, capsys):
    options = {"--dataset": str(runs / "one"), "--network": str(runs / "one" / "one.csv")} | dict(
        zip(given[::2], given[1::2], strict=True)
    )
    assert main(["midlevel", *(word for pair in options.items() for word in pair), "--run-id", "wrong"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and said in errors[0]
    assert not (runs / "artifacts" / "runs" / "wrong").exists()


def test_what_if_is_weight_times_difference(runs):
    run = read_run("named")
    track = str(run.tracks["track_id"].iloc[2])
    weights, z = own.linear_map(run, track), own.z_scores(run, track)
    before, new = pd.Series({"valence": 5.0, "arousal": 4.0}), z.copy()
    assert own.what_if(weights, before, z, new).to_dict() == before.to_dict()
    new["dissonance"] += 1.5
    after = own.what_if(weights, before, z, new)
    assert after["valence"] - 5 == pytest.approx(1.5 * weights.loc["dissonance", "valence"])


def test_the_page_shows_kind_effects_and_costs(runs):
    app = shown("pages/midlevel.py")
    assert not app.exception and not app.error
    said = text_of(app)
    assert "valence = " in said and "× " in said and "costs **" in said
    assert "Sliders are in standard deviations" in said and "What raters are asked" in str(app.expander)
    assert len(app.slider) == 7
    slider = app.slider[4]
    app = slider.set_value(round(slider.value - 1.0, 1)).run()
    run = read_run("named")
    track = next(box.value for box in app.selectbox if box.key == "track")
    moved = app.slider[4].value - own.z_scores(run, track)[SEVEN[4]]
    change = moved * own.linear_map(run, track).loc[SEVEN[4], "valence"]
    assert f"valence **{change:+.2f}**".replace("-", "−") in text_of(app)


def test_two_tracks_are_compared(runs):
    ids = list(map(str, read_run("named").tracks["track_id"].head(2)))
    app = shown("pages/midlevel.py", track=ids[0], other=ids[1])
    assert not app.exception and not app.error
    assert next(box.value for box in app.selectbox if box.key == "other") == ids[1]


def test_nothing_yet_offers_the_cure(tmp_path, monkeypatch):
    monkeypatch.setenv("MER_ARTIFACTS", str(tmp_path))
    app = shown("pages/midlevel.py")
    assert not app.exception and "pipelines midlevel" in text_of(app)


def test_figures_say_where_qualities_come_from(runs):
    run = read_run("named")
    effects = own.effects(run)
    track = effects["track_id"].iloc[0]
    bars = pd.DataFrame(
        {"quality": list(SEVEN), "question": "?", "one": own.z_scores(run, track)[list(SEVEN)].to_numpy()}
    )
    weights = run.table("weights").query("scheme == 'joint' and rating == 'valence'")
    cost = pd.DataFrame(run.metrics["midlevel"]["cost"]).query("metric == 'pearson'")
    drawn = (
        figures.quality_bars(bars, ("one",), "planted", False),
        figures.effects_plot(effects[effects["rating"] == "valence"], {track: "one"}, "valence", "planted", True),
        figures.weights_forest(weights, "valence", "planted", False),
        figures.cost_plot(cost, "planted", True),
    )
    assert all("qualities: planted" in figure.layout.xaxis.title.text for figure in drawn)
    marks = drawn[1].data[-1]
    rows = effects[(effects["rating"] == "valence") & (effects["track_id"] == track)].set_index("quality")["effect"]
    assert sorted(marks.x) == pytest.approx(sorted(rows))


def test_the_track_page_leads_to_the_qualities(runs):
    app = shown("pages/track.py", run="named")
    assert not app.exception and not app.error
    assert "named qualities" in text_of(app) and "--method shap" not in text_of(app)


def test_what_it_takes_to_hear_a_run_is_said(runs, tmp_path):
    from types import SimpleNamespace

    from ui.evidence import explainable

    def run_of(network: str, main: str):
        about = {"pipeline": "midlevel", "features": {"name": network}, "midlevel": {"main": main}}
        return SimpleNamespace(about=about | {"weights": [{"name": "musicnn-mtt"}]}, folder=tmp_path)

    assert explainable(run_of("musicnn-mtt@dense", "joint"))
    assert not explainable(run_of("musicnn-mtt@dense", "a2e")) and not explainable(run_of("musicnn-mtt+notes", "joint"))
    assert "pretrained networks alone" in text_of(shown("pages/midlevel.py"))
