"""What results say of the images that were scored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from muhdi.data.domains import Domains
from muhdi.evaluation.results import Results, ScoredImages
from muhdi.evaluation.scored_images import scored_images
from muhdi.recipe.schema import Recipe
from tests.folders import day, rain


def _scored(root: Path, **evaluation: object) -> dict[str, ScoredImages]:
    recipe = Recipe(
        name="r",
        classes=["road", "sky", "car"],
        image_size=(48, 32),
        source=day({0: "road", 7: "sky", 9: "car"}),
        source_training={"iterations": 1},
        extra_domains=[rain()],
        runtime={"root": str(root)},
        evaluation=evaluation,
    )
    return scored_images(Domains(recipe, training=False), recipe)


def test_they_are_known_by_content_and_say_how_they_were_scored(
    folders: Path, tmp_path: Path
) -> None:
    first = _scored(folders)
    day_images = first["day"]
    assert day_images.root == str(folders / "day" / "val")
    assert (day_images.images, day_images.input_size) == (4, "48x32")
    assert (day_images.size, day_images.fit) == ("native", "stretch")
    assert str(day_images).startswith(f"4 images in {folders / 'day' / 'val'}, stretched to 48x32")
    assert _scored(folders, size=[24, 16])["day"].size == "24x16"

    copy = shutil.copytree(folders, tmp_path / "copy")
    copied = _scored(copy)
    for domain in ("day", "rain"):
        assert copied[domain].content == first[domain].content
        assert copied[domain].root != first[domain].root
    (copy / "day" / "val" / "img 0.png").rename(copy / "day" / "val" / "img 00.png")
    (copy / "day_labels" / "val" / "img 0_ids.png").rename(
        copy / "day_labels" / "val" / "img 00_ids.png"
    )
    assert _scored(copy)["day"].content != first["day"].content
    assert _scored(copy)["rain"].content == first["rain"].content


def test_they_survive_json(folders: Path) -> None:
    results = Results("x", 1, "day", ["day"], [], [], scored=_scored(folders), mean_over=["sky"])
    assert Results.from_json(results.to_json()) == results


def test_results_of_earlier_versions_say_nothing_of_them() -> None:
    data = Results("x", 1, "day", ["day"], [], []).to_json()
    del data["scored"], data["mean_over"]
    assert Results.from_json(data).scored == {}
    with pytest.raises(Exception, match="does not say what was scored"):
        Results.from_json(data | {"scored": {"day": {"size": 1}}})
