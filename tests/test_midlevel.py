"""Qualities and their kinds, the linear map, the schemes, and what they are worth, against slow definitions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from mer_core.datasets.dataset import Dataset, LoadReport
from mer_core.datasets.midlevel_ratings import QUESTIONS, SEVEN, human_ratings, planted_qualities
from mer_core.errors import UserError
from mer_core.evaluate.midlevel import cost_table, cue_signs, gathered, weight_intervals
from mer_core.evaluate.midlevel_data import build_targets, chosen_ratings, kind_of, more_tracks
from mer_core.models import midlevel
from mer_core.models.midlevel import Inner, Learning, adjusted, fit_map, fit_schemes, read_map, what_if
from mer_core.models.regressors import make_regressor
from mer_core.models.store import load_model, save_model

IDS = [f"{number:03d}" for number in range(1, 31)]


def dataset_of(root, ids=IDS, synthetic=False, **ratings) -> Dataset:
    index = pd.Index(ids, name="track_id")
    columns = ratings or {"valence": np.linspace(2, 8, len(ids)), "arousal": np.linspace(8, 2, len(ids))}
    tracks = pd.DataFrame({"path": None, "group": [f"g{i // 3}" for i in range(len(ids))], "part": "all"}, index=index)
    table, spread = pd.DataFrame(columns, index=index), pd.DataFrame(index=index)
    return Dataset("music", root, "tracks", "as given", (1, 9), tracks, table, spread, LoadReport(), synthetic)


def published(folder, ids, drop=(), **changes) -> object:
    """`metadata_annotations/annotations.csv` as published, with a space before one of its names."""
    names = ["song_id", "melody", " articulation", "rhythm_complexity", "rhythm_stability", "dissonance"]
    names += ["atonality", "mode"]
    random = np.random.default_rng(1)
    table = pd.DataFrame({name: random.uniform(1, 10, len(ids)).round(3) for name in names[1:]})
    table.insert(0, "song_id", ids)
    table = table.assign(**changes).drop(columns=list(drop))
    (folder / "metadata_annotations").mkdir(parents=True)
    table.to_csv(folder / "metadata_annotations" / "annotations.csv", index=False)
    return table


@pytest.fixture(scope="module")
def learning():
    """60 tracks whose two ratings follow three heard qualities linearly, and one thing no quality names."""
    random = np.random.default_rng(0)
    index = pd.Index([f"t{i}" for i in range(60)])
    hidden = random.normal(size=(60, 4))
    features = pd.DataFrame(hidden @ random.normal(size=(4, 12)) + random.normal(0, 0.1, (60, 12)), index)
    qualities = pd.DataFrame(hidden[:, :3] + random.normal(0, 0.2, (60, 3)), index, ["a", "b", "c"])
    ratings = 5 + hidden[:, :3] @ [[0.9, 0.1], [-0.6, 0.4], [0.0, 0.3]] + hidden[:, [3]] * [0.1, 0.8]
    ratings = pd.DataFrame(ratings + random.normal(0, 0.1, (60, 2)), index, ["valence", "arousal"])
    groups = pd.Series([f"g{i // 3}" for i in range(60)], index)
    return Learning(features, qualities, ratings, groups), pd.Series(np.arange(60) // 3 % 4, index)


def test_every_quality_has_the_question_of_the_raters():
    assert list(QUESTIONS) == list(SEVEN) and len(SEVEN) == 7
    assert all(question.endswith("?") for question in QUESTIONS.values())


def test_published_ratings_are_found_by_the_numbers_of_the_film_music(tmp_path):
    table = published(tmp_path, [3575 + number for number in range(1, 31) if number != 7])
    found = human_ratings(tmp_path, dataset_of(tmp_path))
    assert found.kind == "human" and list(found.values) == list(SEVEN)
    row = table.set_index("song_id").loc[3575 + 12]
    assert found.values.loc["012", "minorness"] == row["mode"]
    assert found.values.loc["012", "tonal_stability"] == row["atonality"]
    assert found.notes == (f"No qualities in {found.source} of 1 tracks, which were left out (first: 007).",)


def test_ratings_of_ones_own_ids_are_taken_as_they_are(tmp_path):
    table = published(tmp_path, IDS)
    found = human_ratings(tmp_path / "metadata_annotations" / "annotations.csv", dataset_of(tmp_path))
    assert found.values["melodiousness"].to_numpy() == pytest.approx(table["melody"].to_numpy())


@pytest.mark.parametrize(
    ("ids", "options", "said"),
    [
        ([9000 + i for i in range(30)], {}, "0 of the 30 tracks"),
        (IDS[:8], {}, "8 of the 30 tracks"),
        (IDS, {"drop": ["mode", "melody"]}, "no ratings of melodiousness, minorness"),
        (IDS, {"drop": ["song_id"]}, "no column song_id"),
        ([*IDS[:29], "001"], {}, "'001' twice"),
    ],
)
def test_ratings_that_do_not_fit_are_refused(tmp_path, ids, options, said):
    published(tmp_path, ids, **options)
    with pytest.raises(UserError, match=said):
        human_ratings(tmp_path, dataset_of(tmp_path))


def test_a_folder_without_ratings_says_what_is_expected(tmp_path):
    with pytest.raises(UserError, match="metadata_annotations/annotations.csv"):
        human_ratings(tmp_path, dataset_of(tmp_path))


def test_a_constant_quality_is_left_out_and_said(tmp_path):
    published(tmp_path, IDS, dissonance=5.0)
    found = human_ratings(tmp_path, dataset_of(tmp_path))
    assert "dissonance" not in found.values and found.notes == (
        "dissonance is the same for every track, so it was left out.",
    )


def write_truth(folder, ids):
    random = np.random.default_rng(2)
    table = pd.DataFrame({f"mid_{name}": random.normal(size=len(ids)) for name in (*SEVEN, "register")}, index=ids)
    table.rename_axis("track_id").to_csv(folder / "truth.csv")
    return table


def test_kinds_are_told_apart_and_never_guessed(tmp_path):
    dataset = dataset_of(tmp_path)
    assert kind_of("auto", dataset) == "proxies" and kind_of(str(tmp_path), dataset) == "human"
    with pytest.raises(UserError, match="no planted qualities"):
        planted_qualities(dataset)
    table = write_truth(tmp_path, IDS)
    assert kind_of("auto", dataset) == "truth"
    found = build_targets("auto", dataset)
    assert found.kind == "truth" and list(found.values) == list(SEVEN)
    assert found.values["dissonance"].to_numpy() == pytest.approx(table["mid_dissonance"].to_numpy())
    with pytest.raises(UserError, match="path"):
        kind_of("human", dataset)


def test_pieces_that_are_tested_are_not_learned_from_the_other_corpus(tmp_path):
    own = dataset_of(tmp_path, synthetic=True)
    corpus = dataset_of(tmp_path, [f"x{i}" for i in range(30)], synthetic=True)
    corpus.tracks["group"] = [f"g{i}" if i < 2 else f"other {i}" for i in range(30)]
    write_truth(tmp_path, list(corpus.tracks.index))
    features = pd.DataFrame({"f": 1.0}, index=corpus.tracks.index)
    rows, qualities, ratings = more_tracks(features, corpus, own, ["valence"])
    assert list(rows.index) == [f"x{i}" for i in range(2, 30)] == list(qualities.index) and list(ratings) == ["valence"]
    assert more_tracks(features, corpus, dataset_of(tmp_path), ["valence"])[2] is None  # simulated, not listeners'
    corpus.tracks["group"] = "g0"
    with pytest.raises(UserError, match="no track of a group"):
        more_tracks(features, corpus, own, ["valence"])


def test_ratings_that_repeat_or_never_vary_are_left_out(tmp_path):
    values = np.linspace(1, 9, 30)
    dataset = dataset_of(tmp_path, valence=values, arousal=values[::-1], energy=values[::-1], fear=np.full(30, 2.0))
    names, notes = chosen_ratings(("auto",), dataset)
    assert names == ["valence", "arousal"] and len(notes) == 2
    assert chosen_ratings(("energy",), dataset)[0] == ["energy"]
    for asked, said in ((("joy",), "joy"), ((), "empty"), (("fear",), "nothing to learn")):
        with pytest.raises(UserError, match=said):
            chosen_ratings(asked, dataset)


def test_the_map_is_a_sum_and_what_if_is_exact(learning):
    data, _ = learning
    found = fit_map(data.qualities, data.ratings, penalty=0.0)
    slow = LinearRegression().fit(data.qualities, data.ratings)
    assert found.weights / found.spread[:, None] == pytest.approx(slow.coef_.T)
    predicted = found.predict(data.qualities.to_numpy())
    assert predicted == pytest.approx(slow.predict(data.qualities))
    assert found.intercept + found.effects(data.qualities.to_numpy()).sum(axis=1) == pytest.approx(predicted)
    assert found.effects(data.qualities.to_numpy()).mean(axis=0) == pytest.approx(np.zeros((3, 2)), abs=1e-12)
    changed = data.qualities.iloc[4].to_dict() | {"b": 2.5}
    expected = slow.predict(pd.DataFrame([changed]))[0]
    assert what_if(found, data.qualities.iloc[4].to_numpy(), {"b": 2.5}) == pytest.approx(expected)
    again = read_map(found.as_dict())
    said = found.formula("valence")
    assert again.formula("valence") == said
    assert said.startswith(f"valence = {found.intercept[0]:.2f} + {found.weights[0, 0]:.2f} × a − ")
    assert f"− {-found.weights[1, 0]:.2f} × b" in said


def test_the_joint_target_is_the_least_of_both_losses():
    random = np.random.default_rng(3)
    q, y, w = random.normal(size=(9, 3)), random.normal(size=(9, 4)), random.normal(size=(3, 4))
    for trade in (0.05, 2.0):
        found = adjusted(q, y, w, trade)
        assert trade * (found - q) + (found @ w - y) @ w.T == pytest.approx(np.zeros((9, 3)), abs=1e-10)
    assert adjusted(q, y, w, 1e9) == pytest.approx(q, abs=1e-6)


@pytest.mark.parametrize("head", ["kernel-ridge", "ridge"])
def test_unseen_predictions_come_from_models_of_the_other_folds(learning, head):
    data, folds = learning
    found = Inner(data, folds, head, 0).unseen(data.qualities.to_numpy(), None)
    held = (folds == 2).to_numpy()
    slow = make_regressor(head, 0).fit(data.features[~held].to_numpy(), data.qualities[~held].to_numpy())
    assert found[held] == pytest.approx(slow.predict(data.features[held].to_numpy()))


def test_schemes_on_tracks_they_have_not_learned(learning):
    data, folds = learning
    train, test = data.features.index[:45], data.features.index[45:]
    found = fit_schemes(midlevel.SCHEMES, data.part(train), folds[train], "kernel-ridge", 0)
    scores = {}
    for name, fitted in found.items():
        qualities, ratings = fitted.predict(data.features.loc[test])
        scores[name] = [np.corrcoef(ratings[:, i], data.ratings.loc[test].iloc[:, i])[0, 1] for i in range(2)]
        if name == "a2e":
            assert qualities is None and fitted.map is None
            continue
        assert ratings == pytest.approx(fitted.map.predict(qualities))
        both = fitted.estimator().predict(data.features.loc[test].to_numpy())
        assert both == pytest.approx(np.hstack([qualities, ratings]))
    assert min(scores["a2e"]) > 0.8 and scores["a2mid2e"][0] > 0.8
    assert scores["joint"][1] > scores["a2mid2e"][1] + 0.1  # what no quality names goes through a bottleneck that may
    assert found["joint"].trade in midlevel.TRADES and found["a2mid2e"].trade is None


def test_another_corpus_is_learned_besides(learning):
    data, folds = learning
    random = np.random.default_rng(5)
    other = pd.DataFrame(random.normal(size=(40, 12)), [f"o{i}" for i in range(40)])
    named = pd.DataFrame(random.normal(size=(40, 3)), other.index, ["c", "b", "a"])
    more = Learning(data.features, data.qualities, data.ratings, data.groups, (other, named, None))
    fitted = fit_schemes(["a2e", "a2mid2e"], more, folds, "ridge", 0)
    rows = np.vstack([data.features, other])
    slow = make_regressor("ridge", 0).fit(rows, np.vstack([data.qualities, named[["a", "b", "c"]]]))
    assert fitted["a2mid2e"].model.predict(rows) == pytest.approx(slow.predict(rows))
    alone = make_regressor("ridge", 0).fit(data.features.to_numpy(), data.ratings.to_numpy())
    assert fitted["a2e"].model.predict(rows) == pytest.approx(alone.predict(rows))


def test_a_bottleneck_is_stored_and_read_without_code(learning, tmp_path):
    data, folds = learning
    model = fit_schemes(["a2mid2e"], data, folds, "kernel-ridge", 0)["a2mid2e"].estimator()
    save_model(tmp_path / "model.skops", model)
    rows = data.features.to_numpy()
    assert load_model(tmp_path / "model.skops").predict(rows) == pytest.approx(model.predict(rows))


def test_costs_are_differences_of_correlations_on_the_same_resamples(learning):
    data, _ = learning
    random, noises = np.random.default_rng(4), {"a2e": 0.3, "joint": 1.0}
    predicted = {name: data.ratings + random.normal(0, noise, (60, 2)) for name, noise in noises.items()}
    model, tracks = SimpleNamespace(map=None, trade=None), data.ratings.index
    results = {
        name: gathered([(0, tracks, None, values.to_numpy(), model)], tracks, [], ["valence", "arousal"])
        for name, values in predicted.items()
    }
    table = cost_table(results, data.ratings, data.groups, 200, 0).set_index(["scheme", "rating", "metric"])
    r = {
        (name, rating): np.corrcoef(values[rating], data.ratings[rating])[0, 1]
        for name, values in predicted.items()
        for rating in data.ratings
    }
    for (name, rating), value in r.items():
        assert table.loc[(name, rating, "pearson"), "value"] == pytest.approx(value)
        assert table.loc[(name, rating, "pearson"), "cost"] == pytest.approx(r["a2e", rating] - value)
    mean = table.loc[("joint", "mean", "pearson")]
    assert mean["value"] == pytest.approx((r["joint", "valence"] + r["joint", "arousal"]) / 2)
    assert 0 < mean["cost_low"] < mean["cost"] < mean["cost_high"]
    assert table.loc[("a2e", "mean", "r2"), ["cost", "cost_low", "cost_high"]].abs().max() == 0


def test_intervals_of_weights_hold_the_planted_ones():
    random = np.random.default_rng(6)
    planted = np.array([[0.8, 0.0], [-0.5, 0.3], [0.0, 0.6]])
    qualities = pd.DataFrame(random.normal(size=(300, 3)), columns=["a", "b", "c"])
    ratings = pd.DataFrame(qualities.to_numpy() @ planted + random.normal(0, 0.5, (300, 2)), columns=["v", "w"])
    table = weight_intervals(qualities, ratings, pd.Series(np.arange(300) // 5), 300, 0)
    spread = qualities.std(ddof=0)
    for row in table.itertuples():
        true = planted[list(qualities).index(row.quality), list(ratings).index(row.rating)] * spread[row.quality]
        assert row.low - 0.03 < true < row.high + 0.03 and row.high - row.low < 0.25


def test_signs_of_cues_are_read_from_the_predictions():
    random = np.random.default_rng(7)
    cues = pd.DataFrame(random.normal(size=(80, 3)), columns=["mode", "tempo", "register"])
    planted = pd.DataFrame({"valence": [0.8, 0.4, -0.3]}, index=list(cues))
    predicted = pd.DataFrame({"valence": 5 + cues.to_numpy() @ [0.5, 0.2, 0.1] + random.normal(0, 0.05, 80)})
    table = cue_signs(predicted, cues, planted).set_index("cue")
    assert table["right"].to_dict() == {"mode": True, "tempo": True, "register": False}
    assert table["found"].to_numpy() == pytest.approx([0.5, 0.2, 0.1], abs=0.02)


def test_a_few_computed_columns_are_heard_beside_many():
    random = np.random.default_rng(8)
    many, few = random.normal(size=(120, 300)), random.normal(size=(120, 2))
    rows, wanted = np.hstack([many, few]), few @ [1.0, -1.0]
    blocks = np.array([1] * 300 + [0] * 2)
    scores = []
    for given in (None, blocks):
        model = midlevel.make_head("kernel-ridge", 0, given).fit(rows[:90], wanted[:90])
        scores.append(np.corrcoef(model.predict(rows[90:]), wanted[90:])[0, 1])
    assert scores[1] > 0.9 > 0.7 > scores[0]
    weighed = midlevel.make_head("ridge", 0, blocks).fit(rows, wanted)["weigh"].transform(np.ones((1, 302)))[0]
    assert (weighed[:300] ** 2).sum() == pytest.approx((weighed[300:] ** 2).sum())
