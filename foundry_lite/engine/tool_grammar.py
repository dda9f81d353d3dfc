"""A demanded tool call as a grammar: the Hermes form that `engine/tools` reads, with arguments that fit the tool.

What stands around the arguments is fixed to the letter, as templates write it, so that the model spends its freedom on
the choice of the tool and on the arguments. A line end is allowed where Qwen's template has one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from foundry_lite.engine.schema import check_schema
from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import Tool, ToolChoice

_PARAM = "tools"


class Tags(NamedTuple):
    """How a Lark grammar writes ``<tool_call>`` and ``</tool_call>`` for one tokenizer: as tokens, or as text."""

    opening: str
    closing: str


def write_grammar(tools: Sequence[Tool], choice: ToolChoice, tags: Tags, options: dict[str, Any]) -> str:
    """Return a Lark grammar for one call of the chosen tools, or for several; ``options`` go with each schema.

    Raises `InvalidRequest` for parameters that cannot be enforced.
    """
    chosen = [tool for tool in tools if not choice.names or tool.name in choice.names]
    if not chosen:
        raise InvalidRequest("a tool must be called, and there is none to choose from", "tool_choice")
    lines = [
        "start: call (/\\n?/ call)*" if choice.is_parallel else "start: call",
        f"call: {tags.opening} /\\n?/ ({_alternatives(len(chosen))}) /\\n?/ {tags.closing}",
    ]
    for index, tool in enumerate(chosen):
        head = f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": '
        schema = json.dumps({**_arguments(tool), "x-guidance": options}, ensure_ascii=False)
        lines.append(f'tool_{index}: {json.dumps(head, ensure_ascii=False)} %json {schema} "}}"')
    return "\n".join(lines)


def _alternatives(tools: int) -> str:
    return " | ".join(f"tool_{index}" for index in range(tools))


def _arguments(tool: Tool) -> dict[str, Any]:
    """Return the schema of a tool's arguments, which are an object whatever it says."""
    schema = tool.parameters or {}
    kinds = schema.get("type", "object")
    if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
        raise InvalidRequest(f"the parameters of {tool.name!r} are no object", _PARAM, "invalid_grammar")
    try:
        check_schema(schema, _PARAM)
    except InvalidRequest as error:
        reason = f"the parameters of {tool.name!r}: {error.message}"
        raise InvalidRequest(reason, _PARAM, "invalid_grammar") from error
    return {**schema, "type": "object"}
