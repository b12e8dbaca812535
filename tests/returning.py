"""Results of a sequence with scores within its steps, and of one that returns to its start."""

from __future__ import annotations

from typing import Any

from muhdi.evaluation.results import Results


def row(**mious: float | None) -> dict[str, Any]:
    return {"running": {name: {"miou": miou} for name, miou in mious.items()}}


def curved(*points: tuple[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"iterations": at, "scores": scores} for at, scores in points]


STEPS = [
    {"step": 0, "name": "source", "scores": row(a=10.0, b=20.0)},
    {
        "step": 1,
        "name": "a",
        "scores": row(a=30.0, b=20.0),
        "iterations": 100,
        "curve": curved((40, row(a=20.0, b=None))),
    },
    {
        "step": 2,
        "name": "b",
        "scores": row(a=20.0, b=60.0),
        "iterations": 50,
        "curve": curved((20, row(a=40.0, b=40.0)), (40, row(a=30.0, b=50.0))),
    },
]

MATRIX = [[10.0, 20.0, 30.0], [50, 22, 31], [44, 60, 33], [40, 62, 70], [55, 58, 66]]
"""Steps a, b, c, a."""


def returning() -> Results:
    results = Results("x", 0, "sim", ["a", "b", "c"], ["a", "b", "c"], [1, 2, 3])
    for name, values in zip(["source", "a", "b", "c", "a"], MATRIX, strict=True):
        a, b, c = values
        results.add(name, row(a=a, b=b, c=c))
    return results
