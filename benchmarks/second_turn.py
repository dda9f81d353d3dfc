"""The second turn of a long conversation, through HTTP: time to the first token, with reuse and without.

    python benchmarks/second_turn.py --model MODEL [--tokens 1500] [--rounds 5]

A conversation of about ``--tokens`` tokens is answered; its answer and a short question are added, as any chat client
does, and the second turn is timed until its first token. For comparison the same second turn is sent with another
beginning, so that nothing of it is known. The conversation is new in every round; both are run in turn.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import subprocess
import sys
import time
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessageParam

_WORDS = (
    "the",
    "a",
    "house",
    "tree",
    "river",
    "of",
    "and",
    "walks",
    "under",
    "blue",
    "light",
    "seven",
    "old",
    "stories",
)
_QUESTION = "And which of these did you like best, and why?"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="home-assistant")
    parser.add_argument("--tokens", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    daemon = subprocess.Popen(
        [sys.executable, "-m", "foundry_lite.cli.main", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert daemon.stdout is not None
        found = re.search(r"http://\S+:\d+", daemon.stdout.readline())
        if found is None:
            raise SystemExit("the daemon did not start; run foundry-lite serve to see why")
        with openai.OpenAI(base_url=f"{found[0]}/v1", api_key="none", timeout=600) as client:
            _measure(client, arguments)
    finally:
        daemon.terminate()
        daemon.communicate()


def _measure(client: openai.OpenAI, arguments: argparse.Namespace) -> None:
    drawn = random.Random(0)
    per_word = _ask(client, arguments.model, _story(drawn, 200))[1] / 200
    known, unknown, reused, size = [], [], 0, 0
    for number in range(arguments.rounds + 1):
        story = _story(drawn, int(arguments.tokens / per_word))
        answer = _ask(client, arguments.model, story)[3]
        first, size, reused, _ = _ask(client, arguments.model, story, answer)
        other = _ask(client, arguments.model, f"{drawn.random()} {story}", answer)
        if number:  # the first round warms up
            known.append(first)
            unknown.append(other[0])
    ratio = statistics.median(b / a for a, b in zip(known, unknown, strict=True))
    print(f"{arguments.model}: second turn of {size} tokens, {reused} of them reused; {arguments.rounds} rounds")
    for name, values in (("reused", known), ("not reused", unknown)):
        low, middle, high = (1e3 * one for one in (min(values), statistics.median(values), max(values)))
        print(f"  {name:10} TTFT {middle:8.1f} ms ({low:.1f}-{high:.1f})")
    print(f"  {ratio:.1f} times faster (median of the rounds)")


def _story(drawn: random.Random, words: int) -> str:
    return " ".join(drawn.choice(_WORDS) for _ in range(words))


def _ask(client: openai.OpenAI, model: str, story: str, answer: str | None = None) -> tuple[float, int, int, str]:
    """Return the seconds to the first token, the prompt's tokens, those reused, and the answer."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": story}]
    if answer is not None:
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": _QUESTION}]
    extra: dict[str, Any] = {"ignore_eos": True}
    began, first, text = time.monotonic(), 0.0, ""
    prompt, reused = 0, 0
    with client.chat.completions.create(
        model=model,
        messages=messages,
        temperature=0,
        max_completion_tokens=32,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=extra,
    ) as stream:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                first = first or time.monotonic() - began
                text += chunk.choices[0].delta.content
            if chunk.usage is not None and chunk.usage.prompt_tokens_details is not None:
                prompt, reused = chunk.usage.prompt_tokens, chunk.usage.prompt_tokens_details.cached_tokens or 0
    return first, prompt, reused, text


if __name__ == "__main__":
    main()
