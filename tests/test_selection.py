"""Selection of columns: what is planted is found, nothing leaks, and the indices of stability mean what they say."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from mer_core.errors import UserError
from mer_core.evaluate.experiment import Data
from mer_core.evaluate.metrics import r2
from mer_core.evaluate.selection import (
    Search,
    as_cross_validation,
    blocks_of,
    choose_size,
    final_choice,
    final_ranking,
    repeated_designs,
    search_designs,
    sizes_of,
)
from mer_core.evaluate.selection_ranking import FOREST, NEVER, greedy_projection, joint_scores, projected, rank_columns
from mer_core.evaluate.selection_report import curve_table, design_facts, selections_table, stability_table
from mer_core.evaluate.splits import Split, grouped_kfold
from mer_core.evaluate.stability import kuncheva, nogueira
from mer_core.features import FeatureTable, describe_columns
from mer_core.models.regressors import make_regressor

PLANTED = (2, 11, 17)
BLOCKS = np.repeat(["a", "b", "c"], 8)


def planted(n=90, seed=0):
    """24 columns in three blocks; valence and arousal come from one column of each block."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, 24))
    weights = np.array([[1.0, 0.4], [-0.8, 0.9], [0.5, -1.0]])
    return features, 5 + features[:, PLANTED] @ weights + 0.2 * random.normal(size=(n, 2))


def experiment_data(n=90, seed=0):
    features, ratings = planted(n, seed)
    index = pd.Index([f"t{row:03}" for row in range(n)], name="track_id")
    columns = [f"x{column}" for column in range(24)]
    values = pd.DataFrame(features, index=index, columns=columns)
    described = describe_columns(columns).assign(group=BLOCKS)
    ratings = pd.DataFrame(ratings, index=index, columns=["valence", "arousal"])
    groups = pd.Series([f"g{row // 3}" for row in range(n)], index=index)
    table, split = FeatureTable(values, described, "test"), grouped_kfold(groups, ratings, 3, 0)
    return Data(table, values, ratings, groups, pd.Series("all", index=index), split, [], [], ())


def search_for(granularity="group", ranking="projection", sizes=(1, 2, 3), fit="ratings", rule="minimum"):
    blocks = np.full(24, "all") if granularity == "joint" else BLOCKS
    return Search(granularity, ranking, "ridge", 0, blocks, BLOCKS, sizes, rule, fit)


@pytest.mark.parametrize("ranking", ["shap", "projection"])
def test_planted_columns_are_first_in_their_blocks_and_first_of_all(ranking):
    features, ratings = planted()
    ranks = rank_columns(features, ratings, BLOCKS, BLOCKS, ranking, 0)
    assert np.flatnonzero(ranks.design(1)).tolist() == list(PLANTED)
    for block in "abc":
        assert sorted(ranks.rank[BLOCKS == block]) == list(range(8))
    joint = rank_columns(features, ratings, np.full(24, "all"), BLOCKS, ranking, 0)
    assert np.flatnonzero(joint.design(3)).tolist() == list(PLANTED)


def test_a_column_that_repeats_another_is_not_chosen_beside_it():
    features, ratings = planted()
    features[:, 3] = features[:, 2] + 1e-3 * np.random.default_rng(1).normal(size=len(features))
    chosen = rank_columns(features, ratings, np.full(24, "all"), BLOCKS, "projection", 0).design(3)
    assert chosen[[2, 3]].sum() == 1 and chosen[[11, 17]].all()
    decorrelated = rank_columns(features, ratings, BLOCKS, BLOCKS, "shap", 0, decorrelated=True)
    assert decorrelated.rank[3] == NEVER and decorrelated.rank[2] == 0


def test_constant_and_empty_columns_are_never_ranked():
    features, ratings = planted()
    features[:, 0], features[:, 9] = 7.0, np.nan
    for ranking in ("shap", "projection"):
        ranks = rank_columns(features, ratings, BLOCKS, BLOCKS, ranking, 0).rank
        assert set(np.flatnonzero(ranks == NEVER)) == {0, 9}


def test_joint_scores_give_both_targets_the_same_weight():
    importance = np.array([[100.0, 1.0], [300.0, 0.0], [0.0, 3.0]])
    assert_allclose(joint_scores(importance), [(0.25 + 0.25) / 2, 0.75 / 2, 0.75 / 2])
    assert_allclose(joint_scores(np.array([[2.0, 0.0], [2.0, 0.0]])), [0.25, 0.25])  # a target that nothing explains


def test_the_greedy_projection_is_the_slow_one():
    """Every step again from its definition: the column whose addition explains most of the predictor."""
    random = np.random.default_rng(3)
    raw = random.normal(size=(20, 12)) @ random.normal(size=(12, 12))
    standard = (raw - raw.mean(axis=0)) / np.linalg.norm(raw - raw.mean(axis=0), axis=0)
    shrunk = standard.T @ standard + 0.3 * np.eye(12)
    weights = random.normal(size=(12, 2))
    covariance = shrunk @ weights

    def explained(columns):
        block = shrunk[np.ix_(columns, columns)]
        return np.trace(covariance[columns].T @ np.linalg.solve(block, covariance[columns]))

    chosen, gains = greedy_projection(standard, covariance, 5)
    slow = []
    for gain in gains:
        before = explained(slow) if slow else 0.0
        best = max(set(range(12)) - set(slow), key=lambda column: explained([*slow, column]))
        slow.append(best)
        assert gain == pytest.approx(explained(slow) - before)
    assert chosen.tolist() == slow


def test_a_design_that_holds_all_the_teacher_uses_predicts_what_the_teacher_does():
    features, ratings = planted()
    teacher = make_regressor("ridge", 0).fit(features, ratings)
    unseen = np.random.default_rng(9).normal(size=(10, 24))
    same = projected(teacher, features, np.ones(24, dtype=bool), 0)
    assert_allclose(same.predict(unseen), teacher.predict(unseen), atol=1e-9)
    few = np.isin(np.arange(24), PLANTED)
    close = projected(teacher, features, few, 0).predict(unseen[:, few])
    assert r2(teacher.predict(unseen)[:, 0], close[:, 0]) > 0.97


def test_sizes_are_capped_at_what_exists_and_at_the_budget():
    blocks = np.repeat(["one", "three", "nine"], [1, 3, 9])
    assert sizes_of(blocks, "group", 0, 0) == tuple(range(1, 9))
    assert sizes_of(blocks, "group", 9, 0) == tuple(range(1, 10))
    assert sizes_of(blocks, "group", 0, 8) == (1, 2, 3, 4)  # 3, 5, 7 and 1 + 3 + 4 columns
    assert sizes_of(blocks, "joint", 0, 8) == tuple(range(1, 9))
    assert sizes_of(np.full(200, "all"), "joint", 0, 0)[-1] == 60
    assert sizes_of(np.array(["x"]), "lld", 0, 0) == (1,)


@pytest.mark.parametrize(
    ("granularity", "k", "budget", "words"),
    [
        ("group", 10, 0, "--k 10 is beyond what exists: the largest group has 9"),
        ("group", 0, 2, "--columns 2 is less than one column for each of 3"),
        ("joint", 3, 0, "--columns"),
        ("joint", 0, 14, "beyond the 13"),
        ("group", -1, 0, "negative"),
    ],
)
def test_sizes_that_cannot_be_are_refused(granularity, k, budget, words):
    with pytest.raises(UserError, match=words):
        sizes_of(np.repeat(["one", "three", "nine"], [1, 3, 9]), granularity, k, budget)


def test_an_unknown_granularity_is_named():
    with pytest.raises(UserError, match="'song' is unknown"):
        blocks_of(describe_columns(["x"]), "song")


def test_one_standard_error_takes_the_smallest_k_that_is_no_worse():
    random = np.random.default_rng(0)
    truth = random.normal(size=(60, 1))
    errors = random.normal(size=(60, 1))
    predicted = np.stack([truth + scale * errors for scale in (2.0, 1.001, 1.0, 1.3)], axis=2)
    choice = choose_size(truth, predicted, np.arange(60), 0)
    assert choice.picked == {"minimum": 2, "one-se": 1, "largest": 3}
    assert_allclose(choice.joint, np.sqrt(np.mean(errors**2)) * np.array([2.0, 1.001, 1.0, 1.3]))
    # The deviation of a root mean square of n normal errors is about its size / sqrt(2 n).
    assert choice.deviation[2] == pytest.approx(1 / np.sqrt(120), rel=0.4)


@pytest.mark.parametrize("ranking", ["shap", "projection"])
def test_ratings_of_held_out_tracks_never_change_their_fold(ranking, monkeypatch):
    """Designs, k and predictions of a fold are the same whatever the held-out tracks are rated; others change."""
    monkeypatch.setitem(FOREST, "max_depth", 3)
    data, search = experiment_data(60), search_for(ranking=ranking, fit="teacher", sizes=(1, 2))
    before = search_designs(data, search, explain=False)
    held = before[0].test
    ratings = data.ratings.copy()
    ratings[held] = ratings[held].to_numpy()[::-1] * 3 - 7
    after = search_designs(replace(data, ratings=ratings), search, explain=False)
    assert np.array_equal(before[0].ranking.rank, after[0].ranking.rank)
    assert np.array_equal(before[0].outer, after[0].outer)
    assert before[0].choice.picked == after[0].choice.picked
    assert not np.array_equal(before[1].outer, after[1].outer)


def test_features_of_a_test_part_never_change_the_design():
    data, search = experiment_data(60), search_for(sizes=(1, 2))
    parts = pd.Series(np.repeat(["train", "validation", "test"], [36, 12, 12]), index=data.features.index)
    data = replace(data, split=Split("held out", parts))
    spoiled = data.features.copy()
    spoiled.iloc[48:] = np.random.default_rng(5).normal(size=(12, 24)) * 50
    one, other = data, replace(data, features=spoiled)
    assert np.array_equal(final_ranking(one, search).rank, final_ranking(other, search).rank)
    rounds = search_designs(one, search, explain=False)
    assert len(rounds) == 1 and rounds[0].validation.shape == (12, 2)
    assert final_choice(one, search, rounds) is rounds[0].choice
    designs = [repeated_designs(d, search, rounds, 1, 2, None, lambda *_: None) for d in (one, other)]
    assert designs[0].equals(designs[1]) and len(designs[0]) == 1 + 5


def test_the_rounds_become_predictions_explanations_and_tables():
    data, search = experiment_data(), search_for(fit="teacher")
    rounds = search_designs(data, search, explain=True)
    result = as_cross_validation(data, search, rounds)
    assert_allclose(result.base + result.values.sum(axis=1), result.predicted, atol=1e-6)
    for one in rounds:
        design = one.ranking.design(search.sizes[one.choice.picked["minimum"]])
        assert not result.values[one.test][:, ~design].any()
    again = as_cross_validation(data, search, search_designs(data, search, explain=True, workers=1))
    assert np.array_equal(result.predicted, again.predicted)

    curve = curve_table(data, search, rounds, 50, 0)
    pooled = curve[curve["fold"] == "all"].set_index("k")
    picked = np.concatenate([one.outer[:, 0, 1] for one in rounds])
    true = np.concatenate([data.ratings["valence"].to_numpy()[one.test] for one in rounds])
    assert pooled.loc[2, "outer_rmse_valence"] == pytest.approx(np.sqrt(np.mean((picked - true) ** 2)))
    assert (pooled["outer_joint_low"] < pooled["outer_joint"]).all()
    assert (pooled["outer_r2_valence"] > 0.8).all() and pooled["columns"].tolist() == [3, 6, 9]

    ranking, choice = final_ranking(data, search), final_choice(data, search, rounds)
    facts = design_facts(data, search, ranking, choice, "one-se")
    assert {f"x{column}" for column in PLANTED} <= set(facts["columns"])
    assert len(facts["columns"]) == 3 * facts["k"]
    designs = repeated_designs(data, search, rounds, 1, 2, None, lambda *_: None)
    assert len(designs) == 6 and designs.iloc[:, list(PLANTED)].to_numpy().all()
    stable = stability_table(data, designs, ranking, ranking.design(1)).set_index("column")
    assert stable["frequency"].nlargest(3).index.sort_values().tolist() == ["x11", "x17", "x2"]
    assert selections_table(designs)["selected"].dtype == bool


def slow_nogueira(chosen):
    """Definition 4 of the paper with loops."""
    m, d = chosen.shape
    total = sum(np.var(chosen[:, column].astype(float), ddof=1) for column in range(d)) / d
    share = np.mean([row.sum() for row in chosen]) / d
    return 1 - total / (share * (1 - share))


def test_stability_has_the_properties_of_the_paper():
    random = np.random.default_rng(0)
    same = np.tile(random.random(50) < 0.2, (6, 1))
    assert nogueira(same)["value"] == pytest.approx(1) and kuncheva(same) == pytest.approx(1)
    chance = np.array([random.permutation(same[0]) for _ in range(300)])
    assert abs(nogueira(chance)["value"]) < 0.01
    mixed = random.random((8, 30)) < np.linspace(0, 1, 30)
    assert nogueira(mixed)["value"] == pytest.approx(slow_nogueira(mixed))
    # With one size throughout the index is Kuncheva's.
    sized = chance[:7]
    assert nogueira(sized)["value"] == pytest.approx(kuncheva(sized))
    # Fully opposite halves reach the lower bound -1 / (m - 1).
    halves = np.array([[True, False], [False, True]])
    assert nogueira(halves)["value"] == pytest.approx(-1) and kuncheva(halves) == pytest.approx(-1)


def test_kuncheva_is_its_pairwise_definition():
    chosen = np.array([[1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 1, 1]], dtype=bool)
    pairs = [
        (len(set(np.flatnonzero(a)) & set(np.flatnonzero(b))) - 4 / 5) / (2 - 4 / 5) for a, b in combinations(chosen, 2)
    ]
    assert kuncheva(chosen) == pytest.approx(np.mean(pairs))
    assert kuncheva(chosen | np.array([True, True, False, False, False])) is None  # sizes differ


def test_the_interval_of_stability_covers_its_value_as_often_as_it_says():
    """Selections drawn from known frequencies: the index of many of them is the truth that few should cover."""
    random = np.random.default_rng(1)
    frequency = np.repeat([0.9, 0.5, 0.05], [5, 10, 45])
    truth = nogueira(random.random((20000, 60)) < frequency)["value"]
    found = [nogueira(random.random((25, 60)) < frequency) for _ in range(300)]
    assert 0.88 < np.mean([one["low"] <= truth <= one["high"] for one in found]) < 0.985


@pytest.mark.parametrize("chosen", [np.zeros((3, 5)), np.ones((3, 5)), np.ones((1, 5)), np.zeros((3, 0))])
def test_stability_of_nothing_has_no_value(chosen):
    assert nogueira(chosen)["value"] is None and kuncheva(chosen) is None
