"""Where the public data sets are to be had, and on which terms."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where a data set is to be had.

    Attributes:
        title: what its publishers call it.
        shows: what its images show.
        images: how many have labels, of training and evaluation.
        page: where it is to be had.
        terms: on which terms, in short; the page has them in full.
        classes: the class set that suits it.
        split: how it is divided where its publishers do not say, or how else than by folders.
    """

    title: str
    shows: str
    images: str
    page: str
    terms: str
    classes: str = "urban19"
    split: str = ""


_CITYSCAPES = "https://www.cityscapes-dataset.com/downloads/"
_NON_COMMERCIAL = "non-commercial, registration"
_EVERY_50TH = "`train` is every image, `val` every 50th of them, so both share images"
_EVERY_5TH = "`val` is every 5th image, `train` all others"

SOURCES: dict[str, Source] = {
    "gta5": Source(
        "GTA5 (Playing for Data)",
        "frames of a game",
        "24,966",
        "https://download.visinf.tu-darmstadt.de/data/from_games/",
        "research and education",
        split=_EVERY_50TH,
    ),
    "synthia": Source(
        "SYNTHIA-RAND-CITYSCAPES",
        "frames of a simulator",
        "9,400",
        "https://synthia-dataset.net/",
        "CC BY-NC-SA 3.0",
        "urban16",
        split=_EVERY_50TH,
    ),
    "cityscapes": Source(
        "Cityscapes",
        "German cities",
        "2,975 + 500",
        _CITYSCAPES,
        _NON_COMMERCIAL,
    ),
    "foggy_cityscapes": Source(
        "Foggy Cityscapes (leftImg8bit_trainvaltest_foggy.zip)",
        "Cityscapes in computed fog",
        "2,975 + 500 of each density",
        _CITYSCAPES,
        _NON_COMMERCIAL,
    ),
    "rainy_cityscapes": Source(
        "Rainy Cityscapes (leftImg8bit_trainval_rain.zip)",
        "Cityscapes in computed rain",
        "9,432 + 1,188, of 262 + 33 places",
        _CITYSCAPES,
        _NON_COMMERCIAL,
    ),
    "idd": Source(
        "IDD Segmentation",
        "Indian roads",
        "about 7,000 + 1,000",
        "https://idd.insaan.iiit.ac.in/",
        "research, registration",
    ),
    "mapillary": Source(
        "Mapillary Vistas, v1.2 or v2.0",
        "streets of the world",
        "18,000 + 2,000",
        "https://www.mapillary.com/dataset/vistas",
        "CC BY-NC-SA 4.0 for the research edition",
    ),
    "acdc": Source(
        "ACDC",
        "Swiss roads in fog, night, rain and snow",
        "1,600 + 406",
        "https://acdc.vision.ee.ethz.ch/",
        _NON_COMMERCIAL,
    ),
    "dark_zurich": Source(
        "Dark Zurich",
        "Zurich by day, at dusk and by night",
        "50 of the night; 8,377 without labels",
        "https://www.trace.ethz.ch/publications/2019/GCMA_UIoU/",
        "non-commercial",
        split="whatever the `condition` of the training images, `val` is of the night",
    ),
    "bdd100k": Source(
        "BDD100K, 10K images with semantic segmentation",
        "roads of the United States",
        "7,000 + 1,000",
        "http://bdd-data.berkeley.edu/",
        "education, research and not-for-profit, registration",
    ),
    "wilddash2": Source(
        "WildDash 2 (wd_public_02)",
        "difficult scenes of many countries",
        "4,256",
        "https://wilddash.cc/",
        _NON_COMMERCIAL,
        split=_EVERY_5TH,
    ),
    "kitti": Source(
        "KITTI, semantic segmentation (data_semantics.zip)",
        "Karlsruhe",
        "200",
        "https://www.cvlibs.net/datasets/kitti/eval_semseg.php?benchmark=semantics2015",
        "CC BY-NC-SA 3.0",
        split=_EVERY_5TH,
    ),
    "nuimages": Source(
        "nuImages",
        "Boston and Singapore, six cameras",
        "67,279 + 16,445",
        "https://www.nuscenes.org/nuimages",
        "CC BY-NC-SA 4.0, registration",
    ),
    "a2d2": Source(
        "A2D2, semantic segmentation (camera_lidar_semantic)",
        "South German roads, six cameras",
        "41,277",
        "https://www.a2d2.audi/",
        "CC BY-ND 4.0",
        split="`val` is every 5th of the drives, `train` all others",
    ),
    "comma10k": Source(
        "comma10k",
        "frames behind windscreens",
        "about 10,000",
        "https://github.com/commaai/comma10k",
        "MIT",
        "comma5",
        split="`val` is the images whose names end in 9, `train` all others",
    ),
    "railsem19": Source(
        "RailSem19 (rs19_val)",
        "railways and trams seen from the driver's cab",
        "8,500",
        "https://wilddash.cc/railsem19",
        _NON_COMMERCIAL,
        "rail19",
        split="`val` is every 10th image, `train` all others",
    ),
    "loveda": Source(
        "LoveDA",
        "Chinese towns and country from above",
        "2,522 + 1,669",
        "https://github.com/Junjue-Wang/LoveDA",
        "CC BY-NC-SA 4.0",
        "loveda7",
    ),
    "potsdam": Source(
        "ISPRS 2D Semantic Labeling, Potsdam",
        "a town from above, 5 cm per pixel",
        "24 + 14 tiles of 6000x6000",
        "https://www.isprs.org/education/benchmarks/UrbanSemLab/",
        "research",
        "isprs6",
        split="`val` is the 14 tiles of the benchmark's test, `train` the other 24",
    ),
    "vaihingen": Source(
        "ISPRS 2D Semantic Labeling, Vaihingen",
        "a village from above, 9 cm per pixel; infrared, red, green",
        "16 + 17 tiles of about 2500x2000",
        "https://www.isprs.org/education/benchmarks/UrbanSemLab/",
        "research",
        "isprs6",
        split="`val` is the 17 tiles of the benchmark's test, `train` the other 16",
    ),
}
"""By the data set's name in recipes."""


def whence(dataset: str) -> str:
    """What a message says of a data set that is missing: where it is to be had, and the terms."""
    source = SOURCES[dataset]
    return f"{source.title} is to be had at {source.page} ({source.terms})"


def own_classes(dataset: str) -> str:
    """The class set that suits a data set."""
    return SOURCES[dataset].classes
