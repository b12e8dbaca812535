"""The golden numbers of data and labels.

Where this project differs on purpose, the test's name says how.

Everything that can be is read from the files, so the tests hold for other golden files of the same
kind too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.prepared import PreparedSet
from muhdi.data.public.labels import label_table, raw_labels
from muhdi.data.sets import Sample
from muhdi.errors import MuhdiError
from muhdi.recipe.domains import ACDCConfig, PublicConfig
from muhdi.taxonomy import CLASS_SETS, IGNORE, UNLISTED, ClassSet
from tests.conftest import SHARED
from tests.golden.numbers import MEAN, generator

FOLDER = Path(os.environ.get("MUHDI_GOLDEN", SHARED / "golden"))
# The golden files' README gives these: how many raw ids each label image is drawn from, and the
# tall image's size.
RAW_IDS = {"gta5": 36, "synthia": 24, "cityscapes": 35, "idd": 40, "acdc": 35, "mapillary": 66}
TALL = (61, 43)
LABEL_FOLDERS = {"labels", "GT", "gtFine", "gt"}
OWN_CORRESPONDENCE = ("IDD/19", "IDD/16", "ACDC/16", "GTA5/16")
"""Tables that differ from the reference's on purpose; each has a test of its own."""
differences: set[str] = set()


def _read(name: str) -> dict:
    path = FOLDER / name
    return json.loads(path.read_text()) if path.is_file() else {}


def _entries() -> list[str]:
    """Entries of f_data.json that the reference could read."""
    entries = _read("f_data.json").get("datasets", {})
    good = [
        key for key, entry in entries.items() if "exception" not in entry and " odd/" not in key
    ]
    return good or ["f_data.json is missing"]


def _lookups() -> list[str]:
    tables = _read("f_label_lookup.json")
    good = [
        key
        for key, table in tables.items()
        if isinstance(table, list) and key not in OWN_CORRESPONDENCE
    ]
    return good or ["f_label_lookup.json is missing"]


def instead_of(*keys: str) -> pytest.MarkDecorator:
    """The test shows what happens where the reference raises or differs: entries of f_data.json."""
    differences.update(keys)
    return pytest.mark.parametrize("key", keys)


def load(golden: Path, name: str) -> dict:
    if not (golden / name).is_file():
        pytest.skip(f"{golden / name} is missing")
    return json.loads((golden / name).read_text())


def measured(golden: Path, key: str) -> tuple[dict, dict]:
    """All of f_data.json, and one entry of it."""
    data = load(golden, "f_data.json")
    if key not in data["datasets"]:
        pytest.skip(f"f_data.json has no entry {key!r}")
    return data, data["datasets"][key]


def arrays(golden: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    path = golden / "f_data.npz"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    with np.load(path) as stored:
        if f"{key}/image" not in stored:
            pytest.skip(f"f_data.npz has no entry {key!r}")
        return stored[f"{key}/image"], stored[f"{key}/label"]


def lookup(golden: Path, key: str) -> list[int | str]:
    tables = load(golden, "f_label_lookup.json")
    if key not in tables:
        pytest.skip(f"f_label_lookup.json has no entry {key!r}")
    return tables[key]


def classes_of(key: str) -> ClassSet:
    number = key.split("/")[1].split(" ")[0]
    return CLASS_SETS[f"urban{number}" if number.isdigit() else "urban7"]


def raw_pixels(dataset: str, data: dict, *, tall: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The raw image and label that the golden arrays were read from, drawn as the README says."""
    salt, count = data["salt"], RAW_IDS[dataset]
    if tall:
        image = generator(f"data.{dataset}_tall.img", salt).integers(0, 256, (*TALL, 3))
        return image.astype(np.uint8), generator(f"data.{dataset}_tall.lab", salt).integers(
            0, count, TALL
        ).astype("u1")
    height, width = data["raw_hw"]
    image = generator(f"data.{dataset}.img", salt).integers(0, 256, (height, width, 3))
    label = generator(f"data.{dataset}.lab", salt).integers(
        0, count, (-(-height // 3), -(-width // 3))
    )
    return image.astype(np.uint8), label.repeat(3, 0).repeat(3, 1)[:height, :width].astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_entry(
    folder: Path, data: dict, entry: dict, *, labels: bool = True, tall: bool = False
) -> Path:
    """Write the files of an entry below ``folder``; returns the data set's root."""
    files = [Path(name) for name in entry["files_opened_in_order"]]
    image, label = raw_pixels(files[0].parts[0].lower(), data, tall=tall)
    for file in files:
        is_label = bool(LABEL_FOLDERS & set(file.parts))
        if labels or not is_label:
            save(folder / file, label if is_label else image)
    return folder / files[0].parts[0]


def opened(
    root: Path,
    key: str,
    data: dict,
    *,
    split: str = "train",
    labels: bool = True,
    **options: object,
):
    dataset = key.split("/")[0].split(" ")[0].lower()
    kind = ACDCConfig if dataset == "acdc" else PublicConfig
    config = kind(dataset=dataset, root=str(root), **options)
    return open_split(
        config, split, DataContext(classes_of(key), tuple(data["input_wh"]), ".", 0), labels=labels
    )


def network_input(sample: Sample) -> np.ndarray:
    """What the reference delivers: float32 BGR minus the mean, [3, H, W]."""
    return (sample.image[..., ::-1].astype(np.float32) - MEAN).transpose(2, 0, 1)


# --- arrays, bit for bit --------------------------------------------------------------------------


@pytest.mark.parametrize("key", _entries())
def test_arrays_bit_for_bit(golden: Path, key: str, tmp_path: Path) -> None:
    data, entry = measured(golden, key)
    image, label = arrays(golden, key)
    tall, split = "tall" in key, "val" if "validation" in key else "train"
    root = write_entry(tmp_path, data, entry, tall=tall)
    size = (
        None
        if "scale_label_False" in key
        else tuple(data["labels_size_wh" if "labels_size" in key else "input_wh"])
    )
    images = opened(root, key, data, split=split)
    sample = PreparedSet(images, tuple(data["input_wh"]), size, with_labels=True)[0]
    assert Path(sample.name).name == entry["name_returned"]
    assert network_input(sample).dtype == image.dtype
    assert np.array_equal(network_input(sample), image)
    if "/".join(key.split("/")[:2]) in OWN_CORRESPONDENCE:
        assert not np.array_equal(sample.label, label), (
            f"{key}: this project's table differs on purpose"
        )
    else:
        assert np.array_equal(sample.label, label.reshape(label.shape[:2]))


def test_an_rgba_image_is_read_as_its_rgb(golden: Path, tmp_path: Path) -> None:
    data, entry = measured(golden, "GTA5 odd/rgba.png")
    image, _ = arrays(golden, "GTA5/7")
    assert entry["image_md5_as_is"] == data["datasets"]["GTA5/7"]["image_md5_as_is"]
    raw, _ = raw_pixels("gta5", data)
    save(tmp_path / "images/rgba.png", np.dstack([raw, np.full(raw.shape[:2], 77, np.uint8)]))
    sample = PreparedSet(
        opened(tmp_path, "GTA5/7", data), tuple(data["input_wh"]), None, with_labels=False
    )[0]
    assert np.array_equal(network_input(sample), image)


def test_a_blank_line_in_a_list_is_skipped_not_the_folder_as_an_image(
    golden: Path, tmp_path: Path
) -> None:
    data, entry = measured(golden, "GTA5/7")
    root = write_entry(tmp_path, data, entry)
    (tmp_path / "list.txt").write_text(f"{entry['name_returned']}\n\n   \n")
    images = opened(root, "GTA5/7", data, train_list=str(tmp_path / "list.txt"))
    assert len(images) == 1


# --- label tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", _lookups())
def test_label_table(golden: Path, key: str) -> None:
    table, dataset = lookup(golden, key), key.split("/")[0].lower()
    ours, defined = (
        label_table(dataset, classes_of(key)),
        {label.id for label in raw_labels(dataset)},
    )
    for raw, theirs in enumerate(table):
        if raw in defined:
            assert ours[raw] == (IGNORE if theirs == "IndexError" else theirs), raw
        else:  # not an IndexError, nor a class, nor passed through
            assert ours[raw] == UNLISTED, raw


def test_gta5_with_16_classes_works(golden: Path) -> None:
    assert "NotImplementedError" in lookup(golden, "GTA5/16")
    theirs = lookup(golden, "Cityscapes/16")
    ours = label_table("gta5", CLASS_SETS["urban16"])
    assert all(ours[raw] == value for raw, value in enumerate(theirs) if value != "IndexError")


def test_acdc_with_16_classes_has_16_not_19(golden: Path) -> None:
    assert lookup(golden, "ACDC/16") == lookup(golden, "ACDC/19")
    ours, theirs = label_table("acdc", CLASS_SETS["urban16"]), lookup(golden, "Cityscapes/16")
    assert all(ours[raw] == value for raw, value in enumerate(theirs) if value != "IndexError")


@pytest.mark.parametrize("key", ["IDD/19", "IDD/16"])
def test_idd_uses_its_own_correspondence_not_the_7_class_table(golden: Path, key: str) -> None:
    assert lookup(golden, key) == lookup(golden, "IDD/7")
    classes = classes_of(key)
    ours = label_table("idd", classes)
    for label in raw_labels("idd"):
        wanted = IGNORE if label.urban19 not in classes.classes else classes.index(label.urban19)
        assert ours[label.id] == wanted, label.name


@pytest.mark.parametrize("classes", ["urban19", "urban16"])
def test_mapillary_works_with_19_and_16_classes_too(golden: Path, classes: str) -> None:
    data = load(golden, "f_data.json")
    table = label_table("mapillary", CLASS_SETS[classes])
    assert set(range(len(CLASS_SETS[classes]))) <= set(table[: data["mapillary_n_labels"]].tolist())


def test_mapillary_ids_that_it_does_not_define_are_unlisted_not_passed_through(
    golden: Path,
) -> None:
    data, theirs = load(golden, "f_data.json"), lookup(golden, "Mapillary/7 (only)")
    beyond = range(data["mapillary_n_labels"], len(theirs))
    assert [theirs[raw] for raw in beyond] == list(beyond)
    assert all(label_table("mapillary", CLASS_SETS["urban7"])[raw] == UNLISTED for raw in beyond)


def test_mapillary_labels_are_those_of_the_reference(golden: Path) -> None:
    rows = load(golden, "f_data.json")["mapillary_names"]
    labels = raw_labels("mapillary")
    assert [label.id for label in labels] == [row[0] for row in rows]
    assert [label.urban7 for label in labels] == [
        "ignore" if row[2] == "other" else row[2] for row in rows
    ]


@pytest.mark.parametrize("key", ["Cityscapes/7", "Cityscapes/16", "Cityscapes/19"])
def test_class_names(golden: Path, key: str) -> None:
    names = load(golden, "f_data.json").get("info_label_names", {})
    if key not in names:
        pytest.skip(f"f_data.json names no classes for {key}")
    ours = {"light": "traffic light", "sign": "traffic sign", "motocycle": "motorcycle"}
    assert tuple(ours.get(name, name) for name in names[key]) == classes_of(key).classes


# --- where the reference raises, and this project does not, or says what is wrong -----------------


@instead_of("GTA5/16", "ACDC/19/as_shipped", "Mapillary/crop_size_tuple")
def test_instead_of_an_exception_the_data_set_is_read(
    golden: Path, key: str, tmp_path: Path
) -> None:
    data, entry = measured(golden, key)
    assert "exception" in entry
    working = {
        "GTA5": "GTA5/7",
        "ACDC": "ACDC/19/with_label_folder_attribute",
        "Mapillary": "Mapillary/train(wide raw)",
    }
    _, files = measured(golden, working[key.split("/")[0]])
    root, size = write_entry(tmp_path, data, files), tuple(data["input_wh"])
    sample = PreparedSet(opened(root, key, data), size, size, with_labels=True)[0]
    assert sample.image.shape == (size[1], size[0], 3)
    assert set(np.unique(sample.label)) <= {*range(len(classes_of(key))), IGNORE}


@instead_of(
    "Cityscapes/target training without label files",
    "IDD/target training without label files",
    "IDD/load_labels=False without label files",
    "ACDC/target training without label files",
    "Mapillary/train images only (README layout)",
    "Mapillary/train images + EMPTY labels dir",
    "Mapillary/no config.json in root",
)
def test_target_training_needs_no_label_file_nor_config(
    golden: Path, key: str, tmp_path: Path
) -> None:
    data, entry = measured(golden, key)
    assert "exception" in entry
    dataset = key.split("/")[0]
    files = next(
        e
        for k, e in data["datasets"].items()
        if k.startswith(dataset + "/") and "exception" not in e
    )
    root = write_entry(tmp_path, data, files, labels=False)
    if "EMPTY" in key:
        (root / "train/labels").mkdir()
    images = opened(root, key, data, labels=False)
    sample = PreparedSet(images, tuple(data["input_wh"]), None, with_labels=False)[0]
    assert (images.labelled, sample.label) == (False, None)
    assert not opened(root, key, data).labelled


@instead_of("Cityscapes/7/raw id 255 in label file")
def test_raw_id_255_is_ignored(golden: Path, key: str, tmp_path: Path) -> None:
    data, entry = measured(golden, key)
    assert "IndexError" in entry["exception"]
    _, files = measured(golden, "Cityscapes/7")
    root = write_entry(tmp_path, data, files)
    label = next(root.rglob("*_labelIds.png"))
    save(label, np.full(data["raw_hw"], 255, np.uint8))
    sample = opened(root, key, data, strict=True).read(0, True)
    assert (sample.label == IGNORE).all()
    assert not sample.unlisted


@instead_of("GTA5 odd/missing.png", "GTA5 odd/corrupt.png", "GTA5 odd/truncated.png")
def test_a_bad_image_is_a_message_that_names_it(golden: Path, key: str, tmp_path: Path) -> None:
    data, entry = measured(golden, key)
    assert "exception" in entry
    name = key.split("/")[1]
    path = tmp_path / "images" / name
    save(path, raw_pixels("gta5", data)[0])
    images = opened(tmp_path, "GTA5/7", data)
    content = path.read_bytes()
    path.unlink()
    if "missing" not in name:
        path.write_bytes(b"not a picture" if "corrupt" in name else content[: len(content) // 2])
    with pytest.raises(MuhdiError, match=name):
        images.read(0, False)


@instead_of("GTA5/empty list with max_iters")
def test_an_empty_list_is_a_message_that_names_it(golden: Path, key: str, tmp_path: Path) -> None:
    data, entry = measured(golden, key)
    assert "ZeroDivisionError" in entry["exception"]
    save(tmp_path / "images/00001.png", raw_pixels("gta5", data)[0])
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(MuhdiError, match=r"empty\.txt: the list names no image"):
        opened(tmp_path, "GTA5/7", data, train_list="empty.txt")


@pytest.mark.parametrize(
    ("key", "words"), [("rgblabel", "one id per pixel"), ("othersize_label", "aspect ratio")]
)
def test_a_label_that_the_reference_bends_into_shape_is_refused(
    golden: Path, key: str, words: str, tmp_path: Path
) -> None:
    data, _ = measured(golden, f"GTA5 odd/{key}.png")
    image, label = raw_pixels("gta5", data)
    save(tmp_path / "images/x.png", image)
    save(tmp_path / "labels/x.png", image if key == "rgblabel" else label[: len(label) // 2])
    with pytest.raises(MuhdiError, match=words):
        opened(tmp_path, "GTA5/7", data).read(0, True)


def test_every_exception_of_the_reference_has_its_test(golden: Path) -> None:
    entries = load(golden, "f_data.json")["datasets"]
    unknown = {key for key, entry in entries.items() if "exception" in entry} - differences
    if unknown:
        pytest.skip(
            f"f_data.json has exceptions that no test here knows: {', '.join(sorted(unknown))}"
        )
