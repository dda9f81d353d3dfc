"""Teach the home assistant a second skill with a LoRA adapter, by peft: what the course calls fine-tuning.

    python examples/course/teach.py                       # writes adapter/, with training.json beside the weights

Twelve rows of each batch are the new skill, six the first one, so that it is not forgotten. Minutes on two cores.
The same machine and versions give the same adapter.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from skill import FIRST_SKILL, HERE, heldout_lessons, lesson

# skill.py has put the first skill's folder on the path
from chat import END, prompt, segments  # isort: skip
from data import conversation, heldout_cases  # isort: skip
from tokenization import encode  # isort: skip
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

MODEL = FIRST_SKILL / "model"
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LONGEST = 320  # tokens; longer conversations of the first skill are not repeated
README = """\
---
license: mit
pipeline_tag: text-generation
tags: [lora, peft]
---

# Pets: a second skill for the home assistant

A LoRA adapter for foundry-lite's example model, made by `examples/course/teach.py`; `training.json` has its log.
"""
Row = tuple[list[int], list[bool]]  # tokens, and which of them the assistant wrote


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train. ``rate`` is the peak; it rises over ``warm_up`` steps and falls to nothing along a line."""

    steps: int = 240
    new_rows: int = 12
    kept_rows: int = 6
    rank: int = 16
    alpha: int = 32
    rate: float = 2e-3
    warm_up: int = 20
    seed: int = 11
    threads: int = 2


def pack(rows: list[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """Return right-padded tokens ``(rows, length)``, the flat positions before answers, and the answers' tokens."""
    length = max(len(tokens) for tokens, _ in rows)
    padded = torch.zeros(len(rows), length, dtype=torch.long)
    wanted = torch.zeros(len(rows), length, dtype=torch.bool)
    for row, (tokens, written) in enumerate(rows):
        padded[row, : len(tokens)] = torch.tensor(tokens)
        wanted[row, : len(tokens) - 1] = torch.tensor(written[1:])
    chosen = wanted.flatten().nonzero().flatten()
    return padded, chosen, padded.flatten()[chosen + 1]


def batch(tokenizer: Tokenizer, plan: Plan, step: int) -> tuple[list[Row], list[Row]]:
    """Return the rows of one step, of the new skill and of the first; the same step has the same in every run."""
    rng = random.Random(f"{plan.seed} {step}")
    lessons = [lesson(rng, heldout=False) for _ in range(plan.new_rows)]
    kept: list[Row] = []
    while len(kept) < plan.kept_rows:
        made = conversation(rng, novelty=0.35)
        row = encode(tokenizer, segments(made.messages, made.tools))
        kept += [row] if len(row[0]) <= LONGEST else []
    return [encode(tokenizer, segments(one.conversation(), one.tools)) for one in lessons], kept


def logits(model: Any, tokens: Tensor, chosen: Tensor) -> Tensor:
    """Return the logits ``(chosen, vocabulary)``. Rows are padded at their ends, where nothing is asked."""
    return model(input_ids=tokens, use_cache=False).logits.flatten(0, 1)[chosen]


def rows_of_cases(tokenizer: Tokenizer) -> dict[str, list[Row]]:
    """Return the held-out cases of both skills, each with its expected answer."""
    new = [
        (segments(one.messages, one.tools), segments(one.conversation(), one.tools)[-2][0]) for one in heldout_lessons()
    ]
    new_rows = [("".join(text for text, _ in before), answer) for before, answer in new]
    old_rows = [(prompt(case["messages"], case["tools"]), case["expected"] + END) for case in heldout_cases()]
    begun = [(text + "<|im_start|>assistant\n", answer) for text, answer in new_rows]
    made = {"second_skill": begun, "first_skill": old_rows}
    return {
        skill: [encode(tokenizer, [(text, False), (answer, True)]) for text, answer in rows]
        for skill, rows in made.items()
    }


@torch.no_grad()
def exact_matches(model: Any, rows: list[Row]) -> float:
    """Return the share of answers that greedy decoding gives exactly.

    Every token of an answer must be the likeliest one after the expected ones before it, which for greedy decoding is
    the same as generating.
    """
    ordered, right = sorted(rows, key=lambda row: len(row[0])), 0
    for start in range(0, len(ordered), 20):
        part = ordered[start : start + 20]
        tokens, chosen, targets = pack(part)
        hits = logits(model, tokens, chosen).argmax(-1) == targets
        owner = chosen // tokens.shape[1]
        right += sum(bool(hits[owner == row].all()) for row in range(len(part)))
    return round(right / len(rows), 4)


def step_loss(model: Any, rows: list[Row]) -> float:
    """Add the gradients of one half of a step; return its loss, nats a token of the answers."""
    tokens, chosen, targets = pack(rows)
    loss = functional.cross_entropy(logits(model, tokens, chosen), targets)
    loss.backward()
    return round(float(loss.detach()), 4)


def train(model: Any, tokenizer: Tokenizer, plan: Plan) -> list[tuple[int, float, float]]:
    """Train the adapter in place; return the losses of every 20th step, of the new skill and of the first."""
    weights = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0)
    losses = []
    for step in range(plan.steps):
        share = min((step + 1) / plan.warm_up, (plan.steps - step) / max(1, plan.steps - plan.warm_up), 1.0)
        optimizer.param_groups[0]["lr"] = plan.rate * share
        optimizer.zero_grad()
        found = [step_loss(model, rows) for rows in batch(tokenizer, plan, step)]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if (step + 1) % 20 == 0:
            losses.append((step + 1, *found))
            print(f"step {step + 1}/{plan.steps}  loss {found[0]:.4f} new, {found[1]:.4f} kept", flush=True)
    return losses


def tidy(path: Path) -> None:
    """Name the base by its place in this repository, and give the same file each time: peft writes sets."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = MODEL.relative_to(HERE.parent.parent).as_posix()
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    """Train, measure before and after, write the adapter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "adapter")
    parser.add_argument("--steps", type=int, default=Plan().steps)
    parser.add_argument("--threads", type=int, default=Plan().threads)
    options = parser.parse_args()
    plan = Plan(steps=options.steps, threads=options.threads)
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    began = time.monotonic()
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    base = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    cases = rows_of_cases(tokenizer)
    before = {skill: exact_matches(base, rows) for skill, rows in cases.items()}
    print(f"before: {before}", flush=True)
    config = peft.LoraConfig(r=plan.rank, lora_alpha=plan.alpha, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, config)
    losses = train(model, tokenizer, plan)
    after = {skill: exact_matches(model, rows) for skill, rows in cases.items()}
    print(f"after: {after}", flush=True)
    model.save_pretrained(options.out)
    tidy(options.out / "adapter_config.json")
    (options.out / "README.md").write_text(README, encoding="utf-8")  # peft's is a form with nothing filled in
    log = {
        "plan": asdict(plan),
        "trained_parameters": sum(one.numel() for one in model.parameters() if one.requires_grad),
        "exact_match_before": before,
        "exact_match_after": after,
        "cases": {skill: len(rows) for skill, rows in cases.items()},
        "losses": losses,
        "seconds": round(time.monotonic() - began),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "peft": peft.__version__,
                     "transformers": transformers.__version__},
    }  # fmt: skip
    (options.out / "training.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
