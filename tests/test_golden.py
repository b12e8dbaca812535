"""Everything in the directory of the reference's numbers, ``MUHDI_GOLDEN``; another directory of its schema works too.

Sizes, salts, depths, seeds and overrides are read from the files. A file or variant that is missing is a named skip.
"""

import pytest

from tests.conftest import golden_folder
from tests.golden_data import *  # noqa: F403
from tests.golden_losses import *  # noqa: F403
from tests.golden_networks import *  # noqa: F403
from tests.golden_training import *  # noqa: F403
from tests.golden_training import pytest_generate_tests_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" in metafunc.fixturenames:
        pytest_generate_tests_of(metafunc, golden_folder())
