"""muhdi info: a recipe, a run, a network file, an exported folder, and mistakes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from muhdi.deploy.predictor import Predictor
from muhdi.errors import MuhdiError
from muhdi.recipe.load import load_recipe, shipped_recipes
from muhdi.report.info_tables import facts_table, features_table, parameters_table
from muhdi.run.directory import RunDirectory
from muhdi.workflows.info import info, to_json

Tiny = Callable[..., Path]


def test_a_recipe_needs_no_data(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = info("gta_sequence_muhdi")
    assert found.facts["heads"] == ["agnostic", "specialist"]
    assert found.facts["iterations"] == [
        "source 0",
        "cityscapes 120000",
        "idd 60000",
        "mapillary 60000",
    ]
    assert found.facts["normalisation"] == "104 batch norms (batch)"
    # Scale and shift of the backbone's batch norms stay, as in the published code.
    assert found.network.total.frozen == 105_344
    assert found.network.size == (640, 320)


def test_every_shipped_recipe_is_described(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("camvid_lite", "scenes_none", "scenes_selftrain_distill"):
        assert name in shipped_recipes()
        assert info(name).network.flops > 0


def test_operations_are_those_of_the_size(tiny: Tiny) -> None:
    recipe = load_recipe(tiny())
    small = info(recipe, size=(64, 32)).network
    large = info(recipe, size=(128, 64)).network
    assert large.flops == 4 * small.flops
    assert large.parts == small.parts
    assert info(recipe).network.size == (48, 32)
    # Settings change a recipe that is named.
    named = info(tiny(), ["model.multi_level=false"])
    assert named.facts["levels"] == ["main"]
    assert named.network.total.parameters < small.total.parameters


def test_a_network_says_what_it_holds(trained: Path, tmp_path: Path) -> None:
    folder = Predictor.load(trained, domain="city").save_pretrained(tmp_path / "exported")
    file = RunDirectory(trained).last_model()
    of_run, of_file, of_folder = (info(path) for path in (trained, file, folder))
    assert of_run.network == of_file.network == of_folder.network
    assert of_run.recipe is None
    for found in (of_run, of_file, of_folder):
        assert found.facts["heads"] == ["agnostic", "specialist"]
        assert found.facts["trained"] == "backbone, decoder and heads"
        assert found.facts["classes"][0] == "flat"
        assert found.facts["image size"] == "64x32"
        assert found.facts["other shapes"] == "are stretched"
        assert set(found.facts["statistics of"]) == {"sim", "city", "dust", "night"}
        assert found.facts["default statistics"] == "running"
        assert found.facts["normalisation"] == "11 batch norms"
    assert "exported with" not in of_file.facts
    assert of_folder.facts["exported with"] == "the head agnostic, statistics city, weights model"
    assert of_file.texts["memory of"] == "none"
    assert of_file.facts["file"].startswith(f"{file}, 0.")


def test_tables_fit_a_terminal(trained: Path) -> None:
    found = info(trained)
    output = io.StringIO()
    screen = Console(file=output, width=80)
    screen.print(facts_table("a name [of] brackets", found.texts))
    screen.print(parameters_table(found.network).terminal())
    screen.print(features_table(found.network).terminal())
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in output.getvalue()
    assert lines[0].strip() == "a name [of] brackets"
    assert "│ total           │ 115,040 │ 115,040 │      0 │" in lines


def test_the_command(muhdi, tiny: Tiny, trained: Path, tmp_path: Path) -> None:
    status, output, errors = muhdi("info", tiny(), "--measure", "--json", "info.json", "--quiet")
    assert (status, errors) == (0, "")
    for words in ("starts from", "random weights", "GFLOP", "frozen", "stride", "images/s"):
        assert words in output
    data = json.loads((tmp_path / "info.json").read_text())
    assert data["name"] == "tiny"
    assert data["network"]["parts"][0] == {
        "name": "backbone",
        "parameters": 74_608,
        "trained": 74_608,
    }
    assert [stage["name"] for stage in data["dry_run"]["stages"]] == ["source", "city", "night"]
    assert data["dry_run"]["seconds"] > 0
    status, output, _ = muhdi("info", trained, "--size", 128, 64)
    assert status == 0
    assert "statistics of" in output
    assert "Features of an image of 128x64" in output
    assert "dry_run" not in to_json(info(trained))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["info.json", "tiny.yml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scens"], "scens: no such run directory, network file or recipe; did you mean 'scenes'?"),
        (["no.yml"], "no.yml: the recipe file does not exist"),
        (["RUN", "--set", "seed=1"], "--set: changes a recipe, but"),
        (["RUN", "--measure"], "--measure: tries a recipe, but"),
        (["scenes", "--size", "8", "64"], "size 8x64: both sides must be at least 16"),
        (["scenes", "--json", "."], ".: is not a regular file"),
        (["net.onnx"], "net.onnx: is an exported file, which only muhdi predict takes"),
        (["net.safetensors"], "net.safetensors: not a readable network file"),
    ],
)
def test_mistakes_are_one_line(
    muhdi, trained: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    for name in ("net.onnx", "net.safetensors"):
        (tmp_path / name).write_bytes(b"nothing")
    status, output, errors = muhdi(
        "info", *(word.replace("RUN", str(trained)) for word in arguments)
    )
    assert (status, output) == (2, "")
    assert errors.startswith(f"error: {message}")
    assert errors.count("\n") == 1


def test_a_recipe_that_is_not_trusted_is_refused(tiny: Tiny) -> None:
    path = tiny(model={"backbone": {"class": "nowhere:Backbone"}})
    with pytest.raises(MuhdiError, match="nowhere"):
        info(load_recipe(path, trust_code=False))
