"""What `muhdi evaluate RECIPE` scores: the last network, the best snapshot, given files, ensembles.

And `convert`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from muhdi.cli import app
from muhdi.deploy.convert import convert
from muhdi.errors import MuhdiError
from muhdi.evaluation.results import best_row
from muhdi.evaluation.samples import add_earlier_predictions
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.discriminator import Discriminator
from muhdi.models.ensemble import Ensemble
from muhdi.models.outputs import AGNOSTIC, SPECIALIST
from muhdi.models.reference_weights import to_reference
from muhdi.models.segmenter import build_segmenter
from muhdi.models.tensor_files import read_tensors, save_reference, save_tensors
from muhdi.recipe.backbones import read_backbone
from muhdi.recipe.load import load_recipe
from muhdi.workflows.evaluate import evaluate, evaluate_network
from muhdi.workflows.train import train
from tests.conftest import write_tiny
from tests.folders import day

pytestmark = pytest.mark.usefixtures("thin_resnets")
Tiny = Callable[..., Path]


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a recipe and of its run, which has a snapshot every two iterations."""
    folder = tmp_path_factory.mktemp("trained")
    path = write_tiny(folder, snapshot_every=2, test={"mode": "best", "domains": ["city"]})
    train(load_recipe(path), folder / "exp", quiet=True)
    return folder


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of the recipe, beside one of its run in ``exp``."""
    shutil.copytree(trained_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "tiny.yml"


def test_best_over_snapshots_is_cached_by_content(trained: Path, tmp_path: Path) -> None:
    """Unlike the reference's, the cache knows when a snapshot has changed."""
    results, notes = evaluate_network(trained, experiments=tmp_path / "exp")
    names = [step["name"] for step in results.steps]
    assert names == [
        "0_source/model_2",
        "0_source/model_3",
        "1_city/model_2",
        "1_city/model_3",
        "2_night/model_2",
        "2_night/model_3",
    ]
    assert results.domains == ["city"]
    best = names[best_row(results, "running")]
    assert (
        f"{best} is the best of 6 snapshots, chosen by the validation labels of city" in notes[-1]
    )
    cache = tmp_path / "exp" / "snapshots" / "tiny" / "scores.json"
    known = json.loads(cache.read_text())
    assert len(known) == 6
    for key in known:  # a second evaluation believes the cache
        known[key]["scores"]["running"]["city"]["miou"] = 1.25
    cache.write_text(json.dumps(known))
    again, _ = evaluate_network(trained, experiments=tmp_path / "exp")
    assert again.matrix("running") == [[1.25]] * 6
    folder = cache.parent
    (folder / "1_city" / "model_2.safetensors").write_bytes(
        (folder / "2_night" / "model_3.safetensors").read_bytes()
    )
    changed, _ = evaluate_network(trained, experiments=tmp_path / "exp")
    assert changed.matrix("running")[2] == [1.25]  # the same content as another snapshot
    (folder / "1_city" / "model_2.safetensors").unlink()
    fewer, _ = evaluate_network(
        trained, settings=["test.every=3", "test.until=3"], experiments=tmp_path / "exp"
    )
    assert [step["name"] for step in fewer.steps] == [
        "0_source/model_3",
        "1_city/model_3",
        "2_night/model_3",
    ]


def test_earlier_predictions_need_whole_networks(tiny: Tiny, tmp_path: Path) -> None:
    train(load_recipe(tiny(evaluation={"samples": 1})), tmp_path / "exp", quiet=True)
    run = tmp_path / "exp" / "snapshots" / "tiny"
    earlier = sorted((run / "samples").glob("city_0_predicted_running*"))
    assert len(earlier) == 3, "after every stage"
    before = {file.name: file.read_bytes() for file in earlier}
    for file in earlier:
        if file.name != "city_0_predicted_running.png":
            file.unlink()
    add_earlier_predictions(run)
    assert {file.name: file.read_bytes() for file in earlier} == before
    (run / "1_city" / "model_3.safetensors").write_bytes(b"damaged")
    with pytest.raises(MuhdiError, match="model_3"):
        add_earlier_predictions(run)


def test_a_checkpoint_is_scored_by_a_recipe_alone(trained: Path, tmp_path: Path) -> None:
    network = tmp_path / "exp" / "snapshots" / "tiny" / "2_night" / "model_3.safetensors"
    checkpoint = load_checkpoint(network)
    recipe = load_recipe(trained)
    assert evaluate(checkpoint, recipe).matrix("running") == evaluate(network).matrix("running")
    with pytest.raises(MuhdiError, match="experiments: finds the run of a recipe"):
        evaluate(checkpoint, recipe, experiments=tmp_path / "exp")


def test_the_cache_knows_how_images_are_decoded_and_looked_at(
    trained: Path, tmp_path: Path
) -> None:
    """``draft`` changes pixels; the precision of the training changes no score."""
    cache = tmp_path / "exp" / "snapshots" / "tiny" / "scores.json"
    for setting, rows in (
        ("draft=false", 6),
        ("precision=bf16-mixed", 6),
        ("draft=true", 12),
        ("evaluation.flip=true", 18),
    ):
        evaluate_network(trained, settings=[setting], experiments=tmp_path / "exp")
        assert len(json.loads(cache.read_text())) == rows, setting


def test_last_network_files_and_ensembles(trained: Path, tmp_path: Path) -> None:
    last, _ = evaluate_network(trained, settings=["test.mode=last"], experiments=tmp_path / "exp")
    folder = tmp_path / "exp" / "snapshots" / "tiny"
    files = [str(folder / stage / "model_3.safetensors") for stage in ("1_city", "2_night")]
    one, _ = evaluate_network(trained, settings=[f"test.models=[{files[1]}]"])
    assert one.matrix("domain") == last.matrix("domain")
    both = f"test.models=[{files[0]},{files[1]}]"
    only_second, _ = evaluate_network(trained, settings=[both, "test.weights=[0,1]"])
    assert only_second.matrix("running") == last.matrix("running")
    assert only_second.matrix("domain") == last.matrix("domain")
    with pytest.raises(MuhdiError, match=r"test\.weights: give one for each of the 2"):
        evaluate_network(trained, settings=[both, "test.weights=[1]"])


def test_an_ensemble_adds_logits() -> None:
    models = [build_segmenter("small", 3).eval() for _ in range(2)]
    images = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    with torch.no_grad():
        expected = 2 * models[0].segment(images) + 0.5 * models[1].segment(images)
        assert torch.equal(Ensemble(models, (2.0, 0.5)).segment(images), expected)


def test_native_size_and_a_size_of_ones_own(trained: Path, tmp_path: Path) -> None:
    """Scores at the labels' own size and at a given one both count every pixel."""
    native, _ = evaluate_network(trained, settings=["test.mode=last"], experiments=tmp_path / "exp")
    small, _ = evaluate_network(
        trained,
        settings=["test.mode=last", "evaluation.size=[24,16]"],
        experiments=tmp_path / "exp",
    )
    assert native.matrix("running") != small.matrix("running")


def test_a_recipe_without_a_run_or_with_nothing_to_train(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(MuhdiError, match="holds no snapshot to choose from"):
        evaluate_network(tiny(test={"mode": "best"}), experiments=tmp_path / "nowhere")
    path = tiny(
        source=None,
        steps=[],
        source_training={},
        extra_domains=[{"dataset": "scenes", "domain": "rain"}],
        test={"models": ["gone.pth"]},
    )
    with pytest.raises(MuhdiError, match="trains nothing, it only tests"):
        train(load_recipe(path), tmp_path / "exp", quiet=True)
    with pytest.raises(MuhdiError, match=r"test\.models: the file gone\.pth"):
        evaluate_network(path)


@pytest.mark.parametrize(
    ("heads", "multi_level"), [((AGNOSTIC,), False), ((AGNOSTIC, SPECIALIST), True)]
)
def test_convert_round_trip_is_bit_equal(
    tmp_path: Path, heads: tuple[str, ...], multi_level: bool
) -> None:
    model = build_segmenter("resnet50", 7, heads, multi_level=multi_level)
    save_reference(tmp_path / "model.pth", to_reference(model.state_dict()))
    convert(tmp_path / "model.pth", tmp_path / "ours.safetensors", image_size=(64, 32))
    convert(tmp_path / "ours.safetensors", tmp_path / "back.pth")
    first, second = read_tensors(tmp_path / "model.pth")[0], read_tensors(tmp_path / "back.pth")[0]
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)
    checkpoint = load_checkpoint(tmp_path / "ours.safetensors")
    assert (checkpoint.backbone.key, checkpoint.image_size) == ("resnet50", (64, 32))
    assert tuple(checkpoint.network.heads) == heads


def test_convert_of_a_run_brings_its_discriminators(tiny: Tiny, tmp_path: Path) -> None:
    path = tiny(
        model={"backbone": "resnet50"},
        steps=[{"target": {"dataset": "scenes", "domain": "city", "train": 2, "val": 1}}],
        source_training={"iterations": 1},
        evaluation={"statistics": ["running"], "samples": 0},
        every_step={"iterations": 1, "adaptation": {"method": "advent", "width": 4}},
    )
    train(load_recipe(path), tmp_path / "exp", quiet=True)
    written = convert(tmp_path / "exp" / "snapshots" / "tiny", tmp_path / "model.pth")
    assert written.notes == []
    assert [file.name for file in written.files] == [
        "model.pth",
        "model_D_aux.pth",
        "model_D_main.pth",
    ]
    tensors = read_tensors(tmp_path / "model_D_main.pth")[0]
    assert [tuple(value.shape) for key, value in tensors.items() if key == "0.weight"] == [
        (4, 7, 4, 4)
    ]
    # A step can start from all three files.
    again = [
        "name=again",
        f"model.init={tmp_path}/model.pth",
        "source_training.iterations=0",
        f"every_step.adaptation.init_main={tmp_path}/model_D_main.pth",
        f"every_step.adaptation.init_aux={tmp_path}/model_D_aux.pth",
    ]
    train(load_recipe(path, again), tmp_path / "exp", quiet=True)
    with pytest.raises(MuhdiError, match="does not fit this network"):
        train(
            load_recipe(path, [*again, "name=wide", "every_step.adaptation.width=8"]),
            tmp_path / "exp",
        )
    assert not (tmp_path / "exp" / "snapshots" / "wide").exists()


def test_discriminators_go_on_from_step_to_step(tiny: Tiny, tmp_path: Path) -> None:
    """With ``previous`` a step begins with what the step before it left.

    Killed and resumed, too.
    """
    adaptation = {
        "method": "advent",
        "width": 4,
        "discriminators": "previous",
        "learning_rate": 1e-9,
    }
    path = tiny(every_step={"iterations": 2, "adaptation": adaptation})
    train(load_recipe(path), tmp_path / "exp", quiet=True)
    folder = tmp_path / "exp" / "snapshots" / "tiny"
    first = read_tensors(folder / "1_city" / "D_main_2.safetensors")[0]
    second = read_tensors(folder / "2_night" / "D_main_2.safetensors")[0]
    assert all(torch.allclose(first[key], second[key], atol=1e-6) for key in first)
    fresh = tiny(
        name="fresh",
        every_step={"iterations": 2, "adaptation": adaptation | {"discriminators": "fresh"}},
    )
    train(load_recipe(fresh), tmp_path / "exp", quiet=True)
    other = read_tensors(
        tmp_path / "exp" / "snapshots" / "fresh" / "2_night" / "D_main_2.safetensors"
    )[0]
    assert not torch.allclose(first["0.weight"], other["0.weight"], atol=1e-3)


def test_wrong_conversions_are_one_message(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    model = build_segmenter("resnet50", 5)
    save_reference(tmp_path / "five.pth", to_reference(model.state_dict()))
    for arguments, words in (
        (["five.pth", "a.safetensors"], "it has 5 classes; --classes must name"),
        (["five.pth", "a.txt"], "give a name that ends in .pth"),
        (["five.pth", "five.pth"], "exists already"),
        (["none.pth", "a.safetensors"], "does not exist"),
    ):
        result = CliRunner().invoke(app, ["convert", *(str(tmp_path / name) for name in arguments)])
        assert isinstance(result.exception, MuhdiError)
        assert words in str(result.exception)


def test_the_cache_knows_when_labels_or_scenes_have_changed(folders: Path, tmp_path: Path) -> None:
    """And it repeats the warning about ids that no table lists."""
    recipe = {
        "image_size": [36, 24],
        "root": str(folders),
        "model": {"backbone": "small"},
        "classes": ["a", "b"],
        "source_training": {"iterations": 2, "batch_size": 2},
        "snapshot_every": 1,
        "source": day({0: "a", 7: "b"}),
        "test": {"mode": "best"},
        "evaluation": {"statistics": ["running"], "samples": 0},
    }
    path = tmp_path / "day.yml"
    path.write_text(yaml.safe_dump(recipe))
    train(load_recipe(path), tmp_path / "exp", quiet=True)
    first, notes = evaluate_network(path, experiments=tmp_path / "exp")
    again, repeated = evaluate_network(path, experiments=tmp_path / "exp")
    assert first.steps == again.steps
    assert notes == repeated
    assert "9 (" in notes[-1]
    for label in (folders / "day_labels" / "val").iterdir():
        Image.fromarray(np.zeros((24, 36), np.uint8)).save(label)
    changed, _ = evaluate_network(path, experiments=tmp_path / "exp")
    assert changed.matrix("running") != first.matrix("running")
    refreshed, _ = evaluate_network(path, experiments=tmp_path / "exp", refresh=True)
    cache = tmp_path / "exp" / "snapshots" / "day" / "scores.json"
    known = len(json.loads(cache.read_text()))
    for image in (folders / "day" / "train").glob("*.png"):
        Image.fromarray(np.full((24, 36, 3), 90, np.uint8)).save(image)
    evaluate_network(path, experiments=tmp_path / "exp")
    assert len(json.loads(cache.read_text())) == known
    evaluate_network(path, experiments=tmp_path / "exp", refresh=True)
    assert len(json.loads(cache.read_text())) == known + len(refreshed.steps)
    cache.write_text("[1]")
    with pytest.raises(MuhdiError, match="holds no cached scores; delete it"):
        evaluate_network(path, experiments=tmp_path / "exp")


def test_best_needs_labels_to_choose_by(trained: Path, folders: Path, tmp_path: Path) -> None:
    extra = (
        f"extra_domains=[{{dataset: folder, name: wet, root: {folders}, images:"
        " 'rain/{split}/*.png'}]"
    )
    with pytest.raises(MuhdiError, match="best chooses by validation labels, but wet has none"):
        evaluate_network(
            trained, settings=[extra, "test.domains=[wet]"], experiments=tmp_path / "exp"
        )


def test_snapshots_of_the_reference_with_discriminators_beside_them(
    trained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "theirs"
    for number in (2, 10):
        save_reference(
            folder / f"model_{number}.pth",
            to_reference(build_segmenter("resnet50", 7).state_dict()),
        )
        save_reference(folder / f"model_{number}_D_main.pth", {"0.weight": torch.zeros(1)})
    settings = [f"test.snapshots={folder}", "evaluation.statistics=[running]"]
    results, _ = evaluate_network(trained, settings=settings, experiments=tmp_path / "exp")
    assert [step["name"] for step in results.steps] == ["model_2", "model_10"]
    assert (folder / "scores.json").is_file()


def test_options_that_do_not_go_together_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(MuhdiError, match="is a recipe itself"):
        evaluate_network(trained, recipe="scenes", experiments=tmp_path / "exp")
    with pytest.raises(MuhdiError, match="--experiments and --seed find the run of a recipe"):
        evaluate_network(tmp_path / "exp" / "snapshots" / "tiny", experiments=tmp_path / "exp")


@pytest.mark.parametrize(
    "words",
    [
        ["net.onnx"],
        ["net.onnx", "--recipe", "scenes"],
        ["scenes", "--set", "test.models=[net.onnx]"],
    ],
)
def test_an_exported_file_is_not_evaluated(muhdi, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "net.onnx").write_bytes(b"")
    status, _, errors = muhdi("evaluate", *words)
    assert (status, errors.count("\n")) == (2, 1)
    assert "net.onnx: is an exported file, which only muhdi predict takes; give the" in errors


def test_networks_of_other_strides_can_be_an_ensemble() -> None:
    models = [build_segmenter("small", 3).eval(), build_segmenter("resnet50", 3).eval()]
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert Ensemble(models, (1.0, 1.0)).segment(images).shape == models[0].segment(images).shape


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            {"layer6.conv2d_list.0.bias": torch.zeros(7), "layer3.foo.x": torch.zeros(1)},
            "not a network of the reference",
        ),
        ({"layer6.conv2d_list.0.bias": torch.zeros(())}, "is not a segmentation network"),
        ({"conv1.weight": torch.zeros(2, dtype=torch.float64)}, "would not keep its bits"),
        ({"conv1.weight": torch.zeros(2, 2).to_sparse()}, "is not a plain tensor"),
        (
            {f"{n}.{p}": torch.zeros(1) for n in (0, 2, 4, 6, 8) for p in ("weight", "bias")},
            "not a discriminator",
        ),
    ],
)
def test_odd_network_files_are_refused(tmp_path: Path, tensors: dict, words: str) -> None:
    torch.save(tensors, tmp_path / "odd.pth")
    with pytest.raises(MuhdiError, match=words):
        convert(tmp_path / "odd.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_convert_writes_all_or_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "1_city"
    network = Checkpoint(
        build_segmenter("resnet50", 2), read_backbone("resnet50"), ("a", "b"), (8, 8)
    )
    save_checkpoint(folder / "model_2.safetensors", network)
    (folder / "D_main_2.safetensors").write_bytes(b"damaged")
    (tmp_path / "run" / "2_own").mkdir()
    (tmp_path / "run" / "2_own" / "model_best.safetensors").write_bytes(b"somebody's own")
    with pytest.raises(MuhdiError, match="D_main_2"):
        convert(tmp_path / "run", tmp_path / "model.pth")
    assert not (tmp_path / "model.pth").exists()


def test_convert_leaves_out_networks_that_the_reference_does_not_know(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "1_city"
    network = Checkpoint(
        build_segmenter("resnet50", 2), read_backbone("resnet50"), ("a", "b"), (8, 8)
    )
    save_checkpoint(folder / "model_2.safetensors", network)
    save_tensors(folder / "D_main_2.safetensors", Discriminator(2, 4).state_dict())
    save_tensors(folder / "style_2.safetensors", {"weight": torch.zeros(3)})
    converted = convert(tmp_path / "run", tmp_path / "model.pth")
    assert [file.name for file in converted.files] == ["model.pth", "model_D_main.pth"]
    assert converted.notes == [
        "style_2.safetensors is left out: it is not a discriminator of AdvEnt"
    ]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": {"scores": {"running": null}, "unlisted": {}}}', "{"]
)
def test_a_damaged_cache_is_one_message(trained: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "exp" / "snapshots" / "tiny" / "scores.json").write_text(text)
    with pytest.raises(MuhdiError, match=r"scores\.json"):
        evaluate_network(trained, experiments=tmp_path / "exp")
