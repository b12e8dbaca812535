"""Which steps had labels of their target: what every output says of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from muhdi.evaluation.results import Results, counted_labels, row_titles, stage_names


def labelled_lines(results: Results) -> list[str]:
    """A line for each step that a few labels took part in."""
    lines = []
    for name, step in zip(stage_names(results.steps), results.steps, strict=True):
        if step.get("labelled"):
            count = counted_labels(step["labelled"])
            lines.append(
                f"{name}: {count} of its training images took part, so that it had supervision"
            )
    return lines


def labelled_rows(results: Results) -> list[str]:
    """What tables call the steps that a few labels took part in."""
    titles = zip(row_titles(results.steps), results.steps, strict=True)
    return [title for title, step in titles if step.get("labelled")]


def unlike_others(results: Results) -> list[str]:
    """What tables call the steps that had a few labels, or no source."""
    titles = zip(row_titles(results.steps), results.steps, strict=True)
    return [title for title, step in titles if step.get("labelled") or step.get("without_source")]


def arm_title(arm: str, runs: Sequence[Results]) -> str:
    """What a table of arms calls one: with its steps that had labels, or no source, if any had.

    Args:
        arm: its name.
        runs: of its seeds.
    """
    rows = chain.from_iterable(map(unlike_others, runs))
    named = "; ".join(dict.fromkeys(rows))
    return f"{arm} ({named})" if named else arm
