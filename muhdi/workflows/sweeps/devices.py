"""The GPUs of this machine, one for each run that trains at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence

from muhdi.errors import RecipeError
from muhdi.recipe.schema import Recipe

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> list[str]:
    """The GPUs that PyTorch sees here, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get(VISIBLE)
    if named is None:
        return [str(number) for number in range(count)]
    return [name.strip() for name in named.split(",")][:count]


def places(jobs: int | None, gpus: str | None, recipes: Sequence[Recipe]) -> list[str | None]:
    """Where runs train at the same time: the GPU of each, None for a run that is given none.

    Args:
        jobs: runs at a time; None: one per GPU, or per core where there is no GPU.
        gpus: ``auto``, or names as in ``CUDA_VISIBLE_DEVICES`` with commas between them; None:
            those that there are, unless all recipes ask for the CPU.
        recipes: of the runs.

    Raises:
        RecipeError: there is no such GPU, a recipe asks for more than one, or `jobs` is below 1.
    """
    if jobs is not None and jobs < 1:
        raise RecipeError(f"jobs: must be 1 or more (it is {jobs})")
    chosen = _chosen(gpus, recipes)
    if not chosen:
        return [None] * (jobs or os.cpu_count() or 1)
    for recipe in recipes:
        _check_one(recipe)
    return [chosen[number % len(chosen)] for number in range(jobs or len(chosen))]


def _chosen(gpus: str | None, recipes: Sequence[Recipe]) -> list[str]:
    on_cpu = all(recipe.runtime.device == "cpu" for recipe in recipes)
    if gpus is None:
        return [] if on_cpu else visible_gpus()
    if on_cpu:
        raise RecipeError(f"--gpus {gpus}: runtime.device is cpu; leave one of them out")
    visible = visible_gpus()
    if not visible:
        raise RecipeError(f"--gpus {gpus}: PyTorch sees no GPU on this machine; leave it out")
    if gpus == "auto":
        return visible
    names = [name.strip() for name in gpus.split(",")]
    for name in names:
        if name not in visible:
            raise RecipeError(
                f"--gpus {gpus}: there is no GPU {name!r} (there are {', '.join(visible)})"
            )
    return names


def _check_one(recipe: Recipe) -> None:
    """A run of a sweep sees one GPU, which is its first one."""
    runtime = recipe.runtime
    if runtime.nodes > 1 or runtime.devices not in (1, "auto"):
        key = "nodes" if runtime.nodes > 1 else "devices"
        raise RecipeError(
            f"{recipe.name}: runtime.{key}: the runs of a sweep have one GPU each; set it to 1, or"
            " train with muhdi train"
        )
    if runtime.device not in ("auto", "cpu", "cuda", "cuda:0"):
        raise RecipeError(
            f"{recipe.name}: runtime.device: {runtime.device}: the runs of a sweep see one GPU"
            " each; set auto, and choose GPUs with --gpus"
        )
