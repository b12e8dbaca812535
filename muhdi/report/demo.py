"""The page that a demo ends with: before, sequential and kept, in pictures, a table, a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from muhdi.errors import MuhdiError
from muhdi.report.helped import none_scored
from muhdi.report.page import legend, write_page
from muhdi.report.result_table import Cell, ResultTable, known_values, spread, text, with_statistics
from muhdi.report.run_files import RunData, embedded, samples_of
from muhdi.report.significance import NOISE

BEFORE = "before"
"""The arm that no run is trained for: the source's network as it is."""
ROWS = 3
"""Rows of pictures."""

Arms = Mapping[str, Sequence[RunData]]
"""Runs by what the page calls them, the same seeds in the same order; all began with one source."""


@dataclass(frozen=True)
class Demo:
    """What a demo ends with."""

    page: Path
    table: ResultTable
    sentence: str


@dataclass(frozen=True)
class Picture:
    """One picture of a row.

    Attributes:
        title: what is above it: the image, an arm, or the label.
        score: the arm's mIoU on the domain; empty where there is none.
        file: to show.
        is_photo: whether it is the image itself.
    """

    title: str
    score: str
    file: Path
    is_photo: bool


@dataclass(frozen=True)
class PictureRow:
    """The pictures of one sample of a domain."""

    domain: str
    pictures: list[Picture]


def write_demo(out: Path, arms: Arms, statistics: str) -> Demo:
    """Write the page.

    Args:
        out: the file.
        arms: two or more, in the order of the page, which starts with `BEFORE`.
        statistics: the normalisation statistics.

    Raises:
        MuhdiError: the runs kept no samples.
    """
    first = next(iter(arms.values()))[0]
    table = demo_table(arms, statistics)
    sentence = demo_sentence(arms, statistics)
    rows = picture_rows(arms, statistics)
    images = {}
    for row in rows:
        for picture in row.pictures:
            images[picture.file] = embedded(picture.file, photo=picture.is_photo)
    write_page(
        out,
        "demo.html.j2",
        title=f"{BEFORE.capitalize()}, {', '.join(arms)}",
        stages=[first.results.source, *first.stages[1:]],
        sentence=sentence,
        table=table,
        unlabelled=any(not is_scored(first, statistics, name) for name in first.results.domains),
        rows=rows,
        images=images,
        legend=legend(first.recipe.class_set()),
        retentions={name: runs[0].recipe.steps[-1].retention.key for name, runs in arms.items()},
        runs={name: runs[0].folder for name, runs in arms.items()},
        seeds=[run.results.seed for run in next(iter(arms.values()))],
    )
    return Demo(out, table, sentence)


# --- the table ------------------------------------------------------------------------------------


def demo_table(arms: Arms, statistics: str) -> ResultTable:
    """A row for `BEFORE` and for each arm; mean and deviation over the seeds.

    A domain with labels has its mIoU. One without has how sure the network is, and how many of its
    pixels changed class since the source's network: that can be known.
    """
    first_runs = next(iter(arms.values()))
    header = ["", *_columns(first_runs[0], statistics)]
    averages = any(_target_scores(first_runs[0], statistics, -1))
    rows: list[list[Cell]] = [[BEFORE, *_cells(first_runs, statistics, 0)]]
    rows += [[name, *_cells(runs, statistics, -1)] for name, runs in arms.items()]
    title = f"In percent, {with_statistics(statistics)}"
    if not averages:
        return ResultTable(title, header, rows)
    header += ["targets", "forgotten"]
    rows[0] += [_average(first_runs, statistics, 0), None]
    for row, runs in zip(rows[1:], arms.values(), strict=True):
        forgotten = [run.results.summary(statistics).forgetting for run in runs]
        row += [_average(runs, statistics, -1), spread(forgotten)]
    return ResultTable(f"mIoU in percent, {with_statistics(statistics)}", header, rows)


def _columns(run: RunData, statistics: str) -> list[str]:
    names = []
    for domain in run.results.domains:
        if is_scored(run, statistics, domain):
            names.append(domain)
        else:
            names += [f"{domain}: sure", f"{domain}: changed"]
    return names


def is_scored(run: RunData, statistics: str, domain: str) -> bool:
    """Whether a domain has scores after the last stage."""
    ((score,),) = run.results.matrix(statistics, [domain])[-1:]
    return score is not None


def _cells(runs: Sequence[RunData], statistics: str, stage: int) -> list[Cell]:
    """What is known of every domain after a stage: 0 or -1."""
    cells: list[Cell] = []
    for domain in runs[0].results.domains:
        if is_scored(runs[0], statistics, domain):
            cells.append(
                spread([run.results.matrix(statistics, [domain])[stage][0] for run in runs])
            )
            continue
        changes = [change_of(run, statistics, domain) for run in runs]
        moment = "after" if stage else "before"
        cells.append(spread([change.get(f"confidence_{moment}") for change in changes]))
        cells.append(spread([changed(change) for change in changes]) if stage else None)
    return cells


def change_of(run: RunData, statistics: str, domain: str) -> Mapping[str, float]:
    """What the steps changed on a domain; empty where it was not measured."""
    for row in run.change:
        if row["statistics"] == statistics and row["domain"] == domain:
            return row
    return {}


def changed(change: Mapping[str, float]) -> float | None:
    """Share of the pixels that have another class than before, in percent."""
    return 100 - change["agreement"] if "agreement" in change else None


def _target_scores(run: RunData, statistics: str, stage: int) -> list[float]:
    return known_values(run.results.matrix(statistics, run.results.targets)[stage])


def _average(runs: Sequence[RunData], statistics: str, stage: int) -> Cell:
    """The mean over the targets that have labels."""
    return spread([mean(_target_scores(run, statistics, stage)) for run in runs])


# --- the sentence ---------------------------------------------------------------------------------


def demo_sentence(arms: Arms, statistics: str) -> str:
    """One sentence with the numbers, which claims no more than they say."""
    runs = next(iter(arms.values()))
    results = runs[0].results
    scored = [name for name in results.targets if is_scored(runs[0], statistics, name)]
    if not scored:
        parts = []
        for name, own in arms.items():
            shares = [changed(change_of(own[0], statistics, target)) for target in results.targets]
            known = known_values(shares)
            if known:
                parts.append(f"{name} {mean(known):.1f} %")
        told = f" (pixels that changed class: {', '.join(parts)})" if parts else ""
        why = none_scored(runs[0], statistics)
        return f"{why}, so no number says whether it helped: look at the pictures{told}."
    parts = [f"{text(_average(runs, statistics, 0))} before"]
    for name, own in arms.items():
        parts.append(f"{text(_average(own, statistics, -1))} {name}{_forgotten(own, statistics)}")
    seeds = "one seed" if len(runs) == 1 else f"{len(runs)} seeds"
    return (
        f"Mean mIoU on {', '.join(scored)}: {'; '.join(parts)} ({seeds}; differences under {NOISE}"
        " points are noise)."
    )


def _forgotten(runs: Sequence[RunData], statistics: str) -> str:
    """What an arm has forgotten, or gained after its step; empty where there was only one step."""
    values = [run.results.summary(statistics).forgetting for run in runs]
    known = known_values(values)
    if len(known) < len(values):
        return ""
    points = mean(known)
    what = "gained since" if points < 0 else "forgotten"
    return f" and {abs(points):.1f} points {what}"


# --- the pictures ---------------------------------------------------------------------------------


def picture_rows(arms: Arms, statistics: str) -> list[PictureRow]:
    """`ROWS` samples of the targets, of the runs of the first seed; each target comes first once.

    Raises:
        MuhdiError: the runs kept no samples.
    """
    first = next(iter(arms.values()))[0]
    samples = {name: samples_of(run[0]) for name, run in arms.items()}
    shown = samples[next(iter(arms))]
    most = max((len(found) for found in shown.values()), default=0)
    wanted = [(target, i) for i in range(most) for target in first.results.targets]
    known = [(target, i) for target, i in wanted if i < len(shown.get(target, []))]
    if not known:
        raise MuhdiError(
            "evaluation.samples: no predictions were kept, so there is no picture; set it to 1 or"
            " more"
        )
    rows = []
    for target, number in sorted(
        known[:ROWS], key=lambda item: first.results.targets.index(item[0])
    ):
        files = {name: found[target][number] for name, found in samples.items()}
        rows.append(PictureRow(target, _pictures(arms, statistics, target, files)))
    return rows


def _pictures(
    arms: Arms, statistics: str, domain: str, files: Mapping[str, Mapping[str, Path]]
) -> list[Picture]:
    """The image, `BEFORE`, every arm, and the label, as far as they were kept."""
    first = next(iter(arms))
    last = len(arms[first][0].results.steps) - 1
    found = [("image", "", files[first].get("image"))]
    score = _score(arms[first][0], statistics, domain, 0)
    found.append((BEFORE, score, files[first].get(f"0:{statistics}")))
    for name, runs in arms.items():
        score = _score(runs[0], statistics, domain, -1)
        found.append((name, score, files[name].get(f"{last}:{statistics}")))
    found.append(("label", "", files[first].get("label")))
    pictures = []
    for title, told, file in found:
        if file is not None:
            pictures.append(Picture(title, told, file, is_photo=title == "image"))
    return pictures


def _score(run: RunData, statistics: str, domain: str, stage: int) -> str:
    """The mIoU of a run on a domain, as the picture's caption."""
    (score,) = run.results.matrix(statistics, [domain])[stage]
    return "" if score is None else f"{score:.1f}"
