"""The table and the sentence of a demo, from numbers that were made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from muhdi.evaluation.results import Results, without_score
from muhdi.recipe.load import load_recipe
from muhdi.report.demo import demo_sentence, demo_table
from muhdi.report.run_files import RunData


def run(rows: list[dict[str, float | None]], change: list[dict[str, Any]] | None = None) -> RunData:
    """A run over day, snow and fog, whose rows have the mIoU of each; None: there are no labels."""
    results = Results("made_up", 1, "day", ["day", "snow", "fog"], ["snow", "fog"], [1, 2])
    results.default = "image"
    for row in rows:
        entries = {}
        for domain, miou in row.items():
            entries[domain] = without_score("unlabelled") if miou is None else {"miou": miou}
        results.add("a stage", {"image": entries})
    recipe = load_recipe("scenes2")
    return RunData(Path(), recipe, "", results, [], [], change or [])


def scores(day: float, snow: float | None, fog: float | None) -> dict[str, float | None]:
    return {"day": day, "snow": snow, "fog": fog}


def test_scores_before_and_after_the_last_step_and_what_was_forgotten() -> None:
    before = scores(70, 20, 30)
    sequential = run([before, scores(66, 40, 32), scores(60, 34, 50)])
    kept = run([before, scores(68, 38, 32), scores(66, 39, 47)])
    arms = {"sequential": [sequential], "kept": [kept]}
    table = demo_table(arms, "image")
    assert table.header == ["", "day", "snow", "fog", "targets", "forgotten"]
    assert "\n".join(table.markdown().splitlines()[2:]) == (
        "| before | 70.0 | 20.0 | 30.0 | 25.0 | - |\n"
        "| sequential | 60.0 | 34.0 | 50.0 | 42.0 | 6.0 |\n"
        "| kept | 66.0 | 39.0 | 47.0 | 43.0 | -1.0 |"
    )
    assert demo_sentence(arms, "image") == (
        "Mean mIoU on snow, fog: 25.0 before; 42.0 sequential and 6.0 points forgotten; 43.0 kept"
        " and 1.0 points gained since (one seed; differences under 1.5 points are noise)."
    )


def test_without_labels_there_is_what_can_be_known() -> None:
    rows = [scores(70, None, None)] * 3
    arms = {}
    for name, agreement in (("sequential", 60.0), ("kept", 90.0)):
        change = []
        for domain in ("day", "snow", "fog"):
            sure = {"confidence_before": 50.0, "confidence_after": 80.0, "agreement": agreement}
            change.append({"statistics": "image", "domain": domain, **sure})
        arms[name] = [run(rows, change)]
    table = demo_table(arms, "image")
    assert table.header == ["", "day", "snow: sure", "snow: changed", "fog: sure", "fog: changed"]
    assert "\n".join(table.markdown().splitlines()[2:]) == (
        "| before | 70.0 | 50.0 | - | 50.0 | - |\n"
        "| sequential | 70.0 | 80.0 | 40.0 | 80.0 | 40.0 |\n"
        "| kept | 70.0 | 80.0 | 10.0 | 80.0 | 10.0 |"
    )
    assert demo_sentence(arms, "image") == (
        "No target has labels, so no number says whether it helped: look at the pictures"
        " (pixels that changed class: sequential 40.0 %, kept 10.0 %)."
    )
