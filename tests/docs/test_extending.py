"""docs/extending.md: its classes are trained through a recipe, as the page says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from muhdi import Predictor, train
from muhdi.data.catalog import DataContext
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.taxonomy import custom
from tests.testers import BackboneTester, MethodTester, forget
from tests.testers_data import DatasetTester

PAGE = (Path(__file__).parents[2] / "docs/extending.md").read_text()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The page's code as the package ``mypackage``."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 4
    (tmp_path / "mypackage.py").write_text("\n".join(blocks))
    monkeypatch.syspath_prepend(str(tmp_path))
    forget("mypackage")
    import mypackage

    yield mypackage
    forget("mypackage")


@pytest.fixture
def recipe(package: object, tmp_path: Path) -> Path:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    path = tmp_path / "striped.yml"
    path.write_text(block)
    return path


@pytest.mark.parametrize("retention", ["none", "muhdi"])
def test_the_page_trains_through_its_recipe(recipe: Path, tmp_path: Path, retention: str) -> None:
    settings = [f"every_step.retention={retention}", "runtime.log_every=1"]
    loaded = load_recipe(recipe, settings)
    results = train(loaded, tmp_path / "e", quiet=True)
    assert [step["name"] for step in results.steps] == ["source", "dim"]
    run = RunDirectory.of(loaded, tmp_path / "e")
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    squares = [line["square"] for line in lines if line["stage"] == "dim"]
    assert len(squares) == 20
    assert -0.05 <= min(squares) < max(squares) <= -0.025 + 1e-6, "-w Σ p² / 2 of two classes"
    assert squares[-1] < squares[0], "it learns to be certain"
    assert ("kt_main" in lines[-1]) == (retention == "muhdi")
    predictor = Predictor.load(run.folder, trust_code=True)
    assert "FourConvolutions" in repr(predictor)


def test_its_classes_pass_the_testers(package, tmp_path: Path) -> None:
    MethodTester(package.MaxSquareConfig()).run_all()
    BackboneTester(package.FourConvolutionsConfig()).run_all()
    context = DataContext(custom(["dark", "light"]), (48, 32), ".", 0)
    DatasetTester(package.StripesConfig(name="dim", shade=0.4), context, tmp_path).run_all()


def test_its_online_method_adapts(package, trained: Path) -> None:
    predictor = Predictor.load(trained)
    session = predictor.adapt_by("mypackage:Squares", weight=0.5, learning_rate=1e-3)
    before = {name: value.clone() for name, value in session.method.weights.items()}
    frame = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    assert predictor.adapt(frame).ids.shape == (32, 64)
    after = session.method.weights
    assert any(not before[name].equal(after[name]) for name in before)
    assert session.section.model_dump(mode="json", by_alias=True)["class"] == "mypackage:Squares"


def test_its_entry_point_is_toml_of_a_known_group() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    assert '"muhdi.adaptations"' in block
    assert yaml.safe_load(block.splitlines()[1].replace(" = ", ": ")) == {
        "max_square": "mypackage:MaxSquare"
    }
