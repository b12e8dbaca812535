"""Scores that need no labels, against numbers by hand on images of 2x2 pixels."""

from __future__ import annotations

import math

import pytest
import torch

from muhdi.evaluation.label_free import Observer
from muhdi.models.inference import Inference
from muhdi.models.segmenter import build_segmenter

NAMES = ("road", "sky")


def logits(*first: float) -> torch.Tensor:
    """Of one image of 2x2 pixels and two classes, from the first class's probabilities."""
    share = torch.tensor(first).view(1, 1, 2, 2)
    return torch.cat([share, 1 - share], 1).log()


def bits(share: float) -> float:
    """Entropy of two classes in percent of log 2."""
    return -100 * (share * math.log2(share) + (1 - share) * math.log2(1 - share))


def test_scores_are_those_by_hand() -> None:
    observer = Observer(2, mirror=True)
    observer.add(logits(1, 1, 0, 0), mirrored=logits(1, 0, 0, 0))
    sure = observer.scores(NAMES, 1)
    assert sure == {
        "images": 1,
        "entropy": 0.0,
        "mutual_information": 100.0,
        "mirror_agreement": 75.0,
        "previous_agreement": None,
        "shares": {"road": 50.0, "sky": 50.0},
    }


def test_entropy_is_a_mean_and_mutual_information_is_of_all_pixels() -> None:
    observer = Observer(2)
    observer.add(logits(0.5, 0.5, 0.5, 0.5))
    undecided = observer.scores(NAMES, 1)
    assert undecided["entropy"] == pytest.approx(100)
    assert undecided["mutual_information"] == pytest.approx(0, abs=1e-3)
    # A second image, sure of another class: the mean prediction is 0.75 and 0.25.
    observer.add(logits(1, 1, 1, 1))
    both = observer.scores(NAMES, 2)
    assert both["entropy"] == pytest.approx(50)
    assert both["mutual_information"] == pytest.approx(bits(0.75) - 50, abs=1e-3)


def test_a_collapsed_network_is_sure_and_tells_nothing() -> None:
    observer = Observer(2)
    observer.add(logits(1, 1, 1, 1))
    found = observer.scores(NAMES, 1)
    assert (found["entropy"], found["mutual_information"]) == (0, 0)
    assert found["shares"] == {"road": 100.0, "sky": 0.0}


def test_watching_changes_nothing_and_compares_mirror_and_earlier_network() -> None:
    torch.manual_seed(0)
    network, other = build_segmenter("small", 2), build_segmenter("small", 2)
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    plain, watched = Inference(network), Inference(network)
    observer = Observer(2, mirror=True, previous=Inference(other))
    with torch.no_grad():
        with observer.watching(watched):
            given = watched(images)
        watched(images)  # is observed no longer
        assert torch.equal(given, plain(images))
        mirrored = plain(images.flip(-1)).flip(-1)
        earlier = Inference(other)(images)
    found = observer.scores(NAMES, 2)
    for name, answers in (("mirror", mirrored), ("previous", earlier)):
        same = (answers.argmax(1) == given.argmax(1)).double().mean()
        assert found[f"{name}_agreement"] == pytest.approx(100 * float(same), abs=1e-3)
    assert observer.positions == given[:, 0].numel(), "comparing is not counted as a pass"
    own = Observer(2, previous=Inference(network))
    own.add(given, previous=plain(images).detach())
    assert own.scores(NAMES, 2)["previous_agreement"] == 100
