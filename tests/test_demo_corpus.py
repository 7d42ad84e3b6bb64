"""The demo corpus: the design, the change of mode, what is heard, what is written."""

import json
import sys

import numpy as np
import pandas as pd
import pyloudnorm
import pytest
import soundfile
from scipy.signal import resample_poly

from mer_core.datasets.demo import build, build_demo, design, midlevel, render, tables
from mer_core.datasets.demo.performance import LOUDNESS_LUFS, NOTES, Performance, in_mode
from mer_core.datasets.demo.pieces import MAJOR_SCALE, PIECES, SCORE, accompaniment
from mer_core.datasets.tracks import load_tracks
from mer_core.errors import UserError

CUES = list(design.CUES)


@pytest.fixture(scope="module")
def clips():
    return tables.plan(seed=0)


@pytest.fixture(scope="module")
def performances(clips):
    return tables.perform_all(clips, seed=0)


@pytest.fixture(scope="module")
def truth(clips, performances):
    return tables.truth_table(clips, performances, tables.target_loudness(clips), seed=0)


@pytest.fixture(scope="module")
def chosen(clips):
    """One clip a piece, with every level of every cue among them."""
    chosen = clips.iloc[[16 * piece + 5 * piece % 16 for piece in range(12)]]
    assert all(chosen[cue].nunique() == clips[cue].nunique() for cue in CUES)
    return chosen


@pytest.fixture(scope="module")
def corpus(clips, chosen, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    build.write_corpus(folder, clips, list(chosen.index), seed=0, workers=2)
    return folder


@pytest.fixture(scope="module")
def sounds(corpus, chosen):
    return {track: soundfile.read(corpus / "audio" / f"{track}.flac")[0] for track in chosen.index}


# The design


def test_five_cues_form_an_orthogonal_array(clips):
    for _, piece in clips.groupby("piece"):
        for first in CUES[1:]:
            for second in CUES[1:]:
                if first != second:
                    assert len(piece[[first, second]].drop_duplicates()) == 16


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_cues_are_uncorrelated_within_every_piece_and_with_every_product_of_two(seed):
    z = design.z_scores(design.cue_levels(12, seed))
    np.testing.assert_allclose(z.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose((z**2).mean(axis=1), 1)
    for piece in z:
        assert np.abs(np.corrcoef(piece.T) - np.eye(6)).max() < 1e-12
    z = z.reshape(-1, 6)
    first, second = np.triu_indices(6, 1)
    assert np.abs(z.T @ (z[:, first] * z[:, second])).max() / len(z) < 1e-12


def test_weights_have_the_order_and_signs_that_are_documented():
    importance = np.hypot(design.WEIGHTS["valence"], design.WEIGHTS["arousal"])
    assert (np.diff(importance) < 0).all()
    told = design.documentation()
    assert told["order_of_importance"] == ["mode", "tempo", "register", "dynamics", "articulation", "timbre"]
    valence, arousal = (pd.Series(told["weights"][target]) for target in ("valence", "arousal"))
    assert np.sign(valence).tolist() == [1, 1, 1, -1, 1, -1]
    assert (arousal > 0).all()


def test_noise_free_rating_is_the_intercept_plus_the_contributions(truth):
    told = design.documentation()
    for target in ("valence", "arousal"):
        parts = truth[[f"{target}_{cue}" for cue in CUES]]
        np.testing.assert_allclose(
            told["intercept"][target] + parts.sum(axis=1), truth[f"{target}_noise_free"], atol=1e-5
        )
        for cue in CUES:
            expected = truth[f"z_{cue}"] * told["weights"][target][cue]
            np.testing.assert_allclose(truth[f"{target}_{cue}"], expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_cues_explain_77_to_89_percent_of_the_ratings(seed):
    clips = tables.plan(seed)
    z = design.z_scores(clips[CUES].to_numpy())
    ratings = design.simulate_ratings(z, np.repeat(np.arange(12), 16), seed)
    assert ratings.mean.min() >= 1 and ratings.mean.max() <= 9
    assert ratings.clipped < 0.04
    predictors = np.column_stack([np.ones(len(z)), z])
    for number, target in enumerate(("valence", "arousal")):
        rated = ratings.mean[:, number]
        weights, *_ = np.linalg.lstsq(predictors, rated, rcond=None)
        assert 0.77 < 1 - (rated - predictors @ weights).var() / rated.var() < 0.89
        np.testing.assert_allclose(weights[1:], design.WEIGHTS[target], atol=0.15)
    assert 0.9 < ratings.spread.mean() < 1.4


# The change of mode


def line(*degrees, alters=None, voice=0, octave=4):
    notes = np.zeros(len(degrees), SCORE)
    position = np.array(degrees) - 1
    notes["start"], notes["length"] = np.arange(len(degrees)), 1
    notes["degree"], notes["octave"], notes["voice"] = position % 7, octave + position // 7, voice
    notes["alter"] = 0 if alters is None else alters
    return notes


def pitch_classes(score):
    return [int(pitch) for pitch in (MAJOR_SCALE[score["degree"]] + score["alter"]) % 12]


def test_c_major_becomes_c_minor_melodic_up_and_natural_down():
    up = in_mode(line(1, 2, 3, 4, 5, 6, 7, 8), "major", "minor")
    assert pitch_classes(up) == [0, 2, 3, 5, 7, 9, 11, 0]
    down = in_mode(line(8, 7, 6, 5, 4, 3, 2, 1), "major", "minor")
    assert pitch_classes(down) == [0, 10, 8, 7, 5, 3, 2, 0]


def test_harmony_keeps_its_leading_tone_and_gets_a_minor_sixth():
    cadence = in_mode(line(6, 5, 7, 8), "major", "minor")
    assert pitch_classes(cadence) == [8, 7, 11, 0]


def test_minor_becomes_major():
    harmonic = line(1, 2, 3, 4, 5, 6, 7, 8, alters=[0, 0, -1, 0, 0, -1, 0, 0])
    assert pitch_classes(in_mode(harmonic, "minor", "major")) == [0, 2, 4, 5, 7, 9, 11, 0]
    natural = line(8, 7, 6, 5, alters=[0, -1, -1, 0])
    assert pitch_classes(in_mode(natural, "minor", "major")) == [0, 11, 9, 7]
    raised_fourth = line(5, 4, 5, alters=[0, 1, 0])
    assert pitch_classes(in_mode(raised_fourth, "minor", "major")) == [7, 6, 7]


def test_the_same_mode_changes_nothing_and_two_forms_of_a_degree_never_sound_together():
    scale = line(1, 2, 3, 4, 5, 6, 7, 8)
    assert (in_mode(scale, "major", "major") == scale).all()
    falling, held = line(8, 7, 6, 5), line(8, 7, 8, 8, voice=1, octave=3)
    both = in_mode(np.concatenate([falling, held]), "major", "minor")
    assert set(both["alter"][both["degree"] == 6].tolist()) == {-1}


def test_the_mode_can_be_heard_in_the_notes(clips, truth):
    for piece, rows in clips.groupby("piece"):
        minorness = truth["mid_minorness"].loc[rows.index]
        assert minorness[rows["mode"] == 0].min() > minorness[rows["mode"] == 1].max(), piece


# The pieces


def test_excerpts_are_whole_bars_and_start_with_music(performances):
    for piece in PIECES:
        assert ((piece.end - piece.start) / piece.bar) % 1 == 0
        assert 0 <= piece.downbeat < piece.bar
    for played in performances.values():
        assert played.notes["start"][0] < 0.06


def test_chords_follow_their_degrees():
    minstrel = next(piece for piece in PIECES if piece.slug == "minstrel-boy")
    added = accompaniment(minstrel, line(1, 2, 3, 4, 5))
    second = added[(added["start"] >= 3) & (added["start"] < 5)]  # the second chord is the dominant
    assert set(second["degree"].tolist()) == {4, 6, 1}
    assert second["degree"][second["voice"] == 2].tolist() == [4]


def test_notes_are_playable(performances):
    for played in performances.values():
        notes = played.notes
        assert 10 <= played.seconds <= 15
        assert (np.diff(notes["start"]) >= 0).all()
        assert (notes["end"] > notes["start"]).all() and notes["end"].max() < played.seconds - 0.5
        assert notes["pitch"].min() >= 29 and notes["pitch"].max() <= 98
        assert notes["velocity"].min() >= 20 and notes["velocity"].max() <= 127
        for _, same in pd.DataFrame(notes).groupby(["voice", "pitch"]):
            assert (same["end"].to_numpy()[:-1] < same["start"].to_numpy()[1:]).all()


def test_music_goes_on_to_the_end_at_every_tempo(performances):
    for track, played in performances.items():
        gaps = np.diff(np.concatenate([played.notes["start"], [played.seconds]]))
        assert gaps.max() < 4, track


# What the notes amount to


def test_each_cue_moves_its_quality(clips, truth):
    qualities = {
        "tempo": "rhythmic_density",
        "register": "register",
        "articulation": "articulation",
        "dynamics": "loudness",
    }
    for cue, quality in qualities.items():
        for piece, rows in clips.groupby("piece"):
            means = truth[f"mid_{quality}"].loc[rows.index].groupby(rows[cue]).mean()
            assert means.is_monotonic_increasing, (cue, piece)
        assert np.corrcoef(truth[f"z_{cue}"], truth[f"mid_{quality}"])[0, 1] > 0.85
    assert np.corrcoef(truth["z_mode"], truth["mid_minorness"])[0, 1] < -0.8


def test_every_quality_varies(truth):
    assert set(midlevel.QUALITIES) | {"loudness"} == {c[4:] for c in truth.columns if c.startswith("mid_")}
    for quality in midlevel.QUALITIES:
        assert truth[f"mid_{quality}"].nunique() > 20, quality
        assert truth[f"mid_{quality}"].groupby(truth.index.str[:-3]).mean().nunique() == 12, quality
    for bounded in ("melodiousness", "articulation", "rhythmic_stability"):
        assert truth[f"mid_{bounded}"].between(0, 1).all()


def test_qualities_agree_with_slow_definitions(performances):
    notes = next(iter(performances.values())).notes
    grid = np.arange(0.0005, notes["end"].max(), 0.001)
    rough, sounding = 0.0, 0
    for moment in grid:
        now = notes["pitch"][(notes["start"] <= moment) & (moment < notes["end"])]
        sounding += len(now) > 0
        rough += sum(naive_roughness(a, b) for i, a in enumerate(now) for b in now[:i])
    assert midlevel.dissonance(notes) == pytest.approx(rough / sounding, rel=0.01)
    heard = [((notes["end"] - notes["start"])[notes["pitch"] % 12 == pitch]).sum() for pitch in range(12)]
    best = max(
        np.corrcoef(heard, midlevel.KEY_PROFILES["major"][-k:] + midlevel.KEY_PROFILES["major"][:-k])[0, 1]
        for k in range(12)
    )
    assert midlevel.key_fit(notes, "major") == pytest.approx(best)


def naive_roughness(first, second, cache={}):  # noqa: B006
    key = tuple(sorted((int(first), int(second))))
    if key not in cache:
        low, high = (440 * 2 ** ((pitch - 69) / 12) for pitch in key)
        total = 0.0
        for i in range(1, 7):
            for j in range(1, 7):
                f1, f2 = sorted((low * i, high * j))
                s = 0.24 / (0.0207 * f1 + 18.96)
                total += 0.88 ** (i + j) * (np.exp(-3.51 * s * (f2 - f1)) - np.exp(-5.75 * s * (f2 - f1)))
        cache[key] = total
    return cache[key]


def test_consonance_is_less_rough_than_dissonance():
    second, tritone, fifth, octave = (midlevel.roughness(60, 60 + step) for step in (1, 6, 7, 12))
    assert second > tritone > fifth > octave
    assert midlevel.roughness(40, 44) > midlevel.roughness(76, 80)  # low thirds growl


def test_qualities_of_a_march_in_c():
    notes = np.zeros(16, NOTES)
    notes["start"] = np.arange(16) * 0.6
    notes["end"] = notes["start"] + 0.3
    notes["pitch"] = [60, 62, 64, 65, 67, 65, 64, 62] * 2
    found = midlevel.mid_level(Performance(notes, 10.0, beat_s=0.6, first_beat_s=0.0))
    assert found["melodiousness"] == 1
    assert found["articulation"] == pytest.approx(0.5)
    assert found["rhythmic_complexity"] == 0
    assert found["rhythmic_stability"] == pytest.approx(1)
    assert found["dissonance"] == 0
    assert found["rhythmic_density"] == pytest.approx(16 / 9.3)


def test_keys_are_told_apart():
    notes = np.zeros(9, NOTES)
    notes["start"], notes["end"] = np.arange(9), np.arange(9) + 1
    for third, minorness in ((64, -1), (63, 1)):
        notes["pitch"] = [60, 62, third, 65, 67, third, 60, 67, 60]
        assert np.sign(midlevel.key_fit(notes, "minor") - midlevel.key_fit(notes, "major")) == minorness


# What is heard


def test_clips_are_clean(sounds):
    for track, sound in sounds.items():
        peak = np.abs(sound).max()
        assert sound.shape[1] == 2 and 10 <= len(sound) / 44100 <= 15
        oversampled = max(np.abs(resample_poly(channel, 4, 1)).max() for channel in sound.T)
        assert oversampled < 10 ** (-1 / 20), track
        assert np.abs(sound.mean(axis=0)).max() < 1e-3 * peak
        assert np.argmax(np.abs(sound).max(axis=1) > 0.03 * peak) < 0.15 * 44100, track
        assert np.abs(sound[-40:]).max() < 0.002 * peak and np.abs(sound[:40]).max() < 0.01 * peak
        assert np.abs(np.diff(sound, axis=0)).max() < 0.35 * peak  # a click would jump
        level = np.sqrt((sound[: len(sound) // 4410 * 4410] ** 2).mean(axis=1).reshape(-1, 4410).mean(axis=1))
        silent = level[:-10] < 0.001 * level.max()
        assert not np.convolve(silent, np.ones(5)).max() >= 5, f"{track}: half a second of silence"


def test_loudness_follows_the_dynamics(chosen, corpus, sounds):
    truth = pd.read_csv(corpus / "truth.csv", index_col="track_id")
    for track, sound in sounds.items():
        heard = pyloudnorm.Meter(44100).integrated_loudness(sound)
        assert heard == pytest.approx(LOUDNESS_LUFS[chosen.at[track, "dynamics"]], abs=0.6)
        assert heard == pytest.approx(truth.at[track, "mid_loudness"], abs=0.05)
    assert (np.diff(LOUDNESS_LUFS) >= 5).all()


@pytest.mark.parametrize("track", ["greensleeves_06", "greensleeves_01"])
def test_timbres_go_from_soft_to_bright_in_low_and_in_high_register(performances, track):
    notes = performances[track].notes
    notes = notes[notes["end"] < 4]
    centroids = []
    for timbre in range(4):
        sound, _ = render.render(notes, 5.0, timbre, -20.0)
        power = np.abs(np.fft.rfft(sound.mean(axis=0))) ** 2
        centroids.append((power * np.fft.rfftfreq(sound.shape[1], 1 / 44100)).sum() / power.sum())
    assert (np.diff(centroids) > 30).all(), centroids


def test_the_limiter_never_overshoots_and_leaves_soft_sound_alone():
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.5, (2, 20000))
    limited = render._limited(sound)
    assert np.abs(limited).max() <= render.HIGHEST_PEAK + 1e-12
    quiet = sound * 0.1
    assert render._limited(quiet) is quiet


# What is written


def test_the_corpus_loads_as_a_data_set(corpus, chosen):
    dataset = load_tracks(corpus)
    assert dataset.name == "demo" and dataset.synthetic and dataset.scale == (1, 9)
    assert dataset.targets == ("valence", "arousal")
    assert list(dataset.tracks.index) == list(chosen.index)
    assert dataset.tracks["group"].nunique() == 12
    assert not dataset.report.skipped and not dataset.report.missing
    assert {"title", "composer", "licence", *(f"cue_{cue}" for cue in CUES)} <= set(dataset.tracks.columns)
    assert sorted(path.name for path in corpus.iterdir()) == [
        "audio",
        "dataset.json",
        "notes.csv",
        "tracks.csv",
        "truth.csv",
        "weights.json",
    ]


def test_same_seed_same_bytes(clips, corpus, chosen, tmp_path):
    some = list(chosen.index[:2])
    build.write_corpus(tmp_path, clips, some, seed=0, workers=1)
    for track in some:
        name = f"audio/{track}.flac"
        assert (tmp_path / name).read_bytes() == (corpus / name).read_bytes()
    for name in ("tracks.csv", "truth.csv", "notes.csv"):
        theirs = [row for row in (corpus / name).read_text().splitlines() if row.startswith(("track_id", *some))]
        assert (tmp_path / name).read_text().splitlines() == theirs


def test_another_seed_gives_another_corpus():
    assert not tables.plan(0).equals(tables.plan(1))


@pytest.fixture
def two_clips(monkeypatch):
    whole = tables.plan
    monkeypatch.setattr(tables, "plan", lambda seed: whole(seed).iloc[[48, 64]])


def test_build_is_atomic_reports_progress_and_is_done_once(two_clips, tmp_path):
    folder, told = tmp_path / "demo", []
    build_demo(folder, progress=lambda fraction, message: told.append(fraction))
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert len(load_tracks(folder).tracks) == 2
    build_demo(folder, progress=lambda fraction, message: pytest.fail("built twice"))
    described = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**described, "version": 0}))
    build_demo(folder)
    assert json.loads((folder / "dataset.json").read_text()) == described


@pytest.mark.parametrize("stop_at", [0.0, 0.08])
def test_an_interrupted_build_leaves_nothing(two_clips, tmp_path, stop_at):
    def interrupt(fraction, message):
        if fraction >= stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_demo(tmp_path / "demo", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not a demo corpus"):
        build_demo(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_missing_synthesiser_is_told_with_its_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tinysoundfont", None)
    with pytest.raises(UserError, match="pip install --no-deps -r requirements-nodeps.txt"):
        build_demo(tmp_path / "demo")
