"""Several recipes over several seeds in parallel processes, each source trained once.

Recipes that differ in their steps alone start from the same source network, so it is trained once per seed. That
changes nothing: every stage's randomness derives from the seed and the stage alone, and a test holds it to that.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from muhdi.config import Recipe
from muhdi.errors import MuhdiError
from muhdi.evaluation.results import Results
from muhdi.files import read_json
from muhdi.recipe import load_recipe
from muhdi.training.rundir import RunDirectory

_SOURCE_ONLY = ("steps=[]", "every_step={}", "extra_domains=[]")

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Job:
    recipe: str
    seed: int
    settings: tuple[str, ...]

    def load(self) -> Recipe:
        return load_recipe(self.recipe, self.settings, self.seed)


def sweep(
    recipes: Sequence[str],
    seeds: Sequence[int],
    settings: Sequence[str] = (),
    experiments: Path = Path("experiments"),
    jobs: int | None = None,
    say: Say = print,
) -> dict[str, list[Results]]:
    """Run every recipe with every seed, and return the results by recipe, in the order of the seeds.

    Runs that are complete are not repeated, interrupted ones go on. Every process computes with one thread.

    Args:
        recipes: files or names.
        seeds: of the runs.
        settings: ``key=value`` for all of them.
        experiments: folder of the runs.
        jobs: processes at a time; None: one per core.
        say: called with a line for every run that starts or ends.

    Raises:
        MuhdiError: a recipe is wrong, or a run failed; the message holds the end of what it printed.
    """
    plan = [_Job(recipe, seed, tuple(settings)) for seed in seeds for recipe in recipes]
    _refuse_shared_directories(plan)
    sources: dict[str, _Job] = {}
    arms: list[tuple[_Job, Path | None]] = []
    for job in plan:
        recipe = job.load()
        begun = RunDirectory.of(recipe, experiments).holds(recipe)  # by itself, with a source of its own
        if begun or not recipe.source_training.iterations:
            arms.append((job, None))
            continue
        key = _source_key(recipe)
        sources.setdefault(key, _Job(job.recipe, job.seed, (*settings, *_SOURCE_ONLY, f"name=source_{key}")))
        first = sources[key].load()
        arms.append((job, RunDirectory.of(first, experiments).model(0, "source", first.source_training.iterations)))
    workers = jobs or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda job: _run(job, experiments, say), sources.values()))
        ready = [
            job
            if start is None
            else _Job(job.recipe, job.seed, (*job.settings, f"model.init={start}", "source_training.iterations=0"))
            for job, start in arms
        ]
        results = list(pool.map(lambda job: _run(job, experiments, say), ready))
    return {recipe: results[i :: len(recipes)] for i, recipe in enumerate(recipes)}


def _refuse_shared_directories(plan: list[_Job]) -> None:
    names: dict[str, _Job] = {}
    for job in plan:
        name = job.load().name
        if name in names:
            raise MuhdiError(
                f"{job.recipe}: two runs would be called {name!r}; give every recipe and seed once, and each recipe "
                "a name of its own"
            )
        names[name] = job


def _source_key(recipe: Recipe) -> str:
    """Identifies what the training on the source depends on."""
    relevant = recipe.model_dump(mode="json", exclude={"name", "description", "steps", "extra_domains", "evaluation"})
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:8]


def _run(job: _Job, experiments: Path, say: Say) -> Results:
    recipe = job.load()
    directory = RunDirectory.of(recipe, experiments)
    if not _complete(directory, recipe):
        say(f"{recipe.name}: training")
        command = [sys.executable, "-m", "muhdi", "train", job.recipe, "--seed", str(job.seed), "--resume"]
        command += ["--experiments", str(experiments)]
        for setting in job.settings:
            command += ["--set", setting]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            last = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["it printed nothing"]
            reason = last[0].removeprefix("error: ")
            raise MuhdiError(f"{recipe.name}: the run ended with status {done.returncode}: {reason}")
    results = Results.from_json(read_json(directory.results))
    say(f"{recipe.name}: done")
    return results


def _complete(directory: RunDirectory, recipe: Recipe) -> bool:
    if not directory.results.exists():
        return False
    directory.check(recipe, resume=True, overwrite=False)
    return len(directory.load_results()["steps"]) == len(recipe.steps) + 1 and directory.samples.exists()
