"""The inside of a shard, byte for byte."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muhdi.data.sets import WHOLE, Sample
from muhdi.data.shards.chunk import (
    index_config,
    pack_item,
    pack_shard,
    read_offsets,
    read_parts,
    unpack_item,
)

PIXELS = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)


def u32(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def test_a_shard_is_what_its_format_says() -> None:
    item = pack_item(Sample("ab", PIXELS, None), None, decoded=True)
    array = u32(4, 3, 1, 2, 3) + bytes(range(6))
    assert item == u32(len(array), 2, 2) + array + b"ab" + b"{}"
    assert pack_shard([item, b"xyz"]) == u32(2, 16, 16 + len(item), 19 + len(item)) + item + b"xyz"


def test_the_index_says_which_parts_there_are() -> None:
    assert index_config(labelled=False, decoded=True)["data_format"] == ["numpy", "str", "str"]
    assert index_config(labelled=True, decoded=False)["data_format"] == [
        "bytes",
        "str",
        "str",
        "bytes",
    ]


def pixels(*axes: int) -> st.SearchStrategy[np.ndarray]:
    return st.integers(0, 2**32).map(
        lambda seed: np.random.default_rng(seed).integers(0, 256, axes, np.uint8)
    )


SAMPLES = st.builds(
    Sample,
    st.text(max_size=8),
    pixels(3, 4, 3),
    st.none() | pixels(2, 5),
    st.dictionaries(st.text("0123456789", min_size=1, max_size=3), st.integers(1, 9), max_size=2),
    st.just(WHOLE) | st.just((-0.25, 0.0, 1.25, 1.0)),
)


@given(st.lists(SAMPLES, min_size=1, max_size=4), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_what_goes_in_comes_out(samples: list[Sample], decoded: bool, with_label: bool) -> None:
    """Whatever is asked for, and in any order."""
    labelled = all(sample.label is not None for sample in samples)
    if not labelled:
        samples = [Sample(s.name, s.image, None, s.unlisted, s.window) for s in samples]
    data = pack_shard([pack_item(sample, None, decoded=decoded) for sample in samples])
    file = io.BytesIO(data)
    offsets = read_offsets(file, len(samples))
    wanted = with_label and labelled
    for number in reversed(range(len(samples))):
        start, stop = offsets[number : number + 2]
        parts = read_parts(file, start, stop, labelled=labelled, with_label=wanted)
        found, given = unpack_item(parts, decoded=decoded), samples[number]
        assert np.array_equal(found.image, given.image)
        assert (found.name, found.window) == (given.name, given.window)
        assert found.unlisted == (given.unlisted if wanted else {})
        assert (found.label is not None) == wanted
        assert not wanted or np.array_equal(found.label, given.label)


def test_the_bytes_of_a_label_are_not_read_unless_asked_for() -> None:
    label = np.zeros((1, 2), np.uint8)
    item = pack_item(Sample("ab", PIXELS, label), None, decoded=True)
    without = item[: -len(u32(1, 2, 1, 2)) - 2]
    shard = io.BytesIO(pack_shard([item])[: 12 + len(without)])
    start, stop = 12, 12 + len(item)
    parts = read_parts(shard, start, stop, labelled=True, with_label=False)
    assert np.array_equal(unpack_item(parts, decoded=True).image, PIXELS)
    with pytest.raises(ValueError, match="it is cut"):
        read_parts(shard, start, stop, labelled=True, with_label=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is cut"),
        (u32(1, 12), "it is cut"),
        (u32(2, 12, 20), "does not begin as a shard"),
        (u32(1, 13, 20), "does not begin as a shard"),
        (u32(1, 12, 8), "does not begin as a shard"),
    ],
)
def test_another_file_is_not_taken_for_a_shard(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_offsets(io.BytesIO(data), 1)


def test_lengths_that_do_not_add_up_are_refused() -> None:
    item = u32(5, 1, 1) + bytes(6)
    with pytest.raises(ValueError, match="do not add up"):
        read_parts(io.BytesIO(item), 0, len(item), labelled=False, with_label=False)
