"""``run``: one answer, or a conversation, from a model in a worker of this command's own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated

import msgspec
import typer

from foundry_lite.catalog.reference import parse_reference
from foundry_lite.cli.options import JsonOption, ModelArgument, ProviderOption, settings_with
from foundry_lite.cli.output import Output
from foundry_lite.cli.streams import read_stdin, text_of
from foundry_lite.engine.client.adapters import AdapterFile
from foundry_lite.engine.client.engine import Engine, load_engine
from foundry_lite.errors import FoundryError, InvalidRequest
from foundry_lite.generation import CallPiece, Chat, Delta, GenerationRequest, Message, Role, Sampling, Tool, join_calls
from foundry_lite.residency.options import adapter_file, engine_options
from foundry_lite.settings import Settings
from foundry_lite.store.manifest import verify_sizes
from foundry_lite.store.store import Store


def run(
    model: ModelArgument,
    prompt: Annotated[str | None, typer.Argument(help="What to say. Without it: a conversation, or stdin.")] = None,
    system: Annotated[str | None, typer.Option("--system", help="A system message.")] = None,
    tools: Annotated[
        Path | None, typer.Option("--tools", help="A JSON file with tools, in the form of OpenAI's 'tools'.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Tokens at most.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0, max=2, help="0 is greedy.")] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", min=0, max=1, help="Share of mass to draw from.")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", min=0, help="Tokens to draw from; 0: all.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Same seed, same draws.")] = None,
    provider: ProviderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a model, or talk with it."""
    output = Output(as_json=as_json)
    conversation = Conversation(
        system and text_of(system, "--system"),
        None if tools is None else read_tools(tools),
        Sampling(temperature, top_p, top_k, seed),
        max_tokens,
    )
    if prompt is None and not output.is_interactive:
        prompt = read_stdin().strip()
        if not prompt:
            raise InvalidRequest("there is no prompt: none was given, and stdin is empty", "prompt")
    said = None if prompt is None else text_of(prompt, "the prompt")
    with suppress(EOFError):
        asyncio.run(_run(model, settings_with(provider), conversation, said, output))


class Conversation:
    """A conversation: the messages so far, and the options of the next generation request."""

    def __init__(
        self, system: str | None, tools: tuple[Tool, ...] | None, sampling: Sampling, max_tokens: int | None
    ) -> None:
        self.adapter: AdapterFile | None = None
        self._messages = [] if system is None else [Message(Role.SYSTEM, system)]
        self._tools = tools
        self._sampling = sampling
        self._max_tokens = max_tokens

    async def say(self, engine: Engine, text: str, show: Callable[[str], None]) -> Delta:
        """Send a user message; show the answer as it comes, append both, and return the answer as one delta."""
        self._messages.append(Message(Role.USER, text))
        request = GenerationRequest(Chat(tuple(self._messages), self._tools), self._sampling, self._max_tokens)
        answer, last = "", Delta()
        pieces: tuple[CallPiece, ...] = ()
        try:
            async with await engine.begin(request, self.adapter) as generation:
                async for last in generation:
                    show(last.text)
                    answer, pieces = answer + last.text, pieces + last.calls
        finally:
            if answer or pieces:
                self._messages.append(Message(Role.ASSISTANT, answer or None, tool_calls=join_calls(pieces)))
            else:
                self._messages.pop()  # refused, or stopped before the first token: it is not part of the conversation
        return Delta(answer, pieces, finish=last.finish, usage=last.usage, timings=last.timings)


async def _run(model: str, settings: Settings, conversation: Conversation, prompt: str | None, output: Output) -> None:
    artifact = Store(settings.home).resolve(parse_reference(model))
    verify_sizes(artifact.folder, artifact.manifest)
    conversation.adapter = adapter_file(artifact)
    with output.status(f"loading {artifact.ref}"):
        engine = await load_engine(artifact.folder, engine_options(settings, artifact))
    if engine.fallback_reason is not None:
        output.talk(f"warning: the CPU computes: {engine.fallback_reason}")
    if engine.is_reduced:
        output.talk(f"warning: {engine.processor_note}")
    try:
        if prompt is None:
            await _talk(engine, conversation, output)
        else:
            await _answer_once(engine, conversation, prompt, output, str(artifact.ref))
    finally:
        await engine.close()


async def _answer_once(engine: Engine, conversation: Conversation, prompt: str, output: Output, model: str) -> None:
    answer = await conversation.say(engine, prompt, (lambda _text: None) if output.as_json else output.write)
    if output.as_json:
        output.json(
            {
                "model": model,
                "content": answer.text,
                "tool_calls": join_calls(answer.calls),
                "finish_reason": answer.finish,
                "usage": answer.usage,
                "timings_s": answer.timings,
            }
        )
        return
    _end_answer(answer, output)


async def _talk(engine: Engine, conversation: Conversation, output: Output) -> None:
    """Read, answer, repeat. Ctrl-C stops an answer; at the prompt it, Ctrl-D or /bye ends the conversation."""
    output.talk("Ctrl-D or /bye ends the conversation, Ctrl-C stops an answer.")
    with suppress(ImportError):
        import readline  # noqa: F401 - importing it gives input() editing and history
    while (text := _read_line(output)) != "/bye":
        if not text:
            continue
        saying = asyncio.ensure_future(conversation.say(engine, text, output.write))
        signal.signal(signal.SIGINT, partial(_cancel, saying))
        try:
            _end_answer(await saying, output)
        except asyncio.CancelledError:
            output.line()
        except FoundryError as error:
            if engine.died.is_set():
                raise
            output.error(error.message, error.hint)


def _cancel(task: asyncio.Future[Delta], _number: int, _frame: FrameType | None) -> None:
    task.get_loop().call_soon_threadsafe(task.cancel)  # which wakes the loop, should it be waiting for the worker


def _read_line(output: Output) -> str:
    # Blocks the event loop, on which nothing happens between two answers; so Ctrl-C can interrupt the reading.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return text_of(input(">>> ").strip(), "the line")
    except (UnicodeDecodeError, InvalidRequest):
        output.error("this line is no text of UTF-8", "Say it again.")
        return ""


def _end_answer(answer: Delta, output: Output) -> None:
    for call in join_calls(answer.calls):
        output.line(f'<tool_call>{{"name": "{call.name}", "arguments": {call.arguments}}}</tool_call>')
    if answer.text and not answer.text.endswith("\n"):
        output.line()


def read_tools(path: Path) -> tuple[Tool, ...]:
    """Read tools from a JSON file in OpenAI's format. Raises `InvalidRequest`."""
    try:
        wire = msgspec.json.decode(path.read_bytes(), type=list[dict[str, msgspec.Raw]])
        return tuple(msgspec.json.decode(one["function"], type=Tool) for one in wire)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}", "tools") from error
    except (msgspec.DecodeError, KeyError) as error:
        raise InvalidRequest(
            f"{path} is no list of tools: {error}",
            "tools",
            hint='Each is {"type": "function", "function": {"name": …, "parameters": …}}.',
        ) from error
