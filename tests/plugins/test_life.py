"""The life of a method: what it hands on, how often it ends, and what the loop refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from muhdi.errors import RunError
from muhdi.models.checkpoint import load_checkpoint
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.workflows.train import train
from tests.workflows.test_train import Crash, crashing

Foreign = Callable[..., Path]

SOURCE = '''
import torch
from torch import nn
from muhdi import Retention
from muhdi.method import OwnNetwork
from muhdi.recipe.retentions import RetentionConfig

class KeeperConfig(RetentionConfig):
    """No options."""

class Keeper(Retention):
    """Counts how often it has ended, and remembers the network's own parameters."""
    config_class = KeeperConfig

    def begin(self, network, memory, batches):
        self.register_buffer("ends", memory.get("ends", torch.zeros(())).clone())

    def end(self, network, batches):
        self.ends += 1
        weights = {name.replace(".", "/"): p for name, p in network.named_parameters()}
        return {"ends": self.ends, **weights}

class ForgetfulConfig(RetentionConfig):
    """No options."""

class Forgetful(Keeper):
    config_class = ForgetfulConfig
    def end(self, network, batches):
        return {"ends": 3}

class NamedConfig(RetentionConfig):
    """No options."""

class Named(Keeper):
    """Has a network whose file would be the trained network's."""
    config_class = NamedConfig
    name = "model"

    def __init__(self, config, context):
        super().__init__(config, context)
        self.layer = nn.Linear(2, 2)

    def own_networks(self):
        optimizer = torch.optim.SGD(self.layer.parameters(), 0.1)
        return {self.name: OwnNetwork(self.layer, optimizer, 0.1)}

class SlopedConfig(RetentionConfig):
    """No options."""

class Sloped(Named):
    config_class = SlopedConfig
    name = "a/b"

class LooseConfig(RetentionConfig):
    """No options."""

class Loose(Keeper):
    """Has a parameter that nobody trains."""
    config_class = LooseConfig
    def __init__(self, config, context):
        super().__init__(config, context)
        self.scale = nn.Parameter(torch.ones(()))

class RecorderConfig(RetentionConfig):
    """No options."""

class Recorder(Keeper):
    config_class = RecorderConfig
    def penalty(self, network):
        return {"iteration": next(network.parameters()).sum()}

class TwiceConfig(RetentionConfig):
    """No options."""

class Twice(Keeper):
    config_class = TwiceConfig
    def penalty(self, network):
        return {"seg_main": next(network.parameters()).sum()}
'''


@pytest.fixture
def recipe_with(lanterns: Path, foreign: Foreign) -> Callable[..., Path]:
    """A recipe with a retention of the source above, by its name."""
    (lanterns / "lives.py").write_text(SOURCE)
    sys.modules.pop("lives", None)

    def write(name: str) -> Path:
        retention = {"class": f"lives:{name}"}
        return foreign(every_step={"iterations": 4, "batch_size": 2, "retention": retention})

    return write


def memory_of(run: RunDirectory) -> dict[str, torch.Tensor]:
    return load_checkpoint(run.last_model(), trust_code=True).memory["lives:Keeper"]


def test_a_step_ends_once_however_often_it_is_resumed(
    recipe_with: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash after its end, in the evaluation, and one in the next step."""
    recipe = load_recipe(recipe_with("Keeper"))
    train(recipe, tmp_path / "whole", quiet=True)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr("muhdi.workflows.train.evaluate_domains", _die)
            with pytest.raises(Crash):
                train(recipe, tmp_path / "broken", resume=True, quiet=True)
    with monkeypatch.context() as patch:
        crashing(patch, 6)
        with pytest.raises(Crash):
            train(recipe, tmp_path / "broken", resume=True, quiet=True)
    train(recipe, tmp_path / "broken", resume=True, quiet=True)
    whole = RunDirectory.of(recipe, tmp_path / "whole")
    broken = RunDirectory.of(recipe, tmp_path / "broken")
    assert memory_of(whole)["ends"] == 2, "two steps; the source has no retention"
    for one, two in zip(whole.models(), broken.models(), strict=True):
        assert one.read_bytes() == two.read_bytes()


def _die(*arguments: object, **keywords: object) -> None:
    raise Crash


def test_memory_is_a_copy_of_what_it_was(
    recipe_with: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second step trains the very parameters that the first has remembered."""
    recipe = load_recipe(recipe_with("Keeper"))
    with monkeypatch.context() as patch:
        crashing(patch, 10)
        with pytest.raises(Crash):
            train(recipe, tmp_path, quiet=True)
    run = RunDirectory.of(recipe, tmp_path)
    state, _ = run.states.load()
    assert state is not None
    assert state["stage"] == 2
    remembered = state["memory"]["lives:Keeper"]
    first = load_checkpoint(run.models()[1], trust_code=True).network.state_dict()
    for name, value in remembered.items():
        if name != "ends":
            assert torch.equal(value, first[name.replace("/", ".")]), name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Forgetful", "lives:Forgetful: end() must return a dict of names and tensors"),
        ("Named", "lives:Named: its own network 'model' needs another name"),
        ("Sloped", "lives:Sloped: its own network 'a/b' needs another name"),
        ("Loose", "lives:Loose: its parameter 'scale' is in no own network"),
        ("Recorder", "lives:Recorder: a loss must not be called 'iteration'"),
        ("Twice", "with lives:Twice: two loss terms are called 'seg_main'"),
    ],
)
def test_what_a_method_must_not_do(
    recipe_with: Callable[..., Path], tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(RunError) as error:
        train(load_recipe(recipe_with(name)), tmp_path / "e", quiet=True)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
