"""What a network that pads images adapts to: the image, and nothing of the padding."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from muhdi.data.sets import Fit, Size
from muhdi.deploy.online import nearest_multiples, whole_image
from muhdi.deploy.predictor import Predictor
from muhdi.models.backbones.base import Backbone, FeatureInfo
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.segmenter import Segmenter, build_segmenter
from muhdi.recipe.backbones import DecoderConfig, SmallConfig
from tests.online.tiny import online

Muhdi = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("given", "size", "fit", "expected"),
    [
        ((100, 50), (64, 64), "stretch", (64, 64)),
        ((100, 50), (64, 64), "pad", (64, 32)),
        ((50, 100), (64, 64), "pad", (32, 64)),
        ((99, 70), (640, 320), "pad", (452, 320)),
        ((640, 320), (640, 320), "pad", (640, 320)),
    ],
)
def test_the_whole_image_is_shown_without_a_frame(
    given: Size, size: Size, fit: Fit, expected: Size
) -> None:
    assert whole_image(given, size, fit) == expected


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [
        ((641, 99), 1, (641, 99)),
        ((640, 320), 32, (640, 320)),
        ((640, 320), 14, (644, 322)),
        ((655, 656), 32, (640, 672)),
        ((7, 1000), 32, (32, 992)),
    ],
)
def test_the_nearest_multiples(size: Size, multiple: int, expected: Size) -> None:
    assert nearest_multiples(size, multiple) == expected


# --- what is learned from, at the network itself --------------------------------------------------


class Pointwise(Backbone):
    """Each pixel is seen by itself, so that no padding can reach one of the image."""

    family = "plain"

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple
        self.padding = (255.0, 0.0, 255.0)
        self.features = [FeatureInfo(4, 1), FeatureInfo(4, 1)]
        self.first = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.norm(self.first(images.float() / 255)).relu()
        return x, x


def pointwise(multiple: int) -> Segmenter:
    """The same weights with every multiple."""
    torch.manual_seed(0)
    network = Segmenter(Pointwise(multiple), 3, decoder=DecoderConfig(name="linear"))
    return network.requires_grad_(False).eval()


IMAGES = torch.randint(
    0, 256, (1, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("tent", {}),
        ("tent", {"loss": "hard_label"}),
        ("sar", {"margin": 1.0, "radius": 0.01}),
        ("cotta", {"scales": [1.0], "restore": 0.0}),
    ],
)
def test_no_loss_counts_the_padding(method: str, options: dict[str, Any]) -> None:
    learned = []
    for multiple in (1, 16):
        network = pointwise(multiple)
        found = online(network, method, statistics="given", learning_rate=0.1, **options)
        before = network.backbone.norm.weight.clone()
        logits = found.observe(IMAGES)
        assert not torch.equal(network.backbone.norm.weight, before)
        learned.append((logits, network.state_dict()))
    (logits, state), (other_logits, other_state) = learned
    assert torch.allclose(other_logits, logits, atol=1e-5)
    for name, value in state.items():
        assert torch.allclose(other_state[name].float(), value.float(), atol=1e-5), name


def test_moments_count_no_padding_where_a_size_needs_none() -> None:
    whole = torch.cat([IMAGES, IMAGES], 3)[:, :, :16, :32].contiguous()
    for images, alike in ((whole, True), (IMAGES, False)):
        moments = []
        for multiple in (1, 16):
            network = pointwise(multiple)
            online(network, "bn").observe(images)
            moments.append(network.backbone.norm.running_mean)
        assert torch.allclose(*moments, atol=1e-5) is alike


# --- through files and the command line -----------------------------------------------------------


def write_network(path: Path, section: Any, size: Size, fit: Fit = "stretch") -> None:
    torch.manual_seed(0)
    network = build_segmenter(section, 3)
    save_checkpoint(path, Checkpoint(network, section, ("a", "b", "c"), size, fit=fit))


def take_photos(folder: Path) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(2):
        pixels = rng.integers(0, 256, (48, 80 + 20 * number, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same network."""
    state, others = (load_checkpoint(path).network.state_dict() for path in (one, other))
    return all(torch.equal(value, others[name]) for name, value in state.items())


TOLD = "images are shown at 64x32, not at 72x40, since the network pads sides to multiples of 32"


def adapted(muhdi: Muhdi, folder: Path, network: str, method: str, *size: int) -> tuple[Path, str]:
    """The adapted network's file, and what was said."""
    out = f"{Path(network).stem}_{method}_{'x'.join(map(str, size))}"
    asked = ("--size", *size) if size else ()
    words = (network, "--online", "photos", "-o", out, "--method", method, *asked, "--quiet")
    status, _, errors = muhdi("adapt", *words)
    assert status == 0, errors
    remarks = json.loads((folder / out / "online.json").read_text())["remarks"]
    return folder / out / "network.safetensors", "".join(remarks)


@pytest.mark.parametrize("method", ["bn", "tent"])
def test_a_network_is_shown_sizes_that_it_does_not_pad(
    muhdi: Muhdi, tmp_path: Path, method: str
) -> None:
    tiny_transformers = pytest.importorskip("tests.models.tiny_transformers")
    write_network(tmp_path / "net.safetensors", tiny_transformers.section("segformer"), (64, 32))
    take_photos(tmp_path / "photos")
    usual, remarks = adapted(muhdi, tmp_path, "net.safetensors", method)
    assert not remarks
    asked, remarks = adapted(muhdi, tmp_path, "net.safetensors", method, 72, 40)
    assert remarks == TOLD, "once, not for every image"
    assert same(asked, usual)
    other, remarks = adapted(muhdi, tmp_path, "net.safetensors", method, 96, 32)
    assert not remarks
    assert not same(other, usual)
    for number in "01":
        ids = [np.asarray(Image.open(path.parent / f"ids/{number}.png")) for path in (usual, asked)]
        assert np.array_equal(*ids)
        assert ids[0].shape == (48, 80 + 20 * int(number))


def test_a_network_that_learned_from_padded_images_goes_on_seeing_them(
    muhdi: Muhdi, tmp_path: Path
) -> None:
    tiny_transformers = pytest.importorskip("tests.models.tiny_transformers")
    write_network(tmp_path / "net.safetensors", tiny_transformers.section("segformer"), (72, 40))
    take_photos(tmp_path / "photos")
    assert muhdi("predict", "net.safetensors", "photos", "-o", "seen", "--quiet")[0] == 0
    path, remarks = adapted(muhdi, tmp_path, "net.safetensors", "none")
    assert not remarks
    for number in "01":
        expected = np.asarray(Image.open(tmp_path / f"seen/ids/{number}.png"))
        assert np.array_equal(np.asarray(Image.open(path.parent / f"ids/{number}.png")), expected)


@pytest.mark.parametrize(("kind", "size"), [("small", (64, 38)), ("segformer", (64, 32))])
def test_a_frame_is_no_image_to_adapt_to(
    muhdi: Muhdi, tmp_path: Path, kind: str, size: Size
) -> None:
    section: Any = SmallConfig()
    if kind != "small":
        section = pytest.importorskip("tests.models.tiny_transformers").section(kind)
    for fit in ("pad", "stretch"):
        write_network(tmp_path / f"{fit}.safetensors", section, (64, 64), fit)
    take_photos(tmp_path / "photos")
    (tmp_path / "photos/1.png").unlink()  # of another shape
    found, remarks = adapted(muhdi, tmp_path, "pad.safetensors", "tent")
    assert not remarks
    assert same(found, adapted(muhdi, tmp_path, "stretch.safetensors", "tent", *size)[0])
    assert not same(found, adapted(muhdi, tmp_path, "stretch.safetensors", "tent")[0])


def test_a_service_is_told_of_another_size(tmp_path: Path) -> None:
    tiny_transformers = pytest.importorskip("tests.models.tiny_transformers")
    write_network(tmp_path / "net.safetensors", tiny_transformers.section("segformer"), (64, 32))
    predictor = Predictor.load(tmp_path / "net.safetensors", device="cpu")
    session = predictor.adapt_by("bn")
    image = np.zeros((50, 90, 3), np.uint8)
    assert predictor.adapt(image, size=(72, 40)).ids.shape == (50, 90)
    assert session.method.remarks() == [TOLD]
    predictor.adapt(image, size=(72, 40))
    assert session.method.remarks() == []
