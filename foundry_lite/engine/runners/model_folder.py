"""A model folder as its files describe it: ``genai_config.json``, and the graph that it names.

What is asked here decides which library may drive the folder; nothing is loaded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundry_lite.engine.runners import onnx_header
from foundry_lite.engine.runners.onnx_header import GraphFile
from foundry_lite.errors import LoadFailed

_GQA = "com.microsoft.GroupQueryAttention"
_CACHES = {1: 4, 10: 2, 3: 1}  # TensorProto.DataType of the caches that we bind ourselves → bytes; 3 is int8
_BYTES = {**_CACHES, 16: 2}  # bfloat16; everything else that the builder makes has one byte
_OTHER_SENSES = ("encoder", "vision", "speech", "embedding")  # sections of models that take more than tokens


@dataclass(frozen=True, slots=True)
class Cache:
    """Keys and values of one layer: names as ``(key, value)``."""

    layer: int
    past: tuple[str, str]
    present: tuple[str, str]


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model folder. ``shares_buffer`` is what the configuration says of past and present, ``None`` when it is silent.

    ``window`` is the most tokens that a layer with a sliding window looks back, 0 where the caches have no window.
    """

    path: Path
    graph: GraphFile
    layers: int
    caches: tuple[Cache, ...]  # of the layers that have keys and values
    head_size: int
    context_length: int
    vocabulary: int
    shares_buffer: bool | None
    window: int
    senses: tuple[str, ...]  # what it takes besides tokens, such as ``vision``
    file: str = "model.onnx"  # the graph's
    providers: tuple[str, ...] = ()  # those that the configuration names, as onnxruntime-genai calls them

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of one token's keys and values, all layers together."""
        names = (name for cache in self.caches for name in cache.past)
        return sum(self._entry_bytes(name) for name in names)

    def why_not_plain(self, context_length: int) -> str:
        """Return why this is no plain decoder with GroupQueryAttention; an empty string when it is one.

        Only of such a graph is it known that past and present may be the same memory, and that the length of a row
        is read out of the attention mask. The inputs do not show it: a graph that concatenates has the same ones.
        """
        if self.shares_buffer is False:
            return "genai_config.json says that past and present do not share their memory"
        if odd := self._odd_inputs():
            return f"its inputs are others than a plain decoder's: {', '.join(odd[:4])}"
        attention = {(*node.inputs[3:5], *node.outputs[1:3]) for node in self.graph.nodes if node.kind == _GQA}
        for cache in self.caches:
            if (*cache.past, *cache.present) not in attention:
                return f"layer {cache.layer} does not keep its keys and values with GroupQueryAttention"
            if self.graph.inputs[cache.past[0]].kind not in _CACHES:
                return "its keys and values are not float32, float16 or int8"
        if min(context_length, self.context_length) < self.window:
            return f"its window of {self.window} tokens is longer than the context"
        return ""

    def _odd_inputs(self) -> list[str]:
        """Return the inputs that are missing or too many; a layer without keys and values counts as missing its own."""
        needed = {"input_ids", "attention_mask", *(name for cache in self.caches for name in cache.past)}
        missing = [f"layer {i} without keys" for i in set(range(self.layers)) - {one.layer for one in self.caches}]
        return sorted((self.graph.required ^ needed) - {"position_ids"}) + missing

    def _entry_bytes(self, name: str) -> int:
        value = self.graph.inputs[name]
        heads = next((size for size in value.shape[1:2] if isinstance(size, int)), 1)
        size = value.shape[-1] if isinstance(value.shape[-1], int) else self.head_size
        return heads * size * _BYTES.get(value.kind, 1)


def read(path: Path) -> ModelFolder:
    """Read what a folder says of itself. Raises `LoadFailed`."""
    try:
        config = json.loads((path / "genai_config.json").read_bytes())
        return _describe(path, config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadFailed(f"genai_config.json cannot be read: {error!r}") from error


def own_context_length(path: Path) -> int:
    """Return how many tokens the model of a folder could hold, wherever it is served. Raises `LoadFailed`."""
    try:
        return int(json.loads((path / "genai_config.json").read_bytes())["model"]["context_length"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadFailed(f"genai_config.json cannot be read: {error!r}") from error


def _describe(path: Path, config: dict[str, Any]) -> ModelFolder:
    model = config["model"]
    decoder = model["decoder"]
    graph = onnx_header.read(path / decoder["filename"])
    layers = int(decoder["num_hidden_layers"])
    logits = graph.outputs.get("logits")
    width = logits.shape[-1] if logits is not None and logits.shape else ""
    window, sessions = decoder.get("sliding_window") or {}, decoder.get("session_options") or {}
    return ModelFolder(
        path=path,
        graph=graph,
        layers=layers,
        caches=tuple(cache for i in range(layers) if (cache := _cache(decoder, i)).past[0] in graph.inputs),
        head_size=int(decoder["head_size"]),
        context_length=int(model["context_length"]),
        vocabulary=width if isinstance(width, int) else int(model["vocab_size"]),
        shares_buffer=config.get("search", {}).get("past_present_share_buffer"),
        window=int(window.get("window_size", 0)),
        senses=tuple(name for name in _OTHER_SENSES if name in model),
        file=decoder["filename"],
        providers=tuple(name for one in sessions.get("provider_options") or [] for name in one),
    )


def _cache(decoder: dict[str, Any], layer: int) -> Cache:
    return Cache(layer, _names(decoder, "past", layer), _names(decoder, "present", layer))


def _names(decoder: dict[str, Any], side: str, layer: int) -> tuple[str, str]:
    section = decoder["inputs" if side == "past" else "outputs"]
    prefix = "past_key_values" if side == "past" else "present"  # what genai takes where the configuration is silent
    key, value = (section.get(f"{side}_{kind}_names", f"{prefix}.%d.{kind}") % layer for kind in ("key", "value"))
    return key, value
