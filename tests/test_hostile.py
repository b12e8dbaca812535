"""Files that mean harm: nothing is executed, nothing is written outside, nothing runs for ever."""

from __future__ import annotations

import json
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from muhdi.data.catalog import open_split
from muhdi.deploy.convert import convert
from muhdi.errors import MuhdiError
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.segmenter import build_segmenter
from muhdi.models.tensor_files import read_tensors
from muhdi.recipe.backbones import read_backbone
from muhdi.recipe.load import load_recipe
from muhdi.workflows.train import train
from tests.data.test_data import context, folder
from tests.run.test_states import Payload
from tests.trees import opened, write_tree

Tiny = Callable[..., Path]

NAMES = [
    "../../up",
    "..",
    "a/b",
    "/absolute",
    "two\nlines",
    "with space",
    "ünïcödé 東京",
    "-rf",
    ".hidden",
    "~",
    "$HOME",
    "{split}",
    "a\\c",
    "\u202eright to left",
]


def test_domains_of_any_name_write_inside_the_runs_folders_alone(
    tiny: Tiny, tmp_path: Path
) -> None:
    domains = [
        {"dataset": "scenes", "domain": "city", "train": 2, "val": 1, "name": name}
        for name in NAMES
    ]
    recipe = load_recipe(
        tiny(
            source={
                "dataset": "scenes",
                "domain": "sim",
                "train": 2,
                "val": 1,
                "name": "../sim\0x".replace("\0", ""),
            },
            source_training={"iterations": 1},
            steps=[{"target": domains[0], "iterations": 1}],
            extra_domains=domains[1:],
            every_step={},
            evaluation={"statistics": ["running"], "domain_images": 1, "samples": 1},
        )
    )
    place = tmp_path / "deep" / "down" / "experiments"
    before = set(tmp_path.rglob("*"))
    train(recipe, place, quiet=True)
    written = {path for path in tmp_path.rglob("*") if path not in before}
    inside = (place / "snapshots" / "tiny", place / "logs" / "tiny")
    assert all(
        any(path.is_relative_to(top) or top.is_relative_to(path) for top in inside)
        for path in written
    )
    samples = {path.name for path in (inside[0] / "samples").iterdir()}
    assert len([name for name in samples if name.endswith("_image.png")]) == len(NAMES) + 1


def test_names_that_would_write_to_one_file_are_refused(tiny: Tiny) -> None:
    domains = [
        {"dataset": "scenes", "domain": "city", "name": name} for name in ("new york", "new_york")
    ]
    with pytest.raises(MuhdiError, match="would be called like those of 'new york'"):
        load_recipe(tiny(extra_domains=domains))
    domains = [{"dataset": "scenes", "domain": "city", "name": "ü" * 101}]
    with pytest.raises(MuhdiError, match=r"extra_domains\.0: its name is too long for a file"):
        load_recipe(tiny(extra_domains=domains))


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a\nb", "a\n", "-x", "x" * 151, "..", "a b"])
def test_a_run_is_never_called_so_that_it_lies_elsewhere(tiny: Tiny, name: str) -> None:
    with pytest.raises(MuhdiError, match=r"^tiny\.yml: name: "):
        load_recipe(tiny(name=name))


def test_images_of_any_name_are_found_with_their_labels(folders: Path) -> None:
    for number, name in enumerate(
        ["two\nlines", "ünïcödé 東京", "[ab]", "a*b", "{stem}", "-rf", "$HOME", "x" * 230]
    ):
        (
            os.rename(folders / f"day/train/img {number}.png", folders / f"day/train/{name}.png")
            if number < 4
            else None
        )
        if number < 4:
            os.rename(
                folders / f"day_labels/train/img {number}_ids.png",
                folders / f"day_labels/train/{name}_ids.png",
            )
            continue
        Image.new("RGB", (36, 24)).save(folders / f"day/train/{name}.png")
        Image.new("L", (36, 24)).save(folders / f"day_labels/train/{name}_ids.png")
    images = open_split(folder(), "train", context(folders))
    assert len(images) == 8
    for index in range(8):
        assert images.read(index, True).label.shape == (24, 36)


def test_links_that_lead_in_circles_end(folders: Path, tmp_path: Path) -> None:
    (folders / "day/train/circle").symlink_to(folders / "day")
    (folders / "day/train/self.png").symlink_to("self.png")
    for pattern in ("day/{split}/*.png", "day/**/*.png", "**/*.png"):
        images = open_split(folder(images=pattern, labels=None), "train", context(folders))
        assert len(images) in (4, 8, 24), pattern
    (folders / "loop").symlink_to("loop")
    with pytest.raises(MuhdiError, match="loop does not exist"):
        open_split(folder(root="loop"), "train", context(folders))
    (folders / "day_labels/train/img 0_ids.png").unlink()
    (folders / "day_labels/train/img 0_ids.png").symlink_to("img 0_ids.png")
    with pytest.raises(MuhdiError, match=r"img 0\.png: its label .* is missing \(1 of 4"):
        open_split(folder(), "train", context(folders))
    write_tree("cityscapes", tmp_path / "c")
    (tmp_path / "c/leftImg8bit/train/aachen/circle").symlink_to(tmp_path / "c/leftImg8bit")
    assert len(opened("cityscapes", tmp_path / "c")) >= 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: " + "[" * 100_000, "nested too deeply"),
        ("{a: " * 50_000, "nested too deeply"),
        ("a: &a {<<: *a}", "bad.yml"),
        ("a: &a [" + "1," * 99 + "]\nb: [" + "*a," * 999 + "]", "more than 20000 values"),
        ("seed: " + "9" * 5000, "bad.yml"),
        ("a: !!python/object/new:os.system [touch executed]", "bad.yml"),
        ("extends: /dev/zero", "the recipe file does not exist"),
    ],
)
def test_yaml_that_means_harm_is_one_message_within_seconds(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "bad.yml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(MuhdiError, match=words) as error:
        load_recipe(path)
    assert time.process_time() - start < 5
    assert "\n" not in str(error.value)


def test_a_recipe_of_100_megabytes_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "big.yml"
    with open(path, "wb") as file:
        file.truncate(100 * 2**20)
    start = time.process_time()
    with pytest.raises(MuhdiError, match=r"big\.yml: larger than 1000000 bytes"):
        load_recipe(path)
    assert time.process_time() - start < 0.5


def _pickled(path: Path, touched: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(touched)))


def _zipped(path: Path, touched: Path) -> None:
    """PyTorch's own layout, with a payload in the place of the tensors' description."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({"a": Payload(touched)}))
        file.writestr("archive/version", "3")


def _saved(path: Path, touched: Path) -> None:
    torch.save({"state_dict": {"a": Payload(touched)}}, path)


def _legacy(path: Path, touched: Path) -> None:
    torch.save({"a": Payload(touched)}, path, _use_new_zipfile_serialization=False)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make", [_pickled, _zipped, _saved, _legacy])
def test_no_network_file_executes_code(tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    touched = tmp_path / "executed"
    for name in ("evil.pth", "evil.pt", "evil.safetensors"):
        make(tmp_path / name, touched)
        for read in (
            read_tensors,
            load_checkpoint,
            lambda path: convert(path, tmp_path / "out.safetensors"),
        ):
            with pytest.raises(MuhdiError, match="not a readable network file"):
                read(tmp_path / name)
    assert not touched.exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_safetensors_that_promise_too_much_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    header = json.dumps(
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    ).encode()
    for data in (struct.pack("<Q", 2**62), struct.pack("<Q", len(header)) + header, b"\xff" * 16):
        path.write_bytes(data)
        with pytest.raises(MuhdiError, match="not a readable network file"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", "[" * 9999),
        ("classes", '"abc"'),
        ("classes", "[1, 2]"),
        ("heads", "[]"),
        ("backbone", "os.system"),
        ("domains", '["x"]'),
        ("multi_level", "[]"),
        ("classes", json.dumps([str(n) for n in range(10**5)])),
    ],
)
def test_a_description_that_lies_is_refused(tmp_path: Path, key: str, value: str) -> None:
    import safetensors.torch

    path = tmp_path / "net.safetensors"
    save_checkpoint(
        path, Checkpoint(build_segmenter("small", 2), read_backbone("small"), ("a", "b"), (48, 32))
    )
    tensors, metadata = read_tensors(path)
    lie = json.loads(metadata["muhdi"]) | {key: value}
    safetensors.torch.save_file(tensors, path, {"muhdi": json.dumps(lie)})
    with pytest.raises(MuhdiError, match="its checksum does not agree"):
        load_checkpoint(path)
    # The first format has no checksum.
    first = as_first_format(json.loads(metadata["muhdi"])) | {key: value}
    safetensors.torch.save_file(tensors, path, first)
    with pytest.raises(MuhdiError, match=r"net\.safetensors: ") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


def as_first_format(description: dict) -> dict[str, str]:
    """What a file of version 0.1 said of itself: a JSON text under every key."""
    same = {key: json.dumps(description[key]) for key in ("classes", "heads", "image_size")}
    return same | {
        "format": "muhdi 1",
        "backbone": description["backbone"]["name"],
        "domains": json.dumps(description["names"]["statistics"]),
    }


def test_results_never_go_over_a_folder_or_a_device(tiny: Tiny, tmp_path: Path) -> None:
    recipe = load_recipe(tiny(steps=[], source_training={"iterations": 1}))
    run = tmp_path / "snapshots" / "tiny"
    (run / "results.json").mkdir(parents=True)
    with pytest.raises(MuhdiError, match="not empty, nor a run directory"):
        train(recipe, tmp_path, overwrite=True, quiet=True)
    assert (run / "results.json").is_dir()
    assert yaml.safe_load((tmp_path / "tiny.yml").read_text())["name"] == "tiny"
