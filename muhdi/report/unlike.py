"""Whether runs were scored on the same images, in the same way."""

from __future__ import annotations

from collections.abc import Sequence

from muhdi.report.run_files import RunData

_SHOWN = 3
"""Runs that a line names."""
_IMAGES = "images or what their labels mean"
"""What the digest of a domain's files is of."""


def unlike(runs: Sequence[RunData]) -> list[str]:
    """A line for everything in which the scores of runs cannot be compared; none: they can be.

    What an older run did not record is taken from its recipe, or left out.
    """
    lines = []
    for domain in runs[0].results.domains:
        for what, values in _by_aspect(runs, domain).items():
            line = _difference(f"{domain}: the {what}", values)
            if line:
                lines.append(line)
    weights = {run.folder.name: run.results.scored_weights for run in runs}
    lines.append(_difference("the weights that were scored", weights))
    means = {}
    meanings = {}
    for run in runs:
        means[run.folder.name] = _mean_of(run)
        meanings[run.folder.name] = _meaning(run)
    lines.append(_difference("the classes of the mean", means))
    lines.append(_difference("what a class that no label holds counts", meanings))
    return [line for line in lines if line]


def _by_aspect(runs: Sequence[RunData], domain: str) -> dict[str, dict[str, str]]:
    """What was scored of a domain, by aspect and run; empty texts are not known."""
    found: dict[str, dict[str, str]] = {}
    for run in runs:
        name = run.folder.name
        images = run.results.scored.get(domain)
        size = run.recipe.evaluation.size
        text = "the labels' own" if size is None else f"{size[0]}x{size[1]}"
        found.setdefault("size of the labels", {})[name] = text
        if images is None:
            continue
        found.setdefault(_IMAGES, {})[name] = images.content and _named(run, domain)
        found.setdefault("number of images", {})[name] = str(images.images)
        found.setdefault("input size", {})[name] = images.input_size
        found.setdefault("fit", {})[name] = images.fit
        found.setdefault("views", {})[name] = images.views or "the whole image at once"
    contents = {run.results.scored[domain].content for run in runs if domain in run.results.scored}
    if len(contents - {""}) < 2:
        found.pop(_IMAGES, None)  # copies of one data set
    return found


def _mean_of(run: RunData) -> str:
    """The classes over which a run's mean goes."""
    classes = list(run.recipe.class_set().classes)
    chosen = list(run.recipe.evaluation.mean_over) or classes
    names = ", ".join(chosen)
    return f"all classes ({names})" if chosen == classes else names


def _named(run: RunData, domain: str) -> str:
    """The folder of a domain's images, with the start of their digest."""
    images = run.results.scored[domain]
    return f"those in {images.root} ({images.content[:8]})"


def _meaning(run: RunData) -> str:
    """How a run counted a class that a domain's labels never hold."""
    for step in run.results.steps:
        for row in step["scores"].values():
            for entry in row.values():
                if "iou" in entry:
                    return "nothing" if "absent" in entry else "0 where it was predicted"
    return ""


def _difference(what: str, values: dict[str, str]) -> str:
    """A line if not all known values are equal: each of them with the first run that has it."""
    first: dict[str, str] = {}
    for run, value in values.items():
        if value:
            first.setdefault(value, run)
    if len(first) < 2:
        return ""
    shown = [f"{value} in {run}" for value, run in list(first.items())[:_SHOWN]]
    return f"the runs differ in {what}: {'; '.join(shown)}"
