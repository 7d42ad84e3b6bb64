"""Where work runs: threads of this machine.

Threads suffice because what takes time here (openSMILE, libsndfile, numpy's sorts and products) releases the
interpreter lock, and they share the tables that processes would have to copy. Numerical libraries run one thread per
worker.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mer_core.errors import UserError

Progress = Callable[[float, str], None]

PROGRESS_EVERY = 0.1  # s, at least, between two reports of progress

_THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one item: its value, or the error that took its place (never both)."""

    item: Any
    value: Any = None
    error: Exception | None = None


def default_workers() -> int:
    """Number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def one_thread() -> None:
    """Let numerical libraries use one thread each, so that workers do not compete; call it before importing numpy.

    Settings the user has made in the environment stay. A numpy that is already loaded is limited through threadpoolctl.
    """
    for name in _THREAD_SETTINGS:
        os.environ.setdefault(name, "1")
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(int(os.environ["OMP_NUM_THREADS"].split(",")[0]))


def map_items(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Apply `function` to every item in threads; one failing item does not stop the others.

    Parameters
    ----------
    function : called with one item; may be called from several threads at once
    items : the work
    workers : number of threads, 1 or more; default_workers() when None
    progress : called as progress(fraction in 0..1, message) from the calling thread as items finish, at most ten
        times a second, and at the end

    Returns
    -------
    One Outcome per item, in the order of the items. Errors that are no UserError are also logged with their traceback:
    they are failures of ours, which the caller must report.

    Raises
    ------
    UserError when `workers` is not at least 1. An interrupt, or an error raised by `progress`, drops the items not yet
    begun and leaves at once; the items under way end in the background.
    """
    if workers is not None and workers < 1:
        raise UserError(f"The number of workers is {workers}, but must be at least 1; leave it out to use all cores.")
    items = list(items)
    pool = ThreadPoolExecutor(max_workers=min(workers or default_workers(), max(len(items), 1)))
    try:
        futures = [pool.submit(_attempt, function, item) for item in items]
        _watch(futures, progress)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return [future.result() for future in futures]


def _attempt(function: Callable[[Any], Any], item: Any) -> Outcome:
    try:
        return Outcome(item, value=function(item))
    except UserError as error:
        return Outcome(item, error=error)
    except Exception as error:
        _log.exception("%s failed", item)
        return Outcome(item, error=error)


def _watch(futures: list[Future], progress: Progress | None) -> None:
    """Wait for all futures, telling `progress` as they end."""
    ended = queue.SimpleQueue()
    for future in futures:
        future.add_done_callback(ended.put)
    finished, told = 0, -math.inf
    while finished < len(futures):
        try:
            # With a timeout, because on Windows Ctrl-C does not end a wait without one.
            ended.get(timeout=1.0)
        except queue.Empty:
            continue
        finished += 1
        now = time.monotonic()
        if progress is not None and (now - told >= PROGRESS_EVERY or finished == len(futures)):
            told = now
            progress(finished / len(futures), f"{finished} of {len(futures)}")
