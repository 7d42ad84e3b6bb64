"""Decorrelation and components against pandas and scikit-learn; and no reduction sees what its fold is tested on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from mer_core.errors import UserError
from mer_core.evaluate.cross_validation import cross_validate, permutation_scores
from mer_core.evaluate.splits import grouped_kfold
from mer_core.explain.attribution import LEVELS, FeatureExplanation, global_importance, sum_by
from mer_core.explain.components import component_scores, merge_folds
from mer_core.explain.shapley import explain_regressor
from mer_core.features.groups import UNMAPPED, describe_columns
from mer_core.features.llds import lld_columns
from mer_core.features.statistics import STATISTICS_8, column_names
from mer_core.models.column_report import GROUPS, against_source, as_in_source, coverage, expected_columns
from mer_core.models.preparation import EXTREME, reducing_part
from mer_core.models.reductions import (
    REDUCTIONS,
    Decorrelate,
    GlobalPca,
    GroupPca,
    loadings_table,
    make_reduction,
    reduction_tables,
    spectrum_table,
    split_reduction,
)
from mer_core.models.regressors import make_regressor, width
from mer_core.models.store import load_model, save_model

COLUMNS = describe_columns(column_names(lld_columns()[::6], STATISTICS_8))
TABLES = {"tall": 400, "flat": 60}  # more and fewer rows than columns


def table_of(rows: int, columns: pd.DataFrame = COLUMNS, seed: int = 0) -> np.ndarray:
    """Columns that share a few causes, many of them nearly alike, with one that is constant."""
    random = np.random.default_rng(seed)
    causes = random.normal(size=(rows, 12)) ** 3
    values = causes @ random.normal(size=(12, len(columns))) * (random.random(len(columns)) < 0.5)
    values += random.normal(size=values.shape)
    for column in range(3, len(columns), 3):
        values[:, column] = values[:, column - random.integers(1, 4)] + random.normal(size=rows) * random.exponential(1)
    values[:, 7] = 0.1
    return values * 10.0 ** random.integers(-4, 5, len(columns)) + random.normal(size=len(columns))


def dropped_by_pandas(values: np.ndarray, groups: tuple[str, ...], threshold: float = 0.95) -> set[int]:
    """The source's way of choosing: the upper triangle of a group's correlation matrix, column by column."""
    table, gone = pd.DataFrame(values), set()
    for group in set(groups) - {UNMAPPED}:
        members = table[[column for column in table if groups[column] == group]]
        correlation = members.corr().abs()
        upper = correlation.where(np.triu(np.ones(correlation.shape), k=1).astype(bool))
        gone |= {column for column in upper.columns if any(upper[column] > threshold)}
    return gone


@pytest.mark.parametrize("rows", TABLES.values(), ids=TABLES)
def test_decorrelation_drops_what_the_upper_triangle_says(rows):
    groups, values = tuple(COLUMNS["group"]), table_of(rows)
    fitted = Decorrelate(groups).fit(values)
    expected = dropped_by_pandas(values, groups)
    assert set(np.flatnonzero(~fitted.kept_)) == expected and 20 < len(expected) < len(groups) / 2
    assert np.array_equal(fitted.transform(values), np.delete(values, sorted(expected), axis=1))
    decisions = fitted.decisions(COLUMNS.index).set_index("column")
    for column, row in decisions[~decisions["kept"]].iterrows():
        here, there = COLUMNS.index.get_loc(column), COLUMNS.index.get_loc(row["dropped_because"])
        assert there < here and groups[there] == groups[here] == row["group"]
        assert row["r"] == pytest.approx(np.corrcoef(values[:, here], values[:, there])[0, 1]) and abs(row["r"]) > 0.95
    assert decisions.loc[decisions["kept"], ["dropped_because", "r"]].isna().all(axis=None)


def test_a_dropped_column_still_drops_others_and_groups_keep_to_themselves():
    random = np.random.default_rng(0)
    a, step = random.normal(size=(2, 2000))
    b = a + 0.25 * step
    c = b + 0.25 * step  # like b, but not like a
    values = np.column_stack([a, b, -c, a, a, np.full(2000, 3.0), np.full(2000, 3.0)])
    assert abs(np.corrcoef(a, c)[0, 1]) < 0.95
    fitted = Decorrelate(("x", "x", "x", "y", UNMAPPED, "x", "x")).fit(values)
    assert fitted.kept_.tolist() == [True, False, False, True, True, True, True]
    assert fitted.partner_[:3].tolist() == [-1, 0, 1] and fitted.correlation_[2] < -0.95


@pytest.mark.parametrize("rows", TABLES.values(), ids=TABLES)
def test_components_of_groups_equal_those_of_sklearn(rows):
    groups, values = tuple(COLUMNS["group"]), table_of(rows)
    fitted = GroupPca(groups).fit(values)
    new = table_of(30, seed=5)
    scores = pd.DataFrame(fitted.transform(new), columns=fitted.get_feature_names_out())
    gone = dropped_by_pandas(values, groups)
    assert scores.shape[1] == sum(len(block["loadings"]) for block in fitted.blocks_.values())
    for group in set(groups) - {UNMAPPED}:
        members = [column for column, name in enumerate(groups) if name == group and column not in gone]
        scaler = StandardScaler().fit(values[:, members])
        pca = PCA(0.95, svd_solver="full").fit(scaler.transform(values[:, members]))
        mine = scores[[name for name in scores if name.startswith(f"{group} PC")]].to_numpy()
        theirs = pca.transform(scaler.transform(new[:, members]))
        assert mine.shape == theirs.shape
        assert np.abs(mine) == pytest.approx(np.abs(theirs), abs=1e-6 * np.abs(theirs).max())
        shares = spectrum_table(fitted).query("group == @group and kept")["share"]
        assert shares.to_numpy() == pytest.approx(pca.explained_variance_ratio_, rel=1e-6)


@pytest.mark.parametrize("rows", TABLES.values(), ids=TABLES)
def test_components_of_everything_equal_those_of_sklearn(rows):
    values, new = table_of(rows), table_of(30, seed=5)
    fitted = GlobalPca().fit(values)
    scaler = StandardScaler().fit(values)
    pca = PCA(0.95, svd_solver="full").fit(scaler.transform(values))
    theirs = pca.transform(scaler.transform(new))
    assert np.abs(fitted.transform(new)) == pytest.approx(np.abs(theirs), abs=1e-6 * np.abs(theirs).max())
    assert list(fitted.get_feature_names_out())[:2] == ["PC1", "PC2"]


@pytest.mark.parametrize("reduction", [GlobalPca(), GroupPca(tuple(COLUMNS["group"]))])
def test_loadings_and_spectrum_tell_what_a_component_is(reduction):
    values = table_of(80)
    fitted = reduction.fit(values)
    scores = pd.DataFrame(fitted.transform(values), columns=fitted.get_feature_names_out())
    deviation = values.std(axis=0)
    deviation[7] = 1  # the constant one
    standard = pd.DataFrame((values - values.mean(axis=0)) / deviation, columns=COLUMNS.index)
    table = loadings_table(fitted, COLUMNS)
    for name, rows in table.groupby("component"):
        rebuilt = standard[rows["column"]].to_numpy() @ rows["loading"].to_numpy()
        assert rebuilt == pytest.approx(scores[name].to_numpy(), abs=1e-9)
        assert (rows["loading"] ** 2).sum() == pytest.approx(1) and rows["loading"].iloc[0] > 0
        assert rows["loading"].abs().is_monotonic_decreasing
    assert (table["lld"] + "_" + table["statistic"] == table["column"]).all()
    for _, rows in spectrum_table(fitted).groupby("group"):
        assert rows["cumulative"].iloc[-1] == pytest.approx(1)
        assert (rows["kept"] == (rows["cumulative"].shift(fill_value=0) < 0.95)).all()
    again = clone(reduction).fit(values)
    assert np.array_equal(again.transform(values), fitted.transform(values))


def test_so_many_components_are_kept_as_asked_and_exist():
    groups, values = tuple(COLUMNS["group"]), table_of(8)  # 8 rows have 7 components
    assert GlobalPca(components=3).fit(values).transform(values).shape == (8, 3)
    assert GlobalPca(components=50).fit(values).transform(values).shape == (8, 7)
    sizes = pd.Series(GroupPca(groups, components=5).fit(values).get_feature_names_out()).str.rsplit(" ", n=1).str[0]
    assert sizes.value_counts().le(5).all() and sizes.nunique() == len(set(groups) - {UNMAPPED})


def test_a_group_of_one_column_is_that_column_and_a_constant_group_is_left_out():
    random = np.random.default_rng(0)
    values = np.column_stack([random.normal(3, 2, 50), np.full(50, 4.0), random.normal(size=(50, 3))])
    fitted = GroupPca(("one", "constant", UNMAPPED, "two", "two")).fit(values)
    assert list(fitted.get_feature_names_out()) == ["one PC1", "two PC1", "two PC2"]
    one = values[:, 0]
    assert fitted.transform(values)[:, 0] == pytest.approx((one - one.mean()) / one.std())


@pytest.mark.parametrize("reduction", [GlobalPca(), GroupPca(("a", "a", "b"))])
def test_nothing_to_make_components_of_is_said(reduction):
    with pytest.raises(UserError, match="no column of 3 .* varies over the 9 training tracks"):
        reduction.fit(np.tile([1.0, 2.0, 0.1], (9, 1)))


def test_an_array_of_other_columns_is_refused():
    fitted = Decorrelate(("a", "a", "b")).fit(np.eye(3))
    with pytest.raises(ValueError, match=r"of 3 columns was given an array of shape \(2, 4\)"):
        fitted.transform(np.ones((2, 4)))


# --- names


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("stats8", ("stats8", None)),
        ("stats15-decorrelated", ("stats15", "decorrelated")),
        ("stats8+musicnn-msd-group-pca", ("stats8+musicnn-msd", "group-pca")),
        ("musicnn-msd", ("musicnn-msd", None)),
        ("folder/my-table.csv-global-pca", ("folder/my-table.csv", "global-pca")),
    ],
)
def test_specs_are_split_at_the_reduction(spec, expected):
    assert split_reduction(spec) == expected


def test_a_path_that_exists_wins(tmp_path):
    path = tmp_path / "mine-decorrelated"
    path.write_text("track_id,a\n")
    assert split_reduction(str(path)) == (str(path), None)
    assert split_reduction(f"{path}-decorrelated") == (str(path), "decorrelated")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("decorrelated", "names no table to reduce; give one, such as stats8-decorrelated"),
        ("stats8-decorrelated-global-pca", "names two reductions; keep decorrelated or global-pca"),
        ("stats15-pca", "pca is no reduction; choose decorrelated, group-pca, global-pca, or stats15 alone"),
    ],
)
def test_specs_that_cannot_be(spec, message):
    with pytest.raises(UserError, match=message):
        split_reduction(spec)


def test_reductions_that_cannot_be_made():
    unmapped = describe_columns(["a", "b"])
    for name in ("decorrelated", "group-pca"):
        with pytest.raises(UserError, match=f"reduction {name} works inside perceptual groups, and none of the 2"):
            make_reduction(name, unmapped)
    assert make_reduction("global-pca", unmapped, components=1).fit(np.eye(2)).transform(np.eye(2)).shape == (2, 1)
    with pytest.raises(UserError, match="'pca' is unknown: choose from decorrelated, group-pca, global-pca"):
        make_reduction("pca", COLUMNS)


# --- inside models


@pytest.fixture(scope="module")
def problem() -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Features with gaps, an empty column and a constant one; two ratings; ten groups."""
    values = table_of(90)
    ratings = 5 + StandardScaler().fit_transform(values)[:, [3, 20]]
    random = np.random.default_rng(1)
    values[random.random(values.shape) < 0.01] = np.nan
    values[:, 11] = np.nan
    tracks = [f"t{number}" for number in range(90)]
    groups = pd.Series([f"g{number % 10}" for number in range(90)], tracks)
    return pd.DataFrame(values, tracks, COLUMNS.index), pd.DataFrame(ratings, tracks, ["valence", "arousal"]), groups


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("family", ["ridge", "forest"])
def test_models_on_reduced_columns_come_back_equal(reduction, family, problem, tmp_path):
    features, ratings, _ = (part.to_numpy() for part in problem)
    small = {"n_estimators": 5} if family == "forest" else {}
    model = make_regressor(family, 0, reduction=reduction, columns=COLUMNS, **small).fit(features[:60], ratings[:60])
    assert 0 < width(model) < features.shape[1]
    save_model(tmp_path / "model.skops", model)
    again = load_model(tmp_path / "model.skops")
    assert np.array_equal(again.predict(features), model.predict(features))
    for name, table in reduction_tables(again["reduce"], COLUMNS).items():
        assert table.equals(reduction_tables(model["reduce"], COLUMNS)[name])


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_what_is_tested_changes_nobody_elses_prediction(reduction, problem):
    features, ratings, groups = problem
    split = grouped_kfold(groups, ratings, 3, 0)
    options = {"reduction": reduction, "columns": COLUMNS, "workers": 1}
    before = cross_validate(features, ratings, groups, split, "ridge", 0, **options)
    fold, train, test = split.rounds()[0]
    strange = features.copy()
    strange.loc[test[0]] = np.random.default_rng(2).normal(0, 1e6, features.shape[1])
    after = cross_validate(strange, ratings, groups, split, "ridge", 0, **options)
    same = (before.fold == fold) & (before.tested != test[0])
    assert np.array_equal(after.predicted[same], before.predicted[same])
    assert not np.array_equal(after.predicted[before.fold != fold], before.predicted[before.fold != fold])
    assert len(before.n_inputs) == 3 and after.n_inputs[0] == before.n_inputs[0]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("family", ["ridge", "blend"])
def test_attributions_add_up_to_the_tested_predictions(reduction, family, problem, monkeypatch):
    features, ratings, groups = problem
    if family == "blend":
        monkeypatch.setattr("mer_core.models.regressors._boosted_trees", small_trees)
    split = grouped_kfold(groups, ratings, 3, 0)
    options = {"reduction": reduction, "columns": COLUMNS, "explain": True, "workers": 1}
    result = cross_validate(features, ratings, groups, split, family, 0, **options)
    assert result.base + result.values.sum(axis=1) == pytest.approx(result.predicted, abs=1e-6)
    if reduction == "decorrelated":
        assert result.components is None and result.values.shape == (90, len(COLUMNS), 2)
        return
    found = result.components
    explanation = FeatureExplanation(
        "shap", tuple(result.tested), found.about, tuple(ratings), result.base, result.values, found.scores
    )
    for level in LEVELS:
        assert sum_by(explanation, level)[1].sum(axis=1) == pytest.approx(result.values.sum(axis=1))
        assert np.isfinite(global_importance(explanation, level)).all(axis=None)
    assert found.about["agreement"].between(0, 1).all() and found.about["agreement"].iloc[0] > 0.8
    assert result.values.shape[1] == max(len(found.about), *result.n_inputs)
    if reduction == "group-pca":
        assert set(found.about["group"]) == set(COLUMNS["group"]) - {UNMAPPED}
        assert found.about["plain"].iloc[0].startswith(found.about["group"].iloc[0].replace("_", " ") + " 1: ")


@pytest.mark.parametrize("reduction", ["group-pca", "global-pca"])
def test_every_family_sees_the_same_components_of_normal_scores_at_one_common_scale(reduction, problem):
    features, ratings, _ = (part.to_numpy()[:45] for part in problem)
    features = np.nan_to_num(features)
    models = {
        name: make_regressor(name, 0, reduction=reduction, columns=COLUMNS).fit(features, ratings)
        for name in ("ridge", "kernel-ridge", "extra-trees")
    }
    scores = reducing_part(models["extra-trees"]).transform(features)
    for name in ("ridge", "kernel-ridge"):
        seen = models[name][:-1].transform(features)
        assert seen == pytest.approx(scores * (seen[0, 0] / scores[0, 0]))
        assert seen.var(axis=0).mean() == pytest.approx(EXTREME**-2)
    # With fewer rows than quantiles a normal score is a matter of the order of the values alone.
    bent = np.exp((features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9))
    again = make_regressor("ridge", 0, reduction=reduction, columns=COLUMNS).fit(bent, ratings)
    assert again.predict(bent) == pytest.approx(models["ridge"].predict(features), abs=2e-3)


@pytest.mark.parametrize("reduction", ["group-pca", "global-pca"])
def test_a_blend_of_components_is_the_mean_of_ridge_and_boosting(reduction, problem, monkeypatch):
    monkeypatch.setattr("mer_core.models.regressors._boosted_trees", small_trees)
    features, ratings, _ = (part.to_numpy() for part in problem)
    predicted = {
        name: make_regressor(name, 0, reduction=reduction, columns=COLUMNS).fit(features, ratings).predict(features)
        for name in ("ridge", "boosting", "blend")
    }
    assert predicted["blend"] == pytest.approx((predicted["ridge"] + predicted["boosting"]) / 2, abs=1e-6)


def small_trees(seed: int, parameters: dict):
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(max_iter=5, max_leaf_nodes=4, random_state=seed)


def test_columns_that_were_dropped_have_no_effect(problem):
    features, ratings, _ = (part.to_numpy() for part in problem)
    model = make_regressor("ridge", 0, reduction="decorrelated", columns=COLUMNS).fit(features[:60], ratings[:60])
    base, values = explain_regressor(model, features[:60], features[60:])
    kept = model["reduce"].kept_
    assert not values[:, ~kept].any() and values[:, kept].any()
    plain = make_regressor("ridge", 0).fit(features[:60, kept], ratings[:60])
    expected = explain_regressor(plain, features[:60, kept], features[60:, kept])
    assert base == pytest.approx(expected[0]) and values[:, kept] == pytest.approx(expected[1], abs=1e-9)


@pytest.mark.parametrize("reduction", ["group-pca", "global-pca"])
def test_folds_whose_components_changed_places_and_signs_are_brought_together(reduction, problem):
    features, ratings, _ = (part.to_numpy() for part in problem)
    model = make_regressor("ridge", 0, reduction=reduction, columns=COLUMNS).fit(features, ratings)
    scores = component_scores(model, features)
    random = np.random.default_rng(0)
    values = random.normal(size=(90, scores.shape[1], 2))
    groups = np.array([name.rpartition("PC")[0] for name in scores])
    order = np.concatenate([random.permutation(np.flatnonzero(groups == group)) for group in dict.fromkeys(groups)])
    signs = random.choice([-1.0, 1.0], len(order))
    mixed = pd.DataFrame(scores.to_numpy()[:, order] * signs, columns=scores.columns)
    first, second = np.arange(90) < 40, np.arange(90) >= 40
    found = merge_folds(
        model, features, COLUMNS, [(first, scores, values[first]), (second, mixed, values[second][:, order])]
    )
    assert list(found.about.index) == list(scores)
    assert found.scores == pytest.approx(scores.to_numpy(), abs=1e-9)
    assert np.array_equal(found.values, values)
    assert found.about["agreement"].eq(1).all()


def test_permutations_and_tuning_take_the_reduction(problem):
    features, ratings, groups = problem
    split = grouped_kfold(groups, ratings, 3, 0)
    options = {"reduction": "global-pca", "columns": COLUMNS, "workers": 1}
    tested = permutation_scores(features, ratings, groups, split, "ridge", 0, 5, **options)
    assert tested["targets"]["valence"]["r2"] == pytest.approx(
        r2(cross_validate(features, ratings, groups, split, "ridge", 0, **options), ratings), abs=1e-9
    )


def r2(result, ratings: pd.DataFrame) -> float:
    true = ratings["valence"].to_numpy()
    return float(1 - ((true - result.predicted[:, 0]) ** 2).sum() / ((true - true.mean()) ** 2).sum())


# --- counts

# Columns per group of the 260 under the source's rules, and the totals that the source prints.
LLDS = {
    "melodiousness": 16,
    "articulation": 60,
    "rhythmic_stability": 18,
    "rhythmic_complexity": 34,
    "dissonance": 48,
    "tonal_stability": 52,
    UNMAPPED: 32,
}


@pytest.mark.parametrize(("table", "statistics", "mapped"), [("stats8", 8, 1824), ("stats15", 15, 3420)])
def test_columns_per_group_are_the_sources(table, statistics, mapped):
    columns = describe_columns(expected_columns(table))
    counts = as_in_source(columns)["group"].value_counts().to_dict()
    assert counts == {group: number * statistics for group, number in LLDS.items()}
    assert len(columns) - counts[UNMAPPED] == mapped
    ours = coverage(columns, expected_columns(table)).set_index("group")
    assert list(ours.index) == list(GROUPS) and (ours["columns"] == ours["expected"]).all()
    assert ours.loc[[UNMAPPED, "tonal_stability"], "llds"].tolist() == [4, 80]  # the static MFCCs where they belong


def test_our_counts_stand_beside_the_sources():
    columns = describe_columns(expected_columns("stats8"))
    values = pd.DataFrame(table_of(30, columns), columns=columns.index)
    rows = against_source("stats8", values, columns).set_index(["step", "group"])
    assert (rows.loc["columns", "ours"] == rows.loc["columns", "source"]).all()
    totals = rows.groupby("step")["source"].sum()
    assert totals.to_dict() == {"columns": 2080, "decorrelated": 1257, "group-pca": 347, "global-pca": 242}
    groups = tuple(as_in_source(columns)["group"])
    assert rows.loc["decorrelated", "ours"].sum() == 2080 - len(dropped_by_pandas(values.to_numpy(), groups))
    shares = PCA().fit(StandardScaler().fit_transform(values)).explained_variance_ratio_  # of columns as they are
    assert rows.loc["global-pca", "ours"].tolist() == [int((np.cumsum(shares) < 0.95).sum()) + 1]
    with pytest.raises(UserError, match="has counts of stats8 and stats15 only, not of 'mert'"):
        against_source("mert", values, columns)


def test_what_a_table_lacks_is_counted():
    columns = describe_columns(expected_columns("stats8"))
    some = columns.drop(columns.index[columns["descriptor"] == "F0final"])
    counts = coverage(some, expected_columns("stats8")).set_index("group")
    assert (counts["expected"] - counts["columns"]).sum() == 4 * 8
    assert counts.loc["melodiousness", ["columns", "expected"]].tolist() == [128 - 16, 128]
    assert coverage(describe_columns(["x"]), expected_columns("my.csv"))["expected"].isna().all()
