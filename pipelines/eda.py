"""Explore a collection: ratings and their spread, and which features and metadata go with valence and arousal.

Every test of a table counts in its false discovery rate (Benjamini and Hochberg), so that the best of 2080 columns is
not called a finding for being the best.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from mer_core.errors import UserError
from pipelines import option


@dataclass(frozen=True)
class Config:
    """Options of `eda`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'")
    layout: str = option("auto", "layout of the folder", ("auto", "deam", "tracks"))
    labels: str = option(
        "corrected",
        "DEAM's static labels with valence and arousal put right for ids <= 1000, or as published",
        ("corrected", "published"),
    )
    features: str = option(
        "stats8",
        "stats8 (2080 columns), stats15 (3900), a backbone such as musicnn-msd or musicnn-msd-tags, a Parquet/CSV "
        "table keyed by track_id or song_id, or none",
    )
    weights: str = option(
        "", "pretrained weights: a folder, 'hub' to download, 'random' (empty: MER_WEIGHTS, or what packages bring)"
    )
    seed: int = option(42, "seed of the resampling")
    resamples: int = option(1000, "bootstrap resamples (over groups) of each interval")
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What a run's name is made of."""
    return config.dataset, config.features


def execute(config: Config, job, run_id: str, span: tuple[float, float] = (0.0, 1.0)) -> str:
    """Load the dataset, make the run folder, fill it; return the run's id."""
    from mer_core.datasets import load
    from mer_core.runs import RunWriter

    with RunWriter(run_id, "eda", config, job, span) as writer:
        writer.progress(0.0, f"loading {config.dataset}")
        run(config, load(config.dataset, config.layout, config.labels), writer)
    return run_id


def run(config: Config, dataset, writer) -> None:
    """Write the tables of the exploration and its summary; log what stands out."""
    from mer_core.evaluate import exploration
    from mer_core.runs import describe_dataset
    from pipelines.audit import track_table

    if config.resamples < 1:
        raise UserError(f"--resamples {config.resamples} is too small; give at least 1, such as 1000")
    table, messages = find_features(config, dataset, lambda f, message: writer.progress(0.1 + 0.6 * f, message))
    weights = None if table is None else list(table.weights) or None
    writer.about(dataset=describe_dataset(dataset), targets=list(dataset.targets), protocol=None, weights=weights)
    writer.about(seed=config.seed, features=None if table is None else describe_features(config.features, table))
    writer.progress(0.7, "ratings and metadata")
    tables = {
        "tracks": track_table(dataset),
        "eda_distributions": exploration.distributions(dataset),
        "eda_relation": exploration.relation(dataset, config.resamples, config.seed),
    }
    metadata = dataset.tracks.drop(columns=["path", "group"])
    if metadata["part"].nunique() == 1:
        metadata = metadata.drop(columns="part")
    found = exploration.associations(metadata, dataset.ratings)
    tables |= {"eda_metadata": found.table, "eda_levels": found.levels}
    messages += [f"metadata {name} not tested: {reason}" for name, reason in found.skipped]
    summary = {
        "distributions": tables["eda_distributions"],
        "relation": tables["eda_relation"],
        "metadata": found.table,
    }
    if table is not None:
        writer.progress(0.8, f"{table.values.shape[1]} columns and {len(dataset.targets)} ratings")
        summary |= explore_features(table, dataset, tables, messages)
    writer.progress(0.95, "writing tables")
    for name, content in tables.items():
        writer.write_table(name, content)
    summary = {key: rows(value) for key, value in summary.items()} | {"messages": messages}
    writer.write_json("metrics.json", {"schema": 1, "protocol": None, "targets": {}, "eda": summary})
    for sentence in [*sentences(tables, summary), *messages]:
        writer.log(sentence)
        print(sentence, file=sys.stderr)


def find_features(config: Config, dataset, progress) -> tuple:
    """The feature table, or None with the reason where there is none to be had."""
    if config.features == "none":
        return None, ["no features were asked for"]
    from mer_core.features.table import BUILDERS
    from mer_core.models.representations import build_representation

    try:
        workers, weights = config.workers or None, config.weights or None
        table = build_representation(config.features, dataset, workers, progress, weights)
    except UserError as error:
        if config.features not in BUILDERS:
            raise
        return None, [f"no features: {error}"]  # the ratings can be explored without
    left_out = [f"{len(table.failures)} of {len(dataset.tracks)} tracks have no features"] if table.failures else []
    return table, [*left_out, *table.notes]


def describe_features(name: str, table) -> dict:
    """What `run.json` says of the features."""
    return {
        "name": name,
        "source": table.source,
        "n_columns": table.values.shape[1],
        "failures": table.failures,
        "notes": table.notes,
    }


def explore_features(table, dataset, tables: dict, messages: list[str]) -> dict:
    """Correlations of features with ratings and the principal components; adds their tables, returns the summary."""
    from mer_core.evaluate import exploration

    meaning = table.columns[["group", "plain"]]
    ratings = dataset.ratings.loc[table.values.index]
    found = exploration.correlations(table.values, ratings)
    tables["eda_correlations"] = found.join(meaning, on="column")
    significant = (found["q"] <= exploration.LEVEL).groupby(found["target"], sort=False).sum()
    summary = {"columns": table.values.shape[1], "significant": significant.to_dict(), "level": exploration.LEVEL}
    components = exploration.principal_components(table.values, ratings)
    if components is None:
        messages.append("no principal components: fewer than four tracks or two columns that vary")
        return summary
    tables["pca_scores"] = components.scores.rename_axis("track_id").reset_index()
    tables["pca_components"] = components.components
    tables["pca_correlations"] = components.correlations
    tables["pca_loadings"] = components.loadings.join(meaning, on="column")
    return summary | {"components": components.components, "n_95": components.n_95}


def rows(value: object) -> object:
    """A table as a list of rows, anything else as it is."""
    return value.to_dict("records") if hasattr(value, "to_dict") and hasattr(value, "columns") else value


def sentences(tables: dict, summary: dict) -> list[str]:
    """What stands out, one line each."""
    said = []
    for row in tables["eda_relation"].itertuples():
        interval = f" ({row.pearson_low:.2f} to {row.pearson_high:.2f})" if row.pearson_low == row.pearson_low else ""
        said.append(f"{row.part}: valence and arousal correlate r = {row.pearson:.2f}{interval}, n = {row.n}")
    for target, count in summary.get("significant", {}).items():
        best = tables["eda_correlations"].query("target == @target").iloc[0]
        said.append(
            f"{target}: {count} of {summary['columns']} columns go with it at a false discovery rate of 5 %; "
            f"most {best['column']} (rho = {best['rho']:.2f})"
        )
    for row in tables["eda_metadata"].query("q <= 0.05").head(6).itertuples():
        said.append(
            f"{row.target}: {row.column} accounts for {row.eta2:.0%} of the variance (n = {row.n}, q = {row.q:.1g})"
        )
    if "n_95" in summary:
        first = summary["components"][0]["variance"]
        said.append(f"first component {first:.0%} of the variance; {summary['n_95']} components hold 95 %")
    return said
