"""The Backbones page, tags and curves of a track: from fixture runs with the tables that pipelines write."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from fixture_runs import write_run
from test_pages import shown, text_of

from mer_core.models.embedding_tables import component_tables
from mer_core.plots.curves import curve_picture

TIMES = (1.5, 4.5, 7.5)


@pytest.fixture
def listened(artifacts):
    """A run with tags and curves of its first track."""
    folder = write_run(artifacts, n=16, audio=4)
    tags = {"track_id": "0000", "tag": ["guitar", "slow", "harp"], "probability": [0.6, 0.2, 0.4]}
    pd.DataFrame(tags).assign(backbone="musicnn-mtt").to_parquet(folder / "tags.parquet")
    rows = [("0000", s, t, 4.0 + s / 5) for t in ("arousal", "valence") for s in TIMES]
    pd.DataFrame(rows, columns=["track_id", "seconds", "target", "predicted"]).to_parquet(folder / "dynamic.parquet")
    return folder


def test_a_track_is_described_in_the_networks_words(listened, monkeypatch):
    monkeypatch.setattr("ui.heard.address", lambda content, kind, key: f"/{key}")
    app = shown("pages/track.py", track="0000")
    assert not app.exception and not app.error
    assert {"What does the network call it?", "How does the prediction move while it plays?"} <= {
        heading.value for heading in app.subheader
    }
    assert "an extrapolation" in text_of(app)
    other = shown("pages/track.py", track="0001")
    assert not other.exception
    assert "What does the network call it?" not in {heading.value for heading in other.subheader}


def test_backbones_are_listed_with_their_licences(artifacts):
    app = shown("pages/backbones.py")
    assert not app.exception and not app.error
    table = app.dataframe[0].value.set_index("network")
    assert table.loc["musicnn-mtt", "here"] == "yes" and table.loc["musicnn-mtt", "licence"] == "ISC"
    assert "NC" in table.loc["mert", "licence"]
    assert "python -m pipelines embed" in app.code[0].value and len(app.button) == 1


def test_a_curve_is_drawn_over_the_whole_clip_and_the_scale():
    table = pd.DataFrame({"seconds": [2.0, 6.0], "target": "valence", "predicted": [1.0, 9.0]})
    points = re.search(r'points="([^"]+)"', curve_picture(table, (1, 9), 8.0, False).decode()).group(1).split()
    assert points == ["0.0,240.0", "250.0,240.0", "750.0,0.0", "1000.0,0.0"]


def test_components_of_embeddings_are_those_of_a_singular_value_decomposition():
    random = np.random.default_rng(0)
    values = pd.DataFrame(random.normal(size=(30, 5)) * [5, 3, 1, 1, 1], index=[f"t{k}" for k in range(30)])
    scores, spectrum = component_tables(values, 3)
    left, sizes, _ = np.linalg.svd(values - values.mean(), full_matrices=False)
    np.testing.assert_allclose(np.abs(scores[["PC1", "PC2", "PC3"]]), np.abs(left[:, :3] * sizes[:3]), atol=1e-9)
    np.testing.assert_allclose(spectrum["share"], sizes[:3] ** 2 / (sizes**2).sum())
    assert list(scores["track_id"]) == list(values.index)
