"""What label images of the public data sets hold, and the classes they become."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from muhdi.data.files import Palette
from muhdi.data.public.labels import NONE, RawLabel, class_of, colour_ids, label_table, raw_labels
from muhdi.errors import MuhdiError
from muhdi.taxonomy import CLASS_SETS, IGNORE, UNLISTED, custom
from tests.trees import (
    DATASETS,
    NAMES,
    SHAPE,
    colours_of,
    generator,
    mapped,
    opened,
    raw_ids,
    write_16_bit_rgb,
    write_label,
    write_tree,
)

URBAN19, URBAN7 = CLASS_SETS["urban19"], CLASS_SETS["urban7"]
SUFFIXED = ("cityscapes", "idd", "acdc")


# --- what label images hold -----------------------------------------------------------------------


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("classes", ["urban19", "urban16", "urban7", "urban7c"])
def test_train_ids(dataset: str, classes: str, tmp_path: Path) -> None:
    write_tree(dataset, tmp_path, labels="train_ids")
    class_set = CLASS_SETS[classes]
    images = opened(dataset, tmp_path, classes=class_set, label_format="train_ids", strict=True)
    raw = generator(1).integers(0, 19, SHAPE)
    raw[0, 0] = 255
    by_class = {
        label.urban19: class_of(label, class_set) for label in reversed(raw_labels(dataset))
    }
    names = {
        name: class_of(RawLabel(0, name, (0, 0, 0), name), class_set) for name in URBAN19.classes
    }
    if classes in ("urban7", "urban7c"):
        names = by_class
    table = np.full(256, IGNORE, np.uint8)
    for position, name in enumerate(URBAN19.classes):
        table[position] = IGNORE if names[name] == NONE else class_set.index(names[name])
    assert np.array_equal(images.read(0, True).label, table[raw])


@pytest.mark.parametrize("dataset", SUFFIXED)
@pytest.mark.parametrize("kind", ["train_ids", "colours"])
def test_auto_takes_the_kind_that_is_there(dataset: str, kind: str, tmp_path: Path) -> None:
    write_tree(dataset, tmp_path, labels=kind)
    auto, named = (
        opened(dataset, tmp_path).read(0, True),
        opened(dataset, tmp_path, label_format=kind).read(0, True),
    )
    assert np.array_equal(auto.label, named.label)
    assert not opened(dataset, tmp_path, label_format="ids").labelled
    write_tree(dataset, tmp_path, labels="ids")
    assert np.array_equal(
        opened(dataset, tmp_path).read(0, True).label, mapped(dataset, raw_ids(dataset, 1))
    )


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("form", ["RGB", "RGBA", "P"])
def test_colours_of_the_palette(dataset: str, form: str, tmp_path: Path) -> None:
    write_tree(dataset, tmp_path, labels=None, numbers=(1,))
    ids = raw_ids(dataset, 1)
    colours = colours_of(dataset, ids)
    path = tmp_path / NAMES[dataset].colours.format(s="train", c="rain", n=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "P":  # indices are ids, colours the palette: it can be read both ways
        picture = Image.fromarray(ids)
        picture.putpalette(colours_of(dataset, np.arange(256)).astype(np.uint8).tobytes())
        picture.save(path)
    else:
        Image.fromarray(colours).convert(form).save(path)
    images = opened(dataset, tmp_path, label_format="colours", strict=True)
    label = images.read(0, True).label
    unique = [
        x
        for x in raw_labels(dataset)
        if [y.colour for y in raw_labels(dataset)].count(x.colour) == 1
    ]
    for raw in unique:
        assert (label[ids == raw.id] == label_table(dataset, URBAN19)[raw.id]).all(), raw
    codes = {x.colour: class_of(x, URBAN19) for x in reversed(raw_labels(dataset))}
    with_class = {
        x.colour: class_of(x, URBAN19)
        for x in reversed(raw_labels(dataset))
        if class_of(x, URBAN19) != NONE
    }
    for colour, name in (codes | with_class).items():
        here = (colours == colour).all(2)
        assert (label[here] == (IGNORE if name == NONE else URBAN19.index(name))).all(), colour
    if form == "P" and dataset in ("gta5", "mapillary"):
        assert np.array_equal(opened(dataset, tmp_path).read(0, True).label, mapped(dataset, ids))


@given(arrays(np.uint8, (7, 5), elements=st.integers(0, 65)))
@settings(max_examples=40, deadline=None)
def test_colours_there_and_back(ids: np.ndarray) -> None:
    labels = raw_labels("mapillary")
    table = label_table("mapillary", custom([label.name for label in labels]))
    colours = colour_ids(labels, table)
    rgb = colours_of("mapillary", ids).astype(np.int32)
    read, known = Palette(colours).read(rgb[..., 0] * 65536 + rgb[..., 1] * 256 + rgb[..., 2])
    assert known.all()
    assert np.array_equal(read, ids), "every colour of version 1.2 is that of one label"


@given(st.tuples(*[st.integers(0, 255)] * 3))
@settings(max_examples=60, deadline=None)
def test_any_colour_is_known_exactly_if_it_is_in_the_palette(colour: tuple[int, int, int]) -> None:
    ids = colour_ids(raw_labels("idd"), label_table("idd", URBAN19))
    code = np.array([[(colour[0] << 16) + (colour[1] << 8) + colour[2]]], np.int32)
    read, known = Palette(ids).read(code)
    assert known.item() == (colour in ids)
    if known.item():
        assert read.item() == ids[colour]


def test_unknown_colours_are_ignored_and_counted_or_refused(tmp_path: Path) -> None:
    write_tree("cityscapes", tmp_path, labels="colours", numbers=(1,))
    path = next(tmp_path.rglob("*_color.png"))
    pixels = np.full((*SHAPE, 3), (128, 64, 128), np.uint8)
    pixels[:2, :3] = (1, 2, 255)
    write_label(path, pixels)
    sample = opened("cityscapes", tmp_path).read(0, True)
    assert sample.unlisted == {"#0102ff": 6}
    assert (sample.label == np.where((pixels == (1, 2, 255)).all(2), IGNORE, 0)).all()
    with pytest.raises(MuhdiError, match=r"_color\.png: colour #0102ff is not in the table"):
        opened("cityscapes", tmp_path, strict=True).read(0, True)
    write_label(path, pixels[..., 0])
    with pytest.raises(
        MuhdiError, match=r"_color\.png: a label image of colours must be RGB.*is L"
    ):
        opened("cityscapes", tmp_path).read(0, True)


def test_unlisted_ids_are_ignored_and_counted_or_refused(tmp_path: Path) -> None:
    write_tree("mapillary", tmp_path, numbers=(1,))
    raw = raw_ids("mapillary", 1).copy()
    raw[:3, :4] = 66
    write_label(tmp_path / "train/labels/pic_1.png", raw)
    assert opened("mapillary", tmp_path).read(0, True).unlisted == {"66": 12}
    with pytest.raises(MuhdiError, match=r"pic_1\.png: raw id 66 is not in the table"):
        opened("mapillary", tmp_path, strict=True).read(0, True)


@pytest.mark.parametrize("kind", ["16 bit", "8 bit", "grey"])
def test_synthias_official_labels_hold_the_class_in_their_first_channel(
    kind: str, tmp_path: Path
) -> None:
    write_tree("synthia", tmp_path, labels=None, numbers=(1,))
    ids, path = raw_ids("synthia", 1), tmp_path / "GT/LABELS/0000001.png"
    instances = generator("instances").integers(0, 65536, (2, *SHAPE))
    if kind == "16 bit":
        write_16_bit_rgb(path, np.dstack([ids, *instances]))
    else:
        write_label(
            path, ids if kind == "grey" else np.dstack([ids, *(instances % 256)]).astype(np.uint8)
        )
    assert np.array_equal(opened("synthia", tmp_path).read(0, True).label, mapped("synthia", ids))
    write_tree("synthia", tmp_path, numbers=(1,))
    (tmp_path / "GT/LABELS/0000001.png").write_bytes(b"")  # single-channel labels come first
    assert np.array_equal(opened("synthia", tmp_path).read(0, True).label, mapped("synthia", ids))


# --- Mapillary's versions -------------------------------------------------------------------------


def write_config(path: Path, names: list[str]) -> None:
    labels = [{"name": name, "color": [i, 0, 0], "readable": name} for i, name in enumerate(names)]
    path.write_text(json.dumps({"version": "1.1", "labels": labels}))


@pytest.mark.parametrize(("version", "count"), [("v1.2", 66), ("v2.0", 124)])
def test_both_official_lists_are_known_without_a_config(
    version: str, count: int, tmp_path: Path
) -> None:
    write_tree("mapillary", tmp_path, labels=None, numbers=(1,))
    labels = raw_labels(f"mapillary_{version}")
    assert len(labels) == count
    assert len({label.name for label in labels}) == count
    raw = (np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE) % count).astype(np.uint8)
    write_label(tmp_path / f"train/{version}/labels/pic_1.png", raw)
    sample = opened("mapillary", tmp_path, classes=URBAN7, strict=True).read(0, True)
    wanted = [IGNORE if label.urban7 == NONE else URBAN7.index(label.urban7) for label in labels]
    assert np.array_equal(sample.label, np.array(wanted)[raw])


def test_a_config_in_the_root_is_used(tmp_path: Path) -> None:
    write_tree("mapillary", tmp_path, labels=None, numbers=(1,))
    raw = np.zeros(SHAPE, np.uint8)
    raw[5:] = 1
    write_label(tmp_path / "train/labels/pic_1.png", raw)

    def label():
        return opened("mapillary", tmp_path, classes=URBAN7).read(0, True).label[[0, 9], 0].tolist()

    assert label() == [IGNORE, IGNORE]
    for name, first in (
        ("config_v2.0.json", "nature--sky"),
        ("config_v1.2.json", "human--person"),
        ("config.json", "object--vehicle--car"),
    ):
        write_config(tmp_path / name, [first, "construction--flat--road"])
        assert label() == [URBAN7.index(raw_class(first)), 0], "the config of higher rank"
    (tmp_path / "train/labels").rename(tmp_path / "train/moved")
    for version, position in (("v2.0", 4), ("v1.2", 5)):
        write_label(tmp_path / f"train/{version}/labels/pic_1.png", raw)
        assert label() == [position, 0], "the config of the labels' version"


def raw_class(name: str) -> str:
    return {"nature--sky": "sky", "human--person": "human", "object--vehicle--car": "vehicle"}[name]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"config\.json: cannot be read as JSON"),
        ("[]", r"config\.json: has no list 'labels'"),
        ('{"labels": []}', r"config\.json: has no list 'labels'"),
        (
            '{"labels": [{"name": "a"}, {"color": [1, 2, 3]}]}',
            r"config\.json: labels\.1 must hold a 'name'",
        ),
        ('{"labels": [{"name": "a", "color": [1, 2, 300]}]}', r"labels\.0 must hold"),
        ('{"labels": [3]}', r"labels\.0 must hold"),
    ],
)
def test_a_bad_config_is_named(text: str, words: str, tmp_path: Path) -> None:
    write_tree("mapillary", tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(MuhdiError, match=words):
        opened("mapillary", tmp_path)
    assert len(opened("mapillary", tmp_path, labels=False)) == 3


def test_a_missing_label_of_mapillary_never_shifts_the_pairs(tmp_path: Path) -> None:
    write_tree("mapillary", tmp_path, "val", numbers=(1, 2, 3))
    (tmp_path / "validation/labels/pic_1.png").unlink()
    with pytest.raises(MuhdiError, match=r"pic_1\.jpg: its label .*pic_1\.png is missing \(1 of 3"):
        opened("mapillary", tmp_path, "val")
    (tmp_path / "validation/images/pic_1.jpg").unlink()
    images = opened("mapillary", tmp_path, "val")
    assert np.array_equal(images.read(0, True).label, mapped("mapillary", raw_ids("mapillary", 2)))


# --- classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", [*DATASETS, "mapillary_v2.0"])
def test_urban7c_groups_alike_everywhere(dataset: str) -> None:
    consistent = CLASS_SETS["urban7c"]
    for label in raw_labels(dataset):
        name = class_of(label, consistent)
        if "terrain" in label.name or label.urban19 == "terrain":
            assert name == "nature"
        elif label.name.split("--")[-1] in ("caravan", "trailer"):
            assert name == "vehicle"
        else:
            assert name == class_of(label, URBAN7)
    assert (consistent.classes, consistent.colours) == (URBAN7.classes, URBAN7.colours)


def test_urban7_is_as_published_and_differs_between_data_sets() -> None:
    terrain = {
        d: class_of(next(x for x in raw_labels(d) if x.urban19 == "terrain"), URBAN7)
        for d in DATASETS
    }
    assert terrain == {
        "gta5": "flat",
        "synthia": "flat",
        "mapillary": "flat",
        "cityscapes": "nature",
        "acdc": "nature",
        "idd": NONE,
    }
    caravan = {
        d: class_of(next(x for x in raw_labels(d) if x.name == "caravan"), URBAN7)
        for d in ("gta5", "acdc")
    }
    assert caravan == {"gta5": NONE, "acdc": "vehicle"}


def test_classes_of_ones_own_go_by_name_then_class_then_superclass() -> None:
    classes = custom(["caravan", "car", "vehicle", "nature", "ignore"])
    names = {label.name: class_of(label, classes) for label in raw_labels("gta5")}
    wanted = {
        "caravan": "caravan",
        "car": "car",
        "bus": "vehicle",
        "terrain": "nature",
        "road": NONE,
        "unlabeled": NONE,
    }
    assert {name: names[name] for name in wanted} == wanted
    car = next(label for label in raw_labels("mapillary") if label.name == "object--vehicle--car")
    assert class_of(car, classes) == "car"


def test_classes_that_a_data_set_lacks_are_named(tmp_path: Path) -> None:
    write_tree("gta5", tmp_path)
    with pytest.raises(MuhdiError, match="classes: no label of gta5 is any of flower, dress"):
        opened("gta5", tmp_path, classes=custom(["flower", "dress"]))


@pytest.mark.parametrize("dataset", [*DATASETS, "mapillary_v2.0"])
def test_every_class_of_a_table_exists(dataset: str) -> None:
    labels = raw_labels(dataset)
    assert {label.urban19 for label in labels} == {*URBAN19.classes, NONE}
    assert {label.urban7 for label in labels} == {*URBAN7.classes, NONE}
    assert len({label.id for label in labels}) == len(labels)
    assert (label_table(dataset, URBAN19) != UNLISTED).sum() == len(labels)


def test_of_mapillarys_versions_the_older_is_taken(tmp_path: Path) -> None:
    write_tree("mapillary", tmp_path, labels=None, numbers=(1,))
    for version in ("v2.0", "v1.2"):
        sky = [label.name for label in raw_labels(f"mapillary_{version}")].index("nature--sky")
        write_label(tmp_path / f"train/{version}/labels/pic_1.png", np.full(SHAPE, sky, np.uint8))
        label = opened("mapillary", tmp_path, classes=URBAN7).read(0, True).label
        assert (label == URBAN7.index("sky")).all(), "read with the list of its own version"
    (tmp_path / "train/v2.0/labels/pic_1.png").write_bytes(b"")
    assert opened("mapillary", tmp_path).read(0, True).label.shape == SHAPE
