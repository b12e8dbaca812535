"""docs/train.md: its commands are commands, and its settings are settings of their recipe.

README has the same commands on the same recipes, and `test_readme` runs them.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from tests.docs.commands import check_understood, shell_lines

PAGE = (Path(__file__).parents[2] / "docs/train.md").read_text()


def test_its_commands_are_understood() -> None:
    lines = shell_lines(PAGE)
    assert len(lines) > 8
    for words in lines:
        check_understood(words)


def test_its_sections_are_parts_of_a_recipe() -> None:
    _, block, chosen, adapted = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    iterations = {"source_training.iterations": 1500, "every_step.iterations": 1500}
    recipe = Recipe.load("scenes", **yaml.safe_load(block), **iterations)
    assert recipe.training_size(recipe.steps[0].target) == (512, 512)
    steps = {"every_step.iterations": 1500}
    assert Recipe.load("scenes", **yaml.safe_load(chosen), **steps).evaluation.select == "entropy"
    assert Recipe.load("scenes", **yaml.safe_load(adapted)).model.tune.lora_rank == 16


def test_all_targets_at_once_is_the_shipped_recipe(tmp_path: Path) -> None:
    block, *_ = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    (tmp_path / "scenes2_joint.yml").write_text(block)
    written = load_recipe(tmp_path / "scenes2_joint.yml").experiment()
    assert written == load_recipe("scenes2_joint").experiment()


def test_its_keys_are_those_of_a_recipe() -> None:
    settings = [
        re.sub(r":\s*", "=", text, count=1)
        for text in re.findall(r"`([\w.]+:\s[^`]+)`", PAGE)
        if not text.startswith("extends")
    ]
    settings += re.findall(r"`([\w.]+=[^`\s]+)`", PAGE)
    assert len(settings) >= 6
    for setting in settings:
        load_recipe("scenes", [setting.replace("FOLDER", "folder")])
