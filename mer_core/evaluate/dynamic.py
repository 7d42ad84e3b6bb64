"""Predictions over time: a model of tracks applied to their windows.

The model learned from means over a track, so that a window is an extrapolation: windows differ more than tracks do, and
nothing has told the model how ratings follow the music. The mean of a track's curve is near its prediction, and equal
only for linear models.

Checked on ten songs of DEAM against their dynamic ratings (`predict --over-time` with kernel ridge on
`musicnn-mtt@dense`, trained on 239 film-music excerpts; 100 windows of 3 s): over all windows r = .64 for arousal and
-.11 for valence, but within a song r = .09 and -.16 on average. Such curves tell songs apart by arousal; they do not
follow what listeners reported from moment to moment.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mer_core.evaluate.cross_validation import CrossValidation
from mer_core.evaluate.experiment import Data, Plan
from mer_core.models.embedding_tables import window_features
from mer_core.models.embeddings import Embeddings, Heard, Part
from mer_core.models.regressors import make_regressor

COLUMNS = ["track_id", "seconds", "target", "predicted"]


def window_predictions(part: Part, heard: dict[str, Heard], model, targets: list[str]) -> pd.DataFrame:
    """A fitted model's predictions of windows: columns track_id, seconds (the window's centre), target, predicted."""
    tables = []
    for track, table in heard.items():
        predicted = np.reshape(model.predict(window_features(part, table)), (len(table.times), -1))
        tables += [
            pd.DataFrame({"track_id": track, "seconds": table.times, "target": target, "predicted": predicted[:, j]})
            for j, target in enumerate(targets)
        ]
    return pd.concat(tables, ignore_index=True)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)


def unseen_windows(plan: Plan, data: Data, result: CrossValidation, part: Part, heard: Embeddings) -> pd.DataFrame:
    """Predictions of the windows of all tested tracks, each by a model that has not seen its track."""
    columns = data.table.columns.loc[data.features.columns]
    tables = []
    for (_, train, test), parameters in zip(data.split.rounds(), result.chosen, strict=True):
        learned = data.features.index.isin(train)
        model = make_regressor(plan.model, plan.seed, reduction=plan.reduction, columns=columns, **parameters)
        model.fit(data.features.to_numpy()[learned], data.ratings.to_numpy()[learned])
        unseen = {track: heard.tables[track] for track in test}
        tables.append(window_predictions(part, unseen, model, list(data.ratings)))
    return pd.concat(tables, ignore_index=True)
