"""The documentation page of the command line, made from the commands themselves."""

from __future__ import annotations

import inspect
from typing import Any

import typer

from muhdi.cli import COMMANDS, app, command_name

INTRO = """# Command line

This page is made from the commands; `muhdi COMMAND --help` shows the same.
`muhdi --install-completion` lets your shell complete commands and options, and `muhdi --version`
prints the version.

Every command that takes a recipe takes `--set KEY=VALUE` for any key of [recipes](recipes.md), as
often as needed. The exit status is 0 after success, 1 if some of the work failed, which is listed,
2 after a mistake, which is explained on one line, and 128 plus its number after a signal that
stopped a run, which is saved.
"""


def reference_page() -> str:
    """A Markdown page: every command by group, with its arguments, its options and an example."""
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = [INTRO]
    for group, commands in COMMANDS.items():
        lines += [f"## {group}", ""]
        for function, example in commands.items():
            lines += _command_lines(known[command_name(function)], example)
    return "\n".join(lines)


def _command_lines(command: Any, example: str) -> list[str]:
    text = inspect.cleandoc(command.callback.__doc__ or "")
    lines = [f"### muhdi {command.name}", "", text, "", "```sh", example, "```", ""]
    lines += ["| | | default |", "| --- | --- | --- |"]
    for parameter in command.params:
        if parameter.name != "help":
            lines.append(_parameter_line(parameter))
    return [*lines, ""]


def _parameter_line(parameter: Any) -> str:
    text = (parameter.help or "").replace("|", "\\|")
    return f"| {_names(parameter)} | {text} | {_default(parameter)} |"


def _names(parameter: Any) -> str:
    """``--output``, ``-o`` of an option; ``RECIPE`` of an argument, with dots if it repeats."""
    names = [name for name in parameter.opts if name.startswith("-")]
    if names:
        return ", ".join(f"`{name}`" for name in names)
    return f"`{parameter.name.upper()}{'...' if parameter.nargs == -1 else ''}`"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or value == []:
        return ""
    if isinstance(value, (list, tuple)):
        value = " ".join(str(part) for part in value)
    return f"`{value}`"
