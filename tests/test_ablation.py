"""Ablation: variants see the columns they say, weights reach the regressors, differences are paired."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mer_core.errors import UserError
from mer_core.evaluate import ablation
from mer_core.evaluate.cross_validation import cross_validate
from mer_core.evaluate.experiment import Data, Plan
from mer_core.evaluate.metrics import draw_groups, r2
from mer_core.evaluate.splits import grouped_kfold
from mer_core.features import FeatureTable, describe_columns
from mer_core.models.regressors import FAMILIES, make_regressor
from mer_core.runs import read_run

COLUMNS = [f"{lld}_{s}" for lld in ("pcm_zcr_sma_amean", "F0final_sma_amean") for s in ("mean", "std", "q25")]
PLAN = Plan("stats8", "ridge", "grouped-5fold", ("valence", "arousal"), 0, 1)


def table_of(tracks: int = 60) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Features, ratings that follow zero crossings' mean alone, and raters' spread."""
    random = np.random.default_rng(0)
    index = pd.Index([f"t{i:02d}" for i in range(tracks)], name="track_id")
    values = pd.DataFrame(random.normal(size=(tracks, 6)), index, COLUMNS)
    ratings = pd.DataFrame({"valence": 5 + values.iloc[:, 0], "arousal": 5 - 0.8 * values.iloc[:, 0]}, index)
    spread = pd.DataFrame(random.uniform(0.2, 2, size=(tracks, 2)), index, ["valence", "arousal"])
    return values, (ratings + 0.3 * random.normal(size=ratings.shape)).clip(1, 9), spread


@pytest.fixture(scope="module")
def data() -> Data:
    values, ratings, _ = table_of()
    groups = pd.Series([f"g{i // 2}" for i in range(len(values))], values.index)
    table = FeatureTable(values, describe_columns(values.columns), "table")
    parts = pd.Series("main", values.index)
    return Data(table, values, ratings, groups, parts, grouped_kfold(groups, ratings), [], [], ())


@pytest.fixture(scope="module")
def variants(data) -> list[ablation.Variant]:
    return ablation.column_variants(PLAN, data, ("groups", "statistics"), lambda *_: None)


@pytest.fixture(scope="module")
def compared(data, variants) -> pd.DataFrame:
    return ablation.compare_variants(data, variants, 50, 3).set_index(["kind", "name", "target"]).sort_index()


def test_every_group_is_left_out_and_used_alone_and_every_statistic_used_alone(data, variants):
    wanted = {("whole", "all columns"): COLUMNS}
    for group, lld in (("articulation", "pcm"), ("melodiousness", "F0")):
        wanted["only group", group] = [name for name in COLUMNS if name.startswith(lld)]
        wanted["without group", group] = [name for name in COLUMNS if not name.startswith(lld)]
    wanted |= {("statistic", s): [name for name in COLUMNS if name.endswith(s)] for s in ("mean", "std", "q25")}
    assert {(one.kind, one.name) for one in variants} == set(wanted)
    for one in variants:
        columns = wanted[one.kind, one.name]
        expected = cross_validate(data.features[columns], data.ratings, data.groups, data.split, "ridge", 0)
        assert one.columns == len(columns) and np.array_equal(one.predicted.to_numpy(), expected.predicted)


def test_the_planted_group_and_statistic_are_what_is_missed(compared):
    assert compared.loc[("without group", "articulation"), "verdict"].tolist() == ["worse", "worse"]
    assert compared.loc[("without group", "melodiousness"), "verdict"].tolist() != ["worse", "worse"]
    assert (compared.loc[("statistic", "mean"), "r2"] > 0.8).all()
    assert (compared.loc[("statistic", "std"), "r2"] < 0.2).all()
    assert (compared.loc[("whole", "all columns"), "against"] == "").all()


def test_differences_are_scored_on_the_same_resamples(data, variants, compared):
    """Percentiles of R2 of one minus R2 of the other, both of the same drawn groups."""
    whole, one = variants[0], next(v for v in variants if v.kind == "only group" and v.name == "melodiousness")
    true, codes = data.ratings["valence"].to_numpy(), np.unique(data.groups, return_inverse=True)[1]
    differences = []
    for counts in draw_groups(30, 50, 3):
        rows = np.repeat(np.arange(60), counts[codes])
        a, b = (r2(true[rows], v.predicted["valence"].to_numpy()[rows]) for v in (one, whole))
        differences.append(a - b)
    row = compared.loc[("only group", "melodiousness", "valence")]
    assert row["r2_difference"] == pytest.approx(row["r2"] - compared.loc[("whole", "all columns", "valence"), "r2"])
    assert [row["r2_difference_low"], row["r2_difference_high"]] == pytest.approx(
        np.quantile(differences, [0.025, 0.975])
    )


def test_weights_follow_the_raters_agreement():
    spread = np.array([0.5, 1.0, 2.0, np.nan] + [1.0] * 200)
    weights = ablation.rater_weights(spread)
    assert weights[~np.isnan(spread)].mean() == pytest.approx(1) and weights[3] == 1
    assert weights[1] / weights[4] == 1
    raw = 1 / (spread[~np.isnan(spread)] ** 2 + 1e-6)
    low, high = np.quantile(raw, [0.01, 0.99])
    assert weights[0] / weights[1] == pytest.approx(min(raw[0], high) / raw[1])
    assert weights[2] / weights[1] == pytest.approx(max(raw[2], low) / raw[1])


@pytest.mark.parametrize("family", [name for name in FAMILIES if ablation.takes_weights(name)])
def test_weights_reach_the_regressor(family):
    """A weight of almost nothing on half of the tracks leaves the model of the other half."""
    random = np.random.default_rng(1)
    features = random.normal(size=(80, 2))
    ratings = np.where(np.arange(80) < 40, features[:, 0], -features[:, 0])[:, None] + 5
    small = {"n_estimators": 20} if family in ("forest", "extra-trees") else {}
    model = make_regressor(family, 0, **small)
    model.fit(features, ratings, regressor__sample_weight=np.where(np.arange(80) < 40, 1.0, 1e-6))
    assert np.corrcoef(model.predict(features).ravel(), features[:, 0])[0, 1] > 0.7


def test_weighting_is_compared_with_the_same_model_without_it(data):
    values, ratings, spread = table_of()
    dataset = SimpleNamespace(spread=spread, name="own")
    off, on = ablation.weighting_variants(PLAN, data, dataset, lambda *_: None)
    plain = cross_validate(data.features, data.ratings, data.groups, data.split, "ridge", 0).predicted
    assert np.allclose(off.predicted, plain)  # ridge's targets do not interact
    _, train, test = data.split.rounds()[0]
    weights = ablation.rater_weights(spread["arousal"].loc[data.features.index[data.features.index.isin(train)]])
    inside = data.features.index.isin(train)
    model = make_regressor("ridge", 0)
    model.fit(values[inside].to_numpy(), ratings.loc[inside, ["arousal"]].to_numpy(), regressor__sample_weight=weights)
    assert np.allclose(on.predicted.loc[test, "arousal"], model.predict(values.loc[test].to_numpy()).ravel())
    assert not np.allclose(on.predicted, off.predicted)
    assert on.against == (off.kind, off.name) and off.against is None


def test_families_without_weights_and_data_without_spread_are_refused():
    dataset = SimpleNamespace(spread=pd.DataFrame({"valence": [1.0, 1.0], "arousal": [0.5, 1.0]}), name="own")
    refused = [name for name in FAMILIES if not ablation.takes_weights(name)]
    assert {"svr", "blend"} <= set(refused) and "ridge" not in refused
    with pytest.raises(UserError, match="--model svr cannot weight tracks: choose from ridge"):
        ablation.check_weights("svr", dataset, ("arousal",))
    ablation.check_weights("ridge", dataset, ("arousal",))
    for target in ("valence", "tension"):
        with pytest.raises(UserError, match=f"no spread among raters of {target}"):
            ablation.check_weights("ridge", dataset, (target,))


def test_columns_of_one_group_leave_nothing_to_take_away():
    columns = describe_columns(["own", "other"])
    with pytest.raises(UserError, match="all 2 columns are of the group 'unmapped'"):
        ablation.column_sets(columns, ("groups",))
    assert ablation.column_sets(columns, ("weighting",)) == {}


# ---- as a user calls it


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    values, ratings, spread = table_of()
    tracks = ratings.assign(path="none.wav", group=[f"g{i // 2}" for i in range(60)]).join(spread.add_suffix("_std"))
    tracks.to_csv(folder / "tracks.csv")
    values.reset_index().to_csv(folder / "table.csv", index=False)
    (folder / "dataset.json").write_text('{"rating_scale": [1, 9]}')
    return folder


def options(music, *more: str) -> list[str]:
    table = str(music / "table.csv")
    return ["ablation", "--dataset", str(music), "--features", table, "--resamples", "20", "--workers", "1", *more]


def test_the_pipeline_writes_and_prints_the_table(music, artifacts, capsys):
    from pipelines.__main__ import main

    assert main(options(music, "--run-id", "parts")) == 0
    run, said = read_run("parts"), capsys.readouterr().err
    table = run.table("ablation")
    assert set(table["kind"]) == {"whole", "without group", "only group", "statistic", "weighting"}
    assert len(table) == 2 * (1 + 2 * 2 + 3 + 2) == len(run.metrics["ablation"])
    line = next(line for line in said.splitlines() if line.startswith("without group articulation"))
    row = table[(table["kind"] == "without group") & (table["name"] == "articulation")].iloc[0]
    assert f"{row.r2_difference:+.3f} ({row.r2_difference_low:+.3f} to {row.r2_difference_high:+.3f}) worse" in line


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--kinds", "groups,frames"], "'frames' is unknown"),
        (["--kinds", ""], "names none"),
        (["--model", "svr"], "--model svr cannot weight tracks"),
        (["--targets", "valence,tension"], "tension"),
    ],
)
def test_mistakes_are_told_in_a_line(music, artifacts, capsys, more, said):
    from pipelines.__main__ import main

    assert main(options(music, *more)) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and said in last
