"""The first lines of a published model card, in YAML: what the Hub sorts and finds models by."""

from __future__ import annotations

import json
import re

from foundry_lite.catalog.card import Card, Origin, Task
from foundry_lite.conversion.records.sbom import spdx_of

_PIPELINES = {Task.GENERATE: "text-generation", Task.EMBED: "sentence-similarity", Task.RERANK: "text-ranking"}
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_MODEL_MAKERS = ("gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "unknown")  # of the Hub


def front_matter(card: Card) -> str:
    """Return the front matter. A licence that the Hub has no word for is `other`, with its name."""
    spdx, license_ = spdx_of(card.license), card.license.lower()
    is_known = spdx is not None or license_ in _MODEL_MAKERS
    lines = [f"license: {_yaml(license_ if is_known else 'other')}"]
    lines += [] if is_known else [f"license_name: {_yaml(card.license)}"]
    parents = [one.name for one in card.lineage if _HUB_NAME.fullmatch(one.name)]
    if parents:
        lines += ["base_model:", *(f"- {_yaml(name)}" for name in parents)]
        relation = "quantized" if card.recipe.precision.is_quantized else "finetune"
        lines += [f"base_model_relation: {relation}"]
    lines += [f"pipeline_tag: {_PIPELINES[card.task]}", "library_name: onnxruntime"]
    lines += ["inference: false", f"quantized: {str(card.recipe.precision.is_quantized).lower()}"]
    lines += ["tags:", *(f"- {_yaml(tag)}" for tag in _tags(card))]
    return "\n".join(["---", *lines, "---", ""])


def _tags(card: Card) -> list[str]:
    adapted = [str(Origin.ADAPTER)] * any(one.origin is Origin.ADAPTER for one in card.lineage)
    return ["onnx", "foundry-lite", str(card.recipe.provider), str(card.recipe.precision), *adapted]


def _yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # JSON's strings are YAML's
