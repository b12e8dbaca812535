"""nuImages: masks in tables of JSON are drawn as its own tools draw them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.run_lengths import mask_of, read_runs
from muhdi.data.sets import ImageSet
from muhdi.errors import MuhdiError
from muhdi.preflight.remarks import shared_labels
from muhdi.recipe.domains import NuImagesConfig
from muhdi.taxonomy import CLASS_SETS, IGNORE, custom
from tests.trees import SHAPE, SIZE, URBAN19, write_image

CATEGORIES = ("flat.driveable_surface", "vehicle.car", "human.pedestrian.adult", "vehicle.ego")


def compressed(mask: np.ndarray) -> bytes:
    """A mask in COCO's text, number by number."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    if flat[0]:
        runs.insert(0, 0)
    text = bytearray()
    for number, run in enumerate(runs):
        value = run - runs[number - 2] if number > 2 else run
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != (-1 if group & 16 else 0)
            text.append(48 + (group | 32 if more else group))
    return bytes(text)


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
@settings(max_examples=80, deadline=None)
def test_masks_there_and_back(mask: np.ndarray) -> None:
    assert np.array_equal(mask_of(read_runs(compressed(mask)), mask.shape), mask)


@given(st.binary(max_size=12))
def test_other_texts_are_refused_or_fill_another_mask(text: bytes) -> None:
    try:
        mask = mask_of(read_runs(text), (5, 3))
    except MuhdiError:
        return
    assert mask.shape == (5, 3)


def test_runs_of_a_text_by_hand() -> None:
    # 6 and 3 fit one character each, 40 = 8 + 32 takes two, the fourth is 3 - 1 as a difference.
    assert read_runs(b"63X1N") == [6, 3, 40, 1]


def rectangle(left: int, upper: int, right: int, lower: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[upper:lower, left:right] = True
    return mask


ROAD = rectangle(0, 20, 53, 37)
CAR = rectangle(10, 15, 30, 30)
ADULT = rectangle(25, 10, 35, 35)


def annotation(token: str, category: str, mask: np.ndarray | None, image: str) -> dict[str, Any]:
    held = None
    if mask is not None:
        counts = base64.b64encode(compressed(mask)).decode()
        held = {"size": list(mask.shape), "counts": counts}
    return {
        "token": token,
        "category_token": category,
        "sample_data_token": image,
        "mask": held,
    }


def write_nuimages(root: Path, version: str = "v1.0-train", *, labels: bool = True) -> list[Path]:
    """Two photographs of the front and one of the back; objects come in another order."""
    files = [f"samples/CAM_FRONT/{version}_{n}.jpg" for n in (1, 2)]
    files.append(f"samples/CAM_BACK/{version}_1.jpg")
    frames = []
    for number, file in enumerate([*files, "sweeps/CAM_FRONT/x.jpg", "samples/CAM_FRONT/y.jpg"]):
        key = number < len(files)
        frame = {"token": f"t{number}", "filename": file, "is_key_frame": key}
        frames.append(frame | {"width": SIZE[0], "height": SIZE[1]})
        if key:
            write_image(root / file, file)
    tables: dict[str, Any] = {"sample_data": frames[::-1]}
    tables["category"] = [{"token": name, "name": name} for name in CATEGORIES]
    if labels:
        tables["surface_ann"] = [
            annotation("s2", "vehicle.ego", None, "t0"),
            annotation("s1", "flat.driveable_surface", ROAD, "t0"),
        ]
        tables["object_ann"] = [
            annotation("o2", "human.pedestrian.adult", ADULT, "t0"),
            annotation("o1", "vehicle.car", CAR, "t0"),
            annotation("o3", "vehicle.car", CAR, "t2"),
        ]
    (root / version).mkdir(parents=True)
    for name, entries in tables.items():
        (root / version / f"{name}.json").write_text(json.dumps(entries))
    return [root / file for file in files]


def opened(root: Path, split: str = "train", *, labels: bool = True, **options: Any) -> ImageSet:
    config = NuImagesConfig(dataset="nuimages", root=str(root), **options)
    return open_split(config, split, DataContext(URBAN19, (32, 16), ".", 0), labels=labels)


def test_surfaces_come_first_then_objects_by_token(tmp_path: Path) -> None:
    front, other, back = write_nuimages(tmp_path)
    images = opened(tmp_path)
    assert [images.name(n) for n in range(3)] == [str(path) for path in (back, front, other)]
    expected = np.full(SHAPE, IGNORE)
    for mask, name in ((ROAD, "road"), (CAR, "car"), (ADULT, "person")):
        expected[mask] = URBAN19.index(name)
    sample = images.read(1, True)
    assert np.array_equal(sample.label, expected)
    assert sample.unlisted == {}
    assert (images.read(2, True).label == IGNORE).all(), "nothing is marked in it"
    assert (images.read(0, True).label == np.where(CAR, URBAN19.index("car"), IGNORE)).all()
    assert shared_labels(images) == ""


def test_one_camera_and_one_version(tmp_path: Path) -> None:
    write_nuimages(tmp_path, "v1.0-mini")
    images = opened(tmp_path, train="v1.0-mini", camera="back")
    assert len(images) == 1
    assert "CAM_BACK" in images.name(0)
    assert (images.read(0, True).label == URBAN19.index("car")).sum() == CAR.sum()


def test_without_tables_of_masks_it_is_a_target(tmp_path: Path) -> None:
    write_nuimages(tmp_path, labels=False)
    images = opened(tmp_path)
    assert not images.labelled
    assert images.advice.endswith("object_ann.json")
    assert len(opened(tmp_path, labels=False)) == 3


def spoil(name: str, edit: Any) -> Any:
    def spoiled(root: Path) -> None:
        path = root / "v1.0-train" / f"{name}.json"
        entries = json.loads(path.read_text())
        path.write_text(json.dumps(edit(entries)))

    return spoiled


def with_counts(text: str) -> Any:
    def edit(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for entry in entries:
            entry["mask"]["counts"] = text
        return entries

    return spoil("object_ann", edit)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda root: (root / "v1.0-train").rename(root / "x"),
            "v1.0-train: this folder of tables",
        ),
        (spoil("sample_data", lambda _: []), "names no photograph below samples/CAM_"),
        (spoil("sample_data", lambda _: {}), "is no table of nuImages, whose entries have"),
        (spoil("object_ann", lambda _: [{"token": 1}]), "object_ann.json: is no table"),
        (
            spoil("category", lambda _: [{"token": 1, "name": "boat"}]),
            "the category 'boat' is none",
        ),
        (spoil("category", lambda _: []), "has no category and mask"),
        (lambda root: next(root.rglob("*_2.jpg")).unlink(), r"_2.jpg: the image is missing \(1 of"),
        (with_counts("!"), "v1.0-train: .*; download it again"),
        (with_counts(base64.b64encode(b"5").decode()), "the mask does not fill its 53x37 pixels"),
    ],
)
def test_what_is_wrong_is_one_line(damage: Any, words: str, tmp_path: Path) -> None:
    write_nuimages(tmp_path)
    damage(tmp_path)
    with pytest.raises(MuhdiError, match=words) as caught:
        opened(tmp_path).read(1, True)
    assert "\n" not in str(caught.value)


def test_where_it_is_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(MuhdiError, match=r"does not exist.*nuImages is to be had at https://www"):
        opened(tmp_path / "nowhere")


def test_classes_that_it_lacks_are_named(tmp_path: Path) -> None:
    write_nuimages(tmp_path)
    config = NuImagesConfig(dataset="nuimages", root=str(tmp_path))
    with pytest.raises(MuhdiError, match="no label of nuimages is any of flower, dress"):
        open_split(config, "train", DataContext(custom(["flower", "dress"]), (32, 16), ".", 0))
    seven = DataContext(CLASS_SETS["urban7"], (32, 16), ".", 0)
    label = open_split(config, "train", seven).read(1, True).label
    assert (label[ADULT] == CLASS_SETS["urban7"].index("human")).all()
