"""The JSON schema and the reference page, which are made from the classes that check recipes."""

from __future__ import annotations

import json

import pytest

from muhdi.recipe.docs import all_sections, json_schema, reference_page
from muhdi.recipe.load import load_recipe, shipped_recipes
from muhdi.recipe.yaml_text import read_yaml

jsonschema = pytest.importorskip(
    "jsonschema", reason="jsonschema is not installed: pip install 'muhdi[dev]'"
)


@pytest.fixture(scope="module")
def schema():
    loaded = json_schema()
    jsonschema.Draft202012Validator.check_schema(loaded)
    return jsonschema.Draft202012Validator(loaded)


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_follows_the_schema(schema, name: str) -> None:
    schema.validate(json.loads(json.dumps(read_yaml(shipped_recipes()[name]))))
    schema.validate(load_recipe(name).model_dump(mode="json", exclude_none=True))


@pytest.mark.parametrize(
    "wrong",
    [
        {"sorce": {}},
        {"steps": [{"adaptation": "selftrian"}]},
        {"every_step": {"adaptation": {"method": "selftrain", "treshold": 1}}},
        {"image_size": [640]},
        {"source": {"dataset": "folders", "images": "*"}},
        {"seed": -1},
    ],
)
def test_the_schema_finds_mistakes(schema, wrong: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(wrong)


def test_the_schema_and_the_reference_tell_what_fields_are_for(schema) -> None:
    fields = schema.schema["$defs"]["FolderConfig"]["properties"]
    assert fields["ids"]["description"].startswith("Raw id in the label images -> class name")
    page = reference_page()
    assert (
        '| `threshold_per` | `pixel`, `class` | `"pixel"` | One threshold for every `pixel`' in page
    )
    for part in ("SelfTrain", "MuHDi", "Folder", "Optimizer"):
        assert f"\n## {part}\n" in page


def test_the_command_prints_it(muhdi) -> None:
    status, output, _ = muhdi("recipes", "--schema")
    assert status == 0
    assert json.loads(output) == json_schema()


def test_every_key_has_a_docstring_of_its_own() -> None:
    """It is the schema's text, the page's and the help."""
    sections = all_sections()
    assert len(sections) > 20
    for section in sections:
        assert section.__doc__, section
        for name, field in section.model_fields.items():
            text = field.description
            assert text, f"{section.__name__}.{name} has no docstring"
            assert text[0].isupper() or text[0] == "`", f"{section.__name__}.{name}: {text}"
            assert text.endswith("."), f"{section.__name__}.{name}: {text}"


def test_networks_may_be_named_by_a_word(schema) -> None:
    for model in (
        {"backbone": "hf:facebook/dinov2-small", "decoder": "light"},
        {"backbone": {"name": "resnet50"}, "decoder": {"name": "segformer", "width": 64}},
        {"tune": "frozen"},
        {"tune": {"method": "lora", "rank": 4}},
    ):
        schema.validate({"model": model})
    for model in ({"backbone": "dinov2"}, {"decoder": "heavy"}, {"tune": "half"}):
        assert not schema.is_valid({"model": model})


def test_the_schema_knows_lists_of_retentions() -> None:
    choices = json_schema()["$defs"]["RetentionConfig"]["anyOf"]
    assert {"type": "array", "items": {"$ref": "#/$defs/RetentionConfig"}} in choices
