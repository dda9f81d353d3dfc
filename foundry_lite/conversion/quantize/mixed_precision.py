"""Mixed precision: chooses the matrices of a variant that get 8 bits where the others have 4.

The head does, and as many weights more as the field's rule would give 8 bits: the projections to values, and those back
from the hidden layer, of the first eighth of the layers, the last, and every third between. *Which* they are is
measured where that takes no more than a few minutes: each matrix alone is rounded to 4 bits, and what the model then
loses on calibration texts is its sensitivity. On larger models the rule itself decides. (How far a product's
result moves is no measure: it ranks the matrices of the embedded model almost backwards; docs/variants.md.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from foundry_lite.conversion.formats.external_data import WeightReader, release
from foundry_lite.conversion.formats.graph_edit import Product, find_products
from foundry_lite.conversion.quantize.activations import Walk
from foundry_lite.conversion.quantize.blocks import quantize_blocks, restore

_BITS = 8
_MOST_WORK = 1e13  # multiplications and additions: some minutes on two cores
_TOKENS, _FEWEST, _MOST = 128, 2, 24  # of a text, and how many texts
_LAYER = re.compile(r"layers?[./](\d+)[./]")
_SENSITIVE = re.compile(r"(v_proj|qkv_proj|down_proj)")

Tokens = Sequence[Sequence[int]]
MakeWalk = Callable[[Tokens, Sequence[str], Mapping[str, onnx.TensorProto]], Walk]


def more_bits(
    graph: onnx.GraphProto, reader: WeightReader, block: int, texts: Tokens, make_walk: MakeWalk
) -> dict[str, int]:
    """Return the bits of the nodes that get more, by name. Without ``texts``, the rule decides."""
    products = find_products(graph)
    weights = {one.name: one for one in graph.initializer}
    sizes = {one.node.name: int(np.prod(weights[one.weight].dims)) for one in products}
    chosen = by_rule(list(sizes))
    few = _few_texts(texts, sum(sizes.values()) * (len(products) + 1))
    if few:
        losses = _Ablation(graph, reader, block, few, make_walk).losses(products)
        chosen = most_sensitive(losses, sizes, chosen)
    return dict.fromkeys(chosen, _BITS)


def by_rule(names: Sequence[str]) -> list[str]:
    """Return those of the products' names that the rule takes; one of no layer is the head."""
    layers = {name: int(match[1]) for name in names if (match := _LAYER.search(name))}
    count = 1 + max(layers.values(), default=-1)
    return [
        name for name in names if name not in layers or (is_sensitive(layers[name], count) and _SENSITIVE.search(name))
    ]


def is_sensitive(layer: int, count: int) -> bool:
    """Return whether a layer is in the first eighth, in the last eighth, or every third between."""
    eighth = count // 8
    return layer < eighth or layer >= 7 * count // 8 or (layer - eighth) % 3 == 2


def most_sensitive(losses: Mapping[str, float], sizes: Mapping[str, int], rule: Sequence[str]) -> list[str]:
    """Return the names that lose most for each weight, of no more weights than the rule takes; the heads first."""
    chosen = [name for name in rule if not _LAYER.search(name)]
    left = sum(sizes[name] for name in rule) - sum(sizes[name] for name in chosen)
    for name in sorted(losses, key=lambda one: (-losses[one] / sizes[one], one)):
        if name not in chosen and sizes[name] <= left and losses[name] > 0:
            chosen.append(name)
            left -= sizes[name]
    return chosen


def _few_texts(texts: Tokens, work_per_token: float) -> list[Sequence[int]]:
    """Return as many texts as there is time for, spread over all of them; none when there is time for too few."""
    count = min(_MOST, len(texts), int(_MOST_WORK / (2 * work_per_token * _TOKENS)))
    if count < _FEWEST:
        return []
    return [texts[number * len(texts) // count][:_TOKENS] for number in range(count)]


class _Ablation:
    """Computes what is lost when one matrix alone has 4 bits."""

    def __init__(
        self, graph: onnx.GraphProto, reader: WeightReader, block: int, texts: Tokens, make_walk: MakeWalk
    ) -> None:
        self._weights = {one.name: one for one in graph.initializer}
        outputs = [one.name for one in graph.output]
        self._logits = "window_logits" if "window_logits" in outputs else "logits"
        self._reader = reader
        self._block = block
        self._texts = texts
        self._make_walk = make_walk

    def losses(self, products: Sequence[Product]) -> dict[str, float]:
        """Return the divergence, in nats a token, by the name of the product."""
        source = self._run({})
        return {one.node.name: _divergence(source, self._run({one.weight: self._rounded(one)})) for one in products}

    def _rounded(self, product: Product) -> onnx.TensorProto:
        array = self._reader.array(self._weights[product.weight])
        weight = np.ascontiguousarray(array.T if product.is_transposed else array, np.float32)
        made = restore(quantize_blocks(weight, 4, self._block, symmetric=True), 4)[: len(weight)]
        release(array)
        made = made.T if product.is_transposed else made
        return numpy_helper.from_array(np.ascontiguousarray(made.astype(array.dtype)), product.weight)

    def _run(self, replaced: Mapping[str, onnx.TensorProto]) -> list[NDArray[np.float32]]:
        """Return logarithms of probabilities, of each text ``(tokens, vocabulary)``."""
        found: list[NDArray[np.float32]] = []

        def note(_: str, value: NDArray[Any]) -> None:
            logits = value[0].astype(np.float32)
            logits -= logits.max(-1, keepdims=True)
            found.append(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))

        for _ in self._make_walk(self._texts, [self._logits], replaced).run(note):
            pass
        return found


def _divergence(source: list[NDArray[np.float32]], ours: list[NDArray[np.float32]]) -> float:
    totals = [float((np.exp(one) * (one - other)).sum()) for one, other in zip(source, ours, strict=True)]
    return sum(totals) / sum(len(one) for one in source)
