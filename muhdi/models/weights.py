"""Network files: saving and loading our own, and starting from other layouts.

Files are safetensors, or PyTorch files that are read with ``weights_only``: reading never executes code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from muhdi.errors import MuhdiError
from muhdi.files import write_bytes
from muhdi.models.segmenter import AGNOSTIC, SPECIALIST, Segmenter, build_segmenter
from muhdi.models.statistics import Statistics, batch_norms

_FORMAT = "muhdi 1"
_REFERENCE_HEADS = {"layer5": (AGNOSTIC, "aux"), "layer6": (AGNOSTIC, "main"),
                    "layer7": (SPECIALIST, "aux"), "layer8": (SPECIALIST, "main")}  # fmt: skip


@dataclass
class Checkpoint:
    """A trained network and what is needed to use it.

    Attributes:
        model: the network.
        backbone: its backbone's name.
        classes: its class names, in order.
        statistics: normalisation statistics by domain.
        image_size: width and height it was trained at.
    """

    model: Segmenter
    backbone: str
    classes: tuple[str, ...]
    image_size: tuple[int, int]
    statistics: dict[str, Statistics] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a network and its domains' statistics to one safetensors file."""
    tensors = {f"model/{key}": value for key, value in checkpoint.model.state_dict().items()}
    for number, statistics in enumerate(checkpoint.statistics.values()):
        tensors |= {f"statistics/{number}/{key}": value for key, value in statistics.items()}
    metadata = {
        "format": _FORMAT,
        "backbone": checkpoint.backbone,
        "classes": json.dumps(checkpoint.classes),
        "heads": json.dumps(list(checkpoint.model.heads)),
        "domains": json.dumps(list(checkpoint.statistics)),
        "image_size": json.dumps(checkpoint.image_size),
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    write_bytes(path, safetensors.torch.save(tensors, metadata))


def load_checkpoint(path: Path | str) -> Checkpoint:
    """A network that `save_checkpoint` wrote."""
    path = Path(path)
    tensors, metadata = _read(path)
    if metadata.get("format") != _FORMAT:
        raise MuhdiError(f"{path}: not a network saved by muhdi; a file of another kind can be a recipe's model.init")
    try:
        classes = tuple(json.loads(metadata["classes"]))
        width, height = json.loads(metadata["image_size"])
        domains = json.loads(metadata["domains"])
        model = build_segmenter(metadata["backbone"], len(classes), tuple(json.loads(metadata["heads"])))
    except (KeyError, ValueError, TypeError) as error:
        raise MuhdiError(f"{path}: its description is damaged ({error}); use another copy of the file") from None
    _load_exactly(model, _part(tensors, "model/"), path)
    statistics = {name: _part(tensors, f"statistics/{number}/") for number, name in enumerate(domains)}
    return Checkpoint(model, metadata["backbone"], classes, (width, height), statistics)


@dataclass
class Start:
    """What a network started from: whether its heads were in the file, and the domain statistics found there."""

    heads: bool
    statistics: dict[str, Statistics]


def initialise(model: Segmenter, path: Path, backbone: str, classes: tuple[str, ...]) -> Start:
    """Start ``model`` from a file.

    The file is one of: a network of ours (backbone and classes must be the same), a network in the reference's layout
    (``layer5`` to ``layer8`` are heads), the reference's ImageNet file (all names begin with one common part), or a
    ResNet state dict with torchvision's names (the heads stay random). Torchvision's expect RGB scaled to unit
    deviation, so the first convolution is converted to this network's BGR of 0..255; their stride stands on a block's
    second convolution, here on its first, which fine-tuning has to absorb.

    Raises:
        MuhdiError: the file is missing or broken, or it fits in part only.
    """
    tensors, metadata = _read(path)
    if metadata.get("format") == _FORMAT:
        checkpoint = load_checkpoint(path)
        if checkpoint.backbone != backbone:
            raise MuhdiError(
                f"{path}: its backbone is {checkpoint.backbone!r}, the recipe's is {backbone!r}; set model.backbone="
                f"{checkpoint.backbone} or give another model.init"
            )
        if checkpoint.classes != classes:
            raise MuhdiError(
                f"{path}: it knows {len(checkpoint.classes)} classes ({', '.join(checkpoint.classes[:3])}, ...), the "
                f"recipe has {len(classes)} ({', '.join(classes[:3])}, ...); set 'classes' to those of the network"
            )
        model.set_heads(tuple(checkpoint.model.heads))
        model.load_state_dict(checkpoint.model.state_dict())
        return Start(True, checkpoint.statistics)
    return Start(_load_foreign(model, tensors, path), {})


def _load_foreign(model: Segmenter, tensors: dict[str, Tensor], path: Path) -> bool:
    """Load a file in another layout; whether it held heads."""
    prefixes = {key.partition(".")[0] for key in tensors}
    imagenet = len(prefixes) == 1
    torchvision = not imagenet and not prefixes & set(_REFERENCE_HEADS)
    if imagenet:  # every name begins with the same part; such a file's head is ImageNet's
        tensors = {key.partition(".")[2]: value for key, value in tensors.items()}
        tensors = {key: value for key, value in tensors.items() if not key.startswith("layer5.")}
    state, heads = {}, set()
    for key, value in tensors.items():
        first, _, rest = key.partition(".")
        if first in _REFERENCE_HEADS:
            head, level = _REFERENCE_HEADS[first]
            heads.add(head)
            state[f"heads.{head}.{level}.{rest.replace('conv2d_list', 'convs')}"] = value
        elif first != "fc":
            state[f"backbone.{key}"] = value
    if torchvision and "backbone.conv1.weight" in state:
        state["backbone.conv1.weight"] = _for_bgr(state["backbone.conv1.weight"])
    if heads:
        model.set_heads((AGNOSTIC, SPECIALIST) if SPECIALIST in heads else (AGNOSTIC,))
    else:
        state |= {key: value for key, value in model.state_dict().items() if key.startswith("heads.")}
    for name in batch_norms(model):  # old files lack the counter
        state.setdefault(f"{name}.num_batches_tracked", torch.zeros((), dtype=torch.int64))
    _load_exactly(model, state, path)
    return bool(heads)


def _for_bgr(weight: Tensor) -> Tensor:
    """A first convolution for RGB in ImageNet's mean and deviation -> the same for BGR of 0..255 minus a mean."""
    deviation = weight.new_tensor((58.395, 57.12, 57.375)).view(1, 3, 1, 1)
    return (weight / deviation).flip(1) if weight.shape[1:2] == (3,) else weight


def _load_exactly(model: Segmenter, state: dict[str, Tensor], path: Path) -> None:
    own = model.state_dict()
    problems = [f"{key} is missing" for key in own if key not in state]
    problems += [f"{key} is unknown" for key in state if key not in own]
    problems += [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise MuhdiError(
            f"{path}: does not fit this network: {'; '.join(problems[:3])}{more}; check model.backbone and classes"
        )
    model.load_state_dict(state)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise MuhdiError(f"{path}: the file does not exist; give the path of a network file")
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the parsers make of arbitrary bytes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MuhdiError(
            f"{path}: not a readable network file ({reason}); it holds no plain tensors or is cut short"
        ) from None
    if not isinstance(data, dict) or not data or not all(isinstance(value, Tensor) for value in data.values()):
        raise MuhdiError(f"{path}: holds no state dict (names and tensors); give the network's weights alone")
    return data, {}
