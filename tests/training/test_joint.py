"""Several targets in one step: losses against numbers computed by hand, and every method."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import pytest
import torch
from torch import Tensor, nn

from muhdi.adaptation.advent import AdvEnt
from muhdi.method import MethodContext
from muhdi.models.outputs import Levels, Outputs
from muhdi.passes import Batch
from muhdi.recipe import plugins
from muhdi.recipe.methods import AdventConfig, MinEntConfig, SelfTrainConfig
from muhdi.recipe.retentions import MTKTConfig, MuHDiConfig, StyleConfig
from muhdi.recipe.schema import Recipe  # noqa: F401 - registers all sections
from muhdi.retention.mtkt import MTKT
from tests.testers import MethodTester, narrow

ADAPTATIONS = list(plugins.sections("adaptation"))
RETENTIONS = list(plugins.sections("retention"))
LOGITS = Levels(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2))
WEIGHTS = {"main": 0.001, "aux": 0.0002}


class Fixed(nn.Module):
    """A discriminator that gives every image the same score."""

    def __init__(self, score: float) -> None:
        super().__init__()
        self.score = nn.Parameter(torch.tensor(score))

    def forward(self, maps: Tensor) -> Tensor:
        return self.score.expand(len(maps), 1, 1, 1)


def source_like(score: float) -> float:
    """Binary cross entropy of a score against 0."""
    return log(1 + exp(score))


def target_like(score: float) -> float:
    """Binary cross entropy of a score against 1."""
    return log(1 + exp(-score))


def adversary(targets: int, scores: dict[str, float], **options: object) -> AdvEnt:
    """AdvEnt whose discriminators give fixed scores, by name."""
    names = tuple("abc"[:targets])
    generator = torch.Generator()
    context = MethodContext(3, ("aux", "main"), "agnostic", generator, targets=names)
    method = AdvEnt(AdventConfig(width=1, **options), context)
    for group in (method.discriminators, method.between):
        for name in group:
            group[name] = Fixed(scores[name])
    return method


def on(target: int) -> Batch:
    return Batch(torch.zeros(1, 3, 2, 2), target=target)


def both(names: list[str], start: float) -> dict[str, float]:
    """A score of its own for every discriminator."""
    return {name: start + 0.25 * place for place, name in enumerate(names)}


def test_the_baseline_has_one_discriminator_for_all_targets() -> None:
    scores = {"aux": 0.5, "main": -0.25}
    method = adversary(3, scores)
    assert list(method.own_networks()) == ["D_aux", "D_main"]
    for target in range(3):
        given = method.on_target(LOGITS, on(target))
        source = method.on_source(LOGITS, on(target))
        for level, score in scores.items():
            assert float(given[f"adv_{level}"]) == pytest.approx(
                WEIGHTS[level] * source_like(score)
            )
            assert float(given[f"d_{level}_target"]) == pytest.approx(target_like(score) / 2)
            assert float(source[f"d_{level}_source"]) == pytest.approx(source_like(score) / 2)
    quirks = adversary(3, scores, mtaf_quirks=True)
    source = quirks.on_source(LOGITS, on(1))
    assert float(source["d_aux_source"]) == pytest.approx(source_like(0.5) / 4)
    assert float(source["d_main_source"]) == pytest.approx(source_like(-0.25) / 2)
    assert [own.updates for own in quirks.own_networks().values()] == [3, 3]


def test_a_discriminator_per_target() -> None:
    scores = both(["1_aux", "1_main", "2_aux", "2_main"], -0.5)
    method = adversary(2, scores, discriminators_per="target")
    quirks = adversary(2, scores, discriminators_per="target", mtaf_quirks=True)
    assert {own.updates for own in quirks.own_networks().values()} == {1}
    for target in range(2):
        given = method.on_target(LOGITS, on(target))
        odd = quirks.on_target(LOGITS, on(target))
        for level in ("aux", "main"):
            score = scores[f"{target + 1}_{level}"]
            assert float(given[f"adv_{level}"]) == pytest.approx(
                WEIGHTS[level] * source_like(score)
            )
            assert float(given[f"d_{level}_target"]) == pytest.approx(target_like(score) / 2)
            assert torch.equal(odd[f"d_{level}_target"], given[f"d_{level}_target"])
        # The published MTKT deceives the last aux discriminator, whatever the target.
        assert float(odd["adv_aux"]) == pytest.approx(0.0002 * source_like(scores["2_aux"]))
        assert torch.equal(odd["adv_main"], given["adv_main"])


def test_multi_dis_of_two_targets() -> None:
    names = ["1_aux", "1_main", "2_aux", "2_main", "targets_aux", "targets_main"]
    scores = both(names, -0.75)
    method = adversary(2, scores, discriminators_per="pair")
    assert list(method.own_networks()) == [f"D_{name}" for name in names]
    for level in ("aux", "main"):
        between = scores[f"targets_{level}"]
        first = method.on_target(LOGITS, on(0))
        second = method.on_target(LOGITS, on(1))
        # The first target's label is 0, the second's 1; each shall look like the other.
        weight = WEIGHTS[level]
        assert float(first[f"d_{level}_between"]) == pytest.approx(source_like(between) / 2)
        assert float(second[f"d_{level}_between"]) == pytest.approx(target_like(between) / 2)
        assert float(first[f"adv_{level}_between"]) == pytest.approx(weight * target_like(between))
        assert float(second[f"adv_{level}_between"]) == pytest.approx(weight * source_like(between))
        own = weight * source_like(scores[f"2_{level}"])
        assert float(second[f"adv_{level}"]) == pytest.approx(own)


def test_multi_dis_of_three_targets() -> None:
    names = [f"{number}_{level}" for number in (1, 2, 3) for level in ("aux", "main")]
    names += [f"targets_{name}" for name in names]
    scores = both(names, -1.5)
    method = adversary(3, scores, discriminators_per="pair")
    quirks = adversary(3, scores, discriminators_per="pair", mtaf_quirks=True)
    given = method.on_target(LOGITS, on(1))
    odd = quirks.on_target(LOGITS, on(1))
    for level in ("aux", "main"):
        one, own, three = (scores[f"targets_{number}_{level}"] for number in (1, 2, 3))
        deceived = (source_like(one) + source_like(three)) / 2
        apart = source_like(own) / 2 + (target_like(one) + target_like(three)) / 4
        assert float(given[f"adv_{level}_between"]) == pytest.approx(WEIGHTS[level] * deceived)
        assert float(given[f"d_{level}_between"]) == pytest.approx(apart)
        assert torch.equal(odd[f"adv_{level}_between"], given[f"adv_{level}_between"])
    assert torch.equal(odd["d_main_between"], given["d_main_between"])
    last = scores["targets_3_aux"]
    expected = source_like(last) / 2 + 2 * target_like(last) / 4
    assert float(odd["d_aux_between"]) == pytest.approx(expected)


def test_a_gradient_reaches_the_network_or_the_discriminator_never_both() -> None:
    context = MethodContext(3, ("main",), "agnostic", torch.Generator(), targets=("a", "b", "c"))
    method = AdvEnt(AdventConfig(width=2, discriminators_per="pair"), context)
    main = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = Levels(None, main.requires_grad_())
    given = method.on_target(logits, on(2))
    for name, loss in given.items():
        weights = [logits.main, *method.parameters()]
        found = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
        reached = [gradient is not None for gradient in found]
        assert reached[0] == name.startswith("adv"), name
        assert any(reached[1:]) == name.startswith("d_"), name


# --- MTKT -----------------------------------------------------------------------------------------


def two_classes(odds: float) -> Tensor:
    """Logits of a pixel whose first class is as many times as likely as the second."""
    return torch.tensor([log(odds), 0.0]).view(1, 2, 1, 1)


def outputs() -> Outputs:
    """Agnostic p = 3/4, specialists p = 1/2 and 1/3."""
    odds = {"agnostic": 3.0, "specialist_1": 1.0, "specialist_2": 0.5}
    heads = {name: two_classes(value).requires_grad_() for name, value in odds.items()}
    return Outputs({name: Levels(logits, logits) for name, logits in heads.items()}, [])


def mtkt(**options: object) -> MTKT:
    context = MethodContext(
        2, ("aux", "main"), "specialist_1", torch.Generator(), targets=("a", "b")
    )
    return MTKT(MTKTConfig(**options), context)


FIRST = 0.5 * log(0.5 / 0.75) + 0.5 * log(0.5 / 0.25)
SECOND = 1 / 3 * log((1 / 3) / 0.75) + 2 / 3 * log((2 / 3) / 0.25)
PIXEL = Batch(torch.zeros(1, 3, 1, 1))


@pytest.mark.parametrize(("target", "divergence"), [(0, FIRST), (1, SECOND)])
def test_each_specialist_teaches_on_its_own_target(target: int, divergence: float) -> None:
    network = outputs()
    given = mtkt(weight_target=4, aux=0.5).on_target(network, replace(PIXEL, target=target))
    assert float(given["kt_main"]) == pytest.approx(4 * divergence, rel=1e-5)
    assert float(given["kt_aux"]) == pytest.approx(2 * divergence, rel=1e-5)
    sum(given.values()).backward()
    learning = [name for name, head in network.heads.items() if head.main.grad is not None]
    assert learning == ["agnostic"]


def test_the_ways_of_averaging_of_the_published_code() -> None:
    method = mtkt(kl_reduction="element", aux=0.5, mean_aux=True)
    given = method.on_target(outputs(), PIXEL)
    assert float(given["kt_main"]) == pytest.approx(FIRST / 2, rel=1e-5)
    assert float(given["kt_aux"]) == pytest.approx(FIRST / 2 * 0.5 / 2, rel=1e-5)


def test_specialists_teach_after_some_iterations_also_when_the_run_continues() -> None:
    method = mtkt(teacher_iterations=2)
    method.after_step(nn.Identity())
    again = mtkt(teacher_iterations=2)
    again.load_state_dict(method.state_dict())
    assert again.on_target(outputs(), PIXEL) == {}
    again.after_step(nn.Identity())
    assert list(again.on_target(outputs(), PIXEL)) == ["kt_aux", "kt_main"]


@pytest.mark.parametrize("heads", ["copy", "fresh"])
def test_heads_of_a_step_and_what_they_learn(heads: str) -> None:
    tester = MethodTester(
        MinEntConfig(), MTKTConfig(heads=heads, teacher_iterations=1), targets=("a", "b")
    )
    network, methods = tester.started()
    assert list(network.heads) == ["agnostic", "specialist_1", "specialist_2"]
    first = network.heads["agnostic"].main.state_dict()
    other = network.heads["specialist_2"].main.state_dict()
    assert all(torch.equal(first[name], other[name]) for name in first) == (heads == "copy")
    losses = tester.iterate(network, methods)
    names = ["seg_aux_a", "seg_main_a", "seg_aux_b", "seg_main_b"]
    assert [name for name in losses if name.startswith("seg")] == names
    # The agnostic head sees no label, and nobody teaches it yet.
    agnostic = network.heads["agnostic"]
    assert all(weight.grad is None for weight in agnostic.parameters())
    assert {"kt_main_a", "kt_main_b"} < tester.iterate(network, methods).keys()
    assert all(weight.grad is not None for weight in agnostic.parameters())


# --- every method ---------------------------------------------------------------------------------


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_every_adaptation_with_three_targets(adaptation: str) -> None:
    section = narrow(plugins.sections("adaptation")[adaptation])
    MethodTester(section, targets=("a", "b", "c")).run_all()


@pytest.mark.parametrize("retention", RETENTIONS)
def test_every_retention_with_two_targets(retention: str) -> None:
    section = plugins.sections("retention")[retention]()
    MethodTester(SelfTrainConfig(), section, targets=("a", "b")).run_all()


@pytest.mark.parametrize("per", ["target", "pair"])
@pytest.mark.parametrize("retention", [None, MTKTConfig()])
def test_every_kind_of_discriminators(per: str, retention: MTKTConfig | None) -> None:
    section = AdventConfig(width=2, discriminators_per=per)
    MethodTester(section, retention, targets=("a", "b", "c")).run_all()


def test_masked_consistency_and_feature_distance_with_two_targets() -> None:
    masked = {"masked": {"block": 8}, "feature_distance": {"weight": 0.1}}
    tester = MethodTester(MinEntConfig(**masked), MTKTConfig(), targets=("a", "b"))
    tester.run_all()
    losses = tester.iterate(*tester.started())
    assert {"masked_main_a", "masked_main_b", "feature_distance"} < losses.keys()


def test_what_is_learned_is_averaged_over_the_targets_or_summed() -> None:
    """With the same images in every target."""
    for section, shares in ((MinEntConfig(), 1 / 3), (AdventConfig(width=2), 1.0)):
        losses = []
        for names in (("a",), ("a", "b", "c")):
            tester = MethodTester(section, MuHDiConfig(), targets=names)
            tester.targets = [tester.target] * len(names)
            losses.append(tester.iterate(*tester.started()))
        alone, together = losses
        for name in ("ent_main", "adv_main", "d_main_target"):
            if name in alone:
                for target in ("a", "b", "c"):
                    torch.testing.assert_close(together[f"{name}_{target}"], shares * alone[name])
        torch.testing.assert_close(together["kt_main_b"], alone["kt_main"] / 3)
        torch.testing.assert_close(together["seg_main"], alone["seg_main"])


def test_with_a_head_for_each_target_nothing_is_averaged() -> None:
    """Each specialist, a copy of the one head, learns as much as that does alone."""
    losses = []
    for retention, names in ((None, ("a",)), (MTKTConfig(), ("a", "b"))):
        tester = MethodTester(MinEntConfig(), retention, targets=names)
        tester.targets = [tester.target] * len(names)
        losses.append(tester.iterate(*tester.started()))
    alone, together = losses
    for name in ("seg_main", "ent_main", "ent_aux"):
        for target in ("a", "b"):
            torch.testing.assert_close(together[f"{name}_{target}"], alone[name])


def test_styles_of_all_targets_are_used_and_kept() -> None:
    section = StyleConfig(probability=1.0)
    tester = MethodTester(MinEntConfig(), section, targets=("a", "b"))
    dark = replace(tester.target, images=torch.full_like(tester.target.images, 20))
    bright = replace(tester.target, images=torch.full_like(tester.target.images, 240))
    tester.targets = [dark, bright]
    network, methods = tester.started()
    seen = set()
    for _ in range(10):
        shown = methods.passes(tester.source, tester.targets)[0].batch.images
        seen |= {round(float(image.mean())) for image in shown}
    assert seen == {20, 240}
    memory = tester.ended(network, methods)["style"]
    assert sorted(memory) == ["colour/a", "colour/b"]
    assert float(memory["colour/a"][:, :3].max()) == pytest.approx(20)
    assert float(memory["colour/b"][:, :3].min()) == pytest.approx(240)
