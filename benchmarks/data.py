"""Images per second and core: decoded and resized, decoded as a draft, and from the cache.

    python -m benchmarks.data [--images 4] [--seconds 4] [--json FILE]

A 2048x1024 PNG with its label (a Cityscapes item) and a 4000x3000 JPEG (a Mapillary image), brought
to 640x320. The pictures are made up: smooth shapes with a little noise, so that they compress about
as photographs do.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from muhdi.data.cache import SampleCache
from muhdi.data.files import FileSet, LabelFiles
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.taxonomy import CLASS_SETS

SIZE = (640, 320)


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """A made-up photograph."""
    rng = np.random.default_rng(seed)
    width, height = size
    coarse = Image.fromarray(rng.integers(0, 256, (height // 32, width // 32, 3), np.uint8))
    pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.int16)
    return Image.fromarray(
        np.clip(pixels + rng.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)
    )


def make(folder: Path, kind: str, count: int) -> FileSet:
    """The files of a data set of ``png`` with labels or of ``jpeg``."""
    images, labels = [], []
    for number in range(count):
        images.append(folder / f"{number}.{kind}")
        if kind == "png":
            picture(number, (2048, 1024)).save(images[-1])
            ids = (
                np.random.default_rng(number)
                .integers(0, 19, (32, 64), np.uint8)
                .repeat(32, 0)
                .repeat(32, 1)
            )
            labels.append(folder / f"{number}_label.png")
            Image.fromarray(ids).save(labels[-1])
        else:
            picture(number, (4000, 3000)).save(images[-1], quality=90)
    if not labels:
        return FileSet(kind, images)
    return FileSet(kind, images, LabelFiles(labels, CLASS_SETS["urban19"].lookup(None)))


def rate(samples: PreparedSet, seconds: float) -> float:
    """Samples per second of CPU time."""
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds:
        samples[count % len(samples)]
        count += 1
    return count / (time.process_time() - start)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        for kind, name in (("png", "PNG 2048x1024 with label"), ("jpeg", "JPEG 4000x3000")):
            folder = Path(place, kind)
            folder.mkdir()
            files = make(folder, kind, options.images)
            ways = {
                "raw": Loading(),
                "draft": Loading(draft=True),
                "cached": Loading(cache=SampleCache(folder / "cache")),
            }
            if kind == "png":
                del ways["draft"]
            rates = {}
            for way, loading in ways.items():
                samples = PreparedSet(
                    files, SIZE, SIZE, with_labels=files.labelled, loading=loading
                )
                for index in range(len(samples)):
                    samples[index]
                rates[way] = rate(samples, options.seconds)
            result[name] = rates
            shown = ", ".join(f"{way} {value:.1f}" for way, value in rates.items())
            ratios = ", ".join(
                f"{way} {value / rates['raw']:.1f}x" for way, value in rates.items() if way != "raw"
            )
            print(f"{name}: images per CPU-second: {shown}; of raw: {ratios}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
