"""What can be said of a domain without labels: scores before and after, and signs of a failure."""

from __future__ import annotations

from collections.abc import Sequence

from muhdi.evaluation.results import LABEL_FREE, Entry, LabelFree, Results
from muhdi.report.result_table import Cell, ResultTable, statistics_title, text

NAMES = {
    "entropy": "entropy",
    "mutual_information": "mutual information",
    "mirror_agreement": "agreement with mirror images",
    "previous_agreement": "agreement with the stage before",
}
"""What tables call the scores of `LABEL_FREE`."""

NOTICED = 1.0
"""Percent of the pixels. A class of fewer comes and goes with single images."""
VANISHED = 0.1
"""A class that keeps less than this of its share is gone: where only its borders move, as in a
better prediction, most of it stays."""
COLLAPSED = 0.5
"""Self-training and entropy minimisation lower the entropy on purpose; by more than half it needs a
second look."""
FELL = 2.0
"""Points of agreement with mirror images. A network that has learned the domain becomes surer and
steadier; one that is surer and less steady by more than chance has learned its own mistakes."""


def before_and_after(
    results: Results, statistics: str, domain: str
) -> tuple[LabelFree | None, LabelFree | None]:
    """A domain's scores after the first stage and after the last one; None where there are none."""
    rows = [results.steps[number]["scores"].get(statistics, {}) for number in (0, -1)]
    before, after = (row.get(domain, {}).get("label_free") for row in rows)
    return (before if len(results.steps) > 1 else None), after


def unlabelled(results: Results, statistics: str) -> list[str]:
    """The targets without labels, of those that were adapted to, that have other scores."""
    if not results.steps:
        return []
    row = results.steps[-1]["scores"].get(statistics, {})
    adapted = len(results.steps) - 1
    found = []
    for target, step in zip(results.targets, results.adapted_at, strict=True):
        entry = row.get(target, {})
        if step <= adapted and has_other_scores_alone(entry):
            found.append(target)
    return found


def has_other_scores_alone(entry: Entry) -> bool:
    """Whether a domain has no labels, but scores that need none."""
    return entry.get("reason") == "unlabelled" and "label_free" in entry


def gone_wrong(before: LabelFree, after: LabelFree) -> list[str]:
    """What in the numbers says that an adaptation went wrong; empty where nothing does.

    Args:
        before: scores of a domain.
        after: of the same images, by a later network.
    """
    signs = []
    for name, share in before["shares"].items():
        left = after["shares"].get(name, 0.0)
        if share > NOTICED and left < VANISHED * share:
            signs.append(
                f"{name} vanished ({text(share)} % of the pixels before, {text(left)} now)"
            )
    sure = (before["entropy"], after["entropy"])
    steady = (before["mirror_agreement"], after["mirror_agreement"])
    if None in steady or sure[1] >= COLLAPSED * sure[0]:
        return signs
    if steady[1] < steady[0] - FELL:
        signs.append(
            f"entropy collapsed ({text(sure[0])} to {text(sure[1])}) while agreement with mirror"
            f" images fell ({text(steady[0])} to {text(steady[1])})"
        )
    return signs


def warning(domain: str, signs: Sequence[str]) -> str:
    """The line that tells the user; empty without a sign."""
    if not signs:
        return ""
    return f"warning: {domain}: adaptation seems to have gone wrong: {'; '.join(signs)}"


def sentence(results: Results, statistics: str, domain: str) -> str:
    """What the scores of an unlabelled domain say."""
    before, after = before_and_after(results, statistics, domain)
    if before is None or after is None:
        return f"{domain} has no labels, and nothing from before to compare with."
    signs = gone_wrong(before, after)
    if signs:
        return f"{warning(domain, signs)}; look at the pictures."
    return (
        f"{domain} has no labels: nothing here says that adaptation went wrong, and no number says"
        " how good it is."
    )


def stage_warnings(results: Results, statistics: str) -> list[str]:
    """A line for each unlabelled domain that the newest stage has harmed."""
    if len(results.steps) < 2:
        return []
    old, new = (step["scores"].get(statistics, {}) for step in results.steps[-2:])
    lines = []
    for domain, entry in new.items():
        if has_other_scores_alone(entry) and "label_free" in old.get(domain, {}):
            signs = gone_wrong(old[domain]["label_free"], entry["label_free"])
            lines.append(warning(domain, signs))
    return [line for line in lines if line]


def measure_rows(before: LabelFree | None, after: LabelFree | None) -> list[list[Cell]]:
    """Name, before, after and change of every score that is known."""
    rows: list[list[Cell]] = []
    for key in LABEL_FREE:
        row = _row(NAMES[key], _value(before, key), _value(after, key))
        if row[1] is not None or row[2] is not None:
            rows.append(row)
    return rows


def _row(name: str, before: float | None, after: float | None) -> list[Cell]:
    if before is None or after is None:
        return [name, before, after, None]
    return [name, before, after, f"{round(after, 1) - round(before, 1):+.1f}"]


def label_free_table(results: Results, statistics: str, domain: str) -> ResultTable:
    """Scores and class shares of a domain before and after."""
    before, after = before_and_after(results, statistics, domain)
    rows = measure_rows(before, after)
    old = {} if before is None else before["shares"]
    new = {} if after is None else after["shares"]
    for name in new:
        rows.append(_row(f"share of {name}", old.get(name), new[name]))
    title = f"{domain}, without labels, in percent, {statistics_title(statistics)}"
    return ResultTable(title, ["", "before", "after", "change"], rows)


def networks_table(results: Results, statistics: str, domain: str) -> ResultTable:
    """Scores of several networks on a domain without labels, a row each.

    Args:
        results: with a row per network.
        statistics: the normalisation statistics.
        domain: its name.
    """
    rows: list[list[Cell]] = []
    measured = [key for key in LABEL_FREE if key != "previous_agreement"]  # none came before
    for step in results.steps:
        scores = step["scores"][statistics][domain]["label_free"]
        rows.append([step["name"], *(scores[key] for key in measured)])
    title = f"{domain}, without labels, in percent, {statistics_title(statistics)}"
    return ResultTable(title, ["network", *(NAMES[key] for key in measured)], rows)


def without_labels(results: Results, statistics: str) -> list[str]:
    """The domains that have no labels and other scores, in every row."""
    rows = [step["scores"].get(statistics, {}) for step in results.steps]
    found = []
    for domain in results.domains:
        entries = [row.get(domain, {}) for row in rows]
        if entries and all(map(has_other_scores_alone, entries)):
            found.append(domain)
    return found


def _value(scores: LabelFree | None, key: str) -> float | None:
    return None if scores is None else scores[key]
