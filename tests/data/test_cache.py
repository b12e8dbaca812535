"""The cache of decoded images: bit for bit what decoding gives, whatever happens to its files."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from muhdi.data.cache import SampleCache
from muhdi.data.files import FileSet, LabelFiles, read_image
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.sets import Sample
from muhdi.errors import DataError, MuhdiError
from muhdi.preflight.fill_cache import prepare
from muhdi.recipe.load import load_recipe
from muhdi.taxonomy import CLASS_SETS
from muhdi.workflows.train import train
from tests.folders import day, rain

Files = Callable[..., FileSet]
SIZE = (32, 16)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Three images with labels, some ids of which are not listed."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for number in range(3):
        images.append(tmp_path / f"{number}.png")
        labels.append(tmp_path / f"{number}_label.png")
        Image.fromarray(rng.integers(0, 256, (37, 53, 3), np.uint8)).save(images[-1])
        Image.fromarray(rng.integers(0, 10, (37, 53), np.uint8)).save(labels[-1])
    table = CLASS_SETS["urban7"].lookup(None)

    def open_files(fit: str = "stretch", table: np.ndarray = table) -> FileSet:
        return FileSet("day", images, LabelFiles(labels, table), fit=fit)

    return open_files


class Closed(FileSet):
    """Files that nobody may open."""

    def read(self, index: int, with_label: bool, draft: object = None) -> Sample:
        pytest.fail(f"{self.name(index)} was decoded again")


def same(one: Sample, two: Sample) -> None:
    assert np.array_equal(one.image, two.image)
    assert (one.label is None) == (two.label is None)
    assert one.label is None or np.array_equal(one.label, two.label)
    assert one.unlisted == two.unlisted
    assert one.window == two.window


@pytest.mark.parametrize("with_labels", [True, False])
@pytest.mark.parametrize("label_size", [SIZE, None])
@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_what_comes_out_is_what_decoding_gives(
    files: Files,
    tmp_path: Path,
    fit: str,
    label_size,
    with_labels: bool,
) -> None:
    plain = PreparedSet(files(fit), SIZE, label_size, with_labels=with_labels)
    loading = Loading(cache=SampleCache(tmp_path / "cache"))
    cached = PreparedSet(files(fit), SIZE, label_size, with_labels=with_labels, loading=loading)
    for index in range(3):
        same(cached[index], plain[index])
    opened = files(fit)
    closed = Closed(opened.domain, opened.images, opened.labels, fit=opened.fit)
    again = PreparedSet(closed, SIZE, label_size, with_labels=with_labels, loading=loading)
    for index in range(3):
        same(again[index], plain[index])


def test_another_size_table_or_file_is_another_sample(files: Files, tmp_path: Path) -> None:
    loading = Loading(cache=SampleCache(tmp_path / "cache"))

    def first(images: FileSet, size: tuple[int, int] = SIZE) -> Sample:
        return PreparedSet(images, size, SIZE, with_labels=True, loading=loading)[0]

    sample = first(files())
    assert first(files(), (16, 16)).image.shape == (16, 16, 3)
    other = files(table=files().labels.table[::-1].copy())
    assert not np.array_equal(first(other).label, sample.label)
    Image.fromarray(np.zeros((37, 53, 3), np.uint8)).save(tmp_path / "0.png")
    assert (first(files()).image == 0).all()


@given(st.integers(0, 2000), st.binary(max_size=40))
@settings(max_examples=40, deadline=None)
def test_damaged_cache_files_are_decoded_again(
    tmp_path_factory: pytest.TempPathFactory, cut: int, tail: bytes
) -> None:
    cache = SampleCache(tmp_path_factory.mktemp("cache"))
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert cache.put("key", {"image": pixels}, {"9": 4})
    path = cache.path("key")
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] + tail)
    found = cache.get("key")
    if found is not None and path.read_bytes() == whole:
        assert np.array_equal(found[0]["image"], pixels)
        assert found[1] == {"9": 4}
    assert cache.put("key", {"image": pixels}, {"9": 4})
    assert np.array_equal(cache.get("key")[0]["image"], pixels)


def _put(folder: Path) -> bool:
    cache = SampleCache(folder)
    return all(
        cache.put(f"key {n % 5}", {"image": np.full((20, 20, 3), n % 5, np.uint8)}, {})
        for n in range(50)
    )


def test_several_writers_do_not_disturb_one_another(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3) as pool:
        assert all(pool.map(_put, [tmp_path / "cache"] * 3))
    cache = SampleCache(tmp_path / "cache")
    assert all((cache.get(f"key {n}")[0]["image"] == n).all() for n in range(5))
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_a_full_disk_is_not_filled_further(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SampleCache, "free", lambda self: 100)
    plain = PreparedSet(files(), SIZE, SIZE, with_labels=True)
    loading = Loading(cache=SampleCache(tmp_path / "cache"))
    cached = PreparedSet(files(), SIZE, SIZE, with_labels=True, loading=loading)
    same(cached[0], plain[0])
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.fixture
def recipe(folders: Path, tmp_path: Path) -> Path:
    data = {
        "image_size": [36, 24],
        "root": str(folders),
        "classes": ["a", "b"],
        "cache": str(tmp_path / "cache"),
        "source": day({0: "a", 7: "b", 9: "ignore"}),
        "source_training": {"iterations": 2, "batch_size": 2},
        "steps": [
            {
                "target": rain(),
                "iterations": 2,
            }
        ],
        "evaluation": {"statistics": ["running"], "samples": 0, "domain_images": 2},
    }
    path = tmp_path / "cached.yml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_prepared_images_are_never_decoded_again_and_change_no_number(
    recipe: Path, folders: Path, tmp_path: Path
) -> None:
    plain = train(load_recipe(recipe, ["name=plain", "cache=null"]), tmp_path / "exp", quiet=True)
    steps: list[tuple[int, int]] = []
    assert prepare(load_recipe(recipe), 2, lambda done, total: steps.append((done, total))) == 16
    assert steps[-1] == (16, 16)
    # The source's statistics are measured without its labels, which is another sample.
    still_needed = set((folders / "day" / "train").iterdir())
    for path in folders.rglob("*.png"):
        if path not in still_needed:
            spoil(path)
    cached = train(load_recipe(recipe), tmp_path / "exp", quiet=True)
    assert cached.steps == plain.steps


def test_targets_are_prepared_without_the_source_too(recipe: Path) -> None:
    changes = ["source_training.iterations=0", "steps.0.source=none"]
    assert prepare(load_recipe(recipe, changes), 1) == 12, "all but the source's training images"


def spoil(path: Path) -> None:
    """Make a file unreadable without a change of its size and date, by which a cache knows it."""
    facts = path.stat()
    path.write_bytes(bytes(facts.st_size))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with pytest.raises(DataError, match="not an image"):
        read_image(path)


def test_prepare_says_what_is_wrong(
    recipe: Path, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MuhdiError, match=r"runtime\.cache: this key is missing"):
        prepare(load_recipe(recipe, ["cache=null"]))
    with pytest.raises(MuhdiError, match="reads no files"):
        prepare(load_recipe("scenes", [f"cache={tmp_path}/other"]))
    (folders / "rain" / "train" / "img 2.png").write_bytes(b"no image")
    with pytest.raises(
        MuhdiError, match=r"img 2\.png: not an image; everything else is in the cache"
    ):
        prepare(load_recipe(recipe), 1)
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 15
    monkeypatch.setattr(SampleCache, "free", lambda self: 1000)
    with pytest.raises(MuhdiError, match="may be written there; choose another folder"):
        prepare(load_recipe(recipe))


def test_draft_decodes_a_jpeg_small_and_counts_as_another_sample(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (640, 480), Image.Resampling.BICUBIC
    )
    smooth.save(tmp_path / "big.jpg", quality=95)
    images = FileSet("day", [tmp_path / "big.jpg"])
    assert images.read(0, False, (80, 60)).image.shape == (60, 80, 3)
    cache = SampleCache(tmp_path / "cache")

    def decoded(loading: Loading) -> np.ndarray:
        return PreparedSet(images, (80, 60), None, with_labels=False, loading=loading)[0].image

    plain = decoded(Loading(cache=cache))
    draft = decoded(Loading(cache=cache, draft=True))
    assert not np.array_equal(plain, draft)
    assert np.abs(plain.astype(int) - draft).mean() < 4
