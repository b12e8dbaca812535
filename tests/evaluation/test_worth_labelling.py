"""Which images are worth a label, against choices made by hand."""

from __future__ import annotations

import numpy as np

from muhdi.evaluation.worth_labelling import nearest_centre, spread_centres, worth_labelling


def vectors(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_centres_begin_at_the_mean_and_are_each_the_farthest_from_the_others() -> None:
    # The mean is 4; then 10 is 6 away, 0 is 4 away, and 7 is 3 away from both 4 and 10.
    points = vectors(0, 1, 4, 7, 10, 2)
    assert spread_centres(points, 1) == [2]
    assert spread_centres(points, 4) == [2, 4, 0, 3]


def test_each_image_is_in_the_group_of_its_nearest_centre_the_first_of_equal_ones() -> None:
    # 2 is as far from 4 as from 0.
    assert nearest_centre(vectors(0, 1, 4, 7, 10, 2), [2, 4, 0]).tolist() == [2, 2, 0, 0, 1, 0]


def test_of_each_group_the_image_of_which_the_network_is_least_sure_is_picked() -> None:
    points = vectors(0, 1, 4, 7, 10, 2)
    entropies = np.array([0.1, 0.5, 0.2, 0.9, 0.0, 0.9])
    # Groups: {0, 1}, {4, 7, 2}, {10}; of the two with 0.9 the first counts.
    assert worth_labelling(points, entropies, 3) == [1, 3, 4]


def test_equal_images_are_picked_once_each() -> None:
    assert worth_labelling(vectors(5, 5, 5), np.array([0.3, 0.3, 0.3]), 3) == [0, 1, 2]
    assert worth_labelling(vectors(5, 5, 5), np.array([0.1, 0.3, 0.2]), 1) == [1]
