"""Backbones whose weights the user brings, or has fetched from the model hub with `--weights hub`.

None of these weights was at hand when this was written: architectures and front ends are checked against the published
code, and loading against folders of the published layout with small random networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mer_core.errors import UserError
from mer_core.models.backbones import hub_front_ends as front_ends
from mer_core.models.backbones.backbone import Backbone, read_tags
from mer_core.models.backbones.hub_front_ends import MEL_STYLES

HUB_FILES = (("model.safetensors|pytorch_model.bin", None), ("config.json", None))
UNTRIED = "published file not yet tried"  # said in the title: see above
MERT_HIDDEN = tuple(f"hidden_{i}" for i in range(13))


@dataclass(frozen=True)
class Model:
    """How `transformers` makes a model.

    model, config : names of classes
    types : `model_type` of configurations that fit
    layers : class of `mer_core.models.networks.hub` that it is put into
    published : arguments of the published configuration, for random weights
    ignored : beginnings of the names of tensors that belong to other parts of the published model
    options : arguments of the model
    """

    model: str
    config: str
    types: tuple[str, ...]
    layers: str
    published: dict
    ignored: tuple[str, ...] = ()
    options: tuple[tuple[str, object], ...] = ()


TEXT = ("text_model.", "text_projection.", "logit_scale")  # CLAP's other half
LARGE = {"patch_embeds_hidden_size": 128, "depths": [2, 2, 12, 2], "hidden_size": 1024}
B0 = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224, "hidden_dim": 1280}
CLAP_CLASSES = ("ClapAudioModelWithProjection", "ClapAudioConfig", ("clap", "clap_audio_model"), "ClapLayers")
MODELS = {  # by weights folder
    "ast": Model(
        "ASTForAudioClassification",
        "ASTConfig",
        ("audio-spectrogram-transformer",),
        "AstLayers",
        {"num_labels": 527},
    ),
    "clap": Model(*CLAP_CLASSES, {}, TEXT),
    "clap-general": Model(*CLAP_CLASSES, LARGE, TEXT),
    "mert": Model("HubertModel", "HubertConfig", ("mert_model", "hubert"), "MertLayers", {}),
    "efficientnet": Model(
        "EfficientNetModel", "EfficientNetConfig", ("efficientnet",), "VisionLayers", B0, ("classifier.",)
    ),
    "mobilenet": Model(
        "MobileNetV2Model", "MobileNetV2Config", ("mobilenet_v2",), "VisionLayers", {}, ("classifier.",)
    ),
    "vit": Model(
        "ViTModel",
        "ViTConfig",
        ("vit",),
        "VisionLayers",
        {},
        ("classifier.", "pooler."),
        (("add_pooling_layer", False),),
    ),
}


def load_transformers(backbone: Backbone, path: Path | None) -> tuple:
    """Network and front end; `path` is the weights file in a folder of the hub's layout, None for random weights."""
    import transformers

    from mer_core.models.backbones.hub_files import load_pretrained, read_config
    from mer_core.models.networks import hub as networks

    kind = MODELS[backbone.weights_folder]
    model_class, config_class = getattr(transformers, kind.model), getattr(transformers, kind.config)
    if path is None:
        model = model_class(config_class(**kind.published), **dict(kind.options))
    else:
        read_config(path, kind.types)
        model = load_pretrained(model_class, config_class, path, kind.ignored, **dict(kind.options))
    if backbone.tags and model.config.num_labels != len(backbone.tags):
        raise UserError(
            f"{path} has {model.config.num_labels} classes where {backbone.name} has {len(backbone.tags)}; give it its "
            "own file"
        )
    if kind.layers == "MertLayers" and model.config.num_hidden_layers + 1 != len(MERT_HIDDEN):
        raise UserError(
            f"{path} has {model.config.num_hidden_layers} layers where {backbone.name} has {len(MERT_HIDDEN) - 1}; "
            f"give it {backbone.hub}"
        )
    return getattr(networks, kind.layers)(model), transform_of(backbone)


def load_cnn14(backbone: Backbone, path: Path | None) -> tuple:
    """Network and front end of PANNs."""
    from mer_core.models.backbones.hub_files import read_checkpoint
    from mer_core.models.backbones.weights import fill
    from mer_core.models.networks.cnn14 import Cnn14, published_part

    network = Cnn14(classes=len(backbone.tags))
    if path is not None:
        fill(network, published_part(read_checkpoint(path, "model")), path)
    return network, transform_of(backbone)


def load_vggish(backbone: Backbone, path: Path | None) -> tuple:
    """Network and front end of VGGish."""
    from mer_core.models.backbones.hub_files import read_checkpoint
    from mer_core.models.backbones.weights import fill
    from mer_core.models.networks.vggish import Vggish

    network = Vggish()
    if path is not None:
        fill(network, read_checkpoint(path), path)
    return network, transform_of(backbone)


def transform_of(backbone: Backbone) -> Callable[[np.ndarray], object]:
    """The front end of a backbone: samples (n,) to windows."""
    family = backbone.weights_folder
    if family == "ast":
        return partial(front_ends.ast_windows, hop_s=backbone.hop_s)
    if family in ("clap", "clap-general"):
        return partial(front_ends.clap_windows, hop_s=backbone.hop_s)
    if family == "mert":
        return partial(front_ends.mert_windows, window_s=backbone.window_s, hop_s=backbone.hop_s)
    if family == "cnn14":
        return partial(front_ends.cnn14_windows, hop_s=backbone.hop_s)
    if family == "vggish":
        return partial(front_ends.vggish_windows, hop_s=backbone.hop_s)
    style = MEL_STYLES[backbone.name.partition("-")[2]]
    return partial(front_ends.style_windows, hop_s=backbone.hop_s, style=style)


def _entry(name: str, title: str, hub: str, folder: str = "", **facts) -> Backbone:
    """An entry of the model hub."""
    common = {"tags": (), "files": HUB_FILES, "load": f"{__name__}:load_transformers", "short": "whole"}
    facts = common | {"source": f"{hub} on the model hub"} | facts
    return Backbone(name=name, title=f"{title} ({UNTRIED})", hub=hub, weights_folder=folder or name, **facts)


def _clap(name: str, hub: str, size_mb: float) -> Backbone:
    return _entry(
        name,
        f"CLAP ({hub.rpartition('/')[2]}), audio branch",
        hub,
        task="audio and its description, in one space",
        rate=front_ends.CLAP_RATE,
        window_s=front_ends.CLAP_WINDOW_S,
        hop_s=front_ends.CLAP_WINDOW_S / 2,
        dims=512,
        layers=("embedding", "pooled"),
        licence="Apache-2.0",
        size_mb=size_mb,
        saw=("LAION-Audio-630K", "AudioSet"),
        short="repeat-zeros",
    )


def _mert(name: str, title: str, window_s: float) -> Backbone:
    return _entry(
        name,
        title,
        "m-a-p/MERT-v1-95M",
        "mert",
        task="masked music, predicted as acoustic and harmonic tokens",
        rate=front_ends.MERT_RATE,
        window_s=window_s,
        hop_s=window_s,
        dims=1536,
        layers=("layers_5_6", *MERT_HIDDEN),
        licence="CC BY-NC 4.0",
        size_mb=378.0,
        saw=("1000 hours of unpublished music",),
    )


IMAGE_NETWORKS = {  # name: hub, title, dims, licence, size
    "efficientnet": ("google/efficientnet-b0", "EfficientNet-B0", 1280, "Apache-2.0", 21.0),
    "mobilenet": ("google/mobilenet_v2_1.0_224", "MobileNetV2", 1280, "see the hub page", 14.0),
    "vit": ("google/vit-base-patch16-224-in21k", "ViT-B/16", 768, "Apache-2.0", 346.0),
}


def _vision(network: str, style: str) -> Backbone:
    hub, title, dims, licence, size_mb = IMAGE_NETWORKS[network]
    settings = MEL_STYLES[style]
    return _entry(
        f"{network}-{style}",
        f"{title} for images, on mel spectrograms with the settings of {style}",
        hub,
        network,
        task="images (ImageNet): has never heard sound",
        rate=settings.rate,
        window_s=settings.window_s,
        hop_s=settings.hop_s,
        dims=dims,
        layers=("embedding",),
        licence=licence,
        size_mb=size_mb,
        saw=("ImageNet",),
        short="repeat",
    )


AST = _entry(
    "ast",
    "Audio Spectrogram Transformer",
    "MIT/ast-finetuned-audioset-10-10-0.4593",
    task="AudioSet classes",
    rate=front_ends.AST_RATE,
    window_s=front_ends.AST_WINDOW_S,
    hop_s=front_ends.AST_WINDOW_S / 2,
    dims=768,
    layers=("embedding", "mean"),
    tags=read_tags("audioset"),
    licence="BSD-3-Clause",
    size_mb=346.0,
    saw=("ImageNet", "AudioSet"),
    short="own",
)
CNN14 = Backbone(
    name="cnn14",
    title=f"PANNs CNN14 ({UNTRIED})",
    task="AudioSet classes",
    rate=front_ends.CNN14_RATE,
    window_s=front_ends.CNN14_WINDOW_S,
    hop_s=front_ends.CNN14_WINDOW_S / 2,
    dims=2048,
    layers=("embedding",),
    tags=read_tags("audioset"),
    source="qiuqiangkong/audioset_tagging_cnn (Zenodo 3987831)",
    licence="CC BY 4.0 (code MIT)",
    size_mb=327.0,
    weights_folder="cnn14",
    files=(("Cnn14_mAP=0.431.pth", None),),
    load=f"{__name__}:load_cnn14",
    saw=("AudioSet",),
    short="whole",
)
VGGISH = Backbone(
    name="vggish",
    title=f"VGGish ({UNTRIED})",
    task="video labels (YouTube-8M)",
    rate=front_ends.VGGISH_RATE,
    window_s=0.96,
    hop_s=0.96,
    dims=128,
    layers=("embedding",),
    tags=(),
    source="harritaylor/torchvggish (release v0.1)",
    licence="Apache-2.0",
    size_mb=288.0,
    weights_folder="vggish",
    files=(("vggish-10086976.pth", None),),
    load=f"{__name__}:load_vggish",
    saw=("YouTube-8M",),
)
ENTRIES = (
    AST,
    _clap("clap", "laion/clap-htsat-unfused", 614.0),
    _clap("clap-general", "laion/larger_clap_general", 776.0),
    _mert("mert", "MERT-v1-95M, pieces of 30 s as Music2Emo hears them", 30.0),
    _mert("mert-5s", "MERT-v1-95M, pieces of 5 s, for curves over time", 5.0),
    CNN14,
    VGGISH,
    *(_vision(network, style) for network in IMAGE_NETWORKS for style in MEL_STYLES),
)
BACKBONES = {entry.name: entry for entry in ENTRIES}
