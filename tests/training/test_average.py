"""The exponential average of the weights: its numbers, its life over a run, and its use."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

import muhdi as package
from muhdi.deploy.export import Exported
from muhdi.deploy.predictor import Predictor
from muhdi.errors import RecipeError
from muhdi.evaluation.results import Results
from muhdi.models.average import WeightAverage, head_states
from muhdi.models.checkpoint import load_checkpoint
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.training.stage import StageTrainer
from muhdi.workflows.train import train
from tests.workflows.test_train import assert_same_run, train_through_crashes

Tiny = Callable[..., Path]
METHODS = ["every_step.adaptation=selftrain", "every_step.retention=muhdi"]
STEPS = [{"target": {"dataset": "scenes", "domain": "city", "train": 4, "val": 2}}]
IMAGES = torch.randint(0, 256, (1, 3, 32, 48), generator=torch.Generator().manual_seed(0)).byte()
LITTLE = ["evaluation.statistics=[running, domain]", "evaluation.domain_images=2"]


def filled(network: Segmenter, value: float) -> Segmenter:
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(value)
    return network


def test_the_average_is_that_of_the_equation() -> None:
    network = filled(build_segmenter("small", 2), 8.0)
    average = WeightAverage.of(network)
    # m is 0, 1/2, 2/3 and then 0.7: it begins as the mean of what it has seen.
    for value, expected in ((3.0, 3.0), (5.0, 4.0), (7.0, 5.0), (15.0, 8.0)):
        average.follow(filled(network, value), 0.7)
        weights = [weight.flatten() for weight in average.network.parameters()]
        assert torch.allclose(torch.cat(weights), torch.tensor(expected), atol=1e-5)
    assert average.updates == 4
    network.backbone.bn1.running_mean.fill_(9.0)
    assert float(average.network.backbone.bn1.running_mean.max()) == 0.0
    average.copy_buffers(network)
    assert float(average.network.backbone.bn1.running_mean.min()) == 9.0
    assert not any(weight.requires_grad for weight in average.network.parameters())


def test_heads_that_a_step_replaces_begin_as_copies() -> None:
    network = filled(build_segmenter("small", 2, ("agnostic", "specialist")), 1.0)
    average = WeightAverage.of(network)
    filled(average.network, 5.0)
    before = head_states(network)
    filled(network.heads["specialist"], 2.0)
    network.set_heads({**dict(network.heads.items()), "new": network.new_head()})
    average.match_heads(network, before)

    def values(head: str) -> set[float]:
        return {
            float(one)
            for weight in average.network.heads[head].parameters()
            for one in weight.flatten()
        }

    assert list(average.network.heads) == ["agnostic", "specialist", "new"]
    assert values("agnostic") == {5.0}
    assert values("specialist") == {2.0}
    new = average.network.heads["new"].state_dict()
    assert all(
        torch.equal(new[key], value) for key, value in network.heads["new"].state_dict().items()
    )
    assert average.network.heads["new"].main is not network.heads["new"].main


@pytest.fixture(scope="module")
def averaged(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, list[dict[str, torch.Tensor]]]:
    """A run that scores its average, and the network's weights after every iteration."""
    seen: list[dict[str, torch.Tensor]] = []
    iterate = StageTrainer.iterate

    def noted(self, *batches):
        given = iterate(self, *batches)
        seen.append({k: v.clone() for k, v in self.network.named_parameters()})
        return given

    folder = tmp_path_factory.mktemp("averaged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageTrainer, "iterate", noted)
        train(load_recipe(recipe_file(folder), SETTINGS), folder, quiet=True)
    return folder / "snapshots" / "tiny", seen


SETTINGS = [*METHODS, *LITTLE, "optimizer.ema=0.6", "evaluation.weights=ema"]


def recipe_file(folder: Path) -> Path:
    """As the fixture ``tiny`` writes it, for a whole module."""
    path = folder / "tiny.json.yml"
    path.write_text(
        json.dumps(
            {
                "name": "tiny",
                "image_size": [48, 32],
                "source": {"dataset": "scenes", "domain": "sim", "train": 4, "val": 2},
                "optimizer": {"name": "adamw", "head_factor": 1},
                "source_training": {"iterations": 3, "batch_size": 2, "learning_rate": 1e-2},
                "every_step": {"iterations": 3, "batch_size": 2, "learning_rate": 1e-2},
                "steps": STEPS,
                "runtime": {"save_every": 2},
                "evaluation": {"samples": 1},
            }
        )
    )
    return path


def test_it_goes_on_from_stage_to_stage(averaged) -> None:
    run, seen = averaged
    checkpoint = load_checkpoint(RunDirectory(run).last_model())
    average = checkpoint.average
    assert average is not None
    assert average.updates == 6
    name = "backbone.layer3.conv1.weight"
    expected = torch.zeros(())
    for t, weights in enumerate(seen):
        momentum = min(1 - 1 / (t + 1), 0.6)
        expected = momentum * expected + (1 - momentum) * weights[name]
    found = dict(average.network.named_parameters())
    assert torch.allclose(found[name], expected, atol=1e-6)
    # MuHDi's specialist begins with the step, as a copy of the agnostic head.
    name = "heads.specialist.main.convs.0.weight"
    weight = seen[2][name.replace("specialist", "agnostic")]
    for t, weights in enumerate(seen[3:], start=3):
        momentum = min(1 - 1 / (t + 1), 0.6)
        weight = momentum * weight + (1 - momentum) * weights[name]
    assert torch.allclose(found[name], weight, atol=1e-6)
    own = checkpoint.network.state_dict()
    for key, value in average.network.state_dict().items():
        assert torch.equal(value, own[key]) == (
            key not in found or torch.equal(found[key], own[key])
        )
    # Its statistics are of its own.
    assert average.statistics.keys() == checkpoint.statistics.keys() == {"sim", "city"}
    layer = "backbone.layer4.bn2.running_mean"
    assert not torch.equal(average.statistics["city"][layer], checkpoint.statistics["city"][layer])


def test_it_is_what_is_scored_predicted_and_exported(
    averaged, tmp_path: Path, muhdi: Callable[..., tuple[int, str, str]]
) -> None:
    run, _ = averaged
    results = Results.load(run)
    assert results.scored_weights == "ema"
    again = package.evaluate(run)
    assert "scored with the average of the weights (ema)" in again.notes
    assert again.matrix("domain")[0] == results.matrix("domain")[-1]
    own = package.evaluate(run, weights="model")
    assert own.scored_weights == "model"
    assert own.matrix("running") != again.matrix("running")
    assert "scored weights" in (run / "report.html").read_text()
    image = next((run / "samples").glob("city_*_image.png"))
    predictors = {w: Predictor.load(run, weights=w) for w in (None, "ema", "model")}
    assert repr(predictors[None]).endswith("statistics='running', weights='ema')")
    assert repr(predictors["model"]).endswith("statistics='running')")
    logits = {w: predictor(IMAGES) for w, predictor in predictors.items()}
    assert torch.equal(logits[None], logits["ema"])
    assert not torch.equal(logits["ema"], logits["model"])
    status, _, errors = muhdi("export", run, "folder", "--weights", "ema", "--images", image)
    assert status == 0, errors
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["weights"] == "ema"
    assert "the average of the weights (ema)" in (tmp_path / "folder" / "README.md").read_text()
    assert Predictor.load(tmp_path / "folder").weights == "ema"
    assert Predictor.load(tmp_path / "folder", weights="model").weights == "model"
    plain = Exported(Predictor.load(run, weights="model"), "classes", "native")
    assert torch.equal(plain(IMAGES), logits["model"].argmax(1))
    status, _, errors = muhdi("predict", "net.pt2", image, "--weights", "ema")
    assert status == 2
    assert "weights are inside the file" in errors


def test_training_itself_stays_and_resumes_exactly(
    averaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = averaged
    recipe = load_recipe(recipe_file(tmp_path), SETTINGS)
    # In the source's training, and after it.
    train_through_crashes(recipe, tmp_path, monkeypatch, 2, 1)
    assert_same_run(run.parent.parent, tmp_path, recipe)
    whole, broken = (
        load_checkpoint(RunDirectory.of(recipe, folder).last_model()).average
        for folder in (run.parent.parent, tmp_path)
    )
    assert whole is not None
    assert broken is not None
    first, second = whole.network.state_dict(), broken.network.state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    # A step of another run goes on with the average, and trains the network's own weights.
    source = RunDirectory.of(recipe, tmp_path).models()[0]
    settings = [*SETTINGS, "name=next", f"model.init={source}", "source_training.iterations=0"]
    train(load_recipe(recipe_file(tmp_path), settings), tmp_path, quiet=True)
    last = load_checkpoint(RunDirectory(tmp_path / "snapshots" / "next").last_model()).average
    assert last is not None
    assert last.updates == 6
    assert all(torch.equal(value, first[key]) for key, value in last.network.state_dict().items())
    # Without it, the same weights.
    plain = [*METHODS, *LITTLE, "name=plain"]
    train(load_recipe(recipe_file(tmp_path), plain), tmp_path, quiet=True)
    file = RunDirectory(tmp_path / "snapshots" / "plain").last_model()
    assert all(
        torch.equal(value, seen[-1][key])
        for key, value in load_checkpoint(file).network.named_parameters()
    )
    assert not any(key.startswith("ema") for key in safetensors.torch.load_file(file))
    message = f"weights ema: {file} has no average of its weights; train it with"
    with pytest.raises(RecipeError, match=re.escape(message)):
        package.evaluate(file, weights="ema")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["evaluation.weights=ema"], "evaluation.weights: there is no average"),
        (["optimizer.ema=1"], "optimizer.ema"),
        (["optimizer.ema=0.9", "model.tune=lora"], "optimizer.ema: averages the network's weights"),
        (["compile=true", "model.checkpointing=true"], "compile: torch.compile cannot take"),
    ],
)
def test_what_does_not_fit_is_refused(tiny: Tiny, settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(tiny(), settings)


def test_there_are_two_choices(averaged) -> None:
    with pytest.raises(
        RecipeError, match="weights emma: must be one of model, ema, teacher; did you mean"
    ):
        Predictor.load(averaged[0], weights="emma")
