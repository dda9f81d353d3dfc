"""Python code that a folder names in ``auto_map``: it is never run, and refused where a model needs it.

Whoever trains a model of a family that transformers has by now, and loads it with code of its own repository, saves
the names of that code again, and not the code. Such an entry is not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foundry_lite.conversion.formats.safe_files import exists, read_json
from foundry_lite.errors import RemoteCode

FIELD = "auto_map"
FILES = ("config.json", "tokenizer_config.json", "generation_config.json")

_HEADS = ("ForCausalLM", "LMHeadModel", "ForSequenceClassification", "ForMaskedLM", "ForPreTraining", "Model")
_NAMES = {"gemma3": "gemma3text", "hunyuandensev1": "hunyuanv1dense"}  # of classes, and of their model types


def check_code(folder: Path, config: dict[str, Any], *, is_known: bool) -> tuple[str, ...]:
    """Return what the user should know of code that is named and not needed.

    ``is_known``: the model's architecture can be converted. Raises `RemoteCode` when the model is of no
    family that is built into transformers, or the code lies in the folder; `NotAModel`, `UnsafeSource`.
    """
    notes = []
    for name in FILES:
        own = read_json(folder / name) if exists(folder / name) else {}
        if FIELD not in own:
            continue
        references = tuple(_references(own[FIELD]))
        if name == "config.json" and not (is_known and _is_built_in(config)):
            raise RemoteCode(
                f"{name} has an '{FIELD}': this model wants Python code from its own folder to be run",
                hint="Code that comes with a model is never run. Use a model of a family built into transformers.",
            )
        if here := [one for one in references if exists(folder / _file_of(one))]:
            raise RemoteCode(
                f"{name} has an '{FIELD}', and {_file_of(here[0])} is there: this model wants Python code from its own "
                "folder to be run",
                hint=f"Code that comes with a model is never run. If transformers' own code is meant, remove '{FIELD}' "
                f"from {name}.",
            )
        notes.append(
            f"{name} names Python code that is not in the folder ({', '.join(references)[:120] or 'none by name'}): it "
            f"is left out, and transformers' own code of '{config.get('model_type')}' is used."
        )
    return tuple(notes)


def _references(value: Any) -> list[str]:
    """Return the classes that an ``auto_map`` names, such as ``modeling_mine.Mine``."""
    waiting, found = [value], []
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, dict | list):
            waiting += one.values() if isinstance(one, dict) else one
    return list(dict.fromkeys(found))


def _file_of(reference: str) -> str:
    """Return the file that holds a class; of one in another repository (``name--module.Class``) the name has it."""
    return f"{reference.rpartition('.')[0].rpartition('--')[2].replace('.', '/')[:200] or 'code'}.py"


def _is_built_in(config: dict[str, Any]) -> bool:
    """Return whether the model type is the one that transformers has for the architecture."""
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    stem = next((name.removesuffix(head) for head in _HEADS if name.endswith(head)), name)
    plain, kind = _plain(stem), config.get("model_type")
    return isinstance(kind, str) and _plain(kind) == _NAMES.get(plain, plain) != ""


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
