"""Train the home assistant from nothing: tokenizer, model, int4 fine-tuning, Hugging Face folder.

    python examples/home_assistant/train.py --out examples/home_assistant/model

A killed run continues from its last checkpoint when started again with the same arguments.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from chat import END, PAD, START, prompt, segments, template
from data import conversation, heldout_cases
from network import Network, Shape, logits
from safetensors.torch import save_file
from tokenization import VOCABULARY_SIZE, encode, train_tokenizer
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

CHUNK = 384  # conversations that are generated together and sorted by length
PLAIN_CHUNKS = 50  # first, tools have known names only: what they mean comes before how to read new ones
LONGEST = 640  # tokens; longer conversations are dropped


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train. ``steps`` counts optimizer steps; fractions are of ``steps``."""

    steps: int = 8800
    part_tokens: int = 1024  # with padding
    parts: int = 4  # a step's batch; threads take parts as they become free
    seed: int = 7
    peak_rate: float = 1.5e-3  # of the matrices
    embedding_share: float = 0.3  # the embedding's and the norms' rate, as a share of the matrices'
    warm_up_steps: int = 100
    repeat_steps: int = 100  # first, on repeated random tokens only, so that copying forms; later a part in eight
    decay_fraction: float = 0.78
    int4_fraction: float = 0.18
    threads: int = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded ``tokens`` ``(batch, length)``; ``chosen`` are flat positions whose next token is ``targets``."""

    tokens: Tensor
    chosen: Tensor
    targets: Tensor
    chunk: int


def pack(rows: list[tuple[list[int], list[bool]]], chunk: int = -1) -> Batch:
    """Pad conversations into one batch."""
    length = max(len(tokens) for tokens, _ in rows)
    padded = torch.zeros(len(rows), length, dtype=torch.long)
    wanted = torch.zeros(len(rows), length, dtype=torch.bool)
    for row, (tokens, written) in enumerate(rows):
        padded[row, : len(tokens)] = torch.tensor(tokens)
        wanted[row, : len(tokens) - 1] = torch.tensor(written[1:])
    chosen = wanted.flatten().nonzero().flatten()
    return Batch(padded, chosen, padded.flatten()[chosen + 1], chunk)


def batches(tokenizer: Tokenizer, plan: Plan, first_chunk: int) -> Iterator[Batch]:
    """Generate batches without end; the same chunk has the same batches in every run."""
    for chunk in count(first_chunk):
        rng = random.Random(f"{plan.seed} {chunk}")
        novelty = 0.0 if chunk < PLAIN_CHUNKS else 0.35
        made = (conversation(rng, novelty) for _ in range(CHUNK))
        rows = [encode(tokenizer, segments(one.messages, one.tools)) for one in made]
        rows = sorted((row for row in rows if len(row[0]) <= LONGEST), key=_length)
        groups: list[list[tuple[list[int], list[bool]]]] = [[]]
        for row in rows:
            if groups[-1] and (len(groups[-1]) + 1) * len(row[0]) > plan.part_tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from (pack(group, chunk) for group in groups)


def _length(row: tuple[list[int], list[bool]]) -> int:
    return len(row[0])


def repeats(plan: Plan, step: int, part: int) -> Batch:
    """Return a batch of random token strings, each repeated: the shortest lesson in copying."""
    rng = random.Random(f"{plan.seed} repeats {step} {part}")
    length = rng.randint(8, 40)
    rows = []
    for _ in range(plan.part_tokens // (length * 3)):
        string = [rng.randrange(3, VOCABULARY_SIZE) for _ in range(length)]
        rows.append((string * 3, [False] * length + [True] * length * 2))
    return pack(rows)


def _produce(queue: Any, text: str, plan: Plan, first_chunk: int) -> None:
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_str(text)
    for batch in batches(tokenizer, plan, first_chunk):
        queue.put((batch.tokens.numpy(), batch.chosen.numpy(), batch.targets.numpy(), batch.chunk))


def produced(text: str, plan: Plan, first_chunk: int) -> Iterator[Batch]:
    """Yield the batches of another process, so that a step never waits for data."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(maxsize=64)
    context.Process(target=_produce, args=(queue, text, plan, first_chunk), daemon=True).start()
    while True:
        tokens, chosen, targets, chunk = queue.get()
        yield Batch(torch.from_numpy(tokens), torch.from_numpy(chosen), torch.from_numpy(targets), chunk)


def rate(plan: Plan, step: int) -> float:
    """Return the learning rate as a share of the peak: up, flat, then down along a line."""
    decay_steps = plan.steps * plan.decay_fraction
    return min(1.0, (step + 1) / plan.warm_up_steps, max(0.02, (plan.steps - step) / decay_steps))


def optimizers(network: Network, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for the embedding and the norms."""
    matrices = [weight for name, weight in network.named_parameters() if weight.ndim == 2 and name != "embedding"]
    norms = [weight for weight in network.parameters() if weight.ndim == 1]
    muons = [
        torch.optim.Muon(half, lr=plan.peak_rate, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        for half in (matrices[::2], matrices[1::2])  # two, so that two threads can step
    ]
    return [
        *muons,
        torch.optim.AdamW(
            [{"params": [network.embedding], "weight_decay": 0.01}, {"params": norms, "weight_decay": 0.0}],
            lr=plan.peak_rate, betas=(0.9, 0.95),
        ),
    ]  # fmt: skip


@torch.no_grad()
def exact_matches(network: Network, tokenizer: Tokenizer, block_size: int = 0) -> dict[str, float]:
    """Return the share of held-out answers, by kind, that greedy decoding would give exactly.

    Every answer token must be the likeliest one after the expected ones before it, which for greedy
    decoding is the same as generating. ``block_size`` above 0 rounds the weights to int4.
    """
    weights = network.weights(block_size)
    hits: dict[str, list[bool]] = {}
    rows = []
    for case in heldout_cases():
        pieces = [(prompt(case["messages"], case["tools"]), False), (case["expected"] + END, True)]
        rows.append((case["kind"], encode(tokenizer, pieces)))
    rows.sort(key=lambda row: len(row[1][0]))
    for start in range(0, len(rows), 24):
        part = rows[start : start + 24]
        batch = pack([row for _, row in part])
        right = logits(network.shape, weights, batch.tokens, batch.chosen).argmax(-1) == batch.targets
        owner = batch.chosen // batch.tokens.shape[1]
        for index, (kind, _) in enumerate(part):
            hits.setdefault(kind, []).append(bool(right[owner == index].all()))
    return {kind: round(sum(found) / len(found), 4) for kind, found in sorted(hits.items())}


def gradients(shape: Shape, leaves: dict[str, Tensor], part: Batch, total: int) -> tuple[float, dict[str, Tensor]]:
    """Return a part's share of the mean loss over ``total`` targets, and its gradients."""
    found = logits(shape, leaves, part.tokens, part.chosen)
    loss = functional.cross_entropy(found, part.targets, reduction="sum") / total
    return float(loss.detach()), dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


class Run:
    """A training run that can be killed and continued."""

    def __init__(self, plan: Plan, out: Path) -> None:
        self.plan = plan
        self.out = out
        self.checkpoint = out.parent / "checkpoints" / f"{out.name}.pt"
        torch.manual_seed(plan.seed)
        torch.set_num_threads(1)  # threads share work by parts of a batch, not inside operators
        self.pool = ThreadPoolExecutor(plan.threads, initializer=torch.set_num_threads, initargs=(1,))
        self.step, self.chunk, self.seconds = 0, -1, 0.0
        self.losses: list[tuple[int, float]] = []
        saved = torch.load(self.checkpoint, weights_only=True) if self.checkpoint.exists() else None
        text = saved["tokenizer"] if saved else train_tokenizer(plan.seed).to_str()
        self.tokenizer = Tokenizer.from_str(text)
        self.network = Network(Shape(VOCABULARY_SIZE))
        self.optimizers = optimizers(self.network, plan)
        if saved:
            self._restore(saved)

    def train(self, every: int) -> None:
        """Train to the end; report, checkpoint and export ``every`` so many steps."""
        source = produced(self.tokenizer.to_str(), self.plan, self.chunk + 1)
        began, recent = time.monotonic() - self.seconds, []
        while self.step < self.plan.steps:
            parts = [self._part(source, part) for part in range(self.plan.parts)]
            recent.append(self._learn(parts))
            self.step, self.chunk = self.step + 1, max(self.chunk, parts[-1].chunk)
            self.seconds = time.monotonic() - began
            if self.step % 50 == 0:
                self.losses.append((self.step, round(sum(recent) / len(recent), 4)))
                print(f"step={self.step} loss={self.losses[-1][1]} seconds={self.seconds:.0f}", flush=True)
                recent = []
            if self.step % every == 0 or self.step == self.plan.steps:
                self._keep()

    def _part(self, source: Iterator[Batch], part: int) -> Batch:
        is_repeats = self.step < self.plan.repeat_steps or (part == 0 and self.step % 2 == 0)
        return repeats(self.plan, self.step, part) if is_repeats else next(source)

    def _learn(self, parts: list[Batch]) -> float:
        """Take one step; threads share one set of rounded weights, and gradients pass straight through the rounding."""
        weights = self.network.weights(self._block_size(), torch.bfloat16)
        leaves = {name: weight.requires_grad_() for name, weight in weights.items()}
        total = sum(len(part.targets) for part in parts)
        done = list(self.pool.map(lambda part: gradients(self.network.shape, leaves, part, total), parts))
        for name, parameter in self.network.named_parameters():
            parameter.grad = torch.stack([found[name].float() for _, found in done]).sum(0)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        share = rate(self.plan, self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = (
                    self.plan.peak_rate
                    * share
                    * (1.0 if isinstance(optimizer, torch.optim.Muon) else self.plan.embedding_share)
                )
        list(self.pool.map(lambda optimizer: optimizer.step(), self.optimizers))
        return sum(loss for loss, _ in done)

    def _block_size(self) -> int:
        """Blocks of 32 and of 128 in turn in the last part, so that the weights suit both."""
        if self.step < self.plan.steps * (1 - self.plan.int4_fraction):
            return 0
        return 128 if self.step % 3 == 0 else 32

    def _keep(self) -> None:
        sizes = (0, 32, 128) if self.step == self.plan.steps else (0,)
        scores = {f"block_{size}" if size else "float": self._score(size) for size in sizes}
        for name, score in scores.items():
            print(f"step={self.step} heldout={name} {json.dumps(score)}", flush=True)
        export(self.network, self.tokenizer, self.out)
        self._report(scores)
        state = {
            "network": self.network.state_dict(),
            "optimizers": [one.state_dict() for one in self.optimizers],
            "step": self.step,
            "chunk": self.chunk,
            "seconds": self.seconds,
            "losses": self.losses,
            "tokenizer": self.tokenizer.to_str(),
        }
        partial = self.checkpoint.with_suffix(".partial")
        partial.parent.mkdir(exist_ok=True)
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def _score(self, block_size: int) -> dict[str, float]:
        return exact_matches(self.network, self.tokenizer, block_size)

    def _restore(self, saved: dict[str, Any]) -> None:
        self.network.load_state_dict(saved["network"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.step, self.chunk, self.seconds = saved["step"], saved["chunk"], saved["seconds"]
        self.losses = [tuple(pair) for pair in saved["losses"]]

    def _report(self, scores: dict[str, dict[str, float]]) -> None:
        report = {
            "plan": asdict(self.plan),
            "shape": asdict(self.network.shape),
            "steps": self.step,
            "seconds": round(self.seconds),
            "parameters": sum(weight.numel() for weight in self.network.parameters()),
            "losses": self.losses,
            "heldout_teacher_forced": scores,
            "machine": {"cores": os.cpu_count(), "architecture": platform.machine()},
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "tokenizers": tokenizers.__version__,
            },
        }
        (self.out / "training.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def export(network: Network, tokenizer: Tokenizer, out: Path) -> None:
    """Write a Hugging Face folder: configuration, float32 weights, tokenizer, template."""
    out.mkdir(parents=True, exist_ok=True)
    shape = network.shape
    ends = {
        "eos_token_id": tokenizer.token_to_id(END),
        "pad_token_id": tokenizer.token_to_id(PAD),
        "bos_token_id": None,
    }
    configuration = transformers.LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        intermediate_size=shape.intermediate,
        rms_norm_eps=1e-6,
        max_position_embeddings=shape.context_length,
        rope_theta=shape.rope_theta,
        tie_word_embeddings=True,
        **ends,
    )
    written = {
        **configuration.to_dict(),
        "architectures": ["LlamaForCausalLM"],
        "dtype": "float32",
        "rope_theta": shape.rope_theta,
    }
    _write_json(out / "config.json", written)
    _write_json(out / "generation_config.json", {**ends, "do_sample": False})
    save_file(network.export(), out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # safetensors writes for the owner only
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "bos_token": None,
        "additional_special_tokens": [START],
        "model_max_length": shape.context_length,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    }
    _write_json(out / "tokenizer_config.json", settings)
    (out / "chat_template.jinja").write_text(template(), encoding="utf-8")


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Train by the command line's plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("model"))
    parser.add_argument("--steps", type=int, default=8800)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=300, help="steps between checkpoints")
    options = parser.parse_args()
    plan = Plan(steps=options.steps, seed=options.seed, peak_rate=options.rate, threads=options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    Run(plan, options.out).train(options.every)


if __name__ == "__main__":
    main()
