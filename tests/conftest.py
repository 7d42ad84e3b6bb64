"""Fixtures shared by the tests: real data, artifacts folders, the app's server, and a browser."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from mer_core.compute import one_thread

one_thread()  # as the pipelines run: libraries whose threads outnumber the cores are many times slower

REPOSITORY = Path(__file__).resolve().parent.parent
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",  # lets tests call audio.play()
]
FINISHED = "[data-testid='stApp'][data-test-script-state='notRunning']"
LOCAL = ("http://127.0.0.1", "http://localhost", "ws://127.0.0.1", "ws://localhost", "blob:", "data:", "file:")


def unavailable(reason: str) -> None:
    """Skip the test, except in continuous integration, where nothing may be missing."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"{reason} (CI=true: this must not be missing)")
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def no_test_writes_into_the_repository(tmp_path_factory) -> Iterator[None]:
    """Whatever a test runs writes its artifacts into a temporary folder, also when it asked for none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty artifacts folder for this test alone."""
    folder = tmp_path / "artifacts"
    folder.mkdir()
    monkeypatch.setenv("MER_ARTIFACTS", str(folder))
    return folder


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data("deam")`: that folder (or file) of the real data, under `MER_DATA` or beside the repository."""
    root = Path(os.environ.get("MER_DATA") or REPOSITORY.parent / "shared" / "data")

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            unavailable(f"no real data at {path}: set MER_DATA to the folder that holds {name}")
        return path

    return find


@pytest.fixture(scope="session")
def real_weights() -> Callable[[str], Path]:
    """`real_weights("efficientat_mn04")`: that folder of weights, under `MER_WEIGHTS` or beside the repository."""
    root = Path(os.environ.get("MER_WEIGHTS") or REPOSITORY.parent / "shared" / "weights")

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            unavailable(f"no weights at {path}: set MER_WEIGHTS to the folder that holds {name}")
        return path

    return find


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """A headless Chromium of the system, driven by playwright: `chromium.new_context().new_page()`."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if path is None:
        unavailable("no Chromium found: install it or set CHROMIUM to its path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_health(url: str, process: subprocess.Popen, log: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"no server at {url}; its log:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.1)


@pytest.fixture(scope="session")
def serve(tmp_path_factory) -> Callable[..., AbstractContextManager[str]]:
    """Run the app, or another script, on a free port over an artifacts folder.

    Use: `with serve(artifacts) as url:`.
    """

    @contextmanager
    def start(artifacts: Path, script: Path = REPOSITORY / "app.py", timeout_s: float = 60) -> Iterator[str]:
        port, log = free_port(), tmp_path_factory.mktemp("server") / "log.txt"
        command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port)]
        command += ["--server.address", "127.0.0.1", "--server.headless", "true"]
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**os.environ, "MER_ARTIFACTS": str(artifacts)},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
            try:
                url = f"http://127.0.0.1:{port}"
                wait_for_health(url, process, log, timeout_s)
                yield url
            finally:
                process.terminate()
                process.wait(10)

    return start


def watch(page, problems: list[str]) -> None:
    """Collect what a page must never do: throw, complain on the console, or leave this machine."""

    def check_address(address: str) -> None:
        if not address.startswith(LOCAL):
            problems.append(f"leaves localhost: {address}")

    page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    page.on("console", lambda said: problems.append(f"console: {said.text}") if said.type == "error" else None)
    page.on("request", lambda request: check_address(request.url))
    page.on("websocket", lambda websocket: check_address(websocket.url))


@pytest.fixture
def watched_page(chromium) -> Callable[..., AbstractContextManager[tuple]]:
    """Open a page and fail the test when the page misbehaves.

    Use: `with serve(artifacts) as url, watched_page(url) as (page, problems):`. Waits until Streamlit has drawn the
    page (an http address). Options are those of playwright's `new_context`, such as `color_scheme="dark"` and
    `viewport={"width": 390, "height": 844}`. When the block ends without an error, a collected problem or an exception
    box fails the test; a test that provokes a problem checks it and clears the list.
    """

    @contextmanager
    def open_page(url: str, **options) -> Iterator[tuple]:
        context, problems = chromium.new_context(**options), []
        try:
            page = context.new_page()
            watch(page, problems)
            page.goto(url, wait_until="domcontentloaded")
            if url.startswith("http"):
                page.wait_for_selector(FINISHED, timeout=60_000)
            yield page, problems
            boxes = page.get_by_test_id("stException").all_inner_texts()
            assert not problems + boxes, "\n".join(problems + boxes)
        finally:
            context.close()

    return open_page
