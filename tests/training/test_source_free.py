"""Steps whose source is not there any more."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from muhdi.errors import RecipeError
from muhdi.losses import kl_distillation
from muhdi.models.checkpoint import load_checkpoint
from muhdi.passes import Batch
from muhdi.recipe import plugins
from muhdi.recipe.load import load_recipe, save_recipe
from muhdi.recipe.next_step import MAY_BE_WORSE
from muhdi.recipe.retentions import DistillConfig
from muhdi.run.directory import RunDirectory
from muhdi.workflows.adapt import adapt, plan_adaptation
from muhdi.workflows.train import train
from tests.testers import MethodTester

Tiny = Callable[..., Path]
SELF_TRAINING = "every_step.adaptation={method: selftrain, threshold: 0}"


def test_nothing_is_pasted_and_the_teachers_labels_stay() -> None:
    section = plugins.sections("adaptation")["selftrain"](colour_jitter=0, threshold=0)
    tester = MethodTester(section, has_source=False)
    _, methods = tester.started()
    (one,) = methods.passes(None, [tester.target])
    assert torch.equal(one.batch.images, tester.target.images.float())
    assert torch.equal(one.batch.labels, methods.adaptation.labelled_target.labels)


def test_the_old_model_teaches_on_the_target() -> None:
    section = DistillConfig(weight_pod=0, aux=0, old_statistics="running")
    tester = MethodTester(None, section, has_source=False)
    network, methods = tester.started()
    (distill,) = methods.retentions
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.01
    outputs = network.eval()(tester.target.images)
    losses = distill.on_target(outputs, tester.target)
    old = distill.old(tester.target.images).heads["agnostic"].main
    expected = kl_distillation(old, outputs.heads["agnostic"].main, "pixel")
    assert losses.keys() == {"kd_main"}
    torch.testing.assert_close(losses["kd_main"], expected)
    with_source, _ = MethodTester(None, section).started()
    assert with_source is not None
    _, methods = MethodTester(None, section).started()
    assert methods.retentions[0].on_target(outputs, Batch(tester.target.images)) == {}


def test_the_source_is_not_opened_and_the_table_says_so(tiny: Tiny, tmp_path: Path) -> None:
    first = load_recipe(tiny(), ["steps=[]", "name=first"])
    train(first, tmp_path, quiet=True)
    network = RunDirectory.of(first, tmp_path).model(0, "source", 3)
    text = tiny().read_text()
    assert "source:" in text
    settings = [
        SELF_TRAINING,
        "every_step.source=none",
        "source_training.iterations=0",
        f"model.init={network}",
        "source=null",
    ]
    recipe = load_recipe(tiny(), settings)
    results = train(recipe, tmp_path, quiet=True)
    assert results.domains == ["city", "night"]
    assert [step.get("without_source") for step in results.steps] == [None, True, True]
    report = (RunDirectory.of(recipe, tmp_path).folder / "report.html").read_text()
    assert "city, no source" in report
    before = load_checkpoint(network).network.state_dict()
    after = load_checkpoint(RunDirectory.of(recipe, tmp_path).model(2, "night", 3)).network
    assert any(not torch.equal(before[key], value) for key, value in after.state_dict().items())


def test_a_network_alone_is_enough_to_adapt(tiny: Tiny, folders: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny())
    train(recipe, tmp_path, quiet=True)
    alone = tmp_path / "alone.safetensors"
    shutil.copy(RunDirectory.of(recipe, tmp_path).model(2, "night", 3), alone)
    images = folders / "rain" / "train"
    with pytest.raises(RecipeError, match="or learn from the new images alone with --source-free"):
        adapt(alone, images, experiments=tmp_path, quiet=True)
    changes = {"every_step.iterations": 2, "every_step.batch_size": 2}
    results = adapt(
        alone, images, source_free=True, changes=changes, experiments=tmp_path, quiet=True
    )
    assert results.domains == ["train"]
    assert results.steps[-1]["without_source"]
    # And again, from the run that it made.
    images.rename(images.with_name("later"))
    run = tmp_path / "snapshots" / results.name
    (step,) = load_recipe(run / "recipe.yml").steps
    assert [part.key for part in step.retention.parts] == ["distill", "statistics"]
    again = adapt(
        run,
        images.with_name("later"),
        source_free=True,
        changes=changes,
        experiments=tmp_path,
        quiet=True,
    )
    assert again.domains[0] == "later"


def test_images_can_pass_without_anything_being_learned(tiny: Tiny, tmp_path: Path) -> None:
    methods = ["every_step.adaptation=none", "every_step.retention=none"]
    recipe = load_recipe(tiny(), ["every_step.source=none", *methods])
    train(recipe, tmp_path, quiet=True)
    run = RunDirectory.of(recipe, tmp_path)
    files = [run.model(0, "source", 3), run.model(2, "night", 3)]
    first, last = (load_checkpoint(file).network for file in files)
    weights = dict(last.named_parameters())
    for name, weight in first.named_parameters():
        assert torch.equal(weights[name], weight), name
    norms = dict(last.named_buffers())
    moved = [not torch.equal(norms[name], value) for name, value in first.named_buffers()]
    assert any(moved)


def test_of_a_run_the_earlier_domains_are_evaluated_still(
    tiny: Tiny, folders: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(tiny())
    train(recipe, tmp_path, quiet=True)
    run = RunDirectory.of(recipe, tmp_path).folder
    changes = {"every_step.iterations": 2, "every_step.batch_size": 2}
    results = adapt(
        run,
        folders / "rain" / "train",
        source_free=True,
        changes=changes,
        experiments=tmp_path,
        quiet=True,
    )
    assert results.domains == ["sim", "train", "city", "night"]
    # The next one learns from the source again, unless it is told not to.
    later = (folders / "rain" / "train").rename(folders / "rain" / "later")
    without = load_recipe(tmp_path / "snapshots" / results.name / "recipe.yml")
    assert without.steps[0].retention.key == "statistics"
    plan = plan_adaptation(tmp_path / "snapshots" / results.name, later)
    (step,) = plan.recipe.steps
    assert step.uses_source
    assert step.retention.key == "none"
    assert plan.notes[-1] == "without statistics from here on, since the source takes part again"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["every_step.adaptation=advent"], "steps.0.adaptation: advent needs source images"),
        (["every_step.retention=[mas, ewc]"], "steps.0.retention.1: ewc needs source images"),
        (["every_step.retention=style"], "steps.0.retention: style needs source images, but"),
        (["every_step.rare_classes={}"], "steps.0.rare_classes: the sampling needs source images"),
        (["every_step.source=maybe"], "every_step.source: unknown value 'maybe'"),
    ],
)
def test_what_needs_the_source_is_refused(tiny: Tiny, settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(tiny(), ["every_step.source=none", *settings])
    assert message in str(error.value)


def test_what_learned_from_the_source_is_left_out_and_said(
    tiny: Tiny, folders: Path, tmp_path: Path
) -> None:
    source = load_recipe(tiny(name="first"), ["steps=[]"])
    train(source, tmp_path, quiet=True)
    first = RunDirectory.of(source, tmp_path).model(0, "source", 3)
    changes = [
        f"model.init={first}",
        "every_step.retention=[style, l2sp]",
        "every_step.rare_classes={}",
        "every_step.adaptation={method: selftrain, feature_distance: {}}",
    ]
    recipe = load_recipe(tiny(), changes)
    train(recipe, tmp_path, quiet=True)
    run = RunDirectory.of(recipe, tmp_path).folder
    images = folders / "rain" / "train"
    (with_source,) = plan_adaptation(run, images).recipe.steps
    assert [part.key for part in with_source.retention.parts] == ["style", "l2sp"]
    plan = plan_adaptation(run, images, source_free=True)
    (step,) = plan.recipe.steps
    assert [part.key for part in step.retention.parts] == ["l2sp", "distill", "statistics"]
    assert step.rare_classes is None
    assert step.adaptation.feature_distance is None
    said = [note for note in plan.notes if "which learns from source images" in note]
    assert [note.split()[1] for note in said] == ["style", "rare_classes", "feature_distance"]
    assert plan.notes[-3:] == [
        "with distill from here on, which guards against a collapse without the source",
        "with statistics from here on, which gives the running statistics back at the end of the"
        " step",
        MAY_BE_WORSE,
    ]
    assert MAY_BE_WORSE not in plan_adaptation(run, images).notes
    # Of muhdi an old model teaches: distill would only repeat it.
    settings = [f"model.init={first}", "every_step.retention=[style, muhdi]"]
    taught = load_recipe(tiny(), [*settings, "model.batch_norm=synced"])
    train(taught, tmp_path / "taught", quiet=True)
    run_of_taught = RunDirectory.of(taught, tmp_path / "taught").folder
    recipe = plan_adaptation(run_of_taught, images, source_free=True).recipe
    (step,) = recipe.steps
    assert [part.key for part in step.retention.parts] == ["muhdi", "statistics"]
    assert recipe.model.batch_norm == "synced"
    # An option of a retention chooses none: it is as if the recipe said it.
    weight = {"every_step.retention.weight_pod": 0.1, "seed": 7}
    planned = plan_adaptation(run_of_taught, images, source_free=True, changes=weight).recipe
    assert [part.key for part in planned.steps[0].retention.parts] == ["muhdi", "statistics"]
    assert planned.steps[0].retention.parts[0].weight_pod == 0.1
    assert planned.seed == 7
    assert planned.name.endswith("_seed7")
    nothing_kept = plan_adaptation(
        run, images, source_free=True, changes={"every_step.retention": "none"}
    )
    assert nothing_kept.recipe.steps[0].retention.key == "none"
    assert not any("distill" in note for note in nothing_kept.notes)
    # What the user asks for decides whether the last network is the one in use, and what moves.
    teacher = {"evaluation.weights": "teacher", "every_step.adaptation": "selftrain"}
    for change in (teacher, {"model.batch_norm": "frozen"}):
        (step,) = plan_adaptation(run, images, source_free=True, changes=change).recipe.steps
        assert [part.key for part in step.retention.parts] == ["l2sp", "distill"], change
    labelled = {"every_step.source": "labelled"}
    with pytest.raises(RecipeError, match=r"every_step\.source: is labelled, but --source-free"):
        plan_adaptation(run, images, source_free=True, changes=labelled)
    by_key = {"every_step.source": "none", "every_step.retention": "l2sp"}
    assert plan_adaptation(run_of_taught, images, changes=by_key).notes[-1] == MAY_BE_WORSE
    with pytest.raises(RecipeError, match=r"^steps\.0\.retention: style needs source images"):
        plan_adaptation(run, images, source_free=True, changes={"every_step.retention": "style"})


def test_an_adaptation_that_needs_the_source_is_refused_by_the_key_that_changes_it(
    tiny: Tiny, folders: Path, tmp_path: Path
) -> None:
    source = load_recipe(tiny(name="first"), ["steps=[]"])
    train(source, tmp_path, quiet=True)
    network = RunDirectory.of(source, tmp_path).model(0, "source", 3)
    file = tmp_path / "advent.yml"
    changes = ["every_step.adaptation=advent", "every_step.retention=none"]
    file.write_text(save_recipe(load_recipe(tiny(), changes)))
    images = folders / "rain" / "train"
    message = (
        r"^every_step\.adaptation: advent needs source images; choose another one besides --so"
    )
    with pytest.raises(RecipeError, match=message):
        plan_adaptation(network, images, source=file, source_free=True)
    settings = ["every_step.adaptation=minent"]
    plan = plan_adaptation(network, images, source=file, source_free=True, settings=settings)
    assert plan.recipe.steps[0].adaptation.key == "minent"
