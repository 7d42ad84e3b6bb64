"""Features x families x data sets: every cell tested once on the same folds, the choice made inside training parts."""

from __future__ import annotations

from collections.abc import Callable

from mer_core.errors import UserError
from pipelines.comparisons import listed, say
from pipelines.comparisons.served import caveats, families, label, load_all, served_tables, specs

PROTOCOL = "grouped-5fold"
MEASURES = ("r2", "rmse", "ccc", "pearson")


def compare(config, writer) -> None:
    """Fit and judge every cell; write `comparison.parquet` and `metrics.json`, print a table."""
    import pandas as pd

    from mer_core.runs import describe_dataset

    writer.progress(0.0, f"loading {config.dataset}")
    loaded = load_all(listed(config.dataset), config)
    features, missing = served_tables(loaded, config, lambda done, said: writer.progress(0.3 * done, said))
    datasets = list(loaded.values())
    tables, boards, refused, weights = [], {}, {}, []
    for number, (spec, dataset) in enumerate(loaded.items()):

        def told(done: float, said: str, number: int = number, dataset=dataset) -> None:
            writer.progress(0.3 + 0.7 * (number + done) / len(loaded), f"{dataset.name}: {said}")

        try:
            table, boards[dataset.name], found = board_of(config, dataset, features[spec], missing[spec], told)
        except UserError as error:
            refused[dataset.name] = str(error)
            continue
        tables.append(table)
        weights += [each for each in found if each not in weights]
    if not tables:
        raise UserError(next(iter(refused.values())))
    flat = pd.concat(tables, ignore_index=True)
    writer.about(
        dataset=describe_dataset(datasets[0]),
        datasets=[describe_dataset(dataset) for dataset in datasets],
        features={"name": ",".join(map(label, specs(config)))},
        model=",".join(families(config)),
        targets=list(dict.fromkeys(flat["target"])),
        protocol=PROTOCOL,
        seed=config.seed,
        weights=weights or None,
        refused=refused,
    )
    writer.write_table("comparison", flat)
    metrics = {"schema": 1, "protocol": PROTOCOL, "targets": {}, "boards": boards, "refused": refused}
    writer.write_json("metrics.json", metrics)
    lines = [line for name, board in boards.items() for line in told_of(name, board, flat[flat["dataset"] == name])]
    say([*lines, *(f"{name}: not done. {why}" for name, why in refused.items())], writer)


def board_of(config, dataset, tables: dict, missing: dict[str, str], progress: Callable):
    """Table and summary of one dataset, and the weights of pretrained networks behind its features."""
    from mer_core.evaluate.leaderboard import column_kind, judge
    from mer_core.evaluate.matrix import fit_matrix
    from mer_core.evaluate.protocols import make_split

    targets = varying_targets(config.targets, dataset)
    ratings = dataset.ratings[targets].dropna()
    found, refused = configurations(specs(config), tables, missing)
    if not found:
        raise UserError(f"no features can be served; {next(iter(refused))}: {next(iter(refused.values()))}")
    tracks = ratings.index
    for table in tables.values():
        tracks = tracks[tracks.isin(table.values.index)]
    check_tracks(tracks, dataset)
    ratings, groups = ratings.loc[tracks], dataset.tracks.loc[tracks, "group"]
    split = make_split(PROTOCOL, dataset, tracks, config.seed)
    matrix = fit_matrix(
        found,
        families(config),
        ratings,
        groups,
        split,
        config.seed,
        config.workers or None,
        lambda done, said: progress(0.95 * done, f"{said} rounds of {len(found)} feature sets"),
    )
    kinds = {one.name: column_kind(one) for one in found}
    table, summary = judge(matrix, kinds, config.resamples, config.seed)
    warned = {one.name: caveats(one.table) for one in found}
    table = table.assign(caveats=table["features"].map(warned), synthetic=dataset.synthetic)
    table.insert(0, "labels", dataset.label_version)
    table.insert(0, "dataset", dataset.name)
    facts = {"split_digest": split.digest(), "labels": dataset.label_version, "refused": refused | matrix.refused}
    weights = [each for one in found for each in one.table.weights]
    return table, summary | facts | {"sources": {one.name: one.table.source for one in found}}, weights


def varying_targets(targets: tuple[str, ...], dataset) -> list[str]:
    """Targets that can be learned; UserError where one is not rated or none varies."""
    from mer_core.evaluate.experiment import check_targets

    check_targets(targets, dataset)
    varying = [target for target in targets if dataset.ratings[target].nunique() > 1]
    if not varying:
        raise UserError(
            f"{' and '.join(targets)} of {dataset.name} are the same for every track: there is nothing to learn; "
            "check the ratings, or name other --targets"
        )
    return varying


def check_tracks(tracks, dataset) -> None:
    """Raise UserError where too few tracks have both features and ratings."""
    from mer_core.evaluate.experiment import FEWEST_TRACKS

    if len(tracks) < FEWEST_TRACKS:
        raise UserError(
            f"only {len(tracks)} tracks of {dataset.name} have both features and ratings; at least {FEWEST_TRACKS} "
            "are needed"
        )


def configurations(asked: tuple[str, ...], tables: dict, missing: dict[str, str]) -> tuple[list, dict[str, str]]:
    """Features that the dataset can be given, and {features: why not} of the others."""
    from mer_core.evaluate.matrix import Configuration
    from mer_core.models.reductions import split_reduction

    found, refused = [], {}
    for spec in asked:
        base, reduction = split_reduction(spec)
        if base in tables:
            found.append(Configuration(label(spec), tables[base], reduction))
        else:
            refused[label(spec)] = missing[base]
    return found, refused


def told_of(name: str, board: dict, table) -> list[str]:
    """Lines to read: the choice, its honest score, and every cell, best first."""
    plain = board["interpretable_procedure"]
    lines = [
        f"{name}: {board['n']} tracks, {board['n_groups']} groups, {board['n_folds']} folds, {board['n_cells']} cells",
        f"chosen inside the training parts: {_named(board['choice'])}; choosing anew in each fold scores "
        f"{_scores(board['procedure'])}",
        f"easiest to understand within one standard error ({board['standard_error']:.3f}): "
        f"{_named(board['interpretable'])}; choosing so in each fold scores {_scores(plain)}",
    ]
    targets = list(dict.fromkeys(table["target"]))
    head = "".join(f"R2, {target:22}{'rank':11}" for target in targets)
    width = max(len("features"), table["features"].str.len().max()) + 2
    lines.append(f"{'features':{width}}{'model':13}{'columns':>7}  {'inner':7}{head}")
    order = table.groupby(["features", "model"], sort=False)["r2"].mean().sort_values(ascending=False).index
    for features, model in order:
        rows = table[(table["features"] == features) & (table["model"] == model)].set_index("target")
        first = rows.iloc[0]
        cells = "".join(_cell(rows.loc[target]) for target in targets)
        marks = ", ".join(
            word for word, on in (("chosen", first["chosen"]), ("interpretable", first["interpretable"])) if on
        )
        caveat = f"({first['caveats']})" if first["caveats"] else ""
        lines.append(
            f"{features:{width}}{model:13}{first['columns']:>7}  {first['inner']:<7.3f}{cells}{marks} {caveat}".rstrip()
        )
    return lines + [f"{features}: refused. {why}" for features, why in board["refused"].items()]


def _named(cell: dict) -> str:
    return f"{cell['features']} with {cell['model']} ({cell['columns']} columns, inner score {cell['inner']:.3f})"


def _scores(procedure: dict) -> str:
    words = []
    for target, scores in procedure.items():
        value, low, high = scores["r2"]
        words.append(f"{target} R2 {value:.3f}" + ("" if low != low else f" [{low:.3f}, {high:.3f}]"))
    return ", ".join(words)


def _cell(row) -> str:
    interval = "" if row["r2_low"] != row["r2_low"] else f" [{row['r2_low']:.3f}, {row['r2_high']:.3f}]"
    rank = f"{row['rank']:.0f} ({row['rank_low']:.0f}-{row['rank_high']:.0f})"
    return f"{row['r2']:.3f}{interval}".ljust(26) + rank.ljust(11) + " "
