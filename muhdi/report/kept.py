"""What a run carries from stage to stage, in bytes."""

from __future__ import annotations

from muhdi.evaluation.results import Results, row_titles
from muhdi.report.result_table import Cell, ResultTable


def kept_table(results: Results) -> ResultTable | None:
    """A row for every stage: what it hands on, by part, all of it, and what the stage added.

    None for runs of versions that did not record it.
    """
    known = [step["kept"] for step in results.steps if "kept" in step]
    if not known or len(known) < len(results.steps):
        return None
    parts = list(dict.fromkeys(name for kept in known for name in kept))
    rows: list[list[Cell]] = []
    before = 0
    for title, kept in zip(row_titles(results.steps), known, strict=True):
        total = sum(kept.values())
        row: list[Cell] = [title, *(size_text(kept.get(name, 0)) for name in parts)]
        # What a method no longer needs may go, too.
        sign = "+" if total >= before else "-"
        rows.append([*row, size_text(total), f"{sign}{size_text(abs(total - before))}"])
        before = total
    return ResultTable("Kept after each stage", ["after", *parts, "together", "added"], rows)


def size_text(size: int) -> str:
    """``312 B``, ``4.5 KiB``, ``1.2 MiB``.

    Args:
        size: in bytes.
    """
    if size < 2**10:
        return f"{size} B"
    if size < 2**20:
        return f"{size / 2**10:.1f} KiB"
    return f"{size / 2**20:.1f} MiB"
