"""SHAP values against brute force over all coalitions, and against shap's own linear explainer."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import shap

from mer_core.errors import UserError
from mer_core.explain.shapley import explain_regressor
from mer_core.models.regressors import FAMILIES, make_regressor

EXACT = [family for family, kind in FAMILIES.items() if kind.explainer]
FEW_TREES = {"max_iter": 15}
SMALL = {"forest": {"n_estimators": 12}, "extra-trees": {"n_estimators": 12}, "boosting": FEW_TREES, "blend": FEW_TREES}


def problem(n: int = 120, p: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, p))
    features[:, 1] += 0.7 * features[:, 0]
    ratings = np.column_stack(
        [features[:, 0] * features[:, 1] + features[:, 2], np.abs(features[:, 3]) - features[:, 0]]
    )
    return features, ratings + 5


def shapley(worth, p: int) -> np.ndarray:
    """Shapley's formula over all coalitions. worth : frozenset of columns -> (t,)."""
    values = []
    for column in range(p):
        others = [other for other in range(p) if other != column]
        total = 0.0
        for size in range(p):
            weight = math.factorial(size) * math.factorial(p - size - 1) / math.factorial(p)
            for coalition in combinations(others, size):
                total = total + weight * (worth(frozenset({*coalition, column})) - worth(frozenset(coalition)))
        values.append(total)
    return np.array(values)


def expectation_in_sklearn_tree(tree, row: np.ndarray, known: frozenset, node: int = 0) -> np.ndarray:
    """Prediction when only some columns are known: an unknown one follows both branches, weighted by training rows."""
    if tree.children_left[node] == -1:
        return tree.value[node, :, 0]
    left, right = tree.children_left[node], tree.children_right[node]
    if tree.feature[node] in known:
        taken = left if np.float32(row[tree.feature[node]]) <= tree.threshold[node] else right
        return expectation_in_sklearn_tree(tree, row, known, taken)
    share = tree.weighted_n_node_samples[left] / tree.weighted_n_node_samples[node]
    return share * expectation_in_sklearn_tree(tree, row, known, left) + (1 - share) * expectation_in_sklearn_tree(
        tree, row, known, right
    )


def expectation_in_boosted_tree(nodes, row: np.ndarray, known: frozenset, node: int = 0) -> float:
    here = nodes[node]
    if here["is_leaf"]:
        return here["value"]
    left, right = here["left"], here["right"]
    if here["feature_idx"] in known:
        taken = left if row[here["feature_idx"]] <= here["num_threshold"] else right
        return expectation_in_boosted_tree(nodes, row, known, taken)
    share = nodes[left]["count"] / here["count"]
    return share * expectation_in_boosted_tree(nodes, row, known, left) + (1 - share) * expectation_in_boosted_tree(
        nodes, row, known, right
    )


@pytest.mark.parametrize("family", ["forest", "extra-trees"])
def test_forests_equal_brute_force(family):
    features, ratings = problem()
    model = make_regressor(family, 0, n_estimators=5, max_depth=4).fit(features, ratings)
    base, values = explain_regressor(model, features, features[:6])
    trees = [estimator.tree_ for estimator in model[-1].estimators_]

    def worth(row):
        return lambda known: np.mean([expectation_in_sklearn_tree(tree, row, known) for tree in trees], axis=0)

    assert base == pytest.approx(worth(features[0])(frozenset()), abs=1e-9)
    for row in range(6):
        assert values[row] == pytest.approx(shapley(worth(features[row]), 4), abs=1e-9)


def test_boosting_equals_brute_force():
    features, ratings = problem()
    model = make_regressor("boosting", 0, max_iter=6, max_leaf_nodes=5).fit(features, ratings)
    base, values = explain_regressor(model, features, features[:6])
    for target, estimator in enumerate(model[-1].estimators_):
        trees = [stage[0].nodes for stage in estimator._predictors]

        def worth(row, trees=trees):
            return lambda known: np.sum([expectation_in_boosted_tree(nodes, row, known) for nodes in trees])

        start = float(np.squeeze(estimator._baseline_prediction))
        assert base[target] == pytest.approx(start + worth(features[0])(frozenset()), abs=1e-9)
        for row in range(6):
            assert values[row, :, target] == pytest.approx(shapley(worth(features[row]), 4), abs=1e-9)


@pytest.mark.parametrize("family", ["ridge", "elasticnet"])
def test_linear_models_equal_brute_force_and_shap(family):
    features, ratings = problem()
    model = make_regressor(family, 0).fit(features[:80], ratings[:80])
    base, values = explain_regressor(model, features[:80], features[80:86])

    def worth(row):
        def mean_prediction(known):
            mixed = features[:80].copy()
            mixed[:, list(known)] = row[list(known)]
            return model.predict(mixed).mean(axis=0)

        return mean_prediction

    assert base == pytest.approx(model.predict(features[:80]).mean(axis=0), abs=1e-12)
    for position, row in enumerate(features[80:86]):
        assert values[position] == pytest.approx(shapley(worth(row), 4), abs=1e-12)
    scaled = model[:-1].transform(features)
    masker = shap.maskers.Independent(scaled[:80], max_samples=80)
    for target in range(2):
        linear = (model[-1].coef_[target], model[-1].intercept_[target])
        by_shap = shap.LinearExplainer(linear, masker).shap_values(scaled[80:86])
        assert values[:, :, target] == pytest.approx(by_shap, abs=1e-10)


@pytest.mark.filterwarnings("ignore:A column-vector y")
@pytest.mark.parametrize("family", EXACT)
@pytest.mark.parametrize("targets", [1, 2])
def test_values_add_up_with_gaps_frames_and_any_number_of_targets(family, targets):
    features, ratings = problem(150, 20, 1)
    features *= 10.0 ** np.arange(-4, 6).repeat(2)
    features[::7, 3], features[:, 19] = np.nan, np.nan
    table = pd.DataFrame(features, columns=[f"column {i}" for i in range(20)])
    model = make_regressor(family, 0, **SMALL.get(family, {})).fit(table[:100], ratings[:100, :targets])
    base, values = explain_regressor(model, table[:100], table[100:])
    assert base.shape == (targets,) and values.shape == (50, 20, targets) and values.dtype == np.float64
    assert base + values.sum(axis=1) == pytest.approx(np.reshape(model.predict(table[100:]), (50, targets)), abs=1e-6)
    assert np.all(values[:, 19] == 0)


def test_a_family_without_exact_explainer_says_what_to_choose():
    features, ratings = problem()
    with pytest.raises(UserError, match="svr has no exact explainer: choose ridge, elasticnet, forest"):
        explain_regressor(make_regressor("svr", 0).fit(features, ratings), features, features)


def test_values_that_do_not_add_up_are_never_returned(monkeypatch):
    features, ratings = problem()
    model = make_regressor("ridge", 0).fit(features, ratings)
    right = model.predict(features)
    right[17, 1] += 0.001
    monkeypatch.setattr(type(model), "predict", lambda *_: right)
    with pytest.raises(RuntimeError, match="row 17, target 1 miss its prediction by 1.00e-03"):
        explain_regressor(model, features, features)
