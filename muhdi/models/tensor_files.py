"""Files of tensors by name, and modules that are filled from them; reading executes no code."""

from __future__ import annotations

import io
import re
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from muhdi.errors import DataError
from muhdi.files import write_bytes
from muhdi.models.reference_weights import unwrapped

Tensors = dict[str, Tensor]


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
    torch.save(on_cpu(tensors), buffer)
    write_bytes(path, buffer.getvalue())


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in a form that can be written."""
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}


def load_exactly(module: nn.Module, state: dict[str, Tensor], path: Path | str) -> None:
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
        raise DataError(
            f"{path}: does not fit this network: {'; '.join(problems[:3])}{more}; check model"
            " (backbone, multi_level), classes, and a discriminator's width"
        )
    module.load_state_dict(state)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and metadata, of a safetensors or PyTorch file; reading executes no code."""
    if not path.is_file():
        raise DataError(f"{path}: the file does not exist; give the path of a network file")
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        data = unwrapped(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever the parsers make of arbitrary bytes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "weights only" in reason.lower().replace("_", " "):
            # PyTorch's advice is to read it all the same, which could run any code.
            held = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f", such as {held[1]}" if held else ""
            reason = f"it holds more than tensors{what}; save its state_dict alone"
        raise DataError(
            f"{path}: not a readable network file ({reason}); it holds no plain tensors or is cut"
            " short"
        ) from None
    if (
        not isinstance(data, dict)
        or not data
        or not all(isinstance(value, Tensor) for value in data.values())
    ):
        raise DataError(
            f"{path}: holds no state dict (names and tensors); give the network's weights alone"
        )
    if not all(isinstance(key, str) for key in data):
        raise DataError(f"{path}: holds tensors without names; give a state dict")
    for key, value in data.items():
        if value.layout is not torch.strided or value.device.type == "meta" or value.is_quantized:
            raise DataError(
                f"{path}: {key} is not a plain tensor; save the network's weights as they are"
            )
    return data, {}
