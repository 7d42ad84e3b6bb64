"""Selecting columns on a table of DEAM's size (1533 tracks x 2080 columns, two targets): ours against the usual way.

    python -m benchmarks.selection [--folds 1] [--ceiling]

The table is made of noise: correlated columns with the names, and so the perceptual groups, of the real 2080, of which
five in each group have a part in valence and arousal, beside rating noise. Both ways work on the training part of each
of five folds. The usual way, as in https://github.com/Grkritsovas/postgrad-final-project: for each perceptual group
and target a full-depth forest of 100 trees on all columns, TreeSHAP of 600 tracks, the two targets' shares of mean
|SHAP| averaged, then the best 1 to 8 columns of every group tried with forests of 100 trees. Ours:
`selection.search_designs`, whole: ranking, inner folds with rankings of their own, every k inside and outside. Times
are CPU seconds of the same process, so that other work on the machine counts little.

The usual way takes about eight CPU minutes a fold: it is timed on the first `--folds` folds, and so is ours. Both
chosen designs are tested on the held-out tracks with the same forests; the usual way's k is the best by these very
tracks, ours is chosen by inner folds, so the usual way's error at our k is printed too. `--ceiling` runs the usual
ranking again with another seed, for how well it agrees with itself.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

from mer_core.compute import one_thread

one_thread()

import numpy as np  # noqa: E402  (after one_thread, which acts on numpy's libraries as they load)
import pandas as pd  # noqa: E402
import shap  # noqa: E402
from sklearn.ensemble import RandomForestRegressor  # noqa: E402

from mer_core.evaluate.experiment import Data  # noqa: E402
from mer_core.evaluate.metrics import spearman  # noqa: E402
from mer_core.evaluate.selection import Search, search_designs  # noqa: E402
from mer_core.evaluate.selection_ranking import Ranking, joint_scores  # noqa: E402
from mer_core.evaluate.splits import Split, grouped_kfold  # noqa: E402
from mer_core.features import FeatureTable, describe_columns  # noqa: E402
from mer_core.features.llds import lld_columns  # noqa: E402
from mer_core.features.statistics import STATISTICS_8, column_names  # noqa: E402

TRACKS, SIZES, EXPLAINED = 1533, tuple(range(1, 9)), 600
CAUSES, SHARED = 5, 12  # causes of each group; hidden factors that its columns share


def make_data(seed: int) -> Data:
    """Correlated columns with the names, and so the groups, of the real ones."""
    random = np.random.default_rng(seed)
    columns = describe_columns(column_names(lld_columns(), STATISTICS_8))
    groups = columns["group"].to_numpy()
    values, rated = np.empty((TRACKS, len(columns))), np.zeros((TRACKS, 2))
    common = random.normal(size=(TRACKS, 6))
    for group in sorted(set(groups)):
        members = np.flatnonzero(groups == group)
        factors = np.hstack([common, random.normal(size=(TRACKS, SHARED))])
        loadings = random.normal(size=(factors.shape[1], len(members))) * random.uniform(0.3, 1, len(members))
        values[:, members] = factors @ loadings / 4 + 0.6 * random.normal(size=(TRACKS, len(members)))
        causes = random.choice(members, CAUSES, replace=False)
        rated += values[:, causes] @ random.normal(size=(CAUSES, 2))
    rated = (rated - rated.mean(axis=0)) / rated.std(axis=0) + random.normal(size=rated.shape) * [0.8, 0.6]
    index = pd.Index([f"t{row:04}" for row in range(TRACKS)], name="track_id")
    table = FeatureTable(pd.DataFrame(values, index=index, columns=columns.index), columns, "made")
    ratings = pd.DataFrame(5 + rated, index=index, columns=["valence", "arousal"])
    artists = pd.Series([f"artist {row // 2}" for row in range(TRACKS)], index=index)
    split = grouped_kfold(artists, ratings, 5, seed)
    return Data(table, table.values, ratings, artists, pd.Series("all", index=index), split, [], [], ())


def usual_scores(x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """(p,) joint share of mean |SHAP| within the group, from a full-depth forest per group and target."""
    scores = np.zeros(len(groups))
    rows = np.random.default_rng(seed).permutation(len(x))[:EXPLAINED]
    for group in sorted(set(groups)):
        members = np.flatnonzero(groups == group)
        importance = []
        for target in range(y.shape[1]):
            forest = RandomForestRegressor(100, random_state=seed + target).fit(x[:, members], y[:, target])
            explainer = shap.TreeExplainer(forest, feature_perturbation="tree_path_dependent")
            values = explainer.shap_values(x[rows][:, members], check_additivity=False)
            importance.append(np.abs(values).mean(axis=0))
        scores[members] = joint_scores(np.array(importance).T)
    return scores


def best_of_groups(scores: np.ndarray, groups: np.ndarray) -> Ranking:
    """Order of the columns within their groups."""
    order = pd.Series(scores).groupby(groups).rank(ascending=False, method="first").to_numpy() - 1
    return Ranking(scores, order.astype(int))


def forest_rmse(x: np.ndarray, y: np.ndarray, unseen: np.ndarray, true: np.ndarray) -> float:
    """Mean over targets of the RMSE of full-depth forests."""
    forests = [RandomForestRegressor(100, random_state=42 + t).fit(x, y[:, t]) for t in range(y.shape[1])]
    errors = [true[:, t] - forest.predict(unseen) for t, forest in enumerate(forests)]
    return float(np.mean([np.sqrt(np.mean(error**2)) for error in errors]))


def usual_way(x, y, unseen, true, groups, seed) -> tuple[Ranking, list[float]]:
    """Ranking, and objective of every k on the held-out tracks."""
    ranking = best_of_groups(usual_scores(x, y, groups, seed), groups)
    designs = [ranking.design(k) for k in SIZES]
    return ranking, [forest_rmse(x[:, design], y, unseen[:, design], true) for design in designs]


def timed(work) -> tuple[float, object]:
    """CPU seconds and result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def agreement(one: np.ndarray, other: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Spearman of two rankings over all columns, and its mean over groups."""
    within = [spearman(one[groups == group], other[groups == group]) for group in sorted(set(groups))]
    return spearman(one, other), float(np.mean(within))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=1, help="folds to time, 1 to 5 (default 1)")
    parser.add_argument("--ceiling", action="store_true", help="also rank the usual way with another seed")
    options = parser.parse_args()
    data = make_data(0)
    groups = data.table.columns["group"].to_numpy().astype(str)
    search = Search("group", "shap", "ridge", 42, groups, groups, SIZES, "minimum")
    matrix, truth = data.features.to_numpy(), data.ratings.to_numpy()
    print(
        "fold   usual s   ours s   ratio   Spearman (within groups)   RMSE usual at its best k, at ours; ours (changes)"
    )
    for fold, train, test in data.split.rounds()[: options.folds]:
        rows, held = (data.features.index.isin(ids) for ids in (train, test))
        parts = matrix[rows], truth[rows], matrix[held], truth[held]
        alone = replace(data, split=Split("one fold", pd.Series(np.where(held, "test", "train"), data.features.index)))
        ours_s, (ours,) = timed(lambda alone=alone: search_designs(alone, search, explain=False, workers=1))
        usual_s, (usual, curve) = timed(lambda parts=parts: usual_way(*parts, groups, 42))
        position = ours.choice.picked["minimum"]
        design = ours.ranking.design(SIZES[position])
        error = forest_rmse(parts[0][:, design], parts[1], parts[2][:, design], parts[3])
        both = agreement(usual.score, ours.ranking.score, groups)
        changes = [100 * (error / other - 1) for other in (min(curve), curve[position])]
        print(
            f"{fold:4}{usual_s:10.1f}{ours_s:9.1f}{usual_s / ours_s:8.1f}   {both[0]:8.3f} ({both[1]:.3f})"
            f"{'':12}{min(curve):.4f}, {curve[position]:.4f}; {error:.4f} ({changes[0]:+.2f} %, {changes[1]:+.2f} %)",
            flush=True,
        )
        if options.ceiling:
            again = usual_scores(parts[0], parts[1], groups, 1042)
            overall, within = agreement(usual.score, again, groups)
            print(f"     the usual ranking with another seed: {overall:.3f} ({within:.3f})")


if __name__ == "__main__":
    main()
