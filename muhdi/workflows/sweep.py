"""Several recipes over several seeds and orders, in parallel, each source trained once.

Recipes that differ in their steps alone start from the same source network, so it is trained once
per seed. That changes nothing: every stage's randomness derives from the seed and the stage alone,
and a test holds it to that.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muhdi.errors import RecipeError, RunError, check_type
from muhdi.evaluation.results import Results
from muhdi.recipe.load import save_recipe
from muhdi.recipe.orders import Orders
from muhdi.recipe.schema import Recipe
from muhdi.recipe.variations import Varied
from muhdi.report.board import Board
from muhdi.workflows.sweeps.cluster import Cluster, read_cluster
from muhdi.workflows.sweeps.devices import places
from muhdi.workflows.sweeps.plan import Asked, SweepPlan, folder_of, planned
from muhdi.workflows.sweeps.processes import Processes
from muhdi.workflows.sweeps.progress import Watch
from muhdi.workflows.sweeps.schedule import Engine, Log, Schedule

OnProgress = Callable[[int, int], None]
OnBoard = Callable[[Board], None]
ClusterSettings = Mapping[str, Any] | Path | str


@dataclass(frozen=True)
class Where:
    """What executes the runs of a sweep.

    Attributes:
        jobs: processes at a time; None: one per GPU, or per core where there is no GPU.
        gpus: ``auto``, or names as in ``CUDA_VISIBLE_DEVICES`` with commas between them: each
            process sees one of them. None: those that there are.
        cluster: parameters of submitit, or a YAML file that holds them: the runs become jobs of a
            cluster. None: they are processes of this machine.
    """

    jobs: int | None = None
    gpus: str | None = None
    cluster: ClusterSettings | None = None

    def engine(self, plan: SweepPlan, log: Log) -> Engine:
        """What executes the runs.

        Raises:
            RecipeError: there is no such GPU, submitit refuses a parameter or is not installed.
        """
        if self.cluster is None:
            recipes = [run.recipe for run in plan.runs]
            return Processes(plan.experiments, places(self.jobs, self.gpus, recipes))
        for key in ("jobs", "gpus"):
            if getattr(self, key) is not None:
                raise RecipeError(
                    f"--{key}: with --cluster the cluster decides; leave one of them out"
                )
        return Cluster(plan.experiments, read_cluster(self.cluster), log)


def sweep(  # noqa: PLR0913 - options by name
    recipes: Sequence[Recipe | Path | str],
    seeds: Sequence[int],
    settings: Sequence[str] = (),
    experiments: Path | str | None = None,
    jobs: int | None = None,
    log: Log = print,
    *,
    vary: Varied | None = None,
    orders: Orders | None = None,
    gpus: str | None = None,
    cluster: ClusterSettings | None = None,
    trust_code: bool = False,
    on_progress: OnProgress = lambda done, total: None,
    on_board: OnBoard = lambda board: None,
) -> dict[str, list[Results]]:
    """Run every recipe with every seed, in parallel processes of one thread each.

    Finished runs are not repeated, and interrupted ones are resumed. When a run fails, the others
    still end.

    Args:
        recipes: recipes, files, or names of shipped recipes.
        seeds: of the runs.
        settings: ``key=value`` changes to all of them.
        experiments: folder of the runs; None: ``experiments``.
        jobs: processes at a time; None: one per GPU, or per core where there is no GPU.
        log: called with a line for every run that starts or ends.
        vary: values by key, ``{"every_step.retention": ["none", "style"]}``: every recipe becomes
            an arm for each of them, and of several keys for each combination.
        orders: of the targets: ``all``, ``reverse`` (the first recipe's own and its reverse), a
            number (its own, and others drawn at random, so many together), or lists of the targets'
            names. Every recipe then runs in each of them. None: each in its own alone.
        gpus: ``auto``, or names as in ``CUDA_VISIBLE_DEVICES`` with commas between them: each
            process sees one of them. None: those that there are.
        cluster: the runs become jobs of a cluster through submitit: its parameters,
            ``{"timeout_min": 240, "slurm_partition": "gpu"}`` for example, and ``cluster``,
            ``slurm`` if it is missing; or a YAML file that holds them.
        trust_code: whether classes of other packages are imported even if the recipe of a run, or a
            `Recipe` that was read without trust, names them.
        on_progress: called about every second with the number of images that all runs have trained
            on, and of all: iterations of the source and of the steps cost differently.
        on_board: called about every second with how far each run is.

    Returns:
        Results in the order of the seeds, by what was given for a recipe: its file or name, and for
        a `Recipe` its ``name``; with ``vary`` and ``orders``, that and what differs:
        ``camvid_retention-style_order_dusk-bright``.

    Raises:
        MuhdiError: a recipe or an option is wrong, or a run failed; the message holds the end of
            what it printed.
        Interrupted: after a signal. All runs are saved, and the same call resumes them.
    """
    _check_list("recipes", recipes, Recipe, str, Path)
    _check_list("seeds", seeds, int)
    with _recipe_folder(experiments, cluster) as folder:
        files = _files(recipes, folder, trust_code=trust_code)
        asked = Asked(files, seeds, settings, trust_code, orders, vary or {})
        plan = planned(asked, folder_of(experiments, asked.recipes()))
        engine = Where(jobs, gpus, cluster).engine(plan, log)
        watch = Watch(plan)

        def show(schedule: Schedule) -> None:
            board = watch.board(engine.at_work(), schedule.done, schedule.failures)
            on_progress(board.done, board.total)
            on_board(board)

        _refuse_failures(Schedule(plan.runs, engine, log, show).run())
        results = {}
        for arm, runs in plan.arms.items():
            results[arm] = [Results.load(run.directory.folder) for run in runs]
        return results


def sweep_commands(  # noqa: PLR0913 - options by name
    recipes: Sequence[Path | str],
    seeds: Sequence[int],
    settings: Sequence[str] = (),
    experiments: Path | str | None = None,
    *,
    vary: Varied | None = None,
    orders: Orders | None = None,
    trust_code: bool = False,
) -> tuple[list[str], list[str]]:
    """The command lines of a sweep's runs, for any scheduler; nothing is written.

    Runs that are finished are left out.

    Args:
        recipes: files, or names of shipped recipes.
        seeds: as of `sweep`, like everything that follows.
        settings: as of `sweep`.
        experiments: as of `sweep`.
        vary: as of `sweep`.
        orders: as of `sweep`.
        trust_code: as of `sweep`.

    Returns:
        Commands that train sources, and those that need the sources' networks.

    Raises:
        MuhdiError: as of `sweep`.
    """
    _check_list("recipes", recipes, str, Path)
    _check_list("seeds", seeds, int)
    files = _files(recipes, Path(), trust_code=trust_code)
    asked = Asked(files, seeds, settings, trust_code, orders, vary or {})
    plan = planned(asked, folder_of(experiments, asked.recipes()))
    sources: list[str] = []
    arms: list[str] = []
    for run in plan.runs:
        if not run.is_complete():
            line = shlex.join(["muhdi", *run.job.arguments(plan.experiments)])
            (sources if run in plan.sources else arms).append(line)
    return sources, arms


def _check_list(name: str, values: object, *types: type) -> None:
    """A single recipe or seed, instead of a list, would fail deep inside."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise RecipeError(f"{name}: must be a list, but is {values!r}")
    if not values:
        raise RecipeError(f"{name}: give at least one")
    for value in values:
        check_type(name, value, *types)


@contextmanager
def _recipe_folder(experiments: Path | str | None, cluster: object) -> Iterator[Path]:
    """Where recipes that are objects become files, which the jobs of a cluster need for long."""
    if cluster is not None:
        yield folder_of(experiments, []) / "cluster" / "recipes"
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _files(
    recipes: Sequence[Recipe | Path | str], folder: Path, *, trust_code: bool
) -> dict[str, str]:
    """File or name of each recipe, by what results call it; an object is written to ``folder``."""
    files: dict[str, str] = {}
    for recipe in recipes:
        key = recipe.name if isinstance(recipe, Recipe) else str(recipe)
        if key in files:
            raise RecipeError(
                f"{key}: two recipes are called so; give every recipe once, and each a name of"
                " its own"
            )
        if isinstance(recipe, Recipe):
            if not trust_code:
                recipe.check_trusted()
            folder.mkdir(parents=True, exist_ok=True)
            files[key] = str(folder / f"{key}.yml")
            Path(files[key]).write_text(save_recipe(recipe), encoding="utf-8")
        else:
            files[key] = str(recipe)
    return files


def _refuse_failures(failures: Mapping[str, str]) -> None:
    """Say which run failed first, and why, and which others did."""
    if not failures:
        return
    name, reason = next(iter(failures.items()))
    others = [other for other in failures if other != name]
    more = f"; {', '.join(others)} failed, too" if others else ""
    raise RunError(f"{name}: {reason}{more}")
