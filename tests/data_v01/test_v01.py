"""Runs and recipes of version 0.1: read, reported, scored, predicted with, and adapted from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from muhdi import Predictor, Recipe, RecipeError, Results, evaluate
from muhdi.errors import RunError
from muhdi.files import write_bytes
from muhdi.recipe.load import load_recipe
from muhdi.recipe.upgrade import MOVED, upgrade
from muhdi.run.directory import RunDirectory
from muhdi.workflows.report import report
from muhdi.workflows.train import train

HERE = Path(__file__).parent / "run"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HERE, tmp_path / "snapshots" / "old"))


def test_its_recipe_is_read_with_todays_keys(old: Path) -> None:
    recipe = RunDirectory(old).recipe()
    assert recipe.runtime.device == "cpu"
    assert recipe.runtime.save_every == 2
    assert recipe.steps[1].adaptation.carries
    written = yaml.safe_load((old / "recipe.yml").read_text())
    assert set(written) - set(recipe.model_dump()) == {
        "device",
        "devices",
        "keep",
        "loader",
        "log_every",
        "logs",
        "nodes",
        "root",
        "save_every",
        "skip_bad",
        "snapshots",
        "strategy",
    }
    assert recipe == load_recipe(old / "recipe.yml")


def test_its_results_and_scores_are_what_they_were(old: Path) -> None:
    results = Results.load(old)
    assert results.matrix("running")[-1] == pytest.approx([15.3, 14.7, 16.4], abs=0.06)
    again = evaluate(old)
    for statistics in ("running", "domain"):
        for domain, entry in results.steps[-1]["scores"][statistics].items():
            # What version 0.1 recorded; entries say more today.
            assert again.steps[0]["scores"][statistics][domain].items() >= entry.items()


def test_its_report_is_written(old: Path) -> None:
    page = report(old).read_text()
    assert "average target mIoU" in page
    assert "night" in page


def test_its_network_predicts_what_it_predicted(old: Path) -> None:
    from PIL import Image

    predictor = Predictor.load(old)
    for name in ("sim", "city", "night"):
        image = np.asarray(Image.open(old / f"samples/{name}_0_image.png"))
        kept = np.asarray(Image.open(old / f"samples/{name}_0_predicted_running.png"))
        assert (predictor.predict(image).ids == kept).mean() > 0.999


def test_a_new_run_starts_from_its_network(old: Path, tmp_path: Path) -> None:
    settings = [
        f"model.init={old / '2_night' / 'model_3.safetensors'}",
        "source_training.iterations=0",
        "name=next",
    ]
    results = train(load_recipe(old / "recipe.yml", settings), tmp_path, quiet=True)
    assert len(results.steps) == 3


def test_its_unfinished_state_is_refused_in_one_line(old: Path) -> None:
    write_bytes(old / "training_state_8.pt", b"muhdi state 1\n" + bytes(64))
    recipe = load_recipe(old / "recipe.yml")
    with pytest.raises(RunError, match=r"version 0\.1") as error:
        train(recipe, old.parent.parent, resume=True, quiet=True)
    assert "\n" not in str(error.value)
    assert (old / "training_state_8.pt").exists(), "nothing is lost"
    assert json.loads((old / "results.json").read_text())["name"] == "old"


@pytest.mark.parametrize("key", sorted(MOVED))
def test_every_moved_key_is_found_and_never_given_twice(key: str) -> None:
    section, _, name = key.rpartition(".")
    data = {section: {name: 1}} if section else {name: 1}
    new_section, _, new_name = MOVED[key].partition(".")
    moved = upgrade(data, "x.yml")
    assert moved[new_section] == {new_name: 1}
    assert upgrade(moved, "x.yml") == moved, "what is new stays"
    with pytest.raises(RecipeError, match=f"x.yml: {key}: is called {MOVED[key]} now"):
        upgrade({**data, new_section: {**data.get(new_section, {}), new_name: 2}}, "x.yml")


def test_settings_of_version_0_1_are_understood() -> None:
    settings = ["device=cpu", "loader.workers=2", "save_every=7"]
    recipe = load_recipe("scenes", [*settings, "every_step.adaptation.color_jitter=0.1"])
    assert (recipe.runtime.workers, recipe.runtime.save_every) == (2, 7)
    assert recipe.steps[0].adaptation.colour_jitter == 0.1


def test_a_recipe_is_loaded_with_changes() -> None:
    changes = {"every_step.iterations": 5, "runtime": {"keep": 1}}
    recipe = Recipe.load("scenes", seed=3, image_size=[64, 32], **changes)
    assert recipe.name == "scenes_seed3"
    assert [step.iterations for step in recipe.steps] == [5, 5, 5]
    assert recipe.runtime.keep == 1
    assert repr(recipe).startswith("Recipe('scenes_seed3', seed=3, source -> ")
