"""What a run starts from: a network, random or from a file, and empty results."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from muhdi.data.domains import Domains
from muhdi.data.paths import find_file
from muhdi.errors import RecipeError
from muhdi.evaluation.results import Results
from muhdi.evaluation.scored_images import scored_images
from muhdi.method import Memory, MethodContext
from muhdi.models.adapters import adaptable_layers
from muhdi.models.channels import with_channels
from muhdi.models.checkpoint import recorded_backbone
from muhdi.models.imagenet import IMAGENET, find_imagenet, has_imagenet
from muhdi.models.initial import initialise
from muhdi.models.norms import convert_norms
from muhdi.models.outputs import AGNOSTIC
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.models.statistics import batch_norms
from muhdi.models.tensor_files import load_exactly, read_tensors
from muhdi.recipe.backbones import BackboneConfig
from muhdi.recipe.model import ModelConfig
from muhdi.recipe.schema import Recipe
from muhdi.recipe.stages import StageConfig, StepConfig
from muhdi.training.carried import Carried, kept_bytes


@dataclass(frozen=True)
class Start:
    """The start of a run.

    Attributes:
        carried: what the first stage takes over.
        trained: whether the network's heads have learned something already.
        notes: what the user should know of it.
    """

    carried: Carried
    trained: bool
    notes: list[str]


def start(recipe: Recipe, domains: Domains) -> Start:
    """Make the network that a run starts from.

    Raises:
        MuhdiError: a file that the recipe names is missing or does not fit, or a retention is asked
            to keep what no network has learned.
    """
    torch.manual_seed(recipe.seed)
    classes = recipe.class_set()
    model = recipe.model
    path = None if model.init is None else find_initial(model, recipe.runtime.root)
    network = new_network(recipe, initial=path)
    carried = Carried(network, _empty_results(recipe, domains))
    trained = False
    notes: list[str] = []
    if path is not None:
        found = initialise(network, path, model.backbone, classes.classes)
        trained = found.heads
        carried.statistics = found.statistics
        carried.memory = found.memory
        carried.networks = found.networks
        if recipe.optimizer.ema is not None:
            carried.average = found.average
        notes += _unused_memory(recipe, found.memory)
    else:
        notes = _start_pretrained(network, model.backbone)
        if model.tune.method != "full" and not model.backbone.is_pretrained:
            notes.append(
                f"model.tune: {model.tune.method} keeps the backbone's weights, which are random:"
                " set model.init"
            )
    if model.tune.method == "lora":
        adaptable_layers(network.backbone)  # refuses what has none before anything is trained
    if any(step.adaptation.feature_distance is not None for step in recipe.steps):
        carried.first = deepcopy(network).requires_grad_(False).eval()
    _train_mask_token(recipe, network)
    if model.checkpointing:
        network.backbone.checkpointed()
    convert_norms(network, model.batch_norm)
    _check_batches(recipe, network)
    _check_retention(recipe, trained=trained)
    _check_statistics(recipe, network)
    _check_initial_files(recipe, network)
    return Start(carried, trained, notes)


def _unused_memory(recipe: Recipe, memory: dict[str, Memory]) -> list[str]:
    """A line for each method that no step has, and whose memory is handed on all the same."""
    used = {section.key for step in recipe.steps for _, section in step.methods}
    unused = {key: kept for key, kept in memory.items() if key not in used}
    return [
        f"the network's file holds what {key!r} remembers, {size / 2**20:.1f} MiB, and later ones"
        " will; no step uses it"
        for key, size in kept_bytes(unused, {}).items()
        if size
    ]


def new_network(
    recipe: Recipe, heads: tuple[str, ...] = (AGNOSTIC,), *, initial: Path | None = None
) -> Segmenter:
    """A recipe's network with random weights.

    Args:
        recipe: of the run.
        heads: names of its heads.
        initial: the file that it is going to start from: where that is of the same backbone, it
            holds what the recipe may leave to a download.
    """
    model = recipe.model
    backbone = model.backbone if initial is None else recorded_backbone(initial, model.backbone)
    return build_segmenter(
        backbone,
        len(recipe.class_set()),
        heads,
        multi_level=model.multi_level,
        decoder=model.decoder,
        channels=recipe.channels,
    )


def _start_pretrained(network: Segmenter, backbone: BackboneConfig) -> list[str]:
    """Fill the backbone with the weights that its section asks for, if it does.

    Returns:
        What the user should know of them; a line if it starts from nothing although weights exist.
    """
    weights = network.backbone.pretrained()
    if weights is not None:
        state = with_channels(weights.tensors, network.backbone.state_dict())
        load_exactly(network.backbone, state, weights.origin)
        return weights.notes
    if not has_imagenet(backbone.key):
        return []
    return [
        f"{backbone.key} starts from random weights; ImageNet's are known: set"
        f" model.init={IMAGENET}"
    ]


def find_initial(model: ModelConfig, root: str) -> Path:
    """The file of `model.init`.

    Raises:
        MuhdiError: it is missing, or so is the package that brings it.
    """
    assert model.init is not None
    if model.init == IMAGENET:
        return find_imagenet(model.backbone.key)
    return find_file(model.init, root, "model.init")


def _empty_results(recipe: Recipe, domains: Domains) -> Results:
    first: dict[str, int] = {}
    for number, step in enumerate(recipe.steps, 1):
        for name in step.domain_names:
            first.setdefault(name, number)
    if not recipe.steps:
        # The extra domains are the targets: how well the source alone serves them.
        first = {data.domain_name: 1 for data in recipe.extra_domains}
    return Results(
        recipe.name,
        recipe.seed,
        recipe.source_name(),
        list(domains.validation),
        list(first),
        list(first.values()),
        scored=scored_images(domains, recipe),
        mean_over=recipe.evaluation.mean_over,
        default=recipe.evaluation.default_statistics,
        scored_weights=recipe.evaluation.weights,
    )


def _train_mask_token(recipe: Recipe, network: Segmenter) -> None:
    """Have the mask token trained where a step hides tokens.

    Raises:
        RecipeError: the network has none.
    """
    for number, step in enumerate(recipe.steps):
        masked = step.adaptation.masked
        if masked is not None and masked.hide == "tokens":
            network.backbone.trains_mask_token(f"steps.{number}.adaptation.masked.hide")


def _check_batches(recipe: Recipe, network: Segmenter) -> None:
    """A batch norm that measures its batch needs more than one value of each channel.

    Raises:
        RecipeError: a stage gives it a single pixel of a single image.
    """
    model = recipe.model
    frozen = model.batch_norm == "frozen" or model.tune.method == "frozen"
    if frozen or not batch_norms(network.backbone):
        return
    stride = max(feature.stride for feature in network.backbone.features)
    for stage in recipe.stages():
        config = stage.config
        if not config.iterations:
            continue
        width, height = _smallest_seen(recipe, config)
        if max(width, height) <= stride and config.batch_size // config.accumulate < 2:
            raise RecipeError(
                f"{stage.key}.batch_size: a single image of {width}x{height} leaves batch norms one"
                f" value at the backbone's stride of {stride}; take 2 or more at a time, or a"
                f" larger {recipe.size_key}"
            )


def _smallest_seen(recipe: Recipe, stage: StageConfig) -> tuple[int, int]:
    """Width and height of the smallest images that a stage trains on."""
    domains = [recipe.source]
    if isinstance(stage, StepConfig):
        domains += stage.domains
    sizes = [recipe.training_size(data) for data in domains if data is not None]
    return min(sizes, key=max)


def _check_retention(recipe: Recipe, *, trained: bool) -> None:
    """A retention needs an old model that has learned something."""
    if trained or recipe.source_training.iterations or not recipe.steps:
        return
    for part in recipe.steps[0].retention.parts:
        if part.needs_old_model:
            raise RecipeError(
                "steps.0.retention: model.init holds a backbone alone, so there is nothing to"
                f" retain with {part.key!r}; set source_training.iterations, or retention: none"
            )


def moves_statistics(network: Segmenter, model: ModelConfig) -> bool:
    """Whether training moves running statistics: those of frozen batch norms stay."""
    if model.batch_norm == "frozen":
        return False
    frozen = batch_norms(network.backbone) if model.tune.method == "frozen" else {}
    return len(batch_norms(network)) > len(frozen)


def _check_statistics(recipe: Recipe, network: Segmenter) -> None:
    """Running statistics can only be kept where there are some that move.

    Raises:
        RecipeError: a retention keeps nothing else, and none move.
    """
    if moves_statistics(network, recipe.model):
        return
    reason = "has no batch norms"
    if batch_norms(network):
        reason = "has frozen batch norms alone, see model.batch_norm and model.tune"
    for number, step in enumerate(recipe.steps):
        for place, section in step.methods:
            if getattr(section, "keeps_statistics", False):
                raise RecipeError(
                    f"steps.{number}.{place}: the network {reason}, so there are no running"
                    f" statistics that {section.key!r} could give back; leave it out"
                )


def _check_initial_files(recipe: Recipe, network: Segmenter) -> None:
    """Files that methods' own networks start from fit, long before their step comes."""
    for number, step in enumerate(recipe.steps):
        for place, section in step.methods:
            load_initial_files(section, recipe, f"steps.{number}.{place}", network)


def load_initial_files(config: Any, recipe: Recipe, key: str, network: Segmenter) -> None:
    """Build a method only to see whether the files that it names fit its own networks."""
    if not config.initial_files():
        return
    with torch.random.fork_rng(devices=[]):
        context = MethodContext(network.classes, network.levels, AGNOSTIC, torch.Generator())
        fill_from_files(config.build(context).own_networks(), config, recipe, key)


def fill_from_files(own_networks: dict[str, Any], config: Any, recipe: Recipe, key: str) -> None:
    """Load the files that a method's section names into its own networks."""
    for name, file in config.initial_files().items():
        if name not in own_networks:
            known = ", ".join(own_networks) or "none"
            raise RecipeError(f"{key}: it has no network {name!r} to start (it has: {known})")
        path = find_file(file, recipe.runtime.root, key)
        load_exactly(own_networks[name].module, read_tensors(path)[0], path)
