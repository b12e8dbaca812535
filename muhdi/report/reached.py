"""What a run has reached, in a sentence or two that claim no more than its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from muhdi.evaluation.results import Results
from muhdi.report.result_table import text, with_statistics
from muhdi.report.significance import NOISE


def before_and_after(results: Results, statistics: str) -> dict[str, tuple[float, float]]:
    """Scores in percent of the source's network and of the last one, by domain, where both are."""
    matrix = results.matrix(statistics)
    found = {}
    for domain, before, after in zip(results.domains, matrix[0], matrix[-1], strict=True):
        if before is not None and after is not None:
            found[domain] = (before, after)
    return found


def reached(results: Results, statistics: str, *, with_page: bool = True) -> str:
    """What became of the targets and of the source.

    Args:
        results: of a run, finished or not.
        statistics: the normalisation statistics.
        with_page: whether the reader has the report's page to look at.
    """
    if not results.steps:
        return "No stage is finished yet."
    how = with_statistics(statistics)
    scores = before_and_after(results, statistics)
    adapted = len(results.steps) - 1
    met = [
        target
        for target, step in zip(results.targets, results.adapted_at, strict=True)
        if step <= adapted
    ]
    sentences = []
    if met:
        sentences += _of_targets({name: scores[name] for name in met if name in scores}, how)
        sentences += _of_unlabelled(results, met, with_page=with_page)
        sentences += _of_source(results.source, scores)
        summary = results.summary(statistics)
        if summary.forgetting is not None:
            lost = f"Forgetting: {text(summary.forgetting)} points"
            if summary.before_return is not None:
                lost += f", lost before a return: {text(summary.before_return)}"
            sentences.append(f"{lost}.")
        sentences += _of_other_statistics(results, statistics)
    elif results.source in scores:
        score = text(scores[results.source][1])
        sentences.append(f"mIoU on {results.source} is {score} {how}; nothing is adapted yet.")
    return " ".join(sentences) or "Nothing was scored: no domain has labels."


def _of_targets(scores: Mapping[str, tuple[float, float]], how: str) -> list[str]:
    if not scores:
        return []
    before = mean(pair[0] for pair in scores.values())
    after = mean(pair[1] for pair in scores.values())
    names = ", ".join(scores)
    if text(before) == text(after):
        return [f"mIoU on {names} stayed at {text(after)} {how}; one seed."]
    verb = "rose" if after > before else "fell"
    change = float(text(after)) - float(text(before))  # of what is shown
    doubt = f", less than the {NOISE} points that count" if abs(after - before) < NOISE else ""
    return [
        f"mIoU on {names} {verb} from {text(before)} to {text(after)} ({change:+.1f}{doubt}) {how};"
        " one seed."
    ]


def _of_unlabelled(results: Results, met: Sequence[str], *, with_page: bool) -> list[str]:
    entries = results.steps[-1]["scores"][results.main_statistics]
    unlabelled = [name for name in met if entries.get(name, {}).get("reason") == "unlabelled"]
    if not unlabelled:
        return []
    have = "has" if len(unlabelled) == 1 else "have"
    page = ": the page shows predictions before and after" if with_page else ""
    return [f"{', '.join(unlabelled)} {have} no labels, so no score{page}."]


def _of_source(source: str, scores: Mapping[str, tuple[float, float]]) -> list[str]:
    if source not in scores:
        return []
    before, after = scores[source]
    return [f"{source} went from {text(before)} to {text(after)}."]


def _of_other_statistics(results: Results, statistics: str) -> list[str]:
    """Statistics with which the targets' average is higher by more than the noise."""
    own = results.summary(statistics).average
    averages = {other: results.summary(other).average for other in results.statistics}
    known = {other: value for other, value in averages.items() if value is not None}
    best = max(known, key=lambda other: known[other], default=statistics)
    if own is None or known[best] <= own + NOISE:
        return []
    return [f"With {best} statistics the targets' average is {text(known[best])}."]
