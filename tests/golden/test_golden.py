"""Everything in the directory of the reference's numbers, ``MUHDI_GOLDEN``.

Another directory of its schema works too.

Sizes, salts, depths, seeds and overrides are read from the files. A file or variant that is missing
is a named skip.
"""

import pytest

from tests.conftest import golden_folder
from tests.golden.data import *  # noqa: F403
from tests.golden.losses import *  # noqa: F403
from tests.golden.networks import *  # noqa: F403
from tests.golden.training import *  # noqa: F403
from tests.golden.training import pytest_generate_tests_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" in metafunc.fixturenames:
        pytest_generate_tests_of(metafunc, golden_folder())
