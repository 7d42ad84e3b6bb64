"""The composed corpus: its pieces are not the demo's, its cues are independent, the same seed gives the same clips."""

import numpy as np
import pandas as pd
import pytest
import soundfile

from mer_core.datasets.demo import build, choosing, composed, design, midlevel, render, tables
from mer_core.datasets.demo.performance import NOTE_RATIO, between, in_mode
from mer_core.datasets.demo.pieces import PIECES, read_score
from mer_core.datasets.tracks import load_tracks

CUES = list(design.CUES)


@pytest.fixture(scope="module")
def clips():
    return composed.plan(seed=0)


@pytest.fixture(scope="module")
def few():
    """A piece of each kind, those with the fewest notes to read."""
    kinds = ("bach", "ryansmammoth", "oneills1850")
    return [next(piece for piece in composed.pieces() if piece.slug.startswith(kind)) for kind in kinds]


@pytest.fixture(scope="module")
def corpus(clips, few, tmp_path_factory):
    folder = tmp_path_factory.mktemp("composed")
    chosen = [f"{piece.slug}_1" for piece in few]
    build.write_corpus(folder, clips, chosen, seed=0, workers=2, corpus=build.COMPOSED)
    return folder


def test_no_composition_of_the_demo_is_played():
    demo = {(piece.source, piece.number) for piece in PIECES}
    found = composed.pieces()
    assert len({piece.slug for piece in found}) == len(found) >= 300
    assert len({(piece.source, piece.number) for piece in found}) == len(found)
    assert not demo & {(piece.source, piece.number) for piece in found}
    for work in ("bwv227", "bwv368", "k156", "k545", "maple", "jeanie"):
        assert not [piece.source for piece in found if work in piece.source]
    for title in ("greensleeves", "minstrel boy", "aloha", "mazurka"):
        assert not [piece.title for piece in found if title in piece.title.lower()]


def test_no_tune_begins_as_one_of_the_demo(few):
    table = pd.read_csv(composed.PIECES_FILE, index_col="slug")
    assert not {choosing.incipit(read_score(piece)) for piece in PIECES} & set(table["incipit"])
    assert table["incipit"].is_unique
    for piece in few:  # what the table says is what the score holds
        assert choosing.incipit(read_score(piece)) == table.at[piece.slug, "incipit"]


def test_both_modes_of_a_piece_are_clear(few):
    for piece in few:
        for mode, sign in (("minor", 1), ("major", -1)):
            score = in_mode(read_score(piece), piece.mode, mode)
            heard = np.zeros(len(score), [("pitch", int), ("start", float), ("end", float)])
            heard["pitch"] = 12 * score["octave"] + np.array([0, 2, 4, 5, 7, 9, 11])[score["degree"]] + score["alter"]
            heard["end"] = score["length"]
            assert sign * (midlevel.key_fit(heard, "minor") - midlevel.key_fit(heard, "major")) > 0.1


def test_cues_are_independent_of_each_other_and_of_the_piece(clips):
    correlations = np.corrcoef(clips[CUES].to_numpy().T) - np.eye(len(CUES))
    assert np.abs(correlations).max() < 4 / np.sqrt(len(clips))  # chance alone: four standard errors
    assert (clips.groupby("piece")["mode"].mean() == 0.5).all()
    assert clips[CUES[1:-1]].min().min() >= 0 and clips[CUES[1:-1]].max().max() <= 3
    np.testing.assert_allclose(clips[CUES[1:-1]].mean(), 1.5, atol=4 * 0.87 / np.sqrt(len(clips)))
    assert (clips["timbre"] == np.array(render.FAMILY_LEVELS)[clips["family"]]).all()
    assert clips["family"].nunique() == len(render.FAMILIES) == len(render.FAMILY_NAMES)


def test_a_seed_decides_everything(clips, few):
    pd.testing.assert_frame_equal(composed.plan(0), clips)
    assert not composed.plan(1)["tempo"].equals(clips["tempo"])
    chosen = clips.loc[[f"{few[1].slug}_1"]]
    first, second = (tables.perform_all(chosen, 0, tuple(few), 10.0)[chosen.index[0]].notes for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_levels_lie_between_the_demos():
    assert [between(NOTE_RATIO, level) for level in range(4)] == list(NOTE_RATIO)
    assert between(NOTE_RATIO, 0.25) == pytest.approx(0.75 * 1.0 + 0.25 * 0.75)


def test_clips_are_ten_seconds_in_the_layout_of_the_demo(corpus, clips):
    dataset = load_tracks(corpus)
    assert len(dataset.tracks) == 3 and dataset.tracks["group"].nunique() == 3
    truth = pd.read_csv(corpus / "truth.csv", index_col="track_id")
    assert {f"mid_{name}" for name in (*midlevel.QUALITIES, "loudness")} <= set(truth)
    assert truth.notna().all().all()
    for track, row in truth.iterrows():
        sound, rate = soundfile.read(corpus / "audio" / f"{track}.flac")
        assert sound.shape == (10 * rate, 2)
        assert np.abs(sound).max() < 1 and np.abs(sound[-rate // 100 :]).max() < 0.01
        planted = design.z_scores(clips.loc[track, CUES].to_numpy(float)) @ np.array(design.WEIGHTS["valence"])
        assert row["valence_noise_free"] == pytest.approx(design.INTERCEPT + planted, abs=1e-5)
