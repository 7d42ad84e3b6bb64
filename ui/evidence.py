"""Hear why: a clip's relevance map as a heat map over the music, and the clip in four versions at one loudness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from mer_core.datasets.audio import flac_bytes, read_audio
from mer_core.errors import UserError
from mer_core.explain.maps import FILE, REMAINDER, RelevanceMap, read_about
from mer_core.explain.sonify import EDGE_SHARE, Clip, prepare, sonify_clip
from mer_core.jobs import JobStatus, list_jobs, start_job
from mer_core.listening import Heat, Version
from mer_core.plots.heat import axis_labels
from mer_core.runs import Run
from mer_core.site.pictures import heat_pictures
from ui.frame import dark, how_to_read
from ui.listening import address, listening_player
from ui.progress import ended, watch
from ui.words import in_points, versions

LOST = 1e-3  # conservation error that is flagged
LONG_S, LONG_RATE = 60.0, 22050  # longer clips are heard in mono at this rate, so that they reach the browser soon
SHOWN_TIMES = 5


@dataclass(frozen=True)
class Heard:
    """The versions of a clip, FLAC by name, with what is known of each; and the heat map for a light and a dark page.

    versions : name -> (bytes, gain in dB, LUFS, dBTP, note); silent : name -> why there is none; why : no versions at
    all, and the reason
    """

    versions: dict[str, tuple[bytes, float, float, float, str]]
    silent: dict[str, str]
    edge_share: float
    pictures: tuple[bytes, bytes]
    why: str = ""


def evidence(run: Run, track: str, target: str, label: str, path: object, key: str = "evidence") -> None:
    """The player of a track's explanation; where there is none, what it is and how it is made."""
    if track not in run.relevance_tracks():
        _missing(run, track)
        return
    found = run.relevance_map(track, (target,))
    softness = st.slider(
        "Softness",
        0.0,
        1.0,
        0.5,
        0.1,
        key=f"softness-{key}",
        width=320,
        help="How much is let through: at 0 only the strongest evidence, at 1 almost all that has any.",
    )
    stamp = _stamp(run, path)
    heard = _heard(run, track, target, path if isinstance(path, str) else "", softness, stamp, run.run_id)
    _badges(found, heard)
    qualities = run.about.get("midlevel", {}).get("qualities", ())
    unit = "standard deviations" if target in qualities else "rating points"
    if run.about["pipeline"] != "classify":  # where "happy" is the chance of it, not a rating
        target = "happy rating" if target == "happy" else target.replace("_", " ")
    _player(found, heard, target, label, key)
    how_to_read(
        f"Time runs from left to right, low tones are at the bottom. Warm places raised {_what(target)}, cool ones "
        "lowered it, grey is the music. A to D switch between the versions where you are; all are equally loud. If the "
        "evidence is right, it should hold what you would name as the reason, and the music without it should feel "
        "different."
    )
    with st.expander("All numbers of this map"):
        _numbers(found, heard, target, unit)


def audible(run: Run, row: pd.Series, target: str) -> None:
    """The section of a track's page in which its evidence is heard."""
    st.divider()
    st.subheader(f"Can you hear what moved its {target}?")
    evidence(run, row["track_id"], target, str(row["label"]), row["path"])


def _what(target: str) -> str:
    return "the chance of happy" if target == "happy" else f"the predicted {target}"


def _stamp(run: Run, path: object) -> tuple[int, ...]:
    """Changes when the maps or the audio file do."""
    files = [run.folder / "explanations" / "lrp" / "maps.json", *([Path(path)] if isinstance(path, str) else [])]
    return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)


@st.cache_resource(max_entries=4, show_spinner=False)
def _clip(path: str, long: bool, stamp: tuple) -> Clip:
    """The audio file, measured once for all maps and softnesses; UserError where it cannot be heard."""
    return prepare(*read_audio(path, LONG_RATE if long else None, mono=long))


@st.cache_data(max_entries=16, show_spinner=False)
def _pictures(_run: Run, track: str, target: str, path: str, stamp: tuple, name: str) -> tuple[bytes, bytes]:
    """The heat map over the music, or alone where there is no music."""
    found = _run.relevance_map(track, (target,))
    if not path:
        return heat_pictures(found, 0.0, found.duration_s, None, LONG_RATE)
    clip = _clip(path, found.duration_s > LONG_S, stamp)
    mono = clip.samples if clip.samples.ndim == 1 else clip.samples.mean(axis=0)
    return heat_pictures(found, 0.0, found.duration_s, mono, clip.rate)


@st.cache_data(max_entries=16, show_spinner="Making the evidence audible ...")
def _heard(_run: Run, track: str, target: str, path: str, softness: float, stamp: tuple, name: str) -> Heard:
    found = _run.relevance_map(track, (target,))
    why = ""
    if not path:
        why = "This dataset came without audio for this track; the map still holds."
    elif not Path(path).is_file():
        why = f"The audio file is not there any more: `{path}`. Put it back to hear the evidence."
    else:
        try:
            clip = _clip(path, found.duration_s > LONG_S, stamp)
        except UserError as error:
            why = str(error)
    if why:
        return Heard({}, {}, 0.0, _pictures(_run, track, target, "", stamp, name), why)
    made = sonify_clip(clip, found.values[0], found.seconds, found.band_hz, softness)
    files = {
        name: (
            flac_bytes(version.samples, clip.rate),
            version.gain_db,
            version.lufs,
            version.true_peak_db,
            version.said,
        )
        for name, version in made.versions.items()
    }
    return Heard(files, made.silent, made.edge_share, _pictures(_run, track, target, path, stamp, name))


def _badges(found: RelevanceMap, heard: Heard) -> None:
    """What to know before believing the map."""
    with st.container(horizontal=True, gap="small"):
        if heard.edge_share > EDGE_SHARE:
            st.badge(
                "artefact at the edge",
                icon=":material/warning:",
                color="red",
                help=f"{heard.edge_share:.0%} of this map lies in bands where the music has almost no sound. What you "
                "hear there is the network's doing, not the music's.",
            )
        if found.conservation_error[0] > LOST:
            st.badge(
                "does not add up",
                icon=":material/warning:",
                color="red",
                help=f"The map loses {found.conservation_error[0]:.1%} of what was handed on; it should lose nothing.",
            )
        if found.note:
            st.badge("short clip", icon=":material/info:", color="orange", help=found.note)
        if found.heard_s < found.duration_s - 0.5:
            help = f"The network heard {found.heard_s:.1f} of {found.duration_s:.1f} s; the rest has no relevance."
            st.badge("end not heard", icon=":material/info:", color="orange", help=help)


def _player(found: RelevanceMap, heard: Heard, target: str, label: str, key: str) -> None:
    words, picture = versions(target), heard.pictures[dark()]
    alt = f"Relevance for {target} over time and frequency: warm raised {_what(target)}, cool lowered it"
    if not heard.versions:
        st.image(picture, width="stretch", caption=alt)
        st.info(heard.why, icon=":material/volume_off:")
        return
    shown = [
        Version(
            words[name][0],
            f"{words[name][1]} · {gain:+.1f} dB".replace("-", "−") + (f" · {note}" if note else ""),
            address(data, "audio/flac", f"{key}-{name}"),
        )
        for name, (data, gain, _, _, note) in heard.versions.items()
    ]
    heat = Heat(
        address(picture, "image/png", f"{key}-map"),
        alt,
        axis_labels(found.band_hz[::-1], 5, "Hz"),
        tuple(f"{value:.0f} s" for value in np.linspace(0, found.duration_s, SHOWN_TIMES)),
    )
    listening_player(label, shown, heat, key)
    st.caption("Keys: space plays, arrows move by a second, A to D or 1 to 4 choose the version; click the map to go.")
    for name, why in heard.silent.items():
        st.info(f"“{words[name][0]}” cannot be heard: {why}.", icon=":material/volume_off:")


def _numbers(found: RelevanceMap, heard: Heard, target: str, unit: str) -> None:
    """The sum that makes the prediction, and the levels of what is played."""
    unit = "log-odds of happy" if target == "happy" else unit
    meaning = {
        "missing": "Missing: what the average track has and this one has not, which lies nowhere in the clip",
        "biases": "Biases of the network, which do not depend on the clip",
        "stabilisers": "Lost to the stabilisers of the rule",
        "padding": "On the padding after the clip's end",
    }
    rows = [(f"Reference: {found.reference}", found.base[0]), ("Sum of the map", found.values.sum(dtype=float))]
    rows += [(meaning[name], value) for name, value in zip(REMAINDER, found.remainder[:, 0], strict=True)]
    rows.append(("All together: the prediction", found.predicted[0]))
    table = pd.DataFrame([(name, in_points(value)) for name, value in rows], columns=["what", unit])
    st.dataframe(table, hide_index=True, column_config={"what": st.column_config.TextColumn(width="large")})
    st.caption(
        f"Rule: {found.rule}. Conservation error: {found.conservation_error[0]:.1e} of all that was handed on. "
        f"Share of the map where the music holds 0.5 % of its energy: {heard.edge_share:.1%} "
        f"(above {EDGE_SHARE:.0%} it is flagged)."
    )
    if heard.versions:
        levels = [
            (versions(target)[name][0], f"{gain:+.1f}", f"{lufs:.1f}", f"{peak:.1f}")
            for name, (_, gain, lufs, peak, _) in heard.versions.items()
        ]
        st.dataframe(pd.DataFrame(levels, columns=["version", "gain, dB", "LUFS", "true peak, dBTP"]), hide_index=True)
        if found.duration_s > LONG_S:
            st.caption(f"Clips above {LONG_S:g} s are played in mono at {LONG_RATE / 1000:.2f} kHz.")


def _missing(run: Run, track: str) -> None:
    """No map of this track yet: why, and the button and command that make it; nothing where none can be made."""
    if why := failures(run).get(track):
        st.info(f"The reasons for this prediction cannot be heard: {why}", icon=":material/volume_off:")
        return
    if not explainable(run):
        st.caption(f"The reasons for this run's predictions cannot be heard: {_needed(run)}")
        return
    running = _jobs(run.run_id)
    if running and running[0].active:
        watch(running[0].job_id)
        return
    st.write("This clip's reasons have not been made audible yet: its relevance map is missing.")
    tracks = ",".join([*run.relevance_tracks(), track])  # the folder of maps is written anew
    if st.button("Make its map", type="primary", icon=":material/hearing:"):
        start_job("explain", {"run": run.run_id, "method": "lrp", "tracks": tracks})
        st.rerun()
    st.caption("The same for all tracks, from the command line:")
    st.code(f"python -m pipelines explain --run {run.run_id} --method lrp", language="bash")
    if running and running[0].state in ("failed", "died"):
        ended(running[0])


def failures(run: Run) -> dict[str, str]:
    """Tracks that no map could be made of when maps were made, and why."""
    folder = run.folder / "explanations" / "lrp"
    return dict(read_about(folder).get("failures", [])) if (folder / FILE).is_file() else {}


def explainable(run: Run) -> bool:
    """Whether relevance can be handed on to the sound, as far as a page can tell."""
    about, features = run.about, str(run.about["features"]["name"])
    if about["pipeline"] == "classify":
        return bool(about.get("weights")) or (run.folder / "model" / "network.json").is_file()
    if about["pipeline"] == "midlevel":
        heard = {weights["name"] for weights in about.get("weights") or ()}
        return about["midlevel"]["main"] != "a2e" and all(p.partition("@")[0] in heard for p in features.split("+"))
    one = bool(about.get("weights")) and "+" not in features and not features.endswith(("-tags", ":mean-std"))
    return about["pipeline"] == "train" and one and about["model"] in ("ridge", "elasticnet")


def _needed(run: Run) -> str:
    """What it would take to hear a run that cannot be heard."""
    if run.about["pipeline"] == "midlevel":
        return (
            "that needs qualities and pretrained networks alone, such as `python -m pipelines midlevel --network "
            "musicnn-mtt@dense`, or `--network vgg --explain all` when the run is made."
        )
    if run.about["pipeline"] == "classify":
        network = run.about["features"]["name"]
        return (
            f"an older version made it and kept no networks. Make it again with `python -m pipelines classify "
            f"--network {network}`."
        )
    return (
        "that needs a linear model on one network's embedding, such as "
        "`python -m pipelines train --features musicnn-mtt --model ridge`."
    )


def _jobs(run_id: str) -> list[JobStatus]:
    """Jobs that make maps of a run, newest first."""
    return [job for job in list_jobs() if job.pipeline == "explain" and {run_id, "lrp"} <= set(job.arguments)]
