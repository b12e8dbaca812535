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

from muhdi.run import progress
from muhdi.run.directory import RunDirectory
from muhdi.run.progress import Screen, StageProgress

Tiny = Callable[..., Path]
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TERM": "xterm"}
TERMS = [
    *("seg_aux", "seg_main", "d_aux_source", "d_main_source", "kd_aux", "kd_main", "pod"),
    *("adv_aux", "d_aux_target", "adv_main", "d_main_target", "kt_aux", "kt_main"),
]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(width: int, name: str = "city") -> list[str]:
    """The lines of a bar on a terminal of this width, in the middle of a step with many losses."""
    output = io.StringIO()
    console = Screen(file=output, force_terminal=True, width=width)
    stage = StageProgress(console, name, 120_000, 30_000)
    losses = dict.fromkeys(TERMS, 0.125)
    stage.advance(60_000, 2, losses)
    stage.stop()
    last = output.getvalue().rpartition("\x1b[2K")[2]
    return [line for line in ESCAPES.sub("", last).replace("\r", "").split("\n") if line.strip()]


@pytest.mark.parametrize("width", [80, 100, 220])
def test_the_bar_of_an_adaptation_step_fits_into_the_terminal(width: int) -> None:
    bar, losses = shown(width)
    assert len(bar) <= width
    assert len(losses) <= width
    assert re.search(r"^city +\S.* 60000/120000 \d+ images/s  loss 1\.625 \S+ left *$", bar), (
        "name, bar, count, speed, total loss, time left"
    )
    assert "━" * 4 in bar
    assert losses.startswith("seg_aux 0.125  seg_main 0.125  d_aux_source 0.125")
    assert losses.rstrip().endswith("…" if width < 220 else "0.125")


def test_a_long_name_in_brackets_leaves_room_for_the_rest() -> None:
    bar, _ = shown(80, "[mapillary_vistas_research]")
    assert bar.startswith("[mapillary_vis ")
    assert re.search(r"60000/120000 \d+ images/s  loss 1\.625 \S+ left", bar)


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
    assert lines[0] == "city 30/100  4 images/s  seg_main 1.000  kt_main 2.000  left 70 s"
    assert lines[-1].startswith("city 100/100  ")


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
