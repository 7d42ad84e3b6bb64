"""What a feature column means: descriptor, perceptual group, musical label, and a few plain words.

The mapping is data. `groups.csv` has one row per rule: a descriptor (with a range of indices where it is one of
several), `series` static or delta, `functional` amean or stddev ("both" matches either), the perceptual group and the
musical label. Rules exclude each other. `descriptors.csv` has the plain words of the 65 descriptors and, for the
auditory bands, their centre frequency in Hz: 26 triangles spaced evenly in mel = 1127 ln(1 + f / 700) from 20 to 8000
Hz. That is approximate, since a triangle reaches over to its neighbours' centres and the spectrum has a point only
every 43 Hz.

Groups are *acoustic proxies*: their author calls the mapping speculative. It follows G. Kritsovas,
https://github.com/Grkritsovas/postgrad-final-project, whose rule for the static MFCCs could never match
(`group_in_source`), although a comment wants them in tonal_stability.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mer_core.features.llds import LLD_NAMES, deam_name, lld_columns
from mer_core.features.statistics import STATISTICS_15

UNMAPPED = "unmapped"
MFCC_RULES = ("fixed", "source")

_SERIES_WORDS = {
    ("static", "amean"): "",
    ("static", "stddev"): ", unsteadiness within a second",
    ("delta", "amean"): ", rise or fall within a second",
    ("delta", "stddev"): ", restlessness within a second",
}
_STATISTIC_WORDS = {
    "mean": "on average",
    "std": "spread over the track",
    "min": "lowest moment",
    "max": "highest moment",
    "q25": "lower quarter",
    "q75": "upper quarter",
    "skew": "lean towards rare highs",
    "kurtosis": "rare extremes",
    "range": "from lowest to highest",
    "iqr": "usual span",
    "cv": "spread relative to its size",
    "median": "typical moment",
    "mad": "usual distance from typical",
    "variation": "change each half second",
    "trend": "rise or fall over the track",
}


def describe_columns(columns: Iterable[str], mfcc_rule: str = "fixed") -> pd.DataFrame:
    """What each feature column means.

    Parameters
    ----------
    columns : names `{lld}_{statistic}`, bare `{lld}` (a mean over the track, as in DEAM's song means), or any other
    mfcc_rule : "fixed" puts the static MFCCs into tonal_stability; "source" leaves them unmapped, as the
        source's code does

    Returns
    -------
    Index `column`, as given; columns
    lld : one of the 260 base columns, DEAM's spelling
    statistic : one of the 15
    descriptor : one of the 65
    group : perceptual group (an acoustic proxy), or "unmapped"
    musical : musical label, or "unmapped"
    plain : a few plain words

    An unknown name stands for itself as lld, descriptor and plain words, with statistic "value", and is unmapped.
    """
    if mfcc_rule not in MFCC_RULES:
        raise ValueError(f"mfcc_rule is {mfcc_rule!r}, expected one of {MFCC_RULES}")
    columns = list(columns)
    known = _known_llds(mfcc_rule)
    rows = []
    for column in columns:
        lld, statistic = split_column(column)
        if statistic is None:
            rows.append((column, "value", column, UNMAPPED, UNMAPPED, column))
        else:
            descriptor, group, musical, words = known[lld]
            rows.append((lld, statistic, descriptor, group, musical, f"{words} ({_STATISTIC_WORDS[statistic]})"))
    names = ["lld", "statistic", "descriptor", "group", "musical", "plain"]
    return pd.DataFrame(rows, index=pd.Index(columns, name="column", dtype=object), columns=names, dtype=object)


def split_column(column: str) -> tuple[str, str | None]:
    """The LLD (DEAM's spelling) and the statistic of a feature column; the name itself and None for an unknown one."""
    name = deam_name(column)
    if name in _ALL_LLDS:
        return name, "mean"
    lld, _, statistic = name.rpartition("_")
    return (lld, statistic) if lld in _ALL_LLDS and statistic in STATISTICS_15 else (column, None)


def descriptor_words() -> dict[str, str]:
    """A few plain words for each of the 65 descriptors."""
    return dict(_descriptors()["plain"])


def band_centres() -> dict[str, float]:
    """Approximate centre frequency in Hz of each auditory band `audSpec_Rfilt[0..25]`."""
    return dict(_descriptors()["about_hz"].dropna())


_ALL_LLDS = frozenset(lld_columns())


@functools.cache
def _descriptors() -> pd.DataFrame:
    return pd.read_csv(Path(__file__).with_name("descriptors.csv"), index_col="descriptor")


@functools.cache
def _known_llds(mfcc_rule: str) -> dict[str, tuple[str, str, str, str]]:
    """Each LLD's descriptor, group, musical label and plain words."""
    words = descriptor_words()
    parts = {
        (descriptor, series, functional): (descriptor, words[descriptor] + _SERIES_WORDS[series, functional])
        for descriptor in LLD_NAMES
        for series, functional in _SERIES_WORDS
    }
    labels = {}
    for rule in pd.read_csv(Path(__file__).with_name("groups.csv"), keep_default_na=False).itertuples():
        group = rule.group_in_source if mfcc_rule == "source" and rule.group_in_source else rule.group
        for key in parts:
            if _matches(rule, *key):
                if key in labels:
                    raise ValueError(f"groups.csv has two rules for {key}")
                labels[key] = (group, rule.musical)
    order = [(name, series, f) for series in ("static", "delta") for name in LLD_NAMES for f in ("stddev", "amean")]
    return {lld: (parts[key][0], *labels[key], parts[key][1]) for lld, key in zip(lld_columns(), order, strict=True)}


def _matches(rule, descriptor: str, series: str, functional: str) -> bool:
    base, _, index = descriptor.removesuffix("]").partition("[")
    if base != rule.descriptor or rule.series not in (series, "both") or rule.functional not in (functional, "both"):
        return False
    first, _, last = rule.indices.partition("-")
    return not index or int(first) <= int(index) <= int(last)
