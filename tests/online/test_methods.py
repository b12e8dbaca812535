"""Every online method against numbers computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from muhdi.errors import RecipeError
from muhdi.evaluation.views import resized
from muhdi.models.segmenter import build_segmenter
from tests.online.tiny import Tiny, image, online

VALUES = (0, 2, 4, 6)
"""Mean 3; the squares of the distances sum up to 20, so the unbiased variance is 20 / 3."""


def normalised(mean: float, variance: float) -> list[float]:
    return [(value - mean) / math.sqrt(variance) for value in VALUES]


def first_logit(method, shown) -> list[float]:
    logits = method.observe(shown)
    assert not logits.requires_grad
    return logits[0, 0, 0].tolist()


def test_none_is_plain_prediction() -> None:
    network = Tiny()
    assert first_logit(online(network, "none"), image(*VALUES)) == [0, 2, 4, 6]


def test_exponential_moments_follow_the_stream() -> None:
    network = Tiny()
    method = online(network, "bn", moments="exponential", momentum=0.1)
    mean, variance = 0.3, 0.9 + 0.1 * 20 / 3
    found = first_logit(method, image(*VALUES))
    assert found == pytest.approx(normalised(mean, variance), abs=1e-5)
    mean, variance = 0.9 * mean + 0.3, 0.9 * variance + 0.1 * 20 / 3
    assert first_logit(method, image(*VALUES)) == pytest.approx(
        normalised(mean, variance), abs=1e-5
    )
    assert network.norm.running_mean[0].item() == pytest.approx(mean)
    assert network.norm.running_var[0].item() == pytest.approx(variance)
    assert method.statistics == "running"
    method.reset()
    assert network.norm.running_mean.tolist() == [0, 0, 0]
    assert network.norm.running_var.tolist() == [1, 1, 1]


def test_blended_moments_do_not_remember() -> None:
    network = Tiny()
    method = online(network, "bn", moments="blend")
    expected = normalised(0.3, 0.9 + 0.1 * 5)
    for _ in range(2):
        assert first_logit(method, image(*VALUES)) == pytest.approx(expected, abs=1e-5)
    assert network.norm.running_mean.tolist() == [0, 0, 0]
    assert method.statistics == "blend"


def test_moments_of_each_image_alone() -> None:
    method = online(Tiny(), "bn", moments="batch")
    found = first_logit(method, image(*VALUES))
    assert found == pytest.approx(normalised(3, 5), abs=1e-5)
    assert method.statistics == "image"


def test_predicting_moves_no_moment() -> None:
    network = Tiny()
    method = online(network, "bn")
    method.predict(image(*VALUES))
    assert network.norm.running_mean.tolist() == [0, 0, 0]
    method.observe(image(*VALUES))
    assert network.norm.running_mean[0].item() == pytest.approx(0.3)


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_large_maps_of_any_height_have_moments(rows: int) -> None:
    network = Tiny()
    flat = torch.full((1, 3, rows, 8192), 5, dtype=torch.uint8)
    online(network, "bn").observe(flat)
    assert network.norm.running_mean[0].item() == pytest.approx(0.5)


def test_a_single_value_has_no_variance_and_changes_no_moment() -> None:
    network = Tiny()
    assert first_logit(online(network, "bn"), image(5)) == [5]
    assert network.norm.running_var.tolist() == [1, 1, 1]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def entropy(x: float) -> float:
    p = sigmoid(x)
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def entropy_slope(x: float) -> float:
    """dH/dx of the logits (x, 0): -x p (1 - p)."""
    return -x * sigmoid(x) * (1 - sigmoid(x))


PLAIN = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.1, "statistics": "given"}


def test_tent_lowers_the_entropy_by_scale_and_shift() -> None:
    network = Tiny()
    method = online(network, "tent", **PLAIN)
    assert first_logit(method, image(1, 2)) == [1, 2], "the prediction is from before the step"
    scale = 1 - 0.1 * (1 * entropy_slope(1) + 2 * entropy_slope(2)) / 2
    shift = 0 - 0.1 * (entropy_slope(1) + entropy_slope(2)) / 2
    assert network.norm.weight[0].item() == pytest.approx(scale)
    assert network.norm.bias[0].item() == pytest.approx(shift)
    assert network.norm.weight[1:].tolist() == [1, 1]
    assert network.heads["agnostic"].main.weight[0, 0].item() == 1, "only norms move"
    found = first_logit(method, image(1, 2))
    assert found == pytest.approx([scale + shift, 2 * scale + shift])


def test_tent_with_hard_labels_is_the_published_baseline() -> None:
    network = Tiny()
    online(network, "tent", loss="hard_label", **PLAIN).observe(image(1, 2))
    slopes = [sigmoid(1) - 1, sigmoid(2) - 1]
    assert network.norm.weight[0].item() == pytest.approx(1 - 0.1 * (slopes[0] + 2 * slopes[1]) / 2)


def test_tent_normalises_with_each_images_moments_as_in_the_paper() -> None:
    method = online(Tiny(), "tent", learning_rate=1e-9)
    found = first_logit(method, image(*VALUES))
    assert found == pytest.approx(normalised(3, 5), abs=1e-4), "the biased variance"
    assert method.statistics == "image"


def test_the_first_step_of_adam_is_the_learning_rate() -> None:
    network = Tiny()
    online(network, "tent", learning_rate=0.25, statistics="given").observe(image(1, 2))
    assert network.norm.weight[0].item() == pytest.approx(1.25)
    assert network.norm.weight[1].item() == 1


def test_sar_steps_by_the_gradient_from_uphill_of_reliable_pixels() -> None:
    assert entropy(1) > 0.4 * math.log(2) > entropy(3), "the first pixel is not reliable"
    network = Tiny()
    options = PLAIN | {"resting": 0.0, "radius": 0.05, "reset_entropy": 0.0}
    method = online(network, "sar", **options)
    assert first_logit(method, image(1, 3)) == [1, 3]
    gradient = [3 * entropy_slope(3), entropy_slope(3)]
    length = math.hypot(*gradient)
    scale, shift = 1 + 0.05 * gradient[0] / length, 0.05 * gradient[1] / length
    assert entropy(3 * scale + shift) > entropy(3), "it is uphill"
    slope = entropy_slope(3 * scale + shift)
    assert network.norm.weight[0].item() == pytest.approx(1 - 0.1 * 3 * slope)
    assert network.norm.bias[0].item() == pytest.approx(-0.1 * slope, abs=1e-6)
    assert method.moving_mean == pytest.approx(entropy(3 * scale + shift), rel=1e-4)


def test_sar_learns_nothing_where_no_pixel_is_reliable() -> None:
    network = Tiny()
    method = online(network, "sar", **PLAIN, resting=0.0)
    assert first_logit(method, image(1, 1)) == [1, 1]
    assert network.norm.weight.tolist() == [1, 1, 1]
    assert method.moving_mean is None


def test_sar_is_reset_when_the_moving_mean_of_the_entropy_is_small() -> None:
    network = Tiny()
    method = online(network, "sar", **PLAIN, resting=0.0, reset_entropy=0.3, margin=1.0)
    method.observe(image(1, 1))
    assert method.resets == 0
    images = 1
    while not method.resets:
        method.observe(image(9, 9))
        images += 1
    # 0.9^n of the first image's entropy, 0.58 at most, and next to nothing of the others.
    assert 8 <= images <= 12
    assert network.norm.weight.tolist() == [1, 1, 1]
    assert method.moving_mean is None
    (line,) = method.remarks()
    start = f"image {images}: the network has collapsed and is reset: the mean entropy of"
    assert line.startswith(start)
    assert line.endswith("below 0.208")
    assert method.remarks() == [], "each line once"
    # An easy image comes first after the reset: the rule holds all the same.
    method.observe(image(9, 9))
    assert method.resets == 2
    (line,) = method.remarks()
    assert "has collapsed and is reset" in line


def test_a_network_that_is_sure_from_the_first_has_not_collapsed() -> None:
    network = Tiny()
    method = online(network, "sar", **PLAIN, resting=0.0, reset_entropy=0.3)
    for _ in range(3):
        method.observe(image(9, 9))
    assert method.resets == 0
    (line,) = method.remarks()
    assert "reset_entropy does not apply" in line


def test_the_last_layers_of_sar_rest() -> None:
    network = build_segmenter("small", 3)
    method = online(network, "sar")
    layers = {network.backbone.layer_of(name.partition(".")[2]) for name in method.weights}
    until = 0.75 * network.backbone.depth
    assert layers
    assert max(layers) < until
    assert not any(name.startswith(("decoder", "heads")) for name in method.weights)
    everything = online(build_segmenter("small", 3), "sar", resting=0.0)
    assert set(method.weights) < set(everything.weights)


COTTA = {**PLAIN, "scales": [1.0], "flip": False, "restore": 0.0, "teacher_momentum": 0.9}


def probabilities(method, shown) -> list[float]:
    return method.observe(shown).softmax(1)[0, 0, 0].tolist()


def test_cotta_predicts_by_its_teacher_which_follows_the_student() -> None:
    network = Tiny()
    method = online(network, "cotta", **COTTA, moves="norms")
    found = probabilities(method, image(1, 2))
    assert found == pytest.approx([sigmoid(1), sigmoid(2)])
    slopes = [sigmoid(1) - 1, sigmoid(2) - 1]
    scale = 1 - 0.1 * (slopes[0] + 2 * slopes[1]) / 2
    shift = -0.1 * (slopes[0] + slopes[1]) / 2
    assert network.norm.weight[0].item() == pytest.approx(scale)
    taught = [0.9 + 0.1 * scale, 0.1 * shift]
    assert method.teacher()["backbone.0.weight"][0].item() == pytest.approx(taught[0])
    again = probabilities(method, image(1, 2))
    assert again == pytest.approx([sigmoid(taught[0] * x + taught[1]) for x in (1, 2)])


@pytest.mark.parametrize(
    ("switch", "threshold", "averaged"),
    [
        ("pixel", 0.69, [True, False]),
        ("pixel", 0.0, [False, False]),
        ("pixel", 1.0, [True, True]),
        ("image", 0.74, [False, False]),
        ("image", 0.76, [True, True]),
    ],
)
def test_the_switch_of_cotta(switch: str, threshold: float, averaged: list[bool]) -> None:
    """Confidence is 0.5 in the left pixel and nearly 1 in the right one, 0.75 on average."""
    method = online(Tiny(), "cotta", **COTTA, switch=switch, threshold=threshold)
    expected = [0.25 if far else own for far, own in zip(averaged, (0.5, 1), strict=True)]
    views = torch.tensor([[[0.25, 0.25]], [[0.75, 0.75]]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("muhdi.online.cotta.probabilities_of", lambda *_: iter([views]))
        found = probabilities(method, image(0, 20))
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_views_of_cotta_are_those_of_the_section() -> None:
    torch.manual_seed(0)
    network = build_segmenter("small", 3).requires_grad_(False).eval()
    options = COTTA | {"scales": [1.0, 0.5], "flip": True, "learning_rate": 1e-9}
    method = online(network, "cotta", **options, threshold=1.0)
    shown = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    half = resized(shown, (24, 16)).byte()
    views = []
    for one in (shown, half):
        views += [network.segment(one), network.segment(one.flip(-1)).flip(-1)]
    each = [method.enlarged(logits, shown).softmax(1) for logits in views]
    found = method.observe(shown).exp()
    assert torch.allclose(found, torch.stack(each).mean(0), atol=1e-5)
    assert not torch.allclose(found, each[0], atol=1e-3)


def test_cotta_with_soft_labels_learns_probabilities() -> None:
    network = Tiny()
    method = online(network, "cotta", **COTTA, labels="soft", moves="norms")
    method.observe(image(1, 2))
    # The teacher is the student: the slope of the cross entropy to one's own probabilities is 0.
    assert network.norm.weight[0].item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_elements_go_back_with_the_probability(probability: float) -> None:
    network = build_segmenter("small", 3).requires_grad_(False)
    options = COTTA | {"restore": probability, "learning_rate": 1e-2, "optimizer": "adam"}
    method = online(network, "cotta", **options)
    method.observe(torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8))
    name, moved = max(
        ((n, w) for n, w in method.weights.items() if w.grad is not None and (w.grad != 0).all()),
        key=lambda pair: pair[1].numel(),
    )
    share = (moved == method.anchor[name]).float().mean().item()
    assert share == pytest.approx(probability, abs=0.03)


def test_equal_seeds_restore_equal_elements() -> None:
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        network = build_segmenter("small", 3).requires_grad_(False)
        options = COTTA | {"restore": 0.3, "learning_rate": 1e-2, "seed": seed}
        shown = torch.full((1, 3, 32, 48), 90, dtype=torch.uint8)
        online(network, "cotta", **options).observe(shown)
        found.append(torch.cat([weight.flatten() for weight in network.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_cotta_refuses_images_that_a_scale_makes_too_small() -> None:
    method = online(build_segmenter("small", 3), "cotta")
    with pytest.raises(
        RecipeError, match=r"cotta: scale 0\.5 makes images of 40x24 smaller than 16"
    ):
        method.observe(torch.zeros(1, 3, 24, 40, dtype=torch.uint8))
