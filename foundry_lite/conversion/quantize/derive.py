"""From a float32 graph to what is served: run by `variants` and `encoder` as a subprocess.

    python -m foundry_lite.conversion.quantize.derive FLOAT_FOLDER JOB.json

``JOB.json`` is a `Job`. All variants of a model come from one float32 export, with its node names. Any decoder graph
will do; what is not found in one is left as it is:

- ``MatMul`` with a constant matrix becomes ``MatMulNBits``; the embedding becomes ``GatherBlockQuantized``. A model
  whose head is its embedding has that matrix once, in int8 too, where the builder leaves a float32 embedding beside it
  (544 MB in Qwen2.5-0.5B). An embedding of its own gets 8 bits.
- The head computes the last position only (the builder's ``prune_lm_head``), or as many as the caller requests:
  ``logits_from`` is an input with a default, int64 of shape (1,): with -k, the output ``window_logits`` has the
  logits of the last k positions. ``logits`` are those of the last one in any case.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from msgspec import Struct
from onnx import helper, numpy_helper

from foundry_lite.catalog.recipe import Algorithm, KvPrecision, Precision, Recipe
from foundry_lite.conversion.formats.external_data import WeightReader, WeightWriter, external_file
from foundry_lite.conversion.formats.graph_edit import (
    find_products,
    lift_constants,
    name_nodes,
    replace,
    require_floats,
)
from foundry_lite.conversion.jobs.step_context import link_or_copy
from foundry_lite.conversion.quantize import kv_cache
from foundry_lite.conversion.quantize.activations import Walk
from foundry_lite.conversion.quantize.algorithms import Calibrated, Hessians, Kept, Nearest, Rounding
from foundry_lite.conversion.quantize.half_precision import Halver
from foundry_lite.conversion.quantize.mixed_precision import more_bits
from foundry_lite.conversion.quantize.rewrite import Quantizer
from foundry_lite.conversion.quantize.source_grid import Grid, read_grid
from foundry_lite.errors import BuildFailed, FoundryError

GRAPH, DATA = "model.onnx", "model.onnx.data"
WINDOW, WINDOW_LOGITS = "logits_from", "window_logits"

_END = np.iinfo(np.int64).max

MakeWalk = Callable[..., Walk]  # texts, names of values, weights to be replaced


class Job(Struct, frozen=True):
    """Derivation job for one variant: ``target`` is an existing folder, ``prepared`` the float folder (`normalize`).

    ``texts`` are the tokens of the calibration texts, for recipes that need them.
    """

    target: str
    recipe: Recipe
    prepared: str
    texts: tuple[tuple[int, ...], ...] = ()


def main() -> None:
    """Make one variant."""
    job = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=Job)
    try:
        derive(Path(sys.argv[1]), Path(job.target), job.recipe, read_grid(Path(job.prepared)), job.texts)
    except FoundryError as error:
        sys.exit(f"{error.message}. {error.hint}")


def derive(
    source: Path, target: Path, recipe: Recipe, grid: Grid | None = None, texts: Sequence[Sequence[int]] = ()
) -> None:
    """Write the variant of the folder ``source`` into ``target``, with every other file that it has.

    Raises `BuildFailed` when the graph, or what came with it, is not what the recipe needs.
    """
    model = onnx.load(source / GRAPH, load_external_data=False)
    data = {external_file(one) for one in model.graph.initializer if one.data_location == onnx.TensorProto.EXTERNAL}
    name_nodes(model.graph)
    open_window(model.graph)
    walk: MakeWalk = partial(_walk, model, source)
    if recipe.kv is KvPrecision.INT8:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)  # the walk runs the graph as it was
        kv_cache.store_in_bytes(changed.graph, partial(walk, texts))
    else:
        changed = model
    is_float = recipe.precision is Precision.FP32
    if source.resolve() != target.resolve():
        _copy_files(source, target, data, with_data=is_float)
    if not is_float:
        _change_weights(changed, _Means(source, target, grid, texts, walk), recipe)
    onnx.save(changed, target / GRAPH)


@dataclass(frozen=True, slots=True)
class _Means:
    """Inputs of a weight conversion: folders, the source's grid, calibration texts in tokens, and how to run them."""

    source: Path
    target: Path
    grid: Grid | None
    texts: Sequence[Sequence[int]]
    walk: MakeWalk


def _change_weights(model: onnx.ModelProto, means: _Means, recipe: Recipe) -> None:
    require_floats(model.graph)
    lift_constants(model.graph)
    reader = WeightReader(means.source)
    with WeightWriter(means.target / DATA) as writer:
        if not recipe.precision.is_quantized:
            Halver(model.graph, reader, writer, recipe.precision).run()
            return
        block = recipe.block_size or 32
        bits = more_bits(model.graph, reader, block, means.texts, means.walk) if recipe.mixed else {}
        rounding = _rounding(model.graph, recipe, means.grid, partial(means.walk, means.texts))
        Quantizer(model.graph, reader, writer, recipe, rounding, bits).run()
    if not any(opset.domain == "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _rounding(
    graph: onnx.GraphProto, recipe: Recipe, grid: Grid | None, walk: Callable[[Sequence[str]], Walk]
) -> Rounding:
    if recipe.algorithm is Algorithm.KEPT:
        if grid is None:
            raise BuildFailed(
                "the source came in floats, so it has no integers of its own that could be kept",
                hint="Build the variant without 'kept'.",
            )
        return Kept(recipe, grid)
    if recipe.algorithm is Algorithm.GPTQ:
        names = list(dict.fromkeys(product.given for product in find_products(graph)))
        return Calibrated(recipe, Hessians(walk, names))
    return Nearest(recipe)


def _walk(
    model: onnx.ModelProto,
    source: Path,
    texts: Sequence[Sequence[int]],
    wanted: Sequence[str],
    replaced: Mapping[str, onnx.TensorProto] | None = None,
) -> Walk:
    if not texts:
        raise BuildFailed("this recipe needs calibration texts, and was given none")
    return Walk(model, source, _head_size(source), texts, wanted, replaced)


def _head_size(folder: Path) -> int:
    """Return the size of a head as the configuration has it, 0 where it is missing: the graph then has to have it."""
    try:
        config: dict[str, Any] = json.loads((folder / "genai_config.json").read_bytes())
        return int(config["model"]["decoder"]["head_size"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _copy_files(source: Path, target: Path, data: set[str], *, with_data: bool) -> None:
    """Copy what belongs to the model beside its graph, and link its weights where they stay as they are."""
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if not path.is_file() or name == GRAPH or (name in data and not with_data):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if name in data:
            link_or_copy(path.resolve(), target / name)
        else:
            shutil.copyfile(path, target / name)


def open_window(graph: onnx.GraphProto) -> None:
    """Let the caller choose from which position on logits are computed; by default it is the last one.

    A graph that the builder has not pruned computes all of them, and is left so.
    """
    nodes = {node.name: node for node in graph.node}
    unsqueeze, gather = nodes.get("/lm_head/prune/Unsqueeze"), nodes.get("/lm_head/prune/Gather")
    if unsqueeze is None or gather is None:
        return
    constants = {WINDOW: [-1], "logits_to": [_END], "logits_axis": [1]}
    graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), k) for k, v in constants.items())
    # An initializer that is also an input has a default and can be given.
    graph.input.append(helper.make_tensor_value_info(WINDOW, onnx.TensorProto.INT64, [1]))
    window = helper.make_node(
        "Slice", [gather.input[0], *constants], list(unsqueeze.output), name="/lm_head/window/Slice"
    )
    replace(graph, {gather.name: [], unsqueeze.name: [window]})
    _name_window(graph)
    del graph.value_info[:]  # they tell of one position


def _name_window(graph: onnx.GraphProto) -> None:
    """Give the logits of the window a name of their own; ``logits`` stay those of the last position.

    onnxruntime-genai reads off the shape of ``logits`` that a graph gives one position whatever the prompt's length.
    """
    logits = next(one for one in graph.output if one.name == "logits")
    head = next(node for node in graph.node if "logits" in node.output)
    head.output[list(head.output).index("logits")] = WINDOW_LOGITS
    last = helper.make_tensor("logits_last", onnx.TensorProto.INT64, [1], [-1])
    graph.initializer.append(last)
    inputs = [WINDOW_LOGITS, last.name, "logits_to", "logits_axis"]
    graph.node.append(helper.make_node("Slice", inputs, ["logits"], name="/lm_head/last/Slice"))
    shape = logits.type.tensor_type.shape.dim
    dims = [shape[0].dim_param or shape[0].dim_value, "logits_length", shape[2].dim_value]
    graph.output.append(helper.make_tensor_value_info(WINDOW_LOGITS, logits.type.tensor_type.elem_type, dims))


if __name__ == "__main__":
    main()
