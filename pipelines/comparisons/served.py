"""Data sets and the features that they can be given; what cannot be served is listed with its reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mer_core.errors import UserError
from pipelines.comparisons import listed
from pipelines.train import MODELS

STATISTICS = tuple(
    base + reduction
    for reduction in ("", "-decorrelated", "-group-pca", "-global-pca")
    for base in ("stats8", "stats15")
)
CORRECTED = "corrected"


def specs(config) -> tuple[str, ...]:
    """Features asked for; "all" names the eight sets of statistics."""
    return STATISTICS if config.features == "all" else listed(config.features)


def families(config) -> tuple[str, ...]:
    """Families asked for; "all" names every one."""
    return MODELS if "all" in config.models else tuple(dict.fromkeys(config.models)) or (config.model,)


def label(spec: str) -> str:
    """Name of features in tables: that of the file, without its folder, where they come from one."""
    from mer_core.models.reductions import split_reduction

    base, reduction = split_reduction(spec)
    name = Path(base).stem if Path(base).is_file() else base
    return f"{name}-{reduction}" if reduction else name


def load_all(names: tuple[str, ...], config) -> dict:
    """{spec: Dataset}; labels are the corrected ones where both are asked for."""
    from mer_core.datasets import load

    version = CORRECTED if config.labels == "both" else config.labels
    return {name: load(name, config.layout, version) for name in names}


def served_tables(datasets: dict, config, progress: Callable) -> tuple[dict[str, dict], dict[str, dict[str, str]]]:
    """The features asked for, without their reductions, for every dataset.

    Returns
    -------
    {dataset: {base: FeatureTable}} and {dataset: {base: why it cannot be served}}
    """
    from mer_core.evaluate.matrix import complete_tables
    from mer_core.models.reductions import split_reduction

    bases = list(dict.fromkeys(split_reduction(name)[0] for name in specs(config)))
    strangers = foreign_files(datasets, bases)
    found, refused = {}, {}
    for number, (name, dataset) in enumerate(datasets.items()):

        def told(done: float, said: str, number: int = number, dataset=dataset) -> None:
            progress((number + done) / len(datasets), f"{dataset.name}: {said}")

        own = [base for base in bases if base not in strangers[name]]
        tables, missing = build_tables(dataset, own, config, told)
        tables, short = complete_tables(tables, dataset.ratings.dropna(how="all").index)
        found[name], refused[name] = tables, strangers[name] | missing | short
    return found, refused


def build_tables(dataset, bases: list[str], config, progress: Callable) -> tuple[dict, dict[str, str]]:
    """{base: FeatureTable}, and {base: why it cannot be served}."""
    from mer_core.models.representations import build_representation

    tables, refused = {}, {}
    for number, base in enumerate(bases):

        def told(done: float, said: str, number: int = number) -> None:
            progress((number + done) / len(bases), said)

        try:
            tables[base] = build_representation(base, dataset, config.workers or None, told, config.weights or None)
        except UserError as error:
            refused[base] = str(error)
    return tables, refused


def foreign_files(datasets: dict, bases: list[str]) -> dict[str, dict[str, str]]:
    """{dataset: {file: why it is not its own}}.

    Ids are often plain numbers, so that rows of one dataset can have the ids of another's tracks. A row can belong to
    one of them only: to the dataset that the file fits best.
    """
    from mer_core.features.table import read_table

    refused = {name: {} for name in datasets}
    for base in [base for base in bases if Path(base).is_file()] if len(datasets) > 1 else []:
        rows = read_table(Path(base)).index
        matched = {name: rows[rows.isin(dataset.tracks.index)] for name, dataset in datasets.items()}
        fit = {name: len(ids) / len(rows.union(datasets[name].tracks.index)) for name, ids in matched.items()}
        best = max(fit, key=fit.get)
        for name, ids in matched.items():
            if name != best and ids.isin(matched[best]).any():
                refused[name][base] = (
                    f"its rows are those of {datasets[best].name}, whose tracks happen to have the same ids"
                )
    return refused


def caveats(table) -> str:
    """Why scores made with pretrained networks prove little: "random weights", "saw this dataset", or nothing."""
    found = ["random weights"] if any(each.get("source") == "random" for each in table.weights) else []
    return ", ".join(found + (["saw this dataset"] if saw(table) else []))


def saw(table) -> bool:
    """Whether a network behind the table was trained on the table's own tracks, as far as its registry says."""
    return any(each.get("saw_dataset") for each in table.weights)
