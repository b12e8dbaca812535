"""Looking at every file that a run will read, before days are spent on it. No torch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from muhdi.data.catalog import Context, open_split
from muhdi.data.sets import ImageSet
from muhdi.data.unlisted import UnlistedIds
from muhdi.errors import MuhdiError
from muhdi.preflight.pool import in_parts, in_processes
from muhdi.recipe.domains import DomainConfig
from muhdi.recipe.schema import Recipe
from muhdi.taxonomy import IGNORE

_sets: list[
    tuple[ImageSet, bool]
] = []  # of a worker process, each with whether its labels are read


@dataclass
class Split:
    """What was found in the images of a domain's split, and in the labels that a run reads.

    Attributes:
        key: of the domain in the recipe.
        domain: its name.
        split: ``train`` or ``val``.
        learnt: whether a run trains on the labels.
        images: how many there are.
        labelled: whether labels were read.
        sizes: images by size, as ``640x360``.
        unreadable: a line for every image that cannot be read, or whose label cannot.
        pixels: of each class, by name.
        ignored: pixels of no class.
        empty: images whose label holds no pixel of any class.
        unlisted: pixels by raw id, or colour, that the label table does not list; they are ignored,
            too.
    """

    key: str
    domain: str
    split: str
    learnt: bool
    images: int = 0
    labelled: bool = False
    sizes: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    pixels: dict[str, int] = field(default_factory=dict)
    ignored: int = 0
    empty: int = 0
    unlisted: Counter[str] = field(default_factory=Counter)


@dataclass
class Report:
    """What `check` found.

    Attributes:
        recipe: its name.
        splits: that a run reads.
        problems: what would stop a training, or spoil it silently.
        notes: what else the user should know.
    """

    recipe: str
    splits: list[Split] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Seen:
    """One image: what a worker process reports."""

    number: int  # of its split
    name: str
    problem: str = ""
    size: str = ""
    digest: bytes = b""  # of its pixels
    counts: tuple[int, ...] = ()  # pixels by label, 256 of them; none where labels are not read
    unlisted: dict[str, int] = field(default_factory=dict)


def check(
    recipe: Recipe,
    jobs: int | None = None,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Read every image and label that a run of the recipe reads.

    Args:
        jobs: processes; None: one per core.
        told: called with the number of images that are done, and of all.
    """
    report = Report(recipe.name)
    opened: list[tuple[ImageSet, bool]] = []
    for split, data in _splits(recipe):
        images = _open(recipe, split, data, report)
        if images is not None:
            report.splits.append(split)
            opened.append((images, split.labelled))
    work = [
        (number, index) for number, (images, _) in enumerate(opened) for index in range(len(images))
    ]
    found: list[dict[bytes, str]] = [{} for _ in opened]
    unlisted, classes = UnlistedIds(), recipe.class_set().classes
    done = 0
    for part in in_processes(_look, in_parts(work), jobs, _take, (opened,)):
        for seen in part:
            split = report.splits[seen.number]
            _add(split, seen, classes)
            if not seen.problem:
                found[seen.number][seen.digest] = min(
                    seen.name, found[seen.number].get(seen.digest, seen.name)
                )
            unlisted.add(f"{split.key} ({split.domain}, {split.split})", seen.name, seen.unlisted)
        done += len(part)
        told(done, len(work))
    for split in report.splits:
        split.unreadable.sort()
        _judge(split, report)
    report.problems += [
        f"{line}; list them in ids, as a class or as ignore, or correct label_format"
        for line in unlisted.report()
    ]
    _judge_duplicates(report, found)
    return report


def _splits(recipe: Recipe) -> Iterator[tuple[Split, DomainConfig]]:
    """The splits that a run reads, each once; labels of targets are read for the oracle alone."""
    oracle = {
        step.target.domain_name for step in recipe.steps if step.adaptation.reads_target_labels
    }
    trained = {step.target.domain_name for step in recipe.steps}
    known = set()
    for key, data in recipe.domains():
        name = data.domain_name
        if name in known:
            continue
        known.add(name)
        if key == "source" or name in trained:
            yield Split(key, name, "train", key == "source" or name in oracle), data
        yield Split(key, name, "val", False), data


def _open(recipe: Recipe, split: Split, data: DomainConfig, report: Report) -> ImageSet | None:
    """The images of a split; without their labels, if only those are at fault.

    None if there are none.
    """
    context = Context.of(recipe)
    wanted = split.learnt or split.split == "val"
    for labels in (True, False) if wanted else (False,):
        try:
            images = open_split(data, split.split, context, labels=labels)
        except MuhdiError as error:
            report.problems.append(f"{split.key}: {error}")
            continue
        split.images, split.labelled = len(images), labels and images.labelled
        if labels and split.learnt and not images.labelled:
            report.problems.append(
                f"{split.key}: {split.domain!r} needs labels to train on; {images.advice}"
            )
        return images
    report.problems = list(dict.fromkeys(report.problems))
    return None


def _take(opened: list[tuple[ImageSet, bool]]) -> None:
    _sets[:] = opened


def _look(part: Sequence[tuple[int, int]]) -> list[_Seen]:
    return [_look_at(number, index) for number, index in part]


def _look_at(number: int, index: int) -> _Seen:
    images, labelled = _sets[number]
    try:
        sample = images.read(index, labelled)
    except MuhdiError as error:
        return _Seen(number, images.name(index), str(error))
    height, width = sample.image.shape[:2]
    counts = (
        () if sample.label is None else np.bincount(sample.label.ravel(), minlength=256).tolist()
    )
    digest = hashlib.sha256(f"{width}x{height}".encode() + sample.image.tobytes()).digest()
    return _Seen(
        number, sample.name, "", f"{width}x{height}", digest, tuple(counts), sample.unlisted
    )


def _add(split: Split, seen: _Seen, classes: Sequence[str]) -> None:
    if seen.problem:
        split.unreadable.append(seen.problem)
        return
    split.sizes[seen.size] += 1
    split.unlisted.update(seen.unlisted)
    if seen.counts:
        for name, pixels in zip(classes, seen.counts, strict=False):
            split.pixels[name] = split.pixels.get(name, 0) + pixels
        split.ignored += seen.counts[IGNORE]
        split.empty += not any(seen.counts[: len(classes)])


def _judge(split: Split, report: Report) -> None:
    """What is wrong with the files of a split, and what is remarkable."""
    where = f"{split.key} ({split.domain}, {split.split})"
    if split.unreadable:
        more = f" (and {len(split.unreadable) - 1} more)" if len(split.unreadable) > 1 else ""
        report.problems.append(f"{where}: {split.unreadable[0]}{more}")
    never = [name for name, pixels in split.pixels.items() if not pixels]
    if never and split.learnt:
        report.problems.append(
            f"{where}: no label holds {', '.join(never)}, so nothing can be learnt of it; correct"
            " the table of ids, or leave it out of 'classes'"
        )
    elif never:
        report.notes.append(f"{where}: no label holds {', '.join(never)}, so it has no score there")
    if split.empty:
        report.notes.append(
            f"{where}: {split.empty} of {split.images} labels hold no pixel of any class"
        )
    if split.split == "val" and not split.labelled:
        report.notes.append(f"{where}: has no labels, so it gets no score")
    if split.images == 1:
        report.notes.append(f"{where}: holds a single image")


def _judge_duplicates(report: Report, found: list[dict[bytes, str]]) -> None:
    """Images that stand in a training split and in a validation split too.

    Where labels are learnt, that spoils it.
    """
    for split, images in zip(report.splits, found, strict=True):
        for other, others in zip(report.splits, found, strict=True):
            shared = images.keys() & others.keys()
            if (split.split, other.split) != ("train", "val") or not shared:
                continue
            one, two = min((images[digest], others[digest]) for digest in shared)
            line = (
                f"{len(shared)} images of {split.key} ({split.domain}, train) stand in"
                f" {other.domain}, val, too"
            )
            pair = f"{one}, for one" if one == two else f"{one} is {two}, for one"
            if split.learnt:
                report.problems.append(
                    f"{line}: {pair}; scores would be of what was learnt by heart"
                )
            else:
                report.notes.append(f"{line}: {pair}")


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain values."""
    splits = [
        vars(split) | {"sizes": dict(split.sizes), "unlisted": dict(split.unlisted)}
        for split in report.splits
    ]
    return vars(report) | {"splits": splits}
