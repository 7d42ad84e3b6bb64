"""Splits: no leaks, balance, determinism, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mer_core.errors import UserError
from mer_core.evaluate.splits import Split, check_disjoint, grouped_holdout, grouped_kfold, inner_folds, strata


def corpus(n: int, n_groups: int, seed: int) -> tuple[pd.Series, pd.DataFrame]:
    """Tracks in shuffled order; group sizes very unequal; valence and arousal correlated."""
    random = np.random.default_rng(seed)
    index = pd.Index([f"t{i}" for i in random.permutation(n)], name="track_id")
    groups = np.concatenate([np.arange(n_groups), (n_groups * random.random(n - n_groups) ** 3).astype(int)])
    valence = random.normal(5, 1.2, n)
    arousal = 0.6 * valence + random.normal(2, 1, n)
    return pd.Series([f"artist {g}" for g in groups], index=index), pd.DataFrame(
        {"valence": valence, "arousal": arousal}, index=index
    )


def assert_no_leak(split: Split, groups: pd.Series, tracks: pd.Index) -> None:
    """Spelled out with sets, independently of `check_disjoint`."""
    for _, train, test in split.rounds():
        assert not set(train) & set(test)
        assert not set(groups[train]) & set(groups[test])
    assert sorted(split.assignment.index) == sorted(tracks)


@pytest.mark.parametrize("seed", range(25))
def test_random_groups_never_leak(seed):
    n_groups = int(np.random.default_rng(seed).integers(5, 60))
    groups, ratings = corpus(60 + 7 * seed, n_groups, seed)
    folds = grouped_kfold(groups, ratings, 5, seed)
    assert folds.parts == (0, 1, 2, 3, 4)
    assert_no_leak(folds, groups, groups.index)
    check_disjoint(folds, groups)
    assert sorted(track for _, _, test in folds.rounds() for track in test) == sorted(groups.index)
    parts = grouped_holdout(groups, ratings, seed=seed)
    assert parts.parts == ("train", "validation", "test")
    assert_no_leak(parts, groups, groups.index)
    check_disjoint(parts, groups)


def test_inner_folds_split_the_training_part_alone():
    groups, ratings = corpus(200, 50, 0)
    for _, train, test in grouped_kfold(groups, ratings).rounds():
        inner = inner_folds(groups[train], ratings.loc[train])
        assert not set(inner.assignment.index) & set(test)
        assert_no_leak(inner, groups, train)


def test_folds_have_like_shares_of_every_stratum():
    groups, ratings = corpus(1800, 600, 1)
    groups[:] = np.random.default_rng(1).permutation(np.arange(1800) % 600).astype(str)
    cells = strata(ratings)
    shares = pd.crosstab(grouped_kfold(groups, ratings).assignment, cells, normalize="index")
    assert np.abs(shares - cells.value_counts(normalize=True)).max().max() < 0.02


def test_holdout_is_balanced_and_of_the_size_asked_for():
    groups, ratings = corpus(1800, 600, 2)
    groups[:] = np.random.default_rng(2).permutation(np.arange(1800) % 600).astype(str)
    parts = grouped_holdout(groups, ratings).assignment
    cells = strata(ratings)
    shares = pd.crosstab(parts, cells, normalize="index")
    assert np.abs(shares - cells.value_counts(normalize=True)).sum(axis=1).max() < 0.2
    sizes = parts.value_counts(normalize=True)
    assert sizes["train"] == pytest.approx(0.7, abs=0.01)
    assert sizes["test"] == pytest.approx(0.15, abs=0.01)


def test_more_trials_never_balance_worse():
    groups, ratings = corpus(300, 80, 3)

    def imbalance(trials):
        parts = grouped_holdout(groups, ratings, seed=1, trials=trials).assignment
        shares = pd.crosstab(parts, strata(ratings), normalize="index")
        of_cells = np.abs(shares - strata(ratings).value_counts(normalize=True)).to_numpy().sum()
        wanted = pd.Series({"train": 0.7, "validation": 0.15, "test": 0.15})
        return of_cells + 0.1 * (np.abs(parts.value_counts(normalize=True) - wanted) / wanted).sum()

    assert imbalance(64) < 0.8 * imbalance(1)


@pytest.mark.parametrize("make", [grouped_kfold, grouped_holdout])
def test_same_seed_same_split_whatever_the_order_of_rows(make):
    groups, ratings = corpus(150, 30, 4)
    first = make(groups, ratings, seed=7)
    again = make(groups.iloc[::-1], ratings.sample(frac=1, random_state=0), seed=7)
    assert first.assignment.equals(again.assignment)
    assert first.digest() == again.digest()
    assert first.digest() != make(groups, ratings, seed=8).digest()


def test_digest_is_of_the_assignment_alone():
    assignment = pd.Series([0, 1, 1], index=["a", "b", "c"])
    digest = Split("one", assignment, 1).digest()
    assert digest == Split("other", assignment.iloc[::-1], 2).digest()
    assert digest == "f8d1565662fe9164"  # first 16 digits of `printf 'a\t0\nb\t1\nc\t1' | sha256sum`
    assert digest != Split("one", pd.Series([1, 1, 1], index=["a", "b", "c"]), 1).digest()


def test_strata_are_quantile_cells():
    ratings = pd.DataFrame({"valence": np.arange(9.0), "arousal": np.tile([1.0, 2.0, 3.0], 3)})
    assert strata(ratings).tolist() == list(range(9))
    by_pandas = 3 * pd.qcut(ratings["valence"], 3, labels=False) + pd.qcut(ratings["arousal"], 3, labels=False)
    assert strata(ratings).tolist() == by_pandas.tolist()


def test_strata_of_ties_constants_and_gaps():
    constant = pd.DataFrame({"valence": [5.0] * 6, "arousal": [1.0, 1, 1, 1, 1, 9]})
    assert strata(constant).nunique() == 2
    gaps = pd.DataFrame({"valence": [1.0, 2, 3, np.nan], "arousal": [1.0, 2, 3, 4]})
    assert strata(gaps).tolist() == [0, 4, 8, -1]


@pytest.mark.parametrize("make", [grouped_kfold, grouped_holdout])
def test_constant_ratings_still_split(make):
    groups, ratings = corpus(40, 12, 5)
    assert_no_leak(make(groups, ratings * 0 + 5), groups, groups.index)


def test_ten_tracks_of_ten_groups_make_five_folds():
    groups, ratings = corpus(10, 10, 6)
    assert grouped_kfold(groups, ratings).assignment.value_counts().tolist() == [2] * 5


def test_leaks_are_found():
    groups = pd.Series(["x", "x", "y"], index=["a", "b", "c"])
    with pytest.raises(ValueError, match="group 'x' lies in parts test and train"):
        check_disjoint(Split("given", pd.Series(["train", "test", "train"], index=["a", "b", "c"])), groups)
    with pytest.raises(ValueError, match="track 'a' is in the given split twice"):
        check_disjoint(Split("given", pd.Series(["train", "test"], index=["a", "a"])), groups)
    with pytest.raises(ValueError, match="'d' has no group"):
        check_disjoint(Split("given", pd.Series(["train", "test"], index=["a", "d"])), groups)
    check_disjoint(Split("given", pd.Series(["train", "train", "test"], index=["a", "b", "c"])), groups)


def test_what_cannot_be_split_is_refused():
    groups, ratings = corpus(40, 12, 7)
    with pytest.raises(UserError, match="3 groups cannot fill 5 folds"):
        grouped_kfold(pd.Series(np.arange(40) % 3, index=groups.index), ratings)
    with pytest.raises(UserError, match="group of all 40 tracks is 'one'"):
        grouped_kfold(pd.Series("one", index=groups.index), ratings)
    with pytest.raises(UserError, match="8 tracks are too few for 5 folds: give at least 10"):
        grouped_kfold(groups[:8], ratings)
    with pytest.raises(UserError, match="1 tracks have no group"):
        grouped_kfold(groups.where(groups.index != "t3"), ratings)
    with pytest.raises(UserError, match="sum to 1"):
        grouped_holdout(groups, ratings, (0.7, 0.2))
    with pytest.raises(UserError, match="at least 2"):
        grouped_kfold(groups, ratings, folds=1)
    lopsided = pd.Series(["big"] * 38 + ["x", "y"], index=groups.index)
    with pytest.raises(UserError, match="3 groups of 1 to 38 tracks leave a part"):
        grouped_holdout(lopsided, ratings)
