"""Train a network on the sound itself: residual CNN, musicnn, AST, or an image network on mel pictures.

A network per fold, stopped on whole groups of its training part and tested on groups it has not seen. Pretrained ones
are unfrozen step by step (`--unfreeze head,last-2:15`), and any can be pretrained on another data set (`--pretrain`). A
run that was killed goes on with the epoch it was in when it is started again with the same options. Several
accelerators: torchrun --nproc-per-node N -m pipelines finetune ...; each works on its share of every batch.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

from mer_core.errors import UserError
from pipelines import option

PROTOCOLS = ("grouped-5fold", "original", "custom", "music2emo", "leaky-chunks")
LOSSES = ("mse", "mae", "huber", "ccc")


@dataclass(frozen=True)
class Config:
    """Options of `finetune`."""

    dataset: str = option("demo", "'demo', or a folder in the layout 'tracks' or 'deam'")
    network: str = option(
        "residual-cnn",
        "residual-cnn, musicnn-msd, musicnn-mtt, ast, ast-44k, or efficientnet or mobilenet with a mel style behind "
        "it, such as efficientnet-panns",
    )
    unfreeze: str = option(
        "", "schedule such as head:5,last-2:10,all:10; 'head' alone solves a linear head (empty: the network's own)"
    )
    pretrain: str = option("", "data set or finished run of finetune that the network learns from before")
    teacher: str = option("", "embedding that the network learns to reproduce besides, such as musicnn-mtt@dense")
    epochs: int = option(0, "at most, of a network that is trained as a whole (0: 50)")
    layout: str = option("auto", "layout of the folder", ("auto", "deam", "tracks"))
    labels: str = option("corrected", "DEAM's static labels, put right or as published", ("corrected", "published"))
    targets: tuple[str, ...] = option(("valence", "arousal"), "ratings to predict, comma-separated")
    protocol: str = option("grouped-5fold", "how tracks are kept apart; leaky-chunks only shows the leak", PROTOCOLS)
    weights: str = option("", "pretrained weights: a folder, 'hub' to download, 'random' (empty: what is at hand)")
    pretrain_epochs: int = option(15, "at most, of pretraining")
    pretrain_audio: str = option("", "folder of previews, where --pretrain names the Deezer lists")
    batch_size: int = option(0, "tracks in a batch (0: the network's own)")
    learning_rate: float = option(0.0, "of the head (0: the network's own)")
    layer_decay: float = option(0.7, "factor on the learning rate from a stage to the one before it")
    loss: str = option("mse", "of standardised ratings; ccc: 1 - concordance", LOSSES)
    averaging: float = option(0.0, "decay per step of a moving average of the weights, such as .98 (0: none)")
    patience: int = option(20, "epochs without a better validation error before a step ends")
    aug_prob: float = option(-1.0, "chance that a window is shifted and masked (-1: the network's own)")
    n_mels: int = option(128, "mel bands of the residual CNN")
    n_fft: int = option(2048, "its Fourier window, samples")
    max_ms: int = option(30000, "its longest window, ms; longer tracks are cut at random places, never padded")
    sample_rate: int = option(22050, "its sampling rate, Hz")
    channels: int = option(1, "its input channels, all of which see the same spectrogram")
    width: int = option(0, "channels of its first stage (0: 64, as published, on an accelerator, else 16)")
    seed: int = option(42, "seed of folds, first weights, order, crops and resampling")
    resamples: int = option(1000, "bootstrap resamples (over groups) of each interval")
    workers: int = option(0, "threads (0: one per core)")


def words(config: Config) -> tuple[str, ...]:
    """What a run's name is made of."""
    return config.dataset, config.network, config.unfreeze.replace(":", "").replace(",", "-")


def execute(config: Config, job, run_id: str, span: tuple[float, float] = (0.0, 1.0)) -> str:
    """Load the dataset, make the run folder, fill it; return the run's id."""
    from mer_core.datasets import load
    from mer_core.models.training import distributed
    from mer_core.runs import RunWriter

    distributed.start_group()
    setup = setup_of(config)
    with RunWriter(run_id, "finetune", config, job, span) as writer:
        writer.progress(0.0, f"loading {config.dataset}")
        run(config, load(config.dataset, config.layout, config.labels), writer, setup)
    return run_id


def run(config: Config, dataset, writer, setup=None) -> None:
    """Listen, pretrain, train a network per fold, score, write."""
    import shutil

    from mer_core.evaluate.finetuning import fit_rounds
    from mer_core.evaluate.training_log import TrainingLog
    from mer_core.models.training.distributed import wait_for_all
    from mer_core.models.training.engine import choose_device
    from pipelines import finetune_data, finetune_files
    from pipelines.train import check_resamples, stage

    setup = setup or setup_of(config)
    check_resamples(config.resamples)
    corpus, data = finetune_data.prepared(config, setup, dataset, stage(writer, 0.0, 0.1))
    folder = finetune_data.checkpoints_of(config, dataset, data)

    def say(text: str) -> None:
        writer.log(text)
        print(text, file=sys.stderr)

    say(f"{config.network} on {len(corpus.ratings)} tracks, on {choose_device().type}; checkpoints in {folder}")
    with TrainingLog(writer.job.folder, tuple(corpus.ratings)) as log:
        start, source = finetune_data.pretrained(config, setup, dataset, folder, log, say, stage(writer, 0.1, 0.3))
        found = fit_rounds(
            *(setup, corpus, data.split if data.chunks is None else data.chunks.split, folder),
            start=start,
            progress=stage(writer, 0.3, 0.85),
            report=log.add,
            say=say,
        )
    say(log.summary())
    finetune_files.write(config, setup, dataset, data, corpus, found, log, source, writer)
    wait_for_all()
    shutil.rmtree(folder, ignore_errors=True)


def setup_of(config: Config):
    """The options as the engine takes them; UserError for what cannot be, before anything is loaded."""
    from mer_core.evaluate.finetuning import Setup
    from mer_core.models.training.networks import PUBLISHED_WIDTH, SMALL_WIDTH, Shape, find_network
    from mer_core.models.training.recipe import Recipe
    from mer_core.models.training.schedule import read_schedule
    from mer_core.models.training.tuning import Tuning

    kind = find_network(config.network)
    if config.epochs and config.unfreeze:
        raise UserError("--epochs and --unfreeze both say how long to train; give one of them")
    for name, low in (("batch_size", 0), ("epochs", 0), ("width", 0), ("n_mels", 8), ("n_fft", 64), ("max_ms", 500)):
        if getattr(config, name) < low:
            flag = f"--{name.replace('_', '-')} {getattr(config, name)}"
            raise UserError(f"{flag} is too small; give at least {low or 1}")
    if config.learning_rate < 0 or not 0 < config.layer_decay <= 1 or config.aug_prob > 1:
        raise UserError("--learning-rate is above 0, --layer-decay above 0 and at most 1, --aug-prob at most 1")
    if config.sample_rate < 4000 or config.channels < 1 or config.pretrain_epochs < 1 or config.patience < 1:
        raise UserError("--sample-rate is at least 4000 Hz; --channels, --pretrain-epochs and --patience at least 1")
    text = config.unfreeze or (f"all:{config.epochs}" if config.epochs else kind.unfreeze)
    recipe = Recipe(
        batch_size=config.batch_size or kind.batch_size,
        learning_rate=config.learning_rate or kind.learning_rate,
        weight_decay=1e-3 if not kind.pretrained else 1e-2,
        optimiser="adam" if not kind.pretrained else "adamw",
        loss=config.loss,
        patience=config.patience,
        averaging=config.averaging,
        seed=config.seed,
    )
    fixed = kind.pretrained or bool(config.unfreeze)
    width = config.width or (PUBLISHED_WIDTH if _accelerated() else SMALL_WIDTH)
    shape = Shape(config.n_mels, config.n_fft, config.max_ms, config.sample_rate, config.channels, width)
    tuning = Tuning(read_schedule(text), recipe, config.layer_decay if fixed else 1.0, fixed)
    augment = kind.augment if config.aug_prob < 0 else config.aug_prob
    return Setup(config.network, config.weights or None, shape, tuning, augment, kind.per_track)


def _accelerated() -> bool:
    from mer_core.models.training.engine import choose_device

    return choose_device().type != "cpu"


def fixed_by(config: Config) -> dict:
    """The options that a training's checkpoints depend on."""
    return {name: value for name, value in asdict(config).items() if name not in ("workers", "resamples")}
