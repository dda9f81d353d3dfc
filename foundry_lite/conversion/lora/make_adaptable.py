"""Make a built model adaptable: beside each linear layer, ``y += (x A) B``, A and B being inputs that have defaults.

Run by `variants` as a subprocess:

    python -m foundry_lite.conversion.lora.make_adaptable MODEL_FOLDER

The defaults are zeros of rank 1, so the model as it stands computes what it did before, whatever its number format: the
weights stay as they are, quantized or not, and an adapter is computed in float32 beside them. `targets` has the plan.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from foundry_lite.conversion.lora.targets import LoraTarget, LoraTargets, Part, write_places
from foundry_lite.errors import BuildFailed

_NODE = re.compile(r"/model/layers\.(\d+)/(?:attn|mlp)/(\w+_proj)/MatMul\w*")
_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def main() -> None:
    """Change one model folder."""
    folder = Path(sys.argv[1])
    decoder = json.loads((folder / "genai_config.json").read_bytes())["model"]["decoder"]
    path = folder / decoder["filename"]
    model = onnx.load(path, load_external_data=False)  # the weights are not read, and stay where they are
    widths = _attention_widths(decoder)
    linears = list(_linears(model.graph))
    plan = LoraTargets(tuple(_place(layer, name, node, model.graph, widths) for layer, name, node in linears))
    _require_every_module(plan, int(decoder["num_hidden_layers"]))
    ends = {id(node): _end(model.graph, node) for _, _, node in linears}
    beside = {ends[id(node)]: place for place, (_, _, node) in zip(plan.all, linears, strict=True)}
    inputs = {ends[id(node)]: node.input[0] for _, _, node in linears}
    _insert(model.graph, beside, inputs)
    onnx.save(model, path)
    write_places(folder, plan)


def _linears(graph: Any) -> Iterator[tuple[int, str, Any]]:
    for node in graph.node:
        match = _NODE.fullmatch(node.name)
        if match and node.op_type in ("MatMul", "MatMulNBits"):
            yield int(match[1]), match[2], node


def _attention_widths(decoder: dict[str, Any]) -> dict[str, int]:
    size, heads, kv_heads = (decoder[key] for key in ("head_size", "num_attention_heads", "num_key_value_heads"))
    return {"q_proj": size * heads, "k_proj": size * kv_heads, "v_proj": size * kv_heads}


def _place(layer: int, name: str, node: Any, graph: Any, widths: dict[str, int]) -> LoraTarget:
    inputs, outputs = _weight_shape(node, graph)
    modules = ("q_proj", "k_proj", "v_proj") if name == "qkv_proj" else (name,)
    parts = []
    start = 0
    for module in modules:
        stop = start + (widths[module] if len(modules) > 1 else outputs)
        parts.append(Part(module, start, stop))
        start = stop
    if start != outputs:
        raise BuildFailed(f"layer {layer}: {name} is {outputs} wide, and its parts {start}")
    return LoraTarget(layer, name, inputs, outputs, tuple(parts))


def _weight_shape(node: Any, graph: Any) -> tuple[int, int]:
    if node.op_type == "MatMulNBits":
        _require_float(node, _constant(node.input[2], graph))
        sizes = {attribute.name: attribute.i for attribute in node.attribute}
        return sizes["K"], sizes["N"]
    maker = next((one for one in graph.node if node.input[1] in one.output), None)
    if maker is not None and maker.op_type == "Cast":  # stored in 16 bits, computed in float32
        weight = _constant(maker.input[0], graph)
    else:
        weight = _constant(node.input[1], graph)
        _require_float(node, weight)
    return weight.dims[0], weight.dims[1]


def _constant(name: str, graph: Any) -> Any:
    return next(one for one in graph.initializer if one.name == name)


def _require_float(node: Any, weight: Any) -> None:
    if weight.data_type != TensorProto.FLOAT:
        raise BuildFailed(f"{node.name} does not compute in float32; adapters need that")


def _require_every_module(plan: LoraTargets, layers: int) -> None:
    missing = [f"{layer}.{name}" for layer in range(layers) for name in _MODULES if plan.find(layer, name) is None]
    if missing:
        raise BuildFailed(f"the graph has no place for adapters of {', '.join(missing[:3])}")


def _end(graph: Any, node: Any) -> str:
    """Return the name of what a linear layer gives, its bias added: the base's own arithmetic stays in one piece."""
    users = [one for one in graph.node if node.output[0] in one.input]
    if len(users) == 1 and users[0].op_type == "Add" and users[0].name == re.sub(r"MatMul\w*$", "Add", node.name):
        return str(users[0].output[0])
    return str(node.output[0])


def _insert(graph: Any, beside: dict[str, LoraTarget], inputs: dict[str, str]) -> None:
    """Add ``(x A) B`` to each output in ``beside``; the sum takes the output's name, so whoever reads it reads on."""
    nodes = []
    for node in graph.node:
        nodes.append(node)
        end = next((name for name in node.output if name in beside), None)
        if end is None:
            continue
        place, plain = beside[end], f"{end}/without_adapter"
        node.output[list(node.output).index(end)] = plain
        stem = f"/lora/layers.{place.layer}/{place.node}"
        nodes += [
            helper.make_node("MatMul", [inputs[end], place.down], [f"{stem}/down"], name=f"{stem}/MatMul_A"),
            helper.make_node("MatMul", [f"{stem}/down", place.up], [f"{stem}/up"], name=f"{stem}/MatMul_B"),
            helper.make_node("Add", [plain, f"{stem}/up"], [end], name=f"{stem}/Add"),
        ]
        rank = f"lora.{place.layer}.{place.node}.rank"
        for name, shape in ((place.down, (place.inputs, 1)), (place.up, (1, place.outputs))):
            graph.initializer.append(
                helper.make_tensor(name, TensorProto.FLOAT, shape, bytes(4 * max(shape)), raw=True)
            )
            free = [rank if size == 1 else size for size in shape]
            graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, free))
    del graph.node[:]
    graph.node.extend(nodes)


if __name__ == "__main__":
    main()
