"""Quantiles of Student's t distribution, which the standard library lacks."""

from __future__ import annotations

import math
from functools import cache

TAIL = 0.025
"""Probability above the quantile: both tails together are the 5 % of a 95 % interval."""
_LARGEST = 1e6
# From 1e6, so many halvings end at neighbouring floating point numbers.
_HALVINGS = 100


@cache
def student_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, by bisection.

    Args:
        freedom: degrees of freedom, 1 or more.
    """
    low = 0.0
    high = _LARGEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if upper_tail(middle, freedom) > TAIL:
            low = middle
        else:
            high = middle
    return high


def upper_tail(value: float, freedom: int) -> float:
    """P(T > value), for value >= 0.

    In closed form (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4): with tan a = value / sqrt(n),
    P(|T| < value) is a finite sum of powers of cos a, which differs between odd and even n.
    """
    angle = math.atan(value / math.sqrt(freedom))
    cosine = math.cos(angle)
    if freedom % 2:
        term = cosine
        first = 3
    else:
        term = 1.0
        first = 2
    # With one degree of freedom the sum is empty.
    total = 0.0 if freedom == 1 else term
    for number in range(first, freedom - 1, 2):
        term *= cosine**2 * (number - 1) / number
        total += term
    within = math.sin(angle) * total
    if freedom % 2:
        within = 2 / math.pi * (angle + within)
    return (1 - within) / 2
