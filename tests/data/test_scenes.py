"""The second edition of the drawn scenes: one street, six looks; and the first, bit for bit."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.scenes.draw import draw_scene
from muhdi.data.scenes.layout import Building, Layout, Vehicle, draw_layout
from muhdi.data.scenes.looks import LOOKS, draw_street
from muhdi.data.scenes.looks.fog import WHITE
from muhdi.data.scenes.looks.wet_night import reflection
from muhdi.data.scenes.street import SCALE, Street
from muhdi.data.scenes.styles import CLASSES, CONSTRUCTION, FLAT, STYLES, VEHICLE
from muhdi.errors import RecipeError
from muhdi.recipe.domains import ScenesConfig
from muhdi.recipe.load import load_recipe
from muhdi.taxonomy import CLASS_SETS

SIZE = (96, 48)
FIRST_EDITION = {
    "sim": "8c9691ca5a1e463b",
    "city": "58e2333f6fd0be15",
    "dust": "a9e9b5c0b45ea0b4",
    "night": "9593e8e1bddc34e9",
    "rain": "646e7af876084224",
}
"""Digests of two images and labels of each look, taken before there was a second edition."""


@pytest.mark.parametrize("look", STYLES)
def test_the_first_edition_is_what_it_was(look: str) -> None:
    digest = hashlib.sha256()
    for number in range(2):
        for pixels in draw_scene(look, (7, number), SIZE):
            digest.update(pixels.tobytes())
    assert digest.hexdigest()[:16] == FIRST_EDITION[look]


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_is_deterministic_and_shows_every_class(look: str) -> None:
    image, label = draw_scene(look, (1, 2), SIZE)
    again, same = draw_scene(look, (1, 2), SIZE)
    assert image.shape == (48, 96, 3)
    assert np.array_equal(image, again)
    assert np.array_equal(label, same)
    labels = [draw_scene(look, (0, number), SIZE)[1] for number in range(12)]
    assert set(np.unique(labels)) == set(range(len(CLASSES)))


def test_one_seed_is_one_street_in_every_look() -> None:
    day = draw_street("day", (5,), SIZE)[1]
    for look in ("autumn", "fog"):  # nothing in them has another outline
        assert np.array_equal(draw_street(look, (5,), SIZE)[1], day), look
    for look in ("snow", "wet_night", "abroad"):
        assert (draw_street(look, (5,), SIZE)[1] == day).mean() > 0.8, look
    assert (draw_street("day", (6,), SIZE)[1] == day).mean() < 0.8


def test_domains_share_no_street() -> None:
    context = DataContext(CLASS_SETS["urban7"], SIZE, ".", 0)
    labels = []
    for look in ("day", "fog"):
        config = ScenesConfig.model_validate({"dataset": "scenes", "domain": look})
        labels.append(open_split(config, "train", context).read(0, True).label)
    assert (labels[0] == labels[1]).mean() < 0.9


def painted(look: str, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Image without grain and noise, and label."""
    street: Street = LOOKS[look](layout, np.random.default_rng(0), SIZE)
    street.paint()
    half = SCALE // 2
    label = np.asarray(street.label)[half::SCALE, half::SCALE]
    distance = np.asarray(street.distance.reduce(SCALE), np.float32) / 255
    image = np.asarray(street.colour.reduce(SCALE), np.float32)
    return street.seen(image, label, distance), label


def empty(**changes: object) -> Layout:
    """A street without anything on it, whose horizon is at row 20 of 48."""
    values = {"horizon": 20 / 48, "vanish": 0.5, "road": 3.0, "kerb": 4.0, "dashes": 1.0}
    values |= {"edge_lines": False, "crossing": None, "hills": (0.0, 0.0)}
    return Layout(**(values | changes))


def test_oncoming_traffic_is_on_the_left_at_home_and_on_the_right_abroad() -> None:
    layout = empty(things=[Vehicle(1.5, 4.0, "van", oncoming=True, tone=0.5)])
    for look, side in (("day", -1), ("snow", -1), ("abroad", 1)):
        columns = np.nonzero(painted(look, layout)[1] == VEHICLE)[1]
        assert np.sign(columns.mean() - 47.5) == side, look


def test_a_road_under_snow_is_white_and_still_a_road() -> None:
    day, label = painted("day", empty())
    snow, same = painted("snow", empty())
    road = (label == FLAT) & (same == FLAT)
    assert road.sum() > 1000
    assert np.median(day[road]) < 110
    assert np.median(snow[road]) > 180


def test_what_fog_hides_keeps_its_label() -> None:
    far = Building(side=1, near=38.0, far=40.0, x=5.0, back=30.0, storeys=5, tone=0.9)
    image, label = painted("fog", empty(buildings=[far]))
    hidden = label == CONSTRUCTION
    assert hidden.sum() > 10
    assert np.abs(image[hidden] - WHITE).max() < 3


def test_a_wet_road_shows_what_is_above_it() -> None:
    image = np.zeros((50, 4, 3), np.float32)
    image[14] = 200  # 10 rows above the mirror line, which is 4 rows below the horizon
    shown = reflection(image, 20.0)
    assert shown[24:].mean(axis=(1, 2)).argmax() == 10
    assert draw_layout(np.random.default_rng(3)) == draw_layout(np.random.default_rng(3))


def test_an_unknown_look_is_one_line_with_the_known_ones() -> None:
    known = ", ".join([*LOOKS, *STYLES])
    with pytest.raises(RecipeError) as error:
        load_recipe("scenes2", ["source.domain=winter"])
    expected = f"scenes2.yml: source.domain: unknown value 'winter' (known: {known})"
    assert str(error.value) == expected
