"""The distance to the features that the network began with."""

from __future__ import annotations

import pytest
import torch

from muhdi.adaptation.feature_distance import FeatureDistance, thing_mask
from muhdi.errors import RecipeError
from muhdi.method import MethodContext
from muhdi.models.outputs import Outputs
from muhdi.models.segmenter import build_segmenter
from muhdi.passes import Batch
from muhdi.recipe.pseudo_labels import FeatureDistanceConfig
from muhdi.recipe.schema import Recipe
from muhdi.taxonomy import CLASS_SETS, custom


def test_the_class_that_fills_most_of_a_feature() -> None:
    labels = torch.zeros(1, 4, 8, dtype=torch.int64)
    labels[0, :, :3] = 1  # 12 of 16 pixels of the left feature
    labels[0, :2, 4:] = 255
    assert thing_mask(labels, (1, 2), 4, 2, 0.75).tolist() == [[[1, 2]]]
    assert thing_mask(labels, (1, 2), 4, 2, 0.8).tolist() == [[[2, 2]]]
    # A third feature that lies beyond the image is ignored.
    assert thing_mask(labels, (1, 3), 4, 2, 0.5)[0, 0, 2] == 2


def method(first: torch.nn.Module, weight: float = 2.0) -> FeatureDistance:
    context = MethodContext(3, ("aux", "main"), "agnostic", torch.Generator())
    return FeatureDistance(FeatureDistanceConfig(weight=weight), context, first, [1])


def test_the_mean_distance_on_things() -> None:
    torch.manual_seed(0)
    first = build_segmenter("small", 3).eval()
    network = build_segmenter("small", 3).eval()
    images = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8)
    stride = first.backbone.features[-1].stride
    labels = torch.zeros(2, 32, 64, dtype=torch.int64)
    labels[0, :stride, : 2 * stride] = 1
    source = Batch(images, labels)
    distance = method(first)
    distance.passes(source, Batch(images))
    outputs = network(images)
    found = distance.on_source(outputs, source)["feature_distance"]
    ours = network.features(images)[-1][0, :, 0, :2]
    theirs = first.features(images)[-1][0, :, 0, :2]
    expected = 2.0 * torch.linalg.vector_norm(ours - theirs, dim=0).mean()
    torch.testing.assert_close(found, expected)
    # In two parts, of which one has no thing, the mean is the same.
    distance.passes(source, Batch(images))
    parts = []
    for part in source.split(2):
        few = Outputs({}, network(part.images).features)
        parts.append(distance.on_source(few, part)["feature_distance"])
    torch.testing.assert_close(torch.stack(parts).mean(), expected)


def test_without_a_thing_it_is_0_with_no_gradient_that_hurts() -> None:
    first = build_segmenter("small", 3).eval()
    network = build_segmenter("small", 3).eval()
    images = torch.randint(0, 256, (1, 3, 32, 64), dtype=torch.uint8)
    source = Batch(images, torch.zeros(1, 32, 64, dtype=torch.int64))
    distance = method(first)
    distance.passes(source, Batch(images))
    loss = distance.on_source(network(images), source)["feature_distance"]
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(
        weight.grad is None or weight.grad.isfinite().all() for weight in network.parameters()
    )


def test_things_of_class_sets() -> None:
    known = CLASS_SETS["urban19"]
    # Those of DAFormer: traffic lights and signs, and all from persons on.
    assert FeatureDistanceConfig().things(known) == [6, 7, *range(11, 19)]
    assert FeatureDistanceConfig(classes=["car"]).things(known) == [13]
    with pytest.raises(RecipeError, match=r"feature_distance.classes: list the classes"):
        FeatureDistanceConfig().things(custom(["a", "b"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "the backbone starts from random weights"),
        (["model.init=x.pth", "model.tune=frozen"], "the features stay anyway"),
        (
            ["model.init=x.pth", "every_step.adaptation.feature_distance={classes: [cars]}"],
            "unknown class 'cars'",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.load(
            "scenes_selftrain",
            ["every_step.adaptation={method: selftrain, feature_distance: {}}", *settings],
        )
