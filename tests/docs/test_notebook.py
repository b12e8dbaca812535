"""docs/first_steps.ipynb: its cells run in their order, on little data, and leave what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
NOTEBOOK = json.loads((ROOT / "docs/first_steps.ipynb").read_text(encoding="utf-8"))
CELLS = NOTEBOOK["cells"]
LITTLE = {"ITERATIONS": 2, "IMAGES": 8}


def plain(source: str) -> str:
    """A cell's code for Python itself: a line for the notebook's shell does nothing."""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)


def little(source: str) -> str:
    for name, number in LITTLE.items():
        source = re.sub(rf"^{name} = \d+", f"{name} = {number}", source, flags=re.M)
    return source


def code() -> dict[str, str]:
    return {c["id"]: "".join(c["source"]) for c in CELLS if c["cell_type"] == "code"}


def test_the_file_is_a_notebook_without_outputs() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in CELLS]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-zA-Z0-9-_]{1,64}", name) for name in ids)
    for cell in CELLS:
        assert cell["cell_type"] in ("code", "markdown")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_pip_is_called_only_where_muhdi_is_missing() -> None:
    shell = {
        name: re.findall(r"^\s*[%!].*$", source, re.M)
        for name, source in code().items()
        if re.search(r"^\s*[%!]", source, re.M)
    }
    assert shell == {"install": ["    %pip install -q {CHECKOUT}"]}
    assert 'if importlib.util.find_spec("muhdi") is None:\n    %pip' in code()["install"]


def test_pages_that_it_names_exist() -> None:
    named = re.findall(r"`(docs/[\w.]+)`", "".join("".join(cell["source"]) for cell in CELLS))
    assert named
    assert all((ROOT / page).is_file() for page in named)


def test_its_cells_run_and_leave_what_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = {name: little(plain(source)) for name, source in code().items()}
    for name, number in LITTLE.items():
        assert any(re.search(rf"^{name} = {number}\b", source, re.M) for source in cells.values())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    names: dict[str, object] = {}
    for name, source in cells.items():
        exec(compile(source, name, "exec"), names)
    said = capsys.readouterr().out
    run = tmp_path / "experiments/snapshots/scenes_seed1"
    results = json.loads((run / "results.json").read_text())
    assert [step["name"] for step in results["steps"]] == ["source", "city", "dust", "night"]
    assert (run / "report.html").is_file()
    assert "average over the targets" in said
    assert "% of the pixels have the class that muhdi predict gives them" in said
    for name in ("matrix.png", "before_after.png"):
        assert min(Image.open(tmp_path / name).size) > 200, name
    assert Image.open(tmp_path / "overlay.png").size == (384, 192)
    exported = {file.name for file in (tmp_path / "network").iterdir()}
    assert {"README.md", "config.json", "model.safetensors"} < exported
