"""docs/tutorial.md runs from its own code blocks, in their order, with little training."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml
from PIL import Image

TUTORIAL = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
LITTLE = ["source_training.iterations=4", "every_step.iterations=3", "evaluation.domain_images=4"]


def test_the_tutorial_runs(muhdi, tmp_path: Path) -> None:
    names: dict[str, object] = {}
    commands = []
    for language, block in re.findall(r"```(\w+)\n(.*?)```", TUTORIAL, re.S):
        if language == "python":
            little = block.replace('("train", 200), ("val", 60)', '("train", 6), ("val", 3)')
            exec(compile(little, "tutorial", "exec"), names)
        elif language == "sh":
            for line in block.splitlines():
                program, *words = shlex.split(line)
                assert program == "muhdi"
                extra = (
                    [word for s in LITTLE for word in ("--set", s)] if words[0] == "train" else []
                )
                status, output, errors = muhdi(*words, *extra)
                assert status == 0, f"{line}: {errors}"
                commands.append((words[0], output))
        else:  # a part of the recipe that muhdi new wrote, but for the shares
            assert language == "yaml"
            ids = yaml.safe_load(Path("mine.yml").read_text())["source"]["ids"]
            assert yaml.safe_load(block)["ids"].items() <= ids.items()
    names_run = [name for name, _ in commands]
    assert names_run == [
        "new",
        "inspect",
        "train",
        "train",
        "compare",
        "predict",
        "export",
        "adapt",
    ]
    assert "my_city: has no labels" in commands[1][1]
    compared = next(output for name, output in commands if name == "compare")
    assert "(one seed)" in compared, "the target has scores"
    made = (
        "inspection/mine/simulator.png",
        "experiments/snapshots/mine/report.html",
        "comparison.html",
        "mine.pt2",
        "experiments/snapshots/mine_my_village/change.json",
        "predictions/overlay/000.png",
        "seen.png",
    )
    for path in made:
        assert (tmp_path / path).is_file(), path
    assert Image.open(tmp_path / "seen.png").size == (128, 64)
