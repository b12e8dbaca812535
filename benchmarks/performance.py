"""Writes docs/performance.md from what the benchmarks measured (``benchmarks/measured/*.json``).

``make bench`` runs them all.

    python -m benchmarks.performance [--machine] [--precision] [--experiments DIR]

``--machine`` notes on which machine the benchmarks run; ``--precision`` runs what is missing of the
comparison of bf16 with float32 on the scenes, whose scores are kept in
``benchmarks/runs/bf16.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.iteration import with_spread
from benchmarks.results import KINDS, SCENES_SEEDS, collect, finished
from muhdi.report.result_table import markdown

MEASURED = Path(__file__).parent / "measured"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
WANTED = 30
"""Images per second that four loading processes are to deliver."""
BF16 = ["precision=bf16-mixed"]
ARM = "scenes_selftrain_muhdi"


def note_machine() -> None:
    """Write down what the benchmarks run on."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    facts = {
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "bf16": bool(re.search(r"\bamx_bf16\b", Path("/proc/cpuinfo").read_text())),
    }
    MEASURED.mkdir(exist_ok=True)
    (MEASURED / "machine.json").write_text(json.dumps(facts, indent=1) + "\n")


def measured(name: str) -> Any:
    """What a benchmark wrote."""
    return json.loads((MEASURED / f"{name}.json").read_text())


def page() -> str:
    """The text of docs/performance.md."""
    machine = measured("machine")
    units = "has AMX units for bf16" if machine["bf16"] else "has no bf16 units of its own"
    parts = [
        "# Performance",
        paragraph(
            f"""Measured on a CPU, one thread per process, written by `make bench` from `benchmarks/measured/`.
            The machine: {machine["cpu"]}, {machine["cores"]} cores, torch {machine["torch"]}; it {units}. Ratios with a
            ± were taken in one run, versions in turns; it is the standard deviation over the rounds. All other figures
            are of single runs. No GPU was at hand:
            nothing here says what a GPU does; `make bench-gpu` writes [gpu.md](gpu.md)."""
        ),
        "## One iteration",
        iteration(measured("iteration")),
        compiled(measured("compiled")),
        segformer(measured("segformer")),
        "## What bf16 costs in accuracy",
        precision(),
        "## Data",
        data(measured("data")),
        shards(measured("shards")),
        crops(measured("crops")),
        rare_classes(measured("rare_classes")),
        masked(measured("masked")),
        retention_cost(),
        "## Evaluation",
        evaluation(measured("evaluation")),
        windows(measured("windows")),
        "## Growth",
        growth(measured("growth")),
    ]
    return "\n\n".join(parts) + "\n"


def paragraph(text: str) -> str:
    """Text filled to the width of our documents."""
    return textwrap.fill(
        " ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False
    )


def iteration(result: dict[str, Any]) -> str:
    """The table of `benchmarks.iteration`."""
    rounds = result["rounds"]
    names = {
        "plain": "plain float32",
        "ours": "ours, float32, the same numbers",
        "bf16": "ours, bf16 + channels_last",
    }
    rows = []
    for version, title in names.items():
        cpu, peak = (mean(r[version][key] for r in rounds) for key in ("cpu_s", "peak_gib"))
        ratios = ["1", "1"]
        if version != "plain":
            ratios = [with_spread(result["plain_over"][version]["cpu_s"])]
            ratios += [with_spread([1 / v for v in result["plain_over"][version]["peak_gib"]])]
        each = (
            result["flop"] / r[version]["cpu_s"] / r[version]["matrix_flop_per_s"] for r in rounds
        )
        share = f"{100 * mean(each):.0f} %"
        rows.append([title, f"{cpu:.1f}", ratios[0], f"{peak:.2f}", ratios[1], share])
    header = [
        "version",
        "CPU-seconds",
        "times as fast",
        "peak GiB",
        "of plain's memory",
        "of the matrix rate",
    ]
    width, height = result["size"]
    text = f"""MuHDi on AdvEnt, {result["backbone"]}, {width}x{height}, batch 1, 7 classes: two forward and backward
        passes, old model, two discriminators, optimizer ({len(rounds)} rounds). *Plain* is the obvious way of writing
        it (`benchmarks/plain.py`); its losses and ours agree to
        {result["largest_relative_difference_of_a_loss"]:.0e} in float64. *Of the matrix rate*: operations per second
        (of convolutions and products alone), relative to a product of two 2048x2048 matrices in the same precision."""
    return f"{paragraph(text)}\n\n{markdown(header, rows)}"


def compiled(result: dict[str, Any]) -> str:
    """What torch.compile adds."""
    bf16, quick = (
        mean(r[version]["cpu_s"] for r in result["rounds"]) for version in ("bf16", "compiled")
    )
    return paragraph(
        f"""With `compile: true` the bf16 iteration takes {quick:.1f} CPU-seconds instead of {bf16:.1f} in
        a single run, once the compiler is done, which takes longer than a minute: it neither gains nor costs much."""
    )


def segformer(result: dict[str, Any]) -> str:
    """The sentence of `benchmarks.segformer`."""
    side, batch, seconds = result["side"], result["batch"], result["cpu_s"]
    rounds = len(seconds["ours"])
    return paragraph(
        f"""Self-training of a SegFormer-B0 at {side}x{side}, {batch} + {batch} images, 19 classes, with an aux level, a
        mean teacher, class mixing and AdamW ({rounds} rounds): an iteration here takes
        {with_spread(result["ours_over_plain"])} times the CPU time of the same step written plainly with transformers
        (`benchmarks/plain_segformer.py`; {mean(seconds["ours"]):.1f} against {mean(seconds["plain"]):.1f} CPU-seconds);
        their losses agree to {result["largest_relative_difference_of_a_loss"]:.0e} in float64."""
    )


def precision() -> str:
    """bf16 against float32 on the scenes."""
    ours, seeds = finished("bf16", [ARM], SCENES_SEEDS)
    exact, _ = finished("scenes", [ARM], seeds)
    rows = []
    for kind in KINDS:
        for title, runs in (("float32", exact[ARM]), ("bf16-mixed", ours[ARM])):
            summaries = [run.summary(kind) for run in runs]
            values = [
                [float(getattr(s, key)) for s in summaries] for key in ("average", "forgetting")
            ]
            rows.append([kind, title, *(with_spread(each, 1) for each in values)])
    return (
        f"`{ARM}`, seeds {', '.join(map(str, seeds))}, after the last step; `muhdi sweep {ARM}"
        f" --set {BF16[0]}`.\n\n"
        + markdown(["statistics", "precision", "target average", "forgetting"], rows)
    )


def data(result: dict[str, dict[str, float]]) -> str:
    """Images per second by way of reading."""
    rows = [
        [name, way, f"{value:.1f}", f"{value / rates['raw']:.1f}"]
        for name, rates in result.items()
        for way, value in rates.items()
    ]
    table = markdown(["file", "way", "images per CPU-second", "times raw"], rows)
    text = """Read and brought to 640x320; `cached` is the recipe's `runtime.cache`, bit for bit what `raw` gives; `draft` is
        the recipe's `draft: true`, which does change pixels a little."""
    return f"{paragraph(text)}\n\n{table}"


def shards(result: dict[str, Any]) -> str:
    """The table and the sentences of `benchmarks.shards`."""
    rows = []
    for way, rounds in result["read"].items():
        cells = [way]
        for rates in (rounds, result["batches"][way]):
            cached = result["read" if rates is rounds else "batches"]["cached"]
            ratios = [one / other for one, other in zip(rates, cached, strict=True)]
            cells += [f"{mean(rates):.1f}", with_spread(ratios, 3)]
        rows.append(cells)
    header = ["way", "images per CPU-second", "times cached", "training images", "times cached"]
    read = """[Shards](shards.md) of the same PNG with its label, at 640x320. *Training images*: a crop of 256x256, mirrored or
        not, with other colours, per CPU-second of one process."""
    epoch = result["epoch"]
    memory = epoch["resident_mb"]
    small = f"""An epoch of {epoch["images"]:,} images of 64x32 in {epoch["shards"]} shards, {epoch["set_mb"]:.0f} MiB, at an
        address: {epoch["fetched_once"]} shards were fetched, and {epoch["fetched"] - epoch["fetched_once"]} ahead for the
        next epoch; up to {epoch["kept_mb"]:.0f} MiB were kept of {epoch["keep_mb"]}
        allowed. The process had {memory[0]:.1f} MiB in memory after a tenth of the epoch and {memory[-1]:.1f} MiB
        after all of it."""
    return f"{paragraph(read)}\n\n{markdown(header, rows)}\n\n{paragraph(small)}"


def crops(result: dict[str, Any]) -> str:
    """The table of `benchmarks.crops`."""
    rows = []
    enough = []
    short = []
    for way, rates in result["rates"].items():
        one, two = (rates["processes"][count] for count in ("1", "2"))
        four = 4 * rates["cpu"]
        rows.append([way, *(f"{value:.0f}" for value in (rates["cpu"], four, one, two))])
        if four >= WANTED:
            enough.append(f"`{way}` keeps up")
        else:
            cores = math.ceil(WANTED / rates["cpu"])
            short.append(f"`{way}` falls short, and would need {cores} cores")
    header = [
        "way",
        "1 core",
        "4 cores, at most",
        "1 process, cores taken",
        "2 processes, cores taken",
    ]
    text = f"""Training images: the PNG at 1280x640, of which a crop of 512x512, mirrored or not, with other colours; images
        per second. *1 core*: of CPU time, in one process. *4 cores*: four times as many, which was not measured: this
        machine has fewer. The last two: of the clock, from loading processes, while other programs took the same cores
        (a load of {result["load"]:.1f}). A GPU that trains on {WANTED} images a second beside 4 cores:
        {"; ".join(enough + short)}."""
    return f"{paragraph(text)}\n\n{markdown(header, rows)}"


def rare_classes(result: dict[str, Any]) -> str:
    """The sentence of `benchmarks.rare_classes`."""
    whole = with_spread(result["sampled_over_plain"], 3)
    loading = with_spread(result["loading_over_plain"], 4)
    return paragraph(
        f"""Rare-class sampling (`rare_classes`), self-training of a {result["backbone"]} network on scenes of 640x320 in
        memory, crops of 256x256 loaded by the training process itself: an iteration takes {whole} times the CPU time;
        by what loading the source alone takes longer, {loading} times."""
    )


def masked(result: dict[str, Any]) -> str:
    """The sentence of `benchmarks.masked`."""
    ratio = with_spread(result["masked_over_plain"], 2)
    return paragraph(
        f"""Masked consistency (`masked`) on the same images: an iteration of self-training takes {ratio} times the CPU
        time."""
    )


def retention_cost() -> str:
    """The table of `benchmarks.retention_cost`."""
    names = ("small", "efficientnet_lite0")
    found = [measured(f"retention_cost_{name}")["over_none"] for name in names]
    rows: list[Sequence[str]] = []
    for retention in found[0]:
        rows.append([retention, *(with_spread(ratios[retention], 3) for ratios in found)])
    text = """What a retention makes of an iteration of self-training, in the second step, as a multiple of its CPU time
        without one (same images and crops, batch 2). The first seven let no second network see an image; `replay` shows
        kept images to the network, the others show images to an old one."""
    return f"{paragraph(text)}\n\n{markdown(['retention', *names], rows)}"


def evaluation(result: dict[str, Any]) -> str:
    """The sentences of `benchmarks.evaluation`."""
    pixels = paragraph(
        f"""From a network's logits to the confusion matrix at 2048x1024 with 19 classes, equal to the last
        pixel: {with_spread(result["plain_over_ours"], 1)} times as fast as one image at a time in numpy."""
    )
    image = result["image_statistics"]
    otherwise = 100 * image["pixels_counted_otherwise"]
    speeds = " and ".join(
        f"{row['ratio']:.2f} ± {row['ratio_sd']:.2f} times (CPU threads: {row['threads']})"
        for row in image["speed"]
    )
    batches = paragraph(
        f"""Scoring with each image's own statistics, {image["images"]} drawn scenes of 128x64, small network:
        batches are {speeds} as fast as one image at a time in elapsed time, with {otherwise:.4f} % of the pixels
        counted otherwise (rounding)."""
    )
    return f"{pixels}\n\n{batches}"


def windows(result: dict[str, Any]) -> str:
    """The sentence of `benchmarks.windows`."""
    speeds = []
    for statistics in ("running", "image"):
        ratio = with_spread(result[statistics]["single_over_batches"])
        speeds.append(f"{ratio} times with {statistics} statistics")
    largest = max(found["difference"] for found in result.values())
    return paragraph(
        f"""Sliding windows of 64x64 over 256x128, overlap 0.5, small network with 19 classes: windows in batches are
        {" and ".join(speeds)} as fast as one at a time; the probabilities differ by at most {largest:.0e}."""
    )


def growth(result: dict[str, Any]) -> str:
    """The tables of `benchmarks.growth`."""
    rows: list[Sequence[str]] = []
    for key, title in (
        ("width", "width (height is half)"),
        ("batch", "batch"),
        ("classes", "classes"),
    ):
        rows += [
            [title, str(one[key]), f"{one['cpu_s']:.2f}", f"{one['peak_gib']:.2f}"]
            for one in result[key]
        ]
    steps, files = result["steps"], result["files"]
    found = "; ".join(
        f"{f['files']:,} in {f['first_s']:.1f} s, again in {f['warm_s']:.1f} s" for f in files
    )
    one, two = result["devices"]
    sizes = {
        kind: [step["kept_bytes"] for step in found] for kind, found in result["styles"].items()
    }
    for kept in sizes.values():
        assert {after - before for before, after in pairwise([0, *kept])} == {kept[0]}
    styles = ", ".join(f"{kept[-1]:,} bytes (`of: {kind}`)" for kind, kept in sizes.items())
    return "\n\n".join(
        [
            "One MuHDi iteration with a ResNet-50; where nothing else is said, 320x160, batch 1, 7 classes:",
            markdown(["varied", "value", "CPU-seconds", "peak GiB"], rows),
            paragraph(f"""A sequence of {len(steps)} steps, small network: step 2 took {steps[1]["cpu_s"]:.2f} CPU-seconds
            and the process held {steps[1]["held_mib"]:.0f} MiB after it; step {len(steps)} took
            {steps[-1]["cpu_s"]:.2f} and held {steps[-1]["held_mib"]:.0f} MiB. The images of the domains in between are
            kept for evaluation, up to `runtime.memory_mb`."""),
            paragraph(
                f"""What `style` hands on after {len(steps)} steps, 32 images a domain at most: {styles}; each step added
                the same."""
            ),
            paragraph(f"Finding the files of a domain with labels at the start of a run: {found}."),
            paragraph(f"""Two processes of one thread each (`--devices 2`) on a batch of {one["batch"]}, ResNet-50, 320x160:
            {two["images_per_s"]:.2f} images per second against {one["images_per_s"]:.2f} of one process,
            {two["images_per_s"] / one["images_per_s"]:.2f} times as many."""),
        ]
    )


def main() -> None:
    """Note the machine, run the comparison, or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--machine", action="store_true")
    parser.add_argument("--precision", action="store_true")
    parser.add_argument("--experiments", type=Path, default=Path("experiments"))
    options = parser.parse_args()
    if options.machine:
        note_machine()
    if options.precision:
        for seed in SCENES_SEEDS:
            collect("bf16", [ARM], seed, options.experiments, None, train=True, settings=BF16)
    if not (options.machine or options.precision):
        PAGE.write_text(page())


if __name__ == "__main__":
    main()
