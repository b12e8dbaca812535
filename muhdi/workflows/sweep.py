"""Several recipes over several seeds in parallel processes, each source trained once.

Recipes that differ in their steps alone start from the same source network, so it is trained once
per seed. That changes nothing: every stage's randomness derives from the seed and the stage alone,
and a test holds it to that.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from muhdi.errors import (
    STOP_SIGNALS,
    Interrupted,
    MuhdiError,
    RecipeError,
    RunError,
    check_type,
)
from muhdi.evaluation.results import Results
from muhdi.files import read_json
from muhdi.recipe.load import load_recipe, save_recipe
from muhdi.recipe.schema import Recipe
from muhdi.recipe.stages import StageConfig, StepConfig
from muhdi.run.directory import RunDirectory

_SOURCE_ONLY = ("steps=[]", "every_step={}", "extra_domains=[]", "test={}")

_LATER = ("name", "steps", "extra_domains", "evaluation")
"""Keys of the experiment on which the training on the source does not depend."""

Log = Callable[[str], None]
OnProgress = Callable[[int, int], None]

_LONGEST_LINE = 65536
"""Bytes at the end of a record in which its last line is looked for."""


@dataclass(frozen=True)
class _Job:
    """One run.

    Attributes:
        recipe: a file, or the name of a shipped recipe.
        seed: of the run.
        settings: ``key=value`` changes.
        trust_code: whether the user trusts code of other packages, whatever names it.
    """

    recipe: str
    seed: int
    settings: tuple[str, ...]
    trust_code: bool

    def load(self) -> Recipe:
        trust = self.trust_code or None
        recipe = load_recipe(self.recipe, self.settings, self.seed, trust_code=trust)
        recipe.check_trusted()
        return recipe

    def started_from(self, network: Path) -> _Job:
        """The same job without training on the source."""
        return self.changed(f"model.init={network}", "source_training.iterations=0")

    def changed(self, *settings: str) -> _Job:
        """The same job with further changes."""
        return replace(self, settings=(*self.settings, *settings))


def sweep(  # noqa: PLR0913 - options by name
    recipes: Sequence[Recipe | Path | str],
    seeds: Sequence[int],
    settings: Sequence[str] = (),
    experiments: Path | str = Path("experiments"),
    jobs: int | None = None,
    log: Log = print,
    *,
    trust_code: bool = False,
    on_progress: OnProgress = lambda done, total: None,
) -> dict[str, list[Results]]:
    """Run every recipe with every seed, in parallel processes of one thread each.

    Finished runs are not repeated, and interrupted ones are resumed.

    Args:
        recipes: recipes, files, or names of shipped recipes.
        seeds: of the runs.
        settings: ``key=value`` changes to all of them.
        experiments: folder of the runs.
        jobs: processes at a time; None: one per core.
        log: called with a line for every run that starts or ends.
        trust_code: whether classes of other packages are imported even if the recipe of a run, or a
            `Recipe` that was read without trust, names them.
        on_progress: called about every second with the number of images that all runs have trained
            on, and of all: iterations of the source and of the steps cost differently.

    Returns:
        Results in the order of the seeds, by what was given for a recipe: its file or name, and for
        a `Recipe` its ``name``.

    Raises:
        MuhdiError: a recipe is wrong, or a run failed; the message holds the end of what it
            printed.
        Interrupted: after a signal. All runs are saved, and the same call resumes them.
    """
    _check_list("recipes", recipes, Recipe, str, Path)
    _check_list("seeds", seeds, int)
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, str] = {}
        for recipe in recipes:
            key = recipe.name if isinstance(recipe, Recipe) else str(recipe)
            if key in files:
                raise RecipeError(
                    f"{key}: two recipes are called so; give every recipe once, and each a name of"
                    " its own"
                )
            if isinstance(recipe, Recipe) and not trust_code:
                recipe.check_trusted()
            files[key] = _as_file(recipe, Path(folder))
        plan = [
            _Job(file, seed, tuple(settings), trust_code)
            for seed in seeds
            for file in files.values()
        ]
        done = _sweep(plan, Path(experiments), _Screen(jobs, log, on_progress))
        # The plan has all recipes of the first seed, then all of the next one.
        results = [done[first :: len(files)] for first in range(len(files))]
    return dict(zip(files, results, strict=True))


def _check_list(name: str, values: object, *types: type) -> None:
    """A single recipe or seed, instead of a list, would fail deep inside."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise RecipeError(f"{name}: must be a list, but is {values!r}")
    if not values:
        raise RecipeError(f"{name}: give at least one")
    for value in values:
        check_type(name, value, *types)


def _as_file(recipe: Recipe | Path | str, folder: Path) -> str:
    """The name or file of a recipe; an object is written to ``folder``."""
    if not isinstance(recipe, Recipe):
        return str(recipe)
    path = folder / f"{recipe.name}.yml"
    path.write_text(save_recipe(recipe), encoding="utf-8")
    return str(path)


@dataclass(frozen=True)
class _Screen:
    jobs: int | None
    log: Log
    on_progress: OnProgress


def _sweep(plan: list[_Job], experiments: Path, screen: _Screen) -> list[Results]:
    """Results of the jobs, in their order."""
    _refuse_shared_directories(plan)
    sources: dict[str, _Job] = {}
    starts: list[Path | None] = []
    for job in plan:
        recipe = job.load()
        # A run that exists has begun with a source of its own.
        begun = RunDirectory.of(recipe, experiments).holds(recipe)
        if begun or not recipe.source_training.iterations:
            starts.append(None)
            continue
        key = _source_key(recipe)
        sources.setdefault(key, job.changed(*_SOURCE_ONLY, f"name=source_{key}"))
        first = sources[key].load()
        directory = RunDirectory.of(first, experiments)
        starts.append(directory.model(0, "source", first.source_training.iterations))
    count = screen.jobs or os.cpu_count() or 1
    jobs = []
    for job, start in zip(plan, starts, strict=True):
        jobs.append(job if start is None else job.started_from(start))
    first_jobs = list(sources.values())
    watch = partial(_report_images, _Watched.all([*first_jobs, *jobs], experiments), screen)
    with _Processes(experiments, count, screen.log, watch) as processes:
        processes.run(first_jobs)
        return processes.run(jobs)


@dataclass(frozen=True)
class _Watched:
    """A run whose images are counted.

    Attributes:
        directory: of the run.
        stages: name, iterations, and images per iteration of each stage.
    """

    directory: RunDirectory
    stages: list[tuple[str, int, int]]

    @classmethod
    def all(cls, jobs: Sequence[_Job], experiments: Path) -> list[_Watched]:
        """One for each job."""
        watched = []
        for job in jobs:
            recipe = job.load()
            stages = []
            for stage in recipe.stages():
                stages.append((stage.name, stage.config.iterations, _images(stage.config)))
            watched.append(cls(RunDirectory.of(recipe, experiments), stages))
        return watched

    @property
    def total(self) -> int:
        """Images of the whole run."""
        return sum(iterations * images for _, iterations, images in self.stages)

    def done(self) -> int:
        """Images of the iterations that the run has recorded."""
        if self.directory.samples.exists():
            return self.total
        last = _last_line(self.directory.metrics)
        if last is None:
            return 0
        evaluated = _evaluated(self.directory.results)
        # A target may come back, so that two stages have its name. The last line is of the stage
        # after those that are evaluated, or of the last of these.
        for number in (evaluated, evaluated - 1):
            if 0 <= number < len(self.stages) and self.stages[number][0] == last.get("stage"):
                before = sum(count * images for _, count, images in self.stages[:number])
                return before + int(last["iteration"]) * self.stages[number][2]
        return 0


def _images(config: StageConfig) -> int:
    """Images of one iteration, of both domains."""
    if not isinstance(config, StepConfig):
        return config.batch_size
    batches = 1 if config.labelled is None else 2
    return config.batch_size + batches * config.target_images


def _evaluated(path: Path) -> int:
    """Stages that a run has evaluated, from its results."""
    try:
        return len(read_json(path)["steps"])
    except (MuhdiError, OSError, KeyError, TypeError):
        return 0


def _last_line(path: Path) -> dict[str, Any] | None:
    """The last whole line of a record; None if there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(path.stat().st_size - _LONGEST_LINE, 0))
            lines = file.read().split(b"\n")
        return dict(json.loads(lines[-2])) if len(lines) > 1 else None
    except (OSError, ValueError):
        return None


def _report_images(runs: Sequence[_Watched], screen: _Screen) -> None:
    done = [run.done() for run in runs]
    screen.on_progress(sum(done), sum(run.total for run in runs))


def _refuse_shared_directories(plan: list[_Job]) -> None:
    names: dict[str, _Job] = {}
    for job in plan:
        name = job.load().name
        if name in names:
            raise RecipeError(
                f"{job.recipe}: two runs would be called {name!r}; give every recipe and seed once,"
                " and each recipe a name of its own"
            )
        names[name] = job


def _source_key(recipe: Recipe) -> str:
    """Identifies what the training on the source depends on."""
    relevant = {key: value for key, value in recipe.experiment().items() if key not in _LATER}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:8]


class _Processes:
    """Runs jobs as processes of one thread each, a few at a time.

    A signal stops them all, saved.
    """

    def __init__(self, experiments: Path, count: int, log: Log, watch: Callable[[], None]) -> None:
        self.experiments = experiments
        self.log = log
        self.watch = watch
        self.pool = ThreadPoolExecutor(count)
        self.running: set[subprocess.Popen[str]] = set()
        self.handlers: dict[int, Any] = {}

    def __enter__(self) -> _Processes:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self.handlers[number] = signal.signal(number, _raise)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.pool.shutdown(wait=False, cancel_futures=True)
        if kind is not None and not issubclass(kind, MuhdiError):
            for process in list(self.running):
                process.terminate()
        self.pool.shutdown()

    def run(self, jobs: Sequence[_Job]) -> list[Results]:
        """Results in the order of the jobs.

        When one fails, the others still end before the error is raised.
        """
        futures = [self.pool.submit(self._run, job) for job in jobs]
        while wait(futures, timeout=1.0).not_done:
            self.watch()
        return [future.result() for future in futures]

    def _run(self, job: _Job) -> Results:
        recipe = job.load()
        directory = RunDirectory.of(recipe, self.experiments)
        if not _complete(directory, recipe):
            self.log(f"{recipe.name}: training")
            self._train(job, recipe.name)
        results = Results.from_json(read_json(directory.results))
        self.log(f"{recipe.name}: done")
        return results

    def _train(self, job: _Job, name: str) -> None:
        command = [sys.executable, "-m", "muhdi", "train", job.recipe]
        command += ["--seed", str(job.seed), "--resume"]
        command += ["--experiments", str(self.experiments)]
        if job.trust_code:
            command.append("--trust-code")
        for setting in job.settings:
            command += ["--set", setting]
        process = subprocess.Popen(
            command,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.running.add(process)
        output, _ = process.communicate()
        self.running.discard(process)
        if process.returncode:
            last = output.strip().splitlines()[-1:] or ["it printed nothing"]
            reason = last[0].removeprefix("error: ")
            raise RunError(f"{name}: the run ended with status {process.returncode}: {reason}")


def _raise(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(signum)


def _complete(directory: RunDirectory, recipe: Recipe) -> bool:
    """Whether a run has ended: every stage is evaluated, and the samples are written."""
    if not directory.results.exists():
        return False
    directory.check(recipe, resume=True, overwrite=False)
    evaluated = len(directory.load_results()["steps"])
    return evaluated == len(recipe.steps) + 1 and directory.samples.exists()
