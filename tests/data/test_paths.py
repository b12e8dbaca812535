"""Finding files: links, hidden files, endings, brackets, label patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from muhdi.data.paths import SplitImages, fixed_part, label_files, list_files, matches
from muhdi.errors import RecipeError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def found(root: Path, pattern: str) -> list[str]:
    return [str(path.relative_to(root)) for path in matches(root, pattern)]


def test_linked_folders_are_entered_once_and_circles_end(tmp_path: Path) -> None:
    touch(tmp_path, "store/b/1.png", "photos/a/0.png")
    (tmp_path / "photos/b").symlink_to(tmp_path / "store/b")
    (tmp_path / "photos/again").symlink_to(tmp_path / "photos/a")
    (tmp_path / "photos/a/up").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/nowhere").symlink_to(tmp_path / "gone")
    assert found(tmp_path, "photos/**/*.png") == ["photos/a/0.png", "photos/b/1.png"]
    listed = list_files(tmp_path / "photos").files
    assert [str(path.relative_to(tmp_path)) for path in listed] == found(
        tmp_path, "photos/**/*.png"
    )


def test_hidden_files_and_other_endings_are_left_out_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.PNG", "b.png", "._b.png", ".cache/c.png", "notes.txt", "x.HEIC", "z")
    assert found(tmp_path, "*.png") == ["a.PNG", "b.png"]
    assert found(tmp_path, "*") == ["a.PNG", "b.png"]
    assert found(tmp_path, "**/*.*") == ["a.PNG", "b.png"]
    listing = list_files(tmp_path)
    assert [path.name for path in listing.files] == ["a.PNG", "b.png"]
    note = listing.note()
    assert note.startswith("4 other files left out: ")
    for kind in ("1 hidden", "1 .txt", "1 .heic", "1 without an ending"):
        assert kind in note


def test_brackets_may_be_escaped(tmp_path: Path) -> None:
    touch(tmp_path, "rgb [v1]/a.png", "rgb v/b.png")
    assert found(tmp_path, "rgb [[]v1]/*.png") == ["rgb [v1]/a.png"]
    assert fixed_part("rgb [[]v1]/*.png") == Path("rgb [v1]")
    assert fixed_part("rgb [v]/*.png") == Path()


@pytest.mark.parametrize("pattern", ["a**/x.png", "**.png", ""])
def test_what_is_not_a_pattern_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(RecipeError, match="is not a pattern"):
        matches(tmp_path, pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("gt/{stem:_leftImg8bit}_labelIds.png", "gt/a_1_labelIds.png"),
        ("{parent:camera=label}/{stem}.png", "label/front/a_1_leftImg8bit.png"),
        ("{stem:_other}.png", "a_1_leftImg8bit.png"),
        ("{{x}}/{name}", "{x}/a_1_leftImg8bit.png"),
    ],
)
def test_label_patterns_take_parts_of_a_name(pattern: str, expected: str) -> None:
    image = Path("root/camera/front/a_1_leftImg8bit.png")
    images = SplitImages([image], "val", Path("root"))
    assert label_files(Path("r"), pattern, images, [image.stem], "d") == [Path("r", expected)]
