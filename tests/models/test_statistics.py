"""Choices of normalisation statistics against numbers computed by hand."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from muhdi.deploy.predictor import Predictor
from muhdi.errors import RecipeError
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.image_norms import BLEND, BlendNorm, ImageNorm
from muhdi.models.inference import Inference
from muhdi.models.norms import convert_norms
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.models.statistics import CHOICES, batch_norms, measure_statistics, pool_statistics
from muhdi.recipe.backbones import read_backbone
from muhdi.recipe.evaluation import EvaluationConfig, StatisticsChoice
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory


def network() -> Segmenter:
    """With running moments far from those of any image."""
    torch.manual_seed(0)
    model = build_segmenter("small", 3)
    for norm in batch_norms(model).values():
        nn.init.uniform_(norm.running_mean, -1.0, 1.0)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return model.eval()


def images(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 48), dtype=torch.uint8, generator=generator)


def test_recipes_and_networks_know_the_same_choices() -> None:
    assert get_args(StatisticsChoice) == CHOICES


def test_blend_is_a_tenth_of_the_images_own_moments() -> None:
    norm = nn.BatchNorm2d(2).eval()
    norm.running_mean.copy_(torch.tensor([1.0, -1.0]))
    norm.running_var.copy_(torch.tensor([4.0, 9.0]))
    norm.weight.data.copy_(torch.tensor([2.0, 1.0]))
    norm.bias.data.copy_(torch.tensor([0.5, 0.0]))
    # Means 2 and 0, variances 1 and 4, in the one image.
    x = torch.tensor([[[[1.0, 3.0]], [[2.0, -2.0]]]])
    found = BlendNorm(norm)(x)
    first = (x[0, 0] - (0.9 * 1 + 0.1 * 2)) / (0.9 * 4 + 0.1 * 1 + norm.eps) ** 0.5 * 2 + 0.5
    second = (x[0, 1] - (0.9 * -1 + 0.1 * 0)) / (0.9 * 9 + 0.1 * 4 + norm.eps) ** 0.5
    assert BLEND == 0.1
    assert torch.allclose(found[0, 0], first)
    assert torch.allclose(found[0, 1], second)


def test_with_blend_a_batch_gives_what_its_images_give_one_at_a_time() -> None:
    inference = Inference(network(), statistics="blend")
    batch = images(3)
    with torch.no_grad():
        together = inference(batch)
        alone = torch.cat([inference(image[None]) for image in batch])
    assert torch.allclose(together, alone, rtol=0, atol=1e-5 * float(alone.abs().max()))


def test_blend_follows_the_network_and_leaves_it_alone() -> None:
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    inference = Inference(model, statistics="blend")
    with torch.no_grad():
        first = inference(images(1))
        assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
        for norm in batch_norms(model).values():
            norm.running_mean.add_(1.0)
        assert not torch.allclose(inference(images(1)), first)


def test_hooks_on_a_use_of_a_network_are_its_own() -> None:
    network = build_segmenter("small", 3)
    watched, other = Inference(network), Inference(network)
    seen: list[nn.Module] = []
    for module in watched.network.modules():
        module.register_forward_hook(lambda module, images, features: seen.append(module))
    images = torch.zeros(1, 3, 32, 32)
    network(images)
    other(images)
    assert not seen
    watched(images)
    assert watched.network.backbone in seen


def test_pooled_moments_are_those_of_all_images_together() -> None:
    """Layer by layer that holds for the first norm alone: later ones see what earlier ones give."""
    model = network()
    day, night = images(4), images(4, seed=1) // 4
    stored = [measure_statistics(model, [batch]) for batch in (day, night)]
    pooled = pool_statistics(stored)
    first = next(iter(batch_norms(model)))
    with torch.no_grad():
        features = model.backbone.conv1(model.backbone.normalise(torch.cat([day, night])))
    mean = features.mean((0, 2, 3))
    assert torch.allclose(pooled[f"{first}.running_mean"], mean, atol=1e-5)
    variance = features.var((0, 2, 3), correction=0)
    assert torch.allclose(pooled[f"{first}.running_var"], variance, rtol=2e-3)
    assert pooled.keys() == stored[0].keys()


def test_pooled_needs_no_name_but_measured_domains(tmp_path: Path) -> None:
    model = network()
    stored = {"day": measure_statistics(model, [images(2)])}
    checkpoint = Checkpoint(model, read_backbone("small"), ("a", "b", "c"), (48, 32), stored)
    pooled = Predictor(checkpoint, statistics="pooled")
    day = Predictor(checkpoint, domain="day")
    image = images(1)[0].permute(1, 2, 0).numpy()
    assert (pooled.predict(image).ids == day.predict(image).ids).all(), "the only domain"
    with pytest.raises(RecipeError, match="the other choices none"):
        Predictor(checkpoint, statistics="pooled", domain="day")
    bare = Checkpoint(model, checkpoint.backbone, checkpoint.classes, checkpoint.image_size)
    with pytest.raises(RecipeError, match="holds those of no domain; use running or blend"):
        Predictor(bare, statistics="pooled")


def test_a_networks_file_names_its_default(tmp_path: Path) -> None:
    checkpoint = Checkpoint(network(), read_backbone("small"), ("a", "b", "c"), (48, 32))
    checkpoint.default_statistics = "blend"
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, checkpoint)
    assert load_checkpoint(path).default_statistics == "blend"
    assert Predictor.load(path).statistics == "blend"
    assert Predictor.load(path, statistics="image").statistics == "image"


def test_a_run_shows_predicts_and_exports_by_its_default(muhdi, tiny, tmp_path: Path) -> None:
    settings = ["evaluation.statistics=[running, blend, pooled]", "evaluation.default=blend"]
    words = [word for setting in settings for word in ("--set", setting)]
    status, output, errors = muhdi("train", tiny(), *words)
    assert status == 0, errors
    assert "blend statistics" in output
    run = RunDirectory.of(load_recipe(tiny(), settings), Path("experiments")).folder
    page = (run / "report.html").read_text()
    for choice in ("running", "blend", "pooled"):
        assert f'value="{choice}"' in page
    assert re.search(r'value="blend"[^>]* checked>', page)
    assert Predictor.load(run).statistics == "blend"
    status, output, _ = muhdi("export", run, "net.pt2")
    assert status == 0
    assert "verified on" in output
    status, output, _ = muhdi("evaluate", run, "--statistics", "pooled")
    assert status == 0
    assert "pooled statistics" in output


def test_the_default_is_one_of_those_that_are_scored() -> None:
    with pytest.raises(ValueError, match="pooled is not in 'statistics'"):
        EvaluationConfig.model_validate({"default": "pooled"})
    one = EvaluationConfig.model_validate({"statistics": ["image"]})
    assert one.default_statistics == "running"
    # As a run saves it, with every key written out, it can be read again.
    assert EvaluationConfig.model_validate(one.model_dump(mode="json")) == one


def test_the_default_needs_no_domains_name() -> None:
    with pytest.raises(ValueError, match="default"):
        EvaluationConfig.model_validate({"default": "domain"})


class ActivatedNorm(nn.BatchNorm2d):
    """As timm's `BatchNormAct2d`: it activates what it has normalised."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop = nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(super().forward(x)))


def test_what_takes_the_place_of_a_norm_that_activates_does_so_too() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    plain = nn.Sequential(ActivatedNorm(3))
    expected = plain.train()(x)
    assert (expected == 0).any()
    for kind in ("batch", "synced", "frozen"):
        converted = copy.deepcopy(plain).eval()
        convert_norms(converted, kind)
        assert torch.equal(converted(x), copy.deepcopy(plain).eval()(x)), kind
        for norm in (ImageNorm(converted[0]), BlendNorm(converted[0])):
            assert (norm(x) >= 0).all(), kind
            assert (norm(x) == 0).any(), kind
        assert converted.state_dict().keys() == plain.state_dict().keys()
    converted = copy.deepcopy(plain)
    convert_norms(converted, "synced")
    assert torch.equal(converted.train()(x), copy.deepcopy(plain).train()(x))
