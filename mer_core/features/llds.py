"""The 260 columns of low-level descriptors (LLDs) at 2 Hz: names, extraction, DEAM's published tables, cleaning.

Conventions
-----------
65 descriptors of the IS13 ComParE set and their 65 deltas (`_sma` and `_sma_de`: smoothed over three frames of 10 ms);
of each the population standard deviation (`_stddev`) and the mean (`_amean`) over windows of 1.0 s, one
every 0.5 s. Names and order are those of DEAM's `features/<song_id>.csv`. Tables have shape (frames, 260).

Audio is decoded at its own rate and, where that is not 44.1 kHz mono as in DEAM, mixed down and resampled to it:
roll-off, centroid and their like depend on the rate. Samples beyond full scale (decoded MP3 often has some) are
clipped, because openSMILE works on 16-bit integers and its wrapper would let them wrap around to the opposite sign.

References: F. Eyben, M. Woellmer, B. Schuller, "openSMILE", ACM Multimedia 2010; A. Aljanaki, Y.-H. Yang, M. Soleymani,
"Developing a benchmark for emotional analysis of music", PLOS ONE 12(3), 2017 (DEAM).
"""

from __future__ import annotations

import atexit
import functools
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from mer_core import compute
from mer_core.datasets.dataset import Dataset
from mer_core.errors import UserError
from mer_core.features import cache

RATE = 44100  # Hz, of all audio that is analysed
HOP = 0.5  # s between window starts
SHORTEST = 1.04  # s of audio below which openSMILE completes no window of 100 frames
FEWEST_FRAMES = 5  # windows a track must have, and
FEWEST_COLUMNS = 10  # columns with values

LLD_NAMES = (
    *("F0final", "voicingFinalUnclipped", "jitterLocal", "jitterDDP", "shimmerLocal", "logHNR"),
    *("audspec_lengthL1norm", "audspecRasta_lengthL1norm", "pcm_RMSenergy", "pcm_zcr"),
    *(f"audSpec_Rfilt[{band}]" for band in range(26)),
    *(f"pcm_fftMag_{name}" for name in ("fband250-650", "fband1000-4000")),
    *(f"pcm_fftMag_spectralRollOff{percent}.0" for percent in (25, 50, 75, 90)),
    *(
        f"pcm_fftMag_spectral{name}"
        for name in ("Flux", "Centroid", "Entropy", "Variance", "Skewness", "Kurtosis", "Slope")
    ),
    *("pcm_fftMag_psySharpness", "pcm_fftMag_spectralHarmonicity"),
    *(f"pcm_fftMag_mfcc[{number}]" for number in range(1, 15)),
)

# One functionals stage over the descriptors that openSMILE's wheel configures itself (its include file is referred to,
# not copied). The order of the levels is the order of the columns; stddev comes before amean whatever is written here.
_CONFIGURATION = r"""
[componentInstances:cComponentManager]
instance[dataMemory].type = cDataMemory

\{\cm[source{?}:audio supplied by the Python wrapper]}
\{@CONFIG@/is09-13/IS13_ComParE_core.lld.conf.inc}

[componentInstances:cComponentManager]
instance[windowStatistics].type = cFunctionals

[windowStatistics:cFunctionals]
reader.dmLevel = @LEVELS@
writer.dmLevel = func
functionalsEnabled = Moments
Moments.amean = 1
Moments.stddev = 1
Moments.variance = 0
Moments.skewness = 0
Moments.kurtosis = 0
frameSize = 1.0
frameStep = 0.5
frameMode = fixed
frameCenterSpecial = left

\{\cm[sink{?}:result collected by the Python wrapper]}
"""
_LEVELS = ("is13_lld_nzsmo", "is13_lldA_smo", "is13_lldB_smo")

_log = logging.getLogger(__name__)
_of_thread = threading.local()
_configuring = threading.Lock()


@dataclass(frozen=True)
class LldTables:
    """The LLD tables of a dataset.

    tables : track_id -> (frames, 260) float32, cleaned; a column without any value is NaN throughout
    source : "published" (the dataset's own tables) or "recomputed" (by openSMILE from audio), never a mixture
    failures : (track_id, reason) for every track without a table
    notes : one sentence for each thing the user should know of
    """

    tables: dict[str, np.ndarray]
    source: str
    failures: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


@functools.cache
def lld_columns() -> tuple[str, ...]:
    """The 260 column names in DEAM's order, such as `audSpec_Rfilt_sma_de[3]_stddev`."""

    def with_series(name: str, series: str) -> str:
        base, bracket, index = name.partition("[")
        return f"{base}_{series}{bracket}{index}"

    return tuple(
        f"{with_series(name, series)}_{functional}"
        for series in ("sma", "sma_de")
        for name in LLD_NAMES
        for functional in ("stddev", "amean")
    )


def deam_name(column: str) -> str:
    """DEAM's name of an LLD column: openSMILE and some tables leave out the prefix of the MFCCs."""
    return f"pcm_fftMag_{column}" if column.startswith("mfcc_sma") else column


def extractor_version() -> str:
    """Names everything an extracted table depends on besides the audio file; part of the cache's addresses."""
    return f"is13 1.0s/0.5s {RATE}Hz mono, opensmile {version('opensmile')}, 1"


def extract_llds(samples: np.ndarray, rate: int) -> pd.DataFrame:
    """The 260 columns of mono audio.

    Parameters
    ----------
    samples : (n,) float, full scale -1..1, all finite
    rate : Hz; other than 44100 is resampled

    Returns
    -------
    (frames, 260) float64, index the start of each window in seconds: 0, 0.5, ...

    Raises
    ------
    UserError for audio that is shorter than one window (1.04 s), or silent.
    """
    from mer_core.datasets.audio import check_audible

    if samples.ndim != 1:
        raise ValueError(f"samples have shape {samples.shape}, expected mono (n,)")
    if rate != RATE:
        import soxr

        samples = soxr.resample(samples, rate, RATE, quality="HQ")
    seconds = len(samples) / RATE
    if seconds < SHORTEST:
        raise UserError(f"The audio is {seconds:.2f} s long, but one window needs {SHORTEST} s; use a longer excerpt.")
    samples = np.clip(samples, -1.0, 32767 / 32768).astype(np.float32)
    check_audible(samples)
    values = _smile()(samples, RATE)[0].T
    index = pd.Index(np.arange(len(values)) * HOP, name="seconds")
    return pd.DataFrame(values.astype(np.float64), index=index, columns=list(lld_columns()))


def clean(frame: pd.DataFrame) -> pd.DataFrame:
    """Drop frames without any value and fill the remaining gaps with their column's mean; infinities count as gaps.

    Parameters
    ----------
    frame : (frames, columns)

    Returns
    -------
    (frames left, the same columns) float64. A column without any value stays, NaN throughout: the tables of all tracks
    keep the same columns.

    Raises
    ------
    UserError when fewer than 5 frames or fewer than 10 columns hold values.
    """
    values = frame.to_numpy(dtype=np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        kept = finite.any(axis=1)
        values, finite = values[kept], finite[kept]
        counts = finite.sum(axis=0)
        means = np.where(finite, values, 0.0).sum(axis=0) / np.where(counts, counts, np.nan)
        values = np.where(finite, values, means)
        frame = pd.DataFrame(values, index=frame.index[kept], columns=frame.columns)
    if len(frame) < FEWEST_FRAMES:
        needed = f"{FEWEST_FRAMES} are needed, which takes {SHORTEST + (FEWEST_FRAMES - 1) * HOP:.2f} s of audio"
        raise UserError(f"There are {len(frame)} frames, but at least {needed}; use a longer excerpt.")
    if (columns := int(finite.any(axis=0).sum())) < FEWEST_COLUMNS:
        raise UserError(
            f"There are {columns} descriptor columns with values, but {FEWEST_COLUMNS} are needed; check the table."
        )
    return frame.astype(np.float64)


def load_llds(
    dataset: Dataset, workers: int | None = None, progress: Callable[[float, str], None] | None = None
) -> LldTables:
    """LLD tables of all tracks: DEAM's published ones where the dataset has any, else extracted from audio, and cached.

    Published and recomputed tables are never mixed (their values differ): where some published tables are there, tracks
    without one are failures.

    Parameters
    ----------
    dataset : tracks with audio paths, or a DEAM folder with `features/<song_id>.csv`
    workers : number of threads; all cores when None
    progress : called as progress(fraction in 0..1, message)
    """
    ids = list(dataset.tracks.index)
    folder = dataset.root / "features"
    if dataset.layout == "deam" and any((folder / f"{track}.csv").is_file() for track in ids):
        return _collect("published", ids, [folder / f"{track}.csv" for track in ids], _published, workers, progress)
    return _collect("recomputed", ids, list(dataset.tracks["path"]), llds_of_file, workers, progress)


def llds_of_file(path: str | Path | None) -> tuple[np.ndarray, str | None]:
    """The cleaned table (frames, 260) float32 of an audio file, and a note when its cache entry had been damaged.

    Raises
    ------
    UserError when there is no file, or it cannot be decoded, is silent, or has fewer than 5 frames (3.04 s).
    """
    if not isinstance(path, str | Path):
        raise UserError("There is no audio file; add it to the dataset.")
    return cache.fetch(Path(path), extractor_version(), lld_columns(), lambda: _extract_file(Path(path)))


def _extract_file(path: Path) -> np.ndarray:
    from mer_core.datasets.audio import read_audio

    samples, rate = read_audio(path, rate=RATE)
    try:
        return clean(extract_llds(samples, rate)).to_numpy(dtype=np.float32)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _published(path: Path) -> tuple[np.ndarray, None]:
    if not path.is_file():
        raise UserError(f"There is no table {path}, and recomputed tables are not mixed with published ones; add it.")
    return read_published(path).to_numpy(dtype=np.float32), None


def read_published(path: Path) -> pd.DataFrame:
    """One of DEAM's `features/<song_id>.csv`, cleaned: (frames, 260), index frameTime in seconds.

    The MFCCs may be named with or without `pcm_fftMag_`. Columns the file lacks are NaN.

    Raises
    ------
    UserError for a file that is no such table.
    """
    try:
        frame = pd.read_csv(path, sep=";", skipinitialspace=True)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path} is no table of descriptors ({error}); download it again.") from error
    frame.columns = [deam_name(str(column).strip()) for column in frame.columns]
    if "frameTime" not in frame.columns:
        raise UserError(f"{path} has no column frameTime; expected DEAM's layout, separated by semicolons.")
    frame = frame.set_index("frameTime")
    known = set(lld_columns())
    for column, kind in frame.dtypes.items():
        if column not in known:
            raise UserError(f"{path} has the unknown column {column!r}; expected DEAM's 260 descriptor columns.")
        if not pd.api.types.is_numeric_dtype(kind):
            raise UserError(f"{path} has a value in {column} that is no number; download it again.")
    try:
        return clean(frame.reindex(columns=list(lld_columns())))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _collect(source, ids, paths, read, workers, progress) -> LldTables:
    """Read every track's table; errors become failures, except when nothing else came and one was not the user's."""
    tell = progress and (lambda fraction, message: progress(fraction, f"descriptors, {source}: {message} tracks"))
    outcomes = compute.map_items(read, paths, workers, tell)
    tables, failures, notes = {}, [], []
    for track, outcome in zip(ids, outcomes, strict=True):
        if outcome.error is not None:
            failures.append((track, reason(outcome.error)))
            continue
        tables[track], note = outcome.value
        if note:
            _log.warning(note)
            notes.append(note)
    ours = [outcome.error for outcome in outcomes if outcome.error and not isinstance(outcome.error, UserError)]
    if ours and not tables:
        raise ours[0]
    return LldTables(tables, source, tuple(failures), tuple(notes))


def reason(error: Exception) -> str:
    """What to tell the user about an item's error: a failure of ours (logged with its traceback) goes by its type."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def _smile():
    """OpenSMILE of the calling thread (one object may not serve two threads)."""
    if not hasattr(_of_thread, "smile"):
        import opensmile

        with _configuring:
            path = configuration()
        smile = opensmile.Smile(feature_set=str(path), feature_level="func")
        names = tuple(deam_name(name) for name in smile.feature_names)
        if names != lld_columns():
            raise RuntimeError(f"opensmile {version('opensmile')} names its columns differently: {names[:3]}...")
        _of_thread.smile = smile
    return _of_thread.smile


@functools.cache
def configuration() -> Path:
    """A configuration file for openSMILE, removed when this process ends."""
    import opensmile

    root = Path(opensmile.__file__).parent / "core" / "config"
    levels = ";".join((*_LEVELS, *(f"{level}_de" for level in _LEVELS)))
    folder = Path(tempfile.mkdtemp(prefix="mer-opensmile-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "deam260.conf"
    path.write_text(_CONFIGURATION.replace("@CONFIG@", root.as_posix()).replace("@LEVELS@", levels), encoding="utf-8")
    return path
