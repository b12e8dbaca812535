"""How the domains of the built-in scenes look: a clean simulator and four targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from muhdi.taxonomy import CLASS_SETS, Colour

CLASSES = CLASS_SETS["urban7"].classes
FLAT, CONSTRUCTION, OBJECT, NATURE, SKY, HUMAN, VEHICLE = range(7)

Range = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """The look of a domain.

    Ranges are drawn from uniformly, colours are chosen from, counts are Poisson means.
    """

    # layout, in camera heights
    horizon: Range = (0.36, 0.46)
    road: Range = (2.4, 3.6)
    pavement: Range = (0.8, 1.8)
    storeys: Range = (2, 5)
    built: float = 0.75  # chance of a building at each plot along the street
    # class frequencies
    cars: float = 4.0
    people: float = 1.5
    poles: float = 3.0
    trees: float = 2.5
    # colours
    roads: tuple[Colour, ...] = ((88, 88, 92), (80, 82, 84), (96, 92, 96))
    pavements: tuple[Colour, ...] = ((150, 148, 145), (165, 160, 152))
    walls: tuple[Colour, ...] = (
        (176, 88, 70),
        (198, 160, 108),
        (150, 152, 160),
        (205, 200, 190),
        (120, 130, 150),
    )
    skies: tuple[tuple[Colour, Colour], ...] = (
        ((90, 150, 220), (180, 210, 240)),
        ((70, 130, 210), (170, 205, 240)),
    )
    greens: tuple[Colour, ...] = ((60, 140, 50), (80, 160, 60), (50, 120, 50))
    grounds: tuple[Colour, ...] = ((90, 160, 70), (100, 165, 80))
    cars_colours: tuple[Colour, ...] = (
        (200, 40, 40),
        (40, 70, 180),
        (235, 235, 235),
        (40, 40, 44),
        (170, 170, 175),
    )
    clothes: tuple[Colour, ...] = ((200, 50, 50), (50, 80, 170), (210, 160, 50), (70, 130, 80))
    window: Colour = (70, 85, 105)
    lit: float = 0.0  # share of windows with light
    marking: Range = (0.8, 1.0)  # how fresh the lane markings are
    # light and sensor
    texture: float = 5.0
    saturation: float = 1.0
    gain: Range = (0.95, 1.05)
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    haze: Range = (0.0, 0.1)
    haze_colour: Colour = (200, 210, 220)
    # Share of haze before even the nearest thing: it lowers the contrast of the whole image.
    veil: float = 0.0
    shadows: float = 0.0
    blur: Range = (0.0, 0.0)
    noise: Range = (0.0, 2.0)
    night: bool = False
    streaks: float = 0.0


SIM = Style()
STYLES: dict[str, Style] = {
    "sim": SIM,
    "city": replace(
        SIM,
        horizon=(0.34, 0.46),
        road=(2.0, 3.0),
        storeys=(3, 7),
        built=0.9,
        cars=5.0,
        people=4.0,
        poles=5.0,
        trees=2.0,
        roads=((70, 72, 76), (62, 66, 70), (78, 74, 78)),
        pavements=((110, 106, 106), (122, 114, 110)),
        walls=((120, 104, 98), (132, 124, 112), (104, 106, 112), (140, 132, 122), (110, 96, 88)),
        skies=(((196, 200, 206), (222, 222, 224)), ((170, 178, 188), (208, 210, 214))),
        greens=((62, 82, 50), (74, 92, 58), (52, 74, 48)),
        grounds=((86, 94, 66), (98, 98, 72)),
        cars_colours=((60, 62, 68), (150, 152, 156), (110, 40, 40), (48, 60, 88), (28, 28, 32)),
        clothes=((60, 60, 72), (96, 70, 60), (44, 50, 70), (110, 100, 92)),
        window=(58, 62, 68),
        marking=(0.3, 0.8),
        texture=9.0,
        saturation=0.75,
        gain=(0.64, 0.78),
        tint=(0.95, 1.0, 1.04),
        # Overcast and misty. A mean far from the source's with little contrast around it is what
        # makes stored statistics sensitive: the weights' drift in later steps moves the mean of the
        # first features by many deviations. The same in dust, at the bright end.
        haze=(0.1, 0.3),
        haze_colour=(84, 90, 100),
        veil=0.42,
        shadows=0.3,
        blur=(0.4, 0.8),
        noise=(2.0, 3.5),
    ),
    "dust": replace(
        SIM,
        horizon=(0.38, 0.52),
        road=(2.4, 4.6),
        pavement=(0.0, 0.5),
        storeys=(1, 3),
        built=0.35,
        cars=3.0,
        people=3.0,
        poles=2.5,
        trees=5.0,
        roads=((176, 144, 104), (160, 130, 98), (188, 156, 118)),
        pavements=((180, 150, 116), (170, 144, 116)),
        walls=((222, 150, 140), (132, 172, 168), (226, 206, 170), (190, 130, 96), (160, 176, 196)),
        skies=(((222, 212, 180), (236, 226, 200)), ((214, 200, 186), (234, 220, 204))),
        greens=((104, 112, 62), (120, 124, 74), (92, 100, 56)),
        grounds=((140, 134, 84), (150, 130, 90)),
        cars_colours=(
            (214, 130, 40),
            (60, 130, 80),
            (230, 226, 210),
            (96, 110, 160),
            (150, 60, 50),
        ),
        clothes=((220, 140, 40), (230, 226, 216), (170, 50, 90), (50, 110, 110)),
        window=(96, 76, 62),
        marking=(0.0, 0.4),
        texture=8.0,
        saturation=0.85,
        gain=(0.97, 1.06),
        tint=(1.08, 1.0, 0.86),
        haze=(0.15, 0.4),
        haze_colour=(230, 210, 172),
        veil=0.45,
        shadows=0.1,
        blur=(0.2, 0.6),
        noise=(2.0, 3.5),
    ),
    "night": replace(
        SIM,
        horizon=(0.34, 0.46),
        storeys=(3, 7),
        built=0.85,
        cars=4.5,
        people=2.5,
        poles=4.5,
        trees=2.5,
        walls=((120, 96, 84), (132, 116, 96), (100, 102, 116), (140, 130, 118)),
        skies=(((22, 26, 60), (52, 54, 92)), ((18, 20, 46), (64, 56, 84))),
        greens=((50, 80, 46), (56, 84, 50)),
        grounds=((60, 84, 52), (70, 84, 58)),
        window=(40, 44, 54),
        lit=0.3,
        marking=(0.5, 0.9),
        texture=12.0,
        saturation=0.7,
        gain=(0.26, 0.4),
        tint=(0.95, 0.95, 1.15),
        haze=(0.0, 0.15),
        haze_colour=(28, 28, 44),
        blur=(0.5, 0.9),
        noise=(6.0, 10.0),
        night=True,
    ),
    "rain": replace(
        SIM,
        road=(2.2, 3.6),
        storeys=(2, 6),
        built=0.7,
        people=1.5,
        poles=4.0,
        roads=((84, 90, 104), (92, 98, 112)),
        pavements=((108, 112, 124), (116, 120, 130)),
        skies=(((112, 122, 142), (140, 148, 164)), ((126, 132, 148), (150, 156, 168))),
        greens=((58, 84, 72), (66, 92, 78)),
        grounds=((74, 96, 84), (84, 100, 88)),
        window=(62, 70, 84),
        lit=0.1,
        marking=(0.3, 0.7),
        texture=10.0,
        saturation=0.55,
        gain=(0.68, 0.88),
        tint=(0.9, 0.98, 1.12),
        haze=(0.45, 0.75),
        haze_colour=(122, 134, 156),
        blur=(0.8, 1.4),
        noise=(4.0, 8.0),
        streaks=18.0,
    ),
}
"""The domains' looks by name."""
