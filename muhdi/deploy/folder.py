"""The folder of a network, as the Hugging Face hub keeps models.

``model.safetensors`` is a network file of ours with all heads and statistics, ``config.json`` says
which of them are meant, ``preprocessor_config.json`` how an image comes to the network, and
``README.md`` is the model card, which may show ``example.png``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from PIL import Image

from muhdi.deploy.card import CardNotes, Usage, model_card
from muhdi.deploy.find import CARD, CONFIG, PICTURE, PREPROCESSOR, WEIGHTS
from muhdi.errors import MuhdiError
from muhdi.files import check_folder_target, write_json, write_png, write_text
from muhdi.models.checkpoint import Checkpoint, save_checkpoint
from muhdi.taxonomy import class_set_of


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse to write into a folder that holds something.

    Raises:
        MuhdiError: it is a file, or is not empty and not to be replaced, or holds something else
            than a network.
    """
    if folder.suffix in (".onnx", ".pt2"):
        raise MuhdiError(f"{folder}: is the name of a file; a folder needs one without an ending")
    check_folder_target(folder)
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise MuhdiError(
            f"{folder}: exists already; choose another name, or give --overwrite (overwrite=True)"
        )
    if not (folder / CONFIG).is_file():
        raise MuhdiError(
            f"{folder}: is not an exported folder, so it is not replaced; choose another name"
        )


def write_network(folder: Path, checkpoint: Checkpoint, usage: Usage) -> None:
    """The network, which head and statistics are meant, and how an image comes to it."""
    save_checkpoint(folder / WEIGHTS, checkpoint)
    write_json(folder / CONFIG, _config(checkpoint, usage))
    write_json(folder / PREPROCESSOR, _preprocessor(checkpoint))


def write_card(
    folder: Path,
    checkpoint: Checkpoint,
    usage: Usage,
    notes: CardNotes,
    picture: Image.Image | None = None,
) -> None:
    """The model card, and the picture that it shows."""
    if picture is None:
        (folder / PICTURE).unlink(missing_ok=True)
    else:
        write_png(folder / PICTURE, picture)
    card = model_card(checkpoint, usage, notes, pictured=picture is not None)
    write_text(folder / CARD, card)


def move_files(written: Path, folder: Path) -> None:
    """The files of a folder that is complete to the place of an earlier one, if there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (written / PICTURE).exists():
        (folder / PICTURE).unlink(missing_ok=True)
    for file in written.iterdir():
        os.replace(file, folder / file.name)


def _config(checkpoint: Checkpoint, usage: Usage) -> dict[str, Any]:
    classes = class_set_of(checkpoint.classes)
    return {
        "model_type": "muhdi",
        "backbone": checkpoint.backbone.key,
        "image_size": checkpoint.image_size,
        "id2label": {str(number): name for number, name in enumerate(classes.classes)},
        "label2id": {name: number for number, name in enumerate(classes.classes)},
        "colours": classes.colours,
        "heads": list(checkpoint.network.heads),
        "head": usage.head,
        "statistics": usage.statistics,
        "domain": usage.domain,
        "weights": usage.weights,
    }


def _preprocessor(checkpoint: Checkpoint) -> dict[str, Any]:
    """In the keys of the image processors of transformers.

    The network scales and normalises grey values itself. No such processor pads as ours does, so
    none is named for a network of padded images.
    """
    width, height = checkpoint.image_size
    stretched = checkpoint.fit == "stretch"
    processor = {"image_processor_type": "SegformerImageProcessor"} if stretched else {}
    return {
        **processor,
        "fit": checkpoint.fit,
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": int(Image.Resampling.BICUBIC),
        "do_rescale": False,
        "do_normalize": False,
        "do_reduce_labels": False,
    }
