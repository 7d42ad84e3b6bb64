"""The label audit on DEAM, on copies of it with planted faults, and on data that leaves little to audit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mer_core.datasets import load
from mer_core.datasets.dataset import Dataset, LoadReport
from mer_core.errors import UserError
from mer_core.evaluate import audit as audit_module
from mer_core.evaluate import exchange, quality
from mer_core.evaluate.audit import audit, dynamic_means, sentences
from mer_core.evaluate.label_order import in_order, judge_order, order_table
from mer_core.evaluate.raters import recover_raters
from mer_core.plots import audit as plots

VA = ["valence", "arousal"]
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def deam(real_data) -> Dataset:
    return load(real_data("deam"), labels="corrected")


@pytest.fixture(scope="module")
def dynamic(deam) -> pd.DataFrame:
    return dynamic_means(deam)


def exchanged(dataset: Dataset, chosen: np.ndarray) -> Dataset:
    """A copy with valence and arousal exchanged for the chosen tracks."""
    ratings = dataset.ratings.copy()
    ratings.loc[chosen, VA] = dataset.ratings.loc[chosen, VA].to_numpy()[:, ::-1]
    return replace(dataset, ratings=ratings)


def judged(dataset: Dataset, dynamic: pd.DataFrame | None) -> tuple[dict, pd.DataFrame]:
    return judge_order(order_table(dataset, dynamic, None), dataset.name)


def invented(n: int = 200, part: str = "all", seed: int = 0, noise: float = 0.3) -> tuple[Dataset, pd.DataFrame]:
    """A small dataset whose static ratings follow its dynamic ones."""
    rng = np.random.default_rng(seed)
    ids = pd.Index([f"t{i}" for i in range(n)], name="track_id")
    true = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], n)
    ratings = pd.DataFrame(5 + true + noise * rng.standard_normal((n, 2)), ids, VA).clip(1, 9)
    tracks = pd.DataFrame({"path": None, "group": [f"g{i // 2}" for i in range(n)], "part": part}, ids)
    spread = pd.DataFrame(rng.uniform(1, 2, (n, 2)), ids, VA)
    dataset = Dataset("made", Path("."), "tracks", "as given", (1.0, 9.0), tracks, ratings, spread, LoadReport())
    return dataset, pd.DataFrame(0.3 * true, ids, VA)


# ---- DEAM


def test_deam_as_published_is_exchanged_for_exactly_the_ids_up_to_1000(deam, dynamic):
    published = load(deam.root, labels="published")
    report, table = judged(published, dynamic)
    wrong = table.index[table["exchanged"]]
    assert sorted(map(int, wrong)) == [i for i in map(int, deam.tracks.index) if i <= 1000] and len(wrong) == 744
    assert report["runs"] == [["2", "1000", 744]]
    states = {part: about["state"] for part, about in report["parts"].items()}
    assert states == {"2013": "exchanged", "2014": "straight", "2015": "straight"}
    assert report["parts"]["2013"]["p_exchanged"] <= 0.001 and report["parts"]["2014"]["p_exchanged"] >= 0.999
    assert "2 to 1000" in report["verdict"] and "744" in report["verdict"]


def test_correlations_of_the_published_labels_are_those_known(deam, dynamic):
    report, _ = judged(load(deam.root, labels="published"), dynamic)
    known = {
        "2013": (0.575, 0.956, 0.949, 0.570),
        "2014": (0.912, 0.591, 0.570, 0.942),
        "2015": (0.984, 0.050, -0.101, 0.929),
    }
    for part, values in known.items():
        found = report["parts"][part]["correlations"]
        assert [found[s][d] for s, d in product(VA, VA)] == pytest.approx(values, abs=6e-4)


def test_nothing_is_found_in_corrected_labels(deam, dynamic):
    report, table = judged(deam, dynamic)
    assert not table["exchanged"].any() and report["state"] == "straight" and report["runs"] == []


def test_without_parts_the_border_of_deam_is_found_within_its_range(deam, dynamic):
    published = load(deam.root, labels="published")
    whole = replace(published, tracks=published.tracks.assign(part="all"))
    report, table = judged(whole, dynamic)
    (block,) = report["parts"]["all"]["blocks"]
    low, high = map(int, block["last_range"])
    assert block["first"] == "2" and low <= 1000 <= high and high - low < 20


@pytest.mark.parametrize(("first", "last"), [(1200, 1499), (1701, 1760), (1001, 1100), (1901, 2000), (1400, 1430)])
def test_a_contiguous_block_is_found_within_the_stated_range(deam, dynamic, first, last):
    ids = deam.ratings.index.astype(int)
    planted = (ids >= first) & (ids <= last)
    report, table = judged(exchanged(deam, planted), dynamic)
    about = report["parts"]["2014"]
    (block,) = about["blocks"]
    inside = ids[planted]
    for end, true in (("first", inside.min()), ("last", inside.max())):
        low, high = map(int, block[f"{end}_range"])
        assert low <= true <= high and high - low <= 15
    assert about["state"] == "blocks" and about["p_block"] <= 0.01
    assert about["n_exchanged_range"][0] <= planted.sum() <= about["n_exchanged_range"][1]
    assert {part: about["state"] for part, about in report["parts"].items() if part != "2014"} == {
        "2013": "straight",
        "2015": "straight",
    }
    truth = pd.Series(planted, deam.ratings.index).loc[table.index]
    assert truth[table["probability"] >= 0.95].all()


def test_a_random_third_is_found_and_counted_honestly(deam, dynamic):
    part = (deam.tracks["part"] == "2014").to_numpy()
    planted = part & (np.random.default_rng(5).random(len(part)) < 1 / 3)
    report, table = judged(exchanged(deam, planted), dynamic)
    about = report["parts"]["2014"]
    assert about["state"] == "scattered" and about["blocks"] == []
    low, high = about["n_exchanged_range"]
    assert low <= planted.sum() <= high
    truth = pd.Series(planted, deam.ratings.index).loc[table.index]
    named = table["probability"] >= 0.95
    assert named.sum() == about["n_certain"] > 80 and truth[named].mean() > 0.95
    # The probabilities mean what they say: as many errors as they announce.
    expected = np.minimum(table["probability"], 1 - table["probability"]).sum()
    assert (table["exchanged"] != truth).sum() == pytest.approx(expected, rel=0.25)


def test_ranges_of_borders_hold_the_truth_as_often_as_they_say(deam, dynamic):
    order = [i for i in in_order(deam.ratings.index) if 1000 < int(i) <= 2000]
    static, means = deam.ratings.loc[order, VA].to_numpy(), dynamic.loc[order].to_numpy()
    rng, held = np.random.default_rng(3), []
    for _ in range(40):
        start = int(rng.integers(50, 850))
        stop = start + int(rng.integers(40, 100))
        copy = static.copy()
        copy[start:stop] = copy[start:stop, ::-1]
        (block,) = exchange.find_exchange(copy, means).blocks
        held += [
            block.start_range[0] <= start <= block.start_range[1],
            block.stop_range[0] <= stop <= block.stop_range[1],
        ]
    assert np.mean(held) >= 0.9


def test_audit_of_deam_takes_less_than_ten_seconds_and_says_what_is_known(deam, real_data):
    published = load(deam.root, labels="published")
    table = pd.read_parquet(real_data("deam/song_mean_167.parquet"))
    loudness = audit_module.loudness_of(table.set_axis(table.index.astype(str)))
    splits = {name: quality.read_ids(real_data(f"deam/splits/{name}.txt")) for name in ("train", "test")}
    started = time.monotonic()
    report, tracks = audit(published, loudness, splits)
    assert time.monotonic() - started < 10
    known = {"2013": (0.69, 0.36), "2014": (0.39, 0.70), "2015": (-0.32, 0.38)}
    for part, (valence, arousal) in known.items():
        found = report["order"]["parts"][part]["loudness"]
        assert (found["valence"], found["arousal"]) == pytest.approx((valence, arousal), abs=0.006)
    assert report["order"]["parts"]["2013"]["loudness"]["p"] < 0.001
    assert report["after"]["state"] == "straight"
    after = {part: about["correlations"] for part, about in report["after"]["parts"].items()}
    assert all(after[part][t][t] >= 0.85 for part in after for t in VA)
    assert any("emoMusic" in overlap["sentence"] and overlap["ids"] == 744 for overlap in report["overlaps"])
    (pair,) = report["splits"]["pairs"]
    groups = {name: set(published.tracks.loc[ids, "group"]) for name, ids in splits.items()}
    assert pair["tracks"] == 0 and pair["groups"] == len(groups["train"] & groups["test"]) == 128
    assert pair["affected"] == published.tracks.loc[splits["test"], "group"].isin(groups["train"]).sum()
    assert report["splits"]["lists"]["train"]["parts"]["2015"] == 36
    assert len(tracks) == 1802 and not report["out_of_range"]
    assert "exchanged" in sentences(report)[0]


def test_spread_and_ceiling_of_deam(deam):
    report = audit_module.spread_report(deam)
    assert report["all"]["valence"]["mean"] == pytest.approx(1.47, abs=0.006)
    assert report["all"]["arousal"]["mean"] == pytest.approx(1.49, abs=0.006)
    assert [report[part]["valence"]["mean"] for part in ("2013", "2014", "2015")] == pytest.approx(
        [1.49, 1.49, 0.91], abs=0.006
    )
    assert list(report["2013"]["raters"]["counts"]) == list(report["2014"]["raters"]["counts"]) == [10]
    assert set(report["2015"]["raters"]["counts"]) == {5, 6}
    assert {report[part]["raters"]["deviation"] for part in ("2013", "2014", "2015")} == {"population"}
    for part in ("2013", "2014"):
        chosen = deam.tracks["part"] == part
        noise = (deam.spread.loc[chosen, "arousal"] ** 2).mean() / 9  # divided by n, unbiased is n - 1
        expected = 1 - noise / deam.ratings.loc[chosen, "arousal"].var(ddof=0)
        assert report[part]["arousal"]["ceiling"]["r2"] == pytest.approx(expected, abs=2e-3)


# ---- the test and the segmentation


def test_p_value_is_uniform_where_labels_say_nothing():
    rng, found = np.random.default_rng(0), []
    for trial in range(300):
        n = 40
        means = rng.multivariate_normal([0, 0], [[1, 0.4], [0.4, 1]], n)
        static = means + 0.5 * rng.standard_normal((n, 2)) + [0.0, 0.7]
        flip = rng.random(n) < 0.5
        static[flip] = static[flip, ::-1]
        found.append(exchange.exchange_p(static, means, permutations=199, seed=trial))
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) < 0.09


def test_p_value_equals_a_slow_enumeration():
    rng = np.random.default_rng(1)
    means = rng.standard_normal((9, 2))
    static = means[:, ::-1] + 0.8 * rng.standard_normal((9, 2))

    def statistic(values: np.ndarray) -> float:
        r = np.corrcoef(values.T, means.T)[:2, 2:]
        return (r[0, 1] + r[1, 0] - r[0, 0] - r[1, 1]) / 2

    observed = statistic(static)
    assert exchange.crossing(exchange.agreement(static, means)) == pytest.approx(observed)
    every = []
    for flips in product([False, True], repeat=9):
        copy = static.copy()
        copy[list(flips)] = copy[list(flips), ::-1]
        every.append(statistic(copy))
    exact = np.mean(np.array(every) >= observed - 1e-12)
    assert exchange.exchange_p(static, means, permutations=50_000) == pytest.approx(
        exact, abs=4 * np.sqrt(exact / 50_000)
    )


def test_viterbi_equals_trying_every_chain():
    rng = np.random.default_rng(2)
    for _ in range(30):
        evidence, cost = rng.normal(0, 2, 9), rng.uniform(0.5, 4)

        def score(states: np.ndarray, evidence=evidence, cost=cost) -> float:
            return evidence[states].sum() - cost * np.count_nonzero(np.diff(states))

        best = max(score(np.array(states)) for states in product([False, True], repeat=9))
        assert score(exchange.viterbi(evidence, cost)) == pytest.approx(best)


def test_block_p_is_calibrated_and_finds_a_planted_block():
    rng = np.random.default_rng(4)
    null = [exchange.block_p(rng.normal(-1, 2, 60), orders=99, seed=i) for i in range(200)]
    assert np.mean(np.array(null) <= 0.05) < 0.1
    planted = rng.normal(-2, 1, 200)
    planted[80:110] *= -1
    assert exchange.block_p(planted) == 1 / 1000


@pytest.mark.parametrize(("noise", "freedom"), [(0.3, 30), (0.5, 2.5), (1.0, 4)])
def test_nothing_is_found_where_nothing_is_planted(noise, freedom):
    rng = np.random.default_rng(6)
    kinds = []
    for _ in range(40):
        n = int(rng.choice([20, 100, 400]))
        means = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], n)
        kinds.append(exchange.find_exchange(means + noise * rng.standard_t(freedom, (n, 2)), means).kind)
    assert kinds.count("none") >= 38


def test_ids_are_ordered_as_people_count():
    assert in_order(pd.Index(["10", "9", "a2", "a10", "1000"])) == ["9", "10", "1000", "a2", "a10"]


def test_exact_ratings_need_no_noise():
    dataset, means = invented(40, noise=0.0)
    report, table = judged(exchanged(dataset, np.arange(40) < 15), means)
    assert report["parts"]["all"]["blocks"][0]["last"] == "t14" and table["exchanged"].sum() == 15


# ---- raters


@pytest.mark.parametrize(("n", "ddof", "kind"), [(7, 0, "population"), (12, 1, "sample"), (5, 0, "population")])
def test_number_of_raters_is_read_from_rounded_ratings(n, ddof, kind):
    rng = np.random.default_rng(n)
    votes = np.clip(np.round(rng.normal(5, 1.2, (300, 1)) + rng.normal(0, 1.6, (300, n))), 1, 9)
    found = recover_raters(votes.mean(1).round(2), votes.std(1, ddof=ddof).round(2))
    assert found.counts == {n: 1.0} and found.deviation == kind and found.typical == pytest.approx(n)


def test_mixed_numbers_of_raters_are_told_apart():
    rng = np.random.default_rng(0)
    means = np.concatenate([rng.integers(8, 72, 200) / 8, rng.integers(11, 99, 60) / 11]).round(3)
    found = recover_raters(means)
    assert list(found.counts) == [8, 11] and found.typical == pytest.approx(260 / (200 / 8 + 60 / 11), rel=0.05)


@pytest.mark.parametrize("means", [np.random.default_rng(0).uniform(1, 9, 300), np.full(300, 5.0), np.arange(10) / 10])
def test_number_of_raters_is_not_guessed(means):
    assert recover_raters(means) is None


def test_one_decimal_is_no_proof_of_ten_raters():
    assert recover_raters(np.random.default_rng(0).uniform(1, 9, 300).round(1)) is None


# ---- what cannot be audited


def test_without_dynamic_ratings_the_rest_is_done():
    dataset, _ = invented()
    report, table = audit(dataset)
    about = report["order"]["parts"]["all"]
    assert about["state"] == "unknown" and "dynamic" in about["verdict"] and "dynamic" in report["messages"][0]
    assert table["evidence"].isna().all() and report["spread"]["all"]["valence"]["ceiling"]["r2"] < 1


def test_loudness_alone_speaks_where_there_are_no_dynamic_ratings():
    dataset, means = invented()
    swapped = exchanged(dataset, np.ones(200, bool))
    report, _ = audit(swapped, loudness=means["arousal"])
    assert report["order"]["parts"]["all"]["loudness"]["p"] < 0.001
    assert "as if exchanged" in report["order"]["parts"]["all"]["verdict"]


def test_a_part_that_cannot_be_judged_does_not_stop_the_others():
    dataset, means = invented()
    tracks = dataset.tracks.assign(part=np.repeat(["constant", "few", "good", "nodynamic"], [60, 5, 75, 60]))
    ratings = dataset.ratings.copy()
    ratings.iloc[:60, 0] = 5.0
    bad = replace(dataset, tracks=tracks, ratings=ratings)
    report, _ = judged(bad, means.iloc[:140])
    parts = report["parts"]
    assert "5 for every track" in parts["constant"]["verdict"] and "at least 8" in parts["few"]["verdict"]
    assert "no dynamic" in parts["nodynamic"]["verdict"] and parts["good"]["state"] == "straight"
    assert all(name in report["verdict"] for name in ("constant", "few", "nodynamic"))


def test_one_rater_constant_ratings_and_unknown_groups_are_said():
    dataset, means = invented()
    tracks = dataset.tracks.assign(group=dataset.tracks.index)
    bad = replace(dataset, tracks=tracks, spread=dataset.spread * 0, ratings=dataset.ratings.assign(arousal=3.0))
    report, _ = audit(bad)
    said = " ".join(report["messages"])
    assert "one rater" in said and "arousal is 3 for every track" in said and "No two tracks share a group" in said
    assert report["spread"]["all"]["valence"]["ceiling"] is None


def test_unrelated_ratings_are_undecided():
    dataset, means = invented(100)
    shuffled = pd.DataFrame(np.random.default_rng(0).permutation(means.to_numpy()), means.index, VA)
    report, table = judged(dataset, shuffled)
    assert report["state"] == "undecided" and not table["exchanged"].any()


def test_a_reversed_scale_is_remarked_on():
    dataset, means = invented()
    report, _ = judged(replace(dataset, ratings=dataset.ratings.assign(valence=10 - dataset.ratings["valence"])), means)
    assert "reversed" in report["parts"]["all"]["messages"][0]


def test_told_raters_are_believed_and_one_rater_divides_by_nothing():
    dataset, _ = invented()
    for raters in (25, 1):
        told = replace(dataset, tracks=dataset.tracks.assign(raters=raters))
        about = audit_module.spread_report(told)["all"]
        assert about["raters"]["source"] == "told" and about["valence"]["ceiling"]["raters"] == pytest.approx(raters)


def test_dynamic_ratings_of_a_folder_of_ones_own(tmp_path):
    dataset, means = invented()
    own = replace(dataset, root=tmp_path)
    assert dynamic_means(own) is None
    (tmp_path / "dynamic").mkdir()
    series = pd.DataFrame({"0.0": means["valence"] - 0.1, "0.5": means["valence"] + 0.1, "1.0": np.nan})
    series.to_csv(tmp_path / "dynamic" / "valence.csv")
    with pytest.raises(UserError, match="arousal.csv"):
        dynamic_means(own)
    series.assign(**{"0.5": "x"}).to_csv(tmp_path / "dynamic" / "arousal.csv")
    with pytest.raises(UserError, match="cannot be read"):
        dynamic_means(own)
    series.to_csv(tmp_path / "dynamic" / "arousal.csv")
    assert dynamic_means(own)["valence"].to_numpy() == pytest.approx(means["valence"].to_numpy())


# ---- quality of the collection


def test_duplicates_by_audio_song_and_ratings(tmp_path):
    dataset, _ = invented(30)
    for name, content in (("a", b"1234"), ("b", b"1234"), ("c", b"4321"), ("d", b"12345")):
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in "abcd"] + [None] * 26
    tracks = dataset.tracks.assign(
        path=paths, artist=["X!", "x", *"y" * 28], title=["One", "one", *map(str, range(28))]
    )
    ratings, spread = dataset.ratings.round(3), dataset.spread.round(3)
    for table in (ratings, spread):
        table.iloc[20:24] = table.iloc[10:14].to_numpy()
    found = quality.duplicates(replace(dataset, tracks=tracks, ratings=ratings, spread=spread))
    assert found["audio"]["groups"] == [["t0", "t1"]] and found["songs"]["groups"] == [["t0", "t1"]]
    assert found["ratings"]["pairs"] == 4 and found["ratings"]["suspicious"]


def test_chance_repetitions_of_ratings_are_not_suspicious(deam):
    assert not quality.same_ratings(deam.ratings, deam.spread)["suspicious"]
    rng = np.random.default_rng(0)
    coarse = pd.DataFrame(rng.integers(1, 10, (300, 2)), columns=VA)
    assert quality.same_ratings(coarse, pd.DataFrame(index=coarse.index))["suspicious"] is False


def test_values_that_cannot_be_are_listed():
    dataset, means = invented(20)
    ratings, spread = dataset.ratings.copy(), dataset.spread.copy()
    ratings.iloc[0, 0], ratings.iloc[1, 1], spread.iloc[2, 0], spread.iloc[3, 1] = 11, np.inf, -1, 7
    means.iloc[4, 0] = -83
    found = quality.out_of_range(replace(dataset, ratings=ratings, spread=spread), means)
    assert sorted(i for ids in found.values() for i in ids) == ["t0", "t1", "t1", "t2", "t3", "t4"]


def test_lists_of_ids(tmp_path):
    dataset, _ = invented(10)
    (tmp_path / "a.txt").write_text("track_id\nt0\n\n# later\nt2,rock\nt4\n")
    assert quality.read_ids(tmp_path / "a.txt") == ["t0", "t2", "t4"]
    about = quality.split_overlap(dataset, {"a": ["t0", "t2", "t4", "zz"], "b": ["t1", "t4", "t6"]})
    (pair,) = about["pairs"]
    assert (pair["tracks"], pair["groups"], pair["affected"]) == (1, 1, 1) and pair["share"] == pytest.approx(2 / 3)
    assert about["lists"]["a"]["n"] == 4 and about["lists"]["a"]["known"] == 3
    assert "1 of the 4 ids of a are no tracks" in about["verdict"]
    assert "One list alone" in quality.split_overlap(dataset, {"a": ["t0"]})["verdict"]
    for bad in ("missing.txt", "empty.txt"):
        (tmp_path / "empty.txt").write_text("# none\n")
        with pytest.raises(UserError, match=bad):
            quality.read_ids(tmp_path / bad)
    with pytest.raises(UserError, match="none of the 10 tracks"):
        quality.split_overlap(dataset, {"a": ["7", "8"]})


def test_overlap_of_datasets_needs_more_than_equal_numbers(deam):
    ids = [i for i in deam.ratings.index if int(i) <= 300]
    rng = np.random.default_rng(0)
    noisy = deam.ratings.loc[ids] + rng.normal(0, 0.05, (len(ids), 2))
    tracks = pd.DataFrame({"path": None, "group": ids, "part": "all"}, pd.Index(ids))
    emo = replace(deam, name="emo", tracks=tracks, ratings=noisy, spread=noisy[[]])
    assert quality.dataset_overlap(deam, emo)["ids"] == len(ids)
    other = replace(emo, ratings=pd.DataFrame(rng.permutation(noisy.to_numpy()), noisy.index, VA))
    assert quality.dataset_overlap(deam, other)["ids"] == 0


def test_pipeline_writes_a_run_and_says_the_verdict(real_data, tmp_path):
    deam = real_data("deam")
    lists = ",".join(str(deam / "splits" / f"{name}.txt") for name in ("train", "test"))
    command = [sys.executable, "-m", "pipelines", "audit", "--dataset", str(deam), "--split", lists, "--run-id", "a"]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "MER_ARTIFACTS": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "exchanged in 744 of 1802 tracks (ids 2 to 1000" in done.stderr
    folder = tmp_path / "runs" / "a"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["schema"] == 1 and metrics["protocol"] is None and metrics["targets"] == {}
    assert (
        metrics["audit"]["order"]["parts"]["2013"]["state"] == "exchanged" and metrics["audit"]["labels"] == "published"
    )
    assert json.loads((folder / "run.json").read_text())["features"]["source"] == "table song_mean_167.parquet"
    assert pd.read_parquet(folder / "audit_tracks.parquet")["exchanged"].sum() == 744
    assert {"valence_std", "part", "group"} <= set(pd.read_parquet(folder / "tracks.parquet"))


# ---- figures


def test_figures_of_the_audit(deam, dynamic):
    planted = exchanged(deam, (deam.ratings.index.astype(int) >= 1200) & (deam.ratings.index.astype(int) < 1500))
    report, table = judged(planted, dynamic)
    parts = report["parts"]
    cells = {part: about["correlations"] for part, about in parts.items()}
    for dark in (False, True):
        matrices = plots.correlation_matrices(cells | {"unknown": None}, dark)
        assert len(matrices.data) == 3 and matrices.data[0].customdata[0][0] == cells["2013"]["valence"]["valence"]
        assert any(
            note.text == f"<b>{cells['2015']['valence']['valence']:.2f}</b>" for note in matrices.layout.annotations
        )
        strip = plots.evidence_strip(table.reset_index(), {p: about["blocks"] for p, about in parts.items()}, dark)
        shown = {track: name.name for name in strip.data for track in name.customdata}
        assert len(shown) == 1802 and {shown[i] for i in table.index[table["evidence"] > 0]} == {"looks exchanged"}
        assert sum("exchanged (2014)" in (note.text or "") for note in strip.layout.annotations) == 1
        spread = deam.spread.add_suffix("_std").assign(part=deam.tracks["part"])
        histogram = plots.spread_histogram(spread, VA, dark)
        assert len(histogram.data) == 6 and all(sum(line.y) == pytest.approx(1) for line in histogram.data)


def test_figures_say_why_there_is_nothing_to_draw():
    dataset, _ = invented()
    _, table = audit(dataset)
    assert "no dynamic" in plots.correlation_matrices({"all": None}, False).layout.annotations[0].text
    assert "No track" in plots.evidence_strip(table, {}, False).layout.annotations[0].text
    bare = dataset.tracks[["part"]]
    assert "not known" in plots.spread_histogram(bare, VA, True).layout.annotations[0].text
