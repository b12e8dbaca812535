"""Anything at all: recipes, label tables, scores, network files."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from muhdi.data.files import FileSet, LabelFiles
from muhdi.deploy.convert import convert
from muhdi.errors import MuhdiError
from muhdi.evaluation.metrics import summarise
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, load_reference, save_checkpoint
from muhdi.models.reference_weights import from_foreign, to_reference
from muhdi.models.segmenter import build_segmenter
from muhdi.models.tensor_files import read_tensors, save_reference
from muhdi.recipe.backbones import read_backbone
from muhdi.recipe.load import load_recipe, save_recipe
from muhdi.taxonomy import CLASS_SETS, IGNORE
from tests.test_hostile import as_first_format

pytestmark = pytest.mark.usefixtures("thin_resnets")
URBAN = CLASS_SETS["urban7"]
ONE_FOLDER = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
SHIPPED = ("scenes", "scenes_selftrain_muhdi", "acdc_sequence_muhdi", "gta_sequence_muhdi")

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        [
            "advent",
            "muhdi",
            "scenes",
            "folder",
            "reference",
            "auto",
            "cpu",
            "native",
            "1e-3",
            "~",
            "*",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=5,
)


@lru_cache
def whole(name: str) -> dict[str, Any]:
    """A shipped recipe with every default written out."""
    return yaml.safe_load(save_recipe(load_recipe(name)))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key and index within nested values."""
    keys = (
        list(value)
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else []
    )
    return [place for key in keys for place in [(*path, key), *places(value[key], (*path, key))]]


def one_line_of(name: str, error: MuhdiError) -> None:
    """The message names the file, and can be printed on one line."""
    assert name in str(error)
    assert len(str(error)) < 2000
    assert "Traceback" not in str(error)


@given(st.data(), st.sampled_from(SHIPPED))
@settings(max_examples=120, **ONE_FOLDER)
def test_any_change_anywhere_gives_a_recipe_that_survives_saving_or_one_line(
    tmp_path: Path, data: st.DataObject, name: str
) -> None:
    recipe = copy.deepcopy(whole(name))
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places(recipe)))
        here = recipe
        for key in way:
            here = here[key]
        what = data.draw(st.sampled_from(["replace", "delete", "add"]))
        if what == "replace" or isinstance(here, list):
            here[last] = data.draw(anything)
        elif what == "delete":
            del here[last]
        else:
            here[data.draw(st.text(max_size=8))] = data.draw(anything)
    path, again = tmp_path / "mutated.yml", tmp_path / "again.yml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    try:
        loaded = load_recipe(path)
    except MuhdiError as error:
        one_line_of("mutated.yml", error)
        return
    again.write_text(save_recipe(loaded), encoding="utf-8")
    assert load_recipe(again) == loaded


@given(st.text(max_size=60) | st.binary(max_size=60))
@settings(max_examples=150, **ONE_FOLDER)
def test_any_text_gives_a_recipe_or_one_line(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "any.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(MuhdiError):
        load_recipe(path)


@given(st.lists(st.text(max_size=30), max_size=3))
@settings(max_examples=100, deadline=None)
def test_any_setting_gives_a_recipe_or_one_line(given_settings: list[str]) -> None:
    with suppress(MuhdiError):  # anything else fails the test
        load_recipe("scenes", given_settings)


ids = st.sampled_from([0, 1, 7, 200, 255, 256, 1000, 65535])


@given(
    arrays(np.uint16, (3, 4), elements=ids),
    st.dictionaries(ids, st.sampled_from([*URBAN.classes, "ignore"])),
)
@settings(max_examples=60, **ONE_FOLDER)
def test_labels_are_what_a_dictionary_gives_pixel_by_pixel(
    tmp_path: Path, raw: np.ndarray, table: dict[int, str]
) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "image.png")
    Image.fromarray(raw).save(tmp_path / "label.png")
    images = FileSet(
        "d",
        [tmp_path / "image.png"],
        LabelFiles([tmp_path / "label.png"], URBAN.lookup(table)),
    )
    sample = images.read(0, True)
    unlisted: dict[str, int] = {}
    for y, x in np.ndindex(3, 4):
        value = int(raw[y, x])
        name = table.get(value, "ignore")
        assert sample.label[y, x] == (IGNORE if name == "ignore" else URBAN.classes.index(name))
        if value not in table:
            unlisted[str(value)] = unlisted.get(str(value), 0) + 1
    assert sample.unlisted == unlisted


score = st.none() | st.floats(0, 100)


def matrices(targets: int) -> st.SearchStrategy[list[list[float | None]]]:
    row = st.lists(score, min_size=targets, max_size=targets)
    return st.lists(row, min_size=targets + 1, max_size=targets + 1)


@given(st.integers(1, 4).flatmap(matrices))
@settings(max_examples=150, deadline=None)
def test_summaries_are_what_the_papers_formulas_give(matrix: list[list[float | None]]) -> None:
    """Chaudhry et al. 2018 and Lopez-Paz & Ranzato 2017, written out.

    Targets and steps count from 1.
    """
    count = len(matrix[0])
    at = lambda step, target: matrix[step][target - 1]  # noqa: E731
    minus = lambda a, b: None if a is None or b is None else a - b  # noqa: E731

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    forgetting, backward = [], []
    for t in range(1, count):
        earlier = [at(s, t) for s in range(t, count) if at(s, t) is not None]
        forgetting.append(minus(max(earlier) if earlier else None, at(count, t)))
        backward.append(minus(at(count, t), at(t, t)))
    summary = summarise(matrix, list(range(1, count + 1)))
    expected = {
        "average": mean(matrix[count]),
        "forgetting": mean(forgetting),
        "backward": mean(backward),
        "forward": mean([minus(at(t - 1, t), at(0, t)) for t in range(2, count + 1)]),
    }
    for name, value in expected.items():
        assert getattr(summary, name) == (
            None if value is None else pytest.approx(value, abs=1e-9)
        ), name


@pytest.fixture(scope="module")
def network_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small network in our layout; its backbone's tensors, cut down, as a PyTorch file."""
    folder = tmp_path_factory.mktemp("networks")
    model = build_segmenter("small", 2)
    save_checkpoint(
        folder / "net.safetensors", Checkpoint(model, read_backbone("small"), ("a", "b"), (48, 32))
    )
    save_reference(
        folder / "net.pth", {key: value.flatten()[:3] for key, value in model.state_dict().items()}
    )
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(st.data())
@settings(max_examples=120, **ONE_FOLDER)
def test_any_damage_to_a_network_file_is_one_line_or_no_damage(
    tmp_path: Path, network_files: dict[str, bytes], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(network_files)))
    whole = network_files[name]
    # Most of a file is weights, of which any bits will do: the description stands at the beginning,
    # or at the end.
    near = st.integers(0, min(3000, len(whole) - 1))
    place = data.draw(near | near.map(lambda n: len(whole) - 1 - n))
    other = whole[:place] + data.draw(st.binary(min_size=1, max_size=9)) + whole[place + 1 :]
    damaged = data.draw(st.sampled_from([whole[:place], whole[place:], other]))
    path = tmp_path / name
    path.write_bytes(damaged)
    target = tmp_path / ("out.pth" if name.endswith("safetensors") else "out.safetensors")
    for read in (
        load_checkpoint,
        lambda path: convert(path, target, overwrite=True),
        lambda path: load_reference(path, ("a", "b"), (48, 32)),
    ):
        try:
            read(path)
        except MuhdiError as error:
            one_line_of(name, error)
    target.unlink(missing_ok=True)


@given(st.data())
@settings(max_examples=150, **ONE_FOLDER)
def test_any_flipped_bit_of_a_network_is_noticed(
    tmp_path: Path, network_files: dict[str, bytes], data: st.DataObject
) -> None:
    whole = network_files["net.safetensors"]
    place = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, 9000))
    path = tmp_path / "net.safetensors"
    path.write_bytes(
        whole[:place]
        + bytes([whole[place] ^ 1 << data.draw(st.integers(0, 7))])
        + whole[place + 1 :]
    )
    with pytest.raises(MuhdiError, match=r"net\.safetensors"):
        load_checkpoint(path)


def test_networks_of_the_first_format_are_still_read(
    tmp_path: Path, network_files: dict[str, bytes]
) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(network_files["net.safetensors"])
    tensors, metadata = read_tensors(path)
    first = as_first_format(json.loads(metadata["muhdi"]))
    safetensors.torch.save_file(tensors, path, first)
    assert load_checkpoint(path).classes == ("a", "b")


@given(st.integers(0, 2**31), st.integers(2, 9), st.booleans())
@settings(max_examples=6, deadline=None)
def test_conversion_there_and_back_keeps_every_bit(seed: int, classes: int, levels: bool) -> None:
    model = build_segmenter("resnet50", classes, multi_level=levels)
    generator = torch.Generator().manual_seed(seed)
    state = {
        key: torch.randint(-(2**31), 2**31, value.shape, generator=generator)
        .to(torch.int32)
        .view(torch.float32)
        if value.is_floating_point()
        else value
        for key, value in model.state_dict().items()
    }
    again = from_foreign(to_reference(state))
    assert again.keys() == state.keys()
    for key, value in state.items():
        assert (
            torch.equal(again[key].view(torch.int32), value.view(torch.int32))
            if value.is_floating_point()
            else True
        )
