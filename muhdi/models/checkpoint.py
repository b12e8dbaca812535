"""Network files: saving and loading our own, and starting from other layouts.

Files are safetensors, or PyTorch files that are read with ``weights_only``: reading never executes
code.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from muhdi.errors import MuhdiError
from muhdi.files import write_bytes
from muhdi.models.reference_weights import backbone_of, from_foreign, unwrapped
from muhdi.models.segmenter import AGNOSTIC, SPECIALIST, Segmenter, build_segmenter
from muhdi.models.statistics import Statistics, read_statistics
from muhdi.taxonomy import MAX_CLASSES

_FORMAT = "muhdi 2"
_FORMATS = ("muhdi 1", _FORMAT)
"""Those that can be read; files of the first one have no checksum."""


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
        "multi_level": json.dumps(checkpoint.model.multi_level),
        "domains": json.dumps(list(checkpoint.statistics)),
        "image_size": json.dumps(checkpoint.image_size),
    }
    tensors = _on_cpu(tensors)
    write_bytes(
        path, safetensors.torch.save(tensors, metadata | {"sha256": _digest(tensors, metadata)})
    )


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Checksum of all that a file holds, whatever the order."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_checkpoint(path: Path | str) -> Checkpoint:
    """A network that `save_checkpoint` wrote."""
    path = Path(path)
    tensors, metadata = read_tensors(path)
    if metadata.get("format") not in _FORMATS:
        raise MuhdiError(
            f"{path}: not a network saved by muhdi; a file of another kind can be a recipe's"
            " model.init"
        )
    written = metadata.pop("sha256", "")
    if metadata["format"] == _FORMAT and written != _digest(tensors, metadata):
        raise MuhdiError(
            f"{path}: damaged: its checksum does not agree; use another copy of the file"
        )
    try:
        classes, domains = _names(metadata["classes"]), _names(metadata["domains"])
        width, height = json.loads(metadata["image_size"])
        heads, multi_level = (
            _names(metadata["heads"]),
            json.loads(metadata.get("multi_level", "true")),
        )
        if AGNOSTIC not in heads or not 2 <= len(classes) <= MAX_CLASSES:
            raise ValueError(f"heads {heads}, {len(classes)} classes")
        model = build_segmenter(metadata["backbone"], len(classes), heads, multi_level=multi_level)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise MuhdiError(
            f"{path}: its description is damaged ({error}); use another copy of the file"
        ) from None
    load_exactly(model, _part(tensors, "model/"), path)
    statistics = {
        name: _part(tensors, f"statistics/{number}/") for number, name in enumerate(domains)
    }
    shapes = {key: value.shape for key, value in read_statistics(model).items()}
    for name, own in statistics.items():
        if {key: value.shape for key, value in own.items()} != shapes:
            raise MuhdiError(
                f"{path}: its statistics of {name!r} are damaged; use another copy of the file"
            )
    return Checkpoint(model, metadata["backbone"], classes, (width, height), statistics)


def _names(text: str) -> tuple[str, ...]:
    """Names from JSON."""
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{text[:40]} are no names")
    return tuple(names)


@dataclass
class Start:
    """What a network started from.

    Whether its heads were in the file, and the domain statistics found there.
    """

    heads: bool
    statistics: dict[str, Statistics]


def initialise(model: Segmenter, path: Path, backbone: str, classes: tuple[str, ...]) -> Start:
    """Start ``model`` from a file.

    The file is one of: a network of ours (backbone and classes must be the same), or one of the
    layouts that `muhdi.models.reference_weights` knows; where it holds a backbone alone, the heads
    stay as they are. Torchvision's networks expect RGB scaled to unit deviation, so the first
    convolution is converted to this network's BGR of 0..255; their stride stands on a block's
    second convolution, here on its first, which fine-tuning has to absorb.

    Raises:
        MuhdiError: the file is missing or broken, or it fits in part only.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") in _FORMATS:
        checkpoint = load_checkpoint(path)
        if checkpoint.backbone != backbone:
            raise MuhdiError(
                f"{path}: its backbone is {checkpoint.backbone!r}, the recipe's is {backbone!r};"
                f" set model.backbone={checkpoint.backbone} or give another model.init"
            )
        if checkpoint.classes != classes:
            raise MuhdiError(
                f"{path}: it knows {len(checkpoint.classes)} classes"
                f" ({', '.join(checkpoint.classes[:3])}, ...), the recipe has {len(classes)}"
                f" ({', '.join(classes[:3])}, ...); set 'classes' to those of the network"
            )
        model.set_heads(tuple(checkpoint.model.heads))
        load_exactly(model, checkpoint.model.state_dict(), path)
        return Start(True, checkpoint.statistics)
    state = from_foreign(tensors)
    heads = _heads_in(state)
    if heads:
        model.set_heads(heads)
    else:
        state |= {
            key: value for key, value in model.state_dict().items() if key.startswith("heads.")
        }
    load_exactly(model, state, path)
    return Start(bool(heads), {})


def load_reference(path: Path, classes: tuple[str, ...], image_size: tuple[int, int]) -> Checkpoint:
    """A network in the reference's layout.

    Backbone, heads and levels are those that the file holds.
    """
    state = from_foreign(read_tensors(path)[0])
    backbone, heads = backbone_of(state), _heads_in(state)
    if backbone is None or AGNOSTIC not in heads:
        raise MuhdiError(
            f"{path}: not a network of the reference (a ResNet-50 or -101 with layer6 as its head);"
            f" it begins with {', '.join(list(state)[:3])}"
        )
    multi_level = any(key.startswith(f"heads.{AGNOSTIC}.aux.") for key in state)
    model = build_segmenter(backbone, len(classes), heads, multi_level=multi_level)
    load_exactly(model, state, path)
    return Checkpoint(model, backbone, classes, image_size)


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a state dict as safetensors."""
    write_bytes(
        path,
        safetensors.torch.save(
            {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        ),
    )


def save_reference(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a state dict as the reference does: a PyTorch file that holds nothing else."""
    buffer = io.BytesIO()
    torch.save(_on_cpu(tensors), buffer)
    write_bytes(path, buffer.getvalue())


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}


def load_exactly(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load ``state``, all of it or nothing.

    Raises:
        MuhdiError: names and shapes are not just those of ``module``; the message holds the first
            that are not.
    """
    own = module.state_dict()
    problems = [f"{key} is missing" for key in own if key not in state]
    problems += [f"{key} is unknown" for key in state if key not in own]
    problems += [
        f"{key} holds {state[key].dtype}"
        for key in own
        if key in state and state[key].is_floating_point() != own[key].is_floating_point()
    ]
    problems += [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise MuhdiError(
            f"{path}: does not fit this network: {'; '.join(problems[:3])}{more}; check model"
            " (backbone, multi_level), classes, and a discriminator's width"
        )
    module.load_state_dict(state)


def _heads_in(state: dict[str, Tensor]) -> tuple[str, ...]:
    """Names of the heads in a state dict, the agnostic one first."""
    found = {key.split(".")[1] for key in state if key.startswith("heads.")}
    return tuple(name for name in (AGNOSTIC, SPECIALIST) if name in found)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and metadata, of a safetensors or PyTorch file; reading executes no code."""
    if not path.is_file():
        raise MuhdiError(f"{path}: the file does not exist; give the path of a network file")
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        data = unwrapped(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever the parsers make of arbitrary bytes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "weights_only" in reason:  # PyTorch's advice is to read it all the same
            reason = "it holds more than tensors"
        raise MuhdiError(
            f"{path}: not a readable network file ({reason}); it holds no plain tensors or is cut"
            " short"
        ) from None
    if (
        not isinstance(data, dict)
        or not data
        or not all(isinstance(value, Tensor) for value in data.values())
    ):
        raise MuhdiError(
            f"{path}: holds no state dict (names and tensors); give the network's weights alone"
        )
    if not all(isinstance(key, str) for key in data):
        raise MuhdiError(f"{path}: holds tensors without names; give a state dict")
    for key, value in data.items():
        if value.layout is not torch.strided or value.device.type == "meta" or value.is_quantized:
            raise MuhdiError(
                f"{path}: {key} is not a plain tensor; save the network's weights as they are"
            )
    return data, {}
