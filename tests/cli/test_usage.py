"""What is wrong with a command itself: one line, status 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import muhdi as library


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "missing argument 'recipe' (see muhdi train --help)"),
        (["scenes", "--seed", "x"], "invalid value for '--seed': "),
        (["scenes", "--seed", "-1"], "invalid value for '--seed': "),
        (["scenes", "--resum"], "no such option: --resum"),
        (["scenes", "--set"], "option '--set' requires an argument"),
    ],
)
def test_a_wrong_option_is_one_line(muhdi, words: list[str], message: str) -> None:
    status, output, errors = muhdi("train", *words)
    assert status == 2
    assert output == ""
    assert errors.startswith(f"error: {message}")
    assert errors.count("\n") == 1


def test_an_unknown_command_is_one_line_with_the_nearest_one(muhdi) -> None:
    status, _, errors = muhdi("trian", "scenes")
    assert status == 2
    assert errors.startswith("error: no such command 'trian'")
    assert "'train'" in errors
    assert errors.count("\n") == 1


def test_no_command_shows_the_help(muhdi) -> None:
    status, output, errors = muhdi()
    assert (status, errors) == (0, "")
    assert "Data and recipes" in output


def test_the_version(muhdi) -> None:
    assert muhdi("--version") == (0, f"{library.__version__}\n", "")


def test_a_failure_of_some_files_keeps_its_status(muhdi, trained, tmp_path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    status, _, errors = muhdi("predict", trained, "broken.png", "-o", "out")
    assert status == 1
    assert "1 of 1 files failed" in errors


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ..."),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
        ),
        MemoryError(),
    ],
)
def test_out_of_memory_is_one_line_that_says_what_to_change(
    muhdi, tiny, monkeypatch, error: Exception
) -> None:
    def allocate(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("muhdi.workflows.train.train", allocate)
    status, _, errors = muhdi("train", tiny())
    assert status == 2
    assert errors.startswith("error: out of memory: ")
    assert "every_step.accumulate" in errors
    assert errors.count("\n") == 1


def test_other_faults_of_the_program_keep_their_traceback(muhdi, tiny, monkeypatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("muhdi.workflows.train.train", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        muhdi("train", tiny())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("muhdi tr", ["train"]),
        ("muhdi recipes scenes_n", ["scenes_none"]),
        ("muhdi train scenes --set steps.0.adaptation.meth", ["steps.0.adaptation.method="]),
        ("muhdi train scenes --seed 1 --set evaluation.mean", ["evaluation.mean_over="]),
        ("muhdi sweep scenes scenes_none --set precis", ["precision="]),
        ("muhdi train no_such_recipe --set precis", []),
        ("muhdi info scenes_n", ["scenes_none"]),
        ("muhdi info scenes --set precis", ["precision="]),
    ],
)
def test_the_shell_completes_commands_recipes_and_keys(line: str, expected: list[str]) -> None:
    words = line.split()
    completion = {
        "_MUHDI_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [Path(sys.executable).with_name("muhdi")],
        env=os.environ | completion,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == expected, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["report", "RUN", "-o", "file/page.html"],
        ["compare", "RUN", "-o", "file/page.html"],
        ["compare", "RUN", "--scores", "file/scores.csv"],
        ["evaluate", "RUN", "--json", "file/scores.json"],
        ["predict", "RUN", "RUN/samples", "-o", "file/predictions"],
        ["export", "RUN", "file/folder"],
        ["export", "RUN", "file/net.pt2"],
        ["train", "scenes", "--experiments", "file/experiments"],
        ["adapt", "RUN", "--images", "RUN/samples", "--experiments", "file/experiments"],
    ],
)
def test_a_path_below_a_file_is_refused_before_any_work(
    muhdi, trained: Path, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    status, output, errors = muhdi(*(word.replace("RUN", str(trained)) for word in words))
    assert status == 2
    assert output == ""
    assert errors.startswith("error: file/"), errors
    assert errors.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
