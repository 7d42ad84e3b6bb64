"""What a site says of its run: the model, the data, the score with its interval, and the warnings."""

from __future__ import annotations

from dataclasses import dataclass

from mer_core.evaluate.classification import CELL_WORDS, CELLS
from mer_core.runs import Run

PROTOCOLS = {
    "grouped-5fold": "five folds that keep everything of one artist, album or piece together",
    "nested": "five folds by artist, album or piece, with parameters chosen inside each fold",
    "leaky-chunks": "pieces of the same tracks in training and test: a score that leaks",
}
NO_BETTER = "explanation not better than its controls"


@dataclass(frozen=True)
class Score:
    """One score: what it is called, in words what it means, and (value, low, high) with None where undefined."""

    name: str
    meaning: str
    interval: tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class Facts:
    """Everything that the pages say of the run as a whole.

    cells : counts of the four confusion cells, empty for ratings; badges : (words, sentence)
    trust : scores of the maps against controls by target, empty where they were not measured
    """

    run_id: str
    classifier: bool
    dataset: str
    n_tracks: int
    n_tested: int
    scale: tuple[float, float]
    targets: tuple[str, ...]
    model: str
    weights: tuple[str, ...]
    protocol: str
    classes: str
    scores: tuple[Score, ...]
    cells: dict[str, int]
    badges: tuple[tuple[str, str], ...]
    trust: dict
    notes: tuple[str, ...] = ()


def facts_of(run: Run, notes: list[str]) -> Facts:
    """Read them from the run; `notes` are what was told when the clips were chosen."""
    about, metrics = run.about, run.metrics
    classifier = "classification" in metrics
    trust = metrics.get("trust") or {}
    n_tested = metrics["classification"]["n"] if classifier else run.predictions["track_id"].nunique()
    return Facts(
        run_id=run.run_id,
        classifier=classifier,
        dataset=about["dataset"]["name"],
        n_tracks=about["dataset"]["n_tracks"],
        n_tested=int(n_tested),
        scale=tuple(about["dataset"]["scale"]),
        targets=tuple(about["targets"]),
        model=f"{about['model']} on {about['features']['name']}",
        weights=tuple(
            f"{each['name']} ({each.get('licence') or 'licence not told'})" for each in about.get("weights") or ()
        ),
        protocol=PROTOCOLS.get(about["protocol"], about["protocol"]),
        classes=about.get("classes", ""),
        scores=_scores(metrics, classifier),
        cells={cell: metrics["classification"]["cells"][cell] for cell in CELLS} if classifier else {},
        badges=_badges(about, trust),
        trust=trust,
        notes=tuple(notes),
    )


def _scores(metrics: dict, classifier: bool) -> tuple[Score, ...]:
    if classifier:
        meaning = "of happy and of sad clips called rightly, on average; guessing gives 50 %"
        return (Score("Balanced accuracy", meaning, tuple(metrics["classification"]["balanced_accuracy"])),)
    meaning = "of the differences between tracks explained (R²); always saying the average gives 0 %"
    return tuple(
        Score(target.capitalize(), meaning, tuple(parts["all"]["r2"])) for target, parts in metrics["targets"].items()
    )


def _badges(about: dict, trust: dict) -> tuple[tuple[str, str], ...]:
    """What limits the run's claims, as (words, sentence)."""
    found, weights = [], about.get("weights") or []
    if about["dataset"]["synthetic"]:
        said = (
            "The music was composed by a program and its ratings follow a formula plus noise: "
            "right for checking explanations, not evidence about listeners."
        )
        found.append(("synthetic data", said))
    if any(each["source"] == "random" for each in weights):
        found.append(("random weights", "No pretrained weights were loaded: its numbers mean nothing yet."))
    if any(each.get("saw_dataset") for each in weights):
        found.append(("saw this dataset", "The network was pretrained on this data, so its score is too good."))
    found += [("leaky protocol", leak["sentence"]) for leak in about.get("leaks") or ()]
    if not trust:
        said = "Nobody has yet measured whether the model really depends on the parts that these maps point at."
        found.append(("faithfulness not measured yet", said))
    elif any(each.get("better_than_controls") is False for each in trust.values() if isinstance(each, dict)):
        found.append((NO_BETTER, "Maps made at random do as well in the test of faithfulness."))
    return tuple(found)


def cell_words(cell: str) -> str:
    """A confusion cell as a reader says it, such as "Happy, taken for sad"."""
    words = CELL_WORDS[cell]
    return words[0].upper() + words[1:]
