"""Class mixing and presets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from muhdi.adaptation.selftrain import SelfTrain
from muhdi.errors import RecipeError
from muhdi.method import MethodContext
from muhdi.models.segmenter import build_segmenter
from muhdi.passes import Batch
from muhdi.recipe import plugins
from muhdi.recipe.load import save_recipe
from muhdi.recipe.methods import AdventConfig, NoAdaptationConfig, SelfTrainConfig
from muhdi.recipe.pseudo_labels import MaskedConfig, PseudoLabelConfig, WeakColourConfig
from muhdi.recipe.schema import Recipe
from muhdi.training.stage_batches import NoBatches
from tests.testers import MethodTester

CLASSES = 5
OFF = {"colour_jitter": 0.0, "teacher_statistics": "batch"}


def method(**options: object) -> SelfTrain:
    generator = torch.Generator().manual_seed(0)
    context = MethodContext(CLASSES, ("aux", "main"), "agnostic", generator)
    built = SelfTrain(SelfTrainConfig.model_validate({**OFF, **options}), context)
    torch.manual_seed(0)
    built.begin(build_segmenter("small", CLASSES), {}, NoBatches())
    return built


def source_labels() -> torch.Tensor:
    """Columns of four classes and of ignored pixels; the second image has three of the classes."""
    columns = torch.tensor([[0, 1, 2, 3, 255], [0, 0, 1, 2, 255]])
    return columns.repeat_interleave(8, 1)[:, None].expand(2, 32, 40).contiguous()


def test_half_of_the_classes_of_each_image_is_chosen() -> None:
    chooses = method()
    often = torch.zeros(2, 4)
    for _ in range(200):
        mask = chooses._half_of_the_classes(source_labels())
        columns = mask[:, 0, ::8]
        assert not columns[:, 4].any()
        assert torch.equal(mask, columns.repeat_interleave(8, 1)[:, None].expand_as(mask))
        assert columns[0, :4].sum() == 2
        # Two columns are of one class: of three classes two are chosen.
        assert torch.stack([columns[1, 0], columns[1, 2], columns[1, 3]]).sum() == 2
        often += columns[:, :4]
    assert ((often[0] / 200 - 0.5).abs() < 0.1).all()
    assert ((often[1] / 200 - 2 / 3).abs() < 0.1).all()


def test_of_the_batch_and_with_what_is_ignored() -> None:
    chooses = method(mixed_classes="batch", paste_ignored=True)
    found = torch.stack([chooses._half_of_the_classes(source_labels()) for _ in range(100)])
    columns = found[:, :, 0, ::8]
    # 0, 1, 2, 3 and 255 are five: three of them, of which the second image lacks 3.
    assert (columns[:, 0].sum(1) == 3).all()
    assert 0.5 < float(columns[:, 0, 4].float().mean()) < 0.7
    assert {2, 3, 4} >= {int(n) for n in columns[:, 1].sum(1)}


def test_a_mixed_batch_shows_the_source_where_it_is_pasted() -> None:
    mixes = method(threshold=1.0)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 3, 32, 40), dtype=torch.uint8, generator=generator)
    source = Batch(images[:2], source_labels())
    target = Batch(images[2:])
    state = mixes.draws.generator.get_state()
    mixed = mixes.target_batch(source, target)
    mixes.draws.generator.set_state(state)
    pasted = mixes._half_of_the_classes(source.labels)
    assert torch.equal(mixed.images, torch.where(pasted[:, None], images[:2], images[2:]).float())
    assert torch.equal(mixed.labels[pasted], source.labels[pasted])
    # No pixel of the target is so certain; those that were pasted count in full.
    assert torch.equal(mixed.confidence, pasted.float())
    assert torch.equal(mixes.labelled_target.images, target.images)


@pytest.mark.parametrize("preset", ["dacs", "daformer", "mic", "vfm_uda"])
def test_presets_train_and_are_resumed_to_the_bit(preset: str) -> None:
    section = SelfTrainConfig.model_validate({"preset": preset})
    backbone: object = "small"
    if preset == "vfm_uda":
        backbone = pytest.importorskip("tests.models.tiny_transformers").section("dinov2")
    tester = MethodTester(section, backbone=backbone)
    tester.its_state_is_all_that_it_needs(tester.it_trains())


def test_presets_are_the_papers_values_and_give_way_to_what_is_said() -> None:
    section = SelfTrainConfig.model_validate(
        {"preset": "mic", "momentum": 0.9, "masked": {"ratio": 0.5}}
    )
    assert (section.threshold, section.confident, section.mean_over) == (0.968, "share", "all")
    assert section.momentum == 0.9
    assert section.masked is not None
    assert (section.masked.ratio, section.masked.block) == (0.5, 32)
    assert section.masked.blur_probability == 0.5
    without = SelfTrainConfig.model_validate({"preset": "mic", "masked": None})
    assert without.masked is None
    # What is saved says it all, also what was taken back.
    saved = without.model_dump(mode="json", exclude_none=True)
    assert SelfTrainConfig.model_validate(saved) == without


def test_teacher_and_pasted_pixels_see_colours_as_they_are() -> None:
    weak = {"brightness": 0.4, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "probability": 1.0}
    mixes = method(threshold=1.0, weak_colours=weak)
    # Half as bright at most, so that nothing is cut off at 255.
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 128, (4, 3, 32, 40), dtype=torch.uint8, generator=generator)
    source = Batch(images[:2], source_labels())
    target = Batch(images[2:])
    state = mixes.draws.generator.get_state()
    shown = mixes.source_batch(source)
    mixed = mixes.target_batch(source, target)
    mixes.draws.generator.set_state(state)
    # Brightness is the first of three numbers of each image: 1 +- 0.4 times as bright.
    factors = 1 + 0.4 * (2 * torch.rand(2, 3, generator=mixes.draws.generator)[:, 0] - 1)
    torch.testing.assert_close(shown.images, factors[:, None, None, None] * images[:2])
    assert shown.labels is source.labels
    pasted = mixes._half_of_the_classes(source.labels)
    factors = 1 + 0.4 * (2 * torch.rand(2, 3, generator=mixes.draws.generator)[:, 0] - 1)
    beneath = factors[:, None, None, None] * images[2:]
    torch.testing.assert_close(mixed.images, torch.where(pasted[:, None], images[:2], beneath))
    # The labels are of the images as they were drawn, and so masked consistency sees those.
    assert torch.equal(mixes.labelled_target.images, target.images)


def test_vfm_uda_is_that_of_its_code() -> None:
    section = SelfTrainConfig.model_validate({"preset": "vfm_uda"})
    assert section.weak_colours == WeakColourConfig()
    assert (section.mixed_classes, section.momentum_ramp) == ("batch", "after")
    assert section.masked is not None
    assert (section.masked.hide, section.masked.block) == ("tokens", None)
    pixels = SelfTrainConfig.model_validate({"preset": "vfm_uda", "masked": {"hide": "pixels"}})
    assert pixels.masked is not None
    assert pixels.masked.block == 32


def test_a_preset_says_what_the_loss_of_its_step_is_averaged_over() -> None:
    def found(*settings: str) -> str:
        recipe = Recipe.load("scenes_selftrain", [f"every_step.{one}" for one in settings])
        again = Recipe.model_validate(recipe.model_dump(mode="json", exclude_none=True))
        assert again.steps == recipe.steps
        assert recipe.source_training.mean_over == "labelled"
        return recipe.steps[0].mean_over

    assert found() == "labelled"
    assert found("adaptation.preset=dacs") == "all"
    assert found("adaptation.preset=dacs", "mean_over=labelled") == "labelled"
    assert found("adaptation.preset=vfm_uda") == "labelled"
    assert found("adaptation.method=minent", "mean_over=all") == "all"


def test_a_preset_over_a_section_that_says_it_all_is_refused(tmp_path: Path) -> None:
    # A run's recipe holds every option: a preset below them would do next to nothing.
    of_a_run = tmp_path / "recipe.yml"
    of_a_run.write_text(save_recipe(Recipe.load("scenes_selftrain")))
    with pytest.raises(RecipeError, match="preset: dacs would change next to nothing, since all"):
        Recipe.load(of_a_run, ["steps.0.adaptation.preset=dacs"])
    whole = "steps.0.adaptation={method: selftrain, preset: dacs}"
    assert Recipe.load(of_a_run, [whole]).steps[0].adaptation.threshold == 0.968


def test_an_unknown_preset_is_refused_by_name() -> None:
    with pytest.raises(
        RecipeError, match=r"adaptation.preset: unknown value 'hrda' \(known: dacs,"
    ):
        Recipe.load("scenes_selftrain", ["every_step.adaptation={preset: hrda, method: selftrain}"])


@pytest.mark.parametrize(
    "section",
    [
        NoAdaptationConfig(masked=MaskedConfig(block=8)),
        AdventConfig(width=4, masked=MaskedConfig(block=8, aux=0.0)),
        SelfTrainConfig(masked=MaskedConfig(block=8), feature_distance={"classes": ["car"]}),
    ],
    ids=["none", "advent", "selftrain"],
)
@pytest.mark.parametrize("retention", ["none", "muhdi"])
def test_additions_of_every_adaptation(section: object, retention: str) -> None:
    tester = MethodTester(section, plugins.sections("retention")[retention]())
    tester.run_all()
    losses = tester.iterate(*tester.started())
    assert "masked_main" in losses
    assert ("masked_aux" in losses) is (section.masked.aux > 0)
    assert ("feature_distance" in losses) is (section.feature_distance is not None)


def test_masked_consistency_without_a_teacher_takes_options_of_its_own() -> None:
    own = MaskedConfig(pseudo_labels=PseudoLabelConfig(momentum=0.5))
    assert NoAdaptationConfig(masked=own).masked is not None
    with pytest.raises(RecipeError, match=r"masked.pseudo_labels: selftrain labels the target"):
        Recipe.load(
            "scenes_selftrain",
            ["every_step.adaptation={method: selftrain, masked: {pseudo_labels: {mirror: true}}}"],
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["every_step.adaptation={method: minent, masked: {block: 65}}"], "block: 65 is larger"),
        (
            ["every_step.adaptation={method: minent, masked: {hide: tokens, block: 16}}"],
            "masked: block: with hide: tokens each has a patch of its own; leave it out",
        ),
        (
            ["every_step.adaptation={method: minent, masked: true}"],
            r"masked: must hold keys and values \({}: the defaults\), but is True",
        ),
        (
            [
                "every_step.adaptation={method: selftrain, teacher_statistics: batch}",
                "model.batch_norm=frozen",
            ],
            "with model.batch_norm: frozen no batch norm",
        ),
        (
            [
                "every_step.adaptation.method=minent",
                "every_step.adaptation.masked={pseudo_labels: {teacher_statistics: batch}}",
                "model.batch_norm=frozen",
            ],
            "adaptation.masked.pseudo_labels.teacher_statistics: with model.batch_norm: frozen no",
        ),
    ],
)
def test_what_could_have_no_effect_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.load("scenes_selftrain", settings)
