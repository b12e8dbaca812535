"""Finding a trained network: in a run directory, a network file, or an exported folder.

What an exported folder holds is in `muhdi.deploy.folder`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from muhdi.errors import DataError, RecipeError
from muhdi.files import read_json
from muhdi.recipe.load import RECIPE
from muhdi.run.directory import RunDirectory

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PREPROCESSOR = "preprocessor_config.json"
CARD = "README.md"
PICTURE = "example.png"


def network_file(path: Path | str) -> Path:
    """The network file of a run directory (its newest), an exported folder, or the file itself."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: there is no such run directory or network file; correct the path")
    if path.is_dir():
        return path / WEIGHTS if (path / WEIGHTS).is_file() else RunDirectory(path).last_model()
    if path.suffix in (".pth", ".pt"):
        raise DataError(
            f"{path}: bring the reference's layout into ours first: muhdi convert {path}"
            " NAME.safetensors"
        )
    refuse_exported(path)
    return path


def refuse_exported(path: Path) -> None:
    """Refuse a file that `muhdi export` wrote, where a network is needed.

    Raises:
        DataError: says what to give instead.
    """
    if path.suffix in (".onnx", ".pt2"):
        raise DataError(
            f"{path}: is an exported file, which only muhdi predict takes; give the run or the"
            " network file that it was exported from"
        )


def run_of(path: Path | str) -> Path | None:
    """The run directory that a network lies in, if it lies in one."""
    folder = run_folder(Path(path))
    is_run = (folder / RECIPE).is_file() and (folder / "results.json").is_file()
    return folder if is_run else None


def run_folder(path: Path) -> Path:
    """The run directory itself, or where that of a network's file would be."""
    return path if path.is_dir() else path.parent.parent


def exported_config(folder: Path) -> dict[str, Any]:
    """What an exported folder says of its use; empty for anything else."""
    if not (folder / CONFIG).is_file():
        return {}
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or config.get("model_type") != "muhdi":
        raise DataError(
            f"{folder / CONFIG}: is not of a network of muhdi; export it again with muhdi export"
        )
    return config


def device_of(name: str) -> torch.device:
    """The device of a name; ``auto``: a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RecipeError(
            f"device {name}: is not a device; give auto, cpu, cuda or cuda:0"
        ) from None
    if device.type == "cuda" and torch.cuda.device_count() <= (device.index or 0):
        raise RecipeError(f"device {name}: this machine has no such device; give auto or cpu")
    return device
