"""Linear heads: what they add up to, how they are calibrated, and what they refuse."""

import json

import numpy as np
import pytest

from mer_core.errors import UserError
from mer_core.models.classifiers import LinearHead, fit_linear_head, sigmoid

RANDOM = np.random.default_rng(3)


@pytest.fixture(scope="module")
def data():
    features = RANDOM.normal(2, 3, (400, 12))
    features[:, 11] = 5.0  # constant
    logit = 0.5 + (features[:, 0] - 2) / 3 * 1.2 - (features[:, 1] - 2) / 3
    labels = (RANDOM.random(400) < sigmoid(logit)).astype(int)
    return features, labels, np.repeat(np.arange(40), 10), logit


def test_contributions_and_bias_add_up_to_the_logit(data):
    features, labels, groups, _ = data
    head = fit_linear_head(features[:300], labels[:300], groups[:300])
    assert np.allclose(head.contributions(features).sum(axis=1) + head.bias, head.logit(features), atol=1e-12)
    assert np.allclose(head.contributions(features[:300].mean(axis=0, keepdims=True)), 0, atol=1e-9)
    assert (head.weights[11], head.contributions(features)[:, 11].any()) == (0, False)
    read = LinearHead.from_json(json.loads(json.dumps(head.to_json())))
    assert (read.probability(features) == head.probability(features)).all()


def test_the_planted_logit_is_recovered_and_calibrated(data):
    features, labels, groups, logit = data
    head = fit_linear_head(features[:300], labels[:300], groups[:300])
    assert np.corrcoef(head.logit(features[300:]), logit[300:])[0, 1] > 0.9
    slope = np.polyfit(logit, head.logit(features), 1)[0]
    assert 0.6 < slope < 1.5  # neither over- nor underconfident


def test_noise_is_not_believed(data):
    features, _, groups, _ = data
    labels = RANDOM.integers(0, 2, 400)
    head = fit_linear_head(features, labels, groups)
    assert np.abs(head.probability(features) - 0.5).max() < 0.25


def test_sigmoid_does_not_overflow():
    assert sigmoid(np.array([-2000.0, 0.0, 2000.0])).tolist() == [0.0, 0.5, 1.0]


def test_one_class_or_one_group_is_refused(data):
    features, labels, groups, _ = data
    with pytest.raises(UserError, match="one class"):
        fit_linear_head(features, np.ones(400), groups)
    with pytest.raises(UserError, match="one group"):
        fit_linear_head(features, labels, np.zeros(400))
