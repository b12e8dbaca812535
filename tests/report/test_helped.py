"""The page's first answer: did it help?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from muhdi.report.helped import domain_sentence, helped
from muhdi.report.run_files import RunData, read_run

NO_IMAGES = {"domains": {}}


@pytest.fixture
def run(trained: Path) -> RunData:
    return read_run(trained)


def with_scores(run: RunData, before: float | None, after: float | None) -> RunData:
    """The run with these scores of every target before and after."""
    steps = json.loads(json.dumps(run.results.steps))
    for step, value in ((steps[0], before), (steps[-1], after)):
        for name in run.results.targets:
            entry = step["scores"]["running"][name]
            entry.update(miou=value, images=35)
            if value is None:
                entry["reason"] = "unlabelled"
    return replace(run, results=replace(run.results, steps=steps))


def test_with_labels_the_sentence_is_the_change(run: RunData) -> None:
    rose = with_scores(run, 47.9, 50.4)
    assert domain_sentence(rose, "running", "night", {}) == (
        "On night (35 labelled images) mIoU rose from 47.9 to 50.4, +2.5; one seed, so no interval."
    )
    assert helped(rose, "running", NO_IMAGES).sentence == (
        "On 3 of 3 targets, the mean mIoU rose from 47.9 to 50.4, +2.5; one seed, so no interval."
    )
    assert "fell from 50.0 to 49.0, -1.0 (under 1.5 points, which is within the noise)" in (
        domain_sentence(with_scores(run, 50.0, 49.0), "running", "night", {})
    )


def test_without_labels_it_says_what_changed(run: RunData) -> None:
    blind = with_scores(run, None, None)
    assert domain_sentence(blind, "running", "night", {"agreement": 88.0}) == (
        "night has no labels: 12.0 % of the pixels changed class; look at the pictures."
    )
    answer = helped(blind, "running", NO_IMAGES)
    assert answer.sentence.startswith("No target has labels, so no number says")
    assert [domain.name for domain in answer.domains] == ["city", "dust", "night", "sim"]


def test_without_labels_the_page_warns_and_shows_every_class(run: RunData) -> None:
    blind = with_scores(run, None, None)
    healthy = json.loads(json.dumps(blind.results.steps))
    for step in (healthy[0], healthy[-1]):
        scores = step["scores"]["running"]["night"]["label_free"]
        scores["shares"] = dict.fromkeys(scores["shares"], 100 / 7)
    harmed = json.loads(json.dumps(healthy))
    harmed[-1]["scores"]["running"]["night"]["label_free"]["shares"]["sky"] = 0.0
    answers = []
    for steps in (healthy, harmed):
        answer = helped(
            replace(blind, results=replace(blind.results, steps=steps)), "running", NO_IMAGES
        )
        answers.append({domain.name: domain for domain in answer.domains}["night"])
    assert [answer.warning for answer in answers] == [
        "",
        "warning: night: adaptation seems to have gone wrong: sky vanished (14.3 % of the pixels"
        " before, 0.0 now)",
    ]
    assert len(answers[0].shares) == 7
    assert answers[0].measures is not None
    assert "mutual information" in [row[0] for row in answers[0].measures.rows]


def test_a_training_records_the_shares_of_all_classes(run: RunData) -> None:
    rows = {(row["statistics"], row["domain"]): row for row in run.change}
    night = rows["running", "night"]
    for moment in ("before", "after"):
        assert sum(night[f"shares_{moment}"]) == pytest.approx(100, abs=0.01)
        assert len(night[f"shares_{moment}"]) == 7
    assert 0 <= night["agreement"] <= 100
