"""Predictions for the servers of benchmarks: their ids, their names, and what they score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from muhdi.deploy.predictor import Predictor
from muhdi.deploy.submission import SUBMISSIONS, find_submission
from muhdi.errors import RecipeError
from muhdi.models.checkpoint import Checkpoint, save_checkpoint
from muhdi.models.segmenter import build_segmenter
from muhdi.recipe.backbones import read_backbone
from muhdi.taxonomy import CLASS_SETS, ClassSet
from tests.deploy.test_predict import picture, read

URBAN19 = CLASS_SETS["urban19"]
IMAGES = {
    "cityscapes": ("berlin/berlin_000000_000019_leftImg8bit", "berlin_000000_000019_labelIds"),
    "acdc": (
        "fog/test/GOPR0475/GOPR0475_frame_000041_rgb_anon",
        "GOPR0475_frame_000041_rgb_anon",
    ),
    "idd": ("203/frame0029_leftImg8bit", "203/frame0029_gtFine_labellevel3Ids"),
}


def network(path: Path, classes: ClassSet) -> Path:
    """The file of a network with random weights."""
    segmenter = build_segmenter("small", len(classes))
    save_checkpoint(path, Checkpoint(segmenter, read_backbone("small"), classes.classes, (32, 16)))
    return path


def test_ids_by_class() -> None:
    def ids(name: str) -> dict[str, int]:
        return dict(zip(URBAN19.classes, SUBMISSIONS[name].raw_ids(URBAN19).ids, strict=True))

    assert ids("cityscapes")["road"] == 7
    assert ids("cityscapes")["bicycle"] == 33
    assert list(ids("acdc").values()) == list(range(19))
    # Level 3 ids of IDD's public code.
    assert ids("idd") == {
        **{"road": 0, "sidewalk": 2, "terrain": 3, "person": 4, "rider": 5, "motorcycle": 6},
        **{"bicycle": 7, "car": 9, "truck": 10, "bus": 11, "train": 12, "wall": 14, "fence": 15},
        **{"traffic sign": 18, "traffic light": 19, "pole": 20, "building": 22},
        **{"vegetation": 24, "sky": 25},
    }


def test_what_cannot_be_told() -> None:
    assert SUBMISSIONS["cityscapes"].untold(URBAN19) == ()
    sixteen = CLASS_SETS["urban16"]
    assert SUBMISSIONS["acdc"].untold(sixteen) == ("terrain", "truck", "train")
    assert SUBMISSIONS["idd"].untold(URBAN19) == (
        *("drivable fallback", "autorickshaw", "curb", "guard rail", "billboard"),
        *("obs-str-bar-fallback", "bridge"),
    )


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_groups_of_classes_cannot_take_part(name: str) -> None:
    with pytest.raises(RecipeError, match=f"^--submission {name}: .*'flat'.* single classes"):
        SUBMISSIONS[name].raw_ids(CLASS_SETS["urban7"])


def test_an_unknown_benchmark_has_a_hint() -> None:
    with pytest.raises(RecipeError, match="did you mean 'cityscapes'"):
        find_submission("cityscape")


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_the_command_writes_what_the_server_wants_and_nothing_else(
    muhdi, name: str, tmp_path: Path
) -> None:
    model = network(tmp_path / "net.safetensors", URBAN19)
    image, prediction = IMAGES[name]
    picture(tmp_path / f"test/{image}.png")
    status, _, errors = muhdi("predict", model, "test", "-o", "out", "--submission", name)
    assert status == 0, errors
    submission = SUBMISSIONS[name]
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert written == {"classes.json", f"{submission.folder}/{prediction}.png"}
    ids = np.array(submission.raw_ids(URBAN19).ids)
    positions = Predictor.load(model).predict(tmp_path / f"test/{image}.png").ids
    assert np.array_equal(
        read(tmp_path / f"out/{submission.folder}/{prediction}.png"), ids[positions]
    )
    listed = json.loads((tmp_path / "out/classes.json").read_text())["classes"]
    assert [one["id"] for one in listed] == ids.tolist()
    assert ("the benchmark scores drivable fallback" in errors) == (name == "idd")


@pytest.mark.parametrize(
    ("file", "options", "words"),
    [
        ("x.png", (), "x.png: images of the benchmark are called ..._leftImg8bit.png"),
        ("a_leftImg8bit.png", ("--ids", "raw"), "leave --ids and --probabilities out"),
        ("a_leftImg8bit.png", ("--probabilities",), "leave --ids and --probabilities out"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    muhdi, file: str, options: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    model = network(tmp_path / "net.safetensors", URBAN19)
    picture(tmp_path / "test" / file)
    arguments = ("predict", model, "test", "-o", "out", "--submission", "cityscapes", *options)
    status, _, errors = muhdi(*arguments)
    assert status == 2
    assert len(errors.splitlines()) == 1
    assert words in errors
    assert not (tmp_path / "out").exists()


def test_two_images_of_one_name_are_refused(muhdi, tmp_path: Path) -> None:
    model = network(tmp_path / "net.safetensors", URBAN19)
    for folder in ("one", "two"):
        picture(tmp_path / f"test/{folder}/a_leftImg8bit.png")
    status, _, errors = muhdi("predict", model, "test", "--submission", "cityscapes")
    assert status == 2
    assert "would get one name; give each image once" in errors
