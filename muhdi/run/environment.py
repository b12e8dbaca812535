"""What a run ran on, how long, and with how much memory: ``environment.json`` in its directory."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from muhdi import distributed
from muhdi.errors import MuhdiError
from muhdi.files import read_json, write_json
from muhdi.recipe import plugins
from muhdi.recipe.load import RECIPE, load_recipe
from muhdi.recipe.schema import Recipe

FILE = "environment.json"
PACKAGES = ("muhdi", "torch", "numpy", "pillow", "lightning-fabric")


@contextmanager
def recorded(folder: Path, precision: str) -> Iterator[None]:
    """Add a session to the record of the run in ``folder``: an interrupted run has several.

    A session holds ``started`` (UTC), ``seconds``, ``memory_mb`` (the largest resident set of the
    process, in MiB), ``gpu_memory_mb``, ``device``, ``precision``, ``threads``, ``python``,
    ``platform``, ``versions`` of packages, and ``plugins``: classes of other packages that the
    recipe names, with the versions of their packages. Nothing is written after a mistake of the
    user's (the run in the folder may be another one), and only rank zero writes.

    Args:
        folder: of the run.
        precision: in which this session computes.
    """
    started = datetime.now(timezone.utc)
    clock = time.monotonic()
    mistaken = False
    try:
        yield
    except MuhdiError:
        mistaken = True
        raise
    finally:
        is_run = (folder / RECIPE).is_file()
        if is_run and not mistaken and distributed.is_rank_zero():
            path = folder / FILE
            sessions = read_json(path) if path.is_file() else []
            recipe = load_recipe(folder / RECIPE, trust_code=False)
            session = _session(started, time.monotonic() - clock, recipe)
            sessions.append({**session, "precision": precision})
            write_json(path, sessions)


def resident_mb() -> int:
    """The largest resident set of this process so far, in MiB."""
    # The system counts in bytes on macOS, in KiB elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def _session(started: datetime, seconds: float, recipe: Recipe) -> dict[str, Any]:
    device = f"{platform.machine()}, {os.cpu_count()} cores"
    gpu_memory: int | None = None
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
        gpu_memory = round(torch.cuda.max_memory_allocated() / 2**20)
    return {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "memory_mb": resident_mb(),
        "gpu_memory_mb": gpu_memory,
        "device": device,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "versions": {name: _version(name) for name in PACKAGES},
        "plugins": {name: plugins.version_of(name) for name in recipe.foreign_classes()},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
