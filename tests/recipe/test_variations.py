"""What ``--vary`` makes of one recipe: the arms' names, their settings, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muhdi.errors import RecipeError
from muhdi.files import LONGEST
from muhdi.recipe.variations import read_varied, variations
from muhdi.recipe.yaml_text import parse_yaml

RETENTIONS = "every_step.retention=[none, [style, average], {method: ewc, weight: 10}]"


def test_every_combination_is_an_arm_and_the_first_key_changes_slowest() -> None:
    found = variations(read_varied([RETENTIONS, "every_step.learning_rate=[1e-3, 1e-4]"]))
    assert [one.name for one in found] == [
        "retention-none_learning_rate-0.001",
        "retention-none_learning_rate-0.0001",
        "retention-style-average_learning_rate-0.001",
        "retention-style-average_learning_rate-0.0001",
        "retention-ewc-weight-10_learning_rate-0.001",
        "retention-ewc-weight-10_learning_rate-0.0001",
    ]
    assert found[-1].settings == (
        'every_step.retention={"method": "ewc", "weight": 10}',
        "every_step.learning_rate=0.0001",
    )


def test_a_key_may_have_no_value() -> None:
    first, second = variations({"evaluation.select": [None, True]})
    assert (first.name, first.settings) == ("select-none", ("evaluation.select=null",))
    assert (second.name, second.settings) == ("select-true", ("evaluation.select=true",))


PLAIN = (
    st.none() | st.booleans() | st.integers() | st.text(st.characters(categories=("L", "N", "P")))
)


@given(st.recursive(PLAIN, st.lists, max_leaves=4))
def test_a_setting_says_the_value_and_its_name_fits_a_file(value: object) -> None:
    other = [["somewhere", "else"]]
    first, _ = variations({"a.b": [value, other]})
    key, _, text = first.settings[0].partition("=")
    assert (key, parse_yaml(text, "here")) == ("a.b", value)
    assert len(first.name) <= LONGEST
    assert all(letter.isalnum() or letter in "-_." for letter in first.name)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("every_step.retention", r"must read KEY=\[VALUE, VALUE\]"),
        ("=[1, 2]", r"must read KEY=\[VALUE, VALUE\]"),
        ("every_step.iterations=5", "--vary every_step.iterations: must be a list of at least two"),
        ("every_step.iterations=[5]", "must be a list of at least two"),
        ("every_step.retention=style", "must be a list of at least two"),
        ("every_step.iterations=[5, 5]", "would both be called 'iterations-5'; give every value"),
        ("every_step.iterations=[5,", "--vary every_step.iterations=.5,: line 1"),
        ("seed=[1, 2]", "--vary seed: give each seed with --seed"),
        ("name=[a, b]", "--vary name: runs are named after the values"),
    ],
)
def test_what_cannot_be_varied_is_one_line(word: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as refused:
        variations(read_varied([word]))
    assert "\n" not in str(refused.value)


def test_a_key_is_given_once() -> None:
    with pytest.raises(RecipeError, match="batch_size is varied twice; give all its values in one"):
        read_varied(["every_step.batch_size=[1, 2]", "every_step.batch_size=[3, 4]"])
