"""What a mid-level run writes: predictions, qualities, weights, effects, costs, and a model that predicts."""

from __future__ import annotations

from mer_core.errors import UserError

BASELINE = "constant"


def write(config, dataset, found, notes, writer) -> None:
    """Fill the run's folder; `found` is a `mer_core.evaluate.midlevel.Comparison`."""
    writer.progress(0.72, f"scoring with {config.resamples} resamples over groups")
    describe(config, dataset, found, notes, writer)
    write_scores(config, dataset, found, writer)
    write_schemes(found, writer)
    if found.results[found.main].qualities is not None:
        write_map(config, found, writer)
    write_model(config, found, writer)
    write_maps(config, dataset, found, writer)


def describe(config, dataset, found, notes, writer) -> None:
    """Say in `run.json` what the run was made from."""
    from mer_core.datasets.midlevel_ratings import KINDS
    from mer_core.runs import describe_dataset
    from pipelines.midlevel import INTERVAL_LEVEL

    targets = found.targets
    trained = "trained here" if config.network == "vgg" else config.head
    writer.about(
        dataset=describe_dataset(dataset),
        features={
            "name": config.network,
            "source": found.table.source,
            "n_columns": found.table.values.shape[1],
            "failures": found.left_out,
            "notes": found.notes,
        },
        model=f"{found.main}, {trained}",
        targets=list(found.data.ratings),
        protocol="grouped-5fold",
        midlevel={
            "kind": targets.kind,
            "kind_in_words": KINDS[targets.kind],
            "source": targets.source,
            "qualities": list(found.data.qualities),
            "main": found.main,
            "schemes": list(found.results),
            "trades": found.results[found.main].trades,
        },
        leaks=[],
        notes=list(notes),
        split_digest=found.split.digest(),
        split_sizes=found.split.assignment.value_counts().sort_index().to_dict(),
        seed=config.seed,
        weights=list(found.table.weights) or None,
        interval_level=INTERVAL_LEVEL,
    )


def write_scores(config, dataset, found, writer) -> None:
    """Write `metrics.json`, `intervals.json`, `predictions`, `tracks`, `neighbours` of the main scheme."""
    from mer_core.evaluate import midlevel
    from mer_core.evaluate.cross_validation import constant_predictions
    from mer_core.evaluate.experiment import Data, track_table
    from mer_core.evaluate.intervals import coverage, interval_summary
    from mer_core.evaluate.regions import region_maps
    from mer_core.evaluate.scoring import ceilings, prediction_rows, score_parts
    from mer_core.features.neighbours import nearest_tracks
    from pipelines.midlevel import INTERVAL_LEVEL

    data, result = found.data, found.results[found.main]
    true, parts = data.ratings, dataset.tracks["part"].loc[data.ratings.index]
    order = (data.groups, config.resamples, config.seed)

    def scored(predicted) -> dict:
        return score_parts(true, predicted, data.groups, parts, *order[1:])

    predicted, fold = result.ratings.to_numpy(), result.fold.to_numpy()
    scores, errors = scored(predicted), true - predicted
    cost = midlevel.cost_table(found.results, true, *order)
    qualities = midlevel.quality_scores(found.results, data.qualities, *order)
    rows = prediction_rows(true, predicted, parts, fold, INTERVAL_LEVEL)
    metrics = {
        "schema": 1,
        "protocol": "grouped-5fold",
        "targets": scores,
        "baselines": {BASELINE: scored(constant_predictions(true, found.split).loc[true.index].to_numpy())},
        "ceiling": ceilings(true, parts, dataset, scores),
        "coverage": coverage(errors, fold, parts),
        "leaks": [],
        "regions": region_maps(rows),
        "midlevel": {"cost": cost.to_dict("records"), "qualities": qualities.to_dict("records")},
    }
    if (signs := _signs(dataset, found)) is not None:
        metrics["midlevel"]["cue_signs"] = signs
    writer.write_json("metrics.json", metrics)
    writer.write_json("intervals.json", {"schema": 1, "levels": interval_summary(errors)})
    writer.write_table("predictions", rows)
    whole = Data(found.table, data.features, true, data.groups, parts, found.split, found.left_out, [], ())
    writer.write_table("tracks", track_table(dataset, whole))
    near = data.features if data.features.shape[1] else result.ratings
    writer.write_table("neighbours", nearest_tracks(near))
    _log(cost, qualities, writer)


def _log(cost, qualities, writer) -> None:
    for row in cost[(cost["rating"] == "mean") & (cost["metric"] == "pearson")].to_dict("records"):
        lost = "" if "cost" not in row else f", cost {row['cost']:.3f} [{row['cost_low']:.3f}, {row['cost_high']:.3f}]"
        writer.log(f"{row['scheme']}: mean r {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]{lost}")
    for scheme, rows in qualities.groupby("scheme", sort=False):
        told = ", ".join(f"{name} {r:.2f}" for name, r in zip(rows["quality"], rows["pearson"], strict=True))
        writer.log(f"{scheme}, qualities of unseen tracks, r: {told}")


def _signs(dataset, found) -> dict | None:
    """Where cues were planted: in how many of them, over all folds' maps, the ratings follow them."""
    import json

    import pandas as pd

    from mer_core.evaluate.midlevel import cue_signs

    planted, truth = dataset.root / "weights.json", dataset.root / "truth.csv"
    if not (planted.is_file() and truth.is_file()):
        return None
    weights = pd.DataFrame(json.loads(planted.read_text(encoding="utf-8"))["weights"])
    table = pd.read_csv(truth, dtype={"track_id": str}).set_index("track_id")
    names = [name for name in found.data.ratings if name in weights]
    if not names or (missing := [cue for cue in weights.index if f"z_{cue}" not in table]) and missing:
        return None
    told = {}
    for scheme, result in found.results.items():
        tracks = result.ratings.index
        cues = table.loc[tracks, [f"z_{cue}" for cue in weights.index]].set_axis(list(weights.index), axis=1)
        by_fold = [
            cue_signs(result.ratings.loc[rows, names], cues.loc[rows], weights[names])
            for rows in (tracks[result.fold == number] for number in sorted(result.fold.unique()))
        ]
        all_tracks = cue_signs(result.ratings[names], cues, weights[names])
        told[scheme] = {
            "share": float(all_tracks["right"].mean()),
            "share_over_folds": float(pd.concat(by_fold)["right"].mean()),
            "cues": all_tracks.to_dict("records"),
        }
    return told


def write_schemes(found, writer) -> None:
    """Write `schemes` and `qualities`: what each scheme predicts of every track, long tables."""
    import pandas as pd

    ratings, qualities = [], []
    for scheme, result in found.results.items():
        ratings.append(_long(scheme, result.ratings, found.data.ratings, result.fold, "rating"))
        if result.qualities is not None:
            qualities.append(_long(scheme, result.qualities, found.data.qualities, result.fold, "quality"))
    writer.write_table("schemes", pd.concat(ratings, ignore_index=True))
    if qualities:
        writer.write_table("qualities", pd.concat(qualities, ignore_index=True))


def _long(scheme: str, predicted, true, fold, what: str):
    """Columns scheme, track_id, fold, rating or quality, true, predicted."""
    import pandas as pd

    parts = [
        pd.DataFrame(
            {
                "scheme": scheme,
                "track_id": true.index,
                "fold": fold.to_numpy(),
                what: name,
                "true": true[name].to_numpy(),
            }
        ).assign(predicted=predicted[name].to_numpy())
        for name in true
    ]
    return pd.concat(parts, ignore_index=True)


def write_map(config, found, writer) -> None:
    """Write `midlevel.json` (maps, formulas, questions), `weights` with intervals and `effects` of every track."""
    import pandas as pd

    from mer_core.datasets.midlevel_ratings import QUESTIONS
    from mer_core.evaluate.midlevel import weight_intervals

    data, tables, told = found.data, [], {}
    for scheme, result in found.results.items():
        if result.qualities is None:
            continue
        sure = weight_intervals(result.qualities, data.ratings, data.groups, config.resamples, config.seed)
        tables.append(sure.assign(scheme=scheme))
        final = found.final[scheme].map
        told[scheme] = {
            "final": final.as_dict(),
            "folds": {str(number): one.as_dict() for number, one in result.maps.items()},
            "formulas": {rating: final.formula(rating) for rating in final.ratings},
        }
    writer.write_table("weights", pd.concat(tables, ignore_index=True))
    result, rows = found.results[found.main], []
    for number, used in result.maps.items():
        tracks = result.fold.index[result.fold == number]
        values = result.qualities.loc[tracks]
        effects, z = used.effects(values.to_numpy()), (values.to_numpy() - used.centre) / used.spread
        for j, rating in enumerate(used.ratings):
            for i, quality in enumerate(used.qualities):
                rows.append(
                    pd.DataFrame({"track_id": tracks, "quality": quality, "rating": rating, "z": z[:, i]}).assign(
                        weight=used.weights[i, j], effect=effects[:, i, j]
                    )
                )
    writer.write_table("effects", pd.concat(rows, ignore_index=True))
    questions = {name: QUESTIONS[name] for name in data.qualities}
    writer.write_json(
        "midlevel.json",
        {"schema": 1, "kind": found.targets.kind, "main": found.main, "questions": questions, "schemes": told},
    )


def write_model(config, found, writer) -> None:
    """Save the final model of the main scheme, what it needs, and the half width of its intervals."""
    from mer_core.evaluate.intervals import interval_summary
    from mer_core.models.store import save_model
    from pipelines.midlevel import INTERVAL_LEVEL

    writer.progress(0.9, "writing the model")
    data, final = found.data, found.final[found.main]
    levels = interval_summary(data.ratings - found.results[found.main].ratings)
    (writer.folder / "model").mkdir()
    facts = {
        "schema": 1,
        "targets": list(data.ratings),
        "qualities": list(data.qualities) if final.map is not None else [],
        "columns": list(data.features),
        "parameters": {},
        "interval_level": INTERVAL_LEVEL,
        "interval_halfwidth": levels[str(INTERVAL_LEVEL)]["halfwidth"],
        "ellipse": {level: about["ellipse"] for level, about in levels.items()},
    }
    if config.network == "vgg":
        from mer_core.models.midlevel_network import save_network

        facts |= {"network": "vgg"}
        save_network(writer.folder / "model", final)
    else:
        save_model(writer.folder / "model" / "model.skops", final.estimator())
    writer.write_json("model/model.json", facts)


def write_maps(config, dataset, found, writer) -> None:
    """Write relevance maps of the qualities and the ratings that they make; a run without any says why in its log."""
    if config.explain == "none" or found.results[found.main].qualities is None:
        return
    from pipelines.midlevel_maps import add_maps

    try:
        add_maps(config, dataset, found, writer)
    except UserError as error:
        writer.log(f"no relevance maps: {error}")
