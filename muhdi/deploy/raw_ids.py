"""Predictions in the ids of a data set's own label images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from muhdi.data.public.known import LAYOUTS
from muhdi.data.public.labels import raw_labels
from muhdi.errors import RecipeError, nearest
from muhdi.recipe.domains import DomainConfig, FolderConfig, PublicConfig
from muhdi.recipe.load import RECIPE, load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.taxonomy import ClassSet

POSITIONS = "classes"
"""The choice of ids that are positions in the network's list of classes."""
RAW = "raw"
"""The choice of the ids that the labels of the run's targets hold."""


@dataclass(frozen=True)
class RawIds:
    """What every class is called in a data set's label images.

    Attributes:
        name: whose ids they are.
        ids: one raw id, 0 to 65535, per class.
        ignored: classes that the data set does not have; their id is one that it ignores.
    """

    name: str
    ids: tuple[int, ...]
    ignored: tuple[str, ...] = ()

    def image(self, positions: npt.NDArray[np.uint8]) -> Image.Image:
        """Class positions [H, W] as a grey label image, of 16 bits where an id needs them."""
        kind = np.uint8 if max(self.ids) <= 255 else np.uint16
        return Image.fromarray(np.asarray(self.ids, kind)[positions])


def find_raw_ids(choice: str, classes: ClassSet, run: Path | None) -> RawIds:
    """The ids that a choice stands for.

    Args:
        choice: `POSITIONS`, `RAW`, a domain of the run, or a public data set.
        classes: of the network.
        run: the directory of its run, where it has one.

    Raises:
        RecipeError: there is no such choice, or it has no id for a class, or several.
    """
    if choice == POSITIONS:
        return RawIds(POSITIONS, tuple(range(len(classes))))
    domains = {} if run is None else _domains(load_recipe(run / RECIPE, trust_code=False))
    if choice == RAW:
        return _of_targets(domains, classes)
    if choice in domains:
        return domains[choice].raw_ids(classes)
    if choice in LAYOUTS:
        return RawIds(choice, public_ids(choice, classes))
    known = [POSITIONS, RAW, *domains, *LAYOUTS]
    raise RecipeError(
        f"--ids {choice}: is unknown{nearest(choice, known)}; give one of {', '.join(known)}"
    )


@dataclass(frozen=True)
class _Domain:
    """A domain of a run.

    Attributes:
        name: what results call it.
        config: of its data.
        source: of the source's data, whose table a folder without one has; None: the recipe has
            none.
        is_target: whether it is the target of a step.
    """

    name: str
    config: DomainConfig
    source: DomainConfig | None
    is_target: bool

    def raw_ids(self, classes: ClassSet) -> RawIds:
        """The raw id of every class.

        Raises:
            RecipeError: the labels hold colours or are masks, or a class has no id.
        """
        positions = RawIds(self.name, tuple(range(len(classes))))
        if isinstance(self.config, PublicConfig):
            return RawIds(self.name, public_ids(self.config.dataset, classes))
        labels = self.config
        if not isinstance(labels, FolderConfig):
            return positions
        if not labels.has_table and isinstance(self.source, FolderConfig):
            labels = self.source
        if labels.colours is not None or labels.masks is not None:
            what = "are masks" if labels.masks is not None else "hold colours"
            raise _without_ids(self.name, what)
        return positions if labels.ids is None else _listed_ids(self.name, labels.ids, classes)


def _domains(recipe: Recipe) -> dict[str, _Domain]:
    """Every domain of a recipe by name, the source first."""
    found = {}
    if recipe.source is not None:
        name = recipe.source_name()
        found[name] = _Domain(name, recipe.source, recipe.source, is_target=False)
    for step in recipe.steps:
        for target in step.domains:
            name = target.domain_name
            found[name] = _Domain(name, target, recipe.source, is_target=True)
    return found


def _of_targets(domains: Mapping[str, _Domain], classes: ClassSet) -> RawIds:
    """The ids that all targets share.

    Raises:
        RecipeError: there is no run to say its targets, or their ids differ.
    """
    targets = [domain for domain in domains.values() if domain.is_target]
    if not targets:
        raise RecipeError(
            f"--ids {RAW}: the network lies in no run that says its data sets; name one:"
            f" {', '.join(LAYOUTS)}"
        )
    tables = [target.raw_ids(classes) for target in targets]
    if len({table.ids for table in tables}) > 1:
        names = [target.name for target in targets]
        raise RecipeError(
            f"--ids {RAW}: the run's targets have different ids; name one: {', '.join(names)}"
        )
    return tables[-1]


def public_ids(dataset: str, classes: ClassSet) -> tuple[int, ...]:
    """The ids of a public data set: of the label of each class's name, or the only one it is for.

    Raises:
        RecipeError: its labels hold colours, or a class is none of its labels, but a group of them.
    """
    if all(kind.format == "colours" for kind in LAYOUTS[dataset].labels):
        raise _without_ids(dataset, "hold colours")
    ids = []
    for name in classes.classes:
        same_name = [label.id for label in raw_labels(dataset) if label.name == name]
        same_class = [label.id for label in raw_labels(dataset) if label.urban19 == name]
        if not same_name and len(same_class) != 1:
            raise RecipeError(
                f"--ids {dataset}: the data set has no label {name!r} of its own, which is a class"
                " of the network; only a network of single classes (such as urban19) can be written"
                " in its ids"
            )
        ids.append((same_name or same_class)[0])
    return tuple(ids)


def _without_ids(name: str, what: str) -> RecipeError:
    return RecipeError(
        f"--ids: the labels of {name} {what}, without ids; leave --ids out, the folder colour/ has"
        " the classes as colours"
    )


def _listed_ids(domain: str, table: Mapping[int, str], classes: ClassSet) -> RawIds:
    """The first id that a table lists for every class, or else one that it ignores.

    Raises:
        RecipeError: a class has no id, and none is ignored.
    """
    first: dict[str, int] = {}
    for raw, name in table.items():
        first.setdefault(name, raw)
    ids = []
    for name in classes.classes:
        raw_id = first.get(name, first.get("ignore"))
        if raw_id is None:
            raise RecipeError(
                f"--ids: the table of {domain} lists no id for the class {name!r}; add it to its"
                " 'ids', or leave --ids out"
            )
        ids.append(raw_id)
    ignored = tuple(name for name in classes.classes if name not in first)
    return RawIds(domain, tuple(ids), ignored)
