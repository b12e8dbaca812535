"""The domains of CamVid, made from a public copy of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import prepare_camvid
from benchmarks.prepare_camvid import DRIVES, chosen, prepare
from muhdi.preflight.check import check
from muhdi.recipe.load import load_recipe
from muhdi.taxonomy import IGNORE


def test_of_frames_that_follow_closely_one_in_ten_counts() -> None:
    frames = [*range(390, 7920, 30), *range(7959, 8160, 2), *range(8190, 8641, 30)]
    found = chosen(frames, DRIVES["0016E5"])
    assert (found["train"][0], found["train"][-1]) == (390, 6480)
    assert (found["val"][0], found["val"][-1]) == (6600, 8640)
    assert [frame for frame in found["val"] if 7950 < frame < 8170] == list(range(7959, 8160, 20))


def test_the_recipe_reads_what_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy"
    rng = np.random.default_rng(0)
    for folder, names in {
        "train": ("0016E5_00390", "0006R0_f00930", "0001TP_006690"),
        "val": ("0016E5_08640", "0016E5_06540"),
        "test": ("0006R0_f03930", "0001TP_010380", "Seq05VD_f00000"),
    }.items():
        for name in names:
            for kind in (folder, f"{folder}annot"):
                (copy / kind).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (12, 16, 3), np.uint8)
            Image.fromarray(pixels).save(copy / folder / f"{name}.png")
            ids = np.arange(12, dtype=np.uint8).repeat(16).reshape(12, 16)
            Image.fromarray(ids).save(copy / f"{folder}annot" / f"{name}.png")
    written = prepare(copy, tmp_path / "camvid")
    assert set(written.values()) == {1}, "one in the gap between the splits is in neither"
    label = tmp_path / "camvid" / DRIVES["0001TP"].folder / "train/labels_oracle/0001TP_006690.png"
    rows = np.asarray(Image.open(label))[:, 0].tolist()
    assert rows == [4, 1, 2, 0, 0, 3, 2, 1, 6, 5, 5, IGNORE]
    monkeypatch.setenv("MUHDI_CAMVID", str(tmp_path / "camvid"))
    report = check(load_recipe("camvid"), 1)
    assert report.problems == []
    assert {split.images for split in report.splits} == {1}


def test_a_wrong_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["prepare_camvid", str(tmp_path), str(tmp_path / "new")])
    with pytest.raises(SystemExit) as end:
        prepare_camvid.main()
    assert end.value.code == 2
    assert "holds no folder trainannot" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
