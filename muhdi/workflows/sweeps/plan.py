"""What a sweep runs: every recipe with every order and seed, and the sources that they share."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from muhdi.errors import RecipeError
from muhdi.evaluation.results import Results
from muhdi.recipe.load import load_recipe
from muhdi.recipe.orders import Order, Orders, in_order, order_name, orders_of, split_seed
from muhdi.recipe.runtime import RuntimeConfig
from muhdi.recipe.schema import Recipe
from muhdi.recipe.section import plain
from muhdi.recipe.variations import Varied, variations
from muhdi.run.directory import RunDirectory, absolute_root

EXPERIMENTS = Path("experiments")
"""Folder of a sweep's ``snapshots`` and ``logs``, unless another one is asked for."""
SOURCE_ONLY = ("steps=[]", "every_step={}", "extra_domains=[]", "test={}")
NO_TEACHER = "evaluation.weights=model"
"""Of a source whose arms score their mean teachers: it has none, and its file says so anyway."""
NO_STREAM = "online=null"
"""Of a source whose recipe names domains of a stream: it has the source alone."""

_LATER = ("name", "steps", "extra_domains", "evaluation")
"""Keys of the experiment on which the training on the source does not depend."""


@dataclass(frozen=True)
class Job:
    """What ``muhdi train`` is asked for.

    Attributes:
        recipe: a file, or the name of a shipped recipe.
        seed: of the run.
        settings: ``key=value`` changes.
        trust_code: whether the user trusts code of other packages, whatever names it.
        order: of the targets; None: the recipe's own.
    """

    recipe: str
    seed: int
    settings: tuple[str, ...]
    trust_code: bool
    order: Order | None = None

    def load(self) -> Recipe:
        """The recipe of the run.

        Raises:
            RecipeError: it is wrong, or names code that is not trusted.
        """
        trust = self.trust_code or None
        recipe = load_recipe(self.recipe, self.settings, self.seed, trust_code=trust)
        recipe.check_trusted()
        return recipe if self.order is None else in_order(recipe, self.order)

    def started_from(self, network: Path) -> Job:
        """The same job without training on the source."""
        # A setting is read as YAML, in which a path could mean something else.
        init = json.dumps(str(network), ensure_ascii=False)
        return self.changed(f"model.init={init}", "source_training.iterations=0")

    def source_only(self, name: str, recipe: Recipe) -> Job:
        """The job that trains on the source alone.

        Args:
            name: of its run.
            recipe: of this job.
        """
        settings = [*SOURCE_ONLY, f"name={name}"]
        if recipe.evaluation.weights == "teacher":
            settings.append(NO_TEACHER)
        if recipe.online is not None and recipe.online.domains:
            settings.append(NO_STREAM)
        return replace(self.changed(*settings), order=None)

    def changed(self, *settings: str) -> Job:
        """The same job with further changes."""
        return replace(self, settings=(*self.settings, *settings))

    def arguments(self, experiments: Path) -> list[str]:
        """Words that follow ``muhdi`` on a command line."""
        words = ["train", self.recipe, "--seed", str(self.seed), "--resume"]
        words += ["--experiments", str(experiments)]
        if self.order is not None:
            words += ["--order", ",".join(self.order)]
        if self.trust_code:
            words.append("--trust-code")
        for setting in self.settings:
            words += ["--set", setting]
        return words

    def command(self, experiments: Path) -> list[str]:
        """The command line, for this Python."""
        return [sys.executable, "-m", "muhdi", *self.arguments(experiments)]


@dataclass(frozen=True)
class Run:
    """A job, and what follows from its recipe.

    Attributes:
        job: how it is trained.
        recipe: of the job.
        directory: of the run.
        source: name of the run that has to end first; None: there is none.
    """

    job: Job
    recipe: Recipe
    directory: RunDirectory
    source: str | None = None

    @classmethod
    def of(cls, job: Job, experiments: Path, source: str | None = None) -> Run:
        """The run of a job.

        Raises:
            RecipeError: the job's recipe is wrong.
            RunError: the directory belongs to another recipe.
        """
        recipe = job.load()
        directory = RunDirectory.of(recipe, experiments)
        directory.check(recipe, resume=True, overwrite=False)
        return cls(job, recipe, directory, source)

    @property
    def name(self) -> str:
        """Of the run."""
        return self.recipe.name

    def is_complete(self) -> bool:
        """Whether it has ended: every stage is evaluated, and its page, the last file, is there."""
        if not self.directory.results.exists():
            return False
        evaluated = len(Results.load(self.directory.folder).steps)
        return evaluated == len(self.recipe.steps) + 1 and self.directory.page.exists()


@dataclass(frozen=True)
class SweepPlan:
    """The runs of a sweep.

    Attributes:
        sources: train on the source alone.
        arms: runs by arm, in the order of the seeds.
        experiments: folder of all of them.
    """

    sources: list[Run]
    arms: dict[str, list[Run]]
    experiments: Path

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order in which they are begun: sources first, then seed by seed."""
        by_seed = zip(*self.arms.values(), strict=True)
        return [*self.sources, *(run for runs in by_seed for run in runs)]


@dataclass(frozen=True)
class Asked:
    """What a sweep was asked to run.

    Attributes:
        files: file or name of each recipe, by what results call it.
        seeds: of the runs.
        settings: ``key=value`` changes to all of them.
        trust_code: whether the user trusts code of other packages.
        orders: of the targets; None: each recipe's own alone.
        varied: values by key: every recipe becomes an arm for each combination of them.
    """

    files: dict[str, str]
    seeds: Sequence[int]
    settings: Sequence[str] = ()
    trust_code: bool = False
    orders: Orders | None = None
    varied: Varied = field(default_factory=dict)

    def jobs(self) -> dict[str, list[Job]]:
        """Jobs by arm, in the order of the seeds.

        Raises:
            RecipeError: a recipe is wrong, the recipes have no such orders, or two runs would be
                called alike.
        """
        orders: list[Order | None] = [None]
        arms: dict[str, list[Job]] = {}
        for number, (key, first) in enumerate(self._varied().items()):
            if self.orders is not None and number == 0:
                orders = [*orders_of(first.load(), self.orders)]
            for order in orders:
                name = key if order is None else f"{key}_order_{order_name(order)}"
                arms[name] = [replace(first, seed=seed, order=order) for seed in self.seeds]
        return arms

    def _varied(self) -> dict[str, Job]:
        """A job of the first seed for every recipe, or for every variation of one."""
        found: dict[str, Job] = {}
        each = variations(self.varied) if self.varied else []
        for key, file in self.files.items():
            job = Job(file, self.seeds[0], tuple(self.settings), self.trust_code)
            if not each:
                found[key] = job
                continue
            name, _ = split_seed(job.load())
            alike: dict[str, str] = {}
            for one in each:
                called = f"name={json.dumps(f'{name}_{one.name}')}"
                varied = job.changed(*one.settings, called)
                _refuse_alike(one.name, varied.load(), alike)
                found[f"{key}_{one.name}"] = varied
        return found

    def recipes(self) -> list[Recipe]:
        """One recipe of every arm.

        Raises:
            RecipeError: as of `jobs`.
        """
        return [jobs[0].load() for jobs in self.jobs().values()]


def folder_of(experiments: Path | str | None, recipes: Sequence[Recipe]) -> Path:
    """Where the runs of a sweep go: all into one folder.

    Args:
        experiments: the folder that was asked for; None: `EXPERIMENTS`.
        recipes: of the arms.

    Raises:
        RecipeError: no folder was asked for, and a recipe names one of its own.
    """
    if experiments is not None:
        return Path(experiments).expanduser()
    usual = RuntimeConfig()
    for recipe in recipes:
        for key in ("snapshots", "logs"):
            chosen = getattr(recipe.runtime, key)
            if chosen != getattr(usual, key):
                raise RecipeError(
                    f"{split_seed(recipe)[0]}: runtime.{key} is {chosen}, but a sweep keeps all its"
                    " runs in one folder; name it with --experiments FOLDER"
                )
    return EXPERIMENTS


def planned(asked: Asked, experiments: Path) -> SweepPlan:
    """The runs, each source trained once for all that start from it.

    Raises:
        MuhdiError: a recipe is wrong, two runs would be called alike, or a directory belongs to
            another recipe.
    """
    sources: dict[str, Run] = {}
    arms: dict[str, list[Run]] = {}
    names: set[str] = set()
    for arm, jobs in asked.jobs().items():
        arms[arm] = []
        for job in jobs:
            recipe = job.load()
            _refuse_twice(job, recipe.name, names)
            arms[arm].append(_started(job, recipe, experiments, sources))
    # A source that was removed once all that starts from it is done is not trained again.
    unfinished = [run for runs in arms.values() for run in runs if not run.is_complete()]
    needed = {run.source for run in unfinished}
    first = [run for run in sources.values() if run.name in needed or run.is_complete()]
    return SweepPlan(first, arms, experiments)


def _refuse_alike(name: str, recipe: Recipe, alike: dict[str, str]) -> None:
    """Refuse a variation after which the recipe is the same as after another one.

    Args:
        name: of the variation.
        recipe: with it.
        alike: names by what is in the recipe; changed in place.
    """
    values = {**plain(recipe), "name": ""}
    first = alike.setdefault(json.dumps(values, sort_keys=True), name)
    if first != name:
        raise RecipeError(f"--vary: {first} and {name} mean the same; leave one of them out")


def _refuse_twice(job: Job, name: str, names: set[str]) -> None:
    if name in names:
        raise RecipeError(
            f"{job.recipe}: two runs would be called {name!r}; give every recipe, order and seed"
            " once, and each recipe a name of its own"
        )
    names.add(name)


def _started(job: Job, recipe: Recipe, experiments: Path, sources: dict[str, Run]) -> Run:
    """The run of a job, which begins with a network of ``sources``, and adds what is missing there.

    Args:
        job: trains on the source itself.
        recipe: of the job.
        experiments: folder of the runs.
        sources: by key; changed in place.
    """
    # A run that exists has begun with a source of its own.
    begun = RunDirectory.of(recipe, experiments).holds(recipe)
    # A run that starts from the source's network no longer has the backbone that one began with.
    looks_back = any(step.adaptation.feature_distance is not None for step in recipe.steps)
    if begun or looks_back or not recipe.source_training.iterations:
        return Run.of(job, experiments)
    key = _source_key(recipe)
    if key not in sources:
        sources[key] = _source(job.source_only(f"source_{key}", recipe), experiments)
    source = sources[key]
    iterations = source.recipe.source_training.iterations
    network = source.directory.model(0, "source", iterations)
    started = _as_recorded(network, RunDirectory.of(recipe, experiments))
    return Run.of(job.started_from(started), experiments, source.name)


def _as_recorded(network: Path, directory: RunDirectory) -> Path:
    """The path of a source's network as a run that began with it has it.

    The folder of the sweep may have been moved since, or named in another way.
    """
    if not directory.has_recipe():
        return network
    known = Path(directory.recipe().model.init or "")
    # Name of the source's run, which tells what it was trained on, stage and file.
    is_same = known.parts[-3:] == network.parts[-3:]
    return known if is_same else network


def _source(job: Job, experiments: Path) -> Run:
    """The run that trains a source; one that exists goes on being scored as it was."""
    directory = RunDirectory.of(job.load(), experiments)
    if directory.has_recipe():
        scored = directory.recipe().evaluation.model_dump_json(exclude_defaults=True)
        job = job.changed(f"evaluation={scored}")
    return Run.of(job, experiments)


def _source_key(recipe: Recipe) -> str:
    """Identifies what the training on the source depends on."""
    relevant = {key: value for key, value in recipe.experiment().items() if key not in _LATER}
    # Which images a recipe's paths lead to.
    relevant["root"] = absolute_root(recipe)
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:8]
