"""The classes of a source: counted once, in parallel, kept, shown and sampled."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from muhdi.data.cache import SampleCache
from muhdi.data.catalog import DataContext, open_split
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.stream import LoadedBatch, RareClassSampler
from muhdi.errors import MuhdiError
from muhdi.preflight import count_classes as module
from muhdi.preflight.count_classes import count_classes, rare_classes
from muhdi.preflight.inspect import inspect_domains
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.report.contact_sheet import frequencies_table
from muhdi.training.stage import StageTrainer
from muhdi.workflows.dry_run import dry_run
from tests.folders import day, rain
from tests.workflows.test_train import assert_same_run, train_through_crashes

Tiny = Callable[..., Path]
IDS = {0: "ground", 7: "car", 9: "ignore"}


@pytest.fixture
def own(folders: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe on folders, whose source has ground and car, and no sky."""

    def write(**changes: Any) -> Path:
        recipe = {
            "name": "own",
            "root": str(folders),
            "classes": ["ground", "car", "sky"],
            "image_size": [36, 24],
            "source": day(IDS),
            "source_training": {"iterations": 1},
            "steps": [{"target": rain(), "iterations": 1, "rare_classes": {}}],
        }
        path = tmp_path / "own.yml"
        path.write_text(yaml.safe_dump(recipe | changes))
        return path

    return write


def source_of(recipe: Any, cache: Path | None = None) -> PreparedSet:
    images = open_split(recipe.source, "train", DataContext.of(recipe))
    loading = Loading(cache=None if cache is None else SampleCache(cache))
    return PreparedSet(images, recipe.image_size, None, with_labels=True, loading=loading)


def expected(folders: Path) -> list[list[int]]:
    labels = [np.asarray(Image.open(p)) for p in sorted((folders / "day_labels/train").glob("*"))]
    return [[int((label == raw).sum()) for raw in (0, 7)] + [0] for label in labels]


def test_classes_are_counted_alike_by_any_number_of_processes_without_opening_images(
    own: Callable[..., Path], folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muhdi.preflight.pool.AT_ONCE", 1)
    monkeypatch.setattr("muhdi.data.files.read_image", None)
    source = source_of(load_recipe(own()))
    for jobs in (1, 2):
        told: list[tuple[int, int]] = []
        counts = count_classes(source, 3, jobs, lambda *done: told.append(done))
        assert counts.pixels.tolist() == expected(folders)
        assert counts.sizes.tolist() == [36 * 24] * 4
        assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_counts_are_kept_until_a_label_changes(
    own: Callable[..., Path], folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    recipe = load_recipe(own())
    first = count_classes(source_of(recipe, cache), 3, 1)
    counted: list[int] = []
    original = module._counted

    def count(*arguments: Any) -> Any:
        counted.append(1)
        return original(*arguments)

    monkeypatch.setattr(module, "_counted", count)
    again = count_classes(source_of(recipe, cache), 3, 1)
    assert not counted
    assert np.array_equal(again.pixels, first.pixels)
    assert np.array_equal(again.sizes, first.sizes)
    path = folders / "day_labels/train/img 1_ids.png"
    Image.new("L", (36, 24), 7).save(path)
    os.utime(path, (1, 1))
    renewed = count_classes(source_of(recipe, cache), 3, 1)
    assert len(counted) == 1
    assert renewed.pixels[1].tolist() == [0, 36 * 24, 0]
    other = load_recipe(own(source=day({0: "car", 7: "ground", 9: "ignore"})))
    turned = count_classes(source_of(other, cache), 3, 1)
    assert len(counted) == 2, "another table of ids means other classes"
    assert turned.pixels[1].tolist() == [36 * 24, 0, 0]


def test_drawn_scenes_are_counted_and_not_kept(tiny: Tiny, tmp_path: Path) -> None:
    source = source_of(load_recipe(tiny()), tmp_path / "cache")
    counts = count_classes(source, 7, 1)
    assert counts.sizes.tolist() == [48 * 32] * 6
    labels = [source.images.read(index, True).label for index in range(6)]
    assert counts.totals.tolist() == np.bincount(np.ravel(labels), minlength=7)[:7].tolist()
    assert not (tmp_path / "cache").exists()


def test_inspect_shows_images_and_draws(
    muhdi: Callable[..., Any], own: Callable[..., Path], folders: Path
) -> None:
    command = ("inspect", own(), "--format", "json", "--samples", 1, "--labels", 1)
    status, output, errors = muhdi(*command)
    assert status == 0, errors
    rows = {row["class"]: row for row in json.loads(output)[0]["rows"]}
    pixels = np.sum(expected(folders), 0)
    assert rows["car"]["day"] == pytest.approx(100 * pixels[1] / pixels.sum()), "all are counted"
    assert [rows[name]["day images"] for name in ("ground", "car", "sky")] == ["4", "4", "0"]
    assert [rows[name]["drawn from"] for name in ("ground", "car", "sky")] == ["4", "4", "0"]
    odds = np.exp((pixels[0] - pixels[1]) / pixels.sum() / 0.01)
    assert rows["car"]["drawn %"] == pytest.approx(100 * odds / (1 + odds))
    assert rows["sky"]["drawn %"] == 0
    assert "note: day: never drawn for, since no label holds it: sky" in errors


def test_inspect_shows_every_way_of_drawing(own: Callable[..., Path]) -> None:
    recipe = load_recipe(own(), ["source_training.rare_classes={temperature: 1000000}"])
    table = frequencies_table(inspect_domains(recipe, 1, 1), recipe.class_set())
    car = dict(zip(table.header, table.rows[1], strict=True))
    assert car["drawn % (source_training)"] == pytest.approx(50, abs=0.01)
    assert car["drawn % (steps.0)"] != car["drawn % (source_training)"]
    recipe = load_recipe(own(steps=[]))
    table = frequencies_table(inspect_domains(recipe, 1, 3), recipe.class_set())
    assert table.header == ["class", "day", "day images"]
    assert [row[2] for row in table.rows] == ["3", "3", "0", None]
    assert "how many of 3 labels" in table.title


def test_check_and_dry_run_and_info_say_how_images_are_drawn(
    muhdi: Callable[..., Any], own: Callable[..., Path]
) -> None:
    says = "day: images are drawn for a class, rare ones more often (rare_classes of steps.0)"
    status, output, _ = muhdi("check", own(), "--jobs", 1)
    assert f"note: {says}" in output
    assert status == 1, "no label holds sky, and 9 is listed"
    assert any(note.startswith(says) for note in dry_run(load_recipe(own())).notes)
    status, output, _ = muhdi("info", own())
    assert "rain at temperature 0.01" in output
    status, output, _ = muhdi(
        "check", own(), "--jobs", 1, "--set", "steps.0.rare_classes.min_share=1"
    )
    assert status == 1
    assert "problem: steps.0.rare_classes.min_share: no class fills more than 1 of" in output


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps.0.rare_classes.temperature=0", "steps.0.rare_classes.temperature: input should be"),
        ("steps.0.rare_classes.temperature=-1", "greater than 0"),
        ("steps.0.rare_classes.min_share=0.9", "the largest, "),
        ("steps.0.rare_classes.crop_tries=5", "is of random crops; leave it out, or set augment"),
        ("source.labels=null", "source: the source needs labels to train on"),
        ("source.ids={0: ignore, 7: ignore, 9: ignore}", "no pixel of the labels of 'day'"),
    ],
)
def test_what_cannot_be_drawn_for_is_one_line_and_leaves_nothing(
    muhdi: Callable[..., Any], own: Callable[..., Path], setting: str, message: str, tmp_path: Path
) -> None:
    status, _, errors = muhdi("train", own(), "--set", setting, "--quiet")
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "experiments").exists()


def test_crop_keys_are_those_of_crops(own: Callable[..., Path]) -> None:
    step = {"target": rain(), "iterations": 1, "rare_classes": {"crop_min_share": 0.1}}
    with pytest.raises(MuhdiError, match="crop_min_share: is of random crops"):
        load_recipe(own(steps=[step]))
    recipe = load_recipe(own(steps=[step]), ["augment.crop=0.5"])
    config = recipe.steps[0].rare_classes
    assert config is not None
    assert (config.smallest_in_crop, config.tries) == (0.1, 10)


def test_a_run_is_resumed_to_the_bit_with_any_number_of_workers(
    muhdi: Callable[..., Any], tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [{"target": {"dataset": "scenes", "domain": "city", "train": 4, "val": 2}}]
    path = tiny(augment={"crop": [24, 16], "flip": True}, steps=steps)
    settings = ["source_training.rare_classes={}", "every_step.rare_classes={temperature: 0.1}"]
    seen: list[list[str]] = []
    original = StageTrainer.iterate

    def iterate(self: StageTrainer, source: LoadedBatch, target: LoadedBatch | None) -> Any:
        seen.append(source.names)
        return original(self, source, target)

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    given = [word for setting in settings for word in ("--set", setting)]
    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "iterate", iterate)
        status, output, errors = muhdi("train", path, *given, "--experiments", whole)
    assert status == 0, errors
    assert "sim: images are drawn for a class" in output
    recipe = load_recipe(path, settings)
    assert seen == drawn_names(recipe, 0, 3) + drawn_names(recipe, 1, 3)
    with_workers = load_recipe(path, [*settings, "runtime.workers=2"])
    train_through_crashes(with_workers, broken, monkeypatch, 5)
    assert_same_run(whole, broken, recipe)


def drawn_names(recipe: Recipe, stage: int, count: int) -> list[list[str]]:
    """Names of a stage's source images, as they should be drawn."""
    source = source_of(recipe)
    rare = rare_classes(recipe, source, count_classes(source, 7, 1))[stage]
    sampler = RareClassSampler(rare, 2, (recipe.seed, stage, 0))
    batches = itertools.islice(sampler, count)
    return [[source.images.name(draw.index) for draw in batch] for batch in batches]
