"""Protocols by name, what leaks under them, and whether intervals and ellipses cover what they promise."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mer_core.datasets import load
from mer_core.datasets.dataset import Dataset, LoadReport
from mer_core.errors import UserError
from mer_core.evaluate.audit import spread_report
from mer_core.evaluate.cross_validation import cross_validate, per_track
from mer_core.evaluate.intervals import calibration_rounds, coverage, distances, ellipse, halfwidths, interval_summary
from mer_core.evaluate.metrics import conformal_halfwidth
from mer_core.evaluate.protocols import (
    PROTOCOLS,
    chunk_owners,
    count_leaks,
    make_chunks,
    make_split,
)
from mer_core.evaluate.scoring import ceilings, prediction_rows, score_parts
from mer_core.features.table import read_table


def make_dataset(tracks=90, group_size=3, root=Path("nowhere"), layout="tracks", spread=None):
    random = np.random.default_rng(0)
    index = pd.Index([str(i) for i in range(tracks)], name="track_id")
    about = pd.DataFrame({"path": None, "group": [f"g{i // group_size}" for i in range(tracks)], "part": "all"}, index)
    ratings = pd.DataFrame(random.uniform(1, 9, (tracks, 2)), index, ["valence", "arousal"])
    spread = pd.DataFrame(index=index) if spread is None else pd.DataFrame(spread, index, ["valence", "arousal"])
    return Dataset("made", root, layout, "as given", (1.0, 9.0), about, ratings, spread, LoadReport())


@pytest.fixture(scope="module")
def deam(real_data):
    return load(real_data("deam"))


@pytest.fixture(scope="module")
def songs(real_data, deam):
    """DEAM's song means, (1802, 167)."""
    return read_table(real_data("deam") / "song_mean_167.parquet").loc[deam.tracks.index]


@pytest.fixture(scope="module")
def ridge_on_deam(deam, songs):
    split = make_split("grouped-5fold", deam, deam.tracks.index, 42)
    return cross_validate(songs, deam.ratings, deam.tracks["group"], split, "ridge", 42)


def slow_leaks(split, groups):
    """Tested tracks with another track of their group in training, by looking at every pair."""
    leaking = set()
    for _, train, test in split.rounds():
        leaking |= {a for a in test for b in train if a != b and groups[a] == groups[b]}
    return len(leaking)


def test_the_command_line_offers_the_registry():
    from pipelines.train import PROTOCOLS as offered

    assert offered == tuple(PROTOCOLS)
    assert all(protocol.summary.endswith(".") for protocol in PROTOCOLS.values())


def test_sizes_of_the_hold_outs_of_deam(deam):
    full = set(deam.tracks.index[deam.tracks["part"] == "2015"])
    for name, sizes in (("original", (1488, 256, 58)), ("custom", (1257, 276, 269))):
        split = make_split(name, deam, deam.tracks.index, 42)
        found = tuple(len(split.members(part)) for part in ("train", "validation", "test"))
        assert np.allclose(found, sizes, atol=20) and sum(found) == 1802
        assert full <= set(split.members("test"))
        assert (deam.tracks["group"].groupby(split.assignment).unique().explode().value_counts() == 1).all()
        assert count_leaks(name, split, deam) == []
        turned = make_split(name, deam, deam.tracks.index[::-1], 42)
        assert turned.digest() == split.digest() != make_split(name, deam, deam.tracks.index, 43).digest()
    assert set(make_split("original", deam, deam.tracks.index, 42).members("test")) == full


def test_the_custom_test_part_hears_the_whole_plane(deam):
    from mer_core.evaluate.splits import strata

    split = make_split("custom", deam, deam.tracks.index, 42)
    cells = strata(deam.ratings)
    shares = cells[split.members("test")].value_counts(normalize=True) - cells.value_counts(normalize=True)
    assert shares.abs().sum() < 0.25


def test_published_lists_leak_artists(deam):
    split = make_split("music2emo", deam, deam.tracks.index, 42)
    assert [len(split.members(part)) for part in split.parts] == [1261, 271, 270]
    leaks = {leak["kind"]: leak for leak in count_leaks("music2emo", split, deam)}
    assert set(leaks) == {"artist", "cross-dataset"}
    assert leaks["artist"]["count"] == slow_leaks(split, deam.tracks["group"])
    old = sum(int(track) <= 1000 for track in (Path(deam.root) / "splits" / "test.txt").read_text().split())
    assert leaks["cross-dataset"]["count"] == old and leaks["cross-dataset"]["share"] == pytest.approx(old / 270)
    assert f"{old} of 270" in leaks["cross-dataset"]["sentence"]


def test_leaks_of_chunks_are_counted_from_the_split():
    dataset = make_dataset(tracks=12, group_size=2)
    split = make_split("leaky-chunks", dataset, dataset.tracks.index, 0)
    owner = chunk_owners(dataset.tracks.index)
    chunks, tracks, artists = set(), set(), set()
    for fold in split.parts:
        test = list(split.members(fold))
        train = [chunk for chunk in owner.index if chunk not in test]
        for chunk in test:
            if owner[chunk] in set(owner[train]):
                chunks.add(chunk)
                tracks.add(owner[chunk])
            mate = str(int(owner[chunk]) ^ 1)
            if mate in set(owner[train]):
                artists.add(owner[chunk])
    leaks = {leak["kind"]: leak["count"] for leak in count_leaks("leaky-chunks", split, dataset)}
    assert leaks == {"chunk": len(chunks), "track": len(tracks), "artist": len(artists)}
    assert len(owner) == 36 and set(split.assignment.value_counts()) == {7, 8}


def test_chunks_of_a_track_are_averaged():
    dataset = make_dataset(tracks=40)
    index = dataset.tracks.index
    random = np.random.default_rng(1)
    features = pd.DataFrame(random.normal(size=(120, 4)), chunk_owners(index).index).rename(columns=str)
    split = make_split("leaky-chunks", dataset, index, 0)
    chunks = make_chunks(features, split, index)
    ratings, groups = chunks.spread(dataset.ratings), chunks.spread(dataset.tracks["group"])
    result = cross_validate(chunks.features, ratings, groups, split, "ridge", 0)
    merged = per_track(result, chunks.owners)
    assert list(merged.tested) == list(index) and merged.chunks is result
    for row, track in enumerate(index):
        members = [f"{track}#{number}" for number in range(3)]
        assert np.allclose(merged.predicted[row], result.predicted[result.tested.isin(members)].mean(0))
        assert merged.fold[row] == split.assignment[members[0]] == chunks.by_track.assignment[track]


def test_protocols_that_a_dataset_cannot_serve_say_why(tmp_path):
    dataset = make_dataset(root=tmp_path)
    index = dataset.tracks.index
    for name in ("original", "custom"):
        with pytest.raises(UserError, match="part 2015.*made.*grouped-5fold"):
            make_split(name, dataset, index, 0)
    with pytest.raises(UserError, match=r"splits/train.txt is missing"):
        make_split("music2emo", dataset, index, 0)
    (tmp_path / "splits").mkdir()
    parts = {"train": index[:60], "validation": index[60:70], "test": index[69:]}
    for part, ids in parts.items():
        (tmp_path / "splits" / f"{part}.txt").write_text("\n".join(ids))
    with pytest.raises(UserError, match="track 69"):
        make_split("music2emo", dataset, index, 0)
    (tmp_path / "splits" / "test.txt").write_text("\n".join(index[70:85]))
    split = make_split("music2emo", dataset, index, 0)
    assert len(split.assignment) == 85  # five tracks are in no list
    (tmp_path / "splits" / "test.txt").write_text("other\nids\n")
    with pytest.raises(UserError, match=r"test.txt has 0 of the tracks"):
        make_split("music2emo", dataset, index, 0)


def test_few_groups_make_few_folds():
    dataset = make_dataset(tracks=40, group_size=14)
    split = make_split("grouped-5fold", dataset, dataset.tracks.index, 0)
    assert split.parts == (0, 1, 2)
    with pytest.raises(UserError, match="needs 5 groups, made has 3"):
        make_split("nested", dataset, dataset.tracks.index, 0)
    alone = make_dataset(tracks=40, group_size=40)
    with pytest.raises(UserError, match="nothing can be held out"):
        make_split("grouped-5fold", alone, alone.tracks.index, 0)


def test_hold_outs_are_predicted_by_a_model_of_the_training_part(deam, songs):
    from mer_core.models.regressors import make_regressor

    split = make_split("custom", deam, deam.tracks.index, 42)
    result = cross_validate(songs, deam.ratings, deam.tracks["group"], split, "ridge", 42)
    train, validation, test = (split.members(part) for part in ("train", "validation", "test"))
    model = make_regressor("ridge", 42).fit(songs.loc[train].to_numpy(), deam.ratings.loc[train].to_numpy())
    assert set(result.tested) == set(test)
    assert np.allclose(result.predicted, model.predict(songs.loc[result.tested].to_numpy()))
    errors = deam.ratings.loc[validation] - model.predict(songs.loc[validation].to_numpy())
    assert np.allclose(np.sort(result.validation, axis=0), np.sort(errors.to_numpy(), axis=0))
    true = deam.ratings.loc[result.tested]
    rows = prediction_rows(true, result.predicted, deam.tracks["part"][true.index], result.fold, 0.9, result.validation)
    for target in true:
        half = conformal_halfwidth(errors[target].abs(), 0.9)
        mine = rows[rows["target"] == target]
        assert np.allclose(mine["upper"] - mine["predicted"], half)


def test_half_widths_come_from_the_other_folds_and_cover():
    random = np.random.default_rng(0)
    errors, folds = random.laplace(0, 0.5, (2000, 2)), np.arange(2000) % 5
    half = halfwidths(errors, folds, 0.9)
    assert np.allclose((np.abs(errors) <= half).mean(0), 0.9, atol=0.015)
    for fold in range(5):
        for column in range(2):
            expected = conformal_halfwidth(np.abs(errors[folds != fold, column]), 0.9)
            assert np.allclose(half[folds == fold, column], expected)
    with pytest.raises(ValueError, match="1 fold"):
        calibration_rounds(errors, np.zeros(2000))


def test_an_ellipse_is_that_of_the_slow_distance():
    random = np.random.default_rng(1)
    errors = random.normal(size=(400, 2)) @ np.array([[1.0, 0.6], [0.0, 0.5]])
    shape = ellipse(errors[:200], 0.8)
    inverse = np.linalg.inv(sum(np.outer(e, e) for e in errors[:200]) / 200)
    slow = np.array([np.sqrt(e @ inverse @ e) for e in errors])
    assert np.allclose(distances(errors, shape["covariance"]), slow)
    assert shape["radius"] == pytest.approx(np.sort(slow[:200])[int(np.ceil(201 * 0.8)) - 1])
    assert ellipse(errors[:5], 0.9)["radius"] == np.inf


def test_coverage_on_deam_is_nominal(deam, ridge_on_deam):
    parts = deam.tracks["part"]
    errors = deam.ratings - ridge_on_deam.predicted
    found = coverage(errors, ridge_on_deam.fold, parts)
    for name in ("valence", "arousal", "joint"):
        for level in (0.8, 0.9):
            assert found[name][str(level)]["all"] == pytest.approx(level, abs=0.02)
            assert set(found[name][str(level)]) == {"all", "2013", "2014", "2015"}
    rows = prediction_rows(deam.ratings, ridge_on_deam.predicted, parts, ridge_on_deam.fold, 0.9)
    inside = (rows["lower"] <= rows["true"]) & (rows["true"] <= rows["upper"])
    chosen = (rows["target"] == "arousal") & (rows["part"] == "2013")
    assert inside[chosen].mean() == pytest.approx(found["arousal"]["0.9"]["2013"])


def test_stored_ellipses_cover_new_tracks():
    # What a model is stored with is calibrated once, and meets other music later.
    random = np.random.default_rng(5)
    hits = {level: [] for level in ("0.8", "0.9")}
    for _ in range(60):
        errors = random.standard_t(4, (480, 2)) @ np.array([[0.8, 0.3], [0.0, 0.7]])
        summary = interval_summary(pd.DataFrame(errors[:240], columns=["valence", "arousal"]))
        for level, about in summary.items():
            shape = about["ellipse"]
            hits[level].append((distances(errors[240:], shape["covariance"]) <= shape["radius"]).mean())
    assert np.mean(hits["0.8"]) == pytest.approx(0.8, abs=0.02)
    assert np.mean(hits["0.9"]) == pytest.approx(0.9, abs=0.02)


def test_ceilings_are_those_of_the_audit(deam, ridge_on_deam):
    parts = deam.tracks["part"]
    scores = score_parts(deam.ratings, ridge_on_deam.predicted, deam.tracks["group"], parts, 10, 0)
    found, audited = ceilings(deam.ratings, parts, deam, scores), spread_report(deam)
    for target in deam.targets:
        for part in ("2013", "2014", "2015"):
            mine, theirs = found[target]["parts"][part], audited[part][target]["ceiling"]
            assert mine["r2"] == pytest.approx(theirs["r2"]) and mine["rmse"] == pytest.approx(theirs["rmse"])
            assert mine["raters"] == pytest.approx(theirs["raters"]) and mine["n"] == theirs["n"]
            assert mine["share"] == pytest.approx(scores[target][part]["r2"][0] / theirs["r2"])
        assert found[target]["r2"] == pytest.approx(audited["all"][target]["ceiling"]["r2"])
        assert found[target]["rmse"] == pytest.approx(audited["all"][target]["ceiling"]["rmse"])
        assert found[target]["assumed"] is False
    assert found["valence"]["parts"]["2015"]["raters"] == pytest.approx(5.11, abs=0.01)


def test_ceilings_where_raters_are_unknown_or_single():
    dataset = make_dataset(spread=1.5)
    scores = {target: {"all": {"r2": [0.4]}} for target in dataset.targets}
    found = ceilings(dataset.ratings, dataset.tracks["part"], dataset, scores)
    assert found["valence"]["assumed"] and found["valence"]["raters"] == pytest.approx(10)
    assert found["valence"]["r2"] == pytest.approx(1 - 0.225 / dataset.ratings["valence"].var(ddof=0))
    one = replace(dataset, spread=dataset.spread * 0)
    assert ceilings(dataset.ratings, dataset.tracks["part"], one, scores) == {}
