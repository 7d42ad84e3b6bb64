"""Explanation files and sums over columns."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mer_core.errors import UserError
from mer_core.explain.attribution import (
    FeatureExplanation,
    global_importance,
    read_explanation,
    sum_by,
    write_explanation,
)


@pytest.fixture
def explanation() -> FeatureExplanation:
    """Five tracks, two LLDs x two statistics plus one column that nobody described."""
    random = np.random.default_rng(0)
    columns = pd.DataFrame(
        {
            "lld": ["loud_amean", "loud_amean", "pitch_amean", "pitch_amean", None],
            "statistic": ["mean", "std", "mean", "std", None],
            "descriptor": ["loud", "loud", "pitch", "pitch", None],
            "group": ["rhythm", "melody", "melody", "melody", None],
            "musical": ["dynamics", "dynamics", "pitch", "pitch", None],
        },
        index=pd.Index(["loud_mean", "loud_std", "pitch_mean", "pitch_std", "x"], name="column"),
    )
    base, values = random.normal(5, 0.1, (5, 2)), random.normal(0, 0.5, (5, 5, 2))
    return FeatureExplanation(
        method="shap",
        tracks=("a", "b", "c", "d", "e"),
        columns=columns,
        targets=("valence", "arousal"),
        base=base,
        values=values,
        features=random.normal(size=(5, 5)),
        predicted=base + values.sum(axis=1),
        scale=(1, 9),
    )


def test_what_is_written_is_read(explanation, tmp_path):
    explanation.features[2, 3] = np.nan
    write_explanation(tmp_path / "shap", explanation)
    again = read_explanation(tmp_path / "shap")
    assert (again.method, again.tracks, again.targets) == (explanation.method, explanation.tracks, explanation.targets)
    assert again.scale == (1, 9)
    assert again.columns.index.equals(explanation.columns.index)
    assert again.columns.fillna("-").equals(explanation.columns.fillna("-"))
    assert isinstance(again.values, np.memmap)
    for name in ("base", "values", "features"):
        assert np.allclose(getattr(again, name), getattr(explanation, name), rtol=1e-6, atol=0, equal_nan=True)
    assert again.base + again.values.sum(axis=1) == pytest.approx(explanation.predicted, abs=1e-6)


def test_the_file_says_what_it_holds(explanation, tmp_path):
    write_explanation(tmp_path, explanation)
    about = json.loads((tmp_path / "explanation.json").read_text())
    assert about["schema"] == 1 and about["scale"] == [1, 9] and about["unit"] == "rating points"
    assert about["sign"] == "a positive value raises the prediction"
    assert about["arrays"]["values"] == {
        "file": "values.npy",
        "axes": ["track", "column", "target"],
        "shape": [5, 5, 2],
        "type": "float64",
    }
    assert 0 <= about["additivity_error"] < 1e-9
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "base.npy",
        "explanation.json",
        "features.npy",
        "values.npy",
    ]


def test_shapes_must_fit(explanation):
    with pytest.raises(ValueError, match=r"base of an explanation has shape \(2,\); 5 tracks, 5 columns and 2 targets"):
        FeatureExplanation(**{**explanation.__dict__, "base": explanation.base[0]})


def test_damaged_and_foreign_files_are_refused(explanation, tmp_path):
    with pytest.raises(UserError, match="holds no explanation.json"):
        read_explanation(tmp_path)
    write_explanation(tmp_path, explanation)
    about = (tmp_path / "explanation.json").read_text()

    def refuse(reason):
        with pytest.raises(UserError, match=reason):
            read_explanation(tmp_path)

    (tmp_path / "explanation.json").write_text(about.replace('"schema": 1', '"schema": 2'))
    refuse("has schema 2, this version reads 1")
    (tmp_path / "explanation.json").write_text(about[:-30])
    refuse("is damaged")
    (tmp_path / "explanation.json").write_text("[]")
    refuse("is damaged")
    (tmp_path / "explanation.json").write_text("{}")
    refuse("is damaged")
    (tmp_path / "explanation.json").write_text(about.replace('"targets"', '"tagrets"'))
    refuse("is damaged")
    (tmp_path / "explanation.json").write_text(about)
    whole = (tmp_path / "values.npy").read_bytes()
    for size in (len(whole) - 10, 20, 0):
        (tmp_path / "values.npy").write_bytes(whole[:size])
        refuse("values.npy is missing or damaged")
    np.save(tmp_path / "values.npy", np.zeros((5, 4, 2)))
    refuse(r"holds float64 \(5, 4, 2\), not float64 \(5, 5, 2\)")
    np.save(tmp_path / "values.npy", np.array([{}]), allow_pickle=True)
    refuse("values.npy is missing or damaged")
    (tmp_path / "values.npy").unlink()
    refuse("values.npy is missing or damaged")


@pytest.mark.parametrize("level", ["lld", "descriptor", "statistic", "group", "musical"])
def test_sums_keep_their_sign(explanation, level):
    labels, sums = sum_by(explanation, level)
    names = explanation.columns[level].fillna("unmapped").tolist()
    assert labels == tuple(dict.fromkeys(names))
    for track in range(5):
        for target in range(2):
            slow = dict.fromkeys(labels, 0.0)
            for column, name in enumerate(names):
                slow[name] += explanation.values[track, column, target]
            assert sums[track, :, target] == pytest.approx(list(slow.values()), abs=1e-12)
    assert sums.sum(axis=1) == pytest.approx(explanation.values.sum(axis=1), abs=1e-12)


def test_columns_alone_are_not_summed(explanation):
    labels, values = sum_by(explanation, "column")
    assert labels == tuple(explanation.columns.index)
    assert values is explanation.values
    with pytest.raises(UserError, match="level 'band' is unknown: choose from column, lld"):
        sum_by(explanation, "band")


def test_importance_is_the_mean_absolute_signed_sum(explanation):
    table = global_importance(explanation, "group")
    assert list(table.index) == ["rhythm", "melody", "unmapped"] and list(table) == ["valence", "arousal"]
    by_hand = np.mean([abs(sum(explanation.values[track, 1:4, 1])) for track in range(5)])
    assert table.loc["melody", "arousal"] == pytest.approx(by_hand)
    assert by_hand < np.abs(explanation.values[:, 1:4, 1]).mean(axis=0).sum()


def test_reading_needs_no_heavy_library():
    code = (
        "import sys, mer_core.explain.attribution; print([m for m in ('shap', 'sklearn', 'torch') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
