"""One MuHDi iteration.

Ours against the same mathematics written the obvious way (`benchmarks/plain.py`).

    python -m benchmarks.iteration [--size 640 320] [--backbone resnet101] [--versions ours bf16]
        [--rounds 3] [--json FILE]

Versions of ours: ``ours`` is float32, the same numbers; ``bf16`` is precision: bf16-mixed with
channels_last: true; ``compiled`` is bf16 with compile: true. Each version runs in processes of its
own, one thread, in turns with the plain one; a process warms up once and is measured on the next
iterations. Reported are CPU time, wall time and peak memory, and the ratios of the plain version to
ours with the spread over the rounds. Before anything is timed, every loss of the plain version and
of ours is compared over two iterations, in float64.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain import AUX, PlainIteration
from muhdi.models.fast import accelerate
from muhdi.models.segmenter import build_segmenter
from muhdi.passes import Batch
from muhdi.recipe.methods import AdventConfig
from muhdi.recipe.optimizer import OptimizerConfig
from muhdi.recipe.retentions import MuHDiConfig
from muhdi.training.fabric import FabricRunner
from muhdi.training.iteration import train_iteration
from muhdi.training.optim import build_optimizer, freeze_affine
from tests.testers import FewBatches, begin

RATE = 2.5e-4
MATRIX_SIDE = 2048
"""Of the matrices whose product says what the machine can do."""
VERSIONS: dict[str, dict[str, Any]] = {
    "ours": {},
    "bf16": {"precision": "bf16-mixed", "channels_last": True},
    "compiled": {"precision": "bf16-mixed", "channels_last": True, "compiled": True},
}
"""Precision, memory format and compilation, as a recipe may ask for them."""
Iteration = Callable[[int], dict[str, float]]


def batch(number: int, size: tuple[int, int]) -> tuple[Batch, Batch]:
    """Source and target of an iteration, batch 1."""
    generator = torch.Generator().manual_seed(number)
    w, h = size
    images = torch.randint(0, 256, (2, 3, h, w), dtype=torch.uint8, generator=generator)
    coarse = torch.randint(0, 8, (1, -(-h // 8), -(-w // 8)), generator=generator)
    labels = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :h, :w]
    return Batch(images[:1], torch.where(labels == 7, 255, labels)), Batch(images[1:])


def build(version: str, backbone: str, size: tuple[int, int]) -> Iteration:
    """An iteration of the ``plain`` version or of one of ours, from the same weights."""
    torch.manual_seed(0)
    model = build_segmenter(backbone, 7)
    config = MuHDiConfig(
        weight_source=1e-5, weight_pod=1e-5, kl_reduction="element", old_statistics="running"
    )
    old = build_segmenter(backbone, 7)
    old.load_state_dict(model.state_dict())
    source, target = batch(0, size)
    methods = begin(AdventConfig(), config, model, FewBatches(source, target))
    discriminators = methods.adaptation.discriminators
    model.train()
    if version == "plain":
        plain = PlainIteration(model, old, discriminators, (1e-5, 1e-5), RATE)

        def obvious(number: int) -> dict[str, float]:
            source, target = batch(number, size)
            assert source.labels is not None
            return plain(source.images, source.labels, target.images)

        return obvious
    del old
    ways = VERSIONS[version]
    fabric = Fabric(accelerator="cpu", devices=1, precision=ways.get("precision", "32-true"))
    channels_last = ways.get("channels_last", False)
    for module in (model, *methods.retentions, methods.adaptation):
        if channels_last:
            module.to(memory_format=torch.channels_last)
        accelerate(module)
    owns = list(methods.adaptation.own_networks().values())
    if ways.get("compiled"):
        model.compile()
        for own in owns:
            own.module.compile()
    freeze_affine(model)
    optimizer = build_optimizer(model, OptimizerConfig(updates="reference"), RATE)
    for group in optimizer.param_groups:
        group["lr"] = RATE * group["factor"]
    run = FabricRunner(fabric, model, channels_last=channels_last)

    def ours(number: int) -> dict[str, float]:
        source, target = batch(number, size)
        optimizer.zero_grad(set_to_none=True)
        for own in owns:
            own.optimizer.zero_grad(set_to_none=True)
        with fabric.autocast():
            losses = train_iteration(run, methods.passes(source, [target]))
        optimizer.step()
        for own in owns:
            own.optimizer.step()
        return unweighted({name: float(value.detach()) for name, value in losses.items()})

    return ours


def unweighted(losses: dict[str, float]) -> dict[str, float]:
    """Our weighted terms as the plain version reports them."""
    return {
        "seg_main": losses["seg_main"],
        "seg_aux": losses["seg_aux"] / AUX,
        "kd": (losses["kd_main"] + losses["kd_aux"]) / 1e-5,
        "pod": losses["pod"] / 1e-5,
        "adv_main": losses["adv_main"] / 0.001,
        "adv_aux": losses["adv_aux"] / 0.0002,
        "kt": losses["kt_main"] + losses["kt_aux"],
        **{name: value for name, value in losses.items() if name.startswith("d_")},
    }


def disagreement(backbone: str, size: tuple[int, int]) -> float:
    """Largest difference of any loss in two iterations, relative to the loss, in float64.

    In float32 the two agree to 1e-6 at first, but rounding grows a thousandfold through one update
    of a fresh network.
    """
    torch.set_default_dtype(torch.float64)
    try:
        one, two = (build(version, backbone, size) for version in ("ours", "plain"))
        worst = 0.0
        for number in range(2):
            a, b = one(number), two(number)
            worst = max(worst, *(abs(a[name] - b[name]) / max(abs(b[name]), 1e-9) for name in b))
        return worst
    finally:
        torch.set_default_dtype(torch.float32)


def measure(
    version: str, backbone: str, size: tuple[int, int], iterations: int
) -> dict[str, float]:
    """In this process: seconds per iteration, peak memory in GiB, and how fast it multiplies large
    matrices.
    """
    torch.set_num_threads(1)
    iteration = build(version, backbone, size)
    iteration(0)
    cpu, wall = time.process_time(), time.perf_counter()
    for number in range(1, iterations + 1):
        iteration(number)
    cpu, wall = (
        (now - then) / iterations
        for now, then in ((time.process_time(), cpu), (time.perf_counter(), wall))
    )
    half = VERSIONS.get(version, {}).get("precision") == "bf16-mixed"
    figures = {"cpu_s": cpu, "wall_s": wall, "peak_gib": peak_gib()}
    return figures | {"matrix_flop_per_s": matrix_rate(torch.bfloat16 if half else torch.float32)}


def operations(backbone: str, size: tuple[int, int]) -> int:
    """Floating point operations of the convolutions and products of one iteration of ours."""
    iteration = build("ours", backbone, size)
    with FlopCounterMode(display=False) as counted:
        iteration(0)
    return int(counted.get_total_flops())


def matrix_rate(dtype: torch.dtype) -> float:
    """Operations per second of a product of two square matrices, the best of five."""
    side = MATRIX_SIDE
    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def peak_gib() -> float:
    """Most memory that this process has held.

    ``ru_maxrss`` would count what its parent held when it was forked.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**20  # type: ignore[index]


def main() -> None:
    """Measure in turns, and print and write the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", type=int, nargs=2, default=(640, 320), metavar=("WIDTH", "HEIGHT")
    )
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--versions", nargs="+", choices=list(VERSIONS), default=["ours", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--iterations", type=int, default=1, help="measured per process, after one to warm up"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=["plain", *VERSIONS], help="measure one, in this process")
    options = parser.parse_args()
    size = (options.size[0], options.size[1])
    if options.only:
        print(json.dumps(measure(options.only, options.backbone, size, options.iterations)))
        return
    torch.set_num_threads(1)
    difference = disagreement(options.backbone, (128, 64))
    print(f"losses of the plain version and ours agree to {difference:.1e}")
    command = [
        sys.executable,
        "-m",
        "benchmarks.iteration",
        "--size",
        *map(str, size),
        "--backbone",
        options.backbone,
        "--iterations",
        str(options.iterations),
        "--only",
    ]
    flop = operations(options.backbone, size)
    rounds: list[dict[str, dict[str, float]]] = []
    for _ in range(options.rounds):
        each = ("plain", *options.versions)
        rounds.append(
            {
                v: json.loads(subprocess.check_output([*command, v], stderr=subprocess.DEVNULL))
                for v in each
            }
        )
    ratios = {
        version: {
            key: [r["plain"][key] / r[version][key] for r in rounds]
            for key in ("cpu_s", "wall_s", "peak_gib")
        }
        for version in options.versions
    }
    for version, by_key in ratios.items():
        for key, values in by_key.items():
            both = " against ".join(
                f"{mean(r[v][key] for r in rounds):.2f}" for v in ("plain", version)
            )
            print(f"{version}: {key}: plain / {version} = {with_spread(values)} ({both})")
    if options.json:
        result = {
            "size": size,
            "backbone": options.backbone,
            "largest_relative_difference_of_a_loss": difference,
            "flop": flop,
            "rounds": rounds,
            "plain_over": ratios,
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def with_spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation."""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


if __name__ == "__main__":
    main()
