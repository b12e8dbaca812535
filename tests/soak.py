"""Train, kill, resume, compare.

Runs that are killed with SIGKILL again and again must end in the same bits.

``python -m tests.soak`` takes every adaptation x retention with 0 and with 2 loader workers and
kills each 20 times, half of the times at a moment of the clock, half of the times at one of the
events listed in `watched`: in the middle of a write, between a backward pass and its update, and so
on. It ends with a table of what was counted, and status 1 if anything differed. Its children are
forked from a process that never computes, so that none has to import anything.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.utils.tensorboard  # imported once, here, instead of in every child
import yaml

import muhdi.evaluation.domains
import muhdi.files
import muhdi.training.sets
import muhdi.training.stage
import muhdi.workflows.train
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.run.loggers import JsonLines
from muhdi.workflows.train import train

ADAPTATIONS = ("none", "minent", "{method: advent, width: 8}", "selftrain", "oracle")
RETENTIONS = ("none", "distill", "muhdi", "{method: ewc, samples: 2}")
WORKERS = (0, 2)
RECIPE = {
    "name": "soak",
    "image_size": [48, 32],
    "source": {"dataset": "scenes", "domain": "sim", "train": 6, "val": 3},
    "optimizer": {"name": "adamw", "head_factor": 1},
    "augment": {"crop": 0.5, "flip": True, "colour": 0.3},
    "source_training": {"iterations": 5, "batch_size": 2, "learning_rate": 1e-3},
    "every_step": {"iterations": 5, "batch_size": 2, "learning_rate": 1e-3},
    "steps": [
        {"target": {"dataset": "scenes", "domain": "city", "train": 6, "val": 3}},
        {"target": {"dataset": "scenes", "domain": "night", "train": 6, "val": 3}},
    ],
    "log_every": 1,
    "save_every": 2,
    "snapshot_every": 3,
    "evaluation": {"domain_images": 4, "samples": 1, "statistics": ["running", "domain"]},
}


OF_ONE_SESSION = ("environment.json", "report.html")
"""Files that hold times and memory, which no two sessions share."""
PATIENCE = 180
"""Seconds after which a run, which takes a few, counts as hung."""


class Events:
    """Counts what happens in the child, and ends it at event number ``last`` without a word to
    anybody.
    """

    def __init__(self, last: int | None, note: Path) -> None:
        self.last, self.note, self.seen = last, note, Counter[str]()

    def happens(self, kind: str, half: Callable[[], object] = lambda: None) -> None:
        """An event; ``half`` is done before the end, if it is this one: half of a write."""
        self.seen[kind] += 1
        if self.seen.total() == self.last:
            half()
            self.note.write_text(kind)
            os.kill(os.getpid(), signal.SIGKILL)


def watched(events: Events) -> None:
    """Make everything of interest an event."""

    def before(place: Any, name: str, kind: str) -> None:
        original = getattr(place, name)

        def call(*arguments: Any, **options: Any) -> Any:
            events.happens(kind)
            return original(*arguments, **options)

        setattr(place, name, call)

    before(muhdi.workflows.train, "measure_seen_domains", "measuring statistics")
    before(muhdi.workflows.train, "evaluate_domains", "evaluation")
    before(sys.modules["muhdi.evaluation.predict"], "confusion_matrix", "evaluation")
    before(muhdi.workflows.train, "train_stage", "between stages")
    before(muhdi.workflows.train, "keep_samples", "saving samples")
    before(muhdi.workflows.train, "keep_report", "writing the report")
    before(muhdi.training.stage.StageTrainer, "iterate", "between iterations")
    before(muhdi.training.stage.StageTrainer, "finish", "what a method remembers")
    before(muhdi.training.stage, "train_iteration", "a step, before the passes")
    before(torch.Tensor, "backward", "a step, between the passes")
    before(muhdi.training.stage.StageTrainer, "_average_gradients", "a step, before the update")
    before(os, "fsync", "writing, before flushing")
    before(os, "replace", "writing, before renaming")
    before(os, "unlink", "removing an old state")
    before(os, "rename", "saving samples")
    _watch_loading(events)
    _watch_half_writes(events)


def _watch_loading(events: Events) -> None:
    original = muhdi.training.sets.endless_batches

    def batches(*arguments: Any) -> Iterator[Any]:
        for batch in original(*arguments):
            events.happens("loading")
            yield batch

    muhdi.training.sets.endless_batches = batches


def _watch_half_writes(events: Events) -> None:
    class Half:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: Any) -> int:
            events.happens(
                "writing, in the middle",
                lambda: (self.file.write(data[: len(data) // 2]), self.file.flush()),
            )
            return self.file.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    @contextlib.contextmanager
    def half_open(path: Path, mode: str) -> Iterator[Half]:
        with open(path, mode) as file:
            yield Half(file)

    muhdi.files.open = half_open  # type: ignore[attr-defined]
    write = JsonLines.write

    def line(self: JsonLines, values: dict[str, Any]) -> None:
        def half() -> None:
            self._file.write('{"stage": "s')
            self._file.flush()

        events.happens("writing, in the middle", half)
        write(self, values)

    JsonLines.write = line  # type: ignore[method-assign]


def child(recipe: Recipe, folder: Path, last: int | None, seconds: float | None) -> tuple[int, str]:
    """Run, or go on with, a recipe in a process of its own.

    Args:
        last: end it at this event.
        seconds: or after this time.

    Returns:
        0 if it came to its end, 9 if it was killed, and where; or all events of a whole run.
    """
    note = folder.with_suffix(".note")
    note.unlink(missing_ok=True)
    number = os.fork()
    if not number:
        status = 1
        try:
            torch.set_num_threads(1)
            signal.alarm(PATIENCE)
            events = Events(last, note)
            watched(events)
            train(recipe, folder, resume=True, quiet=True)
            note.write_text(json.dumps(events.seen))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        raise RuntimeError(f"{recipe.name}: a run hung for {PATIENCE} seconds")
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status), note.read_text() if last is not None else "by the clock"
    if status:
        raise RuntimeError(
            f"{recipe.name}: a run ended with status {os.WEXITSTATUS(status)}, see above"
        )
    return 0, note.read_text()


def differences(recipe: Recipe, one: Path, two: Path) -> list[str]:
    """Files in which two finished runs differ, or that only one of them has."""
    a, b = (RunDirectory.of(recipe, folder).folder for folder in (one, two))
    names = {
        str(p.relative_to(f))
        for f in (a, b)
        for p in f.rglob("*")
        if p.is_file() and p.suffix != ".pt" and p.name not in OF_ONE_SESSION
    }
    found = []
    for name in sorted(names):
        if not ((a / name).is_file() and (b / name).is_file()):
            found.append(f"{name}: only in one")
        elif (a / name).read_bytes() != (b / name).read_bytes():
            found.append(name)
    states = [[path.name for path in RunDirectory(folder).states.files()] for folder in (a, b)]
    return found if states[0] == states[1] else [*found, f"states {states}"]


def soak(
    recipe: Recipe, folder: Path, kills: int, rng: random.Random, counts: Counter[str], until: float
) -> list[str]:
    """Kill one recipe so often, starting it anew whenever it comes to its end.

    What differed from the whole run.
    """
    start = time.monotonic()
    _, text = child(recipe, folder / "whole", None, None)
    duration, events = time.monotonic() - start, sum(json.loads(text).values())
    found: list[str] = []
    done, broken = 0, folder / "broken"
    while True:
        stop = done >= kills or time.monotonic() > until
        by_clock = rng.random() < 0.5
        last = None if stop or by_clock else rng.randrange(1, events // 3)
        seconds = rng.uniform(0, duration / 3) if by_clock and not stop else None
        status, where = child(recipe, broken, last, seconds)
        if status:
            done += 1
            counts[where] += 1
            counts["kills"] += 1
            continue
        counts["runs compared"] += 1
        found += differences(recipe, folder / "whole", broken)
        shutil.rmtree(broken)
        if stop:
            return found


def recipes(folder: Path, quick: bool) -> list[Recipe]:
    """Every combination; or every adaptation once, in one step, with retentions and workers in
    turn.
    """
    path = folder / "soak.yml"
    shorter = {"steps": RECIPE["steps"][:1]} if quick else {}
    path.write_text(yaml.safe_dump(RECIPE | shorter))
    plan = [(a, r, w) for a in ADAPTATIONS for r in RETENTIONS for w in WORKERS]
    if quick:
        plan = [(a, RETENTIONS[i % 4], WORKERS[i % 2]) for i, a in enumerate(ADAPTATIONS)]
    found = []
    for adaptation, retention, workers in plan:
        words = re.findall(r"\w+", f"{adaptation} {retention}")
        name = "_".join(word for word in words if word not in ("method", "width", "samples"))
        settings = [
            f"every_step.adaptation={adaptation}",
            f"every_step.retention={retention}",
            f"runtime.workers={workers}",
            f"name={name}_workers{workers}",
        ]
        found.append(load_recipe(path, settings))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="of each combination")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop killing after so long"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="five combinations instead of all")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    counts: Counter[str] = Counter()
    losses: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        plan = recipes(Path(name), options.quick)
        random.Random(options.seed).shuffle(
            plan
        )  # a budget that is too small reaches other ones with another seed
        for recipe in plan:
            if time.monotonic() > until:
                break
            rng = random.Random(f"{options.seed} {recipe.name}")
            before = counts["kills"]
            found = soak(recipe, Path(name) / recipe.name, options.kills, rng, counts, until)
            counts["combinations"] += 1
            losses |= {recipe.name: found} if found else {}
            print(
                f"{recipe.name}: {counts['kills'] - before} kills, {len(found)} differences",
                file=sys.stderr,
            )
    print(
        json.dumps(
            {"seed": options.seed, "counts": dict(counts.most_common()), "losses": losses}, indent=1
        )
    )
    return 1 if losses else 0


if __name__ == "__main__":
    sys.exit(main())
