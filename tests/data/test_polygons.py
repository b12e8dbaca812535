"""Labels drawn from polygons, against a rasteriser of their geometry alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muhdi.data.cache import SampleCache
from muhdi.data.polygons import PolygonIds
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.public.labels import raw_labels
from muhdi.errors import MuhdiError
from tests.trees import SHAPE, SIZE, URBAN19, mapped, opened, write_image, write_tree

IDS = {"unlabeled": 0, "road": 7, "car": 26, "sky": 23, "license plate": 34}
Point = tuple[float, float]


def polygons(*objects: tuple[str, list[Point]], size: tuple[int, int] = SIZE) -> dict[str, Any]:
    listed = [{"label": label, "polygon": points} for label, points in objects]
    return {"imgWidth": size[0], "imgHeight": size[1], "objects": listed}


def drawn(path: Path, content: object, **options: Any) -> np.ndarray:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return PolygonIds(IDS, **options).draw(path)


def winds_in(points: list[Point], x: float, y: float) -> bool:
    """Whether a ray from a point crosses the outline an odd number of times."""
    inside = False
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


def distance(points: list[Point], x: float, y: float) -> float:
    """From a point to the outline."""
    found = []
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        along = 0.0
        if length:
            along = min(1.0, max(0.0, ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length))
        found.append(np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0)))
    return min(found)


CORNERS = st.lists(st.tuples(st.integers(-6, 26), st.integers(-6, 18)), min_size=3, max_size=7)


@given(st.lists(st.tuples(st.sampled_from(["road", "car", "sky"]), CORNERS), max_size=3))
@settings(max_examples=80, deadline=None)
def test_polygons_cover_their_inside_and_later_ones_earlier_ones(
    tmp_path_factory: pytest.TempPathFactory, objects: list[tuple[str, list[Point]]]
) -> None:
    path = tmp_path_factory.mktemp("drawn") / "a.json"
    ids = drawn(path, polygons(*objects, size=(20, 12)))
    assert ids.shape == (12, 20)
    for y in range(12):
        for x in range(20):
            expected = 0
            for label, points in objects:
                if distance(points, x, y) <= 1:
                    expected = None  # the outline's pixels are the drawing's own affair
                elif winds_in(points, x, y):
                    expected = IDS[label]
            if expected is not None:
                assert ids[y, x] == expected


def test_a_polygon_holds_its_outline(tmp_path: Path) -> None:
    square = [(2, 1), (5, 1), (5, 3), (2, 3)]
    ids = drawn(tmp_path / "a.json", polygons(("car", square), size=(8, 5)))
    expected = np.zeros((5, 8), int)
    expected[1:4, 2:6] = IDS["car"]
    assert np.array_equal(ids, expected)


def test_groups_are_of_their_class_and_what_is_deleted_or_undrawn_is_left_out(
    tmp_path: Path,
) -> None:
    whole = [(0, 0), (7, 0), (7, 4), (0, 4)]
    content = polygons(("cargroup", whole), ("sky", whole), ("license plate", whole), size=(8, 5))
    content["objects"][1]["deleted"] = 1
    content["objects"].append({"label": "sky", "polygon": [[3, 3]]})
    assert (drawn(tmp_path / "a.json", content, undrawn=("license plate",)) == 26).all()
    assert (drawn(tmp_path / "a.json", content) == 34).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as JSON"),
        ([], "is no file of polygons"),
        ({"imgWidth": 4, "imgHeight": 0, "objects": []}, "is no file of polygons"),
        ({"imgWidth": 4, "imgHeight": 10**9, "objects": []}, "is no file of polygons"),
        (polygons(("tree", [(0, 0), (1, 1), (2, 0)])), "the label 'tree' is none of the data set"),
        (polygons(("treegroup", [])), "the label 'treegroup' is none"),
        (polygons(("car", [(0, 0), (1,)])), r"objects\.0 must hold a 'label' and a 'polygon'"),
        (polygons(("car", [(0, float("nan"))])), r"objects\.0 must hold"),
        ({"imgWidth": 4, "imgHeight": 4, "objects": [None]}, r"objects\.0 must hold"),
    ],
)
def test_other_files_are_one_line(content: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(MuhdiError, match=rf"a\.json: .*{words}") as caught:
        drawn(tmp_path / "a.json", content)
    assert "\n" not in str(caught.value)


# --- Cityscapes and IDD ---------------------------------------------------------------------------

LEFT = [(0, 0), (19, 0), (19, SIZE[1]), (0, SIZE[1])]
PLATE = [(4, 4), (9, 4), (9, 9), (4, 9)]


def write_polygons(dataset: str, root: Path) -> None:
    """An image whose left part is a car with a licence plate."""
    write_tree(dataset, root, labels=None, numbers=(1,))
    (image,) = root.rglob("*_leftImg8bit.png")
    folder = root / "gtFine" / image.parent.relative_to(root / "leftImg8bit")
    folder.mkdir(parents=True)
    name = image.name.replace("_leftImg8bit.png", "_gtFine_polygons.json")
    (folder / name).write_text(json.dumps(polygons(("car", LEFT), ("license plate", PLATE))))


@pytest.mark.parametrize("dataset", ["cityscapes", "idd"])
@pytest.mark.parametrize("format", ["auto", "polygons"])
def test_labels_are_drawn_where_no_images_of_them_are_there(
    dataset: str, format: str, tmp_path: Path
) -> None:
    write_polygons(dataset, tmp_path)
    images = opened(dataset, tmp_path, label_format=format, strict=True)
    names = {label.name: label.id for label in raw_labels(dataset)}
    ids = np.full(SHAPE, names["unlabeled"])
    ids[:, :20] = names["car"]
    if dataset == "idd":  # Cityscapes counts a licence plate as its car
        ids[4:10, 4:10] = names["license plate"]
    assert np.array_equal(images.read(0, True).label, mapped(dataset, ids))


def test_label_images_come_before_polygons(tmp_path: Path) -> None:
    write_polygons("cityscapes", tmp_path)
    write_tree("cityscapes", tmp_path, numbers=(1,))
    drawn_label = opened("cityscapes", tmp_path, label_format="polygons").read(0, True).label
    assert not np.array_equal(opened("cityscapes", tmp_path).read(0, True).label, drawn_label)


def test_a_missing_file_of_polygons_is_named(tmp_path: Path) -> None:
    write_polygons("cityscapes", tmp_path)
    write_image(tmp_path / "leftImg8bit/train/aachen/aachen_000002_000019_leftImg8bit.png")
    with pytest.raises(MuhdiError, match=r"its label .*_000002_.*_polygons\.json is missing"):
        opened("cityscapes", tmp_path)


def test_drawn_labels_are_cached_by_the_files_and_by_what_they_mean(tmp_path: Path) -> None:
    write_polygons("cityscapes", tmp_path / "data")
    loading = Loading(cache=SampleCache(tmp_path / "cache"))

    def label() -> np.ndarray:
        images = opened("cityscapes", tmp_path / "data")
        return PreparedSet(images, (32, 16), (32, 16), with_labels=True, loading=loading)[0].label

    first = label()
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 1
    assert np.array_equal(label(), first)
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 1
    (path,) = tmp_path.rglob("*_polygons.json")
    path.write_text(json.dumps(polygons(("road", LEFT))))
    assert (label()[:, :11] == URBAN19.index("road")).all()
