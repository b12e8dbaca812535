"""Tables of what `muhdi check` found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from muhdi.preflight.check import Report, Split


def splits_table(report: Report) -> Table:
    """A row for every split: counts, sizes and what is wrong."""
    table = Table(
        "domain", "split", title=f"{report.recipe}: what a run reads", title_justify="left"
    )
    for column in ("images", "unreadable", "ignored", "unknown ids"):
        table.add_column(column, justify="right")
    table.add_column("sizes")
    for split in report.splits:
        ignored = f"{100 * split.ignored / total:.1f} %" if (total := _pixels(split)) else "-"
        unlisted = str(len(split.unlisted)) if split.labelled else "-"
        table.add_row(
            split.domain,
            split.split,
            str(split.images),
            str(len(split.unreadable)),
            ignored,
            unlisted,
            _sizes(split),
        )
    return table


def classes_table(report: Report) -> Table | None:
    """The share of every class in every labelled split, in percent of the pixels that count.

    None without labels.
    """
    labelled = [split for split in report.splits if split.pixels]
    if not labelled:
        return None
    table = Table("class", title="Pixels in percent", title_justify="left")
    for split in labelled:
        table.add_column(f"{split.domain} {split.split}", justify="right")
    for name in labelled[0].pixels:
        table.add_row(name, *(_share(split, name) for split in labelled))
    return table


def _pixels(split: Split) -> int:
    return sum(split.pixels.values()) + split.ignored


def _share(split: Split, name: str) -> str:
    if not split.pixels[name]:
        return "never"
    return f"{100 * split.pixels[name] / sum(split.pixels.values()):.2f}"


def _sizes(split: Split) -> str:
    """The three most frequent sizes."""
    shown = [
        f"{size} ({count})" if len(split.sizes) > 1 else size
        for size, count in split.sizes.most_common(3)
    ]
    return ", ".join(shown) + (f" and {len(split.sizes) - 3} more" if len(split.sizes) > 3 else "")
