"""What stands in a street, and where: the part of a scene that all looks share.

A layout has no colours. Points and lengths are those of `muhdi.data.scenes.canvas.Canvas`, in
camera heights. Its numbers are drawn in a fixed order, so that one seed is one street, whatever it
looks like.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Kind = Literal["car", "van", "truck"]
Post = Literal["lamp", "light", "sign"]

KINDS: tuple[Kind, ...] = ("car", "car", "car", "car", "van", "van", "truck")
POSTS: tuple[Post, ...] = ("lamp", "lamp", "light", "sign", "sign")

# Poisson means of a street
VEHICLES = 4.5
PEOPLE = 3.5
STREET_POSTS = 4.5
TREES = 3.5


@dataclass(frozen=True)
class Building:
    """A block along the street.

    Attributes:
        side: -1 is left, 1 right.
        near: where it begins.
        far: where it ends.
        x: of its wall along the street.
        back: x of its back.
        storeys: how many.
        tone: 0..1, from which a look takes what it wants, such as the kind of roof.
    """

    side: int
    near: float
    far: float
    x: float
    back: float
    storeys: int
    tone: float


@dataclass(frozen=True)
class Tree:
    """A tree, or a bush. ``leaves`` are discs, (x, y, radius) in units of ``size``."""

    x: float
    z: float
    size: float
    bush: bool
    leaves: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Pole:
    """A street lamp, a traffic light or a sign."""

    x: float
    z: float
    kind: Post
    tone: float


@dataclass(frozen=True)
class Person:
    """Somebody on foot."""

    x: float
    z: float
    tall: float
    tone: float


@dataclass(frozen=True)
class Vehicle:
    """A vehicle; ``lane`` is its distance from the street's middle, on the side where it drives."""

    lane: float
    z: float
    kind: Kind
    oncoming: bool
    tone: float


Thing = Tree | Pole | Person | Vehicle


@dataclass(frozen=True)
class Layout:
    """A street.

    Attributes:
        horizon: where the ground ends, 0..1 of the image's height from above.
        vanish: where the street ends, 0..1 of the image's width from the left.
        road: half the road's width.
        kerb: half the width of road and pavements.
        dashes: distance of the first dash of the middle line.
        edge_lines: whether the road has lines along its edges.
        crossing: distance of a zebra crossing; None: there is none.
        hills: heights of the far hills, as parts of the image's height.
        buildings: in no order.
        things: all others, in no order.
    """

    horizon: float
    vanish: float
    road: float
    kerb: float
    dashes: float
    edge_lines: bool
    crossing: float | None
    hills: tuple[float, ...]
    buildings: list[Building] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)


def draw_layout(rng: np.random.Generator) -> Layout:
    """A street at random."""
    road = rng.uniform(2.4, 3.4)
    crossing = rng.uniform(2.5, 7.0)
    layout = Layout(
        horizon=rng.uniform(0.36, 0.45),
        vanish=rng.uniform(0.38, 0.62),
        road=road,
        kerb=road + rng.uniform(0.9, 1.8),
        dashes=rng.uniform(0.6, 2.6),
        edge_lines=rng.random() < 0.6,
        crossing=crossing if rng.random() < 0.25 else None,
        hills=tuple(rng.uniform(0.0, 0.07, 7).tolist()),
    )
    for side in (-1, 1):
        layout.buildings.extend(_block(rng, layout.kerb, side))
    layout.things.extend(_trees(rng, road))
    layout.things.extend(_poles(rng, road))
    layout.things.extend(_people(rng, road))
    layout.things.extend(_vehicles(rng, road))
    return layout


def _block(rng: np.random.Generator, kerb: float, side: int) -> list[Building]:
    """The buildings of one side."""
    buildings = []
    near = rng.uniform(1.2, 3.0)
    while near < 30:
        far = near + rng.uniform(2.5, 6.0) * (1 + near / 12)
        x = side * (kerb + rng.uniform(0.0, 0.8))
        back = x + side * rng.uniform(4.0, 9.0)
        storeys = int(rng.integers(1, 6))
        tone = rng.random()
        if rng.random() < 0.75:
            buildings.append(Building(side, near, far, x, back, storeys, tone))
        near = far + rng.uniform(0.3, 2.5)
    return buildings


def _next_to_road(rng: np.random.Generator, road: float, out: tuple[float, float]) -> float:
    return float(rng.choice((-1, 1)) * (road + rng.uniform(*out)))


def _trees(rng: np.random.Generator, road: float) -> list[Tree]:
    trees = []
    for _ in range(rng.poisson(TREES)):
        x = _next_to_road(rng, road, (0.7, 5.0))
        z = rng.uniform(2.2, 13.0)
        bush = rng.random() < 0.3
        size = rng.uniform(0.4, 0.8) if bush else rng.uniform(1.1, 2.0)
        discs = np.stack(
            [rng.normal(0, 0.45, 8), rng.normal(0, 0.32, 8), rng.uniform(0.4, 0.7, 8)], 1
        )
        leaves = tuple((dx, dy, radius) for dx, dy, radius in discs.tolist())
        trees.append(Tree(x, z, size, bush, leaves))
    return trees


def _poles(rng: np.random.Generator, road: float) -> list[Pole]:
    poles = []
    for _ in range(rng.poisson(STREET_POSTS)):
        x = _next_to_road(rng, road, (0.15, 0.8))
        z = rng.uniform(2.0, 12.0)
        kind = POSTS[rng.integers(len(POSTS))]
        poles.append(Pole(x, z, kind, rng.random()))
    return poles


def _people(rng: np.random.Generator, road: float) -> list[Person]:
    people = []
    for _ in range(rng.poisson(PEOPLE)):
        x = _next_to_road(rng, road, (-0.3, 1.4))
        people.append(Person(x, rng.uniform(2.2, 8.0), rng.uniform(0.95, 1.2), rng.random()))
    return people


def _vehicles(rng: np.random.Generator, road: float) -> list[Vehicle]:
    vehicles = []
    for _ in range(rng.poisson(VEHICLES)):
        z = float(np.exp(rng.uniform(np.log(2.4), np.log(16))))
        lane = road * rng.uniform(0.35, 0.8)
        kind = KINDS[rng.integers(len(KINDS))]
        vehicles.append(Vehicle(lane, z, kind, bool(rng.random() < 0.5), rng.random()))
    return vehicles
