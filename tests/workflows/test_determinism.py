"""Same seed, same bits: in another process, with other workers; another seed, other bits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.workflows.train import train
from tests.workflows.test_train import assert_same_run

Tiny = Callable[..., Path]
SETTINGS = [
    "every_step.adaptation=selftrain",
    "every_step.retention=muhdi",
    "augment.flip=true",
    "augment.crop=0.5",
    "augment.colour=0.4",
]


@pytest.mark.parametrize("workers", [0, 2])
def test_another_process_gives_the_same_results_file(
    tiny: Tiny, tmp_path: Path, workers: int
) -> None:
    """Another order of sets and dictionaries too: Python's hashes are seeded differently."""
    path = tiny()
    recipe = load_recipe(path, SETTINGS, 5)
    train(recipe, tmp_path / "here", quiet=True)
    command = [
        sys.executable,
        "-m",
        "muhdi",
        "train",
        str(path),
        "--seed",
        "5",
        "--experiments",
        str(tmp_path / "there"),
    ]
    command += [word for s in [*SETTINGS, f"loader.workers={workers}"] for word in ("--set", s)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": str(workers + 1)}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert_same_run(tmp_path / "here", tmp_path / "there", recipe)


def test_another_seed_gives_other_results(tiny: Tiny, tmp_path: Path) -> None:
    texts = []
    for seed in (5, 6):
        recipe = load_recipe(tiny(), SETTINGS, seed)
        train(recipe, tmp_path, quiet=True)
        texts.append(RunDirectory.of(recipe, tmp_path).metrics.read_text())
    assert all(one != two for one, two in zip(*(text.splitlines() for text in texts), strict=True))
