"""What report pages share.

The template's environment, heat maps, the viewer's images, and writing the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from muhdi.evaluation.results import row_titles
from muhdi.files import write_text
from muhdi.report.result_table import Cell, statistics_title, text, with_statistics
from muhdi.report.run_files import RunData, embedded, samples_of
from muhdi.taxonomy import ClassSet

HOT = 0.715
"""Above it letters on the colour of a heat map have the other colour: so both can be read on all of
them, in light and in dark pages."""


@dataclass(frozen=True)
class HeatCell:
    """A cell of a heat map.

    Attributes:
        text: what it says.
        heat: colour, 0..1; None: no colour.
        marks: CSS classes.
    """

    text: str
    heat: float | None = None
    marks: str = ""

    @property
    def is_hot(self) -> bool:
        """Whether its letters have the other colour."""
        return self.heat is not None and self.heat > HOT


@dataclass(frozen=True)
class HeatMap:
    """A table whose cells are coloured by their value. ``title`` is its caption."""

    title: str
    header: Sequence[str]
    rows: Sequence[tuple[str, Sequence[HeatCell]]]


def percent_cell(value: Cell, marks: str = "") -> HeatCell:
    """A value of 0..100 points; a text has no colour."""
    heat = value / 100 if isinstance(value, float) else None
    return HeatCell(text(value), heat, marks)


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Fill a template of this folder and write one self-contained file."""
    write_text(path, _templates().get_template(template).render(**values))
    return path


@cache
def _templates() -> Environment:
    """The templates of this folder; compiled once in a process, however many pages it writes."""
    environment = Environment(
        loader=PackageLoader("muhdi", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["text"] = text
    environment.filters["with_statistics"] = with_statistics
    environment.filters["statistics_title"] = statistics_title
    # Charts escape their own texts; autoescape would show their tags.
    environment.filters["svg"] = lambda chart: Markup(chart.svg())
    return environment


# --- the viewer -----------------------------------------------------------------------------------


def viewer(runs: Mapping[str, RunData], statistics: Sequence[str]) -> dict[str, Any]:
    """The images of the before/after viewer, as its script wants them.

    Args:
        runs: by what their predictions are called; of a single run those after every stage are
            shown, of several those after the last.
        statistics: that can be chosen.

    Returns:
        ``domains``: domain -> samples, each key -> index of an image; ``images``: their addresses;
        ``layers``: what can be chosen, as (key, title). A key of a prediction ends in ``:`` and is
        completed by the statistics.
    """
    found = _Viewer(statistics)
    for number, (title, run) in enumerate(runs.items()):
        names = row_titles(run.results.steps)
        titles = {stage: f"after {name}" for stage, name in enumerate(names)}
        if len(runs) > 1:
            titles = {len(names) - 1: title}
        found.add(number, run, titles)
    return found.data()


class _Viewer:
    """Collects images, each once: runs on one benchmark share their images and labels."""

    def __init__(self, statistics: Sequence[str]) -> None:
        self.statistics = statistics
        self.images: dict[str, int] = {}
        self.domains: dict[str, list[dict[str, int]]] = {}
        self.layers = {"image": "image", "label": "label"}

    def add(self, number: int, run: RunData, titles: Mapping[int, str]) -> None:
        """Add the predictions of a run after the stages that have a title."""
        for stage, title in titles.items():
            self.layers[f"{number}:{stage}:"] = title
        for domain, samples in samples_of(run).items():
            shown = self.domains.setdefault(domain, [{} for _ in samples])
            # Runs may have kept different numbers of samples; the first one's are shown.
            for sample, files in zip(shown, samples, strict=False):
                self._add_sample(sample, files, number, titles)

    def _add_sample(
        self,
        sample: dict[str, int],
        files: Mapping[str, Path],
        number: int,
        titles: Mapping[int, str],
    ) -> None:
        for key, file in files.items():
            stage, _, statistics = key.partition(":")
            if not statistics:
                # The image or its label, which are the same in all runs.
                sample.setdefault(key, self._index(file, photo=key == "image"))
            elif statistics in self.statistics and int(stage) in titles:
                sample[f"{number}:{key}"] = self._index(file, photo=False)

    def _index(self, file: Path, *, photo: bool) -> int:
        return self.images.setdefault(embedded(file, photo=photo), len(self.images))

    def data(self) -> dict[str, Any]:
        """What the page's script reads."""
        kept = [(key, title) for key, title in self.layers.items() if self._is_shown(key)]
        return {"domains": self.domains, "images": list(self.images), "layers": kept}

    def _is_shown(self, layer: str) -> bool:
        """Whether any sample has an image of this layer."""
        for samples in self.domains.values():
            for sample in samples:
                if any(key.startswith(layer) for key in sample):
                    return True
        return False


def legend(classes: ClassSet) -> list[tuple[str, str]]:
    """Class names with their colours, as ``#rrggbb``."""
    return list(zip(classes.classes, classes.hex_colours(), strict=True))


def stage_ticks(names: Sequence[str]) -> list[tuple[float, str]]:
    """Where stages are on the x axis of a chart over steps."""
    return [(float(number), name) for number, name in enumerate(names)]
