"""Names of the sample images that a run keeps."""

from __future__ import annotations

import re
from pathlib import Path

from muhdi.files import file_name


def stem_of(image: Path) -> str:
    """How the names of a sample's files begin, from its image's file."""
    return image.name.removesuffix("_image.png")


def predicted_name(stem: str, statistics: str) -> str:
    """File of a sample's prediction after the last stage."""
    return f"{stem}_predicted_{statistics}.png"


def after_name(stem: str, stage: int, statistics: str) -> str:
    """File of a sample's prediction after a stage that is not the last."""
    return f"{stem}_predicted_{statistics}_after{stage}.png"


def sample_images(run: Path, domain: str | None = None) -> list[Path]:
    """Images of the samples that a run kept, of one domain or of all, in their order."""
    name = ".+" if domain is None else re.escape(file_name(domain))
    pattern = re.compile(rf"{name}_\d+_image")
    found = [path for path in (run / "samples").glob("*_image.png") if pattern.fullmatch(path.stem)]

    def order(path: Path) -> tuple[list[str], int]:
        *domain_parts, number, _ = path.stem.split("_")
        return domain_parts, int(number)

    return sorted(found, key=order)
