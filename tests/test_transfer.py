"""From one dataset to another: which columns are the same, which scale is meant, and what is learned from what."""

import json

import numpy as np
import pandas as pd
import pytest

from mer_core.datasets import load
from mer_core.errors import UserError
from mer_core.evaluate import experiment
from mer_core.evaluate.metrics import r2
from mer_core.evaluate.transfer import make_side, map_scale, normal_scores, score_transfer, shared_columns, transfer
from mer_core.features import build_features, describe_columns
from mer_core.runs import read_run
from pipelines.__main__ import main

TRACKS = 60
LLDS = ["F0final_sma_amean", "pcm_RMSenergy_sma_amean", "pcm_zcr_sma_amean"]


def write_dataset(root, name, seed, scale, columns, prefix="", swap=False):
    """A dataset with a table: valence follows the first column, arousal the second, on a scale of its own."""
    folder = root / name
    folder.mkdir()
    random = np.random.default_rng(seed)
    features, (low, high) = random.normal(size=(TRACKS, 3)), scale
    cause = np.clip(0.5 + 0.15 * features[:, :2] + random.normal(0, 0.05, (TRACKS, 2)), 0, 1) * (high - low) + low
    table = pd.DataFrame({"track_id": [f"{prefix}{i}" for i in range(TRACKS)], "path": "none.wav"})
    table["valence"], table["arousal"] = cause[:, ::-1].T if swap else cause.T
    table.assign(group=[f"g{i // 3}" for i in range(TRACKS)]).to_csv(folder / "tracks.csv", index=False)
    (folder / "dataset.json").write_text(json.dumps({"rating_scale": scale}))
    table[["track_id"]].join(pd.DataFrame(features, columns=columns)).to_csv(folder / f"{name}.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Song means called by their LLD alone, the same with the statistic's name and other ids, and other columns."""
    root = tmp_path_factory.mktemp("music")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_ARTIFACTS", str(root / "artifacts"))
        one = write_dataset(root, "one", 1, (1, 9), LLDS)
        two = write_dataset(root, "two", 2, (-1, 1), [f"{name}_mean" for name in LLDS], prefix="b")
        yield one, two, write_dataset(root, "odd", 3, (1, 9), ["p", "q", "r"], prefix="c")


def side(folder):
    dataset = load(folder)
    return make_side(dataset, build_features(folder / f"{folder.name}.csv", dataset), ["valence", "arousal"])


def test_columns_are_joined_by_what_they_mean():
    a = describe_columns([*LLDS, "tempo", "only_here"])
    b = describe_columns([f"{LLDS[1]}_mean", f"{LLDS[0]}_std", f"{LLDS[0]}_mean", "tempo"])
    found = shared_columns(a, b)["other"].to_dict()
    assert found == {LLDS[0]: f"{LLDS[0]}_mean", LLDS[1]: f"{LLDS[1]}_mean", "tempo": "tempo"}
    with pytest.raises(UserError, match="share no column"):
        shared_columns(a, describe_columns(["other"]))


def test_ratings_are_mapped_end_to_end():
    assert map_scale(np.array([1.0, 5.0, 9.0]), (1, 9), (-1, 1)) == pytest.approx([-1, 0, 1])
    assert map_scale(np.array([0.0, 7.5]), (-1, 1), (1, 9)) == pytest.approx([5, 35])


def test_normal_scores_keep_the_order_and_forget_the_unit():
    values = np.random.default_rng(0).exponential(size=(99, 2))
    scores = normal_scores(values)
    assert (scores.argsort(axis=0) == values.argsort(axis=0)).all()
    assert normal_scores(np.exp(7 * values) + 3) == pytest.approx(scores)
    assert scores.mean(axis=0) == pytest.approx([0, 0], abs=1e-9) and scores.std(axis=0) == pytest.approx(
        [1, 1], abs=0.03
    )
    values[4, 0] = np.nan
    assert np.isnan(normal_scores(values)[4, 0]) and np.isfinite(normal_scores(values)).sum() == 197


@pytest.mark.parametrize("align", ["train", "each"])
def test_what_holds_in_both_carries_over_whatever_the_scale(folders, align):
    one, two = side(folders[0]), side(folders[1])
    found = transfer(one, two, "ridge", None, align, 0)
    assert found.shared == found.columns == 3
    scores = score_transfer(two, found.predicted, 50, 0)
    home = score_transfer(two, found.at_home, 50, 0)
    for target in ("valence", "arousal"):
        assert scores[target]["r2"][0] > 0.7 and home[target]["r2"][0] > 0.7
        assert found.predicted.min() > -1.5 and found.predicted.max() < 1.5


def test_the_aligned_score_is_that_of_predictions_with_the_ratings_own_mean_and_spread(folders):
    two = side(folders[1])
    predicted = two.ratings.to_numpy() * 0.3 + np.random.default_rng(0).normal(4, 0.1, (TRACKS, 2))
    for column, (target, scores) in enumerate(score_transfer(two, predicted, 10, 0).items()):
        true, guess = two.ratings[target].to_numpy(), predicted[:, column]
        moved = (guess - guess.mean()) / guess.std() * true.std() + true.mean()
        assert scores["r2_aligned"][0] == pytest.approx(r2(true, moved)) and scores["r2"][0] < 0


def test_ratings_of_the_test_dataset_change_no_prediction(folders):
    one, two = side(folders[0]), side(folders[1])
    before = transfer(one, two, "ridge", "global-pca", "each", 0)
    two.ratings.iloc[:] = two.ratings.to_numpy()[::-1]
    after = transfer(one, two, "ridge", "global-pca", "each", 0)
    assert np.array_equal(before.predicted, after.predicted) and not np.allclose(before.at_home, after.at_home)


def call(*options):
    return main(["compare", *map(str, options), "--resamples", "20"])


def trained(folder):
    """R2 of ridge as `train` finds it."""
    dataset, path = load(folder), str(folder / f"{folder.name}.csv")
    plan = experiment.Plan(path, "ridge", "grouped-5fold", ("valence", "arousal"), 42)
    data = experiment.align(plan, dataset, build_features(path, dataset))
    predicted = experiment.fit_folds(plan, data, False, lambda fraction, message: None).predicted
    return {target: r2(data.ratings[target].to_numpy(), predicted[:, i]) for i, target in enumerate(data.ratings)}


def test_from_the_command_line(folders, capsys):
    one, two, _ = folders
    tables = ",".join(str(folder / f"{folder.name}.csv") for folder in (one, two))
    both = f"{one},{two}"
    assert call("--train-on", both, "--test-on", both, "--features", tables, "--align", "both", "--run-id", "t") == 0
    said, run = capsys.readouterr().err, read_run("t")
    table = run.table("transfer")
    assert len(table) == 2 * 2 * 2 * 2 and run.about["comparison"] == "transfer" and not run.metrics["refused"]
    assert "different sources" in said and "scale 1-9 are mapped linearly onto two's -1-1" in said
    away, home = table[~table["same"]], table[table["same"]]
    assert set(away["features"]) == {"one to two", "two to one"} and (away["r2"] > 0.6).all()
    assert (home["r2"] == home["home_r2"]).all()
    score = trained(two)["valence"]
    row = table[(table["test"] == "two") & (table["target"] == "valence") & (table["align"] == "train")]
    assert row["home_r2"].to_numpy() == pytest.approx([score, score])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--train-on", "{one}"], "go together"),
        (["--train-on", "{one}", "--test-on", "nowhere"], "does not exist"),
        (["--train-on", "{one}", "--test-on", "{odd}", "--features", "{one}/one.csv,{odd}/odd.csv"], "share no column"),
        (["--train-on", "{one}", "--test-on", "{two}", "--features", "{one}/one.csv"], "two can be given none"),
        (["--train-on", "{one}", "--test-on", "{two}", "--targets", "joy"], "no rating that all have"),
        (["--dataset", "{one}", "--models", "magic"], "--models magic"),
        (["--dataset", "{one}", "--features", "magic,tricks"], "no features can be served"),
        (["--dataset", "{one},{two}", "--features", "{one}/one.csv", "--targets", "joy"], "joy"),
    ],
)
def test_mistakes_get_one_line(folders, capsys, options, expected):
    names = dict(zip(("one", "two", "odd"), folders, strict=True))
    assert call(*(option.format(**names) for option in options)) == 2
    assert expected in capsys.readouterr().err.splitlines()[-1]


def test_rows_of_one_dataset_are_not_taken_for_those_of_another_with_the_same_ids(folders, tmp_path, capsys):
    one = folders[0]
    other = write_dataset(tmp_path, "other", 4, (1, 9), LLDS)
    for name in ("tracks.csv", "other.csv"):
        pd.read_csv(other / name).iloc[:40].to_csv(other / name, index=False)
    features = f"{one / 'one.csv'},{other / 'other.csv'}"
    assert call("--dataset", f"{one},{other}", "--features", features, "--models", "ridge", "--run-id", "ids") == 0
    boards = read_run("ids").metrics["boards"]
    assert "happen to have the same ids" in boards["other"]["refused"]["one"] and boards["one"]["n"] == TRACKS
    assert "--models" not in capsys.readouterr().out


def test_the_matrix_from_the_command_line(folders, capsys):
    one, two, _ = folders
    tables = f"{one / 'one.csv'},{one / 'one.csv'}-global-pca,{two / 'two.csv'},magic"
    assert call("--dataset", f"{one},{two}", "--features", tables, "--models", "ridge,elasticnet", "--run-id", "m") == 0
    said, run = capsys.readouterr().err, read_run("m")
    table = run.table("comparison")
    assert run.about["comparison"] == "matrix" and set(table["dataset"]) == {"one", "two"}
    assert len(table[table["dataset"] == "one"]) == 2 * 2 * 2 and len(table[table["dataset"] == "two"]) == 2 * 2
    assert set(run.metrics["boards"]["one"]["refused"]) == {"two", "magic"} and "magic: refused." in said
    assert "chosen inside the training parts: one" in said and "easiest to understand" in said
    assert main(["show", "m"]) == 0 and "chosen inside the training parts: one" in capsys.readouterr().out
    row = table[(table["features"] == "one") & (table["model"] == "ridge") & (table["target"] == "arousal")]
    assert row["r2"].item() == pytest.approx(trained(one)["arousal"])
