"""The same twenty requests with seeds, one after the other and under load, through HTTP: are the answers the same?

    python benchmarks/reproducibility.py [--model home-assistant] [--default] [--transcript FILE]

A daemon is started in reproducible mode (``--default``: without it) and asked twenty questions one by one. A second one
is asked the same all at once, in another order, while eight streams of other questions go on and prompts are shared and
repeated, so that batches, chunks and the prefix cache are never as they were. Every answer is printed with its sha256;
the exit code is 1 when one differs.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import openai

_STORY = "The house has a kitchen, a bedroom and a bathroom. " * 12
_QUESTIONS = (
    "turn on the lamp in the kitchen",
    "what can you do?",
    "set the heating in the bedroom to 21 degrees",
    "who are you, and how large are you?",
    "is the window in the bathroom open?",
)


def main() -> None:
    """Ask, print, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="home-assistant")
    parser.add_argument("--default", action="store_true", help="in the default mode, to see whether anything differs")
    parser.add_argument("--transcript", type=Path, help="also write the answers there")
    arguments = parser.parse_args()
    alone = asyncio.run(_ask(arguments.model, is_steady=not arguments.default, is_loaded=False))
    loaded = asyncio.run(_ask(arguments.model, is_steady=not arguments.default, is_loaded=True))
    lines = [_describe(number, *pair) for number, pair in enumerate(zip(alone, loaded, strict=True))]
    same = sum(one == other for one, other in zip(alone, loaded, strict=True))
    lines.append(f"{same} of {len(alone)} answers are the same, byte for byte")
    print("\n".join(lines))
    if arguments.transcript:
        arguments.transcript.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(same < len(alone))


def _describe(number: int, alone: str, loaded: str) -> str:
    first, second = (hashlib.sha256(text.encode()).hexdigest()[:16] for text in (alone, loaded))
    verdict = "same" if alone == loaded else f"DIFFERS, under load: {loaded!r}"
    return f"{number:2} {first} {second} {verdict}  {alone!r}"


async def _ask(model: str, *, is_steady: bool, is_loaded: bool) -> list[str]:
    environment = {**os.environ, "FOUNDRY_LITE_REPRODUCIBLE": str(is_steady).lower()}
    command = [sys.executable, "-m", "foundry_lite.cli.main", "serve", "--port", "0"]
    daemon = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert daemon.stdout is not None
        found = re.search(r"http://\S+:\d+", daemon.stdout.readline())
        if found is None:
            raise SystemExit("the daemon did not start; run foundry-lite serve to see why")
        async with openai.AsyncOpenAI(base_url=f"{found[0]}/v1", api_key="none", timeout=600) as client:
            return await (_together(client, model) if is_loaded else _one_by_one(client, model))
    finally:
        daemon.terminate()
        daemon.communicate()


async def _one_by_one(client: openai.AsyncOpenAI, model: str) -> list[str]:
    return [await _answer(client, model, number) for number in range(20)]


async def _together(client: openai.AsyncOpenAI, model: str) -> list[str]:
    noise = [asyncio.create_task(_disturb(client, model, number)) for number in range(8)]
    order = random.Random(7).sample(range(20), 20)
    await asyncio.sleep(0.1)
    answers = await asyncio.gather(*(_answer(client, model, number) for number in order))
    for task in noise:
        task.cancel()
    await asyncio.gather(*noise, return_exceptions=True)
    return [answer for _, answer in sorted(zip(order, answers, strict=True))]


async def _answer(client: openai.AsyncOpenAI, model: str, number: int) -> str:
    before = _STORY[: 150 * (number % 4)]  # prompts that begin alike, some of them longer than a chunk
    answer = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": before + _QUESTIONS[number % len(_QUESTIONS)]}],
        seed=number,
        temperature=1.2,
        max_completion_tokens=60,
        extra_body={"ignore_eos": True},
    )
    return answer.choices[0].message.content or ""


async def _disturb(client: openai.AsyncOpenAI, model: str, number: int) -> None:
    drawn = random.Random(number)
    while True:
        await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": _STORY[: drawn.randrange(len(_STORY))] + str(drawn.random())}],
            max_completion_tokens=drawn.randrange(1, 80),
        )


if __name__ == "__main__":
    main()
