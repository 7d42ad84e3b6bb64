"""What `finetune` trains on: spectrograms joined with ratings under a protocol, and what it learned elsewhere."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from mer_core.errors import UserError

PRETRAIN_RATE = 1e-3


def prepared(config, setup, dataset, progress) -> tuple:
    """(Corpus of the tracks that are used, Data of the experiment).

    The feature table of the experiment is the mean spectrum of each track: what nearest tracks are found by.
    """
    from mer_core.evaluate.experiment import Plan, align, check_targets
    from mer_core.evaluate.finetuning import pieces

    check_targets(config.targets, dataset)
    sounds = sounds_of(setup, dataset, config.workers or None, progress)
    leaky = config.protocol == "leaky-chunks"
    protocol = "grouped-5fold" if leaky else config.protocol
    plan = Plan(config.network, "fine-tuned", protocol, config.targets, config.seed, config.workers or None)
    data = align(plan, dataset, mean_spectra(sounds))
    corpus = corpus_of(sounds, data.ratings, data.groups, dataset.scale, teacher_of(config, dataset))
    if leaky:
        data = cut(data, dataset, config.seed)
        corpus = pieces(corpus, data.chunks.owners)
    return corpus, data


def sounds_of(setup, dataset, workers, progress):
    """Spectrograms of a dataset's tracks; the residual CNN's window is as long as the longest, or its own."""
    from mer_core.models.training.networks import style_of
    from mer_core.models.training.spectrograms import load_spectrograms

    style = style_of(setup.network, setup.shape)
    sounds = load_spectrograms(dataset, style, workers, progress)
    longest = max(len(table) for table in sounds.tables.values()) / style.per_second
    return replace(sounds, style=style_of(setup.network, setup.shape, longest))


def mean_spectra(sounds):
    """Mean of each band, as a feature table."""
    import numpy as np
    import pandas as pd

    from mer_core.features import FeatureTable

    style = sounds.style
    values = np.stack([np.mean(table, axis=0, dtype=float) for table in sounds.tables.values()])
    names = [f"band {number + 1}" for number in range(values.shape[1])]
    columns = pd.DataFrame(
        {
            "lld": names,
            "statistic": "mean",
            "descriptor": names,
            "group": "spectrum",
            "musical": "spectral",
            "plain": [f"mean level in mel band {number + 1} of {len(names)}" for number in range(len(names))],
        },
        index=pd.Index(names, name="column"),
    )
    table = pd.DataFrame(values, pd.Index(list(sounds.tables), name="track_id"), columns.index)
    return FeatureTable(table, columns, f"{style.name} spectrograms", sounds.failures)


def corpus_of(sounds, ratings, groups, scale, teacher):
    """The tracks that have ratings, spectrograms and, where there is a teacher, what it hears."""
    from mer_core.evaluate.finetuning import Corpus

    if teacher is not None:
        if missing := [track for track in ratings.index if track not in teacher.index]:
            raise UserError(f"--teacher: track {missing[0]} has no embedding; leave it out of the data set")
        teacher = teacher.loc[ratings.index]
    tables = {track: sounds.tables[track] for track in ratings.index}
    return Corpus(replace(sounds, tables=tables), ratings, groups, scale, teacher)


def teacher_of(config, dataset):
    """What the teacher hears of each track, (n, d); None without one."""
    if not config.teacher:
        return None
    from mer_core.models.embeddings import read_part
    from mer_core.models.representations import build_representation

    if read_part(config.teacher) is None:
        raise UserError(f"--teacher {config.teacher} is no embedding; name one, such as musicnn-mtt@dense")
    return build_representation(config.teacher, dataset, config.workers or None, None, config.weights or None).values


def cut(data, dataset, seed: int):
    """The data of `leaky-chunks`: each track in three pieces, dealt to folds at random, with what leaks counted."""
    from mer_core.evaluate.protocols import chunk_owners, count_leaks, make_chunks, make_split

    tracks = data.features.index
    owners = chunk_owners(tracks)
    features = data.features.loc[owners].set_axis(owners.index, axis=0)
    split = make_split("leaky-chunks", dataset, tracks, seed)
    chunks = make_chunks(features, split, tracks)
    return replace(data, split=chunks.by_track, chunks=chunks, leaks=count_leaks("leaky-chunks", split, dataset))


def checkpoints_of(config, dataset, data) -> Path:
    """Folder of the checkpoints of just this training: it changes with any option, track, rating or fold."""
    from mer_core.paths import artifacts_root
    from pipelines.finetune import fixed_by

    content = json.dumps([fixed_by(config), dataset.fingerprint(), data.split.digest()], sort_keys=True)
    return artifacts_root() / "cache" / "training" / hashlib.sha256(content.encode()).hexdigest()[:16]


def pretrained(config, setup, dataset, folder: Path, log, say, progress) -> tuple[dict | None, dict | None]:
    """State of the stages before the head that folds start from, and what a run records of where it is from."""
    if not config.pretrain:
        return None, None
    from mer_core.runs import runs_root

    if (runs_root() / config.pretrain / "run.json").exists():
        return _from_run(config, dataset)
    from mer_core.datasets.overlap import check_other_music

    other = other_dataset(config)
    if other.fingerprint() == dataset.fingerprint():
        raise UserError(f"--pretrain {config.pretrain} is the data set itself; name another one")
    check_other_music(config.pretrain, other.tracks["path"], dataset)
    from mer_core.evaluate.finetuning import pretrain
    from mer_core.models.training.schedule import Step

    sounds = sounds_of(setup, other, config.workers or None, progress)
    ratings = other.ratings[list(("valence", "arousal"))].dropna()
    ratings = ratings[ratings.index.isin(list(sounds.tables))]
    corpus = corpus_of(
        sounds, ratings, other.tracks["group"].loc[ratings.index], other.scale, teacher_of(config, other)
    )
    steps = (Step("all", config.pretrain_epochs),)
    recipe = replace(setup.tuning.recipe, learning_rate=max(setup.tuning.recipe.learning_rate, PRETRAIN_RATE))
    tuning = replace(setup.tuning, steps=steps, fixed_norms=False, decay=1.0, recipe=recipe)
    state = pretrain(replace(setup, tuning=tuning), corpus, folder / "pretraining", log.add, say)
    record = {
        "dataset": other.name,
        "saw": [other.fingerprint()],
        "tracks": len(ratings),
        "epochs": str(steps[0]),
    }
    return state, record | {"synthetic": other.synthetic, "teacher": config.teacher or None}


def other_dataset(config):
    """The data set to pretrain on: in any layout, or the Deezer lists with their previews."""
    from mer_core.datasets import load
    from mer_core.datasets.deezer import is_deezer, load_deezer

    folder = Path(config.pretrain).expanduser()
    if folder.is_dir() and is_deezer(folder):
        return load_deezer(folder, config.pretrain_audio or None)
    if config.pretrain_audio:
        raise UserError(f"--pretrain-audio is for the Deezer lists, which {config.pretrain} is not; leave it out")
    try:
        return load(config.pretrain)
    except UserError as error:
        raise UserError(f"--pretrain {config.pretrain} is no finished run, and {error}") from None


def _from_run(config, dataset) -> tuple[dict, dict]:
    """The first network of a finished run on another data set."""
    from mer_core.datasets.overlap import check_other_music
    from mer_core.evaluate.finetuning import body_of
    from mer_core.models.training.saved import load_networks
    from mer_core.runs import read_run

    run = read_run(config.pretrain)
    if run.about["pipeline"] != "finetune":
        raise UserError(f"--pretrain {config.pretrain} is a run of {run.about['pipeline']!r}; name one of finetune")
    # What its weights have seen, also before the run: its own data set, and those that it went on from.
    saw = [run.about["dataset"]["fingerprint"], *((run.about["training"]["pretrained_on"] or {}).get("saw", ()))]
    if dataset.fingerprint() in saw:
        raise UserError(
            f"--pretrain {config.pretrain} learned from this very data set, tested tracks too; name another"
        )
    check_other_music(config.pretrain, run.table("tracks")["path"], dataset)
    saved = load_networks(run.folder / "model")
    if saved.network != config.network:
        raise UserError(f"--pretrain {config.pretrain} holds {saved.network}, not {config.network}")
    record = {
        "run": run.run_id,
        "dataset": run.about["dataset"]["name"],
        "saw": saw,
        "synthetic": run.about["dataset"]["synthetic"],
    }
    return body_of(saved.models[0]), record
