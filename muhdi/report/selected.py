"""Which network a step ended with, where one was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muhdi.evaluation.results import Results
from muhdi.report.label_free import NAMES


def selected_line(selected: Mapping[str, Any]) -> str:
    """What was chosen, and whether labels were read for it.

    Args:
        selected: of a step, as `muhdi.workflows.select.select_network` writes it.
    """
    count = len(selected["candidates"])
    domain = selected["domain"]
    kept = (
        f"{domain}: of {count} networks the one after {selected['iterations']} of"
        f" {selected['of']} iterations goes on"
    )
    if selected["by"] == "best":
        return (
            f"{kept}, chosen with labels: by the mIoU on the images that it is scored on, so that"
            " its score is too good"
        )
    return f"{kept}, chosen without labels: by {NAMES[selected['by']]}"


def selected_lines(results: Results) -> list[str]:
    """A line for each step whose network was chosen."""
    return [selected_line(step["selected"]) for step in results.steps if "selected" in step]


def remark_lines(results: Results) -> list[str]:
    """What the methods of every step have said while they trained."""
    return [
        f"{step['name']}, {remark}" for step in results.steps for remark in step.get("remarks", [])
    ]
