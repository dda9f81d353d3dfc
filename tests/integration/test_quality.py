"""Quality and gate on real weights: the embedded model against its source, and builds of it that went wrong."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from foundry_lite.catalog.recipe import Precision, Recipe, recipe_for
from foundry_lite.catalog.report import Quality
from foundry_lite.conversion.evaluate import quality
from foundry_lite.conversion.evaluate.cases import Case, read_cases
from foundry_lite.conversion.evaluate.gate import Gate, judge
from foundry_lite.conversion.jobs.step_context import StepContext
from foundry_lite.conversion.sources.source_model import Kind, SourceModel
from foundry_lite.conversion.toolchains.toolchains import Toolchains
from foundry_lite.errors import BuildFailed, CheckFailed
from tests.support import ROOT

SOURCE = ROOT / "examples" / "home_assistant" / "model"
INT4 = ROOT / "foundry_lite" / "embedded" / "home-assistant" / "cpu-int4"
RECIPE = recipe_for(Precision.INT4)


def convert(line: str) -> dict[str, Any]:
    """One of the home assistant's held-out cases, in the form of ``--eval``."""
    case = json.loads(line)
    expected = case.get("expected_call", case["expected"])
    return {"messages": case["messages"], "tools": case["tools"], "expected": expected, "max_tokens": 48}


class Asked:
    """What the source says, and how to compare a build with it."""

    def __init__(self, folder: Path, cases: tuple[Case, ...]) -> None:
        self.folder = folder
        self.cases = cases
        self.reference = folder / "reference"
        self.reference.mkdir()
        scratch = folder / "scratch"
        scratch.mkdir()
        self.bench = StepContext(scratch, folder / "log.txt", Toolchains(folder / "toolchains"))

    def ask(self) -> Asked:
        files = tuple(SOURCE.iterdir())
        found = SourceModel(Kind.FOLDER, SOURCE, files, "LlamaForCausalLM", 4_394_240, 4096)
        enquiry = quality.enquire(found, self.cases)
        asyncio.run(quality.ask_source(enquiry, SOURCE, self.reference, self.bench))
        quality.judge_source(SOURCE, self.reference, self.cases)
        return self

    def assess(self, built: Path, recipe: Recipe = RECIPE, *, has_source: bool = True) -> Quality:
        reference = self.reference if has_source else None
        return asyncio.run(
            quality.assess(built, recipe, reference, self.cases, self.bench.folder("assessed"), self.bench)
        )


@pytest.fixture(scope="module", autouse=True)
def _few_texts() -> Iterator[None]:
    """An eighth of the shipped texts: the rest would only take time."""
    few = quality.sample()[::8]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "sample", lambda: few)
        yield


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("asked")
    lines = (ROOT / "examples" / "home_assistant" / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    path = folder / "cases.jsonl"
    path.write_text("\n".join(json.dumps(convert(line)) for line in lines[::60]), encoding="utf-8")
    return Asked(folder, read_cases(path)).ask()


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A copy of the embedded build, to be damaged."""
    return Path(shutil.copytree(INT4, tmp_path / "built"))


def test_a_good_build_is_measured_and_passes_on_its_users_own_data(asked: Asked) -> None:
    found = asked.assess(INT4)
    assert found.neutral is not None
    assert found.own is not None
    assert found.task is not None
    assert found.neutral.positions > 400
    assert found.neutral.top1 is not None
    assert 0.8 < found.neutral.top1 < 0.95  # English prose is far from what this model was trained on
    assert found.own.top1 is not None
    assert found.own.top1 > 0.98
    assert found.own.source_perplexity is not None
    assert abs(found.own.perplexity - found.own.source_perplexity) < 0.05
    assert (found.task.total, found.task.source_passed) == (12, 8)
    assert found.task.kept > 0.9
    assert found.goldens[0].answer.startswith("I am a small home assistant model")
    assert len(found.goldens) == 8
    assert sum(one.is_source or False for one in found.goldens) >= 7
    assert judge(found, Gate()).passes
    assert [one.name for one in quality.check_fidelity(found, RECIPE)] == ["top1_agreement", "kl_mean"]


def test_two_layers_in_each_others_place_are_refused(asked: Asked, damaged: Path) -> None:
    graph = onnx.load(damaged / "model.onnx", load_external_data=False)
    swapped = 0
    for one in graph.graph.initializer:
        for here, there in ((".2.", ".3."), (".3.", ".2.")):
            if f"layers{here}" in one.name:
                one.name = one.name.replace(f"layers{here}", f"layers{there}")
                swapped += 1
                break
    assert swapped >= 20
    onnx.save(graph, damaged / "model.onnx")
    found = asked.assess(damaged)
    assert any("task accuracy" in one for one in judge(found, Gate()).misses)
    assert any("diverges by" in one for one in judge(Quality(found.neutral), Gate()).misses)


def test_a_template_that_writes_another_prompt_is_refused_with_the_first_difference(
    asked: Asked, damaged: Path
) -> None:
    path = damaged / "chat_template.jinja"
    path.write_text(path.read_text().replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant '"))
    with pytest.raises(CheckFailed, match=r"writes a question otherwise than in transformers: after .*assistant") as no:
        asked.assess(damaged)
    assert "template" in no.value.hint


def test_a_crash_of_a_library_is_a_failed_build_and_not_ours(asked: Asked, damaged: Path) -> None:
    (damaged / "model.onnx").write_bytes((damaged / "model.onnx").read_bytes()[:20_000])
    with pytest.raises(BuildFailed, match="score_variant"):
        asked.assess(damaged)


def test_without_a_source_there_are_perplexity_and_answers(asked: Asked) -> None:
    found = asked.assess(INT4, has_source=False)
    assert found.neutral is not None
    assert found.neutral.kl_mean is None
    assert found.task is None
    assert [one.is_source for one in found.goldens] == [None] * 8
    assert judge(found, Gate()).passes
