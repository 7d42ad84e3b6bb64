"""Few columns instead of all: nested, SHAP-ranked or projected selection, its stability, and a model that predicts.

In every fold the columns are ranked, and their number is chosen, on the training part alone, so the scores are those of
the whole procedure on tracks that it has not seen. The final design is made afterwards from all tracks (without those
of a test part) and is what `predict` uses. The run is compared with the same model on all columns, on the same folds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from mer_core.errors import UserError
from pipelines import option
from pipelines.train import MODELS

PROTOCOLS = ("grouped-5fold", "original", "custom", "music2emo")


@dataclass(frozen=True)
class Config:
    """Options of `select`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'")
    layout: str = option("auto", "layout of the folder", ("auto", "deam", "tracks"))
    labels: str = option(
        "corrected",
        "DEAM's static labels with valence and arousal put right for ids <= 1000, or as published",
        ("corrected", "published"),
    )
    features: str = option("stats8", "as of train; with -decorrelated, columns that repeat another are not ranked")
    weights: str = option("", "folder of the pretrained networks that features are made with (default: MER_WEIGHTS)")
    granularity: str = option(
        "joint",
        "what columns compete within: the best k of each perceptual group, the best k statistics of each LLD, or the "
        "best of all",
        ("group", "lld", "joint"),
    )
    ranking: str = option(
        "projection",
        "shap: mean |SHAP| of forests; projection: which columns together reproduce a linear model on all columns",
        ("shap", "projection"),
    )
    model: str = option("ridge", "family of the regressor that sees the chosen columns", MODELS)
    fit: str = option(
        "teacher",
        "what that model learns: the ratings, or the predictions of ridge on all columns of the same training part",
        ("teacher", "ratings"),
    )
    k: int = option(0, "most columns of a block that are tried (0: 8, or as many as there are)")
    columns: int = option(0, "most columns in all (0: no limit, or 60 with --granularity joint)")
    rule: str = option(
        "auto",
        "how k is chosen inside the training part: least error (minimum); the smallest within one standard error of it "
        "(one-se); or the largest that is allowed, which is no choice (largest); auto: largest where --columns says "
        "how many are affordable, else minimum",
        ("auto", "minimum", "one-se", "largest"),
    )
    protocol: str = option("grouped-5fold", "how tracks are kept apart, as of train", PROTOCOLS)
    targets: tuple[str, ...] = option(("valence", "arousal"), "ratings to predict, comma-separated")
    explain: str = option("shap", "attributions of each out-of-fold prediction", ("shap", "none"))
    repeats: int = option(1, "times the folds are dealt to see how stable the choice is")
    seed: int = option(42, "seed of folds, models and resampling")
    resamples: int = option(1000, "bootstrap resamples (over groups) of each interval")
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What a run's name is made of."""
    return config.dataset, config.features, config.granularity, config.model


def execute(config: Config, job, run_id: str, span: tuple[float, float] = (0.0, 1.0)) -> str:
    """Load the dataset, make the run folder, fill it; return the run's id."""
    from mer_core.datasets import load
    from mer_core.runs import RunWriter

    with RunWriter(run_id, "select", config, job, span) as writer:
        writer.progress(0.0, f"loading {config.dataset}")
        dataset = load(config.dataset, config.layout, config.labels)
        run(config, dataset, writer)
    return run_id


def run(config: Config, dataset, writer) -> None:
    """Search inside every fold, test, compare with all columns, make the final design and model, write everything."""
    from mer_core.evaluate import selection
    from mer_core.evaluate.experiment import align, explanation_of, fit_folds
    from mer_core.models.representations import build_representation
    from pipelines import train

    config = replace(config, rule=rule_of(config))
    trained = train_config(config)
    check(config, trained, dataset)
    plan = train.plan_of(trained)
    stage = train.stage
    table = build_representation(plan.table, dataset, plan.workers, stage(writer, 0.0, 0.3), config.weights or None)
    data = align(plan, dataset, table)
    search = make_search(config, data)
    train.tell(data, writer)
    say_what_is_searched(search, data, writer)
    rounds = selection.search_designs(
        data, search, config.explain == "shap", plan.workers, named(stage(writer, 0.3, 0.7), "searching in each fold")
    )
    result = selection.as_cross_validation(data, search, rounds)
    ranking, choice = selection.final_ranking(data, search), selection.final_choice(data, search, rounds)
    everything = fit_folds(plan, data, False, stage(writer, 0.72, 0.78))
    k = search.sizes[choice.picked[config.rule]]
    designs = selection.repeated_designs(
        data, search, rounds, k, config.repeats, plan.workers, named(stage(writer, 0.78, 0.84), "ranking other folds")
    )
    few = replace(data, features=data.features.loc[:, ranking.design(k)])
    train.describe(trained, dataset, data, result, None, writer)
    train.write_scores(trained, dataset, data, result, writer)
    write_selection(config, data, search, rounds, (ranking, choice, designs), everything, writer)
    if config.explain == "shap":
        writer.write_explanation("shap", explanation_of(*used(data, result), dataset.scale))
    model = selection.final_model(data, search, ranking.design(k))
    train.write_model(replace(plan, features=plan.table), few, result, model, {}, writer)


def rule_of(config: Config) -> str:
    """The rule that is meant: who says how many columns are affordable wants the best design of as many."""
    if config.rule != "auto":
        return config.rule
    return "largest" if config.columns else "minimum"


def train_config(config: Config):
    """The options that `train` would have for the model on all columns."""
    from dataclasses import fields

    from pipelines import train

    shared = {item.name for item in fields(train.Config)}
    return train.Config(**{name: value for name, value in asdict(config).items() if name in shared})


def check(config: Config, trained, dataset) -> None:
    """Raise UserError for options that cannot be, before the long work begins."""
    from mer_core.models.regressors import FAMILIES
    from pipelines import train

    train.check(trained, dataset)
    if config.explain == "shap" and FAMILIES[config.model].explainer is None:
        raise UserError(
            f"--model {config.model} has no exact SHAP explainer; add --explain none, or choose another model"
        )
    if train.plan_of(trained).reduction not in (None, "decorrelated"):
        raise UserError(
            f"--features {config.features} makes components, which are no columns to select; give "
            f"{train.plan_of(trained).table}, or {train.plan_of(trained).table}-decorrelated"
        )
    if config.repeats < 1:
        raise UserError(f"--repeats {config.repeats} deals no folds; give at least 1")


def make_search(config: Config, data):
    """What is looked for, in these columns."""
    from mer_core.evaluate.selection import Search, blocks_of, sizes_of

    columns = data.table.columns.loc[data.features.columns]
    blocks = blocks_of(columns, config.granularity)
    return Search(
        config.granularity,
        config.ranking,
        config.model,
        config.seed,
        blocks,
        columns["group"].to_numpy().astype(str),
        sizes_of(blocks, config.granularity, config.k, config.columns),
        config.rule,
        config.fit,
        config.features.endswith("-decorrelated"),
    )


def say_what_is_searched(search, data, writer) -> None:
    """Log the size of the search, and columns that cannot be chosen."""
    sizes = ", ".join(map(str, search.sizes))
    writer.log(
        f"{len(data.features)} tracks x {len(search.blocks)} columns in {len(set(search.blocks))} blocks "
        f"({search.granularity}); k tried: {sizes}"
    )
    if constant := int((data.features.nunique() < 2).sum()):
        writer.log(f"{constant} columns are the same for every track and were not ranked")


def named(progress, message: str):
    """Progress that says what is being done."""
    return lambda fraction, _: progress(fraction, message)


def used(data, result):
    """Data and result without the columns that no fold's design has."""
    chosen = (result.values != 0).any(axis=(0, 2))
    return replace(data, features=data.features.loc[:, chosen]), replace(result, values=result.values[:, chosen])


def write_selection(config: Config, data, search, rounds, final: tuple, everything, writer) -> None:
    """Write `selection.json`, `design.json`, and the tables `curve`, `stability` and `selections`."""
    from mer_core.evaluate import selection_report as report
    from mer_core.evaluate.scoring import score_parts
    from mer_core.evaluate.selection import RULES, as_cross_validation

    ranking, choice, designs = final
    facts = report.design_facts(data, search, ranking, choice, config.rule)
    chosen = ranking.design(facts["k"])

    def scored(result) -> dict:
        true, groups, parts = (table.loc[result.tested] for table in (data.ratings, data.groups, data.parts))
        return score_parts(true, result.predicted, groups, parts, config.resamples, config.seed)

    rules = {}
    for rule in RULES:
        result = as_cross_validation(data, search, rounds, rule)
        ks = [about["k"] for about in result.chosen]
        counts = [int(one.ranking.design(k).sum()) for one, k in zip(rounds, ks, strict=True)]
        against = report.against_all(data, result, everything, config.resamples, config.seed)
        rules[rule] = {"k": ks, "columns": counts, "targets": scored(result), "against_all": against}
    writer.write_json("design.json", facts)
    writer.write_json(
        "selection.json",
        {
            "schema": 1,
            "granularity": config.granularity,
            "ranking": config.ranking,
            "rule": config.rule,
            "fit": config.fit,
            "sizes": search.sizes,
            "rules": rules,
            "all_columns": {"n": data.features.shape[1], "targets": scored(everything)},
            "stability": report.stability_facts(designs),
            "final": {"k": facts["k"], "columns": len(facts["columns"])},
        },
    )
    writer.write_table("curve", report.curve_table(data, search, rounds, config.resamples, config.seed))
    writer.write_table("stability", report.stability_table(data, designs, ranking, chosen))
    writer.write_table("selections", report.selections_table(designs))
    writer.log(report.sentence(rules[config.rule], data.features.shape[1], facts))
