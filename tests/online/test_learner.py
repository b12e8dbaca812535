"""What online methods share: what moves, when it goes back, and what is kept."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from muhdi.errors import RecipeError
from muhdi.models.outputs import AGNOSTIC, SPECIALIST
from muhdi.models.segmenter import build_segmenter
from muhdi.models.statistics import read_statistics
from muhdi.online.base import OnlineContext
from muhdi.online.learner import number_of_classes, weights_that_move
from muhdi.recipe.online import read_online
from tests.online.tiny import Tiny, image, online

METHODS = {"none": {}, "bn": {}, "tent": {}, "cotta": {"scales": [1.0, 0.5]}, "sar": {}}


def scene(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8, generator=generator)


def network() -> nn.Module:
    torch.manual_seed(0)
    return build_segmenter("small", 5, (AGNOSTIC, SPECIALIST)).requires_grad_(False)


def test_what_moves_is_what_the_prediction_depends_on() -> None:
    one = network()
    everything = weights_that_move(one, AGNOSTIC, "all")
    assert not any(".aux." in name or SPECIALIST in name for name in everything)
    one.requires_grad_(True)
    one.segment(scene()).sum().backward()
    used = {name for name, weight in one.named_parameters() if weight.grad is not None}
    assert set(everything) == used
    norms = weights_that_move(one, AGNOSTIC, "norms")
    assert all(weight.ndim == 1 for weight in norms.values())
    assert len(norms) == len(read_statistics(one)), "a scale and a shift for mean and variance"
    decoder = weights_that_move(one, AGNOSTIC, "decoder")
    assert decoder.keys() == {name for name in everything if not name.startswith("backbone")}


def test_layer_norms_move_too() -> None:
    one = Tiny()
    one.backbone.append(nn.LayerNorm(2))
    assert {name for name in weights_that_move(one, AGNOSTIC, "norms") if ".1." in name} == {
        "backbone.1.weight",
        "backbone.1.bias",
    }


def test_networks_without_norms_are_refused_in_one_line() -> None:
    one = Tiny()
    one.backbone[0] = nn.Conv2d(3, 3, 1)
    with pytest.raises(RecipeError, match="tent: the network has no weights that moves=norms"):
        online(one, "tent")
    with pytest.raises(RecipeError, match="bn: the network has no batch norms whose moments"):
        online(one, "bn", used_with="none")


def test_classes_are_counted_by_their_pixels() -> None:
    even = torch.zeros(1, 4, 2, 2)
    even[0, [0, 1, 2, 3], [0, 0, 1, 1], [0, 1, 0, 1]] = 1
    assert number_of_classes(even) == pytest.approx(4)
    assert number_of_classes(torch.zeros(1, 4, 2, 2)) == 1


def test_a_loss_that_is_not_finite_resets() -> None:
    one = Tiny()
    method = online(one, "tent", optimizer="sgd", learning_rate=1e5, statistics="given")
    with torch.no_grad():
        one.norm.weight[0] = float("nan")
    found = method.observe(image(1, 2))
    assert found[0, 0, 0].tolist() == [1, 2], "the prediction of the first network"
    assert one.norm.weight.tolist() == [1, 1, 1]
    assert method.remarks() == [
        "image 1: the network has collapsed and is reset: its loss is not finite"
    ]


def prefer_one_class(method) -> None:
    for name, weight in method.weights.items():
        if ".main." in name and name.endswith("bias"):
            weight[3] = 1e4


@pytest.mark.parametrize("name", ["tent", "cotta", "sar"])
def test_a_network_that_predicts_one_class_alone_is_reset(name: str) -> None:
    one = network()
    first = {key: value.clone() for key, value in one.state_dict().items()}
    options = METHODS[name] | ({"reset_entropy": 0.0} if name == "sar" else {})
    method = online(one, name, **options, moves="all", check_every=2)
    begun = method.logits_with(method.anchor, scene(2)).argmax(1)
    method.observe(scene(0))
    method.observe(scene(1))
    with torch.no_grad():
        prefer_one_class(method)
        if method.teacher() is not None:
            for key, value in method.weights.items():
                method.taught[key].copy_(value)
    logits = method.observe(scene(2))
    assert (logits.argmax(1) == begun).float().mean() > 0.95, "the first network's prediction"
    assert method.resets == 1
    (line,) = method.remarks()
    assert "image 3: the network has collapsed and is reset: it predicts 1.0 classes" in line
    for key, value in one.state_dict().items():
        assert torch.equal(value, first[key]), key
    assert not method.optimizer.state, "no momentum leads back"


def test_without_reset_below_nothing_is_compared() -> None:
    one = network()
    method = online(one, "tent", moves="all", check_every=1, reset_below=0.0)
    with torch.no_grad():
        prefer_one_class(method)
    for number in range(3):
        method.observe(scene(number))
    assert method.resets == 0


def living_tensors() -> int:
    return sum(issubclass(type(value), torch.Tensor) for value in gc.get_objects())


@pytest.mark.parametrize("name", METHODS)
def test_what_is_kept_does_not_grow_with_the_stream(name: str) -> None:
    method = online(network(), name, **METHODS[name])
    method.observe(scene(0))
    gc.collect()
    sizes = [value.shape for value in method.kept()]
    tensors = living_tensors()
    for number in range(1, 6):
        method.observe(scene(number))
    gc.collect()
    assert [value.shape for value in method.kept()] == sizes
    assert living_tensors() <= tensors


@pytest.mark.parametrize("name", ["bn", "tent", "cotta", "sar"])
def test_reset_brings_back_the_first_network(name: str) -> None:
    one = network()
    first = {key: value.clone() for key, value in one.state_dict().items()}
    options = {"learning_rate": 1e-2, "moves": "all"} if name != "bn" else {}
    options |= {"margin": 1.0} if name == "sar" else {}
    method = online(one, name, **METHODS[name], **options)
    before = method.observe(scene(9))
    for number in range(3):
        method.observe(scene(number))
    assert any(not torch.equal(value, first[key]) for key, value in one.state_dict().items())
    method.reset()
    for key, value in one.state_dict().items():
        if "num_batches_tracked" not in key:
            assert torch.equal(value, first[key]), key
    assert torch.allclose(method.observe(scene(9)), before, atol=1e-5)


def test_stored_statistics_become_the_networks_own() -> None:
    one = network()
    stored = {name: value + 1 for name, value in read_statistics(one).items()}
    kept = {name: value.clone() for name, value in stored.items()}
    context = OnlineContext.of(one, AGNOSTIC, "domain", stored)
    assert context.statistics == "running"
    assert all(torch.equal(value, stored[name]) for name, value in read_statistics(one).items())
    read_online("bn", {}).build(context).observe(scene())
    assert all(torch.equal(stored[name], value) for name, value in kept.items())
