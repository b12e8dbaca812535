"""The six public data sets in their official layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.domains import Domains
from muhdi.data.prepared import PreparedSet
from muhdi.data.public.layouts import LAYOUTS
from muhdi.data.resize import pad_label, resize_image, resize_label
from muhdi.errors import MuhdiError
from muhdi.recipe.load import load_recipe
from muhdi.taxonomy import CLASS_SETS, IGNORE
from muhdi.workflows.train import train
from tests.trees import (
    DATASETS,
    NAMES,
    SHAPE,
    config,
    mapped,
    opened,
    raw_ids,
    write_image,
    write_label,
    write_tree,
)

URBAN19, URBAN7 = CLASS_SETS["urban19"], CLASS_SETS["urban7"]
SUFFIXED = ("cityscapes", "idd", "acdc")


# --- layouts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_official_layout_is_walked(dataset: str, split: str, tmp_path: Path) -> None:
    paths = write_tree(dataset, tmp_path, split)
    images = opened(dataset, tmp_path, split)
    count = 1 if split == "val" and LAYOUTS[dataset].every else 3
    assert images.labelled
    assert [images.name(i) for i in range(len(images))] == [str(path) for path in paths[:count]]
    for index in range(count):
        sample = images.read(index, True)
        assert sample.image.shape == (*SHAPE, 3)
        assert np.array_equal(sample.label, mapped(dataset, raw_ids(dataset, index + 1)))
        assert sample.unlisted == {}


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_split_without_labels_is_unlabelled(dataset: str, tmp_path: Path) -> None:
    write_tree(dataset, tmp_path, labels=None)
    images = opened(dataset, tmp_path)
    assert not images.labelled
    assert images.read(0, False).label is None
    assert not opened(dataset, tmp_path, labels=False).labelled


@pytest.mark.parametrize("dataset", DATASETS)
def test_labels_are_not_looked_for_unless_asked_for(dataset: str, tmp_path: Path) -> None:
    images = write_tree(dataset, tmp_path)
    labels = sorted(path for path in tmp_path.rglob("*.png") if path not in images)
    labels[1].unlink()
    labels[0].write_bytes(b"")
    assert len(opened(dataset, tmp_path, labels=False)) == 3
    with pytest.raises(MuhdiError, match=r"its label .* is missing \(1 of 3"):
        opened(dataset, tmp_path)


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_missing_label_in_the_middle_is_named_and_never_mispaired(
    dataset: str, tmp_path: Path
) -> None:
    images = write_tree(dataset, tmp_path)
    values = {"s": "train", "c": "rain", "n": 2}
    label = tmp_path / NAMES[dataset].ids.format(**values)
    label.unlink()
    with pytest.raises(MuhdiError, match=rf"{images[1].name}: its label .*{label.name} is missing"):
        opened(dataset, tmp_path)


@pytest.mark.parametrize("dataset", DATASETS)
def test_linked_folders_are_followed(dataset: str, tmp_path: Path) -> None:
    write_tree(dataset, tmp_path / "real")
    (tmp_path / "linked").mkdir()
    for folder in (tmp_path / "real").iterdir():
        if dataset in SUFFIXED:  # a link deep inside
            for inner in folder.iterdir():
                (tmp_path / "linked" / folder.name).mkdir(exist_ok=True)
                (tmp_path / "linked" / folder.name / inner.name).mkdir()
                for leaf in inner.iterdir():
                    (tmp_path / "linked" / folder.name / inner.name / leaf.name).symlink_to(leaf)
        else:
            (tmp_path / "linked" / folder.name).symlink_to(folder)
    assert len(opened(dataset, tmp_path / "linked")) == 3
    assert opened(dataset, tmp_path / "linked").labelled


@pytest.mark.parametrize(
    ("dataset", "root", "folder"),
    [
        ("gta5", "data/GTA5", "images"),
        ("synthia", "data/SYNTHIA", "RGB"),
        ("cityscapes", "data/cityscapes", "leftImg8bit/train"),
        ("idd", "data/IDD", "leftImg8bit/train"),
        ("mapillary", "data/mapillary", "train/images"),
        ("acdc", "data/ACDC", "rgb_anon"),
    ],
)
def test_the_documented_root_is_the_default_and_its_folders_are_named(
    dataset: str, root: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MuhdiError, match=f"root: the folder {root} does not exist"):
        opened(dataset, None)
    Path(root).mkdir(parents=True)
    with pytest.raises(
        MuhdiError,
        match=rf"^{root}/{folder}: this folder is missing; {dataset} keeps its images as ",
    ):
        opened(dataset, None)
    write_tree(dataset, tmp_path / root)
    assert len(opened(dataset, None)) == 3


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "leftImg8bit/train/aachen/._x_leftImg8bit.png")  # of a Mac's archive
    write_image(tmp_path / "leftImg8bit/train/aachen/x_rightImg8bit.png")
    with pytest.raises(MuhdiError, match=r"train: holds no image of the split.*_leftImg8bit\.png"):
        opened("cityscapes", tmp_path)


def test_gta5_and_synthia_validate_on_every_50th_image(tmp_path: Path) -> None:
    write_tree("gta5", tmp_path, numbers=tuple(range(1, 102)), shape=(2, 3))
    assert [Path(opened("gta5", tmp_path, "val").name(i)).name for i in range(3)] == [
        "00001.png",
        "00051.png",
        "00101.png",
    ]
    assert len(opened("gta5", tmp_path)) == 101
    assert len(opened("gta5", tmp_path, "val", val="all")) == 101
    with pytest.raises(
        MuhdiError, match="val: gta5 has no split 'test'; name one of train, all, val"
    ):
        opened("gta5", tmp_path, "val", val="test")


def test_jpegs_and_capital_endings(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.jpeg", "c.png"):
        write_image(tmp_path / "validation/images" / name)
        write_label(tmp_path / "validation/labels" / f"{name[0]}.png", raw_ids("mapillary", 1))
    write_image(tmp_path / "leftImg8bit/val/7/1_leftImg8bit.jpg")
    assert len(opened("mapillary", tmp_path, "val")) == 3
    assert opened("mapillary", tmp_path, "val").labelled
    assert len(opened("idd", tmp_path, "val")) == 1


def test_names_of_splits(tmp_path: Path) -> None:
    write_tree("mapillary", tmp_path)
    (tmp_path / "train").rename(tmp_path / "training")
    assert opened("mapillary", tmp_path).labelled
    assert opened("mapillary", tmp_path, "val", val="training").labelled
    with pytest.raises(MuhdiError, match="testing/images: this folder is missing"):
        opened("mapillary", tmp_path, "val", val="testing")


def test_acdc_by_condition_and_all_of_them(tmp_path: Path) -> None:
    for condition in ("rain", "fog"):
        write_tree("acdc", tmp_path, condition=condition)
    fog, every = opened("acdc", tmp_path, condition="fog"), opened("acdc", tmp_path)
    assert (len(fog), fog.domain) == (3, "fog")
    assert (len(every), every.domain) == (6, "acdc")
    assert all("/fog/" in fog.name(i) for i in range(3))
    with pytest.raises(MuhdiError, match="rgb_anon/snow/train: this folder is missing"):
        opened("acdc", tmp_path, condition="snow")
    (tmp_path / "rgb_anon/snow/val").mkdir(parents=True)
    with pytest.raises(MuhdiError, match="rgb_anon: holds no image of the split"):
        opened("acdc", tmp_path, "val")


# --- lists ----------------------------------------------------------------------------------------

LISTED = {
    "gta5": "00002.png",
    "synthia": "0000002.png",
    "cityscapes": "aachen/aachen_000002_000019_leftImg8bit.png",
    "idd": "30/000002_leftImg8bit.png",
    "mapillary": "pic_2.jpg",
    "acdc": "rain/train/GOPR0475/GOPR0475_frame_000002_rgb_anon.png",
}


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("place", ["lists/{split}.txt", "lists/{}.txt", "lists/train.txt"])
def test_a_list_chooses_the_images(dataset: str, place: str, tmp_path: Path) -> None:
    write_tree(dataset, tmp_path)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.txt").write_text(f"\n{LISTED[dataset]}\n\n")
    images = opened(dataset, tmp_path, train_list=place)
    assert len(images) == 1
    assert images.name(0).endswith(LISTED[dataset])
    assert np.array_equal(images.read(0, True).label, mapped(dataset, raw_ids(dataset, 2)))


def test_where_a_list_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree("gta5", tmp_path / "base/GTA5")
    context = DataContext(URBAN19, (32, 16), str(tmp_path / "base"), 0)
    monkeypatch.chdir(tmp_path)
    for folder, number in ((Path(), 1), (tmp_path / "base/GTA5", 2), (tmp_path / "base", 3)):
        (folder / "all.txt").write_text(f"0000{number}.png\n")
        images = open_split(config("gta5", "GTA5", train_list="{}.txt"), "train", context)
        assert images.name(0).endswith(f"0000{number}.png")
    absolute = config("gta5", "GTA5", train_list=str(tmp_path / "all.txt"))
    assert open_split(absolute, "train", context).name(0).endswith("00001.png")


def test_a_list_of_another_condition_is_left_out(tmp_path: Path) -> None:
    for condition in ("rain", "fog"):
        write_tree("acdc", tmp_path, condition=condition)
    lines = [LISTED["acdc"], LISTED["acdc"].replace("rain/", "fog/", 1)]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    assert len(opened("acdc", tmp_path, train_list="train.txt")) == 2
    images = opened("acdc", tmp_path, train_list="train.txt", condition="fog")
    assert [images.name(i) for i in range(len(images))] == [str(tmp_path / "rgb_anon" / lines[1])]
    with pytest.raises(MuhdiError, match=r"the list names no image in .*rgb_anon/snow"):
        opened("acdc", tmp_path, train_list="train.txt", condition="snow")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"list: the file .*train\.txt does not exist"),
        ("", r"train\.txt: the list names no image"),
        ("\n \n", r"train\.txt: the list names no image"),
        (
            "00001.png\n\n00009.png\n",
            r"train\.txt: line 3: the image .*images/00009\.png is missing",
        ),
        (f"{'x' * 5000}.png", r"train\.txt: line 1: "),
        ("../labels", r"line 1: the image .* is missing"),
        (b"\xff\xfe\x00", r"train\.txt: cannot be read as a list"),
    ],
)
def test_bad_lists_are_named(text: str | bytes | None, words: str, tmp_path: Path) -> None:
    write_tree("gta5", tmp_path)
    if text is not None:
        (tmp_path / "train.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(MuhdiError, match=words):
        opened("gta5", tmp_path, train_list="{split}.txt")


def test_a_listed_image_of_another_name_has_no_label(tmp_path: Path) -> None:
    write_image(tmp_path / "leftImg8bit/train/x.png")
    (tmp_path / "train.txt").write_text("x.png")
    assert len(opened("cityscapes", tmp_path, train_list="train.txt", labels=False)) == 1
    with pytest.raises(MuhdiError, match=r"x\.png: images of cityscapes end in _leftImg8bit\.png"):
        opened("cityscapes", tmp_path, train_list="train.txt")


# --- sizes ----------------------------------------------------------------------------------------


@given(st.tuples(*[st.integers(1, 90)] * 2), st.tuples(*[st.integers(1, 40)] * 2))
@settings(max_examples=80, deadline=None)
def test_padding_keeps_the_aspect_ratio_and_fills_below_or_right(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    height, width = shape
    image = resize_image(np.full((height, width, 3), 9, np.uint8), size, "pad")
    label = resize_label(np.full(shape, 3, np.uint8), size, "pad")
    assert image.shape == (size[1], size[0], 3)
    assert label.shape == size[::-1]
    assert np.array_equal(label == 3, image[..., 0] == 9), "image and label cover the same part"
    rows, columns = (label == 3).any(1).sum(), (label == 3).any(0).sum()
    assert (label[:rows, :columns] == 3).all()
    assert rows == size[1] or columns == size[0]
    scale = min(size[0] / width, size[1] / height)
    assert abs(rows - height * scale) <= 1
    assert abs(columns - width * scale) <= 1


@given(st.tuples(*[st.integers(1, 90)] * 2), st.tuples(*[st.integers(1, 40)] * 2))
@settings(max_examples=80, deadline=None)
def test_a_label_of_its_own_size_is_padded_to_the_images_ratio(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    label = np.ones(shape, np.uint8)
    padded = pad_label(label, size)
    assert np.array_equal(padded[: shape[0], : shape[1]], label)
    assert (padded == 1).sum() == label.size
    assert padded.shape[0] == shape[0] or padded.shape[1] == shape[1]
    height, width = padded.shape
    assert abs(width * size[1] - height * size[0]) <= max(size), "at most one pixel from the ratio"


def test_mapillary_is_padded_and_others_stretched(tmp_path: Path) -> None:
    for dataset, padded in (("mapillary", True), ("gta5", False)):
        write_tree(dataset, tmp_path / dataset)
        sample = PreparedSet(
            opened(dataset, tmp_path / dataset), (32, 16), (32, 16), with_labels=True
        )[0]
        assert (sample.image[:, 23:] == 0).all() == padded
        assert (sample.label[:, 23:] == IGNORE).all() == padded


def recipe_text(**changes: object) -> str:
    recipe = {
        "name": "public",
        "classes": "urban19",
        "image_size": [48, 32],
        "source": {"dataset": "gta5", "root": "GTA5"},
        "optimizer": {"name": "adamw", "head_factor": 1},
        "source_training": {"iterations": 2, "learning_rate": 1e-3},
        "steps": [
            {
                "target": {"dataset": "cityscapes", "root": "cityscapes", "image_size": [64, 32]},
                "iterations": 2,
                "adaptation": "minent",
                "retention": "muhdi",
            },
            {
                "target": {"dataset": "mapillary", "root": "mapillary"},
                "iterations": 2,
                "adaptation": {"method": "advent", "width": 8},
            },
        ],
        "evaluation": {"domain_images": 2, "samples": 1},
        "device": "cpu",
    }
    return json.dumps(recipe | changes)


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    """GTA5 with labels; training splits of Cityscapes and Mapillary without.

    Their validation splits with.
    """
    write_tree("gta5", tmp_path / "GTA5")
    for dataset in ("cityscapes", "mapillary"):
        write_tree(dataset, tmp_path / dataset, labels=None)
        write_tree(dataset, tmp_path / dataset, "val")
    return tmp_path


def test_every_domain_has_its_own_size(trees: Path) -> None:
    path = trees / "recipe.json"
    path.write_text(recipe_text(root=str(trees)))
    domains = Domains(load_recipe(path))

    def shapes(sample):
        return (
            sample.image.shape[:2],
            None if sample.label is None else sample.label.shape,
        )

    assert shapes(domains.source[0]) == ((32, 48), (32, 48))
    assert [shapes(target[0]) for (target,) in domains.targets] == [
        ((32, 64), None),
        ((32, 48), None),
    ]
    assert [shapes(images[0])[0] for images in domains.unlabelled()] == [
        (32, 48),
        (32, 64),
        (32, 48),
    ]
    assert shapes(domains.validation["gta5"][0]) == ((32, 48), SHAPE)
    assert shapes(domains.validation["cityscapes"][0]) == ((32, 64), SHAPE)
    assert shapes(domains.validation["mapillary"][0]) == ((32, 48), (37, 55)), "padded to 3:2"
    sized = Domains(
        load_recipe(path, ["evaluation.input_size=[40, 24]", "evaluation.size=[20, 10]"])
    )
    assert shapes(sized.validation["cityscapes"][0]) == ((24, 40), (10, 20))
    assert shapes(sized.targets[0][0][0]) == ((32, 64), None)


def test_a_sequence_trains_on_target_splits_without_any_label_file(trees: Path) -> None:
    assert not (trees / "cityscapes/gtFine/train").exists()
    assert not (trees / "mapillary/train/labels").exists()
    path = trees / "recipe.json"
    path.write_text(recipe_text(root=str(trees), classes="urban7"))
    results = train(load_recipe(path), trees, quiet=True)
    assert len(results.steps) == 3


def test_a_source_or_oracle_without_labels_says_where_they_were_looked_for(trees: Path) -> None:
    path = trees / "recipe.json"
    path.write_text(
        recipe_text(
            root=str(trees), source={"dataset": "cityscapes", "root": "cityscapes", "name": "c"}
        )
    )
    words = (
        r"source: the source needs labels"
        r" .*gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds\.png"
    )
    with pytest.raises(MuhdiError, match=words):
        Domains(load_recipe(path))
    path.write_text(recipe_text(root=str(trees)))
    with pytest.raises(
        MuhdiError, match=r"oracle needs labels, but 'cityscapes' has none.*_labelIds\.png"
    ):
        Domains(load_recipe(path, ["steps.0.adaptation=oracle"]))
