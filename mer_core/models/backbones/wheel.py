"""musicnn and its plain counterpart, whose weights come inside the package `musicnn`: no download needed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mer_core.models.backbones import front_ends
from mer_core.models.backbones.backbone import WHEEL, Backbone, read_tags
from mer_core.models.backbones.tensor_bundle import DATA, INDEX, read_bundle
from mer_core.models.backbones.weights import fill

CHECKSUMS = {  # of (data, index)
    "MTT_musicnn": (
        "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab",
        "da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57",
    ),
    "MSD_musicnn": (
        "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6",
        "87f3e0f3550c8d3bafc840374003e5c8af5eeb5ecf6add61af09a7822d3282c8",
    ),
    "MTT_vgg": (
        "458f5c8bcecc086a3bba3dce83809df6da6e0a3560a59ddd84711bf3d5fd8303",
        "4b0d3d2d02bbe0919c063c1fb74bfa9018ac3517e362d681b07444d4207a5f5f",
    ),
    "MSD_vgg": (
        "9683d756b8311146534f333502ebf4a2a78a3e320c54ab0411dff6186d8375fc",
        "50e499238457558bba9f34f8b84d4afb8279afd43520cdf0a4fdf805a49c9ca3",
    ),
}
CORPORA = {"MTT": ("MagnaTagATune", "magnatagatune"), "MSD": ("Million Song Dataset", "million_song_dataset")}
LAYERS = {"musicnn": ("embedding", "dense", "pooled", "max_pool", "mean_pool"), "vgg": ("embedding", "pool3", "pool4")}
DIMS = {"musicnn": 200, "vgg": 256}
WINDOW_S = front_ends.MUSICNN_FRAMES * front_ends.MUSIC_HOP / front_ends.MUSIC_RATE
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def _entry(folder: str) -> Backbone:
    corpus, architecture = folder.split("_")
    title, tags = CORPORA[corpus]
    return Backbone(
        name=f"{architecture}-{corpus.lower()}",
        title=f"{architecture} trained on {title}",
        task="music tags",
        rate=front_ends.MUSIC_RATE,
        window_s=WINDOW_S,
        hop_s=WINDOW_S,
        dims=DIMS[architecture],
        layers=LAYERS[architecture],
        tags=read_tags(tags),
        source="package musicnn 0.1.0 (Pons & Serra 2019)",
        licence="ISC",
        size_mb=29.0,
        weights_folder=f"{WHEEL}musicnn/{folder}",
        files=tuple(zip((DATA, INDEX), CHECKSUMS[folder], strict=True)),
        load=f"mer_core.models.backbones.wheel:load_{architecture}",
        saw=(title,),
        front_end=front_ends.VERSION,
    )


BACKBONES = {entry.name: entry for entry in map(_entry, ("MSD_musicnn", "MTT_musicnn", "MSD_vgg", "MTT_vgg"))}


def load_musicnn(backbone: Backbone, path: Path | None) -> tuple:
    """Network and front end."""
    from mer_core.models.networks.musicnn import Musicnn

    network = Musicnn(len(backbone.tags))
    if path is not None:
        fill(network, musicnn_state(read_bundle(path.parent)), path)
    return network, _transform(backbone)


def load_vgg(backbone: Backbone, path: Path | None) -> tuple:
    """Network and front end."""
    from mer_core.models.networks.vgg import Vgg

    network = Vgg(len(backbone.tags))
    if path is not None:
        fill(network, vgg_state(read_bundle(path.parent)), path)
    return network, _transform(backbone)


def _transform(backbone: Backbone):
    hop = backbone.hop_s * front_ends.MUSIC_RATE / front_ends.MUSIC_HOP
    return partial(front_ends.musicnn_windows, hop_frames=hop)


def musicnn_state(arrays: dict) -> dict:
    """Variables of the checkpoint under the names of `Musicnn`; they are numbered in the order of their making."""
    modules = {"dense": "dense", "dense_1": "tags", "batch_normalization": "input_norm"}
    modules |= {_numbered("conv2d", i): f"front.{i}" for i in range(5)}
    modules |= {f"conv2d_{5 + i}": f"middle.{i}" for i in range(3)}
    modules |= {f"batch_normalization_{1 + i}": f"front_norm.{i}" for i in range(5)}
    modules |= {f"batch_normalization_{6 + i}": f"middle_norm.{i}" for i in range(3)}
    modules |= {"batch_normalization_9": "pooled_norm", "batch_normalization_10": "dense_norm"}
    state = _renamed(arrays, modules)
    for i in range(3):  # (frames, channels, 1, filters): a convolution over time, written as one over an image
        name = f"middle.{i}.weight"
        state[name] = state[name][:, 0].transpose(1, 2).contiguous()
    return state


def vgg_state(arrays: dict) -> dict:
    """Variables of the checkpoint under the names of `Vgg`."""
    modules = {"dense": "tags", "batch_normalization": "input_norm"}
    modules |= {f"{1 + i}CNN": f"convolutions.{i}" for i in range(5)}
    modules |= {f"batch_normalization_{1 + i}": f"norms.{i}" for i in range(5)}
    return _renamed(arrays, modules)


def _renamed(arrays: dict, modules: dict[str, str]) -> dict:
    """Tensors by the network's names, kernels turned to torch's axes; what the optimiser kept is left out."""
    import torch

    state = {}
    for name, array in arrays.items():
        if "/Adam" in name or name in ("beta1_power", "beta2_power"):
            continue
        layer, _, kind = name.rpartition("/")
        tensor = torch.from_numpy(array)
        if kind == "kernel":  # (rows, columns, inputs, filters) or (inputs, outputs)
            tensor = (tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T).contiguous()
        kind = NORM.get(kind, "weight") if "normalization" in layer or kind == "kernel" else kind
        state[f"{modules.get(layer, layer)}.{kind}"] = tensor
    return state


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name
