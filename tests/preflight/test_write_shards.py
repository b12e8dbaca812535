"""Writing shards: what is written, what an interruption leaves, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from muhdi.data.catalog import DataContext
from muhdi.data.domains import Domains
from muhdi.data.shards import storage as storage_module
from muhdi.data.shards.storage import Storage
from muhdi.errors import DataError, MuhdiError
from muhdi.preflight import shard_plan
from muhdi.preflight.check import check
from muhdi.preflight.inspect import inspect_domains
from muhdi.preflight.shard_plan import recipe_of_shards
from muhdi.preflight.write_shards import write_shards
from muhdi.recipe.load import load_recipe
from muhdi.workflows.train import train
from tests.data.shards.written import IDS, recipe, recipe_data, shard_set
from tests.folders import day
from tests.workflows.test_train import Crash, assert_same_run, crashing


@pytest.fixture
def one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard for each image: fewer bytes than --shard-mb can say."""
    monkeypatch.setattr(shard_plan, "_MB", 1)


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


# --- what is written ------------------------------------------------------------------------------


def test_shards_fill_up_to_the_target() -> None:
    assert shard_plan._starts([4, 4, 4, 9, 1, 1], 8) == [0, 2, 3, 4, 6]
    assert shard_plan._starts([100], 8) == [0, 1]


def test_the_number_of_processes_changes_no_byte(folders: Path, tmp_path: Path, one_each) -> None:
    steps = []
    written = write_shards(
        recipe(folders), str(tmp_path / "one"), jobs=1, on_progress=lambda *at: steps.append(at)
    )
    write_shards(recipe(folders), str(tmp_path / "two"), jobs=2)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert steps == [(n + 1, 16) for n in range(16)]
    assert [(one.domain, one.split, one.images, one.shards, one.labelled) for one in written] == [
        ("day", "train", 4, 4, True),
        ("day", "val", 4, 4, True),
        ("rain", "train", 4, 4, False),
        ("rain", "val", 4, 4, False),
    ]
    names = sorted(path.name for path in (tmp_path / "one" / "day" / "train").iterdir())
    assert names == [*(f"chunk-0-{n}.bin" for n in range(4)), "index.json"], "no notes are left"


def test_a_second_call_writes_nothing(folders: Path, tmp_path: Path, monkeypatch) -> None:
    out = str(tmp_path / "shards")
    write_shards(recipe(folders), out, jobs=1)
    monkeypatch.setattr(Storage, "write", lambda *arguments: pytest.fail("was written again"))
    assert not any(split.new for split in write_shards(recipe(folders), out, jobs=1))


def test_an_interruption_leaves_nothing_that_looks_finished(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_each
) -> None:
    out = tmp_path / "shards"
    write_shards(recipe(folders), str(tmp_path / "whole"), jobs=1)
    original = Storage.write
    written: list[str] = []

    def write(self: Storage, name: str, data: bytes) -> None:
        if len(written) == 5:  # two shards with their notes, and one without
            raise Crash
        written.append(name)
        original(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", write)
        with pytest.raises(Crash):
            write_shards(recipe(folders), str(out), jobs=1)
    assert not list(out.rglob("index.json"))
    with pytest.raises(DataError, match=r"day.train holds no finished shards; write them with"):
        shard_set(str(out / "day"), "train", DataContext.of(recipe(folders)))
    written.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", lambda *all: written.append(all[1]) or original(*all))
        write_shards(recipe(folders), str(out), jobs=1)
    first = [name for name in written if name.endswith(".bin")][:2]
    assert first == ["chunk-0-2.bin", "chunk-0-3.bin"], "those with a note stay"
    assert files_of(out) == files_of(tmp_path / "whole")


def test_another_set_is_not_written_over(folders: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "shards")
    write_shards(recipe(folders), out, jobs=1)
    before = files_of(tmp_path / "shards")
    with pytest.raises(DataError, match=r"train: holds shards of other images, sizes or classes"):
        write_shards(recipe(folders), out, decoded=True, jobs=1)
    Image.new("RGB", (36, 24)).save(folders / "day" / "train" / "img 0.png")
    with pytest.raises(DataError, match="holds shards of other images"):
        write_shards(recipe(folders), out, jobs=1)
    assert files_of(tmp_path / "shards") == before


# --- training from shards -------------------------------------------------------------------------


def test_prepare_train_resume_check_and_inspect(
    muhdi, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(yaml.safe_dump(recipe_data(folders, source=day(IDS | {9: "ignore"}))))
    status, output, _ = muhdi(
        "prepare", path, "--shards", "shards", "--output", "shards.yml", "--jobs", 1
    )
    assert status == 0
    assert "day, train: 4 images with labels in 1 shard: shards/day/train" in output
    assert "rain, train: 4 images without labels in 1 shard: shards/rain/train" in output
    assert "Written to shards.yml" in output
    for command in ("check", "inspect"):
        status, output, _ = muhdi(command, "shards.yml")
        assert status == 0, output
    shutil.rmtree(folders)
    changed = load_recipe("shards.yml")
    assert changed.source.root == str(tmp_path / "shards" / "day")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert muhdi("train", "shards.yml", "--experiments", whole, "--quiet")[0] == 0
    with monkeypatch.context() as patch:
        crashing(patch, 4)
        with pytest.raises(Crash):
            train(changed, broken, quiet=True)
    settings = ("--set", "runtime.workers=2")
    status = muhdi("train", "shards.yml", "--experiments", broken, "--resume", "-q", *settings)[0]
    assert status == 0
    assert_same_run(whole, broken, changed)
    assert muhdi("evaluate", whole / "snapshots" / "folders")[0] == 0


def test_check_and_inspect_find_the_same_in_shards(folders: Path, tmp_path: Path) -> None:
    whole = recipe(folders)
    write_shards(whole, str(tmp_path / "shards"), jobs=1)
    shards = recipe_of_shards(whole, str(tmp_path / "shards"))
    for one, two in zip(check(whole, 1).splits, check(shards, 1).splits, strict=True):
        assert vars(one) == vars(two)
    for one, two in zip(inspect_domains(whole, 2, 9), inspect_domains(shards, 2, 9), strict=True):
        assert (one.counts, one.ignored, one.unlisted) == (two.counts, two.ignored, two.unlisted)
        assert np.array_equal(one.pixels, two.pixels)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--decoded"], ["--shard-mb", "3"], ["--output", "x.yml"]])
def test_options_of_shards_need_shards(muhdi, tmp_path: Path, words: list[str]) -> None:
    status, _, error = muhdi("prepare", "scenes", *words)
    assert status == 2
    assert f"{words[0]}: is for --shards" in error


def test_an_existing_recipe_is_not_written_over(muhdi, folders: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(yaml.safe_dump(recipe_data(folders)))
    before = path.read_text()
    status, _, error = muhdi("prepare", path, "--shards", "shards", "-o", path)
    assert status == 2
    assert "mine.yml: exists already; choose another name with --output" in error
    assert path.read_text() == before
    assert not (tmp_path / "shards").exists()


def test_a_damaged_image_is_named_and_the_rest_is_kept(
    folders: Path, tmp_path: Path, one_each
) -> None:
    image = folders / "day" / "train" / "img 1.png"
    whole = image.read_bytes()
    image.write_bytes(whole[:60])
    out = tmp_path / "shards"
    with pytest.raises(DataError, match=r"img 1\.png: .*; shards without a fault are kept"):
        write_shards(recipe(folders), str(out), jobs=1)
    assert not list(out.rglob("index.json"))
    assert len(list(out.rglob("*.bin"))) == 15


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "is cut: "),
        (lambda data: b"", "is cut: 0 bytes instead of"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "is damaged: its checksum is wrong"),
        (None, "is missing"),
    ],
)
@pytest.mark.parametrize("protocol", ["", "local://"])
def test_a_damaged_shard_is_one_line(
    folders: Path, tmp_path: Path, damage: Callable | None, message: str, protocol: str
) -> None:
    """Whether it is read where it lies or fetched; and nothing of it is kept."""
    write_shards(recipe(folders), str(tmp_path / "shards"), jobs=1)
    root = tmp_path / "shards" / "day"
    shard = root / "train" / "chunk-0-0.bin"
    if damage is None:
        shard.unlink()
    else:
        shard.write_bytes(damage(shard.read_bytes()))
    kept = tmp_path / "kept"
    images = shard_set(
        f"{protocol}{root}", "train", DataContext.of(recipe(folders)), kept=str(kept)
    )
    with pytest.raises(DataError, match=rf"day/train/chunk-0-0\.bin: the (shard|file) {message}"):
        images.read(0, True)
    assert not [path for path in kept.rglob("*") if path.suffix in (".bin", ".tmp")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not an index of muhdi's shards"),
        ("[]", "muhdi did not write it"),
        ('{"chunks": [], "config": {}}', "muhdi did not write it"),
        ('{"muhdi": {"version": 2}}', "its version is 2, and this muhdi reads 1"),
        ('{"muhdi": {"version": 1}}', "is not an index of muhdi's shards"),
    ],
)
def test_another_index_is_one_line(folders: Path, tmp_path: Path, text: str, message: str) -> None:
    folder = tmp_path / "shards" / "day" / "train"
    folder.mkdir(parents=True)
    (folder / "index.json").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        shard_set(str(folder.parent), "train", DataContext.of(recipe(folders)))
    assert "\n" not in str(caught.value)


def test_an_index_that_contradicts_itself_is_refused(folders: Path, tmp_path: Path) -> None:
    write_shards(recipe(folders), str(tmp_path / "shards"), jobs=1)
    path = tmp_path / "shards" / "day" / "train" / "index.json"
    whole = path.read_text()

    def refused(change: Callable[[dict], object], message: str) -> None:
        data = json.loads(whole)
        change(data)
        path.write_text(json.dumps(data))
        with pytest.raises(DataError, match=message):
            shard_set(str(path.parents[1]), "train", DataContext.of(recipe(folders)))

    refused(lambda data: data["muhdi"]["names"].pop(), "is not that of its names")
    refused(lambda data: data["chunks"].clear(), "is not that of its names")
    refused(lambda data: data["muhdi"].update(sizes=[[1, 1]] * 2), "is not that of its sizes")
    refused(lambda data: data["chunks"][0].update(filename="../../x"), "no shard has")
    refused(lambda data: data["chunks"][0].update(chunk_bytes="many"), "not an index")


def test_addresses_that_cannot_be_reached_are_one_line(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = DataContext.of(recipe(folders))

    def message(address: str) -> str:
        with pytest.raises(MuhdiError) as caught:
            shard_set(address, "train", context)
        assert "\n" not in str(caught.value)
        with pytest.raises(MuhdiError) as writing:
            write_shards(recipe(folders), address, jobs=1)
        assert "\n" not in str(writing.value)
        return str(caught.value)

    assert "Protocol not known: nowhere; correct the address" in message("nowhere://a/b")
    from fsspec.implementations.memory import MemoryFileSystem

    class NoCredentialsError(Exception):
        """Of another package: no class that this one knows."""

    def refuse(*arguments: object, **options: object) -> None:
        raise NoCredentialsError("Unable to locate credentials")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", refuse)
    assert "access is refused (Unable to locate credentials); give credentials" in message(
        "memory://bucket/day"
    )

    def missing(*arguments: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    assert "Install s3fs to access S3; pip install 'muhdi[stream]'" in message("s3://bucket/day")


def test_a_place_that_cannot_be_written_is_one_line(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MuhdiError, match=r"file: is a file, not a folder"):
        write_shards(recipe(folders), str(tmp_path / "file"), jobs=1)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40, 2**30 + 9))
    with pytest.raises(DataError, match=r"shards: would hold about .* choose another folder"):
        write_shards(recipe(folders), str(tmp_path / "shards"), jobs=1)
    assert not (tmp_path / "shards").exists()


def test_a_disk_that_fills_up_while_writing_is_one_line(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(MuhdiError, match="No space left on device; free some space"):
        write_shards(recipe(folders), str(tmp_path / "shards"), jobs=1)
    assert not list((tmp_path / "shards").rglob("*.bin"))


def test_a_disk_that_fills_up_while_fetching_is_one_line(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(recipe(folders), str(tmp_path / "shards"), jobs=1)
    images = shard_set(
        f"local://{tmp_path}/shards/day",
        "train",
        DataContext.of(recipe(folders)),
        kept=str(tmp_path / "kept"),
    )

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    from fsspec.implementations.local import LocalFileSystem

    monkeypatch.setattr(LocalFileSystem, "get_file", full)
    with pytest.raises(MuhdiError, match=r"kept/.*No space left on device; free some space"):
        images.read(0, True)


def test_a_limit_below_what_is_in_use_is_refused(folders: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(4):
            noise = rng.integers(0, 256, (600, 900, 3), np.uint8)
            Image.fromarray(noise).save(folders / "rain" / split / f"img {number}.png")
    write_shards(recipe(folders), str(tmp_path / "shards"), shard_mb=1, jobs=1)
    root = f"local://{tmp_path}/shards/rain"
    context = DataContext.of(recipe(folders))
    with pytest.raises(
        DataError, match=r"keep_mb: 2 MiB are too few .* give at least 5, or a smal"
    ):
        shard_set(root, "train", context, keep_mb=2)
    shard_set(root, "train", context, keep_mb=5)


def test_memory_of_another_process_is_no_place(folders: Path, tmp_path: Path) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    try:
        with pytest.raises(MuhdiError, match="not there any more; does every process write"):
            write_shards(recipe(folders), f"memory://{tmp_path.name}", jobs=2)
        assert not [name for name in MemoryFileSystem.store if name.endswith("index.json")]
    finally:
        MemoryFileSystem.store.clear()


def test_where_fetched_shards_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert storage_module.default_kept() == tmp_path / "muhdi" / "shards"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert storage_module.default_kept() == Path.home() / ".cache" / "muhdi" / "shards"


@pytest.mark.parametrize("more", [{"channels": 4}, {"pixel_range": [0, 4095]}])
def test_more_than_colours_is_refused(folders: Path, tmp_path: Path, more: dict) -> None:
    place = str(tmp_path / "shards")
    (key,) = more
    with pytest.raises(MuhdiError, match=f"{key}: shards hold red, green and blue"):
        write_shards(recipe(folders, **more), place, jobs=1)
    assert not (tmp_path / "shards").exists()
    write_shards(recipe(folders), place, jobs=1)
    kept = recipe_of_shards(recipe(folders), place).model_copy(update=more)
    with pytest.raises(MuhdiError, match=f"{key}: shards hold red, green and blue"):
        Domains(kept)
