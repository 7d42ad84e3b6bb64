"""Happy or sad: classes, scores against scikit-learn, cells, examples by rule."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

from mer_core.datasets import load
from mer_core.errors import UserError
from mer_core.evaluate.classification import (
    CELLS,
    cells_of,
    classification_scores,
    examples,
    happy_or_sad,
    reliability,
)

RANDOM = np.random.default_rng(4)
TRUE = RANDOM.integers(0, 2, 200)
PROBABILITY = np.round(np.clip(0.3 + 0.35 * TRUE + RANDOM.normal(0, 0.25, 200), 0, 1), 2)
GROUPS = np.repeat(np.arange(20), 10)


@pytest.fixture
def folder(tmp_path):
    def make(**ratings):
        n = len(next(iter(ratings.values())))
        (tmp_path / "dataset.json").write_text('{"rating_scale": [1, 9]}')
        for k in range(n):
            (tmp_path / f"{k}.wav").write_bytes(b"RIFF")
        ratings = {"valence": np.linspace(2, 8, n), "arousal": np.linspace(3, 7, n)} | ratings
        table = pd.DataFrame({"track_id": [f"t{k:02}" for k in range(n)], "path": [f"{k}.wav" for k in range(n)]})
        table.assign(**ratings).to_csv(tmp_path / "tracks.csv", index=False)
        return load(tmp_path)

    return make


def test_scores_are_those_of_scikit_learn():
    found = classification_scores(TRUE, PROBABILITY, GROUPS, 200)
    called = PROBABILITY >= 0.5
    assert found["balanced_accuracy"][0] == pytest.approx(balanced_accuracy_score(TRUE, called))
    assert found["auc"][0] == pytest.approx(roc_auc_score(TRUE, PROBABILITY))
    assert found["brier"][0] == pytest.approx(brier_score_loss(TRUE, PROBABILITY))
    for name in ("balanced_accuracy", "auc", "accuracy"):
        value, low, high = found[name]
        assert low < value < high
    assert sum(found["cells"].values()) == 200 and found["cells"]["happy-sad"] == ((TRUE == 1) & ~called).sum()


def test_intervals_are_those_of_a_slow_bootstrap_over_groups():
    found = classification_scores(TRUE, PROBABILITY, GROUPS, 2000, seed=1)["balanced_accuracy"]
    random, slow = np.random.default_rng(9), []
    for _ in range(2000):
        rows = np.concatenate([np.flatnonzero(GROUPS == g) for g in random.integers(0, 20, 20)])
        slow.append(balanced_accuracy_score(TRUE[rows], PROBABILITY[rows] >= 0.5))
    np.testing.assert_allclose(found[1:], np.quantile(slow, [0.025, 0.975]), atol=0.012)


def test_calibration_error_is_zero_for_frequencies_and_half_for_lies():
    probability, true = np.repeat([0.25, 0.75], 8), np.tile([1, 0, 0, 0], 4)
    true[8:] = 1 - true[8:]
    groups = np.arange(16)
    assert classification_scores(true, probability, groups, 5)["calibration_error"][0] == pytest.approx(0)
    assert classification_scores(true, 1 - probability, groups, 5)["calibration_error"][0] == pytest.approx(0.5)
    found = reliability(true, probability)
    assert found["said"].tolist() == [0.25, 0.75] == found["found"].tolist() and found["n"].tolist() == [8, 8]


def test_one_class_has_no_balanced_accuracy_but_no_crash():
    found = classification_scores(np.ones(6, int), np.full(6, 0.9), np.arange(6), 10)
    assert found["balanced_accuracy"] == [None, None, None] and found["accuracy"][0] == 1.0


def test_cells_name_the_true_class_first():
    assert list(cells_of(np.array([1, 0, 1, 0]), np.array([0.5, 0.49, 0.1, 0.9]))) == list(CELLS)


def test_examples_are_chosen_by_rule():
    true = pd.Series([1] * 6, index=pd.Index([f"t{k}" for k in range(6)], name="track_id"))
    probability = pd.Series([0.99, 0.8, 0.7, 0.6, 0.52, 0.2], index=true.index)
    found = examples(true, probability).set_index(["cell", "rule"])["track_id"]
    assert found["happy-happy"].to_dict() == {"most confident": "t0", "median": "t2", "borderline": "t4"}
    assert found["happy-sad"].to_dict() == {"most confident": "t5"}  # one track is one example


def test_classes_come_from_happiness_or_from_valence(folder):
    n = 24
    dataset = folder(happy=np.linspace(1, 8, n), sad=np.linspace(7, 2, n))
    by_both, by_valence = happy_or_sad(dataset, "happy-sad"), happy_or_sad(dataset, margin=1.5)
    assert "happiness minus sadness" in by_both.said
    score = dataset.ratings["happy"] - dataset.ratings["sad"]
    assert by_both.labels.index.tolist() == score.index[score.abs() >= 1].tolist()
    assert (by_both.labels == (score[by_both.labels.index] > 0)).all()
    valence = dataset.ratings["valence"]
    assert set(by_valence.labels.index) == set(valence.index[(valence <= 3.5) | (valence >= 6.5)])


@pytest.mark.parametrize(
    ("source", "margin", "said"),
    [("happy-sad", 1, "lacks; use valence"), ("valence", -1, "is negative"), ("valence", 2.9, "smaller --margin")],
)
def test_classes_that_cannot_be_had(folder, source, margin, said):
    with pytest.raises(UserError, match=said):
        happy_or_sad(folder(tension=np.linspace(1, 9, 20)), source, margin)
