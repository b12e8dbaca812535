"""Whether the steps of a recipe suit its images, its network and each other."""

from __future__ import annotations

from muhdi.errors import RecipeError
from muhdi.recipe.fields import RecipeFields
from muhdi.recipe.stages import StepConfig


def check_teachers(recipe: RecipeFields) -> None:
    """Every step has a teacher that can be scored."""
    if not recipe.steps:
        raise RecipeError("evaluation.weights: without steps there is no teacher; use model")
    if recipe.evaluation.select != "last":
        raise RecipeError(
            "evaluation.weights: evaluation.select chooses between networks, not between"
            " teachers; use model, or evaluation.select: last"
        )
    for number, step in enumerate(recipe.steps):
        key = f"evaluation.weights: steps.{number}"
        if not step.adaptation.has_teacher:
            raise RecipeError(
                f"{key}.adaptation has no teacher; use one that makes pseudo-labels,"
                " set adaptation.masked, or evaluation.weights: model"
            )
        if any(part.trains_specialist for part in step.retention.parts):
            raise RecipeError(
                f"{key}.retention trains a specialist, whose teacher cannot answer for the"
                " network; use evaluation.weights: model"
            )


def check_steps(recipe: RecipeFields) -> None:
    """Every step's images suit its adaptation, and its retention what is trained."""
    retentions = {f"steps.{n}.retention": step.retention for n, step in enumerate(recipe.steps)}
    recipe.model.tune.check(recipe.optimizer, retentions)
    for number, step in enumerate(recipe.steps):
        key = f"steps.{number}"
        step.check_targets(key)
        step.check_labelled(key)
        step.check_pseudo_labels(key)
        step.check_source(key)
        step.check_settled(key, recipe.evaluation)
        _check_selection(recipe, step)
        _check_teacher_statistics(recipe, f"{key}.adaptation", step)
        _check_sizes(recipe, key, step)
        _check_own_networks(recipe, key, number, step)
        _check_feature_distance(recipe, f"{key}.adaptation", step)


def _check_selection(recipe: RecipeFields, step: StepConfig) -> None:
    """Networks are chosen by their scores on one target."""
    if step.targets is not None and recipe.evaluation.select != "last":
        raise RecipeError(
            f"evaluation.select: {recipe.evaluation.select} chooses by the scores on one target,"
            f" but {step.name} are {len(step.targets)}; set it to last"
        )


def _check_sizes(recipe: RecipeFields, key: str, step: StepConfig) -> None:
    adaptation = step.adaptation
    domains = list(step.domains)
    if step.uses_source and recipe.source is not None:
        domains.append(recipe.source)
    smallest = min(min(recipe.training_size(data)) for data in domains)
    if smallest < adaptation.smallest_side:
        side = adaptation.smallest_side
        raise RecipeError(
            f"{key}.adaptation: {adaptation.key} needs images of at least {side}x{side}; set a "
            f"larger {recipe.size_key}"
        )
    masked = adaptation.masked
    target = min(min(recipe.training_size(data)) for data in step.domains)
    if masked is not None and (masked.block or 0) > target:
        raise RecipeError(
            f"{key}.adaptation.masked.block: {masked.block} is larger than the {target} pixels"
            " that training sees of a side; set a smaller one"
        )
    if not adaptation.needs_equal_sizes or not step.uses_source or recipe.source is None:
        return
    size = recipe.training_size(recipe.source)
    if any(recipe.training_size(data) != size for data in step.domains):
        raise RecipeError(
            f"{key}.adaptation: {adaptation.key} mixes source and target images, which must "
            "have one image_size, or an augment.crop in pixels"
        )
    if step.target_batch_size not in (None, step.batch_size):
        raise RecipeError(
            f"{key}.target_batch_size: {adaptation.key} mixes each source image with a "
            "target; leave it out"
        )


def _check_teacher_statistics(recipe: RecipeFields, key: str, step: StepConfig) -> None:
    """Frozen batch norms use no batch's own statistics, whoever's teacher asks for them.

    Args:
        recipe: that has the step.
        key: of its adaptation.
        step: with the adaptation.
    """
    if recipe.model.batch_norm != "frozen":
        return
    sections: dict[str, object] = {key: step.adaptation}
    if step.adaptation.masked is not None:
        sections[f"{key}.masked.pseudo_labels"] = step.adaptation.masked.pseudo_labels
    for place, section in sections.items():
        if getattr(section, "teacher_statistics", "auto") == "batch":
            raise RecipeError(
                f"{place}.teacher_statistics: with model.batch_norm: frozen no batch norm uses a"
                " batch's own; take running, blend or auto"
            )


def _check_feature_distance(recipe: RecipeFields, key: str, step: StepConfig) -> None:
    config = step.adaptation.feature_distance
    if config is None:
        return
    try:
        config.things(recipe.class_set())
    except RecipeError as error:
        raise RecipeError(f"{key}.{error}") from None
    if recipe.model.tune.method == "frozen":
        raise RecipeError(
            f"{key}.feature_distance: with model.tune: frozen the features stay anyway; leave"
            " one of them out"
        )
    if recipe.model.init is None and not recipe.model.backbone.is_pretrained:
        raise RecipeError(
            f"{key}.feature_distance: the backbone starts from random weights, whose features"
            " are not worth keeping; set model.init, or feature_distance: null"
        )


def _check_own_networks(recipe: RecipeFields, key: str, number: int, step: StepConfig) -> None:
    """What a method continues from suits it; the method's section knows how."""
    before = [section for earlier in recipe.steps[:number] for _, section in earlier.methods]
    for place, section in step.methods:
        same = [earlier for earlier in before if earlier.kind == section.kind]
        same = [earlier for earlier in same if earlier.key == section.key]
        last = same[-1] if same else None
        section.check_start(f"{key}.{place}", recipe.model.multi_level, last)
