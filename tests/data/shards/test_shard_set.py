"""Images in shards: bit for bit those of the files, in an order that goes shard by shard."""

from __future__ import annotations

import json
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muhdi.data.catalog import DataContext
from muhdi.data.domains import Domains
from muhdi.data.prepared import PreparedSet
from muhdi.data.sets import Sample
from muhdi.data.shards import kept as kept_module
from muhdi.data.shards.index import Shard, SplitIndex
from muhdi.data.shards.kept import KeptShards
from muhdi.data.shards.shard_set import Reading, ShardSet
from muhdi.data.shards.storage import Storage
from muhdi.data.stream import EndlessSampler, LoadedBatch, endless_batches
from muhdi.errors import MuhdiError
from muhdi.files import sha256_of
from muhdi.preflight.shard_plan import recipe_of_shards
from muhdi.preflight.write_shards import write_shards
from muhdi.recipe.augment import AugmentConfig
from muhdi.recipe.schema import Recipe
from muhdi.taxonomy import custom
from tests.data.shards.written import recipe, shard_set
from tests.data.test_cache import same

AUGMENT = AugmentConfig(crop=0.5, flip=True, colour=0.4)


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where shards are written."""
    if request.param == "folder":
        yield str(tmp_path / "shards")
        return
    from fsspec.implementations.memory import MemoryFileSystem

    yield f"memory://{tmp_path.name}"
    MemoryFileSystem.store.clear()


def named(sample: Sample) -> str:
    return Path(sample.name).name


def equal(one: PreparedSet, two: PreparedSet) -> None:
    assert len(one) == len(two)
    for index in range(len(one)):
        first, second = one[index], two[index]
        same(first, second)
        assert named(first) == named(second)


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("size", [[24, 16], "native"])
def test_shards_hold_what_the_files_hold(
    folders: Path, tmp_path: Path, place: str, decoded: bool, size: object
) -> None:
    """Images, labels, ids that are not listed: of every split that a run reads."""
    whole = recipe(folders, draft=True, evaluation={"input_size": size})
    write_shards(whole, place, decoded=decoded, jobs=1)
    files = Domains(whole)
    shards = Domains(kept_in(recipe_of_shards(whole, place), tmp_path))
    assert files.source[0].unlisted, "there is something to count"
    equal(files.source, shards.source)
    equal(files.targets[0][0], shards.targets[0][0])
    for name, samples in files.validation.items():
        equal(samples, shards.validation[name])
        assert shards.validation[name].images.labelled == (name == "day")
    assert isinstance(shards.source.images, ShardSet)
    assert not shards.targets[0][0].images.index.labelled, "a target's labels stay where they are"


def kept_in(changed: Recipe, folder: Path) -> Recipe:
    """The recipe with what it fetches below a test's folder."""
    source = changed.source.model_copy(update={"kept": str(folder / "kept")})
    steps = [
        step.model_copy(
            update={"target": step.target.model_copy(update={"kept": str(folder / "kept")})}
        )
        for step in changed.steps
    ]
    return changed.model_copy(update={"source": source, "steps": steps})


def test_padded_images_stay_what_they_are(tmp_path: Path) -> None:
    """Where the padding begins is written down, and nothing is padded twice."""
    from PIL import Image

    from muhdi.data.files import FileSet
    from muhdi.data.shards.chunk import pack_item, pack_shard
    from muhdi.data.shards.index import Decoding

    Image.fromarray(np.full((10, 40, 3), 7, np.uint8)).save(tmp_path / "wide.png")
    size = (24, 16)
    files = PreparedSet(
        FileSet("a", [tmp_path / "wide.png"], fit="pad"), size, None, with_labels=False
    )
    sample = files[0]
    data = pack_shard([pack_item(sample, None, decoded=True)])
    (tmp_path / "chunk-0-0.bin").write_bytes(data)
    shard = Shard("chunk-0-0.bin", 1, len(data), sha256_of(data))
    index = SplitIndex(
        (shard,), Decoding(size, None, False), ("a",), False, "pad", ("wide",), (size,), ""
    )
    reading = Reading("a", False, None, 8, None)
    images = ShardSet(Storage(str(tmp_path)), index, reading)
    found = PreparedSet(images, size, None, with_labels=False)[0]
    same(found, sample)
    assert found.window != (0, 0, 1, 1)


# --- order ----------------------------------------------------------------------------------------


def numbered(counts: list[int], mixed: int) -> ShardSet:
    """Shards of so many images, which nobody reads."""
    shards = tuple(Shard(f"chunk-0-{n}.bin", count, 1, "") for n, count in enumerate(counts))
    names = tuple(map(str, range(sum(counts))))
    index = SplitIndex(shards, None, ("a",), False, "stretch", names, ((8, 8),), "")
    return ShardSet(Storage("nowhere"), index, Reading("a", False, None, mixed, None))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=9), st.integers(1, 4), st.data())
@settings(max_examples=80, deadline=None)
def test_an_epoch_has_every_image_once_and_goes_from_window_to_window(
    counts: list[int], mixed: int, data: st.DataObject
) -> None:
    total = sum(counts)
    used = data.draw(st.integers(1, total))
    order = numbered(counts, mixed).epoch_order(used, np.random.default_rng(0)).tolist()
    assert sorted(order) == list(range(used))
    starts = np.cumsum(counts)
    shards = [int(np.searchsorted(starts, index, "right")) for index in order]
    first = list(dict.fromkeys(shards))
    last = list(dict.fromkeys(reversed(shards)))[::-1]
    window = dict.fromkeys(first, 0)
    position = 0
    left = set(first)
    # Windows are disjoint runs of at most `mixed` shards.
    while position < len(shards):
        members = set()
        while position < len(shards):
            members.add(shards[position])
            done = all(last_place(shards, member) <= position for member in members)
            position += 1
            if done and len(members) >= min(mixed, len(left)):
                break
        assert len(members) == min(mixed, len(left))
        assert members <= left
        left -= members
    assert not left
    assert set(last) == set(window)


def last_place(values: list[int], value: int) -> int:
    return len(values) - 1 - values[::-1].index(value)


def test_orders_differ_from_epoch_to_epoch_and_mix_within_windows() -> None:
    images = numbered([10] * 6, 3)
    orders = [images.epoch_order(60, np.random.default_rng(seed)) for seed in range(2)]
    assert not np.array_equal(*orders)
    shards = orders[0][:30] // 10
    assert len(set(shards.tolist())) == 3
    assert (np.diff(shards) != 0).sum() > 10, "images of a window are mixed, not in turn"


@pytest.fixture
def small(folders: Path, tmp_path: Path) -> Callable[..., PreparedSet]:
    """The source of four images, an image in each shard, at an address that is fetched from."""
    root = str(tmp_path / "shards")
    write_one_per_shard(recipe(folders), root)

    def opened(**options: object) -> PreparedSet:
        context = DataContext.of(recipe(folders))
        options = {"kept": str(tmp_path / "kept"), "mixed": 2} | options
        images = shard_set(f"local://{root}/day", "train", context, **options)
        return PreparedSet(images, (24, 16), (24, 16), with_labels=True)

    return opened


def write_one_per_shard(written: Recipe, root: str) -> None:
    """Shards of one image each: fewer bytes than --shard-mb can say."""
    from muhdi.preflight import shard_plan

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_plan, "_MB", 1)
        write_shards(written, root, jobs=1)


def batches(
    samples: PreparedSet, count: int, *, start: int = 0, workers: int = 0
) -> list[LoadedBatch]:
    stream = endless_batches(samples, 2, AUGMENT, (3, 1), start, workers)
    found = list(islice(stream, count))
    stream.close()
    return found


def alike(one: list[LoadedBatch], two: list[LoadedBatch]) -> None:
    assert [batch.names for batch in one] == [batch.names for batch in two]
    for first, second in zip(one, two, strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.labels, second.labels)


def test_workers_and_resuming_change_nothing(small: Callable[..., PreparedSet]) -> None:
    whole = batches(small(), 7)
    assert len({name for batch in whole[:2] for name in batch.names}) == 4
    alike(batches(small(), 7, workers=2), whole)
    alike(batches(small(), 4, start=3), whole[3:])
    alike(batches(pickle.loads(pickle.dumps(small())), 2), whole[:2])


def test_several_processes_draw_what_one_would(
    small: Callable[..., PreparedSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = small()
    alone = [batch for _, batch in zip(range(5), EndlessSampler(samples, 4, (1,)))]
    shares = []
    for rank in range(2):
        monkeypatch.setattr("muhdi.distributed.world_size", lambda: 2)
        monkeypatch.setattr("muhdi.distributed.rank", lambda rank=rank: rank)
        shares.append([batch for _, batch in zip(range(5), EndlessSampler(samples, 4, (1,)))])
    assert [one + two for one, two in zip(*shares)] == alone


# --- fetching -------------------------------------------------------------------------------------


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What was fetched, by any process that was started from here."""
    log = tmp_path / "fetched.txt"
    original = Storage.fetch

    def fetch(self: Storage, name: str, path: Path) -> None:
        with log.open("a") as file:
            file.write(f"{name}\n")
        original(self, name, path)

    monkeypatch.setattr(Storage, "fetch", fetch)
    return lambda: log.read_text().split() if log.exists() else []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_is_fetched_once_and_the_next_run_finds_it(
    small: Callable[..., PreparedSet], fetched: Callable[[], list[str]], workers: int
) -> None:
    batches(small(), 6, workers=workers)
    assert sorted(fetched()) == [f"chunk-0-{n}.bin" for n in range(4)]
    batches(small(), 6)
    assert len(fetched()) == 4


def test_those_that_were_not_used_for_the_longest_time_go(tmp_path: Path) -> None:
    kept, shards = kept_shards(tmp_path, limit=25)
    for shard in shards[:2]:
        kept.fetch(shard)
    kept.fetch(shards[0])  # is here, and used again
    kept.fetch(shards[2])
    assert sorted(path.name for path in kept.folder.glob("*.bin")) == ["0.bin", "2.bin"]
    assert kept_shards(tmp_path, limit=1)[0].fetch(shards[3]).read_bytes() == b"3" * 10
    assert [path.name for path in kept.folder.glob("*.bin")] == ["3.bin"], "the newest one stays"


def kept_shards(folder: Path, limit: int) -> tuple[KeptShards, list[Shard]]:
    """Four shards of ten bytes, none of which is kept yet."""
    shards = []
    for number in range(4):
        data = str(number).encode() * 10
        (folder / f"{number}.bin").write_bytes(data)
        shards.append(Shard(f"{number}.bin", 1, len(data), sha256_of(data)))
    return KeptShards(Storage(f"local://{folder}"), folder / "kept", limit), shards


def _fetch_all(arguments: tuple[KeptShards, list[Shard]]) -> list[bytes]:
    kept, shards = arguments
    return [kept.fetch(shard).read_bytes() for shard in shards]


def test_processes_do_not_fetch_what_another_one_fetches(
    tmp_path: Path, fetched: Callable[[], list[str]]
) -> None:
    arguments = kept_shards(tmp_path, limit=100)
    with ProcessPoolExecutor(3) as pool:
        for found in pool.map(_fetch_all, [arguments] * 3):
            assert found == [str(n).encode() * 10 for n in range(4)]
    assert sorted(fetched()) == [f"{n}.bin" for n in range(4)]
    assert not list(arguments[0].folder.glob(".*.tmp"))


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    kept, shards = kept_shards(tmp_path, limit=100)
    kept.folder.mkdir()
    left = kept.folder / ".0.bin.00ff.tmp"
    left.write_bytes(b"0" * 4)
    kept.fetch(shards[0])
    assert not left.exists()


def test_images_are_on_their_way_before_their_turn(
    small: Callable[..., PreparedSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window ahead, in the background."""
    samples = small()
    assert samples.lead == 2, "two shards of one image"
    draws = [draw for batch in islice(EndlessSampler(samples, 2, (0,)), 4) for draw in batch]
    indices = [draw.index for draw in draws]
    assert [draw.expected for draw in draws[:-2]] == indices[2:]
    done = threading.Event()
    original = kept_module.KeptShards.fetch

    def fetch(self: KeptShards, shard: Shard, *, wait: bool = True) -> Path:
        assert threading.current_thread() is not threading.main_thread()
        path = original(self, shard, wait=wait)
        done.set()
        return path

    monkeypatch.setattr(kept_module.KeptShards, "fetch", fetch)
    samples.expect(3)
    assert done.wait(20)
    assert [p.name for p in samples.images.reading.kept.folder.glob("*.bin")] == ["chunk-0-3.bin"]


def test_shards_in_a_folder_are_read_where_they_lie(
    folders: Path, tmp_path: Path, fetched: Callable[[], list[str]]
) -> None:
    write_shards(recipe(folders), str(tmp_path / "shards"), jobs=1)
    context = DataContext.of(recipe(folders))
    for address in (str(tmp_path / "shards" / "day"), f"file://{tmp_path}/shards/day"):
        images = shard_set(address, "train", context)
        assert images.lead == 0
        images.expect(0)
        images.read(0, True)
    assert not fetched()


# --- meaning --------------------------------------------------------------------------------------


def test_labels_follow_the_names_of_the_classes(folders: Path, tmp_path: Path) -> None:
    write_shards(recipe(folders), str(tmp_path / "shards"), jobs=1)
    same_classes = recipe(folders)
    turned = recipe(folders, classes=["b", "c", "a"])
    root = str(tmp_path / "shards" / "day")
    one = shard_set(root, "train", DataContext.of(same_classes)).read(0, True).label
    two = shard_set(root, "train", DataContext.of(turned)).read(0, True).label
    assert np.array_equal(two, np.choose(np.minimum(one, 2), [2, 0, 255]))
    fewer = DataContext(custom(["a", "c"]), (24, 16), ".", 0)
    with pytest.raises(MuhdiError, match="holds labels of other classes: unknown class 'b'"):
        shard_set(root, "train", fewer)
    assert shard_set(root, "train", fewer, labels=False).read(0, False).label is None


def test_a_fingerprint_changes_with_images_labels_and_meaning(
    folders: Path, tmp_path: Path
) -> None:
    def fingerprint(name: str, **changes: object) -> str:
        written = recipe(folders, **changes)
        write_shards(written, str(tmp_path / name), jobs=1)
        root = str(tmp_path / name / "day")
        return shard_set(root, "train", DataContext.of(written)).fingerprint()

    first = fingerprint("one")
    assert fingerprint("two") == first
    assert fingerprint("three", classes=["b", "a"]) != first


def test_few_labels_of_a_target_are_chosen_from_shards(folders: Path, tmp_path: Path) -> None:
    """All are written, for a step that learns from some, and no other is read."""
    from muhdi.data.few_labels import open_labelled
    from tests.folders import day

    target = day({0: "a", 7: "b"}) | {"name": "evening"}
    steps = [{"target": target, "iterations": 1, "labelled": 2}]
    written = recipe(folders, steps=steps)
    write_shards(written, str(tmp_path / "shards"), jobs=1)
    changed = recipe_of_shards(written, str(tmp_path / "shards"))
    images = open_labelled(0, changed.steps[0], DataContext.of(changed), ".")
    files = open_labelled(0, written.steps[0], DataContext.of(written), ".")
    assert len(images) == 2
    for index in range(2):
        same(images.read(index, True), files.read(index, True))


def test_pixels_made_for_another_size_are_refused(folders: Path, tmp_path: Path) -> None:
    written = recipe(folders)
    write_shards(written, str(tmp_path / "shards"), decoded=True, jobs=1)
    changed = recipe_of_shards(written, str(tmp_path / "shards"))
    Domains(changed)
    for update in ({"image_size": (32, 16)}, {"draft": True}):
        with pytest.raises(MuhdiError, match=r"was decoded for images of 24x16, labels"):
            Domains(changed.model_copy(update=update))


# --- others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoded", [False, True])
def test_litdata_reads_the_same_files(folders: Path, tmp_path: Path, decoded: bool) -> None:
    litdata = pytest.importorskip("litdata")
    import io

    from PIL import Image

    written = recipe(folders)
    write_shards(written, str(tmp_path / "shards"), decoded=decoded, jobs=1)
    root = tmp_path / "shards" / "day"
    theirs = litdata.StreamingDataset(str(root / "train"))
    ours = shard_set(str(root), "train", DataContext.of(written))
    assert len(theirs) == len(ours) == 4
    for index in range(4):
        item, sample = theirs[index], ours.read(index, True)
        image, label = item["image"], item["label"]
        if not decoded:
            image = np.asarray(Image.open(io.BytesIO(image)))
            label = np.asarray(Image.open(io.BytesIO(label)))
        assert np.array_equal(image, sample.image)
        assert np.array_equal(label, sample.label)
        assert sample.name == f"{root}/train/{item['name']}"
        assert json.loads(item["notes"]).get("unlisted", {}) == sample.unlisted


def test_every_image_is_read_once_in_an_epoch_of_the_sampler(
    small: Callable[..., PreparedSet],
) -> None:
    draws = [draw for batch in islice(EndlessSampler(small(), 3, (5,)), 8) for draw in batch]
    for epoch in range(6):
        counts = Counter(draw.index for draw in draws[4 * epoch : 4 * epoch + 4])
        assert counts == dict.fromkeys(range(4), 1)
