"""The README's commands, recipe and Python run as they stand, on little data and for a few
iterations.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muhdi.cli import main
from muhdi.recipe.load import shipped_recipes

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LITTLE = [
    "source_training.iterations=2",
    "every_step.iterations=2",
    "every_step.batch_size=2",
    "source_training.batch_size=2",
    "evaluation.samples=1",
    "evaluation.domain_images=2",
    "evaluation.statistics=[running]",
]
SCENES = ["image_size=[64,32]", "source.train=4", "source.val=2"] + [
    f"steps.{i}.target.{key}" for i in range(3) for key in ("train=4", "val=2")
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands(start: str) -> list[list[str]]:
    lines = [
        shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()
    ]
    return [line for line in lines if line[:1] == [start]]


def run(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", words)
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def take_a_photo() -> None:
    Path("photos").mkdir()
    Image.new("RGB", (90, 60), (90, 120, 150)).save("photos/street.jpg")


def test_every_line_is_a_command_that_is_tested() -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    assert {line.split()[0] for line in lines} == {"make", "muhdi"}
    assert len(commands("make")) + len(commands("muhdi")) == len(lines)


def test_make_knows_the_two_targets() -> None:
    for _, target in commands("make"):
        assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.usefixtures("sweeps_in_this_process")
def test_the_commands_run_in_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    take_a_photo()
    for words in commands("muhdi"):
        if "mine.yml" in words:
            continue
        little = LITTLE + SCENES if words[1] in ("train", "sweep") else []
        if "every_step.adaptation=advent" in words:
            little = [*little, "every_step.adaptation.width=4"]
        assert run(monkeypatch, words + [word for s in little for word in ("--set", s)]) == 0, words


def test_the_recipe_for_ones_own_data_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yml").write_text(blocks("yaml")[0])
    rng = np.random.default_rng(0)
    folders = [
        "simulator/train/images/a.png",
        "simulator/val/images/b.png",
        "my_city/c.jpg",
        "my_city_at_night/x/d.jpg",
    ]
    for name in folders:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (54, 96, 3), np.uint8)).save(name)
        if "simulator" in name:
            label = Path(name.replace("images", "labels"))
            label.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.choice(np.array([0, 1, 5, 255], np.uint8), (54, 96))).save(label)
    assert run(monkeypatch, ["muhdi", "check", "mine.yml"]) == 0
    little = [*LITTLE, "image_size=[48, 27]"]
    assert (
        run(
            monkeypatch,
            ["muhdi", "train", "mine.yml", *(word for s in little for word in ("--set", s))],
        )
        == 0
    )
    output = capsys.readouterr().out
    assert "unlabelled" in output
    # The mistake that the README shows, word for word.
    shown = blocks("text")[0]
    assert (
        run(
            monkeypatch, ["muhdi", "train", "mine.yml", "--set", "every_step.adaptation.treshold=1"]
        )
        == 2
    )
    assert capsys.readouterr().err == shown


def test_commands_on_public_data_name_what_is_shipped() -> None:
    """They need the data sets; `test_documented` runs them on small trees."""
    commands = [line.split() for block in blocks("text")[1:] for line in block.splitlines()]
    named = [words[2] for words in commands if words[:2] == ["muhdi", "train"]]
    named += [Path(words[3]).stem for words in commands if words[:1] == ["python"]]
    assert len(named) >= 4
    assert set(named) <= shipped_recipes().keys()


def test_every_test_that_the_reference_page_names_exists() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 20
    assert {name for name in named if f"def {name}(" not in sources} == set()
    files = set(re.findall(r"`(tests/\w+\.py)`", page))
    assert all((ROOT / file).is_file() for file in files)


def test_the_python_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    take_a_photo()
    first, second = blocks("python")
    assert len(first.splitlines()) <= 7, "on the first screen"
    assert '("scenes", ' in first
    names: dict[str, object] = {"LITTLE": LITTLE + SCENES}
    exec(compile(first.replace('("scenes", ', '("scenes", LITTLE, '), "README", "exec"), names)
    assert Image.open("street.png").size == (90, 60)
    assert '"every_step.iterations": 100' in second
    exec(compile(second.replace(": 100", ": 2"), "README", "exec"), names)
    assert Path("experiments/snapshots/scenes_seed3_photos/report.html").is_file()
