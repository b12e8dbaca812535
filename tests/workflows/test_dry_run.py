"""A recipe tried out: every stage begins and ends, and the disk stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from muhdi.errors import MuhdiError, RunError
from muhdi.recipe.load import load_recipe
from muhdi.retention.ewc import EWC
from muhdi.run.costs import DryRun
from muhdi.run.directory import RunDirectory
from muhdi.training.stage import StageTrainer
from muhdi.workflows.dry_run import dry_run
from muhdi.workflows.train import train

Tiny = Callable[..., Path]
Tree = dict[str, tuple[int, bytes]]


def tree(folder: Path) -> Tree:
    """Everything below a folder, with times and contents."""
    found: Tree = {}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (path.stat().st_mtime_ns, content)
    return found


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock takes a second."""
    ticks = count()
    monkeypatch.setattr("muhdi.training.measured.now", lambda device: float(next(ticks)))


@pytest.mark.usefixtures("ticking")
def test_the_estimate_is_iterations_times_seconds_and_images_times_seconds(tiny: Tiny) -> None:
    recipe = load_recipe(tiny(), ["source_training.iterations=50", "every_step.iterations=7"])
    told: list[tuple[int, int]] = []
    costs = dry_run(recipe, on_progress=lambda *done: told.append(done))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert [stage.name for stage in costs.stages] == ["source", "city", "night"]
    assert [stage.iterations for stage in costs.stages] == [50, 7, 7]
    assert [stage.seconds for stage in costs.stages] == [1.0, 1.0, 1.0]
    assert [stage.images for stage in costs.stages] == [2, 4, 4]
    # 4 images of each domain are measured, and 3 scored, where the trial has 2 in a second.
    assert [stage.scoring for stage in costs.stages] == [4 / 2 + 3 / 2] * 3
    assert costs.seconds == 50 + 7 + 7 + 3 * 3.5
    assert all(stage.memory_mb > 0 for stage in costs.stages)
    assert costs.device == "cpu"


def test_every_stage_does_two_iterations_and_methods_begin_and_end(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(cls: type, name: str) -> None:
        original = getattr(cls, name)

        def call(self, *arguments):
            calls.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(cls, name, call)

    counted(StageTrainer, "iterate")
    counted(EWC, "begin")
    counted(EWC, "end")
    settings = [
        "every_step.adaptation={method: advent, width: 8}",
        "every_step.retention={method: ewc, samples: 2}",
        "every_step.iterations=1",
    ]
    dry_run(load_recipe(tiny(), settings))
    step = ["begin", "iterate", "iterate", "end"]
    assert calls == ["iterate", "iterate", *step, *step]


def recipe_of_files(folders: Path) -> dict[str, object]:
    folder = {"dataset": "folder", "images": "{split}/*.png"}
    day = folder | {"root": str(folders / "day"), "name": "day"}
    ids = {0: "flat", 7: "sky", 9: "object"}
    labels = str(folders / "day_labels") + "/{split}/{stem}_ids.png"
    step = {"iterations": 3, "adaptation": "selftrain", "retention": "muhdi"}
    rain = folder | {"root": str(folders / "rain"), "name": "rain"}
    return {
        "source": day | {"labels": labels, "ids": ids},
        "every_step": step,
        "steps": [{"target": rain}],
        "cache": str(folders / "cache"),
    }


def test_nothing_is_written(tiny: Tiny, folders: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tiny(**recipe_of_files(folders))
    before = tree(tmp_path)
    costs = dry_run(load_recipe(path))
    assert [stage.name for stage in costs.stages] == ["source", "rain"]
    assert costs.stages[1].scoring > 0
    assert tree(tmp_path) == before
    assert not (folders / "cache").exists()


def test_a_run_that_exists_and_is_at_work_stays_as_it_is(
    tiny: Tiny, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(tiny())
    directory = RunDirectory.of(recipe)
    directory.create(recipe, overwrite=False)
    directory.save_results({"of": "another recipe"})
    (directory.folder / "training_state_2.pt").write_bytes(b"cut short")
    try:
        assert directory.is_locked()
        before = tree(tmp_path)
        assert isinstance(dry_run(recipe), DryRun)
        assert tree(tmp_path) == before
        assert directory.is_locked()
    finally:
        directory.release()


def test_a_source_that_is_not_trained_costs_nothing(tiny: Tiny) -> None:
    settings = ["source_training.iterations=0", "every_step.retention=none"]
    source, *steps = dry_run(load_recipe(tiny(), settings)).stages
    assert (source.seconds, source.training, source.scoring) == (0.0, 0.0, 0.0)
    assert all(step.seconds > 0 for step in steps)


def test_mistakes_are_those_of_a_training(tiny: Tiny, tmp_path: Path) -> None:
    for setting in ("model.init=no.pth", "device=cuda:7", "source_training.accumulate=2"):
        settings = [setting, "source_training.batch_size=3"]
        recipe = load_recipe(tiny(), settings)
        messages = []
        for verb in (dry_run, lambda recipe: train(recipe, tmp_path, quiet=True)):
            with pytest.raises(MuhdiError) as error:
                verb(recipe)
            messages.append(str(error.value))
        assert messages[0] == messages[1]


def test_several_devices_are_measured_on_one_and_that_is_said(tiny: Tiny) -> None:
    (note,) = dry_run(load_recipe(tiny(), ["runtime.devices=2"])).notes
    assert note.startswith("runtime.devices is 2, but this was measured in one process")
    recipe = load_recipe(tiny(), ["runtime.devices=2", "source_training.batch_size=3"])
    with pytest.raises(MuhdiError, match="2 devices cannot share 3"):
        dry_run(recipe)


def test_it_does_not_run_in_several_processes(tiny: Tiny, monkeypatch) -> None:
    monkeypatch.setattr("muhdi.training.fabric._started", lambda recipe: (2, 1))
    with pytest.raises(RunError, match="a dry run takes place in a single process"):
        dry_run(load_recipe(tiny()))


def test_the_command_prints_a_table_and_leaves_nothing(muhdi, tiny: Tiny, tmp_path: Path) -> None:
    path = tiny()
    before = tree(tmp_path)
    status, output, errors = muhdi("train", path, "--dry-run", "--quiet")
    assert (status, errors) == (0, "")
    assert "images/s" in output
    assert "Estimated time of the whole recipe: 0:0" in output
    assert "warning" not in output
    assert output.endswith("nothing was written.\n")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("option", [["--resume"], ["--overwrite"], ["--experiments", "x"]])
def test_options_of_a_real_run_are_refused(muhdi, tiny: Tiny, option: list[str]) -> None:
    status, output, errors = muhdi("train", tiny(), "--dry-run", *option)
    assert (status, output) == (2, "")
    assert errors.startswith("error: --dry-run: writes nothing; leave ")
