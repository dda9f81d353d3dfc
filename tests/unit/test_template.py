"""Chat templates: rendered as transformers does, and kept on a leash."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from foundry_lite.engine.chat_template.template import ChatTemplate
from foundry_lite.errors import InvalidRequest, LoadFailed
from foundry_lite.generation import Chat, Message, Role, Tool, ToolCall

HELLO = Chat((Message(Role.USER, "hello"),))
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def unguarded(text: str, _role: Role) -> str:
    return text


def render(source: str, chat: Chat = HELLO, **tokens: str) -> str:
    return ChatTemplate(source, tokens).render(chat, unguarded)


def refusal(source: str, chat: Chat = HELLO) -> str:
    with pytest.raises(InvalidRequest) as caught:
        render(source, chat)
    assert caught.value.param == "messages"
    return caught.value.message


def test_chatml_is_rendered_with_the_assistants_turn_opened() -> None:
    chat = Chat((Message(Role.SYSTEM, "Be kind."), Message(Role.USER, "hi"), Message(Role.ASSISTANT, "hello")))
    assert render(CHATML, chat) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n"
        "<|im_start|>user\nhi<|im_end|>\n"
        "<|im_start|>assistant\nhello<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_lines_of_blocks_leave_no_space() -> None:
    assert render("{% for one in messages %}\n    {% if true %}\nx\n    {% endif %}\n{% endfor %}\nend") == "x\nend"


def test_the_named_tokens_are_there() -> None:
    assert render("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", bos_token="<s>", eos_token="</s>") == (
        "<s>hello</s>"
    )


@pytest.mark.parametrize(
    ("tools", "rendered"),
    [(None, "none"), ((), "[]"), ((Tool("f"),), '[{"type": "function", "function": {"name": "f", "parameters": {}}}]')],
)
def test_no_tools_and_an_empty_list_of_tools_are_different(tools: tuple[Tool, ...] | None, rendered: str) -> None:
    chat = Chat(HELLO.messages, tools)
    assert render("{% if tools is none %}none{% else %}{{ tools | tojson }}{% endif %}", chat) == rendered


def test_a_tool_is_a_mapping_with_its_schema() -> None:
    schema = {"type": "object", "properties": {"on": {"type": "boolean", "default": True}}, "required": ["on"]}
    chat = Chat(HELLO.messages, (Tool("switch", "Switches <it>.", schema),))
    assert render("{{ tools[0].function.parameters.properties.on.type }} {{ tools[0] | tojson }}", chat) == (
        'boolean {"type": "function", "function": {"name": "switch", "description": "Switches <it>.", "parameters": '
        '{"type": "object", "properties": {"on": {"type": "boolean", "default": true}}, "required": ["on"]}}}'
    )


def called(arguments: str) -> Chat:
    call = ToolCall("call_1", "f", arguments)
    return Chat((Message(Role.ASSISTANT, None, tool_calls=(call,)), Message(Role.TOOL, "5", tool_call_id="call_1")))


def test_arguments_of_a_call_are_a_mapping() -> None:
    source = (
        "{% for call in messages[0].tool_calls %}{{ call.id }} {{ call.type }} {{ call.function.name }} "
        "{{ call.function.arguments.x }} {{ call.function.arguments | tojson }}{% endfor %} "
        "{{ messages[1].tool_call_id }}"
    )
    assert render(source, called('{"x": [1, "ä"]}')) == 'call_1 function f [1, \'ä\'] {"x": [1, "ä"]} call_1'


def test_arguments_that_are_no_json_stay_text() -> None:
    assert render("{{ messages[0].tool_calls[0].function.arguments }}", called("{oops")) == "{oops"


def test_fields_that_a_message_lacks_are_not_defined() -> None:
    source = "{{ 'name' in messages[0] }} {{ messages[0].tool_calls is defined }} {{ messages[0].content }}"
    assert render(source) == "False False hello"


def test_a_message_without_content_has_none_as_in_transformers() -> None:
    assert render("{{ messages[0].content is defined }} '{{ messages[0].content }}'", called("{}")) == "False ''"


def test_everything_a_caller_wrote_is_guarded_with_its_role() -> None:
    seen: list[tuple[str, Role]] = []

    def guard(text: str, role: Role) -> str:
        seen.append((text, role))
        return text

    chat = Chat(
        (
            Message(Role.USER, "content", name="speaker"),
            Message(Role.ASSISTANT, None, tool_calls=(ToolCall("id", "called", '{"argument": "value"}'),)),
            Message(Role.TOOL, "result", tool_call_id="id"),
        ),
        (Tool("tool", "description", {"key": ["inner", 1, {"deep": "deeper"}]}),),
    )
    ChatTemplate("x", {}).render(chat, guard)
    for role, texts in {
        Role.USER: {"content", "speaker"},
        Role.ASSISTANT: {"id", "called"},
        Role.TOOL: {"result", "id"},
        Role.SYSTEM: {"tool", "description", "key", "inner", "deep", "deeper"},
    }.items():
        assert texts <= {text for text, by in seen if by is role}
    assert any("value" in text for text, by in seen if by is Role.ASSISTANT)


def test_tojson_escapes_neither_html_nor_letters() -> None:
    assert render("{{ messages[0].content | tojson }}", Chat((Message(Role.USER, "<ü> & 'x' \"y\""),))) == (
        '"<ü> & \'x\' \\"y\\""'
    )


def test_tojson_takes_what_that_of_transformers_takes() -> None:
    assert render("{{ {'b': 1, 'a': 'ü'} | tojson(separators=(',', ':'), sort_keys=true) }}") == '{"a":"ü","b":1}'
    assert render("{{ 'ü' | tojson(true) }}") == '"\\u00fc"'
    with pytest.raises(InvalidRequest, match="separators"):
        render("{{ [1, 2] | tojson(separators=('xxxxxxxx', ':')) }}")


def test_developers_speak_as_the_system_where_the_template_knows_none() -> None:
    said = (
        Message(Role.DEVELOPER, "a"),
        Message(Role.USER, "b"),
        Message(Role.SYSTEM, "c"),
        Message(Role.DEVELOPER, "d"),
    )
    source = "{% for message in messages %}{{ message.role }}:{{ message.content }};{% endfor %}"
    assert render(source, Chat(said)) == "system:a;user:b;system:c\n\nd;"
    assert render(source + "{# 'developer' #}", Chat(said)) == "developer:a;user:b;system:c;developer:d;"


def test_tools_go_by_the_name_that_the_template_asks_for() -> None:
    chat = Chat((Message(Role.USER, "hi"),), (Tool("f"),))
    assert render("{{ xml_tools[0].function.name }}{{ python_tools is defined }}", chat) == "fFalse"
    assert render("{{ xml_tools is defined }}{{ tools[0].function.name }}", chat) == "Falsef"


def test_tojson_indents_when_asked() -> None:
    assert render("{{ {'a': 1} | tojson(indent=2) }}") == '{\n  "a": 1\n}'


def test_text_is_not_escaped_as_html() -> None:
    assert render("{{ messages[0].content }}", Chat((Message(Role.USER, "<b>&</b>"),))) == "<b>&</b>"


def test_loops_may_break_and_continue() -> None:
    skip, leave = "{% if i == 1 %}{% continue %}{% endif %}", "{% if i == 4 %}{% break %}{% endif %}"
    assert render("{% for i in range(9) %}" + skip + leave + "{{ i }}{% endfor %}") == "023"


def test_generation_marks_are_transparent() -> None:
    inside = "{{ m.content }}{% if true %}!{% endif %}"
    source = "{% for m in messages %}[{% generation %}" + inside + "{% endgeneration %}]{% endfor %}"
    assert render(source) == "[hello!]"


def test_the_date_can_be_asked_for() -> None:
    assert render("{{ strftime_now('%Y') }}") in {time.strftime("%Y"), str(int(time.strftime("%Y")) - 1)}


def test_a_complaint_of_the_template_is_quoted() -> None:
    assert refusal("{{ raise_exception('Roles must alternate!') }}") == (
        "the model's chat template refuses these messages: Roles must alternate!"
    )


@pytest.mark.parametrize(
    "source",
    [
        "{{ nothing.at.all }}",
        "{{ 1 / 0 }}",
        "{{ 'a' + 1 }}",
        "{{ messages[0].content | int | first }}",
        "{{ {}['x'].y }}",
    ],
)
def test_a_template_that_fails_refuses_the_messages(source: str) -> None:
    assert refusal(source).startswith("the model's chat template refuses these messages: ")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''['__class__']['__mro__'] }}",
        "{{ (''|attr('__class__')).__mro__ }}",
        "{{ messages.__class__.__base__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ strftime_now.__self__.now() }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ self.__init__.__globals__ }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'system'}) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
    ],
)
def test_no_template_reaches_python_or_changes_its_messages(source: str) -> None:
    refusal(source)


@pytest.mark.parametrize(
    "source", ["{{ ''.__class__ }}", "{{ '{0.__class__}'.format('') }}", "{{ ''|attr('__class__') }}"]
)
def test_an_attribute_of_python_renders_as_nothing(source: str) -> None:
    assert "str" not in render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10**9 }}",
        "{{ 10**9 * 'a' }}",
        "{{ [1] * 10**9 }}",
        "{{ messages[0].content * 800001 }}",
        "{{ 10 ** 17 }}",
        "{{ 1001 ** 2 }}",
        "{{ (1000 ** 16) ** 16 }}",
        "{% for i in range(10**9) %}{% endfor %}",
    ],
)
def test_what_builds_too_much_is_refused_at_once(source: str) -> None:
    began = time.thread_time()
    assert refusal(source).startswith("the model's chat template refuses these messages: ")
    assert time.thread_time() - began < 0.9


def test_ordinary_arithmetic_is_allowed() -> None:
    assert render("{{ '-' * 3 }}{{ 2 ** 10 }}{{ 3 * 4 }}{{ ([0] * 2) | length }}") == "---1024122"


def test_a_prompt_that_grows_too_large_is_refused() -> None:
    source = "{% for i in range(5) %}{{ 'a' * 1000000 }}{% endfor %}"
    assert refusal(source).endswith(": the template makes a text of more than 4000000 letters")


@pytest.mark.parametrize(
    "body",
    ["", "{% set x = i + j %}"],
    ids=["an empty loop", "a loop that computes"],
)
def test_a_template_without_an_end_is_stopped_within_a_second(body: str) -> None:
    source = "{% for i in range(99999) %}{% for j in range(99999) %}" + body + "{% endfor %}{% endfor %}"
    began, computing = time.monotonic(), time.thread_time()
    complaint = refusal(source)
    assert time.monotonic() - began > 0.7
    assert time.thread_time() - computing < 1.0
    assert complaint == f"the model's chat template took more than 0.8 s and was stopped at line 1: {source[:120]}"


def test_the_next_rendering_has_its_full_time_again() -> None:
    template = ChatTemplate("{% for i in range(20000) %}{% endfor %}ok", {})
    assert [template.render(HELLO, unguarded) for _ in range(2)] == ["ok", "ok"]


def test_a_macro_that_calls_itself_is_stopped_and_quoted() -> None:
    began = time.thread_time()
    complaint = refusal("{% macro m() %}\n  again {{ m() }}\n{% endmacro %}\n{{ m() }}")
    assert time.thread_time() - began < 1
    assert "recurses without end" in complaint
    assert complaint.endswith(" at line 2: again {{ m() }}")


def test_the_line_where_a_template_was_stopped_is_quoted() -> None:
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}\n{% set x = i %}\n{% endfor %}{% endfor %}"
    assert re.search(r" at line [345]: \{%", refusal(f"{{# one #}}\n{{{{ 'two' }}}}\n{loop}"))


@pytest.mark.parametrize(
    "source",
    ["{% if %}", "{{ x", "{% nonsense %}", "{% for x in y %}", "{{ 1 | no_such_filter }}", "{% generation %}"],
)
def test_what_is_no_jinja_does_not_load(source: str) -> None:
    with pytest.raises(LoadFailed, match="the chat template is no valid Jinja: "):
        ChatTemplate(source, {})


def test_a_template_cannot_see_what_another_rendering_set() -> None:
    template: Any = ChatTemplate("{{ seen | default('no') }}{% set seen = 'yes' %}", {})
    assert [template.render(HELLO, unguarded) for _ in range(2)] == ["no", "no"]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000], ids=["never closed", "closed"])
def test_arguments_nested_too_deeply_are_refused(text: str) -> None:
    assert "nested too deeply" in refusal("x", called(text))


def test_a_schema_nested_too_deeply_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(600):
        schema = {"a": schema}
    assert "nested too deeply" in refusal("x", Chat(HELLO.messages, (Tool("f", None, schema),)))


def test_more_loops_in_each_other_than_python_allows_do_not_load() -> None:
    with pytest.raises(LoadFailed, match="too many statically nested blocks"):
        ChatTemplate("{% for a in messages %}" * 25 + "{% endfor %}" * 25, {})


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' | center(10 ** 8) }}",
        "{{ 'a' | center(100000000000000) }}",
        "{{ 'a'.center(1000000000) }}",
        "{{ 'a'.zfill(1000000000) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format('a') }}",
    ],
)
def test_padding_to_any_width_is_refused(source: str) -> None:
    with pytest.raises(InvalidRequest):
        ChatTemplate(source, {}).render(Chat((Message(Role.USER, "hi"),)), lambda text, _role: text)


def growing(first: str, next_one: str) -> str:
    return f"{{% set n = namespace(x={first}) %}}{{% for i in range(60) %}}{{% set n.x = {next_one} %}}{{% endfor %}}"


# Each would run in C, unseen by the deadline, for seconds to years, or take gigabytes.
HUGE = {
    "join": "{{ (['a'] * 9000) | map('center', 4000) | join }}",
    "join with a separator": "{{ range(99999) | join('b' * 400000) }}",
    "join of a text": "{{ ('b' * 4000).join(range(99999) | list) }}",
    "replace": "{{ ('a' * 4000) | replace('a', 'b' * 1000000) }}",
    "replace nothing": "{{ ('a' * 4000).replace('', 'b' * 1000000) }}",
    "texts that double": growing("'a'", "n.x + n.x"),
    "texts that double and more": growing("'a'", "n.x ~ n.x ~ 1"),
    "a long sum": "{% set x = 'a' * 3000000 %}{{ " + " + ".join("x" * 30) + " }}",
    "lists that double": growing("[1]", "n.x + n.x"),
    "lists within lists": growing("1", "[n.x, n.x]") + "{{ n.x }}",
    "tuples to compare": growing("1", "(n.x, n.x)") + "{{ n.x == n.x | list }}",
    "mappings as JSON": growing("1", "{1: n.x, 2: n.x}") + "{{ n.x | tojson }}",
    "arguments within arguments": growing("1", "cycler(n.x, n.x).items") + "{{ n.x }}",
    "one thing by many names": "{{ (range(2000) | map(attribute='q', default='a' * 4000) | list) | string | length }}",
    "a sum of lists": "{{ [[1] * 400] * 400 | sum(start=[]) }}",
    "a block of output": "{% set x = 'a' * 4000000 %}{% set y %}{% for i in range(9) %}{{ x }}{% endfor %}{% endset %}",
    "a width that is an argument": "{{ '%*d' | format(4000000, 1) }}",
    "a width in a width": "{{ ('{0:{1}}' * 400).format(1, 4000000) }}",
    "many widths": "{{ ('%9999d' * 5000) | format(*([1] * 5000)) }}",
    "tabs": "{{ ('\t' * 4000000).expandtabs(1000) }}",
    "letters that become texts": "{{ ('a' * 4000000).translate({97: 'b' * 4000}) }}",
    "many letters to strip": "{{ ('a' * 4000000).strip('b' * 3000000 ~ 'a') }}",
    "places of a number": "{{ 5 | round(-4000000) }}",
    "numbers that square": growing("9", "n.x * n.x"),
    "a number of any base": "{{ ('f' * 4000000) | int(0, 16) }}",
    "indented JSON": "{{ [[[[1]]]] | tojson(indent=4000000) }}",
    "words": "{{ ('a ' * 2000000) | wordwrap(1) }}",
    "arguments": "{{ cycler(*('a' * 4000000)).next() }}",
}


@pytest.mark.parametrize("source", HUGE.values(), ids=HUGE.keys())
def test_what_would_be_huge_is_not_made(source: str) -> None:
    assert re.search(r": the template (makes|computes|asks|strips|gives) |has no place|is for numbers", refusal(source))


def test_halves_of_letters_become_the_replacement_character() -> None:
    source = "{% for call in messages[0].tool_calls %}{{ call.function.arguments | tojson }}{% endfor %}{{ '\\udc00' }}"
    assert render(source, called('{"\\ud800": "\\udc00\\ud83d\\ude00"}')) == '{"\ufffd": "\ufffd\U0001f600"}\ufffd'


def test_a_filter_that_fails_in_any_way_refuses_the_messages() -> None:
    assert "expected length >= 3, got 1" in refusal("{{ 'a ' * 200 | truncate(1) }}")


def test_ordinary_lists_and_texts_are_made() -> None:
    source = (
        "{% set n = namespace(x=[], y='') %}{% for one in messages %}"
        "{% set n.x = n.x + [one, (one, {'a': one})] %}{% set n.y = n.y + one.role ~ 1 %}{% endfor %}"
        "{{ n.x | length }} {{ n.y }} {{ [1, 2] + [3] }} {{ 1 + 2 + 0.5 }} {{ ['a', 'b'] | join(', ') }} "
        "{{ '-'.join(['a', 'b']) }} {{ 'aXa'.replace('X', ' ') | title }} {{ 3.14159 | round(2) }}"
    )
    assert render(source) == "2 user1 [1, 2, 3] 3.5 a, b a-b A A 3.14"


def test_ordinary_padding_works() -> None:
    template = ChatTemplate("{{ 'a' | center(3) }}{{ 'x\ny' | indent(2) }}{{ '%02d' | format(7) }}", {})
    assert template.render(Chat((Message(Role.USER, "hi"),)), lambda text, _role: text) == " a x\n  y07"


def test_long_numbers_in_a_message_are_nothing_special() -> None:
    template = ChatTemplate("{{ messages[0].content.strip() }}{{ messages[0].content | trim }}", {})
    text = template.render(Chat((Message(Role.USER, " call 49123456789012 "),)), lambda text, _role: text)
    assert text == "call 49123456789012" * 2
