"""A seeded part of `tests.soak`, which `make soak` runs in full.

SIGKILL anywhere, and the same bits in the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_runs_killed_anywhere_end_in_the_same_bits() -> None:
    command = [sys.executable, "-m", "tests.soak", "--quick", "--kills", "1"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["losses"] == {}
    counts = report["counts"]
    assert counts["combinations"] == 5
    assert counts["kills"] == 5
    assert counts["runs compared"] >= 5
    assert len(counts) >= 5, "kills at two or more kinds of moments"
