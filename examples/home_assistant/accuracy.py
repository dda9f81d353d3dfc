"""How often the home assistant is exactly right on the held-out cases.

    python examples/home_assistant/accuracy.py --model examples/home_assistant/model
    python examples/home_assistant/accuracy.py --base-url http://127.0.0.1:5273/v1 --served home-assistant

The first runs transformers in float32 on the CPU, the second asks a server through the official
client; both decode greedily. A tool call is right if its name and its arguments, parsed, equal the
expected ones; anything else is right if its text equals the expected text.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Case = dict[str, Any]
CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
LONGEST_ANSWER = 96  # tokens; the longest expected answer has fewer


@dataclass(frozen=True, slots=True)
class OutputProcessor:
    """What the model said: text, or calls as (name, arguments)."""

    text: str
    calls: tuple[tuple[str, Any], ...] = ()


def parse(text: str) -> OutputProcessor:
    """Read an answer's text; a call that is no JSON stays text."""
    calls = []
    for found in CALL.findall(text):
        try:
            call = json.loads(found)
            calls.append((call["name"], call["arguments"]))
        except (ValueError, KeyError, TypeError):
            return OutputProcessor(text.strip())
    return OutputProcessor(CALL.sub("", text).strip(), tuple(calls))


def is_right(case: Case, answer: OutputProcessor) -> bool:
    """Compare an answer with what the case expects."""
    expected = case.get("expected_call")
    if expected is None:
        return not answer.calls and answer.text == case["expected"]
    return not answer.text and answer.calls == ((expected["name"], expected["arguments"]),)


def answers_of_folder(cases: Sequence[Case], folder: Path, batch_size: int) -> list[OutputProcessor]:
    """Generate with transformers, float32, on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = [_prompt(tokenizer, case) for case in cases]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [OutputProcessor("")] * len(cases)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        inputs = tokenizer(
            [prompts[index] for index in part], return_tensors="pt", padding=True, add_special_tokens=False
        )
        inputs.pop("token_type_ids", None)
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=LONGEST_ANSWER, do_sample=False)
        texts = tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for index, text in zip(part, texts, strict=True):
            answers[index] = parse(text)
    return answers


def _prompt(tokenizer: Any, case: Case) -> str:
    return tokenizer.apply_chat_template(
        case["messages"], tools=case["tools"], add_generation_prompt=True, tokenize=False
    )


async def answers_of_server(cases: Sequence[Case], base_url: str, served: str, in_flight: int) -> list[OutputProcessor]:
    """Ask an OpenAI-compatible server, at most ``in_flight`` requests at once."""
    import openai

    gate = asyncio.Semaphore(in_flight)
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as client:

        async def ask(case: Case) -> OutputProcessor:
            async with gate:
                reply = await client.chat.completions.create(
                    model=served,
                    messages=case["messages"],
                    tools=case["tools"],
                    temperature=0,
                    max_tokens=LONGEST_ANSWER,
                )
            message = reply.choices[0].message
            if not message.tool_calls:
                return parse(message.content or "")
            calls = tuple((call.function.name, _json(call.function.arguments)) for call in message.tool_calls)
            return OutputProcessor((message.content or "").strip(), calls)

        return list(await asyncio.gather(*(ask(case) for case in cases)))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def summarize(cases: Sequence[Case], answers: Sequence[OutputProcessor]) -> dict[str, dict[str, float]]:
    """Count right answers by kind; ``calls`` are all cases that expect a tool call, ``all`` is everything."""
    counts: dict[str, list[bool]] = {}
    for case, answer in zip(cases, answers, strict=True):
        right = is_right(case, answer)
        groups = [case["kind"], "all"] + (["calls"] if "expected_call" in case else [])
        for group in groups:
            counts.setdefault(group, []).append(right)
    return {
        kind: {"cases": len(found), "right": sum(found), "exact_match": round(sum(found) / len(found), 4)}
        for kind, found in sorted(counts.items())
    }


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, default=Path(__file__).with_name("heldout.jsonl"))
    parser.add_argument("--model", type=Path, help="Hugging Face folder, run here in float32")
    parser.add_argument("--base-url", help="OpenAI-compatible server")
    parser.add_argument("--served", help="the model's name on that server")
    parser.add_argument("--in-flight", type=int, default=4, help="requests at once")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--limit", type=int, help="only so many cases, spread over all kinds")
    parser.add_argument("--wrong", action="store_true", help="print the wrong answers too")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if (options.model is None) == (options.base_url is None) or (options.base_url and not options.served):
        parser.error("give either --model, or --base-url and --served")
    cases = [json.loads(line) for line in options.cases.read_text(encoding="utf-8").splitlines()]
    if options.limit:
        cases = cases[:: max(1, len(cases) // options.limit)]
    if options.model:
        answers = answers_of_folder(cases, options.model, options.batch_size)
    else:
        answers = asyncio.run(answers_of_server(cases, options.base_url, options.served, options.in_flight))
    if options.wrong:
        _print_wrong(cases, answers)
    _print_summary(summarize(cases, answers), is_json=options.json)


def _print_wrong(cases: Sequence[Case], answers: Sequence[OutputProcessor]) -> None:
    for case, answer in zip(cases, answers, strict=True):
        if not is_right(case, answer):
            print(
                f"{case['kind']}: {case['messages'][-1]['content']}\n  expected {case['expected']}\n  answered {answer}"
            )


def _print_summary(summary: dict[str, dict[str, float]], *, is_json: bool) -> None:
    if is_json:
        print(json.dumps(summary, indent=1))
        return
    print(f"{'kind':<12}{'cases':>7}{'right':>7}{'exact_match':>13}")
    for kind, row in summary.items():
        print(f"{kind:<12}{row['cases']:>7}{row['right']:>7}{row['exact_match']:>13.4f}")


if __name__ == "__main__":
    main()
