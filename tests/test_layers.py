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
    """Modules of the package that a file imports, wherever in the file, but for types alone."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    for_types = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ]
    skipped = {id(inner) for node in for_types for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in skipped:
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
    "muhdi.report.prediction_grid",
    "muhdi.report.significance",
    "muhdi.report.report",
    "muhdi.report.tables",
]


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_public_api_is_small_and_there() -> None:
    assert len(muhdi.__all__) <= 30
    assert re.match(r"\d+\.\d+", muhdi.__version__)
    for name in muhdi.__all__:
        if name not in ("Losses", "__version__"):
            assert getattr(muhdi, name).__doc__, name
    assert set(muhdi.__all__) <= set(dir(muhdi))


@pytest.mark.parametrize("name", ["load_recipe", "run_sequence", "evaluate_network", "load"])
def test_names_of_version_0_1_still_work_and_say_their_new_name(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"muhdi.{name} is now called muhdi"):
        assert callable(getattr(muhdi, name))


PLACES = ("adaptation/", "retention/", "recipe/methods.py")
"""Where methods may be named."""


def code_of(path: Path) -> str:
    """The code of a file: no comments, docstrings or texts of several words."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            node.value = ""
    return ast.unparse(tree)


def test_no_method_is_named_outside_its_place() -> None:
    known = [plugins.sections(kind) for kind in ("adaptation", "retention")]
    names = {name for sections in known for name in sections} - {"none", "muhdi"}
    classes = {section.__name__ for sections in known for section in sections.values()}
    classes |= {
        section.builds.rpartition(":")[2] for known_ in known for section in known_.values()
    }
    pattern = re.compile(rf"'({'|'.join(sorted(names))})'|\b({'|'.join(sorted(classes))})\b")
    for path in FILES:
        place = str(path.relative_to(PACKAGE))
        if not place.startswith(PLACES):
            found = pattern.search(code_of(path))
            assert found is None, f"{place} names {found[0]}"


def test_files_and_functions_stay_short() -> None:
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") <= 500, path
        assert "fmt: skip" not in text, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                # The body alone: a command's signature is the list of its options.
                assert node.end_lineno - node.body[0].lineno < 60, f"{path}: {node.name}"


def test_nothing_in_the_library_exits_the_process() -> None:
    for path in FILES:
        if "/cli/" not in str(path) and path.name != "__main__.py":
            assert not re.search(r"\b(sys\.exit|os\._exit|quit)\(", path.read_text()), path
