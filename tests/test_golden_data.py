"""Data and labels against the golden numbers."""

from tests.golden_data import *  # noqa: F403
