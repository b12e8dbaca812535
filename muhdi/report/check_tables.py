"""Tables of what `muhdi check` found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from muhdi.preflight.check import Report, Split

SIZES = 3
"""Image sizes that are named of each split; the others are counted."""


def splits_table(report: Report) -> Table:
    """A row for every split: counts, sizes and what is wrong."""
    table = Table(
        "domain", "split", title=f"{report.recipe}: what a run reads", title_justify="left"
    )
    for column in ("images", "unreadable", "ignored", "unknown ids"):
        table.add_column(column, justify="right")
    table.add_column("sizes")
    for split in report.splits:
        table.add_row(
            split.domain,
            split.split,
            str(split.images),
            str(len(split.unreadable)),
            _ignored_percent(split),
            str(len(split.unlisted)) if split.labelled else "-",
            _sizes(split),
        )
    return table


def classes_table(report: Report) -> Table | None:
    """Every class in every labelled split, in percent of the pixels that count.

    None without labels.
    """
    labelled = [split for split in report.splits if split.pixels]
    if not labelled:
        return None
    table = Table("class", title="Pixels in percent", title_justify="left")
    for split in labelled:
        table.add_column(f"{split.domain} {split.split}", justify="right")
    for name in labelled[0].pixels:
        table.add_row(name, *(_class_percent(split, name) for split in labelled))
    return table


def _ignored_percent(split: Split) -> str:
    total = sum(split.pixels.values()) + split.ignored
    return f"{100 * split.ignored / total:.1f} %" if total else "-"


def _class_percent(split: Split, name: str) -> str:
    count = split.pixels[name]
    # "0.00" would also be said of a rare class.
    if not count:
        return "never"
    return f"{100 * count / sum(split.pixels.values()):.2f}"


def _sizes(split: Split) -> str:
    """The most frequent sizes."""
    if len(split.sizes) == 1:
        return str(next(iter(split.sizes)))
    named = ", ".join(f"{size} ({count})" for size, count in split.sizes.most_common(SIZES))
    others = len(split.sizes) - SIZES
    return f"{named} and {others} more" if others > 0 else named
