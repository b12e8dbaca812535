"""Which steps had labels of their target: what every output says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from muhdi.evaluation.results import Results, counted_labels, row_title


def labelled_line(step: Mapping[str, Any]) -> str:
    """What is said of a step that a few labels took part in.

    Args:
        step: of `Results.steps`, with ``labelled``.
    """
    count = counted_labels(step["labelled"])
    return f"{step['name']}: {count} of its training images took part, so that it had supervision"


def labelled_lines(results: Results) -> list[str]:
    """A line for each step that a few labels took part in."""
    return [labelled_line(step) for step in results.steps if step.get("labelled")]


def arm_title(arm: str, runs: Sequence[Results]) -> str:
    """What a table of arms calls one: with its steps that had labels, or no source, if any had.

    Args:
        arm: its name.
        runs: of its seeds.
    """
    rows = [
        row_title(step) for run in runs for step in run.steps if row_title(step) != step["name"]
    ]
    return f"{arm} ({'; '.join(dict.fromkeys(rows))})" if rows else arm
