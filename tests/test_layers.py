"""The architecture: imports run downwards, no circle, no method's name outside its place."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import muhdi
from muhdi.recipe import plugins

PACKAGE = Path(muhdi.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))


def test_imports_run_downwards_only() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, modules: set[str]) -> set[str]:
    """Modules of the package that a file imports, wherever in the file, for types too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in modules else node.module)
    return found & modules


def test_there_is_no_circle_not_even_inside_a_room() -> None:
    names = {module_name(path) for path in FILES}
    graph = {module_name(path): imports_of(path, names) for path in FILES}
    done: set[str] = set()

    def visit(module: str, chain: tuple[str, ...]) -> None:
        assert module not in chain, " -> ".join([*chain, module])
        if module in done:
            return
        for other in sorted(graph[module] - {module}):
            visit(other, (*chain, module))
        done.add(module)

    for module in sorted(graph):
        visit(module, ())


LIGHT = [
    "muhdi",
    "muhdi.cli",
    "muhdi.recipe.load",
    "muhdi.recipe.docs",
    "muhdi.evaluation.results",
    "muhdi.report.compare",
    "muhdi.report.demo",
    "muhdi.report.significance",
    "muhdi.report.report",
    "muhdi.report.tables",
]


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_public_api_is_small_and_there() -> None:
    assert len(muhdi.__all__) <= 60
    assert re.match(r"\d+\.\d+", muhdi.__version__)
    for name in muhdi.__all__:
        if name not in ("Losses", "__version__"):
            assert getattr(muhdi, name).__doc__, name
    assert set(muhdi.__all__) <= set(dir(muhdi))


@pytest.mark.parametrize("name", ["load_recipe", "run_sequence", "evaluate_network", "load"])
def test_names_of_version_0_1_still_work_and_say_their_new_name(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"muhdi.{name} is now called muhdi"):
        assert callable(getattr(muhdi, name))


PLACES = (
    "adaptation/",
    "retention/",
    "online/",
    "recipe/methods.py",
    "recipe/online.py",
    "recipe/presets.py",
    "recipe/retentions.py",
)
"""Where methods may be named."""


ORDINARY_WORDS = {
    *("none", "bn", "muhdi", "average", "blend", "replay", "restore", "statistics", "style"),
}
"""Methods that are called what other things are called, too."""

HELP = ("COMMANDS", "DEMO", "INTRO")
"""Constants that hold examples, labels and prose for the reader."""


def strings_and_code(path: Path) -> tuple[list[str], str]:
    """The texts of a file but for docstrings and help, and its code without any text."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
        elif is_help(node):
            node.value = ast.Constant("")
    strings = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.append(node.value)
            node.value = ""
    return strings, ast.unparse(tree)


def is_help(node: ast.AST) -> bool:
    """Whether it is the help of an option, or defines one of `HELP`."""
    if isinstance(node, ast.keyword):
        return node.arg == "help"
    if isinstance(node, ast.AnnAssign):
        return ast.unparse(node.target) in HELP
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in HELP


def test_no_method_is_named_outside_its_place() -> None:
    names: set[str] = set()
    classes: set[str] = set()
    for kind in ("adaptation", "retention", "online method"):
        for known, section in plugins.sections(kind).items():
            names.add(known)
            classes |= {section.__name__, section.builds.rpartition(":")[2]}
    names -= ORDINARY_WORDS
    assert {"selftrain", "ewc"} <= names
    name = re.compile(rf"\b({'|'.join(sorted(names))})\b")
    class_name = re.compile(rf"\b({'|'.join(sorted(classes))})\b")
    for path in FILES:
        place = str(path.relative_to(PACKAGE))
        if place.startswith(PLACES):
            continue
        strings, code = strings_and_code(path)
        found = [text for text in strings if name.search(text)]
        assert not found, f"{place} names {found}"
        assert class_name.search(code) is None, place


def test_files_and_functions_stay_short() -> None:
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") <= 500, path
        assert "fmt: skip" not in text, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                # The body alone: a command's signature is the list of its options.
                assert node.end_lineno - node.body[0].lineno < 60, f"{path}: {node.name}"


def test_a_line_assigns_one_thing() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                assert not isinstance(node.value, ast.Tuple), f"{path}:{node.lineno}"


def test_nothing_in_the_library_exits_the_process() -> None:
    for path in FILES:
        if "/cli/" not in str(path) and path.name != "__main__.py":
            assert not re.search(r"\b(sys\.exit|os\._exit|quit)\(", path.read_text()), path
