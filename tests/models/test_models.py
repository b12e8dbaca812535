"""Networks: heads, teachers, normalisation statistics, files.

The reference's numbers are in `golden_networks`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from muhdi.errors import MuhdiError
from muhdi.method import MethodContext
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from muhdi.models.decoders import AsppSum
from muhdi.models.fast import WIDE, classify_folded
from muhdi.models.inference import Inference
from muhdi.models.initial import initialise
from muhdi.models.outputs import AGNOSTIC, SPECIALIST
from muhdi.models.reference_weights import to_reference
from muhdi.models.segmenter import build_segmenter
from muhdi.models.statistics import measure_statistics, read_statistics
from muhdi.models.teacher import Teacher
from muhdi.recipe.backbones import read_backbone
from muhdi.recipe.retentions import MuHDiConfig, NoRetentionConfig


@pytest.mark.parametrize("backbone", ["small", "resnet50", "resnet101"])
def test_every_backbone_makes_logits_of_every_head_at_both_levels(backbone: str) -> None:
    model = build_segmenter(backbone, 5, (AGNOSTIC, SPECIALIST)).eval()
    images = torch.randint(0, 256, (1, 3, 33, 49), dtype=torch.uint8)
    with torch.no_grad():
        outputs = model(images)
        assert torch.equal(model.segment(images), outputs.heads[AGNOSTIC].main)
        assert torch.equal(
            model(images.float()).heads[SPECIALIST].aux, outputs.heads[SPECIALIST].aux
        )
    assert len(outputs.features) == 4
    for level in (*outputs.heads[AGNOSTIC], *outputs.heads[SPECIALIST]):
        assert level.shape[:2] == (1, 5)


def test_new_heads_copy_the_agnostic_one_and_share_nothing() -> None:
    model = build_segmenter("small", 3)
    retention = MuHDiConfig().build(
        MethodContext(3, ("aux", "main"), SPECIALIST, torch.Generator())
    )
    retention.start_heads(model)
    agnostic, specialist = model.heads[AGNOSTIC], model.heads[SPECIALIST]
    for a, b in zip(agnostic.parameters(), specialist.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.data_ptr() != b.data_ptr()
    NoRetentionConfig().build(MethodContext(3, ("main",), AGNOSTIC, torch.Generator())).start_heads(
        model
    )
    assert list(model.heads) == [AGNOSTIC]


def _images(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 32, 48), dtype=torch.uint8)


def test_a_teacher_never_changes_and_agrees_with_an_equal_student() -> None:
    student = build_segmenter("small", 3).train()
    teacher = Teacher(student)
    before = {
        key: value.clone()
        for key, value in teacher.state_dict().items()
        if "num_batches" not in key
    }
    images = _images(2)
    teacher.train()
    taught = teacher(images)
    assert torch.equal(taught.heads[AGNOSTIC].main, student(images).heads[AGNOSTIC].main.detach())
    assert not taught.heads[AGNOSTIC].main.requires_grad
    after = teacher.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    running = Teacher(student, "running")
    assert torch.equal(running(images).features[3], student.eval()(images).features[3])


def test_mean_teacher_follows() -> None:
    student = build_segmenter("small", 3)
    teacher = Teacher(student)
    old = next(student.parameters()).detach().clone()
    with torch.no_grad():
        next(student.parameters()).add_(1.0)
    teacher.follow(student, 0.75)
    assert torch.allclose(next(teacher.model.parameters()), old + 0.25)


def test_statistics_of_a_domain_are_those_of_its_batches_and_leave_the_network_alone() -> None:
    model = build_segmenter("small", 3).eval()
    images = _images(4)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    domain = measure_statistics(model, [images])
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    assert not model.training
    with torch.no_grad():
        own = model.train().segment(images)
        model.load_state_dict(before)
        stored = Inference(model.eval(), statistics="domain", stored=domain)(images)
    # One batch: its own statistics are the domain's, but for the unbiased variance that is stored.
    assert torch.allclose(own, stored, atol=2e-2 * float(own.abs().max()))
    assert all(torch.equal(read_statistics(model)[key], before[key]) for key in domain)


def test_statistics_of_a_domain_are_measured_without_dropout() -> None:
    model = build_segmenter("small", 3)
    block = model.backbone.layer1
    block.add_module("dropout", torch.nn.Dropout2d(0.5))
    block.register_forward_hook(lambda block, inputs, output: block.dropout(output))
    model.train()
    images = _images(4)
    first = measure_statistics(model, [images])
    second = measure_statistics(model, [images])
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(module.training for module in model.modules()), "modes are as they were"


def test_checkpoint_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    model = build_segmenter("small", 3, (AGNOSTIC, SPECIALIST))
    statistics = {"a/b domain": read_statistics(model)}
    path = tmp_path / "net.safetensors"
    save_checkpoint(
        path, Checkpoint(model, read_backbone("small"), ("a", "b", "c"), (48, 32), statistics)
    )
    loaded = load_checkpoint(path)
    assert loaded.classes == ("a", "b", "c")
    assert loaded.image_size == (48, 32)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value)
    assert {k: v.sum() for k, v in loaded.statistics["a/b domain"].items()} == {
        k: v.sum() for k, v in statistics["a/b domain"].items()
    }


def test_torchvision_names_start_the_backbone_alone_and_see_the_same_colours(
    tmp_path: Path,
) -> None:
    donor, model = build_segmenter("resnet50", 3), build_segmenter("resnet50", 4)
    state = {
        k.removeprefix("backbone."): v
        for k, v in donor.state_dict().items()
        if k.startswith("backbone.")
    }
    path = tmp_path / "resnet50.pth"
    torch.save(state | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, path)
    assert not initialise(model, path, read_backbone("resnet50"), ()).heads
    assert torch.equal(model.backbone.layer4[2].conv3.weight, donor.backbone.layer4[2].conv3.weight)
    # What the file's own first convolution makes of a difference of two pictures, as torchvision
    # prepares them.
    a, b = _images(2).float().split(1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    expected = torch.conv2d((a - b) / 255 / deviation, state["conv1.weight"], stride=2, padding=3)
    ours = [model.backbone.conv1(model.backbone.normalise(x)) for x in (a, b)]
    assert torch.allclose(ours[0] - ours[1], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b"nonsense"), "not a readable network file"),
        (
            lambda path: torch.save({"conv1.weight": torch.zeros(1)}, path),
            "does not fit this network",
        ),
        (lambda path: torch.save([1, 2], path), "holds no state dict"),
        (lambda path: None, "does not exist"),
    ],
)
def test_a_file_that_fits_nothing_is_refused_by_name(tmp_path: Path, make, words: str) -> None:
    path = tmp_path / "bad.pth"
    make(path)
    with pytest.raises(MuhdiError, match=words) as error:
        initialise(build_segmenter("small", 3), path, read_backbone("small"), ("a", "b", "c"))
    assert "bad.pth" in str(error.value)


def test_a_pickle_is_refused_and_executes_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(MuhdiError, match=r"evil\.pth"):
        initialise(build_segmenter("small", 3), tmp_path / "evil.pth", read_backbone("small"), ())
    assert not (tmp_path / "executed").exists()


def test_another_architecture_or_class_count_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_checkpoint(
        path, Checkpoint(build_segmenter("small", 2), read_backbone("small"), ("a", "b"), (48, 32))
    )
    with pytest.raises(MuhdiError, match="backbone is 'small'"):
        initialise(build_segmenter("resnet50", 2), path, read_backbone("resnet50"), ("a", "b"))
    with pytest.raises(MuhdiError, match="knows 2 classes"):
        initialise(build_segmenter("small", 3), path, read_backbone("small"), ("a", "b", "c"))


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.encoder."])
def test_a_wrapped_backbone_is_the_same_backbone(tmp_path: Path, prefix: str) -> None:
    """Whatever stands before the names: the first convolution is converted all the same."""
    donor = build_segmenter("resnet50", 3)
    state = {
        k.removeprefix("backbone."): v
        for k, v in donor.state_dict().items()
        if k.startswith("backbone.")
    }
    torch.save(state, tmp_path / "plain.pth")
    torch.save(
        {"state_dict": {prefix + key: value for key, value in state.items()}},
        tmp_path / "wrapped.pth",
    )
    plain, wrapped = build_segmenter("resnet50", 3), build_segmenter("resnet50", 3)
    for model, name in ((plain, "plain.pth"), (wrapped, "wrapped.pth")):
        assert not initialise(model, tmp_path / name, read_backbone("resnet50"), ()).heads
    assert torch.equal(plain.backbone.conv1.weight, wrapped.backbone.conv1.weight)
    assert not torch.equal(plain.backbone.conv1.weight, donor.backbone.conv1.weight)


@pytest.mark.parametrize("prefix", ["module.", "net."])
def test_a_wrapped_reference_network_keeps_its_heads(tmp_path: Path, prefix: str) -> None:
    donor = build_segmenter("resnet50", 3)
    torch.save(
        {prefix + k: v for k, v in to_reference(donor.state_dict()).items()}, tmp_path / "net.pth"
    )
    model = build_segmenter("resnet50", 3)
    assert initialise(model, tmp_path / "net.pth", read_backbone("resnet50"), ()).heads
    assert all(
        torch.equal(value, donor.state_dict()[key]) for key, value in model.state_dict().items()
    )


def test_quick_classifiers_are_the_plain_sums() -> None:
    torch.manual_seed(0)
    classifiers = [AsppSum(WIDE, 5, (6, 12, 18, 24)).double() for _ in range(2)]
    x = torch.randn(2, WIDE, 13, 30, dtype=torch.float64, requires_grad=True)
    quick, plain = classify_folded(classifiers, x), [classifier(x) for classifier in classifiers]
    for a, b in zip(quick, plain, strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    parameters = [p for classifier in classifiers for p in classifier.parameters()]
    gradients = [
        torch.autograd.grad(sum(y.square().sum() for y in ys), [x, *parameters])
        for ys in (quick, plain)
    ]
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-9)
