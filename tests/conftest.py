"""What the tests share.

One thread, where golden numbers and real images lie, and recipes that run in a second.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from muhdi.cli import main
from muhdi.data.scenes import scene_set
from muhdi.models.backbones import resnet
from muhdi.recipe.load import load_recipe
from muhdi.workflows.sweeps import processes
from muhdi.workflows.sweeps.plan import Run
from muhdi.workflows.train import train

SHARED = Path(__file__).parents[2] / "shared"
torch.set_num_threads(1)


def golden_folder() -> Path:
    """Where the reference's numbers are looked for."""
    return Path(os.environ.get("MUHDI_GOLDEN", SHARED / "golden"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the reference's numbers; MUHDI_GOLDEN says where."""
    folder = golden_folder()
    if not folder.is_dir():
        pytest.skip(f"golden numbers are not at {folder}; set MUHDI_GOLDEN")
    return folder


@pytest.fixture(scope="session")
def camvid() -> Path:
    """Folder of the CamVid sequences; MUHDI_CAMVID says where."""
    folder = Path(os.environ.get("MUHDI_CAMVID", SHARED / "data" / "camvid"))
    if not folder.is_dir():
        pytest.skip(f"CamVid is not at {folder}; set MUHDI_CAMVID")
    return folder


def write_tiny(folder: Path, **changes: object) -> Path:
    """A recipe on a few drawn scenes; keyword arguments replace its keys."""
    recipe = {
        "name": "tiny",
        "image_size": [48, 32],
        "source": {"dataset": "scenes", "domain": "sim", "train": 6, "val": 3},
        "optimizer": {"name": "adamw", "head_factor": 1},
        "source_training": {"iterations": 3, "batch_size": 2, "learning_rate": 1e-3},
        "every_step": {"iterations": 3, "batch_size": 2, "learning_rate": 1e-3},
        "steps": [
            {"target": {"dataset": "scenes", "domain": "city", "train": 6, "val": 3}},
            {"target": {"dataset": "scenes", "domain": "night", "train": 6, "val": 3}},
        ],
        "log_every": 1,
        "save_every": 2,
        "evaluation": {"domain_images": 4, "samples": 1},
    }
    path = folder / "tiny.yml"
    path.write_text(yaml.safe_dump(recipe | changes))
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Path]:
    """Writes `write_tiny`'s recipe into the test's folder."""
    return partial(write_tiny, tmp_path)


@pytest.fixture(autouse=True, scope="session")
def _without_waiting_for_the_disk() -> Iterator[None]:
    """Files of tests need not survive a power cut, and a run waits for the disk 60 times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _scenes_are_drawn_once() -> Iterator[None]:
    """Most tests train on the same few scenes, and drawing one takes longer than an iteration."""
    draw = lru_cache(maxsize=2000)(scene_set.draw_scene)

    def drawn(domain: str, seed: tuple[int, ...], size: tuple[int, int]) -> tuple[Any, Any]:
        image, label = draw(domain, seed, size)
        return image.copy(), label.copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene_set, "draw_scene", drawn)
        yield


@pytest.fixture(autouse=True)
def _without_pretrained_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do the same on machines where packages of pretrained weights are installed."""
    monkeypatch.setattr("muhdi.models.imagenet.find_spec", lambda name: None)


def write_folders(data: Path) -> Path:
    """A labelled folder ``day`` and an unlabelled folder ``rain`` of noise images, in train and
    val.
    """
    rng = np.random.default_rng(0)
    for domain, labelled in (("day", True), ("rain", False)):
        for split in ("train", "val"):
            for number in range(4):
                image = rng.integers(0, 256, (24, 36, 3), np.uint8)
                path = data / domain / split / f"img {number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
                if labelled:
                    label = rng.choice(np.array([0, 7, 9], np.uint8), (24, 36))
                    path = data / "day_labels" / split / f"img {number}_ids.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(label).save(path)
    return data


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """What `write_folders` writes, for one's own use."""
    return write_folders(tmp_path / "data")


@pytest.fixture
def muhdi(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in the test's folder: exit status, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["muhdi", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def sweeps_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of a sweep are trained here, one after another: a process takes seconds to start.

    Those that a sweep starts are tested in `tests/workflows/test_train.py`.
    """

    class Trained:
        """What a process that has ended looks like."""

        def poll(self) -> int:
            return 0

    def train_here(run: Run, experiments: Path, gpu: str | None) -> Trained:
        train(run.recipe, experiments, resume=True, quiet=True)
        return Trained()

    monkeypatch.setattr(processes, "spawn", train_here)


@pytest.fixture(scope="module")
def thin_resnets() -> Iterator[None]:
    """ResNets have the same layers with a sixteenth of the channels, and small files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "WIDTHS", (4, 8, 16, 32))
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run of a few iterations: sim, city, night.

    Nobody may change it.
    """
    recipe = load_recipe(
        "scenes",
        [
            "name=trained",
            "image_size=[64,32]",
            "source_training.iterations=8",
            "source_training.batch_size=2",
            "every_step.iterations=4",
            "every_step.batch_size=2",
            "source.train=6",
            "source.val=3",
            "log_every=1",
            "evaluation.samples=2",
            "evaluation.domain_images=4",
            *(f"steps.{i}.target.{key}" for i in range(3) for key in ("train=6", "val=3")),
        ],
    )
    experiments = tmp_path_factory.mktemp("experiments")
    train(recipe, experiments, quiet=True)
    return experiments / "snapshots" / "trained"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium; MUHDI_CHROMIUM and MUHDI_CHROMEDRIVER say where, if not on the path."""
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install 'muhdi[dev]'"
    )
    chromium = (
        os.environ.get("MUHDI_CHROMIUM")
        or shutil.which("chromium")
        or shutil.which("google-chrome")
    )
    driver = os.environ.get("MUHDI_CHROMEDRIVER") or shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with its driver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1000,900",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()
