"""The results of a run: what `results.json` holds, and what follows from it. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from muhdi.errors import MuhdiError, RunError
from muhdi.evaluation.curves import area
from muhdi.evaluation.metrics import (
    Confusion,
    Summary,
    lost_before_return,
    mean_iou,
    pixel_accuracy,
    scored_iou,
    summarise,
)
from muhdi.files import read_json

Entry = dict[str, Any]
"""Scores of one domain in percent.

* ``miou``: the mean over the classes that are asked for and that the domain's labels hold; null
  where there is none, and then ``reason`` may say why.
* ``iou`` by class; null for a class that no label of the domain holds.
* ``pixel_accuracy``: share of the labelled pixels that are right.
* ``absent``: the classes that no label holds. Results of versions that lack this key counted such a
  class as 0 as soon as one pixel was taken for it.
* ``images``: how many were scored.
* ``confusion``: pixels by true and by predicted class, where there are few classes; `Results` keeps
  it of its newest row.
* ``label_free``: what needs no labels, `LabelFree`; domains without labels have it, too. Results of
  earlier versions lack it.
"""

LabelFree = dict[str, Any]
"""Scores of one domain that need no labels, in percent, over the positions of the network's output.

* ``entropy``: mean entropy of the predictions; 0 certain, 100 uniform (ADVENT, equation 3).
* ``mutual_information``: entropy of the mean prediction minus ``entropy``; high where
  predictions are sure and of many classes, 0 where all are alike (Bridle et al. 1991).
* ``mirror_agreement``: positions whose class is the same for the image and its mirror image; null
  where that was not measured (`evaluation.agreement`).
* ``previous_agreement``: positions to which the network of the stage before gives the same class;
  null after the source, and where that was not measured.
* ``shares``: positions by predicted class.
* ``images``: how many were seen.
"""

LABEL_FREE = ("entropy", "mutual_information", "mirror_agreement", "previous_agreement")
"""The scores of `LabelFree` that rank networks."""
LESS_IS_BETTER = ("entropy",)
"""Those of which a better network is expected to have less."""


def merit(scores: Mapping[str, Any], key: str) -> float | None:
    """A score of `LABEL_FREE` with the sign that makes more of it better; None without one.

    Args:
        scores: a `LabelFree`.
        key: of the score.
    """
    value: float | None = scores[key]
    if value is None:
        return None
    return -value if key in LESS_IS_BETTER else value


FEW_CLASSES = 32
"""Up to so many classes the confusion matrix is kept; beyond, it would be most of the file."""


def scores(
    confusion: Confusion,
    classes: Sequence[str],
    images: int,
    mean_over: Sequence[str] = (),
) -> Entry:
    """The entry of a domain from its confusion matrix.

    Args:
        confusion: pixels by true and by predicted class.
        classes: their names.
        images: how many were scored.
        mean_over: the classes whose mean is wanted; none: all.
    """
    over = [classes.index(name) for name in mean_over] if mean_over else None
    per_class = dict(zip(classes, map(percent, scored_iou(confusion)), strict=True))
    labelled = confusion.sum(1)
    entry: Entry = {
        "miou": percent(mean_iou(confusion, over)),
        "pixel_accuracy": percent(pixel_accuracy(confusion)),
        "iou": per_class,
        "absent": [name for name, count in zip(classes, labelled, strict=True) if not count],
        "images": images,
    }
    if len(classes) <= FEW_CLASSES:
        entry["confusion"] = confusion.tolist()
    return entry


def percent(share: float | None) -> float | None:
    """A share, 0..1, as it is saved; None and NaN are no number."""
    return None if share is None or share != share else round(100 * float(share), 4)


def absent_classes(row: Mapping[str, Mapping[str, Entry]]) -> list[str]:
    """A line for each domain of which some classes have no score.

    Args:
        row: scores by statistics and domain.
    """
    lines: dict[str, str] = {}
    for by_domain in row.values():
        for domain, entry in by_domain.items():
            if entry.get("absent"):
                names = ", ".join(entry["absent"])
                lines[domain] = (
                    f"{domain}: no label holds {names}; without a score, and left out of the mean"
                )
    return list(lines.values())


@dataclass(frozen=True)
class ScoredImages:
    """What the scores of a domain were measured on.

    Attributes:
        root: the folder that holds all images; empty if they are not files.
        images: how many.
        content: a digest of the names and sizes of all images and labels below their folders, and
            of what the labels mean; the same for a copy elsewhere. Empty if they are not files.
        input_size: width and height of the images that were scored, ``640x320``, or ``native``.
        size: width and height at which predictions were compared with labels, or ``native``.
        fit: how images of another aspect ratio were brought to the input size.
        views: what the softmax was averaged over, in words; empty where every image was looked at
            once.
    """

    root: str
    images: int
    content: str
    input_size: str
    size: str
    fit: str
    views: str = ""

    def __str__(self) -> str:
        where = f" in {self.root}" if self.root else ""
        how = f"{'padded' if self.fit == 'pad' else 'stretched'} to {self.input_size}"
        if self.input_size == "native":
            how = "at their own size"
        size = "the labels' own size" if self.size == "native" else self.size
        averaged = f", averaged over {self.views}" if self.views else ""
        return f"{self.images} images{where}, {how}{averaged}, scored at {size}"


def without_score(reason: str) -> Entry:
    """The entry of a domain that cannot be scored, with the reason.

    ``unlabelled`` or ``no statistics``.
    """
    return {"miou": None, "reason": reason}


def untrained_row(statistics: Sequence[str], domains: Sequence[str]) -> dict[str, dict[str, Entry]]:
    """The row of a network whose heads are still random."""
    row = {domain: without_score("untrained") for domain in domains}
    return {name: dict(row) for name in statistics}


@dataclass
class Results:
    """Scores by stage, choice of statistics and domain.

    Attributes:
        name: of the run.
        seed: of the run.
        source: name of the source domain.
        domains: names of all domains that are evaluated, the source first.
        targets: names of the target domains in the order of the sequence, each once. Of a run
            without steps, the extra domains.
        adapted_at: for each target, the first step (from 1) that adapts to it; `visits` has all.
        steps: for each finished stage ``{"step", "name", "scores", "weights"}``, its scores by
            statistics and domain, and the SHA-256 of the network files that were scored;
            ``targets``, their names, where several were learned together;
            ``labelled``, how many of its target's labels took part, where a few did;
            ``without_source``, true where no source image took part; and
            ``selected`` where its network was chosen, see `muhdi.workflows.select`, and ``remarks``
            where its methods had something to say; ``kept``, bytes that are carried to the next
            stage, by method and of the ``statistics``; and with `evaluation.every`, of steps alone,
            ``iterations`` and ``curve``, the scores within the step: for each time
            ``{"iterations", "scores"}``, with the mIoU, or with what needs no labels if it is none.
        confusion: of the newest stage, pixels by true and by predicted class, for each choice of
            statistics and domain. It is empty if there are many classes, and in runs of earlier
            versions.
        scored: what the scores were measured on, by domain; empty in results of earlier versions.
        mean_over: the classes whose mean is the mIoU; none: all.
        default: the statistics that are shown where there is room for one, if they were evaluated.
        scored_weights: ``model``, or what was scored in their place, ``ema`` or ``teacher``.
        notes: what the user should know about the scores; they are not saved.
    """

    name: str
    seed: int
    source: str
    domains: list[str]
    targets: list[str]
    adapted_at: list[int]
    steps: list[dict[str, Any]] = field(default_factory=list)
    confusion: dict[str, dict[str, list[list[int]]]] = field(default_factory=dict)
    scored: dict[str, ScoredImages] = field(default_factory=dict)
    mean_over: list[str] = field(default_factory=list)
    default: str = "running"
    scored_weights: str = "model"
    notes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        rows = len(self.steps)
        return f"Results({self.name!r}, seed={self.seed}, {rows} rows, {', '.join(self.domains)})"

    def add(
        self,
        name: str,
        by_statistics: dict[str, dict[str, Entry]],
        weights: Sequence[str] = (),
    ) -> None:
        """Scores after the next stage.

        Args:
            name: of the stage, or of the network.
            by_statistics: its scores by statistics and domain.
            weights: SHA-256 of the network files that were scored, where they are known.
        """
        rows: dict[str, dict[str, Entry]] = {}
        self.confusion = {}
        for statistics, row in by_statistics.items():
            rows[statistics] = {}
            kept: dict[str, list[list[int]]] = {}
            for domain, entry in row.items():
                rows[statistics][domain] = {k: v for k, v in entry.items() if k != "confusion"}
                if "confusion" in entry:
                    kept[domain] = entry["confusion"]
            if kept:
                self.confusion[statistics] = kept
        step = {"step": len(self.steps), "name": name, "scores": rows, "weights": list(weights)}
        self.steps.append(step)

    @property
    def visits(self) -> dict[str, list[int]]:
        """For each target all steps that adapt to it, as far as the run has come; the first always.

        A target of a run without steps, or of networks that were only scored, has one.
        """
        found = {}
        for target, first in zip(self.targets, self.adapted_at, strict=True):
            later = [step["step"] for step in self.steps[first + 1 :] if target in adapted_to(step)]
            found[target] = [first, *later]
        return found

    @property
    def returning(self) -> list[str]:
        """The targets that more than one step has adapted to."""
        return [target for target, steps in self.visits.items() if len(steps) > 1]

    @property
    def statistics(self) -> list[str]:
        """The choices of statistics that were evaluated."""
        return list(self.steps[0]["scores"]) if self.steps else []

    @property
    def main_statistics(self) -> str:
        """The choice that is shown where there is room for one: that of `muhdi predict`."""
        known = self.statistics
        return self.default if self.default in known or not known else known[0]

    @property
    def main_statistics_first(self) -> list[str]:
        """The choices of statistics in the order in which pages show them."""
        main = self.main_statistics
        return sorted(self.statistics, key=lambda name: name != main)

    def matrix(
        self, statistics: str, domains: Sequence[str] | None = None
    ) -> list[list[float | None]]:
        """The mIoU in percent by stage and domain."""
        names = self.domains if domains is None else domains
        rows = [step["scores"][statistics] for step in self.steps]
        return [[row.get(domain, {}).get("miou") for domain in names] for row in rows]

    def summary(self, statistics: str) -> Summary:
        """Average, forgetting and transfer over the targets."""
        matrix = self.matrix(statistics, self.targets)
        return replace(
            summarise(matrix, self.adapted_at),
            before_return=lost_before_return(matrix, list(self.visits.values())),
            area=area(self.steps, statistics, self.targets, self.adapted_at),
        )

    def to_json(self, *, sequence: bool = True) -> dict[str, Any]:
        """What is written to the file: everything, and the matrix for whoever reads only that.

        Rows of a ``sequence`` are its steps, and then there are average and forgetting too.
        """
        summary: dict[str, dict[str, Any]] = {}
        for statistics in self.statistics:
            summary[statistics] = {"matrix": self.matrix(statistics)}
            if sequence:
                summary[statistics] |= vars(self.summary(statistics))
        values = {name: value for name, value in vars(self).items() if name != "notes"}
        values["scored"] = {name: vars(images) for name, images in self.scored.items()}
        return {**values, "summary": summary}

    def to_dataframe(self) -> Any:
        """A pandas table: a row per stage, statistics and domain, with mIoU in percent.

        Raises:
            RunError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise RunError("to_dataframe needs pandas; pip install pandas") from None
        rows = []
        for step in self.steps:
            for statistics, row in step["scores"].items():
                for domain, entry in row.items():
                    head = {"step": step["step"], "stage": step["name"], "statistics": statistics}
                    rows.append({**head, "domain": domain, "miou": entry.get("miou")})
        return pandas.DataFrame(rows)

    @classmethod
    def load(cls, path: Path | str) -> Results:
        """The results of a run directory, or of its ``results.json``.

        Raises:
            MuhdiError: the file is missing or holds something else.
        """
        path = Path(path)
        file = path / "results.json" if path.is_dir() else path
        return cls.from_json(read_json(file), str(file))

    @classmethod
    def from_json(cls, data: dict[str, Any], name: str = "results.json") -> Results:
        """What `to_json` wrote.

        Args:
            data: of the file.
            name: of the file, for messages.

        Raises:
            MuhdiError: it is something else.
        """
        later = ("confusion", "scored", "mean_over", "default", "scored_weights", "notes")
        names = [field.name for field in fields(cls) if field.name not in later]
        if isinstance(data, dict) and "learnt" in data:  # as version 0.1 called it
            data = {"adapted_at": data["learnt"], **data}
        if not isinstance(data, dict) or not all(name in data for name in names):
            raise MuhdiError(
                f"{name}: holds no results of a run; delete it, and continue with --resume"
            )
        try:
            scored = {
                name: ScoredImages(**images) for name, images in data.get("scored", {}).items()
            }
        except (AttributeError, TypeError):
            raise MuhdiError(
                f"{name}: 'scored' does not say what was scored; delete that key"
            ) from None
        return cls(
            **{name: data[name] for name in names},
            confusion=data.get("confusion", {}),
            scored=scored,
            mean_over=data.get("mean_over", []),
            default=data.get("default", "running"),
            scored_weights=data.get("scored_weights", "model"),
        )


def adapted_to(step: Mapping[str, Any]) -> list[str]:
    """The targets that a stage has learned: one, which it is called after, or several together.

    Args:
        step: one of `Results.steps`.
    """
    return list(step.get("targets") or [step["name"]])


def stage_names(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The name of every stage; where a domain comes back, with its number: ``city, step 4``.

    Args:
        steps: `Results.steps`.
    """
    names: list[str] = []
    met: set[str] = set()
    for step in steps:
        name = step["name"]
        names.append(f"{name}, step {step['step']}" if name in met else name)
        met.add(name)
    return names


def row_titles(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tables call the rows of stages: ``city``, ``city, 8 labels`` or ``city, no source``.

    See `stage_names` of what comes back.

    Args:
        steps: `Results.steps`.
    """
    titles = []
    for name, step in zip(stage_names(steps), steps, strict=True):
        parts = [name]
        if step.get("labelled"):
            parts.append(counted_labels(step["labelled"]))
        if step.get("without_source"):
            parts.append("no source")
        titles.append(", ".join(parts))
    return titles


def counted_labels(count: int) -> str:
    """``8 labels``, ``1 label``."""
    return "1 label" if count == 1 else f"{count} labels"


def best_row(results: Results, statistics: str) -> int:
    """Which row of the matrix has the highest mean over its domains."""
    rows = [[value for value in row if value is not None] for row in results.matrix(statistics)]
    means = [sum(row) / len(row) if row else -1.0 for row in rows]
    return max(range(len(means)), key=means.__getitem__)
