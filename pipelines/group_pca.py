"""Principal components of each perceptual group: how many, seen by which family, chosen inside training parts.

Every count is scored by inner folds of each training part with one fast family (the probe), the board of families is
scored on the same outer folds at the counts chosen there, and the family with the least inner error makes the run: its
out-of-fold scores, a permutation test, attributions to components and to whole groups, and a model that predicts.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace

from mer_core.errors import UserError
from pipelines import option
from pipelines.train import MODELS

BOARD = ("ridge", "elasticnet", "svr", "forest", "boosting")
PROTOCOLS = ("grouped-5fold", "original", "custom", "music2emo")
AUTO = ("auto",)
REDUCTION = "group-pca"


@dataclass(frozen=True)
class Config:
    """Options of `group_pca`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'")
    layout: str = option("auto", "layout of the folder", ("auto", "deam", "tracks"))
    labels: str = option(
        "corrected",
        "DEAM's static labels with valence and arousal put right for ids <= 1000, or as published",
        ("corrected", "published"),
    )
    features: str = option("stats8", "stats8, stats15, or a table with columns named like theirs; without a reduction")
    weights: str = option("", "pretrained weights, as in train")
    components: tuple[str, ...] = option(
        AUTO, "numbers of components of each group to try, such as 1,2,4,all (auto: 1 to 16, as far as they exist)"
    )
    probe: str = option("ridge", "family that the numbers are tried with", MODELS)
    rule: str = option(
        "minimum",
        "number with the least inner error, or the least number within one standard error",
        ("minimum", "one-se"),
    )
    families: tuple[str, ...] = option(BOARD, "families of the board, comma-separated")
    protocol: str = option("grouped-5fold", "how tracks are kept apart, as in train", PROTOCOLS)
    targets: tuple[str, ...] = option(("valence", "arousal"), "ratings to predict, comma-separated")
    explain: str = option("all", "attributions of the winner: components (not svr) and groups", ("all", "none"))
    seed: int = option(42, "seed of folds, models and resampling")
    resamples: int = option(1000, "bootstrap resamples (over groups) of each interval")
    permutations: int = option(
        100, "exchanges of the ratings among groups, to test the winner against chance (0: none)"
    )
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What a run's name is made of."""
    return config.dataset, config.features


def execute(config: Config, job, run_id: str, span: tuple[float, float] = (0.0, 1.0)) -> str:
    """Load the dataset, make the run folder, fill it; return the run's id."""
    return execute_route("group_pca", REDUCTION, config, job, run_id, span)


def execute_route(pipeline: str, reduction: str, config, job, run_id: str, span: tuple[float, float]) -> str:
    """Make a run of one of the two routes."""
    from mer_core.datasets import load
    from mer_core.runs import RunWriter

    with RunWriter(run_id, pipeline, config, job, span) as writer:
        writer.progress(0.0, f"loading {config.dataset}")
        run(config, load(config.dataset, config.layout, config.labels), writer, reduction)
    return run_id


def run(config: Config, dataset, writer, reduction: str) -> None:
    """Choose numbers of components and the family, then write what `train` writes of the winner, and the choice."""
    from mer_core.evaluate import pca_routes
    from mer_core.evaluate.experiment import align
    from mer_core.models.representations import build_representation
    from pipelines import train

    trained, wanted = check(config, dataset, reduction), () if config.components == AUTO else config.components
    largest, workers = pca_routes.largest_of(wanted, reduction), config.workers or None
    plan = train.plan_of(trained)
    table = build_representation(plan.table, dataset, workers, train.stage(writer, 0.0, 0.3), config.weights or None)
    data = align(plan, dataset, table)
    train.tell(data, writer)
    parts = train.stage(writer, 0.3, 0.36)
    folds = pca_routes.fit_parts(
        data, reduction, largest, config.seed, workers, lambda done, _: parts(done, "finding components")
    )
    counts = pca_routes.counts_to_try(wanted, reduction, folds)
    trying = train.stage(writer, 0.36, 0.45)
    sweep = pca_routes.sweep(
        data, folds, counts, config.probe, config.seed, workers, lambda done, _: trying(done, f"trying {counts}")
    )
    writer.write_table("sweep", sweep)
    chosen = pca_routes.choose(sweep, config.rule)
    boarding = train.stage(writer, 0.45, 0.6)
    board = pca_routes.board(
        data, folds, chosen, config.families, config.seed, config.resamples, workers,
        lambda done, _: boarding(done, f"board of {len(config.families)} families"),
    )  # fmt: skip
    writer.write_table("board", board)
    say(sweep, chosen, board, writer)
    tested = None
    if config.permutations:
        tested = pca_routes.permutation(
            data, folds, chosen, board["family"].iloc[0], config.permutations, config.seed, workers,
            train.stage(writer, 0.6, 0.75),
        )  # fmt: skip
    write_winner(config, trained, dataset, data, (sweep, chosen, board, tested), writer)


def check(config: Config, dataset, reduction: str):
    """The winner's options for `train`, its family still open; UserError for options that cannot be."""
    from mer_core.models.reductions import split_reduction
    from mer_core.models.regressors import FAMILIES
    from pipelines import train

    if not config.families or (unknown := [name for name in config.families if name not in FAMILIES]):
        what = f"{unknown[0]!r} is unknown" if config.families else "names none"
        raise UserError(f"--families {what}; choose from {', '.join(FAMILIES)}")
    if already := split_reduction(config.features)[1]:
        raise UserError(f"--features {config.features} is reduced already; leave -{already} out")
    known = {item.name for item in fields(train.Config)} & {item.name for item in fields(config)}
    options = {name: getattr(config, name) for name in known} | {"model": config.families[0], "explain": "none"}
    trained = train.Config(**options | {"features": f"{config.features}-{reduction}"})
    train.check(trained, dataset)
    return replace(trained, permutations=0)  # the route has a test of its own


def say(sweep, chosen: dict[str, int], board, writer) -> None:
    """Log and print what was chosen and how the families did."""
    from mer_core.evaluate.pca_routes import ALL

    per_fold = ", ".join(str(count) for fold, count in chosen.items() if fold != ALL)
    lines = [f"components chosen in each training part: {per_fold}; for the final model: {chosen[ALL]}"]
    lines.append(f"{'family':12} {'target':10} {'inner RMSE':>10}  R2 (95 % interval)      RMSE")
    for row in board.itertuples():
        interval = f"({row.r2_low:.3f} to {row.r2_high:.3f})" if row.r2_low == row.r2_low else ""
        mark = "*" if row.winner else ""
        head = f"{row.family + mark:12} {row.target:10} {row.inner_rmse:10.3f}"
        lines.append(f"{head}  {row.r2:.3f} {interval:18} {row.rmse:.3f}")
    lines.append("* least inner error, mean over targets")
    for line in lines:
        writer.log(line)
        print(line, file=sys.stderr)


def write_winner(config: Config, trained, dataset, data, choice: tuple, writer) -> None:
    """Everything that a run of `train` has, made by the winner, and the tables of the final model's components."""
    from mer_core.evaluate.experiment import explanation_of, final_model, fit_folds
    from mer_core.evaluate.pca_routes import ALL, descriptive_tables
    from mer_core.models.regressors import FAMILIES
    from pipelines import train

    sweep, chosen, board, tested = choice
    trained = replace(trained, model=board["family"].iloc[0])
    plan = train.plan_of(trained)
    components = {part: chosen[str(part)] for part, _, _ in data.split.rounds()}
    methods = ["grouped"] if config.explain == "all" and data.table.columns["group"].nunique() <= 8 else []
    if config.explain == "all" and FAMILIES[trained.model].explainer is not None:
        methods.append("shap")
    for number, method in enumerate(methods or [None]):
        stage = train.stage(writer, 0.75 + 0.04 * number, 0.79 + 0.04 * number)
        result = fit_folds(plan, data, method is not None, stage, method=method or "shap", components=components)
        if method:
            writer.write_explanation(method, explanation_of(data, result, dataset.scale, method))
    model, parameters = final_model(plan, data, chosen[ALL])
    train.describe(trained, dataset, data, result, train.about_reduction(plan, model, result), writer)
    more = {"pca": summary(config, plan.reduction, sweep, chosen, board)}
    train.write_scores(
        trained, dataset, data, result, writer, more | ({} if tested is None else {"permutation": tested})
    )
    train.write_model(plan, data, result, model, parameters, writer)
    for name, table in descriptive_tables(model, data).items():
        writer.write_table(name, table)


def summary(config: Config, reduction: str, sweep, chosen: dict[str, int], board) -> dict:
    """What `metrics.json` says of the choice; the outer joint RMSE of the probe under both rules, a mean over folds."""
    from mer_core.evaluate.pca_routes import ALL, INNER_FOLDS, JOINT, RULES, choose

    joint = sweep[sweep["target"] == JOINT].set_index(["fold", "components"])["outer_rmse"]
    rules = {}
    for rule in RULES:
        counts = choose(sweep, rule)
        outer = [joint[fold, count] for fold, count in counts.items() if fold != ALL]
        rules[rule] = {"components": counts, "outer_joint_rmse": sum(outer) / len(outer)}
    return {
        "reduction": reduction,
        "unit": "components of each group" if reduction == REDUCTION else "components",
        "tried": sorted(sweep["components"].unique()),
        "probe": config.probe,
        "inner_folds": INNER_FOLDS,
        "rule": config.rule,
        "chosen": chosen,
        "rules": rules,
        "families": config.families,
        "winner": board["family"].iloc[0],
        "note": "tables scores, correlations, loadings and spectrum describe components fitted on all tracks, to look "
        "at; every score comes from components of its own training part",
    }
