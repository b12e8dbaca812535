"""One's own images and labels, through whole small runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from muhdi.errors import MuhdiError
from muhdi.evaluation.results import Results
from muhdi.recipe.load import load_recipe
from muhdi.report.label_free import sentence
from muhdi.run.directory import RunDirectory
from muhdi.workflows.train import train
from tests.folders import day, rain


@pytest.fixture
def own(folders: Path, tmp_path: Path) -> Path:
    """A recipe on one's own folders: labelled ``day``, unlabelled ``rain``."""
    recipe = {
        "name": "own",
        "root": str(folders),
        "classes": ["ground", "car"],
        "image_size": [48, 32],
        "optimizer": {"name": "adamw"},
        "source": day({0: "ground", 7: "car"}),
        "source_training": {"iterations": 2, "batch_size": 2},
        "steps": [
            {
                "target": rain(),
                "iterations": 2,
                "adaptation": "selftrain",
                "retention": "muhdi",
            }
        ],
    }
    path = tmp_path / "own.yml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_ones_own_data_needs_no_code_and_an_unlabelled_target_is_not_zero(
    own: Path, tmp_path: Path, muhdi
) -> None:
    status, output, errors = muhdi("train", own, "--experiments", "e")
    assert status == 0, errors
    run = tmp_path / "e" / "snapshots" / "own"
    results = Results.load(run)
    before, after = (dict(step["scores"]["running"]["rain"]) for step in results.steps)
    found = [entry.pop("label_free") for entry in (before, after)]
    assert before == after == {"miou": None, "reason": "unlabelled"}
    assert results.summary("running").average is None
    assert output.count("raw ids that the label table does not list are ignored: 9") == 1
    assert (run / "samples" / "rain_0_predicted_running.png").exists()
    assert not (run / "samples" / "rain_0_label.png").exists()
    # What needs no labels is measured, printed, and on the page.
    assert [one["previous_agreement"] is None for one in found] == [True, False]
    assert all(0 < one["mirror_agreement"] <= 100 for one in found)
    assert all(sum(one["shares"].values()) == pytest.approx(100, abs=0.01) for one in found)
    assert results.steps[-1]["scores"]["running"]["day"]["label_free"]["mirror_agreement"] is None
    shown = output[output.index("rain, without labels, in percent, running statistics") :]
    entropies = (f"{one['entropy']:.1f}" for one in found)
    assert re.search(r"entropy\W+{}\W+{}\W".format(*entropies), shown)
    said = sentence(results, "running", "rain")
    assert said in shown
    status, output, errors = muhdi("report", run)
    assert status == 0, errors
    assert output.splitlines()[0] == said
    page = (run / "report.html").read_text()
    assert "agreement with mirror images" in page


def test_a_domain_may_have_any_name(own: Path, tmp_path: Path) -> None:
    recipe = load_recipe(own, ["steps.0.target.name=my/city at night"])
    train(recipe, tmp_path / "e", quiet=True)
    folder = tmp_path / "e" / "snapshots" / "own"
    assert RunDirectory(folder).last_model().parent.name == "1_my_city_at_night"
    assert {path.parent for path in folder.rglob("*.safetensors")} == {
        folder / "0_source",
        folder / "1_my_city_at_night",
    }


def test_target_labels_are_needed_for_evaluation_alone(
    own: Path, folders: Path, tmp_path: Path
) -> None:
    """Labels of val lie beside none of train; only the oracle minds."""
    for image in (folders / "rain" / "val").glob("*.png"):
        (folders / "flat").mkdir(exist_ok=True)
        Image.new("L", (36, 24)).save(folders / "flat" / f"val_{image.name}")
    settings = [
        "steps.0.target.images=rain/{split}/*.png",
        "steps.0.target.labels=flat/{split}_{stem}.png",
    ]
    results = train(load_recipe(own, settings), tmp_path / "e", quiet=True)
    assert results.steps[-1]["scores"]["running"]["rain"]["miou"] is not None
    for image in (folders / "rain" / "train").glob("*.png"):
        image.rename(image.with_stem(f"train {image.stem}"))
    settings[1] = "steps.0.target.labels=flat/val_{stem}.png"
    assert train(load_recipe(own, [*settings, "name=two"]), tmp_path / "e", quiet=True)
    with pytest.raises(MuhdiError, match=r"steps\.0\.target: .*its label"):
        train(
            load_recipe(own, [*settings, "name=three", "steps.0.adaptation=oracle"]),
            tmp_path / "e",
            quiet=True,
        )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_is_one_line_and_leaves_no_run(
    own: Path, folders: Path, tmp_path: Path, workers: int
) -> None:
    for path in (folders / "day" / "train").glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(MuhdiError, match="not an image") as error:
        train(load_recipe(own, [f"loader.workers={workers}"]), tmp_path / "e", quiet=True)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "e" / "snapshots" / "own").exists()
