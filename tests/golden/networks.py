"""The reference's networks.

Names, shapes and order of the weights, outputs, and what a checkpoint restores.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from muhdi.errors import MuhdiError
from muhdi.method import MethodContext
from muhdi.models.backbones.resnet import DilatedResNet
from muhdi.models.discriminator import Discriminator
from muhdi.models.initial import initialise
from muhdi.models.outputs import AGNOSTIC, SPECIALIST, Outputs
from muhdi.models.reference_weights import from_foreign, to_reference
from muhdi.models.segmenter import Segmenter
from muhdi.recipe.backbones import ResNetConfig, read_backbone
from muhdi.recipe.optimizer import OptimizerConfig
from muhdi.recipe.retentions import MuHDiConfig, NoRetentionConfig
from muhdi.training.optim import build_optimizer, freeze_affine, multiplicity
from tests.golden import numbers as recipe

FULL = (3, 4, 23, 3)
MEASURED = "float32_vs_float64_max_rel_noise_small_muhdi"
TIMES = {"small": 10, "deep": 60}
"""Tolerance of float32 outputs, in multiples of the noise that was measured for the small net."""


def tolerance(facts: dict, net: dict, mode: str) -> float:
    """Relative to the largest value of an output."""
    noise = max(facts.get(MEASURED, {}).get(mode, [1e-6 if mode == "eval" else 1e-5]))
    return noise * TIMES["small" if sum(net["layers"]) <= 8 else "deep"]


@cache
def read(folder: Path, name: str):
    """One file of the golden directory; its absence is a skip that names it."""
    if not (folder / name).exists():
        pytest.skip(f"{name} is not among the golden files in {folder}")
    return (
        json.loads((folder / name).read_text())
        if name.endswith(".json")
        else dict(np.load(folder / name))
    )


def build(
    layers: tuple[int, ...], classes: int, *, two_heads: bool, multi_level: bool
) -> Segmenter:
    """A network with random weights."""
    heads = (AGNOSTIC, SPECIALIST) if two_heads else (AGNOSTIC,)
    return Segmenter(
        DilatedResNet(ResNetConfig(name="resnet50"), layers),
        classes,
        heads,
        multi_level=multi_level,
    )


_built = cache(build)


def network(
    layers: tuple[int, ...], classes: int, *, two_heads: bool, multi_level: bool
) -> Segmenter:
    """As `build`, which is asked once for each: copying is quicker than drawing random weights."""
    return deepcopy(_built(layers, classes, two_heads=two_heads, multi_level=multi_level))


def golden_weights(model: Segmenter, salt: str) -> dict[str, torch.Tensor]:
    """The recipe's weight for every entry of ``model``, in the reference's layout."""
    shapes = to_reference(model.state_dict())
    return {key: recipe.tensor(key, tuple(value.shape), salt) for key, value in shapes.items()}


# --- a_state_dicts.json ---------------------------------------------------------------------------


def expected_entries(facts: dict, name: str) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a network.

    The file holds one in full and the others by what they lack or change.
    """
    own = facts[name]
    if "state_dict" in own:
        return [(key, tuple(shape)) for key, shape, _ in own["state_dict"]]
    needed = ("requires_grad_false", "optimizer_groups", "state_dict")
    full = [entry for entry in facts.values() if all(key in entry for key in needed)]
    base = full[0]["state_dict"]
    changed = {key: tuple(shape) for key, shape, *_ in own["state_dict_changed_shape"]}
    gone = set(own["state_dict_as_base_minus"])
    return [(key, changed.get(key, tuple(shape))) for key, shape, _ in base if key not in gone]


def test_state_dicts(golden: Path) -> None:
    """Keys, shapes and their order in the reference's layout, numbers of parameters, frozen ones,
    optimizer entries.
    """
    facts = read(golden, "a_state_dicts.json")
    checked = 0
    for name, entry in facts.items():
        found = re.fullmatch(
            r"get_deeplab_v2(_muhdi|_attention)?\(num_classes=(\d+),multi_level=(True|False)\)",
            name,
        )
        if not found:
            continue
        with torch.device("meta"):  # names and shapes without values
            model = build(
                FULL, int(found[2]), two_heads=found[1] == "_muhdi", multi_level=found[3] == "True"
            )
        freeze_affine(model)
        converted = to_reference(model.state_dict())
        assert [(key, tuple(value.shape)) for key, value in converted.items()] == expected_entries(
            facts, name
        ), name
        assert sum(p.numel() for p in model.parameters()) == entry["n_parameters"]
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == entry["n_trainable"]
        if "n_buffer_elements" in entry:
            assert (
                sum(b.numel() for n, b in model.named_buffers() if "normalise" not in n)
                == entry["n_buffer_elements"]
            )
        assert entry.get("trainable_not_in_optimizer", []) == []
        optimizer = build_optimizer(model, OptimizerConfig(updates="reference"), 1.0)
        assert sum(len(group["params"]) for group in optimizer.param_groups) == sum(
            p.requires_grad for p in model.parameters()
        )
        if "requires_grad_false" in entry:
            frozen = [n for n, p in model.backbone.named_parameters() if not p.requires_grad]
            assert frozen == entry["requires_grad_false"]
        for group in entry["optimizer_groups"]:
            for key, times in group.get("multiplicity", {}).items():
                assert times == (multiplicity(key) if group["lr_factor"] == 1.0 else 1), key
        checked += 1
    assert checked or pytest.skip("a_state_dicts.json holds no network that is known here")


def test_discriminators(golden: Path) -> None:
    facts = read(golden, "a_state_dicts.json")
    for name, entry in facts.items():
        if found := re.fullmatch(r"get_fc_discriminator\((\d+)\)", name):
            model = Discriminator(int(found[1]))
            assert sum(p.numel() for p in model.parameters()) == entry["n_parameters"]
            shapes = [(key, tuple(value.shape)) for key, value in model.state_dict().items()]
            if "state_dict" in entry:
                assert shapes == [(key, tuple(shape)) for key, shape, *_ in entry["state_dict"]]


# --- c_forward ------------------------------------------------------------------------------------


def named_outputs(outputs: Outputs) -> dict[str, torch.Tensor]:
    """Logits under the names of the golden file."""
    names = {AGNOSTIC: ("aux", "main")}
    if SPECIALIST in outputs.heads:
        names = {
            AGNOSTIC: ("aux_agn(layer5)", "main_agn(layer6)"),
            SPECIALIST: ("aux_spe(layer7)", "main_spe(layer8)"),
        }
    return {
        name: level
        for head, (aux, main) in names.items()
        for name, level in ((aux, outputs.heads[head].aux), (main, outputs.heads[head].main))
        if level is not None
    }


def test_forward(golden: Path) -> None:
    """Logits and stage outputs, in evaluation and training mode, and the running statistics after.

    Float32.
    """
    facts, arrays = read(golden, "c_forward.json"), read(golden, "c_forward.npz")
    checked = 0
    for like in _same_here(facts["nets"]):
        model = build(
            tuple(like[0]["layers"]),
            like[0]["num_classes"],
            two_heads=like[0]["kind"] == "muhdi",
            multi_level=like[0]["multi_level"],
        )
        weights = from_foreign(golden_weights(model, facts["salt"]))
        for name, n, h, w in like[0]["inputs"]:
            for mode in ("eval", "train"):
                model.load_state_dict(weights)
                model.train(mode == "train")
                with torch.no_grad():
                    outputs = model(recipe.image(name, n, h, w, facts["salt"]))
                for net in like:
                    prefix = f"{net['name']}/{name}/{mode}/"
                    noise = tolerance(facts, net, mode)
                    checked += _compare(arrays, prefix, model, outputs, noise)
    assert checked


def _same_here(nets: list[dict]) -> list[list[dict]]:
    """Networks of the reference by what they are here, where DeepLabv2Attention is DeepLabv2."""
    groups: dict[str, list[dict]] = {}
    for net in nets:
        what = {key: value for key, value in net.items() if key != "name"}
        what["kind"] = "muhdi" if net["kind"] == "muhdi" else "deeplab"
        groups.setdefault(json.dumps(what, sort_keys=True), []).append(net)
    return list(groups.values())


def _compare(arrays: dict, prefix: str, model: Segmenter, outputs: Outputs, noise: float) -> int:
    """Compare all that the file holds for one pass; how many outputs that were."""
    known = {key.removeprefix(prefix) for key in arrays if key.startswith(prefix)}
    named = named_outputs(outputs)
    stages = {
        f"att{number}/{what}"
        for number in range(4)
        for what in ("shape", "sum_mean_std_min_max", "idx", "val")
    }
    unknown = known - named.keys() - stages - {"bn_running_sum_l2"}
    assert not unknown, f"{prefix}: nothing to compare with {sorted(unknown)}"
    checked = 0
    for key in known & named.keys():
        expected = arrays[prefix + key]
        error = np.abs(named[key].numpy() - expected).max() / np.abs(expected).max()
        assert error < noise, (prefix + key, error)
        checked += 1
    for number, stage in enumerate(outputs.features):
        key = f"{prefix}att{number}/"
        if key + "val" not in arrays:
            continue
        assert tuple(arrays[key + "shape"]) == tuple(stage.shape)
        flat = stage.contiguous().flatten().double().numpy()
        expected = arrays[key + "sum_mean_std_min_max"]
        own = [flat.sum(), flat.mean(), flat.std(), flat.min(), flat.max()]
        np.testing.assert_allclose(
            own, expected, rtol=noise, atol=noise * np.abs(flat).max(), err_msg=key
        )
        np.testing.assert_allclose(
            flat[arrays[key + "idx"]],
            arrays[key + "val"],
            atol=noise * np.abs(flat).max(),
            err_msg=key,
        )
        checked += 1
    if "bn_running_sum_l2" in known:
        statistics = [
            v
            for k, v in to_reference(model.state_dict()).items()
            if k.endswith(("running_mean", "running_var"))
        ]
        own = np.array([[float(v.double().sum()), float(v.double().norm())] for v in statistics])
        expected = arrays[prefix + "bn_running_sum_l2"]
        own_scale = expected[:, 1:]  # each layer's by its own size
        assert (np.abs(own - expected) < max(noise, 1e-5) * 5 * own_scale).all(), prefix
        checked += 1
    return checked


# --- e_restore_mapping.json -----------------------------------------------------------------------


def checkpoint(kind: str, salt: str) -> dict[str, torch.Tensor]:
    """A small checkpoint of the reference.

    ``imagenet`` (prefixed names, a foreign layer5), ``advent``, ``muhdi``.
    """
    weights = golden_weights(
        network((2, 2, 2, 2), 7, two_heads=kind == "muhdi", multi_level=True), salt
    )
    if kind != "imagenet":
        return weights
    backbone = {
        f"Scale.{k}": v
        for k, v in weights.items()
        if not k.startswith("layer5") and not k.startswith("layer6")
    }
    return backbone | {"Scale.layer5.conv2d_list.0.weight": torch.zeros(21, 2048, 3, 3)}


def test_restoring_a_checkpoint(golden: Path, tmp_path: Path) -> None:
    """Which entry of the checkpoint each entry of network and old network starts from."""
    facts = read(golden, "e_restore_mapping.json")
    checked = 0
    for case, expected in facts.items():
        kind, _, source = case.partition("<-")
        if kind == "DeepLabv2Attention":
            continue  # the reference raises; here it is DeepLabv2, see test_differences
        torch.save(weights := checkpoint(source, ""), tmp_path / "net.pth")
        model = network((2, 2, 2, 2), 7, two_heads=False, multi_level=True)
        initialise(model, tmp_path / "net.pth", read_backbone("resnet50"), ())
        if expected["error"]:
            # Here a MuHDi network continues as one with a single head.
            start_heads(model, NoRetentionConfig())
            assert torch.equal(
                model.heads[AGNOSTIC].main.convs[0].weight, weights["layer6.conv2d_list.0.weight"]
            )
            continue
        old = {
            key: value.clone()
            for key, value in to_reference(model.state_dict()).items()
            if key[:6] not in ("layer7", "layer8")
        }
        two = kind == "DeepLabv2MuHDi"
        start_heads(model, MuHDiConfig(heads="reference") if two else NoRetentionConfig())
        _same(to_reference(model.state_dict()), weights, expected["model"]["others"])
        if "old_model" in expected:
            _same(old, weights, expected["old_model"]["others"])
        checked += 1
    assert checked


def start_heads(model: Segmenter, config: MuHDiConfig | NoRetentionConfig) -> None:
    """The heads of a step, as its retention starts them."""
    context = MethodContext(model.classes, model.levels, AGNOSTIC, torch.Generator())
    config.build(context).start_heads(model)


def _same(state: dict, weights: dict, others: dict[str, list[str]]) -> None:
    weights = {key.removeprefix("Scale."): value for key, value in weights.items()}
    for key, value in state.items():
        origins = others.get(key, [key])
        if origins == ["<fresh init>"]:
            assert key not in weights or not torch.equal(value, weights[key]), key
        else:
            assert any(torch.equal(value, weights[origin]) for origin in origins), (key, origins)


def test_differences_by_intent(tmp_path: Path) -> None:
    """What crashed or loaded in silence in the reference.

    Single-level MuHDi works, a foreign file is refused.
    """
    model = network((1, 1, 1, 1), 3, two_heads=True, multi_level=False)
    outputs = model(torch.zeros(1, 3, 32, 32))
    assert outputs.heads[SPECIALIST].aux is None
    torch.save(
        {"other.weight": torch.zeros(3), "names.weight": torch.zeros(3)}, tmp_path / "other.pth"
    )
    with pytest.raises(MuhdiError, match="does not fit this network"):
        initialise(model, tmp_path / "other.pth", "", ())
