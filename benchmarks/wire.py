"""What the wire costs: microseconds to decode a request, and to encode what a step of a stream adds.

    python -m benchmarks.wire [--rounds 2000] [--json FILE]

Each round times every case once, in turn. *usual* requests are what clients send in a chat: a system message and a
question; *long* ones have 40 messages and 20 tools. A chunk is one delta of one choice, from `Delta` to the bytes of
its event; a response's event is the same in that API. Nothing of the network or the engine is in it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from foundry_lite import __version__
from foundry_lite import machine as devices
from foundry_lite.generation import CallPiece, Delta, Logprob, TokenLogprob
from foundry_lite.protocol.chat.request import decode_chat
from foundry_lite.protocol.chat.writer import AnswerWriter
from foundry_lite.protocol.common.served import Served
from foundry_lite.protocol.completions.request import decode_completion
from foundry_lite.protocol.completions.writer import CompletionWriter
from foundry_lite.protocol.responses.bodies import Circumstances
from foundry_lite.protocol.responses.request import decode_response
from foundry_lite.protocol.responses.writer import ResponseWriter

_WARM_UP = 50  # rounds

_TOOL = {
    "type": "function",
    "function": {
        "name": "turn_on",
        "description": "Switch a device on.",
        "parameters": {
            "type": "object",
            "properties": {"device": {"type": "string"}, "room": {"type": "string", "enum": ["kitchen", "hall"]}},
            "required": ["device"],
        },
    },
}
_MESSAGES = [
    {"role": "system", "content": "You are a friendly assistant, and answer in one sentence."},
    {"role": "user", "content": "What is the difference between a lamp and a light? " * 4},
]
_USUAL = {"model": "home-assistant", "messages": _MESSAGES, "temperature": 0.7, "max_tokens": 256, "stream": True}
_LONG = {**_USUAL, "messages": _MESSAGES * 20, "tools": [_TOOL] * 20}
_TOKEN = Delta(text=" light", tokens=1)
_SERVED = Served("home-assistant", "home-assistant:cpu-int4", "cpu-int4", "fp_0123456789abcdef")
_LIKELY = Logprob(" light", b" light", -0.25)


class Row(Struct, frozen=True):
    """One case, in microseconds."""

    case: str
    median: float
    p99: float


class Report(Struct, frozen=True):
    """The figures with their evidence."""

    date: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    rounds: int
    rows: tuple[Row, ...]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--json", type=Path, help="also write the report there, as in benchmarks/results/")
    arguments = parser.parse_args()
    report = measure(arguments.rounds)
    written = msgspec.json.format(msgspec.json.encode(report), indent=1)
    print(written.decode())
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_bytes(written + b"\n")


def measure(rounds: int) -> Report:
    """Time every case ``rounds`` times."""
    cases = _cases()
    taken: dict[str, list[float]] = {case: [] for case in cases}
    for number in range(rounds + _WARM_UP):
        for case, step in cases.items():
            began = time.perf_counter_ns()
            step()
            if number >= _WARM_UP:
                taken[case].append((time.perf_counter_ns() - began) / 1000)
    return Report(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=devices.probe_machine().as_dict(),
        versions={"foundry-lite": __version__, "msgspec": msgspec.__version__},
        rounds=rounds,
        rows=tuple(_row(case, times) for case, times in taken.items()),
    )


def _row(case: str, times: list[float]) -> Row:
    worst = sorted(times)[int(0.99 * len(times))]
    return Row(case, round(statistics.median(times), 2), round(worst, 2))


def _cases() -> dict[str, Callable[[], object]]:
    completion = {"model": "home-assistant", "prompt": "Once upon a time", "max_tokens": 64, "stream": True}
    response = {"model": "home-assistant", "input": "What is a lamp?", "stream": True}
    chat = AnswerWriter(_SERVED)
    calling = Delta(calls=(CallPiece(0, "", "", '"kitchen"'),), tokens=1)
    likely = Delta(text=" light", tokens=1, logprobs=(TokenLogprob(_LIKELY, (_LIKELY,) * 5),))
    plain = CompletionWriter(_SERVED, decode_completion(_body(completion)))
    responding = _responding(_body(response))
    return {
        "decode a chat, usual": _decoding(decode_chat, _USUAL),
        "decode a chat, long": _decoding(decode_chat, _LONG),
        "decode a completion": _decoding(decode_completion, completion),
        "decode a response's request": _decoding(decode_response, response),
        "encode a chat's chunk": lambda: chat.write([_TOKEN]),
        "encode a chat's chunk, of a call": lambda: chat.write([calling]),
        "encode a chat's chunk, 5 logprobs": lambda: chat.write([likely]),
        "encode a completion's chunk": lambda: plain.write([_TOKEN]),
        "encode a response's event": lambda: responding.write([_TOKEN]),
    }


def _body(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()


def _decoding(decode: Callable[[bytes], object], fields: dict[str, Any]) -> Callable[[], object]:
    body = _body(fields)
    return lambda: decode(body)


def _responding(body: bytes) -> ResponseWriter:
    """Return the writer of a response whose text has begun."""
    writer = ResponseWriter(decode_response(body), Circumstances(_SERVED, 1.0, 1.0, is_kept=False))
    writer.opening()
    writer.write([_TOKEN])
    return writer


if __name__ == "__main__":
    main()
