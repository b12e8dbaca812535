"""Recipes on small folders, and their shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.shards.shard_set import ShardSet
from muhdi.recipe.domains import ShardsConfig
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from tests.folders import day, rain

IDS = {0: "a", 7: "b"}
"""The labels hold 9, too, which is not listed."""


def recipe_data(folders: Path, **changes: Any) -> dict[str, Any]:
    """A recipe that is trained in a moment."""
    data = {
        "name": "folders",
        "image_size": [24, 16],
        "root": str(folders),
        "classes": ["a", "b"],
        "source": day(IDS),
        "source_training": {"iterations": 3, "batch_size": 2},
        "steps": [{"target": rain(), "iterations": 3, "batch_size": 2}],
        "save_every": 2,
        "log_every": 1,
        "model": {"backbone": "small"},
        "evaluation": {"statistics": ["running"], "samples": 0, "domain_images": 2},
    }
    return data | changes


def recipe(folders: Path, **changes: Any) -> Recipe:
    path = folders.parent / "folders.yml"
    path.write_text(yaml.safe_dump(recipe_data(folders, **changes)))
    return load_recipe(path)


def shard_set(
    root: str, split: str, context: DataContext, *, labels: bool = True, **options: Any
) -> ShardSet:
    """A split of the shards at ``root``."""
    section = ShardsConfig(dataset="shards", root=root, **({"mixed": 1} | options))
    images = open_split(section, split, context, labels=labels)
    assert isinstance(images, ShardSet)
    return images
