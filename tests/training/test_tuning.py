"""What of the backbone a stage trains: nothing, or adapters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from muhdi.deploy.predictor import Predictor
from muhdi.errors import RecipeError
from muhdi.models.checkpoint import load_checkpoint
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.models.teacher import Teacher
from muhdi.recipe.load import load_recipe
from muhdi.recipe.optimizer import OptimizerConfig
from muhdi.recipe.tune import TuneConfig
from muhdi.run.directory import RunDirectory
from muhdi.training.optim import build_optimizer
from muhdi.training.tuning import tune
from muhdi.workflows.adapt import plan_adaptation
from muhdi.workflows.info import info
from muhdi.workflows.train import train
from tests.models.tiny_transformers import folder_of
from tests.workflows.test_train import assert_same_run, train_through_crashes

Tiny = Callable[..., Path]
IMAGES = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0)).byte()
METHODS = ["every_step.adaptation=selftrain", "every_step.retention=muhdi"]


def total(network: Segmenter) -> torch.Tensor:
    outputs = network(IMAGES)
    return sum(
        level.square().mean() for levels in outputs.heads.values() for _, level in levels.items()
    )


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {key for key, value in after.items() if not torch.equal(value, before[key])}


def run_of(experiments: Path, recipe) -> list[dict[str, torch.Tensor]]:
    """Weights after every stage."""
    return [
        load_checkpoint(path).network.state_dict()
        for path in RunDirectory.of(recipe, experiments).models()
    ]


# --- frozen ---------------------------------------------------------------------------------------


def test_nothing_of_a_frozen_backbone_is_kept_for_a_backward_pass() -> None:
    network = build_segmenter("small", 3)
    network.backbone.layer4.add_module("dropout", nn.Dropout(0.5))
    teacher_before = Teacher(network)
    tune(network, TuneConfig(method="frozen"))
    network.train()
    assert not any(module.training for module in network.backbone.modules())
    assert network.heads.training
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        features = network.backbone(IMAGES)
        assert not kept
        total(network).backward()
    assert kept
    assert not any(feature.requires_grad for feature in features)
    optimizer = build_optimizer(network, OptimizerConfig(), 0.1)
    trained = {id(one) for group in optimizer.param_groups for one in group["params"]}
    assert trained == {id(one) for one in network.heads.parameters()}
    # A teacher normalises as its student does.
    norms = [module.training for module in Teacher(network).model.backbone.modules()]
    assert not any(norms)
    assert any(module.training for module in teacher_before.model.backbone.modules())


def test_a_frozen_backbone_stays_to_the_bit(tiny: Tiny, tmp_path: Path) -> None:
    steps = [{"target": {"dataset": "scenes", "domain": "city", "train": 4, "val": 2}}]
    frozen = load_recipe(tiny(steps=steps), [*METHODS, "model.tune=frozen"])
    train(frozen, tmp_path, quiet=True)
    source, last = run_of(tmp_path, frozen)
    moved = changed(source, {key: last[key] for key in source})
    assert {key.split(".")[0] for key in moved} == {"heads"}
    # Its file says so, and so does what is exported.
    run = RunDirectory.of(frozen, tmp_path).folder
    exported = Predictor.load(run).save_pretrained(tmp_path / "exported")
    for path in (run, exported):
        found = info(path)
        assert found.facts["trained"] == "decoder and heads; the backbone stays"
        assert found.network.parts[0].trained == 0
        assert all(part.frozen == 0 for part in found.network.parts[1:])
    # The next step is trained alike.
    images = tmp_path / "images"
    images.mkdir()
    samples = RunDirectory.of(frozen, tmp_path).samples
    for number, image in enumerate(sorted(samples.glob("*_image.png"))):
        (images / f"{number}.png").write_bytes(image.read_bytes())
    plan = plan_adaptation(run, images)
    assert plan.recipe.model.tune == TuneConfig(method="frozen")


def test_info_says_what_is_trained(tiny: Tiny) -> None:
    full, frozen = (info(tiny(), [f"model.tune={word}"]) for word in ("full", "frozen"))
    backbone, *heads = frozen.network.parts
    assert backbone.trained == 0
    assert backbone.parameters == full.network.parts[0].trained
    assert tuple(heads) == full.network.parts[1:]
    assert frozen.facts["trained"] == "decoder and heads; the backbone stays"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.tune={method: frozen, rank: 4}"], "rank: is an option of lora, not of frozen"),
        (["model.tune=half"], "model.tune"),
        (["model.tune={method: lora, rank: 0}"], "model.tune.rank"),
        (["model.tune=frozen", "optimizer.layer_decay=0.9"], "optimizer.layer_decay: is for"),
        (
            ["model.tune=frozen", "optimizer.name=sgd", "optimizer.updates=reference"],
            "optimizer.updates: 'reference' says",
        ),
        (["model.tune=lora", "every_step.retention=ewc"], "steps.0.retention: ewc holds"),
        (["model.tune=lora", "steps.1.retention=l2sp"], "steps.1.retention: l2sp holds"),
    ],
)
def test_what_does_not_fit_is_refused(tiny: Tiny, settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(tiny(), settings)


def test_a_backbone_without_linear_layers_takes_no_adapters(
    tiny: Tiny, tmp_path: Path, muhdi: Callable[..., tuple[int, str, str]]
) -> None:
    status, _, errors = muhdi("train", tiny(), "--set", "model.tune=lora")
    assert status == 2
    assert "SmallResNet has none; use frozen or full" in errors
    assert not (tmp_path / "snapshots").exists()


def test_adapters_need_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_segmenter(f"hf:{folder_of('dinov2', tmp_path)}", 3)
    monkeypatch.setattr("muhdi.models.adapters.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'muhdi\[lora\]'"):
        tune(network, TuneConfig(method="lora"))


# --- lora -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["segformer", "swin", "swinv2", "dinov2", "dinov3_vit"])
def test_adapters_are_trained_and_merged(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    torch.manual_seed(0)
    network = build_segmenter(f"hf:{folder_of(kind, tmp_path)}", 3).train()
    trained = {name for name, one in network.named_parameters() if one.requires_grad}
    before = copy.deepcopy(network.state_dict())
    plain = network.eval().segment(IMAGES)
    adapters = tune(network, TuneConfig(method="lora", rank=2, alpha=6))
    assert adapters is not None
    # They begin at 0.
    assert torch.allclose(network.eval().segment(IMAGES), plain, atol=1e-6)
    optimizer = build_optimizer(network, OptimizerConfig(name="adamw"), 0.01)
    in_backbone = [name for name, one in network.backbone.named_parameters() if one.requires_grad]
    assert in_backbone
    assert all(".lora_" in name for name in in_backbone)
    for _ in range(2):
        optimizer.zero_grad()
        total(network).backward()
        # Each of them takes part: none is in a layer that nobody calls.
        assert all(one.grad is not None for one in network.parameters() if one.requires_grad)
        optimizer.step()
    name, a = next((n, p) for n, p in network.backbone.named_parameters() if "lora_A" in n)
    b = network.backbone.get_parameter(name.replace("lora_A", "lora_B"))
    weight = f"backbone.{name.replace('.lora_A.default', '')}"
    expected = before[weight] + 3 * b.detach() @ a.detach()
    with torch.no_grad():
        adapted = network.eval().segment(IMAGES)
    adapters.merge()
    assert {name for name, one in network.named_parameters() if one.requires_grad} == trained
    assert torch.allclose(network.state_dict()[weight], expected, atol=1e-6)
    assert torch.allclose(network.segment(IMAGES), adapted, atol=1e-4)
    assert not torch.allclose(adapted, plain, atol=1e-3)
    moved = {key for key in changed(before, network.state_dict()) if key.startswith("backbone")}
    assert weight in moved
    assert all(before[key].ndim == 2 for key in moved)
    # The next stage finds a plain network.
    assert tune(network, TuneConfig(method="lora", rank=2)) is not None


def test_runs_with_adapters_are_plain_and_resume_exactly(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    backbone = f"hf:{folder_of('segformer', tmp_path)}"
    settings = [
        *METHODS,
        f"model.backbone={{name: '{backbone}', pretrained: false}}",
        "model.tune={method: lora, rank: 2}",
        "model.decoder={name: lateral, width: 8}",
        "snapshot_every=2",
        "evaluation={statistics: [running], samples: 0}",
    ]
    steps = [{"target": {"dataset": "scenes", "domain": "city", "train": 4, "val": 2}}]
    recipe = load_recipe(tiny(steps=steps), settings)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    # While the source is trained, and right after that.
    train_through_crashes(recipe, broken, monkeypatch, 2, 1)
    assert_same_run(whole, broken, recipe)
    source, *_, last = run_of(whole, recipe)
    assert not any("lora" in key or "base_layer" in key for key in last)
    moved = changed(source, {key: last[key] for key in source})
    of_backbone = {key for key in moved if key.startswith("backbone")}
    assert of_backbone
    assert all(source[key].ndim == 2 for key in of_backbone)
    parts = info(recipe).network.parts
    assert 0 < parts[0].trained < parts[0].parameters / 2
    # A file's adapters are merged: it holds the backbone's weights alone.
    trained = info(RunDirectory.of(recipe, whole).folder)
    assert trained.facts["trained"] == (
        "adapters of rank 2 in the backbone's linear layers, the rest fully; their changes are in"
        " the weights"
    )
    assert trained.network.parts[0].trained == 0
    assert trained.network.parts[0].parameters < parts[0].parameters
