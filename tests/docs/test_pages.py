"""The documentation.

Its code runs, its tests pass, its pages are all there and what they name exists.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from muhdi.recipe import plugins
from muhdi.recipe.schema import Recipe  # noqa: F401 - registers all sections

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
WRITTEN = ["recipes.md", "cli.md", "layouts.md"]
"""Pages that the site makes from the code."""


def _pages(entry: Any) -> list[str]:
    """The pages of an entry of the site's navigation: a page, or a part that lists some."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in entry.values() for page in part]


def test_the_site_has_every_page() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = [page for entry in nav for page in _pages(entry)]
    assert sorted(listed) == sorted([page.name for page in PAGES] + WRITTEN)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:muhdi|tests|benchmarks)/[\w/.]+)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_page_on_streams_names_every_online_method() -> None:
    page = (ROOT / "docs/online.md").read_text()
    for name in plugins.sections("online method"):
        assert f"| **{name}** |" in page, name


def test_the_methods_page_names_every_method() -> None:
    page = (ROOT / "docs/methods.md").read_text()
    for kind in ("adaptation", "retention"):
        for name in plugins.sections(kind):
            assert f"**{name}**" in page, name
