"""From notes to sound: General MIDI instruments, a small room, and a set loudness.

The instruments are those of TimGM6mb.sf2, read from where pretty_midi's wheel has it and never copied.

Conventions
-----------
Stereo, 44.1 kHz, float in [-1, 1], shape (2, n). Loudness in LUFS (ITU-R BS.1770, measured by pyloudnorm).
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mer_core.errors import UserError

RATE = 44100
FADE_S = 0.4
LIMITER_WINDOW = 440  # samples, 10 ms
HIGHEST_PEAK = 10 ** (-2.0 / 20)  # of the samples; what lies between them stays below -1 dBFS then

# Instruments of each timbre level from high to low: (lowest mean pitch of the voice, General MIDI program, amplitude).
# Soft to bright. The amplitudes even out what the soundfont's presets differ by.
FAMILIES = (
    ((64, 74, 0.55), (0, 53, 1.0)),  # recorder, voices
    ((0, 0, 1.0),),  # piano
    ((62, 68, 0.8), (50, 69, 1.0), (40, 42, 0.45), (0, 43, 0.4)),  # oboe, English horn, cello, double bass
    ((54, 56, 0.75), (44, 57, 1.0), (0, 58, 0.6)),  # trumpet, trombone, tuba
    # From here on of the composed corpus alone; the demo's four stand first.
    ((62, 73, 0.7), (0, 71, 0.8)),  # flute, clarinet
    ((0, 46, 1.2),),  # harp
    ((0, 24, 1.0),),  # guitar
    ((0, 4, 1.0),),  # electric piano
    ((62, 40, 0.6), (50, 41, 0.6), (40, 42, 0.45), (0, 43, 0.4)),  # violin, viola, cello, double bass
    ((54, 65, 0.7), (0, 67, 0.7)),  # saxophones
)
FAMILY_LEVELS = (0, 1, 2, 3, 0, 0, 1, 1, 2, 3)
FAMILY_NAMES = (
    *("recorder and voices", "piano", "oboes and strings", "brass"),
    *("flute and clarinet", "harp", "guitar", "electric piano", "string quartet", "saxophones"),
)
PAN = (-0.12, 0.35, -0.35, 0.15)  # of voices 0-3, -1 left to 1 right

REVERB_S = 1.5
REVERB_DB = -17.5
PREDELAY_S = 0.014


def render(notes: np.ndarray, seconds: float, timbre: int, lufs: float) -> tuple[np.ndarray, float]:
    """Sound of a performance.

    Parameters
    ----------
    notes : NOTES array, see `performance`
    seconds : length of the clip
    timbre : index into FAMILIES, whose first four are the levels of that cue
    lufs : wanted loudness

    Returns
    -------
    float32 (2, n), and its loudness in LUFS: as wanted, or a little less where peaks had to be held below HIGHEST_PEAK
    """
    length = round(seconds * RATE)
    sound = _with_room(_synthesise(notes, timbre, length))
    sound -= sound.mean(axis=1, keepdims=True)
    fade = round(FADE_S * RATE)
    sound[:, -fade:] *= np.cos(np.linspace(0, np.pi / 2, fade)) ** 2
    sound = sound * 10 ** ((lufs - loudness(sound)) / 20)
    limited = _limited(sound)
    return limited.astype(np.float32), lufs if limited is sound else loudness(limited)


def _limited(sound: np.ndarray) -> np.ndarray:
    """Turn the gain down for a few milliseconds around peaks above HIGHEST_PEAK, smoothly and without overshoot."""
    from scipy.ndimage import minimum_filter1d, uniform_filter1d

    peak = np.abs(sound).max(axis=0)
    if peak.max() <= HIGHEST_PEAK:
        return sound
    needed = HIGHEST_PEAK / np.maximum(peak, HIGHEST_PEAK)
    # The mean over a window of the minimum over twice that window is never above the gain needed in its middle.
    return sound * uniform_filter1d(minimum_filter1d(needed, 2 * LIMITER_WINDOW + 1), LIMITER_WINDOW + 1)


def loudness(sound: np.ndarray) -> float:
    """Integrated loudness of (2, n) samples in LUFS."""
    import pyloudnorm

    return pyloudnorm.Meter(RATE).integrated_loudness(sound.T)


def program_for(timbre: int, mean_pitch: float) -> tuple[int, float]:
    """General MIDI program and amplitude of the instrument that plays a voice around `mean_pitch`."""
    return next((program, level) for lowest, program, level in FAMILIES[timbre] if mean_pitch >= lowest)


def _synthesise(notes: np.ndarray, timbre: int, length: int) -> np.ndarray:
    synth = _synthesiser().Synth(gain=-6.0, samplerate=RATE)
    font = synth.sfload(_soundfont())
    amplitude = {}
    for voice in np.unique(notes["voice"]).tolist():
        program, amplitude[voice] = program_for(timbre, notes["pitch"][notes["voice"] == voice].mean())
        synth.program_select(voice, font, 0, program)
        synth.control_change(voice, 10, round(64 + 63 * PAN[voice % len(PAN)]))
    events = []
    for note in notes:
        voice, pitch = int(note["voice"]), int(note["pitch"])
        velocity = max(1, round(int(note["velocity"]) * amplitude[voice]))
        events.append((round(note["start"] * RATE), 1, voice, pitch, velocity))
        events.append((round(note["end"] * RATE), 0, voice, pitch, 0))
    return _play(synth, sorted(events), length)


def _play(synth, events: list[tuple[int, int, int, int, int]], length: int) -> np.ndarray:
    """Samples (2, length); an event is (sample, 1 on or 0 off, channel, pitch, velocity), offs first."""
    sound = np.empty((length, 2), np.float32)
    position = 0
    for at, begins, channel, pitch, velocity in [*events, (length, 0, 0, 0, 0)]:
        if at > position:
            block = memoryview(sound[position:at]).cast("B")
            synth.generate_simple(at - position, buffer=block)
            position = at
        if begins:
            synth.noteon(channel, pitch, velocity)
        else:
            synth.noteoff(channel, pitch)
    return sound.T


def check_installed() -> None:
    """Raise UserError with the cure where a package that rendering needs is missing."""
    _synthesiser()
    _soundfont()


def _synthesiser():
    try:
        import tinysoundfont
    except ImportError:
        raise UserError(_missing("tinysoundfont", "pip install --no-deps -r requirements-nodeps.txt")) from None
    return tinysoundfont


def _soundfont() -> str:
    package = find_spec("pretty_midi")  # found but not imported: only its file is wanted
    if package is None:
        raise UserError(_missing("pretty_midi", "pip install -r requirements.txt"))
    return str(Path(package.origin).with_name("TimGM6mb.sf2"))


def _missing(package: str, command: str) -> str:
    return f"the package {package} is missing, but the demo corpus is rendered with it; run: {command}"


@cache
def _room() -> np.ndarray:
    """Impulse response (2, n) of a small hall: decaying noise that loses its treble first; the same in every clip."""
    from scipy.signal import lfilter

    time = np.arange(round(REVERB_S * RATE)) / RATE
    noise = np.random.default_rng(20130730).normal(size=(2, len(time)))
    dark = lfilter([0.18], [1, -0.82], noise) * np.exp(-6.9 * time / REVERB_S)
    bright = lfilter([0.5], [1, -0.5], noise) * np.exp(-6.9 * time / (0.4 * REVERB_S))
    tail = dark + 0.3 * bright
    tail *= 10 ** (REVERB_DB / 20) / np.sqrt((tail**2).sum(axis=1, keepdims=True))
    return np.pad(tail, ((0, 0), (round(PREDELAY_S * RATE), 0))).astype(np.float32)


def _with_room(dry: np.ndarray) -> np.ndarray:
    from scipy.signal import oaconvolve

    middle = dry.mean(axis=0)
    wet = [oaconvolve(middle, side)[: len(middle)] for side in _room()]
    return (dry + wet).astype(np.float64)
