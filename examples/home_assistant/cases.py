"""The held-out cases in the form that ``foundry-lite build --eval`` takes.

    python examples/home_assistant/cases.py

It writes cases.jsonl beside itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LONGEST_ANSWER = 96  # tokens; the longest expected answer has fewer


def main() -> None:
    """Write the file."""
    lines = (HERE / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    cases = (json.dumps(converted(json.loads(line)), ensure_ascii=False) for line in lines)
    (HERE / "cases.jsonl").write_text("".join(f"{one}\n" for one in cases), encoding="utf-8")


def converted(case: dict[str, Any]) -> dict[str, Any]:
    """Return one case: a call must have the name and the arguments, a sentence must be the very one."""
    call = case.get("expected_call")
    expected = {"expected": call, "check": "tool_call"} if call else {"expected": case["expected"], "check": "exact"}
    return {"messages": case["messages"], "tools": case["tools"], "max_tokens": LONGEST_ANSWER, **expected}


if __name__ == "__main__":
    main()
