"""Sections of other packages: which name they have, which class they build, what they save."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from muhdi import Adaptation, RecipeError
from muhdi.adaptation.selftrain import SelfTrain
from muhdi.errors import MuhdiError
from muhdi.recipe import plugins
from muhdi.recipe.docs import all_sections, json_schema, reference_page
from muhdi.recipe.load import load_recipe, save_recipe
from muhdi.recipe.methods import AdaptationConfig, SelfTrainConfig
from muhdi.recipe.retentions import EWCConfig
from muhdi.recipe.schema import Recipe
from tests.plugins.package import ENTRY_POINTS
from tests.testers import forget

Foreign = Callable[..., Path]
Write = Callable[[str], types.ModuleType]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes and imports a module ``somebody``."""
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))

    def write(text: str) -> types.ModuleType:
        (tmp_path / "modules").mkdir(exist_ok=True)
        (tmp_path / "modules" / "somebody.py").write_text(IMPORTS + text)
        forget("somebody")
        return __import__("somebody")

    forget("somebody")
    yield write
    forget("somebody")


IMPORTS = """
from typing import ClassVar, Literal
from muhdi import Adaptation, ImageSet, Retention
from muhdi.adaptation.selftrain import SelfTrain
from muhdi.recipe.domains import DomainConfig
from muhdi.recipe.methods import AdaptationConfig, SelfTrainConfig
from muhdi.recipe.retentions import RetentionConfig
"""

NAMED_BY_SHADE = '''
class ShadesConfig(DomainConfig):
    """Shades."""
    dataset: Literal["shades"] = "shades"
    """Name."""
    shade: float = 0.0
    """Shade."""

    @property
    def domain_name(self):
        return self.name or f"shade {self.shade}"

class Shades(ImageSet):
    """Shades."""
    config_class = ShadesConfig
'''


def step(**section: object) -> dict[str, object]:
    return {"iterations": 1, "batch_size": 2, "adaptation": section}


# --- what is saved --------------------------------------------------------------------------------


def test_domains_of_one_class_keep_the_names_that_it_gives_them(
    module: Write, lanterns: Path, foreign: Foreign, tmp_path: Path
) -> None:
    module(NAMED_BY_SHADE)
    targets = [{"target": {"class": "somebody:Shades", "shade": shade}} for shade in (0.1, 0.2)]
    recipe = load_recipe(foreign(source={"class": "somebody:Shades"}, steps=targets))
    assert [stage.name for stage in recipe.stages()] == ["source", "shade 0.1", "shade 0.2"]
    assert recipe.source_name() == "shade 0.0"
    saved = tmp_path / "saved.yml"
    saved.write_text(save_recipe(recipe))
    untrusted = load_recipe(saved, trust_code=False)
    assert [repr(stage) for stage in untrusted.stages()] == [repr(s) for s in recipe.stages()]
    assert untrusted.source_name() == "shade 0.0"
    assert load_recipe(saved) == recipe


def test_a_recipe_is_read_without_trust_although_its_domains_have_no_names(
    lanterns: Path, foreign: Foreign
) -> None:
    """Only their classes could say whether two of them are called the same."""
    targets = [{"target": {"class": "lanterns:Stripes", "shade": shade}} for shade in (0.1, 0.2)]
    changes = {"steps": targets, "test": {"domains": ["dusk"]}}
    recipe = load_recipe(foreign(**changes), trust_code=False)
    assert not recipe.is_trusted()
    assert "lanterns" not in sys.modules
    with pytest.raises(RecipeError, match="another domain is called"):
        load_recipe(foreign(**changes))


def test_a_name_that_is_no_word_is_refused(module: Write, lanterns: Path, foreign: Foreign) -> None:
    module(NAMED_BY_SHADE.replace('self.name or f"shade {self.shade}"', "self.name or 3"))
    with pytest.raises(RecipeError, match=r"source: its domain_name is 3; it must be a word"):
        load_recipe(foreign(source={"class": "somebody:Shades"}))


def test_a_section_made_in_python_is_saved_with_its_class(lanterns: Path, foreign: Foreign) -> None:
    path = foreign()
    import lanterns as package

    change = {"every_step.adaptation": package.MaskedTeacherConfig(ratio=0.75)}
    recipe = Recipe.load(path, **change, source=package.StripesConfig(shade=0.5))
    saved = yaml.safe_load(save_recipe(recipe))
    assert saved["steps"][0]["adaptation"]["class"] == "lanterns:MaskedTeacher"
    assert saved["steps"][0]["adaptation"]["ratio"] == 0.75
    assert saved["source"]["class"] == "lanterns:Stripes"
    assert saved["source"]["name"] == "stripes"


def test_an_unknown_word_is_named_without_trust_too(lanterns: Path, foreign: Foreign) -> None:
    path = foreign(every_step=step(method="masked_techer"))
    with pytest.raises(RecipeError, match="'masked_techer'; did you mean 'masked_teacher'"):
        load_recipe(path, trust_code=False)
    assert "lanterns" not in sys.modules


# --- names ----------------------------------------------------------------------------------------


def test_a_section_that_extends_a_shipped_one_leaves_its_name_alone(
    module: Write, lanterns: Path, foreign: Foreign
) -> None:
    mine = module('''
class MineConfig(SelfTrainConfig):
    """More."""
    extra: float = 1.0
    """More."""

class Mine(SelfTrain):
    """Mine."""
    config_class = MineConfig
''')
    assert plugins.sections("adaptation")["selftrain"] is SelfTrainConfig
    shipped = load_recipe(foreign(every_step=step(method="selftrain"))).steps[0].adaptation
    assert type(shipped) is SelfTrainConfig
    assert shipped.target_class() is SelfTrain
    assert mine.MineConfig().target_class() is mine.Mine, "not the class of what it extends"
    named = load_recipe(foreign(every_step=step(**{"class": "somebody:Mine", "extra": 2.0})))
    assert named.steps[0].adaptation.extra == 2.0
    assert named.steps[0].adaptation.target_class() is mine.Mine


@pytest.mark.parametrize("name", ["none", "selftrain"])
def test_a_shipped_name_cannot_be_taken(module: Write, name: str) -> None:
    known = plugins.sections("adaptation")[name]
    with pytest.raises(RecipeError) as error:
        module(f'''
class MineConfig(AdaptationConfig):
    """Mine."""
    method: Literal["{name}"] = "{name}"
    """Name."""
''')
    assert str(error.value) == (
        f"method {name!r}: is the name of muhdi.recipe.methods:{known.__name__}, so "
        "somebody:MineConfig needs another one"
    )
    assert plugins.sections("adaptation")[name] is known


def test_a_script_may_be_imported_by_its_name_too(
    module: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '''
class MineConfig(AdaptationConfig):
    """Mine."""
    method: Literal["of_a_script"] = "of_a_script"
    """Name."""
'''
    loaded = module(text)
    monkeypatch.setitem(sys.modules, "the_script", loaded)
    exec(IMPORTS + text, {"__name__": "the_script"})
    assert plugins.sections("adaptation")["of_a_script"].__module__ == "the_script"
    forget("the_script")


def test_a_package_may_announce_a_class_by_another_word(
    module: Write, lanterns: Path, foreign: Foreign
) -> None:
    module('class Mine(SelfTrain):\n    """Mine."""\n')
    points = ENTRY_POINTS.replace("[muhdi.retentions]", "mine = somebody:Mine\n[muhdi.retentions]")
    (lanterns / "lanterns-2.5.dist-info" / "entry_points.txt").write_text(points)
    recipe = load_recipe(foreign(every_step=step(method="mine", threshold=0.5)))
    section = recipe.steps[0].adaptation
    assert (section.key, section.threshold) == ("somebody:Mine", 0.5)
    assert "mine" not in plugins.sections("adaptation")


def test_a_section_without_a_class_is_named(
    module: Write, lanterns: Path, foreign: Foreign
) -> None:
    module('''
class AloneConfig(AdaptationConfig):
    """Alone."""
    method: Literal["alone"] = "alone"
    """Name."""
''')
    with pytest.raises(RecipeError, match="no class builds 'alone'; set config_class = AloneConf"):
        load_recipe(foreign(every_step=step(method="alone")))


# --- classes without options ----------------------------------------------------------------------


@pytest.mark.parametrize("body", ["config_class = AdaptationConfig", "pass"])
def test_a_class_without_options_needs_no_section(
    module: Write, lanterns: Path, foreign: Foreign, body: str
) -> None:
    schema = json_schema()
    page = reference_page()
    sections = all_sections()
    plain = module(f'class Plain(Adaptation):\n    """Plain."""\n    {body}\n')
    assert AdaptationConfig.builds == ""
    assert Adaptation.config_class is AdaptationConfig
    assert plain.Plain.config_class().target_class() is plain.Plain
    section = load_recipe(foreign(every_step=step(**{"class": "somebody:Plain"})))
    assert section.steps[0].adaptation.target_class() is plain.Plain
    assert pickle.loads(pickle.dumps(plain.Plain.config_class())) == plain.Plain.config_class()
    with pytest.raises(RecipeError, match=r"every_step.adaptation.weight: unknown key"):
        load_recipe(foreign(every_step=step(**{"class": "somebody:Plain", "weight": 1})))
    assert all_sections() == sections
    assert json_schema() == schema
    assert reference_page() == page


def test_a_class_that_shares_the_section_of_another_builds_itself(module: Write) -> None:
    shared = module('class Mine(SelfTrain):\n    """Mine."""\n    config_class = SelfTrainConfig\n')
    assert SelfTrainConfig().target_class() is SelfTrain
    assert shared.Mine.config_class(threshold=0.5).target_class() is shared.Mine
    assert plugins.sections("adaptation")["selftrain"] is SelfTrainConfig


# --- consistency ----------------------------------------------------------------------------------

REMEMBERS_NOTHING = '''
class LightConfig(RetentionConfig):
    """Light."""
    needs_old_model: ClassVar[bool] = False
    method: Literal["light"] = "light"
    """Name."""

class Light(Retention):
    """Light."""
    config_class = LightConfig
'''


def test_a_retention_that_needs_no_old_model_is_read_without_trust(
    module: Write, lanterns: Path, foreign: Foreign
) -> None:
    module(REMEMBERS_NOTHING)
    first = {"iterations": 1, "retention": {"class": "somebody:Light"}}
    path = foreign(source_training={"iterations": 0}, every_step=first)
    assert load_recipe(path).is_trusted()
    assert not load_recipe(path, trust_code=False).is_trusted()
    with pytest.raises(RecipeError, match="'ewc' keeps what an old model knows"):
        load_recipe(path, ["every_step.retention=ewc"])


def test_every_method_may_refuse_what_it_cannot_start_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, bool, object]] = []

    def check_start(self: EWCConfig, key: str, multi_level: bool, earlier: object) -> None:
        seen.append((key, multi_level, earlier))
        if earlier is not None and earlier.weight != self.weight:
            raise RecipeError(f"{key}.weight: must stay")

    monkeypatch.setattr(EWCConfig, "check_start", check_start)
    recipe = load_recipe("scenes", ["every_step.retention=ewc", "steps.1.retention=none"])
    first, _, third = [stage.retention for stage in recipe.steps]
    assert seen == [("steps.0.retention", True, None), ("steps.2.retention", True, first)]
    assert first == third
    with pytest.raises(MuhdiError, match=r"steps.2.retention.weight: must stay"):
        load_recipe("scenes", ["every_step.retention=ewc", "steps.2.retention.weight=3"])
