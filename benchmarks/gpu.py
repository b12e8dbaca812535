"""What a GPU does with whole iterations; writes docs/gpu.md.

    python -m benchmarks.gpu [--iterations 30] [--workers 4] [--ways float32 bf16] [--page FILE]

MuHDi on AdvEnt with a ResNet-101 at 640x320, and self-training of a SegFormer-B5 and of a DINOv2-B
at 512x512, from configurations with random weights: seconds and images per second of the iterations
of a stage's trainer, peak memory, and operations relative to a product of large matrices. Each as
it is and with bf16, channels_last and compile. How long the device waits for data is the difference
to the same iterations on one batch that lies on the device already.

``--tiny`` tries all of it with tiny networks on the CPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.crops import prepared as prepared_files
from benchmarks.data import make
from benchmarks.gpu_page import PAGE, USUAL, Row, Wait, cells, page
from benchmarks.made_up import (
    dinov2_folder,
    one_step,
    segformer_folder,
    sets_in_memory,
    trainer,
    whole_batch,
)
from muhdi.data.files import FileSet
from muhdi.data.sets import Size
from muhdi.data.stream import LoadedBatch
from muhdi.losses import Losses
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.run.log import RunLog
from muhdi.run.progress import Screen
from muhdi.training.fabric import build_fabric
from muhdi.training.measured import forget_peak, now, peak_mb
from muhdi.training.sets import Sets
from muhdi.training.stage import StageTrainer
from muhdi.training.watcher import Watcher

MEASURED = Path(__file__).parent / "measured" / "gpu.json"
WARM = 3
"""Iterations before the clock starts: kernels are chosen, and networks compiled."""
WAYS: dict[str, dict[str, Any]] = {
    "float32": {},
    "channels_last": {"channels_last": True},
    "compile": {"compile": True},
    "bf16": {"precision": "bf16-mixed"},
    "bf16 + channels_last": {"precision": "bf16-mixed", "channels_last": True},
    "bf16 + compile": {"precision": "bf16-mixed", "compile": True},
    "all": {"precision": "bf16-mixed", "channels_last": True, "compile": True},
}
"""Keys of a recipe that change the speed."""
WORKS = ("resnet101", "segformer", "dinov2")


@dataclass(frozen=True)
class Work:
    """One kind of iteration.

    Attributes:
        title: for tables.
        recipe: of a single step.
    """

    title: str
    recipe: Recipe

    @property
    def batch(self) -> int:
        """Images per domain."""
        return self.recipe.steps[0].batch_size

    @property
    def seen(self) -> Size:
        """Width and height of what the network sees."""
        return self.recipe.augment.window or self.recipe.image_size

    def changed(self, **changes: Any) -> Recipe:
        """Its recipe with other keys."""
        return self.recipe.model_copy(update=changes)


class Timed(StageTrainer):
    """Trains like any other, and starts a clock before an iteration.

    Attributes:
        warm: iterations before that.
        began: when it was, by `muhdi.training.measured.now`.
    """

    warm = 0
    began = math.nan

    def iterate(
        self, source: LoadedBatch | None, *others: LoadedBatch | None
    ) -> tuple[Losses, bool]:
        """As `StageTrainer.iterate`."""
        if self.iteration == self.warm:
            self.began = now(self.fabric.device)
        return super().iterate(source, *others)


def works(folder: Path, *, tiny: bool) -> dict[str, Work]:
    """The iterations of the page by `WORKS`; configurations are written to a folder."""
    runtime = {"device": "cpu" if tiny else "cuda"}
    whole, crop = ((64, 32), (32, 32)) if tiny else ((1280, 640), (512, 512))
    half = (64, 32) if tiny else (640, 320)
    augment = {"crop": list(crop), "flip": True, "colour": 0.3}
    transformer = {"optimizer": {"name": "adamw"}, "augment": augment, "runtime": runtime}
    resnet = "small" if tiny else "resnet101"
    segformer = segformer_folder("tiny" if tiny else "b5", folder)
    dinov2 = dinov2_folder("tiny" if tiny else "base", folder)
    decoder = {"decoder": {"name": "segformer", "width": 16 if tiny else 768}}
    before = {"iterations": 1}  # muhdi keeps what was learned before
    muhdi = {"adaptation": "advent", "retention": "muhdi"}
    steps = {"step": muhdi, "source_training": before}
    resnet_recipe = one_step(resnet, half, 1, runtime=runtime, **steps)
    segformer_recipe = one_step(segformer, whole, 2, model=decoder, **transformer)
    dinov2_recipe = one_step(dinov2, whole, 2, **transformer)
    return {
        "resnet101": Work("MuHDi, ResNet-101", resnet_recipe),
        "segformer": Work("self-training, SegFormer-B5", segformer_recipe),
        "dinov2": Work("self-training, DINOv2-B", dinov2_recipe),
    }


def measure(work: Work, way: str, iterations: int, rates: dict[str, float]) -> Row:
    """One row; where memory or the compiler fails, it says so."""
    recipe = work.changed(**WAYS[way])
    try:
        with freed():
            seconds, peak = alone(recipe, work, iterations)
        flops = operations(work)
    except RuntimeError as error:  # of memory, and of torch.compile
        return Row(work.title, way, error=" ".join(str(error).split())[:80])
    rate = rates[recipe.precision]
    return Row(work.title, way, seconds, 2 * work.batch, peak, flops, rate)


def alone(recipe: Recipe, work: Work, iterations: int) -> tuple[float, int]:
    """Seconds of an iteration on a batch that lies on the device, and peak memory in MiB."""
    fabric = build_fabric(recipe)
    device = fabric.device
    forget_peak(device)
    sets = sets_in_memory(recipe, work.batch, work.seen)
    begun = trainer(Timed, fabric, recipe, sets)
    begun.warm = WARM
    source, target = (whole_batch(one).to(device) for one in (sets.source, sets.targets[0]))
    for _ in range(WARM + iterations):
        begun.iterate(source, target)
        begun.iteration += 1
    return (now(device) - begun.began) / iterations, peak_mb(device)


def operations(work: Work) -> int:
    """Of the convolutions and products of an iteration, forward and backward."""
    with freed():
        sets = sets_in_memory(work.recipe, work.batch, work.seen)
        begun = trainer(Timed, build_fabric(work.recipe), work.recipe, sets)
        with FlopCounterMode(display=False) as counter:
            begun.iterate(whole_batch(sets.source), whole_batch(sets.targets[0]))
        return int(counter.get_total_flops())


def waits(work: Work, images: FileSet, cache: Path, iterations: int, workers: int) -> list[Wait]:
    """How long an iteration waits for images from memory and from files.

    Args:
        work: the iteration.
        images: the files, with labels.
        cache: folder of prepared images.
        iterations: measured.
        workers: loading processes of each domain.
    """
    recipe = work.changed(**WAYS[USUAL])
    with freed():
        seconds, _ = alone(recipe, work, iterations)
    memory = sets_in_memory(recipe, len(images), recipe.image_size)
    processes = f"{workers} processes per domain"
    places = {
        "in memory, no loading process": (0, memory),
        f"PNG 2048x1024, cached, {processes}": (workers, sets_of_files(images, recipe, cache)),
        f"PNG 2048x1024, {processes}": (workers, sets_of_files(images, recipe, None)),
    }
    found = []
    for data, (count, sets) in places.items():
        with freed():
            found.append(Wait(work.title, data, loaded(recipe, sets, iterations, count), seconds))
    return found


def sets_of_files(images: FileSet, recipe: Recipe, cache: Path | None) -> Sets:
    """Source and target from the same files."""
    size = recipe.image_size
    source = prepared_files(images, size, cache)
    return Sets(source, (prepared_files(images, size, cache, with_labels=False),))


def loaded(recipe: Recipe, sets: Sets, iterations: int, workers: int) -> float:
    """Seconds of an iteration of a stage that loads its images."""
    warm = WARM + 2 * workers  # so many batches are loaded ahead
    runtime = recipe.runtime.model_copy(update={"workers": workers})
    step = recipe.steps[0].model_copy(update={"iterations": warm + iterations})
    recipe = recipe.model_copy(update={"runtime": runtime, "steps": [step]})
    fabric = build_fabric(recipe)
    begun = trainer(Timed, fabric, recipe, sets)
    begun.warm = warm
    log = RunLog(RunDirectory.of(recipe), Screen(quiet=True), None, [], 0)
    watcher = Watcher(log, lambda domain, batch: None, [])
    for _ in begun.fit("step", watcher):
        pass  # nothing is saved
    return (now(fabric.device) - begun.began) / iterations


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Operations per second of a product of two square matrices, the best of ten."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = math.inf
    for _ in range(10):
        start = now(device)
        a @ b
        best = min(best, now(device) - start)
    return 2 * side**3 / best


@contextmanager
def freed() -> Iterator[None]:
    """Leave nothing of what is done inside on the device."""
    try:
        yield
    finally:
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()


def measured() -> dict[str, Any] | None:
    """What was measured on a GPU, if anything was."""
    if not MEASURED.is_file():
        return None
    found: dict[str, Any] = json.loads(MEASURED.read_text())
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--iterations", type=int, default=30, help="measured, after some to warm up"
    )
    parser.add_argument("--workers", type=int, default=4, help="loading processes of each domain")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--tiny", action="store_true", help="tiny networks on the CPU")
    parser.add_argument("--json", type=Path, default=MEASURED)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        print("benchmarks.gpu: PyTorch finds no GPU here; nothing was measured", file=sys.stderr)
        raise SystemExit(2)
    device = torch.device("cpu" if options.tiny else "cuda")
    side = 256 if options.tiny else 8192
    rates = {
        "32-true": matrix_rate(device, torch.float32, side),
        "bf16-mixed": matrix_rate(device, torch.bfloat16, side),
    }
    result: dict[str, Any] = {
        "device": "CPU" if options.tiny else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "rates": rates,
        "rows": [],
        "waits": [],
    }
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        every = works(folder, tiny=options.tiny)
        each = [every[name] for name in options.works]
        for work in each:
            for way in options.ways:
                row = measure(work, way, options.iterations, rates)
                print(*cells(row), sep=" | ", flush=True)
                result["rows"].append(asdict(row))
        images = make(folder, "png", 1 if options.tiny else 8)
        cache = folder / "cache"
        for work in each:
            for wait in waits(work, images, cache, options.iterations, options.workers):
                print(f"{wait.work}, {wait.data}: waits {100 * wait.share:.0f} %", flush=True)
                result["waits"].append(asdict(wait))
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    options.page.write_text(page(result))


if __name__ == "__main__":
    main()
