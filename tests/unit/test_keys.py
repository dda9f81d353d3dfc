"""Keys of build steps: they name the code that runs, its libraries and the kernels, and no comments."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.recipe import parse_variant
from foundry_lite.conversion import step_keys
from foundry_lite.conversion.jobs.code_digest import Code, Makers
from foundry_lite.conversion.jobs.step_context import PACKAGE
from foundry_lite.conversion.sources.source_model import Exporter, Kind, SourceModel
from foundry_lite.conversion.toolchains.toolchains import GENAI, OWN, Toolchains
from foundry_lite.settings import Settings

DECODER = SourceModel(Kind.FOLDER, Path("x"), (), "LlamaForCausalLM", 1, 100)
ENCODER = dataclasses.replace(DECODER, kind=Kind.SENTENCES, exporter=Exporter.ENCODER, task=Task.EMBED)
FOUND = {"decoder": DECODER, "encoder": ENCODER, "adapter": dataclasses.replace(DECODER, kind=Kind.ADAPTER)}
STEPS: dict[str, Callable[[SourceModel], step_keys.Key]] = {
    "merge": lambda found: step_keys.merge(found, "s", allow_pickle=False),
    "export": lambda found: step_keys.export(found, "p"),
    "source": lambda found: step_keys.ask(found, "p", None),
    "quantize": lambda found: step_keys.quantize(found, "e", parse_variant("cpu-int4-mixed"), is_finished=False),
    "check": lambda found: step_keys.check(found, "b", "a", has_source=True),
    "measure": lambda found: step_keys.measure(found, "b", "n", Settings(home=Path("h"))),
}


class Copy:
    """The package's own code in a folder where it can be changed."""

    def __init__(self, folder: Path) -> None:
        self._root = Path(shutil.copytree(PACKAGE, folder / "foundry_lite", ignore=shutil.ignore_patterns("embedded")))
        self._before = {name: self._digests(found) for name, found in FOUND.items()}

    def changed(self, *changes: tuple[str, str, str], found: str = "decoder") -> set[str]:
        """Return the steps whose results other texts of files throw away; the texts are put back."""
        whole = {file: (self._root / file).read_text(encoding="utf-8") for file, _, _ in changes}
        for file, old, new in changes:
            assert old in whole[file]
            (self._root / file).write_text(whole[file].replace(old, new, 1), encoding="utf-8")
        after = self._digests(FOUND[found])
        for file, text in whole.items():
            (self._root / file).write_text(text, encoding="utf-8")
        return {step for step, digest in after.items() if digest != self._before[found][step]}

    def _digests(self, found: SourceModel) -> dict[str, str]:
        toolchains, code = Toolchains(self._root / "toolchains"), Code(self._root)
        return {step: str(code.ingredients(key(found)[1], toolchains)["code"]) for step, key in STEPS.items()}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("code"))


def test_comments_docstrings_and_code_that_makes_nothing_throw_nothing_away(copy: Copy) -> None:
    assert not copy.changed(
        ("conversion/torch_scripts/export_decoder.py", "import sys\n", "import sys  # a comment\n\n\n"),
        ("conversion/quantize/derive.py", '"""', '"""Another docstring. '),
        ("engine/scheduling/scheduler.py", "annotations\n", "annotations  # a comment\n\n\n"),
        ("server/app.py", "annotations\n", "annotations\n\nimport abc\n"),
        ("conversion/records/write.py", "annotations\n", "annotations\n\nimport abc\n"),
        ("errors.py", "class NameTaken", "class NameGiven(FoundryError): ...\nclass NameTaken"),
    )


@pytest.mark.parametrize(
    ("file", "old", "new", "steps"),
    [
        (
            "conversion/torch_scripts/genai_builder/patches.py",
            "annotations\n",
            "annotations\n\nimport abc\n",
            {"export"},
        ),
        ("engine/runners/kv_cache.py", "annotations\n", "annotations\n\nimport abc\n", {"check", "measure"}),
        ("conversion/quantize/gptq.py", "annotations\n", "annotations\n\nimport abc\n", {"quantize"}),
        ("conversion/torch_scripts/decoder_reference.py", "_KEPT = 64", "_KEPT = 65", {"source"}),
        ("conversion/evaluate/sample.txt", " ", "  ", {"check"}),  # to the source it comes in the enquiry
        ("bench/benchmark.py", "annotations\n", "annotations\n\nimport abc\n", {"measure"}),
    ],
)
def test_a_change_of_code_throws_away_what_that_code_makes_and_nothing_else(
    copy: Copy, file: str, old: str, new: str, steps: set[str]
) -> None:
    assert copy.changed((file, old, new)) == steps


def test_an_adapters_merge_is_thrown_away_by_the_code_of_merging_alone(copy: Copy) -> None:
    change = ("conversion/checkpoint/merge_plan.py", "annotations\n", "annotations\n\nimport abc\n")
    other = ("conversion/formats/gguf_mapping.py", "annotations\n", "annotations\n\nimport abc\n")
    assert copy.changed(change, other, found="adapter") == {"merge"}
    assert copy.changed(other, found="adapter") == set()


def test_an_encoder_has_steps_of_its_own(copy: Copy) -> None:
    assert copy.changed(
        ("engine/encoder/pooling.py", "annotations\n", "annotations\n\nimport abc\n"), found="encoder"
    ) == {"check"}


def test_the_libraries_of_a_step_are_in_its_key_with_their_versions() -> None:
    code, toolchains = Code(), Toolchains(Path("nowhere"))
    found = {step: code.ingredients(key(DECODER)[1], toolchains)["libraries"] for step, key in STEPS.items()}
    assert isinstance(found["check"], dict)
    assert {"onnxruntime", "numpy", "tokenizers", "llguidance", "jinja2"} <= found["check"][OWN].keys()
    assert isinstance(found["export"], dict)
    assert {"onnxruntime-genai", "torch", "transformers", "onnx-ir"} <= found["export"][GENAI].keys()
    assert isinstance(found["quantize"], dict)
    assert {"onnxruntime", "onnx"} <= found["quantize"][GENAI].keys()
    assert found["merge"] == {OWN: {}}
    assert all(version for one in found["check"].values() for version in one.values())


def test_a_toolchain_that_is_not_installed_has_the_versions_of_its_pins() -> None:
    versions = Toolchains(Path("nowhere")).versions("optimum")
    assert versions["optimum-onnx"][0].isdigit()
    assert "#" not in " ".join(versions.values())


def test_the_processor_is_in_the_keys_of_what_its_kernels_compute() -> None:
    with_it = {step for step, key in STEPS.items() if "kernels" in key(DECODER)[0]}
    assert with_it == {"quantize", "check", "measure"}
    plain = step_keys.quantize(DECODER, "e", parse_variant("cpu-int4"), is_finished=False)
    assert "kernels" not in plain[0]


def test_modules_named_as_texts_and_files_beside_them_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "pack"
    (root / "sub").mkdir(parents=True)
    (root / "__init__.py").touch()
    (root / "sub" / "__init__.py").touch()
    (root / "a.py").write_text('import numpy\nRUN = "pack.sub.b"\n')
    (root / "sub" / "b.py").write_text('from pack import c\nTEXT = "words.txt"\n')
    (root / "c.py").write_text("def f() -> None:\n    from pack.sub import d\n")
    (root / "sub" / "d.py").touch()
    (root / "alone.py").touch()
    (root / "sub" / "words.txt").write_text("x")
    names = Code(root).closure(["pack.a"])
    assert names - {"pack", "pack.sub"} == {"pack.a", "pack.sub.b", "pack.c", "pack.sub.d"}
    before = Code(root).digest(names)
    (root / "sub" / "words.txt").write_text("y")
    assert Code(root).digest(names) != before
    assert Code(root).ingredients(Makers(("pack.alone",)), Toolchains(tmp_path))["libraries"] == {OWN: {}}
