"""The scores of a stage by name, as loggers draw them over a run."""

from __future__ import annotations

from collections.abc import Mapping

from muhdi.evaluation.results import LABEL_FREE, Entry

MIOU = "miou"


def logged_scores(row: Mapping[str, Mapping[str, Entry]]) -> dict[str, float]:
    """``miou/running/city`` and, what needs no labels, ``entropy/running/city`` and so on.

    Args:
        row: scores by statistics and domain.

    Returns:
        In percent; what was not measured is missing.
    """
    found: dict[str, float] = {}
    for statistics, by_domain in row.items():
        for domain, entry in by_domain.items():
            label_free = entry.get("label_free", {})
            values = {MIOU: entry["miou"], **{key: label_free.get(key) for key in LABEL_FREE}}
            for name, value in values.items():
                if value is not None:
                    found[f"{name}/{statistics}/{domain}"] = value
    return found
