"""A Hugging Face folder with safetensors weights, inspected without running or unpickling anything of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foundry_lite.build.safetensors import count_parameters
from foundry_lite.build.sources.found import Found, Kind, Options
from foundry_lite.catalog.card import Defaults
from foundry_lite.errors import DamagedWeights, NotAModel, PickledWeights, RemoteCode, UnsupportedArchitecture

# Families whose graph is a plain decoder with GroupQueryAttention, each converted and compared with transformers in
# tests/integration/test_import.py.
ARCHITECTURES = (
    "GraniteForCausalLM",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Phi3ForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)

_TEXT_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def recognises(path: Path) -> bool:
    """Say whether this looks like a model folder; whatever is a folder is one until a better reason is found."""
    return path.is_dir()


def inspect(folder: Path, _options: Options = Options()) -> Found:
    """Look at a folder and say what it is.

    Raises a `SourceRejected`: `NotAModel`, `UnsupportedArchitecture`, `DamagedWeights`, `PickledWeights`, `RemoteCode`.
    """
    config = _read_config(folder)
    _refuse_code(folder)
    architecture = _architecture(config)
    weights = _weight_files(folder)
    if not (folder / "tokenizer.json").is_file():
        raise NotAModel(
            f"{folder} has no tokenizer.json",
            hint="Save the fast tokenizer beside the model: AutoTokenizer.from_pretrained(…).save_pretrained(folder).",
        )
    return Found(
        kind=Kind.FOLDER,
        folder=folder,
        files=(*weights, *(path for name in _TEXT_FILES if (path := folder / name).is_file())),
        architecture=architecture,
        parameters=sum(count_parameters(path) for path in weights),
        context_length=_context_length(config),
        defaults=_defaults(folder),
        license=_license(folder),
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        found = "an adapter" if (folder / "adapter_config.json").is_file() else "no config.json"
        raise NotAModel(
            f"{folder} is no model folder: it has {found}",
            hint="Give a folder as save_pretrained() writes it; for an adapter over its base: --name MODEL@ADAPTER.",
        )
    return _read_json(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise NotAModel(f"{path.name} cannot be read: {error}", hint="Save the model again.") from error
    if not isinstance(value, dict):
        raise NotAModel(f"{path.name} is not a JSON object", hint="Save the model again.")
    return value


def _refuse_code(folder: Path) -> None:
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        if (folder / name).is_file() and "auto_map" in _read_json(folder / name):
            raise RemoteCode(
                f"{name} has an 'auto_map': this model wants Python code from its own folder to be run",
                hint="Code that comes with a model is never run. Use a model of a family built into transformers.",
            )


def _architecture(config: dict[str, Any]) -> str:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if name not in ARCHITECTURES:
        given = f"'{name}'" if name else "none named in config.json"
        raise UnsupportedArchitecture(
            f"the architecture ({given}) is not supported", hint=f"Supported: {', '.join(ARCHITECTURES)}."
        )
    if config.get("quantization_config"):
        raise UnsupportedArchitecture(
            "the weights are quantized already (config.json has a 'quantization_config')",
            hint="Import the model in 16 or 32 bit; foundry-lite quantizes it.",
        )
    return str(name)


def _weight_files(folder: Path) -> tuple[Path, ...]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return _shards(folder, index)
    if (folder / "model.safetensors").is_file():
        return (folder / "model.safetensors",)
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise PickledWeights(
            f"the weights are pickled ({', '.join(pickles[:3])}): reading them can run any code",
            hint="Save the model as safetensors: model.save_pretrained(folder, safe_serialization=True).",
        )
    raise NotAModel(f"{folder} has no model.safetensors", hint="Give a folder as save_pretrained() writes it.")


def _shards(folder: Path, index: Path) -> tuple[Path, ...]:
    mapping = _read_json(index).get("weight_map")
    names = sorted({str(name) for name in mapping.values()}) if isinstance(mapping, dict) else []
    if not names or any("/" in name or "\\" in name or not name.endswith(".safetensors") for name in names):
        raise DamagedWeights(f"{index.name} names no safetensors files of this folder", hint="Download it again.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DamagedWeights(f"{len(missing)} of {len(names)} shards are missing: {missing[0]}", hint="Download them.")
    return tuple(folder / name for name in names)


def _context_length(config: dict[str, Any]) -> int:
    length = config.get("max_position_embeddings")
    if not isinstance(length, int) or length < 1:
        raise NotAModel(f"config.json: 'max_position_embeddings' is {length!r}", hint="Save the model again.")
    return length


def _defaults(folder: Path) -> Defaults:
    """Read the model's own sampling; greedy where it says ``do_sample: false`` outright."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return Defaults()
    own = _read_json(path)
    if own.get("do_sample") is False:
        return Defaults(temperature=0.0)
    defaults = Defaults()
    temperature: Any = own.get("temperature")
    top_p: Any = own.get("top_p")
    top_k: Any = own.get("top_k")
    return Defaults(
        temperature=float(temperature) if _is_within(temperature, 2) else defaults.temperature,
        top_p=float(top_p) if top_p and _is_within(top_p, 1) else defaults.top_p,
        top_k=top_k if isinstance(top_k, int) and top_k >= 0 else defaults.top_k,
    )


def _is_within(value: Any, most: float) -> bool:
    return isinstance(value, int | float) and 0 <= value <= most  # not so for NaN, which JSON of Python may hold


def _license(folder: Path) -> str:
    """Read the licence out of the front matter of the folder's README.md, as the Hub does."""
    path = folder / "README.md"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    if not lines or lines[0].strip() != "---":
        return "unknown"
    front = lines[1 : lines.index("---", 1) if "---" in lines[1:] else 1]
    found = (line.split(":", 1)[1].strip().strip("'\"") for line in front if line.startswith("license:"))
    return next(found, "") or "unknown"
