"""What the terminal shows: tables that fit it, a sentence of what was reached, the list of runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from muhdi.evaluation.results import Results
from muhdi.report.reached import reached
from muhdi.report.result_table import ResultTable, Spread

DOMAINS = ["sim", "city", "dust", "night"]
ARMS = ["scenes_none", "scenes_selftrain", "scenes_selftrain_distill", "scenes_selftrain_muhdi"]


def shown(table: ResultTable, width: int) -> list[str]:
    output = io.StringIO()
    Console(file=output, width=width, force_terminal=False).print(table.terminal())
    return output.getvalue().splitlines()


def arms() -> ResultTable:
    header = ["arm", *DOMAINS, "target average", "forgetting"]
    rows = [[arm, *(Spread(40.0 + i, 1.25, 3) for i in range(6))] for arm in ARMS]
    return ResultTable("After the last step", header, rows)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_table_fits_and_no_cell_is_cut(width: int) -> None:
    lines = shown(arms(), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text.replace("scenes_…", "")
    for arm in ARMS:
        assert (arm if width == 120 else arm.removeprefix("scenes_")) in text
    for value in range(6):
        assert text.count(f"4{value}.0 ± 1.2") == len(ARMS)


def test_a_wide_terminal_shows_the_table_as_it_is() -> None:
    assert "│ scenes_none " in "\n".join(shown(arms(), 120))
    narrow = shown(arms(), 100)
    assert narrow[0].rstrip() == "After the last step; scenes_…"
    assert any("│ selftrain_muhdi " in line or " selftrain_muhdi ┃" in line for line in narrow)


def test_domains_without_labels_are_a_line_and_no_dashes() -> None:
    rows: list[list] = [["source", 70.0, "unlabelled", None], ["city", 71.0, "unlabelled", None]]
    lines = shown(ResultTable("t", ["after", "sim", "city", "night"], rows), 60)
    assert lines[-1] == "no score, since unlabelled or not measured: city, night"
    assert not any("- │" in line or "unlabelled │" in line for line in lines)


# --- what was reached -----------------------------------------------------------------------------


def results(*rows: dict[str, float | None], statistics: str = "running") -> Results:
    """Scores after each stage; None: the domain has no labels."""
    names = list(rows[0])
    made = Results("r", 0, names[0], names, names[1:], list(range(1, len(names))))
    for stage, row in enumerate(rows):
        entries = {
            name: {"miou": None, "reason": "unlabelled"}
            if value is None
            else {"miou": value, "iou": {}, "images": 2}
            for name, value in row.items()
        }
        made.add("source" if not stage else names[stage], {statistics: entries})
    return made


@pytest.mark.parametrize(
    ("found", "sentences"),
    [
        (
            results({"sim": 70.0, "city": 20.0}, {"sim": 68.0, "city": 32.0}),
            "mIoU on city rose from 20.0 to 32.0 (+12.0) with running statistics; one seed."
            " sim went from 70.0 to 68.0.",
        ),
        (
            results({"sim": 70.0, "city": 20.0}, {"sim": 70.0, "city": 19.0}),
            "mIoU on city fell from 20.0 to 19.0 (-1.0, less than the 1.5 points that count) with"
            " running statistics; one seed. sim went from 70.0 to 70.0.",
        ),
        (
            results({"sim": 70.0, "city": None}, {"sim": 68.0, "city": None}),
            "city has no labels, so no score: the page shows predictions before and after. sim went"
            " from 70.0 to 68.0.",
        ),
        (
            results({"sim": 70.0, "city": 20.0}),
            "mIoU on sim is 70.0 with running statistics; nothing is adapted yet.",
        ),
        (results({"sim": None, "city": None}), "Nothing was scored: no domain has labels."),
        (Results("r", 0, "sim", ["sim"], [], []), "No stage is finished yet."),
    ],
    ids=["rose", "noise", "unlabelled", "source", "nothing", "empty"],
)
def test_what_was_reached_is_said_in_words(found: Results, sentences: str) -> None:
    assert reached(found, "running") == sentences


# --- runs -----------------------------------------------------------------------------------------


def test_runs_are_listed_with_their_state(muhdi, trained: Path) -> None:
    folder = trained.parent
    for name, lock in (("a_new", False), ("at_work", True)):
        (folder / name).mkdir()
        (folder / name / "recipe.yml").write_text((trained / "recipe.yml").read_text())
        if lock:
            held = FileLock(folder / name / ".lock")
            held.acquire()
    (folder / "broken").mkdir()
    (folder / "broken/recipe.yml").write_text("x: [")
    (folder / "broken/results.json").write_text("{")
    status, output, errors = muhdi("runs", folder)
    held.release()
    assert status == 0, errors
    rows = {line.split()[1]: line for line in output.splitlines() if line.startswith("│")}
    assert "finished" in rows[trained.name]
    assert "stopped, nothing is scored yet" in rows["a_new"]
    assert "running, nothing is scored yet" in rows["at_work"]
    assert "cannot be read" in rows["broken"]
    assert "note: " in output
    assert output.splitlines()[-1] == "1 of 4 runs are finished."


@pytest.mark.parametrize(
    ("make", "message"),
    [(False, "there is no such folder"), (True, "holds no run")],
)
def test_a_folder_without_runs_is_one_line(muhdi, tmp_path: Path, make: bool, message: str) -> None:
    if make:
        (tmp_path / "empty").mkdir()
    status, _, errors = muhdi("runs", tmp_path / "empty")
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1
