"""Predictions as the servers of benchmarks want them: which ids, and what files are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from muhdi.deploy.inputs import Input
from muhdi.deploy.raw_ids import RawIds, public_ids
from muhdi.errors import RecipeError, nearest
from muhdi.taxonomy import CLASS_SETS, ClassSet

_URBAN19 = CLASS_SETS["urban19"].classes
_IDD_LEVEL3 = (
    *("road", "drivable fallback", "sidewalk", "non-drivable fallback", "person", "rider"),
    *("motorcycle", "bicycle", "autorickshaw", "car", "truck", "bus", "vehicle fallback", "curb"),
    *("wall", "fence", "guard rail", "billboard", "traffic sign", "traffic light", "pole"),
    *("obs-str-bar-fallback", "building", "bridge", "vegetation", "sky"),
)
"""The classes that IDD's benchmark scores, by their level 3 id."""
_IDD_JOINT = {
    "parking": "drivable fallback",
    "rail track": "non-drivable fallback",
    "terrain": "non-drivable fallback",
    "animal": "person",
    "caravan": "vehicle fallback",
    "trailer": "vehicle fallback",
    "train": "vehicle fallback",
    "polegroup": "pole",
    "tunnel": "bridge",
    "fallback background": "sky",
}
"""Labels of IDD, and classes of Cityscapes, that are scored as another of its classes."""


@dataclass(frozen=True)
class Submission:
    """What a server wants.

    Attributes:
        benchmark: its name on the command line.
        folder: of the predictions, which is what is sent, zipped.
        beginning: what the images' names end in, before their ending; it is cut off.
        ending: what stands there in the names of predictions.
        keeps_folders: whether a prediction lies in a folder named after its image's.
        scored: the classes that the server scores, in the words of the data set.
        joint: other classes that a network may know, and as which of them each is scored.
        label_ids_of: the data set whose label ids are written; None: positions in ``scored``.
    """

    benchmark: str
    folder: str
    beginning: str
    ending: str
    keeps_folders: bool
    scored: tuple[str, ...]
    joint: Mapping[str, str] = field(default_factory=dict)
    label_ids_of: str | None = None

    def raw_ids(self, classes: ClassSet) -> RawIds:
        """The ids of a network's classes.

        Raises:
            RecipeError: a class is none that the server scores.
        """
        scored = [self.joint.get(name, name) for name in classes.classes]
        for name, known in zip(classes.classes, scored, strict=True):
            if known not in self.scored:
                raise RecipeError(
                    f"--submission {self.benchmark}: the benchmark has no class {name!r}, which is"
                    " one of the network's; only a network of single classes (such as urban19) can"
                    " take part"
                )
        if self.label_ids_of is not None:
            return RawIds(self.benchmark, public_ids(self.label_ids_of, classes))
        return RawIds(self.benchmark, tuple(self.scored.index(known) for known in scored))

    def untold(self, classes: ClassSet) -> tuple[str, ...]:
        """The classes that the server scores and the network does not know."""
        told = {self.joint.get(name, name) for name in classes.classes}
        return tuple(name for name in self.scored if name not in told)

    def named(self, inputs: Sequence[Input]) -> list[Input]:
        """Inputs with the names that their predictions get, below `folder`.

        Raises:
            RecipeError: one is a video, or is not named as the benchmark's images are, or two would
                get one name.
        """
        found: dict[Path, Input] = {}
        for item in inputs:
            stem = item.path.stem
            if item.is_video or not stem.endswith(self.beginning):
                raise RecipeError(
                    f"--submission {self.benchmark}: {item.path}: images of the benchmark are"
                    f" called ...{self.beginning}.png; give the folder of its test images"
                )
            name = Path(f"{stem.removesuffix(self.beginning)}{self.ending}")
            if self.keeps_folders:
                name = item.path.absolute().parent.name / name
            other = found.setdefault(name, item)
            if other is not item:
                raise RecipeError(
                    f"--submission {self.benchmark}: {item.path} and {other.path} would get one"
                    " name; give each image once"
                )
        return [replace(item, name=name) for name, item in found.items()]


SUBMISSIONS = {
    "cityscapes": Submission(
        benchmark="cityscapes",
        folder="cityscapes",
        beginning="_leftImg8bit",
        ending="_labelIds",
        keeps_folders=False,
        scored=_URBAN19,
        label_ids_of="cityscapes",
    ),
    "acdc": Submission(
        benchmark="acdc",
        folder="labelTrainIds",
        beginning="_rgb_anon",
        ending="_rgb_anon",
        keeps_folders=False,
        scored=_URBAN19,
    ),
    "idd": Submission(
        benchmark="idd",
        folder="idd",
        beginning="_leftImg8bit",
        ending="_gtFine_labellevel3Ids",
        keeps_folders=True,
        scored=_IDD_LEVEL3,
        joint=_IDD_JOINT,
    ),
}
"""By the name of the benchmark."""


def find_submission(name: str) -> Submission:
    """What the server of a benchmark wants.

    Raises:
        RecipeError: there is no such benchmark.
    """
    if name not in SUBMISSIONS:
        raise RecipeError(
            f"--submission {name}: is unknown{nearest(name, list(SUBMISSIONS))}; give one of"
            f" {', '.join(SUBMISSIONS)}"
        )
    return SUBMISSIONS[name]
