"""Safetensors headers, good and damaged, in files written by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from foundry_lite.conversion.formats.safetensors import count_parameters, read_arrays
from foundry_lite.errors import DamagedWeights
from tests.unit.safetensors_file import write_raw, write_tensors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def complaint(path: Path) -> str:
    with pytest.raises(DamagedWeights) as caught:
        count_parameters(path)
    assert caught.value.message.startswith("model.safetensors is damaged: ")
    assert caught.value.hint == "Copy or download the file again."
    return caught.value.message.removeprefix("model.safetensors is damaged: ")


def test_the_weights_of_all_tensors_are_counted(path: Path) -> None:
    write_tensors(path, {"a": [2, 3], "b": [5], "scalar": []})
    assert count_parameters(path) == 6 + 5 + 1


def test_a_tensor_without_elements_counts_nothing(path: Path) -> None:
    write_tensors(path, {"a": [0, 3]})
    assert count_parameters(path) == 0


def test_a_file_without_tensors_has_no_weights(path: Path) -> None:
    write_raw(path, b"{}")
    assert count_parameters(path) == 0


def test_spaces_after_the_header_are_part_of_it(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    write_raw(path, header + b"   ", bytes(4))
    assert count_parameters(path) == 1


@pytest.mark.parametrize("size", [0, 1, 7])
def test_a_file_too_short_for_the_length_of_its_header_is_damaged(size: int, path: Path) -> None:
    path.write_bytes(bytes(size))
    assert complaint(path) == f"it has only {size} bytes"


def test_a_file_cut_in_its_header_is_damaged(path: Path) -> None:
    write_tensors(path, {"a": [2, 3]})
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    length = struct.unpack("<Q", whole[:8])[0]
    assert complaint(path) == f"its header should have {length} bytes, the file has 20"


@pytest.mark.parametrize("missing", [1, 23, 24])
def test_a_file_cut_in_its_data_is_damaged(missing: int, path: Path) -> None:
    write_tensors(path, {"a": [2, 3]})
    whole = path.read_bytes()
    path.write_bytes(whole[:-missing])
    assert complaint(path) == (
        f"it is truncated: its header describes {len(whole)} bytes, the file has {len(whole) - missing}"
    )


def test_a_file_longer_than_its_header_says_is_damaged(path: Path) -> None:
    write_tensors(path, {"a": [2, 3]})
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0")
    assert complaint(path) == (
        f"it is longer than it says: its header describes {len(whole)} bytes, the file has {len(whole) + 1}"
    )


def test_a_header_said_to_be_larger_than_any_is_refused_unread(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**63) + bytes(100))
    assert complaint(path) == "its header should have 9223372036854775808 bytes, the file has 108"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"garbage",
        b"[]",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [1]}}',
        b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
        b'{"a": ',
        b'{"\xff": 1}',
        b'{"a": {"dtype": "\xff", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": ' + b"[" * 100_000,
    ],
    ids=range(11),
)
def test_a_header_that_is_none_is_damage(header: bytes, path: Path) -> None:
    write_raw(path, header, bytes(4))
    assert complaint(path).startswith("its header cannot be read (")


def test_a_git_lfs_pointer_is_damaged_weights(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")
    assert complaint(path).startswith("its header should have ")


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("F32", struct.pack("<3f", 1.5, -2.0, 0.0)),
        ("F16", struct.pack("<3e", 1.5, -2.0, 0.0)),
        ("BF16", struct.pack("<3H", 0x3FC0, 0xC000, 0)),
    ],
)
def test_floats_of_each_kind_are_read_as_float32(path: Path, dtype: str, data: bytes) -> None:
    header = {"a": {"dtype": dtype, "shape": [3, 1], "data_offsets": [0, len(data)]}}
    write_raw(path, json.dumps(header).encode(), data)
    array = read_arrays(path)["a"]
    assert array.dtype == np.float32
    assert array.tolist() == [[1.5], [-2.0], [0.0]]


@pytest.mark.parametrize(
    ("entry", "fact"),
    [
        ({"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}, "a is of type I64, not one of F32, F16, BF16"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, "a has 8 bytes, which is not its shape [3]"),
        ({"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]}, "a has -8 bytes, which is not its shape [-2]"),
    ],
)
def test_what_is_no_array_of_floats_is_refused(path: Path, entry: dict[str, object], fact: str) -> None:
    write_raw(
        path, json.dumps({"a": entry, "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}).encode(), bytes(16)
    )
    with pytest.raises(DamagedWeights) as caught:
        read_arrays(path)
    assert caught.value.message == f"model.safetensors is damaged: {fact}"
