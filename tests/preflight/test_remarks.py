"""What `muhdi check` remarks on files apart from what is in one of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from muhdi.data.files import FileSet, LabelFiles
from muhdi.preflight.remarks import dark, left_out, shared_labels, squeezed, unused_channels
from muhdi.recipe.load import load_recipe
from tests.preflight.test_new import files


@pytest.mark.parametrize(
    ("shown", "size", "fit", "expected"),
    [
        ("64x32", (32, 64), "stretch", "images of 64x32 are shown as 32x64, 4.0 times as narrow"),
        ("100x100", (200, 100), "stretch", "2.0 times as wide"),
        ("1914x1052", (640, 320), "stretch", ""),
        ("64x32", (32, 64), "pad", ""),
    ],
)
def test_images_that_are_squeezed(shown: str, size, fit, expected: str) -> None:
    note = squeezed(Counter({shown: 3}), size, fit)
    assert expected in note
    assert bool(expected) == bool(note)
    assert squeezed(Counter(), size, fit) == ""


def test_images_that_are_almost_black() -> None:
    assert "no pixel is brighter than 15 of 255" in dark(15)
    assert dark(40) == ""


def test_a_label_that_serves_two_images() -> None:
    table = np.zeros(65536, np.uint8)
    images = [Path("a.png"), Path("b.png")]
    shared = FileSet("d", images, LabelFiles([Path("l.png")] * 2, table))
    assert shared_labels(shared).startswith("the label l.png serves 2 images")
    assert shared_labels(FileSet("d", images, LabelFiles(images, table))) == ""
    assert shared_labels(FileSet("d", images)) == ""


def test_images_that_no_pattern_matches(muhdi, tmp_path: Path) -> None:
    files(tmp_path / "src", "images/a.png", "labels/a.png")
    assert muhdi("new", "src")[0] == 0
    files(tmp_path / "src", "more/b.png")
    recipe = load_recipe("mine.yml")
    opened = [FileSet("src", [tmp_path / "src/images/a.png"])]
    (note,) = left_out(recipe, opened)
    assert note.startswith("src: 1 images in src match no pattern, for example src/more/b.png")


def test_channels_that_say_nothing() -> None:
    colours = [(0, 255), (7, 7), (0, 255)]
    note = unused_channels([*colours, (255, 255), (0, 255), (0, 0)])
    assert "channel 4 is 255 and channel 6 is 0 in every pixel" in note
    assert unused_channels([*colours, (254, 255)]) == ""
    assert unused_channels(colours) == "", "a picture of one colour is no unused channel"
