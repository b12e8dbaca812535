"""Public data sets whose labels have one official form: each tree is read end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from muhdi.data.files import FileSet
from muhdi.data.public.docs import example_label, reference_page
from muhdi.data.public.known import LAYOUTS
from muhdi.data.public.labels import class_of, label_table, raw_labels
from muhdi.data.public.layout import Layout, stem_of
from muhdi.data.public.sources import SOURCES, own_classes
from muhdi.errors import MuhdiError
from muhdi.preflight.remarks import shared_labels
from muhdi.recipe import plugins
from muhdi.recipe.load import load_recipe
from muhdi.taxonomy import CLASS_SETS, UNLISTED
from muhdi.workflows.train import train
from tests.official_trees import TREES, VARIANTS, Pairs, Tree, ids_of, write_official
from tests.trees import DATASETS, mapped, opened, write_image

CASES = [
    *[pytest.param(name, tree, id=name) for name, tree in TREES.items()],
    *[pytest.param(*case, id=title) for title, case in VARIANTS.items()],
]


def of_split(tree: Tree, split: str) -> Pairs:
    return tree.train if split == "train" else tree.val


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("dataset", "tree"), CASES)
def test_the_official_layout_is_read_end_to_end(
    dataset: str, tree: Tree, split: str, tmp_path: Path
) -> None:
    write_official(dataset, tmp_path, tree)
    classes = CLASS_SETS[tree.classes]
    images = opened(dataset, tmp_path, split, classes=classes, **tree.options)
    pairs = of_split(tree, split)
    assert images.labelled
    names = [images.name(index) for index in range(len(images))]
    assert names == [str(tmp_path / image) for image in pairs]
    for index, label in enumerate(pairs.values()):
        sample = images.read(index, True)
        assert np.array_equal(sample.label, mapped(dataset, ids_of(dataset, label), classes))
        assert sample.unlisted == {}


@pytest.mark.parametrize(("dataset", "tree"), CASES)
def test_without_labels_it_is_a_target(dataset: str, tree: Tree, tmp_path: Path) -> None:
    write_official(dataset, tmp_path, tree, labels=False)
    images = opened(dataset, tmp_path, classes=CLASS_SETS[tree.classes], **tree.options)
    assert not images.labelled
    first = next(iter(tree.train.values()))
    assert Path(
        images.advice.removeprefix("add them; the first was looked for as ")
    ).is_relative_to((tmp_path / first).parents[-len(tmp_path.parts) - 1])


@pytest.mark.parametrize("dataset", TREES)
def test_a_missing_label_is_named(dataset: str, tmp_path: Path) -> None:
    write_official(dataset, tmp_path)
    label = next(iter(TREES[dataset].train.values()))
    (tmp_path / label).unlink()
    with pytest.raises(MuhdiError, match=rf"its label .*{Path(label).name} is missing"):
        opened(dataset, tmp_path)


@pytest.mark.parametrize("dataset", TREES)
def test_what_is_missing_is_one_line_that_says_where_it_is_to_be_had(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = LAYOUTS[dataset].root
    source = SOURCES[dataset]
    with pytest.raises(MuhdiError, match=f"the folder {root} does not exist") as no_root:
        opened(dataset, None)
    Path(root).mkdir(parents=True)
    with pytest.raises(MuhdiError, match=rf"^{root}.*(missing|holds no image)") as no_folder:
        opened(dataset, None)
    for caught in (no_root, no_folder):
        message = str(caught.value)
        assert f"is to be had at {source.page} ({source.terms})" in message
        assert "\n" not in message
    write_official(dataset, Path(root))
    assert len(opened(dataset, None)) == len(TREES[dataset].train)


@pytest.mark.parametrize("dataset", [name for name in TREES if LAYOUTS[name].held_out])
def test_every_image_belongs_to_one_split(dataset: str, tmp_path: Path) -> None:
    write_official(dataset, tmp_path)

    def names(**options: str) -> set[str]:
        images = opened(dataset, tmp_path, labels=False, **options)
        return {images.name(index) for index in range(len(images))}

    held_out = names(train="val")
    assert names() & held_out == set()
    assert names() | held_out == names(train="all")
    with pytest.raises(MuhdiError, match=f"{dataset} has no split 'test'; name one of train, val"):
        names(train="test")


def test_a_split_that_none_of_the_images_belongs_to_is_named(tmp_path: Path) -> None:
    tree = TREES["vaihingen"]
    write_official("vaihingen", tmp_path, Tree(tree.train, {}, tree.classes, tree.colours))
    words = r"top: none of its 2 images belongs to val; .* or set val_list$"
    with pytest.raises(MuhdiError, match=words):
        opened("vaihingen", tmp_path, "val")


@pytest.mark.parametrize(
    ("dataset", "format", "known"),
    [
        ("kitti", "train_ids", "auto, ids, colours"),
        ("wilddash2", "colours", "auto, ids"),
        ("a2d2", "polygons", "auto, colours"),
    ],
)
def test_a_format_that_a_data_set_lacks_is_refused(
    dataset: str, format: str, known: str, tmp_path: Path
) -> None:
    write_official(dataset, tmp_path)
    words = f"label_format: {dataset} has no labels as {format}; choose one of {known}$"
    with pytest.raises(MuhdiError, match=words):
        opened(dataset, tmp_path, label_format=format)


def test_a_list_divides_a_data_set_otherwise(tmp_path: Path) -> None:
    write_official("kitti", tmp_path)
    (tmp_path / "some.txt").write_text("000000_10.png\n000004_10.png\n")
    images = opened("kitti", tmp_path, train_list="some.txt")
    assert [Path(images.name(n)).name for n in range(2)] == ["000000_10.png", "000004_10.png"]
    assert images.labelled


def test_colours_of_kitti(tmp_path: Path) -> None:
    tree = TREES["kitti"]
    coloured = {
        image: label.replace("semantic", "semantic_rgb") for image, label in tree.train.items()
    }
    write_official("kitti", tmp_path, Tree(coloured, {}, colours=True))
    images = opened("kitti", tmp_path, train="all", strict=True)
    assert images.labelled
    classes = CLASS_SETS["urban19"]
    for index, label in enumerate(coloured.values()):
        ids = ids_of("kitti", label)
        found = images.read(index, True).label
        for number, name in enumerate(classes.classes):
            same = [raw.id for raw in raw_labels("kitti") if raw.urban19 == name]
            assert (found[np.isin(ids, same)] == number).all(), name


def test_rains_of_one_street_share_its_label_on_purpose(tmp_path: Path) -> None:
    write_official("rainy_cityscapes", tmp_path)
    images = opened("rainy_cityscapes", tmp_path)
    assert isinstance(images, FileSet)
    assert len(set(images.labels.paths)) == 2 < len(images)
    assert shared_labels(images) == ""


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a_leftImg8bit_rain_x.png", "a"),
        ("a_leftImg8bit_rain_b_leftImg8bit_rain_c.png", "a"),
        ("a_leftImg8bit_RAIN_x.PNG", "a"),
        ("a_leftImg8bit.png", None),
        ("a_leftImg8bit_rain_x.png.txt", None),
    ],
)
def test_stems(name: str, stem: str | None) -> None:
    assert stem_of(name, ("_leftImg8bit_rain_*.png",)) == stem


def test_a_density_of_fog_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yml"
    recipe.write_text(
        "image_size: [64, 32]\nsource_training: {iterations: 1}\n"
        "source: {dataset: foggy_cityscapes, beta: 0.03}\n"
    )
    with pytest.raises(MuhdiError, match=r"source\.beta: must be one of 0\.005, 0\.01, 0\.02"):
        load_recipe(recipe)


# --- tables ---------------------------------------------------------------------------------------


def test_every_data_set_says_where_it_is_to_be_had() -> None:
    assert set(LAYOUTS) == {*TREES, *DATASETS} == {*SOURCES} - {"nuimages"}
    registered = set(plugins.sections("dataset"))
    assert set(SOURCES) <= registered
    for source in SOURCES.values():
        assert source.classes in CLASS_SETS
        assert source.page.startswith("http")
    for dataset in LAYOUTS:
        source = SOURCES[dataset]
        undivided = LAYOUTS[dataset].splits or LAYOUTS[dataset].val_variant
        assert bool(source.split) == bool(undivided), "divided by a rule that is written down"


@pytest.mark.parametrize("dataset", TREES)
def test_the_class_set_of_a_data_set_is_its_own(dataset: str) -> None:
    classes = CLASS_SETS[own_classes(dataset)]
    labels = raw_labels(dataset)
    assert len({label.id for label in labels}) == len(labels)
    assert (label_table(dataset, classes) != UNLISTED).sum() == len(labels)
    used = {class_of(label, classes) for label in labels}
    missing = {"a2d2": {"wall", "terrain", "rider", "bus", "train"}}
    assert set(classes.classes) - used == missing.get(dataset, set())


def test_labels_that_streets_do_not_have_are_of_no_street_class() -> None:
    def urban(dataset: str) -> dict[str, str]:
        return {x.name: class_of(x, CLASS_SETS["urban19"]) for x in raw_labels(dataset)}

    assert urban("railsem19")["rail-track"] == "ignore"
    assert urban("railsem19")["human"] == "person"
    assert urban("wilddash2")["van"] == "car"
    assert urban("wilddash2")["pickup"] == "truck"
    assert urban("a2d2")["Small vehicles 2"] == "motorcycle"
    assert urban("comma10k")["movable"] == "ignore"


def test_a_run_from_country_to_town_seen_from_above(tmp_path: Path) -> None:
    write_official("loveda", tmp_path)
    recipe = tmp_path / "aerial.yml"
    recipe.write_text(
        f"""
        classes: loveda7
        image_size: [48, 32]
        source: {{dataset: loveda, area: rural, root: {tmp_path}}}
        source_training: {{iterations: 2}}
        every_step: {{iterations: 2, adaptation: minent}}
        steps: [{{target: {{dataset: loveda, area: urban, root: {tmp_path}}}}}]
        evaluation: {{samples: 1}}
        """
    )
    results = train(load_recipe(recipe), tmp_path, quiet=True)
    assert len(results.steps) == 2


def test_large_tiles_are_cropped_and_scored_by_windows(tmp_path: Path) -> None:
    write_official("potsdam", tmp_path, VARIANTS["infrared"][1])
    write_official("vaihingen", tmp_path)
    recipe = tmp_path / "tiles.yml"
    recipe.write_text(
        f"""
        classes: isprs6
        image_size: [53, 37]
        source: {{dataset: potsdam, bands: irrg, root: {tmp_path}}}
        source_training: {{iterations: 2}}
        every_step: {{iterations: 2, adaptation: minent}}
        steps: [{{target: {{dataset: vaihingen, root: {tmp_path}}}}}]
        augment: {{crop: [24, 16]}}
        evaluation: {{input_size: native, window: [32, 24], samples: 1}}
        """
    )
    assert len(train(load_recipe(recipe), tmp_path, quiet=True).steps) == 2


# --- the page -------------------------------------------------------------------------------------

EXAMPLES = [
    pytest.param(dataset, layout, number, id=f"{dataset}-{place}-{number}")
    for dataset, newest in LAYOUTS.items()
    for place, layout in enumerate((newest, *newest.older))
    for number in range(len(layout.labels))
]


@pytest.mark.parametrize(("dataset", "layout", "number"), EXAMPLES)
def test_the_tree_of_the_page_is_found_as_it_is_shown(
    dataset: str, layout: Layout, number: int, tmp_path: Path
) -> None:
    kind = layout.labels[number]
    label = tmp_path / example_label(dataset, layout, kind.pattern)
    write_image(tmp_path / layout.example)
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_bytes(b"")
    options = {"train": "all"} if layout.held_out else {}
    split = "train" if layout.val_variant is None else "val"
    images = opened(
        dataset,
        tmp_path,
        split,
        classes=CLASS_SETS[own_classes(dataset)],
        label_format=kind.format,
        **options,
    )
    assert [images.name(0)] == [str(tmp_path / layout.example)]
    assert images.labels.files(0) == [label]


def test_the_page_shows_every_data_set_its_tree_and_its_classes() -> None:
    page = reference_page()
    for dataset, source in SOURCES.items():
        assert f"\n## {dataset}\n" in page
        assert source.page in page
    for layout in LAYOUTS.values():
        assert Path(layout.example).name in page
    assert "| 12 | rail-track | rail-track |  |  |" in page
    assert "| `#ff8000` | Truck 1 | truck | vehicle |" in page
    assert "`beta`: Density of the fog" in page
    assert "└── 5_Labels_for_participants/top_potsdam_2_10_label.tif    or colours" in page
