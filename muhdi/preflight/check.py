"""Reading every file that a run will read, before days are spent on it. No torch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.few_labels import labelled_note, open_labelled
from muhdi.data.sets import ImageSet, Size
from muhdi.data.unlisted import UnlistedIds
from muhdi.errors import DataError, MuhdiError, RecipeError
from muhdi.preflight.count_classes import counted_source, rare_stages, sampling_notes
from muhdi.preflight.pool import in_parts, in_processes
from muhdi.preflight.remarks import (
    dark,
    left_out,
    parsed_size,
    shared_labels,
    squeezed,
    unused_channels,
)
from muhdi.recipe.domains import DomainConfig
from muhdi.recipe.evaluation import check_scales
from muhdi.recipe.schema import Recipe
from muhdi.taxonomy import IGNORE

# What a worker process works on, each set with whether its labels are read; set once at its start.
_sets: list[tuple[ImageSet, bool]] = []


@dataclass
class Split:
    """What was found in the images of a domain's split, and in the labels that a run reads.

    Attributes:
        key: of the domain in the recipe.
        domain: its name.
        split: ``train``, ``val``, or ``labelled``: the few of a target whose labels take part.
        labels_used: whether a run trains on its labels.
        images: how many there are.
        labelled: whether labels were read.
        sizes: images by size, as ``640x360``.
        unreadable: a line for every image that cannot be read, or whose label cannot.
        pixels: of each class, by name.
        ignored: pixels of no class.
        empty: images whose label holds no pixel of any class.
        unlisted: pixels by raw id, or colour, that the label table does not list; they are ignored
            too.
        extremes: lowest and highest value of any pixel, 0 to 255, by channel.
        refused: whether it could not be opened with its labels.
    """

    key: str
    domain: str
    split: str
    labels_used: bool
    images: int = 0
    labelled: bool = False
    sizes: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    pixels: dict[str, int] = field(default_factory=dict)
    ignored: int = 0
    empty: int = 0
    unlisted: Counter[str] = field(default_factory=Counter)
    extremes: list[tuple[int, int]] = field(default_factory=list)
    refused: bool = False


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
    extremes: tuple[tuple[int, int], ...] = ()  # of its pixels, by channel


def check(
    recipe: Recipe,
    jobs: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Read every image and label that a run of the recipe reads.

    Args:
        recipe: whose domains are read.
        jobs: number of processes; None: one per core.
        on_progress: called with the number of images that are done, and of all.

    Returns:
        What was found. A fault of the data is a line of it, not an error.

    Raises:
        RunError: a process was killed.
    """
    report = Report(recipe.name)
    opened: list[tuple[ImageSet, bool]] = []  # in the order of report.splits
    for split, data in _splits(recipe):
        images = _open(recipe, split, data, report)
        if images is not None:
            report.splits.append(split)
            opened.append((images, split.labelled))
    opened += [(images, True) for images in _open_labelled(recipe, report)]
    work = []
    for number, (images, _) in enumerate(opened):
        work += [(number, index) for index in range(len(images))]
    names: list[dict[bytes, str]] = [{} for _ in opened]
    unlisted = UnlistedIds()
    classes = recipe.class_set().classes
    done = 0
    for part in in_processes(_read_all, in_parts(work), jobs, _take, (opened,)):
        for seen in part:
            split = report.splits[seen.number]
            _add(split, seen, classes)
            if not seen.problem:
                # Of equal images the first name counts, so that the order of arrival does not.
                known = names[seen.number].get(seen.digest, seen.name)
                names[seen.number][seen.digest] = min(seen.name, known)
            unlisted.add(_title(split), seen.name, seen.unlisted)
        done += len(part)
        on_progress(done, len(work))
    for split, (images, _) in zip(report.splits, opened, strict=True):
        split.unreadable.sort()
        _judge(split, report)
        _judge_scales(recipe, split, report)
        _remark(recipe, split, images, report)
    report.notes += left_out(recipe, [images for images, _ in opened])
    advice = "list them in ids or colours, as a class or as ignore, or correct label_format"
    report.problems += [f"{line}; {advice}" for line in unlisted.report()]
    _judge_sampling(recipe, report, jobs)
    _judge_duplicates(report, names)
    return report


def _title(split: Split) -> str:
    return f"{split.key} ({split.domain}, {split.split})"


def _splits(recipe: Recipe) -> Iterator[tuple[Split, DomainConfig]]:
    """The splits that a run reads, each once.

    Training labels are read of the source, where a stage learns from it, and of a target only for
    an adaptation that says it reads them.
    """
    trained = {data.domain_name for _, data in recipe.training_domains()}
    reads_labels = {recipe.source_name()} if recipe.trains_on_source else set()
    for step in recipe.steps:
        if step.adaptation.reads_target_labels:
            reads_labels.update(step.domain_names)
    known = set()
    for key, data in recipe.domains():
        name = data.domain_name
        if name in known:
            continue
        known.add(name)
        if name in trained:
            yield Split(key, name, "train", name in reads_labels), data
        yield Split(key, name, "val", False), data


def _open(recipe: Recipe, split: Split, data: DomainConfig, report: Report) -> ImageSet | None:
    """The images of a split, or None if they cannot be opened.

    If only their labels are at fault, the images are read without them.
    """
    context = DataContext.of(recipe)
    wanted = split.labels_used or split.split == "val"
    for labels in (True, False) if wanted else (False,):
        try:
            images = open_split(data, split.split, context, labels=labels)
        except MuhdiError as error:
            report.problems.append(f"{split.key}: {error}")
            split.refused = True
            continue
        split.images = len(images)
        split.labelled = labels and images.labelled
        if labels and split.labels_used and not images.labelled:
            report.problems.append(
                f"{split.key}: {split.domain!r} needs labels to train on; {images.advice}"
            )
        elif labels and not images.labelled and "'labels' is set" in images.advice:
            report.notes.append(f"{split.key}: {split.domain}, {split.split}: {images.advice}")
        return images
    # Both attempts may have met the same fault.
    report.problems = list(dict.fromkeys(report.problems))
    return None


def _open_labelled(recipe: Recipe, report: Report) -> Iterator[ImageSet]:
    """The few images of each step whose labels take part, each choice once; they are noted."""
    totals = {one.domain: one.images for one in report.splits if one.split == "train"}
    known = set()
    for number, step in enumerate(recipe.steps):
        name = step.name  # a step with several targets has no labelled
        if step.labelled is None or (name, step.labelled) in known:
            continue
        known.add((name, step.labelled))
        try:
            context = DataContext.of(recipe)
            images = open_labelled(number, step, context, recipe.runtime.root)
        except MuhdiError as error:
            report.problems.append(str(error))
            continue
        key = f"steps.{number}.labelled"
        split = Split(key, name, "labelled", True, images=len(images), labelled=True)
        report.splits.append(split)
        report.notes.append(labelled_note(images, totals[name]))
        yield images


def _take(opened: list[tuple[ImageSet, bool]]) -> None:
    _sets[:] = opened


def _read_all(part: Sequence[tuple[int, int]]) -> list[_Seen]:
    return [_read(number, index) for number, index in part]


def _read(number: int, index: int) -> _Seen:
    images, labelled = _sets[number]
    try:
        sample = images.read(index, labelled)
    except MuhdiError as error:
        return _Seen(number, images.name(index), problem=str(error))
    height, width = sample.image.shape[:2]
    size = f"{width}x{height}"
    counts: tuple[int, ...] = ()
    if sample.label is not None:
        counts = tuple(np.bincount(sample.label.ravel(), minlength=256).tolist())
    # With the size: images of equal bytes may differ in shape.
    digest = hashlib.sha256(size.encode() + sample.image.tobytes()).digest()
    # One axis after the other, which NumPy does a hundred times as fast as both at once.
    lowest = sample.image.min(0).min(0).tolist()
    highest = sample.image.max(0).max(0).tolist()
    extremes = tuple(zip(lowest, highest, strict=True))
    return _Seen(number, sample.name, "", size, digest, counts, sample.unlisted, extremes)


def _add(split: Split, seen: _Seen, classes: Sequence[str]) -> None:
    if seen.problem:
        split.unreadable.append(seen.problem)
        return
    split.sizes[seen.size] += 1
    split.unlisted.update(seen.unlisted)
    known = split.extremes or seen.extremes
    split.extremes = [
        (min(low, own_low), max(high, own_high))
        for (low, high), (own_low, own_high) in zip(known, seen.extremes, strict=True)
    ]
    if not seen.counts:
        return
    for index, name in enumerate(classes):
        split.pixels[name] = split.pixels.get(name, 0) + seen.counts[index]
    split.ignored += seen.counts[IGNORE]
    if not any(seen.counts[: len(classes)]):
        split.empty += 1


def _judge(split: Split, report: Report) -> None:
    """Report what is wrong with the files of a split, and what is remarkable."""
    title = _title(split)
    if split.unreadable:
        others = len(split.unreadable) - 1
        more = f" (and {others} more)" if others else ""
        report.problems.append(f"{title}: {split.unreadable[0]}{more}")
    never = [name for name, pixels in split.pixels.items() if not pixels]
    if never and split.split == "labelled":
        report.notes.append(
            f"{title}: no label holds {', '.join(never)}, which only the source teaches"
        )
    elif never and split.labels_used:
        report.problems.append(
            f"{title}: no label holds {', '.join(never)}, so it cannot be learned; correct"
            " 'ids', 'colours' or 'masks', or leave it out of 'classes'"
        )
    elif never:
        report.notes.append(f"{title}: no label holds {', '.join(never)}, so it has no score here")
    if split.empty:
        report.notes.append(
            f"{title}: {split.empty} of {split.images} labels hold no pixel of any class"
        )
    if split.split == "val" and not split.labelled and not split.refused:
        report.notes.append(f"{title}: has no labels, so it gets no score")
    if split.images == 1 and split.split != "labelled":
        report.notes.append(f"{title}: holds a single image")


def _shown_size(recipe: Recipe, split: Split) -> Size | None:
    """Width and height to which the images of a split are brought; None: they keep their own."""
    data = next(data for _, data in recipe.domains() if data.domain_name == split.domain)
    return recipe.evaluated_size(data) if split.split == "val" else recipe.size_of(data)


def _judge_scales(recipe: Recipe, split: Split, report: Report) -> None:
    """Report images that are scored at their own size, of which a scale leaves too little."""
    if _shown_size(recipe, split) is not None or not split.sizes:
        return
    smallest = min(map(parsed_size, split.sizes), key=min)
    try:
        name = f"{_title(split)}: the smallest image"
        check_scales(name, smallest, recipe.evaluation.scales)
    except DataError as error:
        report.problems.append(str(error))


def _remark(recipe: Recipe, split: Split, images: ImageSet, report: Report) -> None:
    """Note what is remarkable about the files of a split."""
    size = _shown_size(recipe, split)
    remarks = [shared_labels(images)]
    if size is not None:
        remarks.append(squeezed(split.sizes, size, images.fit))
    if split.sizes:
        remarks.append(dark(max(high for _, high in split.extremes)))
        remarks.append(unused_channels(split.extremes))
    report.notes += [f"{_title(split)}: {remark}" for remark in remarks if remark]


def _judge_sampling(recipe: Recipe, report: Report, jobs: int | None) -> None:
    """Report what rare-class sampling makes of the source; its classes are counted for that."""
    readable = False
    for split in report.splits:
        if split.key == "source" and split.split == "train":
            readable = split.labelled and not split.unreadable
    if not readable or not rare_stages(recipe):
        return  # nothing to count, or reported already
    try:
        _, rare = counted_source(recipe, jobs)
    except (DataError, RecipeError) as error:
        report.problems.append(str(error))
    else:
        report.notes += sampling_notes(recipe, rare)


def _judge_duplicates(report: Report, names: list[dict[bytes, str]]) -> None:
    """Report images that are in a training split and in a validation split too.

    If their labels are trained on, the scores are worthless.
    """
    for split, images in zip(report.splits, names, strict=True):
        if split.split == "val":
            continue
        for other, others in zip(report.splits, names, strict=True):
            shared = images.keys() & others.keys()
            if other.split != "val" or not shared:
                continue
            first, second = min((images[digest], others[digest]) for digest in shared)
            pair = f"for example {first}"
            if first != second:
                pair = f"for example {first} is {second}"
            line = (
                f"{len(shared)} images of {_title(split)} are in {other.domain}, val, too, {pair}"
            )
            if split.labels_used:
                report.problems.append(f"{line}; its scores would be of memorised images")
            else:
                report.notes.append(line)


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain values."""
    splits = []
    for split in report.splits:
        counters = {"sizes": dict(split.sizes), "unlisted": dict(split.unlisted)}
        splits.append(vars(split) | counters)
    return vars(report) | {"splits": splits}
