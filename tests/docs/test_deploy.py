"""docs/deploy.md: its commands and its Python run as they stand, and its numbers are the file's."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.docs.test_readme import LITTLE, SCENES, take_a_photo

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/deploy.md").read_text()


def take_a_film(path: Path) -> None:
    from fractions import Fraction

    from muhdi.deploy.video import VideoWriter

    writer = VideoWriter(path, Fraction(10))
    for shade in range(0, 220, 20):
        writer.add(np.full((48, 64, 3), shade, np.uint8))
    writer.close()


def test_the_page_runs_from_top_to_bottom(muhdi, tmp_path: Path) -> None:
    pytest.importorskip("av")
    pytest.importorskip("onnxruntime")
    take_a_photo()
    take_a_film(tmp_path / "drive.mp4")
    mine = ["name=mine", "image_size=[64, 32]", "steps.0.target.name=my_city"]
    settings = [word for s in LITTLE + SCENES + mine for word in ("--set", s)]
    status, _, errors = muhdi("train", "scenes", *settings)
    assert status == 0, errors
    names: dict[str, object] = {}
    done = []
    for language, block in re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S):
        if language == "python":
            exec(compile(block, "deploy", "exec"), names)
            done.append("python")
            continue
        if language == "console":  # needs a public data set: tests/deploy/test_submission.py
            continue
        assert language == "sh"
        for line in block.splitlines():
            program, *words = shlex.split(line)
            assert program == "muhdi"
            status, output, errors = muhdi(*words)
            assert status == 0, f"{line}: {errors}"
            assert words[0] != "export" or "verified on" in output
            done.append(words[0])
    assert [done.count(kind) for kind in ("predict", "export", "python")] == [7, 3, 6]
    assert done.count("evaluate") == 2
    street = Path("ids/street.png")
    for folder in ("predictions", "larger", "windows", "averaged", "from_file"):
        assert Image.open(folder / street).size == (90, 60), folder
    assert len(list(Path("frames/ids/drive").iterdir())) == 3, "every fifth of eleven frames"
    assert Path("frames/overlay/drive.mp4").is_file()
    assert Image.open("street.png").size == (90, 60)
    config = json.loads(Path("mine/config.json").read_text())
    assert (config["statistics"], config["domain"]) == ("domain", "my_city")


def test_how_well_files_agree_is_what_was_measured() -> None:
    measured = json.loads((ROOT / "benchmarks/measured/handover.json").read_text())
    rows = measured["rows"].values()
    text = " ".join(PAGE.split())
    same = [row["same_percent"] for row in rows]
    apart = max(abs(row["predict_miou"] - row["exported_miou"]) for row in rows)
    assert len(rows) == 12
    assert "In the twelve combinations" in text
    assert f"{min(same):.2f} to {max(same):.2f} % of the pixels" in text
    assert f"differed by at most {apart:.3f} points" in text
    assert f"trained for {measured['iterations']} iterations" in text
