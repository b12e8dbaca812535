"""What a recipe's network, or a trained one, is made of and what it costs; no data are opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from muhdi.deploy.find import exported_config, network_file
from muhdi.errors import RecipeError
from muhdi.models.checkpoint import Checkpoint, load_checkpoint
from muhdi.models.norms import convert_norms
from muhdi.models.outputs import AGNOSTIC
from muhdi.models.summary import NetworkSummary, parts_of, summarise
from muhdi.preflight.count_classes import rare_stages
from muhdi.recipe.backbones import BackboneConfig
from muhdi.recipe.evaluation import SMALLEST
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe
from muhdi.recipe.tune import TuneConfig
from muhdi.report.kept import size_text
from muhdi.retention.base import trained_heads
from muhdi.run.costs import DryRun
from muhdi.training.carried import kept_bytes
from muhdi.training.optim import freeze_affine
from muhdi.training.start import new_network
from muhdi.training.tuning import tune
from muhdi.workflows.scored_networks import checked_name, is_network

Facts = dict[str, str | list[str]]
"""What is known, by its name, in the order in which it is shown."""


@dataclass(frozen=True)
class Info:
    """A network, described.

    Attributes:
        name: of the recipe, or the path of the network.
        facts: what it is.
        network: what it is made of.
        recipe: that trains it; None for a trained network.
    """

    name: str
    facts: Facts
    network: NetworkSummary
    recipe: Recipe | None = None

    @property
    def texts(self) -> dict[str, str]:
        """The facts as texts; what there is none of is said, too."""
        shown = {}
        for name, fact in self.facts.items():
            shown[name] = fact if isinstance(fact, str) else ", ".join(fact) or "none"
        return shown


def info(
    what: Path | str | Recipe,
    settings: Sequence[str] = (),
    *,
    size: tuple[int, int] | None = None,
    trust_code: bool = False,
) -> Info:
    """Describe the network of a recipe, or a trained one.

    Args:
        what: a recipe, its file or its name; or a run directory (its newest network), a network
            file, or an exported folder.
        settings: ``key=value`` changes to a recipe that is named.
        size: width and height of the image of which operations are counted; None: that of the
            training images.
        trust_code: whether classes of other packages, which a run or a network names, are imported.

    Raises:
        MuhdiError: there is no such recipe or network, or it names code that is not trusted.
    """
    if size is not None and min(size) < SMALLEST:
        raise RecipeError(f"size {_size(size)}: both sides must be at least {SMALLEST}")
    if isinstance(what, Recipe):
        return _of_recipe(what, size)
    if not is_network(Path(what)):
        name = checked_name(what)
        return _of_recipe(load_recipe(name, settings, trust_code=trust_code or None), size)
    if settings:
        raise RecipeError(f"--set: changes a recipe, but {what} is a network; leave --set out")
    return _of_network(Path(what), size, trust_code=trust_code)


def to_json(found: Info, costs: DryRun | None = None) -> dict[str, Any]:
    """Everything as plain values, numbers in full."""
    data: dict[str, Any] = {
        "name": found.name,
        "facts": found.facts,
        "network": asdict(found.network),
    }
    if costs is not None:
        data["dry_run"] = asdict(costs) | {"seconds": costs.seconds}
    return data


def _of_recipe(recipe: Recipe, size: tuple[int, int] | None) -> Info:
    recipe.check_trusted()
    model = recipe.model
    heads = [AGNOSTIC]
    if recipe.steps:
        last = recipe.steps[-1]
        heads += trained_heads(last.retention, len(last.domains))
    network = new_network(recipe, tuple(dict.fromkeys(heads)))
    convert_norms(network, model.batch_norm)
    summary = summarise(network, size or recipe.image_size)
    tune(network, model.tune)
    # Adapters are trained, and gone when the network is saved or used.
    summary = replace(summary, parts=parts_of(network))
    stages = [f"{stage.name} {stage.config.iterations}" for stage in recipe.stages()]
    facts: Facts = {
        "backbone": model.backbone.key,
        "decoder": network.decoder_config.name,
        "heads": list(network.heads),
        "levels": list(network.levels),
        "trained": _tuned(model.tune),
        "starts from": model.init or _own_start(model.backbone),
        "classes": list(recipe.class_set().classes),
        "image size": _size(recipe.image_size),
        "iterations": stages,
        **_sampling(recipe),
        **_measures(summary, model.batch_norm),
    }
    return Info(recipe.name, facts, summary, recipe)


def _sampling(recipe: Recipe) -> Facts:
    """How stages draw source images, where one does not draw each once per epoch."""
    drawn = []
    for stage in rare_stages(recipe):
        assert stage.config.rare_classes is not None
        drawn.append(f"{stage.name} at temperature {stage.config.rare_classes.temperature:g}")
    return {"rare classes": drawn} if drawn else {}


def _tuned(config: TuneConfig) -> str:
    """What training changes of the backbone."""
    if config.method == "frozen":
        return "decoder and heads; the backbone stays"
    if config.method == "lora":
        return (
            f"adapters of rank {config.lora_rank} in the backbone's linear layers, the rest fully"
        )
    return "backbone, decoder and heads"


def _was_tuned(config: TuneConfig) -> str:
    """What a network's last training changed; its adapters, if it had some, are gone."""
    merged = "; their changes are in the weights" if config.method == "lora" else ""
    return _tuned(config) + merged


def _own_start(backbone: BackboneConfig) -> str:
    """What a network begins with where `model.init` is none."""
    return "the published weights of its backbone" if backbone.is_pretrained else "random weights"


def _of_network(path: Path, size: tuple[int, int] | None, *, trust_code: bool) -> Info:
    file = network_file(path)
    checkpoint = load_checkpoint(file, trust_code=trust_code)
    network = checkpoint.network
    freeze_affine(network)
    if checkpoint.tune.method != "full":
        network.backbone.requires_grad_(False)
    summary = summarise(network, size or checkpoint.image_size)
    facts: Facts = {
        "file": f"{file}, {_mib(file.stat().st_size)}",
        "backbone": checkpoint.backbone.key,
        "decoder": network.decoder_config.name,
        "heads": list(network.heads),
        "levels": list(network.levels),
        "trained": _was_tuned(checkpoint.tune),
        **_held(checkpoint),
        **_exported(path),
        **_measures(summary),
    }
    return Info(str(path), facts, summary)


def _held(checkpoint: Checkpoint) -> Facts:
    """What a network's file holds besides the network."""
    has_statistics = checkpoint.network.statistics_choices != ("none",)
    return {
        "classes": list(checkpoint.classes),
        "image size": _size(checkpoint.image_size),
        "channels": _channels(checkpoint),
        "other shapes": "are padded" if checkpoint.fit == "pad" else "are stretched",
        "statistics of": list(checkpoint.statistics) if has_statistics else [],
        "default statistics": checkpoint.default_statistics if has_statistics else [],
        "average of weights": _averaged(checkpoint),
        "mean teacher": "none" if checkpoint.teacher is None else "--weights teacher",
        "memory of": list(checkpoint.memory),
        "methods' networks": list(checkpoint.networks),
        "kept for later steps": _kept(checkpoint),
    }


def _channels(checkpoint: Checkpoint) -> str:
    """How many its images have, and what became of values of more than 8 bits."""
    ends = checkpoint.pixel_range
    range_text = "" if ends is None else f", values from {ends[0]} to {ends[1]}"
    return f"{checkpoint.network.channels}{range_text}"


def _kept(checkpoint: Checkpoint) -> list[str]:
    """Sizes of what later steps are handed besides networks of the file's own kind."""
    others = [one.statistics for one in checkpoint.stand_ins.values()]
    kept = kept_bytes(checkpoint.memory, checkpoint.networks, checkpoint.statistics, *others)
    return [f"{name} {size_text(size)}" for name, size in kept.items() if size]


def _averaged(checkpoint: Checkpoint) -> str:
    if checkpoint.average is None:
        return "none"
    use = "used where nobody chooses" if checkpoint.default_weights == "ema" else "--weights ema"
    return f"over {checkpoint.average.updates} iterations; {use}"


def _exported(path: Path) -> Facts:
    """How an exported folder wants its network to be used."""
    config = exported_config(path) if path.is_dir() else {}
    if not config:
        return {}
    chosen = config.get("domain") or config.get("statistics")
    weights = config.get("weights", "model")
    return {
        "exported with": f"the head {config.get('head')}, statistics {chosen}, weights {weights}"
    }


def _measures(summary: NetworkSummary, kind: str = "") -> Facts:
    """What was counted, in words."""
    norms = "no batch norms"
    if summary.batch_norms:
        norms = f"{summary.batch_norms} batch norms"
        norms += f" ({kind})" if kind else ""
    sides = "any" if summary.multiple == 1 else f"padded to multiples of {summary.multiple}"
    return {
        "normalisation": norms,
        "sides of images": sides,
        "weights": _mib(summary.weight_bytes),
        "operations": f"{summary.flops / 1e9:.3g} GFLOP to predict an image of"
        f" {_size(summary.size)}; a multiply-add counts as two",
    }


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
