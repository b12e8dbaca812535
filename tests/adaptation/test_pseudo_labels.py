"""Pseudo-labels, and what they count, against numbers by hand."""

from __future__ import annotations

import pytest
import torch

from muhdi.adaptation.pseudo_labels import PseudoLabels, class_medians
from muhdi.errors import RecipeError
from muhdi.method import MethodContext
from muhdi.models.image_norms import BlendNorm
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.models.statistics import batch_norms
from muhdi.passes import Batch
from muhdi.recipe.pseudo_labels import MarginConfig, PseudoLabelConfig
from muhdi.recipe.schema import Recipe
from muhdi.training.stage_batches import NoBatches
from muhdi.windows import inside


def context() -> MethodContext:
    return MethodContext(3, ("aux", "main"), "agnostic", torch.Generator().manual_seed(0))


def student() -> Segmenter:
    torch.manual_seed(0)
    return build_segmenter("small", 3).train()


def images(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, 3, 32, 48), dtype=torch.uint8, generator=generator)


def labels_of(**options: object) -> PseudoLabels:
    options.setdefault("teacher_statistics", "batch")
    labels = PseudoLabels(PseudoLabelConfig.model_validate(options), context())
    labels.begin(student(), NoBatches())
    return labels


def test_medians_of_classes() -> None:
    confidence = torch.tensor([0.9, 0.5, 0.7, 0.6, 0.8, 0.3])
    predicted = torch.tensor([0, 0, 0, 2, 2, 2])
    found = class_medians(confidence, predicted, 4)
    torch.testing.assert_close(found, torch.tensor([0.7, 1.0, 0.6, 1.0]))
    # The lower one of two in the middle, as torch.median's.
    found = class_medians(confidence[:2], predicted[:2], 1)
    torch.testing.assert_close(found, torch.tensor([0.5]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_medians_are_those_of_torch_to_the_bit(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(4)
    confidence = torch.rand(1000, generator=generator, dtype=dtype)
    predicted = torch.randint(0, 7, (1000,), generator=generator)
    found = class_medians(confidence, predicted, 7)
    for label in range(7):
        assert found[label] == confidence[predicted == label].median()


def test_a_threshold_per_pixel_and_the_share_of_confident_pixels() -> None:
    target = Batch(images())
    masked = labels_of(threshold=0.5)(target)
    probabilities = labels_of().teacher.probabilities(target.images)
    confidence, pseudo = probabilities.max(1)
    assert torch.equal(masked.labels, pseudo)
    assert torch.equal(masked.confidence, (confidence >= 0.5).float())
    share = labels_of(threshold=0.5, confident="share")(target)
    expected = (confidence >= 0.5).float().mean()
    assert 0 < float(expected) < 1
    torch.testing.assert_close(share.confidence, expected.expand(2, 32, 48))


def test_a_threshold_per_class() -> None:
    target = Batch(images())
    found = labels_of(threshold=0.99, threshold_per="class")(target)
    counted = found.confidence.bool()
    # With so high a threshold it is each class's median: about half of every class counts.
    for label in found.labels.unique():
        share = counted[found.labels == label].float().mean()
        assert 0.5 <= share < 0.51


def test_the_mean_over_the_mirror_image() -> None:
    labels = labels_of(mirror=True)
    own = labels.teacher.probabilities(images())
    mirrored = labels.teacher.probabilities(images().flip(-1)).flip(-1)
    assert torch.equal(labels(Batch(images())).labels, ((own + mirrored) / 2).argmax(1))


def test_the_mean_over_all_pixels() -> None:
    assert labels_of()(Batch(images())).pixels is None
    assert int(labels_of(mean_over="all")(Batch(images())).pixels) == 2 * 32 * 48


def test_margins_are_of_the_whole_image() -> None:
    margins = MarginConfig(top=0.25, right=0.5)
    whole = inside(Batch(torch.zeros(1, 3, 4, 4)), margins)
    expected = torch.zeros(4, 4)
    expected[1:, :2] = 1
    assert torch.equal(whole[0], expected)
    # The right half of the image lies in the margin; mirrored, the left half.
    windows = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0], [1.0, 0.0, 0.0, 1.0]])
    cut = inside(Batch(torch.zeros(3, 3, 4, 4), windows=windows), margins)
    assert not cut[0].any()
    assert cut[1].all()
    assert torch.equal(cut[2], expected.flip(-1))
    counted = labels_of(threshold=0.0, margins={"top": 0.25})(Batch(images()))
    assert counted.confidence.mean() == 0.75


def test_padding_has_no_pseudo_labels() -> None:
    # The lower half of the array is padding.
    padded = Batch(images(), windows=torch.tensor([[0.0, 0.0, 1.0, 2.0]] * len(images())))
    counts = labels_of(threshold=0.0)(padded).confidence
    height = counts.shape[1]
    assert bool((counts[:, : height // 2] == 1).all())
    assert not counts[:, height // 2 :].any()


def test_margins_that_leave_nothing_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"adaptation.margins: left and right leave nothing"):
        Recipe.load(
            "scenes_selftrain",
            ["every_step.adaptation={method: selftrain, margins: {left: 0.5, right: 0.5}}"],
        )


@pytest.mark.parametrize(
    ("ramp", "expected"),
    [("none", [0.9, 0.9, 0.9]), ("before", [0.5, 2 / 3, 0.75]), ("after", [0.0, 0.5, 2 / 3])],
)
def test_the_momentum(ramp: str, expected: list[float]) -> None:
    labels = labels_of(momentum=0.9, momentum_ramp=ramp)
    network = student()
    first = next(labels.teacher.parameters())
    start = first.clone()
    values = []
    for number in range(3):
        with torch.no_grad():
            for weight in network.parameters():
                weight += 1.0
        before = first.clone()
        labels.follow(network)
        moved = (first - before).mean() / (start + number + 1 - before).mean()
        values.append(1 - float(moved))
    assert values == pytest.approx(expected, abs=1e-4)


def test_a_teacher_follows_the_running_statistics_of_its_student() -> None:
    for kind in ("running", "blend"):
        labels = PseudoLabels(PseudoLabelConfig(teacher_statistics=kind), context())
        network = student()
        labels.begin(network, NoBatches())
        before = labels.teacher.probabilities(images())
        network(images())  # moves its running statistics
        after = labels.teacher.probabilities(images())
        assert not torch.equal(before, after)
        norm = batch_norms(network)["backbone.bn1"]
        own = labels.teacher.model.backbone.bn1
        assert isinstance(own, BlendNorm) is (kind == "blend")
        assert own.running_mean is norm.running_mean


def test_a_saved_choice_is_taken_up_again() -> None:
    labels = labels_of(teacher_statistics="auto")
    assert labels.statistics == "blend"  # there was nothing to judge on
    state = labels_of(teacher_statistics="batch").state_dict()
    state["_extra_state"]["updates"] = 7
    labels.load_state_dict(state)
    assert (labels.statistics, labels.updates) == ("batch", 7)
    assert labels.teacher.model.backbone.bn1.training
