"""Plain words for numbers: what a measure means, how a clip sounds to the model, and why."""

from __future__ import annotations

import pandas as pd

METRICS = {
    "r2": (
        "R²",
        "Share of the differences between tracks that the model explains: 1 is perfect, 0 is as good as always saying "
        "the average, negative is worse.",
        1.0,
    ),
    "ccc": (
        "CCC",
        "Concordance: correlation that also punishes predictions that are shifted or squeezed. 1 is perfect, 0 is "
        "none.",
        1.0,
    ),
    "pearson": (
        "Pearson r",
        "Correlation: do predictions rise and fall with the ratings? 1 is perfect, 0 is none.",
        1.0,
    ),
    "spearman": (
        "Spearman ρ",
        "Correlation of the rankings: are tracks put in the right order? 1 is perfect, 0 is none.",
        1.0,
    ),
    "rmse": ("RMSE", "Typical error in rating points, large errors weighing more. 0 is perfect.", 0.0),
    "mae": ("MAE", "Average size of the error in rating points. 0 is perfect.", 0.0),
}
MORE = {"valence": ("happier or more pleasant", "sadder or more unpleasant"), "arousal": ("more excited", "calmer")}
PROTOCOLS = {
    "grouped-5fold": "Five rounds: in each, the model learns from four fifths of the albums, artists or pieces and is "
    "tested on the rest.",
    "nested": "As grouped-5fold, and the model's settings are chosen inside the training part of each round.",
    "original": "Tested on DEAM's 58 full songs, which differ from the excerpts that it learns from.",
    "custom": "Tested once on 15 % of the songs; no artist is on both sides.",
    "music2emo": "The published lists of Music2Emo: random songs, artists not kept apart.",
    "leaky-chunks": "Each track is cut in three and the pieces are dealt to five rounds at random: only to show what "
    "that leak is worth.",
}
NOT_TESTED = "This run learned from this clip and was not tested on it, so it has no prediction and no explanation."
BASELINES = {
    "constant": "always the average",
    "mean-only": "same model, means only",
    "q25-only": "same model, lower quartiles only",
}


def comparison(target: str, difference: float) -> str:
    """How a prediction relates to the average, e.g. "calmer"."""
    low_high = MORE.get(target, (f"higher in {target}", f"lower in {target}"))
    return low_high[0] if difference >= 0 else low_high[1]


def number(value: float) -> str:
    """Two decimals, a proper minus, and no minus before zero."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def in_points(value: float) -> str:
    """A signed number of rating points with a proper minus."""
    return f"{value:+.2f}".replace("-", "−")


def reason_sentence(
    target: str, parts: pd.Series, base: float, plain: dict[str, str], scale: tuple[float, float]
) -> str:
    """One or two sentences that sum up a waterfall.

    parts : signed effects by name, in rating points; plain : plain words by name
    """
    total = float(parts.sum())
    numbers = f"{target} {base + total:.1f} against {base:.1f} on the {scale[0]:g}–{scale[1]:g} scale"
    if abs(total) < 0.02 * (scale[1] - scale[0]):
        return (
            f"The model hears this clip as **about average** ({numbers}); what speaks for and against it cancels out."
        )
    same = parts[parts * total > 0].sort_values(key=abs, ascending=False)
    other = parts[parts * total < 0].sort_values(key=abs, ascending=False)
    because = _listed([f"**{plain.get(name, name)}** ({in_points(value)})" for name, value in same.iloc[:2].items()])
    text = f"The model hears this clip as **{comparison(target, total)}** than average ({numbers}), mostly because of "
    text += f"{because}."
    if len(other) and abs(other.iloc[0]) > 0.15 * abs(total):
        against = plain.get(other.index[0], other.index[0]).capitalize()
        text += f" {against} ({in_points(other.iloc[0])}) pulls the other way."
    return text


def _listed(words: list[str]) -> str:
    return " and ".join(words) if len(words) < 3 else ", ".join(words[:-1]) + " and " + words[-1]


LEVEL_HELP = (
    "Acoustic proxies: families of properties a listener could name, such as loudness or brightness, estimated from "
    "the sound. Descriptors: the measured curves behind them. Statistics: how a curve is boiled down to one number. "
    "Single columns: one statistic of one curve."
)


CELLS = {  # true class first; as a 2 x 2: rows what listeners said, columns what the model says
    "happy-happy": "Happy, heard as happy",
    "happy-sad": "Happy, taken for sad",
    "sad-happy": "Sad, taken for happy",
    "sad-sad": "Sad, heard as sad",
}


def versions(target: str) -> dict[str, tuple[str, str]]:
    """Name and meaning of each way to hear a clip."""
    for_it, against = ("speaks for happy", "speaks against happy") if target == "happy" else ("raised it", "lowered it")
    said = "" if target == "happy" else f" (predicted {target})"
    return {
        "original": ("Original", "the music"),
        "for": ("Evidence for", f"only what {for_it}{said}"),
        "against": ("Evidence against", f"only what {against}{said}"),
        "without": ("Without the evidence", f"the music less what {for_it}{said}"),
    }
