"""Self-training as papers have it: the options in which their code differs from our defaults."""

from __future__ import annotations

from typing import Any, Literal

SelfTrainingPreset = Literal["dacs", "daformer", "mic", "vfm_uda"]

_STRONG: dict[str, Any] = {
    "colour_jitter": 0.2,
    "hue_jitter": 0.2,
    "jitter_probability": 0.8,
    "blur_probability": 0.5,
}
_DACS: dict[str, Any] = {
    "threshold": 0.968,
    "confident": "share",
    "momentum": 0.99,
    "momentum_ramp": "before",
    "teacher_statistics": "batch",
    "mean_over": "all",
    "mixed_classes": "batch",
    "paste_ignored": True,
    **_STRONG,
    "strong_per": "batch",
}
_DAFORMER: dict[str, Any] = {
    **_DACS,
    "momentum": 0.999,
    "feature_distance": {"weight": 0.005, "share": 0.75},
}
_MASKED: dict[str, Any] = {
    "ratio": 0.7,
    "weight": 1.0,
    **_STRONG,
}

SELF_TRAINING: dict[str, dict[str, Any]] = {
    "dacs": _DACS,
    "daformer": _DAFORMER,
    "mic": {
        **_DAFORMER,
        "masked": {
            **_MASKED,
            "hide": "pixels",
            "strong_per": "batch",
            "blur_strength_per": "batch",
        },
    },
    "vfm_uda": {
        **_DACS,
        "momentum": 0.999,
        "momentum_ramp": "after",
        "mirror": True,
        "strong_per": "image",
        "weak_colours": {
            "brightness": 32 / 255,
            "contrast": 0.5,
            "saturation": 0.5,
            "hue": 0.05,
            "probability": 0.9,
        },
        "masked": {**_MASKED, "hide": "tokens", "strong_per": "image"},
    },
}
"""By preset: DACS (Tranheden et al. 2021, as in DAFormer's code), DAFormer (Hoyer et al. 2022), MIC
(Hoyer et al. 2023; blocks for crops of 512), VFM-UDA (Englert et al. 2024)."""

STEPS: dict[str, dict[str, Any]] = {
    "dacs": {"mean_over": "all"},
    "daformer": {"mean_over": "all"},
    "mic": {"mean_over": "all"},
    "vfm_uda": {"mean_over": "labelled"},
}
"""By preset: what it says of the step itself."""


def over(preset: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A preset's values where nothing is given; sections are merged key by key."""
    merged = {**preset, **given}
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(preset.get(key), dict):
            merged[key] = {**preset[key], **value}
    return merged


def step_of_preset(step: dict[str, Any]) -> dict[str, Any]:
    """A step with what the preset of its adaptation says of it, where nothing is given.

    Args:
        step: as a recipe holds it.
    """
    adaptation = step.get("adaptation")
    if not isinstance(adaptation, dict) or adaptation.get("method") != "selftrain":
        return step
    name = adaptation.get("preset")
    return over(STEPS[name], step) if isinstance(name, str) and name in STEPS else step
