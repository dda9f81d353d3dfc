"""An encoder's float32 graph: run by `encoder` as a subprocess, in either of two toolchains.

    python -m foundry_lite.conversion.torch_scripts.export_encoder torch|optimum PREPARED TARGET TASK SCRATCH

``TASK`` is ``feature-extraction`` (hidden states) or ``text-classification`` (logits). ``TARGET`` gets ``model.onnx``
with its weights in ``model.onnx.data``, and ``io.json`` with the names of its inputs and of its output. *torch* traces
the model of transformers without its weights, which are then written one at a time: no more than the model itself is
in memory. *optimum* calls optimum's own exporter.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from foundry_lite.conversion.formats.external_data import WeightReader, WeightWriter

GRAPH, DATA = "model.onnx", "model.onnx.data"
OUTPUTS = {"feature-extraction": "last_hidden_state", "text-classification": "logits"}

_OPSET = 18  # of the graphs that onnxruntime's fusions for BERT were written for; with 20 nothing was faster
_SMALL = 1024  # bytes: smaller constants stay in the graph
_SAMPLE = (2, 9)  # texts and tokens of the input that is traced; both are free in the graph
_TYPES = "token_type_ids"
_OWN = "model."  # how the traced module calls the model inside


def main() -> None:
    """Export one folder."""
    through, prepared, target, task, scratch = sys.argv[1:6]
    if through == "optimum":
        by_optimum(Path(prepared), Path(target), task, Path(scratch))
    else:
        by_torch(Path(prepared), Path(target), task, Path(scratch))
    graph = onnx.load(Path(target) / GRAPH, load_external_data=False).graph
    names = {"inputs": [one.name for one in graph.input], "output": OUTPUTS[task]}
    (Path(target) / "io.json").write_text(json.dumps(names), encoding="utf-8")


def by_torch(prepared: Path, target: Path, task: str, scratch: Path) -> None:
    """Trace the model of transformers."""
    import torch
    from transformers import AutoTokenizer

    model = load(prepared, task)
    tokenizer = AutoTokenizer.from_pretrained(prepared, local_files_only=True, trust_remote_code=False)
    inputs = _sample_inputs(model, tokenizer.model_input_names)
    traced = _wrap(model, tuple(inputs), OUTPUTS[task])
    torch.onnx.export(
        traced,
        tuple(inputs.values()),
        str(scratch / GRAPH),
        input_names=list(inputs),
        output_names=[OUTPUTS[task]],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in inputs} | _output_axes(task),
        opset_version=_OPSET,
        export_params=False,
        do_constant_folding=False,
        dynamo=False,
    )
    weights = {name: one.detach().numpy() for name, one in [*traced.named_parameters(), *traced.named_buffers()]}
    graph = onnx.load(scratch / GRAPH)
    with WeightWriter(target / DATA) as writer:
        _bind(graph.graph, weights, writer)
    onnx.save(graph, target / GRAPH)


def load(prepared: Path, task: str) -> Any:
    """Load the model in float32, without any code of its folder."""
    import torch
    from transformers import AutoModel, AutoModelForSequenceClassification

    kind = AutoModelForSequenceClassification if task == "text-classification" else AutoModel
    model = kind.from_pretrained(
        prepared, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    model.config.use_cache = False
    return model.eval()


def _wrap(model: Any, names: tuple[str, ...], output: str) -> Any:
    import torch

    class Traced(torch.nn.Module):  # type: ignore[misc]  # torch is not looked into
        """The model with its inputs in order, and one output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Any) -> Any:
            return self.model(**dict(zip(names, given, strict=True)), return_dict=True)[output]

    return Traced().eval()


def _sample_inputs(model: Any, names: list[str]) -> dict[str, Any]:
    """Return an input of each kind that the tokenizer gives and the model takes."""
    import torch

    is_taken = _TYPES in names and _TYPES in inspect.signature(model.forward).parameters
    texts, tokens = _SAMPLE
    ids = torch.arange(texts * tokens).reshape(_SAMPLE) % min(model.config.vocab_size, 50) + 3
    mask = torch.ones(_SAMPLE, dtype=torch.int64)
    mask[1, tokens // 2 :] = 0  # else the mask could be left out of the graph
    inputs = {"input_ids": ids, "attention_mask": mask}
    if is_taken and (getattr(model.config, "type_vocab_size", 0) or 0) > 1:
        inputs[_TYPES] = torch.zeros(_SAMPLE, dtype=torch.int64)
    return inputs


def _output_axes(task: str) -> dict[str, dict[int, str]]:
    axes = {0: "batch"} if task == "text-classification" else {0: "batch", 1: "tokens"}
    return {OUTPUTS[task]: axes}


def _bind(graph: onnx.GraphProto, weights: Mapping[str, NDArray[Any]], writer: WeightWriter) -> None:
    """Give a graph without weights its weights; matrices that it transposes are written the other way round."""
    _resolve_identities(graph, weights)
    turned = {node.output[0]: node.input[0] for node in graph.node if _turns(node, weights)}
    kept = [node for node in graph.node if node.output[0] not in turned]
    used = dict.fromkeys(name for node in kept for name in node.input if name in weights or name in turned)
    del graph.node[:]
    graph.node.extend(kept)
    added = []
    for name in used:
        source = turned.get(name, name)
        array = weights[source].T if name in turned else weights[source]
        plain = source.removeprefix(_OWN) + (".T" if name in turned else "")
        added.append((name, _store(plain, array, writer)))
    _rename(graph, {old: tensor.name for old, tensor in added})
    inputs = [one for one in graph.input if one.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    graph.initializer.extend(tensor for _, tensor in added)


def _turns(node: onnx.NodeProto, weights: Mapping[str, NDArray[Any]]) -> bool:
    return node.op_type == "Transpose" and node.input[0] in weights and weights[node.input[0]].ndim == 2


def _resolve_identities(graph: onnx.GraphProto, weights: Mapping[str, NDArray[Any]]) -> None:
    """The tracer has equal weights once, and an ``Identity`` for the others."""
    names = dict.fromkeys(weights)
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        if node.op_type == "Identity" and (node.input[0] in names or node.input[0] in same):
            same[node.output[0]] = same.get(node.input[0], node.input[0])
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    _rename(graph, same)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)


def _store(name: str, array: NDArray[Any], writer: WeightWriter) -> onnx.TensorProto:
    if array.nbytes < _SMALL:
        return onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
    return writer.add(name, array)


def by_optimum(prepared: Path, target: Path, task: str, scratch: Path) -> None:
    """Call optimum, and put its weights where ours lie."""
    from optimum.exporters.onnx import main_export

    main_export(
        str(prepared),
        output=scratch,
        task=task,
        library_name="transformers",
        framework="pt",
        device="cpu",
        do_validation=False,  # `encoder.check` compares every variant with transformers
        no_post_process=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    graph = onnx.load(scratch / GRAPH, load_external_data=False)
    if not _gives_types(prepared):
        _without_types(graph.graph)
    reader = WeightReader(scratch)
    with WeightWriter(target / DATA) as writer:
        stored = [_store(one.name, reader.array(one), writer) for one in graph.graph.initializer]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(stored)
    onnx.save(graph, target / GRAPH)


def _gives_types(prepared: Path) -> bool:
    """Return whether the tokenizer gives ``token_type_ids``; this transformers may not know its class."""
    path = prepared / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    names = config.get("model_input_names")
    if names is not None:
        return _TYPES in names
    return config.get("tokenizer_class") not in (None, "PreTrainedTokenizerFast", "TokenizersBackend")


def _without_types(graph: onnx.GraphProto) -> None:
    """Make zeros of an input that nobody gives."""
    inputs = [one for one in graph.input if one.name != _TYPES]
    if len(inputs) < len(graph.input):
        del graph.input[:]
        graph.input.extend(inputs)
        graph.node.insert(0, onnx.helper.make_node("Sub", ["input_ids", "input_ids"], [_TYPES], name="no_types"))


if __name__ == "__main__":
    main()
