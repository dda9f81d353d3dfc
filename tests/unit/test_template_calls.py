"""Calls in the history, as templates of different manners want them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foundry_lite.engine.chat_template.template import ChatTemplate
from foundry_lite.engine.tool_calls.formats import HERMES, LLAMA, MISTRAL_NAMED, PHI, CallSyntax
from foundry_lite.engine.tool_calls.newer_formats import GLM, HUNYUAN, LFM2, MINICPM, OLMO, QWEN_XML
from foundry_lite.engine.tool_calls.render_calls import write_calls
from foundry_lite.generation import Chat, Message, Role, Tool, ToolCall
from tests.unit.newer_dialect_templates import DEEPSEEK, GPT_OSS, text_model

ONE = '{"a": "x"}'
_FENCED = "<tool_call>%s\n```json\n%s\n```</tool_call>"
CALL = ToolCall("call_1", "f", '{"a": "x"}')
CALLED = Message(Role.ASSISTANT, None, tool_calls=(CALL,))


def render(source: str, *messages: Message) -> str:
    return ChatTemplate(source, {}).render(Chat(messages), lambda text, _role: text)


@pytest.mark.parametrize(
    ("writing", "text"),
    [
        (
            HERMES.writing,
            '<tool_call>{"name": "f", "arguments": {"a": "x"}}</tool_call>\n'
            '<tool_call>{"name": "g", "arguments": {}}</tool_call>',
        ),
        (LLAMA.writing, '{"name": "f", "parameters": {"a": "x"}}\n{"name": "g", "parameters": {}}'),
        (
            PHI.writing,
            '<|tool_call|>[{"name": "f", "arguments": {"a": "x"}}, {"name": "g", "arguments": {}}]<|/tool_call|>',
        ),
        (MISTRAL_NAMED.writing, '[TOOL_CALLS]f[ARGS]{"a": "x"}[TOOL_CALLS]g[ARGS]{}'),
        (LFM2.writing, "<|tool_call_start|>[f(a='x'), g()]<|tool_call_end|>"),
        (
            QWEN_XML.writing,
            "<tool_call>\n<function=f>\n<parameter=a>\nx\n</parameter>\n</function>\n</tool_call>\n"
            "<tool_call>\n<function=g>\n</function>\n</tool_call>",
        ),
        (
            GLM.writing,
            "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>x</arg_value>\n</tool_call>\n<tool_call>g\n</tool_call>",
        ),
        (HUNYUAN.writing, f"<tool_calls>{_FENCED % ('f', ONE)}\n{_FENCED % ('g', '{}')}</tool_calls>"),
        (MINICPM.writing, "<|tool_call_start|>\n```python\nf(a='x')\ng()\n```\n<|tool_call_end|>"),
        (OLMO.writing, "<function_calls>\nf(a='x')\ng()\n</function_calls>"),
    ],
)
def test_calls_are_written_as_the_family_writes_them(writing: CallSyntax, text: str) -> None:
    assert write_calls([("f", {"a": "x"}), ("g", {})], writing) == text
    assert write_calls([("f", '{"a": "x"}'), ("g", "{}")], writing) == text


def test_what_is_no_json_is_written_as_it_is() -> None:
    assert write_calls([("f", "{...}")], LFM2.writing) == "<|tool_call_start|>[f(...)]<|tool_call_end|>"
    assert "<parameter=...>\n...\n</parameter>" in write_calls([("f", "{...}")], QWEN_XML.writing)


def test_a_template_that_tells_of_no_calls_has_them_in_the_text_with_their_marks(tmp_path: Path) -> None:
    """LFM2's own template writes the text of a message and nothing else: its calls were lost."""
    model = text_model(tmp_path, "lfm2")
    mark = "<|tool_call_start|>"
    called = Message(Role.ASSISTANT, "I look.", tool_calls=(ToolCall("1", "f", json.dumps({"a": mark})),))
    tokens = model.encode_chat(Chat((Message(Role.USER, "hi"), called), (Tool("f"),)))
    text = f"I look.{mark}[f(a='{mark}')]<|tool_call_end|><|im_end|>"
    assert text in model.decode(tokens)
    assert tokens.count(model.encode_text(mark)[0]) == 1  # the caller's is none
    bare = model.encode_chat(Chat((Message(Role.USER, "hi"), CALLED), (Tool("f"),)))
    assert "assistant\n<|tool_call_start|>[f(a='x')]<|tool_call_end|><|im_end|>" in model.decode(bare)


def test_arguments_put_together_with_text_are_json() -> None:
    """As templates of DeepSeek's have it, which were written for arguments that are text."""
    source = "{% set one = messages[0].tool_calls[0].function %}{{ one.name + '\n' + one.arguments + '|' }}"
    assert render(source, CALLED) == 'f\n{"a": "x"}|'
    written = "{{ messages[0].tool_calls[0].function.arguments }}"  # as vLLM's template for Phi-4-mini has it
    assert render(written, CALLED) == ONE
    assert render("{{ '' ~ messages[0].tool_calls[0].function.arguments }}", CALLED) == ONE


@pytest.mark.parametrize(
    "source",
    ["{{ 'x' + messages[0]['content'] }}", "{{ messages[0].content.strip() }}", "{{ messages[0].content | tojson }}"],
)
def test_calls_without_text_have_the_empty_text_where_the_template_stumbles(source: str) -> None:
    assert render(source, CALLED) in ("x", "", '""')


def test_thoughts_go_by_the_name_that_the_template_asks_for() -> None:
    thought = Message(Role.ASSISTANT, "Yes.", reasoning="Hm.")
    assert render("{{ messages[0].thinking }}{{ 'reasoning_content' in messages[0] }}", thought) == "Hm.False"
    assert render("{{ messages[0]['reasoning_content'] }}", thought) == "Hm."
    assert render("{{ thinking }}{{ 'thinking' in messages[0] }}", thought) == "False"
    assert render("{{ messages[0].get('reasoning') }}", thought) == "Hm."
    source = (
        "{% set one = messages[0] %}{{ one.get('reasoning') or one.get('reasoning_content') }}{{ 'reasoning' in one }}"
    )
    assert render(source, thought) == "Hm.False"


def test_thoughts_beside_text_and_calls_give_way_where_the_template_wants_one_of_them() -> None:
    source = (
        "{% set one = messages[0] %}{% if one.content and one.thinking %}{{ raise_exception('not both') }}{% endif %}"
        "{{ one.content }}{{ one.thinking }}"
    )
    assert render(source, Message(Role.ASSISTANT, "I look.", tool_calls=(CALL,), reasoning="Hm.")) == "I look."
    assert render(source, Message(Role.ASSISTANT, None, tool_calls=(CALL,), reasoning="Hm.")) == "Hm."


def test_a_conversation_with_calls_goes_through_a_template_of_channels(tmp_path: Path) -> None:
    model = text_model(tmp_path, "gpt-oss", GPT_OSS)
    called = Message(Role.ASSISTANT, None, tool_calls=(CALL,), reasoning="Hm.")
    told = Message(Role.TOOL, "five", tool_call_id="call_1")
    text = model.decode(model.encode_chat(Chat((Message(Role.USER, "hi"), called, told), (Tool("f"),))))
    assert "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant to=functions.f<|channel|>commentary json" in text
    assert text.endswith("<|start|>assistant")


def test_the_history_of_deepseeks_distills_whose_template_has_no_place_for_tools(tmp_path: Path) -> None:
    model = text_model(tmp_path, "deepseek", DEEPSEEK.replace("{% if tools %}{{ tools | tojson }}{% endif %}", ""))
    assert not model.shows_tools
    text = model.decode(model.encode_chat(Chat((Message(Role.USER, "hi"), CALLED), (Tool("f"),))))
    told, history = text.split("<｜User｜>")
    assert '{"name": "f", "parameters": {}}' in told
    call = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>%s\n```json\n%s\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    assert call % ("the tool's name", "{...}") in told
    assert call % ("f", ONE) in history
