"""Same seed, same bits: in another process, with other workers; another seed, other bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.workflows.train import train
from tests.conftest import write_tiny
from tests.workflows.test_train import assert_same_run

SETTINGS = [
    "every_step.adaptation=selftrain",
    "every_step.retention=muhdi",
    "augment.flip=true",
    "augment.crop=0.5",
    "augment.colour=0.4",
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a recipe, and of its run with seed 5 in this process."""
    folder = tmp_path_factory.mktemp("here")
    train(load_recipe(write_tiny(folder), SETTINGS, 5), folder, quiet=True)
    return folder


def test_another_process_gives_the_same_results_file(here: Path, tmp_path: Path) -> None:
    """Another order of sets and dictionaries too: Python's hashes are seeded differently."""
    path = here / "tiny.yml"
    command = [
        sys.executable,
        "-m",
        "muhdi",
        "train",
        str(path),
        "--seed",
        "5",
        "--experiments",
        str(tmp_path),
    ]
    command += [word for s in [*SETTINGS, "loader.workers=2"] for word in ("--set", s)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "3"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert_same_run(here, tmp_path, load_recipe(path, SETTINGS, 5))


def test_another_seed_gives_other_results(here: Path, tmp_path: Path) -> None:
    one, other = (load_recipe(here / "tiny.yml", SETTINGS, seed) for seed in (5, 6))
    train(other, tmp_path, quiet=True)
    texts = [
        RunDirectory.of(recipe, folder).metrics.read_text()
        for recipe, folder in ((one, here), (other, tmp_path))
    ]
    assert all(one != two for one, two in zip(*(text.splitlines() for text in texts), strict=True))
