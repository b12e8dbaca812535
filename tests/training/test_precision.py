"""Precision, memory format and compilation: how fast, not what."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch

from muhdi.models.checkpoint import load_checkpoint
from muhdi.models.segmenter import Segmenter
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.training.fabric import precision_notes, used_precision
from muhdi.training.stage import StageTrainer
from muhdi.workflows.train import train

METHODS = ["every_step.adaptation=selftrain", "every_step.retention=muhdi"]
Tiny = Callable[..., Path]


def run(
    tiny: Tiny, folder: Path, *settings: str
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Weights and metric lines of a run."""
    recipe = load_recipe(tiny(), [*METHODS, *settings])
    train(recipe, folder, quiet=True)
    directory = RunDirectory.of(recipe, folder)
    lines = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    return load_checkpoint(directory.last_model()).network.state_dict(), lines


@contextmanager
def interrupted_after(last: int) -> Iterator[None]:
    """The process is interrupted before its iteration number ``last`` + 1."""
    iterate = StageTrainer.iterate

    def interrupted(self, *batches):
        if self.iteration == last:
            raise KeyboardInterrupt
        return iterate(self, *batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageTrainer, "iterate", interrupted)
        yield


def far(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    """Largest difference of any parameter."""
    assert one.keys() == two.keys()
    return max(
        float((two[key].float() - value.float()).abs().max())
        for key, value in one.items()
        if "running" not in key
    )


def test_channels_last_is_the_same_training(tiny: Tiny, tmp_path: Path) -> None:
    one, two = (run(tiny, tmp_path / word, f"channels_last={word}") for word in ("false", "true"))
    assert (
        far(one[0], two[0]) < 2e-3
    )  # AdamW's first steps are as large as its learning rate, whatever the rounding
    for a, b in zip(one[1], two[1], strict=True):
        assert a.keys() == b.keys()
        assert a["seg_main"] == pytest.approx(b["seg_main"], rel=0.02)


def test_bf16_computes_in_bf16_and_keeps_float32_weights(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    forward = Segmenter.forward

    def noted(self, images):
        outputs = forward(self, images)
        if torch.is_grad_enabled():
            seen.add(outputs.features[3].dtype)
        return outputs

    monkeypatch.setattr(Segmenter, "forward", noted)
    weights, lines = run(tiny, tmp_path, "precision=bf16-mixed", "channels_last=true")
    assert seen == {torch.bfloat16}
    assert all(
        value.dtype == torch.float32 for value in weights.values() if value.is_floating_point()
    )
    exact, others = run(tiny, tmp_path / "exact")
    assert lines[0]["seg_main"] == pytest.approx(others[0]["seg_main"], rel=0.02)
    assert far(weights, exact) > 0


@pytest.mark.parametrize(
    ("device", "there", "native", "used"),
    [
        ("auto", True, True, "bf16-mixed"),
        ("cuda:1", True, True, "bf16-mixed"),
        ("auto", True, False, "32-true"),
        ("cpu", True, True, "32-true"),
        ("auto", False, False, "32-true"),
    ],
)
def test_auto_is_what_the_device_computes_in(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, device: str, there: bool, native: bool, used: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 if there else 0)
    monkeypatch.setattr(torch.cuda, "device", lambda number: nullcontext())
    # An older GPU imitates what it cannot compute.
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: native or including_emulation,
    )
    settings = [f"runtime.device={device}"]
    assert used_precision(load_recipe(tiny(), [*settings, "precision=auto"])) == used
    assert used_precision(load_recipe(tiny(), settings)) == "32-true"
    fixed = load_recipe(tiny(), [*settings, "precision=bf16-mixed"])
    assert used_precision(fixed) == "bf16-mixed"
    assert precision_notes(fixed, "32-true") == []


def test_another_precision_than_before_is_said(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe(tiny(steps=[]), ["precision=auto", "runtime.device=cpu"])
    with interrupted_after(2), pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path)
    assert "precision: auto is 32-true on this device" in capsys.readouterr().out
    states = RunDirectory.of(recipe, tmp_path).states
    state, _ = states.load()
    assert state["trainer"]["precision"] == "32-true"
    state["trainer"]["precision"] = "bf16-mixed"
    states.save(state, 2, keep=1)
    train(recipe, tmp_path, resume=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "has computed in bf16-mixed so far and continues in 32-true" in said
    folder = RunDirectory.of(recipe, tmp_path).folder
    sessions = json.loads((folder / "environment.json").read_text())
    assert [session["precision"] for session in sessions] == ["32-true", "32-true"]
    assert "<dt>precision</dt>" in (folder / "report.html").read_text()


def test_compiled_networks_keep_their_names_and_numbers(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs are taken as the compiler takes them, and run by PyTorch itself.

    Generating code takes minutes.
    """
    compiled = []

    def eagerly(self):
        compiled.append(self)
        partial(torch.nn.Module.compile, self, backend="eager")()

    monkeypatch.setattr(Segmenter, "compile", eagerly)
    city = {"target": {"dataset": "scenes", "domain": "city", "train": 6, "val": 3}}
    one_step = partial(tiny, steps=[city])
    one, two = (run(one_step, tmp_path / word, f"compile={word}")[0] for word in ("false", "true"))
    # The source's network; in the step the network, the old one and the mean teacher.
    assert len(compiled) == 4
    assert far(one, two) < 1e-6
