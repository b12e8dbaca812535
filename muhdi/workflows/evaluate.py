"""Score networks again: a run's, a file's, an ensemble, or the best of all snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from muhdi.deploy.find import refuse_exported, run_folder
from muhdi.errors import RecipeError, check_type
from muhdi.evaluation.domains import OnProgress
from muhdi.evaluation.results import Results
from muhdi.models.checkpoint import Checkpoint
from muhdi.models.inference import unknown_statistics
from muhdi.models.outputs import AGNOSTIC
from muhdi.recipe.evaluation import STATISTICS
from muhdi.recipe.load import RECIPE, given_recipe, load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.workflows.scored_networks import (
    checked_name,
    is_network,
    networks_of_path,
    networks_of_recipe,
    tested_domains,
)
from muhdi.workflows.scorer import How, Scorer


def evaluate(  # noqa: PLR0913 - options by name
    what: Path | str | Recipe | Checkpoint,
    recipe: Path | str | Recipe | None = None,
    *,
    statistics: Sequence[str] = (),
    head: str = AGNOSTIC,
    weights: str | None = None,
    refresh: bool = False,
    experiments: Path | str | None = None,
    trust_code: bool = False,
    on_progress: OnProgress = lambda done, total: None,
) -> Results:
    """Score networks on the domains of a recipe.

    Args:
        what: a run directory (its newest network), a network file (ours, or the reference's), a
            `Checkpoint`, or a recipe, whose section ``test`` says what is scored.
        recipe: with the domains, and how they are scored (its section ``evaluation``); None: that
            of the run, or ``what`` itself.
        statistics: that batch norms use, each for a table of its own; none: the recipe's choice.
        head: whose predictions are scored.
        weights: ``model``, ``ema`` for their average or ``teacher`` for the mean teacher's; None:
            the recipe's choice.
        refresh: measure every domain's statistics again from its training images, where they are,
            instead of using the stored ones, which grow stale as later steps move the weights.
        experiments: folder of ``snapshots`` with a recipe's run; None: the recipe says where.
        trust_code: whether classes of other packages, which a network or a run names, are imported.
        on_progress: called with the number of images that are scored, and of all, for each network.

    Returns:
        Results with one row per network; their ``notes`` are for the user.

    Raises:
        MuhdiError: the path or the recipe is wrong, or a network is of other classes or has no such
            head or statistics.
    """
    check_type("what", what, str, Path, Recipe, Checkpoint)
    check_type("recipe", recipe, str, Path, Recipe, type(None))
    check_type("weights", weights, str, type(None))
    how = How(_known_statistics(statistics), head, weights, refresh, trust_code, on_progress)
    if isinstance(what, Checkpoint):
        return _evaluate_checkpoint(what, recipe, experiments, how)
    if not isinstance(what, Recipe) and is_network(Path(what)):
        return _evaluate_path(Path(what), recipe, experiments, how)
    if recipe is not None:
        name = what.name if isinstance(what, Recipe) else checked_name(what)
        raise RecipeError(
            f"--recipe: {name} is a recipe itself; give the run directory or the network's file"
        )
    return _evaluate_recipe(what, experiments, how)


def evaluate_network(  # noqa: PLR0913 - options by name
    path: Path | str,
    *,
    recipe: str | None = None,
    settings: Sequence[str] = (),
    kinds: Sequence[str] = (),
    head: str = AGNOSTIC,
    refresh: bool = False,
    experiments: Path | str | None = None,
    seed: int | None = None,
) -> tuple[Results, list[str]]:
    """`evaluate` as version 0.1 called it; returns the notes apart."""
    what, domains = read_arguments(path, recipe, settings, seed)
    results = evaluate(
        what,
        domains,
        statistics=kinds,
        head=head,
        refresh=refresh,
        experiments=experiments,
    )
    return results, results.notes


def read_arguments(
    path: Path | str,
    recipe: str | None,
    settings: Sequence[str],
    seed: int | None,
    *,
    trust_code: bool = False,
) -> tuple[Path | str | Recipe, Recipe | None]:
    """The first two arguments of `evaluate`, from what a command line gives.

    Args:
        path: a run directory, a network file, or a recipe.
        recipe: with the domains, of a run or a file.
        settings: ``key=value`` changes to the recipe.
        seed: of a recipe's run.
        trust_code: whether classes of other packages, which a run names, are imported.
    """
    if not is_network(Path(path)):
        name = checked_name(path)
        if recipe is not None:
            raise RecipeError(
                f"--recipe {recipe}: {name} is a recipe itself; give the run directory or the "
                "network's file"
            )
        return load_recipe(name, settings, seed, trust_code=trust_code or None), None
    refuse_exported(Path(path))
    if seed is not None:
        raise RecipeError(f"{path}: --seed finds the run of a recipe; this is a file or folder")
    own = run_folder(Path(path)) / RECIPE
    if recipe is not None:
        return path, load_recipe(recipe, settings, trust_code=trust_code or None)
    if own.is_file():
        return path, load_recipe(own, settings, trust_code=trust_code)
    return path, None


def _evaluate_checkpoint(
    checkpoint: Checkpoint,
    recipe: Path | str | Recipe | None,
    experiments: Path | str | None,
    how: How,
) -> Results:
    if recipe is None:
        raise RecipeError("recipe: is needed, since a checkpoint does not say its domains")
    if experiments is not None:
        raise RecipeError("experiments: finds the run of a recipe; this is a checkpoint itself")
    loaded = given_recipe(recipe, trust_code=how.trust_code)
    scorer = Scorer(loaded, [], how)
    scorer.check("the checkpoint", checkpoint)
    return scorer.score_one("network", [checkpoint])


def _evaluate_path(
    path: Path,
    recipe: Path | str | Recipe | None,
    experiments: Path | str | None,
    how: How,
) -> Results:
    """Score a run's newest network, or a file."""
    if experiments is not None:
        raise RecipeError(
            f"{path}: --experiments and --seed find the run of a recipe; this is a file or folder "
            "itself"
        )
    networks, loaded = networks_of_path(path, recipe, trust_code=how.trust_code)
    return Scorer(loaded, [], how).score(networks)


def _evaluate_recipe(
    recipe: Path | str | Recipe, experiments: Path | str | None, how: How
) -> Results:
    """Score what the recipe's section ``test`` says."""
    named = recipe if isinstance(recipe, Recipe) else checked_name(recipe)
    loaded = given_recipe(named, trust_code=how.trust_code)
    networks = networks_of_recipe(loaded, experiments)
    return Scorer(loaded, tested_domains(loaded), how).score(networks)


def _known_statistics(statistics: Sequence[str]) -> list[str]:
    """The choices, of which a single one may be given as it is."""
    check_type("statistics", statistics, Sequence)
    chosen = [statistics] if isinstance(statistics, str) else list(statistics)
    for name in chosen:
        if name not in (*STATISTICS, "none"):
            raise unknown_statistics(str(name), STATISTICS)
    return chosen
