"""The site's pages on Python and on the command line name everything that there is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import muhdi
from muhdi.cli import COMMANDS, app, command_name
from muhdi.cli.docs import reference_page

ROOT = Path(__file__).parents[2]
API = (ROOT / "docs/api.md").read_text()


def test_the_page_on_python_has_every_public_name_once() -> None:
    named = re.findall(r"^::: muhdi\.(\w+)$", API, re.M)
    assert sorted(named) == sorted(set(muhdi.__all__) - {"__version__"})


def test_public_classes_and_functions_say_what_their_arguments_are() -> None:
    for name in ("train", "adapt", "sweep", "evaluate", "export"):
        function = getattr(muhdi, name)
        text = function.__doc__
        arguments = [key for key in function.__annotations__ if key != "return"]
        for argument in arguments:
            assert f"\n        {argument}: " in text, f"{name}: {argument}"
        assert "Returns:" in text
        assert "Raises:" in text


def test_the_page_on_the_command_line_has_every_command_and_option() -> None:
    page = reference_page()
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {command_name(command) for group in COMMANDS.values() for command in group} == set(
        commands
    )
    for name, command in commands.items():
        section = page.split(f"### muhdi {name}\n")[1].split("\n### ")[0]
        for parameter in command.params:
            if parameter.name == "help":
                continue
            shown = (
                parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name.upper()
            )
            name_alone = re.compile(rf"\| `{re.escape(shown)}(?![\w-])")
            (row,) = [line for line in section.splitlines() if name_alone.match(line)]
            assert parameter.help, f"{name} {shown}: no help"
            assert parameter.help in row
        assert f"```sh\nmuhdi {name}" in section


def test_help_texts_are_sentences() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        for parameter in command.params:
            if parameter.name != "help":
                assert parameter.help.endswith("."), f"{name}: {parameter.help}"
                tag = re.search(r"\[[a-z#/@]", parameter.help)
                assert tag is None, f"{name}: --help leaves out what it takes for a tag of Rich"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    mkdocs = shutil.which("mkdocs", path=str(Path(sys.executable).parent))
    if mkdocs is None:
        pytest.skip("mkdocs is not installed: pip install 'muhdi[docs]'")
    command = [mkdocs, "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site/api/index.html").read_text()
    for name in muhdi.__all__:
        if name != "__version__":
            assert f'id="muhdi.{name}"' in page
