"""Learning rates, parameter groups and clipping, by hand; and a run with all of them."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from muhdi.data.domains import Domains
from muhdi.errors import RecipeError, RunError
from muhdi.models.backbones.base import Backbone, FeatureInfo
from muhdi.models.backbones.resnet import DilatedResNet
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.recipe.backbones import ResNetConfig
from muhdi.recipe.load import load_recipe, save_recipe, shipped_recipes
from muhdi.recipe.optimizer import OptimizerConfig
from muhdi.run.directory import RunDirectory
from muhdi.training.optim import build_optimizer, clip_gradients, learning_rate, poly
from muhdi.training.parameter_groups import parameter_groups
from muhdi.training.stage import StageTrainer
from muhdi.training.start import start
from muhdi.workflows.train import train
from tests.workflows.test_train import assert_same_run

Tiny = Callable[..., Path]

# --- the learning rate ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # (1 - i / 8) ** 0.9, which is what every run before had
        ({}, {0: 1.0, 4: 0.5**0.9, 8: 0.0, 9: 0.0}),
        ({"power": 2}, {0: 1.0, 2: 0.5625, 4: 0.25, 8: 0.0}),
        ({"annealing": "none"}, {0: 1.0, 7: 1.0, 8: 1.0}),
        # cos(pi / 4) is 0.70710678...
        ({"annealing": "cosine"}, {0: 1.0, 2: 0.8535533905932737, 4: 0.5, 8: 0.0, 9: 0.0}),
        # poly times 1 - (1 - i / 4) (1 - 1e-6)
        (
            {"power": 1, "warmup": 4},
            {0: 1e-6, 1: 0.875 * 0.25000075, 2: 0.75 * 0.5000005, 4: 0.5, 6: 0.25},
        ),
        ({"annealing": "none", "warmup": 2}, {0: 1e-6, 1: 0.5000005, 2: 1.0}),
    ],
)
def test_the_rate_of_an_iteration(options: dict, expected: dict[int, float]) -> None:
    config = OptimizerConfig.model_validate(options)
    for iteration, rate in expected.items():
        found = learning_rate(3.0, iteration, 8, config)
        assert found == pytest.approx(3.0 * rate, rel=1e-12, abs=1e-15), iteration


def test_without_a_choice_the_rate_is_polys_to_the_bit() -> None:
    rates = [learning_rate(2.5e-4, i, 7, OptimizerConfig()) for i in range(9)]
    assert rates == [poly(2.5e-4, i, 7, 0.9) for i in range(9)]


# --- groups ---------------------------------------------------------------------------------------


class TinyTransformer(Backbone):
    """Two blocks of one linear layer, with what transformers have besides."""

    def __init__(self) -> None:
        super().__init__()
        self.features = [FeatureInfo(4, 2), FeatureInfo(4, 2)]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 9, 4))
        self.embedding = nn.Conv2d(3, 4, 2, 2)
        self.first = nn.Sequential(nn.LayerNorm([4, 4]), nn.Linear(4, 4))
        self.second = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4, bias=False))


def names(network: Segmenter, **options: object) -> list[tuple[float, float, list[str]]]:
    groups = parameter_groups(network, OptimizerConfig.model_validate(options))
    return [
        (group.factor, group.weight_decay, list(group.parameters))
        for group in groups
        if group.of_backbone
    ]


def test_the_groups_of_a_tiny_backbone() -> None:
    network = Segmenter(TinyTransformer(), 3)
    found = names(network, name="adamw", weight_decay=0.1, layer_decay=0.5)
    # Three layers below the heads, whose factor would be 1.
    assert found == [
        (0.125, 0.0, ["cls_token", "position_embeddings", "embedding.bias"]),
        (0.125, 0.1, ["embedding.weight"]),
        (0.25, 0.0, ["first.0.weight", "first.0.bias", "first.1.bias"]),
        (0.25, 0.1, ["first.1.weight"]),
        (0.5, 0.0, ["second.0.weight", "second.0.bias"]),
        (0.5, 0.1, ["second.1.weight"]),
    ]
    assert [group[:2] for group in names(network, name="sgd", weight_decay=0.1)] == [(1.0, 0.1)]
    network.backbone.embedding.requires_grad_(False)
    network.backbone.cls_token.requires_grad_(False)
    frozen = names(network, name="adamw", weight_decay=0.1, layer_decay=0.5)
    assert frozen[0] == (0.125, 0.0, ["position_embeddings"])
    assert len(frozen) == 5


def test_heads_and_decoder_have_their_factor_alone_and_no_decay_on_biases() -> None:
    network = build_segmenter("efficientnet_lite0", 3)
    config = OptimizerConfig(name="adamw", weight_decay=0.1, layer_decay=0.9, head_factor=7)
    groups = [g for g in parameter_groups(network, config) if not g.of_backbone]
    assert sorted((group.factor, group.weight_decay) for group in groups) == [(7, 0.0), (7, 0.1)]
    for group in groups:
        for name, parameter in group.parameters.items():
            assert (group.weight_decay == 0) == (parameter.ndim == 1), name
    assert any(name.startswith("decoder.") for name in groups[0].parameters)


@pytest.mark.parametrize("options", [{}, {"name": "adamw", "layer_decay": 0.7}])
def test_every_trained_parameter_is_in_one_group(options: dict) -> None:
    network = build_segmenter("small", 3)
    network.backbone.bn1.requires_grad_(False)
    optimizer = build_optimizer(network, OptimizerConfig.model_validate(options), 1.0)
    found = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in network.parameters() if p.requires_grad)


def test_the_layers_of_our_backbones() -> None:
    small = build_segmenter("small", 3).backbone
    assert (small.depth, small.layer_of("conv1.weight"), small.layer_of("bn1.bias")) == (5, 0, 0)
    assert small.layer_of("layer3.conv1.weight") == 3
    lite = build_segmenter("efficientnet_lite0", 3).backbone
    assert lite.depth == 17
    layers = [
        lite.layer_of(f"{name}.weight") for name in ("stem_norm", "blocks.0.x", "blocks.15.x")
    ]
    assert layers == [0, 1, 16]
    resnet = DilatedResNet(ResNetConfig(name="resnet50"), (1, 1, 1, 1))
    assert [resnet.layer_of(f"{name}.weight") for name in ("bn1", "layer4.0.bn1")] == [0, 4]


def test_a_layer_that_there_is_not() -> None:
    network = Segmenter(TinyTransformer(), 3)
    network.backbone.layer_of = lambda name: 4
    with pytest.raises(RunError, match=r"TinyTransformer.layer_of: gives 4 for cls_token, .* 3"):
        parameter_groups(network, OptimizerConfig(layer_decay=0.9))


@pytest.mark.parametrize(
    ("options", "decayed"),
    [
        ({"name": "adamw"}, False),
        ({"name": "adamw", "decay_on": "all"}, True),
        ({"name": "sgd"}, True),
        ({"name": "sgd", "decay_on": "weights"}, False),
        ({"name": "sgd", "updates": "reference"}, True),
        ({"name": "sgd", "updates": "reference", "decay_on": "weights"}, False),
    ],
)
def test_what_a_step_without_gradients_changes(options: dict, decayed: bool) -> None:
    """Weight decay alone: by 1 - rate x decay at every update, of weights or of everything."""
    network = build_segmenter("small", 3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    config = OptimizerConfig.model_validate({"weight_decay": 0.5, "momentum": 0, **options})
    build_optimizer(network, config, 0.1).step()
    # The reference updates it three times: it is in the backbone, in layer1 and in conv1.
    weight = network.backbone.layer1.conv1.weight
    times = 2 if config.updates == "reference" else 1
    assert weight.detach().mean().item() == pytest.approx(0.95**times, rel=1e-5)
    norm = network.backbone.layer1.bn1.weight
    assert norm.detach().mean().item() == pytest.approx(0.95**times if decayed else 1.0, rel=1e-5)


UNTRAINED = {
    *(f"gta2cityscapes_{name}" for name in ("daformer", "mic", "vfm_uda")),
    *(f"cityscapes2acdc_segformer{joint}" for joint in ("", "_joint")),
    *(f"gta2cityscapes_idd_mapillary_segformer{joint}" for joint in ("", "_joint")),
}
"""Recipes that no result of ours comes from."""


@pytest.mark.parametrize("name", sorted(set(shipped_recipes()) - UNTRAINED))
def test_shipped_recipes_decay_what_their_results_were_measured_with(name: str) -> None:
    assert load_recipe(name).optimizer.decays == "all"


# --- clipping -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "expected"), [(1.0, (0.6, 0.8)), (6.0, (3, 4)), (None, (3, 4))])
def test_all_gradients_are_clipped_together(limit: float | None, expected: tuple) -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    network[0].weight.grad = torch.tensor([[3.0]])
    network[1].bias.grad = torch.tensor([4.0])
    clip_gradients(network, limit)
    found = (network[0].weight.grad.item(), network[1].bias.grad.item())
    assert found == pytest.approx(expected, rel=1e-5)
    assert network[0].bias.grad is None


def test_an_iteration_moves_the_weights_no_farther_than_the_clipped_gradient(
    tiny: Tiny, tmp_path: Path
) -> None:
    optimizer = {"name": "sgd", "momentum": 0, "weight_decay": 0, "head_factor": 1, "clip": 0.01}
    training = {"iterations": 1, "batch_size": 2, "learning_rate": 1.0}
    recipe = load_recipe(tiny(optimizer=optimizer, source_training=training, steps=[]))
    before = start(recipe, Domains(recipe)).carried.network.state_dict()
    train(recipe, tmp_path, quiet=True)
    state, _ = RunDirectory.of(recipe, tmp_path).states.load()
    changes = [
        (value - before[name]).square().sum()
        for name, value in state["trainer"]["model"].items()
        if "running" not in name and "num_batches" not in name
    ]
    assert math.sqrt(sum(changes)) == pytest.approx(0.01, rel=1e-3)


# --- a run with all of it -------------------------------------------------------------------------

ALL = {
    "optimizer": {
        "name": "adamw",
        "weight_decay": 1e-2,
        "annealing": "cosine",
        "warmup": 2,
        "layer_decay": 0.8,
        "clip": 0.5,
    },
    "augment": {"crop": [32, 24], "crop_max_class": 0.5, "flip": True},
    "every_step": {
        "iterations": 3,
        "batch_size": 2,
        "accumulate": 2,
        "adaptation": "selftrain",
        "retention": "muhdi",
    },
    # Images of different sizes can be mixed: training sees crops of one size.
    "steps": [
        {
            "target": {
                "dataset": "scenes",
                "domain": "night",
                "train": 6,
                "val": 3,
                "image_size": [56, 40],
            }
        },
    ],
    "evaluation": {"statistics": ["running"], "samples": 0},
}


def test_it_is_interrupted_and_resumed_to_the_bit(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, muhdi
) -> None:
    path = tiny(**ALL)
    recipe = load_recipe(path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    original = StageTrainer.iterate
    seen: list[set[tuple[int, ...]]] = []

    def iterate(self, *batches):
        seen.append({tuple(batch.images.shape) for batch in batches if batch is not None})
        if len(seen) == 5:  # after the source's three, in the warm-up of the step
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *batches)

    monkeypatch.setattr(StageTrainer, "iterate", iterate)
    status, _, errors = muhdi("train", path, "--experiments", broken, "--quiet")
    assert status == 130, errors
    assert seen == [{(2, 3, 24, 32)}] * 5
    assert muhdi("train", path, "--experiments", broken, "--resume", "--quiet")[0] == 0
    assert len(seen) == 6
    assert_same_run(whole, broken, recipe)
    report = (RunDirectory.of(recipe, broken).folder / "report.html").read_text()
    assert "48x32, trained on crops of 32x24" in report
    # What is saved is read again: no default of an option that was not chosen stands in it.
    folder = RunDirectory.of(recipe, whole).folder
    assert load_recipe(folder / "recipe.yml").experiment() == recipe.experiment()


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optimizer.decay_on=norms", "optimizer.decay_on: unknown value 'norms' (known: all, "),
        ("optimizer.layer_decay=0", "optimizer.layer_decay: input should be greater than 0"),
        ("optimizer.layer_decay=1.1", "optimizer.layer_decay: input should be less than"),
        ("optimizer.clip=0", "optimizer.clip: input should be greater than 0"),
        ("optimizer.warmup=-1", "optimizer.warmup: input should be greater than or equal to 0"),
        (
            "optimizer.warmup=4",
            "source_training.iterations: a stage of 3 ends before optimizer.warmup (4) does",
        ),
        (
            "optimizer={name: sgd, updates: reference, layer_decay: 0.9}",
            "optimizer.layer_decay: the reference's layers learn alike",
        ),
        (
            "optimizer={annealing: cosine, power: 0.9}",
            "optimizer.power: is the exponent of poly, but annealing is cosine",
        ),
    ],
)
def test_a_mistake_is_named(tiny: Tiny, setting: str, words: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(tiny(), [setting])
    assert words in str(error.value)


def test_a_schedule_without_annealing_means_nothing(tiny: Tiny, muhdi) -> None:
    settings = ("--set", "optimizer.annealing=none", "--set", "steps.1.schedule=9")
    status, _, errors = muhdi("train", tiny(), *settings)
    assert status == 2
    assert "error: tiny.yml: steps.1.schedule: with optimizer.annealing: none" in errors
    assert errors.count("\n") == 1


def test_a_stage_that_does_not_train_needs_no_warmup_and_a_power_can_be_taken_back(
    tiny: Tiny, tmp_path: Path
) -> None:
    settings = ["optimizer.warmup=3", "source_training.iterations=0"]
    assert load_recipe(tiny(), settings).optimizer.warmup == 3
    path = tmp_path / "child.yml"
    path.write_text("extends: tiny.yml\noptimizer: {annealing: cosine, power: null}\n")
    tiny(optimizer={"power": 2})
    recipe = load_recipe(path)
    assert recipe.optimizer.power is None
    again = tmp_path / "again.yml"
    again.write_text(save_recipe(recipe))
    assert load_recipe(again) == recipe
