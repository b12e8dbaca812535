"""A page for the documentation: terms, folders and classes of every public data set.

It is made from the tables that read the data sets.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from muhdi.data.paths import SplitImages, label_files
from muhdi.data.public.known import LAYOUTS
from muhdi.data.public.labels import NONE, Labels, class_of, raw_labels
from muhdi.data.public.layout import Layout, stem_of
from muhdi.data.public.nuimages import ROOT
from muhdi.data.public.sources import SOURCES
from muhdi.recipe import plugins
from muhdi.recipe.domains import PublicConfig
from muhdi.taxonomy import CLASS_SETS, hex_colour

INTRO = """# Folders and classes

This page is made from the tables that read the data sets. Put a data set (or a link to it) where
its tree begins, or say in the recipe where it is with `root`. muhdi downloads none: the page of
each says how to get it. The terms are a pointer, not advice: read them there.

In the tables of classes, `urban7` is as in the paper where the paper has the data set; a label
without a class is ignored. A `classes` list of your own may name any of the labels too.
"""

_SETS = ("urban19", "urban7")
"""Class sets that every table shows, besides the data set's own."""


def reference_page() -> str:
    """The page, in Markdown."""
    lines = [INTRO, *_overview()]
    shown: dict[Labels, str] = {}
    for dataset, layout in LAYOUTS.items():
        lines += _section(dataset, layout, shown)
    lines += _nuimages()
    return "\n".join(lines) + "\n"


def _overview() -> list[str]:
    rows = [
        "| `dataset` | what it shows | images with labels | terms | `classes` |",
        "| --- | --- | --- | --- | --- |",
    ]
    for dataset, source in SOURCES.items():
        name = f"[`{dataset}`](#{dataset})"
        cells = [name, source.shows, source.images, source.terms, f"`{source.classes}`"]
        rows.append(f"| {' | '.join(cells)} |")
    return [*rows, ""]


def _section(dataset: str, layout: Layout, shown: dict[Labels, str]) -> list[str]:
    """A data set's part of the page.

    Args:
        dataset: its name.
        layout: of its newest release.
        shown: the tables of classes that the page has already, with their data sets; added to.
    """
    source = SOURCES[dataset]
    lines = [
        f"## {dataset}",
        "",
        f"[{source.title}]({source.page}): {source.terms}.",
        "",
        *tree_of(dataset, layout),
    ]
    for older in layout.older:
        lines += ["An older release is read, too:", "", *tree_of(dataset, older)]
    lines += _options(dataset)
    if source.split:
        lines += [
            f"Split: {source.split}. `train_list` and `val_list` may divide it otherwise.",
            "",
        ]
    labels = layout.labels[0].labels(dataset, Path())
    if labels in shown:
        return [*lines, f"Labels: as of [`{shown[labels]}`](#{shown[labels]}).", ""]
    shown[labels] = dataset
    return [*lines, *_classes(labels, source.classes, by_colour=_by_colour(layout))]


def _nuimages() -> list[str]:
    """The part of nuImages, whose labels lie in tables."""
    source = SOURCES["nuimages"]
    return [
        "## nuimages",
        "",
        f"[{source.title}]({source.page}): {source.terms}.",
        "",
        "```text",
        f"{ROOT}/",
        "├── samples/CAM_FRONT/n003-2018-01-02-11-48-43+0800__CAM_FRONT__1514864923000000.jpg",
        "└── v1.0-train/",
        "    ├── category.json",
        "    ├── sample_data.json",
        "    ├── object_ann.json",
        "    └── surface_ann.json",
        "```",
        "",
        *_options("nuimages"),
        "Labels are drawn from the masks in the tables, surfaces first. They need the tables in",
        "memory, by estimate 2 GB for the training split; targets need none of it.",
        "",
        *_classes(raw_labels("nuimages"), source.classes, by_colour=False),
    ]


def _options(dataset: str) -> list[str]:
    """What the section of a data set may say besides what all of them may."""
    fields = plugins.sections("dataset")[dataset].model_fields
    own = [name for name in fields if name not in PublicConfig.model_fields]
    texts = {name: " ".join((fields[name].description or "").split()) for name in own}
    lines = [f"`{name}`: {text} Default: `{fields[name].default}`." for name, text in texts.items()]
    return [*lines, ""] if lines else []


def _by_colour(layout: Layout) -> bool:
    return all(kind.format == "colours" for kind in layout.labels)


def tree_of(dataset: str, layout: Layout) -> list[str]:
    """A code block with an image of a data set and the labels that it may have, as a tree."""
    image = PurePosixPath(layout.example)
    paths = {str(image): ""}
    for number, kind in enumerate(layout.labels):
        path = example_label(dataset, layout, kind.pattern)
        paths.setdefault(path, f"{'or ' if number else ''}{kind.format.replace('_', ' ')}")
    branches: dict[str, Any] = {}
    for path, note in paths.items():
        *folders, name = PurePosixPath(path).parts
        place = branches
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = note
    return ["```text", f"{layout.root}/", *_drawn(branches, ""), "```", ""]


def example_label(dataset: str, layout: Layout, pattern: str) -> str:
    """The label of the example of a layout, by a pattern of labels."""
    image = Path(layout.example)
    split = _split_of(layout)
    folder = layout.folder.replace("{split}", split)
    base = Path(*image.parts[: len(Path(folder).parts)])
    endings = tuple(ending.replace("{variant}", "*") for ending in layout.endings)
    stem = stem_of(image.name, endings)
    assert stem is not None
    images = SplitImages([image], split, base)
    (label,) = label_files(Path(), pattern, images, [stem], dataset)
    return label.as_posix()


def _split_of(layout: Layout) -> str:
    """The name of the split that the example is of; the first where splits have no folders."""
    folders = PurePosixPath(layout.example).parts[:-1]
    return next((name for name in layout.train if name in folders), layout.train[0])


def _drawn(branches: dict[str, Any], before: str) -> list[str]:
    """The lines of a tree."""
    lines = []
    for number, (name, inner) in enumerate(branches.items()):
        last = number == len(branches) - 1
        # A folder that holds nothing else stands in one line with what it holds.
        while isinstance(inner, dict) and len(inner) == 1:
            ((child, deeper),) = inner.items()
            name = f"{name}/{child}"
            inner = deeper
        branch = f"{before}{'└── ' if last else '├── '}{name}"
        if isinstance(inner, dict):
            lines += [f"{branch}/", *_drawn(inner, before + ("    " if last else "│   "))]
        else:
            lines.append(f"{branch}    {inner}".rstrip())
    return lines


def _classes(labels: Labels, own: str, *, by_colour: bool) -> list[str]:
    """The table of the classes of a data set's labels."""
    names = [own, *(name for name in _SETS if name != own)]
    first = "colour" if by_colour else "id"
    lines = [f"| {first} | label | {' | '.join(f'`{name}`' for name in names)} |"]
    lines.append("| --- " * (len(names) + 2) + "|")
    for label in labels:
        value = f"`{hex_colour(label.colour)}`" if by_colour else str(label.id)
        classes = [class_of(label, CLASS_SETS[name]) for name in names]
        cells = [value, label.name, *("" if name == NONE else name for name in classes)]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]
