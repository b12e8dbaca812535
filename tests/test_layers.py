"""The architecture: imports run downwards, light parts stay light, the public API is small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import muhdi

PACKAGE = Path(muhdi.__file__).parent
ROOT = PACKAGE.parent


def test_imports_run_downwards_only() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


LIGHT = [
    "muhdi",
    "muhdi.cli",
    "muhdi.recipe.load",
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
    assert len(muhdi.__all__) <= 15
    for name in muhdi.__all__:
        assert getattr(muhdi, name).__doc__


def test_files_and_functions_stay_short() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        limit = (
            600 if path.name == "scenes.py" else 400
        )  # half of scenes.py is the domains' colours
        assert text.count("\n") <= limit, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"
