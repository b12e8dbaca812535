"""Predictions in the ids of a data set's label images: what has which id, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from muhdi.deploy.raw_ids import RAW, RawIds, find_raw_ids
from muhdi.errors import RecipeError
from muhdi.recipe.load import RECIPE
from muhdi.taxonomy import CLASS_SETS, custom
from tests.deploy.test_predict import picture

URBAN19 = CLASS_SETS["urban19"]
OWN = custom(["road", "car"])


def run_of(tmp_path: Path, source: dict, *targets: dict) -> Path:
    recipe = {
        "classes": ["road", "car"],
        "image_size": [64, 32],
        "source": source,
        "source_training": {"iterations": 1},
        "every_step": {"iterations": 1},
        "steps": [{"target": target} for target in targets],
    }
    (tmp_path / RECIPE).write_text(yaml.safe_dump(recipe))
    return tmp_path


def folder(name: str, **keys: object) -> dict:
    return {"dataset": "folder", "root": name, "images": "*.png", **keys}


def test_cityscapes_ids_are_those_of_its_benchmark() -> None:
    found = find_raw_ids("cityscapes", URBAN19, None)
    # As cityscapesscripts' list of labels has them.
    assert found.ids == (
        *(7, 8, 11, 12, 13, 17, 19, 20, 21, 22),
        *(23, 24, 25, 26, 27, 28, 31, 32, 33),
    )


def test_a_class_that_a_data_set_calls_otherwise_has_its_only_label() -> None:
    found = find_raw_ids("idd", URBAN19, None)
    assert found.ids[URBAN19.index("terrain")] == 5  # non-drivable fallback


def test_groups_of_labels_have_no_id() -> None:
    with pytest.raises(RecipeError, match="no label 'flat' of its own"):
        find_raw_ids("cityscapes", CLASS_SETS["urban7"], None)
    # Mapillary has five kinds of roads.
    with pytest.raises(RecipeError, match="no label 'road' of its own"):
        find_raw_ids("mapillary", URBAN19, None)


@pytest.mark.parametrize(("dataset", "classes"), [("comma10k", "comma5"), ("potsdam", "isprs6")])
def test_labels_of_colours_have_no_ids(dataset: str, classes: str) -> None:
    with pytest.raises(RecipeError, match=f"the labels of {dataset} hold colours, without ids"):
        find_raw_ids(dataset, CLASS_SETS[classes], None)


def test_train_ids_and_classes_of_ones_own_are_ids_too() -> None:
    assert find_raw_ids("bdd100k", URBAN19, None).ids == tuple(range(19))
    assert find_raw_ids("railsem19", CLASS_SETS["rail19"], None).ids == tuple(range(19))
    assert find_raw_ids("loveda", CLASS_SETS["loveda7"], None).ids == tuple(range(1, 8))


def test_a_folder_has_the_first_id_of_its_table_and_the_sources_table_without_one(
    tmp_path: Path,
) -> None:
    table = {3: "road", 4: "road", 900: "car", 0: "ignore"}
    run = run_of(tmp_path, folder("a", labels="*.png", ids=table), folder("b"))
    for choice in (RAW, "a", "b"):
        assert find_raw_ids(choice, OWN, run).ids == (3, 900)
    assert find_raw_ids("classes", OWN, run).ids == (0, 1)


def test_a_class_that_a_domain_does_not_have_is_written_as_ignored(tmp_path: Path) -> None:
    target = folder("b", labels="*.png", ids={8: "road", 77: "ignore"})
    run = run_of(tmp_path, folder("a", labels="*.png"), target)
    assert find_raw_ids(RAW, OWN, run) == RawIds("b", (8, 77), ignored=("car",))


@pytest.mark.parametrize(
    ("targets", "choice", "words"),
    [
        (["b", "c"], RAW, "targets have different ids; name one: b, c"),
        (["d"], RAW, "the table of d lists no id for the class 'car'"),
        (["e"], RAW, "the labels of e hold colours"),
        (["f"], "f", "the labels of f are masks"),
        (["b"], "cityscape", "did you mean 'cityscapes'"),
        ([], RAW, "the network lies in no run"),
    ],
)
def test_what_has_no_answer_is_refused(
    tmp_path: Path, targets: list[str], choice: str, words: str
) -> None:
    tables = {
        "b": {"ids": {8: "road", 9: "car"}},
        "c": {"ids": {9: "road", 8: "car"}},
        "d": {"ids": {8: "road"}},
        "e": {"colours": {"#010203": "road"}},
        "f": {"masks": {"road": "{stem}_road.png"}},
    }
    domains = []
    for name in targets:
        labels = {} if "masks" in tables[name] else {"labels": "*.png"}
        domains.append(folder(name, **labels, **tables[name]))
    run = run_of(tmp_path, folder("a", labels="*.png"), *domains)
    with pytest.raises(RecipeError, match=words):
        find_raw_ids(choice, OWN, run if targets else None)


def test_images_of_ids_are_of_8_bits_or_of_16(tmp_path: Path) -> None:
    positions = np.array([[0, 1], [1, 0]], np.uint8)
    for ids, kind in (((7, 255), np.uint8), ((7, 256), np.uint16)):
        RawIds("own", ids).image(positions).save(tmp_path / "ids.png")
        read = np.asarray(Image.open(tmp_path / "ids.png"))
        assert read.astype(int).tolist() == [[ids[0], ids[1]], [ids[1], ids[0]]]
        assert read.dtype == kind


def test_predict_writes_them_and_says_whose_they_are(muhdi, trained: Path, tmp_path: Path) -> None:
    picture(tmp_path / "in/x.jpg")
    status, _, errors = muhdi("predict", trained, "in", "--ids", "raw")
    assert status == 0, errors
    said = json.loads((tmp_path / "predictions/classes.json").read_text())
    assert said["ids"] in ("city", "dust", "night")
    status, _, errors = muhdi("predict", trained, "in", "-o", "out", "--ids", "cityscapes")
    assert status == 2
    assert "no label 'flat' of its own" in errors
    assert not (tmp_path / "out").exists()
