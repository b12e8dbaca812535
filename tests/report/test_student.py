"""The quantiles of Student's t against the tables."""

from __future__ import annotations

import math

import pytest

from muhdi.report.significance import Difference
from muhdi.report.student import student_quantile

TABLE = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    7: 2.365,
    8: 2.306,
    9: 2.262,
    10: 2.228,
    11: 2.201,
    12: 2.179,
    15: 2.131,
    20: 2.086,
    24: 2.064,
    30: 2.042,
    40: 2.021,
    60: 2.000,
    100: 1.984,
    120: 1.980,
    1000: 1.962,
}


@pytest.mark.parametrize(("freedom", "quantile"), TABLE.items())
def test_quantiles_are_those_of_the_table(freedom: int, quantile: float) -> None:
    assert student_quantile(freedom) == pytest.approx(quantile, abs=5.1e-4)


def density(value: float, freedom: int) -> float:
    half = (freedom + 1) / 2
    log_scale = math.lgamma(half) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    return math.exp(log_scale - half * math.log1p(value**2 / freedom))


def area(end: float, freedom: int, pieces: int = 2000) -> float:
    """Of the density from 0 to ``end``, by Simpson's rule."""
    width = end / pieces
    total = density(0.0, freedom) + density(end, freedom)
    for number in range(1, pieces):
        total += (4 if number % 2 else 2) * density(number * width, freedom)
    return total * width / 3


@pytest.mark.parametrize("freedom", range(1, 201))
def test_quantiles_hold_to_three_decimals(freedom: int) -> None:
    quantile = student_quantile(freedom)
    error = (area(quantile, freedom) - 0.475) / density(quantile, freedom)
    assert abs(error) < 5e-5, "an area that is off by this is a quantile that is off by that"


def test_they_fall_towards_those_of_the_normal_distribution() -> None:
    quantiles = [student_quantile(freedom) for freedom in range(1, 200)]
    assert quantiles == sorted(quantiles, reverse=True)
    assert quantiles[-1] > 1.95996


def test_the_interval_is_right_beyond_ten_seeds() -> None:
    values = tuple(float(number % 3) for number in range(11))
    difference = Difference(values)
    deviation = (sum((v - sum(values) / 11) ** 2 for v in values) / 10) ** 0.5
    assert difference.error == pytest.approx(2.228 * deviation / 11**0.5, rel=1e-3)
