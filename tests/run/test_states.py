"""Training states: damaged ones, pruning, failing disks, and which one a run continues from."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from muhdi.errors import MuhdiError
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run import states
from muhdi.run.directory import RunDirectory
from muhdi.run.states import States
from muhdi.workflows.train import train
from tests.conftest import write_tiny
from tests.workflows.test_train import Crash, assert_same_run, crashing

Tiny = Callable[..., Path]
STATE = {
    "stage": 0,
    "trainer": {"iteration": 1},
    "statistics": {},
    "memory": {},
    "networks": {},
    "metrics": 0,
    "results": [],
}


class Payload:
    """What a hostile checkpoint holds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    index = 2 * len(data) // 3
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


DAMAGES = {"cut": cut, "bit": flip, "empty": lambda data: b"", "other": lambda data: b"x" * 99}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A recipe and the folder of its finished run, with a state of each stage.

    Nobody may change it.
    """
    folder = tmp_path_factory.mktemp("finished")
    settings = ["runtime.save_every=9", "runtime.keep=3", "evaluation.statistics=[running]"]
    recipe = load_recipe(write_tiny(folder), settings)
    train(recipe, folder, quiet=True)
    return recipe, folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_state_is_reported_and_the_run_continues_from_the_one_before(
    finished: tuple[Recipe, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    (recipe, whole), broken = finished, tmp_path / "broken"
    shutil.copytree(whole, broken)
    run = RunDirectory.of(recipe, broken)
    newest, second, third = run.states.files()
    assert [newest.name, second.name, third.name] == [f"training_state_{n}.pt" for n in (9, 6, 3)]
    for path in (newest, second):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with monkeypatch.context() as patch:
        crashing(patch, 0)
        with pytest.raises(Crash):
            train(recipe, broken, resume=True)
    printed = capsys.readouterr().out
    assert printed.count("continuing from training_state_3.pt, the one before") == 2
    assert str(newest) in printed
    # Everything in the folder is now as old as that state.
    assert len(json.loads(run.results.read_text())["steps"]) == 1
    assert [path.parent.name for path in run.models()] == ["0_source"]
    assert not run.samples.exists()
    assert {json.loads(line)["stage"] for line in run.metrics.read_text().splitlines()} == {
        "source"
    }
    train(recipe, broken, resume=True, quiet=True)
    assert_same_run(whole, broken, recipe)
    assert len(list(run.folder.glob("*.damaged"))) == 2


def test_without_an_intact_state_nothing_is_removed_and_one_line_says_so(
    finished: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, whole = finished
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    run = RunDirectory.of(recipe, tmp_path)
    for path in run.states.files():
        path.write_bytes(flip(path.read_bytes()))
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(
        MuhdiError,
        match=r"training_state_9\.pt: .*checksum.*, nor can the 2 before it; start again",
    ):
        train(recipe, tmp_path, resume=True, quiet=True)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_lost_results_are_written_again_from_the_state(
    finished: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, whole = finished
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    results = RunDirectory.of(recipe, tmp_path).results
    before = results.read_bytes()
    results.unlink()
    train(recipe, tmp_path, resume=True, quiet=True)
    assert results.read_bytes() == before


@pytest.mark.parametrize("name", ["training_state_3.pt", "training_state.pt"])
def test_a_state_of_version_0_1_is_refused_and_stays(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, muhdi, name: str
) -> None:
    with monkeypatch.context() as patch:
        crashing(patch, 3)
        with pytest.raises(Crash):
            train(load_recipe(tiny()), tmp_path, quiet=True)
    run = RunDirectory.of(load_recipe(tiny()), tmp_path)
    for path in run.states.files():
        path.unlink()
    payload = io.BytesIO()
    torch.save({"stage": 0, "trainer": {"iteration": 3}, "statistics": {}, "metrics": 0}, payload)
    data = payload.getvalue()
    if name != "training_state.pt":
        data = b"muhdi state 1\n" + hashlib.sha256(data).digest() + data
    old = run.folder / name
    old.write_bytes(data)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    status, _, errors = muhdi("train", "tiny.yml", "--experiments", tmp_path, "--resume")
    assert status == 2
    assert errors.strip().splitlines() == [
        f"error: {old}: saved by version 0.1, whose runs this version cannot continue; finish the "
        "run with version 0.1, or start a new one from its last network with model.init"
    ]
    after = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert after == before
    assert run.models()


def test_a_run_without_states_keeps_its_networks(
    finished: tuple[Recipe, Path], tmp_path: Path
) -> None:
    """They are hours of training, so an error on resuming must not remove them."""
    recipe, whole = finished
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    run = RunDirectory.of(recipe, tmp_path)
    for path in run.states.files():
        path.unlink()
    with pytest.raises(MuhdiError, match="holds results, but no training state"):
        train(recipe, tmp_path, resume=True, quiet=True)
    assert len(run.models()) == 3


def test_a_crash_before_the_oldest_state_is_removed_leaves_no_more_than_keep(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the last stage, after which no further state is written."""
    recipe = load_recipe(tiny(), ["runtime.keep=2"])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    remove_old = States.remove_old

    def dying(self: States, keep: int) -> None:
        if self.files()[0].stem == "training_state_9":
            raise Crash
        remove_old(self, keep)

    with monkeypatch.context() as patch:
        patch.setattr(States, "remove_old", dying)
        with pytest.raises(Crash):
            train(recipe, broken, quiet=True)
    assert len(RunDirectory.of(recipe, broken).states.files()) == 3
    train(recipe, broken, resume=True, quiet=True)
    left = [
        [path.name for path in RunDirectory.of(recipe, folder).states.files()]
        for folder in (whole, broken)
    ]
    assert left[0] == left[1] == ["training_state_9.pt", "training_state_8.pt"]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_states_stay(tmp_path: Path, keep: int) -> None:
    kept = States(tmp_path)
    for number in (3, 9, 10, 100):
        kept.save(STATE | {"metrics": number}, number, keep)
    assert [path.stem for path in kept.files()] == [
        f"training_state_{n}" for n in (100, 10, 9)[:keep]
    ]
    assert kept.load()[0]["metrics"] == 100


def test_the_newest_good_state_is_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that returns other bytes than it was given is noticed before a state is removed."""
    kept = States(tmp_path)
    kept.save(STATE, 1, 1)
    right = states.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr(states, "write_bytes", lambda path, data: right(path, flip(bytes(data))))
        with pytest.raises(
            MuhdiError, match=r"training_state_2\.pt: does not read back as it was written"
        ):
            kept.save(STATE, 2, 1)
    assert len(kept.files()) == 2
    state, problems = kept.load()
    assert state == STATE
    assert len(problems) == 1


def test_a_state_never_executes_code(tmp_path: Path) -> None:
    touched = tmp_path / "executed"
    saved = io.BytesIO()
    torch.save({"stage": Payload(touched)}, saved)
    for payload in (pickle.dumps(Payload(touched)), saved.getvalue()):
        state = states._MAGIC + hashlib.sha256(payload).digest() + payload
        (tmp_path / "training_state_5.pt").write_bytes(state)
        with pytest.raises(MuhdiError, match="cannot be read"):
            States(tmp_path).load()
    assert not touched.exists()


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


FAULTS = [
    (errno.ENOSPC, "fsync"),
    (errno.EDQUOT, "replace"),
    (errno.EROFS, "replace"),
    (errno.EACCES, "fsync"),
]


@pytest.mark.parametrize(("code", "call"), FAULTS)
def test_a_disk_that_fails_costs_no_more_than_a_resume(
    tiny: Tiny,
    finished: tuple[Recipe, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    call: str,
) -> None:
    """One write in three fails until the run is through.

    After each failure the last good state is still there.
    """
    recipe = load_recipe(tiny(), ["evaluation.statistics=[running]", "evaluation.samples=0"])
    (_, whole), broken = finished, tmp_path / "broken"
    run, right, rng = RunDirectory.of(recipe, broken), getattr(os, call), random.Random(code + 1)

    def fails(*arguments):
        # Of folders it is a nicety, whose failing is no failure.
        counts = call != "fsync" or not stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
        if counts and rng.random() < 1 / 3:
            raise OSError(code, os.strerror(code))
        return right(*arguments)

    monkeypatch.setattr(os, call, fails)
    messages = []
    for _ in range(40):
        done = run.states.files()[:1]
        try:
            train(recipe, broken, resume=True, quiet=True)
            break
        except MuhdiError as error:
            messages.append(str(error))
        newest = run.states.files()[:1]
        assert not done or _number(newest[0]) >= _number(done[0]), "no good state is lost"
        assert not list(run.folder.rglob("*.tmp"))
    assert 2 <= len(messages) < 40
    for message in messages:
        assert f"{broken}" in message
        assert "cannot be written: " in message
        assert ("free some space" in message) == (code in (errno.ENOSPC, errno.EDQUOT))
    assert_same_run(whole, broken, recipe)


def test_a_real_limit_of_the_system_leaves_the_last_good_state(tiny: Tiny, tmp_path: Path) -> None:
    """The states of the steps are larger than those of the source.

    A limit between the two is a disk that fills.
    """
    recipe = load_recipe(tiny(), ["every_step.retention=muhdi", "evaluation.statistics=[running]"])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = RunDirectory.of(recipe, whole).states.files()[0].stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, limit[1]))
    try:
        with pytest.raises(MuhdiError, match="cannot be written: File too large; free some space"):
            train(recipe, broken, quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    run = RunDirectory.of(recipe, broken)
    assert run.states.load()[0] is not None
    assert not list(run.folder.rglob("*.tmp"))
    train(recipe, broken, resume=True, quiet=True)
    assert_same_run(whole, broken, recipe)
