"""Testers: what every method and every backbone must stand, whoever has written it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from muhdi.losses import Losses
from muhdi.method import Memory, MethodContext
from muhdi.models.outputs import AGNOSTIC, SPECIALIST, Outputs
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.passes import Batch
from muhdi.recipe import plugins
from muhdi.recipe.backbones import BackboneConfig, DecoderConfig
from muhdi.recipe.methods import NO_ADAPTATION
from muhdi.recipe.retentions import NO_RETENTION
from muhdi.retention.base import trained_heads
from muhdi.taxonomy import custom
from muhdi.training.begin import Surroundings, begin_methods
from muhdi.training.iteration import train_iteration
from muhdi.training.method_checks import check_own_networks, checked_memory
from muhdi.training.passes import Methods

SIZE = (32, 48)
CLASSES = 3
CLASS_SET = replace(custom(["road", "car", "sky"]), things=("car",))


def forget(package: str) -> None:
    """As if a foreign package had never been imported."""
    sys.modules.pop(package, None)
    plugins._imported.clear()
    for known in plugins._sections.values():
        for name, section in list(known.items()):
            if section.__module__ == package:
                del known[name]


class PlainRunner:
    """Passes through a bare network, on one device and in its own precision."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def forward(self, images: Tensor) -> Outputs:
        outputs: Outputs = self.network(images)
        return outputs

    def backward(self, loss: Tensor) -> None:
        loss.backward()


class FewBatches:
    """Two single images of each domain; none of a source that is not there."""

    def __init__(self, source: Batch | None, *targets: Batch) -> None:
        self.has_source = source is not None
        self._source = source
        self._targets = targets

    def source(self, count: int) -> Iterator[Batch]:
        if self._source is not None:
            yield from list(self._source.split(2))[:count]

    def target(self, count: int) -> Iterator[Batch]:
        for place, target in enumerate(self._targets):
            for image in list(target.split(2))[:count]:
                yield replace(image, target=place)


def batches(*, labelled_target: bool) -> tuple[Batch, Batch]:
    """Source and target images; a part of a source label is ignored."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (4, 3, *SIZE), dtype=torch.uint8, generator=generator)
    coarse = torch.randint(0, CLASSES, (4, SIZE[0] // 8, SIZE[1] // 8), generator=generator)
    labels = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)
    labels[0, :16] = 255
    target = Batch(images[2:], labels[2:] if labelled_target else None)
    return Batch(images[:2], labels[:2]), target


def narrow(section: type[Any], /, **options: Any) -> Any:
    """A method; networks of its own have few channels, where their width is an option."""
    width = {"width": 4} if "width" in section.model_fields else {}
    return section(**width, **options)


def mirrored(batch: Batch) -> Batch:
    """The same images and labels, mirrored."""
    labels = None if batch.labels is None else batch.labels.flip(-1)
    return replace(batch, images=batch.images.flip(-1), labels=labels)


def begin(
    adaptation: Any,
    retention: Any,
    network: Segmenter,
    images: FewBatches,
    generator: torch.Generator | None = None,
    memory: dict[str, Memory] | None = None,
    targets: tuple[str, ...] = ("city",),
) -> Methods:
    """All methods at the start of a step, in the order of a stage."""
    heads = trained_heads(retention, len(targets))
    context = MethodContext(
        network.classes,
        network.levels,
        heads[0],
        generator or torch.Generator(),
        stage="+".join(targets),
        has_source=images.has_source,
        targets=targets,
        heads=heads,
    )
    first = deepcopy(network).eval()
    found = Surroundings(network, images, memory or {}, CLASS_SET, first)
    return begin_methods(adaptation, retention, context, {"main": 1.0, "aux": 0.1}, found)


@dataclass(frozen=True)
class Begun:
    """A network that learns, the methods of its step, their generator, and the first losses."""

    network: Segmenter
    methods: Methods
    generator: torch.Generator
    losses: Losses


class MethodTester:
    """Runs a method through real iterations.

    Args:
        adaptation: a section of a recipe; None: none.
        retention: the same.
        backbone: of the network that learns.
        decoder: of the network; None: what suits the backbone.
        has_source: whether source images take part.
        targets: names of the targets; every second one has the same images, mirrored.
    """

    def __init__(
        self,
        adaptation: Any = None,
        retention: Any = None,
        backbone: BackboneConfig | str = "small",
        decoder: DecoderConfig | None = None,
        *,
        has_source: bool = True,
        targets: tuple[str, ...] = ("city",),
    ) -> None:
        self.has_source = has_source
        self.names = targets
        self.backbone = backbone
        self.decoder = decoder
        self.adaptation = adaptation or NO_ADAPTATION
        self.retention = retention or NO_RETENTION
        reads_labels = self.adaptation.reads_target_labels
        self.source, self.target = batches(labelled_target=reads_labels)
        both = (self.target, mirrored(self.target))
        self.targets = [both[number % 2] for number in range(len(targets))]

    def started(self, memory: dict[str, Memory] | None = None) -> tuple[Segmenter, Methods]:
        """A network that has learned nothing, and the methods at the start of a step."""
        torch.manual_seed(0)
        network = build_segmenter(self.backbone, CLASSES, decoder=self.decoder).train()
        self.generator = torch.Generator().manual_seed(5)
        sections = (self.adaptation, self.retention)
        methods = begin(*sections, network, self.images(), self.generator, memory, self.names)
        return network, methods

    def images(self) -> FewBatches:
        """Images to look at."""
        return FewBatches(self.source if self.has_source else None, *self.targets)

    def iterate(self, network: Segmenter, methods: Methods, parts: int = 1) -> Losses:
        """One update of everything that is trained, by plain SGD."""
        owns = [own for method in methods.all for own in method.own_networks().values()]
        modules = [network, *(own.module for own in owns)]
        for module in modules:
            module.zero_grad(set_to_none=True)
        passes = methods.passes(self.source if self.has_source else None, self.targets)
        losses = train_iteration(
            PlainRunner(network), passes, lambda: methods.penalty(network), parts
        )
        with torch.no_grad():
            for weight in network.parameters():
                if weight.grad is not None:
                    weight -= 0.01 * weight.grad
        for own in owns:
            own.optimizer.step()
        methods.after_step(network)
        return losses

    def run_all(self) -> None:
        """Every check, on one network that has begun to learn."""
        begun = self.it_trains()
        self.two_parts_give_finite_losses_of_the_same_names(begun)
        self.its_state_is_all_that_it_needs(begun)
        self.a_step_goes_on_from_its_memory(begun)

    def it_trains(self) -> Begun:
        """A network and its methods after one iteration."""
        network, methods = self.started()
        before = {name: value.clone() for name, value in network.named_parameters()}
        losses = self.iterate(network, methods)
        assert any(name.startswith("seg_main") for name in losses) == self.has_source
        assert all(value.isfinite().all() for value in losses.values()), losses
        assert any(not torch.equal(before[name], p) for name, p in network.named_parameters())
        check_own_networks(methods.all)
        for method in methods.all:
            for own in method.own_networks().values():
                inside = {id(p) for p in method.parameters()}
                assert all(id(p) in inside for p in own.module.parameters()), "not a submodule"
        return Begun(network, methods, self.generator, losses)

    def its_state_is_all_that_it_needs(self, begun: Begun) -> None:
        """Saved and loaded into a fresh start, the next iteration is the same."""
        saved = _through_a_file(_state(begun.network, begun.methods, begun.generator))
        expected = self.iterate(begun.network, begun.methods)
        other, again = self.started()
        with torch.no_grad():  # what a fresh start computes must not matter
            for weight in other.parameters():
                weight += 0.1
        _load_state(other, again, saved, self.generator)
        losses = self.iterate(other, again)
        assert losses.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(losses[name], value), name
        modules = zip((begun.network, *begun.methods.all), (other, *again.all), strict=True)
        for one, two in modules:
            found = two.state_dict()
            for name, value in one.state_dict().items():
                assert not isinstance(value, Tensor) or torch.equal(found[name], value), name

    def two_parts_give_finite_losses_of_the_same_names(self, begun: Begun) -> None:
        parts = self.iterate(*self.started(), parts=2)
        assert begun.losses.keys() == parts.keys()
        assert all(value.isfinite().all() for value in parts.values())

    def a_step_goes_on_from_its_memory(self, begun: Begun) -> None:
        """The step is over; another one follows."""
        network, methods = self.started(self.ended(begun.network, begun.methods))
        again = self.iterate(network, methods)
        assert all(value.isfinite().all() for value in again.values()), again
        assert again.keys() >= begun.losses.keys()

    def ended(self, network: Segmenter, methods: Methods) -> dict[str, Memory]:
        """What the methods remember of the step, which is over."""
        images = self.images()
        for method in methods.all:
            method.settle(network)
        memory = {}
        for method in (methods.adaptation, *methods.retentions):
            memory[method.config.key] = checked_memory(method, method.end(network, images))
        return memory


def _state(network: Segmenter, methods: Methods, generator: torch.Generator) -> dict[str, Any]:
    owns = [own for method in methods.all for own in method.own_networks().values()]
    return {
        "network": network.state_dict(),
        "methods": [method.state_dict() for method in methods.all],
        "optimizers": [own.optimizer.state_dict() for own in owns],
        "generator": generator.get_state(),
    }


def _load_state(
    network: Segmenter, methods: Methods, state: dict[str, Any], generator: torch.Generator
) -> None:
    network.load_state_dict(state["network"])
    for method, saved in zip(methods.all, state["methods"], strict=True):
        method.load_state_dict(saved)
    owns = [own for method in methods.all for own in method.own_networks().values()]
    for own, optimizer in zip(owns, state["optimizers"], strict=True):
        own.optimizer.load_state_dict(optimizer)
    generator.set_state(state["generator"])


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


class BackboneTester:
    """Runs a backbone through what a network needs of it.

    Args:
        section: of a recipe.
    """

    def __init__(self, section: BackboneConfig) -> None:
        self.section = section

    def run_all(self) -> None:
        """Every check."""
        self.features_are_what_it_says()
        self.two_heads_and_every_trained_parameter_learn()
        self.images_of_any_size_and_type()
        self.it_exports()
        self.its_layers_and_undecayed_parameters_exist()
        if self.network().backbone.first_convolution is not None:
            self.images_of_more_channels()

    def network(self) -> Segmenter:
        torch.manual_seed(0)
        return build_segmenter(self.section, CLASSES, (AGNOSTIC, SPECIALIST))

    def features_are_what_it_says(self) -> None:
        network = self.network().eval()
        with torch.no_grad():
            features = network(torch.zeros(1, 3, 64, 96)).features
        assert features[-1].shape[1] == network.decoder.channels
        infos = list(network.backbone.features)
        multiple = network.backbone.multiple
        height, width = (-(-side // multiple) * multiple for side in (64, 96))
        for feature, info in zip(features, infos, strict=False):
            assert feature.shape[1] == info.channels
            # Some networks add a line when they halve.
            assert abs(feature.shape[2] - height // info.stride) <= 1
            assert abs(feature.shape[3] - width // info.stride) <= 1
        assert network.backbone.family in ("dilated", "pyramid", "plain")

    def two_heads_and_every_trained_parameter_learn(self) -> None:
        network = self.network().train()
        outputs = network(torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8))
        total = torch.zeros(())
        for levels in outputs.heads.values():
            for _, level in levels.items():
                assert level.shape[:2] == (2, CLASSES)
                total = total + level.square().mean()
        total.backward()
        for name, weight in network.named_parameters():
            assert (weight.grad is not None) == weight.requires_grad, name

    def images_of_any_size_and_type(self) -> None:
        network = self.network().eval()
        images = torch.randint(0, 256, (1, 3, 33, 50), dtype=torch.uint8)
        with torch.no_grad():
            outputs = network(images)
            same = network(images.float())
            alone = network.segment(images, SPECIALIST)
        assert torch.equal(outputs.heads[AGNOSTIC].main, same.heads[AGNOSTIC].main)
        assert torch.equal(alone, outputs.heads[SPECIALIST].main)

    def images_of_more_channels(self) -> None:
        network = self.network().eval()
        network.backbone.widen(4)
        images = torch.randint(0, 256, (1, 4, 64, 96), dtype=torch.uint8)
        darker = images.clone()
        darker[:, 3] = 0
        with torch.no_grad():
            assert not torch.equal(network.segment(images), network.segment(darker))

    def its_layers_and_undecayed_parameters_exist(self) -> None:
        backbone = self.network().backbone
        names = [name for name, _ in backbone.named_parameters()]
        layers = {backbone.layer_of(name) for name in names}
        assert layers - {backbone.depth} == set(range(backbone.depth))
        assert backbone.undecayed() < set(names)

    def it_exports(self) -> None:
        network = self.network().eval()

        class Main(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = network

            def forward(self, images: Tensor) -> Tensor:
                return self.network.segment(images)

        example = torch.randint(0, 256, (1, 3, 48, 64), dtype=torch.uint8)
        program = torch.export.export(Main(), (example,)).module()
        with torch.no_grad():
            torch.testing.assert_close(program(example), network.segment(example))
