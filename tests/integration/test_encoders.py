"""Encoders of random weights through export, quantization and the comparison with transformers."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest

from foundry_lite.catalog.card import Task
from foundry_lite.catalog.encoder import Pooling, read_encoder, write_encoder
from foundry_lite.catalog.recipe import parse_variant
from foundry_lite.conversion.checkpoint.normalize import prepare
from foundry_lite.conversion.evaluate import run_encoder
from foundry_lite.conversion.export import encoder as encoders
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.sources import sentence_transformers
from foundry_lite.conversion.sources.source_model import SourceModel
from foundry_lite.conversion.toolchains.toolchains import Toolchains
from foundry_lite.conversion.torch_scripts import encoder_reference, export_encoder
from foundry_lite.engine.encoder.pooling import pool
from foundry_lite.errors import BuildFailed, CheckFailed
from tests import source_encoder

# torch's tracer warns of what it freezes: what is right is found by comparing (docs/decisions/0014).
pytestmark = [pytest.mark.build, pytest.mark.filterwarnings("ignore")]

_OPT_IN = pytest.mark.skipif(not os.environ.get("FOUNDRY_LITE_TEST_TOOLCHAINS"), reason="takes minutes and gigabytes")


class _Built:
    """One source with its export and what transformers says of it."""

    def __init__(self, folder: Path, source: Path, through: encoders.Through | None = None) -> None:
        self.folder = folder
        (folder / "scratch").mkdir(parents=True)
        self.bench = StepContext(folder / "scratch", folder / "log", Toolchains(folder / "toolchains"))
        self.found: SourceModel = sentence_transformers.inspect(source)
        self.prepared, self.exported, self.asked = (self._new(name) for name in ("prepared", "exported", "asked"))
        asyncio.run(self._make(through))

    async def _make(self, through: encoders.Through | None) -> None:
        await prepare(self.found, self.prepared, self.bench)
        await encoders.export(self.found, self.prepared, self.exported, self.bench, through)
        await encoders.ask(encoders.enquire(self.found), self.prepared, self.asked, self.bench)

    def derive(self, variant: str) -> tuple[Path, float]:
        """Return the variant's folder and its similarity."""
        target, recipe = self._new(variant), parse_variant(variant)

        async def run() -> float:
            await encoders.derive(self.exported, target, recipe, self.bench)
            quality = await encoders.check(target, self.asked, self.bench.folder("checked"), self.bench)
            checks = encoders.check_similarity(quality, recipe)
            assert checks[0].samples == 40
            return quality.similarity or 0.0

        return target, asyncio.run(run())

    def _new(self, name: str) -> Path:
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> _Built:
    folder = tmp_path_factory.mktemp("sentences")
    return _Built(folder / "work", source_encoder.write(folder / "bert"))


def test_an_exported_encoder_says_what_transformers_says_whatever_its_neighbours(sentences: _Built) -> None:
    folder, similarity = sentences.derive("cpu-fp32")
    assert similarity == pytest.approx(1, abs=1e-6)
    head = read_encoder(folder)
    assert set(head.inputs) == {"input_ids", "attention_mask", "token_type_ids"}
    assert (head.pooling, head.normalise, head.output) == (Pooling.MEAN, True, "last_hidden_state")
    assert (folder / "tokenizer.json").is_file()
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    names = {one.name for one in graph.initializer}
    assert "encoder.layer.1.attention.self.query.weight.T" in names


@pytest.mark.parametrize(
    ("variant", "least", "smaller"),
    [("cpu-fp16", 0.99999, 0.6), ("cpu-int8", 0.999, 0.45), ("cpu-int8-fp", 0.998, 0.45), ("cpu-int4", 0.95, 0.42)],
)
def test_a_variant_is_smaller_and_close(sentences: _Built, variant: str, least: float, smaller: float) -> None:
    folder, similarity = sentences.derive(variant)
    assert least < similarity < 1 - 1e-9
    data = "model.onnx.data"
    assert (folder / data).stat().st_size < smaller * (sentences.exported / data).stat().st_size
    kinds = [node.op_type for node in onnx.load(folder / "model.onnx", load_external_data=False).graph.node]
    expected = {"cpu-fp16": "Cast", "cpu-int8": "MatMulNBits", "cpu-int8-fp": "MatMulIntegerToFloat"}
    assert kinds.count(expected.get(variant, "MatMulNBits")) >= 12
    assert ("GatherBlockQuantized" in kinds) == (variant != "cpu-fp16")


def test_in_8_bits_a_vector_does_not_depend_on_what_else_is_in_the_batch(sentences: _Built) -> None:
    folder, _ = sentences.derive("cpu-int8-fp")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    ids = np.arange(3, 15, dtype=np.int64).reshape(2, 6)
    mask = np.array([[1, 1, 1, 0, 0, 0], [1] * 6], np.int64)
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}
    both = pool(session.run(None, feed)[0], mask, Pooling.MEAN)
    alone = pool(session.run(None, {k: v[:1, :3] for k, v in feed.items()})[0], mask[:1, :3], Pooling.MEAN)
    assert both[0] == pytest.approx(alone[0], abs=1e-5)


def test_the_same_source_gives_the_same_bytes(sentences: _Built, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    export_encoder.by_torch(sentences.prepared, tmp_path, "feature-extraction", tmp_path / "scratch")
    for name in ("model.onnx", "model.onnx.data"):
        assert (tmp_path / name).read_bytes() == (sentences.exported / name).read_bytes()


def test_a_broken_variant_fails_the_check(sentences: _Built) -> None:
    folder, _ = sentences.derive("cpu-fp32")
    data = bytearray((folder / "model.onnx.data").read_bytes())
    (folder / "model.onnx.data").unlink()  # it is a link to the export's
    data[: len(data) // 2] = bytes(len(data) // 2)
    (folder / "model.onnx.data").write_bytes(data)
    quality = asyncio.run(encoders.check(folder, sentences.asked, sentences.bench.folder("checked"), sentences.bench))
    with pytest.raises(CheckFailed, match="similar to its source"):
        encoders.check_similarity(quality, parse_variant("cpu-fp32"))


def test_a_recipe_that_encoders_do_not_have_is_refused_before_anything_is_done(sentences: _Built) -> None:
    target = sentences.folder / "none"
    with pytest.raises(BuildFailed, match="cpu-int4-gptq"):
        asyncio.run(encoders.derive(sentences.exported, target, parse_variant("cpu-int4-gptq"), sentences.bench))
    assert not target.exists()


def test_a_reranker_scores_pairs_as_its_source_does(tmp_path: Path) -> None:
    source = source_encoder.write(tmp_path / "source", scores=True)
    built, head, texts = tmp_path / "built", sentence_transformers.read_head(source), encoders.read_texts(Task.RERANK)
    for folder in (built, tmp_path / "scratch"):
        folder.mkdir()
    export_encoder.by_torch(source, built, "text-classification", tmp_path / "scratch")
    graph = onnx.load(built / "model.onnx", load_external_data=False).graph
    names = tuple(one.name for one in graph.input)
    assert "token_type_ids" in names  # else both halves of a pair would be one
    write_encoder(msgspec.structs.replace(head, inputs=names, output="logits"), built)
    shutil.copyfile(source / "tokenizer.json", built / "tokenizer.json")
    asked, ours = tmp_path / "asked.npz", tmp_path / "ours.npz"
    job = {"texts": texts, "task": "rerank", "max_length": head.max_length, "lowercase": False}
    encoder_reference.record(source, job, asked)
    run_encoder.run(built, texts, ours)
    with np.load(asked) as arrays:
        assert np.ptp(arrays["results"]) > 0.1  # a model that tells pairs apart
    assert encoders.compare(asked, ours, texts, head) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "family", [one for one in (*sentence_transformers.FAMILIES, *sentence_transformers.DECODERS) if one != "Gemma3Text"]
)
def test_every_family_is_traced_right_at_any_length(
    tmp_path: Path, family: str, write_source: Callable[[str], Path]
) -> None:
    """Lengths that were not traced, padded and not: a tracer freezes what depends on them without an error."""
    import torch

    source = write_source(family)
    (tmp_path / "scratch").mkdir()
    export_encoder.by_torch(source, tmp_path, "feature-extraction", tmp_path / "scratch")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    model = export_encoder.load(source, "feature-extraction")
    names = [one.name for one in session.get_inputs()]
    for lengths in ((2,), (100,), (1, 33, 70)):
        longest = max(lengths)
        mask = np.array([[1] * n + [0] * (longest - n) for n in lengths], np.int64)
        ids = (np.arange(mask.size).reshape(mask.shape) % 300 + 3) * mask
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}
        (ours,) = session.run(None, {name: feed[name] for name in names})
        with torch.inference_mode():
            theirs = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).last_hidden_state.numpy()
        assert np.abs(ours - theirs)[mask == 1].max() < 2e-5


@pytest.fixture
def write_source(tmp_path: Path) -> Callable[[str], Path]:
    return lambda family: source_encoder.write(tmp_path / "source", family)


@_OPT_IN
@pytest.mark.timeout(1200)
def test_optimum_exports_what_torch_cannot_trace_and_the_same_as_torch(tmp_path: Path, sentences: _Built) -> None:
    gemma = _Built(tmp_path / "gemma", source_encoder.write(tmp_path / "source", "Gemma3Text"))
    assert gemma.derive("cpu-fp32")[1] == pytest.approx(1, abs=1e-6)
    asyncio.run(encoders.export(sentences.found, sentences.prepared, gemma._new("bert"), gemma.bench,
                                encoders.Through.OPTIMUM))  # fmt: skip
    quality = asyncio.run(
        encoders.check(gemma.folder / "bert", sentences.asked, gemma.bench.folder("checked"), gemma.bench)
    )
    assert quality.similarity == pytest.approx(1, abs=1e-6)
