"""Metrics against scipy, scikit-learn and hand formulas; intervals against rows that are really repeated."""

from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics

from mer_core.evaluate import metrics
from mer_core.evaluate.metrics import (
    METRICS,
    ccc,
    conformal_halfwidth,
    draw_groups,
    human_ceiling,
    mae,
    pearson,
    r2,
    resampled_scores,
    rmse,
    score_with_intervals,
    spearman,
)


def ratings(n: int, seed: int, ties: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True ratings (rounded, so with ties), predictions, and groups of unequal sizes."""
    random = np.random.default_rng(seed)
    true = random.normal(5, 1.2, n)
    predicted = 0.5 * true + random.normal(2.5, 0.8, n)
    groups = (n / 3 * random.random(n) ** 2).astype(int)
    return (np.round(true, 1), np.round(predicted, 1), groups) if ties else (true, predicted, groups)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [True, False])
def test_metrics_equal_independent_implementations(seed, ties):
    true, predicted, _ = ratings(50 + 30 * seed, seed, ties)
    assert r2(true, predicted) == pytest.approx(sklearn.metrics.r2_score(true, predicted), abs=1e-12)
    assert rmse(true, predicted) == pytest.approx(sklearn.metrics.root_mean_squared_error(true, predicted), abs=1e-12)
    assert mae(true, predicted) == pytest.approx(sklearn.metrics.mean_absolute_error(true, predicted), abs=1e-12)
    assert pearson(true, predicted) == pytest.approx(scipy.stats.pearsonr(true, predicted).statistic, abs=1e-12)
    assert spearman(true, predicted) == pytest.approx(scipy.stats.spearmanr(true, predicted).statistic, abs=1e-12)


def test_concordance_by_hand():
    # y = 1 2 3, p = 2 2 5: means 2 and 3, variances 2/3 and 2, covariance 1, squared shift 1.
    assert ccc(np.array([1, 2, 3]), np.array([2, 2, 5])) == pytest.approx(2 * 1 / (2 / 3 + 2 + 1), abs=1e-12)
    true, predicted, _ = ratings(80, 9)
    assert ccc(true, true) == pytest.approx(1)
    assert ccc(true, true + 3) < 0.4
    # Lin's decomposition: pearson times a bias correction of scale and shift.
    scale, shift = true.std() / predicted.std(), (true.mean() - predicted.mean()) ** 2 / (true.std() * predicted.std())
    expected = pearson(true, predicted) * 2 / (scale + 1 / scale + shift)
    assert ccc(true, predicted) == pytest.approx(expected, abs=1e-12)


def test_constants_have_no_correlation():
    true, flat = np.array([1.0, 2, 4]), np.full(3, 0.1 + 0.2)
    assert math.isnan(pearson(true, flat)) and math.isnan(spearman(flat, true))
    assert ccc(true, flat) == 0
    assert math.isnan(r2(flat, true))
    assert math.isnan(ccc(flat, flat))
    assert r2(true, np.full(3, true.mean())) == pytest.approx(0, abs=1e-12)
    assert r2(true, flat) < 0


@pytest.mark.parametrize("function", [r2, rmse, mae, pearson, spearman, ccc])
def test_what_cannot_be_compared_is_refused(function):
    with pytest.raises(ValueError, match="join them on track_id"):
        function(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="join them on track_id"):
        function(np.empty(0), np.empty(0))
    with pytest.raises(ValueError, match="gaps"):
        function(np.array([1, np.nan]), np.array([1.0, 2]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", [True, False])
def test_resampled_scores_equal_those_of_repeated_rows(seed, ties):
    true, predicted, groups = ratings(90, seed, ties)
    codes = np.unique(groups, return_inverse=True)[1]
    counts = draw_groups(codes.max() + 1, 60, seed)
    fast = resampled_scores(true, predicted, codes, counts)
    assert tuple(fast) == METRICS
    for resample, often in enumerate(counts):
        rows = np.concatenate([np.flatnonzero(codes == group) for group in np.repeat(np.arange(len(often)), often)])
        for name in METRICS:
            slow = getattr(metrics, name)(true[rows], predicted[rows])
            assert fast[name][resample] == pytest.approx(slow, abs=1e-10), name


def test_chunks_do_not_change_the_scores(monkeypatch):
    true, predicted, groups = ratings(60, 4)
    whole = score_with_intervals(true, predicted, groups, resamples=50)
    monkeypatch.setattr(metrics, "CHUNK_CELLS", 100)
    assert score_with_intervals(true, predicted, groups, resamples=50) == whole


def test_intervals_are_percentiles_of_resamples_of_whole_groups():
    true, predicted, groups = ratings(90, 5)
    table = score_with_intervals(true, predicted, groups, resamples=200, seed=3, level=0.8)
    codes = np.unique(groups.astype(str), return_inverse=True)[1]
    counts = np.random.default_rng(3).multinomial(codes.max() + 1, [1 / (codes.max() + 1)] * (codes.max() + 1), 200)
    assert (counts.sum(1) == codes.max() + 1).all()
    slow = [rmse(true[rows], predicted[rows]) for rows in (np.repeat(np.arange(90), often[codes]) for often in counts)]
    assert table["rmse"] == pytest.approx([rmse(true, predicted), *np.percentile(slow, [10, 90])], abs=1e-10)
    assert list(table) == ["n", *METRICS] and table["n"] == 90
    for name in METRICS:
        value, low, high = table[name]
        assert low < value < high


def test_interval_covers_the_true_score_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        artist = np.repeat(random.normal(0, 0.7, 60), 3)
        true = random.normal(0, 1, 180)
        value, low, high = score_with_intervals(
            true, true + artist + random.normal(0, 0.7, 180), np.arange(180) // 3, 200
        )["rmse"]
        inside += low < math.sqrt(0.98) < high
    assert 0.88 < inside / 200 < 0.98


def test_one_group_has_no_interval_and_a_constant_no_correlation():
    true, predicted, _ = ratings(30, 6)
    table = score_with_intervals(true, predicted, np.zeros(30), 50)
    assert table["r2"] == [r2(true, predicted), None, None]
    table = score_with_intervals(true, np.full(30, 5.1), np.arange(30), 50)
    assert table["pearson"] == table["spearman"] == [None, None, None]
    assert table["ccc"] == [0, 0, 0]
    assert None not in table["rmse"] + table["r2"]


def test_scores_repeat_exactly():
    true, predicted, groups = ratings(60, 7)
    assert score_with_intervals(true, predicted, groups, 50, 1) == score_with_intervals(true, predicted, groups, 50, 1)
    assert score_with_intervals(true, predicted, groups, 50, 1) != score_with_intervals(true, predicted, groups, 50, 2)


def test_ratings_far_from_zero_lose_no_digits():
    true, predicted, groups = ratings(60, 8)
    near, far = (score_with_intervals(true + c, predicted + c, groups, 50) for c in (0, 1e5))
    for name in METRICS:
        assert far[name] == pytest.approx(near[name], abs=1e-8)


def test_human_ceiling_by_hand_and_on_simulated_raters():
    ceiling = human_ceiling(np.array([1.0, 2.0, np.nan]), np.array([3.0, 5.0, 9.0]), raters=5)
    assert ceiling == {"r2": pytest.approx(1 - 2.5 / 5 / 1), "rmse": pytest.approx(math.sqrt(0.5)), "raters": 5, "n": 2}
    random = np.random.default_rng(0)
    opinion = random.normal(5, 1, 4000)
    heard = opinion[:, None] + random.normal(0, 1.5, (4000, 10))
    ceiling = human_ceiling(heard.std(1, ddof=1), heard.mean(1))
    assert ceiling["r2"] == pytest.approx(r2(heard.mean(1), opinion), abs=0.02)
    assert ceiling["rmse"] == pytest.approx(rmse(heard.mean(1), opinion), abs=0.01)
    with pytest.raises(ValueError, match="1 tracks have both"):
        human_ceiling(np.array([1.0, np.nan]), np.array([3.0, 5.0]))


def test_human_ceiling_of_deam(real_data):
    folder = real_data("deam") / "annotations" / "annotations averaged per song" / "song_level"
    columns = ["song_id", "valence_mean", "valence_std", "arousal_mean", "arousal_std"]
    tables = [pd.read_csv(path, skipinitialspace=True)[columns] for path in sorted(folder.glob("*.csv"))]
    table = pd.concat(tables).set_index("song_id")
    swapped = table.index <= 1000  # valence and arousal are exchanged in the 2013 part
    table.loc[swapped] = table.loc[swapped, ["arousal_mean", "arousal_std", "valence_mean", "valence_std"]].to_numpy()
    ceilings = {t: human_ceiling(table[f"{t}_std"], table[f"{t}_mean"]) for t in ("valence", "arousal")}
    # Measured before, independently, with 10 raters a song and 5 in the 2015 part.
    assert ceilings["valence"]["r2"] == pytest.approx(0.81, abs=0.005)
    assert ceilings["arousal"]["r2"] == pytest.approx(0.86, abs=0.005)
    early = table.index <= 2000
    for target, floor in {"valence": 0.485, "arousal": 0.494}.items():
        with_ten, with_five = (
            human_ceiling(part[f"{target}_std"], part[f"{target}_mean"], raters)
            for part, raters in ((table[early], 10), (table[~early], 5))
        )
        assert (with_ten["n"], with_five["n"]) == (1744, 58)
        square = (1744 * with_ten["rmse"] ** 2 + 58 * with_five["rmse"] ** 2) / 1802
        assert math.sqrt(square) == pytest.approx(floor, abs=0.0006)


def test_conformal_halfwidth_by_hand():
    residuals = np.arange(1, 20) / 10
    assert conformal_halfwidth(residuals, 0.9) == 1.8  # ceil(20 * .9) = 18th of 19
    assert conformal_halfwidth(residuals, 0.5) == 1.0
    assert conformal_halfwidth(np.arange(9.0), 0.9) == 8.0
    assert conformal_halfwidth(np.arange(8.0), 0.9) == math.inf
    with pytest.raises(ValueError, match="finite absolute errors"):
        conformal_halfwidth(np.array([-1.0, 2]))


def test_six_intervals_of_a_deam_sized_run_take_little_time():
    true, predicted, groups = ratings(1802, 0)
    started = time.process_time()
    score_with_intervals(true, predicted, groups, 1000)
    assert time.process_time() - started < 3  # about 0.2 s on one idle core
