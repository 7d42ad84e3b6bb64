"""Meaning of the columns: the groups' published counts, the labels, and names of every kind."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mer_core.features.groups import UNMAPPED, band_centres, describe_columns, descriptor_words
from mer_core.features.llds import LLD_NAMES, lld_columns
from mer_core.features.statistics import STATISTICS_8, STATISTICS_15, column_names

# Counts of the 260 columns that the source project prints.
SOURCE_COUNTS = {
    "articulation": 60,
    "tonal_stability": 52,
    "dissonance": 48,
    "rhythmic_complexity": 34,
    "rhythmic_stability": 18,
    "melodiousness": 16,
    UNMAPPED: 32,
}


def counts(mfcc_rule: str) -> dict[str, int]:
    return describe_columns(lld_columns(), mfcc_rule)["group"].value_counts().to_dict()


def test_source_rule_reproduces_the_published_counts():
    assert counts("source") == SOURCE_COUNTS


def test_fixed_rule_moves_the_static_mfccs_into_tonal_stability():
    assert counts("fixed") == SOURCE_COUNTS | {"tonal_stability": 80, UNMAPPED: 4}
    source, fixed = (describe_columns(lld_columns(), rule)["group"] for rule in ("source", "fixed"))
    moved = source.index[source != fixed]
    assert len(moved) == 28 and all("mfcc_sma[" in column for column in moved)


def test_unknown_mfcc_rule_is_refused():
    with pytest.raises(ValueError, match="source"):
        describe_columns(lld_columns(), "other")


@pytest.mark.parametrize(
    ("column", "group", "musical"),
    [
        ("jitterDDP_sma_de_stddev", "articulation", "voice_quality"),
        ("logHNR_sma_amean", "articulation", "voice_quality"),
        ("logHNR_sma_stddev", "dissonance", "voice_quality"),
        ("F0final_sma_amean", "melodiousness", "pitch"),
        ("voicingFinalUnclipped_sma_de_stddev", "tonal_stability", "voice"),
        ("pcm_RMSenergy_sma_de_amean", "rhythmic_stability", "dynamics"),
        ("pcm_zcr_sma_stddev", "rhythmic_complexity", "rhythm"),
        ("audSpec_Rfilt_sma[5]_amean", "rhythmic_stability", "spectral"),
        ("audSpec_Rfilt_sma[6]_amean", "tonal_stability", "spectral"),
        ("audSpec_Rfilt_sma[15]_stddev", "melodiousness", "spectral"),
        ("audSpec_Rfilt_sma[16]_amean", "articulation", "spectral"),
        ("audSpec_Rfilt_sma[20]_amean", "dissonance", "spectral"),
        ("audSpec_Rfilt_sma_de[5]_amean", "rhythmic_complexity", "rhythm"),
        ("audSpec_Rfilt_sma_de[19]_stddev", "articulation", "rhythm"),
        ("audSpec_Rfilt_sma_de[20]_amean", "rhythmic_complexity", "rhythm"),
        ("pcm_fftMag_fband250-650_sma_amean", UNMAPPED, UNMAPPED),
        ("pcm_fftMag_fband1000-4000_sma_stddev", "dissonance", "timbre"),
        ("pcm_fftMag_spectralRollOff75.0_sma_stddev", "tonal_stability", "brightness"),
        ("pcm_fftMag_spectralFlux_sma_amean", "articulation", "rhythm"),
        ("pcm_fftMag_spectralHarmonicity_sma_amean", "tonal_stability", "harmony"),
        ("pcm_fftMag_mfcc_sma_de[14]_amean", "tonal_stability", "timbre"),
    ],
)
def test_members_of_the_published_table(column: str, group: str, musical: str):
    described = describe_columns([f"{column}_q25"]).iloc[0]
    assert (described["lld"], described["statistic"]) == (column, "q25")
    assert (described["group"], described["musical"]) == (group, musical)


@pytest.mark.parametrize("names", [STATISTICS_8, STATISTICS_15])
def test_all_statistics_of_all_llds(names: tuple[str, ...]):
    columns = column_names(lld_columns(), names)
    described = describe_columns(columns)
    assert list(described.index) == columns and described.index.name == "column"
    assert list(described.columns) == ["lld", "statistic", "descriptor", "group", "musical", "plain"]
    assert (described["lld"] == np.repeat(lld_columns(), len(names))).all()
    assert list(described["statistic"]) == list(names) * 260
    assert set(described["descriptor"]) == set(LLD_NAMES)
    assert not described["plain"].duplicated().any()


def test_bare_llds_are_means_as_in_deams_song_means(real_data):
    columns = pd.read_parquet(real_data("deam/song_mean_167.parquet")).columns
    described = describe_columns(columns)
    assert len(described) == 167
    assert (described["lld"] == columns).all()
    assert set(described["statistic"]) == {"mean"}


def test_mfccs_without_prefix_are_recognised_and_keep_their_column_name():
    described = describe_columns(["mfcc_sma_de[2]_stddev_skew"])
    assert described.index[0] == "mfcc_sma_de[2]_stddev_skew"
    assert described["lld"].iloc[0] == "pcm_fftMag_mfcc_sma_de[2]_stddev"
    assert described["descriptor"].iloc[0] == "pcm_fftMag_mfcc[2]"


@pytest.mark.parametrize(
    "name", ["minorness", "F0final_sma", "F0final_sma_amean_p99", "pc_mean", "articulation_PC1", ""]
)
def test_unknown_columns_stand_for_themselves(name: str):
    described = describe_columns([name]).iloc[0]
    assert list(described) == [name, "value", name, UNMAPPED, UNMAPPED, name]


def test_no_columns():
    assert describe_columns([]).shape == (0, 6)


def test_every_descriptor_has_plain_words_of_its_own():
    words = descriptor_words()
    assert tuple(words) == LLD_NAMES
    assert len(set(words.values())) == 65
    assert all(text and "_" not in text and len(text.split()) <= 9 for text in words.values())


def test_band_centres_are_even_in_mel():
    centres = band_centres()
    assert list(centres) == [f"audSpec_Rfilt[{band}]" for band in range(26)]
    edges_and_centres = np.array([20, *centres.values(), 8000])
    mel = 1127 * np.log1p(edges_and_centres / 700)
    assert np.diff(mel) == pytest.approx((mel[-1] - mel[0]) / 27, rel=0.01)
    words = descriptor_words()
    for band, hz in centres.items():
        said = float(words[band].split()[-2])
        assert said == pytest.approx(hz, rel=0.03)
