"""Recipes whose steps have several targets: what they say, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muhdi.errors import RecipeError
from muhdi.recipe.load import load_recipe

CITY, NIGHT, DUST = ({"dataset": "scenes", "domain": name} for name in ("city", "night", "dust"))
Tiny = Callable[..., Path]


def test_domains_stages_and_images(tiny: Tiny) -> None:
    steps = [{"targets": [CITY, NIGHT], "target_batch_size": 4}, {"target": CITY}]
    recipe = load_recipe(tiny(steps=steps), ["steps.0.targets.1.train=5"])
    keys = ["source", "steps.0.targets.0", "steps.0.targets.1", "steps.1.target"]
    assert [key for key, _ in recipe.domains()] == keys
    assert [key for key, _ in recipe.training_domains()] == keys
    assert [stage.name for stage in recipe.stages()] == ["source", "city+night", "city"]
    assert recipe.steps[0].domains[1].model_dump()["train"] == 5
    assert [step.images for step in recipe.steps] == [2 + 2 * 4, 2 + 2]


REFUSED = [
    ({}, "steps.0: names no target; set target, or several domains in targets"),
    ({"target": CITY, "targets": [CITY, NIGHT]}, "steps.0: has target and targets; leave one"),
    ({"targets": [CITY]}, "steps.0: targets must hold two domains or more; name a single one as"),
    ({"targets": []}, "steps.0: targets must hold two domains or more"),
    (
        {"targets": [CITY, NIGHT, CITY]},
        "steps.0: 'city' is twice in targets; name each domain once",
    ),
    ({"targets": CITY}, "steps.0.targets: "),
    (
        {"targets": [CITY, {**NIGHT, "trian": 3}]},
        "steps.0.targets.1.trian: unknown key; did you mean 'train'?",
    ),
    (
        {"targets": [CITY, {"dataset": "scenes", "domain": "nigt"}]},
        "steps.0.targets.1.domain: unknown value 'nigt'; did you mean 'night'?",
    ),
    (
        {"target": CITY, "retention": "mtkt"},
        "steps.0.retention: mtkt has a specialist for each of several targets, but the step",
    ),
    (
        {"targets": [CITY, NIGHT], "retention": {"method": "mtkt", "teacher_iterations": 3}},
        "steps.0.retention.teacher_iterations: after 3 of 3 iterations nothing is left",
    ),
    (
        {"targets": [CITY, NIGHT], "retention": "mtkt", "source": "none"},
        "steps.0.retention: mtkt needs source images, but steps.0.source is none",
    ),
    (
        {"targets": [CITY, NIGHT], "retention": ["mtkt", "muhdi"]},
        "steps.0.retention: mtkt and muhdi both say which heads there are; leave one of them out",
    ),
    (
        {"target": CITY, "adaptation": {"method": "advent", "discriminators_per": "pair"}},
        "steps.0.adaptation.discriminators_per: pair tells targets apart, but the step has one",
    ),
    (
        {"target": CITY, "adaptation": {"method": "advent", "mtaf_quirks": True}},
        "steps.0.adaptation.mtaf_quirks: a step with one target has none of them; leave it out",
    ),
    (
        {
            "targets": [CITY, NIGHT],
            "adaptation": {
                "method": "advent",
                "discriminators_per": "target",
                "discriminators": "previous",
            },
        },
        "discriminators_per: target has fresh ones in every step; leave discriminators, init_main",
    ),
    (
        {"targets": [CITY, NIGHT], "labelled": 2},
        "steps.0.labelled: takes images of a single target, but steps.0.targets holds 2",
    ),
    (
        {"targets": [CITY, {**NIGHT, "image_size": [32, 32]}], "adaptation": "selftrain"},
        "steps.0.adaptation: selftrain mixes source and target images, which must have one",
    ),
    (
        {"targets": [{**CITY, "name": "c" * 120}, {**NIGHT, "name": "n" * 120}]},
        "steps.0.targets: their names together are too long for a file",
    ),
]


@pytest.mark.parametrize(("step", "message"), REFUSED)
def test_what_is_refused_and_why(tiny: Tiny, step: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(tiny(steps=[step]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_is_not_chosen_by_several_targets(tiny: Tiny) -> None:
    path = tiny(steps=[{"targets": [CITY, NIGHT]}], snapshot_every=1)
    message = r"evaluation\.select: entropy chooses by the scores on one target, but city\+night"
    with pytest.raises(RecipeError, match=message):
        load_recipe(path, ["evaluation.select=entropy"])


def test_discriminators_do_not_continue_from_those_of_each_target(tiny: Tiny) -> None:
    per_target = {"method": "advent", "discriminators_per": "target"}
    steps = [
        {"targets": [CITY, NIGHT], "adaptation": per_target},
        {"target": DUST, "adaptation": {"method": "advent", "discriminators": "previous"}},
    ]
    message = r"steps\.1\.adaptation\.discriminators: the previous ones are by target, and none"
    with pytest.raises(RecipeError, match=message):
        load_recipe(tiny(steps=steps))
    steps[0]["adaptation"] = {"method": "advent"}
    assert load_recipe(tiny(steps=steps)).steps[1].adaptation.carries


def test_a_target_of_a_step_may_come_again_in_a_later_one_only_as_it_is(tiny: Tiny) -> None:
    steps = [{"targets": [CITY, NIGHT]}, {"target": {**CITY, "train": 9}}]
    with pytest.raises(RecipeError, match=r"steps\.1\.target: another domain is called 'city' too"):
        load_recipe(tiny(steps=steps))


def test_published_settings_of_mtaf() -> None:
    names = ("cityscapes", "idd", "mapillary")
    base = "gta2cityscapes_idd_mapillary"
    for arm in ("multi_target", "multi_dis", "mtkt"):
        recipe = load_recipe(f"{base}_{arm}")
        (step,) = recipe.steps
        assert step.domain_names == names
        assert (step.iterations, step.schedule) == (120_000, 250_000)
        assert step.adaptation.model_dump()["aux_sees_source"]
        assert recipe.model.init is not None
    mtkt = load_recipe(f"{base}_mtkt").steps[0]
    assert (mtkt.batch_size, mtkt.weight_main, mtkt.weight_aux) == (4, 4.0, 0.4)
    options = mtkt.retention.model_dump()
    assert options["teacher_iterations"] == 20_000
    # Half of what the other two have: the published code halves it for the specialists.
    assert mtkt.adaptation.model_dump()["weight_main"] == 0.004 / 2


@pytest.mark.parametrize(
    ("joint_name", "sequence_name"),
    [
        ("scenes2_joint", "scenes2_selftrain"),
        ("cityscapes2acdc_segformer_joint", "cityscapes2acdc_segformer"),
        ("cityscapes2acdc_dinov2_joint", "cityscapes2acdc_dinov2"),
        ("gta2cityscapes_idd_mapillary_segformer_joint", "gta2cityscapes_idd_mapillary_segformer"),
        ("gta2cityscapes_idd_mapillary_dinov2_joint", "gta2cityscapes_idd_mapillary_dinov2"),
    ],
)
def test_a_joint_recipe_differs_from_its_sequence_in_its_only_step(
    joint_name: str, sequence_name: str
) -> None:
    joint = load_recipe(joint_name)
    sequence = load_recipe(sequence_name)
    (step,) = joint.steps
    targets = {domain.domain_name: domain for one in sequence.steps for domain in one.domains}
    assert {domain.domain_name: domain for domain in step.domains} == targets
    assert step.iterations == sum(one.iterations for one in sequence.steps)
    alone = {"name", "description", "steps"}
    assert joint.model_dump(exclude=alone) == sequence.model_dump(exclude=alone)
    last = sequence.steps[-1]
    same = {"target", "targets", "iterations", "schedule"}
    assert step.model_dump(exclude=same) == last.model_dump(exclude=same)
