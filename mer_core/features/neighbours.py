"""Which tracks are alike."""

from __future__ import annotations

import numpy as np
import pandas as pd


def nearest_tracks(features: pd.DataFrame, count: int = 8) -> pd.DataFrame:
    """The nearest tracks of each by Euclidean distance of standardised features, divided by sqrt(columns).

    Parameters
    ----------
    features : (n, p) index track_id; a missing value counts as its column's median
    count : neighbours a track, fewer where there are not so many tracks

    Returns
    -------
    track_id, rank (1 = nearest), neighbour, distance (0 = same, about 1.4 = two unrelated tracks)
    """
    from sklearn.neighbors import NearestNeighbors

    matrix = features.fillna(features.median()).fillna(0.0).to_numpy()
    spread = matrix.std(axis=0)
    varying = spread > 1e-9 * np.abs(matrix).mean(axis=0)  # rounding makes a constant column vary a little
    scaled = (matrix[:, varying] - matrix[:, varying].mean(axis=0)) / spread[varying]
    count = min(count, len(features) - 1)
    distances, found = NearestNeighbors(n_neighbors=count).fit(scaled).kneighbors()  # without the track itself
    ids = features.index.to_numpy()
    return pd.DataFrame(
        {
            "track_id": np.repeat(ids, count),
            "rank": np.tile(np.arange(1, count + 1), len(ids)),
            "neighbour": ids[found.ravel()],
            "distance": distances.ravel() / np.sqrt(features.shape[1]),
        }
    )
