"""The shape of the code: which way imports run, what stays light, and what no file holds."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
# A part of mer_core imports only parts in its own row or in a row above.
STAGES = (
    {"errors", "paths"},
    {"compute", "jobs"},
    {"datasets"},
    {"features"},
    {"models"},
    {"explain"},
    {"evaluate"},
    {"runs"},
    {"plots", "listening"},
    {"site"},
)
RANK = {part: rank for rank, row in enumerate(STAGES) for part in row}
APP = {"app", "pages", "ui", "streamlit"}
HEAVY = {"torch", "transformers", "shap", "opensmile", "librosa", "sklearn", "streamlit", "music21", "tinysoundfont"}
PAGES_MAY_IMPORT = {"streamlit", "plotly", "pandas", "numpy", "ui", "pipelines"} | {
    f"mer_core.{part}" for part in ("runs", "plots", "listening", "compute", "jobs", "errors", "paths")
}
# The pages' helpers also sum the attributions and sonify the maps that a run hands them; these modules are light.
UI_MAY_IMPORT = PAGES_MAY_IMPORT | {
    "mer_core.explain.attribution",
    "mer_core.explain.maps",
    "mer_core.explain.sonify",
    "mer_core.datasets.audio",
    "mer_core.site.pictures",
}
LONGEST_MODULE, LONGEST_FUNCTION = 400, 60


def python_files(*places: str) -> list[Path]:
    found = sorted(path for place in places for path in REPOSITORY.glob(place))
    assert found, f"no Python file at {places}"
    return found


def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(nodes: Iterable[ast.AST], package: tuple[str, ...]) -> set[str]:
    """Return the modules and members that import statements ask for, in a module of this package."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*start, *filter(None, [node.module])))
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def all_imports(path: Path) -> set[str]:
    """Return everything a file imports, also inside its functions."""
    return imports(ast.walk(syntax(path)), path.relative_to(REPOSITORY).parent.parts)


def within(dotted: str, packages: set[str]) -> bool:
    return any(dotted == package or dotted.startswith(f"{package}.") for package in packages)


def part_of(dotted: str) -> str | None:
    """`mer_core.features.llds.LLD_NAMES` -> `features`; None for the package itself and for other packages."""
    first, part = (*dotted.split("."), "")[:2]
    return part if first == "mer_core" and part and not part.startswith("__") else None


def own_part(path: Path) -> str:
    return path.relative_to(REPOSITORY / "mer_core").parts[0].removesuffix(".py")


def offenders(files: Iterable[Path], is_wrong: Callable[[Path, str], bool]) -> dict[str, list[str]]:
    found = {path: sorted(dotted for dotted in all_imports(path) if is_wrong(path, dotted)) for path in files}
    return {path.relative_to(REPOSITORY).as_posix(): wrong for path, wrong in found.items() if wrong}


def test_import_statements_are_read_as_python_reads_them():
    source = (
        "import a.b\nfrom mer_core import runs\nfrom . import cache\nfrom ..errors import X\ndef f():\n  import torch"
    )
    found = imports(ast.walk(ast.parse(source)), ("mer_core", "features"))
    assert found == {"a.b", "mer_core.runs", "mer_core.features.cache", "mer_core.errors.X", "torch"}
    names = ("mer_core.features.llds.X", "mer_core.runs", "mer_core", "mer_core.__version__", "numpy.linalg")
    assert [part_of(name) for name in names] == ["features", "runs", None, None, None]


def test_every_part_of_the_engine_has_its_place():
    assert {own_part(path) for path in python_files("mer_core/**/*.py")} - {"__init__"} <= set(RANK)


def test_stages_import_only_stages_before_them():
    def is_later(path, dotted):
        part, own = part_of(dotted), own_part(path)
        return part is not None and (own == "__init__" or RANK.get(part, 99) > RANK[own])

    assert not offenders(python_files("mer_core/**/*.py"), is_later)


def test_the_engine_knows_neither_pipelines_nor_the_app():
    files = python_files("mer_core/**/*.py")
    assert not offenders(files, lambda path, dotted: within(dotted, APP | {"pipelines"}))


def test_pipelines_do_not_know_the_app():
    assert not offenders(python_files("pipelines/**/*.py"), lambda path, dotted: within(dotted, APP))


def test_pages_read_runs_and_start_jobs_and_nothing_else():
    def is_foreign(path, dotted):
        allowed = UI_MAY_IMPORT if path.parent.name == "ui" else PAGES_MAY_IMPORT
        return dotted.split(".")[0] not in sys.stdlib_module_names and not within(dotted, allowed)

    assert not offenders(python_files("app.py", "pages/**/*.py", "ui/**/*.py"), is_foreign)


def test_pages_know_pipelines_by_name_only():
    modules = {f"pipelines.{path.stem}" for path in python_files("pipelines/*.py")} - {"pipelines.__init__"}
    files = python_files("app.py", "pages/**/*.py", "ui/**/*.py")
    assert not offenders(files, lambda path, dotted: within(dotted, modules))


@pytest.mark.parametrize(
    "module",
    [
        "mer_core",
        "mer_core.runs",
        "mer_core.plots",
        "mer_core.compute",
        "mer_core.jobs",
        "mer_core.datasets",
        "pipelines",
    ],
)
def test_light_modules_load_no_heavy_library(module):
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    assert not loaded.stdout.split()


def test_pages_load_no_heavy_library():
    modules = {dotted for path in python_files("app.py", "pages/**/*.py", "ui/**/*.py") for dotted in all_imports(path)}
    ours = sorted({".".join(dotted.split(".")[:3]) for dotted in modules if within(dotted, {"mer_core", "ui"})})
    code = f"""
import importlib, sys
for name in {ours!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:  # a function or class: its module is enough
        importlib.import_module(name.rpartition(".")[0])
print(*sorted({HEAVY - {"streamlit"}!r} & set(sys.modules)))
"""
    loaded = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    assert not loaded.stdout.split()


def test_heavy_libraries_are_imported_inside_functions():
    """Except in the modules that define or train networks, which nobody else imports outside of functions."""
    torch_modules = {
        "mer_core.models.networks",
        "mer_core.models.training.distributed",
        "mer_core.models.training.engine",
        "mer_core.models.training.losses",
        "mer_core.explain.lrp_engine",
        "mer_core.explain.lrp_rules",
        "mer_core.explain.gradients",
    }
    paths = python_files("mer_core/**/*.py", "pipelines/**/*.py")
    own_names = {p: ".".join(p.relative_to(REPOSITORY).with_suffix("").parts) for p in paths}
    at_import = {p: imports(syntax(p).body, ()) for p in paths if not within(own_names[p], torch_modules)}
    forbidden = HEAVY - {"sklearn"} | torch_modules
    assert not {path: found for path, found in at_import.items() if any(within(x, forbidden) for x in found)}


def shipped() -> list[Path]:
    return python_files("*.py", "pages/**/*.py", "ui/**/*.py", "mer_core/**/*.py", "pipelines/**/*.py")


def test_modules_stay_short():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in shipped()}
    assert not {path.name: count for path, count in lines.items() if count > LONGEST_MODULE}


def test_functions_stay_short():
    functions = (
        (path, node) for path in shipped() for node in ast.walk(syntax(path)) if isinstance(node, ast.FunctionDef)
    )
    lengths = {f"{path.name}: {node.name}": node.end_lineno - node.lineno + 1 for path, node in functions}
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}


def tracked_files() -> list[Path]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout: there is no list of tracked files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    return [path for entry in listed.decode().split("\0") if entry and (path := REPOSITORY / entry).is_file()]


def test_no_tracked_file_names_a_local_path_or_a_registry():
    folders = rb"(?<![\w.:/-])/(home|root|Users|work|farm|opt)/\w|[A-Z]:\\Users\\\w"
    hosts = rb"pypi\.org|pythonhosted\.|registry\.npmjs"
    pattern = re.compile(folders + b"|" + hosts)
    found = {path.name: match.group() for path in tracked_files() if (match := pattern.search(path.read_bytes()))}
    assert not found


def test_there_is_no_utils_module():
    assert not [path for path in tracked_files() if path.stem in {"utils", "util", "helpers", "misc"}]
