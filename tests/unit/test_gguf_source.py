"""GGUF files: what is read of them, and the hostile and unknown ones that are refused before anything is made."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundry_lite.catalog.card import Defaults
from foundry_lite.catalog.recipe import Algorithm, Precision, Recipe
from foundry_lite.conversion.formats.gguf import GgufHeader, GgufTensor, read_gguf
from foundry_lite.conversion.formats.gguf_mapping import config_of, row_order
from foundry_lite.conversion.sources import detect
from foundry_lite.conversion.sources.chat_templates import PLAIN_TEMPLATE_NOTE
from foundry_lite.conversion.sources.source_model import Exporter, Kind, SourceModel
from foundry_lite.errors import DamagedWeights, NotAModel, SourceRejected, UnsafeSource, UnsupportedArchitecture
from tests.float_model import write_float_model
from tests.gguf_writer import write_gguf


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_float_model(tmp_path_factory.mktemp("float") / "source")


def inspect(floats: Path, tmp_path: Path, kind: str = "F32", **changes: Any) -> SourceModel:
    """Write a file with some key-value pairs changed, and look at it."""
    return detect.inspect(write_gguf(floats, tmp_path / "model.gguf", kind, **changes))


def test_a_file_says_what_it_is(floats: Path, tmp_path: Path) -> None:
    found = inspect(floats, tmp_path)
    source = detect.inspect(floats)
    assert found.kind is Kind.GGUF
    assert found.exporter is Exporter.BUILDER
    assert (found.folder, found.files) == (tmp_path, (tmp_path / "model.gguf",))
    assert (found.architecture, found.context_length) == (source.architecture, source.context_length)
    assert found.parameters == source.parameters
    assert (found.license, found.weight_bits, found.recipe, found.needs_template) == ("apache-2.0", 32, None, False)
    assert found.notes == ("its weights are F32",)


@pytest.mark.parametrize(
    ("kind", "bits", "recipe"),
    [
        ("Q4_0", 4, Recipe(Precision.INT4, 32, algorithm=Algorithm.KEPT, mixed=True)),
        ("Q8_0", 8, Recipe(Precision.INT8, 32, algorithm=Algorithm.KEPT)),
        ("Q4_1", 5, None),
        ("Q5_0", 5, None),
        ("F16", 16, None),
        ("BF16", 16, None),
    ],
)
def test_blocks_that_the_kernels_have_too_are_kept(
    kind: str, bits: int, recipe: Recipe | None, floats: Path, tmp_path: Path
) -> None:
    found = inspect(floats, tmp_path, kind)
    assert (found.weight_bits, found.recipe) == (bits, recipe)
    if bits < 16:
        kept = f"the integers of {kind} are kept, none is rounded again"
        again = "quantizing them again costs a little"
        expected = f"its quantized tensors (16 of type {kind}) are made floats; {kept if recipe else again}"
        assert found.notes == (expected,)


def test_a_folder_with_one_file_is_that_file(floats: Path, tmp_path: Path) -> None:
    write_gguf(floats, tmp_path / "model.gguf")
    (tmp_path / "README.md").write_text("x")
    assert detect.inspect(tmp_path).files == (tmp_path / "model.gguf",)
    write_gguf(floats, tmp_path / "other.gguf")
    with pytest.raises(NotAModel, match="has 2 GGUF files: model.gguf, other.gguf"):
        detect.inspect(tmp_path)


def test_how_a_file_wants_to_be_sampled_is_honoured_or_named(floats: Path, tmp_path: Path) -> None:
    own: dict[str, Any] = {"temp": 0.5, "top_k": 20, "penalty_repeat": 1.5, "penalty_last_n": 64, "mirostat": 0}
    found = inspect(floats, tmp_path, **{f"general.sampling.{name}": value for name, value in own.items()})
    assert found.defaults == Defaults(temperature=0.5, top_k=20, repetition_penalty=1.5)
    assert any("asks for what is not done here: penalty_last_n = 64." in note for note in found.notes)


def test_a_file_without_a_template_gets_a_plain_one(floats: Path, tmp_path: Path) -> None:
    without: dict[str, Any] = {"tokenizer.chat_template": None}
    found = inspect(floats, tmp_path, **without)
    assert found.needs_template
    assert found.notes[-1] == PLAIN_TEMPLATE_NOTE


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"general.architecture": "gpt2"}, UnsupportedArchitecture, "'gpt2'"),
        ({"llama.expert_count": 8}, UnsupportedArchitecture, "mixture of experts"),
        ({"split.count": 3}, UnsupportedArchitecture, "one part of a model"),
        ({"tokenizer.ggml.pre": "martian"}, UnsupportedArchitecture, "text cut by 'martian'"),
        ({"tokenizer.ggml.model": "rwkv"}, UnsupportedArchitecture, r"its tokenizer \('rwkv'"),
        ({"tokenizer.ggml.tokens": None}, NotAModel, "brings no tokenizer"),
        ({"tokenizer.ggml.tokens": [str(i) for i in range(401)]}, DamagedWeights, "401 tokens, the embedding 400"),
        ({"tokenizer.chat_template": "{% for %}"}, NotAModel, "chat template cannot be used"),
        ({"llama.context_length": None}, NotAModel, "'llama.context_length' is None"),
        ({"llama.context_length": 0}, NotAModel, "'llama.context_length' is 0"),
        ({"llama.embedding_length": "wide"}, NotAModel, "'llama.embedding_length' is 'wide'"),
        ({"llama.block_count": 1_000_000_000}, UnsafeSource, "'num_hidden_layers' is 1000000000"),
        ({"llama.block_count": 3}, DamagedWeights, "3 layers"),
        ({"llama.attention.head_count": 8}, SourceRejected, "config.json says"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, NotAModel, "epsilon' is nan"),
        ({"llama.rope.scaling.type": "martian"}, UnsupportedArchitecture, "scaled by 'martian'"),
        ({"llama.rope.dimension_count": 8}, UnsupportedArchitecture, "turns 8 of the 16 numbers"),
    ],
    ids=str,
)
def test_what_cannot_be_imported_says_why(
    changes: dict[str, Any], kind: type[SourceRejected], says: str, floats: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=says) as caught:
        inspect(floats, tmp_path, **changes)
    assert caught.value.hint


def test_parts_of_a_split_model_are_told_by_their_name(floats: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        write_gguf(floats, tmp_path / f"model-0000{number}-of-00002.gguf")
    with pytest.raises(UnsupportedArchitecture, match="one part of a model") as caught:
        detect.inspect(tmp_path)
    assert "llama-gguf-split --merge" in caught.value.hint


def gguf(*, version: int = 3, tensors: int = 0, pairs: int = 0, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + rest


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


TENSOR = text("w") + struct.pack("<I", 1)


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (b"", DamagedWeights, "is empty"),
        (b"GG", DamagedWeights, "ends within its header"),
        (b"GGUX" + bytes(40), DamagedWeights, "does not begin with GGUF"),
        (b"GGUF\x00\x00\x00\x03" + bytes(40), UnsupportedArchitecture, "GGUF of version 50331648"),
        (gguf(version=1), UnsupportedArchitecture, "GGUF of version 1"),
        (gguf(tensors=1 << 60), UnsafeSource, "1152921504606846976 tensors; at most"),
        (gguf(pairs=1 << 63), UnsafeSource, "key-value pairs; at most"),
        (gguf(pairs=1, rest=struct.pack("<Q", 1 << 62)), UnsafeSource, "bytes in a text"),
        (gguf(pairs=1, rest=struct.pack("<Q", 100) + b"x"), DamagedWeights, "ends within its header"),
        (gguf(pairs=1, rest=text("k") + struct.pack("<I", 99)), DamagedWeights, "unknown type 99"),
        (gguf(pairs=1, rest=text("k") + struct.pack("<IIQ", 9, 9, 5)), DamagedWeights, "an array of arrays"),
        (gguf(pairs=1, rest=text("k") + struct.pack("<IIQ", 9, 0, 1 << 40)), UnsafeSource, "values in arrays"),
        (gguf(pairs=1, rest=text("k") + struct.pack("<IIQ", 9, 10, 3_000_000)), DamagedWeights, "ends within"),
        (gguf(pairs=2, rest=(text("k") + struct.pack("<IB", 0, 1)) * 2), DamagedWeights, "the key 'k' twice"),
        (gguf(tensors=1, rest=text("w") + struct.pack("<I", 9)), UnsafeSource, "9 dimensions of w"),
        (gguf(tensors=1, rest=TENSOR + struct.pack("<QIQ", 4, 77, 0)), UnsupportedArchitecture, "ggml's type 77"),
        (gguf(tensors=1, rest=TENSOR + struct.pack("<QIQ", 0, 0, 0)), DamagedWeights, r"has the shape \[0\]"),
        (gguf(tensors=1, rest=TENSOR + struct.pack("<QIQ", 1 << 62, 0, 0)), DamagedWeights, "has the shape"),
        (gguf(tensors=1, rest=TENSOR + struct.pack("<QIQ", 33, 2, 0)), DamagedWeights, "whole blocks of Q4_0"),
        (gguf(tensors=1, rest=TENSOR + struct.pack("<QIQ", 64, 0, 0)), DamagedWeights, "is truncated: w ends"),
        (gguf(tensors=1, rest=TENSOR + struct.pack("<QIQ", 4, 0, 7)), DamagedWeights, "whole blocks"),
        (gguf(tensors=2, rest=(TENSOR + struct.pack("<QIQ", 4, 0, 0)) * 2 + bytes(64)), DamagedWeights, "w twice"),
        (
            gguf(tensors=2, rest=b"".join(text(name) + struct.pack("<IQIQ", 1, 16, 0, 0) for name in "ab") + bytes(99)),
            DamagedWeights,
            "lies over another tensor",
        ),
        (
            gguf(pairs=1, rest=text("general.alignment") + struct.pack("<II", 4, 0)),
            DamagedWeights,
            "'general.alignment' is 0",
        ),
    ],
)
def test_a_header_is_not_believed(content: bytes, kind: type[SourceRejected], says: str, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(kind, match=says) as caught:
        detect.inspect(tmp_path / "x.gguf")
    assert caught.value.hint


def test_every_cut_of_a_good_file_is_refused(floats: Path, tmp_path: Path) -> None:
    whole = write_gguf(floats, tmp_path / "model.gguf").read_bytes()
    for size in [*range(0, 400, 7), *range(400, len(whole), len(whole) // 20)]:
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        with pytest.raises(SourceRejected):
            read_gguf(tmp_path / "cut.gguf")


def header_of(values: dict[str, Any], **tensors: tuple[int, ...]) -> GgufHeader:
    """A header made by hand; tensors are F32."""
    shapes = {"token_embd.weight": (400, 64), **{name.replace("__", "."): shape for name, shape in tensors.items()}}
    return GgufHeader(
        Path("x.gguf"), values, {name: GgufTensor(name, "F32", shape, 0, 0) for name, shape in shapes.items()}
    )


def values(family: str, **changes: Any) -> dict[str, Any]:
    own = {"embedding_length": 64, "feed_forward_length": 128, "block_count": 2, "context_length": 512,
           "attention.head_count": 4, "attention.head_count_kv": 2,
           "attention.layer_norm_rms_epsilon": float(np.float32(1e-5)), "rope.freq_base": 1e6}  # fmt: skip
    own |= {key.replace("__", "."): value for key, value in changes.items()}
    return {"general.architecture": family, **{f"{family}.{key}": value for key, value in own.items()}}


def test_the_configuration_is_the_one_that_transformers_saves(floats: Path, tmp_path: Path) -> None:
    made = config_of(read_gguf(write_gguf(floats, tmp_path / "model.gguf")))
    assert made == json.loads((floats / "config.json").read_bytes())


@pytest.mark.parametrize(
    ("family", "changes", "expected"),
    [
        ("qwen3", {"attention__key_length": 32}, {"architectures": ["Qwen3ForCausalLM"], "head_dim": 32}),
        ("qwen2", {}, {"head_dim": 16, "tie_word_embeddings": True}),
        (
            "granite",
            {"attention__scale": 0.5, "embedding_scale": 12.0, "residual_scale": 0.25, "logit_scale": 8.0},
            {"attention_multiplier": 0.5, "embedding_multiplier": 12.0, "residual_multiplier": 0.25,
             "logits_scaling": 8.0},
        ),
        ("phi3", {"attention__sliding_window": 100}, {"sliding_window": 100}),
        (
            "llama",
            {"rope__scaling__type": "linear", "rope__scaling__factor": 4.0},
            {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6}},
        ),
        (
            "qwen2",
            {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0,
             "rope__scaling__original_context_length": 128},
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6,
                                 "original_max_position_embeddings": 128}},
        ),
    ],
)  # fmt: skip
def test_what_families_have_of_their_own_is_kept(
    family: str, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    config = config_of(header_of(values(family, **changes)))
    assert {key: config[key] for key in expected} == expected


def llama3_factors(head_size: int, factor: float) -> list[float]:
    """What llama.cpp's converter writes for Llama 3.1, from its description."""
    table = []
    for step in range(0, head_size, 2):
        wave = 2 * np.pi * 500_000.0 ** (step / head_size)
        if wave < 8192 / 4:
            table.append(1.0)
        elif wave > 8192:
            table.append(factor)
        else:
            smooth = (8192 / wave - 1) / 3
            table.append(1 / ((1 - smooth) / factor + smooth))
    return table


def with_table(tmp_path: Path, table: list[float]) -> GgufHeader:
    path = tmp_path / "table"
    path.write_bytes(np.array(table, "<f4").tobytes())
    header = header_of(values("llama", attention__key_length=128, rope__freq_base=500_000.0))
    tensor = GgufTensor("rope_freqs.weight", "F32", (len(table),), 0, 4 * len(table))
    return GgufHeader(path, header.values, {**header.tensors, tensor.name: tensor})


def test_llama_3s_scaling_of_positions_is_recognised_by_its_table(tmp_path: Path) -> None:
    made = config_of(with_table(tmp_path, llama3_factors(128, 8.0)))["rope_parameters"]
    assert made == {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    assert config_of(with_table(tmp_path, [1.0] * 64))["rope_parameters"]["rope_type"] == "default"
    with pytest.raises(UnsupportedArchitecture, match="not Llama 3's"):
        config_of(with_table(tmp_path, [1.0, *llama3_factors(128, 8.0)[1:-1], 9.0]))


def test_rows_of_queries_and_keys_go_back_where_they_were() -> None:
    header = header_of(values("llama"))
    config = config_of(header)
    order = row_order(header, GgufTensor("blk.0.attn_q.weight", "F32", (64, 64), 0, 0), config)
    assert order is not None
    assert order[:16].tolist() == [*range(0, 16, 2), *range(1, 16, 2)]
    assert sorted(order) == list(range(64))
    assert row_order(header, GgufTensor("blk.0.attn_v.weight", "F32", (32, 64), 0, 0), config) is None
    other = header_of(values("qwen2"))
    assert row_order(other, GgufTensor("blk.0.attn_q.weight", "F32", (64, 64), 0, 0), config_of(other)) is None
