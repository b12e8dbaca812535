"""Whether a ``.pt2`` file holds nothing but a network: tensors, and operations on them.

PyTorch's reader unpickles some parts of such a file and evaluates some of its text, so a file can
hold code that runs when it is read. What is allowed here is what `muhdi export` writes; all else
needs the user's trust.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

_PARTS = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|models/model\.json|data/sample_inputs/model\.pt|extra/muhdi\.json"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
)
_OPERATION = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|ge|le)"
)
_CONTAINERS = frozenset(("null", '"builtins.tuple"', '"builtins.list"', '"builtins.dict"'))
"""How inputs and outputs may be nested."""
_SPEC = re.compile(r"""[\w\s\[\]{}":,.]*""")
_VERSION = re.compile(r"[\w.+]*")
_WORD = re.compile(r"[\w.]*")
_ARITHMETIC = r"Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|IntTrueDiv"
_NUMBERS = r"Symbol|Integer|Rational|One|Zero|NegativeOne"
_ASSUMED = r"positive|nonnegative|integer|True"
_IN_SIZES = re.compile(rf"{_ARITHMETIC}|{_NUMBERS}|{_ASSUMED}|[su]\d+")
"""Names in the text of sizes."""
_SIDE = "L['images'].size()["
_CONDITION = re.compile(r"([\d\s()+\-*/%<>=!\],]|(max|min)\()*")
"""The text of a condition on sizes, once `_SIDE` is taken out."""
_SIZE_CHARACTERS = re.compile(r"[\w\s()+\-*/,='<>]*")


def is_plain(path: Path) -> bool:
    """Whether a file holds tensors and PyTorch's own operations on them alone."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _is_plain(archive)
    except Exception:  # whatever the parsers make of arbitrary bytes
        return False


def _is_plain(archive: zipfile.ZipFile) -> bool:
    names = archive.namelist()
    parts = {name.partition("/")[2]: name for name in names}
    # Two entries of one name: which of them another reader takes is not known.
    if len(parts) != len(names) or not all(_PARTS.fullmatch(part) for part in parts):
        return False
    for kind in ("weights", "constants"):
        config = json.loads(archive.read(parts[f"data/{kind}/model_{kind}_config.json"]))
        if any(entry["use_pickle"] is not False for entry in config["config"].values()):
            return False
    example = io.BytesIO(archive.read(parts["data/sample_inputs/model.pt"]))
    torch.load(example, weights_only=True)
    program = json.loads(archive.read(parts["models/model.json"]))
    return all(_is_harmless(*pair) for pair in _texts(program))


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in JSON, with the key that it stands under; keys are texts under no key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member, key)
    elif isinstance(value, dict):
        for name, member in value.items():
            yield "", name
            # Where an operation came from; it is kept as text.
            if name != "metadata":
                yield from _texts(member, name)


def _is_harmless(key: str, text: str) -> bool:
    if key == "target":
        return _OPERATION.fullmatch(text) is not None
    if key == "guards_code":
        return _CONDITION.fullmatch(text.replace(_SIDE, "")) is not None
    if key in ("in_spec", "out_spec"):
        types = set(re.findall(r'"type": ([^,]*),', text))
        return types <= _CONTAINERS and _SPEC.fullmatch(text) is not None
    if key == "torch_version":
        return _VERSION.fullmatch(text) is not None
    if key != "expr_str":
        return _WORD.fullmatch(text) is not None
    names = re.findall(r"[^\W\d]\w*", text)
    known = all(_IN_SIZES.fullmatch(name) for name in names)
    return known and _SIZE_CHARACTERS.fullmatch(text) is not None
