"""Predictions as the servers of benchmarks want them: which ids, and what files are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
        ids: the id of each of a network's classes, for the server.
    """

    benchmark: str
    folder: str
    beginning: str
    ending: str
    keeps_folders: bool
    scored: tuple[str, ...]
    ids: Callable[[ClassSet], tuple[int, ...]]

    def raw_ids(self, classes: ClassSet) -> RawIds:
        """The ids of a network's classes.

        Raises:
            RecipeError: the data set has no label for a class.
        """
        return RawIds(self.benchmark, self.ids(classes))

    def untold(self, classes: ClassSet) -> tuple[str, ...]:
        """The classes that the server scores and the network does not know."""
        told = {_scored_as(self, name) for name in classes.classes}
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


def _scored_as(submission: Submission, name: str) -> str:
    if submission.scored is not _IDD_LEVEL3:
        return name
    return _IDD_JOINT.get(name, name)


def _label_ids(classes: ClassSet) -> tuple[int, ...]:
    return public_ids("cityscapes", classes, "--submission cityscapes")


def _train_ids(classes: ClassSet) -> tuple[int, ...]:
    return _positions(classes, _URBAN19, {}, "acdc")


def _level3_ids(classes: ClassSet) -> tuple[int, ...]:
    return _positions(classes, _IDD_LEVEL3, _IDD_JOINT, "idd")


def _positions(
    classes: ClassSet, scored: tuple[str, ...], joint: dict[str, str], benchmark: str
) -> tuple[int, ...]:
    """Where each class stands in a benchmark's list."""
    found = []
    for name in classes.classes:
        known = joint.get(name, name)
        if known not in scored:
            raise RecipeError(
                f"--submission {benchmark}: the benchmark has no class {name!r}, which is one of"
                " the network's; only a network of single classes (such as urban19) can take part"
            )
        found.append(scored.index(known))
    return tuple(found)


SUBMISSIONS = {
    "cityscapes": Submission(
        benchmark="cityscapes",
        folder="cityscapes",
        beginning="_leftImg8bit",
        ending="_labelIds",
        keeps_folders=False,
        scored=_URBAN19,
        ids=_label_ids,
    ),
    "acdc": Submission(
        benchmark="acdc",
        folder="labelTrainIds",
        beginning="_rgb_anon",
        ending="_rgb_anon",
        keeps_folders=False,
        scored=_URBAN19,
        ids=_train_ids,
    ),
    "idd": Submission(
        benchmark="idd",
        folder="idd",
        beginning="_leftImg8bit",
        ending="_gtFine_labellevel3Ids",
        keeps_folders=True,
        scored=_IDD_LEVEL3,
        ids=_level3_ids,
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
