"""One more step after a run's last one: what it takes over, and what it cannot have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muhdi.recipe.methods import NEXT_STEP, NO_ADAPTATION
from muhdi.recipe.retentions import GIVES_BACK, NO_RETENTION, WITHOUT_SOURCE, RetentionConfig
from muhdi.recipe.section import plain, refuse_untrusted
from muhdi.recipe.stages import StepConfig

MAY_BE_WORSE = (
    "without the source a step can leave a network worse than it was: compare the two before you"
    " use the new one"
)
"""For whoever leaves the source out (docs/methods.md, without the source)."""
UNGUARDED = (
    "no old network teaches in this step, so that without the source it may collapse: --set"
    " 'every_step.retention={}' guards against it"
)
"""For a step that learns without such a retention, and has lost none; with what it may have."""


def repeated(last: StepConfig | None, target: dict[str, Any]) -> StepConfig:
    """The last step as it was, with another target.

    Args:
        last: of the run; None: a usual step.
        target: section of the new domain.

    Raises:
        RecipeError: a method is of another package, and was read without trust.
    """
    if last is not None:
        # Read once more, as below, its class would be imported.
        refuse_untrusted(section for _, section in last.methods)
    section = dict(NEXT_STEP) if last is None else plain(last)
    section.pop("targets", None)
    return StepConfig.model_validate({**section, "target": target})


def section_of(step: StepConfig) -> dict[str, Any]:
    """What a recipe says of a step, whatever its target is."""
    section = plain(step)
    del section["target"]
    return section


def next_step(last: StepConfig, *, uses_source: bool) -> StepConfig:
    """A step like the last one, for a single target.

    Without the source, what learns from its images is left out. A step that nothing holds can
    collapse there: so where a retention is left out and no old model teaches, `distill` takes its
    place. An adaptation that needs the source stays: it is what learns, so the user must choose
    another.

    Args:
        last: as it was, with the new target.
        uses_source: whether the source takes part.
    """
    step = _with_one_target(last)
    if not uses_source:
        return _without_source(step, _kept_parts(last))
    return step if step.uses_source else _with_source(step)


def giving_back(step: StepConfig) -> StepConfig:
    """The same step, at whose end the running statistics come back."""
    return _with_parts(step, [*_kept_parts(step), GIVES_BACK])


def without_retention(step: StepConfig) -> StepConfig:
    """The same step, which keeps nothing: of a run without steps, one that has lost nothing."""
    return _with_parts(step, [])


def what_changes(last: StepConfig, step: StepConfig) -> list[str]:
    """Notes on what a step has lost and gained without the user's asking.

    Args:
        last: the last step, as it was.
        step: as it is trained, with the user's changes.
    """
    after = {part.key for part in step.retention.parts}
    notes = []
    for part in last.retention.parts:
        reason = "" if part.key in after else _why_without(part, last, step)
        if reason:
            notes.append(f"without {part.key} from here on, {reason}")
    if last.labelled is not None and step.labelled is None:
        notes.append("without labelled from here on, which names images of the earlier target")
    adaptation = last.adaptation
    if step.adaptation.key == adaptation.key and adaptation.for_one_target() != adaptation:
        notes.append(f"{adaptation.key} without its options for several targets")
    if not step.uses_source:
        notes += _what_changes_without_source(last, step)
    return notes


def _with_one_target(step: StepConfig) -> StepConfig:
    """The step without what only several targets can have, and without the last one's labels."""
    step = _changed(step, labelled=None)
    adaptation = step.adaptation.for_one_target()
    # One without such a form stays: its own check says what it needs.
    if adaptation is not None and adaptation != step.adaptation:
        step = _changed(step, adaptation=plain(adaptation))
    parts = _kept_parts(step)
    kept = [part for part in parts if part.for_one_target() is not None]
    return _with_parts(step, kept) if len(kept) < len(parts) else step


def _with_source(step: StepConfig) -> StepConfig:
    """The step with the source, and without what only steps without it want."""
    kept = [part for part in _kept_parts(step) if part != GIVES_BACK]
    return _with_parts(_changed(step, source="labelled"), kept)


def _without_source(step: StepConfig, before: Sequence[RetentionConfig]) -> StepConfig:
    """The step without what learns from source images.

    Args:
        step: for a single target.
        before: the retentions of the last step.
    """
    step = _changed(step, source="none", rare_classes=None)
    if step.adaptation.feature_distance is not None:
        step = _changed(step, adaptation={**plain(step.adaptation), "feature_distance": None})
    kept = [part for part in _kept_parts(step) if not part.needs_source]
    if len(kept) == len(before):
        return step
    if not any(part.distils for part in kept):
        kept.append(WITHOUT_SOURCE)
    return _with_parts(step, kept)


def _with_parts(step: StepConfig, parts: Sequence[RetentionConfig]) -> StepConfig:
    """The step with these retentions, or none.

    Args:
        step: as it is.
        parts: its retentions; none, if it keeps nothing.
    """
    kept = [plain(part) for part in parts]
    if len(kept) > 1:
        return _changed(step, retention=kept)
    # Alone it is no list, so that `every_step.retention.weight` is one of its keys.
    return _changed(step, retention=kept[0] if kept else plain(NO_RETENTION))


def _kept_parts(step: StepConfig) -> list[RetentionConfig]:
    """The retentions of a step; none, if it keeps nothing."""
    return [part for part in step.retention.parts if part != NO_RETENTION]


def _changed(step: StepConfig, **keys: Any) -> StepConfig:
    """The step with other values."""
    return StepConfig.model_validate({**plain(step), **keys})


def _why_without(part: RetentionConfig, last: StepConfig, step: StepConfig) -> str:
    """Why a retention is left out; empty where the user has chosen another one."""
    if part.for_one_target() is None:
        return "which is for several targets"
    if part.needs_source and not step.uses_source:
        return "which learns from source images"
    if part == GIVES_BACK and step.uses_source and not last.uses_source:
        return "since the source takes part again"
    return ""


def _what_changes_without_source(last: StepConfig, step: StepConfig) -> list[str]:
    notes = []
    needing = {
        "rare_classes": last.rare_classes,
        "feature_distance": last.adaptation.feature_distance,
    }
    for name, section in needing.items():
        if section is not None:
            notes.append(f"without {name} from here on, which learns from source images")
    reasons = {
        WITHOUT_SOURCE.key: "which guards against a collapse without the source",
        GIVES_BACK.key: "which gives the running statistics back at the end of the step",
    }
    before = {part.key for part in last.retention.parts}
    for part in step.retention.parts:
        if part.key in reasons and part.key not in before:
            notes.append(f"with {part.key} from here on, {reasons[part.key]}")
    if _is_unguarded(last, step):
        usual = f"[{WITHOUT_SOURCE.key}, {GIVES_BACK.key}]"
        # It was added where the network takes it.
        gives_back = GIVES_BACK in step.retention.parts
        notes.append(UNGUARDED.format(usual if gives_back else WITHOUT_SOURCE.key))
    return [*notes, MAY_BE_WORSE]


def _is_unguarded(last: StepConfig, step: StepConfig) -> bool:
    """Whether a step without the source learns with the retentions of the last one alone, none of
    which has an old network teach; the user may not know what that means without the source."""
    kept = [part for part in _kept_parts(step) if part != GIVES_BACK]
    as_before = kept == [part for part in _kept_parts(last) if part != GIVES_BACK]
    learns = step.adaptation != NO_ADAPTATION
    return learns and as_before and not any(part.distils for part in kept)
