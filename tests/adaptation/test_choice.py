"""Which statistics a teacher takes, judged without labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from muhdi.adaptation import choice
from muhdi.adaptation.choice import Judgement, best_statistics, judge
from muhdi.models.segmenter import build_segmenter
from muhdi.training.stage_batches import NoBatches
from tests.testers import FewBatches, batches


class Fixed:
    """A teacher that gives the same probabilities to the left and the right half of any image."""

    def __init__(self, left: list[float], right: list[float]) -> None:
        self.halves = torch.tensor([left, right])

    def probabilities(self, images: Tensor, head: str | None) -> Tensor:
        columns = self.halves.repeat_interleave(images.shape[-1] // 2, 0)
        return columns.T[None, :, None].expand(len(images), -1, images.shape[-2], -1)


def test_certain_labels_of_two_classes() -> None:
    found = judge(Fixed([1.0, 0.0], [0.0, 1.0]), [torch.zeros(2, 3, 4, 4)])
    assert (found.entropy, found.diversity) == pytest.approx((0, 1), abs=1e-6)
    assert found.information == pytest.approx(1)


def test_one_class_everywhere_tells_nothing() -> None:
    found = judge(Fixed([1.0, 0.0], [1.0, 0.0]), [torch.zeros(1, 3, 4, 4)])
    assert found.information == pytest.approx(0, abs=1e-6)


def test_even_probabilities_tell_nothing() -> None:
    found = judge(Fixed([0.5, 0.5], [0.5, 0.5]), [torch.zeros(1, 3, 4, 4)])
    assert (found.entropy, found.diversity) == pytest.approx((1, 1))


@pytest.mark.parametrize(("batch", "chosen"), [(0.52, "blend"), (0.54, "batch"), (0.40, "blend")])
def test_blend_stays_unless_another_is_clearly_better(
    monkeypatch: pytest.MonkeyPatch, batch: float, chosen: str
) -> None:
    values = iter([0.5, batch, 0.45])
    monkeypatch.setattr(choice, "judge", lambda teacher, groups, head: Judgement(0.0, next(values)))
    source, target = batches(labelled_target=False)
    network = build_segmenter("small", 3)
    found = best_statistics(network, ("agnostic",), FewBatches(source, target))
    assert found is not None
    assert found[0] == chosen
    assert found[1].startswith(f"teacher_statistics: auto chose {chosen} (mutual information")


def test_without_images_there_is_no_choice() -> None:
    assert best_statistics(build_segmenter("small", 3), ("agnostic",), NoBatches()) is None
