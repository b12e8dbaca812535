"""docs/questions.md: commands, options and keys that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import typer
import yaml

from muhdi.cli import app
from muhdi.recipe.load import load_recipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/questions.md").read_text()
CODE = re.findall(r"`([^`]+)`", PAGE)


def test_its_commands_and_options_exist() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    known = {option for command in commands.values() for p in command.params for option in p.opts}
    called = [text.split() for text in CODE if re.match(r"muhdi \w", text)]
    assert len(called) > 8
    for _, name, *words in called:
        own = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= own, name
    assert {text for text in CODE if text.startswith("--")} <= known


def test_its_settings_are_those_of_a_recipe() -> None:
    settings = [
        re.sub(r"[=:] ?", "=", text, count=1)
        for text in CODE
        if re.match(r"(every_step|runtime)\.\w+[=:]|(precision|channels_last):", text)
    ]
    assert len(settings) >= 6
    for setting in settings:
        load_recipe("scenes", [setting])
    recipe = load_recipe("scenes").model_dump()
    recipe["every_step"] = recipe["steps"][0]
    parts = "every_step|runtime|evaluation|source_training|model"
    keys = [text for text in CODE if re.fullmatch(rf"(?:{parts})\.\w+", text)]
    assert len(keys) >= 4
    for section, key in (text.split(".") for text in keys):
        assert key in recipe[section], key


def test_what_it_says_of_citing_is_in_the_file() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    text = " ".join(PAGE.split())
    assert f"*{cited['title']}*, {cited['collection-title']} {cited['year']}" in text
    assert ", ".join(author["family-names"] for author in cited["authors"]) in text


def test_there_are_about_fifteen_short_answers() -> None:
    answers = re.split(r"^## ", PAGE, flags=re.M)[1:]
    assert 12 <= len(answers) <= 18
    assert max(len(answer.split()) for answer in answers) < 160
