"""Which network a step ended with, where one was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muhdi.evaluation.results import Results, stage_names
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
    lines = []
    for name, step in zip(stage_names(results.steps), results.steps, strict=True):
        if "selected" in step:
            lines.append(selected_line({**step["selected"], "domain": name}))
    return lines


def remark_lines(results: Results) -> list[str]:
    """What the methods of every step have said while they trained."""
    lines = []
    for name, step in zip(stage_names(results.steps), results.steps, strict=True):
        lines += [f"{name}, {remark}" for remark in step.get("remarks", [])]
    return lines
