"""The run directory: what is refused, locked, recorded, and removed again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from muhdi import __version__
from muhdi.errors import Interrupted, MuhdiError, RunError
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory, open_run
from muhdi.run.environment import recorded
from muhdi.workflows.train import train

Tiny = Callable[..., Path]


@pytest.fixture
def recipe(tiny: Tiny) -> Recipe:
    return load_recipe(tiny())


def save_something(run: RunDirectory) -> None:
    run.states.save({"stage": 0}, 1, keep=2)


def test_a_new_run_is_made_locked_and_recorded(recipe: Recipe, tmp_path: Path) -> None:
    with open_run(recipe, tmp_path) as run, recorded(run.folder, "32-true"):
        assert run.folder == tmp_path / "snapshots" / "tiny"
        assert run.logs == tmp_path / "logs" / "tiny"
        assert run.recipe().experiment() == recipe.experiment()
        assert run.holds(recipe)
        save_something(run)
        with (
            pytest.raises(RunError, match="another process is at work on this run"),
            open_run(recipe, tmp_path, resume=True),
        ):
            pass
    (session,) = json.loads((run.folder / "environment.json").read_text())
    assert session["versions"]["muhdi"] == __version__
    assert session["seconds"] >= 0
    assert session["memory_mb"] > 50
    assert session["plugins"] == {}
    # The lock is released, and every session is recorded.
    with open_run(recipe, tmp_path, resume=True), recorded(run.folder, "32-true"):
        pass
    assert len(json.loads((run.folder / "environment.json").read_text())) == 2


def test_an_existing_run_is_refused_unless_it_is_resumed_or_overwritten(
    recipe: Recipe, tmp_path: Path
) -> None:
    with open_run(recipe, tmp_path) as run:
        save_something(run)
        (run.logs / "events").write_text("old")
    before = sorted(path.name for path in run.folder.iterdir())
    with pytest.raises(RunError, match="exists already; continue with --resume"):
        open_run(recipe, tmp_path).__enter__()
    assert sorted(path.name for path in run.folder.iterdir()) == before
    with open_run(recipe, tmp_path, resume=True):
        assert run.states.files()
    with open_run(recipe, tmp_path, overwrite=True):
        assert not run.states.files()
        assert not list(run.logs.iterdir())


@pytest.mark.parametrize(
    ("setting", "difference"),
    [
        ("seed=5", "seed: 0 there, 5 here"),
        ("steps.1.iterations=7", "steps.1.iterations: 3 there, 7 here"),
        ("steps.0.adaptation=minent", "steps.0.adaptation.method: none there, minent here"),
        ("extra_domains=[{dataset: scenes, domain: dust}]", "0 entries there, 1 entries here"),
    ],
)
def test_a_run_is_not_resumed_as_another_experiment(
    tiny: Tiny, tmp_path: Path, setting: str, difference: str
) -> None:
    with open_run(load_recipe(tiny()), tmp_path) as run:
        save_something(run)
    other = load_recipe(tiny(), [setting])
    with pytest.raises(RunError, match="belongs to another recipe") as error:
        open_run(other, tmp_path, resume=True).__enter__()
    assert difference in str(error.value)


def test_whatever_is_no_part_of_the_experiment_may_change(tiny: Tiny, tmp_path: Path) -> None:
    with open_run(load_recipe(tiny()), tmp_path) as run:
        save_something(run)
    changes = ["runtime.workers=1", "runtime.save_every=7", "runtime.loggers=[]", "description=x"]
    with open_run(load_recipe(tiny(), changes), tmp_path, resume=True) as again:
        assert again.states.files()


def fail(recipe: Recipe, experiments: Path, error: Exception, *, saved: bool, **how: bool) -> None:
    with open_run(recipe, experiments, **how) as run, recorded(run.folder, "32-true"):
        if saved:
            save_something(run)
        raise error


def test_a_mistake_before_anything_was_saved_leaves_nothing(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(MuhdiError):
        fail(recipe, tmp_path, MuhdiError("x"), saved=False)
    assert not RunDirectory.of(recipe, tmp_path).folder.exists()
    assert not RunDirectory.of(recipe, tmp_path).logs.exists()
    # The corrected command needs no --overwrite.
    with open_run(recipe, tmp_path):
        pass


@pytest.mark.parametrize("error", [MuhdiError("x"), Interrupted(15), ValueError("x")])
def test_what_was_saved_stays_whatever_ends_the_run(
    recipe: Recipe, tmp_path: Path, error: Exception
) -> None:
    with pytest.raises(type(error)):
        fail(recipe, tmp_path, error, saved=True)
    run = RunDirectory.of(recipe, tmp_path)
    assert run.states.files()
    # Nothing is recorded of a mistake, which says nothing about what the run ran on.
    assert (run.folder / "environment.json").exists() == (not isinstance(error, MuhdiError))
    with open_run(recipe, tmp_path, resume=True):
        pass


@pytest.mark.parametrize("name", ["results.json", "0_source/model_3.safetensors"])
def test_results_and_networks_stay_without_a_state(
    recipe: Recipe, tmp_path: Path, name: str
) -> None:
    with open_run(recipe, tmp_path) as run:
        path = run.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    with pytest.raises(MuhdiError):
        fail(recipe, tmp_path, MuhdiError("x"), saved=False, resume=True)
    assert path.exists()


def test_python_callers_get_everything_that_the_command_line_writes(
    recipe: Recipe, tmp_path: Path
) -> None:
    train(recipe, tmp_path, quiet=True)
    run = RunDirectory.of(recipe, tmp_path)
    names = {path.name for path in run.folder.iterdir()}
    assert {"recipe.yml", "results.json", "metrics.jsonl", "samples"} <= names
    assert {"environment.json", "report.html", "0_source", "1_city", "2_night"} <= names


def test_a_run_keeps_where_its_data_are(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders of the same names elsewhere are other data."""
    assert recipe.runtime.root == "."
    monkeypatch.chdir(tmp_path)
    with open_run(recipe, tmp_path) as run:
        monkeypatch.chdir("/")
        assert run.recipe().runtime.root == str(tmp_path)
        assert not run.holds(recipe)
        monkeypatch.chdir(tmp_path)
        assert run.holds(recipe)
