"""The home assistant's data: training and held-out words never meet, and the cases say what they mean."""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox
import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "home_assistant"
sys.path.insert(0, str(FOLDER))

# The example is a folder of scripts, not a package: found by the path above, and by no type checker.
import chat  # type: ignore[import-not-found]  # noqa: E402
import data  # type: ignore[import-not-found]  # noqa: E402
import talk  # type: ignore[import-not-found]  # noqa: E402
import vocabulary  # type: ignore[import-not-found]  # noqa: E402
import wordings  # type: ignore[import-not-found]  # noqa: E402
from more_families import FAMILIES  # type: ignore[import-not-found]  # noqa: E402


def expanded(patterns: Iterable[str]) -> set[str]:
    return set(itertools.chain.from_iterable(wordings.expand(pattern.lstrip("=")) for pattern in patterns))


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / "heldout.jsonl").read_text(encoding="utf-8").splitlines()]


def declared(case: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {tool["function"]["name"]: tool["function"]["parameters"] for tool in case["tools"]}


def test_no_wording_of_a_request_is_in_both_sets() -> None:
    for name, family in FAMILIES.items():
        for key, intent in family.intents.items():
            assert not expanded(data.training_wordings(name, key)) & expanded(intent.heldout)
            assert not expanded(p for _, p in intent.follow_ups) & expanded(p for _, p in intent.heldout_follow_ups)


def test_no_question_is_in_both_sets() -> None:
    training = expanded(itertools.chain.from_iterable(topic.questions for topic in talk.TOPICS))
    heldout = expanded(itertools.chain.from_iterable(topic.heldout for topic in talk.TOPICS))
    assert not training & heldout
    assert not expanded(talk.OUTSIDE) & expanded(talk.HELDOUT_OUTSIDE)


def test_ways_to_begin_and_end_a_request_are_disjoint() -> None:
    assert not set(talk.PREFIXES) & set(talk.HELDOUT_PREFIXES)
    assert not set(talk.OPENERS) & set(talk.HELDOUT_OPENERS)
    assert not set(talk.SUFFIXES + talk.TAILS) & set(talk.HELDOUT_SUFFIXES)
    assert not set(talk.SYSTEM_MESSAGES) & set(talk.HELDOUT_SYSTEM_MESSAGES)


@pytest.mark.parametrize("slot", sorted(set(vocabulary.TRAINING) - set(vocabulary.CLOSED)))
def test_open_slots_share_no_value(slot: str) -> None:
    training = {word.lower() for word in vocabulary.TRAINING[slot]}
    heldout = {word.lower() for word in vocabulary.HELDOUT[slot]}
    assert heldout
    assert not training & heldout


def test_numbers_and_times_of_the_two_sets_are_disjoint() -> None:
    rng = random.Random(1)
    for slot in vocabulary.NUMBER_RANGES:
        training = {vocabulary.number(rng, slot, heldout=False) for _ in range(300)}
        assert not training & {vocabulary.number(rng, slot, heldout=True) for _ in range(300)}
    training_times = {vocabulary.clock(rng, heldout=False) for _ in range(1000)}
    assert not training_times & {vocabulary.clock(rng, heldout=True) for _ in range(1000)}


def test_the_heldout_file_reproduces_from_its_seed_byte_for_byte(tmp_path: Path) -> None:
    data.write_heldout(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (FOLDER / "heldout.jsonl").read_bytes()


def test_there_are_enough_heldout_cases(cases: list[dict[str, Any]]) -> None:
    assert len(cases) >= 500
    assert sum(case["kind"] == "tool_call" for case in cases) >= 350
    assert {case["kind"] for case in cases} == {"tool_call", "result", "about", "multi_turn", "refusal"}


def test_every_expected_call_fits_a_tool_of_its_case(cases: list[dict[str, Any]]) -> None:
    for case in cases:
        if "expected_call" not in case:
            continue
        call = case["expected_call"]
        parameters = declared(case)[call["name"]]
        assert set(parameters["required"]) <= set(call["arguments"]) <= set(parameters["properties"])
        assert json.loads(case["expected"].removeprefix("<tool_call>").removesuffix("</tool_call>")) == call
        for name, argument in call["arguments"].items():
            kind = parameters["properties"][name]
            assert argument in kind.get("enum", [argument])
            assert isinstance(argument, int | float) == (kind["type"] == "number")


def test_no_heldout_prompt_occurs_in_training(cases: list[dict[str, Any]]) -> None:
    asked = {case["messages"][-1]["content"].lower() for case in cases if case["kind"] == "tool_call"}
    rng = random.Random(5)
    trained = {
        m["content"].lower() for _ in range(2000) for m in data.conversation(rng).messages if m["role"] == "user"
    }
    assert len(asked & trained) == 0


@pytest.mark.parametrize("trims", [True, False])
def test_the_template_renders_what_training_saw(cases: list[dict[str, Any]], trims: bool) -> None:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=trims, lstrip_blocks=trims)
    environment.filters["tojson"] = to_json
    template = environment.from_string(chat.template())
    for case in cases:
        expected = chat.prompt(case["messages"], case["tools"])
        assert template.render(messages=case["messages"], tools=case["tools"], add_generation_prompt=True) == expected
    messages = cases[0]["messages"]
    assert template.render(messages=messages, add_generation_prompt=True) == chat.prompt(messages, None)


def test_arguments_may_be_an_object_or_its_text() -> None:
    template = jinja2.sandbox.ImmutableSandboxedEnvironment()
    template.filters["tojson"] = to_json
    rendered = [
        template.from_string(chat.template()).render(messages=[{"role": "assistant", "content": None, "tool_calls": [
            {"function": {"name": "heat", "arguments": arguments}}]}], tools=[])
        for arguments in ({"room": "den", "degrees": 21}, '{"room": "den", "degrees": 21}')
    ]  # fmt: skip
    assert rendered[0] == rendered[1]
    assert '<tool_call>{"name": "heat", "arguments": {"room": "den", "degrees": 21}}</tool_call>' in rendered[0]


def to_json(value: object, **_: object) -> str:
    return json.dumps(value, ensure_ascii=False)
