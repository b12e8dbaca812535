"""The recipe of a run came with the run: it imports nothing unless the user trusts its code."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from muhdi import RecipeError, sweep, train
from muhdi.files import write_text
from muhdi.recipe.load import load_recipe, save_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.workflows.adapt import plan_adaptation
from muhdi.workflows.sweeps.plan import Job
from tests.plugins.package import write_foreign, write_lanterns
from tests.testers import forget

Foreign = Callable[..., Path]
Muhdi = Callable[..., tuple[int, str, str]]
SHORT = {"iterations": 1, "batch_size": 2, "adaptation": {"class": "lanterns:MaskedTeacher"}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiments of a finished run of two iterations."""
    folder = tmp_path_factory.mktemp("trained")
    site = write_lanterns(folder / "site")
    changes = {
        "source_training": {"iterations": 1, "batch_size": 2},
        "every_step": SHORT,
        "steps": [{"target": {"class": "lanterns:Stripes", "shade": 0.3}}],
        "test": {"domains": ["stripes"]},
    }
    sys.path.insert(0, str(site))
    try:
        forget("lanterns")
        train(load_recipe(write_foreign(folder, **changes)), folder / "e", quiet=True)
    finally:
        sys.path.remove(str(site))
        forget("lanterns")
    return folder / "e"


@pytest.fixture
def run(trained: Path, lanterns: Path, tmp_path: Path) -> Path:
    """A copy of the finished run; nothing of the package is imported."""
    shutil.copytree(trained, tmp_path / "e")
    return tmp_path / "e" / "snapshots" / "foreign"


def is_imported() -> bool:
    return "lanterns" in sys.modules


# --- in Python ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "neighbour",
    [
        ".lock",
        "results.json",
        "environment.json",
        "metrics.jsonl",
        "training_state_3.pt",
        "0_source/model_3.safetensors",
        "model.safetensors",
    ],
)
def test_a_recipe_next_to_what_a_run_leaves_is_not_trusted(
    lanterns: Path, foreign: Foreign, tmp_path: Path, neighbour: str
) -> None:
    folder = tmp_path / "run"
    write_text(folder / neighbour, "")
    recipe = folder / "recipe.yml"
    shutil.copy(foreign(), recipe)
    assert not load_recipe(recipe).is_trusted()
    link = tmp_path / "linked.yml"
    link.symlink_to(recipe)
    assert not load_recipe(link).is_trusted()
    extending = tmp_path / "extending.yml"
    extending.write_text(f"extends: {recipe}\nseed: 3\n")
    assert not load_recipe(extending).is_trusted()
    assert not is_imported()
    assert Recipe.load(recipe, trust_code=True).is_trusted()
    assert is_imported()


def test_a_recipe_of_the_users_own_is_trusted(
    lanterns: Path, foreign: Foreign, tmp_path: Path
) -> None:
    recipe = tmp_path / "alone" / "recipe.yml"
    recipe.parent.mkdir()
    shutil.copy(foreign(), recipe)
    assert load_recipe(recipe).is_trusted(), "a file of this name, but in no run directory"
    copy = tmp_path / "e" / "mine.yml"
    write_text(copy.parent / "results.json", "")
    shutil.copy(recipe, copy)
    assert load_recipe(copy).is_trusted()


def test_a_refused_recipe_names_the_class(run: Path) -> None:
    recipe = load_recipe(run / "recipe.yml")
    assert not is_imported()
    with pytest.raises(RecipeError, match=r"lanterns:Stripes; add --trust-code \(trust_code=True"):
        recipe.check_trusted()
    load_recipe(run / "recipe.yml", trust_code=True).check_trusted()
    load_recipe("scenes").check_trusted()


# --- the command line -----------------------------------------------------------------------------


def test_a_command_that_only_prints_imports_nothing(
    run: Path, foreign: Foreign, muhdi: Muhdi
) -> None:
    for recipe in (run / "recipe.yml", foreign()):
        status, output, _ = muhdi("recipes", recipe)
        assert status == 0
        assert "class: lanterns:MaskedTeacher" in output
        assert not is_imported()


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--experiments", "new"],
        ["inspect"],
        ["prepare"],
        ["sweep", "--seed", "1"],
        ["evaluate", "--experiments", "e"],
    ],
    ids=lambda words: words[0],
)
def test_a_command_needs_the_users_word(run: Path, muhdi: Muhdi, words: list[str]) -> None:
    status, _, errors = muhdi(words[0], run / "recipe.yml", *words[1:], "--set", "runtime.cache=c")
    assert status == 2
    assert re.search(r"lanterns:\w+; add --trust-code", errors)
    assert errors.count("\n") == 1
    assert not is_imported()


def test_a_check_without_trust_tells_what_is_missing(run: Path, muhdi: Muhdi) -> None:
    status, output, _ = muhdi("check", run / "recipe.yml")
    assert status == 1
    assert "lanterns:Stripes; add --trust-code" in output
    assert not is_imported()


@pytest.mark.parametrize("command", ["inspect", "check", "prepare"])
def test_a_trusted_recipe_of_a_run_is_read(run: Path, muhdi: Muhdi, command: str) -> None:
    words = ["--set", "runtime.cache=c", "--trust-code"]
    _, output, errors = muhdi(command, run / "recipe.yml", *words)
    assert "trust" not in output + errors
    assert is_imported()


def test_a_run_is_resumed_by_its_own_recipe_once_it_is_trusted(run: Path, muhdi: Muhdi) -> None:
    words = ["train", run / "recipe.yml", "--experiments", run.parent.parent, "--resume"]
    status, _, errors = muhdi(*words)
    assert status == 2
    assert "--trust-code" in errors
    status, _, errors = muhdi(*words, "--trust-code")
    assert status == 0, errors


# --- adapt and sweep ------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of images of a new place."""
    folder = tmp_path / "village"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(np.full((32, 48, 3), 90 * number, np.uint8)).save(folder / f"{number}.png")
    return folder


def shipped_network(run: Path) -> None:
    """Train the run again with a shipped backbone, so that reading its network needs no trust."""
    recipe = load_recipe(run / "recipe.yml", ["model.backbone=small"], trust_code=True)
    shutil.rmtree(run)
    train(recipe, run.parent.parent, quiet=True)
    forget("lanterns")


def test_adapt_trusts_a_source_as_far_as_it_was_trusted(
    run: Path, place: Path, tmp_path: Path
) -> None:
    shipped_network(run)
    untrusted = load_recipe(run / "recipe.yml")
    mine = tmp_path / "mine.yml"
    shutil.copy(run / "recipe.yml", mine)
    for source in (None, untrusted, run / "recipe.yml"):
        with pytest.raises(RecipeError, match=r"lanterns:\w+; add --trust-code"):
            plan_adaptation(run, place, source=source)
        assert not is_imported()
    for source in (untrusted, run / "recipe.yml"):
        assert plan_adaptation(run, place, source=source, trust_code=True).recipe.is_trusted()
    for source in (mine, load_recipe(mine)):
        assert plan_adaptation(run, place, source=source).recipe.is_trusted()


def test_adapt_imports_no_method_of_an_untrusted_run(
    lanterns: Path, place: Path, tmp_path: Path
) -> None:
    """Its data sets and its network are this package's."""
    settings = [
        "source_training.iterations=1",
        "every_step.iterations=1",
        "every_step.batch_size=1",
    ]
    settings += ["source_training.batch_size=1", "evaluation.statistics=[image]"]
    settings += ["evaluation.default=image"]
    train(load_recipe("scenes", settings), tmp_path / "e", quiet=True)
    written = tmp_path / "e" / "snapshots" / "scenes" / "recipe.yml"
    data = yaml.safe_load(written.read_text())
    data["steps"][-1]["adaptation"] = {"class": "lanterns:MaskedTeacher"}
    written.write_text(yaml.safe_dump(data))
    for options in ({}, {"source_free": True}):
        with pytest.raises(RecipeError, match=r"lanterns:MaskedTeacher; add --trust-code"):
            plan_adaptation(written.parent, place, **options)
        assert not is_imported()
        plan = plan_adaptation(written.parent, place, trust_code=True, **options)
        assert plan.recipe.steps[0].adaptation.key == "lanterns:MaskedTeacher"
        forget("lanterns")


def test_adapt_imports_no_method_that_a_setting_names(
    lanterns: Path, run: Path, place: Path
) -> None:
    shipped_network(run)
    network = next(run.glob("1_*/model_*.safetensors"))
    settings = ["every_step.adaptation={class: 'lanterns:MaskedTeacher'}"]
    with pytest.raises(RecipeError, match=r"lanterns:MaskedTeacher; add --trust-code"):
        plan_adaptation(
            shutil.copy(network, place.parent), place, source_free=True, settings=settings
        )
    assert not is_imported()


def test_a_recipe_is_trusted_later(run: Path) -> None:
    untrusted = load_recipe(run / "recipe.yml")
    assert untrusted.trusted() == load_recipe(run / "recipe.yml", trust_code=True)
    data = yaml.safe_load((run / "recipe.yml").read_text())
    data["steps"][0]["adaptation"]["ratio"] = 2
    (run / "recipe.yml").write_text(yaml.safe_dump(data))
    with pytest.raises(RecipeError, match=r"foreign: steps.0.adaptation.ratio: input should be"):
        load_recipe(run / "recipe.yml").trusted()


def test_a_sweep_refuses_what_was_read_without_trust(run: Path, tmp_path: Path) -> None:
    untrusted = load_recipe(run / "recipe.yml")
    for recipe in (untrusted, run / "recipe.yml"):
        with pytest.raises(RecipeError, match="lanterns:Stripes; add --trust-code"):
            sweep([recipe], [1], experiments=tmp_path / "swept")
    assert not is_imported()
    assert not (tmp_path / "swept").exists()


def test_a_trusted_sweep_hands_the_trust_on_and_finds_its_runs(run: Path, tmp_path: Path) -> None:
    said: list[str] = []
    options = {"experiments": tmp_path / "swept", "log": said.append, "trust_code": True}
    (results,) = sweep([run / "recipe.yml"], [1], **options)[str(run / "recipe.yml")]
    assert results.name == "foreign_seed1"
    assert said[0].startswith("source_")
    names = {path.name for path in (tmp_path / "swept" / "snapshots").iterdir()}
    assert names == {"foreign_seed1", said[0].partition(":")[0]}


def test_the_source_of_a_sweep_is_trained_whatever_is_tested(tmp_path: Path) -> None:
    job = Job("scenes", 1, ("test.domains=[night]",), trust_code=False)
    source = job.source_only("source", job.load()).load()
    assert [stage.name for stage in source.stages()] == ["source"]
    assert job.load().test.domains == ["night"]


# --- what a run records ---------------------------------------------------------------------------


def test_a_run_records_the_classes_of_its_own_recipe(trained: Path) -> None:
    """Whatever else this process has imported: the recipe names no retention of the package."""
    path = trained / "snapshots" / "foreign" / "environment.json"
    names = ["lanterns:MaskedTeacher", "lanterns:PlainNet", "lanterns:Stripes"]
    assert json.loads(path.read_text())[-1]["plugins"] == dict.fromkeys(names, "2.5")


def test_a_run_without_foreign_classes_records_none(
    lanterns: Path, foreign: Foreign, tiny: Foreign, tmp_path: Path
) -> None:
    load_recipe(foreign())
    assert is_imported()
    recipe = load_recipe(tiny(steps=[], source_training={"iterations": 1}))
    train(recipe, tmp_path / "e", quiet=True)
    environment = RunDirectory.of(recipe, tmp_path / "e").folder / "environment.json"
    assert json.loads(environment.read_text())[-1]["plugins"] == {}


def test_a_run_of_foreign_classes_is_known_again(
    lanterns: Path, foreign: Foreign, tmp_path: Path
) -> None:
    recipe = load_recipe(foreign())
    directory = RunDirectory.of(recipe, tmp_path / "e")
    write_text(directory.folder / "recipe.yml", save_recipe(recipe))
    assert directory.holds(recipe)
    data = yaml.safe_load(save_recipe(recipe))
    data["steps"][1]["target"]["shade"] = 0.65
    other = tmp_path / "other.yml"
    other.write_text(yaml.safe_dump(data))
    assert not directory.holds(load_recipe(other))
    assert not directory.holds(load_recipe(foreign(), ["runtime.root=elsewhere"]))


def test_the_recipe_of_a_run_is_evaluated_once_it_is_trusted(run: Path, muhdi: Muhdi) -> None:
    own = run / "recipe.yml"
    for words in ([own, "--experiments", "e"], [run, "--recipe", own]):
        status, _, errors = muhdi("evaluate", *words, "--trust-code")
        assert status == 0, errors


def test_a_recipe_that_is_not_trusted_trains_nothing(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="trust-code"):
        train(load_recipe(run / "recipe.yml"), tmp_path / "n")
    assert not (tmp_path / "n").exists()
