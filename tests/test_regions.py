"""Region maps against loops over tracks that follow the definition word by word."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mer_core.evaluate.regions import FEW, region_maps


def predictions(n: int = 200, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = []
    for target in ("arousal", "valence", "tension"):
        true = random.normal(5, 1.5, n).round(1)
        rows += [(f"t{i}", target, true[i], true[i] + random.normal(0.2, 1)) for i in range(n)]
    return pd.DataFrame(rows, columns=["track_id", "target", "true", "predicted"]).sample(frac=1, random_state=1)


def bin_of(value: float, edges: list[float]) -> int:
    for number in range(len(edges) - 2):
        if value < edges[number + 1]:
            return number
    return len(edges) - 2


def tracks_in(table: pd.DataFrame, edges: dict, region: dict) -> list[str]:
    """Ids of the tracks whose true ratings lie in a region."""
    true = table.pivot(index="track_id", columns="target", values="true")
    return [
        track
        for track in true.index
        if all(bin_of(true.loc[track, name], edges[name]) == region[name] for name in ("valence", "arousal"))
    ]


@pytest.fixture(scope="module")
def table():
    return predictions()


@pytest.fixture(scope="module")
def maps(table):
    return region_maps(table)


def test_regions_of_equal_width_have_the_errors_of_their_tracks(table, maps):
    about = maps["width"]
    for target in ("valence", "arousal"):
        true = table.loc[table["target"] == target, "true"]
        assert about["edges"][target] == pytest.approx(np.linspace(true.min(), true.max(), 4).tolist())
    assert [(row["valence"], row["arousal"]) for row in about["regions"]] == [
        (v, a) for v in range(3) for a in range(3)
    ]
    assert sum(row["n"] for row in about["regions"]) == 200
    for row in about["regions"]:
        inside = tracks_in(table, about["edges"], row)
        assert row["n"] == len(inside) and row["few"] == (len(inside) < FEW)
        chosen = table[table["track_id"].isin(inside)]
        for target in ("valence", "arousal"):
            error = (chosen["predicted"] - chosen["true"])[chosen["target"] == target]
            if not inside:
                assert row["rmse"][target] is None
                continue
            assert row["rmse"][target] == pytest.approx(((error**2).sum() / len(error)) ** 0.5)
            assert row["bias"][target] == pytest.approx(error.sum() / len(error))
        if inside:
            assert row["rmse"]["joint"] == pytest.approx((row["rmse"]["valence"] + row["rmse"]["arousal"]) / 2)
    assert {row["few"] for row in about["regions"]} == {True, False}


def test_accuracy_counts_predictions_in_the_right_quantile_bin(table, maps):
    about, hits = maps["quantile"], []
    wide = {side: table.pivot(index="track_id", columns="target", values=side) for side in ("true", "predicted")}
    for row in about["regions"]:
        inside = tracks_in(table, about["edges"], row)
        found = [
            [bin_of(wide["predicted"].loc[track, name], about["edges"][name]) == row[name] for track in inside]
            for name in ("valence", "arousal")
        ]
        assert row["accuracy"]["valence"] == pytest.approx(sum(found[0]) / len(inside))
        assert row["accuracy"]["arousal"] == pytest.approx(sum(found[1]) / len(inside))
        assert row["accuracy"]["both"] == pytest.approx(sum(map(all, zip(*found, strict=True))) / len(inside))
        hits += map(all, zip(*found, strict=True))
    assert about["accuracy"]["both"] == pytest.approx(sum(hits) / 200)
    assert about["chance"]["both"] == max(row["n"] for row in about["regions"]) / 200
    thirds = {v: sum(row["n"] for row in about["regions"] if row["valence"] == v) for v in range(3)}
    assert about["chance"]["valence"] == max(thirds.values()) / 200 == pytest.approx(1 / 3, abs=0.03)


def test_perfect_predictions_are_always_in_the_right_bin(table):
    about = region_maps(table.assign(predicted=table["true"]))
    assert set(about["quantile"]["accuracy"].values()) == {1.0}
    assert max(row["rmse"]["joint"] for row in about["width"]["regions"] if row["n"]) == 0


def test_an_empty_region_has_no_error():
    line = pd.DataFrame(
        [(f"t{i}", target, i, i + 1.0) for i in range(12) for target in ("valence", "arousal")],
        columns=["track_id", "target", "true", "predicted"],
    )
    about = region_maps(line)
    corner = about["width"]["regions"][2]  # low valence, high arousal
    assert corner["n"] == 0 and corner["rmse"]["valence"] is None and corner["few"]
    assert about["quantile"]["regions"][2]["accuracy"]["both"] is None


def test_there_is_no_map_without_both_dimensions(table):
    assert region_maps(table[table["target"] != "arousal"]) is None
