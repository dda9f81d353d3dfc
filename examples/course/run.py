"""The course, executed: from a fine-tuned adapter to a served model by the command line, and its promises measured.

    python examples/course/run.py            # some minutes; writes results.md

Every step is a command that you can type. It works in a home of its own and leaves yours alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import convert
from skill import FIRST_SKILL, HERE, NEW_CASES

from foundry_lite.catalog.recipe import Recipe

ROOT = HERE.parent.parent
NAME = "home-and-pets"
FLOAT = f"{NAME}:cpu-fp32"
WORKLOAD = ("--prompt-tokens", "256", "--new-tokens", "64", "--streams", "1,4", "--rounds", "5")
SKILLS = ("second skill (pets)", "first skill (home)")
Row = tuple[str, str, str, str]


class Commands:
    """Runs ``foundry-lite`` as a user would, each command shown first."""

    def __init__(self, home: Path) -> None:
        self.environment = {**os.environ, "FOUNDRY_LITE_HOME": str(home), "FOUNDRY_LITE_LOG_LEVEL": "warning"}
        self.log: list[str] = []

    def run(self, *words: str) -> None:
        """Run a command whose output is for the reader."""
        self._show(words)
        subprocess.run(self._command(words), cwd=ROOT, env=self.environment, check=True)

    def ask(self, *words: str) -> Any:
        """Run a command and return the JSON document that it prints."""
        self._show((*words, "--json"))
        command = self._command((*words, "--json"))
        done = subprocess.run(command, cwd=ROOT, env=self.environment, check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve while the block runs; yields the address of the API."""
        self._show(("serve",))
        command = self._command(("serve", "--port", "0"))
        daemon = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True)
        try:
            assert daemon.stdout is not None
            found = re.search(r"http://\S+", daemon.stdout.readline())
            assert found is not None, "the daemon did not start"
            yield found[0]
        finally:
            daemon.terminate()
            daemon.wait()

    def _show(self, words: tuple[str, ...]) -> None:
        self.log.append(shlex.join(("foundry-lite", *words)))
        print(f"\n$ {self.log[-1]}", flush=True)

    @staticmethod
    def _command(words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "foundry_lite.cli.main", *words]


def answers(address: str, model: str, cases: list[dict[str, Any]]) -> list[bool]:
    """Ask the daemon every case; return which answers are right."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda case: is_right(case, ask(address, model, case)), cases))


def ask(address: str, model: str, case: dict[str, Any]) -> dict[str, Any]:
    """Return the assistant's message, greedy."""
    body = {"model": model, "messages": case["messages"], "tools": case["tools"], "temperature": 0, "max_tokens": 96}
    request = urllib.request.Request(
        f"{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        message: dict[str, Any] = json.load(reply)["choices"][0]["message"]
    return message


def is_right(case: dict[str, Any], message: dict[str, Any]) -> bool:
    """Compare a message with what a case of ``eval.jsonl`` expects."""
    calls = message.get("tool_calls") or []
    if case["check"] != "tool_call":
        return not calls and (message.get("content") or "").strip() == case["expected"].strip()
    try:
        made = [{"name": c["function"]["name"], "arguments": json.loads(c["function"]["arguments"])} for c in calls]
    except ValueError:
        return False
    return made == [case["expected"]]


def by_skill(right: list[bool]) -> dict[str, tuple[int, int]]:
    """Return right answers and cases of each skill; ``eval.jsonl`` has the second skill's first."""
    parts = (right[:NEW_CASES], right[NEW_CASES:])
    return {skill: (sum(part), len(part)) for skill, part in zip(SKILLS, parts, strict=True)}


def promises(
    sizes: dict[str, Any], fast: dict[str, Any], slow: dict[str, Any], kept: tuple[int, int, int], variant: str
) -> list[Row]:
    """Return the course's promises, what was measured, and whether they hold.

    ``kept`` has the right answers of the variant, those of fp32, and the number of cases.
    """
    small = 1 - sizes["variant"] / sizes["fp32"]
    half = 1 - sizes["variant"] / sizes["fp16"]
    alone, together = (_ratios(fast, slow, row) for row in (0, 1))
    memory = 1 - fast["peak_bytes"] / slow["peak_bytes"]
    own = [report["loaded_bytes"] - report["runtime_bytes"] for report in (fast, slow)]
    right, reference, total = kept
    accuracy = right / reference if reference else 1.0
    return [
        (
            "int4 is at least 75 % smaller than fp32",
            f"{small:.1%} ({_mb(sizes['variant'])} of {_mb(sizes['fp32'])} MB)",
            f"{half:.1%} smaller than fp16 ({_mb(sizes['fp16'])} MB, {sizes['fp16_is']})",
            _holds(small >= 0.75 and "int4" in variant),
        ),
        (
            "at least 2 × the speed of fp32",
            f"{alone['decode']:.2f} × (one stream: {_rate(fast, 0)} of {_rate(slow, 0)} tokens/s)",
            f"four streams {together['system']:.2f} ×; prompts {alone['prefill']:.2f} ×",
            _holds(alone["decode"] >= 2),
        ),
        (
            "at most half the memory of fp32",
            f"{memory:.1%} less at the peak ({_mb(fast['peak_bytes'])} of {_mb(slow['peak_bytes'])} MB)",
            f"a worker without a model has {_mb(fast['runtime_bytes'])} MB; loaded, the model itself adds "
            f"{_mb(own[0])} MB, fp32 {_mb(own[1])} MB: {1 - own[0] / own[1]:.1%} less",
            _holds(memory >= 0.5),
        ),
        (
            "at least 95 % of the reference's accuracy",
            f"{accuracy:.1%} ({right} right answers, fp32 {reference}, of {total})",
            "exact calls and sentences, greedy, through the daemon",
            _holds(accuracy >= 0.95),
        ),
    ]


def _ratios(fast: dict[str, Any], slow: dict[str, Any], row: int) -> dict[str, float]:
    names = {"decode": "decode_tokens_per_s", "prefill": "prefill_tokens_per_s", "system": "system_tokens_per_s"}
    return {name: fast["rows"][row][key]["median"] / slow["rows"][row][key]["median"] for name, key in names.items()}


def _rate(report: dict[str, Any], row: int) -> str:
    return f"{report['rows'][row]['decode_tokens_per_s']['median']:.0f}"


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _holds(fact: bool) -> str:
    return "holds" if fact else "**missed**"


def table(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [headers, ("---",) * len(headers), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def skills_table(training: dict[str, Any], served: dict[str, dict[str, tuple[int, int]]]) -> str:
    """Return what each skill was worth before the training, in fp32 after it, and in the variant that is served."""
    keys = ("second_skill", "first_skill")
    rows = []
    for skill, key in zip(SKILLS, keys, strict=True):
        found = [f"{right / total:.1%}" for right, total in (one[skill] for one in served.values())]
        before = f"{training['exact_match_before'][key]:.1%} of {training['cases'][key]}"
        cases = str(next(iter(served.values()))[skill][1])
        rows.append((skill, before, cases, *found))
    return table(("", "before the adapter (transformers)", "cases", *served), rows)


def candidates_table(report: dict[str, Any]) -> str:
    """Return the candidates of the walk, refused ones included."""
    rows = []
    for one in report["candidates"]:
        task, misses = one["quality"].get("task"), one.get("verdict", {}).get("misses", [])
        loss = one["quality"].get("own") or one["quality"].get("neutral") or {}
        rows.append(
            (
                _variant(one["recipe"]),
                _mb(one["size_bytes"]),
                f"{task['passed']} of {task['total']} (source {task['source_passed']})" if task else "",
                f"{loss['kl_mean']:.4f}" if "kl_mean" in loss else "",
                f"refused: {'; '.join(misses)}" if misses else "passes",
            )
        )
    return table(("variant", "MB", "right answers", "KL, nats", "gate"), rows)


def _variant(recipe: dict[str, Any]) -> str:
    return convert(recipe, Recipe).variant


def main() -> None:
    """Run every step, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", type=Path, default=HERE / "adapter")
    parser.add_argument("--home", type=Path, help="keep what is built there [default: a folder that goes]")
    parser.add_argument("--out", type=Path, default=HERE / "results.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="course-") as scratch:
        text = execute(Commands(options.home or Path(scratch)), options.adapter)
    options.out.write_text(text, encoding="utf-8")
    print(f"\n{text}\nwrote {options.out}")


def execute(commands: Commands, adapter: Path) -> str:
    """Import, build, tune, serve, bench; return the results in Markdown."""
    source, base, cases_file = (_shown(one) for one in (adapter, FIRST_SKILL / "model", HERE / "eval.jsonl"))
    cases = [json.loads(line) for line in (HERE / "eval.jsonl").read_text(encoding="utf-8").splitlines()]
    commands.run("import", source, "--base", base, "--name", NAME, "--precision", "fp32", "--eval", cases_file)
    built = commands.ask("build", NAME, "--auto", "--eval", cases_file)
    commands.run("tune", NAME, "--streams", "4", "--no-build")
    commands.run("show", NAME, "--why")
    right = {}
    with commands.serving() as address:
        example = ask(address, NAME, cases[0])
        print(f"{cases[0]['messages'][-1]['content']}\n-> {json.dumps(example.get('tool_calls'))}")
        for model in (FLOAT, built["model"]):
            right[model] = answers(address, model, cases)
    slow, fast = commands.ask("bench", FLOAT, *WORKLOAD), commands.ask("bench", built["model"], *WORKLOAD)
    kept = (sum(right[built["model"]]), sum(right[FLOAT]), len(cases))
    shown = commands.ask("show", built["model"])
    rows = promises(measured_sizes(commands, shown), fast, slow, kept, shown["variant"])
    training = json.loads((adapter / "training.json").read_text(encoding="utf-8"))
    by_model = {model: by_skill(answered) for model, answered in right.items()}
    return write_results(commands, rows, training, by_model, built["report"], fast, shown)


def measured_sizes(commands: Commands, served: dict[str, Any]) -> dict[str, Any]:
    """Return the card's sizes, with fp32's as it was built here."""
    sizes: dict[str, Any] = served["card"]["sizes"]
    return {**sizes, "fp32": commands.ask("show", FLOAT)["card"]["sizes"]["variant"], "fp32_is": "measured"}


def write_results(
    commands: Commands,
    rows: list[Row],
    training: dict[str, Any],
    by_model: dict[str, dict[str, tuple[int, int]]],
    report: dict[str, Any],
    bench: dict[str, Any],
    served: dict[str, Any],
) -> str:
    """Return results.md."""
    machine = bench["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(served["manifest"]["versions"].items()))
    return "\n".join(
        [
            "# The course's promises, measured",
            "",
            f"`{served['model']}`, {served['card']['parameters'] / 1e6:.1f} M parameters, on {machine['processor']}, "
            f"{machine['cores']} cores, {machine['system']}, {datetime.now(UTC).date().isoformat()}, Python "
            f"{platform.python_version()}, {versions}. Made by `python examples/course/run.py`.",
            "",
            table(("the course promises", "measured", "and", ""), [tuple(row) for row in rows]),
            "Accuracy of each skill on its held-out cases, through the daemon:",
            "",
            skills_table(training, by_model),
            "What `build --auto` tried, from the smallest and fastest upwards:",
            "",
            candidates_table(report),
            "The commands:",
            "",
            "```sh",
            *commands.log,
            "```",
            "",
        ]
    )


def _shown(path: Path) -> str:
    return str(path.resolve().relative_to(ROOT) if path.resolve().is_relative_to(ROOT) else path)


if __name__ == "__main__":
    main()
