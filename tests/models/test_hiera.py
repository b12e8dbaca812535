"""Hiera on images of any size."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from muhdi.deploy.predictor import Predictor
from muhdi.deploy.view import View
from muhdi.models.backbones.hiera import Order, _parts, _spread, transformers_maps, unit_of
from muhdi.recipe.backbones import read_backbone
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.workflows.train import train
from tests.models.tiny_transformers import configuration, folder_of, transformers
from tests.workflows.test_train import assert_same_run, train_through_crashes

Tiny = Callable[..., Path]


def test_tokens_are_ordered_by_their_places_in_a_pooling() -> None:
    order = Order(2, 4, (2, 2), 1)
    numbers = torch.arange(8.0).view(1, 1, 2, 4)  # 0 1 2 3 above 4 5 6 7
    tokens = order.tokens(numbers)
    assert tokens.flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert torch.equal(order.maps(tokens), numbers)
    # What Hiera does to pool: the largest of each 2x2.
    pooled = tokens.view(1, 4, 2, 1).amax(1)
    assert order.pooled() == Order(1, 2, (2, 2), 0)
    assert order.pooled().maps(pooled).flatten().tolist() == [5, 7]


def test_the_order_of_several_poolings_is_that_of_transformers() -> None:
    from transformers.models.hiera.modeling_hiera import unroll

    maps = torch.randn(2, 3, 16, 24)
    expected = unroll(maps.flatten(2).transpose(1, 2), (64, 96), (4, 4), [(2, 2)] * 3)
    order = Order(16, 24, (2, 2), 3)
    assert torch.equal(order.tokens(maps), expected)
    assert torch.equal(order.maps(expected), maps)


def test_what_repeats_itself_in_windows_stays_in_them_at_other_sizes() -> None:
    unit = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    height = torch.tensor([0.0, 0.0, 10.0, 10.0]).view(1, 1, 4, 1)
    learned = unit.repeat(1, 1, 2, 2) + height
    rest, window = _parts(learned, (2, 2))
    assert torch.equal(window, unit + 5)
    assert torch.equal(rest, (height - 5).expand(1, 1, 4, 4))
    assert torch.equal(_spread(rest, window, (4, 4)), learned)
    wider = _spread(rest, window, (4, 6))
    assert torch.allclose(wider, unit.repeat(1, 1, 2, 3) + height)


def test_sides_are_multiples_of_mask_units(tmp_path: Path) -> None:
    assert unit_of((4, 4), (8, 8)) == 32
    assert unit_of((4, 4), (8, 6)) == 96
    folder = folder_of("hiera", tmp_path)
    whole = read_backbone(f"hf:{folder}").build()
    first = read_backbone({"name": f"hf:{folder}", "layers": [1, 2]}).build()
    assert whole.multiple == first.multiple == 32
    assert [feature.stride for feature in first.features] == [4, 8]


def test_at_the_size_that_it_knows_it_is_the_published_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = transformers.HieraModel(configuration("hiera"), add_pooling_layer=False).eval()
    published.save_pretrained(tmp_path / "published")
    backbone = read_backbone(f"hf:{tmp_path / 'published'}").build().eval()
    weights = backbone.pretrained()
    assert weights is not None
    assert any("no commercial use" in note for note in weights.notes)
    backbone.load_state_dict(weights.tensors)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = transformers_maps(backbone.model, images)
        hidden = published(images, output_hidden_states=True).reshaped_hidden_states[1:]
    for one, own, norm in zip(
        maps, hidden, backbone.model.hidden_states_norms.values(), strict=True
    ):
        torch.testing.assert_close(one, norm(own).permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)


def test_it_trains_on_crops_resumes_to_the_bit_and_is_shown_windows(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = transformers.HieraForImageClassification(configuration("hiera"))
    published.save_pretrained(tmp_path / "published")
    settings = [
        f"model.backbone=hf:{tmp_path / 'published'}",
        "augment.crop=[32, 32]",
        "evaluation.statistics=[running]",
        "evaluation.samples=1",
    ]
    city = {"dataset": "scenes", "domain": "city", "train": 4, "val": 2}
    recipe = load_recipe(tiny(steps=[{"target": city}]), settings)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, quiet=True)
    train_through_crashes(recipe, broken, monkeypatch, 5)
    assert_same_run(whole, broken, recipe)
    shutil.rmtree(tmp_path / "published")
    run = RunDirectory.of(recipe, whole).folder
    assert json.loads((run / "results.json").read_text())["steps"]
    image = np.random.default_rng(0).integers(0, 256, (51, 83, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    predictor = Predictor.load(run)
    for view in (View(), View(size=(80, 50)), View(window=True)):
        assert predictor.predict(tmp_path / "image.png", view=view).ids.shape == (51, 83)
