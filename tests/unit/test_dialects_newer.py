"""How the families of 2025 and later write calls: read however the text is cut, recognised by template or tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_lite.engine.reasoning import ReasoningState
from foundry_lite.engine.tool_calls.declared_types import kinds_of
from foundry_lite.engine.tool_calls.detect import DIALECTS, recognise
from foundry_lite.engine.tool_calls.parser import ToolCallParser
from foundry_lite.engine.worker.output_processor import begin_answer
from foundry_lite.generation import Chat, GenerationRequest, Message, Role, Tool, ToolCall, join_calls
from tests.unit.newer_dialect_templates import FAMILIES, LFM25, TOKENS, text_model

SCHEMAS = {
    "f": {
        "properties": {
            "s": {"type": "string"},
            "t": {"type": ["string", "null"]},
            "n": {"type": "integer"},
            "l": {"type": "array"},
        }
    },
    "g": None,
}

Call = tuple[str, object]
Case = tuple[str, str, str, list[Call]]

F: Call = ("f", {"a": 1})
G: Call = ("g", {})
RICH: Call = ("f", {"a": [1.5, None, True], "b": {"c": 'say "ü" <b>\n'}})
_PYTHON = "f(a=[1.5, None, True], b={'c': 'say \"ü\" <b>\\n'})"

# The family, an answer of it, and the text and the calls in that.
ANSWERS: list[Case] = [
    ("lfm2", f"<|tool_call_start|>[{_PYTHON}, g()]<|tool_call_end|>", "", [RICH, G]),
    ("lfm2", "<|tool_call_start|>[f(a=1)]<|tool_call_end|>I look.", "I look.", [F]),
    ("lfm2", 'Well.<|tool_call_start|>[{"name": "f", "arguments": {"a": 1}}]<|tool_call_end|>', "Well.", [F]),
    (
        "lfm2",
        r"""<|tool_call_start|>[f(s='sed -n '3,4p' it's', t="a "b" \" c" , a=['x', 'y'])]<|tool_call_end|>""",
        "",
        [("f", {"s": "sed -n '3,4p' it's", "t": 'a "b" " c', "a": ["x", "y"]})],
    ),
    ("lfm2", "<|tool_call_start|>[f(a='x''y')]<|tool_call_end|>", "", [("f", {"a": "x''y"})]),
    ("lfm2", "<|tool_call_start|>[f(a=b)]<|tool_call_end|>", "b)]<|tool_call_end|>", []),
    ("lfm2", "<|tool_call_start|>[h()]<|tool_call_end|>", "<|tool_call_start|>[h()]<|tool_call_end|>", []),
]
_LINES = "<x>\n</param>\n\n</parameter"
_XML: list[tuple[str, str, list[Call]]] = [
    ("<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>", "", [F]),
    ("Hm.\n<tool_call><function=g></function></tool_call>\nSo.", "Hm.\nSo.", [G]),
    (
        f"<tool_call>\n<function=f>\n<parameter=s>\n{_LINES}\n</parameter>\n<parameter=a>\n[1, True]\n</parameter>\n"
        "</function>\n</tool_call>",
        "",
        [("f", {"s": _LINES, "a": [1, True]})],
    ),
    (
        "<tool_call><function=f><parameter=s>5</parameter><parameter=t>5</parameter><parameter=n>5</parameter>"
        '<parameter=a>"5"</parameter></function></tool_call>',
        "",
        [("f", {"s": "5", "t": "5", "n": 5, "a": "5"})],
    ),
    (
        '<tool_call><function=f><parameter=s>say "ü"\\</parameter><parameter=t>None</parameter><parameter=n>five'
        "</parameter></function></tool_call>",
        "",
        [("f", {"s": 'say "ü"\\', "t": None, "n": "five"})],
    ),
    ("<tool_call><function=g></function><function=f><parameter=a>1</parameter></function></tool_call>", "", [G, F]),
    ("<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</tool_call>", "", [F]),
    ("<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>", "", [F]),
    ("<function=g></function>", "", [G]),
    ('<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', "", [F]),
    ("<tool_call><function=h></function></tool_call>", "<tool_call><function=h></function></tool_call>", []),
    ("<tool_call><function=f>{}</function></tool_call>", "<tool_call><function=f>{}</function></tool_call>", []),
    ("<function=f> is a tag", "<function=f> is a tag", []),
]
ANSWERS += [("qwen-xml", *one) for one in _XML]
_CALLS, _CALL, _SEP, _END, _ENDS = tuple(TOKENS["deepseek"])[:5]
_FENCED = f"function{_SEP}f\n```json\n{json.dumps(RICH[1])}\n```"
_DEEPSEEK: list[tuple[str, str, list[Call]]] = [
    (f"{_CALLS}{_CALL}{_FENCED}{_END}{_ENDS}", "", [RICH]),
    (f"So.{_CALLS}{_CALL}{_FENCED}{_END}\n{_CALL}function{_SEP}g\n```json\n{{}}\n```{_END}{_ENDS}", "So.", [RICH, G]),
    (f'{_CALLS}{_CALL}f{_SEP}{{"a": 1}}{_END}{_CALL}g{_SEP}{{}}{_END}{_ENDS}', "", [F, G]),
    (f'{_CALLS}{_CALL}f{_SEP}{{"a": 1}}', "", [F]),
    (f"{_CALLS}{_CALL}h{_SEP}{{}}{_END}{_ENDS}", f"{_CALLS}{_CALL}h{_SEP}{{}}{_END}{_ENDS}", []),
    (f'{_CALLS}{_CALL}function{_SEP}f\n```json\n"{{\\"a\\": 1}}"\n```{_END}{_ENDS}', "", [F]),
    (f"{_CALLS}{_ENDS}", f"{_CALLS}{_ENDS}", []),
    (f"{_CALLS}none", f"{_CALLS}none", []),
]
ANSWERS += [(family, *one) for family in ("deepseek", "deepseek-3.1") for one in _DEEPSEEK]
_LIST = '[{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]'
ANSWERS += [
    ("minicpm", f"<|tool_call_start|>\n```python\n{_PYTHON}\ng()\n```\n<|tool_call_end|>\n", "", [RICH, G]),
    ("minicpm", "<|tool_call_start|>\n```python\nimport os\n```", "<|tool_call_start|>\n```python\nimport os\n```", []),
    ("olmo", f"<function_calls>\n{_PYTHON}\ng()\n</function_calls>", "", [RICH, G]),
    ("olmo", "So.\n<function_calls>\nf(a=1)\n</function_calls>\nDone.", "So.\nDone.", [F]),
    ("olmo", "<function_calls>\nprint(1)\n</function_calls>", "<function_calls>\nprint(1)\n</function_calls>", []),
    (
        "hunyuan",
        '<tool_calls><tool_call>f\n```json\n{"a": 1}\n```</tool_call>'
        "<tool_call>g\n```json\n{}\n```</tool_call></tool_calls>",
        "",
        [F, G],
    ),
    ("hunyuan", f"<tool_calls>{_LIST}</tool_calls>", "", [F, G]),
    ("hunyuan", "<tool_calls></tool_calls>", "<tool_calls></tool_calls>", []),
    ("jamba", f"Yes. <tool_calls>\n{_LIST}\n</tool_calls>", "Yes. ", [F, G]),
    ("jamba", f"<tool_calls>{_LIST}</tool_calls>", "", [F, G]),
    ("nemotron", f"<TOOLCALL>{_LIST}</TOOLCALL>", "", [F, G]),
    ("nemotron", '<toolcall> {"type": "function", "name": "f", "arguments": {"a": 1}} </toolcall>', "", [F]),
    (
        "glm",
        "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>\n<tool_call>g\n</tool_call>",
        "",
        [F, G],
    ),
    (
        "glm",
        "\n<tool_call>f<arg_key>s</arg_key><arg_value>\n5 <b>\n</arg_value>"
        "<arg_key>n</arg_key><arg_value>5</arg_value></tool_call>",
        "\n",
        [("f", {"s": "\n5 <b>\n", "n": 5})],
    ),
    ("glm", "<tool_call>h</tool_call>", "<tool_call>h</tool_call>", []),
    (
        "seed",
        "Well.<seed:tool_call>\n<function=f>\n<parameter=s>\n5</parameter>\n<parameter=n>5</parameter>\n</function>\n"
        "</seed:tool_call>\n<seed:tool_call>\n<function=g>\n</function>\n</seed:tool_call>",
        "Well.",
        [("f", {"s": "\n5", "n": 5}), G],
    ),
    (
        "seed",
        "<seed:tool_call><function=f><parameter=n>5</parameter></function></seed:tool_call>",
        "",
        [("f", {"n": 5})],
    ),
    ("seed", "<seed:tool_call>h</seed:tool_call>", "<seed:tool_call>h</seed:tool_call>", []),
    (
        "minicpm-xml",
        'Well.\n<function name="f"><param name="s"><![CDATA[a <b>\n]]></param><param name="t">None</param>'
        '<param name="l">[\'a\', {"b": None}]</param></function>\n<function name="g"></function>',
        "Well.\n",
        [("f", {"s": "a <b>\n", "t": None, "l": ["a", {"b": None}]}), G],
    ),
    (
        "minicpm-xml",
        '<function name="f"><param name="s"><![CDATA[a</param></function>',
        "",
        [("f", {"s": "<![CDATA[a"})],
    ),
    ("minicpm-xml", '<function name="h"></function>', '<function name="h"></function>', []),
    (
        "qwen-xml",
        "<tool_call><function=f><parameter=l>['a', True]</parameter></function></tool_call>",
        "",
        [("f", {"l": ["a", True]})],
    ),
    ("xlam", _LIST, "", [F, G]),
    ("xlam", f"```json\n{_LIST}\n```", "", [F, G]),
    ("xlam", "[]", "[]", []),
    ("internlm", 'So.<|action_start|><|plugin|>\n{"name": "f", "parameters": {"a": 1}}<|action_end|>', "So.", [F]),
    ("internlm", '<|action_start|><|plugin|>{"name": "f", "parameters": {"a": 1}}<|action_end|>', "", [F]),
]
_HEADER = "<|start|>assistant<|channel|>commentary to=functions."
ANSWERS += [
    ("gpt-oss", f'{_HEADER}f <|constrain|>json<|message|>{{"a": 1}}<|call|>', "", [F]),
    ("gpt-oss", "<|start|>assistant to=functions.g<|channel|>commentary json<|message|>{}<|call|>", "", [G]),
    ("gpt-oss", f"{_HEADER}h<|message|>{{}}<|call|>", f"{_HEADER}h<|message|>{{}}<|call|>", []),
    ("gpt-oss", f"{_HEADER}f<|message|>a<|call|>", f"{_HEADER}f<|message|>a<|call|>", []),
]


def parse(family: str, pieces: list[str]) -> tuple[str, list[Call], bool]:
    parser = ToolCallParser(DIALECTS[family], {"f", "g"}, schemas=SCHEMAS)
    parts = [parser.feed(piece) for piece in pieces] + [parser.flush()]
    calls = join_calls(call for part in parts for call in part.calls)
    assert len({call.id for call in calls}) == len(calls)
    whole = [(one.name, json.loads(one.arguments)) for one in calls] if parser.found else []
    return "".join(part.text for part in parts), whole, parser.found


@pytest.mark.parametrize(("family", "answer", "text", "calls"), ANSWERS)
def test_calls_are_read_whole_and_letter_by_letter(family: str, answer: str, text: str, calls: list[Call]) -> None:
    assert parse(family, [answer]) == (text, calls, bool(calls))
    assert parse(family, list(answer)) == (text, calls, bool(calls))


@given(st.sampled_from(ANSWERS), st.data())
@settings(max_examples=60)
def test_any_cut_gives_the_same(case: Case, data: st.DataObject) -> None:
    family, answer, text, calls = case
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=6)))
    bounds = [0, *cuts, len(answer)]
    pieces = [answer[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
    assert parse(family, pieces) == (text, calls, bool(calls))


@pytest.mark.parametrize("family", FAMILIES)
@given(text=st.lists(st.sampled_from([*(answer for _, answer, _, _ in ANSWERS), "<", "[", "{", "`", " x"]), max_size=4))
@settings(max_examples=12)
def test_no_dialect_loses_text_or_stumbles(family: str, text: list[str]) -> None:
    whole = "".join(text)
    parser, letters = (ToolCallParser(DIALECTS[family], {"f", "g"}, schemas=SCHEMAS) for _ in range(2))
    one = [parser.feed(whole), parser.flush()]
    many = [*map(letters.feed, whole), letters.flush()]
    assert "".join(part.text for part in one) == "".join(part.text for part in many)
    if not join_calls(call for part in one for call in part.calls):
        assert "".join(part.text for part in one) == whole


@pytest.mark.parametrize(("family", "template"), [(name, one) for name, all_ in FAMILIES.items() for one in all_])
def test_a_family_is_recognised_by_its_template(family: str, template: str) -> None:
    assert recognise(template, ()).name == family


@pytest.mark.parametrize("family", ["lfm2", "deepseek", "gpt-oss"])
def test_a_family_is_recognised_by_its_tokens_where_the_template_says_nothing(family: str) -> None:
    assert recognise("{{ messages }}", TOKENS[family]).name == family


@pytest.mark.parametrize(
    "template",
    [
        "[|system|]\n# Available Tools\n{{ tools }}<tool_call>{}</tool_call>[|endofturn|]<tool_result>",
        "<|begin_of_sentence|>{{ tools }}<tool_call>\n{}\n</tool_call>\n<tool_output>",
        "<|begin_of_tool_description|>{{ tools }}```json\n{}\n```<tool_call>{}</tool_call><|end_of_tool_description|>",
    ],
    ids=["EXAONE 4", "ERNIE 4.5", "Youtu"],
)
def test_families_that_write_as_hermes_does_are_taken_for_it(template: str) -> None:
    assert recognise(template, ()).name == "hermes"


def test_tokens_tell_a_family_that_speaks_as_many_do() -> None:
    assert recognise(LFM25, TOKENS["lfm2"]).name == "lfm2"
    assert recognise(LFM25, ()).name == "hermes"


@pytest.mark.parametrize("family", FAMILIES)
def test_no_mark_in_what_a_caller_writes_becomes_a_control_token(family: str, tmp_path: Path) -> None:
    model = text_model(tmp_path, family)
    marks = "".join(sorted(model.voice.spellings | set(TOKENS[family]))) + "<think></think>"
    tools = (Tool(f"f{marks}", marks, {"type": "object", "properties": {marks: {"description": marks}}}),)

    def tokens(text: str) -> list[int]:
        asked = Message(Role.USER, text, name=text)
        called = Message(Role.ASSISTANT, "", tool_calls=(ToolCall("abcdefghi", "f", json.dumps({"a": "x"})),))
        told = Message(Role.TOOL, text, tool_call_id="abcdefghi")
        chat = Chat((Message(Role.SYSTEM, text), asked, called, told), tools if text else (Tool("f", "", {}),))
        return [token for token in model.encode_chat(chat) if token >= 261]

    assert tokens(marks) == tokens("")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mark_that_is_a_special_token_is_read_all_the_same(family: str, tmp_path: Path) -> None:
    model = text_model(tmp_path, family)
    answer = next(answer for name, answer, text, calls in ANSWERS if name == family and calls and not text)
    request = GenerationRequest(Chat((), (Tool("f"), Tool("g"))))
    told = begin_answer(request, model.voice, ReasoningState.OVER, model.detokenizer())
    parts = [told.feed(token) for token in model.encode_text(answer)] + [told.flush()]
    assert told.has_calls
    assert "".join(part.text for part in parts) == ""


def test_a_string_in_tags_is_told_while_it_comes_and_other_values_when_they_are_whole() -> None:
    parser = ToolCallParser(DIALECTS["qwen-xml"], {"f"}, schemas=SCHEMAS)
    parser.feed("<tool_call>\n<function=f>\n<parameter=s>\n")
    assert [piece.arguments for piece in parser.feed("a\nb<").calls] == ['"a\\nb']
    assert [piece.arguments for piece in parser.feed("/p>\n").calls] == ["</p>"]
    assert [piece.arguments for piece in parser.feed("</parameter>\n<parameter=n>\n12").calls] == ['", "n": ']
    assert [piece.arguments for piece in parser.feed("\n</parameter>").calls] == ["12"]


@pytest.mark.parametrize(
    ("declared", "kinds"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"type": "string", "nullable": True}, {"string", "null"}),
        ({"enum": ["a", "b"]}, {"string"}),
        (
            {"enum": ["a", 1, None, True, 1.5, [], {}]},
            {"string", "integer", "null", "boolean", "number", "array", "object"},
        ),
        ({"const": 1}, {"integer"}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"string", "null"}),
        ({"oneOf": [{"type": "string"}, {}]}, set()),
        ({"$ref": "#/$defs/room"}, {"string"}),
        ({"$ref": "#/$defs/loop"}, set()),
        ({"$ref": "#/$defs/none"}, set()),
        ({"$ref": "http://x"}, set()),
        ({"anyOf": "x"}, set()),
        ({}, set()),
        (True, set()),
    ],
)
def test_the_kinds_of_a_parameter_are_those_that_its_schema_allows(declared: object, kinds: set[str]) -> None:
    defs = {"room": {"enum": ["kitchen"]}, "loop": {"$ref": "#/$defs/loop"}}
    assert kinds_of({"properties": {"a": declared}, "$defs": defs}, "a") == kinds


@pytest.mark.parametrize("schema", [None, {}, {"properties": []}, {"properties": {"b": {}}}, True])
def test_a_schema_that_says_nothing_of_a_parameter_allows_any_kind(schema: object) -> None:
    assert kinds_of(schema, "a") == set()
