"""How a mean teacher labels the target, and how the images that the student sees are changed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from muhdi.errors import RecipeError
from muhdi.recipe.section import Fraction, MeanOver, Positive, Section, Weight
from muhdi.taxonomy import ClassSet

TeacherStatistics = Literal["blend", "batch", "running", "auto"]
CANDIDATES: tuple[TeacherStatistics, ...] = ("blend", "batch", "running")
"""The statistics that ``auto`` chooses from; of two that are as good, the first."""
BLOCK = 32
"""Side in pixels of hidden patches, where nobody chooses (MIC: for crops of 512)."""


class MarginConfig(Section):
    """Edges of whole target images that teach nothing, such as the bonnet of the own car."""

    top: Fraction = 0.0
    """Share of the image's height."""
    bottom: Fraction = 0.0
    """Share of the image's height."""
    left: Fraction = 0.0
    """Share of the image's width."""
    right: Fraction = 0.0
    """Share of the image's width."""

    @model_validator(mode="after")
    def _leaves_something(self) -> MarginConfig:
        for one, other in (("top", "bottom"), ("left", "right")):
            if getattr(self, one) + getattr(self, other) >= 1:
                raise ValueError(
                    f"{one} and {other} leave nothing of the image; their sum must be below 1"
                )
        return self


class PseudoLabelConfig(Section):
    """How a mean teacher labels target images, and what a label counts."""

    threshold: Fraction = 0.9
    """Probability that the teacher must reach for a pixel to count."""
    threshold_per: Literal["pixel", "class"] = "pixel"
    """One threshold for every `pixel`, or per predicted `class` the smaller of it and the class's
    median confidence."""
    confident: Literal["mask", "share"] = "mask"
    """What confident pixels are for. `mask`: they count, the others do not. `share`: every pixel of
    the batch counts as much as the share of confident ones (DAFormer)."""
    momentum: Fraction = 0.99
    """Of the teacher, which follows the student in every iteration."""
    momentum_ramp: Literal["none", "before", "after"] = "none"
    """The momentum of iteration t, from 0: `momentum`, or the smaller of it and 1 - 1/(t+1), as if
    the teacher followed `before` each update (DAFormer: the weights at the start count) or `after`
    it (VFM-UDA: they do not)."""
    teacher_statistics: TeacherStatistics = "auto"
    """What the teacher's batch norms use: the student's running statistics (`running`), each
    batch's own (`batch`), nine tenths of the running ones and a tenth of each image's own
    (`blend`), or what makes the better pseudo-labels as a step starts, judged without labels
    (`auto`)."""
    mirror: bool = False
    """Whether the teacher's probabilities are the mean over an image and its mirror image."""
    margins: MarginConfig = MarginConfig()
    """Edges of whole target images whose pixels do not count."""
    mean_over: MeanOver = "labelled"
    """Whether the loss is the mean over the labelled pixels, or over all of the batch (as in the
    published codes)."""


class StrongColourConfig(Section):
    """How the colours of images that the student alone sees are changed."""

    colour_jitter: Fraction = 0.3
    """Brightness, contrast and saturation change by up to 1 +- this."""
    hue_jitter: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    """Hues turn by up to this share of the colour circle, either way."""
    jitter_probability: Fraction = 1.0
    """Share of images whose colours change."""
    blur_probability: Fraction = 0.0
    """Share of images that are blurred, by a Gaussian of 0.15 to 1.15 pixels."""
    strong_per: Literal["image", "batch"] = "image"
    """Whether changing colours and blurring is decided for each `image`, or once for a `batch`. How
    much colours change is drawn for each image anyway."""
    blur_strength_per: Literal["image", "batch"] = "image"
    """Whether the blur is as strong as is drawn for each `image`, or once for a `batch` (MIC's
    masked images)."""


class WeakColourConfig(Section):
    """Weaker changes of colours, of the source's images and of what is pasted onto (VFM-UDA)."""

    brightness: Fraction = 32 / 255
    """Brightness changes by up to 1 +- this."""
    contrast: Fraction = 0.5
    """Contrast changes by up to 1 +- this."""
    saturation: Fraction = 0.5
    """Saturation changes by up to 1 +- this."""
    hue: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05
    """Hues turn by up to this share of the colour circle, either way."""
    probability: Fraction = 0.9
    """Share of images whose colours change."""


class MaskedConfig(StrongColourConfig):
    """Masked consistency: the network predicts what is hidden from what is around it (MIC).

    A further pass sees target images with hidden patches, and learns the teacher's labels of the
    whole images.
    """

    ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.7
    """Share of the patches that are hidden."""
    hide: Literal["pixels", "tokens"] = "pixels"
    """What is hidden: `pixels`, which show the mean colour, or `tokens` of a plain transformer,
    each replaced by the network's own mask token, which learns too (VFM-UDA)."""
    block: Positive | None = None
    """Side of a patch in pixels of what training sees; none: 32. Only of `hide: pixels`: a token
    has a patch of its own."""
    weight: Weight = 1.0
    """Factor of the main level's cross entropy."""
    aux: Weight = 0.1
    """The aux level's weight, relative to the main one's."""
    pseudo_labels: PseudoLabelConfig | None = None
    """How its teacher labels; none: as by default. An adaptation that has a teacher lends its
    labels, and takes no such section."""

    @model_validator(mode="before")
    @classmethod
    def _with_block(cls, value: Any) -> Any:
        """The default side of patches, where there are any."""
        if not isinstance(value, dict) or value.get("hide", "pixels") != "pixels":
            return value
        return value if value.get("block") is not None else {**value, "block": BLOCK}

    @model_validator(mode="after")
    def _block_is_used(self) -> MaskedConfig:
        if self.hide == "tokens" and self.block is not None:
            raise ValueError("block: with hide: tokens each has a patch of its own; leave it out")
        return self


class FeatureDistanceConfig(Section):
    """Distance of the features to those of the pretrained backbone, on things (DAFormer)."""

    weight: Weight = 0.005
    """Factor of the mean Euclidean distance of the coarsest features."""
    classes: Annotated[list[str], Field(min_length=1)] | None = None
    """Classes that are things; none: those of the class set."""
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.75
    """Share of a feature's pixels that a class must fill for the feature to count as its."""

    def things(self, known: ClassSet) -> list[int]:
        """Positions of the classes that are things, as the section lists them or the class set.

        Raises:
            RecipeError: nobody says which they are, or one is no class of the recipe.
        """
        if not (self.classes or known.things):
            raise RecipeError(
                "feature_distance.classes: list the classes that are things, such as vehicles and"
                f" signs, out of {', '.join(known.classes)}"
            )
        try:
            return [known.index(name) for name in self.classes or known.things]
        except RecipeError as error:
            raise RecipeError(f"feature_distance.classes: {error}") from None
