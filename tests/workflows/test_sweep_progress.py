"""How far a sweep is, from what its runs have written."""

from __future__ import annotations

import json
from pathlib import Path

from muhdi.run.directory import RunDirectory
from muhdi.workflows.sweeps.progress import Watched


def test_a_target_that_comes_back_is_another_stage(tmp_path: Path) -> None:
    # 10 iterations of 6 images, then 5 of 8 for each of snow, night and snow again.
    stages = [("source", 10, 6), ("snow", 5, 8), ("night", 5, 8), ("snow", 5, 8)]
    run = Watched(RunDirectory(tmp_path), stages)
    assert run.total == 60 + 3 * 40
    assert run.done() == 0
    # evaluated stages, last recorded stage and iteration -> images
    cases = [
        (0, "source", 4, 24),
        (1, "source", 10, 60),
        (1, "snow", 2, 76),
        (2, "snow", 5, 100),
        (3, "night", 5, 140),
        (3, "snow", 2, 156),
        (4, "snow", 5, 180),
    ]
    for evaluated, stage, iteration, images in cases:
        (tmp_path / "results.json").write_text(json.dumps({"steps": [{}] * evaluated}))
        line = json.dumps({"stage": stage, "iteration": iteration})
        (tmp_path / "metrics.jsonl").write_text(f"{line}\n")
        assert run.done() == images, (evaluated, stage)
