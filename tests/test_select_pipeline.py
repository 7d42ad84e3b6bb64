"""`select` as a user calls it: a folder of tracks and a table in, a run that every page and command can read out."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile

from mer_core.errors import UserError
from mer_core.evaluate.selection import RULES
from mer_core.jobs import Job
from mer_core.runs import list_runs, read_run
from pipelines import __main__ as command_line
from pipelines import select

PLANTED = {"pcm_RMSenergy_sma_amean_mean": (1.5, 0.2), "F0final_sma_stddev_max": (0.3, -1.5)}


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A folder of 40 short tracks, and beside it a table of statistics of which two decide the ratings."""
    folder = tmp_path_factory.mktemp("music")
    random = np.random.default_rng(0)
    names = [f"{lld}_{s}" for lld in ("pcm_RMSenergy_sma_amean", "pcm_zcr_sma_amean") for s in ("mean", "std", "max")]
    names += [f"F0final_sma_{part}_{s}" for part in ("stddev", "amean") for s in ("mean", "std", "max")]
    table = pd.DataFrame(random.normal(size=(40, len(names))), columns=names)
    table["pcm_zcr_sma_amean_std"] = 1.0
    ratings = 5 + table[list(PLANTED)].to_numpy() @ np.array(list(PLANTED.values())) / 2
    ratings += 0.1 * random.normal(size=ratings.shape)
    ids = [f"t{row}" for row in range(40)]
    time_s = np.arange(22050 * 4) / 22050
    for number in range(40):
        loudness = 0.3 * random.uniform(0.2, 1)
        soundfile.write(folder / f"{number}.wav", loudness * np.sin(2 * np.pi * 300 * time_s), 22050)
    tracks = pd.DataFrame(ratings.clip(1, 9), columns=["valence", "arousal"]).assign(
        track_id=ids, path=[f"{number}.wav" for number in range(40)], group=[f"a{number // 2}" for number in range(40)]
    )
    tracks.to_csv(folder / "tracks.csv", index=False)
    (folder / "dataset.json").write_text('{"rating_scale": [1, 9]}')
    table.assign(track_id=ids).to_parquet(folder / "table.parquet", index=False)
    return folder


def options(music, **more):
    table = str(music / "table.parquet")
    return select.Config(dataset=str(music), features=table, resamples=20, workers=1, **more)


def run(config, run_id):
    with Job(run_id, "select", ()) as job:
        return read_run(select.execute(config, job, run_id))


@pytest.fixture(scope="module")
def selected(music, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield run(options(music, columns=4, repeats=2), "chosen")


def test_the_planted_columns_make_the_design_and_the_scores(selected):
    design = json.loads((selected.folder / "design.json").read_text())
    assert set(PLANTED) <= set(design["columns"]) and len(design["columns"]) <= 4
    assert list(design["scores"]) == design["columns"] and set(design["k_of_rule"]) == set(RULES)
    assert min(selected.metrics["targets"][target]["all"]["r2"][0] for target in ("valence", "arousal")) > 0.85
    stable = selected.table("stability").set_index("column")
    assert (stable.loc[list(PLANTED), "frequency"] == 1).all() and stable.loc[list(PLANTED), "chosen"].all()
    assert stable.loc["pcm_zcr_sma_amean_std", "frequency"] == 0
    assert selected.table("selections").groupby(["repeat", "fold"]).ngroups == 10


def test_scores_of_every_rule_and_against_all_columns(selected):
    found = json.loads((selected.folder / "selection.json").read_text())
    main = selected.metrics["targets"]["valence"]["all"]["r2"][0]
    assert found["rule"] == "largest" and found["rules"]["largest"]["columns"] == [4] * 5
    assert found["rules"]["largest"]["targets"]["valence"]["all"]["r2"][0] == main
    against = found["rules"]["largest"]["against_all"]["valence"]["r2"]
    assert against["a"] == pytest.approx(main)
    everything = found["all_columns"]["targets"]["valence"]["all"]["r2"][0]
    assert against["difference"][0] == pytest.approx(main - everything)
    assert len(found["rules"]["one-se"]["k"]) == 5
    curve = selected.table("curve")
    assert set(curve["fold"]) == {"0", "1", "2", "3", "4", "all"} and set(curve["k"]) == set(found["sizes"])


def test_the_run_reads_as_one_of_train(selected, music, capsys, monkeypatch):
    monkeypatch.setenv("MER_ARTIFACTS", str(selected.folder.parent.parent))
    assert [summary.problem for summary in list_runs()] == [None]
    predictions = selected.predictions.pivot(index="track_id", columns="target", values="predicted")
    explained = selected.explanation("shap")
    sums = explained.base + explained.values.sum(axis=1)
    assert np.allclose(sums, predictions.loc[list(explained.tracks), list(explained.targets)], atol=1e-6)
    assert set(PLANTED) <= set(explained.columns.index) and len(explained.columns) < 12
    assert len(selected.tracks) == 40 and len(selected.neighbours)
    assert command_line.main(["show", "chosen"]) == 0
    capsys.readouterr()
    assert command_line.main(["predict", "--run", "chosen", str(music / "0.wav")]) == 0
    header, row = capsys.readouterr().out.splitlines()[-2:]
    assert header.startswith("path,valence,arousal") and len(row.split(",")) == 7


def test_the_same_options_give_the_same_metrics(selected, music, artifacts):
    again = run(options(music, columns=4, explain="none"), "again")
    assert again.metrics == selected.metrics
    assert again.explanation_names() == ()


@pytest.mark.parametrize(
    ("columns", "rule", "meant"),
    [(0, "auto", "minimum"), (30, "auto", "largest"), (30, "minimum", "minimum"), (0, "one-se", "one-se")],
)
def test_who_says_how_many_columns_are_affordable_gets_them(columns, rule, meant):
    assert select.rule_of(select.Config(columns=columns, rule=rule)) == meant


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"granularity": "group", "k": 30}, "beyond what exists"),
        ({"granularity": "lld", "k": 4}, "the largest lld has 3 columns"),
        ({"granularity": "group", "columns": 1}, "--columns 1 is less"),
        ({"repeats": 0}, "--repeats 0"),
        ({"model": "svr"}, "svr has no exact SHAP explainer"),
        ({"targets": ("joy",)}, "joy"),
        ({"resamples": 0}, "--resamples 0"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_sentence(music, artifacts, more, words):
    with pytest.raises(UserError, match=words) as refused:
        run(replace(options(music), **more), "refused")
    assert "\n" not in str(refused.value)
    assert not list((artifacts / "runs").glob("*"))


def test_components_are_no_columns_to_select(music, artifacts):
    with pytest.raises(UserError, match="no columns to select"):
        run(replace(options(music), features="stats8-global-pca"), "refused")


def test_fewer_groups_than_folds_inside_a_training_part_are_named(music, artifacts, tmp_path):
    tracks = pd.read_csv(music / "tracks.csv").head(12)
    tracks["group"] = [f"a{number // 4}" for number in range(12)]
    for path in tracks["path"]:
        shutil.copy(music / path, tmp_path)
    tracks.to_csv(tmp_path / "tracks.csv", index=False)
    (tmp_path / "dataset.json").write_text('{"rating_scale": [1, 9]}')
    config = select.Config(dataset=str(tmp_path), features=str(music / "table.parquet"), resamples=20)
    with pytest.raises(UserError, match="has 2 groups, and the number of columns is chosen"):
        run(config, "refused")
