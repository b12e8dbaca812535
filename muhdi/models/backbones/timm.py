"""Networks of the package timm as backbones.

Convolutional and hierarchical ones through its ``features_only``, Hiera as
`muhdi.models.backbones.hiera` has it. Plain transformers, whose layers all have one stride, through
``forward_intermediates``, with the last norm on every layer, as DINOv2 is probed.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from muhdi.errors import DataError, RecipeError, nearest
from muhdi.models.backbones.base import Pretrained
from muhdi.models.backbones.hiera import HieraStages, unit_of
from muhdi.models.backbones.probed import (
    ProbedBackbone,
    and_more,
    check_layers,
    probe,
    quarters,
)
from muhdi.models.backbones.timm_package import (
    check_name,
    import_timm,
    in_one_line,
    licence_notes,
    without_weights,
)
from muhdi.models.tensor_files import read_tensors
from muhdi.recipe.backbones import TimmConfig

ANY_SIZE = {"dynamic_img_size": True, "strict_img_size": False}
"""Options that let a transformer take images of any size, where its class has them."""
CHANNELS = "in_chans"
"""What networks call the channels of images."""
OURS = (
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "features_only",
    "feature_cls",
    "out_indices",
    "output_stride",
    "num_classes",
    CHANNELS,
)
"""Arguments of `timm.create_model` that other keys, or this module, decide."""
KEPT = ("tag", "input_size", "fixed_input_size")
"""What building a network takes from the configuration of its weights."""
LAST_NORMS = ("norm.", "fc_norm.")
"""How the names of parameters behind the last block begin."""
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


_ADAPTER = re.compile(r"\.(lora_[AB]\.\w+|base_layer)(?=\.)")
"""What peft puts into the name of a parameter, see `muhdi.models.adapters`."""


class TimmBackbone(ProbedBackbone):
    """A network of timm, by its name.

    Args:
        config: says which one.

    Raises:
        MuhdiError: timm is missing or cannot be imported, or there is no such network, or no such
            layer or option in it.
    """

    config_class = TimmConfig

    def __init__(self, config: TimmConfig) -> None:
        super().__init__()
        timm = import_timm()
        check_name(timm, config)
        self.config = config
        self.plan = Plan(timm, config)
        with in_one_line(config):
            identity = config.model_dump_json()
            shape = probe(config.name, identity, self.plan.build, feature_maps, self.plan.unit)
            model = self.plan.build()
        stride = shape.features[-1].stride
        if config.output_stride not in (None, stride):
            raise RecipeError(
                f"model.backbone.output_stride: {config.name} has {stride}, whatever it is asked"
                " for; leave it out"
            )
        if shape.family == "plain" and not self.plan.plain:
            shape = shape._replace(family="dilated")
        known = self.plan.configuration
        self.adopt(model, shape, config.mean or known["mean"], config.std or known["std"])
        self._layers = self.plan.layers_of([name for name, _ in model.named_parameters()])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return feature_maps(self.model, self.normalise(images))

    def widen(self, channels: int) -> None:
        """It is built again, since its parts know how many channels they take."""
        if channels == self.image_channels:
            return
        self._check_widens(channels, able=self.plan.takes(channels))
        wider = self.plan.build(**{CHANNELS: channels})
        self.exchange(self.config.name, wider, channels)

    def pretrained(self) -> Pretrained | None:
        """The weights of its name, for images of colours.

        Raises:
            MuhdiError: they cannot be had, or do not fill the network.
        """
        if not self.config.pretrained:
            return None
        source = import_timm().get_pretrained_cfg(self.config.model_name)
        file = self.config.file
        overlay: dict[str, Any] = {}
        if file is not None:
            overlay = {"state_dict": read_tensors(Path(file).expanduser())[0]}
        elif source is None or not source.has_weights:
            raise RecipeError(
                f"model.backbone: {self.config.name}: timm knows no weights of it; set"
                " model.backbone.pretrained=false, or model.backbone.file"
            )
        with torch.random.fork_rng(devices=[]), in_one_line(self.config):
            random = self._filled()
            try:
                filled = self._filled(pretrained=True, pretrained_cfg_overlay=overlay)
            except Exception as error:  # of the network, the hub or the file
                raise without_weights(self.config, source, error) from None
        lacking = _unchanged(random, filled)
        if lacking:
            raise DataError(
                f"model.backbone: {self.config.name}: {file or 'its weights'}: no {lacking[0]}"
                f"{and_more(lacking)}; they are of another network"
            )
        tensors = {f"model.{name}": value for name, value in filled.state_dict().items()}
        notes = licence_notes(self.config, None if source is None else source.license)
        return Pretrained(tensors, self.config.name, notes)

    def _filled(self, **source: Any) -> nn.Module:
        """The network again, from the same random numbers every time."""
        torch.manual_seed(0)
        return self.plan.build(**source)

    @property
    def depth(self) -> int:
        """Its blocks and what comes before them, as timm groups its parameters."""
        trunk = [name for name in self._layers if not is_last_norm(name)]
        return 1 + max(self._layers[name] for name in trunk)

    def layer_of(self, parameter: str) -> int:
        """The place of timm's group among those that the features need."""
        own = _ADAPTER.sub("", parameter.removeprefix("model."))
        return self._layers[own]

    def recorded(self, section: TimmConfig) -> TimmConfig:
        """With what its weights' configuration says: nothing has to be downloaded again."""
        configuration = self.plan.configuration
        known = {key: configuration[key] for key in KEPT if key in configuration}
        package = f"timm {import_timm().__version__}"
        found = {"configuration": known, "mean": self.mean, "std": self.std, "package": package}
        # Where its weights lay concerns nobody who has the network.
        return section.model_copy(update={**found, "file": None})


class Plan:
    """How a network is built, found on a whole one without weights.

    Args:
        timm: the package.
        config: names the network.

    Attributes:
        configuration: of its weights, timm's ``pretrained_cfg``.
        plain: whether all of its layers have one stride.

    Raises:
        MuhdiError: it cannot be built, or has no such layer or option.
    """

    def __init__(self, timm: Any, config: TimmConfig) -> None:
        for key in config.options:
            if key in OURS:
                raise RecipeError(
                    f"model.backbone.options.{key}: is not one of the options; see the other keys"
                    " of model.backbone"
                )
        self._create = partial(timm.create_model, config.model_name)
        with in_one_line(config):
            if config.configuration is not None:
                self._create = partial(self._create, pretrained_cfg=config.configuration)
            with torch.device("meta"):
                whole = self._create()
        self.configuration: dict[str, Any] = whole.pretrained_cfg
        strides = _strides(config, whole)
        self.plain = len(set(strides)) == 1
        self.hiera_unit: int | None = None
        if type(whole).__name__ == "Hiera":
            self.hiera_unit = unit_of(whole.patch_stride, whole.mask_unit_size)
        self.indices = _indices(config, len(strides), plain=self.plain)
        known = _parameters_of(type(whole))
        self.arguments: dict[str, Any] = {
            key: value for key, value in ANY_SIZE.items() if key in known
        }
        self.arguments |= config.options
        if config.output_stride is not None:
            self.arguments["output_stride"] = config.output_stride
        self._check_arguments(config, known)
        self._groups = _groups(timm, whole)

    @property
    def unit(self) -> int | None:
        """What sides may have to be multiples of: mask units of Hiera, else what it is built for.

        MaxViT, for one, divides the maps of such an image into windows.
        """
        if self.hiera_unit is not None:
            return self.hiera_unit
        sides = self.configuration.get("input_size", (3,))[1:]
        sides = self.arguments.get("img_size", sides)
        if isinstance(sides, int):
            return sides
        return math.lcm(*sides) if sides else None

    def build(self, **source: Any) -> nn.Module:
        """The network that gives the features.

        Args:
            source: for `timm.create_model`: of its weights, which are random with nothing, or
                the channels of images.
        """
        arguments = self.arguments | source
        if self.plain:
            return PlainLayers(self._create(num_classes=0, **arguments), self.indices)
        if self.hiera_unit is not None:
            return HieraStages(self._create(num_classes=0, **arguments), self.indices)
        features: nn.Module = self._create(
            features_only=True, out_indices=tuple(self.indices), **arguments
        )
        return features

    def takes(self, channels: int) -> bool:
        """Whether the network can be built for images of so many channels."""
        try:
            with torch.device("meta"):
                self.build(**{CHANNELS: channels})
        except Exception:  # networks raise errors of many kinds
            return False
        return True

    def layers_of(self, parameters: Sequence[str]) -> dict[str, int]:
        """The layer of each parameter of the network that gives the features.

        Layers are timm's groups, from the stem on; a last norm comes after them.
        """
        inside = {name: name.removeprefix("model.") for name in parameters}
        groups: dict[str, Any] = {
            name: self._groups.get(own) for name, own in inside.items() if not is_last_norm(own)
        }
        if None in groups.values():
            # A network that timm does not group: each of its parts is a layer.
            groups = {name: inside[name].partition(".")[0] for name in groups}
            order = list(dict.fromkeys(groups.values()))
        else:
            order = sorted(set(groups.values()))
        places = {name: order.index(group) for name, group in groups.items()}
        return {name: places.get(name, len(order)) for name in parameters}

    def _check_arguments(self, config: TimmConfig, known: set[str]) -> None:
        """Refuse an option that the network does not have."""
        try:
            with torch.device("meta"):
                self.build()
        except TypeError as error:
            unexpected = _UNEXPECTED.search(str(error))
            if unexpected is None:
                return  # building it again explains it
            key = unexpected[1]
            place = "output_stride" if key == "output_stride" else f"options.{key}"
            raise RecipeError(
                f"model.backbone.{place}: {config.name} has none{nearest(key, sorted(known))}"
            ) from None
        except Exception:  # building it again explains it
            return


class PlainLayers(nn.Module):
    """Layers of a plain transformer as maps, each with the last norm, without tokens.

    Args:
        model: the network; layers behind the last one that is given, and its classifier, go.
        indices: of the layers, from 0.
    """

    def __init__(self, model: Any, indices: list[int]) -> None:
        super().__init__()
        self.model = model
        self.indices = list(model.prune_intermediate_layers(indices))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images [N, 3, H, W] -> one map [N, K, h, w] for each layer."""
        maps: list[Tensor] = self.model.forward_intermediates(
            images, indices=self.indices, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps


def is_last_norm(parameter: str) -> bool:
    """Whether a parameter of the network that gives the features is behind the last block."""
    return parameter.removeprefix("model.").startswith(LAST_NORMS)


def feature_maps(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Normalised images [N, 3, H, W] -> one map [N, K, h, w] for each feature."""
    maps = model(images)
    if getattr(model, "output_fmt", None) == "NHWC":
        return tuple(one.permute(0, 3, 1, 2) for one in maps)
    return tuple(maps)


def _strides(config: TimmConfig, whole: Any) -> list[int]:
    """Strides of all layers or stages that a network could give."""
    infos = getattr(whole, "feature_info", None)
    if not infos:
        raise RecipeError(f"model.backbone: {config.name}: gives no feature maps; choose another")
    return [info["reduction"] for info in getattr(infos, "info", infos)]


def _indices(config: TimmConfig, count: int, *, plain: bool) -> list[int]:
    """Indices, from 0, of the layers or stages that are the features."""
    chosen = config.layers
    if chosen is None:
        chosen = quarters(count) if plain else list(range(max(1, count - 3), count + 1))
    check_layers(config.name, chosen, count)
    return [number - 1 for number in chosen]


def _parameters_of(cls: type[Any]) -> set[str]:
    """Names of the arguments of a network's class and of those it is derived from."""
    known: set[str] = set()
    for base in cls.__mro__:
        if base is nn.Module:
            break
        known |= set(inspect.signature(base.__init__).parameters)  # type: ignore[misc]
    return known - {"self", "args", "kwargs"}


def _groups(timm: Any, whole: Any) -> dict[str, int]:
    """Number of timm's group of every parameter, from the stem on; nothing where it has none."""
    matcher = getattr(whole, "group_matcher", None)
    groups = None if matcher is None else matcher(coarse=False)
    if groups is None:
        return {}
    found: dict[str, int] = timm.models.group_parameters(whole, groups, reverse=True)
    # Networks of features join the first two parts of a name.
    return {name.replace(".", "_", 1): group for name, group in found.items()} | found


def _unchanged(random: nn.Module, filled: nn.Module) -> list[str]:
    """Weights that a file has not filled: they are those of the same random numbers."""
    before = dict(random.named_parameters())
    return [
        name
        for name, weight in filled.named_parameters()
        if weight.ndim > 1 and torch.equal(weight, before[name])
    ]
