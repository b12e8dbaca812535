"""A few labels of a target, from the choice of the images to the tables of the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from muhdi.data.domains import Domains
from muhdi.deploy.card import CardNotes, Usage, model_card
from muhdi.models.checkpoint import load_checkpoint
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.report.tables import arms_table, matrix_table
from muhdi.run.directory import RunDirectory
from muhdi.workflows.train import train
from tests.folders import day
from tests.workflows.test_train import assert_same_run, train_through_crashes, weights

Tiny = Callable[..., Path]
Muhdi = Callable[..., tuple[int, str, str]]
SCENES = {
    "source": {"dataset": "scenes", "domain": "sim", "train": 4, "val": 1},
    "steps": [
        {"target": {"dataset": "scenes", "domain": "city", "train": 4, "val": 1}, "labelled": 2}
    ],
}


def _losses(experiments: Path, recipe: Recipe, stage: str) -> list[dict[str, float]]:
    """The lines of a stage's metrics."""
    text = RunDirectory.of(recipe, experiments).metrics.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if line["stage"] == stage]


def test_a_few_labels_are_learned_resumed_and_said(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ["every_step.adaptation=selftrain", "every_step.retention=muhdi"]
    recipe = load_recipe(tiny(**SCENES), methods)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    results = train(recipe, whole, quiet=True)
    train_through_crashes(recipe, broken, monkeypatch, 5)
    assert_same_run(whole, broken, recipe)
    assert {"labelled_main", "labelled_aux", "mix_main"} <= _losses(whole, recipe, "city")[0].keys()
    assert "labelled_main" not in _losses(whole, recipe, "source")[0]
    assert [step.get("labelled") for step in results.steps] == [None, 2]
    table = matrix_table(results, "running")
    assert [row[0] for row in table.rows] == ["source", "city, 2 labels"]
    assert arms_table({"mine": [results]}, "running").rows[0][0] == "mine (city, 2 labels)"
    run = RunDirectory.of(recipe, whole)
    assert "city, 2 labels" in (run.folder / "report.html").read_text()
    card = model_card(
        load_checkpoint(run.last_model()),
        Usage("agnostic", "running", None),
        CardNotes(run.folder),
    )
    assert "* city, 2 labels: adaptation selftrain" in card
    assert "labels but for a few of their training images (city, 2 labels)" in card


def test_labels_change_what_is_learned(tiny: Tiny, tmp_path: Path) -> None:
    """Beside the same batches of source and target."""
    settings = ["every_step.adaptation=none", "source_training.iterations=1"]
    recipe = load_recipe(tiny(**SCENES), settings)
    without = load_recipe(tiny(**SCENES), [*settings, "name=without", "steps.0.labelled=null"])
    for one in (recipe, without):
        train(one, tmp_path, quiet=True)
    ours, others = weights(tmp_path, recipe), weights(tmp_path, without)
    assert any(bool((ours[name] != others[name]).any()) for name in ours)
    first = [_losses(tmp_path, one, "city")[0]["seg_main"] for one in (recipe, without)]
    assert first[0] == first[1]
    assert "labelled" not in RunDirectory.of(without, tmp_path).results.read_text()


def test_images_are_picked_labelled_and_learned(
    folders: Path, tiny: Tiny, muhdi: Muhdi, tmp_path: Path
) -> None:
    ids = {0: "flat", 7: "sky", 9: "human"}
    target = {
        "dataset": "folder",
        "name": "rain",
        "root": ".",
        "images": "rain/{split}/*.png",
        "labels": "rain_labels/{stem}.png",
        "val_labels": "none/{split}/{stem}.png",
        "ids": ids,
    }
    path = tiny(steps=[{"target": target}], source={**day(ids), "root": "."}, root=str(folders))
    data = yaml.safe_load(path.read_text())
    data["source_training"]["iterations"] = 1
    data["every_step"]["iterations"] = 1
    path.write_text(yaml.safe_dump(data))
    run = tmp_path / "experiments" / "snapshots" / "tiny"
    # The labels of the target are yet to be drawn, and nobody asks for them.
    status, _, error = muhdi("train", path, "--quiet")
    assert status == 0, error
    status, out, _ = muhdi("label-sample", run, "--count", 2, "-o", "picked", "--quiet")
    assert status == 0
    names = (tmp_path / "picked" / "list.txt").read_text().splitlines()
    copies = tmp_path / "picked" / "images"
    assert len(names) == 2
    assert sorted(copy.name for copy in copies.iterdir()) == names
    original = folders / "rain" / "train" / names[0]
    assert (copies / names[0]).read_bytes() == original.read_bytes()
    assert f"2 of 4 training images of rain are in {Path('picked/images')}; draw" in out
    assert str(folders / "rain_labels" / "{stem}.png") in out
    key = f"steps.0.labelled={tmp_path / 'picked' / 'list.txt'}"
    assert f"muhdi train RECIPE --set {key}" in out

    status, _, error = muhdi("label-sample", run, "--count", 2, "-o", "picked")
    assert (status, "picked: is not empty" in error) == (2, True)
    status, _, _ = muhdi("label-sample", run, "--count", 1, "-o", "picked", "--overwrite")
    assert status == 0
    assert len(list(copies.iterdir())) == 1
    status, _, error = muhdi("label-sample", run, "--count", 5, "-o", "other")
    assert (status, "--count 5: 'rain' has 4 training images" in error) == (2, True)
    status, _, error = muhdi("label-sample", run, "--domain", "rian", "-o", "other")
    assert (status, "did you mean 'rain'?" in error) == (2, True)

    name = (tmp_path / "picked" / "list.txt").read_text().strip()
    new = ("train", path, "--set", "name=labelled", "--set", key)
    status, _, error = muhdi(*new)
    assert (status, f"its label {folders / 'rain_labels' / name} is missing" in error) == (2, True)
    drawn = folders / "rain_labels" / name
    drawn.parent.mkdir()
    drawn.write_bytes((folders / "day_labels" / "train" / "img 0_ids.png").read_bytes())
    status, out, error = muhdi(*new)
    assert status == 0, error
    assert "rain: the labels of 1 of its 4 training images take part" in out
    assert "rain, 1 label " in out
    status, out, _ = muhdi("check", path, "--set", key, "--jobs", 1)
    assert "rain: the labels of 1 of its 4 training images take part" in out


def test_labelled_images_that_are_scored_are_a_warning(folders: Path, tiny: Tiny) -> None:
    ids = {0: "flat", 7: "sky", 9: "human"}
    target = {**day(ids), "name": "both", "images": "day/train/*.png", "root": "."}
    target["labels"] = "day_labels/train/{stem}_ids.png"
    path = tiny(steps=[{"target": target, "labelled": 3}], root=str(folders))
    notes = Domains(load_recipe(path)).notes
    assert (
        "warning: both: 3 of the 3 images whose labels take part are scored, too; its score is too"
        " good" in notes
    )
