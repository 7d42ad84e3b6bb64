"""Networks whose weights the user puts under the weights root: EfficientAT and the music taggers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mer_core.models.backbones import front_ends
from mer_core.models.backbones.backbone import Backbone, read_tags
from mer_core.models.backbones.weights import fill, read_state

CORPORA = {  # title, tag list
    "mtat": ("MagnaTagATune", "magnatagatune"),
    "jamendo": ("MTG-Jamendo", "jamendo"),
    "msd": ("Million Song Dataset", "million_song_dataset"),
}
ARCHITECTURES = {  # title, window in s, hop in s, dims, layers
    "musicnn": ("musicnn", 3.0, 3.0, 200, ("embedding", "dense", "pooled")),
    "fcn": ("FCN", 29.0, 14.5, 64, ("embedding", "middle")),
    "crnn": ("CRNN", 29.0, 14.5, 32, ("embedding", "middle")),
}
TAGGERS = {
    ("mtat", "musicnn"): "690ace3bb5d49d90dd38fe3ec05a1185350b3bc3742bd7ee941f56b649b2c893",
    ("mtat", "fcn"): "e89d751202d38c3ae69855782bc27010f87051958dbec64f5aa762364dbac271",
    ("mtat", "crnn"): "cd22fc70cafd06f8f2bfc7dd795abccb1f4b50d5b09094c39ad100baf87475a3",
    ("jamendo", "musicnn"): "66280f4859376377c47f64313c7ac889a3201fdb06a01bf6e94ac6e619081bb5",
    ("jamendo", "fcn"): "7bce08a66dbc70d096b0a330f44b4cacd9aa25519b83489fbb98f2164a194e2b",
    ("jamendo", "crnn"): "0a558989c0793f488cb677d188464c91f47c007f7c70473230e55537ca598215",
    ("msd", "fcn"): "6012aa7eecf864a8081faedca56af054521e8dfb9c5c98659a3dd5d3e1e66f21",
    ("msd", "crnn"): "ebb99855ed0c83f38845db9cfb383dd6fc70938bc58701dcb66e18af9ee7fbea",
}
SIZES_MB = {"musicnn": 3.3, "fcn": 1.9, "crnn": 1.7}
CONSTANTS = ("spec.spectrogram.window", "spec.mel_scale.fb")  # the front end, stored with the weights


def _tagger(corpus: str, architecture: str) -> Backbone:
    title, window_s, hop_s, dims, layers = ARCHITECTURES[architecture]
    trained_on, tags = CORPORA[corpus]
    return Backbone(
        name=f"tagger-{corpus}-{architecture}",
        title=f"{title} tagger trained on {trained_on}",
        task="music tags",
        rate=front_ends.MUSIC_RATE,
        window_s=window_s,
        hop_s=hop_s,
        dims=dims,
        layers=layers,
        tags=read_tags(tags),
        source="minzwon/sota-music-tagging-models (Won et al. 2020)",
        licence="MIT",
        size_mb=SIZES_MB[architecture],
        weights_folder=f"sota_music_tagging/models/{corpus}/{architecture}",
        files=(("best_model.pth", TAGGERS[corpus, architecture]),),
        load="mer_core.models.backbones.local:load_tagger",
        saw=(trained_on,),
        front_end=front_ends.VERSION,
    )


EFFICIENTAT = Backbone(
    name="efficientat",
    title="EfficientAT mn04_as, a MobileNetV3",
    task="sound events and music (AudioSet)",
    rate=front_ends.AUDIOSET_RATE,
    window_s=10.0,
    hop_s=5.0,
    dims=384,
    layers=("embedding", "dense"),
    tags=read_tags("audioset"),
    source="fschmid56/EfficientAT, release file mn04_as_mAP_432.pt (Schmid et al. 2023)",
    licence="MIT",
    size_mb=4.1,
    weights_folder="efficientat_mn04",
    files=(("mn04_as_mAP_432.pt", "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"),),
    load="mer_core.models.backbones.local:load_efficientat",
    saw=("AudioSet",),
    short="whole",
    front_end=front_ends.VERSION,
)
BACKBONES = {entry.name: entry for entry in (EFFICIENTAT, *(_tagger(*pair) for pair in TAGGERS))}


def load_efficientat(backbone: Backbone, path: Path | None) -> tuple:
    """Network and front end."""
    from mer_core.models.networks.mobilenet import MobileNet

    network = MobileNet(len(backbone.tags))
    if path is not None:
        fill(network, read_state(path), path)
    hop = backbone.hop_s * backbone.rate / front_ends.AUDIOSET_HOP
    return network, partial(front_ends.audioset_windows, hop_frames=hop)


def load_tagger(backbone: Backbone, path: Path | None) -> tuple:
    """Network and front end."""
    from mer_core.models.networks.taggers import TaggerCrnn, TaggerFcn, TaggerMusicnn

    networks = {"musicnn": TaggerMusicnn, "fcn": TaggerFcn, "crnn": TaggerCrnn}
    network = networks[backbone.name.rpartition("-")[2]](len(backbone.tags))
    if path is not None:
        fill(network, {name: tensor for name, tensor in read_state(path).items() if name not in CONSTANTS}, path)
    length, hop = round(backbone.window_s * backbone.rate), backbone.hop_s * backbone.rate
    return network, partial(front_ends.tagger_windows, length=length, hop=hop)
