"""`start.py`: setting up, mending what is damaged, choosing a port, starting the app, and telling mistakes plainly."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import free_port

REPOSITORY = Path(__file__).resolve().parent.parent
LISTS = ("requirements.txt", "requirements-nodeps.txt", "requirements-test.txt")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that consists of `start.py` and of requirement files that ask for nothing."""
    shutil.copy(REPOSITORY / "start.py", tmp_path)
    for name in LISTS:
        (tmp_path / name).write_text("# nothing\n")
    return tmp_path


@pytest.fixture
def start(project: Path):
    """The module, with its paths inside the temporary project."""
    spec = importlib.util.spec_from_file_location("start_under_test", project / "start.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(project: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, str(project / "start.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, **options)


def pretend_installed(start, name: str, files: tuple[str, ...]) -> Path:
    """Lay a package's files and its note into the environment, as pip does."""
    info = start.site_packages() / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    for file in files:
        path = start.site_packages() / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    notes = [*files, "../../../bin/tool", f"{info.name}/METADATA"]
    (info / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in notes))
    return info


def stamp_all(start) -> None:
    start.VENV.mkdir(exist_ok=True)
    start.write_stamp({name: start.digest(name) for name in LISTS})


# ---- the file itself ----


def test_an_older_python_can_read_the_file_and_says_which_one_it_needs(start, monkeypatch, capsys):
    ast.parse((REPOSITORY / "start.py").read_text(encoding="utf-8"), feature_version=(3, 8))
    monkeypatch.setattr(start.sys, "version_info", (3, 8, 18))
    assert start.main([]) == 2
    said = capsys.readouterr().out
    assert "3.11" in said and "3.8.18" in said and said.count("\n") == 1


def test_only_the_standard_library_is_used():
    tree = ast.parse((REPOSITORY / "start.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["tset"], "tset"), (["--port", "many"], "many"), (["--port", "70000"], "70000"), (["--browser"], "--browser")],
)
def test_mistakes_in_the_call_end_with_code_2_and_name_the_value(project, arguments, word):
    done = run(project, *arguments)
    assert done.returncode == 2
    assert word in done.stderr and "Traceback" not in done.stderr
    assert not (project / ".venv").exists()


def test_what_follows_test_goes_to_pytest(start):
    options, rest = start.read_arguments(["test", "-k", "audio", "--port", "tests/test_x.py"])
    assert options.command == "test"
    assert rest == ["-k", "audio", "--port", "tests/test_x.py"]


# ---- what has to be installed ----


def test_nothing_is_installed_while_the_stamp_holds(start):
    stamp_all(start)
    assert start.what_to_install(start.TEST_LISTS) == []


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"requirements.txt": "other"}'])
def test_without_a_valid_stamp_everything_is_installed(start, content):
    start.VENV.mkdir()
    if content is not None:
        start.STAMP.write_text(content)
    assert start.what_to_install(start.APP_LISTS) == list(start.APP_LISTS)


def test_a_changed_list_is_installed_again_and_is_off_the_stamp_until_it_is(start, project):
    stamp_all(start)
    (project / "requirements-test.txt").write_text("# another nothing\n")
    assert start.what_to_install(start.TEST_LISTS) == ["requirements-test.txt"]
    assert "requirements-test.txt" not in start.read_stamp()
    assert start.what_to_install(start.APP_LISTS) == []


def test_another_python_version_has_another_digest(start, monkeypatch):
    before = start.digest("requirements.txt")
    monkeypatch.setattr(start.sysconfig, "get_python_version", lambda: "3.12")
    assert start.digest("requirements.txt") != before


def test_names_in_a_list_are_read_as_pip_reads_them(start, project):
    lines = ["# zlib", "", "Pretty_MIDI>=0.2,<0.3", "dask[distributed]", "ruamel.yaml==1", "--no-index"]
    lines.append("winonly>=1; sys_platform == 'win32'")
    (project / "requirements.txt").write_text("\n".join(lines))
    assert start.required_names("requirements.txt") == {"pretty-midi", "dask", "ruamel-yaml"}


def test_a_listed_package_that_is_not_there_is_installed_again(start, project):
    (project / "requirements.txt").write_text("Some_Package>=1\n")
    stamp_all(start)
    assert start.what_to_install(start.APP_LISTS) == ["requirements.txt"]
    pretend_installed(start, "some_package", ("some_package/__init__.py",))
    stamp_all(start)
    assert start.what_to_install(start.APP_LISTS) == []


def test_an_intact_package_is_left_alone(start):
    stamp_all(start)
    info = pretend_installed(start, "whole", ("whole/__init__.py", "whole/deep/x.py", "single.py"))
    assert start.what_to_install(start.APP_LISTS) == []
    assert info.exists()


@pytest.mark.parametrize("lost", ["package/__init__.py", "single.py", "RECORD", "METADATA"])
def test_a_damaged_package_is_forgotten_and_everything_is_checked_by_pip(start, lost, capsys):
    stamp_all(start)
    info = pretend_installed(start, "torn", ("package/__init__.py", "package/x.py", "single.py"))
    (info / lost if lost.isupper() else start.site_packages() / lost).unlink()
    assert start.what_to_install(start.APP_LISTS) == list(start.APP_LISTS)
    assert not info.exists()
    assert start.read_stamp() == {}
    assert "torn" in capsys.readouterr().out


def test_a_failed_installation_shows_pips_last_lines_and_leaves_no_stamp(start, project, monkeypatch):
    monkeypatch.setattr(start, "venv_python", lambda: sys.executable)
    (project / "requirements.txt").write_text("./no-such-folder\n")
    start.VENV.mkdir()
    monkeypatch.setattr(start, "venv_works", lambda: True)
    with pytest.raises(start.Stop) as failure:
        start.set_up(start.APP_LISTS)
    assert failure.value.code == 1
    assert "requirements.txt" in str(failure.value) and "no-such-folder" in str(failure.value)
    assert start.read_stamp() == {}


# ---- for real, without a network ----


@pytest.mark.slow  # makes two environments
def test_set_up_once_then_only_what_is_damaged(project):
    first = run(project, "setup")
    assert first.returncode == 0, first.stderr
    assert "Making .venv" in first.stdout and "requirements.txt: installed" in first.stdout
    stamp = project / ".venv" / "installed.json"
    assert set(json.loads(stamp.read_text())) == {"requirements.txt", "requirements-nodeps.txt"}

    second = run(project, "setup")
    assert second.returncode == 0 and "installed in" not in second.stdout and ".venv" not in second.stdout

    stamp.unlink()
    mended = run(project, "setup")
    assert "requirements.txt: installed" in mended.stdout and ".venv" not in mended.stdout

    python = project / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    python.unlink()
    python.write_text("not a program")
    remade = run(project, "setup")
    assert remade.returncode == 0, remade.stderr
    assert "Remaking .venv" in remade.stdout and "requirements.txt: installed" in remade.stdout
    assert "installed in" not in run(project, "setup").stdout


def test_the_environments_python_must_have_this_version_and_pip(start, monkeypatch):
    monkeypatch.setattr(start, "venv_python", lambda: sys.executable)
    assert start.venv_works()
    monkeypatch.setattr(start.sysconfig, "get_python_version", lambda: "3.99")
    assert not start.venv_works()
    monkeypatch.undo()
    assert not start.venv_works()


def test_an_environment_that_cannot_be_made_is_told_with_its_reason(project):
    (project / ".venv").write_text("a file is in the way")
    done = run(project, "setup")
    assert done.returncode == 1
    assert ".venv failed" in done.stderr and "Traceback" not in done.stderr


# ---- ports, the demo, the app ----


def test_a_busy_default_port_gives_the_next_and_a_busy_named_port_a_message(start, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        busy = other.getsockname()[1]
        monkeypatch.setattr(start, "PORT", busy)
        assert busy < start.choose_port(None) < busy + 100
        with pytest.raises(start.Stop, match=f"Port {busy} is in use") as failure:
            start.choose_port(busy)
        assert failure.value.code == 2
    assert start.choose_port(busy) == busy


def write_status(folder: Path, state: str) -> None:
    (folder / "jobs" / "demo").mkdir(parents=True, exist_ok=True)
    (folder / "jobs" / "demo" / "status.json").write_text(json.dumps({"state": state}))


def test_the_demo_is_built_when_there_is_no_finished_run_or_when_it_was_interrupted(start, artifacts):
    assert start.demo_wanted()
    (artifacts / "runs" / ".partial-demo").mkdir(parents=True)
    (artifacts / "runs" / ".partial-demo" / "run.json").write_text("{}")
    assert start.demo_wanted()
    (artifacts / "runs" / "mine").mkdir()
    (artifacts / "runs" / "mine" / "run.json").write_text("{}")
    assert not start.demo_wanted()
    write_status(artifacts, "cancelled")
    assert start.demo_wanted()
    write_status(artifacts, "done")
    assert not start.demo_wanted()


def borrow_our_packages(start) -> None:
    """Give the project an environment that is complete at once, because it reads the packages of ours."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(start.VENV)], check=True)
    (start.site_packages() / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    stamp_all(start)


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to a process on Windows")
def test_ctrl_c_ends_the_app_and_the_demo_without_a_traceback(start, project, artifacts):
    shutil.copytree(REPOSITORY / ".streamlit", project / ".streamlit")
    (project / "app.py").write_text("import streamlit as st\nst.title('Small')\n")
    (project / "pipelines").mkdir()
    (project / "pipelines" / "__main__.py").write_text(
        "import sys, time\nprint(sys.argv[1:], flush=True)\ntime.sleep(60)\n"
    )
    borrow_our_packages(start)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(project / "start.py"), "--no-browser", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    demo = artifacts / "jobs" / "demo" / "output.txt"
    deadline = time.monotonic() + 60
    while not (demo.exists() and demo.read_text()):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.1)
    assert urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).read() == b"ok"
    assert demo.read_text().strip() == "['demo', '--run-id', 'demo']"
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 0
    assert f"http://127.0.0.1:{port}" in said and "Stopped." in said and "Traceback" not in said
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5)
