"""Tables of what a network is made of and of what a recipe costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from muhdi.report.result_table import Cell, ResultTable
from muhdi.run.progress import clock

if TYPE_CHECKING:
    from muhdi.models.summary import NetworkSummary
    from muhdi.run.costs import DryRun, StageCost


def facts_table(name: str, facts: Mapping[str, str]) -> Table:
    """A row for every fact; long ones are wrapped.

    Args:
        name: of what is described.
        facts: by name.
    """
    table = Table(box=None, show_header=False, title=Text(name), title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        # Text objects, not strings: names are not console markup.
        table.add_row(Text(key), Text(value))
    return table


def parameters_table(network: NetworkSummary) -> ResultTable:
    """A row for every part of a network, and one for all of it."""
    rows: list[list[Cell]] = []
    for part in (*network.parts, network.total):
        counts = (part.parameters, part.trained, part.frozen)
        rows.append([part.name, *(f"{count:,}" for count in counts)])
    return ResultTable("Parameters", ["part", "total", "trained", "frozen"], rows)


def features_table(network: NetworkSummary) -> ResultTable:
    """A row for every map that heads can stand on."""
    width, height = network.size
    rows: list[list[Cell]] = []
    for feature in network.features:
        size = f"{feature.width}x{feature.height}"
        rows.append([feature.name, str(feature.channels), f"{feature.stride:g}", size])
    title = f"Features of an image of {width}x{height}"
    return ResultTable(title, ["feature", "channels", "stride", "size"], rows)


def costs_table(costs: DryRun) -> ResultTable:
    """A row for every stage: what one iteration costs, and what all of it may take."""
    threads = f", {costs.threads} thread{'s' * (costs.threads > 1)}"
    where = costs.device + (threads if costs.device == "cpu" else "")
    title = f"{costs.recipe} on {where}: seconds and MiB of one iteration, time of all"
    header = ["stage", "iterations", "seconds", "images/s", "MiB", "training", "scoring"]
    return ResultTable(title, header, [_costs_row(stage) for stage in costs.stages])


def _costs_row(stage: StageCost) -> list[Cell]:
    rate = stage.images_per_second
    return [
        stage.name,
        str(stage.iterations),
        f"{stage.seconds:.3g}" if stage.iterations else None,
        None if rate is None else f"{rate:.3g}",
        str(stage.memory_mb) if stage.iterations else None,
        clock(stage.training),
        clock(stage.scoring),
    ]


def estimate(costs: DryRun) -> list[str]:
    """The time of the whole recipe in a sentence, and a warning if it is hours."""
    lines = [
        f"Estimated time of the whole recipe: {clock(costs.seconds)}, training"
        f" {clock(costs.training)} and scoring {clock(costs.scoring)}."
    ]
    if costs.is_long:
        lines.append(
            f"warning: this recipe takes about {costs.seconds / 3600:.1f} hours here; a faster"
            " runtime.device, precision: bf16-mixed, a smaller image_size or fewer iterations make"
            " it shorter"
        )
    return lines
