"""How time and memory grow.

With the image's size, the batch, the classes, a sequence's steps, and a domain's images.

    python -m benchmarks.growth [--quick] [--json FILE]

An iteration is MuHDi on AdvEnt with a ResNet-50, in a process of its own with one thread. A
sequence's steps are eight iterations each on drawn scenes, every step a new domain; what is
reported of a step is its training alone, and what the process holds when it ends. Files of large
domains are empty: finding them is all that is measured.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.iteration import peak_gib
from muhdi import distributed
from muhdi.data.domains import Domains
from muhdi.models.fast import accelerate
from muhdi.models.segmenter import build_segmenter
from muhdi.passes import Batch
from muhdi.recipe.methods import AdventConfig
from muhdi.recipe.optimizer import OptimizerConfig
from muhdi.recipe.retentions import MuHDiConfig
from muhdi.recipe.schema import Recipe
from muhdi.training.iteration import train_iteration
from muhdi.training.optim import build_optimizer, freeze_affine
from muhdi.workflows import train as sequence
from tests.testers import FewBatches, PlainRunner, begin

BASE = {"width": 320, "batch": 1, "classes": 7}
VARIED = {"width": (160, 320, 640), "batch": (1, 2, 4), "classes": (7, 19, 66)}
FILES = (20_000, 200_000)


def iteration(width: int, batch: int, classes: int) -> dict[str, float]:
    """CPU seconds of one iteration at ``width`` x ``width / 2``, and peak GiB, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build_segmenter("resnet50", classes)
    images = torch.randint(0, 256, (batch, 3, width // 2, width), dtype=torch.uint8)
    labels = torch.randint(0, classes, (batch, width // 2, width))
    source, target = Batch(images, labels), Batch(images)
    methods = begin(AdventConfig(), MuHDiConfig(), model, FewBatches(source, target))
    freeze_affine(model)
    optimizer = build_optimizer(model, OptimizerConfig(), 1e-4)
    accelerate(nn.ModuleList([model, methods.adaptation, *methods.retentions]))
    model.train()
    for number in range(2):
        start = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        train_iteration(PlainRunner(model), methods.passes(source, [target]))
        optimizer.step()
        for own in methods.adaptation.own_networks().values():
            own.optimizer.step()
        seconds = time.process_time() - start if number else 0.0
    return {"cpu_s": seconds, "peak_gib": peak_gib()}


def held_mib() -> float:
    """What this process holds now."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]


def steps(count: int, retention: Any = "muhdi") -> list[dict[str, float]]:
    """CPU seconds, and MiB that the process holds, of every step of a sequence, in this process;
    and the bytes that the retention hands on after it.
    """
    torch.set_num_threads(1)
    looks = ("city", "dust", "night", "rain")
    scenes = {"dataset": "scenes", "train": 16, "val": 2}
    values = {
        "name": "steps",
        "image_size": [128, 64],
        "source": scenes | {"domain": "sim"},
        "optimizer": {"name": "adamw", "head_factor": 1},
        "evaluation": {"statistics": ["running"], "samples": 0},
        "source_training": {"iterations": 8, "batch_size": 4},
        "steps": [
            {
                "target": scenes | {"domain": looks[i % 4], "name": f"domain{i}", "seed": i},
                "iterations": 8,
                "batch_size": 4,
                "adaptation": "selftrain",
                "retention": retention,
            }
            for i in range(count)
        ],
    }
    measured: list[dict[str, float]] = []

    class Measured(sequence.StageTrainer):
        def fit(self, *arguments: Any) -> Iterator[Any]:
            start = time.process_time()
            yield from super().fit(*arguments)
            measured.append({"cpu_s": time.process_time() - start, "held_mib": held_mib()})

    sequence.StageTrainer = Measured  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        results = sequence.train(Recipe.model_validate(values), folder, quiet=True)
    for found, step in zip(measured, results.steps, strict=True):
        found["kept_bytes"] = sum(step["kept"].values()) - step["kept"]["statistics"]
    return measured[1:]


def devices() -> dict[str, float]:
    """Images per second of MuHDi on AdvEnt, of all processes that were started together.

    In each of them.
    """
    torch.set_num_threads(1)
    batch, iterations = 4, 3
    scenes = {"dataset": "scenes", "train": 8, "val": 1}
    step = {"iterations": iterations, "batch_size": batch}
    values = {
        "name": "devices",
        "image_size": [320, 160],
        "source": scenes | {"domain": "sim"},
        "device": "cpu",
        "model": {"backbone": "resnet50"},
        "evaluation": {"statistics": ["running"], "samples": 0, "domain_images": 1},
        "source_training": step | {"iterations": 1},
        "steps": [
            step
            | {"target": scenes | {"domain": "city"}, "adaptation": "advent", "retention": "muhdi"}
        ],
    }
    seconds: list[float] = []

    class Measured(sequence.StageTrainer):
        def iterate(self, *arguments: Any) -> Any:
            start = time.perf_counter()
            result = super().iterate(*arguments)
            seconds.append(time.perf_counter() - start)
            return result

    sequence.StageTrainer = Measured  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        where = distributed.all_gather_objects(folder)[0]
        sequence.train(Recipe.model_validate(values), where, quiet=True)
    return {
        "batch": batch,
        "images_per_s": 2 * batch * (iterations - 1) / sum(seconds[-iterations + 1 :]),
    }


def files(count: int) -> dict[str, float]:
    """Seconds to find a labelled domain of ``count`` images.

    The second time, with the system's index of them warm.
    """
    with tempfile.TemporaryDirectory() as place:
        for kind, ending in (("images", "jpg"), ("labels", "png")):
            for part in range(count // 1000):
                folder = Path(place, kind, "train", f"{part:03d}")
                folder.mkdir(parents=True)
                for number in range(1000):
                    (folder / f"{number}.{ending}").touch()
        for kind, ending in (("images", "jpg"), ("labels", "png")):
            (Path(place) / kind / "val").mkdir()
            (Path(place) / kind / "val" / f"1.{ending}").touch()
        recipe = Recipe.model_validate(
            {
                "name": "many",
                "classes": ["a", "b"],
                "image_size": [64, 32],
                "source_training": {"iterations": 1},
                "source": {
                    "dataset": "folder",
                    "root": place,
                    "images": "images/{split}/**/*.jpg",
                    "labels": "labels/{split}/{parent}/{stem}.png",
                },
            }
        )
        times = []
        for _ in range(2):
            start = time.perf_counter()
            assert len(Domains(recipe).source) == count
            times.append(time.perf_counter() - start)
    return {"first_s": times[0], "warm_s": times[1]}


def main() -> None:
    """Measure each in a process of its own, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the smallest values alone")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--only", help="measure one, in this process: a call of a function of this file, as JSON"
    )
    options = parser.parse_args()
    if options.only:
        name, arguments = json.loads(options.only)
        called = {"iteration": iteration, "steps": steps, "devices": devices, "files": files}[name](
            **arguments
        )
        if distributed.is_rank_zero():
            print(json.dumps(called))
        return
    result: dict[str, Any] = {}
    for key, values in VARIED.items():
        result[key] = []
        for value in values[: 1 if options.quick else None]:
            found = apart("iteration", BASE | {key: value})
            result[key].append({key: value} | found)
            print(f"{key} {value}: {found['cpu_s']:.2f} CPU-s, {found['peak_gib']:.2f} GiB")
    result["steps"] = apart("steps", {"count": 2 if options.quick else 20})
    for number in sorted({2, len(result["steps"])}):
        step = result["steps"][number - 1]
        print(f"step {number}: {step['cpu_s']:.2f} CPU-s, {step['held_mib']:.0f} MiB held")
    few = {"count": len(result["steps"])}
    result["styles"] = {}
    for kind in ("colour", "fourier"):
        found = apart("steps", few | {"retention": {"method": "style", "of": kind}})
        result["styles"][kind] = found
        print(f"styles, {kind}: {found[-1]['kept_bytes']} bytes after step {len(found)}")
    result["files"] = []
    for count in FILES[: 1 if options.quick else None]:
        found = apart("files", {"count": count})
        result["files"].append({"files": count} | found)
        print(f"{count} labelled images: {found['first_s']:.2f} s, again {found['warm_s']:.2f} s")
    result["devices"] = [apart("devices", {}, count) for count in (1, 2)]
    for count, one in enumerate(result["devices"], 1):
        print(f"{count} processes: {one['images_per_s']:.2f} images/s")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def apart(name: str, arguments: dict[str, Any], processes: int = 1) -> Any:
    """What a function of this file returns in a process of its own, or in several that torchrun
    starts.
    """
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(torchrun if processes > 1 else []), "-m", "benchmarks.growth"]
    call = json.dumps([name, arguments])
    return json.loads(
        subprocess.check_output([*command, "--only", call], stderr=subprocess.DEVNULL)
    )


if __name__ == "__main__":
    main()
