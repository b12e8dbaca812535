"""The foreign package, on the path of this process and of those that it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.plugins.package import path_with, write_foreign, write_lanterns
from tests.testers import forget


@pytest.fixture
def lanterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the package; nothing of it is imported yet."""
    site = write_lanterns(tmp_path / "site")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", path_with(site))
    forget("lanterns")
    yield site
    forget("lanterns")


@pytest.fixture
def foreign(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe that uses one class of each kind; keyword arguments replace its keys."""
    return partial(write_foreign, tmp_path)
