"""`muhdi demo`: one page, of drawn scenes or of one's own folders."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muhdi.evaluation.results import Results
from muhdi.preflight.demo import demo_recipe
from muhdi.run import progress

QUICK = (
    "source_training.iterations=2",
    "every_step.iterations=2",
    "every_step.batch_size=1",
    "source_training.batch_size=1",
    "evaluation.statistics=[image]",
    "evaluation.default=image",
    "evaluation.domain_images=2",
)


def words(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def pictures(page: str) -> list[tuple[str, str]]:
    """Domain and kind of every picture of a page, in its order."""
    return re.findall(r'<img src="data:image/[^"]+" alt="([^:"]+): ([^"]+)"', page)


@pytest.mark.usefixtures("sweeps_in_this_process")
def test_it_ends_with_a_table_a_sentence_and_one_page(
    muhdi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0)  # it ends sooner than the first line comes
    few = [f"steps.{number}.target.train=4" for number in range(4)]
    few += [f"steps.{number}.target.val=2" for number in range(4)]
    settings = [*QUICK, "image_size=[48, 32]", "source.train=4", "source.val=2", *few]
    status, output, errors = muhdi("demo", *words(settings), "--jobs", 2)
    assert status == 0, errors
    sequential, kept = (
        Results.load(tmp_path / f"demo/snapshots/scenes2_{arm}_seed41")
        for arm in ("selftrain", "selftrain_style")
    )
    assert [step["name"] for step in kept.steps] == [
        "source",
        "snow",
        "wet_night",
        "abroad",
        "snow",
    ]
    assert kept.targets == ["snow", "wet_night", "abroad"], "snow comes back, and is one target"
    assert kept.adapted_at == [1, 2, 3]
    assert sequential.matrix("image")[0] == kept.matrix("image")[0], "one source for both"
    for arm in ("before", "sequential", "kept"):
        assert len(re.findall(rf"│ {arm} +│", output)) == 1
    assert "Mean mIoU on snow, wet_night, abroad: " in output
    assert output.rstrip().endswith("Report, to open in a browser: demo/demo.html")
    page = (tmp_path / "demo/demo.html").read_text()
    kinds = ["image", "before", "sequential", "kept", "label"]
    shown = [(domain, kind) for domain in ("snow", "wet_night", "abroad") for kind in kinds]
    assert pictures(page) == shown
    assert re.findall(r"demo \d+/(\d+)", errors)[-1] == "34", (
        "2 of the source, 4 x 2 x 2 of each arm"
    )


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Three folders: the labels of the second score it, the third has none."""
    rng = np.random.default_rng(0)
    for name, labels in (("b_source", "labels"), ("a_city", "labels"), ("c_rain", None)):
        for split in ("train", "val"):
            folder = tmp_path / "own" / name / split
            (folder / "images").mkdir(parents=True)
            if labels is not None:
                (folder / labels).mkdir()
            for number in range(2):
                pixels = rng.integers(0, 256, (40, 64, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"images/{number}.jpg")
                if labels is not None:
                    ids = rng.integers(0, 3, (40, 64), np.uint8)
                    Image.fromarray(ids).save(folder / f"{labels}/{number}.png")
    return tmp_path / "own"


@pytest.mark.usefixtures("sweeps_in_this_process")
def test_it_does_the_same_on_ones_own_folders(muhdi, own: Path, tmp_path: Path) -> None:
    settings = [*QUICK, "augment.crop=1"]
    status, output, errors = muhdi("demo", "--real", own, *words(settings), "--jobs", 2)
    assert status == 0, errors
    assert "note: b_source: the source, whose labels are learned" in errors
    assert "Mean mIoU on a_city: " in output, "c_rain has no labels"
    (header,) = re.findall(r"┃ +┃ +b_source ┃.*", output)
    columns = [word.strip() for word in header.split("┃")[2:-1]]
    known = ["b_source", "a_city", "c_rain: sure", "c_rain: changed", "targets", "forgotten"]
    assert columns == known
    page = (tmp_path / "demo/demo.html").read_text()
    kinds = ["image", "before", "sequential", "kept"]
    city = [("a_city", kind) for kind in [*kinds, "label"]]
    assert pictures(page) == [*city, *city, *(("c_rain", kind) for kind in kinds)]


def test_the_quick_recipe_of_own_folders(own: Path) -> None:
    recipe, _ = demo_recipe(own, ["every_step.iterations=7"])
    assert recipe.source is not None
    assert recipe.source.domain_name == "b_source"
    assert [step.target.domain_name for step in recipe.steps] == ["a_city", "c_rain"]
    assert [step.iterations for step in recipe.steps] == [7, 7]
    labels = [getattr(step.target, "labels") for step in recipe.steps]
    assert labels == ["{split}/labels/{stem}.png", None]


def test_a_wrong_folder_is_one_line(muhdi, own: Path, tmp_path: Path) -> None:
    cases = {
        tmp_path / "nowhere": "the folder does not exist",
        own / "b_source" / "train" / "images": "holds 0 folders, but a demo takes 2 or 3",
    }
    for folder, message in cases.items():
        status, _, errors = muhdi("demo", "--real", folder)
        assert status == 2
        assert errors.startswith(f"error: --real {folder}: {message}")
        assert errors.count("\n") == 1
    status, _, errors = muhdi("demo", "--real", own, "--set", "name=mine")
    assert (status, errors) == (
        2,
        "error: name: the demo names its two runs itself; leave it out\n",
    )
