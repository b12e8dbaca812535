"""Classes of another package: trained, resumed, predicted, exported, shown; and never trusted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from muhdi import Predictor, RecipeError, train
from muhdi.deploy.convert import convert
from muhdi.errors import DataError, MuhdiError, RunError
from muhdi.models.checkpoint import load_checkpoint
from muhdi.recipe.docs import json_schema
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from tests.plugins.package import path_with, write_foreign, write_lanterns

Foreign = Callable[..., Path]
Muhdi = Callable[..., tuple[int, str, str]]
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


def command(
    *words: object, folder: Path, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``muhdi``; ``path`` is where Python finds packages, if not where this process does."""
    environment = os.environ | ENVIRONMENT
    if path is not None:
        environment["PYTHONPATH"] = path
    return subprocess.run(
        [sys.executable, "-m", "muhdi", *map(str, words)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiments of a finished run, trained through the command line."""
    folder = tmp_path_factory.mktemp("trained")
    site = write_lanterns(folder / "site")
    recipe = write_foreign(folder)
    done = command(
        "train", recipe, "--experiments", folder / "e", folder=folder, path=path_with(site)
    )
    assert done.returncode == 0, done.stderr
    return folder / "e"


@pytest.fixture
def run(trained: Path, lanterns: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    shutil.copytree(trained, tmp_path / "e")
    return tmp_path / "e" / "snapshots" / "foreign"


def test_a_foreign_package_trains_and_leaves_its_record(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"masked", "anchor", "seg_main"} <= lines[-1].keys()
    assert lines[-1]["anchor"] > 0
    sessions = json.loads((run / "environment.json").read_text())
    assert sessions[-1]["plugins"]["lanterns:MaskedTeacher"] == "2.5"
    memory = load_checkpoint(RunDirectory(run).last_model(), trust_code=True).memory
    assert float(memory["lanterns:Anchors"]["count"]) == 3, "the memory of both steps"
    results = json.loads((run / "results.json").read_text())
    assert list(results["steps"][-1]["scores"]) == ["none"], "no batch norm: scored once"
    report = (run / "report.html").read_text()
    assert "lanterns:MaskedTeacher" in report
    assert "lanterns:Anchors" in report


def test_killed_and_resumed_it_ends_in_the_same_bits(
    lanterns: Path, foreign: Foreign, tmp_path: Path
) -> None:
    recipe = load_recipe(foreign(), ["every_step.iterations=40"])
    train(recipe, tmp_path / "whole", quiet=True)
    words = ["train", tmp_path / "foreign.yml", "--set", "every_step.iterations=40", "--resume"]
    words += ["--experiments", tmp_path / "broken"]
    directory = RunDirectory.of(recipe, tmp_path / "broken")
    for stage in ("dim", "dark"):
        process = subprocess.Popen(
            [sys.executable, "-m", "muhdi", *map(str, words)],
            cwd=tmp_path,
            env=os.environ | ENVIRONMENT,
            stdout=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            metrics = directory.metrics
            if metrics.exists() and metrics.read_text().count(f'"stage": "{stage}"') > 5:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    train(recipe, tmp_path / "broken", resume=True, quiet=True)
    whole = RunDirectory.of(recipe, tmp_path / "whole")
    assert directory.results.read_text() == whole.results.read_text()
    for one, two in zip(whole.models(), directory.models(), strict=True):
        assert one.read_bytes() == two.read_bytes(), "files of equal contents are equal"


def test_its_network_predicts_and_exports_once_it_is_trusted(
    run: Path, tmp_path: Path, muhdi: Muhdi
) -> None:
    image = tmp_path / "image.png"
    Image.fromarray(np.zeros((33, 50, 3), np.uint8)).save(image)
    words = ["predict", run, image, "-o", tmp_path / "out"]
    status, _, errors = muhdi(*words)
    assert status == 2
    assert "lanterns:PlainNet" in errors
    assert "--trust-code" in errors
    assert errors.count("\n") == 1
    for trusted in (
        words,
        ["export", run, tmp_path / "net.pt2"],
        ["export", run, tmp_path / "folder"],
    ):
        status, _, errors = muhdi(*trusted, "--trust-code")
        assert status == 0, errors
    assert (tmp_path / "out" / "ids" / "image.png").is_file()
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "* dim: adaptation lanterns:MaskedTeacher, retention lanterns:Anchors, 4 iter" in card
    assert muhdi("predict", tmp_path / "folder", image, "-o", "o")[0] == 2


def test_reading_a_run_imports_nothing(run: Path) -> None:
    """Report, recipe and network file: none of them runs foreign code."""
    code = f"""
import sys
from pathlib import Path
from muhdi.models.checkpoint import load_checkpoint
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.workflows.report import report
run = Path({str(run)!r})
recipe = RunDirectory(run).recipe()
assert recipe.steps[0].adaptation.key == "lanterns:MaskedTeacher"
assert recipe.model_dump() == load_recipe(run / "recipe.yml", trust_code=False).model_dump()
report(run)
try:
    load_checkpoint(RunDirectory(run).last_model())
except Exception as error:
    assert "lanterns:PlainNet" in str(error), error
else:
    raise AssertionError("it was loaded")
assert "lanterns" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_adapt_continues_with_the_memory(run: Path, tmp_path: Path, muhdi: Muhdi) -> None:
    folder = tmp_path / "village"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(np.full((32, 48, 3), 40 * number, np.uint8)).save(folder / f"{number}.png")
    words = ["adapt", run, "--images", folder, "--experiments", tmp_path / "e"]
    status, _, errors = muhdi(*words)
    assert status == 2
    assert "--trust-code" in errors
    status, _, errors = muhdi(*words, "--trust-code")
    assert status == 0, errors
    network = RunDirectory(tmp_path / "e" / "snapshots" / "foreign_village").last_model()
    memory = load_checkpoint(network, trust_code=True).memory
    assert float(memory["lanterns:Anchors"]["count"]) == 4


def test_entry_points_are_words_in_recipes_and_in_the_schema(
    lanterns: Path, foreign: Foreign, tmp_path: Path
) -> None:
    step = {"iterations": 1, "adaptation": "masked_teacher", "retention": "anchors"}
    recipe = load_recipe(
        foreign(every_step=step, model={"backbone": "plain_net"}, source={"dataset": "stripes"})
    )
    assert recipe.steps[0].adaptation.key == "lanterns:MaskedTeacher"
    assert recipe.source_name() == "stripes"
    train(recipe, tmp_path / "e", quiet=True)
    text = (tmp_path / "e" / "snapshots" / "foreign" / "recipe.yml").read_text()
    assert "class: lanterns:Anchors" in text, "what is saved names the class, not only the word"
    schema = json_schema()["$defs"]
    assert schema["MaskedTeacherConfig"]["properties"]["ratio"]["description"].startswith("Share")
    assert "masked_teacher" in schema["AdaptationConfig"]["anyOf"][0]["enum"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"class": "nowhere:Thing"}, "class nowhere:Thing: cannot be imported"),
        ({"class": "lanterns:MaskedTeachr"}, "lanterns has no MaskedTeachr; did you mean"),
        ({"class": "lanterns:Anchors"}, "class lanterns:Anchors: is not an adaptation"),
        ({"class": "lanterns:unused"}, "class lanterns:unused: is not an adaptation"),
        ({"class": "lanterns"}, "class lanterns: must read package.module:Name"),
        (
            {"class": "lanterns:MaskedTeacher", "ratio": 2},
            "every_step.adaptation.ratio: input should be less than or equal to 1",
        ),
        (
            {"class": "lanterns:MaskedTeacher", "ration": 1},
            "every_step.adaptation.ration: unknown key; did you mean 'ratio'?",
        ),
        ({"method": "maskedteacher"}, "unknown method 'maskedteacher'; did you mean"),
    ],
)
def test_what_a_recipe_cannot_name(
    lanterns: Path, foreign: Foreign, section: dict, message: str
) -> None:
    step = {"iterations": 1, "adaptation": section}
    with pytest.raises(RecipeError) as error:
        load_recipe(foreign(every_step=step))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


BROKEN = '''
from muhdi import Adaptation
from muhdi.recipe.methods import AdaptationConfig

class BrokenConfig(AdaptationConfig):
    """No options."""

class Broken(Adaptation):
    """Gives losses that cannot be."""
    config_class = BrokenConfig
    def on_target(self, logits, batch):
        return {loss}
'''


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ('{"x": logits.main.detach().mean()}', "broken:Broken: its loss 'x' carries no gradient"),
        ('{"x": logits.main}', "broken:Broken: its loss 'x' is not a scalar tensor"),
        ("logits.main.mean()", "broken:Broken: must return losses as a dict"),
        ('{"kt_main": logits.main.mean()}', "two loss terms are called 'kt_main'"),
    ],
)
def test_losses_that_cannot_be(
    lanterns: Path, foreign: Foreign, tmp_path: Path, loss: str, message: str
) -> None:
    (lanterns / "broken.py").write_text(BROKEN.replace("{loss}", loss))
    step = {"iterations": 1, "adaptation": {"class": "broken:Broken"}, "retention": "muhdi"}
    sys.modules.pop("broken", None)
    with pytest.raises(RunError) as error:
        train(load_recipe(foreign(every_step=step)), tmp_path / "e", quiet=True)
    assert message in str(error.value)
    assert "broken:Broken" in str(error.value)


def test_a_class_defined_in_this_process_is_a_word(
    lanterns: Path, foreign: Foreign, tmp_path: Path
) -> None:
    import lanterns as package

    recipe = load_recipe(foreign(every_step={"iterations": 1, "adaptation": "masked_teacher"}))
    assert isinstance(recipe.steps[0].adaptation, package.MaskedTeacherConfig)


def test_a_foreign_network_is_not_converted(run: Path, tmp_path: Path) -> None:
    message = "the reference does not know the backbone 'lanterns:PlainNet'"
    with pytest.raises(MuhdiError, match=message):
        convert(run, tmp_path / "model.pth")


def test_another_option_of_a_backbone_is_named(run: Path, foreign: Foreign, tmp_path: Path) -> None:
    recipe = load_recipe(
        foreign(
            name="wider",
            model={
                "backbone": {"class": "lanterns:PlainNet", "width": 7},
                "init": str(RunDirectory(run).last_model()),
            },
        )
    )
    message = r"its backbone .* has width 6, the recipe's has 7; set model\.backbone\.width or"
    with pytest.raises(DataError, match=message):
        train(recipe, tmp_path / "e", quiet=True)


def test_a_network_file_that_names_a_class_is_only_data(run: Path) -> None:
    path = RunDirectory(run).last_model()
    with pytest.raises(DataError, match=r"lanterns:PlainNet; add --trust-code"):
        load_checkpoint(path)
    with pytest.raises(DataError, match="--trust-code"):
        Predictor.load(path)
    assert Predictor.load(path, trust_code=True)(
        torch.zeros(1, 3, 32, 48, dtype=torch.uint8)
    ).shape == (1, 2, 32, 48)
