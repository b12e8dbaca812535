"""Where ImageNet's weights of ResNets are found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from muhdi.data.domains import Domains
from muhdi.errors import DataError
from muhdi.models.imagenet import find_imagenet
from muhdi.models.segmenter import build_segmenter
from muhdi.recipe.load import load_recipe
from muhdi.training.start import start

pytestmark = pytest.mark.usefixtures("thin_resnets")
FILE = "resnet50-0676ba61.pth"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which PyTorch keeps what it has fetched; without a network."""

    def no_network(address: str, *args: object, **options: object) -> None:
        raise OSError(f"no route to {address}")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_a_file_that_was_fetched_before_starts_a_resnet(hub: Path, tiny) -> None:
    torch.manual_seed(1)
    donor = build_segmenter("resnet50", 2).backbone.state_dict()
    torch.save(
        {**donor, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, hub / FILE
    )
    recipe = load_recipe(tiny(), ["model={backbone: resnet50, init: imagenet}"])
    begun = start(recipe, Domains(recipe))
    own = begun.carried.network.backbone.state_dict()
    assert not begun.trained
    assert torch.equal(own["layer4.2.conv3.weight"], donor["layer4.2.conv3.weight"])
    # RGB scaled to unit deviation becomes BGR of 0..255.
    assert not torch.equal(own["conv1.weight"], donor["conv1.weight"])


def test_a_file_is_fetched_once(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[tuple[str, str]] = []

    def fetch(address: str, path: str, digest: str, progress: bool) -> None:
        fetched.append((address, digest))
        Path(path).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    assert find_imagenet("resnet50") == hub / FILE
    assert find_imagenet("resnet50").read_bytes() == b"weights"
    assert fetched == [(f"https://download.pytorch.org/models/{FILE}", "0676ba61")]


def test_without_a_network_one_line_says_what_to_fetch(hub: Path, muhdi, tiny) -> None:
    words = ("--set", "model={backbone: resnet101, init: imagenet}")
    status, _, errors = muhdi("train", tiny(), *words)
    assert status == 2
    assert "https://download.pytorch.org/models/resnet101-63fe2227.pth" in errors
    assert str(hub / "resnet101-63fe2227.pth") in errors
    with pytest.raises(DataError, match="no route"):
        find_imagenet("resnet101")
