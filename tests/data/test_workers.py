"""Processes that load images: however they are started, and whatever ends them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_folders

ROOT = Path(__file__).parents[2]

LOADED = """
import json, multiprocessing, os, sys
os.cpu_count = lambda: 2  # two loading processes on any machine
from itertools import islice
from muhdi.data.catalog import open_split
from muhdi.data.prepared import PreparedSet
from muhdi.data.stream import endless_batches
from muhdi.errors import DataError
from muhdi.recipe.augment import AugmentConfig
from tests.data.test_data import context, folder
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[3])
    images = open_split(folder(), "train", context(sys.argv[1]))
    samples = PreparedSet(images, (48, 32), (48, 32), with_labels=True)
    config = AugmentConfig(crop=0.5, flip=True, colour=0.4)
    sums, names = [], []
    for workers in (0, 2):
        stream = endless_batches(samples, 3, config, (1, 2), 2, workers)
        batches = list(islice(stream, 4))
        if workers:
            assert len(multiprocessing.active_children()) == 2
        stream.close()
        sums.append([[int(b.images.sum()), int(b.labels.sum())] for b in batches])
        names.append([b.names for b in batches])
    images = open_split(folder(), "train", context(sys.argv[2]))
    broken = PreparedSet(images, (48, 32), (48, 32), with_labels=True)
    try:
        list(endless_batches(broken, 2, AugmentConfig(), (0,), workers=1))
    except DataError as error:
        print(json.dumps([sums, names, str(error)]))
"""

CHECKED = """
import json, multiprocessing, sys
from muhdi.preflight.check import check, to_json
from muhdi.recipe.load import load_recipe
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[2])
    report = check(load_recipe(sys.argv[1]), 2)
    print(json.dumps(to_json(report)["splits"]))
"""

WAITS = """
import multiprocessing, os, sys, time
from muhdi.data.workers import end_with_process

def wait(main):
    end_with_process(main)
    print(os.getpid(), flush=True)
    time.sleep(120)

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    multiprocessing.Process(target=wait, args=(os.getpid(),)).start()
    time.sleep(120)
"""


def script(tmp_path: Path, text: str) -> Path:
    """A file, because processes that do not begin as a copy import it again."""
    path = tmp_path / "script.py"
    path.write_text(text)
    return path


def run(path: Path, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(path), *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture(scope="module", params=METHODS)
def loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Any], Path]:
    """What processes that start in one way have loaded, and the file that they could not read."""
    folder = tmp_path_factory.mktemp("loaded")
    whole, broken = write_folders(folder / "whole"), write_folders(folder / "broken")
    empty = broken / "day/train/img 2.png"
    empty.write_bytes(b"")
    path = script(folder, LOADED)
    return json.loads(run(path, whole, broken, request.param)), empty


def test_two_loading_processes_change_nothing_however_they_start(
    loaded: tuple[list[Any], Path],
) -> None:
    (alone, together), names, _ = loaded[0]
    assert together == alone
    assert names[0] == names[1]
    assert len(alone) == 4


def test_a_fault_in_a_loading_process_is_one_line(loaded: tuple[list[Any], Path]) -> None:
    (*_, error), empty = loaded
    assert error == f"{empty}: not an image"


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """What a check in processes that start in some way finds, about one recipe."""
    folder = tmp_path_factory.mktemp("checked")
    recipe = folder / "few.yml"
    recipe.write_text(
        "source: {dataset: scenes, domain: sim, train: 3, val: 2}\n"
        "image_size: [48, 32]\n"
        "source_training: {iterations: 1}\n"
        "steps: []\n"
    )
    path = script(folder, CHECKED)
    return cache(lambda method: json.loads(run(path, recipe, method)))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_check_is_the_same_however_its_processes_start(
    checked: Callable[[str], Any], method: str
) -> None:
    assert checked(method) == checked("fork")


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system of Linux")
@pytest.mark.parametrize("method", METHODS)
def test_it_ends_with_the_process_that_started_it(tmp_path: Path, method: str) -> None:
    main = subprocess.Popen(
        [sys.executable, str(script(tmp_path, WAITS)), method],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with main:
        worker = int(main.stdout.readline())
        time.sleep(0.2)
        assert Path(f"/proc/{worker}").exists(), "it did not take itself for an orphan"
        main.kill()
    for _ in range(100):
        if not running(worker):
            return
        time.sleep(0.1)
    pytest.fail("the loading process lives on")


def running(number: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
