"""How each family writes calls: read however the text is cut, recognised by template or tokens, never by a name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_lite.engine.reasoning import ReasoningState
from foundry_lite.engine.text.tokenizer import TextModel
from foundry_lite.engine.tool_calls.detect import DIALECTS, recognise
from foundry_lite.engine.tool_calls.formats import HERMES, MISTRAL
from foundry_lite.engine.tool_calls.model_format import find_voice
from foundry_lite.engine.tool_calls.parser import ToolCallParser
from foundry_lite.engine.tool_calls.render_calls import write_calls
from foundry_lite.engine.worker.output_processor import begin_answer
from foundry_lite.errors import InvalidRequest, LoadFailed
from foundry_lite.generation import Chat, GenerationRequest, Message, Role, Tool, ToolCall, join_calls
from tests.unit.dialect_templates import FAMILIES, GEMMA, LLAMA, MISTRAL_NAMED, PHI, QWEN, TOKENS, text_model

F: tuple[str, object] = ("f", {"a": 1})
G: tuple[str, object] = ("g", {})
RICH = ("f", {"a": [1.5, None, True], "b": {"c": 'say "ü" <b>\n'}})
_RICH_JSON = json.dumps(RICH[1], ensure_ascii=False)
_PYTHON = "f(a=[1.5, None, True], b={'c': 'say \"ü\" <b>\\n'})"

# The family, an answer of it, and the text and the calls in that.
ANSWERS: list[tuple[str, str, str, list[tuple[str, object]]]] = [
    ("hermes", f'<tool_call>{{"name": "f", "arguments": {_RICH_JSON}}}</tool_call>', "", [RICH]),
    ("smollm", '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', "", [F]),
    ("smollm", "<code>\nf(a=1)\ng()\n</code>", "", [F, G]),
    ("smollm", "<code>\nprint(f(a=1))\n</code>", "<code>\nprint(f(a=1))\n</code>", []),
    ("llama", f'{{"name": "f", "parameters": {_RICH_JSON}}}', "", [RICH]),
    ("llama", '{"type": "function", "name": "f", "parameters": {"a": 1}}', "", [F]),
    ("llama", '<|python_tag|>{"name": "f", "parameters": {"a": 1}}', "", [F]),
    ("llama", '{"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}', "", [F, G]),
    ("llama", '{"name": "f", "parameters": {"a": 1}}\n{"name": "g", "parameters": {}}', "", [F, G]),
    ("llama", f"[{_PYTHON}, g()]", "", [RICH, G]),
    ("llama", '{"name": "Ada", "parameters": {}}', '{"name": "Ada", "parameters": {}}', []),
    ("llama", '{"answer": 42}', '{"answer": 42}', []),
    ("llama", "[1, 2, 3]", "[1, 2, 3]", []),
    ("llama", 'It is {"name": "f", "parameters": {}}.', 'It is {"name": "f", "parameters": {}}.', []),
    ("llama-python", f"[{_PYTHON}]", "", [RICH]),
    ("llama-python", "[f(1)]", "[f(1)]", []),
    ("mistral", f'[TOOL_CALLS] [{{"name": "f", "arguments": {_RICH_JSON}, "id": "abcdefghi"}}]', "", [RICH]),
    ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]', "", [F, G]),
    ("mistral", 'Sure.[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}]', "Sure.", [F]),
    ("mistral", "[TOOL_CALLS] none", "[TOOL_CALLS] none", []),
    ("mistral-named", f"[TOOL_CALLS]f[ARGS]{_RICH_JSON}", "", [RICH]),
    ("mistral-named", '[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}', "", [F, G]),
    ("mistral-named", '[TOOL_CALLS]f{"a": 1}', "", [F]),
    ("mistral-named", '[TOOL_CALLS]h[ARGS]{"a": 1}', '[TOOL_CALLS]h[ARGS]{"a": 1}', []),
    ("phi", f'<|tool_call|>[{{"name": "f", "arguments": {_RICH_JSON}}}]<|/tool_call|>', "", [RICH]),
    ("phi", '<|tool_call|>{"name": "f", "arguments": {"a": 1}}<|/tool_call|>', "", [F]),
    ("phi-functools", 'functools[{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]', "", [F, G]),
    ("phi-functools", "functools.reduce(f, [1])", "functools.reduce(f, [1])", []),
    ("granite", '<|tool_call|>[{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]', "", [F, G]),
    ("granite", '<tool_call>[{"name": "f", "arguments": {"a": 1}}]</tool_call>', "", [F]),
    ("gemma", '{"name": "f", "parameters": {"a": 1}}', "", [F]),
    ("gemma", 'Here:\n```json\n{"name": "f", "parameters": {"a": 1}}\n```\nDone.', "Here:\nDone.", [F]),
    ("gemma", "```tool_code\nf(a=1)\n```", "", [F]),
    ("gemma", "```tool_code\n[f(a=1), g()]\n```", "", [F, G]),
    ("gemma", '```json\n{"colour": "red"}\n```', '```json\n{"colour": "red"}\n```', []),
    ("gemma-python", "[f(a=1), g()]", "", [F, G]),
    (
        "function-gemma",
        '<start_function_call>call:f{a:[1.5,null,true],b:{c:<escape>say "ü" <b>\n<escape>}}<end_function_call>',
        "",
        [RICH],
    ),
    (
        "function-gemma",
        "<start_function_call>call:h{}<end_function_call>",
        "<start_function_call>call:h{}<end_function_call>",
        [],
    ),
    ("gemma4", "<|tool_call>call:f{a:1}<tool_call|><|tool_call>call:g{}<tool_call|>", "", [F, G]),
    ("gemma4", '<|tool_call>call:f{<|"|>a<|"|>:<|"|>x<|y"<|"|>}<tool_call|>', "", [("f", {"a": 'x<|y"'})]),
]


def parse(family: str, pieces: list[str]) -> tuple[str, list[tuple[str, object]], bool]:
    parser = ToolCallParser(DIALECTS[family], {"f", "g"})
    parts = [parser.feed(piece) for piece in pieces] + [parser.flush()]
    calls = join_calls(call for part in parts for call in part.calls)
    assert len({call.id for call in calls}) == len(calls)
    return "".join(part.text for part in parts), [(one.name, json.loads(one.arguments)) for one in calls], parser.found


@pytest.mark.parametrize(("family", "answer", "text", "calls"), ANSWERS)
def test_calls_are_read_whole_and_letter_by_letter(
    family: str, answer: str, text: str, calls: list[tuple[str, object]]
) -> None:
    assert parse(family, [answer]) == (text, calls, bool(calls))
    assert parse(family, list(answer)) == (text, calls, bool(calls))


@given(st.sampled_from(ANSWERS), st.data())
@settings(max_examples=60)
def test_any_cut_gives_the_same(case: tuple[str, str, str, list[tuple[str, object]]], data: st.DataObject) -> None:
    family, answer, text, calls = case
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=6)))
    bounds = [0, *cuts, len(answer)]
    pieces = [answer[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
    assert parse(family, pieces) == (text, calls, bool(calls))


@pytest.mark.parametrize("family", sorted(DIALECTS))
@given(
    text=st.lists(st.sampled_from([*(answer for _, answer, _, _ in ANSWERS), "<", "[", "{", "`", " x"]), max_size=4),
    is_single=st.booleans(),
    is_formatted=st.booleans(),
)
@settings(max_examples=16)
def test_no_dialect_loses_text_or_stumbles(
    family: str, text: list[str], *, is_single: bool, is_formatted: bool
) -> None:
    whole = "".join(text)
    parser, letters = (
        ToolCallParser(DIALECTS[family], {"f", "g"}, is_single=is_single, is_formatted=is_formatted) for _ in range(2)
    )
    one = [parser.feed(whole), parser.flush()]
    many = [*map(letters.feed, whole), letters.flush()]
    assert "".join(part.text for part in one) == "".join(part.text for part in many)
    if not parser.found:
        assert not join_calls(call for part in one for call in part.calls)
        assert "".join(part.text for part in one) == whole


@pytest.mark.parametrize(("family", "template"), [(name, one) for name, all_ in FAMILIES.items() for one in all_])
def test_a_family_is_recognised_by_its_template(family: str, template: str) -> None:
    assert recognise(template, ()).name == family


@pytest.mark.parametrize("family", ["llama", "mistral", "mistral-named", "phi", "granite", "gemma", "gemma4"])
def test_a_family_is_recognised_by_its_tokens_where_the_template_says_nothing(family: str) -> None:
    assert recognise("{{ messages }}", TOKENS[family]).name == family


def test_what_nobody_knows_writes_as_hermes_does() -> None:
    assert recognise("", ()) is HERMES


def test_a_card_says_it_against_the_template(tmp_path: Path) -> None:
    assert find_voice(tmp_path, QWEN, {}).dialect is HERMES
    (tmp_path / "card.toml").write_text('name = "x"\ndialect = "mistral"\n')
    assert find_voice(tmp_path, QWEN, {}).dialect is MISTRAL


@pytest.mark.parametrize(
    ("card", "named"), [('dialect = "klingon"', "no dialect 'klingon'"), ("dialect = 3", "card.toml"), ("[", "card")]
)
def test_a_card_that_names_no_family_does_not_load(card: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(card)
    with pytest.raises(LoadFailed, match=named):
        find_voice(tmp_path, QWEN, {})


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_no_mark_in_what_a_caller_writes_becomes_a_control_token(family: str, tmp_path: Path) -> None:
    model = text_model(tmp_path, family)
    marks = "".join(sorted(model.voice.spellings | set(TOKENS[family]))) + "<think></think>"
    tools = (Tool(f"f{marks}", marks, {"type": "object", "properties": {marks: {"description": marks}}}),)

    def tokens(text: str) -> list[int]:
        asked = Message(Role.USER, text, name=text)
        called = Message(Role.ASSISTANT, None, tool_calls=(ToolCall("abcdefghi", "f", json.dumps({"a": "x"})),))
        told = Message(Role.TOOL, text, tool_call_id="abcdefghi")
        chat = Chat((Message(Role.SYSTEM, text), asked, called, told), tools if text else (Tool("f", "", {}),))
        return [token for token in model.encode_chat(chat) if token >= 261]

    assert tokens(marks) == tokens("")


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"phi-functools", "gemma", "gemma-python"}))
def test_a_mark_that_is_a_special_token_is_read_all_the_same(family: str, tmp_path: Path) -> None:
    model = text_model(tmp_path, family)
    answer = next(answer for name, answer, _, calls in ANSWERS if name == family and calls)
    request = GenerationRequest(Chat((), (Tool("f"), Tool("g"))))
    told = begin_answer(request, model.voice, ReasoningState.OVER, model.detokenizer())
    parts = [told.feed(token) for token in model.encode_text(answer)] + [told.flush()]
    assert told.has_calls
    assert "".join(part.text for part in parts) == ""


CALLED = Message(Role.ASSISTANT, None, tool_calls=(ToolCall("call_0123456789", "f", '{"a": 1}'),))
RESULT = Message(Role.TOOL, "five", tool_call_id="call_0123456789")
TOLD = Chat((Message(Role.USER, "hi"), CALLED, RESULT, Message(Role.USER, "and?")), (Tool("f", "Does f."),))


def test_mistral_has_ids_of_nine_letters_and_makes_others_so(tmp_path: Path) -> None:
    model = text_model(tmp_path, "mistral")
    parser = ToolCallParser(model.voice.dialect)
    (piece, *_) = parser.feed('[TOOL_CALLS][{"name": "f", "arguments": {}}]').calls
    assert len(piece.id) == 9
    assert piece.id.isalnum()
    text = model.decode(model.encode_chat(TOLD))
    assert "call_0123456789" not in text
    call_id = text.split('"id": "')[1][:9]
    assert f"[TOOL_RESULTS]{call_id}|five" in text
    own = Chat((Message(Role.USER, "hi"), Message(Role.ASSISTANT, tool_calls=(ToolCall(piece.id, "f", "{}"),))))
    assert f'"id": "{piece.id}"' in model.decode(model.encode_chat(own))


def test_tools_are_told_in_a_system_message_where_the_template_has_no_place_for_them(tmp_path: Path) -> None:
    model = text_model(tmp_path, "gemma", GEMMA)
    assert not model.shows_tools
    text = model.decode(model.encode_chat(TOLD))
    system, *turns = text.split("<start_of_turn>")[1:]
    assert system.startswith("system\nYou can call the following tools.")
    assert '{"name": "f", "description": "Does f.", "parameters": {}}' in system
    assert '"parameters": {...}' in system
    assert turns == [
        "user\nhi<end_of_turn>\n",
        'model\n{"name": "f", "parameters": {"a": 1}}<end_of_turn>\n',
        "user\n<tool_response>\nfive\n</tool_response>\n\nand?<end_of_turn>\n",
        "model\n",
    ]


def test_a_system_message_that_there_is_stays_beside_the_tools(tmp_path: Path) -> None:
    model = text_model(tmp_path, "gemma", GEMMA)
    chat = Chat((Message(Role.SYSTEM, "Be kind."), Message(Role.USER, "hi")), (Tool("f"),))
    text = model.decode(model.encode_chat(chat))
    assert text.count("<start_of_turn>system") == 1
    assert "Be kind.<end_of_turn>" in text


def test_a_template_that_shows_tools_is_left_alone(tmp_path: Path) -> None:
    model = text_model(tmp_path, "llama", LLAMA)
    assert model.shows_tools
    text = model.decode(model.encode_chat(Chat((Message(Role.USER, "hi"),), (Tool("f"),))))
    assert "You can call the following tools" not in text


def test_phi_finds_the_tools_in_its_system_message(tmp_path: Path) -> None:
    model = text_model(tmp_path, "phi", PHI)
    chat = Chat((Message(Role.USER, "hi"),), (Tool("f", "Does f.", {}),))
    tools = '[{"name": "f", "description": "Does f.", "parameters": {}}]'
    assert (
        model.decode(model.encode_chat(chat))
        == f"<|system|><|tool|>{tools}<|/tool|><|end|><|user|>hi<|end|><|assistant|>"
    )


def test_a_family_without_json_cannot_be_told_of_in_words(tmp_path: Path) -> None:
    model = text_model(tmp_path, "gemma4", MISTRAL_NAMED.replace("tools", "gadgets") + "{# <|tool_call> #}")
    (tmp_path / "card.toml").write_text('dialect = "gemma4"')
    model = TextModel(tmp_path)
    with pytest.raises(InvalidRequest, match="no place for tools"):
        model.encode_chat(Chat((Message(Role.USER, "hi"),), (Tool("f"),)))


@pytest.mark.parametrize("arguments", ["[" * 100_000, '{"a": ' * 989 + "1" + "}" * 989])
@pytest.mark.parametrize("family", ["olmo", "qwen-xml"])
def test_calls_nested_beyond_what_can_be_read_do_not_end_the_worker(family: str, arguments: str) -> None:
    try:
        assert write_calls([("f", arguments)], DIALECTS[family].writing)
    except InvalidRequest as error:
        assert "nested too deeply" in str(error)
