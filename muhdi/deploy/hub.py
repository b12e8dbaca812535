"""Exported folders on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from muhdi.deploy.find import CARD, CONFIG, PICTURE, PREPROCESSOR, WEIGHTS
from muhdi.errors import DataError, MuhdiError

_FILES = [WEIGHTS, CONFIG, PREPROCESSOR, CARD, PICTURE]
"""What is uploaded and downloaded of a folder."""


def downloaded(name: Path | str) -> Path:
    """A folder on the disk as it is, or else a repository of the hub, downloaded.

    Raises:
        DataError: it is neither, or cannot be read.
    """
    if Path(name).exists():
        return Path(name)
    hub = hugging_face()
    try:
        folder = hub.snapshot_download(str(name), allow_patterns=_FILES)
    except (
        hub.errors.HfHubHTTPError,
        hub.errors.HFValidationError,
        hub.errors.LocalEntryNotFoundError,
    ) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{name}: neither a folder nor a repository of the hub that can be read ({reason})"
        ) from None
    return Path(folder)


def push_to_hub(folder: Path | str, repository: str, *, private: bool = False) -> str:
    """Upload an exported folder to the Hugging Face hub.

    Returns the address of what was uploaded.
    """
    if not (Path(folder) / CONFIG).is_file():
        raise MuhdiError(
            f"{folder}: is not an exported folder; write one first: muhdi export MODEL {folder}/"
        )
    hub = hugging_face()
    api = hub.HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        uploaded = api.upload_folder(
            repo_id=repository, folder_path=str(folder), allow_patterns=_FILES
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
