"""Images of many pixels, and lists that name an image twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from muhdi.data.files import read_image
from muhdi.data.paths import read_list
from muhdi.errors import DataError

READ = """
import sys
from pathlib import Path
from PIL import Image
from muhdi.data.files import read_image
Image.MAX_IMAGE_PIXELS = 400  # a warning beyond 400, an error beyond 800
print(read_image(Path(sys.argv[1])).shape)
"""


def test_a_large_image_is_read_without_a_warning_and_a_huge_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.png"
    Image.new("RGB", (30, 20)).save(path)
    # In a process of its own: pytest changes which warnings are shown.
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("(20, 30, 3)\n", "")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(DataError, match=r"large\.png: has more than .* million pixels; cut it"):
        read_image(path)


def test_an_image_that_a_list_names_twice_counts_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    listed = tmp_path / "list.txt"
    listed.write_text("b.png\na.png\nb.png\n./b.png\n")
    assert read_list(listed, tmp_path) == [tmp_path / "b.png", tmp_path / "a.png"]
