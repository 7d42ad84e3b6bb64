"""Work that outlives a page: start a pipeline as a process of its own, watch it through two files, cancel it.

A job's folder `artifacts/jobs/<job_id>/` holds `status.json` (replaced atomically, with a heartbeat) and `log.txt`.
It stays when the work fails or is cancelled, so that the reason can be read later. Liveness is judged by the
heartbeat, never by the process id: a dead child can keep its id as a zombie.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mer_core.errors import UserError
from mer_core.paths import REPOSITORY, artifacts_root

HEARTBEAT_S = 1.0
SILENT_AFTER_S = 20.0  # an import of torch or shap on a busy machine can hold every thread for seconds
KEPT_JOBS = 200


@dataclass(frozen=True)
class JobStatus:
    """State of a job as its `status.json` says.

    state : "running", "done", "failed" or "cancelled"; readers also see "died" (running, but no heartbeat for 20 s)
    fraction : share of the work that is done, 0..1
    message : what is being done, or why it ended
    heartbeat, started : seconds since 1970
    arguments : what the command line said, for the history
    run : id of the finished run this job opens on, once there is one
    """

    job_id: str
    pipeline: str
    state: str = "running"
    fraction: float = 0.0
    message: str = "starting"
    heartbeat: float = 0.0
    started: float = 0.0
    pid: int = 0
    arguments: tuple[str, ...] = ()
    run: str | None = None

    @property
    def active(self) -> bool:
        """Whether the work still goes on."""
        return self.state == "running"


def jobs_root() -> Path:
    """Folder of all jobs."""
    return artifacts_root() / "jobs"


def _checked(job_id: str) -> str:
    """Return the id, or raise UserError where it is not a plain folder name."""
    if not job_id or Path(job_id).name != job_id or job_id.startswith("."):
        raise UserError(f"job id {job_id!r} is not a plain name; use letters, digits and dashes")
    return job_id


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file so that a reader sees the old content or the new, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


class Job:
    """Status file, log and heartbeat of the process that does the work.

    Used as a context manager: leaving it normally means "done", a UserError or any other exception "failed" with the
    reason, KeyboardInterrupt "cancelled". The exception goes on.
    """

    def __init__(self, job_id: str, pipeline: str, arguments: tuple[str, ...] = (), echo: bool = True):
        """`echo` also prints progress to standard error."""
        self.folder = jobs_root() / _checked(job_id)
        now = time.time()
        self.status = JobStatus(job_id, pipeline, heartbeat=now, started=now, pid=os.getpid(), arguments=arguments)
        self._echo = echo
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._last_line = ""

    def __enter__(self) -> Job:
        """Claim the folder and start the heartbeat; UserError when a living job has the same id."""
        existing = job_status(self.status.job_id)
        if existing is not None and existing.active and existing.pid not in (0, os.getpid()):
            raise UserError(
                f"job {self.status.job_id!r} is already running (process {existing.pid}); "
                "wait for it, cancel it, or give another --run-id"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "log.txt").write_text("", encoding="utf-8")
        self._write()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        """Write the final state."""
        if error is None:
            state, message = "done", self.status.message
        elif isinstance(error, UserError):
            state, message = "failed", str(error)
        elif isinstance(error, KeyboardInterrupt):
            state, message = "cancelled", "cancelled; nothing half-written was left behind"
        else:
            state, message = "failed", f"{type(error).__name__}: {error}"
            self.log("".join(traceback.format_exception(kind, error, trace)))
        self._stop.set()
        with self._lock:
            fraction = 1.0 if state == "done" else self.status.fraction
            self.status = replace(self.status, state=state, message=message, fraction=fraction)
        self.log(f"{state}: {message}")
        self._write()

    def progress(self, fraction: float, message: str) -> None:
        """Say how far the work is (0..1) and what is being done."""
        with self._lock:
            self.status = replace(self.status, fraction=round(min(max(fraction, 0.0), 1.0), 4), message=message)
        self._write()
        self._print_progress()

    def opens_on(self, run_id: str) -> None:
        """Name the finished run that a watcher should show."""
        with self._lock:
            self.status = replace(self.status, run=run_id)
        self._write()

    def log(self, text: str) -> None:
        """Append a line, with the time, to the log."""
        stamp = datetime.now().strftime("%H:%M:%S")
        with self._lock, (self.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{stamp} {text.rstrip()}\n")

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            self._write()

    def _write(self) -> None:
        with self._lock:
            self.status = replace(self.status, heartbeat=time.time())
            write_atomically(self.folder / "status.json", json.dumps(asdict(self.status)))

    def _print_progress(self) -> None:
        """One line per message; messages that differ in their counts alone only on a terminal, in place."""
        line = f"{self.status.fraction:4.0%}  {self.status.message}"
        stem = re.sub(r"\d+", "#", self.status.message)
        if stem != self._last_line:
            self.log(self.status.message)
        if not self._echo:
            return
        if sys.stderr.isatty():
            end = "\r" if stem == self._last_line else "\n"
            print(f"\x1b[2K{line}", end=end, file=sys.stderr, flush=True)
        elif stem != self._last_line:
            print(line, file=sys.stderr, flush=True)
        self._last_line = stem


def job_status(job_id: str) -> JobStatus | None:
    """Status of a job, or None where there is none; a running job without a heartbeat is reported as "died"."""
    path = jobs_root() / _checked(job_id) / "status.json"
    try:
        status = JobStatus(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, TypeError) as error:
        return JobStatus(
            job_id, "unknown", "failed", message=f"status.json cannot be read ({error}); delete {path.parent}"
        )
    status = replace(status, arguments=tuple(status.arguments))
    if status.active and time.time() - status.heartbeat > SILENT_AFTER_S:
        return replace(
            status, state="died", message="the process ended without a word; see the log, then start it again"
        )
    return status


def job_log(job_id: str, lines: int = 200) -> str:
    """Last lines of a job's log, empty where there is none."""
    path = jobs_root() / _checked(job_id) / "log.txt"
    if not path.exists():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def list_jobs() -> list[JobStatus]:
    """All jobs, newest first."""
    if not jobs_root().is_dir():
        return []
    found = [job_status(folder.name) for folder in jobs_root().iterdir() if folder.is_dir() and folder.name[0] != "."]
    return sorted((status for status in found if status is not None), key=lambda status: -status.started)


def start_job(pipeline: str, arguments: dict[str, object], job_id: str | None = None) -> str:
    """Start `python -m pipelines PIPELINE --field value ...` in the background and return the job's id.

    The process is detached: it goes on when the page, or the server, is left. A first status is written at once, so
    that a watcher sees the job before the process has loaded its libraries.
    """
    job_id = _checked(job_id or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{pipeline}-{os.urandom(2).hex()}")
    options = [part for name, value in arguments.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    folder = jobs_root() / job_id
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    first = JobStatus(
        job_id, pipeline, heartbeat=now, started=now, arguments=tuple(options), message="loading libraries"
    )
    write_atomically(folder / "status.json", json.dumps(asdict(first)))
    command = [sys.executable, "-m", "pipelines", pipeline, *options, "--run-id", job_id]
    detached = (
        {"start_new_session": True} if os.name == "posix" else {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    )
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **detached
        )
    _forget_old_jobs()
    return job_id


def cancel_job(job_id: str) -> None:
    """Ask a running job to stop; it removes what it has half-written. UserError when it is not running."""
    status = job_status(job_id)
    if status is None or not status.active:
        raise UserError(
            f"job {job_id!r} is not running ({'unknown' if status is None else status.state}); nothing to cancel"
        )
    if not status.pid:
        raise UserError(f"job {job_id!r} is still loading its libraries; try again in a few seconds")
    try:
        os.kill(status.pid, signal.SIGTERM)
    except ProcessLookupError:
        raise UserError(f"job {job_id!r} has already ended; reload the page") from None


def _forget_old_jobs() -> None:
    """Keep the history short: the oldest ended jobs beyond 200 are removed."""
    for status in [status for status in list_jobs() if not status.active][KEPT_JOBS:]:
        shutil.rmtree(jobs_root() / status.job_id, ignore_errors=True)
