"""Shards in an object store: moto's, in a process of its own, by way of s3fs.

Needs ``pip install '.[stream]' 'moto[server]'``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

from muhdi.data.catalog import DataContext
from muhdi.data.prepared import PreparedSet
from muhdi.data.stream import endless_batches
from muhdi.errors import MuhdiError
from muhdi.preflight.shard_plan import recipe_of_shards
from muhdi.preflight.write_shards import write_shards
from muhdi.recipe.augment import AugmentConfig
from tests.data.shards.written import recipe, shard_set

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An empty store."""
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        yield f"http://127.0.0.1:{port}"
        server.kill()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The address of a bucket, with credentials in the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{time.time_ns()}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


def test_shards_are_written_to_and_read_from_a_store(
    folders: Path, tmp_path: Path, bucket: str
) -> None:
    """By several processes at both ends, and repeated."""
    written = recipe(folders)
    assert all(split.new for split in write_shards(written, f"{bucket}/sets", jobs=2))
    assert not any(split.new for split in write_shards(written, f"{bucket}/sets", jobs=2))
    context = DataContext.of(written)

    def batches(root: str, workers: int, **options: object) -> list[torch.Tensor]:
        images = shard_set(root, "train", context, **options)
        samples = PreparedSet(images, (24, 16), (24, 16), with_labels=True)
        stream = endless_batches(samples, 2, AugmentConfig(flip=True), (0,), workers=workers)
        found = [batch.images for batch in islice(stream, 4)]
        stream.close()
        return found

    write_shards(written, str(tmp_path / "local"), jobs=1)
    wanted = batches(str(tmp_path / "local" / "day"), 0)
    for workers in (0, 2):
        kept = str(tmp_path / f"kept{workers}")
        found = batches(f"{bucket}/sets/day", workers, kept=kept)
        assert all(map(torch.equal, found, wanted))
    changed = recipe_of_shards(written, f"{bucket}/sets")
    assert changed.source is not None
    assert changed.source.root == f"{bucket}/sets/day"


def test_a_store_without_credentials_or_bucket_is_one_line(
    folders: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    context = DataContext.of(recipe(folders))
    with pytest.raises(MuhdiError, match=r"holds no finished shards|cannot be reached") as caught:
        shard_set("s3://there-is-no-such-bucket/day", "train", context)
    assert "\n" not in str(caught.value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    for action in (
        lambda: shard_set(f"{bucket}/day", "train", context),
        lambda: write_shards(recipe(folders), f"{bucket}/other", jobs=1),
    ):
        with pytest.raises(MuhdiError, match=r"access is refused .* give credentials") as caught:
            action()
        assert "\n" not in str(caught.value)
