"""OpenAI's chat completions, the answer: deltas in, JSON out, whole or in chunks.

Source: OpenAI's API reference, "The chat completion object" and "The chat completion chunk object", read 2026-11.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Any

from foundry_lite.generation import Delta, Finish, Logprob, TokenLogprob, ToolCall, Usage

_NEGLIGIBLE = -9999.0  # what OpenAI says of a token that is next to impossible; JSON has no minus infinity


class AnswerWriter:
    """Writes one answer: its id, its time and its model are the same in every part.

    ``choices`` is how many choices it has; the request asked for logprobs, or for the usage at the end of a stream,
    or not; all chunks before that usage have one that is null.
    """

    def __init__(
        self, model: str, choices: int = 1, *, has_logprobs: bool = False, includes_usage: bool = False
    ) -> None:
        self.id = f"chatcmpl-{secrets.token_hex(16)}"
        self.choices = choices
        self._created = int(time.time())
        self._model = model
        self._has_logprobs = has_logprobs
        self._no_usage: dict[str, None] = {"usage": None} if includes_usage else {}
        self._calls = [0] * choices  # tool calls written so far, by choice: each has an index of its own

    def completion(self, deltas: list[Delta]) -> dict[str, Any]:
        """Return the whole answer, as a response that is not streamed."""
        by_choice: list[list[Delta]] = [[] for _ in range(self.choices)]
        for delta in deltas:
            by_choice[delta.choice].append(delta)
        choices = [self._whole_choice(index, mine) for index, mine in enumerate(by_choice)]
        usage = total_usage(delta.usage for delta in deltas)
        return {**self._head("chat.completion"), "choices": choices, "usage": _write_usage(usage)}

    def opening(self) -> list[dict[str, Any]]:
        """Return the first chunk of each choice: the role, and nothing else."""
        return [self._chunk(index, {"role": "assistant", "content": ""}) for index in range(self.choices)]

    def chunks(self, delta: Delta) -> list[dict[str, Any]]:
        """Return the chunks for one delta; the one with the finish reason has no content.

        The logprobs are in the first of them. A delta whose text is held back may have nothing else to tell: then
        they come with an empty content.
        """
        bodies: list[dict[str, Any]] = [{"content": delta.text}] if delta.text else []
        for call in delta.tool_calls:
            head = {**_write_call(call), "function": {"name": call.name, "arguments": ""}}
            body = {"function": {"arguments": call.arguments}}
            bodies += [{"tool_calls": [{"index": self._calls[delta.choice], **part}]} for part in (head, body)]
            self._calls[delta.choice] += 1
        if delta.logprobs and not bodies and delta.finish is None:
            bodies.append({"content": ""})
        chunks = [self._chunk(delta.choice, body) for body in bodies]
        if delta.finish is not None:
            chunks.append(self._chunk(delta.choice, {}, delta.finish))
        if delta.logprobs:
            chunks[0]["choices"][0]["logprobs"] = _write_logprobs(delta.logprobs)
        return chunks

    def closing(self, usage: Usage | None) -> dict[str, Any]:
        """Return the last chunk, which carries the usage of all choices and no choice."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": _write_usage(usage)}

    def _whole_choice(self, index: int, deltas: list[Delta]) -> dict[str, Any]:
        text = "".join(delta.text for delta in deltas)
        calls = [_write_call(call) for delta in deltas for call in delta.tool_calls]
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
        if calls:
            message["tool_calls"] = calls
        tokens = [token for delta in deltas for token in delta.logprobs]
        return {
            "index": index,
            "message": message,
            "logprobs": _write_logprobs(tokens) if self._has_logprobs else None,
            "finish_reason": deltas[-1].finish if deltas else None,
        }

    def _chunk(self, index: int, delta: dict[str, Any], finish: Finish | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **self._no_usage}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": None,
        }


def total_usage(usages: Iterable[Usage | None]) -> Usage | None:
    """Add up the usage of all choices; ``None`` when none is known.

    They share one prompt, which counts once. So do its cached tokens: those of the choice that found the fewest, since
    that one computed what the others then found.
    """
    known = [usage for usage in usages if usage is not None]
    if not known:
        return None
    return Usage(
        prompt_tokens=known[0].prompt_tokens,
        completion_tokens=sum(usage.completion_tokens for usage in known),
        cached_tokens=min(usage.cached_tokens for usage in known),
    )


def _write_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _write_logprobs(tokens: Iterable[TokenLogprob]) -> dict[str, Any]:
    content = [
        {**_write_logprob(token.chosen), "top_logprobs": [_write_logprob(one) for one in token.top]} for token in tokens
    ]
    return {"content": content, "refusal": None}


def _write_logprob(one: Logprob) -> dict[str, Any]:
    return {"token": one.token, "bytes": list(one.bytes), "logprob": max(one.logprob, _NEGLIGIBLE)}


def _write_usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
