"""Tables of what pretrained networks heard: tags of tracks, windows over time."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mer_core.models.embeddings import Embeddings, Heard, Part

TOP = 20  # tags kept of each track


def tag_table(heard: Embeddings) -> pd.DataFrame:
    """The likeliest tags of every track: columns track_id, tag, probability (mean over windows), backbone."""
    names, rows = heard.backbone.tags, []
    for track, table in heard.tables.items():
        mean = table.tags.mean(axis=0)
        rows += [(track, names[i], float(mean[i])) for i in np.argsort(-mean, kind="stable")[:TOP]]
    return pd.DataFrame(rows, columns=["track_id", "tag", "probability"]).assign(backbone=heard.backbone.name)


def window_features(part: Part, heard: Heard) -> np.ndarray:
    """The part's columns for each window (w, p), as if each were a track; parts pooled by the mean alone have them."""
    return np.asarray(heard.tags if part.tags else heard.embedding, np.float64)


def window_table(heard: Embeddings) -> pd.DataFrame:
    """Embeddings over time: columns track_id, window, seconds (its centre), d0, d1, ..."""
    tables = heard.tables
    counts = [len(table.times) for table in tables.values()]
    head = pd.DataFrame(
        {
            "track_id": np.repeat(np.array(list(tables), dtype=object), counts),
            "window": np.concatenate([np.arange(count) for count in counts]),
            "seconds": np.concatenate([table.times for table in tables.values()]),
        }
    )
    values = np.concatenate([table.embedding for table in tables.values()])
    return pd.concat([head, pd.DataFrame(values, columns=[f"d{i}" for i in range(values.shape[1])])], axis=1)


def component_tables(values: pd.DataFrame, count: int = 8) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tracks on the first principal components of their embeddings, to look at, and the variance these explain.

    values : (n, d) index track_id

    Returns
    -------
    scores : track_id, PC1, PC2, ...; spectrum : group ("all"), component, share, cumulative, kept
    """
    from sklearn.decomposition import PCA

    count = min(count, *values.shape)
    fitted = PCA(count, svd_solver="full").fit(values.to_numpy())
    names = [f"PC{number + 1}" for number in range(count)]
    scores = pd.DataFrame(fitted.transform(values.to_numpy()), values.index, names)
    share = fitted.explained_variance_ratio_
    spectrum = pd.DataFrame({"group": "all", "component": range(1, count + 1), "share": share})
    spectrum = spectrum.assign(cumulative=np.cumsum(share), kept=True)
    return scores.rename_axis("track_id").reset_index(), spectrum
