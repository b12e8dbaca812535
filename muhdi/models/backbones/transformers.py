"""Networks of the package transformers as backbones.

Whatever its `AutoBackbone` builds gives maps [N, K, h, w]. MiT, which it does not know, is
`SegformerModel`, whose hidden states are such maps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from inspect import signature
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from muhdi.errors import DataError, MuhdiError, RecipeError, nearest
from muhdi.models.backbones.base import Pretrained
from muhdi.models.backbones.hiera import transformers_maps, unit_of
from muhdi.models.backbones.probed import (
    DINOV3_LICENCE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    ProbedBackbone,
    and_more,
    check_layers,
    one_line,
    probe,
    quarters,
)
from muhdi.models.hidden_tokens import given
from muhdi.models.recompute import contexts_of
from muhdi.recipe.backbones import TransformersConfig
from muhdi.recipe.section import RGB

LICENCES = {
    "segformer": "MiT's weights are under NVIDIA's Source Code License: no commercial use",
    "dinov3_vit": DINOV3_LICENCE,
    "dinov3_convnext": DINOV3_LICENCE,
    "hiera": "Hiera's weights are under CC BY-NC 4.0: no commercial use",
}
"""Type of model -> what a user should know who means to publish or sell."""
WELL_KNOWN = (
    *(f"nvidia/mit-b{size}" for size in range(6)),
    *(f"facebook/dinov2-{size}" for size in ("small", "base", "large", "giant")),
    *(f"facebook/dinov2-with-registers-{size}" for size in ("small", "base", "large", "giant")),
    *(f"facebook/convnext-{size}-224" for size in ("tiny", "small", "base", "large")),
    *(f"facebook/convnextv2-{size}-22k-224" for size in ("nano", "tiny", "base", "large")),
    *(f"facebook/dinov3-vit{size}-pretrain-lvd1689m" for size in ("s16", "b16", "l16")),
    *(f"facebook/dinov3-convnext-{size}-pretrain-lvd1689m" for size in ("tiny", "small", "base")),
    *(f"microsoft/swin-{size}-patch4-window7-224" for size in ("tiny", "small", "base")),
    *(f"OpenGVLab/pvt_v2_b{size}" for size in range(6)),
    *(f"facebook/hiera-{size}-224-hf" for size in ("tiny", "small", "base", "base-plus", "large")),
    *(f"microsoft/beit-{size}-patch16-224" for size in ("base", "large")),
    *(f"microsoft/resnet-{depth}" for depth in (18, 34, 50, 101)),
)
"""Names that a mistyped one may have meant."""
ELSEWHERE = ("timm_backbone", "timm_wrapper")
"""Types of models that another package builds."""
_CHANNELS = "num_channels"
"""What configurations call the channels of images."""
PREPROCESSOR = "preprocessor_config.json"
MASK = "bool_masked_pos"
"""What patch embeddings call the patches that are hidden."""
_NOT_FROM_FILES = (
    "attn_implementation",
    "_attn_implementation",
    "auto_map",
    "quantization_config",
    "dtype",
    "torch_dtype",
)
"""Parts of a configuration that a network's file has no say in."""
_UNKNOWN_TO_FILES = (
    "_name_or_path",
    "id2label",
    "label2id",
    "architectures",
    "transformers_version",
)
"""Parts of a configuration that say nothing of the network."""
_NUMBERED = re.compile(r"\b(?:stages|layers?|blocks?|patch_embeddings|layer_norm)\.(\d+)")
"""Stages and blocks in the names of parameters."""


class TransformersBackbone(ProbedBackbone):
    """A network of transformers, by its name or from the configuration that a file has kept.

    Args:
        config: says which one.

    Raises:
        MuhdiError: transformers is missing, or there is no such network, or no such layer in it.
    """

    config_class = TransformersConfig

    def __init__(self, config: TransformersConfig) -> None:
        super().__init__()
        _check_installed()
        self.config = config
        with _in_one_line(config):
            self.configuration = _configuration(config)
            build = partial(_build, self.configuration)
            self._published = getattr(self.configuration, _CHANNELS, RGB)
            unit = _unit(self.configuration)
            identity: str = self.configuration.to_json_string(use_diff=False)
            shape = probe(config.name, identity, build, feature_maps, unit, self._published)
            model = _build(self.configuration)
            mean, std = _normalisation(config)
        self.adopt(model, shape, mean, std)
        if self._published != RGB:
            self._take(self._published)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return feature_maps(self.model, self.normalise(images))

    def widen(self, channels: int) -> None:
        """It is built again, since its parts know how many channels they take."""
        if channels == self.image_channels:
            return
        self._check_widens(channels, able=hasattr(self.configuration, _CHANNELS))
        setattr(self.configuration, _CHANNELS, channels)
        self.exchange(self.config.name, _build(self.configuration), channels)

    @property
    def mask_token(self) -> nn.Parameter | None:
        """DINO's own, which its patch embedding knows."""
        embeddings: Any = getattr(self.model, "embeddings", None)
        knows = embeddings is not None and MASK in signature(embeddings.forward).parameters
        found: nn.Parameter | None = getattr(embeddings, "mask_token", None)
        return found if knows and self.family == "plain" else None

    def hiding(self, images: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        """The token takes its place before positions are added."""
        embeddings: Any = self.model.embeddings
        with given(embeddings, **{MASK: hidden.flatten(1)}):
            return self(images)  # type: ignore[no-any-return]

    def checkpointed(self) -> None:
        """Its layers or blocks are computed again, as transformers does it."""
        model: Any = self.model
        if not model.supports_gradient_checkpointing:
            raise RecipeError(
                f"model.checkpointing: {type(model).__name__} cannot compute its parts again; leave"
                " it out"
            )
        # transformers 6 has the new name alone.
        enable = getattr(model, "activation_checkpointing_enable", None)
        enable = enable or model.gradient_checkpointing_enable
        enable({"use_reentrant": False, "context_fn": contexts_of(self)})
        self.checkpointing = True

    def pretrained(self) -> Pretrained | None:
        """The weights of its name.

        Raises:
            MuhdiError: they cannot be had, or do not fill the network.
        """
        if not self.config.pretrained:
            return None
        with _in_one_line(self.config, weights=True):
            loader: Any = type(self.model)
            configuration = deepcopy(self.configuration)
            if self.image_channels != self._published:
                setattr(configuration, _CHANNELS, self._published)
            model, report = loader.from_pretrained(
                self.config.model_name, config=configuration, output_loading_info=True
            )
        # Norms of single stages, which published classifiers do not have, start as what they are.
        lacking = [name for name in sorted(report["missing_keys"]) if "norm" not in name]
        if lacking:
            raise DataError(
                f"model.backbone: {self.config.name}: its weights lack {lacking[0]}"
                f"{and_more(lacking)}; they are of another network"
            )
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        licence = LICENCES.get(self.configuration.model_type)
        return Pretrained(tensors, self.config.name, [] if licence is None else [licence])

    @property
    def depth(self) -> int:
        """Its blocks, and the embedding where that is not a part of the first stage."""
        return len(self._blocks()) + self._first_block()

    def layer_of(self, parameter: str) -> int:
        """Block i, in order through all stages, is layer i + 1, or i without an embedding.

        What comes before the first block is layer 0; norms after the last one are as the heads.
        """
        block = self._block_of(parameter)
        if block is not None:
            return self._blocks().index(block) + self._first_block()
        names = [name for name, _ in self.named_parameters()]
        numbered = [number for number, name in enumerate(names) if self._block_of(name)]
        return 0 if names.index(parameter) < numbered[0] else self.depth

    def _first_block(self) -> int:
        """The layer of the first block."""
        first, _ = next(self.named_parameters())
        return int(self._block_of(first) is None)

    def _blocks(self) -> list[tuple[int, int]]:
        """Stage and number of every block, in order."""
        found = {self._block_of(name) for name, _ in self.named_parameters()}
        return sorted(block for block in found if block is not None)

    def _block_of(self, parameter: str) -> tuple[int, int] | None:
        """Stage and number of a parameter's block; of a stage's own parameters, its first block."""
        numbers = [int(number) for number in _NUMBERED.findall(parameter)]
        if not numbers:
            return None
        if self.family == "plain":
            return 0, numbers[0]
        return numbers[0], numbers[1] if len(numbers) > 1 else 0

    def recorded(self, section: TransformersConfig) -> TransformersConfig:
        """With its whole configuration and normalisation: nothing has to be downloaded again."""
        kept = self.configuration.to_dict()
        left_out = (*_UNKNOWN_TO_FILES, *_NOT_FROM_FILES)
        known = {key: value for key, value in kept.items() if key not in left_out}
        package = f"transformers {version('transformers')}"
        found = {"configuration": known, "mean": self.mean, "std": self.std, "package": package}
        return section.model_copy(update=found)


def feature_maps(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Normalised images [N, 3, H, W] -> one map [N, K, h, w] for each feature."""
    model_type = model.config.model_type  # type: ignore[union-attr]
    if model_type == "segformer":
        maps: tuple[Tensor, ...] = model(images, output_hidden_states=True).hidden_states
        return maps
    if model_type == "hiera":
        return transformers_maps(model, images)
    return tuple(model(images).feature_maps)


def _check_installed() -> None:
    if find_spec("transformers") is None:
        raise RecipeError(
            "model.backbone: hf: needs the package transformers; pip install 'muhdi[transformers]'"
        )


def _configuration(config: TransformersConfig) -> Any:
    """The configuration of a network, with the recipe's changes, and its layers chosen."""
    from transformers import AutoConfig

    if config.configuration is not None:
        return _in_full_precision(_from_file(config.configuration))
    found = AutoConfig.from_pretrained(config.model_name, trust_remote_code=False)
    known = found.to_dict()
    for key, value in config.options.items():
        if key not in known:
            raise RecipeError(
                f"model.backbone.options: {config.name} has no {key}{nearest(key, list(known))}"
            )
        setattr(found, key, value)
    if found.model_type != "segformer":
        _choose_layers(found, config)
    return _in_full_precision(found)


def _from_file(kept: dict[str, Any]) -> Any:
    """The configuration that a network's file holds: nothing in it may lead to code or a hub."""
    from transformers import AutoConfig

    known = {key: value for key, value in kept.items() if key not in _NOT_FROM_FILES}
    model_type = known.pop("model_type")
    if model_type in ELSEWHERE:
        raise ValueError(f"{model_type} is not a network of transformers' own")
    return AutoConfig.for_model(model_type, **known)


def _in_full_precision(configuration: Any) -> Any:
    """The same in PyTorch's default precision, whatever its published weights are in."""
    configuration.dtype = torch.get_default_dtype()
    return configuration


def _choose_layers(configuration: Any, config: TransformersConfig) -> None:
    """Let a network of AutoBackbone give the layers that the recipe or its depth asks for."""
    if configuration.model_type in ELSEWHERE:
        raise RecipeError(
            f"model.backbone: {config.name} is a network of timm; set model.backbone=timm:NAME"
        )
    names = list(getattr(configuration, "stage_names", None) or [])
    layers = [name for name in names if name != "stem"]
    if not layers:
        raise RecipeError(
            f"model.backbone: {config.name} is a {configuration.model_type}, which transformers'"
            " AutoBackbone does not know; it knows ConvNeXt, Swin, DINOv2, DINOv3, PVTv2 and others"
        )
    chosen = config.layers
    if chosen is None:
        chosen = quarters(len(layers))
    check_layers(config.name, chosen, len(layers))
    configuration.out_features = [layers[number - 1] for number in chosen]


def _build(configuration: Any) -> nn.Module:
    """A network with random weights."""
    from transformers import AutoBackbone, SegformerModel

    if configuration.model_type == "segformer":
        model: nn.Module = SegformerModel(configuration)
    else:
        model = AutoBackbone.from_config(configuration, trust_remote_code=False)
    return model


def _unit(configuration: Any) -> int | None:
    """What sides may have to be multiples of, in pixels, where strides do not tell."""
    if configuration.model_type == "hiera":
        return unit_of(configuration.patch_stride, configuration.masked_unit_size)
    return None


def _normalisation(config: TransformersConfig) -> tuple[Any, Any]:
    """Mean and deviation of red, green and blue in 0 to 1: the recipe's, or the network's own."""
    own: dict[str, Any] = {}
    if config.mean is None or config.std is None:
        own = _preprocessor(config)
    if not own.get("do_normalize", True):
        own = {"image_mean": (0.0, 0.0, 0.0), "image_std": (1.0, 1.0, 1.0)}
    mean = config.mean or own.get("image_mean") or IMAGENET_MEAN
    std = config.std or own.get("image_std") or IMAGENET_STD
    return mean, std


def _preprocessor(config: TransformersConfig) -> dict[str, Any]:
    """What a network's `preprocessor_config.json` says; nothing where it has none."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    folder = Path(config.model_name)
    if folder.is_dir():
        file = folder / PREPROCESSOR
        return _json(file) if file.is_file() else {}
    try:
        return _json(Path(hf_hub_download(config.model_name, PREPROCESSOR)))
    except LocalEntryNotFoundError:
        raise  # not to be had now: whether there is one nobody knows
    except EntryNotFoundError:
        return {}


def _json(file: Path) -> dict[str, Any]:
    """What a JSON file holds."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


@contextmanager
def _in_one_line(config: TransformersConfig, *, weights: bool = False) -> Iterator[None]:
    """Turn whatever transformers raises into one line, and keep its reports to itself."""
    from transformers.utils import logging

    hub = getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(ERROR)
    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except MuhdiError:
        raise
    except Exception as error:  # transformers raises errors of many kinds
        raise _explained(config, error, weights=weights) from None
    finally:
        hub.setLevel(level)
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _explained(config: TransformersConfig, error: Exception, *, weights: bool) -> MuhdiError:
    """What to tell a user whose network cannot be had."""
    name = config.model_name
    key = f"model.backbone: {config.name}"
    folder = Path(name)
    reason = one_line(error)
    if config.configuration is not None and not weights:
        return DataError(f"{key}: its configuration is damaged ({reason})")
    if folder.is_dir() and not (folder / "config.json").is_file():
        return DataError(f"{key}: the folder holds no config.json; give the folder of a network")
    if folder.is_dir() and weights and isinstance(error, OSError):
        return DataError(
            f"{key}: the folder holds no weights (model.safetensors); put them there, or set"
            " model.backbone.pretrained=false"
        )
    if isinstance(error, OSError):
        return DataError(
            f"{key}: neither a folder, nor to be had from the Hugging Face hub"
            f"{nearest(name, WELL_KNOWN)}; without a network, fetch config.json,"
            " preprocessor_config.json and model.safetensors elsewhere ('hf download"
            f" {name} --local-dir FOLDER') and set model.backbone=hf:FOLDER"
        )
    return DataError(f"{key}: cannot be built: {type(error).__name__}: {reason}")
