import pytest

MODULES = ("data", "losses", "networks", "training")
pytest.register_assert_rewrite(*(f"tests.golden_{name}" for name in MODULES))
