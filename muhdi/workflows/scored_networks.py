"""Which networks are scored: a run's newest, a file, an ensemble, or all snapshots."""

from __future__ import annotations

import os
import re
from pathlib import Path

from muhdi.data.paths import find_file
from muhdi.deploy.find import network_file, refuse_exported, run_folder
from muhdi.errors import DataError, RecipeError, nearest
from muhdi.recipe.load import RECIPE, given_recipe, load_recipe, shipped_recipes
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory

Networks = list[tuple[str, list[Path]]]
"""What is scored, by name: the files of one network, or those of an ensemble."""


def is_network(path: Path) -> bool:
    """Whether a path is a run directory or a network file, and no recipe."""
    return path.exists() and path.suffix not in (".yml", ".yaml")


def checked_name(recipe: Path | str) -> str:
    """The name of a recipe, if it is at least like one."""
    if Path(recipe).suffix in (".yml", ".yaml") or str(recipe) in shipped_recipes():
        return str(recipe)
    hint = nearest(str(recipe), list(shipped_recipes()))
    raise RecipeError(f"{recipe}: no such run directory, network file or recipe{hint}")


def networks_of_path(
    path: Path, recipe: Path | str | Recipe | None, *, trust_code: bool
) -> tuple[Networks, Recipe]:
    """A run's newest network, or a file, and the recipe to score it by."""
    refuse_exported(path)
    network = network_file(path) if path.is_dir() else path
    networks: Networks = [(network.stem, [network])]
    if recipe is not None:
        return networks, given_recipe(recipe, trust_code=trust_code)
    own = run_folder(path) / RECIPE
    if not own.is_file():
        raise RecipeError(
            f"{path}: is not in a run directory; say with --recipe on which domains to evaluate it"
        )
    return networks, load_recipe(own, trust_code=trust_code)


def networks_of_recipe(recipe: Recipe, experiments: Path | str | None) -> Networks:
    """What the recipe's section ``test`` names: files, the newest network, or all snapshots."""
    test = recipe.test
    if test.models:
        files = [find_file(path, recipe.runtime.root, "test.models") for path in test.models]
        for file in files:
            refuse_exported(file)
        name = "ensemble" if len(files) > 1 else Path(test.models[0]).stem
        return [(name, files)]
    directory = RunDirectory.of(recipe, experiments)
    if test.mode == "last":
        return [(directory.last_model().stem, [directory.last_model()])]
    return _snapshots(recipe, directory)


def _snapshots(recipe: Recipe, directory: RunDirectory) -> Networks:
    """The snapshots of which the best is chosen, in the order of their training."""
    test = recipe.test
    folder = directory.folder
    if test.snapshots:
        folder = Path(os.path.expanduser(test.snapshots))
    of_reference = [
        file for file in folder.glob("model_*.pth") if re.fullmatch(r"model_[0-9]+", file.stem)
    ]
    files = [*RunDirectory(folder).models(), *sorted(of_reference, key=_iterations)]
    chosen: Networks = []
    for file in files:
        iterations = _iterations(file)
        late = test.until is not None and iterations > test.until
        if late or iterations % (test.every or 1):
            continue
        name = file.stem if file.parent == folder else f"{file.parent.name}/{file.stem}"
        chosen.append((name, [file]))
    if not chosen:
        advice = "train first, or set test.models to network files"
        if files:
            advice = "change test.every and test.until"
        raise DataError(f"{folder}: holds no snapshot to choose from; {advice}")
    return chosen


def _iterations(file: Path) -> int:
    return int(file.stem.rpartition("_")[2])


def tested_domains(recipe: Recipe) -> list[str]:
    """Names of the domains that the recipe tests on: its choice, or all but the source."""
    if recipe.test.domains:
        return recipe.test.domains
    names = [data.domain_name for _, data in recipe.domains()]
    return [name for name in names if name != recipe.source_name()] or names
