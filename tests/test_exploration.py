"""Exploration of a collection against scipy, slow definitions and the published figures of DEAM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from mer_core.datasets import load
from mer_core.evaluate import exploration
from mer_core.plots import exploration as plots
from mer_core.plots.plane import quadrant

REPOSITORY = Path(__file__).resolve().parent.parent
VA = ["valence", "arousal"]


@pytest.fixture(scope="module")
def deam(real_data):
    return load(real_data("deam"))


@pytest.fixture(scope="module")
def means(real_data) -> pd.DataFrame:
    table = pd.read_parquet(real_data("deam/song_mean_167.parquet"))
    return table.set_axis(table.index.astype(str)).astype(float)


def made(n: int = 80, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    ids = [f"t{i}" for i in range(n)]
    ratings = pd.DataFrame(rng.normal(5, 1, (n, 2)), ids, VA)
    features = pd.DataFrame(rng.normal(size=(n, 6)), ids, list("abcdef"))
    features["a"] += 2 * ratings["valence"]
    features["d"] = 3.0
    return features, ratings


def test_distributions_of_deam_are_those_known(deam):
    table = exploration.distributions(deam).set_index(["part", "target"])
    known = {
        ("all", "valence"): (4.995, 1.109),
        ("all", "arousal"): (4.724, 1.327),
        ("2013", "arousal"): (4.787, 1.374),
    }
    for key, (mean, sd) in known.items():
        assert (table.loc[key, "mean"], table.loc[key, "sd"]) == pytest.approx((mean, sd), abs=1.5e-3)
    assert table.loc[("2015", "valence"), "n"] == 58 and len(table) == 8
    values = deam.ratings["arousal"]
    assert table.loc[("all", "arousal"), "median"] == values.median()
    assert table.loc[("all", "arousal"), "skew"] == pytest.approx(stats.skew(values, bias=False))


def test_relation_of_deam_is_that_known(deam):
    table = exploration.relation(deam, resamples=200).set_index("part")
    assert table["pearson"].to_dict() == pytest.approx(
        {"all": 0.594, "2013": 0.599, "2014": 0.635, "2015": -0.081}, abs=1e-3
    )
    assert ((table["pearson_low"] < table["pearson"]) & (table["pearson"] < table["pearson_high"])).all()
    counted = pd.Series(quadrant(deam.ratings["valence"], deam.ratings["arousal"], deam.scale)).value_counts()
    assert [table.loc["all", f"q{i}"] for i in range(1, 5)] == [counted[f"Q{i}"] for i in range(1, 5)]


def test_false_discovery_rate_equals_scipy_and_its_definition():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.uniform(size=40), rng.uniform(size=10) ** 6, [0.5, 0.5, 1.0]])
    q = exploration.benjamini_hochberg(p)
    assert q == pytest.approx(stats.false_discovery_control(p))
    for rate in (0.01, 0.05, 0.2):  # the largest k with p_(k) <= rate k / m: the k smallest are findings
        ranked = np.sort(p)
        below = [k for k in range(1, len(p) + 1) if ranked[k - 1] <= rate * k / len(p)]
        assert np.sum(q <= rate) == (max(below) if below else 0)
    gaps = exploration.benjamini_hochberg(np.array([0.01, np.nan, 0.5]))
    assert np.isnan(gaps[1]) and gaps[[0, 2]] == pytest.approx([0.02, 0.5])
    assert exploration.benjamini_hochberg(np.array([np.nan])).shape == (1,)


def test_false_discoveries_stay_under_their_rate():
    rng = np.random.default_rng(1)
    found = [(exploration.benjamini_hochberg(rng.uniform(size=200)) <= 0.05).any() for _ in range(400)]
    assert np.mean(found) < 0.08


def test_correlations_equal_scipy_with_and_without_gaps():
    features, ratings = made()
    features.iloc[3:9, 1] = np.nan
    ratings.iloc[10:14, 1] = np.nan
    table = exploration.correlations(features, ratings).set_index(["column", "target"])
    for (column, target), row in table.iterrows():
        both = pd.concat([features[column], ratings[target]], axis=1).dropna()
        assert row["n"] == len(both)
        if column == "d":
            assert np.isnan(row["rho"]) and np.isnan(row["q"])
            continue
        rho, p = stats.spearmanr(both[column], both[target])
        assert (row["rho"], row["p"]) == pytest.approx((rho, p), abs=1e-12)
    known = table["p"].dropna()
    assert table.loc[known.index, "q"].to_numpy() == pytest.approx(stats.false_discovery_control(known.to_numpy()))
    assert table.index[0] == ("a", "valence")


def test_loudness_is_found_to_go_with_arousal_on_deam(deam, means):
    table = exploration.correlations(means, deam.ratings).set_index(["column", "target"])
    name = "audspec_lengthL1norm_sma_amean"
    assert table.loc[(name, "arousal"), "rho"] > table.loc[(name, "valence"), "rho"] > 0
    assert table.loc[(name, "arousal"), "q"] < 1e-50


def test_metadata_by_kind():
    rng = np.random.default_rng(2)
    _, ratings = made(120)
    mode = pd.Series(np.where(rng.random(120) < 0.5, "minor", "major"), ratings.index)
    ratings["valence"] += 1.5 * (mode == "major")
    tempo = pd.Series(rng.normal(120, 20, 120), ratings.index)
    ratings["arousal"] += 0.03 * (tempo - 120)
    metadata = pd.DataFrame(
        {"mode": mode, "tempo": tempo, "title": ratings.index, "same": 1, "minor": (mode == "minor") + 0}
    )
    metadata.loc[metadata.index[:5], "tempo"] = np.nan
    metadata["empty"] = None
    found = exploration.associations(metadata, ratings)
    table = found.table.set_index(["column", "target"])
    groups = [ratings.loc[mode == level, "valence"] for level in ("major", "minor")]
    h, p = stats.kruskal(*groups)
    row = table.loc[("mode", "valence")]
    assert (row["statistic"], row["p"], row["kind"], row["levels"]) == (pytest.approx(h), pytest.approx(p), "levels", 2)
    between = sum(len(g) * (g.mean() - ratings["valence"].mean()) ** 2 for g in groups)
    assert row["eta2"] == pytest.approx(between / (len(ratings) * ratings["valence"].var(ddof=0)))
    assert table.loc[("minor", "valence"), "eta2"] == pytest.approx(row["eta2"])  # 0/1 are levels, not a scale
    known = tempo.iloc[5:]
    expected = stats.spearmanr(known, ratings["arousal"].loc[known.index])
    assert table.loc[("tempo", "arousal"), ["n", "statistic"]].tolist() == [115, pytest.approx(expected.statistic)]
    assert table["q"].to_numpy() == pytest.approx(stats.false_discovery_control(table["p"].to_numpy()))
    assert {name for name, _ in found.skipped} == {"title", "same", "empty"}
    levels = found.levels.query("column == 'mode' and target == 'valence'").set_index("level")
    assert levels.loc["major", "mean"] == pytest.approx(groups[0].mean()) and levels["n"].sum() == 120


def test_rare_levels_are_left_out_and_constant_ratings_give_nothing():
    _, ratings = made(40)
    genre = pd.DataFrame({"genre": ["rock"] * 15 + ["Rock"] * 3 + ["jazz "] * 18 + ["odd"] * 4}, ratings.index)
    found = exploration.associations(genre, ratings.assign(arousal=5.0))
    assert set(found.levels["level"]) == {"rock", "jazz"} and (found.table["n"] == 36).all()
    assert found.table.set_index("target").loc["arousal", ["eta2", "p", "q"]].isna().all()


def test_no_metadata_gives_empty_tables():
    _, ratings = made(20)
    found = exploration.associations(pd.DataFrame(index=ratings.index), ratings)
    assert found.table.empty and found.levels.empty and found.skipped == ()


def test_genre_goes_with_ratings_on_deam(deam):
    table = exploration.associations(deam.tracks[["genre", "title"]], deam.ratings).table.set_index("target")
    assert (table["column"] == "genre").all() and (table["q"] < 1e-20).all()
    assert 0.1 < table.loc["valence", "eta2"] < table.loc["arousal", "eta2"] < 0.4


@pytest.mark.parametrize("tracks", [1802, 120])
def test_components_equal_scikit_learn(means, deam, tracks):
    means = means.iloc[:tracks]
    found = exploration.principal_components(means, deam.ratings.loc[means.index])
    scaled = StandardScaler().fit_transform(means)
    reference = PCA(svd_solver="full").fit(scaled)
    shares = reference.explained_variance_ratio_
    assert found.components["variance"].to_numpy() == pytest.approx(shares[:10], abs=1e-10)
    assert found.n_95 == int(np.argmax(np.cumsum(shares) >= 0.95)) + 1
    scores = reference.transform(scaled)[:, :10]
    for i, name in enumerate(found.scores):
        assert abs(np.corrcoef(scores[:, i], found.scores[name])[0, 1]) == pytest.approx(1, abs=1e-6)
        assert found.scores[name].std(ddof=0) == pytest.approx(1)
    for row in found.loadings.itertuples():
        assert row.loading == pytest.approx(np.corrcoef(means[row.column], found.scores[row.component])[0, 1], abs=1e-9)
    assert (found.loadings.query("rank == 1")["loading"] > 0).all()
    rho = stats.spearmanr(found.scores["PC1"], deam.ratings.loc[means.index, "arousal"]).statistic
    row = found.correlations.query("component == 'PC1' and target == 'arousal'").iloc[0]
    assert row["rho"] == pytest.approx(rho)


def test_components_with_gaps_constants_and_too_little():
    features, ratings = made()
    features.iloc[0, 0] = np.nan
    found = exploration.principal_components(features, ratings)
    assert list(found.scores) == [f"PC{i}" for i in range(1, 6)] and "d" not in set(found.loadings["column"])
    assert found.components["cumulative"].iloc[-1] == pytest.approx(1)
    assert exploration.principal_components(features[["a", "d"]], ratings) is None
    assert exploration.principal_components(features.iloc[:3], ratings) is None


def call(tmp_path: Path, *arguments: object) -> tuple[Path, dict, str]:
    command = [sys.executable, "-m", "pipelines", "eda", *map(str, arguments), "--run-id", "e"]
    environment = {**os.environ, "MER_ARTIFACTS": str(tmp_path)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "e"
    return folder, json.loads((folder / "metrics.json").read_text())["eda"], done.stderr


def test_pipeline_on_deam(real_data, tmp_path):
    deam = real_data("deam")
    folder, summary, said = call(
        tmp_path, "--dataset", deam, "--features", deam / "song_mean_167.parquet", "--resamples", 50
    )
    assert summary["columns"] == 167 and summary["significant"]["arousal"] > 80 and len(summary["components"]) == 10
    names = {path.stem for path in folder.glob("*.parquet")}
    pca = {"pca_scores", "pca_components", "pca_correlations", "pca_loadings"}
    assert names == pca | {f"eda_{n}" for n in ("distributions", "relation", "correlations", "metadata", "levels")} | {
        "tracks"
    }
    assert {"group", "plain", "q"} <= set(pd.read_parquet(folder / "eda_correlations.parquet"))
    assert len(pd.read_parquet(folder / "pca_scores.parquet")) == 1802 and "genre accounts for" in said


def test_pipeline_without_features_does_the_rest(tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.uniform(2, 8, (30, 2)).round(2), columns=VA)
    table.insert(0, "track_id", [f"t{i}" for i in range(30)])
    table.insert(1, "path", [f"{i}.wav" for i in range(30)])
    table.assign(key=rng.choice(["C", "G"], 30)).to_csv(folder / "tracks.csv", index=False)
    _, summary, said = call(tmp_path, "--dataset", folder, "--resamples", 20)
    assert "components" not in summary and any(m.startswith("no features") for m in summary["messages"])
    assert {row["column"] for row in summary["metadata"]} == {"key"}


# ---- figures


def test_correlation_list_shows_the_strongest_and_hollows_what_is_no_finding():
    rho = [0.1, -0.9, 0.5, np.nan]
    table = pd.DataFrame(
        {"column": list("abcd"), "target": "valence", "n": 50, "rho": rho, "q": [0.4, 1e-9, 0.04, np.nan]}
    )
    table["plain"] = ["words", "same", "same", None]
    figure = plots.correlation_list(table, "valence", dark=False, count=3)
    assert list(figure.data[0].x) == [0.1, 0.5, -0.9] and list(figure.data[0].customdata) == ["a", "c", "b"]
    assert [colour == "rgba(0,0,0,0)" for colour in figure.data[0].marker.color] == [True, False, False]
    assert list(figure.layout.yaxis.ticktext) == ["words", "same", "same"] and "q < 0.001" in figure.data[0].text[2]
    assert "No feature" in plots.correlation_list(table, "arousal", dark=True).layout.annotations[0].text


def test_level_means_are_ordered_and_limited():
    _, ratings = made(60)
    levels = pd.Series(np.repeat(["a", "b", "c"], [30, 20, 10]), ratings.index)
    table = exploration.associations(levels.to_frame("genre"), ratings + levels.eq("a").to_numpy()[:, None]).levels
    figure = plots.level_means(table, "genre", dark=True, count=2)
    assert list(figure.layout.yaxis.ticktext) == ["b (n = 20)", "a (n = 30)"] and len(figure.data) == 2
    assert "no levels" in plots.level_means(table, "key", dark=True).layout.annotations[0].text


def test_components_scatter_counts_what_lies_outside():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"track_id": [f"t{i}" for i in range(200)], "label": "x", **dict.fromkeys(["PC1", "PC2"], 0.0)}
    )
    table[["PC1", "PC2"]] = rng.standard_normal((200, 2))
    table.loc[0, "PC1"] = 60
    rated = pd.Series(rng.uniform(1, 9, 200)).where(table.index != 7)
    figure = plots.components_scatter(table, {"PC1": 0.4, "PC2": 0.1}, rated, "valence (1-9)", dark=False)
    assert "t7" not in figure.data[0].customdata and len(figure.data[0].x) == 199
    assert figure.layout.xaxis.range[1] < 10 and "1 of 199 tracks" in figure.layout.annotations[0].text
    assert "40%" in figure.layout.xaxis.title.text
