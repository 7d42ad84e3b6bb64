"""From data set to data set: learn on one, predict the other, on the columns that both have."""

from __future__ import annotations

from mer_core.errors import UserError
from pipelines.comparisons import listed, say
from pipelines.comparisons.served import families, label, load_all, saw, served_tables, specs

MEASURES = ("r2", "rmse", "ccc", "pearson", "r2_aligned")


def compare(config, writer) -> None:
    """Predict every dataset of --test-on by models of every one of --train-on; write `transfer.parquet`, print it."""
    import pandas as pd

    from mer_core.runs import describe_dataset

    learn, predict = listed(config.train_on), listed(config.test_on)
    writer.progress(0.0, f"loading {', '.join(dict.fromkeys(learn + predict))}")
    datasets = load_all(tuple(dict.fromkeys(learn + predict)), config)
    targets = shared_targets(config.targets, list(datasets.values()))
    tables = tables_of(config, datasets, writer)
    pairs = [(a, b) for a in learn for b in predict]
    rows, refused, notes = [], {}, []
    for number, (a, b) in enumerate(pairs):
        writer.progress(0.4 + 0.55 * number / len(pairs), f"{datasets[a].name} to {datasets[b].name}")
        try:
            found, said = rows_of(config, (datasets[a], tables[a]), (datasets[b], tables[b]), targets)
        except UserError as error:
            refused[f"{datasets[a].name} to {datasets[b].name}"] = str(error)
            continue
        rows, notes = rows + found, notes + said
    if not rows:
        raise UserError(next(iter(refused.values())))
    flat, notes = pd.DataFrame(rows), list(dict.fromkeys(notes))
    weights = [each for found in tables.values() for table in found.values() for each in table.weights]
    writer.about(
        dataset=describe_dataset(datasets[predict[0]]),
        datasets=[describe_dataset(dataset) for dataset in datasets.values()],
        features={"name": ",".join(map(label, specs(config)))},
        model=",".join(families(config)),
        targets=targets,
        protocol=None,
        seed=config.seed,
        weights=[each for i, each in enumerate(weights) if each not in weights[:i]] or None,
        notes=notes,
        refused=refused,
    )
    writer.write_table("transfer", flat)
    metrics = {"schema": 1, "protocol": None, "targets": {}, "transfer": rows, "refused": refused, "notes": notes}
    writer.write_json("metrics.json", metrics)
    say([*told_of(flat), *notes, *(f"{name}: not done. {why}" for name, why in refused.items())], writer)


def shared_targets(wanted: tuple[str, ...], datasets: list) -> list[str]:
    """Targets that vary in every dataset; UserError where there is none."""
    targets = [
        name
        for name in wanted
        if all(name in dataset.targets and dataset.ratings[name].nunique() > 1 for dataset in datasets)
    ]
    if not targets:
        rated = "; ".join(f"{dataset.name} rates {', '.join(dataset.targets)}" for dataset in datasets)
        raise UserError(f"--targets {','.join(wanted)}: no rating that all have and that varies ({rated}); name others")
    return targets


def tables_of(config, datasets: dict, writer) -> dict[str, dict]:
    """{dataset: {base: FeatureTable}}; UserError where a dataset can be given none of the features."""
    found, refused = served_tables(datasets, config, lambda done, said: writer.progress(0.4 * done, said))
    for name, tables in found.items():
        if not tables:
            base, why = next(iter(refused[name].items()))
            raise UserError(f"{datasets[name].name} can be given none of the --features; {label(base)}: {why}")
    return found


def rows_of(config, learn: tuple, predict: tuple, targets: list[str]) -> tuple[list[dict], list[str]]:
    """Scores from one dataset to another, a row per features, model, scaling and target; and what must be known."""
    from mer_core.evaluate.transfer import ALIGNMENTS, make_side, same_data, score_transfer, transfer

    rows, notes = [], notes_on(learn, predict, specs(config))
    for name, reduction, a, b in paired_tables(learn[1], predict[1], specs(config)):
        train, test = make_side(learn[0], a, targets), make_side(predict[0], b, targets)
        for model in families(config):
            for align in ALIGNMENTS if config.align == "both" else (config.align,):
                found = transfer(train, test, model, reduction, align, config.seed, config.workers or None)
                facts = {"train": learn[0].name, "test": predict[0].name, "features": name, "model": model}
                facts |= {"align": align, "same": same_data(learn[0], predict[0]), "n_train": len(train.ratings)}
                facts |= {"n": len(test.ratings), "shared": found.shared, "columns": found.columns}
                facts |= {"saw": saw(b), "synthetic": learn[0].synthetic or predict[0].synthetic}
                scores = score_transfer(test, found.predicted, config.resamples, config.seed)
                home = score_transfer(test, found.at_home, config.resamples, config.seed)
                rows += [
                    facts | {"target": target} | flat(scores[target]) | flat(home[target], "home_")
                    for target in targets
                ]
    return rows, notes


def flat(scores: dict[str, list], prefix: str = "") -> dict[str, float]:
    """{"r2": ..., "r2_low": ..., "r2_high": ..., ...}, with a prefix."""
    return {
        prefix + name + ending: value
        for name in MEASURES
        for ending, value in zip(("", "_low", "_high"), scores[name], strict=True)
    }


def paired_tables(a: dict, b: dict, asked: tuple[str, ...]) -> list[tuple]:
    """(name, reduction, table of one, table of the other) for all features that both can be given.

    Where there are none, the first that each can be given, joined on what their columns mean.
    """
    from mer_core.models.reductions import split_reduction

    both = []
    for spec in asked:
        base, reduction = split_reduction(spec)
        if base in a and base in b:
            both.append((label(spec), reduction, a[base], b[base]))
    if both:
        return both
    first, second = next(iter(a)), next(iter(b))
    return [(f"{label(first)} to {label(second)}", None, a[first], b[second])]


def notes_on(learn: tuple, predict: tuple, asked: tuple[str, ...]) -> list[str]:
    """Sentences on features that were made differently, scales that differ, and tracks that both have."""
    from mer_core.evaluate.quality import dataset_overlap
    from mer_core.evaluate.transfer import same_data

    (one, a), (other, b) = learn, predict
    if same_data(one, other):
        return [f"{one.name} to itself: five grouped folds, on the same columns and with the same model."]
    notes = []
    for name, _, first, second in paired_tables(a, b, asked):
        if first.source != second.source:
            notes.append(
                f"{name}: the columns of {one.name} ({first.source}) and of {other.name} ({second.source}) come from "
                "different sources; published and recomputed descriptors have the same names, not the same values."
            )
    if one.scale != other.scale:
        (low, high), (down, up) = one.scale, other.scale
        notes.append(
            f"Predictions on {one.name}'s scale {low:g}-{high:g} are mapped linearly onto {other.name}'s "
            f"{down:g}-{up:g}."
        )
    overlap = dataset_overlap(other, one)
    if max(overlap["audio"], overlap["songs"], overlap["ids"]):
        notes.append(f"{overlap['sentence']} These tracks are learned from and tested, so that scores are too good.")
    return notes


def told_of(table) -> list[str]:
    """Lines to read, a row per pair, features, model, scaling and target."""
    width = max(len("features"), table["features"].str.len().max()) + 2
    names = [f"{row.train} to {row.test}" for row in table.itertuples()]
    wide = max(map(len, names)) + 2
    lines = [
        f"{'from, to':{wide}}{'features':{width}}{'model':13}{'scaled in':10}{'target':10}{'columns':>7}  "
        f"{'r':24}{'R2':27}{'R2 at home':27}{'R2 aligned':10}"
    ]
    for name, row in zip(names, table.to_dict("records"), strict=True):
        lines.append(
            f"{name:{wide}}{row['features']:{width}}{row['model']:13}{row['align']:10}{row['target']:10}"
            f"{row['columns']:>7}  {_cell(row, 'pearson'):24}{_cell(row, 'r2'):27}{_cell(row, 'home_r2'):27}"
            f"{row['r2_aligned']:.3f}"
        )
    return lines


def _cell(row: dict, measure: str) -> str:
    value, low, high = row[measure], row[f"{measure}_low"], row[f"{measure}_high"]
    return f"{value:.3f}" + ("" if low != low else f" [{low:.3f}, {high:.3f}]")
