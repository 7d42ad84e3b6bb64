"""Grouped Shapley values against their definition over orders of the groups, and against linear SHAP values."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from mer_core.errors import UserError
from mer_core.explain.grouped import BACKGROUND, explain_groups, group_columns, group_levels, grouped_shapley
from mer_core.explain.shapley import explain_regressor
from mer_core.features.groups import describe_columns
from mer_core.models.regressors import make_regressor

STATS = ("mean", "std", "q25")
GROUPS = ("b", "a", "b", "c", "a", "c", "c")


def tables(n: int = 5, m: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(n, len(GROUPS))), random.normal(size=(m, len(GROUPS)))


def interacting(rows: np.ndarray) -> np.ndarray:
    """Two targets in which groups interact."""
    return np.column_stack([rows[:, 0] * rows[:, 1] * rows[:, 3] + rows[:, 2], np.abs(rows[:, 4] - rows[:, 5])])


def by_orders(predict, row: np.ndarray, groups: tuple[str, ...], background: np.ndarray) -> np.ndarray:
    """Mean over all orders in which groups can arrive of the change that each makes. (G, t)."""
    labels = list(dict.fromkeys(groups))
    orders = list(permutations(labels))
    values = np.zeros((len(labels), predict(background).shape[1]))
    for order in orders:
        mixed = background.copy()
        before = predict(mixed).mean(axis=0)
        for label in order:
            for column, group in enumerate(groups):
                if group == label:
                    mixed[:, column] = row[column]
            after = predict(mixed).mean(axis=0)
            values[labels.index(label)] += (after - before) / len(orders)
            before = after
    return values


def test_equal_the_mean_change_over_all_orders_of_arrival():
    features, background = tables()
    base, values = grouped_shapley(interacting, features, GROUPS, background)
    assert values.shape == (5, 3, 2)
    assert base == pytest.approx(interacting(background).mean(axis=0))
    for row, found in zip(features, values, strict=True):
        assert np.allclose(found, by_orders(interacting, row, GROUPS, background))
    assert np.abs(values[:, 0]).max() > 0.1  # of b, which comes first


def test_tables_larger_than_one_batch_give_the_same(monkeypatch):
    features, background = tables()
    whole = grouped_shapley(interacting, features, GROUPS, background)[1]
    monkeypatch.setattr("mer_core.explain.grouped.CELLS", background.size + 1)
    assert np.array_equal(grouped_shapley(interacting, features, GROUPS, background)[1], whole)


@pytest.mark.parametrize("reduction", [None, "decorrelated", "group-pca", "global-pca"])
def test_of_a_linear_model_are_sums_over_its_columns(reduction):
    """Ridge without normal scores is linear in the columns: the value of a group is sum of coefficient x distance."""
    columns = [f"{lld}_{s}" for lld in ("pcm_zcr_sma_amean", "pcm_zcr_sma_stddev", "F0final_sma_amean") for s in STATS]
    about = describe_columns(columns)
    random = np.random.default_rng(1)
    train = random.normal(size=(BACKGROUND, len(columns)))
    train[:, 1] = train[:, 0] + 0.01 * random.normal(size=BACKGROUND)
    ratings = train[:, :2] @ [[1.0, 0.5], [0.3, -2.0]] + train[:, -1:] + 5
    model = make_regressor("ridge", 0, reduction=reduction, columns=about)
    model.steps = [step for step in model.steps if step[0] not in ("normal", "clip", "scale")]
    model.fit(train, ratings)
    features = random.normal(size=(6, len(columns)))
    base, values = explain_groups(model, train, features, tuple(about["group"]))
    # The model's slope in each raw column, by differences: exact for a linear model.
    centre = train.mean(axis=0)
    slope = np.array([model.predict((centre + one)[None])[0] - model.predict(centre[None])[0] for one in np.eye(9)])
    single = (features - centre)[:, :, None] * slope
    for place, group in enumerate(dict.fromkeys(about["group"])):
        expected = single[:, (about["group"] == group).to_numpy()].sum(axis=1)
        assert np.allclose(values[:, place], expected, atol=1e-8)
    assert np.allclose(base, model.predict(train).mean(axis=0))


def test_of_an_additive_model_are_signed_sums_of_its_shap_values():
    random = np.random.default_rng(2)
    train, features = random.normal(size=(BACKGROUND, 7)), random.normal(size=(9, 7))
    model = make_regressor("ridge", 0).fit(train, interacting(train) + 5)
    base, values = explain_groups(model, train, features, GROUPS)
    single_base, single = explain_regressor(model, train, features)
    assert np.allclose(base, single_base)
    for place, group in enumerate(("b", "a", "c")):
        assert np.allclose(values[:, place], single[:, [g == group for g in GROUPS]].sum(axis=1))


@pytest.mark.parametrize("family", ["svr", "forest"])
def test_any_family_is_explained_from_a_part_of_its_training_tracks(family):
    random = np.random.default_rng(3)
    train, features = random.normal(size=(50, 7)), random.normal(size=(4, 7))
    model = make_regressor(family, 0, **({"n_estimators": 8} if family == "forest" else {}))
    model.fit(train, interacting(train) + 5)
    base, values = explain_groups(model, train, features, GROUPS, seed=1)
    assert np.allclose(base + values.sum(axis=1), model.predict(features), atol=1e-6)
    rows = np.sort(np.random.default_rng(1).permutation(50)[:BACKGROUND])
    assert np.allclose(values[0], by_orders(model.predict, features[0], GROUPS, train[rows]))


def test_a_group_that_the_reduction_leaves_out_does_nothing():
    columns = describe_columns(["pcm_zcr_sma_amean_mean", "own", "F0final_sma_amean_mean", "pcm_zcr_sma_amean_std"])
    random = np.random.default_rng(4)
    train = random.normal(size=(40, 4))
    model = make_regressor("ridge", 0, reduction="group-pca", columns=columns)
    model.fit(train, train[:, :2] + train[:, 2:])
    _, values = explain_groups(model, train, train[:3], tuple(columns["group"]))
    assert list(dict.fromkeys(columns["group"]))[1] == "unmapped"
    assert not values[:, 1].any() and values[:, [0, 2]].all()


def test_more_than_eight_groups_are_refused_with_their_number():
    with pytest.raises(UserError, match="9 groups need 512 coalitions"):
        grouped_shapley(interacting, np.zeros((2, 9)), list("abcdefghi"), np.zeros((1, 9)))


def test_a_prediction_that_is_no_number_is_noticed():
    features, background = tables()
    with pytest.raises(RuntimeError, match="miss a prediction by nan"):
        grouped_shapley(lambda rows: np.where(rows[:, :1] == features[2, 0], np.nan, 1.0), features, GROUPS, background)


def test_groups_are_described_as_columns_of_an_explanation():
    about = group_columns(describe_columns(["pcm_zcr_sma_amean_mean", "own", "pcm_zcr_sma_amean_std"]))
    assert list(about.index) == list(about["group"]) == ["articulation", "unmapped"]
    assert about["plain"].tolist() == ["articulation as a whole (columns: 2)", "unmapped as a whole (columns: 1)"]
    levels = group_levels(np.array([[1.0, 5, 10], [3.0, 5, np.nan], [5.0, 5, 30]]), ("a", "b", "a"))
    high = np.sqrt(1.5)
    assert levels == pytest.approx(np.array([[(-high - 1) / 2, 0], [0, 0], [(high + 1) / 2, 0]]), abs=0.02)
