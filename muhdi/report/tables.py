"""Tables of results for the terminal, and what one may say about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from rich.console import Group
from rich.table import Table
from rich.text import Text

from muhdi.evaluation.results import Results


def number(value: float | None) -> str:
    """One decimal, or a dash where there is no value."""
    return "-" if value is None else f"{value:.1f}"


def spread(values: Sequence[float | None]) -> str:
    """Mean, and with several seeds the standard deviation; a dash where a value is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "-"
    return number(mean(known)) + (f" ± {stdev(known):.1f}" if len(known) > 1 else "")


def matrix_table(results: Results, kind: str, rows: str = "after") -> Group:
    """R[step][domain] of one run; of other rows, such as networks, also their mean. ``rows`` heads their names."""
    table = Table()
    title = f"{results.name}: mIoU in percent{' after each step' if rows == 'after' else ''}, {kind} statistics"
    table.add_column(rows)
    mean_too = rows != "after" and len(results.domains) > 1
    for domain in [*results.domains, *(["mean"] if mean_too else [])]:
        table.add_column(domain, justify="right")
    for step, row in zip(results.steps, results.matrix(kind), strict=True):
        cells = [
            number(value) if value is not None else _reason(step["scores"].get(kind, {}).get(domain, {}))
            for domain, value in zip(results.domains, row, strict=True)
        ]
        known = [value for value in row if value is not None]
        average = [number(mean(known) if known else None)] if mean_too else []
        table.add_row(step["name"], *cells, *average)
    return Group(Text(title), table)


def _reason(entry: Mapping[str, object]) -> str:
    return "unlabelled" if entry.get("reason") == "unlabelled" else "-"


def classes_table(results: Results, kind: str, row: int = -1) -> Group:
    """IoU per class of every scored domain, of one row of the matrix."""
    step = results.steps[row]
    scored = {d: e for d, e in step["scores"].get(kind, {}).items() if e["miou"] is not None}
    table = Table()
    title = f"IoU in percent per class of {step['name']}, {kind} statistics"
    table.add_column("class")
    for domain in scored:
        table.add_column(domain, justify="right")
    for name in next(iter(scored.values()))["iou"] if scored else ():
        table.add_row(name, *(number(entry["iou"][name]) for entry in scored.values()))
    return Group(Text(title), table)


def summary_line(results: Results, kind: str) -> str:
    """Average target mIoU and forgetting of one run."""
    summary = results.summary(kind)
    return (
        f"{kind} statistics: average target mIoU {number(summary.average)}, forgetting {number(summary.forgetting)}, "
        f"backward transfer {number(summary.backward)}, forward transfer {number(summary.forward)}"
    )


def arms_rows(arms: Mapping[str, Sequence[Results]], kind: str) -> tuple[list[str], list[list[str]]]:
    """Header and one row per arm: final mIoU per domain, target average, forgetting; mean and deviation over seeds."""
    first = next(iter(arms.values()))[0]
    rows = []
    for name, runs in arms.items():
        finals = [run.matrix(kind)[-1] for run in runs]
        summaries = [run.summary(kind) for run in runs]
        cells = [spread(column) for column in zip(*finals, strict=True)]
        rows.append([name, *cells, spread([s.average for s in summaries]), spread([s.forgetting for s in summaries])])
    return ["arm", *first.domains, "target average", "forgetting"], rows


def arms_table(arms: Mapping[str, Sequence[Results]], kind: str) -> Group:
    """`arms_rows` for the terminal."""
    table = Table()
    title = f"After the last step, {kind} statistics (mIoU in percent)"
    header, rows = arms_rows(arms, kind)
    for position, name in enumerate(header):
        table.add_column(name, justify="right" if position else "left")
    for row in rows:
        table.add_row(*row)
    return Group(Text(title), table)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
