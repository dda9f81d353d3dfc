"""How a conversation becomes text: ChatML with tool signatures, in Python for training and in Jinja for users.

Both must give the same text; a test compares them.

    <|im_start|>system
    {system message}
    tools:
    set_temperature(room, degrees: number)
    set_light(room, state: on|off)<|im_end|>
    <|im_start|>user
    make it 21 degrees in the kitchen<|im_end|>
    <|im_start|>assistant
    <tool_call>{"name": "set_temperature", "arguments": {"room": "kitchen", "degrees": 21}}</tool_call><|im_end|>
    <|im_start|>tool
    {"status": "ok"}<|im_end|>
    <|im_start|>assistant
    The temperature in the kitchen is set to 21 degrees.<|im_end|>
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CALL, CALL_END = "<tool_call>", "</tool_call>"

Message = Mapping[str, Any]


def schema(name: str, parameters: Sequence[tuple[str, str]], optional: Sequence[str] = ()) -> dict[str, Any]:
    """Return OpenAI's JSON for a tool; a parameter's kind is ``string``, ``number`` or choices as ``on|off``."""
    properties: dict[str, Any] = {}
    for parameter, kind in parameters:
        choices = {"type": "string", "enum": kind.split("|")} if "|" in kind else {"type": kind}
        properties[parameter] = choices
    required = [parameter for parameter, _ in parameters if parameter not in optional]
    declared = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "parameters": declared}}


DEFAULT_TOOLS = [
    schema("turn_on", [("device", "string"), ("room", "string")], ["room"]),
    schema("turn_off", [("device", "string"), ("room", "string")], ["room"]),
    schema("set_temperature", [("room", "string"), ("degrees", "number")]),
    schema("set_brightness", [("room", "string"), ("level", "number")]),
    schema("set_timer", [("minutes", "number"), ("label", "string")], ["label"]),
    schema("add_item", [("item", "string"), ("list", "string")]),
    schema("play_music", [("song", "string"), ("artist", "string"), ("room", "string")], ["artist", "room"]),
    schema("get_temperature", [("room", "string")]),
]


def signature(tool: Message) -> str:
    """Return a tool on one line: ``set_light(room, state: on|off, level?: number)``."""
    function = tool.get("function", tool)
    declared = function.get("parameters") or {}
    required = declared.get("required") or []
    parts = []
    for name, kind in (declared.get("properties") or {}).items():
        part = name if name in required else name + "?"
        if kind.get("enum"):
            part += ": " + "|".join(str(value) for value in kind["enum"])
        elif kind.get("type") in ("number", "integer"):
            part += ": number"
        parts.append(part)
    return f"{function['name']}({', '.join(parts)})"


def call_text(name: str, arguments: Mapping[str, Any] | str) -> str:
    """Return a tool call as the assistant writes it."""
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return f'{CALL}{{"name": "{name}", "arguments": {arguments}}}{CALL_END}'


def segments(messages: Sequence[Message], tools: Sequence[Message] | None = None) -> list[tuple[str, bool]]:
    """Return the text in pieces, each with whether the assistant wrote it; ``None`` means the built-in tools."""
    tools = DEFAULT_TOOLS if tools is None else tools
    system, rest = ("", messages)
    if messages and messages[0]["role"] == "system":
        system, rest = messages[0]["content"], messages[1:]
    block = "\n".join([*([system] if system else []), *(["tools:"] if tools else []), *map(signature, tools)])
    pieces = [(f"{START}system\n{block}{END}\n", False)] if block else []
    for message in rest:
        if message["role"] == "assistant":
            calls = "".join(
                call_text(call["function"]["name"], call["function"]["arguments"])
                for call in message.get("tool_calls") or ()
            )
            pieces += [
                (f"{START}assistant\n", False),
                (f"{message.get('content') or ''}{calls}{END}", True),
                ("\n", False),
            ]
        else:
            pieces.append((f"{START}{message['role']}\n{message['content'] or ''}{END}\n", False))
    return pieces


def prompt(messages: Sequence[Message], tools: Sequence[Message] | None = None) -> str:
    """Return the text after which the assistant writes."""
    return "".join(text for text, _ in segments(messages, tools)) + f"{START}assistant\n"


def template() -> str:
    """Return the same rendering as a Jinja template."""
    return _TEMPLATE.replace("@DEFAULT@", "\\n".join(map(signature, DEFAULT_TOOLS)))


_TEMPLATE = """\
{%- macro text(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- elif content -%}
        {%- for part in content -%}{{- part.text if part.text is defined else '' -}}{%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(block='', first=0) -%}
{%- if messages and messages[0].role == 'system' -%}
    {%- set ns.block = text(messages[0].content) -%}
    {%- set ns.first = 1 -%}
{%- endif -%}
{%- if tools is not defined or tools is none -%}
    {%- set ns.block = ns.block ~ ('\\n' if ns.block else '') ~ 'tools:\\n@DEFAULT@' -%}
{%- elif tools -%}
    {%- set ns.block = ns.block ~ ('\\n' if ns.block else '') ~ 'tools:' -%}
    {%- for tool in tools -%}
        {%- set function = tool.function if tool.function is defined else tool -%}
        {%- set declared = function.parameters if function.parameters is defined and function.parameters else {} -%}
        {%- set required = declared.required if declared.required is defined and declared.required else [] -%}
        {%- set parts = namespace(text='') -%}
        {%- if declared.properties is defined and declared.properties -%}
            {%- for name, kind in declared.properties.items() -%}
                {%- set part = name if name in required else name ~ '?' -%}
                {%- if kind.enum is defined and kind.enum -%}
                    {%- set part = part ~ ': ' ~ kind.enum | join('|') -%}
                {%- elif kind.type is defined and kind.type in ['number', 'integer'] -%}
                    {%- set part = part ~ ': number' -%}
                {%- endif -%}
                {%- set parts.text = parts.text ~ (', ' if parts.text else '') ~ part -%}
            {%- endfor -%}
        {%- endif -%}
        {%- set ns.block = ns.block ~ '\\n' ~ function.name ~ '(' ~ parts.text ~ ')' -%}
    {%- endfor -%}
{%- endif -%}
{%- if ns.block -%}
    {{- '<|im_start|>system\\n' ~ ns.block ~ '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages[ns.first:] -%}
    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ text(message.content) -}}
    {%- if message.role == 'assistant' and message.tool_calls is defined and message.tool_calls -%}
        {%- for call in message.tool_calls -%}
            {%- set function = call.function if call.function is defined else call -%}
            {{- '<tool_call>{"name": "' ~ function.name ~ '", "arguments": ' -}}
            {%- if function.arguments is string -%}
                {{- function.arguments -}}
            {%- else -%}
                {{- function.arguments | tojson -}}
            {%- endif -%}
            {{- '}</tool_call>' -}}
        {%- endfor -%}
    {%- endif -%}
    {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt is defined and add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
