"""The 15 statistics: our numpy against pandas, on tables of DEAM's size (songs x 88 frames x 260 columns).

    python -m benchmarks.statistics [DATA] [--songs 1802]

The tables are LLDs of the clips in DATA (default: `MER_DATA`), cycled, scaled and shuffled in time up to the number of
songs; random walks where there are none. The references compute the same numbers: column by column with pandas, on
three songs (it is slow), and with one reduction a statistic over each song's DataFrame, on fifty. All run in one
thread. Budget: at least 100 times the first's speed and 3 times the second's, same numbers to 1e-6.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

from mer_core.compute import one_thread

one_thread()

import numpy as np  # noqa: E402  (after one_thread, which acts on numpy's libraries as they load)
import pandas as pd  # noqa: E402

from mer_core.features.llds import lld_columns, llds_of_file  # noqa: E402
from mer_core.features.statistics import STATISTICS_15, summarise  # noqa: E402

FRAMES = 88


def of_series(x: pd.Series) -> list[float]:
    """The 15 statistics of one column of one song."""
    n, median = len(x), x.median()
    q25, q75 = x.quantile(0.25), x.quantile(0.75)
    slope = np.polyfit(np.arange(n), x, 1)[0] if n >= 10 else (x.iloc[-1] - x.iloc[0]) / max(n - 1, 1)
    return [
        *(x.mean(), x.std(), x.min(), x.max(), q25, q75, x.skew(), x.kurt(), x.max() - x.min(), q75 - q25),
        *(x.std() / (abs(x.mean()) + 1e-8), median, (x - median).abs().median(), x.diff().abs().mean(), slope),
    ]


def of_frame(x: pd.DataFrame) -> np.ndarray:
    """The 15 statistics of all columns of one song, one DataFrame reduction after the other."""
    n, mean, std, low, high, median = len(x), x.mean(), x.std(), x.min(), x.max(), x.median()
    quartiles = x.quantile([0.25, 0.75])
    q25, q75 = quartiles.iloc[0], quartiles.iloc[1]
    slope = np.polyfit(np.arange(n), x.to_numpy(), 1)[0] if n >= 10 else (x.iloc[-1] - x.iloc[0]) / max(n - 1, 1)
    result = [mean, std, low, high, q25, q75, x.skew(), x.kurt(), high - low, q75 - q25, std / (mean.abs() + 1e-8)]
    result += [median, (x - median).abs().median(), x.diff().abs().mean(), slope]
    return np.stack(result, axis=1).ravel()


def tables(data: str | None, songs: int) -> list[np.ndarray]:
    """As many tables (88, 260) float32, as the loader gives them."""
    rng = np.random.default_rng(0)
    files = sorted(Path(data, "deam/MEMD_audio").glob("*.mp3")) if data else []
    clips = [llds_of_file(path)[0][:FRAMES] for path in files]
    print(f"made from the LLDs of {len(clips)} clips" if clips else "made from random walks")
    if not clips:
        return [rng.normal(size=(FRAMES, len(lld_columns()))).cumsum(axis=0).astype(np.float32) for _ in range(songs)]
    scales = rng.uniform(0.5, 2, songs).astype(np.float32)
    return [rng.permutation(clips[song % len(clips)]) * scales[song] for song in range(songs)]


def timed(work: Callable, repeats: int) -> tuple[float, object]:
    """Seconds of the fastest repeat, and the result."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("MER_DATA"), help="folder of the real data")
    parser.add_argument("--songs", type=int, default=1802)
    options = parser.parse_args()
    songs = tables(options.data, options.songs)
    few, some = [[pd.DataFrame(song.astype(float)) for song in songs[:count]] for count in (3, 50)]

    columns_s, by_column = timed(lambda: [np.ravel([of_series(song[c]) for c in song]) for song in few], 1)
    frames_s, by_frame = timed(lambda: [of_frame(song) for song in some], 3)
    ours_s, ours = timed(lambda: summarise(songs, STATISTICS_15), 3)
    per_song = [1000 * columns_s / len(few), 1000 * frames_s / len(some), 1000 * ours_s / len(songs)]
    print(f"{'':28}ms a song   ours is faster by   largest difference")
    references = {"pandas, column by column": by_column, "pandas, song by song": by_frame}
    for (name, reference), ms in zip(references.items(), per_song[:2], strict=True):
        apart = difference(ours[: len(reference)], np.array(reference))
        print(f"{name:28}{ms:9.2f}{ms / per_song[2]:20.1f}{apart:21.1e}")
    print(f"{'ours':28}{per_song[2]:9.2f}   ({ours_s:.2f} s for {len(songs)} songs)")


def difference(ours: np.ndarray, reference: np.ndarray) -> float:
    """Largest difference, relative to values beyond 1."""
    if not np.array_equal(np.isnan(ours), np.isnan(reference)):
        raise SystemExit("ours and pandas differ in what is undefined")
    return float(np.nanmax(np.abs(ours - reference) / np.maximum(1, np.abs(reference))))


if __name__ == "__main__":
    main()
