"""The course's example: its data is split as it says, its cases can be read, its table says what was measured."""

from __future__ import annotations

import itertools
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from foundry_lite.conversion.evaluate.cases import read_cases

FOLDER = Path(__file__).parents[2] / "examples" / "course"
sys.path.insert(0, str(FOLDER))

# The example is a folder of scripts, not a package: found by the path above, and by no type checker.
import run  # type: ignore[import-not-found]  # noqa: E402
import skill  # type: ignore[import-not-found]  # noqa: E402
import wordings  # type: ignore[import-not-found]  # noqa: E402


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / "eval.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_committed_cases_are_what_the_generator_writes(tmp_path: Path) -> None:
    skill.write_evaluation(tmp_path / "eval.jsonl")
    assert (tmp_path / "eval.jsonl").read_bytes() == (FOLDER / "eval.jsonl").read_bytes()


def test_every_case_can_be_read_by_the_build() -> None:
    cases = read_cases(FOLDER / "eval.jsonl")
    assert len(cases) == skill.NEW_CASES + 180
    assert all(case.check == "tool_call" for case in cases[: skill.NEW_CASES])


def test_training_and_held_out_words_never_meet() -> None:
    for deed in skill.DEEDS:
        trained, heldout = (
            set(itertools.chain.from_iterable(wordings.expand(one.lstrip("=")) for one in patterns))
            for patterns in (deed.wordings, deed.heldout)
        )
        assert not trained & heldout
    for slot, words in skill.TRAINING.items():
        assert not set(words) & set(skill.HELDOUT[slot])


def test_no_held_out_request_is_trained_on() -> None:
    rng = random.Random(1)
    trained = {skill.lesson(rng, heldout=False).messages[0]["content"].lower().rstrip(".") for _ in range(4000)}
    heldout = {one["messages"][-1]["content"].lower().rstrip(".") for one in lines()[: skill.NEW_CASES]}
    assert not trained & heldout


@pytest.mark.parametrize("heldout", [False, True])
def test_a_call_fits_its_tool_and_says_what_was_asked(heldout: bool) -> None:
    rng = random.Random(2)
    for _ in range(300):
        made = skill.lesson(rng, heldout=heldout)
        declared = {one["function"]["name"]: one["function"]["parameters"] for one in made.tools}
        assert len(declared) == len(made.tools), "no two tools have one name"
        properties = declared[made.name]["properties"]
        assert list(made.arguments) == list(properties)
        for name, value in made.arguments.items():
            if "enum" in properties[name]:
                assert value in properties[name]["enum"]
            elif properties[name]["type"] == "string":
                assert str(value) in made.messages[0]["content"].lower()


def test_the_committed_adapter_is_small_and_has_its_log() -> None:
    adapter = FOLDER / "adapter"
    assert (adapter / "adapter_model.safetensors").stat().st_size < 2_000_000
    log = json.loads((adapter / "training.json").read_text(encoding="utf-8"))
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    assert log["plan"]["rank"] == config["r"]
    assert log["exact_match_after"]["second_skill"] > log["exact_match_before"]["second_skill"]


def report(decode: float, peak: int) -> dict[str, Any]:
    row = {
        "decode_tokens_per_s": {"median": decode}, "prefill_tokens_per_s": {"median": 1000.0},
        "system_tokens_per_s": {"median": decode * 3},
    }  # fmt: skip
    return {"rows": [row, row], "loaded_bytes": peak - 5, "runtime_bytes": 10, "peak_bytes": peak}


def test_a_promise_that_is_missed_is_printed_as_missed() -> None:
    sizes = {"variant": 24, "fp32": 100, "fp16": 50, "fp16_is": "computed"}
    rows = run.promises(sizes, report(190, 60), report(100, 100), (94, 100, 120), "cpu-int4")
    assert [row[-1] for row in rows] == ["holds", "**missed**", "**missed**", "**missed**"]
    assert "52.0% smaller than fp16" in rows[0][2]
    assert f"{1 - 45 / 85:.1%} less" in rows[2][2]
    rows = run.promises(sizes, report(200, 50), report(100, 100), (95, 100, 120), "cpu-int8")
    assert [row[-1] for row in rows] == ["**missed**", "holds", "holds", "holds"], "int8 is no int4"


def test_an_answer_is_right_when_its_call_is_exactly_the_expected_one() -> None:
    case = next(one for one in lines() if one["check"] == "tool_call")
    name, arguments = case["expected"]["name"], case["expected"]["arguments"]

    def message(name: str, arguments: Any) -> dict[str, Any]:
        return {"content": None, "tool_calls": [{"function": {"name": name, "arguments": json.dumps(arguments)}}]}

    assert run.is_right(case, message(name, arguments))
    assert not run.is_right(case, message(name + "x", arguments))
    assert not run.is_right(case, message(name, {**arguments, "more": 1}))
    assert not run.is_right(case, {"content": "done"})
    text = next(one for one in lines() if one["check"] == "exact")
    assert run.is_right(text, {"content": text["expected"]})
    assert not run.is_right(text, message(name, arguments))
