"""Permutation test and paired bootstrap against slow definitions, and their behaviour under the null."""

import numpy as np
import pandas as pd
import pytest

from mer_core.evaluate.cross_validation import cross_validate, permutation_scores
from mer_core.evaluate.metrics import ccc, draw_groups, r2, rmse
from mer_core.evaluate.significance import paired_bootstrap, permutation_orders, permutation_test
from mer_core.evaluate.splits import grouped_kfold


def make_data(tracks=60, columns=6, effect=1.0, seed=0):
    random = np.random.default_rng(seed)
    index = pd.Index([f"t{i}" for i in range(tracks)], name="track_id")
    features = pd.DataFrame(random.normal(size=(tracks, columns)), index=index).rename(columns=str)
    ratings = pd.DataFrame(random.normal(5, 1, (tracks, 2)), index=index, columns=["valence", "arousal"])
    ratings["arousal"] += effect * features["0"]
    groups = pd.Series([f"g{i // 3}" for i in range(tracks)], index=index)
    return features, ratings, groups


def predictions(true, predicted, target="valence"):
    ids = [f"t{i}" for i in range(len(true))]
    return pd.DataFrame({"track_id": ids, "target": target, "true": true, "predicted": predicted})


def test_permutations_move_whole_groups_to_groups_of_their_size():
    groups = np.array(list("aabbbccdddeffff"))
    for order in permutation_orders(groups, 50, seed=1):
        assert sorted(order) == list(range(len(groups)))
        for name in "abcdef":
            sources = set(groups[order[groups == name]])
            assert len(sources) == 1
            assert (groups == sources.pop()).sum() == (groups == name).sum()
    moved = permutation_orders(groups, 50, seed=1)
    assert len(np.unique(moved[:, :2], axis=0)) == 4  # blocks aa and cc, in both orders each
    assert (groups[moved[:, groups == "f"]] == "f").all()  # no other group of four


def test_p_value_is_the_share_of_the_null_that_is_as_good():
    features, ratings, groups = make_data()
    split = grouped_kfold(groups, ratings)
    found = permutation_scores(features, ratings, groups, split, "ridge", 0, 19)
    orders = permutation_orders(groups.to_numpy(), 19, 0)
    for column, target in enumerate(ratings):
        null = []
        for order in orders:
            shuffled = ratings.iloc[order].set_axis(ratings.index)
            predicted = cross_validate(features, shuffled, groups, split, "ridge", 0).predicted
            null.append(r2(shuffled.to_numpy()[:, column], predicted[:, column]))
        real = cross_validate(features, ratings, groups, split, "ridge", 0).predicted
        real = r2(ratings.to_numpy()[:, column], real[:, column])
        about = found["targets"][target]
        assert about["r2"] == pytest.approx(real) and np.allclose(about["null"], null)
        assert about["p"] == (1 + sum(score >= real for score in null)) / 20
    assert found["targets"]["arousal"]["p"] == 1 / 20


def test_families_that_are_fitted_one_by_one_are_tested_too():
    features, ratings, groups = make_data(effect=3.0)
    split = grouped_kfold(groups, ratings)
    found = permutation_scores(features, ratings, groups, split, "svr", 0, 4)
    assert found["permutations"] == 4 and found["targets"]["arousal"]["p"] == 0.2


def test_p_values_are_uniform_under_the_null():
    random, values = np.random.default_rng(3), []
    groups = pd.Series(np.repeat(np.arange(20), 2))
    for _ in range(200):
        x = np.repeat(random.normal(size=20), 2) + 0.1 * random.normal(size=40)  # alike within groups
        y = np.repeat(random.normal(size=20), 2) + 0.1 * random.normal(size=40)

        def predict(ratings, x=x):
            slope = (x - x.mean()) @ (ratings - ratings.mean(0)) / ((x - x.mean()) ** 2).sum()
            return np.ones(40, bool), ratings.mean(0) + np.outer(x - x.mean(), slope)

        found = permutation_test(predict, pd.DataFrame({"valence": y}), groups, 39, int(random.integers(1e6)), 39)
        values.append(found["targets"]["valence"]["p"])
    assert 0.01 <= np.mean(np.array(values) <= 0.05) <= 0.1
    assert np.mean(values) == pytest.approx(0.51, abs=0.06)


def test_paired_bootstrap_equals_resampling_rows():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 5)  # coded in the order of their names as text
    true = random.normal(5, 1, 60)
    a, b = true + random.normal(0, 0.5, 60), true + random.normal(0, 0.7, 60)
    index = [f"t{i}" for i in range(60)]
    found = paired_bootstrap(predictions(true, a), predictions(true, b), pd.Series(groups + 100, index=index), 80, 5)
    draws = draw_groups(12, 80, 5)
    for name, score in (("r2", r2), ("rmse", rmse), ("ccc", ccc)):
        differences = []
        for counts in draws:
            rows = np.repeat(np.arange(60), counts[groups])
            differences.append(score(true[rows], a[rows]) - score(true[rows], b[rows]))
        value, low, high = found["valence"][name]["difference"]
        assert value == pytest.approx(score(true, a) - score(true, b))
        assert [low, high] == pytest.approx(np.quantile(differences, [0.025, 0.975]))


def test_a_winner_is_named_only_where_the_interval_excludes_zero():
    random = np.random.default_rng(1)
    true = random.normal(5, 1, 200)
    index = [f"t{i}" for i in range(200)]
    groups = pd.Series(np.arange(200) // 4, index=index)
    good, bad = (true + random.normal(0, sd, 200) for sd in (0.3, 1.0))
    clear = paired_bootstrap(predictions(true, good), predictions(true, bad), groups)["valence"]
    assert {clear[name]["winner"] for name in ("r2", "rmse", "ccc")} == {"a"}
    turned = paired_bootstrap(predictions(true, bad), predictions(true, good), groups)["valence"]
    assert {turned[name]["winner"] for name in ("r2", "rmse", "ccc")} == {"b"}
    assert turned["rmse"]["difference"][0] == pytest.approx(-clear["rmse"]["difference"][0])
    single = paired_bootstrap(predictions(true, good), predictions(true, bad), groups * 0)["valence"]
    assert single["r2"]["winner"] is None and single["r2"]["difference"][1] is None


def test_equals_are_seldom_called_better():
    random, named = np.random.default_rng(4), 0
    groups = pd.Series(np.arange(200) // 4, index=[f"t{i}" for i in range(200)])
    for _ in range(60):
        true = random.normal(5, 1, 200)
        a, b = (true + random.normal(0, 0.3, 200) for _ in range(2))
        found = paired_bootstrap(predictions(true, a), predictions(true, b), groups, 300)
        named += found["valence"]["r2"]["winner"] is not None
    assert named / 60 < 0.13  # 5 % expected, and three standard errors


def test_only_tracks_that_both_predicted_are_compared():
    true = np.random.default_rng(2).normal(5, 1, 30)
    groups = pd.Series(np.arange(30), index=[f"t{i}" for i in range(30)])
    a, b = predictions(true, true + 0.1), predictions(true, true - 0.2)
    assert paired_bootstrap(a, b.iloc[10:], groups)["valence"]["n"] == 20
    with pytest.raises(ValueError, match="9 tracks"):
        paired_bootstrap(a, b.iloc[21:], groups)
    with pytest.raises(ValueError, match="true valence"):
        paired_bootstrap(a, b.assign(true=b["true"] + 1), groups)
    assert paired_bootstrap(a, b.assign(target="joy"), groups) == {}
