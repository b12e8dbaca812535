"""Did it help? Each domain before the steps and after them, with labels or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from muhdi.evaluation.results import row_titles
from muhdi.report.label_free import (
    before_and_after,
    gone_wrong,
    measure_rows,
    unlabelled,
    warning,
)
from muhdi.report.result_table import ResultTable, with_statistics
from muhdi.report.run_files import RunData
from muhdi.report.significance import NOISE

PICTURES = 2
"""Samples of each domain that are shown at once; the viewer has all."""
FEW_SHARES = 8
"""Classes whose shares are shown, those that changed most first."""

Change = Mapping[str, Any]
"""A row of ``change.json``."""


@dataclass(frozen=True)
class Share:
    """A class's share of all predicted pixels, in percent."""

    name: str
    colour: str
    before: float
    after: float


@dataclass(frozen=True)
class Picture:
    """One of the images of a sample: its index among the viewer's images, and what it shows."""

    title: str
    alt: str
    index: int


@dataclass(frozen=True)
class DomainChange:
    """A domain before and after.

    Attributes:
        name: of the domain.
        sentence: what is to be said of it.
        measures: mIoU, confidence and agreement, as far as they are known; without labels, the
            scores that need none.
        warning: what says that an adaptation without labels went wrong; empty where nothing does.
        shares: of the classes that changed most; without labels, of all.
        pictures: a row for each sample.
    """

    name: str
    sentence: str
    measures: ResultTable | None
    warning: str = ""
    shares: list[Share] = field(default_factory=list)
    pictures: list[list[Picture]] = field(default_factory=list)


@dataclass(frozen=True)
class Helped:
    """The answer of the whole page, and of each domain: targets first, the source last."""

    sentence: str
    domains: list[DomainChange]


def helped(run: RunData, statistics: str, viewer: Mapping[str, Any]) -> Helped:
    """What the steps of a run changed.

    Args:
        run: of the report.
        statistics: the normalisation statistics.
        viewer: the page's images, of `muhdi.report.page.viewer`.
    """
    results = run.results
    if len(results.steps) < 2:
        done = row_titles(results.steps)[-1]
        return Helped(f"Only {done} was evaluated so far; there is nothing to compare it with.", [])
    others = [name for name in results.domains if name not in results.targets]
    # What was adapted to comes first; the source and further domains show what that cost.
    order = [*results.targets, *reversed(others)]
    domains = [_domain(run, statistics, name, viewer) for name in order]
    return Helped(_overall(run, statistics), domains)


def _overall(run: RunData, statistics: str) -> str:
    """One sentence on all targets."""
    results = run.results
    pairs = []
    for target in results.targets:
        before, after = _scores(run, statistics, target)
        if before is not None and after is not None:
            pairs.append((before, after))
    count = len(results.targets)
    if not pairs:
        return (
            f"{none_scored(run, statistics)}, so no number says whether it helped: look at the"
            " pictures, and at what changed."
        )
    of = "the target" if count == 1 else f"{len(pairs)} of {count} targets"
    moved = _moved(mean(before for before, _ in pairs), mean(after for _, after in pairs))
    return f"On {of}, the mean mIoU {moved}; one seed, so no interval."


def none_scored(run: RunData, statistics: str) -> str:
    """Why no target has a score before and after."""
    last = run.results.steps[-1]["scores"][statistics]
    if all(last.get(name, {}).get("reason") == "unlabelled" for name in run.results.targets):
        return "No target has labels"
    return f"No target has scores before and after {with_statistics(statistics)}"


def _moved(before: float, after: float) -> str:
    """How a score moved; the change is that of the rounded numbers, which the reader sees."""
    change = round(after, 1) - round(before, 1)
    if not round(change, 1):
        return f"stayed at {after:.1f}"
    verb = "rose" if change > 0 else "fell"
    noise = ""
    if abs(change) < NOISE:
        noise = f" (under {NOISE} points, which is within the noise)"
    return f"{verb} from {before:.1f} to {after:.1f}, {change:+.1f}{noise}"


def _domain(run: RunData, statistics: str, name: str, viewer: Mapping[str, Any]) -> DomainChange:
    change = _change_of(run, statistics, name)
    return DomainChange(
        name,
        domain_sentence(run, statistics, name, change),
        _measures(run, statistics, name, change),
        _warning(run, statistics, name),
        _shares(run, statistics, name, change),
        _pictures(run, statistics, name, viewer),
    )


def _change_of(run: RunData, statistics: str, name: str) -> Change:
    for row in run.change:
        if row["statistics"] == statistics and row["domain"] == name:
            return row
    return {}


def _scores(run: RunData, statistics: str, name: str) -> tuple[float | None, float | None]:
    """The mIoU before the first step and after the last one."""
    column = [row[0] for row in run.results.matrix(statistics, [name])]
    return column[0], column[-1]


def domain_sentence(run: RunData, statistics: str, name: str, change: Change) -> str:
    """What is to be said of a domain."""
    entry = run.results.steps[-1]["scores"][statistics].get(name, {})
    before, after = _scores(run, statistics, name)
    if before is not None and after is not None:
        count = f" ({entry['images']} labelled images)" if "images" in entry else ""
        return f"On {name}{count} mIoU {_moved(before, after)}; one seed, so no interval."
    if entry.get("reason") == "unlabelled":
        start = f"{name} has no labels"
    elif after is not None:
        start = f"{name} reached {after:.1f} mIoU, and has no score from before"
    else:
        start = f"{name} has no score {with_statistics(statistics)}"
    if "agreement" not in change:
        return f"{start}; how its predictions changed was not measured."
    changed = 100 - change["agreement"]
    return f"{start}: {changed:.1f} % of the pixels changed class; look at the pictures."


def _measures(run: RunData, statistics: str, name: str, change: Change) -> ResultTable | None:
    """What is known before and after."""
    rows: list[list[Any]] = []
    before, after = _scores(run, statistics, name)
    if before is not None and after is not None:
        rows.append(["mIoU", before, after, f"{round(after, 1) - round(before, 1):+.1f}"])
    if "confidence_before" in change and "confidence_after" in change:
        sure = (change["confidence_before"], change["confidence_after"])
        difference = round(sure[1], 1) - round(sure[0], 1)
        rows.append(["confidence", *sure, f"{difference:+.1f}"])
    if name in unlabelled(run.results, statistics):
        rows += measure_rows(*before_and_after(run.results, statistics, name))
    if not rows:
        return None
    return ResultTable(f"{name}, in percent", ["", "before", "after", "change"], rows)


def _warning(run: RunData, statistics: str, name: str) -> str:
    """What says that an adaptation without labels went wrong."""
    before, after = before_and_after(run.results, statistics, name)
    if name not in unlabelled(run.results, statistics) or before is None or after is None:
        return ""
    return warning(name, gone_wrong(before, after))


def _shares(run: RunData, statistics: str, name: str, change: Change) -> list[Share]:
    """The shares of the classes, in their order: those that changed most, or without labels all."""
    classes = run.recipe.class_set()
    columns = (classes.classes, classes.hex_colours())
    before, after = before_and_after(run.results, statistics, name)
    if name in unlabelled(run.results, statistics) and before is not None and after is not None:
        pairs = (before["shares"].values(), after["shares"].values())
        return [Share(*values) for values in zip(*columns, *pairs, strict=True)]
    if "shares_before" not in change or "shares_after" not in change:
        return []
    pairs = (change["shares_before"], change["shares_after"])
    found = [Share(*values) for values in zip(*columns, *pairs, strict=True)]
    by_change = sorted(found, key=lambda share: -abs(share.after - share.before))
    kept = by_change[:FEW_SHARES]
    return [share for share in found if share in kept]


def _pictures(
    run: RunData, statistics: str, name: str, viewer: Mapping[str, Any]
) -> list[list[Picture]]:
    """The first samples: the image, its label if it has one, and both predictions."""
    last = len(run.results.steps) - 1
    keys = {
        "image": "image",
        "before": f"0:0:{statistics}",
        "after": f"0:{last}:{statistics}",
        "label": "label",
    }
    rows = []
    for number, sample in enumerate(viewer["domains"].get(name, [])[:PICTURES], 1):
        row = []
        for title, key in keys.items():
            if key in sample:
                what = {"image": "the image", "label": "its label"}.get(
                    title, f"classes predicted {title} the steps"
                )
                alt = f"{name}, sample {number}: {what}"
                row.append(Picture(title, alt, sample[key]))
        rows.append(row)
    return rows
