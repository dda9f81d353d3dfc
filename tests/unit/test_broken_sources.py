"""Broken folders, each refused with a sentence: before anything is written, in little memory and time."""

from __future__ import annotations

import json
import os
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundry_lite.conversion.sources.detect import inspect
from foundry_lite.errors import (
    DamagedWeights,
    NotAModel,
    PickledWeights,
    RemoteCode,
    SourceRejected,
    UnsafeSource,
    UnsupportedArchitecture,
)
from tests.unit import source_folder
from tests.unit.safetensors_file import write_raw
from tests.unit.source_folder import TOKENIZER, change_config, change_weights, write_json

Break = Callable[[Path], object]


def config(**changes: Any) -> Break:
    return lambda folder: change_config(folder, **changes)


def weights(**changes: Any) -> Break:
    return lambda folder: change_weights(folder, **changes)


def content(name: str, body: bytes) -> Break:
    return lambda folder: (folder / name).write_bytes(body)


def index(body: bytes) -> Break:
    """An index alone: a whole file beside it would be read instead."""

    def make(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_bytes(body)

    return make


def link(name: str, target: str) -> Break:
    def make(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return make


def pipe(name: str) -> Break:
    def make(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return make


def large(name: str, size: int) -> Break:
    def make(folder: Path) -> None:
        with (folder / name).open("wb") as stream:
            stream.truncate(size)

    return make


def template(text: Any) -> Break:
    return lambda folder: write_json(folder, "tokenizer_config.json", {"chat_template": text})


def shards(index: dict[str, str], *, without: str = "") -> Break:
    """Two shards, of which one may be missing, and an index that says more than they hold."""

    def make(folder: Path) -> None:
        names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
        found = source_folder.arrays()
        halves = [dict(list(found.items())[:9]), dict(list(found.items())[9:])]
        where = {name: file for file, half in zip(names, halves, strict=True) for name in half}
        for file, half in zip(names, halves, strict=True):
            source_folder.write_arrays(folder / file, half)
        (folder / "model.safetensors").unlink()
        if without:
            (folder / without).unlink()
        write_json(folder, "model.safetensors.index.json", {"weight_map": where | index})

    return make


def header(entries: dict[str, Any], size: int = 8) -> Break:
    return lambda folder: write_raw(folder / "model.safetensors", json.dumps(entries).encode(), bytes(size))


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
NAN, INF = np.full((32, 32), np.nan, np.float32), np.full((12, 32), np.inf, np.float32)

BROKEN: dict[str, tuple[Break, type[SourceRejected], str]] = {
    # weights
    "weights of another name": (
        config(transformers_weights="consolidated.safetensors"),
        UnsupportedArchitecture,
        "('transformers_weights' is 'consolidated.safetensors'), which is not model.safetensors",
    ),
    "a missing shard": (shards({}, without=SECOND), DamagedWeights, "1 of 2 shards are missing"),
    "a tensor in no shard": (shards({"model.more": FIRST}), DamagedWeights, "model.more is in model-00001"),
    "an index that leaves": (shards({"x": "../x.safetensors"}), DamagedWeights, "names no safetensors files of this"),
    "an index that lists": (
        index(b'{"weight_map": []}'),
        DamagedWeights,
        "no safete",
    ),
    "NaN weights": (weights(layers__1__self_attn__q_proj__weight=NAN), DamagedWeights, "layers.1.self_attn.q_proj"),
    "infinite weights": (weights(layers__0__mlp__up_proj__weight=INF), DamagedWeights, "not finite"),
    "a wrong shape": (
        weights(layers__1__mlp__up_proj__weight=np.zeros((12, 9), np.float32)),
        DamagedWeights,
        "mlp.up_proj.weight of layer 1 has the shape [12, 9]; config.json says [12, 32]",
    ),
    "another vocab_size": (config(vocab_size=30), DamagedWeights, "[20, 32]; config.json says [30, 32]"),
    "another hidden_size": (config(hidden_size=64), DamagedWeights, "config.json says [20, 64]"),
    "layers that are missing": (config(num_hidden_layers=3), DamagedWeights, "the weights of layer 2 are missing"),
    "layers too many": (config(num_hidden_layers=1), DamagedWeights, "says 1 layers, the weights are of 2"),
    "a matrix that is missing": (weights(layers__1__mlp__up_proj__weight=None), DamagedWeights, "layer 1 lacks mlp.up"),
    "no head": (weights(lm_head__weight=None), DamagedWeights, "no lm_head.weight"),
    "no embedding": (weights(embed_tokens__weight=None), DamagedWeights, "no embed_tokens.weight"),
    "a header bomb": (
        content("model.safetensors", struct.pack("<Q", 1 << 62)),
        DamagedWeights,
        "its header should have 4611686018427387904 bytes",
    ),
    "a nested header": (
        lambda folder: write_raw(folder / "model.safetensors", b'{"a": ' + b"[" * 200_000),
        DamagedWeights,
        "its header cannot be read",
    ),
    "overlapping tensors": (
        header({"a": entry(0, 8, [2]), "b": entry(0, 8, [2])}),
        DamagedWeights,
        "lies over another",
    ),
    "a hole": (header({"a": entry(4, 8, [1])}), DamagedWeights, "comes after a hole"),
    "offsets that are none": (header({"a": entry(-4, 8, [3])}), DamagedWeights, "not its shape [3]"),
    "a shape beyond reason": (header({"a": entry(0, 8, [1 << 40, 1 << 40])}), DamagedWeights, "not its shape"),
    "an unknown type": (header({"a": entry(0, 8, [2], "F33")}), DamagedWeights, "unknown type F33"),
    "a tensor named twice": (
        lambda folder: write_raw(
            folder / "model.safetensors",
            b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, '
            b'"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}',
            bytes(1),
        ),
        DamagedWeights,
        "names a tensor twice",
    ),
    "weights in 8 bit": (header({"a": entry(0, 8, [8], "F8_E4M3")}), UnsupportedArchitecture, "of type F8_E4M3"),
    "pickled weights": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        PickledWeights,
        "the weights are pickled (pytorch_model.bin)",
    ),
    # configuration
    "10^9 layers": (config(num_hidden_layers=10**9), UnsafeSource, "'num_hidden_layers' is 1000000000"),
    "no hidden size": (config(hidden_size=...), NotAModel, "'hidden_size' is None"),
    "hidden size 0": (config(hidden_size=0), NotAModel, "'hidden_size' is 0"),
    "hidden size -8": (config(hidden_size=-8), NotAModel, "'hidden_size' is -8"),
    "hidden size 8.0": (config(hidden_size=8.0), NotAModel, "'hidden_size' is 8.0"),
    "hidden size 10^12": (config(hidden_size=10**12), UnsafeSource, "'hidden_size' is 1000000000000"),
    "heads that do not divide": (config(num_attention_heads=3), NotAModel, "32 cannot be divided among 3"),
    "heads that cannot share": (
        config(num_attention_heads=4, num_key_value_heads=3),
        NotAModel,
        "4 attention heads cannot share 3",
    ),
    "context 0": (config(max_position_embeddings=0), NotAModel, "'max_position_embeddings' is 0"),
    "context -1": (config(max_position_embeddings=-1), NotAModel, "'max_position_embeddings' is -1"),
    "context 1e30": (config(max_position_embeddings=1e30), NotAModel, "'max_position_embeddings' is 1e+30"),
    "context 10^9": (config(max_position_embeddings=10**9), UnsafeSource, "no model has more than 100000000"),
    "context '512'": (config(max_position_embeddings="512"), NotAModel, "'max_position_embeddings' is '512'"),
    "context true": (config(max_position_embeddings=True), NotAModel, "'max_position_embeddings' is True"),
    "no context": (config(max_position_embeddings=...), NotAModel, "'max_position_embeddings' is None"),
    "a norm with NaN": (config(rms_norm_eps=float("nan")), NotAModel, "'rms_norm_eps' is nan"),
    "a scaling of 0": (config(rope_scaling={"factor": 0}), NotAModel, "'rope_scaling.factor' is 0"),
    "code of its own": (config(model_type="mine", auto_map={}), RemoteCode, "auto_map"),
    # files
    "a link out of the folder": (link("config.json", "/etc/hostname"), UnsafeSource, "is a link to /etc/hostname"),
    "weights elsewhere": (link("model.safetensors", "../elsewhere"), UnsafeSource, "outside of"),
    "a link to nowhere": (link("tokenizer_config.json", "nowhere"), NotAModel, "is a link that leads nowhere"),
    "a link to itself": (link("tokenizer_config.json", "tokenizer_config.json"), NotAModel, "leads nowhere"),
    "a pipe": (pipe("tokenizer.json"), UnsafeSource, "a device, pipe or socket"),
    "weights from a pipe": (pipe("model.safetensors"), UnsafeSource, "a device, pipe or socket"),
    "a device": (link("tokenizer_config.json", "/dev/zero"), UnsafeSource, "is a link to /dev/zero"),
    "a folder as a file": (lambda folder: (folder / "README.md").mkdir(), UnsafeSource, "a folder, not a file"),
    "a config of a gigabyte": (large("config.json", 1 << 30), UnsafeSource, "at most 16.8 MB are read"),
    "a tokenizer of a gigabyte": (large("tokenizer.json", 1 << 30), UnsafeSource, "at most 134.2 MB are read"),
    "a template of a gigabyte": (large("chat_template.jinja", 1 << 30), UnsafeSource, "at most 4.2 MB are read"),
    "JSON that unfolds": (content("config.json", b'{"a": [' + b"[]," * 3_000_000 + b"[]]}"), UnsafeSource, "values"),
    "JSON nested deeply": (content("config.json", b'{"a":' * 100_000), NotAModel, "config.json cannot be read"),
    "an index that unfolds": (
        index(b'{"weight_map": [' + b"{}," * 3_000_000 + b"{}]}"),
        UnsafeSource,
        "values",
    ),
    "a key twice": (content("config.json", b'{"a": 1, "a": 2}'), NotAModel, "has the key 'a' twice"),
    "not UTF-8": (
        content("tokenizer_config.json", b'{"a": "\xff"}'),
        NotAModel,
        "tokenizer_config.json cannot be read",
    ),
    "UTF-16": (content("config.json", json.dumps({}).encode("utf-16")), NotAModel, "config.json cannot be read"),
    # tokenizer and template
    "a token without a row": (
        lambda folder: write_json(
            folder, "tokenizer.json", TOKENIZER | {"added_tokens": [{"id": 20, "content": "<pad>"}]}
        ),
        NotAModel,
        "tokens 20 ('<pad>'), 21 ('<s>'); the embedding has 20 rows",
    ),
    "tokens that grew": (
        lambda folder: write_json(folder, "added_tokens.json", {f"<{number}>": number for number in range(30, 18, -1)}),
        NotAModel,
        "added_tokens.json has tokens 20 ('<20>'), 21 ('<21>'), 22 ('<22>'), 23 ('<23>'), 24 ('<24>') and 6 more; "
        "the embedding has 20 rows",
    ),
    "named tokens without a row": (
        lambda folder: write_json(
            folder,
            "tokenizer_config.json",
            {
                "added_tokens_decoder": {"19": {"content": "<last>"}, "18": {"content": "<s>"}},
                "pad_token": {"content": "<pad>"},
                "additional_special_tokens": ["<a>", "<s>"],
                "extra_special_tokens": {"image_token": "<img>"},
            },
        ),
        NotAModel,
        "tokenizer_config.json has tokens 20 ('<pad>'), 21 ('<a>'), 22 ('<img>'); the embedding has 20 rows",
    ),
    "a negative token": (content("tokenizer.json", b'{"model": {"vocab": {"a": -1}}}'), NotAModel, "has a token"),
    "no tokens": (content("tokenizer.json", b'{"model": {"vocab": {}}}'), NotAModel, "has no tokens"),
    "a tokenizer nested deeply": (
        content("tokenizer.json", b'{"model": ' + b"[" * 200_000),
        NotAModel,
        "tokenizer.json cannot be read",
    ),
    "ten million tokens": (
        content("tokenizer.json", b'{"model": {"vocab": {' + b'"":0,' * 9_000_000 + b'"":0}}}'),
        UnsafeSource,
        "at most 4000000 are read",
    ),
    "a template that does not parse": (template("{% for x in %}"), NotAModel, "is no valid Jinja"),
    "a template that raises": (template("{{ raise_exception('never') }}"), NotAModel, "never"),
    "a template without end": (
        template("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        NotAModel,
        "took more than 0.8 s",
    ),
    "a template that is no text": (template({"a": 1}), NotAModel, 'is {"a": 1}: no text'),
    "templates without a usual one": (
        template([{"name": "tool_use", "template": "{{ messages }}"}]),
        NotAModel,
        "chat templates 'tool_use', and none that is called 'default'",
    ),
    "a template that is called a path": (
        template([{"name": "default", "template": "x"}, {"name": "../x", "template": "x"}]),
        NotAModel,
        "a chat template is called '../x'",
    ),
    "a template that does not listen": (template("Once upon a time"), NotAModel, "leaves out what the user says"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    ruin, kind, fact = BROKEN[name]
    folder = source_folder.write(tmp_path / "source")
    (tmp_path / "elsewhere").write_bytes((folder / "model.safetensors").read_bytes())
    ruin(folder)
    before, began = sorted(tmp_path.rglob("*")), time.monotonic()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SourceRejected) as caught:
        inspect(folder)
    assert type(caught.value) is kind, caught.value.message
    assert fact in caught.value.message
    assert caught.value.hint
    assert sorted(tmp_path.rglob("*")) == before
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 600_000  # kB


def test_the_folder_that_they_are_made_of_is_accepted(tmp_path: Path) -> None:
    assert inspect(source_folder.write(tmp_path / "source")).parameters == source_folder.PARAMETERS


def test_a_snapshot_of_the_hubs_cache_is_links_to_blobs_and_accepted(tmp_path: Path) -> None:
    folder = source_folder.write(tmp_path / "plain")
    model = tmp_path / "models--org--name"
    snapshot = model / "snapshots" / "0123"
    (model / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(model / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert inspect(snapshot).parameters == source_folder.PARAMETERS
    (model / "refs").write_text("main")
    (snapshot / "README.md").symlink_to("../../refs")
    with pytest.raises(UnsafeSource):
        inspect(snapshot)


def test_a_folder_that_is_reached_by_a_link_is_accepted(tmp_path: Path) -> None:
    source_folder.write(tmp_path / "source")
    (tmp_path / "link").symlink_to("source")
    assert inspect(tmp_path / "link").parameters == source_folder.PARAMETERS


def test_padding_of_the_embedding_is_fine(tmp_path: Path) -> None:
    folder = source_folder.write(tmp_path)
    write_json(folder, "tokenizer.json", {"model": {"vocab": {"a": 0}}})
    assert inspect(folder).parameters == source_folder.PARAMETERS


@pytest.mark.parametrize("none", [None, []])
def test_without_a_template_a_plain_one_is_put_in_its_place_and_said_so(none: Any, tmp_path: Path) -> None:
    folder = source_folder.write(tmp_path)
    template(none)(folder)
    found = inspect(folder)
    assert found.needs_template
    assert "a plain one" in found.notes[0]


def test_a_template_may_lie_in_three_places(tmp_path: Path) -> None:
    folder = source_folder.write(tmp_path)
    assert not inspect(folder).needs_template
    text = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    write_json(folder, "tokenizer_config.json", {})
    write_json(folder, "chat_template.json", {"chat_template": text})
    assert not inspect(folder).needs_template
    (folder / "chat_template.json").unlink()
    (folder / "chat_template.jinja").write_text(text)
    assert not inspect(folder).needs_template
