"""Network files: saving and loading our own, and starting from other layouts.

Files are safetensors, or PyTorch files that are read with ``weights_only``: reading never executes
code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from muhdi.errors import DataError, MuhdiError, RecipeError, nearest
from muhdi.files import write_bytes
from muhdi.models.average import WeightAverage, stand_ins
from muhdi.models.outputs import AGNOSTIC, SPECIALIST
from muhdi.models.reference_weights import backbone_of, from_foreign
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.models.statistics import Statistics, read_statistics
from muhdi.models.tensor_files import Tensors, load_exactly, on_cpu, read_tensors
from muhdi.recipe.backbones import BackboneConfig, DecoderConfig, read_backbone
from muhdi.recipe.evaluation import WEIGHTS, WeightsChoice
from muhdi.recipe.section import RGB, plain
from muhdi.recipe.tune import TuneConfig
from muhdi.taxonomy import MAX_CLASSES

_FORMAT = "muhdi 3"
_EARLIER_FORMATS = ("muhdi 1", "muhdi 2")
"""Those of version 0.1, which can be read; files of the first one have no checksum."""
_DESCRIPTION = "muhdi"
"""The one key of a file's metadata, a JSON text.

One key alone: the safetensors library writes several in an order that varies from run to run, and
files of equal contents are to be equal to the byte.
"""

_AVERAGE = "ema"
_TEACHER = "teacher"
"""Groups of tensors, each with one of statistics beside it: see `_statistics_of`."""

Fit = Literal["stretch", "pad"]


@dataclass
class Checkpoint:
    """A trained network and what is needed to use it, and to continue from it.

    Attributes:
        network: the network.
        backbone: the section of the recipe that builds its backbone.
        classes: its class names, in order.
        image_size: width and height it was trained at.
        fit: how an image comes to that size, ``stretch`` or ``pad``.
        statistics: normalisation statistics by domain.
        memory: what methods remember from step to step, by method and name.
        networks: state dicts of methods' own networks that later steps continue with.
        default_statistics: what its batch norms use where nobody chooses.
        average: of its weights, where training kept one.
        teacher: the mean teacher at the end of the step, where it had one.
        default_weights: which of them are used where nobody chooses.
        tune: what its last training changed of the backbone.
        pixel_range: values that became 0 and 255 in files of more than 8 bits; None: 0 and 65535.
        file: that it was read from; None if it was not.
    """

    network: Segmenter
    backbone: BackboneConfig
    classes: tuple[str, ...]
    image_size: tuple[int, int]
    statistics: dict[str, Statistics] = field(default_factory=dict)
    memory: dict[str, Tensors] = field(default_factory=dict)
    networks: dict[str, Tensors] = field(default_factory=dict)
    fit: Fit = "stretch"
    default_statistics: str = "running"
    average: WeightAverage | None = None
    teacher: WeightAverage | None = None
    default_weights: WeightsChoice = "model"
    tune: TuneConfig = field(default_factory=TuneConfig)
    pixel_range: tuple[int, int] | None = None
    file: Path | None = None

    def using(self, weights: str | None = None) -> Checkpoint:
        """The same with the network, and its statistics, that is meant.

        Args:
            weights: ``model``, ``ema`` or ``teacher``; None: what the file names.

        Raises:
            RecipeError: there is no such choice, or the file does not hold it.
        """
        chosen = weights or self.default_weights
        if chosen not in WEIGHTS:
            known = ", ".join(WEIGHTS)
            raise RecipeError(f"weights {chosen}: must be one of {known}{nearest(chosen, WEIGHTS)}")
        if chosen == "model":
            return self
        found = self.stand_ins.get(chosen)
        if found is None:
            file = self.file or "the network"
            raise RecipeError(f"weights {chosen}: {file} {_LACKS[chosen]}, or use model")
        return replace(self, network=found.network, statistics=found.statistics)

    @property
    def stand_ins(self) -> dict[str, WeightAverage]:
        """Weights that can take the place of the network's own, by their name."""
        return stand_ins(self.average, self.teacher)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a network, and everything that goes with it, to one safetensors file."""
    groups: dict[str, dict[str, Tensors]] = {
        "statistics": checkpoint.statistics,
        "memory": checkpoint.memory,
        "networks": checkpoint.networks,
    }
    for name, average in checkpoint.stand_ins.items():
        groups |= _average_groups(name, average)
    tensors = {f"model/{key}": value for key, value in checkpoint.network.state_dict().items()}
    names: dict[str, list[str]] = {}
    for group, by_name in groups.items():
        names[group] = list(by_name)
        # By number: a name may hold any character.
        for number, members in enumerate(by_name.values()):
            tensors |= {f"{group}/{number}/{key}": value for key, value in members.items()}
    tensors = on_cpu(tensors)
    description: dict[str, Any] = {
        "format": _FORMAT,
        "backbone": plain(checkpoint.network.backbone.recorded(checkpoint.backbone)),
        "classes": checkpoint.classes,
        "heads": list(checkpoint.network.heads),
        "multi_level": checkpoint.network.multi_level,
        "decoder": plain(checkpoint.network.decoder_config),
        "image_size": checkpoint.image_size,
        "fit": checkpoint.fit,
        "default_statistics": checkpoint.default_statistics,
        "names": names,
    }
    if checkpoint.default_weights != "model":
        description["default_weights"] = checkpoint.default_weights
    if checkpoint.tune.method != "full":
        description["tune"] = plain(checkpoint.tune)
    if checkpoint.network.channels != RGB:
        description["channels"] = checkpoint.network.channels
    if checkpoint.pixel_range is not None:
        description["pixel_range"] = checkpoint.pixel_range
    description["sha256"] = _digest(tensors, description)
    metadata = {_DESCRIPTION: json.dumps(description, sort_keys=True)}
    write_bytes(path, safetensors.torch.save(tensors, metadata))


_LACKS = {
    _AVERAGE: "has no average of its weights; train it with optimizer.ema",
    _TEACHER: "has no mean teacher; train it with self-training or masked consistency",
}


def _statistics_of(name: str) -> str:
    """The group of the statistics that were measured with an average's weights."""
    return f"{name}_statistics"


def _average_groups(name: str, average: WeightAverage) -> dict[str, dict[str, Tensors]]:
    """The average as groups of tensors, which earlier versions pass over."""
    progress = {"updates": torch.tensor(average.updates)}
    return {
        name: {"weights": average.network.state_dict(), "progress": progress},
        _statistics_of(name): average.statistics,
    }


def _average_in(
    path: Path, name: str, network: Segmenter, tensors: Tensors, names: dict[str, tuple[str, ...]]
) -> WeightAverage | None:
    """The average of a name that a file holds, if it holds one."""
    found = _group(tensors, name, names)
    if not found:
        return None
    average = WeightAverage.of(network)
    load_exactly(average.network, found.get("weights", {}), path)
    updates = found.get("progress", {}).get("updates")
    if updates is None or updates.numel() != 1:
        raise _damaged(path, "its average does not say how old it is")
    average.updates = int(updates)
    average.statistics = _group(tensors, _statistics_of(name), names)
    _check_statistics(path, average.network, average.statistics)
    return average


def _digest(tensors: Tensors, description: dict[str, Any]) -> str:
    """Checksum of all that a file holds, whatever the order."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_checkpoint(path: Path | str, *, trust_code: bool = False) -> Checkpoint:
    """A network that `save_checkpoint` wrote.

    Args:
        path: of the file.
        trust_code: a file may name a backbone of another package; whether that is imported.

    Raises:
        MuhdiError: the file is missing, damaged or of another kind, or names a foreign class that
            is not trusted.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    description = _description(path, tensors, metadata)
    try:
        classes = _names(description["classes"])
        width, height = description["image_size"]
        heads = _names(description["heads"])
        names = {group: _names(named) for group, named in description["names"].items()}
        backbone = description["backbone"]
        shape = _shape(description)
        # Files of earlier versions do not say it, and were used so.
        fit: Fit = "pad" if description.get("fit") == "pad" else "stretch"
        default_statistics = str(description.get("default_statistics", "running"))
        # Files of networks that are trained whole do not say it.
        tune = TuneConfig.model_validate(description.get("tune", "full"))
        pixel_range = _range(description.get("pixel_range"))
        if AGNOSTIC not in heads or not 2 <= len(classes) <= MAX_CLASSES:
            raise ValueError(f"heads {heads}, {len(classes)} classes")
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"its description cannot be read ({error})") from None
    section = _backbone_section(path, backbone, trust_code=trust_code)
    network = _filled(path, section, tensors, classes=len(classes), heads=heads, **shape)
    statistics = _group(tensors, "statistics", names)
    _check_statistics(path, network, statistics)
    return Checkpoint(
        network,
        section,
        classes,
        (width, height),
        statistics,
        memory=_group(tensors, "memory", names),
        networks=_group(tensors, "networks", names),
        fit=fit,
        default_statistics=default_statistics,
        average=_average_in(path, _AVERAGE, network, tensors, names),
        teacher=_average_in(path, _TEACHER, network, tensors, names),
        default_weights=_default_weights(description),
        tune=tune,
        pixel_range=pixel_range,
        file=path,
    )


def _description(path: Path, tensors: Tensors, metadata: dict[str, str]) -> dict[str, Any]:
    """What a file says of itself, in the form of the newest format, once its checksum is right."""
    if metadata.get("format") in _EARLIER_FORMATS:
        return _earlier_description(path, tensors, metadata)
    try:
        description = json.loads(metadata.get(_DESCRIPTION, "null"))
    except (ValueError, RecursionError):
        raise _damaged(path, "its description cannot be read") from None
    if not isinstance(description, dict) or description.get("format") != _FORMAT:
        raise DataError(
            f"{path}: not a network saved by muhdi; a file of another kind can be a recipe's "
            "model.init"
        )
    written = description.pop("sha256", "")
    if written != _digest(tensors, description):
        raise _damaged(path, "its checksum does not agree")
    return description


def _shape(description: dict[str, Any]) -> dict[str, Any]:
    """What a file says of its network besides backbone, classes and heads."""
    return {
        "multi_level": bool(description["multi_level"]),
        # Files of earlier versions do not say it, and had no other.
        "decoder": DecoderConfig.model_validate(description.get("decoder", "deeplab")),
        # Files of networks of plain colours do not say it.
        "channels": int(description.get("channels", RGB)),
    }


def _filled(path: Path, section: BackboneConfig, tensors: Tensors, **shape: Any) -> Segmenter:
    """The network of a file.

    Args:
        path: of the file.
        section: of its backbone.
        tensors: of the file.
        shape: of the network, as `build_segmenter` takes it.
    """
    try:
        network = build_segmenter(section, **shape)
    except RecipeError as error:  # a foreign backbone that is not trusted
        raise DataError(f"{path}: {error}") from None
    try:
        load_exactly(network, _part(tensors, "model/"), path)
    except DataError as error:
        raise DataError(f"{error}{section.version_advice()}") from None
    return network


def _range(named: Any) -> tuple[int, int] | None:
    """The range that a file names."""
    if named is None:
        return None
    low, high = map(int, named)
    if not 0 <= low < high:
        raise ValueError(f"pixel_range {named}")
    return low, high


def _default_weights(description: dict[str, Any]) -> WeightsChoice:
    """The weights that a file names; those of earlier versions name none, and had no others."""
    named = description.get("default_weights")
    return named if named in WEIGHTS else "model"


def _earlier_description(path: Path, tensors: Tensors, metadata: dict[str, str]) -> dict[str, Any]:
    """The description of a file of version 0.1: every value is a JSON text of its own."""
    plain = dict(metadata)
    written = plain.pop("sha256", "")
    if plain["format"] != _EARLIER_FORMATS[0] and written != _digest(tensors, plain):
        raise _damaged(path, "its checksum does not agree")
    try:
        return {
            "backbone": {"name": plain["backbone"]},
            "classes": json.loads(plain["classes"]),
            "heads": json.loads(plain["heads"]),
            "multi_level": json.loads(plain.get("multi_level", "true")),
            "image_size": json.loads(plain["image_size"]),
            "names": {"statistics": json.loads(plain["domains"])},
        }
    except (KeyError, ValueError, RecursionError) as error:
        raise _damaged(path, f"its description cannot be read ({error})") from None


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: damaged: {reason}; use another copy of the file")


def backbone_in(path: Path, tensors: Tensors, metadata: dict[str, str]) -> BackboneConfig:
    """The section of the backbone of a network of ours; one of another package is not imported.

    Args:
        path: of the file, for messages.
        tensors: that `read_tensors` gave.
        metadata: that it gave with them.

    Raises:
        DataError: the file is damaged or of another kind.
    """
    description = _description(path, tensors, metadata)
    return _backbone_section(path, description.get("backbone"), trust_code=False)


def recorded_backbone(path: Path, wanted: BackboneConfig) -> BackboneConfig:
    """The section of a network of ours where it has the recipe's backbone, else the recipe's.

    The file's holds what the recipe's may leave to a download.
    """
    if not wanted.recorded:
        return wanted
    tensors, metadata = read_tensors(path)
    if not is_ours(metadata):
        return wanted
    found = backbone_in(path, tensors, metadata)
    return found if found.key == wanted.key else wanted


def is_ours(metadata: dict[str, str]) -> bool:
    """Whether a file is a network that this package has saved, in any version."""
    return _DESCRIPTION in metadata or metadata.get("format") in _EARLIER_FORMATS


def _backbone_section(path: Path, backbone: Any, *, trust_code: bool) -> BackboneConfig:
    try:
        section = read_backbone(backbone, trust_code=trust_code)
    except MuhdiError as error:
        raise DataError(f"{path}: {error}") from None
    for key in section.recorded:
        if getattr(section, key) is None:  # it would have to be fetched, from wherever it says
            raise _damaged(path, f"its backbone has no {key}")
    return section


def _group(tensors: Tensors, group: str, names: dict[str, tuple[str, ...]]) -> dict[str, Tensors]:
    return {
        name: _part(tensors, f"{group}/{number}/")
        for number, name in enumerate(names.get(group, ()))
    }


def _check_statistics(path: Path, network: Segmenter, statistics: dict[str, Statistics]) -> None:
    shapes = {key: value.shape for key, value in read_statistics(network).items()}
    for domain, own in statistics.items():
        if {key: value.shape for key, value in own.items()} != shapes:
            raise _damaged(path, f"its statistics of {domain!r} do not fit the network")


def _names(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{str(names)[:40]} are not names")
    return tuple(names)


def load_reference(path: Path, classes: tuple[str, ...], image_size: tuple[int, int]) -> Checkpoint:
    """A network in the reference's layout.

    Backbone, heads and levels are those that the file holds.
    """
    state = from_foreign(read_tensors(path)[0])
    backbone = backbone_of(state)
    heads = heads_in(state)
    if backbone is None or AGNOSTIC not in heads:
        raise DataError(
            f"{path}: not a network of the reference (a ResNet-50 or -101 with layer6 as its head);"
            f" it begins with {', '.join(list(state)[:3])}"
        )
    multi_level = any(key.startswith(f"heads.{AGNOSTIC}.aux.") for key in state)
    section = read_backbone(backbone)
    network = build_segmenter(section, len(classes), heads, multi_level=multi_level)
    load_exactly(network, state, path)
    return Checkpoint(network, section, classes, image_size, file=path)


def heads_in(state: dict[str, Tensor]) -> tuple[str, ...]:
    """Names of the heads in a state dict, the agnostic one first."""
    found = {key.split(".")[1] for key in state if key.startswith("heads.")}
    return tuple(name for name in (AGNOSTIC, SPECIALIST) if name in found)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
