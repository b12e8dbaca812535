"""What report pages share.

The template's environment, heat maps, the viewer's pictures, and writing the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from muhdi.files import write_text
from muhdi.report.result_table import Cell, text
from muhdi.report.run_files import RunData, embedded, samples_of
from muhdi.taxonomy import ClassSet


@dataclass(frozen=True)
class HeatCell:
    """A cell of a heat map.

    What is written there, how hot it is (0..1, or None for no colour), and CSS classes.
    """

    words: str
    heat: float | None = None
    marks: str = ""


@dataclass(frozen=True)
class HeatMap:
    """A table whose cells are coloured by their value. ``title`` is its caption."""

    title: str
    header: Sequence[str]
    rows: Sequence[tuple[str, Sequence[HeatCell]]]


def percent_cell(value: Cell, marks: str = "") -> HeatCell:
    """A value of 0..100 points; words have no colour."""
    return HeatCell(text(value), value / 100 if isinstance(value, float) else None, marks)


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Fill a template of this folder and write one self-contained file."""
    environment = Environment(
        loader=PackageLoader("muhdi", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = text
    environment.filters["svg"] = lambda chart: Markup(chart.svg())
    write_text(path, environment.get_template(template).render(**values))
    return path


def viewer(runs: dict[str, RunData], kinds: Sequence[str]) -> dict[str, Any]:
    """The pictures of the before/after viewer, as its script wants them.

    Args:
        runs: by what their predictions are called; of a single run those after every stage are
            shown.
        kinds: of statistics that can be chosen.

    Returns:
        ``domains``: domain -> samples, each key -> number of a picture; ``pictures``: their
        addresses; ``layers``: what can be chosen, as (key, title). A key of a prediction ends in
        ``:`` and is completed by the kind.
    """
    pictures: dict[str, int] = {}
    domains: dict[str, list[dict[str, int]]] = {}
    layers = {"image": "image", "label": "label"}
    for place, (name, run) in enumerate(runs.items()):
        last = len(run.results.steps) - 1
        titles = (
            {last: name}
            if len(runs) > 1
            else {stage: f"after {run.stages[stage]}" for stage in range(last + 1)}
        )
        layers |= {f"{place}:{stage}:": title for stage, title in titles.items()}
        for domain, samples in samples_of(run).items():
            known = domains.setdefault(domain, [{} for _ in samples])
            for shown, files in zip(known, samples, strict=False):
                for key, file in files.items():
                    stage, _, kind = key.partition(":")
                    if kind and (kind not in kinds or int(stage) not in titles):
                        continue
                    address = embedded(file, photo=key == "image")
                    shown.setdefault(
                        f"{place}:{key}" if kind else key,
                        pictures.setdefault(address, len(pictures)),
                    )
    there = {key for samples in domains.values() for shown in samples for key in shown}
    kept = [
        (key, title) for key, title in layers.items() if any(one.startswith(key) for one in there)
    ]
    return {"domains": domains, "pictures": list(pictures), "layers": kept}


def legend(classes: ClassSet) -> list[tuple[str, str]]:
    """Class names with their colours."""
    return list(zip(classes.classes, classes.hex_colours(), strict=True))


def stage_ticks(names: Sequence[str]) -> list[tuple[float, str]]:
    """Places of stages on the x axis of a chart over steps."""
    return [(float(number), name) for number, name in enumerate(names)]
