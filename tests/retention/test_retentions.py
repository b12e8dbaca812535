"""Restore, average, blend and replay, lists of retentions, and a run with all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from muhdi.errors import RecipeError
from muhdi.evaluation.results import Results
from muhdi.method import MethodContext
from muhdi.models.checkpoint import load_checkpoint
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.passes import Batch
from muhdi.recipe import plugins
from muhdi.recipe.load import load_recipe
from muhdi.recipe.retentions import AverageConfig, BlendConfig, ReplayConfig, RestoreConfig
from muhdi.retention.average import WeightAveraging
from muhdi.retention.blend import BlendedLabels
from muhdi.retention.replay import ImageReplay, at_least
from muhdi.retention.restore import StochasticRestore
from muhdi.run.directory import RunDirectory
from muhdi.training.passes import Methods
from muhdi.training.stage_batches import NoBatches
from muhdi.workflows.train import train
from tests.testers import FewBatches, MethodTester
from tests.workflows.test_train import train_through_crashes

Tiny = Callable[..., Path]
ALL = "[style, blend, restore, average, {method: mas, samples: 2}, replay, muhdi]"


@pytest.fixture
def network() -> Segmenter:
    torch.manual_seed(1)
    return build_segmenter("small", 3)


def context() -> MethodContext:
    generator = torch.Generator().manual_seed(2)
    return MethodContext(3, ("aux", "main"), "agnostic", generator, stage="city")


def shift(network: Segmenter, by: float) -> None:
    with torch.no_grad():
        for weight in network.parameters():
            weight += by


def weights(network: Segmenter) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


def test_each_element_returns_with_the_probability(network: Segmenter) -> None:
    method = StochasticRestore(RestoreConfig(probability=0.2), context())
    method.begin(network, {}, NoBatches())
    before = weights(network)
    shift(network, 1.0)
    method.after_step(network)
    returned = weights(network) == before
    assert float(returned.float().mean()) == pytest.approx(0.2, abs=0.01)
    moved = weights(network)[~returned] - before[~returned]
    torch.testing.assert_close(moved, torch.ones_like(moved))
    method.after_step(network)
    again = float((weights(network) == before).float().mean())
    assert again == pytest.approx(1 - 0.8**2, abs=0.01), "other elements the next time"


def test_teachers_follow_an_update_before_it_is_taken_back(network: Segmenter) -> None:
    called: list[str] = []

    def noted(name: str) -> Any:
        return SimpleNamespace(after_step=lambda network: called.append(name))

    methods = Methods(noted("adaptation"), (noted("retention"),), {}, (noted("addition"),))
    methods.after_step(network)
    assert called == ["adaptation", "addition", "retention"]


def test_a_step_ends_between_old_and_new(network: Segmenter) -> None:
    method = WeightAveraging(AverageConfig(old=0.25), context())
    method.begin(network, {}, NoBatches())
    before = weights(network)
    norm = network.backbone.bn1
    mean = norm.running_mean.clone()
    shift(network, 1.0)
    norm.running_mean += 2.0
    method.settle(network)
    torch.testing.assert_close(weights(network), before + 0.75)
    torch.testing.assert_close(norm.running_mean, mean + 1.5)
    assert int(norm.num_batches_tracked) == 0


def test_blended_probabilities_are_the_mean_of_teacher_and_old(network: Segmenter) -> None:
    method = BlendedLabels(BlendConfig(old=0.25, old_statistics="running"), context())
    method.begin(network, {}, NoBatches())
    images = torch.randint(0, 256, (2, 3, 32, 48), generator=torch.Generator().manual_seed(0))
    teacher = torch.rand(2, 3, 32, 48).softmax(1)
    shift(network, 0.5)  # the old one stays what it was
    found = method.blended(images, teacher)
    old = method.old.probabilities(images)
    torch.testing.assert_close(found, 0.75 * teacher + 0.25 * old)
    torch.testing.assert_close(found.sum(1), torch.ones(2, 32, 48))


def test_blending_changes_the_pseudo_labels() -> None:
    section = plugins.sections("adaptation")["selftrain"](teacher_statistics="running")
    labels = []
    for old in (0.0, 1.0):
        tester = MethodTester(section, BlendConfig(old=old))
        network, methods = tester.started()
        shift(network, 0.05)
        for _ in range(3):
            methods.after_step(network)
        methods.passes(tester.source, [tester.target])
        labels.append(methods.adaptation.labelled_target.labels)
    assert not torch.equal(*labels)


def test_what_replay_keeps_and_shows(network: Segmenter) -> None:
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    few = FewBatches(Batch(images), Batch(images))
    method = ImageReplay(ReplayConfig(images=5, threshold=0.0), context())
    memory = method.end(network, few)
    assert memory.keys() == {"city/images", "city/labels"}
    assert torch.equal(memory["city/images"], images)
    assert int(memory["city/labels"].max()) < 3
    sure = ImageReplay(ReplayConfig(threshold=1.0), context()).end(network, few)
    assert bool((sure["city/labels"] == 255).all()), "of none is it certain"

    again = ImageReplay(ReplayConfig(), context())
    again.begin(network, memory, NoBatches())
    target = Batch(torch.zeros(3, 3, 16, 24))
    (one,) = again.passes(Batch(images), target)
    assert one.batch.images.shape == (3, 3, 16, 24)
    assert one.batch.labels.shape == (3, 16, 24)
    for image in one.batch.images:
        windows = images.unfold(2, 16, 1).unfold(3, 24, 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        both = torch.cat([windows, windows.flip(-1)])
        assert bool((both == image).all((1, 2, 3)).any()), "a window of the image that was kept"


def test_replay_keeps_no_label_of_padding(network: Segmenter) -> None:
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    windows = torch.tensor([[0.0, 0.0, 1.0, 2.0]] * 2)

    class Padded(FewBatches):
        def target(self, count: int) -> Iterator[Batch]:
            for image, window in zip(images.split(1), windows.split(1), strict=True):
                yield Batch(image, windows=window)

    method = ImageReplay(ReplayConfig(threshold=0.0), context())
    labels = method.end(network, Padded(None, Batch(images)))["city/labels"]
    assert bool((labels[:, 16:] == 255).all())
    assert int(labels[:, :16].max()) < 3


@pytest.mark.parametrize("listed", ["[muhdi, style, replay]", "[style, replay, muhdi]"])
def test_the_order_of_a_list_does_not_decide_the_heads(
    tiny: Tiny, tmp_path: Path, listed: str
) -> None:
    settings = [f"every_step.retention={listed}", "every_step.adaptation=selftrain"]
    recipe = load_recipe(tiny(), settings)
    train(recipe, tmp_path, quiet=True)
    run = RunDirectory.of(recipe, tmp_path)
    network = load_checkpoint(run.model(2, "night", 3)).network
    assert list(network.heads) == ["agnostic", "specialist"]


def test_the_first_step_has_nothing_to_replay(network: Segmenter) -> None:
    method = ImageReplay(ReplayConfig(), context())
    method.begin(network, {}, NoBatches())
    assert method.passes(Batch(torch.zeros(2, 3, 8, 8)), Batch(torch.zeros(2, 3, 8, 8))) == []


def test_a_small_image_is_enlarged_for_a_large_window() -> None:
    image = torch.full((3, 10, 30), 7, dtype=torch.uint8)
    label = torch.arange(10)[:, None].expand(10, 30).to(torch.uint8)
    larger, labels = at_least(image, label, (20, 20))
    assert larger.shape == (3, 20, 60)
    assert labels.shape == (20, 60)
    assert bool((larger == 7).all())
    assert labels[:, 0].tolist() == [n // 2 for n in range(20)]


def test_a_run_with_all_of_them_resumes_to_the_bit(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny(), ["every_step.adaptation=selftrain", f"every_step.retention={ALL}"])
    whole = train(recipe, tmp_path / "whole", quiet=True)
    train_through_crashes(recipe, tmp_path / "again", monkeypatch, 7)
    again = Results.load(RunDirectory.of(recipe, tmp_path / "again").folder)
    assert again.steps == whole.steps
    files = [
        RunDirectory.of(recipe, folder).model(2, "night", 3)
        for folder in (tmp_path / "whole", tmp_path / "again")
    ]
    first, second = (load_checkpoint(file) for file in files)
    assert first.memory.keys() == {"style", "mas", "replay"}
    assert first.memory["style"].keys() == {"colour/city", "colour/night"}
    for name, kept in first.memory.items():
        for key, value in kept.items():
            assert torch.equal(second.memory[name][key], value), (name, key)
    for key, value in first.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["every_step.retention=average", "evaluation.weights=ema", "optimizer.ema=0.9"],
            "steps.0.retention: average changes the network at the end of the step, and",
        ),
        (["every_step.retention=[]"], "every_step.retention: lists no retention"),
        (["every_step.retention=[none, ewc]"], "none does not go with others"),
        (["every_step.retention=[ewc, ewc]"], "ewc is listed twice"),
        (["every_step.retention=[distill, muhdi]"], "distill and muhdi let the same old model"),
        (["every_step.retention=[stile]"], "steps.0.retention.0: unknown method 'stile'; did you"),
        (
            ["every_step.retention=blend"],
            "steps.0.retention: blend changes pseudo-labels, but steps.0.adaptation: none makes",
        ),
        (
            ["every_step.retention=[style, restore]", "model.tune=lora", "model.backbone=hf:x"],
            "restore holds the network's weights near earlier ones, but model.tune: lora",
        ),
        (
            ["every_step.retention={method: style, beta: 0.5}"],
            "every_step.retention.beta: input should be less than or equal to 0.25",
        ),
        (
            ["every_step.retention={method: style, beta: 0.05}"],
            "every_step.retention: beta: is an option of fourier, not of colour; set of: fourier",
        ),
        (
            ["every_step.retention={method: mtkt, target_loss: mse, kl_reduction: element}"],
            "kl_reduction: there is no KL divergence with target_loss: mse; leave it out",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(tiny: Tiny, settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(tiny(), settings)
    assert message in str(error.value)
