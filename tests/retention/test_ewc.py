"""EWC and L2-SP: the equations, the life cycle, and that the memory goes from step to step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from muhdi.losses import cross_entropy
from muhdi.method import MethodContext
from muhdi.models.checkpoint import load_checkpoint
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.passes import Batch
from muhdi.recipe.load import load_recipe
from muhdi.recipe.retentions import EWCConfig, L2SPConfig, MASConfig
from muhdi.retention.ewc import EWC, L2SP, MAS
from muhdi.run.directory import RunDirectory
from muhdi.training.stage_batches import NoBatches
from muhdi.workflows.train import train

Tiny = Callable[..., Path]


class Images:
    """Two source images."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(0, 256, (2, 3, 32, 48), generator=generator)
        self.labels = torch.randint(0, 3, (2, 32, 48), generator=generator)
        self.labels[0, :10] = 255

    def source(self, count: int) -> Iterator[Batch]:
        for index in range(min(count, 2)):
            yield Batch(self.images[index, None], self.labels[index, None])

    def target(self, count: int) -> Iterator[Batch]:
        return iter(())


@pytest.fixture
def network() -> Segmenter:
    torch.manual_seed(1)
    return build_segmenter("small", 3)


def context() -> MethodContext:
    return MethodContext(3, ("aux", "main"), "agnostic", torch.Generator())


def shift(network: Segmenter, by: float) -> None:
    with torch.no_grad():
        for weight in network.parameters():
            weight += by


def test_fisher_is_the_mean_squared_gradient_of_single_images(network: Segmenter) -> None:
    images = Images()
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = EWC(EWCConfig(), context()).measure(network, images.source(9))
    assert network.training
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    network.eval()
    expected: dict[str, Tensor] = {}
    for batch in images.source(2):
        network.zero_grad()
        logits = network(batch.images).heads["agnostic"].upsampled((32, 48), align_corners=True)
        loss = cross_entropy(logits.main, batch.labels) + cross_entropy(logits.aux, batch.labels)
        loss.backward()
        for name, weight in network.named_parameters():
            expected[name] = expected.get(name, 0) + weight.grad.square() / 2
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    assert any(value.abs().max() > 0 for value in found.values())


def test_the_penalty_is_half_the_weighted_square_of_the_distance(network: Segmenter) -> None:
    fisher = {name: torch.full_like(p, 0.5) for name, p in network.named_parameters()}
    method = EWC(EWCConfig(weight=3.0), context())
    method.begin(network, fisher, NoBatches())
    assert float(method.penalty(network)["ewc"].detach()) == 0
    shift(network, 0.1)
    count = sum(p.numel() for p in network.parameters())
    loss = method.penalty(network)["ewc"]
    assert float(loss) == pytest.approx(3.0 / 2 * 0.5 * 0.1**2 * count, rel=1e-4)
    loss.backward()
    for weight in network.parameters():
        torch.testing.assert_close(weight.grad, torch.full_like(weight, 3.0 * 0.5 * 0.1))


def test_l2sp_is_ewc_with_every_importance_one(network: Segmenter) -> None:
    ones = {name: torch.ones_like(p) for name, p in network.named_parameters()}
    methods = [L2SP(L2SPConfig(weight=2.0), context()), EWC(EWCConfig(weight=2.0), context())]
    for method in methods:
        method.begin(network, ones, NoBatches())
    shift(network, 0.05)
    first, second = (next(iter(method.penalty(network).values())) for method in methods)
    torch.testing.assert_close(first, second)


def test_importance_without_labels_is_the_mean_gradient_of_the_outputs_norm(
    network: Segmenter,
) -> None:
    images = [Batch(batch.images) for batch in Images().source(2)]
    found = MAS(MASConfig(), context()).measure(network, images)
    network.eval()
    expected: dict[str, Tensor] = {}
    for image in images:
        network.zero_grad()
        logits = network(image.images).heads["agnostic"].main
        (logits**2).sum(1).mean().backward()
        for name, weight in network.named_parameters():
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            expected[name] = expected.get(name, 0) + gradient.abs() / 2
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    aux = [value for name, value in found.items() if ".aux." in name]
    assert not any(value.any() for value in aux), "the main level alone answers"
    assert aux


@pytest.mark.parametrize("decay", [1.0, 0.25])
def test_importance_is_summed_or_forgotten_exponentially(network: Segmenter, decay: float) -> None:
    images = Images()
    method = EWC(EWCConfig(decay=decay, samples=2), context())
    first = method.measure(network, images.source(2))
    method.begin(network, {}, images)
    shift(network, 0.01)
    memory = method.end(network, images)
    newest = method.measure(network, images.source(2))
    for name, value in memory.items():
        torch.testing.assert_close(value, decay * first[name] + newest[name])


def test_weights_that_the_memory_lacks_are_measured(network: Segmenter) -> None:
    """As after a step that trained the heads alone."""
    images = Images()
    method = EWC(EWCConfig(samples=2), context())
    known = {
        name: torch.full_like(weight, 7.0)
        for name, weight in network.named_parameters()
        if name.startswith("heads.")
    }
    method.begin(network, known, images)
    measured = method.measure(network, images.source(2))
    assert 0 < len(known) < len(measured)
    for name, value in (measured | known).items():
        torch.testing.assert_close(method.importance(name), value)


def test_a_head_that_was_not_there_is_free(network: Segmenter) -> None:
    method = L2SP(L2SPConfig(weight=1.0), context())
    method.begin(network, {}, NoBatches())
    network.set_heads({**dict(network.heads.items()), "specialist": network.new_head()})
    assert float(method.penalty(network)["l2sp"]) == 0


@pytest.mark.parametrize(
    "retention", ["{method: ewc, weight: 1000.0, samples: 2, decay: 1}", "l2sp"]
)
def test_memory_is_in_the_network_and_the_next_step_continues_with_it(
    tiny: Tiny, tmp_path: Path, retention: str
) -> None:
    recipe = load_recipe(tiny(), [f"every_step.retention={retention}"])
    train(recipe, tmp_path, quiet=True)
    run = RunDirectory.of(recipe, tmp_path)
    names = [(0, "source"), (1, "city"), (2, "night")]
    memories = [load_checkpoint(run.model(n, name, 3)).memory for n, name in names]
    if retention == "l2sp":
        assert memories == [{}, {}, {}], "it needs none: the weights are the memory"
        return
    assert memories[0] == {}, "the source stage has no retention"
    city, night = (memory["ewc"] for memory in memories[1:])
    assert city.keys() == night.keys()
    for name, value in city.items():
        assert bool((night[name] >= value).all()), "summed over the steps"
    assert any(bool((night[name] > city[name]).any()) for name in city)


def test_a_strong_penalty_keeps_the_weights(tiny: Tiny, tmp_path: Path) -> None:
    moved: list[float] = []
    for weight in (0.0, 3e5):
        settings = [
            f"every_step.retention={{method: l2sp, weight: {weight}}}",
            "optimizer.name=sgd",
            "every_step.iterations=20",
            "every_step.learning_rate=1e-6",
        ]
        recipe = load_recipe(tiny(), [*settings, f"name=w{int(weight)}"])
        train(recipe, tmp_path, quiet=True)
        run = RunDirectory.of(recipe, tmp_path)
        before, after = (
            load_checkpoint(run.model(n, name, k)).network.backbone.conv1.weight
            for n, name, k in ((0, "source", 3), (2, "night", 20))
        )
        moved.append(float((after - before).abs().sum()))
    assert moved[1] < 0.5 * moved[0]
