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
from pathlib import Path
from types import FrameType
from typing import Any

from muhdi.errors import Interrupted, MuhdiError
from muhdi.evaluation.results import Results
from muhdi.files import read_json
from muhdi.recipe.load import load_recipe, save_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory

_SOURCE_ONLY = ("steps=[]", "every_step={}", "extra_domains=[]")

_LATER = ("name", "steps", "extra_domains", "evaluation")
"""Keys of the experiment on which the training on the source does not depend."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Job:
    recipe: str
    seed: int
    settings: tuple[str, ...]

    def load(self) -> Recipe:
        return load_recipe(self.recipe, self.settings, self.seed)

    def started_from(self, network: Path) -> _Job:
        """The same job without training on the source."""
        return replace(
            self, settings=(*self.settings, f"model.init={network}", "source_training.iterations=0")
        )


def sweep(
    recipes: Sequence[Recipe | Path | str],
    seeds: Sequence[int],
    settings: Sequence[str] = (),
    experiments: Path | str = Path("experiments"),
    jobs: int | None = None,
    say: Say = print,
) -> dict[str, list[Results]]:
    """Run every recipe with every seed; the results by recipe, in the order of the seeds.

    Runs that are complete are not repeated, interrupted ones go on. Every process computes with one
    thread.

    Args:
        recipes: files, names, or recipes as objects.
        seeds: of the runs.
        settings: ``key=value`` for all of them.
        experiments: folder of the runs.
        jobs: processes at a time; None: one per core.
        say: called with a line for every run that starts or ends.

    Raises:
        MuhdiError: a recipe is wrong, or a run failed; the message holds the end of what it
            printed.
        Interrupted: after SIGINT or SIGTERM; all runs are saved, and the same call goes on with
            them.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = [_as_file(recipe, Path(folder)) for recipe in recipes]
        return _sweep(names, seeds, settings, Path(experiments), _Screen(jobs, say))


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
    say: Say


def _sweep(
    recipes: Sequence[str],
    seeds: Sequence[int],
    settings: Sequence[str],
    experiments: Path,
    screen: _Screen,
) -> dict[str, list[Results]]:
    plan = [_Job(recipe, seed, tuple(settings)) for seed in seeds for recipe in recipes]
    _refuse_shared_directories(plan)
    sources: dict[str, _Job] = {}
    arms: list[tuple[_Job, Path | None]] = []
    for job in plan:
        recipe = job.load()
        begun = RunDirectory.of(recipe, experiments).holds(
            recipe
        )  # by itself, with a source of its own
        if begun or not recipe.source_training.iterations:
            arms.append((job, None))
            continue
        key = _source_key(recipe)
        sources.setdefault(
            key, _Job(job.recipe, job.seed, (*settings, *_SOURCE_ONLY, f"name=source_{key}"))
        )
        first = sources[key].load()
        arms.append(
            (
                job,
                RunDirectory.of(first, experiments).model(
                    0, "source", first.source_training.iterations
                ),
            )
        )
    with _Processes(experiments, screen.jobs or os.cpu_count() or 1, screen.say) as processes:
        processes.run(list(sources.values()))
        results = processes.run(
            [job if start is None else job.started_from(start) for job, start in arms]
        )
    return {recipe: results[i :: len(recipes)] for i, recipe in enumerate(recipes)}


def _refuse_shared_directories(plan: list[_Job]) -> None:
    names: dict[str, _Job] = {}
    for job in plan:
        name = job.load().name
        if name in names:
            raise MuhdiError(
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

    SIGINT and SIGTERM stop them all, saved.
    """

    def __init__(self, experiments: Path, count: int, say: Say) -> None:
        self.experiments, self.say = experiments, say
        self.pool = ThreadPoolExecutor(count)
        self.running: set[subprocess.Popen[str]] = set()
        self.handlers: dict[int, Any] = {}

    def __enter__(self) -> _Processes:
        if threading.current_thread() is threading.main_thread():
            for number in (int(signal.SIGINT), int(signal.SIGTERM)):
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
        wait(futures)
        return [future.result() for future in futures]

    def _run(self, job: _Job) -> Results:
        recipe = job.load()
        directory = RunDirectory.of(recipe, self.experiments)
        if not _complete(directory, recipe):
            self.say(f"{recipe.name}: training")
            self._train(job, recipe.name)
        results = Results.from_json(read_json(directory.results))
        self.say(f"{recipe.name}: done")
        return results

    def _train(self, job: _Job, name: str) -> None:
        command = [
            sys.executable,
            "-m",
            "muhdi",
            "train",
            job.recipe,
            "--seed",
            str(job.seed),
            "--resume",
        ]
        command += ["--experiments", str(self.experiments)]
        command += [word for setting in job.settings for word in ("--set", setting)]
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
            raise MuhdiError(f"{name}: the run ended with status {process.returncode}: {reason}")


def _raise(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(signum)


def _complete(directory: RunDirectory, recipe: Recipe) -> bool:
    if not directory.results.exists():
        return False
    directory.check(recipe, resume=True, overwrite=False)
    return (
        len(directory.load_results()["steps"]) == len(recipe.steps) + 1
        and directory.samples.exists()
    )
