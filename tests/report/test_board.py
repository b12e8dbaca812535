"""The table that shows how far a sweep is."""

from __future__ import annotations

import io

import pytest

from muhdi.report.board import Board, LiveBoard, RunState
from muhdi.run.progress import Screen

STATES = {
    "waiting": RunState("waiting"),
    "37 %": RunState("training", 37),
    "48.3": RunState("done", 100, 48.31),
    "done": RunState("done", 100),
    "failed": RunState("failed"),
}
REASON = "the run ended with status 2: data/day/0017.png: cannot be read, since it ends early"


def board(arms: int = 3, seeds: int = 3) -> Board:
    rows = {}
    states = list(STATES.values())
    for number in range(arms):
        rows[f"scenes2_selftrain_arm{number}"] = {
            seed: states[(number + seed) % len(states)] for seed in range(seeds)
        }
    return Board(rows, 100, 400, {"scenes2_selftrain_arm2_seed2": REASON})


def drawn(shown: Board, height: int = 40) -> list[str]:
    """Lines of a terminal of 80 columns."""
    file = io.StringIO()
    screen = Screen(file=file, force_terminal=True, color_system=None, width=80, height=height)
    live = LiveBoard(screen)
    live.show(shown)
    live.stop()
    return file.getvalue().split("\x1b[?25l")[1].split("\x1b[?25h")[0].splitlines()


def test_cells_say_how_far_runs_are() -> None:
    assert {state.text(): state for state in STATES.values()} == STATES
    text = "\n".join(drawn(board()))
    assert all(word in text for word in STATES)
    assert "5 of 9 runs are done, 2 train, 1 failed" in text
    assert "arm2_seed2: the run ended with status 2" in text


@pytest.mark.parametrize(("arms", "seeds"), [(3, 3), (3, 12), (12, 5)])
def test_it_fits_eighty_columns(arms: int, seeds: int) -> None:
    assert max(map(len, drawn(board(arms, seeds)))) <= 80


def test_a_low_terminal_shows_what_trains() -> None:
    rows = {f"arm{number}": {1: RunState("waiting")} for number in range(30)}
    rows["arm29"] = {1: RunState("training", 5)}
    lines = drawn(Board(rows, 0, 1, {}), height=12)
    assert len(lines) < 12
    assert "(25 more arms)" in lines[0]
    assert any("arm29" in line for line in lines)


def test_without_a_terminal_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, *[20.0] * 5])
    monkeypatch.setattr("muhdi.report.board.time.monotonic", lambda: next(now))
    file = io.StringIO()
    live = LiveBoard(Screen(file=file, width=80))
    live.print("mine_seed1: training")
    live.show(board())
    live.stop()
    assert file.getvalue() == "mine_seed1: training\nsweep 100/400\n"


def test_a_table_without_failures_goes(capsys: pytest.CaptureFixture[str]) -> None:
    live = LiveBoard(Screen(force_terminal=True, color_system=None, width=80))
    live.show(Board({"arm": {1: RunState("done", 100, 50.0)}}, 1, 1, {}))
    live.stop()
    # The lines are removed: the cursor goes up, and each is erased.
    assert capsys.readouterr().out.endswith("\x1b[1A\x1b[2K")
