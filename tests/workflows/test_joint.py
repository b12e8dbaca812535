"""Several targets in one step, through the command line and through a crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muhdi.evaluation.results import Results
from muhdi.models.checkpoint import load_checkpoint
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.workflows.train import train
from tests.workflows.test_train import assert_same_run, train_through_crashes

Command = Callable[..., tuple[int, str, str]]
Tiny = Callable[..., Path]
CITY, NIGHT, DUST = (
    {"dataset": "scenes", "domain": name, "train": 4, "val": 2}
    for name in ("city", "night", "dust")
)
TWO = [{"targets": [CITY, NIGHT]}]
THREE = [{"targets": [CITY, NIGHT, DUST]}]
MULTI_DIS = {"method": "advent", "width": 4, "discriminators_per": "pair", "mtaf_quirks": True}
ONE_PER_TARGET = {"method": "advent", "width": 4, "discriminators_per": "target"}
MTKT = {"method": "mtkt", "teacher_iterations": 1}


def state_of(experiments: Path, recipe: Recipe) -> dict[str, Any]:
    found = RunDirectory.of(recipe, experiments).states.load()[0]
    assert found is not None
    return found["trainer"]


def test_two_targets_then_one_of_them_from_training_to_the_report(
    muhdi: Command, tiny: Tiny, tmp_path: Path
) -> None:
    steps = [*TWO, {"target": CITY}]
    path = tiny(steps=steps, evaluation={"domain_images": 2, "samples": 1, "every": 2})
    status, output, errors = muhdi("check", path)
    assert status == 0, errors
    assert "night" in output
    status, output, errors = muhdi("train", path, "--dry-run")
    assert status == 0, errors
    assert "city+night" in output
    status, output, errors = muhdi("train", path)
    assert status == 0, errors
    assert "mIoU after city+night, running:" in output
    run = tmp_path / "experiments" / "snapshots" / "tiny"
    results = Results.load(run)
    assert [step["name"] for step in results.steps] == ["source", "city+night", "city"]
    assert (results.targets, results.adapted_at) == (["city", "night"], [1, 1])
    assert results.visits == {"city": [1, 2], "night": [1]}
    assert results.steps[1]["targets"] == ["city", "night"]
    assert "targets" not in results.steps[2]
    assert set(results.steps[1]["scores"]["domain"]) == {"sim", "city", "night"}
    assert results.matrix("domain", ["night"])[1][0] is not None, "its statistics are measured"
    assert (run / "1_city_night" / "model_3.safetensors").is_file()
    page = (run / "report.html").read_text()
    assert "city+night" in page
    status, output, errors = muhdi("report", run)
    assert status == 0, errors
    status, output, errors = muhdi("label-sample", run, "--count", 1, "-o", tmp_path / "chosen")
    assert status == 0, errors
    status, output, errors = muhdi("info", path)
    assert status == 0, errors
    assert "city+night 3" in output


def test_labels_are_for_steps_with_one_target(muhdi: Command, tiny: Tiny, tmp_path: Path) -> None:
    evaluation = {"statistics": ["running"], "samples": 0}
    assert muhdi("train", tiny(steps=TWO, evaluation=evaluation))[0] == 0
    run = tmp_path / "experiments" / "snapshots" / "tiny"
    chosen = ("--count", 1, "-o", tmp_path / "chosen")
    for domain, named in (
        ((), "city+night: the last step"),
        (("--domain", "night"), "night: steps.0"),
    ):
        status, _, errors = muhdi("label-sample", run, *chosen, *domain)
        assert status == 2
        assert f"--domain {named} learns several targets together" in errors
    assert not (tmp_path / "chosen").exists()


def test_beside_the_sequence_of_the_same_targets(
    muhdi: Command, tiny: Tiny, tmp_path: Path
) -> None:
    statistics = {"evaluation": {"statistics": ["running"], "samples": 0}}
    for name, steps in (("joint", TWO), ("sequence", [{"target": CITY}, {"target": NIGHT}])):
        status, _, errors = muhdi("train", tiny(name=name, steps=steps, **statistics))
        assert status == 0, errors
    runs = [tmp_path / "experiments" / "snapshots" / name for name in ("sequence", "joint")]
    status, output, errors = muhdi("compare", *runs)
    assert status == 0, errors
    rows = [line for line in output.splitlines() if "joint" in line and "│" in line]
    assert rows
    assert "-" in rows[0].split("│")[-2], "it has nothing to forget"


@pytest.mark.parametrize(
    ("steps", "methods"),
    [
        (TWO, {"adaptation": "selftrain", "retention": ["style", "replay"]}),
        (THREE, {"adaptation": MULTI_DIS}),
        (THREE, {"adaptation": ONE_PER_TARGET, "retention": MTKT}),
        (TWO, {"adaptation": "selftrain", "retention": MTKT}),
        (TWO, {"adaptation": "minent", "source": "none", "retention": "distill"}),
    ],
)
def test_it_resumes_to_the_bit(
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[Any],
    methods: dict[str, Any],
) -> None:
    every = {"iterations": 4, "batch_size": 2, "learning_rate": 1e-3, **methods}
    evaluation = {"statistics": ["running"], "samples": 0, "domain_images": 2}
    recipe = load_recipe(tiny(steps=steps, every_step=every, evaluation=evaluation))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    results = train(recipe, whole, quiet=True)
    assert len(results.steps) == 2
    assert results.summary("running").forgetting is None
    # In the middle of the step, with a save before; at its next iteration; at once.
    train_through_crashes(recipe, broken, monkeypatch, 6, 1, 0)
    assert_same_run(whole, broken, recipe)
    last = json.loads(RunDirectory.of(recipe, whole).metrics.read_text().splitlines()[-1])
    names = [target["domain"] for target in steps[0]["targets"]]
    assert all(any(key.endswith(f"_{name}") for key in last) for name in names)


def test_specialists_are_saved_and_the_agnostic_head_goes_on(tiny: Tiny, tmp_path: Path) -> None:
    steps = [{"targets": [CITY, NIGHT], "retention": MTKT}, {"target": DUST, "retention": "muhdi"}]
    recipe = load_recipe(tiny(steps=steps))
    train(recipe, tmp_path, quiet=True)
    run = RunDirectory.of(recipe, tmp_path)
    first = load_checkpoint(run.model(1, "city+night", 3)).network
    assert list(first.heads) == ["agnostic", "specialist_1", "specialist_2"]
    assert list(load_checkpoint(run.last_model()).network.heads) == ["agnostic", "specialist"]


def test_discriminators_of_every_target_are_saved_and_updated(tiny: Tiny, tmp_path: Path) -> None:
    steps = [
        {"targets": [CITY, NIGHT], "adaptation": MULTI_DIS},
        {"targets": [CITY, NIGHT], "adaptation": {**MULTI_DIS, "discriminators_per": "step"}},
    ]
    recipe = load_recipe(tiny(steps=steps))
    train(recipe, tmp_path, quiet=True)
    files = sorted(
        path.stem
        for path in RunDirectory.of(recipe, tmp_path).model(1, "city+night", 3).parent.glob("D_*")
    )
    names = ["1_aux", "1_main", "2_aux", "2_main", "targets_aux", "targets_main"]
    assert files == [f"D_{name}_3" for name in names]
    optimizer = state_of(tmp_path, recipe)["own_optimizers"]["advent/D_main"]
    assert int(optimizer["state"][0]["step"]) == 6, "twice in each of 3 iterations"


def test_batches_of_each_target_are_drawn_on_their_own(tiny: Tiny, tmp_path: Path) -> None:
    """A second target changes nothing of the images that the first is drawn from."""
    recipes = [load_recipe(tiny(steps=steps)) for steps in ([{"target": CITY}], TWO)]
    seen = []
    for number, recipe in enumerate(recipes):
        settings = {"adaptation": "none"}
        assert recipe.steps[0].adaptation.key == settings["adaptation"]
        train(recipe, tmp_path / str(number), quiet=True)
        lines = RunDirectory.of(recipe, tmp_path / str(number)).metrics.read_text().splitlines()
        seen.append([json.loads(line)["seg_main"] for line in lines[:4]])
    # The first iteration of the step has the same weights and the same source images.
    assert seen[0] == seen[1]


def test_after_several_targets_a_run_can_be_adapted_to_one(
    muhdi: Command, tiny: Tiny, folders: Path, tmp_path: Path
) -> None:
    advent = {**MULTI_DIS, "discriminators_per": "target"}
    every_step = {"iterations": 2, "adaptation": advent, "retention": MTKT}
    path = tiny(image_size=[64, 32], every_step=every_step, steps=TWO)
    status, _, errors = muhdi("train", path)
    assert status == 0, errors
    run = tmp_path / "experiments" / "snapshots" / "tiny"
    status, output, errors = muhdi("adapt", run, "--images", folders / "rain" / "train")
    assert status == 0, errors
    assert "note: without mtkt from here on, which is for several targets" in output
    assert "note: advent without its options for several targets" in output
    (step,) = load_recipe(run.with_name("tiny_train") / "recipe.yml").steps
    assert (step.adaptation.discriminators_per, step.adaptation.mtaf_quirks) == ("target", False)
    assert step.adaptation.width == 4
    assert step.retention.key == "none"
