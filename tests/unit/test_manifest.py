"""Manifests: written and read back, and every way in which the files may differ from one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from foundry_lite.catalog.recipe import Precision, recipe_for
from foundry_lite.errors import DamagedArtifact
from foundry_lite.store.manifest import (
    Check,
    FileEntry,
    Manifest,
    Source,
    digest_build,
    digest_files,
    new_manifest,
    read_manifest,
    sha256_of,
    verify_digests,
    verify_sizes,
    write_manifest,
)

# sha256sum of "abc" and of nothing, from FIPS 180-2
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact of two files, one of them in a folder, with its manifest."""
    folder = tmp_path / "cpu-int4"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"abc")
    (folder / "sub" / "empty").write_bytes(b"")
    source = Source("huggingface-folder", "some/where", "Qwen2ForCausalLM", 10, (FileEntry("config.json", 3, ABC),))
    checks = (Check("top1_agreement", 0.98, 0.2, 512),)
    manifest = new_manifest(folder, "mine", source, recipe_for(Precision.INT4), versions={"onnx": "1"}, checks=checks)
    write_manifest(folder, manifest)
    return folder


def damage(folder: Path) -> str:
    """Verify the folder, sizes and digests; return the complaint."""
    with pytest.raises(DamagedArtifact) as caught:
        verify_digests(folder, read_manifest(folder))
    assert caught.value.hint == "Import the model again with --force."
    return caught.value.message


def test_a_manifest_is_read_as_it_was_written(folder: Path) -> None:
    manifest = read_manifest(folder)
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest
    assert (manifest.schema, manifest.name, manifest.variant) == (1, "mine", "cpu-int4")
    assert manifest.checks == (Check("top1_agreement", 0.98, 0.2, 512),)
    assert manifest.source.files == (FileEntry("config.json", 3, ABC),)


def test_it_lists_every_file_but_itself_in_the_order_of_paths(folder: Path) -> None:
    entries = (FileEntry("model.onnx", 3, ABC), FileEntry("sub/empty", 0, NOTHING))
    assert read_manifest(folder).files == entries
    assert digest_files(folder) == entries
    assert read_manifest(folder).size_bytes == 3


def test_the_build_digest_ignores_what_says_when_and_where(folder: Path) -> None:
    before = read_manifest(folder)
    assert before.build_digest == digest_build(before.files)
    for name in ("card.toml", "report.json", "model_card.md", "sbom.cdx.json"):
        (folder / name).write_text("2026-11-21")
    assert digest_build(digest_files(folder)) == before.build_digest
    (folder / "sub" / "card.toml").write_text("this one is no record")
    assert digest_build(digest_files(folder)) != before.build_digest


def test_the_build_digest_knows_names_from_contents_and_not_the_order() -> None:
    one, other = FileEntry("a", 3, ABC), FileEntry("b", 0, NOTHING)
    assert digest_build((one, other)) == digest_build((other, one))
    assert digest_build((one, other)) != digest_build((FileEntry("a", 0, NOTHING), FileEntry("b", 3, ABC)))
    # sha256sum of "a", a zero byte, the hash of "abc" and a line end
    assert digest_build((one,)) == hashlib.sha256(b"a\0" + ABC.encode() + b"\n").hexdigest()


def test_a_base_is_kept_and_part_of_what_the_weights_are(folder: Path) -> None:
    before = read_manifest(folder)
    base = Source("huggingface-folder", "b", "X", 1, (FileEntry("m.safetensors", 3, ABC),), "mit", "f" * 40)
    source = msgspec.structs.replace(before.source, base=base)
    write_manifest(folder, msgspec.structs.replace(before, source=source))
    after = read_manifest(folder)
    assert after.source.base == base
    assert after.weights_digest not in (before.weights_digest, base.weights_digest)


def test_a_manifest_of_version_0_1_is_read(folder: Path) -> None:
    old = json.loads((folder / "manifest.json").read_bytes())
    del old["build_digest"]
    (folder / "manifest.json").write_text(json.dumps(old))
    manifest = read_manifest(folder)
    assert (manifest.build_digest, manifest.source.base, manifest.source.license) == ("", None, "unknown")
    # the digest that adapters of that version were fitted to
    assert manifest.weights_digest == hashlib.sha256(ABC.encode()).hexdigest()


def test_a_file_longer_than_one_read_has_the_right_hash(tmp_path: Path) -> None:
    (tmp_path / "million").write_bytes(b"a" * 1_000_000)
    # the third example of FIPS 180-2
    assert sha256_of(tmp_path / "million") == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    (tmp_path / "longer").write_bytes(bytes(3 << 20))
    (tmp_path / "longer by one").write_bytes(bytes((3 << 20) + 1))
    assert sha256_of(tmp_path / "longer") != sha256_of(tmp_path / "longer by one")


def test_untouched_files_pass(folder: Path) -> None:
    verify_sizes(folder, read_manifest(folder))
    verify_digests(folder, read_manifest(folder))


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    assert damage(folder) == "mine:cpu-int4: model.onnx is missing"


def test_a_folder_in_the_place_of_a_file_is_a_missing_file(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    assert damage(folder) == "mine:cpu-int4: model.onnx is missing"


def test_a_truncated_file_is_named_with_both_sizes(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"ab")
    assert damage(folder) == "mine:cpu-int4: model.onnx has 2 bytes, not 3"


def test_a_changed_byte_passes_the_sizes_and_not_the_digests(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"abd")
    verify_sizes(folder, read_manifest(folder))
    assert damage(folder) == "mine:cpu-int4: the content of model.onnx has changed since the import"


def test_a_file_that_nobody_listed_is_no_damage(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    verify_digests(folder, read_manifest(folder))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "object"),
        (b"{}", "schema"),
        (b'{"schema": "one"}', "$.schema"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_damage(body: bytes, named: str, folder: Path) -> None:
    (folder / "manifest.json").write_bytes(body)
    with pytest.raises(DamagedArtifact) as caught:
        read_manifest(folder)
    assert caught.value.message.startswith("cpu-int4/manifest.json: ")
    assert named in caught.value.message


def test_a_missing_manifest_is_damage(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(DamagedArtifact, match=r"cpu-int4/manifest\.json"):
        read_manifest(folder)


def test_a_manifest_of_a_later_schema_is_refused_with_both_numbers(folder: Path) -> None:
    later = {**json.loads((folder / "manifest.json").read_bytes()), "schema": 2}
    (folder / "manifest.json").write_text(json.dumps(later))
    with pytest.raises(DamagedArtifact, match="schema 2, this version reads 1"):
        read_manifest(folder)


def test_fields_that_a_later_version_adds_are_passed_over(folder: Path) -> None:
    before: Manifest = read_manifest(folder)
    later = {**json.loads((folder / "manifest.json").read_bytes()), "flavour": "sweet"}
    (folder / "manifest.json").write_text(json.dumps(later))
    assert read_manifest(folder) == before
