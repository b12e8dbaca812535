"""Figures about the package's source: sizes, documentation, density. They are read, not gated.

``python -m benchmarks.structure [FOLDER]`` prints them; with another folder, an earlier version's.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

LONG_FILE, LONG_FUNCTION, LONG_LINE = 400, 60, 100
COMPREHENSIONS = (ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class File:
    """One file, parsed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.lines = [line for line in self.text.splitlines() if line.strip()]
        self.nodes = list(ast.walk(ast.parse(self.text)))

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Functions and methods."""
        for node in self.nodes:
            if isinstance(node, FUNCTIONS):
                yield node

    def comments(self) -> tuple[int, int]:
        """How many comments have a line of their own, and how many follow code."""
        own = trailing = 0
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type != tokenize.COMMENT:
                continue
            if token.line.strip().startswith("#"):
                own += 1
            else:
                trailing += 1
        return own, trailing


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The number of a function's parameters, without ``self`` and ``cls``."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in named)


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the last one."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def figures(files: Sequence[File]) -> dict[str, str]:
    """What is counted, by name."""
    lines = sum(len(file.lines) for file in files)
    functions = [(file, function) for file in files for function in file.functions()]
    largest = max(files, key=lambda file: file.text.count("\n"))
    longest = max((length(function), function.name) for _, function in functions)
    library = [
        (parameters(function), function.name)
        for file, function in functions
        if "cli" not in file.path.parts
    ]
    own = sum(file.comments()[0] for file in files)
    trailing = sum(file.comments()[1] for file in files)

    def rate(count: int) -> str:
        return f"{1000 * count / lines:.0f} per 1,000 lines"

    def nodes(*kinds: type[ast.AST]) -> int:
        return sum(isinstance(node, kinds) for file in files for node in file.nodes)

    def share(count: int) -> str:
        return f"{100 * count / len(functions):.0f} %"

    over = sum(len(line) > LONG_LINE for file in files for line in file.lines)
    long_files = sum(file.text.count("\n") > LONG_FILE for file in files)
    long_functions = sum(length(function) > LONG_FUNCTION for _, function in functions)
    most, where = max(library)
    return {
        "files": str(len(files)),
        "lines that are not blank": str(lines),
        f"files over {LONG_FILE} lines": str(long_files),
        "largest file": f"{largest.path}, {largest.text.count(chr(10))}",
        "functions": str(len(functions)),
        f"functions over {LONG_FUNCTION} lines": str(long_functions),
        "longest function": f"{longest[1]}, {longest[0]}",
        "functions with a docstring": share(
            sum(ast.get_docstring(function) is not None for _, function in functions)
        ),
        "functions with a return type": share(
            sum(function.returns is not None for _, function in functions)
        ),
        "most parameters outside the command line": f"{where}, {most}",
        "comments on their own line": rate(own),
        "comments behind code": rate(trailing),
        "comprehensions": rate(nodes(*COMPREHENSIONS)),
        "ternaries": rate(nodes(ast.IfExp)),
        "syntax nodes": rate(nodes(ast.AST)),
        f"lines over {LONG_LINE} characters": f"{100 * over / lines:.1f} %",
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "muhdi"
    for name, value in figures([File(path) for path in sorted(folder.rglob("*.py"))]).items():
        print(f"{name:45}{value}")
