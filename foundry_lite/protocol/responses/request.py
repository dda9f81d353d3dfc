"""OpenAI's Responses API, the request: JSON in, domain values out. `protocol.responses.writer` writes what comes of it.

Sources: OpenAI's API reference, "Create a model response", and the types of its Python client 3.52, read 2026-11. A
field is obeyed or refused with a 400 that names it; docs/api-responses.md has the table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from foundry_lite.errors import InvalidRequest
from foundry_lite.generation import (
    Chat,
    GenerationRequest,
    Grammar,
    GrammarKind,
    Message,
    Role,
    Tool,
    ToolChoice,
    ToolMode,
)
from foundry_lite.protocol.chat.request import Effort, PromptCacheOptions
from foundry_lite.protocol.common.decode import convert, decode_object, invalid_value
from foundry_lite.protocol.common.output_format import format_beside, refuse_conflicts, require_tools
from foundry_lite.protocol.common.request_fields import Count, read_keep_alive
from foundry_lite.protocol.common.sampling import SamplingBody, read_sampling, read_stop
from foundry_lite.protocol.responses.items import (
    InputItem,
    InputMessage,
    ItemReference,
    functions,
    read_items,
    require_kind,
    resolve,
    with_kinds,
)

UNSUPPORTED = frozenset(
    [
        "access_programs",
        "context_management",
        "conversation",
        "image",
        "max_tool_calls",
        "moderation",
        "prompt",
    ]
)

LOGPROBS = "message.output_text.logprobs"
Include = Literal["message.output_text.logprobs", "reasoning.encrypted_content"]

# Fields of a chat completion that errors of the engine name, and what they are called here.
_RENAMED = (
    (re.compile(r"\bmessages\b(?:\[\d+\][\w.\[\]]*)?"), "input"),  # their indices are not those of the items
    (re.compile(r"\bmax_(?:completion_)?tokens\b"), "max_output_tokens"),
    (re.compile(r"\breasoning_effort\b"), "reasoning.effort"),
    (re.compile(r"(?<=\])\.function\b"), ""),
)


class PlainText(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Any text."""


class AnyJson(Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    """Any JSON object."""


class JsonBySchema(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    """JSON that follows a schema, whether ``strict`` is true or not."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$")]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextBody(Struct, forbid_unknown_fields=True):
    """``text``: the output format of the answer."""

    format: PlainText | AnyJson | JsonBySchema | None = None
    verbosity: Literal["medium"] | None = None


class ReasoningBody(Struct, forbid_unknown_fields=True):
    """``reasoning``; its ``summary`` is left to us with ``auto``, and we make none."""

    effort: Effort | None = None
    summary: Literal["auto"] | None = None
    generate_summary: Literal["auto"] | None | UnsetType = UNSET
    context: Literal["auto"] | None | UnsetType = UNSET
    mode: Literal["standard"] | None | UnsetType = UNSET


class FunctionTool(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """A function that the model may call."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    allowed_callers: Annotated[list[Literal["direct"]], Meta(max_length=1)] | None | UnsetType = UNSET
    defer_loading: Literal[False] | None | UnsetType = UNSET
    is_async: Literal[False] | None | UnsetType = msgspec.field(default=UNSET, name="async")
    output_schema: None | UnsetType = UNSET


class NamedFunction(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """A function tool, by its name."""

    name: str


class AllowedFunctions(Struct, tag_field="type", tag="allowed_tools", forbid_unknown_fields=True):
    """Some of the tools."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedFunction], Meta(min_length=1, max_length=128)]


ToolChoiceBody = Literal["none", "auto", "required"] | NamedFunction | AllowedFunctions


class ResponseStreamOptions(Struct, forbid_unknown_fields=True):
    """``stream_options``; streams are not padded to obscure the lengths of tokens."""

    include_obfuscation: Literal[False] | None = None


class ResponseBody(SamplingBody, kw_only=True, forbid_unknown_fields=True):
    """The body of a request for a response."""

    input: str | Annotated[list[InputItem], Meta(max_length=4096)] | None = None
    instructions: str | None = None
    previous_response_id: Annotated[str, Meta(max_length=512)] | None = None
    store: bool | None = None
    background: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    max_output_tokens: Count | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=128)] | None = None
    tool_choice: ToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    text: TextBody | None = None
    reasoning: ReasoningBody | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: list[Include] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    prompt_cache_options: PromptCacheOptions | None = None  # advisory
    client_metadata: Annotated[dict[str, str], Meta(max_length=64)] | None = None  # advisory


@dataclass(frozen=True, slots=True)
class ResponseCall:
    """A decoded Responses request. ``generation`` lacks the messages, which may go on from a stored response.

    ``items`` is the input as items.
    """

    model: str
    wire: ResponseBody
    items: tuple[InputItem, ...]
    generation: GenerationRequest
    keep_alive: timedelta | None = None

    @property
    def streams(self) -> bool:
        return bool(self.wire.stream)

    @property
    def is_background(self) -> bool:
        return bool(self.wire.background)

    @property
    def references(self) -> tuple[str, ...]:
        """The ids of the items that are only referred to."""
        return tuple(item.id for item in self.items if isinstance(item, ItemReference))

    def continuing(
        self, history: Sequence[Message] = (), found: Mapping[str, InputItem] | None = None
    ) -> tuple[Message, ...]:
        """Return the conversation, without the instructions. Raises `InvalidRequest` when there is none.

        ``history`` is that of the previous response, ``found`` has the items that are referred to.
        """
        messages = tuple(read_items(resolve(self.items, found or {}), history))
        if not messages:
            raise InvalidRequest("'input' is required", "input", "missing_required_parameter")
        return messages

    def request(self, messages: Sequence[Message]) -> GenerationRequest:
        """Return what to generate for a conversation, which the instructions begin."""
        told = () if self.wire.instructions is None else (Message(Role.SYSTEM, self.wire.instructions),)
        assert isinstance(self.generation.prompt, Chat)
        prompt = msgspec.structs.replace(self.generation.prompt, messages=(*told, *messages))
        return msgspec.structs.replace(self.generation, prompt=prompt)


def decode_response(body: bytes) -> ResponseCall:
    """Decode the body of a request for a response. Raises `InvalidRequest` naming the field."""
    wire = convert(_prepare(decode_object(body)), ResponseBody, known_unsupported=UNSUPPORTED)
    _refuse_pairs(wire)
    items: list[InputItem] = (
        [InputMessage("user", wire.input)] if isinstance(wire.input, str) else list(wire.input or ())
    )
    call = ResponseCall(wire.model, wire, tuple(items), _read_request(wire), read_keep_alive(wire.keep_alive))
    if wire.previous_response_id is None and not call.references:
        call.continuing()  # refused before anything else is looked at
    return call


def renamed(error: InvalidRequest) -> InvalidRequest:
    """Return an error of the engine with the names that fields have in this API."""
    return InvalidRequest(_rename(error.message), _rename(error.param or "") or None, error.code, _rename(error.hint))


def without_oldest(messages: Sequence[Message], turns: int) -> tuple[Message, ...]:
    """Return a conversation without its ``turns`` oldest turns; it must have more than that.

    A turn begins with a user's message. Messages of the system and the developer stay.
    """
    start = [index for index, message in enumerate(messages) if message.role is Role.USER][turns]
    told = (message for message in messages[:start] if message.role in (Role.SYSTEM, Role.DEVELOPER))
    return (*told, *messages[start:])


def _prepare(fields: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in fields.items() if value is not None or name not in UNSUPPORTED}
    if isinstance(given := fields.get("input"), list):
        fields["input"] = with_kinds(given)
    if isinstance(tools := fields.get("tools"), list):
        fields["tools"] = functions(tools)
    require_kind(fields.get("tool_choice"), "tool_choice", ("function", "allowed_tools"))
    return fields


def _refuse_pairs(wire: ResponseBody) -> None:
    """Refuse fields that contradict each other."""
    if wire.stream_options is not None and not wire.stream:
        raise invalid_value("stream_options", "only allowed with 'stream': true")
    if wire.background and wire.store is False:
        raise invalid_value("background", "needs 'store', since its response is fetched later")
    if wire.top_logprobs and LOGPROBS not in (wire.include or ()):
        raise invalid_value("top_logprobs", f"only allowed with 'include': [\"{LOGPROBS}\"]")


def _read_request(wire: ResponseBody) -> GenerationRequest:
    choice = _read_choice(wire)
    grammar = format_beside(choice, _read_format(wire.text))
    strict = any(tool.strict for tool in wire.tools or ())
    refuse_conflicts(grammar, choice, min_tokens=wire.min_tokens or 0, ignore_eos=bool(wire.ignore_eos), strict=strict)
    return GenerationRequest(
        prompt=Chat(
            messages=(),
            tools=None if wire.tools is None else tuple(_read_tool(tool) for tool in wire.tools),
            reasoning_effort=None if wire.reasoning is None else wire.reasoning.effort,
        ),
        sampling=read_sampling(wire, wire.max_output_tokens),
        max_new_tokens=wire.max_output_tokens,
        stop=read_stop(wire),
        ignore_eos=bool(wire.ignore_eos),
        top_logprobs=(wire.top_logprobs or 0) if LOGPROBS in (wire.include or ()) else None,
        grammar=grammar,
        tool_choice=choice,
    )


def _read_format(text: TextBody | None) -> Grammar | None:
    match text.format if text else None:
        case AnyJson():
            return Grammar(GrammarKind.JSON_OBJECT, param="text.format")
        case JsonBySchema(schema=schema):
            return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(schema), "text.format.schema")
    return None


def _read_tool(tool: FunctionTool) -> Tool:
    return Tool(tool.name, tool.description, tool.parameters, strict=bool(tool.strict))


def _read_choice(wire: ResponseBody) -> ToolChoice:
    mode, names = _mode_and_names(wire.tool_choice)
    require_tools(mode, names, {tool.name for tool in wire.tools or ()})
    return ToolChoice(mode, names, wire.parallel_tool_calls is not False)


def _mode_and_names(wire: ToolChoiceBody | None) -> tuple[ToolMode, tuple[str, ...]]:
    match wire:
        case None:
            return ToolMode.AUTO, ()
        case NamedFunction():
            return ToolMode.REQUIRED, (wire.name,)
        case AllowedFunctions():
            return ToolMode(wire.mode), tuple(tool.name for tool in wire.tools)
    return ToolMode(wire), ()


def _rename(text: str) -> str:
    for theirs, ours in _RENAMED:
        text = theirs.sub(ours, text)
    return text
