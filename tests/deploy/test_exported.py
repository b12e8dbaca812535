"""Exported files in the place of a network: what is read, and what is refused before it is."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
import torch

from muhdi.deploy.exported import ExportedPredictor
from muhdi.deploy.plain_program import is_plain
from muhdi.errors import MuhdiError
from tests.deploy.test_predict import picture


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the classes alone. Nobody may change it."""
    import muhdi

    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    muhdi.export(trained, str(path), output="classes")
    return path


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def changed(source: Path, target: Path, end: str, change) -> Path:
    """A copy of a ``.pt2`` in which the part with this end of a name is changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data) if name.endswith(end) else data)
    return target


def test_a_file_that_holds_code_is_not_read(
    muhdi, exported: Path, tmp_path: Path, monkeypatch
) -> None:
    buffer = io.BytesIO()
    torch.save((Touch(tmp_path / "ran"),), buffer)
    changed(exported, tmp_path / "net.pt2", "sample_inputs/model.pt", lambda _: buffer.getvalue())
    picture(tmp_path / "x.png")
    status, _, errors = muhdi("predict", "net.pt2", "x.png", "-o", "out")
    assert status == 2
    assert errors.count("\n") == 1
    assert "net.pt2: holds more than muhdi export writes" in errors
    assert "--trust-code" in errors
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("end", "old", "new"),
    [
        ("models/model.json", b"torch.ops.aten.conv2d.default", b"torch.hub.load"),
        ("models/model.json", b'"expr_str": "', b'"expr_str": "exec(1) + '),
        ("models/model.json", b'"guards_code": [', b'"guards_code": ["print(1)"'),
        ("weights_config.json", b'"use_pickle": false', b'"use_pickle": true'),
    ],
)
def test_what_pytorch_would_evaluate_is_looked_at(
    exported: Path, tmp_path: Path, end: str, old: bytes, new: bytes
) -> None:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    assert is_plain(exported)
    assert not is_plain(changed(exported, tmp_path / "net.pt2", end, change))


def test_what_a_file_cannot_do_is_said_before_anything_is_written(
    muhdi, exported: Path, tmp_path: Path
) -> None:
    picture(tmp_path / "x.png")
    for words, message in (
        (["--probabilities"], "gives classes only; export it with --output logits"),
        (["--size", 32, 32], "leave --size and --window out"),
        (["--flip"], "gives classes only; export it with --output logits for --flip"),
        (["--device", "cuda"], "runs on the CPU; leave --device out"),
    ):
        status, _, errors = muhdi("predict", exported, "x.png", "-o", "out", *words)
        assert (status, errors.count("\n")) == (2, 1)
        assert message in errors
        assert not (tmp_path / "out").exists()
    picture(tmp_path / "small.png", 40, 9)
    status, _, errors = muhdi("predict", exported, "small.png", "x.png", "-o", "out")
    assert status == 1
    assert "small.png: a side is smaller than 16 pixels" in errors
    assert [path.name for path in (tmp_path / "out/ids").iterdir()] == ["x.png"]


def test_other_uses_of_a_file_are_told_what_to_give(muhdi, exported: Path) -> None:
    status, _, errors = muhdi("export", exported, "again.pt2")
    assert status == 2
    assert "net.pt2: is an exported file, which only muhdi predict takes" in errors
    with pytest.raises(MuhdiError, match="device cuda: "):
        ExportedPredictor(exported, device="cuda")
