"""The documentation.

Its code runs, its tests pass, its pages are all there and what they name exists.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("number", range(3))
def test_what_extends_muhdi_passes_its_own_test(number: int) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.S)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    exec(compile(blocks[number], "docs/extending.md", "exec", dont_inherit=True), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()  # type: ignore[operator]


def test_the_site_has_every_page() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert set(nav) == {page.name for page in PAGES} | {"recipes.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:muhdi|tests|benchmarks)/[\w/.]+)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_methods_page_names_every_method() -> None:
    from muhdi.recipe.docs import json_schema

    step = json_schema()["$defs"]["StepConfig"]["properties"]
    page = (ROOT / "docs/methods.md").read_text()
    for key in ("adaptation", "retention"):
        for name in step[key]["anyOf"][0]["enum"]:
            assert f"**{name}**" in page
