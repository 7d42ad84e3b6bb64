"""The component routes: what is cut is what would be fitted; choices look at training parts alone; whole runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mer_core.errors import UserError
from mer_core.evaluate import pca_routes
from mer_core.evaluate.experiment import Data, Plan, fit_folds
from mer_core.evaluate.metrics import r2, rmse
from mer_core.evaluate.splits import Split, grouped_kfold
from mer_core.features import FeatureTable, describe_columns
from mer_core.runs import read_run

LLDS = ("pcm_zcr_sma_amean", "pcm_zcr_sma_stddev", "F0final_sma_amean")  # three groups
STATISTICS = ("mean", "std", "min", "max", "q25", "q75", "skew", "kurtosis")


def table_of(tracks: int = 48, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """24 columns with a few strong directions, and ratings that follow the strongest of two groups."""
    random = np.random.default_rng(seed)
    index = pd.Index([f"t{i:02d}" for i in range(tracks)], name="track_id")
    names = [f"{lld}_{statistic}" for lld in LLDS for statistic in STATISTICS]
    hidden = random.normal(size=(tracks, 9)) * np.tile([2.0, 1.0, 0.5], 3)
    mixing = np.kron(np.eye(3), np.ones((3, 8))) * random.normal(size=(9, 24))
    values = pd.DataFrame(hidden @ mixing + 0.2 * random.normal(size=(tracks, 24)), index, names)
    ratings = pd.DataFrame({"valence": 5 + 0.5 * hidden[:, 0], "arousal": 5 + 0.5 * hidden[:, 3]}, index)
    return values, ratings + 0.2 * random.normal(size=ratings.shape)


def data_of(values: pd.DataFrame, ratings: pd.DataFrame, tracks_a_group: int = 2) -> Data:
    groups = pd.Series([f"g{i // tracks_a_group}" for i in range(len(values))], values.index)
    split = grouped_kfold(groups, ratings)
    parts = pd.Series("main", values.index)
    table = FeatureTable(values, describe_columns(values.columns), "table")
    return Data(table, values, ratings, groups, parts, split, [], [], ())


@pytest.fixture(scope="module")
def data() -> Data:
    return data_of(*table_of())


@pytest.fixture(scope="module")
def folds(data) -> list[pca_routes.Fold]:
    return pca_routes.fit_parts(data, "group-pca", 4, 0, 1)


@pytest.fixture(scope="module")
def swept(data, folds) -> pd.DataFrame:
    return pca_routes.sweep(data, folds, (1, 2, 4), "ridge", 0, 1)


@pytest.mark.parametrize("reduction", ["group-pca", "global-pca"])
@pytest.mark.parametrize("count", [1, 3])
def test_the_first_of_many_components_predict_as_if_no_more_had_been_fitted(data, reduction, count):
    folds = pca_routes.fit_parts(data, reduction, 5, 0, 1)
    plan = Plan(f"stats8-{reduction}", "ridge", "grouped-5fold", ("valence", "arousal"), 0, 1)
    fitted = fit_folds(plan, data, False, lambda *_: None, components=dict.fromkeys(range(5), count))
    cut = np.full(data.ratings.shape, np.nan)
    for fold in folds[:-1]:
        cut[fold.outer.test] = fold.outer.predict(data.ratings.to_numpy(), "ridge", count, 0)
    assert np.allclose(cut, fitted.predicted, atol=1e-6)
    assert fitted.chosen == ({"components": count},) * 5


def test_inner_parts_hold_out_whole_groups_of_the_training_part_alone(data, folds):
    assert [fold.name for fold in folds] == [0, 1, 2, 3, 4, "all"] and folds[-1].outer is None
    for fold in folds:
        outside = fold.outer.test if fold.outer else np.zeros(len(data.groups), bool)
        assert len(fold.inner) == 5
        assert np.array_equal(sum(part.test.astype(int) for part in fold.inner), (~outside).astype(int))
        for part in fold.inner:
            assert not (part.train & part.test).any() and not (part.train & outside).any()
            assert not set(data.groups[part.train]) & set(data.groups[part.test])


def test_nothing_of_a_held_out_track_reaches_the_choice(data, folds, swept):
    """Other features and ratings of fold 0 leave the components and inner scores of fold 0's training part as is."""
    held = folds[0].outer.test
    values, ratings = data.features.copy(), data.ratings.copy()
    values[held] += 100 * np.random.default_rng(9).normal(size=values[held].shape)
    changed = Data(data.table, values, data.ratings.assign(valence=ratings["valence"].where(~held, 9.0)), data.groups,
                   data.parts, data.split, [], [], ())  # fmt: skip
    other = pca_routes.fit_parts(changed, "group-pca", 4, 0, 1)
    for mine, theirs in zip(folds[0].inner, other[0].inner, strict=True):
        assert np.array_equal(mine.scores[~held], theirs.scores[~held])
    again = pca_routes.sweep(changed, other, (1, 2, 4), "ridge", 0, 1)
    inner = ["inner_rmse", "inner_se", "inner_r2"]
    first = swept["fold"] == "0"
    assert np.array_equal(again.loc[first, inner], swept.loc[first, inner])
    assert not np.allclose(again.loc[~first, inner], swept.loc[~first, inner])


def test_the_sweep_scores_what_its_words_say(data, folds, swept):
    fold, truth = folds[2], data.ratings.to_numpy()
    predicted = [part.predict(truth, "ridge", 2, 0) for part in fold.inner]
    each = [rmse(truth[part.test, 1], found[:, 1]) for part, found in zip(fold.inner, predicted, strict=True)]
    both = [
        (rmse(truth[part.test, 0], found[:, 0]) + rmse(truth[part.test, 1], found[:, 1])) / 2
        for part, found in zip(fold.inner, predicted, strict=True)
    ]
    rows = swept[(swept["fold"] == "2") & (swept["components"] == 2)].set_index("target")
    assert rows.loc["arousal", "inner_rmse"] == pytest.approx(sum(each) / 5)
    assert rows.loc["joint", "inner_rmse"] == pytest.approx(sum(both) / 5)
    assert rows.loc["joint", "inner_se"] == pytest.approx(pd.Series(both).std() / 5**0.5)
    outer = fold.outer.predict(truth, "ridge", 2, 0)
    assert rows.loc["valence", "outer_r2"] == pytest.approx(r2(truth[fold.outer.test, 0], outer[:, 0]))
    assert swept.loc[swept["fold"] == "all", "outer_rmse"].isna().all()


def test_one_standard_error_allows_fewer_components():
    errors = {1: (1.2, 0.1), 2: (1.04, 0.1), 4: (1.0, 0.05), 8: (1.01, 0.2)}
    rows = [("0", count, "joint", mean, se) for count, (mean, se) in errors.items()]
    rows += [("0", 1, "valence", 0.1, 0.0)]
    table = pd.DataFrame(rows, columns=["fold", "components", "target", "inner_rmse", "inner_se"])
    assert pca_routes.choose(table, "minimum") == {"0": 4}
    assert pca_routes.choose(table, "one-se") == {"0": 2}
    table.loc[table["components"] == 4, "inner_se"] = 0.03
    assert pca_routes.choose(table, "one-se") == {"0": 4}


def test_the_winner_is_chosen_by_inner_error_and_scored_outside(data, folds):
    chosen = {str(fold.name): 2 for fold in folds}
    table = pca_routes.board(data, folds, chosen, ("svr", "ridge"), 0, 20, 1)
    assert table["inner_joint"].is_monotonic_increasing
    assert set(table["family"]) == {"ridge", "svr"}
    assert set(table.loc[table["winner"], "family"]) == {table["family"].iloc[0]}
    row = table.set_index(["family", "target"]).loc[("ridge", "arousal")]
    predicted = np.full(len(data.ratings), np.nan)
    for fold in folds[:-1]:
        predicted[fold.outer.test] = fold.outer.predict(data.ratings.to_numpy(), "ridge", 2, 0)[:, 1]
    assert row["r2"] == pytest.approx(r2(data.ratings["arousal"].to_numpy(), predicted)) and row["r2"] > 0.5
    assert row["r2_low"] < row["r2"] < row["r2_high"] and row["n"] == 48


def test_the_permutation_test_notices_planted_effects_and_nothing_else(data, folds):
    chosen = {str(fold.name): 2 for fold in folds}
    found = pca_routes.permutation(data, folds, chosen, "ridge", 19, 0, 1, lambda *_: None)
    assert found["targets"]["valence"]["p"] == found["targets"]["arousal"]["p"] == 1 / 20
    noise = data.ratings.assign(valence=np.random.default_rng(5).normal(size=48))
    blind = Data(data.table, data.features, noise, data.groups, data.parts, data.split, [], [], ())
    found = pca_routes.permutation(blind, folds, chosen, "ridge", 19, 0, 1, lambda *_: None)
    assert found["targets"]["valence"]["p"] > 0.1


def test_counts_beyond_what_exists_are_refused_or_left_out(data):
    folds = pca_routes.fit_parts(data, "global-pca", None, 0, 1)
    available = min(part.rank.max() for fold in folds for part in fold.inner)
    assert available == 24 and pca_routes.counts_to_try((), "global-pca", folds) == (8, 16, 24)
    assert pca_routes.counts_to_try(("4", "all"), "global-pca", folds) == (4, 24)
    with pytest.raises(UserError, match="--components 25 is more than the 24 components that the table has"):
        pca_routes.counts_to_try(("25",), "global-pca", folds)
    for wrong in ("0", "2.5", "many"):
        with pytest.raises(UserError, match="is no count"):
            pca_routes.largest_of((wrong,), "global-pca")


def test_a_group_of_one_column_and_constant_columns_make_the_components_they_can():
    values, ratings = table_of()
    values = values.drop(columns=[name for name in values if name.startswith(LLDS[2])][1:])
    values[f"{LLDS[0]}_mean"] = 1.0
    folds = pca_routes.fit_parts(data_of(values, ratings), "group-pca", 5, 0, 1)
    assert folds[0].inner[0].rank.tolist() == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1]
    with pytest.raises(UserError, match="no column of 17 .* varies"):
        pca_routes.fit_parts(data_of(values * 0 + 1.0, ratings), "group-pca", 5, 0, 1)


def test_few_groups_make_fewer_inner_folds():
    values, ratings = table_of(20)
    folds = pca_routes.fit_parts(data_of(values, ratings, tracks_a_group=4), "group-pca", 2, 0, 1)
    assert [len(fold.inner) for fold in folds] == [4, 4, 4, 4, 4, 5]


def test_a_training_part_of_one_group_is_told():
    data = data_of(*table_of(20))
    halves = pd.Series(["a", "b"] * 10, data.groups.index)
    split = Split("grouped-2fold", (halves == "b").astype(int))
    data = Data(data.table, data.features, data.ratings, halves, data.parts, split, [], [], ())
    with pytest.raises(UserError, match="all 10 tracks of a training part are of the group"):
        pca_routes.fit_parts(data, "group-pca", 2, 0, 1)


# ---- as a user calls it


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    """A folder without audio, and a table of features of its tracks."""
    folder = tmp_path_factory.mktemp("music")
    values, ratings = table_of()
    tracks = ratings.assign(path="none.wav", group=[f"g{i // 2}" for i in range(len(ratings))])
    tracks.to_csv(folder / "tracks.csv")
    values.reset_index().to_csv(folder / "table.csv", index=False)
    (folder / "dataset.json").write_text('{"rating_scale": [1, 9]}')
    return folder


def options(music: Path, *more: str) -> list[str]:
    return [
        "--dataset",
        str(music),
        "--features",
        str(music / "table.csv"),
        "--resamples",
        "20",
        "--workers",
        "1",
        *more,
    ]


@pytest.fixture(scope="module")
def finished(music, tmp_path_factory):
    """Runs of both routes by name, in an artifacts folder of their own."""
    from pipelines.__main__ import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        small = options(music, "--components", "1,2,4", "--permutations", "9")
        assert main(["group_pca", *small, "--families", "ridge,svr", "--run-id", "group"]) == 0
        assert main(["global_pca", *small, "--families", "svr", "--rule", "one-se", "--run-id", "global"]) == 0
        yield {name: read_run(name) for name in ("group", "global")}


@pytest.mark.parametrize("name", ["group", "global"])
def test_a_run_has_what_a_run_of_train_has(finished, name):
    run = finished[name]
    found = {path.name for path in run.folder.rglob("*") if path.is_file()}
    assert {"metrics.json", "intervals.json", "predictions.parquet", "tracks.parquet", "neighbours.parquet"} <= found
    assert {"sweep.parquet", "board.parquet", "scores.parquet", "correlations.parquet", "loadings.parquet"} <= found
    assert {"spectrum.parquet", "model.skops"} <= found
    board, metrics = run.table("board"), run.metrics
    winner = board[board["winner"]].set_index("target")
    assert run.about["model"] == winner["family"].iloc[0] == metrics["pca"]["winner"]
    for target in ("valence", "arousal"):  # the cut components of the board, and the pipeline that is fitted anew
        assert metrics["targets"][target]["all"]["r2"][0] == pytest.approx(winner.loc[target, "r2"], abs=1e-6)
        assert metrics["permutation"]["targets"][target]["r2"] == pytest.approx(winner.loc[target, "r2"], abs=1e-6)
    chosen = [about["components"] for about in run.about["chosen_parameters"]]
    assert chosen == [metrics["pca"]["chosen"][str(fold)] for fold in range(5)]
    assert metrics["regions"]["width"]["regions"][0]["n"] >= 0
    assert metrics["pca"]["rules"]["minimum"]["outer_joint_rmse"] > 0


def test_tables_describe_the_final_models_components(finished):
    run = finished["group"]
    scores, count = run.table("scores").set_index("track_id"), run.metrics["pca"]["chosen"]["all"]
    assert scores.shape == (48, 3 * count if count <= 4 else 12)
    ratings = run.tracks.set_index("track_id").loc[scores.index]
    for row in run.table("correlations").head(5).itertuples():
        pair = scores[row.component], ratings[row.target]
        assert row.pearson == pytest.approx(np.corrcoef(*pair)[0, 1])
        assert row.spearman == pytest.approx(pair[0].rank().corr(pair[1].rank()))
        assert row.pearson_p <= row.pearson_q <= 1 and row.spearman_p <= row.spearman_q <= 1
    loadings = run.table("loadings")
    assert loadings.groupby("component")["loading"].apply(lambda values: (values**2).sum()).between(0.5, 1 + 1e-9).all()
    assert loadings["plain"].str.len().min() > 5 and set(loadings["component"]) == set(scores)
    spectrum = run.table("spectrum")
    assert spectrum.groupby("group")["share"].sum().to_numpy() == pytest.approx(1)


def test_predictions_are_explained_and_repeated(finished, monkeypatch):
    from pipelines.__main__ import main

    monkeypatch.setenv("MER_ARTIFACTS", str(finished["group"].folder.parent.parent))
    run = finished["group"]
    assert run.explanation_names() == ("grouped", "shap") and finished["global"].explanation_names() == ("grouped",)
    scored = run.predictions.pivot(index="track_id", columns="target", values="predicted")
    for method, shape in (("grouped", 3), ("shap", run.table("scores").shape[1] - 1)):
        kept = np.array(run.explanation(method).values)
        shutil.rmtree(run.folder / "explanations" / method)
        assert main(["explain", "--run", "group", "--method", method, "--workers", "1"]) == 0
        again = run.explanation(method)
        assert np.array_equal(again.values, kept) and kept.shape[1] >= shape
        expected = scored.loc[list(again.tracks), list(again.targets)].to_numpy()
        assert np.allclose(again.base + again.values.sum(axis=1), expected, atol=1e-6)
    groups = finished["global"].explanation("grouped")
    about = json.loads((finished["global"].folder / "explanations" / "grouped" / "explanation.json").read_text())
    assert about["method"] == "grouped" and about["additivity_error"] < 1e-6
    assert list(groups.columns.index) == ["articulation", "rhythmic_complexity", "melodiousness"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--components", "30"], "--components 30 is more than the 6 components that a group has"),
        (["--components", "x"], "is no count"),
        (["--families", "ridge,lasso"], "'lasso' is unknown"),
        (["--families", ""], "--families names none"),
        (["--permutations", "-1"], "negative"),
    ],
)
def test_mistakes_are_told_in_a_line(music, artifacts, capsys, more, said):
    from pipelines.__main__ import main

    assert main(["group_pca", *options(music), *more]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and said in last


def test_a_table_that_is_reduced_already_and_columns_of_no_group_are_refused(music, artifacts, capsys):
    from pipelines.__main__ import main

    named = str(music / "table.csv")
    assert main(["global_pca", *options(music), "--features", f"{named}-global-pca"]) == 2
    assert "is reduced already" in capsys.readouterr().err
    pd.read_csv(named).rename(columns=lambda name: name.replace("sma", "x")).to_csv(music / "own.csv", index=False)
    assert main(["group_pca", *options(music), "--features", str(music / "own.csv")]) == 2
    assert "none of the 24 columns is in one" in capsys.readouterr().err
