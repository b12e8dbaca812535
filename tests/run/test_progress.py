"""What a training shows: a bar that fits into the terminal, or lines, or nothing."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muhdi.run import progress
from muhdi.run.directory import RunDirectory
from muhdi.run.progress import Progress, Screen, StageProgress, clock

Tiny = Callable[..., Path]
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TERM": "xterm"}
TERMS = [
    *("seg_aux", "seg_main", "d_aux_source", "d_main_source", "kd_aux", "kd_main", "pod"),
    *("adv_aux", "d_aux_target", "adv_main", "d_main_target", "kt_aux", "kt_main"),
]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(width: int, name: str = "city") -> str:
    """The line on a terminal of this width, in the middle of a step with many losses."""
    output = io.StringIO()
    console = Screen(file=output, force_terminal=True, width=width)
    stage = StageProgress(console, name, 120_000, 30_000, later=60_000)
    stage.advance(60_000, 2, dict.fromkeys(TERMS, 0.125))
    stage.stop()
    last = output.getvalue().rpartition("\x1b[2K")[2]
    (line,) = [line for line in ESCAPES.sub("", last).replace("\r", "").split("\n") if line.strip()]
    return line.rstrip()


@pytest.mark.parametrize("width", [60, 80, 120, 220])
def test_a_step_is_one_line_that_fits_into_the_terminal(width: int) -> None:
    line = shown(width)
    assert len(line) < width
    assert re.fullmatch(
        r"city 60000/120000 \[=+> +\]  \d+ img/s  \d+:\d\d left(  loss 1\.62)?", line
    ), "name, count, bar, speed, time left of the whole run, total loss"
    assert line.endswith("loss 1.62") or width == 60


def test_a_long_name_in_brackets_leaves_room_for_the_rest() -> None:
    line = shown(80, "[mapillary_vistas_research]")
    assert line.startswith("[mapillary_vi… 60000/120000 [")
    assert re.search(r"\d+ img/s  \d+:\d\d left", line)


@given(
    width=st.integers(0, 250),
    name=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60),
    done=st.integers(0, 10**6),
    more=st.integers(0, 10**6),
)
def test_a_line_of_progress_never_exceeds_its_width(
    width: int, name: str, done: int, more: int
) -> None:
    now = Progress(name, done, done + more, "47 img/s", "2:10:14 left", "loss 0.31")
    line = now.line(width)
    assert len(line) <= width
    assert "\n" not in line
    if width > len(name) + 100:
        assert now.plain().split("  ")[-1] in line


def test_the_bar_fills_and_times_are_read_as_clocks() -> None:
    assert Progress("city", 84, 150, "47 img/s", "0:14 left", "loss 0.31").line(62) == (
        "city 84/150 [=======>        ]  47 img/s  0:14 left  loss 0.31"
    )
    assert Progress("a", 0, 4).line(20) == "a 0/4 [            ]"
    assert Progress("a", 4, 4).line(20) == "a 4/4 [============]"
    assert Progress("files", 7).line(20) == "files 7 [          ]"
    assert [clock(seconds) for seconds in (0.2, 59.6, 3661)] == ["0:00", "1:00", "1:01:01"]


def test_without_a_terminal_there_is_a_line_every_few_seconds_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    output = io.StringIO()
    stage = StageProgress(Screen(file=output, width=40), "city", 100, 20)
    for done in range(21, 101):
        now += 1
        stage.advance(done, 4, {"seg_main": 1.0, "kt_main": 2.0} if done % 5 == 0 else {})
    stage.stop()
    lines = output.getvalue().splitlines()
    assert len(lines) == 8
    assert lines[0] == "city 30/100  4 img/s  1:10 left  loss 3.00"
    assert lines[-1] == "city 100/100  4 img/s  took 1:20  loss 3.00"


def test_quiet_is_quiet() -> None:
    output = io.StringIO()
    screen = Screen(quiet=True, file=output, force_terminal=True)
    stage = StageProgress(screen, "city", 2, 0)
    stage.advance(2, 2, {"seg_main": 1.0})
    stage.stop()
    screen.print("a line")
    assert output.getvalue() == ""


# --- screens that go away -------------------------------------------------------------------------


@pytest.fixture
def long_run(tiny: Tiny, tmp_path: Path) -> tuple[list[str], RunDirectory]:
    """The command of a run that only a signal ends in time, and its directory."""
    tiny(
        every_step={"iterations": 100_000, "batch_size": 2},
        source_training={"iterations": 40, "batch_size": 2},
        save_every=100_000,
    )
    experiments = tmp_path / "experiments"
    command = [sys.executable, "-m", "muhdi", "train", "tiny.yml", "--experiments", "experiments"]
    directory = RunDirectory(experiments / "snapshots" / "tiny")
    return command, directory


def last_saved(run: RunDirectory) -> int:
    """Iterations of the whole run in the newest state, which is intact."""
    state, problems = run.states.load()
    assert state is not None
    assert not problems
    return int(run.states.files()[0].stem.rpartition("_")[2])


def test_a_reader_that_goes_away_stops_the_run_and_its_state_is_saved(
    long_run: tuple[list[str], RunDirectory], tmp_path: Path
) -> None:
    """As in ``muhdi train | head -n 1``."""
    command, run = long_run
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stdout.readline().startswith("source 40/40")
        process.stdout.close()
        errors = process.stderr.read()
        process.wait(timeout=60)
    finally:
        process.kill()
        process.stderr.close()
    assert process.returncode == 128 + signal.SIGPIPE
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert errors.startswith("Stopped; progress is saved. Resume with: ")
    assert last_saved(run) >= 40


def test_a_terminal_that_is_closed_stops_the_run_and_its_state_is_saved(
    long_run: tuple[list[str], RunDirectory], tmp_path: Path
) -> None:
    """The system sends SIGHUP, and every output fails from then on."""
    command, run = long_run
    number, terminal = pty.fork()
    if number == 0:
        os.chdir(tmp_path)
        # Whoever runs the tests may ignore it, as nohup does, and so would the run.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.execvpe(command[0], command, ENVIRONMENT)
    output = ""
    until = time.monotonic() + 60
    while not re.search(r"city .* [1-9]\d*/100000 ", ESCAPES.sub("", output)):
        assert time.monotonic() < until, output
        if select.select([terminal], [], [], 1)[0]:
            output += os.read(terminal, 65536).decode(errors="replace")
    os.close(terminal)
    _, status = os.waitpid(number, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    assert last_saved(run) > 40
