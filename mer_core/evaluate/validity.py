"""Whether computed proxies follow what they stand for: correlation with planted qualities, and with ratings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mer_core.datasets.dataset import Dataset
from mer_core.evaluate.metrics import draw_groups, resampled_scores

ENOUGH = 0.7  # r with the planted quality from which a proxy is used
PLANTED = "mid_"
TRUTH = "truth.csv"


def proxy_validity(values: pd.DataFrame, dataset: Dataset, resamples: int = 1000, seed: int = 42) -> pd.DataFrame:
    """Pearson r of each proxy with its planted quality, where there is one, and with every rating.

    Parameters
    ----------
    values : index track_id, a column per proxy, NaN where it is not defined
    resamples : over groups, for the 95 % interval

    Returns
    -------
    Columns proxy, against ("planted" or a rating), n, r, low, high; r is NaN where one side does not vary
    """
    path = Path(dataset.root) / TRUTH
    against = {("planted", name): column for name, column in _planted(path, values).items()}
    for rating in dataset.targets:
        against |= {(rating, name): dataset.ratings[rating] for name in values}
    rows = []
    for (what, name), other in against.items():
        pair = pd.concat([values[name], other.reindex(values.index)], axis=1).dropna().to_numpy(float)
        groups = dataset.tracks["group"].reindex(values.index)[
            values[name].notna() & other.reindex(values.index).notna()
        ]
        rows.append((name, what, len(pair), *_correlation(pair, groups, resamples, seed)))
    return pd.DataFrame(rows, columns=["proxy", "against", "n", "r", "low", "high"])


def _planted(path: Path, values: pd.DataFrame) -> dict[str, pd.Series]:
    if not path.is_file():
        return {}
    truth = pd.read_csv(path, dtype={"track_id": str}).set_index("track_id")
    return {name: truth[PLANTED + name] for name in values if PLANTED + name in truth}


def _correlation(pair: np.ndarray, groups: pd.Series, resamples: int, seed: int) -> tuple[float, float, float]:
    if len(pair) < 3 or (np.ptp(pair, axis=0) == 0).any():
        return np.nan, np.nan, np.nan
    codes, names = pd.factorize(groups)
    counts = draw_groups(len(names), resamples, seed)
    drawn = resampled_scores(pair[:, 1], pair[:, 0], codes, counts, ("pearson",))["pearson"]
    return (float(np.corrcoef(pair.T)[0, 1]), *np.nanquantile(drawn, [0.025, 0.975]))
