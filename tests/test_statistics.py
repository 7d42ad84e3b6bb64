"""The statistics against a slow definition: pandas, one column of one track at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mer_core.features.statistics import STATISTICS_8, STATISTICS_15, column_names, summarise


def by_definition(x: pd.Series) -> dict[str, float]:
    n = len(x)
    q25, q75, median = x.quantile(0.25), x.quantile(0.75), x.median()
    if n >= 10:
        time = np.arange(n)
        trend = np.cov(time, x, ddof=0)[0, 1] / np.var(time)
    else:
        trend = (x.iloc[-1] - x.iloc[0]) / max(n - 1, 1)
    return {
        "mean": x.mean(),
        "std": x.std(),
        "min": x.min(),
        "max": x.max(),
        "q25": q25,
        "q75": q75,
        "skew": x.skew(),
        "kurtosis": x.kurt(),
        "range": x.max() - x.min(),
        "iqr": q75 - q25,
        "cv": x.std() / (abs(x.mean()) + 1e-8),
        "median": median,
        "mad": (x - median).abs().median(),
        "variation": x.diff().abs().mean(),
        "trend": trend,
    }


def reference(frames: list[np.ndarray], names: tuple[str, ...] = STATISTICS_15) -> np.ndarray:
    rows = []
    for values in frames:
        columns = [by_definition(pd.Series(column, dtype=float)) for column in values.T]
        rows.append([statistics[name] for statistics in columns for name in names])
    return np.array(rows)


def walks(lengths: list[int], columns: int = 4, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.integers(-6, 7, columns)
    offsets = rng.normal(size=columns) * scales * 10
    return [rng.normal(size=(n, columns)).cumsum(axis=0) * scales + offsets for n in lengths]


def test_tracks_of_many_lengths_agree_with_pandas():
    frames = walks([88, 60, 88, 5, 9, 10, 11, 1224, 33, 88, 10, 7] + [88] * 20)
    assert summarise(frames) == pytest.approx(reference(frames), rel=1e-9)


def test_skewed_and_tied_values_agree_with_pandas():
    rng = np.random.default_rng(1)
    frames = [np.stack([rng.exponential(size=n), rng.integers(0, 3, n)], axis=1) for n in (12, 13, 88)]
    assert summarise(frames) == pytest.approx(reference(frames), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_few_frames_leave_undefined_what_pandas_leaves_undefined(n: int):
    frames = walks([n, n])
    assert summarise(frames) == pytest.approx(reference(frames), rel=1e-9, nan_ok=True)


def test_trend_of_fewer_than_ten_frames_joins_the_ends():
    bent = np.array([[0.0], [9.0], [0.0], [0.0], [4.0]])
    assert summarise([bent], ("trend",)) == pytest.approx(1.0)


@pytest.mark.parametrize("n", [1, 5, 88])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.3e7])
def test_constant_series_has_no_spread_and_no_shape(n: int, value: float):
    frames = [np.full((n, 2), value)]
    ours = dict(zip(STATISTICS_15, summarise(frames)[0], strict=False))
    assert ours == pytest.approx(dict(zip(STATISTICS_15, reference(frames)[0], strict=False)), abs=1e-15, nan_ok=True)
    assert np.isnan(ours["skew"]) and np.isnan(ours["kurtosis"])


def test_nan_makes_all_statistics_of_its_series_undefined_and_no_others():
    frames = walks([20, 20])
    clean = summarise(frames)
    frames[0][7, 1] = np.nan
    spoilt = summarise(frames)
    wide = spoilt.reshape(2, 4, 15)
    assert np.isnan(wide[0, 1]).all()
    assert np.isnan(wide).sum() == 15
    assert np.array_equal(np.delete(wide, 1, axis=1), np.delete(clean.reshape(2, 4, 15), 1, axis=1))


def test_float32_input_is_summed_in_double_precision():
    frames = [values.astype(np.float32) for values in walks([88, 20])]
    assert summarise(frames) == pytest.approx(reference(frames), rel=1e-9)


def test_spread_and_shape_survive_a_level_far_above_them():
    frames = walks([88, 60], columns=1)
    lifted = [values + 2.0**40 * np.ptp(values) for values in frames]
    names = ("std", "skew", "kurtosis", "mad", "variation", "trend")
    assert summarise(lifted, names) == pytest.approx(summarise(frames, names), rel=1e-2)


def test_input_is_left_as_it_was():
    frames = walks([12, 12])
    before = [values.copy() for values in frames]
    summarise(frames)
    assert all(np.array_equal(a, b) for a, b in zip(frames, before, strict=True))


def test_names_select_and_order_the_columns():
    frames = walks([20])
    names = ("q75", "mean")
    assert column_names(["a", "b"], names) == ["a_q75", "a_mean", "b_q75", "b_mean"]
    assert summarise(frames, names) == pytest.approx(reference(frames, names))
    assert STATISTICS_15[:8] == STATISTICS_8
    assert summarise(frames, STATISTICS_8).shape == (1, 32)


def test_tables_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="shape"):
        summarise([np.zeros((5, 3)), np.zeros((5, 2))])
    with pytest.raises(ValueError, match="at least 1 frame"):
        summarise([np.zeros((0, 3))])
