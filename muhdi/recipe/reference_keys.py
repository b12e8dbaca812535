"""Every key of the reference's configuration, its default, and the key of a recipe it sets."""

from __future__ import annotations

from typing import Any

MEAN = [104.00698793, 116.66876762, 122.67891434]
DATASETS = {
    "GTA": "gta5",
    "GTA5": "gta5",
    "SYNTHIA": "synthia",
    "CITYSCAPES": "cityscapes",
    "IDD": "idd",
    "MAPILLARY": "mapillary",
    "ACDC": "acdc",
}
CLASSES = {7: "urban7", 16: "urban16", 19: "urban19"}
MODELS = ("DeepLabv2", "DeepLabv2Attention", "DeepLabv2MuHDi")

DEFAULTS: dict[str, Any] = {
    "SOURCE": "",
    "TARGETS": [""],
    "NUM_WORKERS": 4,
    "DATA_LIST_SOURCE": None,
    "DATA_LIST_TARGET": [None],
    "DATA_DIRECTORY_SOURCE": None,
    "DATA_DIRECTORY_TARGET": [None],
    "NUM_CLASSES": 19,
    "EXP_NAME": "",
    "EXP_ROOT": None,
    "EXP_ROOT_SNAPSHOT": None,
    "EXP_ROOT_LOGS": None,
    "GPU_ID": 0,
    "TRAIN": {
        "SET_SOURCE": "all",
        "SET_TARGET": ["train"],
        "BATCH_SIZE_SOURCE": 1,
        "BATCH_SIZE_TARGET": 1,
        "IGNORE_LABEL": 255,
        "INPUT_SIZE_SOURCE": [1280, 720],
        "INPUT_SIZE_TARGET": [1024, 512],
        "INFO_SOURCE": None,
        "INFO_TARGET": [None],
        "MODEL": "DeepLabv2",
        "MULTI_LEVEL": True,
        "RESTORE_FROM": "",
        "IMG_MEAN": MEAN,
        "LEARNING_RATE": 2.5e-4,
        "MOMENTUM": 0.9,
        "WEIGHT_DECAY": 0.0005,
        "POWER": 0.9,
        "LAMBDA_SEG_MAIN": 1.0,
        "LAMBDA_SEG_AUX": 0.1,
        "LAMBDA_KT_TARGET": 1.0,
        "LEARNING_RATE_D": 1e-4,
        "LAMBDA_ADV_MAIN": 0.001,
        "LAMBDA_ADV_AUX": 0.0002,
        "RESTORE_D_MAIN": "",
        "RESTORE_D_AUX": "",
        "MAX_ITERS": 250000,
        "EARLY_STOP": 120000,
        "SAVE_PRED_EVERY": 2000,
        "SNAPSHOT_DIR": "",
        "RANDOM_SEED": 1234,
        "TEACHER_LOSS": "KL",
        "DISTILL": {"FEAT": True, "FEAT_LAMBDA": 1e-5, "KT_LOGITS": True, "KT_LAMBDA": 1e-5},
    },
    "TEST": {
        "MODE": "best",
        "ALL_RES": None,
        "MODEL": ["DeepLabv2"],
        "MODEL_WEIGHT": [1.0],
        "MULTI_LEVEL": [True],
        "IMG_MEAN": MEAN,
        "RESTORE_FROM": [""],
        "SNAPSHOT_DIR": [""],
        "SNAPSHOT_STEP": 2000,
        "SNAPSHOT_MAXITER": 120000,
        "SET_TARGET": ["val"],
        "BATCH_SIZE_TARGET": 1,
        "INPUT_SIZE_TARGET": [1024, 512],
        "OUTPUT_SIZE_TARGET": [2048, 1024],
        "INFO_TARGET": [None],
        "WAIT_MODEL": True,
    },
}
"""The reference's configuration. None: a path or a value that is worked out here."""

UNUSED = {
    "TRAIN.INFO_SOURCE": "the label tables and class names are built in",
    "TRAIN.INFO_TARGET": "the label tables and class names are built in",
    "TEST.INFO_TARGET": "the label tables and class names are built in",
    "TEST.MODEL": "a network's file says what it is",
    "TEST.MULTI_LEVEL": "a network's file says what it is",
    "TEST.ALL_RES": "scores are cached in the folder of the snapshots, by the networks' contents",
    "TEST.WAIT_MODEL": "snapshots that are not there are not waited for",
}
"""Keys that are accepted though nothing depends on them, with the reason that the user is told."""

OF_MODE = {
    "single": ("RESTORE_FROM", "MODEL_WEIGHT"),
    "best": ("SNAPSHOT_DIR", "SNAPSHOT_STEP", "SNAPSHOT_MAXITER"),
}
"""Keys of TEST that belong to one mode."""

KEYS = {
    "seed": "TRAIN.RANDOM_SEED",
    "image_size": "TRAIN.INPUT_SIZE_TARGET",
    "source.image_size": "TRAIN.INPUT_SIZE_SOURCE",
    "name": "EXP_NAME",
    "runtime.device": "GPU_ID",
    "runtime.workers": "NUM_WORKERS",
    "runtime.save_every": "TRAIN.SAVE_PRED_EVERY",
    "optimizer.momentum": "TRAIN.MOMENTUM",
    "optimizer.weight_decay": "TRAIN.WEIGHT_DECAY",
    "optimizer.power": "TRAIN.POWER",
    "snapshot_every": "TRAIN.SAVE_PRED_EVERY",
    "evaluation.batch_size": "TEST.BATCH_SIZE_TARGET",
    "evaluation.size": "TEST.OUTPUT_SIZE_TARGET",
    "evaluation.input_size": "TEST.INPUT_SIZE_TARGET",
    "test.weights": "TEST.MODEL_WEIGHT",
    "test.every": "TEST.SNAPSHOT_STEP",
    "test.until": "TEST.SNAPSHOT_MAXITER",
    "steps.0.iterations": "TRAIN.EARLY_STOP",
    "steps.0.schedule": "TRAIN.MAX_ITERS",
    "steps.0.batch_size": "TRAIN.BATCH_SIZE_SOURCE",
    "steps.0.target_batch_size": "TRAIN.BATCH_SIZE_TARGET",
    "steps.0.learning_rate": "TRAIN.LEARNING_RATE",
    "steps.0.weight_main": "TRAIN.LAMBDA_SEG_MAIN",
    "steps.0.weight_aux": "TRAIN.LAMBDA_SEG_AUX",
    "steps.0.adaptation.weight_main": "TRAIN.LAMBDA_ADV_MAIN",
    "steps.0.adaptation.weight_aux": "TRAIN.LAMBDA_ADV_AUX",
    "steps.0.adaptation.learning_rate": "TRAIN.LEARNING_RATE_D",
    "steps.0.retention.weight_source": "TRAIN.DISTILL.KT_LAMBDA",
    "steps.0.retention.weight_pod": "TRAIN.DISTILL.FEAT_LAMBDA",
    "steps.0.retention.weight_target": "TRAIN.LAMBDA_KT_TARGET",
    "steps.0.retention": "TRAIN.MODEL",
    "steps.0.target": "TARGETS",
    "source": "SOURCE",
}
"""Keys of a recipe -> the keys of such a file that they come from, for messages."""
