"""`muhdi export`: every format gives what the network gives, on any number and size of images, or
is not kept.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import muhdi as library
from muhdi.data.resize import resize_image
from muhdi.deploy import export as module
from muhdi.deploy.exported import ExportedPredictor, Program
from muhdi.deploy.find import network_file
from muhdi.deploy.predictor import Predictor
from muhdi.deploy.view import View
from muhdi.errors import MuhdiError
from muhdi.evaluation.results import Results
from muhdi.evaluation.views import probabilities_of, resized
from muhdi.models.checkpoint import Checkpoint, save_checkpoint
from muhdi.models.segmenter import build_segmenter
from muhdi.recipe.backbones import read_backbone


def images(trained: Path) -> torch.Tensor:
    files = [trained / f"samples/{name}_1_image.png" for name in ("sim", "night")]
    return torch.from_numpy(
        np.stack([np.asarray(Image.open(file).resize((75, 41))) for file in files])
    ).permute(0, 3, 1, 2)


@pytest.mark.parametrize("backbone", ["small", "resnet50"])
def test_the_plain_network_computes_the_same(backbone: str) -> None:
    torch.manual_seed(0)
    model = build_segmenter(backbone, 7)
    for part in model.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    checkpoint = Checkpoint(model, read_backbone(backbone), tuple("abcdefg"), (64, 48))
    predictor = Predictor(checkpoint, statistics="image")
    exported = module.Exported(predictor, "logits", "native")
    quick = [
        m for m in predictor.modules() if isinstance(m, torch.nn.Conv2d) and m.dilation == (2, 2)
    ]
    assert any(m.kernel_size == (1, 1) for m in quick), "the predictor itself has the quick ways"
    plain = [m for m in exported.modules() if isinstance(m, torch.nn.Conv2d)]
    assert not any(m.kernel_size == (1, 1) and m.dilation != (1, 1) for m in plain)
    for size in ((64, 48), (49, 66), (35, 47)):
        batch = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
        expected = predictor(batch)
        assert (exported(batch) - expected).abs().max() < 1e-4 * expected.abs().max(), size


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of exported files: each takes seconds to write. Nobody may change it.

    ``image.onnx``, and ``night.pt2`` with a domain's statistics and the other head.
    """
    pytest.importorskip("onnxruntime", reason="pip install 'muhdi[onnx]'")
    folder = tmp_path_factory.mktemp("exported")
    library.export(trained, str(folder / "image.onnx"), statistics="image")
    library.export(trained, str(folder / "night.pt2"), domain="night", head="specialist")
    return folder


def test_onnx_takes_bytes_of_any_number_and_size(
    muhdi, trained: Path, exported: Path, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="pip install 'muhdi[onnx]'")
    status, told, errors = muhdi("export", trained, "classes.onnx", "--output", "classes")
    assert status == 0, errors
    assert "verified on 8 images at their own size" in told
    for file, output, statistics in (
        (tmp_path / "classes.onnx", "classes", "running"),
        (exported / "image.onnx", "logits", "image"),
    ):
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        assert (given.name, given.type, given.shape[1]) == ("images", "tensor(uint8)", 3)
        predictor = library.Predictor.load(trained, statistics=statistics)
        for batch in (images(trained), images(trained)[:1, :, :33, :20]):
            (found,) = session.run([output], {"images": batch.contiguous().numpy()})
            assert agreement(predictor, batch, found if found.ndim == 3 else found.argmax(1)) > 0.99
            assert found.dtype == (np.uint8 if output == "classes" else np.float32)
        meta = session.get_modelmeta().custom_metadata_map
        assert json.loads(meta["classes"])[0] == "flat"
        assert meta["statistics"] == statistics


def agreement(predictor: Predictor, batch: torch.Tensor, classes: np.ndarray) -> float:
    """The share of pixels of the class that `Predictor.predict` gives."""
    expected = [predictor.predict(image.permute(1, 2, 0).numpy()).ids for image in batch]
    return float((np.stack(expected) == classes).mean())


def test_torch_export_holds_the_statistics_of_a_domain(
    muhdi, trained: Path, exported: Path, tmp_path: Path
) -> None:
    choices = ("--domain", "night", "--head", "specialist")
    predictor = library.Predictor.load(trained, domain="night", head="specialist")
    batch = images(trained)
    program = torch.export.load(exported / "night.pt2").module()
    assert agreement(predictor, batch, program(batch).argmax(1).numpy()) > 0.99
    # At its own size the network sees, and gives, what the module does.
    status, told, errors = muhdi(
        "export", trained, "native.pt2", *choices, "--input-size", "native"
    )
    assert status == 0, errors
    assert "logits differ by at most" in told
    program = torch.export.load(tmp_path / "native.pt2").module()
    expected = predictor(batch)
    assert (program(batch) - expected).abs().max() < 1e-3 * expected.abs().max()
    # The mirror image and scales are averaged around the file as around the module.
    view = View(flip=True, scales=(0.75, 1.0))
    image = batch[0].permute(1, 2, 0).numpy()
    file = ExportedPredictor(tmp_path / "native.pt2")
    (found,) = file.predict_many([image], view, probabilities=True)
    sizes = [(image.shape[0], image.shape[1])]
    (mean,) = probabilities_of(
        Program(predictor), batch[:1], sizes, view.views(predictor.image_size)
    )
    assert np.abs(found.probabilities - mean.numpy()).max() < 1e-3
    assert (found.ids == mean.argmax(0).numpy()).mean() > 0.99


@pytest.mark.parametrize(
    ("file", "choices"),
    [
        ("image.onnx", ["--statistics", "image"]),
        ("night.pt2", ["--domain", "night", "--head", "specialist"]),
    ],
)
def test_predict_takes_exported_files(
    muhdi, trained: Path, exported: Path, tmp_path: Path, file: str, choices: list[str]
) -> None:
    image = trained / "samples/night_0_image.png"
    network = exported / file
    status, _, errors = muhdi("predict", network, image, "-o", "file", "--probabilities")
    assert status == 0, errors
    assert muhdi("predict", trained, image, "-o", "run", *choices)[0] == 0
    found, expected = (
        np.asarray(Image.open(tmp_path / folder / "ids/night_0_image.png"))
        for folder in ("file", "run")
    )
    assert (found == expected).mean() > 0.99
    classes = [json.loads((tmp_path / f"{f}/classes.json").read_text()) for f in ("file", "run")]
    assert classes[0] == classes[1]
    for words, message in (
        (["--domain", "night"], "head, statistics and weights are inside the file"),
        (["--window"], "decides itself how it sees images"),
        (["--scales", "0.75,1"], "resizes images to one size inside; export it with --input-size"),
    ):
        status, _, errors = muhdi("predict", network, image, "-o", "other", *words)
        assert status == 2
        assert message in errors
    bad = f"bad{network.suffix}"
    (tmp_path / bad).write_bytes(b"nothing")
    status, _, errors = muhdi("predict", bad, image)
    assert status == 2
    assert f"{bad}: not a" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("size", [(90, 120), (31, 40), (48, 64), (120, 64)])
def test_an_exported_file_resizes_as_predict_does(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (size[0] // 4 + 1, size[1] // 4 + 1, 3), np.uint8)
    image = np.array(Image.fromarray(coarse).resize(size[::-1]))
    shown = resized(torch.from_numpy(image).permute(2, 0, 1)[None], (64, 48))
    difference = np.abs(shown[0].permute(1, 2, 0).numpy() - resize_image(image, (64, 48)))
    assert difference.max() <= 3
    assert difference.mean() < 0.25


def test_a_folder_is_loaded_again_with_its_choices_and_has_a_card(
    muhdi, trained: Path, tmp_path: Path
) -> None:
    status, _, errors = muhdi("export", trained, "out/v1.0/", "--domain", "city")
    assert status == 0, errors
    folder = tmp_path / "out/v1.0"
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "config.json",
        "example.png",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert (folder / "model.safetensors").read_bytes() == network_file(trained).read_bytes()
    again = Predictor.from_pretrained(folder)
    image = trained / "samples/city_0_image.png"
    assert (
        again.predict(image).ids
        == library.Predictor.load(trained, domain="city").predict(image).ids
    ).all()
    assert library.Predictor.load(folder, statistics="image").statistics == "image"
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"]["6"] == "vehicle"
    card = (folder / "README.md").read_text()
    for words in (
        "library_name: muhdi",
        "| after | sim | city | dust | night |",
        "retention muhdi, 4 iterations",
        "domain (city) statistics",
        "verified on 8 images",
    ):
        assert words in card
    assert muhdi("predict", folder, image, "-o", "p")[0] == 0
    status, _, errors = muhdi("export", trained, "out/v1.0/")
    assert status == 2
    assert "exists already" in errors
    words = ("--overwrite", "--no-picture", "--licence", "cc-by-4.0")
    assert muhdi("export", trained, "out/v1.0/", *words)[0] == 0
    assert library.Predictor.load(folder).statistics == "running"
    assert not (folder / "example.png").exists()
    card = (folder / "README.md").read_text()
    assert "example.png" not in card
    assert "The weights: cc-by-4.0." in card


def card_head(folder: Path) -> dict:
    """What the hub reads of a model card."""
    _, head, _ = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head)


def test_save_pretrained_writes_what_from_pretrained_loads(trained: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(trained, domain="city")
    folder = predictor.save_pretrained(tmp_path / "net", licence="apache-2.0")
    assert (folder / "model.safetensors").read_bytes() == network_file(trained).read_bytes()
    again = Predictor.from_pretrained(folder)
    assert again.usage == predictor.usage
    head = card_head(folder)
    assert head["license"] == "apache-2.0"
    (entry,) = head["model-index"]
    scored = Results.load(trained).steps[-1]["scores"]["running"]
    told = {result["dataset"]["name"]: result["metrics"][0]["value"] for result in entry["results"]}
    assert told == {domain: scored[domain]["miou"] for domain in ("sim", "city", "dust", "night")}
    with pytest.raises(MuhdiError, match="exists already"):
        predictor.save_pretrained(folder)
    again.save_pretrained(folder, overwrite=True)
    assert card_head(folder)["license"] == "unknown"  # the folder is no run, and says no scores
    assert "model-index" not in card_head(folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(MuhdiError, match="is not an exported folder"):
        predictor.save_pretrained(tmp_path / "mine", overwrite=True)
    with pytest.raises(MuhdiError, match=r"net\.pt2: is the name of a file"):
        predictor.save_pretrained(tmp_path / "net.pt2")
    with pytest.raises(MuhdiError, match="licence: give one line"):
        predictor.save_pretrained(tmp_path / "other", licence="mit\nfoo: bar")
    with pytest.raises(MuhdiError, match=r"notes\.txt: is a file, not a folder"):
        predictor.save_pretrained(tmp_path / "mine/notes.txt", overwrite=True)


def test_the_preprocessor_says_how_an_image_comes_to_the_network(
    trained: Path, tmp_path: Path
) -> None:
    """Followed literally it gives what `Predictor.predict` gives."""
    predictor = Predictor.load(trained)
    folder = predictor.save_pretrained(tmp_path / "net")
    said = json.loads((folder / "preprocessor_config.json").read_text())
    assert said["do_resize"]
    assert not said["do_rescale"]
    assert not said["do_normalize"]
    image = Image.open(trained / "samples/city_0_image.png").resize((150, 90))
    size = (said["size"]["width"], said["size"]["height"])
    seen = np.array(image.resize(size, said["resample"]))
    logits = predictor(torch.from_numpy(seen).permute(2, 0, 1)[None])
    small = predictor.predict(seen).ids
    assert (logits[0].argmax(0).numpy() == small).mean() > 0.999
    own = np.array(Image.fromarray(small).resize(image.size, Image.Resampling.NEAREST))
    assert (predictor.predict(image).ids == own).mean() > 0.9


def test_an_export_that_disagrees_is_not_kept(
    muhdi, trained: Path, tmp_path: Path, monkeypatch
) -> None:
    class Wrong(module.Exported):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images).flip(1)

    monkeypatch.setattr(module, "Exported", Wrong)
    (tmp_path / "net.pt2").write_text("the last one")
    status, _, errors = muhdi("export", trained, "net.pt2", "--overwrite")
    assert status == 2
    assert (
        "net.pt2: the export disagrees with the network (verified on 8 images at their own size:"
        in errors
    )
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt2"]
    assert (tmp_path / "net.pt2").read_text() == "the last one"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.h5"], "net.h5: must end in .onnx or .pt2, or be the name of a folder"),
        (["folder", "--output", "classes"], "a folder holds the network itself"),
        (["net.pt2", "--output", "probs"], "--output probs: must be logits or classes"),
        (["net.pt2", "--input-size", "own"], "--input-size own: must be trained or native"),
        (["net.pt2", "--push", "me/net"], "--push: uploads a folder, but net.pt2 is a file"),
        (["full"], "full: exists already"),
        (["full", "--overwrite"], "full: is not an exported folder, so it is not replaced"),
        (["net.pt2", "--images", "*.gif"], "the pattern matches no image"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    muhdi, trained: Path, tmp_path: Path, words, message
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("all of it")
    status, _, errors = muhdi("export", trained, *words)
    assert status == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == [
        "full",
        "full/thesis.txt",
    ]


def test_a_lone_network_needs_images_to_be_verified_on(
    muhdi, trained: Path, tmp_path: Path, camvid: Path
) -> None:
    save_checkpoint(
        tmp_path / "net.safetensors",
        Checkpoint(build_segmenter("small", 3), read_backbone("small"), ("a", "b", "c"), (48, 32)),
    )
    status, _, errors = muhdi("export", "net.safetensors", "net.pt2")
    assert status == 2
    assert "there are no images to verify the export on" in errors
    pattern = camvid / "source_camvid_day_0016E5/val/images/*.jpg"
    status, told, errors = muhdi("export", "net.safetensors", "net", "--images", pattern)
    assert status == 0, errors
    assert "verified on 8 images" in told


def test_the_hub_gets_the_folder_and_gives_it_back(
    muhdi, trained: Path, tmp_path: Path, monkeypatch
) -> None:
    """Without a network: what huggingface-hub is called with."""
    hub = pytest.importorskip("huggingface_hub", reason="pip install 'muhdi[hf]'")
    calls: dict[str, object] = {}

    class Api:
        def create_repo(self, name: str, **options: object) -> None:
            calls["made"] = name

        def upload_folder(self, **options: object) -> str:
            calls.update(options)
            return "https://huggingface.co/me/net"

    monkeypatch.setattr(hub, "HfApi", Api)
    status, told, errors = muhdi("export", trained, "net", "--push", "me/net")
    assert not (tmp_path / "net/example.png").exists(), "no image leaves unless it is asked for"
    assert status == 0, errors
    assert "Uploaded to https://huggingface.co/me/net" in told
    assert (calls["made"], calls["repo_id"], calls["folder_path"]) == ("me/net", "me/net", "net")
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **options: {"me/net": "net"}[name])
    again = Predictor.from_pretrained("me/net")
    assert again.head == "agnostic"
    assert again.push_to_hub("me/other") == "https://huggingface.co/me/net"
    assert calls["made"] == "me/other"
    assert not Path(str(calls["folder_path"])).exists()


def test_missing_extras_are_named(muhdi, trained: Path, monkeypatch) -> None:
    import sys

    for name, words, advice in (
        ("onnxscript", ["export", trained, "x.onnx"], "pip install 'muhdi[onnx]'"),
        ("huggingface_hub", ["export", trained, "x", "--push", "a/b"], "pip install 'muhdi[hf]'"),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        status, _, errors = muhdi(*words)
        assert status == 2
        assert advice in errors
