"""What a next step takes over from the last one, and what it says of it."""

from __future__ import annotations

from typing import Any

from muhdi.recipe.next_step import (
    MAY_BE_WORSE,
    UNGUARDED,
    giving_back,
    next_step,
    repeated,
    section_of,
    what_changes,
    without_retention,
)
from muhdi.recipe.stages import StepConfig

NEW = {"dataset": "folder", "name": "new", "root": "new", "images": "*.png"}


def last(**keys: Any) -> StepConfig:
    """The last step of a run, with another target."""
    old = {**NEW, "name": "old"}
    given = {"iterations": 5, "adaptation": "selftrain", **keys}
    if "targets" not in given:
        given["target"] = old
    return repeated(StepConfig.model_validate(given), NEW)


def keys_of(step: StepConfig) -> list[str]:
    return [part.key for part in step.retention.parts]


def test_nothing_changes_that_need_not() -> None:
    before = last(retention=["style", "l2sp"], learning_rate=0.01)
    step = next_step(before, uses_source=True)
    assert step == before
    assert step.domain_names == ("new",)
    assert what_changes(before, step) == []
    assert "target" not in section_of(step)


def test_a_run_without_steps_goes_on_with_a_usual_one() -> None:
    step = next_step(repeated(None, NEW), uses_source=True)
    assert step.adaptation.key == "selftrain"
    assert keys_of(step) == ["style"]


def test_labels_of_the_earlier_target_are_left_out_and_it_is_said() -> None:
    before = last(labelled=20)
    step = next_step(before, uses_source=True)
    assert step.labelled is None
    assert what_changes(before, step) == [
        "without labelled from here on, which names images of the earlier target"
    ]


def test_specialists_of_several_targets_leave_distillation_behind_without_the_source() -> None:
    both = [{**NEW, "name": "a"}, {**NEW, "name": "b"}]
    before = last(targets=both, retention="mtkt")
    assert keys_of(next_step(before, uses_source=True)) == ["none"]
    step = next_step(before, uses_source=False)
    assert keys_of(step) == ["distill"]
    assert what_changes(before, step) == [
        "without mtkt from here on, which is for several targets",
        "with distill from here on, which guards against a collapse without the source",
        MAY_BE_WORSE,
    ]


def test_without_the_source_an_old_model_teaches_once() -> None:
    assert keys_of(next_step(last(retention="none"), uses_source=False)) == ["none"]
    assert keys_of(next_step(last(retention="style"), uses_source=False)) == ["distill"]
    both = next_step(last(retention=["style", "muhdi"]), uses_source=False)
    assert keys_of(both) == ["muhdi"]
    # A single one is no list, so that a setting of its options finds it.
    assert section_of(both)["retention"]["method"] == "muhdi"


GIVING_BACK = (
    "with statistics from here on, which gives the running statistics back at the end of the step"
)


def test_a_run_without_steps_has_lost_nothing() -> None:
    usual = repeated(None, NEW)
    step = next_step(usual, uses_source=False)
    assert what_changes(without_retention(usual), step) == [
        "with distill from here on, which guards against a collapse without the source",
        MAY_BE_WORSE,
    ]


def test_it_is_said_when_nothing_guards_a_step_without_the_source() -> None:
    for retention in ("none", "average", ["l2sp", "restore"]):
        before = last(retention=retention)
        step = next_step(before, uses_source=False)
        assert what_changes(before, step) == [UNGUARDED.format("distill"), MAY_BE_WORSE]
        both = UNGUARDED.format("[distill, statistics]")
        assert what_changes(before, giving_back(step)) == [GIVING_BACK, both, MAY_BE_WORSE]
    still = last(adaptation="none", retention="none")
    assert what_changes(still, next_step(still, uses_source=False)) == [MAY_BE_WORSE]
    taught = last(retention="muhdi")
    assert what_changes(taught, next_step(taught, uses_source=False)) == [MAY_BE_WORSE]
    assert what_changes(before, next_step(before, uses_source=True)) == []


def test_with_the_source_back_its_statistics_may_move() -> None:
    before = last(source="none", retention=["distill", "statistics"])
    step = next_step(before, uses_source=True)
    assert step.uses_source
    assert keys_of(step) == ["distill"]
    assert what_changes(before, step) == [
        "without statistics from here on, since the source takes part again"
    ]
    assert keys_of(next_step(before, uses_source=False)) == ["distill", "statistics"]
