"""What a request gives to the template: names that it asks for, plain values, and how hard to think."""

from __future__ import annotations

from typing import Any

import pytest

from foundry_lite.engine.chat_template.template import ChatTemplate
from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Chat, Message, Role
from tests.unit.dialect_templates import ALWAYS_THINKING, GEMMA4, LLAMA, QWEN, QWEN_THINKING, SMOLLM

ASKED = (Message(Role.USER, "hi"),)
SHOWS = "{{ mode }}|{{ places | join(',') }}|{{ bos_token }}|{{ messages | length }}|{{ strftime_now is defined }}"


def render(source: str, effort: str | None = None, **variables: Any) -> str:
    chat = Chat(ASKED, variables=variables, reasoning_effort=effort)
    return ChatTemplate(source, {"bos_token": "<s>"}).render(chat, lambda text, _role: text)


def refused(source: str, effort: str | None = None, **variables: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        render(source, effort, **variables)
    return caught.value


def test_variables_that_the_template_asks_for_are_given() -> None:
    assert render(SHOWS, mode="x", places=["a", "b"]) == "x|a,b|<s>|1|True"
    assert render(SHOWS) == "||<s>|1|True"


@pytest.mark.parametrize(
    "name",
    [
        *("other", "messages", "tools", "add_generation_prompt", "bos_token", "eos_token"),
        *("strftime_now", "raise_exception", "range", "namespace", "self", "loop", "__class__"),
    ],
)
def test_other_names_are_refused_and_the_template_keeps_ours(name: str) -> None:
    error = refused(SHOWS + "{{ eos_token }}{{ tools }}{{ add_generation_prompt }}{{ range(1) }}", **{name: "x"})
    assert (error.param, error.code) == (f"chat_template_kwargs.{name}", "unsupported_parameter")
    assert "those it takes: mode, places" in error.message


def test_a_name_that_the_template_sets_itself_is_refused() -> None:
    assert refused("{% set mode = 1 %}{{ mode }}", mode="x").param == "chat_template_kwargs.mode"


@pytest.mark.parametrize("value", [None, True, 3, 0.5, "text", [], ["a", 1, None]])
def test_plain_values_are_given(value: Any) -> None:
    assert render("{{ mode | tojson }}", mode=value) in ("null", "true", "3", "0.5", '"text"', "[]", '["a", 1, null]')


@pytest.mark.parametrize("value", [{}, {"a": 1}, [[1]], [{}], ["a"] * 65, "a" * 4097])
def test_other_values_are_refused(value: Any) -> None:
    error = refused("{{ mode }}", mode=value)
    assert (error.param, error.code) == ("chat_template_kwargs.mode", "invalid_value")


def test_text_in_a_variable_is_guarded_as_a_system_messages() -> None:
    seen = []

    def guard(text: str, role: Role) -> str:
        seen.append((text, role))
        return text.upper()

    chat = Chat(ASKED, variables={"mode": "a", "places": ["b"]})
    assert ChatTemplate("{{ mode }}{{ places[0] }}", {}).render(chat, guard) == "AB"
    assert {("a", Role.SYSTEM), ("b", Role.SYSTEM)} <= set(seen)


def test_a_template_that_knows_efforts_is_told_the_effort() -> None:
    assert render("{{ reasoning_effort }}", "high") == "high"
    assert render("{{ reasoning_effort is defined }}") == "False"


@pytest.mark.parametrize(
    ("source", "effort", "said"),
    [
        (QWEN_THINKING, None, "assistant\n"),
        (QWEN_THINKING, "low", "assistant\n"),
        (QWEN_THINKING, "none", "assistant\n<think>\n\n</think>\n\n"),
        (SMOLLM, "none", "<think>\n\n</think>\n"),
        (SMOLLM, "medium", "assistant\n"),
        ("{{ 'on' if thinking else 'off' }}", "high", "on"),
        ("{{ 'on' if thinking else 'off' }}", "none", "off"),
    ],
)
def test_a_switch_for_thinking_is_turned(source: str, effort: str | None, said: str) -> None:
    assert render(source, effort).endswith(said)


def test_gemmas_switch_is_off_unless_it_is_turned_on() -> None:
    assert "<|think|>" in render(GEMMA4, "low")
    assert "<|think|>" not in render(GEMMA4)
    assert "<|think|>" in render(GEMMA4, enable_thinking=True)


def test_a_variable_goes_before_the_effort() -> None:
    assert render(QWEN_THINKING, "high", enable_thinking=False).endswith("</think>\n\n")


@pytest.mark.parametrize("source", [QWEN, LLAMA, ALWAYS_THINKING])
@pytest.mark.parametrize("effort", ["none", "high"])
def test_an_effort_that_the_template_cannot_take_is_refused(source: str, effort: str) -> None:
    error = refused(source, effort)
    assert (error.param, error.code) == ("reasoning_effort", "unsupported_parameter")
