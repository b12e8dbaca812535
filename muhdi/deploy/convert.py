"""Converting network files between our layout and the reference's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from muhdi.errors import MuhdiError
from muhdi.files import check_target
from muhdi.models.checkpoint import (
    backbone_in,
    load_checkpoint,
    load_reference,
    save_checkpoint,
)
from muhdi.models.discriminator import Discriminator
from muhdi.models.reference_weights import from_foreign, to_reference
from muhdi.models.tensor_files import (
    Tensors,
    load_exactly,
    read_tensors,
    save_reference,
    save_tensors,
)
from muhdi.recipe.backbones import ResNetConfig
from muhdi.run.directory import RunDirectory
from muhdi.taxonomy import CLASS_SETS

PYTORCH = (".pth", ".pt")
OURS = ".safetensors"

_DISCRIMINATOR = {f"{number}.{part}" for number in (0, 2, 4, 6, 8) for part in ("weight", "bias")}
"""The names in a discriminator's file, in both layouts."""


@dataclass(frozen=True)
class Converted:
    """What a conversion has written.

    Attributes:
        files: the network's, and the discriminators'.
        notes: what the user should know.
    """

    files: list[Path]
    notes: list[str]


def convert(
    source: Path,
    target: Path,
    *,
    classes: str | None = None,
    image_size: tuple[int, int] = (640, 320),
    overwrite: bool = False,
) -> Converted:
    """Write a network in another layout; every weight keeps its bits.

    Args:
        source: a run directory (its newest network, and the discriminators next to it), or a
            network's or a discriminator's file.
        target: ``.pth`` for the reference's layout, ``.safetensors`` for ours.
        classes: class set of a reference's network; None: the one with as many classes (7, 16 or
            19).
        image_size: width and height that a reference's network was trained at; its file does not
            say.
        overwrite: replace files that exist.

    Returns:
        The files written. Discriminators of a run are written next to ``target``, as
        ``<stem>_D_main.pth`` and so on; other networks of methods are left out, with a note. The
        reference's layout has no place for domain statistics.

    Raises:
        MuhdiError: a file is missing or of another kind, or the target exists.
    """
    if target.suffix not in (*PYTORCH, OURS):
        raise MuhdiError(
            f"{target}: give a name that ends in .pth (the reference's layout) or {OURS} (ours)"
        )
    jobs = {source: target}
    notes: list[str] = []
    if source.is_dir():
        network = RunDirectory(source).last_model()
        jobs = {network: target}
        for name, file in _own_networks(network).items():
            if _is_discriminator(read_tensors(file)[0]):
                jobs[file] = target.with_name(f"{target.stem}_{name}{target.suffix}")
            else:
                notes.append(f"{file.name} is left out: it is not a discriminator of AdvEnt")
    for file in jobs.values():
        check_target(file)
        if file.exists() and not overwrite:
            raise MuhdiError(f"{file}: exists already; choose another name, or give --overwrite")
    writers = [_converted(origin, file, classes, image_size) for origin, file in jobs.items()]
    for write in writers:  # once all are read and understood
        write()
    return Converted(list(jobs.values()), notes)


def _own_networks(network: Path) -> dict[str, Path]:
    """Methods' own networks next to a run's, which have the same number of iterations."""
    number = network.stem.rpartition("_")[2]
    files = sorted(network.parent.glob(f"*_{number}{OURS}"))
    return {file.stem.removesuffix(f"_{number}"): file for file in files if file != network}


def _is_discriminator(tensors: Tensors) -> bool:
    return set(tensors) == _DISCRIMINATOR


def _converted(
    source: Path, target: Path, classes: str | None, image_size: tuple[int, int]
) -> Callable[[], None]:
    """Read a file; what is returned writes it in the layout that the target's name asks for."""
    tensors, metadata = read_tensors(source)
    if all(key.startswith("module.") for key in tensors):  # saved by DataParallel
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    for key, value in tensors.items():
        if value.dtype not in (torch.float32, torch.int64):
            raise MuhdiError(
                f"{source}: {key} ({value.dtype}) would not keep its bits; networks are float32"
            )
    ours = target.suffix == OURS
    if _is_discriminator(tensors):
        _check_discriminator(tensors, source)
        # Both layouts use the same names.
        return partial(save_tensors if ours else save_reference, target, tensors)
    if ours:
        if metadata:
            raise MuhdiError(
                f"{source}: is in our layout already; copy it, or give a target that ends in .pth"
            )
        count = _count(from_foreign(tensors), source)
        checkpoint = load_reference(source, _class_names(classes, count, source), image_size)
        return partial(save_checkpoint, target, checkpoint)
    if not metadata:
        raise MuhdiError(
            f"{source}: is not in our layout; to bring it there give a target that ends in {OURS}"
        )
    backbone = backbone_in(source, tensors, metadata)
    if not isinstance(backbone, ResNetConfig):
        raise MuhdiError(f"{source}: the reference does not know the backbone {backbone.key!r}")
    return partial(
        save_reference, target, to_reference(load_checkpoint(source).network.state_dict())
    )


def _check_discriminator(tensors: Tensors, source: Path) -> None:
    """Refuse a file with the names of a discriminator but other shapes."""
    first = tensors["0.weight"]
    if first.ndim != 4:
        raise MuhdiError(f"{source}: 0.weight is {tuple(first.shape)}; not a discriminator")
    load_exactly(Discriminator(first.shape[1], first.shape[0]), tensors, source)


def _count(state: Tensors, source: Path) -> int:
    bias = state.get("heads.agnostic.main.convs.0.bias")
    if bias is None or bias.ndim != 1:
        raise MuhdiError(
            f"{source}: is not a segmentation network of the reference (it has no layer6)"
        )
    return len(bias)


def _class_names(name: str | None, count: int, source: Path) -> tuple[str, ...]:
    if name is not None and name not in CLASS_SETS:
        raise MuhdiError(f"--classes {name}: unknown class set (known: {', '.join(CLASS_SETS)})")
    # The reference knows no other classes than those of streets.
    names = [known for known in CLASS_SETS if known.startswith("urban")] if name is None else [name]
    fitting = [CLASS_SETS[known] for known in names if len(CLASS_SETS[known]) == count]
    if not fitting:
        raise MuhdiError(
            f"{source}: it has {count} classes; --classes must name a class set of as many"
        )
    return fitting[0].classes
