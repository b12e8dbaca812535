"""The keys of a recipe, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from muhdi.errors import RecipeError, nearest
from muhdi.recipe.augment import AugmentConfig
from muhdi.recipe.domains import DomainConfig, DomainField
from muhdi.recipe.evaluation import EvaluationConfig, TestConfig
from muhdi.recipe.model import ModelConfig
from muhdi.recipe.online import OnlineRoundsConfig
from muhdi.recipe.optimizer import OptimizerConfig
from muhdi.recipe.runtime import RuntimeConfig
from muhdi.recipe.section import (
    RGB,
    Buildable,
    NotNegative,
    Opaque,
    PixelRange,
    Positive,
    Section,
    Size,
)
from muhdi.recipe.stages import StageConfig, StepConfig
from muhdi.taxonomy import CLASS_SETS, MAX_CLASSES, ClassSet, custom

MOST_CHANNELS = 64
"""Of an image."""


class RecipeFields(Section):
    """A whole run, as its recipe says it."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=150)]
    """Of the run, and of its directory."""
    description: str = ""
    """A sentence for people."""
    notes: list[str] = []
    """What the user is told when the recipe is used."""
    seed: NotNegative = 0
    """Of all randomness."""
    classes: str | list[str] = "urban7"
    """Name of a class set, or the class names in order."""
    image_size: Size
    """Width and height that images are brought to. Training sees all of them, or random crops
    (`augment.crop`)."""
    channels: Annotated[int, Field(ge=RGB, le=MOST_CHANNELS)] = RGB
    """Of every image: red, green and blue, and what is beside them, such as near infrared. The
    `bands` of a data set say where that is."""
    pixel_range: PixelRange | None = None
    """Values that become 0 and 255 in files of more than 8 bits, `[0, 4095]` of 12 bits; what lies
    beyond is cut off. None: 0 and 65535. Files of 8 bits stay as they are."""
    source: DomainField | None = None
    """The labelled domain; a recipe that trains nothing needs none."""
    model: ModelConfig = ModelConfig()
    """The network."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How weights are updated."""
    augment: AugmentConfig = AugmentConfig()
    """Random changes of training images."""
    draft: bool = False
    """Decode JPEG files at a half, a quarter or an eighth of their size where the network sees them
    no larger: quicker, and not quite the same pixels."""
    source_training: StageConfig = StageConfig()
    """Training on the source before the first step."""
    steps: list[StepConfig] = []
    """The target domains, in the order in which they come."""
    extra_domains: list[DomainField] = []
    """Domains that are evaluated like all others and never trained on."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How networks are scored."""
    test: TestConfig = TestConfig()
    """What `muhdi evaluate RECIPE` scores."""
    online: OnlineRoundsConfig | None = None
    """What `muhdi adapt MODEL --online RECIPE` does; no training looks at it."""
    precision: Literal["32-true", "bf16-mixed", "auto"] = "32-true"
    """Precision while training; evaluation is always float32. `auto`: bf16-mixed on a GPU that
    computes in bf16, else 32-true."""
    channels_last: bool = False
    """Memory format of the network and its images."""
    compile: bool = False
    """Compile networks by torch.compile."""
    snapshot_every: Positive | None = None
    """Iterations between networks that are kept within a stage; none: only its last one is."""
    runtime: RuntimeConfig = RuntimeConfig()
    """Where and how fast; everything outside this section is the experiment."""

    def size_of(self, data: DomainConfig) -> Size:
        """Width and height that a domain's training images are brought to."""
        return data.image_size or self.image_size

    def training_size(self, data: DomainConfig) -> Size:
        """Width and height of what training sees of a domain: its images, or the fixed crop."""
        return self.augment.window or self.size_of(data)

    @property
    def size_key(self) -> str:
        """The key that decides what training sees, for messages."""
        return "image_size" if self.augment.window is None else "augment.crop"

    def evaluated_size(self, data: DomainConfig) -> Size | None:
        """Width and height of a domain's evaluation images; None: each has its own."""
        size = self.evaluation.input_size
        return None if size == "native" else size or self.size_of(data)

    def class_set(self) -> ClassSet:
        """The class set that ``classes`` names or lists."""
        if isinstance(self.classes, str):
            if self.classes not in CLASS_SETS:
                hint = nearest(self.classes, list(CLASS_SETS))
                raise RecipeError(
                    f"classes: unknown class set {self.classes!r}{hint} (known: "
                    f"{', '.join(CLASS_SETS)}, or a list of class names)"
                )
            return CLASS_SETS[self.classes]
        count = len(self.classes)
        if count < 2 or count > MAX_CLASSES or len(set(self.classes)) < count:
            raise RecipeError(f"classes: give from 2 to {MAX_CLASSES} class names, each once")
        if "ignore" in self.classes:
            raise RecipeError(
                "classes: 'ignore' stands for what is neither learned nor scored; give the class"
                " another name, or leave it out"
            )
        return custom(self.classes)

    def source_name(self) -> str:
        """What results call the source; empty where there is none."""
        return "" if self.source is None else self.source.domain_name

    def domains(self) -> list[tuple[str, DomainConfig]]:
        """Key and section of the source, every step's targets and the extra domains, in order."""
        found: list[tuple[str, DomainConfig]] = []
        if self.source is not None:
            found.append(("source", self.source))
        for number, step in enumerate(self.steps):
            found += step.keyed_domains(f"steps.{number}")
        for number, domain in enumerate(self.extra_domains):
            found.append((f"extra_domains.{number}", domain))
        return found

    def training_domains(self) -> list[tuple[str, DomainConfig]]:
        """Those of `domains` that are trained on: targets, and the source where a stage learns."""
        found = []
        for key, data in self.domains():
            learned = self.trains_on_source if key == "source" else key.startswith("steps.")
            if learned:
                found.append((key, data))
        return found

    @property
    def trains_on_source(self) -> bool:
        """Whether any stage learns from the source's labels."""
        return bool(self.source_training.iterations) or any(step.uses_source for step in self.steps)

    def stages(self) -> list[Stage]:
        """The training on the source, and every step."""
        stages = [Stage(0, "source", "source_training", self.source_training)]
        for number, step in enumerate(self.steps):
            stages.append(Stage(number + 1, step.name, f"steps.{number}", step))
        return stages

    def iterations_before(self, stage: int) -> int:
        """Iterations of all stages before this one; of a whole run, with the number of stages."""
        return sum(before.config.iterations for before in self.stages()[:stage])

    def buildables(self) -> list[Buildable]:
        """Every section that names a class: domains, backbone, adaptations and retentions."""
        found: list[Buildable] = [data for _, data in self.domains()]
        found.append(self.model.backbone)
        for step in self.steps:
            found += [section for _, section in step.methods]
        if self.online is not None:
            found += self.online.methods
        return found

    def foreign_classes(self) -> list[str]:
        """Classes of other packages that the recipe names, as ``package.module:Name``."""
        return sorted({one.class_ for one in self.buildables() if one.class_ is not None})

    def is_trusted(self) -> bool:
        """Whether every class that it names was imported when it was read."""
        return not any(isinstance(one, Opaque) for one in self.buildables())

    def experiment(self) -> dict[str, Any]:
        """The recipe as plain values, without what is not part of the experiment."""
        return self.model_dump(mode="json", exclude={"runtime", "description", "notes", "test"})


@dataclass(frozen=True, repr=False)
class Stage:
    """A stage of a run.

    Attributes:
        number: 0 is the training on the source.
        name: of the stage: ``source``, or the target's; of several targets ``city+night``.
        key: where the recipe describes it.
        config: its section.
    """

    number: int
    name: str
    key: str
    config: StageConfig

    def __repr__(self) -> str:
        return f"Stage({self.number}, {self.name!r}, {self.config.iterations} iterations)"
