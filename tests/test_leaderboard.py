"""Every cell is tested on what it has not seen, chosen by what is not tested, and judged against the choice."""

import numpy as np
import pandas as pd
import pytest

from mer_core.errors import UserError
from mer_core.evaluate import leaderboard
from mer_core.evaluate.matrix import Cell, Configuration, Matrix, complete_tables, fit_matrix
from mer_core.evaluate.metrics import r2
from mer_core.evaluate.splits import grouped_kfold
from mer_core.features import FeatureTable, describe_columns
from mer_core.models import regressors
from mer_core.models.regressors import make_regressor

TRACKS, SEED = 60, 3
TARGETS = ["valence", "arousal"]


def feature_table(values, names=None):
    tracks = pd.Index([f"t{i}" for i in range(len(values))], name="track_id")
    frame = pd.DataFrame(values, index=tracks, columns=names or [f"x{i}" for i in range(values.shape[1])])
    return FeatureTable(frame, describe_columns(frame.columns), "table")


@pytest.fixture(scope="module")
def corpus():
    """Tables that tell of the ratings and that do not, ratings, groups of three tracks and their folds."""
    random = np.random.default_rng(0)
    cause = random.normal(size=(TRACKS, 4))
    values = cause[:, :2] + random.normal(0, 0.5, (TRACKS, 2)) + 5
    ratings = pd.DataFrame(values, index=feature_table(cause).values.index, columns=TARGETS)
    groups = pd.Series([f"g{i // 3}" for i in range(TRACKS)], ratings.index)
    noise = feature_table(random.normal(size=(TRACKS, 4)))
    found = [Configuration("cause", feature_table(cause)), Configuration("noise", noise)]
    found.append(Configuration("cause-global-pca", found[0].table, "global-pca"))
    return found, ratings, groups, grouped_kfold(groups, ratings, 5, SEED)


@pytest.fixture(scope="module")
def matrix(corpus):
    return fit_matrix(corpus[0], ("ridge", "elasticnet", "svr"), *corpus[1:], SEED)


KINDS = {"cause": "named", "noise": "named", "cause-global-pca": "component of all columns"}


def cell_of(matrix, features, model):
    return next(cell for cell in matrix.cells if (cell.features, cell.model) == (features, model))


def test_each_cell_is_the_pipeline_fitted_on_each_training_part(corpus, matrix):
    configurations, ratings, _, split = corpus
    for one in configurations:
        for model in ("ridge", "svr"):
            expected = np.full(ratings.shape, np.nan)
            for _, seen, test in split.rounds():
                train = ratings.index[ratings.index.isin(seen)]  # in the table's order, on which support vectors depend
                pipeline = make_regressor(model, SEED, reduction=one.reduction, columns=one.table.columns)
                pipeline.fit(one.table.values.loc[train].to_numpy(), ratings.loc[train].to_numpy())
                predicted = pipeline.predict(one.table.values.loc[test].to_numpy())
                expected[ratings.index.get_indexer(test)] = predicted
            assert cell_of(matrix, one.name, model).predicted == pytest.approx(expected, abs=1e-8)


def test_a_blend_is_the_mean_of_its_members(corpus, monkeypatch):
    trees = regressors._boosted_trees
    monkeypatch.setattr(regressors, "_boosted_trees", lambda seed, given: trees(seed, {"max_iter": 15} | given))
    configurations, ratings, groups, split = corpus
    found = fit_matrix(configurations[:1], ("blend",), ratings, groups, split, SEED)
    assert [cell.model for cell in found.cells] == ["blend"]
    _, train, test = split.rounds()[0]
    values = configurations[0].table.values
    pipeline = make_regressor("blend", SEED).fit(values.loc[train].to_numpy(), ratings.loc[train].to_numpy())
    expected = pipeline.predict(values.loc[test].to_numpy())
    assert found.cells[0].predicted[ratings.index.get_indexer(test)] == pytest.approx(expected, abs=1e-6)


def test_the_choice_of_a_round_knows_nothing_of_its_held_out_tracks(corpus, matrix):
    configurations, ratings, groups, split = corpus
    held_out = split.rounds()[0][2]
    changed = ratings.copy()
    changed.loc[held_out] = changed.loc[held_out].to_numpy()[::-1] * 3
    again = fit_matrix(configurations, ("ridge", "svr"), changed, groups, split, SEED)
    for cell in again.cells:
        before = cell_of(matrix, cell.features, cell.model)
        assert np.array_equal(np.isnan(before.loss[0]), ratings.index.isin(held_out))
        assert cell.loss[0] == pytest.approx(before.loss[0], nan_ok=True)
        assert not np.allclose(cell.loss[1:], before.loss[1:], equal_nan=True)


def test_inner_scores_are_of_tracks_whose_group_was_not_learned_from(corpus):
    """A column that names the group predicts perfectly where the group was seen, and nothing where it was not."""
    _, ratings, groups, split = corpus
    by_group = pd.DataFrame(
        {
            name: groups.map(dict(zip(groups.unique(), np.random.default_rng(1).normal(size=20), strict=True)))
            for name in TARGETS
        }
    )
    names = feature_table(pd.get_dummies(groups).to_numpy(float))
    found = fit_matrix([Configuration("names", names)], ("ridge",), by_group, groups, split, SEED)
    assert leaderboard.inner_scores(found)[0] < 0.1


def test_what_tells_of_the_ratings_is_chosen_and_the_plainer_one_of_equals_is_named(matrix):
    table, summary = leaderboard.judge(matrix, KINDS, 200, SEED)
    assert summary["choice"]["features"].startswith("cause") and summary["interpretable"]["features"] == "cause"
    assert summary["interpretable"]["model"] in ("ridge", "elasticnet")
    assert len(summary["chosen_per_fold"]) == 5 and summary["procedure"]["valence"]["r2"][0] > 0.5
    assert table.groupby("target")["chosen"].sum().eq(1).all()
    chosen = table[table["chosen"]]
    assert (chosen[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)
    for target, rows in table.groupby("target"):
        truth = matrix.ratings[target].to_numpy()
        column = TARGETS.index(target)
        scores = [
            r2(truth, cell_of(matrix, f, m).predicted[:, column])
            for f, m in zip(rows["features"], rows["model"], strict=True)
        ]
        assert rows["r2"].to_numpy() == pytest.approx(scores)
        assert list(rows["rank"]) == [1 + sum(other > score for other in scores) for score in scores]
        assert (rows["rank_low"] <= rows["rank"]).all() and (rows["rank"] <= rows["rank_high"]).all()
        assert rows["difference"].to_numpy() == pytest.approx(
            rows["r2"].to_numpy() - rows.loc[rows["chosen"], "r2"].item()
        )
        noise = rows[rows["features"] == "noise"]
        assert (noise["difference_high"] < 0).all() and not noise["within"].any()


def test_the_procedure_predicts_each_fold_with_the_cell_chosen_for_it(matrix):
    _, summary = leaderboard.judge(matrix, KINDS, 20, SEED)
    predicted = np.full(TRACKS, np.nan)
    for row, names in enumerate(summary["chosen_per_fold"]):
        rows = matrix.fold == sorted(set(matrix.fold))[row]
        predicted[rows] = cell_of(matrix, **names).predicted[rows, 1]
    assert summary["procedure"]["arousal"]["r2"][0] == pytest.approx(
        r2(matrix.ratings["arousal"].to_numpy(), predicted)
    )


def made_up(losses, groups, models=("ridge",)):
    """Matrix of cells with given losses (cells, n)."""
    index = pd.Index([f"t{i}" for i in range(len(groups))])
    cells = tuple(
        Cell("a", model, np.zeros((len(groups), 1)), np.array([loss]), 4, 1.0)
        for model, loss in zip(models, losses, strict=True)
    )
    return Matrix(cells, pd.DataFrame({"valence": 0.0}, index), pd.Series(groups, index), np.zeros(len(groups)), {})


def test_the_standard_error_is_that_of_a_mean_and_counts_groups():
    loss = np.random.default_rng(2).normal(1, 0.3, 40)
    alone = made_up([loss], [f"g{i}" for i in range(40)])
    assert leaderboard.standard_error(alone, alone.cells[0]) == pytest.approx(loss.std(ddof=1) / np.sqrt(40))
    twice = made_up([np.repeat(loss, 3)], np.repeat([f"g{i}" for i in range(40)], 3))
    assert leaderboard.standard_error(twice, twice.cells[0]) == pytest.approx(loss.std(ddof=1) / np.sqrt(40))


def test_only_what_lies_within_one_standard_error_can_be_called_easier():
    loss = np.array([0.4, 0.6, 0.5, 0.5, 0.3, 0.7])
    error = loss.std(ddof=1) / np.sqrt(6)
    for shift, expected in ((0.9 * error, "ridge"), (1.1 * error, "svr")):
        both = made_up([loss, loss + shift], [f"g{i}" for i in range(6)], ("svr", "ridge"))
        best, simple, _ = leaderboard.choose(both, {"a": "named"})
        assert both.cells[best].model == "svr" and both.cells[simple].model == expected


def test_the_order_of_understanding():
    def cell(model, columns):
        return Cell("a", model, np.zeros((1, 1)), np.zeros((1, 1)), columns, 0.0)

    ordered = [("ridge", "named", 9), ("ridge", "named", 99), ("forest", "named", 9), ("blend", "named", 9)]
    ordered += [("ridge", "component of one perceptual group", 9), ("ridge", "component of all columns", 5)]
    ordered += [("ridge", "embedding", 2), ("svr", "named", 2)]
    keys = [leaderboard.interpretability(cell(model, columns), kind) for model, kind, columns in ordered]
    assert keys == sorted(keys)
    for group, kind in (("musicnn-msd", "embedding"), ("tags", "named")):
        columns = pd.DataFrame({"group": [group]})
        table = FeatureTable(pd.DataFrame(), columns, "", weights=({"name": "musicnn-msd"},))
        assert leaderboard.column_kind(Configuration("any", table)) == kind


def test_the_sparse_model_counts_the_columns_that_it_keeps(matrix):
    assert cell_of(matrix, "cause", "ridge").columns == 4
    assert 0 < cell_of(matrix, "cause", "elasticnet").columns <= 4


def test_tables_of_few_tracks_are_refused():
    whole, most, half = (feature_table(np.zeros((n, 1))) for n in (60, 56, 30))
    kept, refused = complete_tables({"whole": whole, "most": most, "half": half}, whole.values.index)
    assert list(kept) == ["whole", "most"] and "30 rated tracks, others of 60" in refused["half"]


def test_mistakes_are_said(corpus):
    configurations, ratings, groups, split = corpus
    with pytest.raises(UserError, match="'magic' is unknown"):
        fit_matrix(configurations, ("magic",), ratings, groups, split, SEED)
    grouped = [Configuration("cause-group-pca", configurations[0].table, "group-pca"), configurations[1]]
    found = fit_matrix(grouped, ("ridge",), ratings, groups, split, SEED)
    assert list(found.refused) == ["cause-group-pca"] and len(found.cells) == 1
    with pytest.raises(UserError, match="no features can be served; cause-group-pca"):
        fit_matrix(grouped[:1], ("ridge",), ratings, groups, split, SEED)
    few = groups.map({name: f"g{i % 3}" for i, name in enumerate(groups.unique())})
    with pytest.raises(UserError, match="3 folds"):
        fit_matrix(configurations, ("ridge",), ratings, few, grouped_kfold(few, ratings, 3, SEED), SEED)
