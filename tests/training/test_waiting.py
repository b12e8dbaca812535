"""Between logged iterations nothing waits for the device: no number comes back to the host."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from muhdi.recipe import plugins
from muhdi.recipe.pseudo_labels import FeatureDistanceConfig, MaskedConfig
from muhdi.recipe.schema import Recipe  # noqa: F401 - registers all sections
from tests.testers import MethodTester, narrow

TO_THE_HOST = {"cpu", "item", "numpy", "tolist", "__bool__", "__float__", "__index__", "__int__"}
COPIES_NUMBERS = {"aten::_local_scalar_dense", "aten::equal", "aten::bincount", "aten::one_hot"}
"""Operations that read the values of a tensor, whatever their tags say."""

INDEXED = {"aten::index", "aten::index_put", "aten::index_put_"}
"""Operations whose indices may be masks."""
WAIT = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


def _is_mask(index: Any) -> bool:
    """Whether an index is a mask: the number of its elements that are set is a shape."""
    return isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)


class Operations(TorchDispatchMode):
    """Counts operations whose result, or its shape, depends on values that the host must know."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        tagged = bool(WAIT & set(func.tags))
        if name in INDEXED:
            tagged = any(_is_mask(index) for index in args[1])
        if name in COPIES_NUMBERS or tagged:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


class Calls(TorchFunctionMode):
    """Counts calls that bring a tensor to the host."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        # Of a tensor's own device, which is the CPU here, nothing can be told.
        to_cpu = name == "to" and "cpu" in [one for one in args[1:] if isinstance(one, str)]
        if name in TO_THE_HOST or to_cpu:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def waits(adaptation: Any, retention: Any, backbone: Any = "small") -> Counter[str]:
    """What brings numbers to the host in the second iteration of a step."""
    tester = MethodTester(adaptation, retention, backbone)
    network, methods = tester.started()
    tester.iterate(network, methods)
    if retention is not None:
        # The step after has something to keep.
        network, methods = tester.started(tester.ended(network, methods))
        tester.iterate(network, methods)
    for method in methods.all:
        for own in method.own_networks().values():
            # Adam reads how often it has stepped, which it counts on the host.
            own.optimizer.step = lambda: None
    found: Counter[str] = Counter()
    with Calls(found), Operations(found):
        tester.iterate(network, methods)
    return found


@pytest.mark.parametrize("retention", list(plugins.sections("retention")))
@pytest.mark.parametrize("adaptation", list(plugins.sections("adaptation")))
def test_no_pair_of_methods_waits_for_the_device(adaptation: str, retention: str) -> None:
    first = plugins.sections("adaptation")[adaptation]
    additions = {"masked": MaskedConfig(block=8), "feature_distance": FeatureDistanceConfig()}
    second = plugins.sections("retention")[retention]()
    assert waits(narrow(first, **additions), second) == Counter()


def of_preset(preset: str, **options: Any) -> Any:
    section = plugins.sections("adaptation")["selftrain"]
    return section.model_validate({"preset": preset, "threshold_per": "class", **options})


def test_no_preset_waits() -> None:
    assert waits(of_preset("dacs"), None) == Counter()
    pixels = {"hide": "pixels", "block": 8}
    assert waits(of_preset("vfm_uda", masked=pixels), None) == Counter()


def test_hiding_tokens_waits_no_more_than_the_network() -> None:
    tiny = pytest.importorskip("tests.models.tiny_transformers")
    backbone = tiny.section("dinov2")
    hidden = waits(of_preset("vfm_uda"), None, backbone)
    # What is left without the masked pass is transformers' own.
    without = waits(of_preset("vfm_uda", masked=None), None, backbone)
    assert hidden.keys() == without.keys()


def test_what_waits_is_counted() -> None:
    found: Counter[str] = Counter()
    with Calls(found), Operations(found):
        values = torch.arange(4.0)
        values[values > 1].sum().item()
        values.cpu()
        bool(values[0])
    assert {"item", "cpu", "__bool__"} <= set(found)
    assert found["aten::nonzero"] + found["aten::masked_select"] + found["aten::index"] > 0
