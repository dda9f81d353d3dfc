"""Sources in other formats, end to end: prepared, exported, derived, run, and compared with their floats in torch."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from foundry_lite.catalog.recipe import Precision, Recipe, recipe_for
from foundry_lite.conversion import variants
from foundry_lite.conversion.checkpoint import normalize
from foundry_lite.conversion.export import decoder
from foundry_lite.conversion.jobs.step_context import PACKAGE, StepContext
from foundry_lite.conversion.sources import detect
from foundry_lite.conversion.sources.source_model import Kind, SourceModel
from foundry_lite.conversion.toolchains.toolchains import Toolchains
from foundry_lite.engine.runners.select import open_runner
from tests.float_model import write_float_model
from tests.gguf_writer import write_gguf
from tests.packed_model import write_packed
from tests.plain_onnx import write_plain_onnx

pytestmark = pytest.mark.build

TOKENS = [7, 70, 300, 12, 9, 150, 33, 34, 35, 36, 37, 38, 200, 201, 5, 6]

# Everything that needs torch, in one process: the tools as they are run, and the logits of each prepared folder.
_TORCH = """
import json, sys
import numpy as np
import torch
from transformers import AutoModelForCausalLM
from foundry_lite.conversion.checkpoint import unpack_gptq_awq as unpack
from foundry_lite.conversion.torch_scripts import dequantize_gguf, export_decoder

jobs, tokens, out = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
logits = {}
for name, source, prepared, exported, tool in jobs:
    sys.argv = [tool, source, prepared]
    {"unpack": unpack, "dequantize_gguf": dequantize_gguf}[tool].main()
    model = AutoModelForCausalLM.from_pretrained(prepared, dtype=torch.float32, local_files_only=True).eval()
    with torch.inference_mode():
        logits[name] = model(torch.tensor([tokens])).logits[0].numpy()
    del model
    if exported:
        sys.argv = ["export_decoder", prepared, exported, exported + ".cache"]
        export_decoder.main()
np.savez(out, **logits)
"""
# name → how the file or folder is made, and whether its graph is exported and run as well
_PACKED: dict[str, tuple[str, dict[str, Any], bool]] = {
    "gptq": ("gptq", {"group": 32}, True),
    "awq": ("awq", {"group": 16}, True),
    "Q4_0": ("gguf", {"kind": "Q4_0"}, True),
    "Q8_0": ("gguf", {"kind": "Q8_0"}, True),
    "F32": ("gguf", {"kind": "F32"}, False),
    "F16": ("gguf", {"kind": "F16"}, False),
    "Q5_1": ("gguf", {"kind": "Q5_1"}, False),
}


@dataclass(frozen=True, slots=True)
class Built:
    """One source on its way: what it was found to be, its float folder, its export, what torch computes."""

    found: SourceModel
    prepared: Path
    exported: Path
    logits: NDArray[np.float32]  # (tokens, vocabulary)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_float_model(tmp_path_factory.mktemp("source") / "float")


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """Every format, prepared and asked by torch; those whose integers are kept, exported by the builder."""
    root = tmp_path_factory.mktemp("built")
    jobs, found = [], {}
    for name, (method, options, is_run) in _PACKED.items():
        path = root / f"{name}.gguf" if method == "gguf" else root / name
        if method == "gguf":
            write_gguf(source, path, **options)
        else:
            write_packed(source, path, method, **options)
        found[name] = detect.inspect(path)
        for folder in ("prepared", "exported"):
            (root / folder / name).mkdir(parents=True)
        tool = "dequantize_gguf" if method == "gguf" else "unpack"
        exported = str(root / "exported" / name) if is_run else ""
        jobs.append((name, str(path), str(root / "prepared" / name), exported, tool))
        if method != "gguf":  # as `unpack_folder` does
            for text in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
                (root / "prepared" / name / text).write_bytes((path / text).read_bytes())
    command = [sys.executable, "-c", _TORCH, json.dumps(jobs), json.dumps(TOKENS), str(root / "logits.npz")]
    environment = {"PYTHONPATH": str(PACKAGE.parent), "ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1",
                   "OMP_NUM_THREADS": "1", "PATH": "", "HOME": str(root)}  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    logits = np.load(root / "logits.npz")
    return {
        name: Built(found[name], root / "prepared" / name, root / "exported" / name, logits[name]) for name in found
    }


@pytest.fixture
def bench(tmp_path: Path) -> StepContext:
    (tmp_path / "scratch").mkdir()
    return StepContext(tmp_path / "scratch", tmp_path / "log", Toolchains(tmp_path / "toolchains"))


def divergence(expected: NDArray[np.float32], folder: Path) -> float:
    """Return the mean KL divergence (nats) of a built folder from ``expected``, token by token through a runner."""
    runner = open_runner(folder, threads=1, slots=1, context_length=64)
    rows = [runner.prefill(0, TOKENS[:1]).copy()]
    rows += [runner.decode([0], [token])[0].copy() for token in TOKENS[1:]]
    p, q = (_logprobs(np.asarray(one, np.float64)) for one in (expected, rows))
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def _logprobs(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def derive(one: Built, target: Path, recipe: Recipe, bench: StepContext) -> Path:
    target.mkdir()
    asyncio.run(variants.derive(one.exported, one.prepared, target, recipe, bench))
    return target


def compute_in_floats(folder: Path) -> None:
    """Have the products of a graph take activations in float32, not in 8 bits: what is left is the weights' loss."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1
    onnx.save(model, folder / "model.onnx")


def products(folder: Path) -> Iterator[tuple[onnx.NodeProto, NDArray[np.float32]]]:
    """Yield the products of a graph with their weights as floats ``(inputs, outputs)``."""
    graph = onnx.load(folder / "model.onnx").graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in arrays:
            yield node, arrays[node.input[1]]
        elif node.op_type == "MatMulNBits":
            sizes = {attribute.name: attribute.i for attribute in node.attribute}
            packed, scales, *zeros = (arrays[name] for name in node.input[1:] if name)
            whole = _integers(packed, sizes["bits"])
            middle = _integers(zeros[0], sizes["bits"])[:, : scales.shape[1], None] if zeros else 1 << sizes["bits"] - 1
            rows = (whole.astype(np.float32) - np.asarray(middle, np.float32)) * scales[:, :, None]
            yield node, rows.reshape(sizes["N"], -1)[:, : sizes["K"]].T


def _integers(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("Q4_0", 1e-9),
        ("Q8_0", 1e-9),
        ("gptq", 1e-3),  # the head and the embedding, which came in floats, have 8 bits
        ("awq", 1e-3),
    ],
)
def test_kept_integers_lose_nothing(
    name: str, bound: float, built: dict[str, Built], tmp_path: Path, bench: StepContext
) -> None:
    one = built[name]
    assert one.found.recipe is not None
    made = derive(one, tmp_path / "made", one.found.recipe, bench)
    assert divergence(one.logits, made) < 5e-3  # activations in 8 bits, which random weights magnify
    compute_in_floats(made)
    assert divergence(one.logits, made) < bound
    floats = {node.name: one for node, one in products(one.exported)}
    for node, weight in products(made):
        name = node.name.removesuffix(f"_Q{one.found.weight_bits}")
        if "/lm_head/" not in name:
            np.testing.assert_array_equal(weight, floats[name], err_msg=name)
    assert len(floats) == 2 * 7 - 2 * 2 + 1  # queries, keys and values are one product


def test_rounding_anew_loses_more_than_keeping(built: dict[str, Built], tmp_path: Path, bench: StepContext) -> None:
    one = built["gptq"]
    assert one.found.recipe is not None
    kept = derive(one, tmp_path / "kept", one.found.recipe, bench)
    rounded = derive(one, tmp_path / "rounded", recipe_for(Precision.INT4, 32), bench)
    assert divergence(one.logits, rounded) > 10 * divergence(one.logits, kept)


def test_a_float_file_is_the_model_that_it_was_made_from(built: dict[str, Built], source: Path) -> None:
    from foundry_lite.conversion.formats.safetensors import read_arrays

    weights = read_arrays(source / "model.safetensors")
    for name, array in read_arrays(built["F16"].prepared / "model.safetensors").items():
        np.testing.assert_allclose(array, weights[name], rtol=1e-3, atol=1e-7)  # also the order of rows
    assert built["F16"].found.recipe is None
    assert built["Q5_1"].found.recipe is None


def test_the_tokenizer_of_a_gguf_file_is_the_one_that_it_was_made_from(built: dict[str, Built], source: Path) -> None:
    from tokenizers import Tokenizer

    ours = Tokenizer.from_file(str(built["Q4_0"].prepared / "tokenizer.json"))
    theirs = Tokenizer.from_file(str(source / "tokenizer.json"))
    for text in ("<|im_start|>user\nIt's 1234 o'clock!\n\n  x<|im_end|>", "naïve café 你好 🙂", "  a\tb "):
        assert ours.encode(text).ids == theirs.encode(text).ids
    template = (built["Q4_0"].prepared / "chat_template.jinja").read_text()
    assert template == (source / "chat_template.jinja").read_text()
    generation = json.loads((built["Q4_0"].prepared / "generation_config.json").read_bytes())
    assert generation["eos_token_id"] == 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"external": "weights.bin"},
        {"graph_name": "onnx/decoder_model_merged.onnx", "merged": True, "external": "decoder_model_merged.onnx_data"},
        {"counted": True},
    ],
    ids=["inline", "external", "merged", "counted"],
)
def test_a_plain_graph_computes_what_its_source_does(
    options: dict[str, Any], source: Path, tmp_path: Path, bench: StepContext, built: dict[str, Built]
) -> None:
    folder = write_plain_onnx(source, tmp_path / "plain", **options)
    found = detect.inspect(folder)
    assert found.kind is Kind.ONNX
    assert found.recipe == Recipe(Precision.FP32)
    for name in ("prepared", "exported"):
        (tmp_path / name).mkdir()
    asyncio.run(normalize.prepare(found, tmp_path / "prepared", bench))
    asyncio.run(decoder.export(found, tmp_path / "prepared", tmp_path / "exported", bench))
    assert divergence(built["F32"].logits, tmp_path / "exported") < 1e-9
