"""Every registered data set passes the tester; so does one that was only just defined."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.sets import ImageSet, Sample, Size
from muhdi.errors import DataError, MuhdiError
from muhdi.preflight.shard_plan import recipe_of_shards
from muhdi.preflight.write_shards import write_shards
from muhdi.recipe import plugins
from muhdi.recipe.domains import DomainConfig, FolderConfig, NuImagesConfig, ScenesConfig
from muhdi.recipe.load import load_recipe
from muhdi.taxonomy import CLASS_SETS
from tests.data.test_nuimages import write_nuimages
from tests.official_trees import TREES, write_official
from tests.testers_data import DatasetTester
from tests.trees import DATASETS, config, write_tree

URBAN7 = CLASS_SETS["urban7"]


def folder_section(folders: Path) -> FolderConfig:
    return FolderConfig(
        dataset="folder",
        root=str(folders),
        images="day/{split}/*.png",
        labels="day_labels/{split}/{stem}_ids.png",
        ids={0: "flat", 7: "vehicle"},  # 9 is not listed
    )


def section_of(dataset: str, folders: Path) -> DomainConfig:
    """A small data set of this name, with labels in both splits."""
    if dataset == "scenes":
        return ScenesConfig(dataset="scenes", domain="night", train=4, val=3)
    if dataset == "folder":
        return folder_section(folders)
    if dataset == "shards":
        written = load_recipe("scenes").model_copy(
            update={"source": folder_section(folders), "steps": []}
        )
        write_shards(written, str(folders / "shards"), jobs=1)
        return recipe_of_shards(written, str(folders / "shards")).source
    root = folders / dataset
    if dataset == "nuimages":
        for version in ("v1.0-train", "v1.0-val"):
            write_nuimages(root, version)
        return NuImagesConfig(dataset="nuimages", root=str(root))
    if dataset in TREES:
        write_official(dataset, root)
        return config(dataset, root)
    for split in ("train", "val"):
        write_tree(dataset, root, split)
    return config(dataset, root)


BUILT_IN = ("scenes", "folder", "shards", *DATASETS, *TREES, "nuimages")


@pytest.mark.parametrize("dataset", BUILT_IN)
def test_every_data_set_passes_the_tester(dataset: str, folders: Path, tmp_path: Path) -> None:
    context = DataContext(URBAN7, (48, 32), ".", 0)
    DatasetTester(section_of(dataset, folders), context, tmp_path).run_all()


def test_that_is_every_data_set() -> None:
    assert set(plugins.sections("dataset")) == set(BUILT_IN)


# --- the tester itself finds faults ---


class _SquaresConfig(DomainConfig):
    dataset: Literal["test_squares"] = "test_squares"
    fault: str = ""


class _Squares(ImageSet):
    """Grey squares, with a fault that the section names."""

    config_class = _SquaresConfig
    labelled = True

    def __init__(
        self, config: _SquaresConfig, split: str, context: DataContext, labels: bool
    ) -> None:
        self.fault = config.fault
        self.domain = config.domain_name
        self.split = split
        if self.fault == "not sent":
            self.function = lambda: None

    def __len__(self) -> int:
        return 3

    def name(self, index: int) -> str:
        return self.split if self.fault == "names" else f"{self.split} {index}"

    def fingerprint(self) -> str:
        return repr(self) if self.fault == "fingerprint" else "squares"

    def key(self, index: int, with_label: bool) -> object:
        return "squares" if self.fault == "keys" else [self.split, index, with_label]

    def read(self, index: int, with_label: bool, draft: Size | None = None) -> Sample:
        image = np.full((16, 24, 3), 40 * index, np.uint8)
        label = np.full((16, 24), index, np.uint8)
        if self.fault == "random":
            image = np.random.default_rng().integers(0, 256, image.shape, np.uint8)
        if self.fault == "classes":
            label[0, 0] = 100
        if self.fault == "type":
            label = label.astype(np.int64)
        if self.fault == "aspect ratio":
            label = label[:, :20]
        with_label = with_label or self.fault == "always labels"
        return Sample(self.name(index), image, label if with_label else None)


@pytest.fixture
def squares() -> Iterator[type[_SquaresConfig]]:
    """The section, known to recipes while the test runs."""
    plugins.register_section("dataset", "test_squares", _SquaresConfig)
    yield _SquaresConfig
    del plugins._sections["dataset"]["test_squares"]


# It was registered by being defined; other tests count what is there.
del plugins._sections["dataset"]["test_squares"]


def test_a_class_that_was_defined_is_built_by_its_section(squares: type[_SquaresConfig]) -> None:
    context = DataContext(URBAN7, (48, 32), ".", 0)
    assert isinstance(open_split(squares(), "val", context), _Squares)


def test_a_sound_data_set_passes(squares: type[_SquaresConfig], tmp_path: Path) -> None:
    DatasetTester(squares(), DataContext(URBAN7, (48, 32), ".", 0), tmp_path).run_all()


@pytest.mark.parametrize(
    "fault",
    [
        "names",
        "fingerprint",
        "keys",
        "random",
        "classes",
        "type",
        "aspect ratio",
        "always labels",
    ],
)
def test_the_tester_finds_a_fault(
    squares: type[_SquaresConfig], tmp_path: Path, fault: str
) -> None:
    tester = DatasetTester(squares(fault=fault), DataContext(URBAN7, (48, 32), ".", 0), tmp_path)
    with pytest.raises(AssertionError):
        tester.run_all()


def test_the_tester_finds_what_cannot_be_sent(
    squares: type[_SquaresConfig], tmp_path: Path
) -> None:
    context = DataContext(URBAN7, (48, 32), ".", 0)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        DatasetTester(squares(fault="not sent"), context, tmp_path).run_all()


# --- errors of data ---


def test_faults_of_data_are_data_errors(folders: Path) -> None:
    context = DataContext(URBAN7, (48, 32), ".", 0)
    with pytest.raises(DataError, match="does not exist"):
        open_split(config("gta5", "/nowhere"), "train", context)
    images = open_split(folder_section(folders), "train", context)
    Path(images.name(1)).write_bytes(b"")
    with pytest.raises(DataError, match="not an image") as error:
        images.read(1, True)
    assert isinstance(error.value, MuhdiError)
