"""The page on shards: what it shows works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from muhdi.recipe.domains import ShardsConfig
from tests.data.shards.written import recipe_data

PAGE = Path(__file__).parents[2] / "docs" / "shards.md"


def block(language: str) -> str:
    """The page's code in a language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_its_commands_run_and_litdata_reads_what_they_write(
    muhdi, folders: Path, tmp_path: Path
) -> None:
    """In a folder instead of a bucket."""
    data = recipe_data(folders)
    Path(tmp_path, "mine.yml").write_text(yaml.safe_dump(data))
    for line in block("text").replace("s3://bucket/", "").splitlines():
        status, output, error = muhdi(*shlex.split(line)[1:], "--quiet")
        assert status == 0, output + error
    pytest.importorskip("litdata")
    names: dict[str, object] = {}
    exec(block("python"), names)
    assert set(names["item"]) == {"image", "name", "notes", "label"}


def test_its_section_is_one() -> None:
    section = ShardsConfig.model_validate(yaml.safe_load(block("yaml"))["source"])
    assert section.domain_name == "day"
    fields = ShardsConfig.model_fields
    assert fields["mixed"].default == 8
    assert fields["keep_mb"].default == 8192
    text = PAGE.read_text()
    assert "`mixed` of them (8)" in text
    assert "`keep_mb`, 8192," in text
