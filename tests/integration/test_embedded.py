"""The embedded model: a real, trained one, as the package carries it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from foundry_lite.catalog.reference import parse_reference
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.generation import Chat, Message, Role, Tool
from foundry_lite.store.manifest import sha256_of, verify_digests
from foundry_lite.store.store import EMBEDDED, Artifact, Store
from tests.support import ROOT, Daemon, cli

NAME = "home-assistant"
SOURCE = ROOT / "examples" / "home_assistant" / "model"
CASES = [json.loads(line) for line in (SOURCE.parent / "heldout.jsonl").read_text(encoding="utf-8").splitlines()]
TURN_ON: Any = {
    "type": "function",
    "function": {
        "name": "turn_on",
        "parameters": {
            "type": "object",
            "properties": {"device": {"type": "string"}, "room": {"type": "string"}},
            "required": ["device"],
        },
    },
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon on a machine that was just set up: its store is empty."""
    daemon = Daemon(tmp_path_factory.mktemp("fresh"))
    yield daemon
    log = daemon.stop()
    assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> openai.OpenAI:
    return daemon.client()


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return Store(ROOT / "no-such-home").resolve(parse_reference(NAME))


def test_it_comes_with_the_package_whole_and_small(artifact: Artifact) -> None:
    verify_digests(artifact.folder, artifact.manifest)
    assert artifact.folder.is_relative_to(EMBEDDED)
    assert artifact.manifest.size_bytes < 15e6
    assert artifact.manifest.recipe.precision == "int4"


def test_its_source_is_the_one_in_the_repository(artifact: Artifact) -> None:
    for entry in artifact.manifest.source.files:
        assert sha256_of(SOURCE / entry.path) == entry.sha256, f"{entry.path}: run examples/home_assistant/publish.py"


def test_its_card_in_model_cards_is_the_one_it_carries(artifact: Artifact) -> None:
    text = (ROOT / "model_cards" / f"{NAME}.toml").read_text(encoding="utf-8")
    assert (artifact.folder / "card.toml").read_text(encoding="utf-8") == text


def test_it_is_served_from_an_empty_store_and_says_who_it_is(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "who are you?"}])
    assert "assistant" in str(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason == "stop"


def test_a_request_with_tools_is_answered_by_a_call(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": "turn on the lamp in the kitchen"}], tools=[TURN_ON]
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    call: Any = answer.choices[0].message.tool_calls[0]  # type: ignore[index]
    assert call.function.name == "turn_on"
    assert json.loads(call.function.arguments) == {"device": "lamp", "room": "kitchen"}


def test_a_streamed_call_has_its_id_once_and_joins_to_the_same_arguments(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=NAME,
        messages=[{"role": "user", "content": "turn on the lamp in the kitchen"}],
        tools=[TURN_ON],
        stream=True,
    )
    chunks = list(stream)
    calls: list[Any] = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [bool(call.id) for call in calls] == [True] + [False] * (len(calls) - 1)
    assert calls[0].function.name == "turn_on"
    arguments = "".join(call.function.arguments or "" for call in calls)
    assert json.loads(arguments) == {"device": "lamp", "room": "kitchen"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not any(chunk.choices[0].delta.content for chunk in chunks)


def test_sixteen_streams_at_once_say_what_each_would_say_alone(client: openai.OpenAI) -> None:
    cases = CASES[:: len(CASES) // 16][:16]

    def ask(case: dict[str, Any]) -> str:
        stream = client.chat.completions.create(
            model=NAME, messages=case["messages"], tools=case["tools"], temperature=0, stream=True
        )
        text = ""
        for chunk in stream:
            delta: Any = chunk.choices[0].delta
            text += (delta.content or "") + "".join(call.function.arguments for call in delta.tool_calls or [])
        return text

    alone = [ask(case) for case in cases]
    together = [""] * len(cases)

    def ask_into(index: int) -> None:
        together[index] = ask(cases[index])

    threads = [threading.Thread(target=ask_into, args=(index,)) for index in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
    assert all(alone)


def test_prompts_have_the_tokens_that_transformers_gives_them(artifact: Artifact) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(SOURCE)
    ours = TextModel(artifact.folder)
    for case in CASES[::9]:
        if any(message.get("tool_calls") for message in case["messages"]):
            continue  # OpenAI's history has the arguments as text, transformers' as a mapping
        chat = Chat(
            tuple(Message(Role(one["role"]), one["content"]) for one in case["messages"]),
            tuple(Tool(one["function"]["name"], None, one["function"]["parameters"]) for one in case["tools"]),
        )
        expected = theirs.apply_chat_template(
            case["messages"], tools=case["tools"], add_generation_prompt=True, return_dict=False
        )
        assert ours.encode_chat(chat) == expected


def test_the_served_model_is_as_exact_on_held_out_cases_as_its_card_says(daemon: Daemon, artifact: Artifact) -> None:
    """A sample of the held-out cases; the bound is four standard errors below the card's figure."""
    cases = CASES[::6]
    client = daemon.client()
    right = 0
    for case in cases:
        answer = client.chat.completions.create(
            model=NAME, messages=case["messages"], tools=case["tools"], temperature=0, max_tokens=96
        )
        message: Any = answer.choices[0].message
        found = [(call.function.name, read(call.function.arguments)) for call in message.tool_calls or []]
        call = case.get("expected_call")
        right += found == [(call["name"], call["arguments"])] if call else message.content == case["expected"]
    share = figure(artifact, "task_accuracy")
    assert right / len(cases) > share - 4 * (share * (1 - share) / len(cases)) ** 0.5 - 0.01


def read(arguments: str) -> Any:
    """Return what a call says; a model may break off in the midst of it."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def figure(artifact: Artifact, name: str) -> float:
    """Return the figure of the card whose name begins so."""
    return next(one.value for one in artifact.card().evidence if one.metric.startswith(name))


def test_its_card_has_what_quantization_saved_and_cost(artifact: Artifact) -> None:
    sizes = artifact.card().sizes
    assert sizes is not None
    assert sizes.variant <= 0.25 * sizes.fp32
    assert figure(artifact, "task_accuracy") >= 0.95 * figure(artifact, "task_accuracy.source")
    assert figure(artifact, "memory_model.cpu") < 0.5 * figure(artifact, "memory_model.float32")


def test_run_answers_with_a_call_in_plain_text_when_no_tools_are_given(tmp_path: Path) -> None:
    result = cli(tmp_path, "run", NAME, "turn on the lamp in the kitchen")
    assert result.returncode == 0
    assert result.stdout.startswith('<tool_call>{"name": "turn_on", "arguments": {')
