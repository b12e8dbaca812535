"""Finding a trained network.

In a run directory, a network file, an exported folder, or on the Hugging Face hub.

An exported folder holds ``model.safetensors`` (a network file of ours), ``config.json`` (how it is
to be used) and ``README.md`` (the model card).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from muhdi.deploy.predictor import Predictor
from muhdi.errors import MuhdiError
from muhdi.files import read_json
from muhdi.models.checkpoint import load_checkpoint
from muhdi.models.segmenter import AGNOSTIC
from muhdi.run.directory import RunDirectory

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


def load(
    path: Path | str,
    *,
    head: str | None = None,
    statistics: str | None = None,
    domain: str | None = None,
    device: str = "auto",
) -> Predictor:
    """A trained network, ready for pictures.

    ``muhdi.load(run).predict("street.jpg").overlay().show()``.

    Args:
        path: a run directory (its newest network), a network file (``.safetensors``), or an
            exported folder.
        head: whose predictions are wanted; None: what an exported folder says, or else the agnostic
            head's.
        statistics: ``running``, ``image``, or ``domain``; None: what an exported folder says, or
            else ``running``, and ``domain`` where one is named.
        domain: whose stored statistics are used.
        device: ``cpu``, ``cuda``, ``cuda:1``; ``auto``: a GPU where there is one.

    Raises:
        MuhdiError: there is no network, or it has no such head or statistics.
    """
    file = network_file(path)
    config = _config(Path(path)) if Path(path).is_dir() else {}
    if statistics is None and domain is None:
        statistics, domain = config.get("statistics"), config.get("domain")
    predictor = Predictor(
        load_checkpoint(file),
        head=head or config.get("head") or AGNOSTIC,
        statistics=statistics or ("running" if domain is None else "domain"),
        domain=domain,
    )
    return predictor.to(device_of(device))


def network_file(path: Path | str) -> Path:
    """The network file that `load` would read."""
    path = Path(path)
    if not path.exists():
        raise MuhdiError(
            f"{path}: there is no such run directory or network file; correct the path"
        )
    if path.is_dir():
        return path / WEIGHTS if (path / WEIGHTS).is_file() else RunDirectory(path).last_model()
    if path.suffix in (".pth", ".pt"):
        raise MuhdiError(
            f"{path}: bring the reference's layout into ours first: muhdi convert {path}"
            " NAME.safetensors"
        )
    return path


def run_of(path: Path | str) -> Path | None:
    """The run directory that a network lies in, if it lies in one."""
    path = Path(path)
    folder = path if path.is_dir() else path.parent.parent
    return (
        folder
        if (folder / "recipe.yml").is_file() and (folder / "results.json").is_file()
        else None
    )


def from_pretrained(name: Path | str, **options: Any) -> Predictor:
    """`load` of a folder on the disk, or else of a repository on the Hugging Face hub (needs huggingface-hub)."""
    if Path(name).exists():
        return load(name, **options)
    hub = hugging_face()
    try:
        folder = hub.snapshot_download(str(name), allow_patterns=[CONFIG, WEIGHTS, CARD])
    except (
        hub.errors.HfHubHTTPError,
        hub.errors.HFValidationError,
        hub.errors.LocalEntryNotFoundError,
    ) as error:
        reason = str(error).strip().splitlines()[0]
        raise MuhdiError(
            f"{name}: neither a folder nor a repository of the hub that can be read ({reason})"
        ) from None
    return load(folder, **options)


def push_to_hub(folder: Path | str, repository: str, *, private: bool = False) -> str:
    """Upload an exported folder to the Hugging Face hub.

    Returns the address of what was uploaded.
    """
    if not (Path(folder) / CONFIG).is_file():
        raise MuhdiError(
            f"{folder}: no exported folder; write one first: muhdi export MODEL {folder}/"
        )
    hub = hugging_face()
    api = hub.HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        uploaded = api.upload_folder(
            repo_id=repository, folder_path=str(folder), allow_patterns=[CONFIG, WEIGHTS, CARD]
        )
    except (
        hub.errors.HfHubHTTPError,
        hub.errors.HFValidationError,
        hub.errors.LocalTokenNotFoundError,
    ) as error:
        raise MuhdiError(
            f"{repository}: cannot be uploaded: {str(error).strip().splitlines()[0]}"
        ) from None
    return str(uploaded)


def hugging_face() -> Any:
    """The library of the hub."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise MuhdiError(
            "the Hugging Face hub needs huggingface-hub; install it: pip install 'muhdi[hf]'"
        ) from None
    return huggingface_hub


def _config(folder: Path) -> dict[str, Any]:
    """What an exported folder says of its use; nothing where it is a run directory."""
    if not (folder / CONFIG).is_file():
        return {}
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or config.get("model_type") != "muhdi":
        raise MuhdiError(
            f"{folder / CONFIG}: describes no network of muhdi; export it again with muhdi export"
        )
    return config


def device_of(name: str) -> torch.device:
    """The device of a name; ``auto``: a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise MuhdiError(f"device {name}: is no device; give auto, cpu, cuda or cuda:0") from None
    if device.type == "cuda" and torch.cuda.device_count() <= (device.index or 0):
        raise MuhdiError(f"device {name}: this machine has no such device; give auto or cpu")
    return device
